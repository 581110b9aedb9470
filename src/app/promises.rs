//! Edits promised in the store before their files move: kept after a crash, forgotten once the files
//! are on disk.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::App;
use super::apply::{Effect, Planned};
use super::blocking::blocking;
use super::error::AppError;
use crate::adapters::source::{Files, SourceError, Swap};
use crate::adapters::store::{Intent, StoreResult};
use crate::core::model::{Digest, ScheduleId};

/// What is promised and not yet safe on disk.
#[derive(Default)]
pub(super) struct Promises {
    /// Intents whose files are written but perhaps not yet on disk.
    unsynced: Mutex<Vec<(i64, ScheduleId)>>,
    /// Schedules whose files a sync was to bring to disk, and failed.
    suspect: Mutex<HashSet<ScheduleId>>,
    /// What a crash left, and could not be written yet.
    owed: Mutex<Vec<Arc<Promise>>>,
}

/// What the edits promised of one schedule come to. Those that stand in line are taken together:
/// each was made from what the one before it wrote, and a power cut may leave the file at any.
struct Promise {
    id: ScheduleId,
    /// The intents' keys.
    keys: Vec<i64>,
    /// What the file held before each of them.
    versions: Vec<Option<Digest>>,
    /// What it holds after the last.
    content: Option<Vec<u8>>,
    /// The row has been changed since by somebody else, so that the file may be too.
    is_outlived: bool,
}

impl Promises {
    fn unsynced(&self) -> MutexGuard<'_, Vec<(i64, ScheduleId)>> {
        self.unsynced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn suspect(&self) -> MutexGuard<'_, HashSet<ScheduleId>> {
        self.suspect.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn owed(&self) -> MutexGuard<'_, Vec<Arc<Promise>>> {
        self.owed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file is written; its intent stands for it until it is on disk.
    pub fn note_written(&self, intent: i64, id: ScheduleId) {
        self.unsynced().push((intent, id));
    }

    /// Whether the file still lacks what was promised before the program began.
    pub fn is_owed(&self, id: &ScheduleId) -> bool {
        self.owed().iter().any(|promise| promise.id == *id)
    }
}

impl App {
    /// An edit that was answered, or was about to be, reaches its file now if nobody has changed the
    /// file since. What a power cut leaves of a file that was being written is nobody's change.
    /// Returns whether there was any.
    pub(super) async fn replay_intents(&self) -> Result<bool, AppError> {
        let intents = self.store.intents().await?;
        if intents.is_empty() {
            return Ok(false);
        }
        let promises = self.promises_of(intents).await?;
        *self.promises.owed() = promises;
        self.keep_promises().await;
        self.sync_files().await;
        Ok(true)
    }

    async fn promises_of(&self, intents: Vec<(i64, Intent)>) -> StoreResult<Vec<Arc<Promise>>> {
        let mut promises: BTreeMap<ScheduleId, Promise> = BTreeMap::new();
        for (key, Intent { id, base, content, commit: _ }) in intents {
            let promise = promises.entry(id.clone()).or_insert_with(|| Promise {
                id,
                keys: Vec::new(),
                versions: Vec::new(),
                content: None,
                is_outlived: false,
            });
            promise.keys.push(key);
            promise.versions.push(base);
            promise.content = content;
        }
        let mut all = Vec::with_capacity(promises.len());
        for (_, mut promise) in promises {
            let row = self.store.schedule(promise.id.clone()).await?;
            let written = promise.content.as_deref().map(Digest::of);
            promise.is_outlived = row.is_some_and(|row| Some(row.digest) != written);
            all.push(Arc::new(promise));
        }
        Ok(all)
    }

    /// Writes what is owed. What cannot be written stays owed, and its schedule as it is meanwhile.
    pub(super) async fn keep_promises(&self) {
        let owed = self.promises.owed().clone();
        if owed.is_empty() {
            return;
        }
        let source = self.source.clone();
        let kept = blocking(move || owed.into_iter().filter(|promise| keep(&*source, promise)).collect::<Vec<_>>());
        let kept = kept.await.unwrap_or_default();
        self.promises.owed().retain(|promise| !kept.iter().any(|kept| kept.id == promise.id));
        let written = kept.iter().flat_map(|promise| promise.keys.iter().map(|key| (*key, promise.id.clone())));
        self.promises.unsynced().extend(written);
    }

    /// A schedule that is deleted because its file is gone is promised nothing any more. Before the
    /// deletion: a crash between the two must not bring the file back.
    pub(super) async fn withdraw_promises(&self, plans: &[Planned]) -> StoreResult<()> {
        let deleted: HashSet<&ScheduleId> =
            plans.iter().filter(|plan| matches!(plan.effect, Effect::Delete)).map(|plan| &plan.id).collect();
        let keys: Vec<i64> =
            self.promises.unsynced().iter().filter(|(_, id)| deleted.contains(id)).map(|(key, _)| *key).collect();
        if !keys.is_empty() {
            self.store.forget_intents(keys).await?;
            self.promises.unsynced().retain(|(_, id)| !deleted.contains(id));
        }
        Ok(())
    }

