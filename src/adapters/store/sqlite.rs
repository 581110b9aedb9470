//! SQLite: one writer thread that groups commits, a pool of readers beside it, and a thread that
//! moves the write-ahead log into the database while nobody waits for it.

mod audit;
mod capture;
mod checkpoint;
mod copy;
mod errors;
mod git;
mod growth;
mod history;
mod holds;
mod inbox;
mod keep;
mod lock;
mod many;
mod past;
mod read;
mod readers;
mod records;
pub mod rescue;
mod runs;
mod schema;
mod seal;
mod state;
mod upkeep;
mod wal;
mod write;
mod writer;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt as _;
use rusqlite::Connection;
use serde_json::Value;
use tokio::sync::mpsc;

use super::*;
pub use capture::{Capture, Taken};
pub use copy::{CopyFacts, Frozen, verify_copy};
use errors::{failed, is_damage, open_error, open_failed};
use lock::StoreLock;
pub use lock::lock_path;
use readers::{Readers, open_reader};
use schema::{migrate, newest_schema};
pub use state::StateError;
use upkeep::{Identity, Suspicion};
use writer::{Lane, Writer};

/// With less free than this, a full disk may be why the store does not open.
const TIGHT: u64 = 1 << 20;

/// How long the write-ahead log may stay once its content is in the database; below the length at
/// which the writer has to wait for that.
const LOG_BYTES_KEPT: i64 = 64 << 20;

/// The store of one node. Dropping it closes the database; `close` does so at a chosen time.
pub struct SqliteStore {
    path: PathBuf,
    writer: Writer,
    readers: Arc<Readers>,
    lock: Mutex<Option<StoreLock>>,
    suspicion: Arc<Suspicion>,
    was_closed_in_order: bool,
    identity: Identity,
}

/// A place that is kept free of servers for as long as this lives.
pub struct StoreHold {
    _lock: StoreLock,
}

impl SqliteStore {
    /// Opens the store, alone: a second process that tries is told so. Makes missing folders and
    /// brings the schema up to date.
    pub fn open(path: &Path) -> StoreResult<SqliteStore> {
        SqliteStore::open_handed(path, None)
    }

    /// As `open`, with the locked file that a predecessor handed over.
    pub fn open_handed(path: &Path, lock: Option<File>) -> StoreResult<SqliteStore> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder)
                .map_err(|e| open_error(path, &format!("its folder cannot be made: {e}")))?;
        }
        SqliteStore::open_locked(path, StoreLock::take(path, lock)?)
    }

    /// As `open`, for whoever holds the store already.
    pub fn open_held(path: &Path, hold: rescue::Hold) -> StoreResult<SqliteStore> {
        SqliteStore::open_locked(path, hold.0)
    }

    fn open_locked(path: &Path, lock: StoreLock) -> StoreResult<SqliteStore> {
        let mut opened = SqliteStore::open_with(path, None);
        let space = Space::beside(path);
        if opened.is_err() && space.held() > 0 && space.free().is_some_and(|free| free < TIGHT) {
            // Opening writes a little.
            space.met_full();
            opened = SqliteStore::open_with(path, None);
        }
        let store = opened?;
        lock.mark();
        *store.lock.lock().unwrap_or_else(PoisonError::into_inner) = Some(lock);
        Ok(store)
    }

    /// Keeps every server away from a place where a store is, or is to be.
    pub fn hold(path: &Path) -> StoreResult<StoreHold> {
        StoreLock::take(path, None).map(|lock| StoreHold { _lock: lock })
    }

    /// Opens a private copy, for reading what a store holds without touching it.
    pub fn open_copy(path: &Path, folder: &Path) -> StoreResult<SqliteStore> {
        let copy = folder.join("store.db");
        std::fs::copy(path, &copy).map_err(|e| open_error(path, &e))?;
        let log = with_suffix(path, "-wal");
        if log.exists() {
            std::fs::copy(&log, with_suffix(&copy, "-wal")).map_err(|e| open_error(&log, &e))?;
        }
        SqliteStore::open_with(&copy, None)
    }

    fn open_with(path: &Path, lock: Option<StoreLock>) -> StoreResult<SqliteStore> {
        // Closing in order moves the log into the database and takes it away; who has only read since leaves an empty one.
        let was_closed_in_order = capture::is_without_log(path);
        let mut connection = Connection::open(path).map_err(|e| open_failed(path, &e))?;
        configure(&connection).map_err(|e| open_failed(path, &e))?;
        migrate(&mut connection, path)?;
        let suspicion = Arc::<Suspicion>::default();
        let writer = Writer::start(connection, path, suspicion.clone())?;
        let idle = Mutex::new(Some(Vec::new()));
        let readers = Arc::new(Readers { path: path.to_owned(), idle, suspicion: suspicion.clone() });
        let (identity, path, lock) = (Identity::of(path), path.to_owned(), Mutex::new(lock));
        Ok(SqliteStore { path, writer, readers, lock, suspicion, was_closed_in_order, identity })
    }

    /// Takes the lock out, for a successor: it is held on when the store closes.
    pub fn keep_lock(&self) -> Option<File> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).take()?.keep()
    }

    fn read<T>(
        &self,
        operation: &'static str,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> StoreResult<T> {
        self.readers.with(operation, query)
    }

    /// A point read answers at once: it costs less than handing it to another thread would.
    fn answer_now<T: Send + 'static>(
        &self,
        operation: &'static str,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> StoreFuture<'_, T> {
        std::future::ready(self.read(operation, query)).boxed()
    }

    /// A read that may be long runs on a thread of its own.
    fn answer_later<T: Send + 'static>(
        &self,
        operation: &'static str,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> StoreFuture<'_, T> {
        let readers = self.readers.clone();
        async move {
            let task = tokio::task::spawn_blocking(move || readers.with(operation, query));
            task.await.unwrap_or(Err(StoreError::Stopped))
        }
        .boxed()
    }

    /// A scan hands over batches as its reader takes them, so that memory stays small.
    fn stream<T: Send + 'static>(
        &self,
        operation: &'static str,
        scan: impl FnOnce(&Connection, &mut dyn FnMut(Vec<T>) -> bool) -> rusqlite::Result<()> + Send + 'static,
    ) -> mpsc::Receiver<StoreResult<Vec<T>>> {
        let (sender, receiver) = mpsc::channel(4);
        let readers = self.readers.clone();
        std::thread::spawn(move || {
            let mut hand_over = |batch| sender.blocking_send(Ok(batch)).is_ok();
            if let Err(error) = readers.with(operation, |connection| scan(connection, &mut hand_over)) {
                // A reader that has gone away wants no error either.
                let _ = sender.blocking_send(Err(error));
            }
        });
        receiver
    }
}

