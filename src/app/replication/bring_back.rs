//! A store brought back from a replica: rebuilt beside its place, checked as a whole, and only then put there.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::adapters::replica::{Place, RestoreError, Restored, Step, restore};
use crate::adapters::snapshots::write_synced;
use crate::adapters::store::rescue::Hold;
use crate::adapters::store::{Depth, SharedStore, Soundness, SqliteStore};
use crate::app::heal::place::{self, Incoming};
use crate::app::heal::{DesiredWritten, HealError};
use crate::core::audit::Verifier;
use crate::core::desired::DefaultsFile;
use crate::core::model::{Caller, Digest, Millis, ScheduleId};
use crate::core::replica::choose::Target;

/// What is to be brought back, and where to.
pub struct BringBack<'a> {
    pub place: &'a dyn Place,
    /// As the audit names it.
    pub name: &'a str,
    pub target: Target,
    /// The database's file.
    pub database: &'a Path,
    /// A store that is there is set aside.
    pub force: bool,
    /// A desired directory that is missing or has no files is filled.
    pub desired: Option<&'a Path>,
    pub caller: Caller,
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

/// Whether an error says that the answer is no, rather than that it could not be found out.
pub fn is_refusal(error: &anyhow::Error) -> bool {
    let is_of_replica = |error: &RestoreError| !matches!(error, RestoreError::Place(_) | RestoreError::File { .. });
    let is_no = |error: &HealError| matches!(error, HealError::Refused(_)) || error.is_locked();
    error.downcast_ref().is_some_and(is_no) || error.downcast_ref::<RestoreError>().is_some_and(is_of_replica)
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
    place::refuse_network(database)?;
    let held = database.to_owned();
    let (_hold, _) = tokio::task::spawn_blocking(move || Hold::take(&held, None)).await?.map_err(HealError::from)?;
    place::settle(database)?;
    place::refuse_occupied(database, asked.force)?;
    if let Some(root) = asked.desired.filter(|root| !place::has_no_files(root)) {
        let reason =
            "has files; nothing was changed. --write-desired only fills a directory that is missing or has none";
        return Err(HealError::Refused(format!("{} {reason}", root.display())).into());
    }
    let staging = place::staging(database)?;
    let file = staging.path().join("store.db");
    let copy = rebuild(asked.place, asked.target, &file, progress).await?;
    let staged = staging.path().join("desired");
    let desired = match asked.desired {
        Some(root) => {
            stage_desired(&copy, &staged).await?;
            Some(place::desired_work(&staged, root, asked.now)?)
        }
        None => None,
    };
    let (store, caller, name) = (copy.store.clone(), asked.caller.clone(), asked.name.to_owned());
    let (to, at, now) = (database.to_owned(), copy.restored.point.at, asked.now);
    let put = tokio::task::spawn_blocking(move || {
        // Closing moves all of it into the one file.
        store.close();
        let incoming = Incoming { file: &file, name: &name, at, desired, caller: &caller, now };
        place::put(&to, incoming, staging)
    });
    let put = put.await??;
    Ok(BroughtBack {
        schedules: copy.schedules.len() as u64,
        entries: copy.entries,
        restored: copy.restored,
        set_aside: put.set_aside,
        desired: match put.desired {
            DesiredWritten::Written { files, .. } => Some(files),
            _ => None,
        },
        took: began.elapsed(),
    })
}

/// Writes the files that the store remembers into a folder, from where they are put in place.
async fn stage_desired(copy: &Copy, staged: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(staged).with_context(|| format!("cannot make {}", staged.display()))?;
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
        let path = staged.join(name);
        let parent = path.parent().unwrap_or(staged);
        fs::create_dir_all(parent)
            .and_then(|()| write_synced(&path, content))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
