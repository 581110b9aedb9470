//! Restores a backup or a snapshot that a person names. Everything is checked before anything is touched, and
//! what stood there before is set aside.

use std::path::{Path, PathBuf};

use super::place::{self, DesiredWritten, Incoming};
use super::{HealError, HealResult, io};
use crate::adapters::snapshots::bundle::{self, Stage, Tell};
use crate::adapters::snapshots::{self, MANIFEST, Manifest};
use crate::adapters::store::rescue::Hold;
use crate::adapters::store::{Frozen, StoreError};
use crate::core::audit::{Verdict, Verifier};
use crate::core::model::{Caller, Millis};

/// What is to be restored, and where.
#[derive(Clone, Debug)]
pub struct RestoreAsked<'a> {
    /// A backup's zip, or a snapshot's folder.
    pub file: &'a Path,
    pub database: &'a Path,
    pub desired_dir: &'a Path,
    /// A store that is there is set aside.
    pub force: bool,
    /// Desired files are written although there are some.
    pub desired: bool,
    pub caller: Caller,
    pub now: Millis,
}

/// What was done.
#[derive(Clone, Debug)]
pub struct RestoreDone {
    pub manifest: Manifest,
    /// Entries of the audit log, all checked.
    pub entries: u64,
    /// Where the store that was there lies now.
    pub set_aside: Option<PathBuf>,
    pub desired: DesiredWritten,
}

/// Restores a copy into its place.
///
/// # Errors
/// When a server runs, the copy is not whole, or a store is there already; then nothing was changed.
pub fn restore_file(asked: &RestoreAsked<'_>, tell: Tell<'_>) -> HealResult<RestoreDone> {
    place::refuse_network(asked.database)?;
    let (_hold, _) = Hold::take(asked.database, None)?;
    place::settle(asked.database)?;
    place::refuse_occupied(asked.database, asked.force)?;
    let staging = place::staging(asked.database)?;
    let copy = unpack(asked.file, staging.path(), tell)?;
    let verdict = check_chain(&copy.database, tell)?;
    if !verdict.valid {
        return Err(HealError::Refused(format!(
            "the audit log in {} is not whole: {}; nothing was changed",
            asked.file.display(),
            verdict.message
        )));
    }
    let is_left = !asked.desired && !place::has_no_files(asked.desired_dir);
    let desired = match copy.desired {
        0 => None,
        _ if is_left => None,
        _ => Some(place::desired_work(&staging.path().join("desired"), asked.desired_dir, asked.now)?),
    };
    let incoming = Incoming {
        file: &copy.database,
        name: &copy.name,
        at: copy.manifest.at_ms,
        desired,
        caller: &asked.caller,
        now: asked.now,
    };
    let put = place::put(asked.database, incoming, staging)?;
    let desired = match copy.desired {
        in_copy if in_copy > 0 && is_left => DesiredWritten::Left { in_copy },
        _ => put.desired,
    };
    Ok(RestoreDone { manifest: copy.manifest, entries: verdict.total_entries, set_aside: put.set_aside, desired })
}

struct Copy {
    manifest: Manifest,
    database: PathBuf,
    /// How many desired files it brought.
    desired: usize,
    /// As the audit names it.
    name: String,
}

fn unpack(file: &Path, staging: &Path, tell: Tell<'_>) -> HealResult<Copy> {
    let named = |kind: &str| {
        let name = file.file_name().map_or_else(|| file.display().to_string(), |name| name.to_string_lossy().into());
        format!("{kind} {name}")
    };
    let meta = std::fs::metadata(file).map_err(io("read", file))?;
    if meta.is_dir() || file.ends_with(MANIFEST) {
        let folder = if meta.is_dir() { file } else { file.parent().unwrap_or(Path::new(".")) };
        let opened = snapshots::open(folder)?;
        let database = staging.join("database.db");
        snapshots::unpack(&opened, &database, &mut |done, total| {
            tell(Stage { doing: "unpacking and checking", done, total });
        })?;
        return Ok(Copy { manifest: opened.manifest, database, desired: 0, name: named("snapshot") });
    }
    let unpacked = bundle::unpack(file, staging, tell)?;
    let name = named("backup");
    Ok(Copy { manifest: unpacked.manifest, database: unpacked.database, desired: unpacked.desired.len(), name })
}

/// Walks the whole audit log.
fn check_chain(database: &Path, tell: Tell<'_>) -> HealResult<Verdict> {
    let frozen = Frozen::of_file(database, 0)?;
    let (mut verifier, mut done) = (Verifier::default(), 0);
    let total = u64::try_from(frozen.head.seq).unwrap_or(0);
    frozen.audit(&mut |entries| {
        for entry in &entries {
            verifier.push(entry);
        }
        done += entries.len() as u64;
        tell(Stage { doing: "checking the audit log", done, total });
        true
    })?;
    Ok(verifier.finish(Some(frozen.head)))
}

impl HealError {
    /// Whether a server has the store open.
    pub fn is_locked(&self) -> bool {
        matches!(self, HealError::Store(StoreError::Locked { .. }))
    }
}
