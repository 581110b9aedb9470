//! The last steps of a restoring: a checked copy takes the place of what is there, with the desired files that came
//! with it. From the moment the journal is written each step can be taken again, and a start takes those that are left.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::journal::Journal;
use super::{HealError, HealResult, Told, beside, io, marker_path};
use crate::adapters::snapshots::{self, bundle};
use crate::adapters::store::network_path;
use crate::adapters::store::rescue::{self, Origin, files_of, last_known};
use crate::core::heal::Known;
use crate::core::model::{Caller, Millis};
use crate::core::timing::iso;

/// Desired files to be written: they wait below `staged`, and those that they displace go below `aside`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredWork {
    pub staged: PathBuf,
    pub root: PathBuf,
    pub aside: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DesiredWritten {
    /// There are none in the copy.
    None,
    /// There are files already, which were left as they are.
    Left { in_copy: usize },
    /// `displaced` is where files that were different lie now.
    Written { files: usize, displaced: Option<PathBuf> },
}

/// A checked copy that is to be the store.
pub(in crate::app) struct Incoming<'a> {
    pub file: &'a Path,
    /// As the audit names it.
    pub name: &'a str,
    /// When the copy was made.
    pub at: Millis,
    pub desired: Option<DesiredWork>,
    pub caller: &'a Caller,
    pub now: Millis,
}

/// What was done.
pub(in crate::app) struct Put {
    /// Where the store that was there lies now.
    pub set_aside: Option<PathBuf>,
    pub desired: DesiredWritten,
}

/// Refuses to replace a store that nobody said may be replaced.
pub(in crate::app) fn refuse_occupied(database: &Path, force: bool) -> HealResult<()> {
    let is_there = files_of(database).iter().any(|file| std::fs::symlink_metadata(file).is_ok());
    if !is_there || force {
        return Ok(());
    }
    Err(HealError::Refused(format!(
        "there is a store at {}; nothing was changed. With --force it is set aside and replaced",
        database.display()
    )))
}

/// Refuses a place that is no disk of this machine.
pub(in crate::app) fn refuse_network(database: &Path) -> HealResult<()> {
    let Some(kind) = network_path(database) else { return Ok(()) };
    let path = database.display();
    Err(HealError::Refused(format!(
        "{path} lies on {kind}, where SQLite loses data; restore onto a disk of this machine"
    )))
}

/// A folder beside the database, so that putting something in place from there is a renaming.
pub(in crate::app) fn staging(database: &Path) -> HealResult<TempDir> {
    let folder = folder_of(database);
    tempfile::Builder::new().prefix(&staging_prefix(database)).tempdir_in(folder).map_err(io("write in", folder))
}

fn staging_prefix(database: &Path) -> String {
    format!(".{}.restoring-", database.file_name().unwrap_or_default().to_string_lossy())
}

