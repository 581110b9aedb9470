//! Restores a backup or a snapshot that a person names. Everything is checked before anything is touched, and
//! what stood there before is set aside.

use std::path::{Path, PathBuf};

use super::journal::Journal;
use super::{HealError, HealResult, Told, beside, clear, free_name, io, place};
use crate::adapters::snapshots::bundle::{self, Stage, Tell};
use crate::adapters::snapshots::{self, MANIFEST, Manifest};
use crate::adapters::store::rescue::{self, Hold, files_of, last_known};
use crate::adapters::store::{Frozen, StoreError};
use crate::core::audit::{Verdict, Verifier};
use crate::core::heal::Known;
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

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DesiredWritten {
    /// There are none in a snapshot.
    None,
    /// There are files already, which were left as they are.
    Left { in_copy: usize },
    /// `displaced` is where files that were different lie now.
    Written { files: usize, displaced: Option<PathBuf> },
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
    let (_hold, _) = Hold::take(asked.database, None)?;
    let is_there = files_of(asked.database).iter().any(|file| std::fs::symlink_metadata(file).is_ok());
    if is_there && !asked.force {
        return Err(HealError::Refused(format!(
            "there is a store at {}; nothing was changed. With --force it is set aside and replaced",
            asked.database.display()
        )));
    }
    let folder = asked.database.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Beside the database, so that putting it in place is a renaming.
    let staging = tempfile::Builder::new().prefix(".restoring-").tempdir_in(folder).map_err(io("write in", folder))?;
    let copy = unpack(asked.file, staging.path(), tell)?;
    let verdict = check_chain(&copy.database, tell)?;
    if !verdict.valid {
        return Err(HealError::Refused(format!(
            "the audit log in {} is not whole: {}; nothing was changed",
            asked.file.display(),
            verdict.message
        )));
    }
    let (set_aside, new) = put(asked, &copy)?;
    debug_assert!(!new.exists());
    let desired = write_desired(asked, &copy.desired)?;
    Ok(RestoreDone { manifest: copy.manifest, entries: verdict.total_entries, set_aside, desired })
}

struct Copy {
    manifest: Manifest,
    database: PathBuf,
    desired: Vec<(String, PathBuf)>,
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
        return Ok(Copy { manifest: opened.manifest, database, desired: Vec::new(), name: named("snapshot") });
    }
    let unpacked = bundle::unpack(file, staging, tell)?;
    let name = named("backup");
    Ok(Copy { manifest: unpacked.manifest, database: unpacked.database, desired: unpacked.desired, name })
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

/// Prepares the database and exchanges it for the one that is there.
fn put(asked: &RestoreAsked<'_>, copy: &Copy) -> HealResult<(Option<PathBuf>, PathBuf)> {
    let database = asked.database;
    let new = beside(database, ".restoring");
    clear(&new);
    std::fs::rename(&copy.database, &new).map_err(io("rename", &copy.database))?;
    let aside = free_name(database, "before-restore", asked.now);
    let is_there = std::fs::symlink_metadata(database).is_ok();
    let journal = Journal {
        aside: aside.clone(),
        reason: format!("restored by {}", asked.caller.actor),
        at_ms: asked.now,
        is_prepared: true,
    };
    let known = if database.is_file() { last_known(database) } else { Known::Nothing };
    let set_aside = is_there.then_some(aside.as_path());
    let told = Told { journal: &journal, known, from: &copy.name, at: Some(copy.manifest.at_ms), set_aside };
    // Nothing is taken over from what a person wants replaced.
    let prepared = rescue::prepare(&new, None, asked.now, &mut |prepared| told.tell(prepared, &asked.caller));
    if let Err(error) = prepared {
        clear(&new);
        return Err(error.into());
    }
    journal.write(database)?;
    place(database, &new, &journal)?;
    Ok((is_there.then_some(aside), new))
}

fn write_desired(asked: &RestoreAsked<'_>, files: &[(String, PathBuf)]) -> HealResult<DesiredWritten> {
    if files.is_empty() {
        return Ok(DesiredWritten::None);
    }
    let root = asked.desired_dir;
    let is_empty = std::fs::read_dir(root).map_or(true, |mut entries| entries.next().is_none());
    if !is_empty && !asked.desired {
        return Ok(DesiredWritten::Left { in_copy: files.len() });
    }
    let aside = free_name(root, "before-restore", asked.now);
    let mut displaced = false;
    for (name, source) in files {
        let (target, kept) = (root.join(name), aside.join(name));
        let bytes = std::fs::read(source).map_err(io("read", source))?;
        match std::fs::read(&target) {
            Ok(there) if there == bytes => continue,
            Ok(there) => {
                write_new(&kept, &there)?;
                displaced = true;
            }
            Err(_) => {}
        }
        let hidden = target.with_file_name(format!(".restoring-{}", asked.now));
        write_new(&hidden, &bytes)?;
        std::fs::rename(&hidden, &target).map_err(io("write", &target))?;
    }
    Ok(DesiredWritten::Written { files: files.len(), displaced: displaced.then_some(aside) })
}

fn write_new(path: &Path, bytes: &[u8]) -> HealResult<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(io("make the folder", folder))?;
    }
    let _ = std::fs::remove_file(path);
    snapshots::write_synced(path, bytes).map_err(io("write", path))
}

impl HealError {
    /// Whether a server has the store open.
    pub fn is_locked(&self) -> bool {
        matches!(self, HealError::Store(StoreError::Locked { .. }))
    }
}
