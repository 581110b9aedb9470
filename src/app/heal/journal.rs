//! How far a restoring has come, in a file beside the database: one that is cut off is finished at the next start.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::place::DesiredWork;
use super::{HealResult, beside, io};
use crate::adapters::snapshots::{sync_folder, write_synced};
use crate::core::model::Millis;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Journal {
    /// Where the database that was there goes.
    pub aside: PathBuf,
    pub reason: String,
    pub at_ms: Millis,
    /// The new database is whole and waits to be put in place.
    pub is_prepared: bool,
    /// Desired files that are to be written with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired: Option<DesiredWork>,
}

fn path(database: &Path) -> PathBuf {
    beside(database, ".healing")
}

impl Journal {
    /// One that cannot be read was cut off while it was written, before anything was touched.
    pub(super) fn read(database: &Path) -> Option<Journal> {
        serde_json::from_slice(&std::fs::read(path(database)).ok()?).ok()
    }

    pub(super) fn write(&self, database: &Path) -> HealResult<()> {
        let (path, new) = (path(database), beside(database, ".healing-new"));
        let _ = std::fs::remove_file(&new);
        write_synced(&new, &serde_json::to_vec(self).unwrap_or_default()).map_err(io("write", &new))?;
        std::fs::rename(&new, &path).map_err(io("write", &path))?;
        let folder = database.parent().unwrap_or(Path::new("."));
        sync_folder(folder).map_err(io("bring to disk", folder))
    }

    pub(super) fn remove(database: &Path) -> HealResult<()> {
        match std::fs::remove_file(path(database)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io("remove", &path(database))(error)),
            _ => Ok(()),
        }
    }
}
