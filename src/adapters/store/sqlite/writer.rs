//! The one thread that writes. Whoever has something to write hands in a job; the thread takes all
//! that wait, runs each in a savepoint, commits once, and only then answers: one fsync serves many.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;

use futures_util::FutureExt as _;
use rusqlite::{Connection, OptionalExtension as _, Params, Statement, ToSql};
use tokio::sync::oneshot;

use super::capture::Capture;
use super::checkpoint::{self, Log};
use super::{Space, StoreError, StoreFuture, StoreResult, Suspicion, failed, open_error, open_failed};
use crate::core::audit::{Draft, Entry, Head};
use crate::core::model::Millis;
use crate::core::replica::Point;
use crate::core::timing::iso;

/// Who goes first when several wait: a claim decides lateness, a mutation has a person waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    Claim,
    Mutation,
    Completion,
    /// Much to write, which can be had again.
    Bulk,
}

impl Lane {
    /// Whether it waits for room where the disk has little; the others may use what is set aside.
    fn gives_way(self) -> bool {
        matches!(self, Lane::Mutation | Lane::Bulk)
    }
}

/// Jobs of one group at most, so that those who wait behind it do not wait long.
const GROUP_LIMIT: usize = 512;

/// An entry of the audit log, in the order of its fields.
pub(super) const INSERT_ENTRY: &str =
    "INSERT INTO audit (seq, at_ms, tenant, connector, operation, source, actor, action_id, metadata, prev_hash, hash)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";

type Answer = Box<dyn FnOnce(StoreResult<()>) + Send>;
/// Is run within the transaction, or told why there is none.
type Job = Box<dyn FnOnce(StoreResult<&mut Work<'_>>) -> Answer + Send>;

#[derive(Default)]
struct Queue {
    lanes: [VecDeque<Job>; 4],
    stopping: bool,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
    stopped: Condvar,
    log: Log,
    /// What commits change is wanted elsewhere too.
    capture: OnceLock<Arc<Capture>>,
    /// Rows changed so far.
    changes: AtomicU64,
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    suspicion: Arc<Suspicion>,
    space: Arc<Space>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What a job works with: the open transaction and the audit's head within it.
pub(super) struct Work<'a> {
    connection: &'a Connection,
    head: Head,
    /// When the last entry was appended, where that was in this transaction.
    at: Millis,
    pub(super) term: i64,
    keys: Keys,
    /// Another process has written since somebody last asked; whoever asks takes it down.
    pub(super) foreign_writes: bool,
    /// Why the whole transaction is gone, once it is: some failures undo more than their statement.
    lost: Option<StoreError>,
    /// Where the database is to be copied to when this is committed, and who waits for that.
    leave: Option<Leave>,
}

type Leave = (PathBuf, oneshot::Sender<StoreResult<()>>);

/// The highest keys given so far. Keys are never given twice, which SQLite would do for a page more
/// in every commit.
#[derive(Clone, Copy)]
struct Keys {
    schedule: i64,
    intent: i64,
    run: i64,
}

impl Work<'_> {
    pub(super) fn execute(&mut self, sql: &str, params: impl Params) -> rusqlite::Result<usize> {
        self.connection.prepare_cached(sql)?.execute(params)
    }

    pub(super) fn value<T: rusqlite::types::FromSql>(&self, sql: &str, params: &[&dyn ToSql]) -> rusqlite::Result<T> {
        self.connection.prepare_cached(sql)?.query_row(params, |row| row.get(0))
    }

    pub(super) fn row<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Option<T>> {
        self.connection.prepare_cached(sql)?.query_row(params, read).optional()
    }

    /// The key a schedule had, or for a new one a key higher than any before it.
    pub(super) fn row_for(&mut self, known: Option<i64>) -> i64 {
        let row = known.unwrap_or(self.keys.schedule + 1);
        self.keys.schedule = self.keys.schedule.max(row);
        row
    }

    /// Has the database copied once this is committed; after that nothing is written any more.
    pub(super) fn leave_to(&mut self, target: PathBuf, told: oneshot::Sender<StoreResult<()>>) {
        self.leave = Some((target, told));
    }

    /// A key for an intent.
    pub(super) fn new_intent(&mut self) -> i64 {
        self.keys.intent += 1;
        self.keys.intent
    }

    /// A key for a run.
    pub(super) fn new_run(&mut self) -> i64 {
        self.keys.run += 1;
        self.keys.run
    }

    /// The highest key of a deleted schedule is kept, so that it is not given again after a restart.
    pub(super) fn retire_row(&mut self, row: i64) -> rusqlite::Result<()> {
        self.keys.schedule = self.keys.schedule.max(row);
        self.execute(
            "INSERT OR REPLACE INTO facts (name, value)
             SELECT 'last_row', ?1 WHERE ?2 > ifnull((SELECT max(id) FROM schedules), 0)",
            (self.keys.schedule.to_string(), row),
        )?;
        Ok(())
    }

    /// Appends to the chain; returns the entries' sequence numbers.
    pub(super) fn append(&mut self, drafts: Vec<Draft>, now: Millis) -> rusqlite::Result<Vec<i64>> {
        if drafts.is_empty() {
            return Ok(Vec::new());
        }
        let mut seqs = Vec::with_capacity(drafts.len());
        let mut insert = self.connection.prepare_cached(INSERT_ENTRY)?;
        let now_iso = iso(now);
        self.at = now;
        for draft in drafts {
            let entry = self.head.append(draft, now, &now_iso);
            insert_entry(&mut insert, &entry)?;
            seqs.push(entry.seq);
        }
        Ok(seqs)
    }
}