/// FULL: what was answered survives a power cut. Checkpoints are the checkpointer's, not a commit's.
fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    begin_log(connection)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    // On macOS a sync else ends in the drive's own memory; elsewhere this says nothing new.
    connection.pragma_update(None, "fullfsync", true)?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    // A log that once had to grow is cut when it begins anew, else it would count as too long for ever.
    connection.pragma_update(None, "journal_size_limit", LOG_BYTES_KEPT)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "cache_size", -4096)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

/// SQLite does not say that it could not begin the log, it goes on without one: and then a commit is a file's
/// removal, which a power cut takes back.
fn begin_log(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // Asked for itself: the pragma above tells of the mode before it has committed it, and hides that it failed.
    let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
    if mode == "wal" {
        return Ok(());
    }
    let reason = format!("the write-ahead log could not be begun, the journal's mode is {mode}");
    Err(rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR), Some(reason)))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

impl Store for SqliteStore {
    fn apply(&self, changes: Vec<Change>, intents: Vec<Intent>, now: Millis) -> StoreFuture<'_, Applied> {
        self.writer.submit(Lane::Mutation, "apply changes", move |work| write::apply(work, changes, intents, now))
    }

    fn take_back(&self, changes: Vec<Change>, now: Millis) -> StoreFuture<'_, Applied> {
        self.writer.submit(Lane::Claim, "take a change back", move |work| write::apply(work, changes, Vec::new(), now))
    }

    fn append(&self, drafts: Vec<Draft>, now: Millis) -> StoreFuture<'_, Vec<i64>> {
        self.writer.submit(Lane::Completion, "append to the audit log", move |work| work.append(drafts, now))
    }

    fn claim(&self, claims: Vec<Claim>, now: Millis) -> StoreFuture<'_, Vec<Granted>> {
        self.writer.submit(Lane::Claim, "claim runs", move |work| runs::claim(work, claims, now))
    }

    fn advance(&self, advances: Vec<Advance>) -> StoreFuture<'_, Vec<bool>> {
        self.writer.submit(Lane::Claim, "move timers", move |work| runs::advance(work, &advances))
    }

    fn lift(&self, lifts: Vec<(Advance, Draft)>, now: Millis) -> StoreFuture<'_, Vec<bool>> {
        self.writer.submit(Lane::Claim, "lift pauses", move |work| runs::lift(work, lifts, now))
    }

    fn set_stamps(&self, stamps: Vec<Stamp>) -> StoreFuture<'_, ()> {
        self.writer.submit(Lane::Completion, "remember files' stats", move |work| write::set_stamps(work, &stamps))
    }

    fn begin_run(&self, run: i64) -> StoreFuture<'_, bool> {
        self.writer.submit(Lane::Claim, "begin a run", move |work| runs::begin(work, run))
    }

    fn park_run(&self, parked: Parked) -> StoreFuture<'_, ()> {
        self.writer.submit(Lane::Completion, "record a failed attempt", move |work| runs::park(work, &parked))
    }

    fn complete(&self, completion: Completion) -> StoreFuture<'_, u32> {
        self.writer.submit(Lane::Completion, "record a run's end", move |work| runs::complete(work, &completion))
    }

    fn write_pages(&self, id: ScheduleId, run: i64, pages: Vec<Page>, now: Millis) -> StoreFuture<'_, ImportStats> {
        self.writer.submit(Lane::Bulk, "store imported records", move |work| {
            let stats = write::pages(work, &id, &pages, now)?;
            runs::add_counts(work, run, stats)?;
            Ok(stats)
        })
    }

    fn bookmark(&self, id: ScheduleId, resource: Resource) -> StoreFuture<'_, Option<Value>> {
        self.answer_now("read a bookmark", |connection| read::bookmark(connection, &id, &resource))
    }

    fn put_problem(&self, problem: Problem, drafts: Vec<Draft>, now: Millis) -> StoreFuture<'_, ()> {
        self.writer.submit(Lane::Mutation, "record an invalid file", move |work| {
            write::put_problem(work, &problem)?;
            work.append(drafts, now).map(|_| ())
        })
    }

    fn clear_problem(&self, path: String, drafts: Vec<Draft>, now: Millis) -> StoreFuture<'_, ()> {
        self.writer.submit(Lane::Mutation, "clear an invalid file", move |work| {
            work.execute("DELETE FROM problems WHERE path = ?1", [path])?;
            work.append(drafts, now).map(|_| ())
        })
    }

    fn put_defaults(
        &self,
        path: String,
        content: Option<Vec<u8>>,
        drafts: Vec<Draft>,
        now: Millis,
    ) -> StoreFuture<'_, ()> {
        self.writer.submit(Lane::Mutation, "keep a file of defaults", move |work| {
            match content {
                Some(content) => {
                    work.execute("INSERT OR REPLACE INTO defaults (path, content) VALUES (?1, ?2)", (path, content))?
                }
                None => work.execute("DELETE FROM defaults WHERE path = ?1", [path])?,
            };
            work.append(drafts, now).map(|_| ())
        })
    }

    fn put_brake(&self, brake: Brake, draft: Draft) -> StoreFuture<'_, Vec<i64>> {
        self.writer.submit(Lane::Claim, "pull the brake", move |work| {
            write::put_brake(work, &brake)?;
            work.append(vec![draft], brake.since)
        })
    }

    fn release_brake(&self, scope: String, draft: Draft, now: Millis) -> StoreFuture<'_, Vec<i64>> {
        self.writer.submit(Lane::Claim, "release the brake", move |work| {
            work.execute("DELETE FROM brakes WHERE scope = ?1", [scope])?;
            work.append(vec![draft], now)
        })
    }

    fn put_holds(
        &self,
        holds: Vec<Hold>,
        dismissal: Option<Dismissal>,
        drafts: Vec<Draft>,
        now: Millis,
    ) -> StoreFuture<'_, Vec<i64>> {
        self.writer.submit(Lane::Mutation, "record what is held", move |work| {
            holds::put(work, &holds, dismissal.as_ref())?;
            work.append(drafts, now)
        })
    }

    fn forget_intents(&self, ids: Vec<i64>) -> StoreFuture<'_, ()> {
        self.writer.submit(Lane::Completion, "forget finished edits", move |work| {
            for id in ids {
                work.execute("DELETE FROM intents WHERE id = ?1", [id])?;
            }
            Ok(())
        })
    }

    fn forget_commits(&self, keys: Vec<i64>) -> StoreFuture<'_, ()> {
        self.writer.submit(Lane::Completion, "forget commits made", move |work| git::forget_commits(work, &keys))
    }

    fn note_commit(&self, commit: String) -> StoreFuture<'_, ()> {
        self.writer.submit(Lane::Completion, "remember a commit", move |work| git::note_commit(work, &commit))
    }

    fn remember_answer(&self, key: String, remembered: Remembered, now: Millis) -> StoreFuture<'_, ()> {
        self.writer.submit(Lane::Mutation, "remember an answer", move |work| {
            write::remember_answer(work, &key, &remembered, now)
        })
    }

    fn schedule_count(&self) -> StoreFuture<'_, usize> {
        self.answer_now("count schedules", |connection| {
            let count = connection.query_row("SELECT count(*) FROM schedules", [], |row| row.get::<_, i64>(0))?;
            Ok(usize::try_from(count).unwrap_or(0))
        })
    }

    fn fleet(&self) -> mpsc::Receiver<StoreResult<Vec<FleetRow>>> {
        self.stream("read the fleet", read::fleet)
    }

    fn statuses(&self, query: StatusQuery) -> mpsc::Receiver<StoreResult<Vec<StatusRow>>> {
        self.stream("read statuses", move |connection, hand_over| read::statuses(connection, &query, hand_over))
    }

    fn audit_log(&self) -> mpsc::Receiver<StoreResult<Vec<Entry>>> {
        self.stream("read the audit log", audit::log)
    }

    fn audit_page(&self, query: AuditQuery) -> StoreFuture<'_, Vec<Entry>> {
        self.answer_later("read the audit log", move |connection| audit::page(connection, &query))
    }

    fn audit_head(&self) -> StoreFuture<'_, Head> {
        self.answer_now("read the audit's head", read::audit_head)
    }

    fn schedule(&self, id: ScheduleId) -> StoreFuture<'_, Option<ScheduleRow>> {
        self.answer_now("read a schedule", |connection| read::schedule(connection, &id))
    }

    fn revisions(&self, query: RevisionQuery) -> StoreFuture<'_, Vec<Revision>> {
        self.answer_later("read revisions", move |connection| history::revisions(connection, &query))
    }

    fn fleet_at(&self, at: Millis) -> mpsc::Receiver<StoreResult<Vec<PastState>>> {
        self.stream("read the fleet as it was", move |connection, hand_over| {
            history::fleet_at(connection, at, hand_over)
        })
    }

    fn specs(&self, query: SpecQuery) -> mpsc::Receiver<StoreResult<Vec<SpecRow>>> {
        self.stream("read specifications", move |connection, hand_over| many::specs(connection, query, hand_over))
    }

    fn deeds(&self, action_id: String) -> StoreFuture<'_, Vec<Deed>> {
        self.answer_later("read what an action changed", move |connection| many::deeds(connection, &action_id))
    }

    fn open_runs(&self) -> StoreFuture<'_, Vec<OpenRun>> {
        self.answer_later("read open runs", runs::open)
    }

    fn intents(&self) -> StoreFuture<'_, Vec<(i64, Intent)>> {
        self.answer_later("read promised edits", read::intents)
    }

    fn commits_due(&self, limit: u32) -> StoreFuture<'_, Vec<CommitDue>> {
        self.answer_later("read edits to commit", move |connection| git::commits_due(connection, limit))
    }

    fn noted_commit(&self) -> StoreFuture<'_, Option<String>> {
        self.answer_now("read the last commit seen", git::noted_commit)
    }

    fn problems(&self) -> StoreFuture<'_, Vec<Problem>> {
        self.answer_later("read invalid files", read::problems)
    }

    fn defaults(&self) -> StoreFuture<'_, Vec<(String, Vec<u8>)>> {
        self.answer_now("read the last good defaults", read::defaults)
    }

    fn brakes(&self) -> StoreFuture<'_, Vec<Brake>> {
        self.answer_now("read brakes", read::brakes)
    }

    fn holds(&self) -> StoreFuture<'_, (Vec<Hold>, Option<Dismissal>)> {
        self.answer_later("read what is held", holds::all)
    }

    fn answer(&self, key: String, now: Millis) -> StoreFuture<'_, Option<Remembered>> {
        self.answer_now("read a remembered answer", |connection| read::answer(connection, &key, now))
    }

    fn facts(&self) -> StoreFuture<'_, StoreFacts> {
        let path = self.path.clone();
        self.answer_later("read the store's facts", move |connection| read::facts(connection, &path))
    }

    fn fleet_counts(&self) -> StoreFuture<'_, FleetCounts> {
        self.answer_later("count the fleet", read::fleet_counts)
    }

    fn tenant_counts(&self, tenant: String) -> StoreFuture<'_, Vec<TenantCounts>> {
        self.answer_later("count a tenant's runs", move |connection| read::tenant_counts(connection, &tenant))
    }

    fn audit_counts(&self, since: Option<Millis>, until: Option<Millis>) -> StoreFuture<'_, AuditCounts> {
        self.answer_later("count audit entries", move |connection| audit::counts(connection, since, until))
    }

    fn changed_by_others(&self) -> StoreFuture<'_, bool> {
        self.writer
            .submit(Lane::Completion, "look for foreign writes", |work| Ok(std::mem::take(&mut work.foreign_writes)))
    }

    fn space(&self) -> Option<Arc<Space>> {
        Some(self.writer.space().clone())
    }

    fn probe(&self) -> StoreFuture<'_, ()> {
        self.writer.submit(Lane::Completion, "show that it writes", |_| Ok(()))
    }

    fn checkpoint_rounds(&self) -> StoreResult<u64> {
        self.writer.checkpoint_rounds()
    }

    fn close(&self) {
        // Readers first: the connection that closes last moves the whole log into the database.
        self.readers.lock().take();
        self.writer.stop();
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.close();
    }
}
