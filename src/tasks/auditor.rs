//! Verifies the audit log by itself once a day, seals its oldest part, and forgets of the rest of the past
//! what the operator does not want kept; all of it in small steps.

use std::sync::Arc;
use std::time::Duration;

use super::supervisor::Ended;
use crate::app::{App, Past, Pulse};

pub struct Auditor {
    app: Arc<App>,
}

const ROUND: Duration = Duration::from_secs(30);

/// A step of a walk over the log, on a slow disk.
const LONGEST: Duration = Duration::from_secs(120);

/// Between two blocks, or two steps of forgetting: claims and pages go in between.
const BREATH: Duration = Duration::from_millis(50);

/// Rounds between two walks of forgetting.
const REST: u32 = 120;

impl Auditor {
    pub fn new(app: Arc<App>) -> Self {
        Auditor { app }
    }

    pub async fn run(self, pulse: Pulse) -> Ended {
        let mut rounds = 0;
        while pulse.sleep(ROUND.min(self.app.settings.proof.verify_interval), "the next round").await {
            let sealed = self.seal(&pulse).await;
            let mut done = sealed.map_err(anyhow::Error::from);
            if self.app.clock.now() >= self.app.verification_due() {
                pulse.waits(LONGEST, "verifying the audit log");
                let own = pulse.clone();
                let verified = tokio::select! {
                    // What a walk has found by the time the program stops is nothing.
                    () = pulse.stopped() => return Ok(()),
                    verified = own.carry(self.app.verify_by_itself()) => verified,
                };
                done = done.and(verified.map(|_| ()).map_err(anyhow::Error::from));
            }
            if rounds % REST == 0 {
                for what in [Past::Revisions, Past::Records] {
                    done = done.and(self.forget(what, &pulse).await);
                }
            }
            rounds += 1;
            match done {
                Ok(()) => pulse.is_well(),
                Err(error) => pulse.failed(&error),
            }
        }
        Ok(())
    }

    async fn seal(&self, pulse: &Pulse) -> Result<(), crate::adapters::store::StoreError> {
        pulse.waits(LONGEST, "sealing audit entries");
        while self.app.seal_some().await? {
            pulse.goes_on();
            if pulse.is_stopping() {
                break;
            }
            tokio::time::sleep(BREATH).await;
        }
        Ok(())
    }

    async fn forget(&self, what: Past, pulse: &Pulse) -> anyhow::Result<()> {
        pulse.waits(LONGEST, "forgetting what is not to be kept");
        let (mut after, mut removed) = (None, 0);
        loop {
            let step = self.app.forget(what, after.take()).await?;
            pulse.goes_on();
            removed += step.removed;
            after = step.next;
            if after.is_none() || pulse.is_stopping() {
                if removed > 0 {
                    tracing::info!(component = "store", removed, "forgot {what:?} that are not to be kept");
                }
                return Ok(());
            }
            tokio::time::sleep(BREATH).await;
        }
    }
}