/// Writes one entry by `INSERT_ENTRY`.
pub(super) fn insert_entry(insert: &mut Statement<'_>, entry: &Entry) -> rusqlite::Result<()> {
    insert.execute((
        entry.seq,
        entry.at,
        &entry.tenant,
        &entry.connector,
        &entry.operation,
        &entry.source,
        &entry.actor,
        &entry.action_id,
        &entry.metadata,
        entry.prev_hash.0,
        entry.hash.0,
    ))?;
    Ok(())
}

impl Writer {
    pub(super) fn start(connection: Connection, path: &Path, suspicion: Arc<Suspicion>) -> StoreResult<Writer> {
        let term = next_term(&connection).map_err(|e| open_failed(path, &e))?;
        let head = super::read::chain_end(&connection).map_err(|e| open_failed(path, &e))?;
        let keys = read_keys(&connection).map_err(|e| open_failed(path, &e))?;
        let shared = Arc::new(Shared::default());
        let spawn = |name: &str, body: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new().name(name.to_owned()).spawn(body).map_err(|e| open_error(path, &e))
        };
        let queue = shared.clone();
        let writer = spawn("store-writer", Box::new(move || run(&queue, &connection, head, term, keys)))?;
        let (queue, database) = (shared.clone(), path.to_owned());
        let checkpointer = spawn("store-checkpointer", Box::new(move || run_checkpoints(&queue, &database)))?;
        let space = Arc::new(Space::beside(path));
        Ok(Writer { shared, suspicion, space, threads: Mutex::new(vec![writer, checkpointer]) })
    }

    pub(super) fn space(&self) -> &Arc<Space> {
        &self.space
    }

    /// Hands in a job. Resolves once it is durable, or says why it is not.
    pub(super) fn submit<T: Send + 'static>(
        &self,
        lane: Lane,
        operation: &'static str,
        body: impl FnOnce(&mut Work<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> StoreFuture<'static, T> {
        if lane.gives_way() && self.space.is_short() {
            return std::future::ready(Err(StoreError::Full)).boxed();
        }
        let (sender, receiver) = oneshot::channel();
        let (suspicion, space) = (self.suspicion.clone(), self.space.clone());
        let job: Job = Box::new(move |work| {
            let result = work.and_then(|work| in_savepoint(work, body).map_err(|e| failed(operation, &e)));
            Box::new(move |committed| {
                let result = result.and_then(|value| committed.map(|()| value)).map_err(|e| suspicion.note(e));
                if !lane.gives_way() && matches!(result, Err(StoreError::Full)) {
                    // Whoever asked tries again, and finds room.
                    space.met_full();
                }
                // Nobody waiting any more is no error: the work is done or undone all the same.
                let _ = sender.send(result);
            })
        });
        {
            let mut queue = self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
            if !queue.stopping {
                queue.lanes[lane as usize].push_back(job);
            }
        }
        self.shared.filled.notify_one();
        async move { receiver.await.unwrap_or(Err(StoreError::Stopped)) }.boxed()
    }

    /// From now on what commits change is kept for whoever takes it from there.
    pub(super) fn capture(&self, path: &Path) -> Arc<Capture> {
        self.shared.capture.get_or_init(|| Arc::new(Capture::new(path))).clone()
    }

    pub(super) fn checkpoint_rounds(&self) -> StoreResult<u64> {
        self.shared.log.rounds().ok_or(StoreError::Stopped)
    }

    pub(super) fn changes(&self) -> u64 {
        self.shared.changes.load(Ordering::Acquire)
    }

    pub(super) fn stop(&self) {
        self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner).stopping = true;
        self.shared.filled.notify_all();
        self.shared.stopped.notify_all();
        for thread in self.threads.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // A thread that panicked has already answered `Stopped` by dropping its jobs.
            let _ = thread.join();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A job that fails undoes only itself, unless SQLite gives up the transaction with it (a full disk).
