//! Copies of the store in files: `DATA_DIR/snapshots` holds a folder for each, whole from the moment it has its
//! name; backups are one zip each. `make` writes snapshots, `open` reads them again, `bundle` is about the zips.

pub mod bundle;
mod files;
mod make;
mod manifest;
mod open;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

pub use files::{sync_folder, write_synced};
pub use make::make;
pub use manifest::{FileFacts, MANIFEST, Manifest};
pub use open::{Opened, open, unpack};

use crate::adapters::store::StoreError;
use crate::core::model::Millis;

pub const STATE: &str = "state.json";
pub const DATABASE: &str = "database.db.zst";

/// What folders are called that are still being written.
const HIDDEN: &str = ".making-";

#[derive(Clone, Debug, thiserror::Error)]
pub enum CopyError {
    #[error("there is no room left for {path}; free some space there")]
    Full { path: String },
    #[error("could not {operation} {path}: {reason}")]
    Io { operation: &'static str, path: String, reason: String },
    /// Not what it was when it was made.
    #[error("{path} cannot be used: {reason}")]
    Bad { path: String, reason: String },
    #[error(transparent)]
    Store(#[from] StoreError),
}

pub type CopyResult<T> = Result<T, CopyError>;

pub(super) fn io(operation: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> CopyError {
    let path = path.display().to_string();
    move |error| match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => CopyError::Full { path },
        _ => CopyError::Io { operation, path, reason: error.to_string() },
    }
}

pub(super) fn bad(path: &Path, reason: impl Into<String>) -> CopyError {
    CopyError::Bad { path: path.display().to_string(), reason: reason.into() }
}

/// A snapshot in its folder.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub path: PathBuf,
    /// `20260509T073030.123Z-4711`: when it was made, and where the audit log ended.
    pub name: String,
    pub at: Millis,
    /// What it says of itself, or why that cannot be read.
    pub manifest: Result<Manifest, String>,
}

impl Snapshot {
    /// Bytes on disk, as the manifest has them.
    pub fn bytes(&self) -> u64 {
        self.manifest.as_ref().map_or(0, |manifest| manifest.files.values().map(|file| file.bytes).sum())
    }
}

/// A snapshot's name.
pub(super) fn name_of(at: Millis, seq: i64) -> String {
    let iso = crate::core::timing::iso(at);
    let time: String = iso.chars().filter(|c| !matches!(c, '-' | ':')).collect();
    format!("{time}-{seq}")
}

/// The time in a name, if it is a snapshot's.
pub(super) fn time_in(name: &str) -> Option<Millis> {
    let (time, seq) = name.split_once('-')?;
    seq.parse::<i64>().ok()?;
    let time = chrono::NaiveDateTime::parse_from_str(time, "%Y%m%dT%H%M%S%.3fZ").ok()?;
    Some(time.and_utc().timestamp_millis())
}

/// The snapshots in a folder, newest first; none where there is no such folder.
pub fn list(folder: &Path) -> CopyResult<Vec<Snapshot>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io("look through", folder)(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(io("look through", folder))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(at) = time_in(&name) {
            let path = entry.path();
            let manifest = Manifest::read(&path).map_err(|error| error.to_string());
            found.push(Snapshot { path, name, at, manifest });
        }
    }
    found.sort_by(|a, b| (b.at, &b.name).cmp(&(a.at, &a.name)));
    Ok(found)
}

/// Removes what a crash left half-made. Nobody may be making snapshots there.
pub fn sweep(folder: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let hidden = entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(HIDDEN));
    hidden.filter(|entry| std::fs::remove_dir_all(entry.path()).is_ok()).count()
}

/// Removes a snapshot. It loses its name first, so that no half of one is ever taken for whole.
pub fn remove(snapshot: &Snapshot) -> CopyResult<()> {
    let folder = snapshot.path.parent().unwrap_or(Path::new("."));
    let hidden = folder.join(format!("{HIDDEN}{}.gone", snapshot.name));
    std::fs::rename(&snapshot.path, &hidden).map_err(io("remove", &snapshot.path))?;
    std::fs::remove_dir_all(&hidden).map_err(io("remove", &hidden))
}