fn folder_of(database: &Path) -> &Path {
    database.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// What is to be done with a copy's desired files, which lie below `staged`.
pub(in crate::app) fn desired_work(staged: &Path, root: &Path, now: Millis) -> HealResult<DesiredWork> {
    let absolute = |path: &Path| std::path::absolute(path).map_err(io("find", path));
    let root = absolute(root)?;
    Ok(DesiredWork { staged: absolute(staged)?, aside: free_name(&root, "before-restore", now), root })
}

/// Whether a desired directory has no files: there may be folders in it, and what is hidden, like a repository.
pub(in crate::app) fn has_no_files(root: &Path) -> bool {
    bundle::files_below(root).is_empty()
}

/// Prepares the copy and exchanges it for what is there. The caller holds the store.
pub(in crate::app) fn put(database: &Path, incoming: Incoming<'_>, staging: TempDir) -> HealResult<Put> {
    let new = beside(database, ".restoring");
    clear(&new);
    std::fs::rename(incoming.file, &new).map_err(io("rename", incoming.file))?;
    let aside = free_name(database, "before-restore", incoming.now);
    let is_there = files_of(database).iter().any(|file| std::fs::symlink_metadata(file).is_ok());
    let journal = Journal {
        aside: aside.clone(),
        reason: format!("restored by {}", incoming.caller.actor),
        at_ms: incoming.now,
        is_prepared: true,
        desired: incoming.desired,
    };
    let known = if database.is_file() { last_known(database) } else { Known::Nothing };
    let set_aside = is_there.then_some(aside.as_path());
    let told =
        Told { journal: &journal, known, from: incoming.name, at: Some(incoming.at), set_aside, is_current: false };
    // Nothing is taken over from what a person wants replaced.
    let prepared =
        rescue::prepare(&new, Origin::Copy(None), incoming.now, &mut |prepared| told.tell(prepared, incoming.caller));
    if let Err(error) = prepared {
        clear(&new);
        return Err(error.into());
    }
    if let Some(work) = &journal.desired {
        sync_tree(&work.staged)?;
    }
    journal.write(database)?;
    // From here on it belongs to the journal.
    let _staging = staging.keep();
    let desired = finish(database, &journal)?;
    Ok(Put { set_aside: is_there.then_some(aside), desired })
}

/// Takes what steps are left of a restoring whose new database is ready.
pub(super) fn finish(database: &Path, journal: &Journal) -> HealResult<DesiredWritten> {
    let new = beside(database, ".restoring");
    let is_there = |path: &Path| std::fs::symlink_metadata(path).is_ok();
    let mut desired = journal.desired.as_ref();
    if is_there(&new) {
        set_aside(database, &journal.aside)?;
        std::fs::rename(&new, database).map_err(io("put in place", database))?;
        sync_beside(database)?;
    } else if !is_there(database) && is_there(&journal.aside) {
        // Somebody took the new one away; better the one before than none.
        tracing::error!(component = "store", "the restored database is gone; {} comes back", journal.aside.display());
        set_aside(&journal.aside, database)?;
        desired = None;
    }
    clear(&marker_path(database));
    let written = desired.map_or(Ok(DesiredWritten::None), DesiredWork::carry_out)?;
    Journal::remove(database)?;
    sweep(database);
    Ok(written)
}

/// Finishes a restoring that was cut off, if there is one that can be finished without a copy.
pub(in crate::app) fn settle(database: &Path) -> HealResult<()> {
    match Journal::read(database) {
        Some(journal) if journal.is_prepared => {
            tracing::warn!(component = "store", "finishing a restore that was cut off ({})", journal.reason);
            finish(database, &journal).map(|_| ())
        }
        Some(_) => Ok(()),
        None => {
            sweep(database);
            Ok(())
        }
    }
}

/// Removes what a restoring left that was cut off before it had changed anything. No other is at work here.
fn sweep(database: &Path) {
    for suffix in [".restoring", ".from-replica", ".around", ".itself", ".healing-new"] {
        clear(&beside(database, suffix));
    }
    let prefix = staging_prefix(database);
    for entry in std::fs::read_dir(folder_of(database)).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

impl DesiredWork {
    /// Writes the files. Those that are there with other bytes are kept aside first.
    fn carry_out(&self) -> HealResult<DesiredWritten> {
        let files = bundle::files_below(&self.staged);
        for (name, source) in &files {
            let (target, kept) = (self.root.join(name), self.aside.join(name));
            let bytes = std::fs::read(source).map_err(io("read", source))?;
            match std::fs::read(&target) {
                Ok(there) if there == bytes => continue,
                // What was kept before a crash stays kept.
                Ok(there) if !kept.exists() => write_over(&kept, &there)?,
                _ => {}
            }
            write_over(&target, &bytes)?;
        }
        if self.root.exists() {
            sync_tree(&self.root)?;
        }
        let displaced = self.aside.exists().then(|| self.aside.clone());
        Ok(DesiredWritten::Written { files: files.len(), displaced })
    }
}

/// Writes a file under another name and renames it: it is there whole or not at all.
fn write_over(path: &Path, bytes: &[u8]) -> HealResult<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(io("make the folder", folder))?;
    }
    let hidden = path.with_file_name(".restoring");
    let _ = std::fs::remove_file(&hidden);
    snapshots::write_synced(&hidden, bytes).map_err(io("write", &hidden))?;
    std::fs::rename(&hidden, path).map_err(io("write", path))
}

/// Brings the names in a folder and the folders below it to disk.
fn sync_tree(folder: &Path) -> HealResult<()> {
    for entry in std::fs::read_dir(folder).map_err(io("read", folder))?.flatten() {
        let is_ours = !entry.file_name().to_string_lossy().starts_with('.');
        if is_ours && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            sync_tree(&entry.path())?;
        }
    }
    snapshots::sync_folder(folder).map_err(io("bring to disk", folder))
}

/// Moves a database with all that belongs to it out of the way; what was moved before a crash stays moved. The
/// database goes first: without it, its log is not taken for an older state.
pub(super) fn set_aside(database: &Path, aside: &Path) -> HealResult<()> {
    for (file, target) in files_of(database).iter().zip(files_of(aside)) {
        let is_there = std::fs::symlink_metadata(file).is_ok();
        if is_there && std::fs::symlink_metadata(&target).is_err() {
            std::fs::rename(file, &target).map_err(io("set aside", file))?;
        }
    }
    sync_beside(database)
}

fn sync_beside(database: &Path) -> HealResult<()> {
    let folder = folder_of(database);
    snapshots::sync_folder(folder).map_err(io("bring to disk", folder))
}

/// A name beside the database that nothing has yet.
pub(super) fn free_name(database: &Path, what: &str, now: Millis) -> PathBuf {
    let time: String = iso(now).chars().filter(|c| !matches!(c, '-' | ':')).collect();
    let name = |n: u32| {
        let number = if n == 0 { String::new() } else { format!("-{n}") };
        beside(database, &format!(".{what}-{time}{number}"))
    };
    (0..1000).map(name).find(|path| std::fs::symlink_metadata(path).is_err()).unwrap_or_else(|| name(1000))
}

/// Removes a file of ours with what SQLite may have put beside it.
pub(super) fn clear(path: &Path) {
    for file in files_of(path).into_iter().chain([beside(path, "-journal")]) {
        let _ = std::fs::remove_file(file);
    }
}
