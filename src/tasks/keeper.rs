//! Keeps copies of the store and looks after it: snapshots and the daily backup by time, checks by time and on
//! suspicion.

use std::sync::Arc;
use std::time::Duration;

use super::supervisor::Ended;
use crate::app::{App, Pulse};

pub struct Keeper {
    app: Arc<App>,
}

const ROUND: Duration = Duration::from_secs(1);

/// How long a copy or a check of a large database may take.
const LONGEST: Duration = Duration::from_secs(3600);

impl Keeper {
    pub fn new(app: Arc<App>) -> Self {
        Keeper { app }
    }

    pub async fn run(self, pulse: Pulse) -> Ended {
        let round = self.app.settings.upkeep.snapshot_interval.map_or(ROUND, |interval| interval.min(ROUND));
        while self.rest(round, &pulse).await {
            pulse.waits(LONGEST, "making a backup");
            self.app.make_backups().await;
            pulse.waits(LONGEST, "looking at the database");
            self.app.check_if_due().await;
            pulse.waits(LONGEST, "making a snapshot");
            self.app.snapshot_if_due().await;
            pulse.waits(LONGEST, "making the daily backup");
            let backed_up = self.app.backup_if_due().await;
            match (self.app.copy_trouble(), backed_up) {
                (Some(trouble), _) => pulse.failed(&trouble),
                (None, Err(error)) => pulse.failed(&error),
                (None, Ok(())) => pulse.is_well(),
            }
        }
        Ok(())
    }

    /// Until the next round, or until somebody asks for a backup; false when the loop is to end.
    async fn rest(&self, round: Duration, pulse: &Pulse) -> bool {
        tokio::select! {
            biased;
            goes_on = pulse.sleep(round, "the next round") => goes_on,
            () = self.app.backup_wanted() => true,
        }
    }
}
