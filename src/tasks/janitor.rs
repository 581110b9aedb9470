//! Small recurring chores: edited files brought to disk, refused requests written down, what was
//! deleted removed.

use std::sync::Arc;
use std::time::Duration;

use super::supervisor::Ended;
use crate::app::{App, Pulse};

pub struct Janitor {
    app: Arc<App>,
    /// The schedule behind which the forgetting of old runs goes on.
    behind: Option<String>,
    /// Rounds until it begins anew.
    rest: u32,
}

/// How long a round may take: a slow disk syncs many files.
const LONGEST: Duration = Duration::from_secs(60);

/// How long an edited file may stay in the page cache; its intent stands for it meanwhile.
const ROUND: Duration = Duration::from_secs(2);

/// Old runs are forgotten a step a round, which visits some hundred schedules: 100,000 are through in some
/// minutes, by when each has a run or two too many. Only where a step found this many, another follows.
const FULL: u64 = 1_000;
/// Rounds between two walks.
const REST: u32 = 5;

/// Steps of removing in a round, and the pause between two.
const STEPS: u32 = 40;
const BREATH: Duration = Duration::from_millis(10);

impl Janitor {
    pub fn new(app: Arc<App>) -> Self {
        Janitor { app, behind: None, rest: 0 }
    }

    pub async fn run(mut self, pulse: Pulse) -> Ended {
        loop {
            let stopping = !pulse.sleep(ROUND, "the next round").await;
            pulse.waits(LONGEST, "bringing edited files to disk");
            self.app.sync_files().await;
            pulse.waits(LONGEST, "small chores");
            let told = self.app.audit_refusals(stopping).await;
            if let Err(error) = &told {
                tracing::warn!(component = "access", %error, "could not write down refused requests");
            }
            self.give_space_back(&pulse).await;
            self.forget_runs(&pulse).await;
            let pruned = self.app.prune_webhooks().await;
            if let Err(error) = &pruned {
                tracing::warn!(component = "webhooks", %error, "could not forget old events");
            }
            match told.and(pruned) {
                Ok(()) => pulse.is_well(),
                Err(error) => pulse.failed(&error),
            }
            if stopping {
                return Ok(());
            }
        }
    }

    /// Walks the schedules and forgets runs beyond what is kept; rests after each walk.
    async fn forget_runs(&mut self, pulse: &Pulse) {
        self.rest = self.rest.saturating_sub(1);
        for _ in 0..STEPS {
            pulse.goes_on();
            if self.rest > 0 || pulse.is_stopping() {
                return;
            }
            match self.app.prune_runs(self.behind.take()).await {
                Ok((_, None)) => self.rest = REST,
                Ok((removed, behind)) => {
                    self.behind = behind;
                    if removed < FULL {
                        return;
                    }
                    tokio::time::sleep(BREATH).await;
                }
                Err(error) => {
                    tracing::warn!(component = "store", %error, "could not forget old runs; trying again");
                    return;
                }
            }
        }
    }

    /// Removes what was deleted, bit by bit: claims and pages go in between.
    async fn give_space_back(&self, pulse: &Pulse) {
        for _ in 0..STEPS {
            pulse.goes_on();
            match self.app.purge_records().await {
                Ok(true) if !pulse.is_stopping() => tokio::time::sleep(BREATH).await,
                Ok(_) => return,
                Err(error) => {
                    tracing::warn!(component = "store", %error, "could not remove deleted records; trying again");
                    return;
                }
            }
        }
    }
}
