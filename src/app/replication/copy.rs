//! The replica as one of the copies from which a damaged store is restored.

use std::path::Path;
use std::time::Duration;

use tokio::runtime::Handle;

use crate::adapters::replica::{SharedPlace, newest, restore};
use crate::adapters::store::verify_copy;
use crate::app::heal::Replica;
use crate::core::audit::Head;
use crate::core::model::Millis;
use crate::core::replica::choose::Target;

/// How long a destination may take to say what it holds: a start waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct ReplicaCopy {
    place: SharedPlace,
    shown: String,
    runtime: Handle,
}

impl ReplicaCopy {
    pub fn new(place: SharedPlace, shown: String, runtime: Handle) -> ReplicaCopy {
        ReplicaCopy { place, shown, runtime }
    }
}

/// Asked from a thread that may block.
impl Replica for ReplicaCopy {
    fn name(&self) -> String {
        self.shown.clone()
    }

    fn head(&self) -> Result<Option<(Head, Millis)>, String> {
        let found = self.runtime.block_on(async { tokio::time::timeout(PATIENCE, newest(&*self.place)).await });
        let found = found.map_err(|_| "it does not answer in time".to_owned())?.map_err(|error| error.to_string())?;
        Ok(found.map(|point| (point.head, point.at)))
    }

    fn restore(&self, target: &Path) -> Result<(), String> {
        let rebuilt = self.runtime.block_on(restore(&*self.place, Target::Newest, target, &|_| {}));
        let rebuilt = rebuilt.map_err(|error| error.to_string())?;
        for note in &rebuilt.notes {
            tracing::warn!(component = "replication", "{note}");
        }
        let facts = verify_copy(target).map_err(|error| error.to_string())?;
        if facts.head != rebuilt.point.head {
            return Err("the database that was rebuilt ends at another audit entry than the replica says".to_owned());
        }
        Ok(())
    }
}