fn in_savepoint<T>(
    work: &mut Work<'_>,
    body: impl FnOnce(&mut Work<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let head = work.head;
    work.execute("SAVEPOINT job", [])?;
    let result = body(work);
    let mut end = || {
        if result.is_err() {
            work.head = head;
            work.execute("ROLLBACK TO job", [])?;
        }
        work.execute("RELEASE job", [])
    };
    if let Err(ending) = end() {
        let reason = result.as_ref().err().unwrap_or(&ending);
        work.lost = Some(failed("commit", reason));
        return result.and(Err(ending));
    }
    result
}

/// However the writer's thread ends, nobody is left waiting for it.
struct Leaving<'a>(&'a Shared);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        let mut queue = self.0.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.stopping = true;
        queue.lanes = Default::default();
        drop(queue);
        self.0.stopped.notify_all();
    }
}

fn run(shared: &Shared, connection: &Connection, mut head: Head, term: i64, mut keys: Keys) {
    let _leaving = Leaving(shared);
    Log::watch(connection);
    let mut version = data_version(connection);
    let mut foreign = true;
    let mut group = VecDeque::new();
    while !group.is_empty() || next_group(shared, &mut group) {
        let mut answers = Vec::with_capacity(group.len());
        let now = data_version(connection);
        let others_wrote = now.is_none() || now != version;
        foreign |= others_wrote;
        version = now;
        if let Some(capture) = shared.capture.get().filter(|_| others_wrote) {
            capture.note_others();
        }
        let mut work = Work { connection, head, at: 0, term, keys, foreign_writes: foreign, lost: None, leave: None };
        let committed = commit_group(&mut work, &mut group, &mut answers);
        // Gaps are harmless, so that even a failed group's keys are not given again.
        keys = work.keys;
        let (at, leave) = (work.at, work.leave.take().filter(|_| committed.is_ok()));
        if committed.is_ok() {
            head = work.head;
            foreign = work.foreign_writes;
        }
        // Before the answers: whoever has one finds it counted.
        shared.changes.store(connection.total_changes(), Ordering::Release);
        for answer in answers {
            answer(committed.clone());
        }
        // What was committed before there was a capture is found with the first group after.
        if let Some(capture) = shared.capture.get()
            && let Some(pages) = checkpoint::log_grown().or_else(|| capture.wants_a_look().then(checkpoint::log_pages))
        {
            capture.after_commit(pages, Point { head, at }, || data_version(connection) == version);
        }
        shared.log.after_group(connection);
        if let Some((target, told)) = leave {
            let left = super::copy::copy_open(connection, &target);
            let is_left = left.is_ok();
            let _ = told.send(left);
            if is_left {
                // What would be written now would not be in the copy.
                return refuse_all(shared);
            }
        }
    }
}

