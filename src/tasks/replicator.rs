//! Keeps the copy of the store at another place up to date.

use std::sync::Arc;
use std::time::Duration;

use super::supervisor::Ended;
use crate::app::{Pulse, Replication};

pub struct Replicator {
    replication: Arc<Replication>,
}

/// How long it may be until something was cut: compressing what came in a burst.
const LONGEST: Duration = Duration::from_secs(60);

impl Replicator {
    pub fn new(replication: Arc<Replication>) -> Self {
        Replicator { replication }
    }

    /// A destination that fails is told by replication itself, not as this loop's failure.
    pub async fn run(self, pulse: Pulse) -> Ended {
        tokio::select! {
            () = pulse.stopped() => {}
            () = self.replication.run(|| pulse.waits(LONGEST, "what changed is sent")) => {}
        }
        Ok(())
    }
}
