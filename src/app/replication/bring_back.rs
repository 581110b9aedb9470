//! A store brought back from a replica: rebuilt beside its place, checked as a whole, and only then put there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};

use crate::adapters::replica::{Place, RestoreError, Restored, Step, restore};
use crate::adapters::store::{Depth, Soundness};
use crate::adapters::store::{SharedStore, SqliteStore, network_path};
use crate::core::audit::Verifier;
use crate::core::desired::DefaultsFile;
use crate::core::model::{Digest, Millis, ScheduleId};
use crate::core::replica::choose::Target;

/// What is to be brought back, and where to.
pub struct BringBack<'a> {
    pub place: &'a dyn Place,
    pub target: Target,
    /// The database's file.
    pub database: &'a Path,
    /// A store that is there is set aside.
    pub force: bool,
    /// A missing or empty desired directory is filled.
    pub desired: Option<&'a Path>,
    pub now: Millis,
}

/// What was brought back.
#[derive(Debug)]
pub struct BroughtBack {
    pub restored: Restored,
    /// Entries of the audit log, each checked.
    pub entries: u64,
    pub schedules: u64,
    pub set_aside: Option<PathBuf>,
    pub desired: Option<usize>,
    pub took: Duration,
}

/// Something is in the place already.
#[derive(Debug, thiserror::Error)]
#[error("there is a store at {0}; nothing was changed. With --force it is set aside and replaced")]
pub struct Occupied(String);

/// The place is no disk of this machine.
#[derive(Debug, thiserror::Error)]
#[error("{path} lies on {kind}, where SQLite loses data; restore onto a disk of this machine")]
pub struct Elsewhere {
    path: String,
    kind: String,
}

/// Whether an error says that the answer is no, rather than that it could not be found out.
pub fn is_refusal(error: &anyhow::Error) -> bool {
    let is_of_replica = |error: &RestoreError| !matches!(error, RestoreError::Place(_) | RestoreError::File { .. });
    error.is::<Occupied>() || error.is::<Elsewhere>() || error.downcast_ref::<RestoreError>().is_some_and(is_of_replica)
}

/// A checked copy in a folder of its own.
pub struct Copy {
    pub restored: Restored,
    pub entries: u64,
    /// Digests of the files by their schedules.
    pub schedules: Vec<(ScheduleId, Digest)>,
    store: SharedStore,
}

impl Copy {
    pub fn close(&self) {
        self.store.close();
    }
}

/// Rebuilds a store in `folder` and checks all of it.
///
/// # Errors
/// When the replica holds nothing whole that fits, or what it holds is not what it says.
pub async fn rebuild(
    place: &dyn Place,
    target: Target,
    file: &Path,
    progress: &(dyn Fn(Step) + Sync),
) -> anyhow::Result<Copy> {
    let restored = restore(place, target, file, progress).await?;
    let opened = file.to_owned();
    let store: SharedStore = Arc::new(tokio::task::spawn_blocking(move || SqliteStore::open(&opened)).await??);
    if let Soundness::Damaged(what) = store.check(Depth::Quick, false).await? {
        store.close();
        bail!("the database that was rebuilt is damaged: {what}");
    }
    let checked = check_chain(&store, &restored).await;
    if checked.is_err() {
        store.close();
    }
    let (entries, last_at) = checked?;
    let mut copy = Copy { restored, entries, schedules: Vec::new(), store };
    copy.restored.point.at = last_at.unwrap_or(copy.restored.point.at);
    let mut rows = copy.store.fleet();
    while let Some(batch) = rows.recv().await {
        for row in batch? {
            let Ok(tenant) = row.tenant.parse() else { continue };
            copy.schedules.push((ScheduleId::new(row.connector, tenant), row.digest));
        }
    }
    Ok(copy)
}