    /// Drops intents that nobody here made: of a commit that was said to have failed and took place.
    /// Its row is put back as drift, and its file has never moved.
    pub(super) async fn drop_orphaned_intents(&self) -> StoreResult<()> {
        // While no mutation is under way, every intent is written or owed.
        let _alone = self.gate.write().await;
        let mut known: HashSet<i64> = self.promises.unsynced().iter().map(|(key, _)| *key).collect();
        known.extend(self.promises.owed().iter().flat_map(|promise| &promise.keys));
        let intents = self.store.intents().await?;
        let orphans: Vec<i64> = intents.into_iter().map(|(key, _)| key).filter(|key| !known.contains(key)).collect();
        if orphans.is_empty() { Ok(()) } else { self.store.forget_intents(orphans).await }
    }

    /// A sync that failed may have dropped what it was to write, and the next one says that all is well: what was
    /// promised of those files is written into other ones first. Returns whether a sync now means what it says.
    async fn write_suspects_again(&self, keys: &[i64]) -> StoreResult<bool> {
        let suspect = self.promises.suspect().clone();
        if suspect.is_empty() {
            return Ok(true);
        }
        let mut intents = self.store.intents().await?;
        intents.retain(|(key, intent)| keys.contains(key) && suspect.contains(&intent.id));
        let written = self.promises_of(intents).await?;
        let source = self.source.clone();
        let done = blocking(move || written.iter().all(|promise| renew(&*source, promise))).await.unwrap_or(false);
        if done {
            self.promises.suspect().retain(|id| !suspect.contains(id));
        }
        Ok(done)
    }

    /// Brings written files to disk, then forgets the intents that would have written them again.
    pub async fn sync_files(&self) {
        self.source.trim();
        let pending = self.promises.unsynced().clone();
        if pending.is_empty() {
            return;
        }
        let (keys, mut ids): (Vec<i64>, Vec<ScheduleId>) = pending.into_iter().unzip();
        ids.sort();
        ids.dedup();
        let forgotten = match self.sync_written(&keys, ids).await {
            Ok(()) => self.store.forget_intents(keys.clone()).await.map_err(|e| e.to_string()),
            Err(error) => Err(error),
        };
        match forgotten {
            Ok(()) => {
                let keys: HashSet<i64> = keys.into_iter().collect();
                self.promises.unsynced().retain(|(key, _)| !keys.contains(key));
            }
            Err(error) => tracing::warn!(component = "reconciler", %error,
                "could not bring edited files to disk yet; trying again"),
        }
    }

    async fn sync_written(&self, keys: &[i64], ids: Vec<ScheduleId>) -> Result<(), String> {
        match self.write_suspects_again(keys).await {
            Ok(true) => {}
            Ok(false) => return Err("what an earlier sync left open could not be written again".to_owned()),
            Err(error) => return Err(error.to_string()),
        }
        let (source, synced) = (self.source.clone(), ids.clone());
        let synced = blocking(move || source.sync(&synced)).await.map_err(|error| error.to_string())?;
        synced.map_err(|error| {
            self.promises.suspect().extend(ids);
            error.to_string()
        })
    }
}

/// Returns whether the file now holds what was promised, or something newer.
fn keep(source: &dyn Files, promise: &Promise) -> bool {
    if promise.is_outlived {
        return true;
    }
    let found = match source.read(&promise.id) {
        Ok(found) => found.map(|(_, content)| content),
        Err(error) => {
            tracing::error!(component = "reconciler", "could not replay an edit of {}: {error}", promise.id);
            return false;
        }
    };
    let there = found.as_deref().map(Digest::of);
    let is_cut_off = found.is_some_and(|found| is_remnant(&found, promise.content.as_deref()));
    if !promise.versions.contains(&there) && !is_cut_off {
        return true;
    }
    is_written(&promise.id, source.swap(&promise.id, there.as_ref(), promise.content.as_deref()))
}

/// Writes what is there of a promise into another file. Returns whether that is done, or not wanted any more.
fn renew(source: &dyn Files, promise: &Promise) -> bool {
    let Some(content) = promise.content.as_deref() else { return true };
    match source.read(&promise.id) {
        Ok(Some((_, found))) if found == content || is_remnant(&found, Some(content)) => {
            is_written(&promise.id, source.write_again(&promise.id, &Digest::of(&found), content))
        }
        Ok(_) => true,
        Err(error) => is_written(&promise.id, Err(error)),
    }
}

fn is_written(id: &ScheduleId, swapped: Result<Swap, SourceError>) -> bool {
    match swapped {
        Ok(Swap::Done(_) | Swap::Moved(_)) => true,
        Err(error) => {
            tracing::error!(component = "reconciler", "could not replay an edit of {id}: {error}");
            false
        }
    }
}

/// Whether a power cut left this of a file that was being written: nothing, its beginning, or blocks that
/// were never filled. No YAML has a zero byte in it, so that is nobody's later edit.
fn is_remnant(found: &[u8], written: Option<&[u8]>) -> bool {
    found.is_empty() || found.contains(&0) || written.is_some_and(|written| written.starts_with(found))
}

#[cfg(test)]
mod tests {
    use super::is_remnant;

    #[test]
    fn what_a_power_cut_leaves_is_told_from_what_somebody_saved() {
        let written = b"interval_sec: 60\nlabels: { a: b }\n";
        let is_left = |found: &[u8]| is_remnant(found, Some(written));
        assert!(is_left(b"") && is_left(b"interval_sec: 6") && is_left(&[0; 35]) && is_left(b"interval_sec: 60\n\0\0"));
        assert!(!is_left(b"interval_sec: 61\n") && !is_left(b"# mine\n"));
        assert!(is_remnant(b"", None) && !is_remnant(b"interval_sec: 60\n", None));
    }
}
