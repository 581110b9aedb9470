//! Small recurring chores: edited files brought to disk, refused requests written down, what was
//! deleted removed.

use std::sync::Arc;
use std::time::Duration;

use crate::app::App;

pub struct Janitor {
    app: Arc<App>,
}

/// How long an edited file may stay in the page cache; its intent stands for it meanwhile.
const ROUND: Duration = Duration::from_secs(2);

/// Steps of removing in a round, and the pause between two.
const STEPS: u32 = 40;
const BREATH: Duration = Duration::from_millis(10);

impl Janitor {
    pub fn new(app: Arc<App>) -> Self {
        Janitor { app }
    }

    pub async fn run(self) {
        loop {
            let stopping = tokio::select! {
                () = self.app.shutdown.cancelled() => true,
                () = tokio::time::sleep(ROUND) => false,
            };
            self.app.sync_files().await;
            if let Err(error) = self.app.audit_refusals(stopping).await {
                tracing::warn!(component = "access", %error, "could not write down refused requests");
            }
            self.give_space_back().await;
            if stopping {
                return;
            }
        }
    }

    /// Removes what was deleted, bit by bit: claims and pages go in between.
    async fn give_space_back(&self) {
        for _ in 0..STEPS {
            match self.app.purge_records().await {
                Ok(true) if !self.app.shutdown.is_cancelled() => tokio::time::sleep(BREATH).await,
                Ok(_) => return,
                Err(error) => {
                    tracing::warn!(component = "store", %error, "could not remove deleted records; trying again");
                    return;
                }
            }
        }
    }
}