/// Answers everybody that nothing is written any more, until the program ends.
fn refuse_all(shared: &Shared) {
    let mut group = VecDeque::new();
    while next_group(shared, &mut group) {
        let gone = StoreError::Failed {
            operation: "write",
            reason: "the database was taken away while the program ran; it restarts with a copy".to_owned(),
        };
        for job in group.drain(..) {
            job(Err(gone.clone()))(Ok(()));
        }
    }
}

/// Runs the jobs and commits. Jobs that are still in `group` afterwards were not begun: the
/// transaction was lost before them, and they get another.
fn commit_group(work: &mut Work<'_>, group: &mut VecDeque<Job>, answers: &mut Vec<Answer>) -> StoreResult<()> {
    if let Err(error) = work.execute("BEGIN IMMEDIATE", []) {
        let error = failed("begin to write", &error);
        answers.extend(group.drain(..).map(|job| job(Err(error.clone()))));
        return Err(error);
    }
    let before = work.head;
    while let Some(job) = group.pop_front() {
        answers.push(job(Ok(&mut *work)));
        if let Some(error) = work.lost.take() {
            // Mostly there is nothing left to roll back.
            let _ = work.execute("ROLLBACK", []);
            return Err(error);
        }
    }
    let mut finish = || {
        if work.head != before {
            let value = format!("{}:{}", work.head.seq, work.head.hash.to_hex());
            work.execute("INSERT OR REPLACE INTO facts (name, value) VALUES ('audit_head', ?1)", [value])?;
        }
        work.execute("COMMIT", [])
    };
    if let Err(error) = finish() {
        // A commit that failed may or may not have ended the transaction.
        let _ = work.execute("ROLLBACK", []);
        return Err(failed("commit", &error));
    }
    Ok(())
}

/// Waits for work and takes all there is, lane by lane; false when stopped and empty.
fn next_group(shared: &Shared, group: &mut VecDeque<Job>) -> bool {
    let mut queue = shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        for lane in &mut queue.lanes {
            let room = GROUP_LIMIT - group.len();
            let take = lane.len().min(room);
            group.extend(lane.drain(..take));
        }
        if !group.is_empty() {
            return true;
        }
        if queue.stopping {
            return false;
        }
        queue = shared.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
    }
}

/// Changes exactly when another connection has committed.
fn data_version(connection: &Connection) -> Option<i64> {
    connection.prepare_cached("PRAGMA data_version").ok()?.query_row([], |row| row.get(0)).ok()
}

/// Each opening of the store gets a higher term, by which a stale owner is known.
fn next_term(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row(
        "INSERT INTO facts (name, value) VALUES ('term', '1')
         ON CONFLICT (name) DO UPDATE SET value = CAST(value AS INTEGER) + 1 RETURNING CAST(value AS INTEGER)",
        [],
        |row| row.get(0),
    )
}

fn read_keys(connection: &Connection) -> rusqlite::Result<Keys> {
    connection.query_row(
        "SELECT ifnull((SELECT max(id) FROM intents), 0), ifnull((SELECT max(id) FROM runs), 0), max(ifnull((SELECT max(id) FROM schedules), 0), ifnull((SELECT max(id) FROM timers), 0),
                    ifnull((SELECT CAST(value AS INTEGER) FROM facts WHERE name = 'last_row'), 0))",
        [],
        |row| Ok(Keys { intent: row.get(0)?, run: row.get(1)?, schedule: row.get(2)? }),
    )
}

fn run_checkpoints(shared: &Shared, database: &Path) {
    let _working = shared.log.working();
    let connection = match checkpoint::open(database) {
        Ok(connection) => connection,
        Err(error) => {
            tracing::error!(component = "store", %error, "cannot move the write-ahead log into the database");
            return;
        }
    };
    loop {
        let queue = shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.stopping {
            return;
        }
        drop(shared.stopped.wait_timeout(queue, checkpoint::ROUND));
        shared.log.shorten(&connection);
    }
}
