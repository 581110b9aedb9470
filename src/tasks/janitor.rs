//! Small recurring chores: edited files brought to disk, refused requests written down, gauges kept
//! current.

use std::sync::Arc;
use std::time::Duration;

use crate::app::App;

pub struct Janitor {
    app: Arc<App>,
}

/// How long an edited file may stay in the page cache; its intent stands for it meanwhile.
const ROUND: Duration = Duration::from_secs(2);

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
            if stopping {
                return;
            }
        }
    }
}