/// Walks the audit log; its end has to be the one that the replica names. Tells how many entries there are, and when the
/// last was made.
async fn check_chain(store: &SharedStore, restored: &Restored) -> anyhow::Result<(u64, Option<Millis>)> {
    let mut log = store.audit_log();
    let mut verifier = Verifier::default();
    let mut last = None;
    while let Some(batch) = log.recv().await {
        for entry in &batch? {
            verifier.push(entry);
            last = Some(entry.at);
        }
    }
    let verdict = verifier.finish(Some(restored.point.head));
    if !verdict.valid {
        bail!("the audit log that was rebuilt is not whole: {}", verdict.message);
    }
    Ok((verdict.total_entries, last))
}

/// Brings a store back into its place.
///
/// # Errors
/// When a server has the place open, a store is there already, or nothing whole was found; then nothing was changed.
pub async fn bring_back(asked: &BringBack<'_>, progress: &(dyn Fn(Step) + Sync)) -> anyhow::Result<BroughtBack> {
    let began = Instant::now();
    let database = asked.database;
    let folder = database.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if let Some(kind) = network_path(database) {
        return Err(Elsewhere { path: database.display().to_string(), kind }.into());
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let _hold = SqliteStore::hold(database)?;
    let is_there = files_of(database).iter().any(|file| fs::symlink_metadata(file).is_ok());
    if is_there && !asked.force {
        return Err(Occupied(database.display().to_string()).into());
    }
    let staging = tempfile::Builder::new().prefix(".restoring-").tempdir_in(folder)?;
    let file = staging.path().join("store.db");
    let copy = rebuild(asked.place, asked.target, &file, progress).await?;
    let desired = match asked.desired {
        Some(root) => Some(write_desired(&copy, root).await?),
        None => None,
    };
    let store = copy.store.clone();
    // Closing moves all of it into the one file.
    tokio::task::spawn_blocking(move || store.close()).await?;
    let set_aside = if is_there { Some(aside(database, asked.now)?) } else { None };
    fs::rename(&file, database).with_context(|| format!("cannot write {}", database.display()))?;
    sync(folder).with_context(|| format!("cannot bring {} to disk", folder.display()))?;
    Ok(BroughtBack {
        schedules: copy.schedules.len() as u64,
        entries: copy.entries,
        restored: copy.restored,
        set_aside,
        desired,
        took: began.elapsed(),
    })
}

fn sync(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { fs::File::open(folder)?.sync_all() } else { Ok(()) }
}

fn files_of(database: &Path) -> [PathBuf; 3] {
    ["", "-wal", "-shm"].map(|suffix| with_suffix(database, suffix))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Renames what is there, never deleting it.
fn aside(database: &Path, now: Millis) -> anyhow::Result<PathBuf> {
    let stamp = crate::core::timing::iso(now).replace([':', '.'], "-");
    let to = with_suffix(database, &format!(".before-restore-{stamp}"));
    if fs::symlink_metadata(&to).is_ok() {
        bail!("{} is in the way", to.display());
    }
    for (from, to) in files_of(database).iter().zip(files_of(&to)) {
        match fs::rename(from, &to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(anyhow!("cannot set {} aside: {error}", from.display()));
            }
            _ => {}
        }
    }
    Ok(to)
}

/// Writes the files that the store remembers into a directory that has none.
async fn write_desired(copy: &Copy, root: &Path) -> anyhow::Result<usize> {
    if fs::read_dir(root).is_ok_and(|mut entries| entries.next().is_some()) {
        bail!("{} is not empty; --write-desired only fills a missing or empty directory", root.display());
    }
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    for (id, digest) in &copy.schedules {
        let Some(row) = copy.store.schedule(id.clone()).await? else { continue };
        if Digest::of(&row.content) == *digest {
            files.push((id.file(), row.content));
        }
    }
    for (path, content) in copy.store.defaults().await? {
        if DefaultsFile::at(&path).is_some() || path.starts_with("windows/") {
            files.push((path, content));
        }
    }
    for (name, content) in &files {
        let path = root.join(name);
        let parent = path.parent().unwrap_or(root);
        fs::create_dir_all(parent)
            .and_then(|()| fs::write(&path, content))
            .and_then(|()| fs::File::open(&path)?.sync_all())
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(files.len())
}
