//! What a store holds of schedules, for writing it into files again: read from a private copy.

use std::path::Path;

use anyhow::Context as _;

use crate::adapters::store::{SharedStore, SqliteStore};
use crate::core::desired::DefaultsFile;
use crate::core::model::{Digest, ScheduleId, ScheduleSpec};

/// One schedule as it runs.
pub struct StoredSchedule {
    pub id: ScheduleId,
    pub spec: ScheduleSpec,
    /// Its file's last good bytes, where the store has them whole.
    pub content: Option<Vec<u8>>,
}

/// All that a store says of desired state.
#[derive(Default)]
pub struct StoredFleet {
    pub schedules: Vec<StoredSchedule>,
    /// The last good bytes of files of defaults.
    pub defaults: Vec<(DefaultsFile, Vec<u8>)>,
}

/// Reads a store that no server needs to have open.
///
/// # Errors
/// When the store cannot be read.
pub async fn stored_fleet(dsn: &Path) -> anyhow::Result<StoredFleet> {
    let folder = tempfile::tempdir().context("could not make a temporary folder for a copy of the store")?;
    let store: SharedStore = std::sync::Arc::new(SqliteStore::open_copy(dsn, folder.path())?);
    let mut fleet = StoredFleet::default();
    let mut rows = store.fleet();
    while let Some(batch) = rows.recv().await {
        for row in batch? {
            let Ok(tenant) = row.tenant.parse() else { continue };
            let id = ScheduleId::new(row.connector, tenant);
            let Some(whole) = store.schedule(id.clone()).await? else { continue };
            let Some(spec) = whole.spec.spec() else { continue };
            let content = Some(whole.content).filter(|content| Digest::of(content) == whole.digest);
            fleet.schedules.push(StoredSchedule { id, spec, content });
        }
    }
    for (path, content) in store.defaults().await? {
        fleet.defaults.extend(DefaultsFile::at(&path).map(|file| (file, content)));
    }
    store.close();
    Ok(fleet)
}
