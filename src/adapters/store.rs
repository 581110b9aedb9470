//! Where the fleet's state is kept. `Store` is what the rest of the program relies on; an engine is
//! right when it passes `conformance`. Several nodes may share one store: a claim is exclusive
//! because its key is unique, and every claim carries the node's fencing term.

mod audit;
#[cfg(test)]
mod conformance;
mod counts;
mod inbox;
mod many;
#[cfg(test)]
pub mod memory;
mod network;
mod notes;
mod past;
mod records;
mod reserve;
mod runs;
mod sqlite;
mod upkeep;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::mpsc;

pub use audit::{AuditStore, Damage, Seal, Sealed, SealedFacts};
pub use counts::{AuditCounts, Counted, FleetCounts, TenantCounts};
pub use inbox::{Inbox, WaitingEvent, WebhookEvent};
pub use many::{Deed, SpecQuery, SpecRow};
pub use network::network_path;
pub use notes::{ANSWER_TTL_MS, Brake, Dismissal, Hold, Problem, Remembered};
pub use past::{PastRun, Pruned, RunHistory, RunPage, RunQuery};
pub use records::{RecordPage, RecordQuery, RecordStore, ResourceCount, StoredRecord};
pub use reserve::Space;
pub use runs::{Advance, Asked, Claim, Claimed, Completion, Granted, OpenRun, Parked, VolumeNote};
pub use sqlite::{Capture, CopyFacts, Frozen, SqliteStore, StateError, Taken, lock_path, rescue, verify_copy};
pub use upkeep::{Copied, Depth, Pace, Progress, Soundness, Upkeep};

use crate::adapters::connectors::Page;
use crate::core::audit::{Draft, Entry, Head};
use crate::core::missed::Missed;
use crate::core::model::{Connector, Digest, ImportStats, LastStatus, Millis, Resource, RunResult, ScheduleId, Source};
use crate::core::row::{Fingerprint, RowSpec};
use crate::core::volume::ShortImport;

/// What a store can fail at. Cheap to clone: one failed commit answers everyone in its group.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot open the store {path}: {reason}")]
    Open { path: String, reason: String },
    #[error("the store {path} is in use by another Command Center; stop that one, or choose another with --dsn")]
    Locked { path: String },
    #[error(
        "the store {path} was written by a newer version (schema {found}, this program knows {known}); nothing was changed. Upgrade this program, or go back to the snapshot that was made before the store was brought up to date: command-center restore DATA_DIR/snapshots/NAME --force"
    )]
    Newer { path: String, found: i64, known: i64 },
    #[error("the disk that holds the store is full; free some space, nothing was changed")]
    Full,
    /// What lies on the disk is not what was written.
    #[error("the store is damaged: could not {operation}: {reason}")]
    Corrupt { operation: String, reason: String },
    #[error("could not {operation}: {reason}")]
    Failed { operation: &'static str, reason: String },
    #[error(transparent)]
    Damaged(#[from] Damage),
    #[error("the store is shutting down")]
    Stopped,
}

pub type StoreResult<T> = Result<T, StoreError>;
pub type StoreFuture<'a, T> = BoxFuture<'a, StoreResult<T>>;

/// A change of one schedule with the audit entries that tell of it.
#[derive(Clone, Debug)]
pub struct Change {
    pub id: ScheduleId,
    pub kind: ChangeKind,
    /// Whose revision it is, where the file's content changes.
    pub by: Author,
    pub audit: Vec<Draft>,
}

/// Who made a revision, by which way and in which action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    pub source: Source,
    pub actor: String,
    pub action_id: String,
}

#[derive(Clone, Debug)]
pub enum ChangeKind {
    Put(Box<Put>),
    Delete,
    /// Nothing but the audit entries.
    Note,
}

/// A schedule's row as it is to be from now on.
#[derive(Clone, Debug)]
pub struct Put {
    /// The key a lost row had, to be given again.
    pub row: Option<i64>,
    pub spec: RowSpec,
    /// Of `spec`.
    pub fingerprint: Fingerprint,
    /// Of `content`.
    pub digest: Digest,
    /// Of `content` and the defaults below it; `digest` where there are none.
    pub basis: Digest,
    pub content: Vec<u8>,
    pub stamp: u64,
    /// A timer that stood still and gets a due time counts its failures in a row anew.
    pub next_due: Option<Millis>,
    /// `next_due` is where the timer stood when the row was read: one that has moved on since stays there.
    pub keeps_due: bool,
}

/// An edit that is promised before its file is touched; replayed at start if it had not got there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    pub id: ScheduleId,
    /// Digest of the file the edit was made from; `None` when there was no file.
    pub base: Option<Digest>,
    /// The file's new bytes; `None` deletes it.
    pub content: Option<Vec<u8>>,
    /// What git is to be told of it, where it commits such edits.
    pub commit: Option<CommitNote>,
}

/// Who made an edit and why, for its commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitNote {
    pub actor: String,
    pub action_id: String,
    pub message: String,
}

/// An edit that is still to be committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitDue {
    pub key: i64,
    pub at: Millis,
    pub intent: Intent,
}

/// One content that a schedule's file had, from its change on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    /// Counted from 1 in each schedule.
    pub number: i64,
    pub at: Millis,
    pub source: String,
    pub actor: String,
    /// Empty where history began after the schedule: nobody wrote down who made it.
    pub action_id: String,
    /// `None` where the schedule was deleted.
    pub digest: Option<Digest>,
    /// As asked for; `None` also when it was lost or damaged beside the program.
    pub content: Option<Vec<u8>>,
}

/// Which revisions of a schedule to read, newest first.
#[derive(Clone, Debug)]
pub struct RevisionQuery {
    pub id: ScheduleId,
    /// Only revisions with a smaller number.
    pub before: Option<i64>,
    /// Only revisions made at this time or earlier.
    pub until: Option<Millis>,
    /// Only contents whose digest begins so, in lower-case hex.
    pub digest_prefix: Option<String>,
    pub limit: u32,
    pub with_content: bool,
}

/// A content by its digest; the bytes are missing when they were lost or damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    pub digest: Digest,
    pub content: Option<Vec<u8>>,
}

/// A schedule as it was at some moment, and as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastState {
    pub id: ScheduleId,
    /// When its first revision was made.
    pub known_since: Millis,
    /// It had been there before its first revision.
    pub is_begun_late: bool,
    /// The revision that was in force; `None` when there was none yet.
    pub number: Option<i64>,
    /// `None` when there was no schedule.
    pub then: Option<Version>,
    pub now: Option<Version>,
}

/// What a transaction of changes left behind.
#[derive(Clone, Debug, Default)]
pub struct Applied {
    /// The row's key per change; 0 where there is none.
    pub rows: Vec<i64>,
    /// Sequence numbers of the audit entries, in order.
    pub seqs: Vec<i64>,
    /// One per intent.
    pub promised: Vec<Promised>,
}

/// An intent that the store has taken on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promised {
    pub intent: i64,
    /// The key of the commit that is due, where there is to be one.
    pub commit: Option<i64>,
}

/// The stat of a file whose content has this digest.
#[derive(Clone, Copy, Debug)]
pub struct Stamp {
    pub row: i64,
    pub digest: Digest,
    pub stamp: u64,
}

/// What start-up needs of each schedule.
#[derive(Clone, Debug)]
pub struct FleetRow {
    pub row: i64,
    pub connector: Connector,
    pub tenant: String,
    pub interval_sec: Option<u32>,
    pub cron: Option<String>,
    pub timezone: Option<String>,
    /// The rules for its runs: see `core::policy::policy_text`.
    pub policy: String,
    pub paused: bool,
    pub pause_until: Option<Millis>,
    /// Fingerprint of the columns as they are now.
    pub actual: Fingerprint,
    /// Fingerprint of the columns as they were last applied.
    pub applied: Fingerprint,
    pub digest: Digest,
    /// What the row was worked out from: see `Put`.
    pub basis: Digest,
    pub stamp: u64,
    pub next_due: Option<Millis>,
}

/// One schedule's row, whole.
#[derive(Clone, Debug)]
pub struct ScheduleRow {
    pub row: i64,
    pub spec: RowSpec,
    pub digest: Digest,
    /// What the row was worked out from: see `Put`.
    pub basis: Digest,
    pub content: Vec<u8>,
    pub stamp: u64,
    pub next_due: Option<Millis>,
    pub last: LastRun,
}

/// The last run as the status shows it.
#[derive(Clone, Debug, Default)]
pub struct LastRun {
    pub ended: Option<Millis>,
    pub ok: Option<bool>,
    pub message: Option<String>,
    pub stats: ImportStats,
    pub short: Option<ShortImport>,
    pub failures: u32,
    /// From its slot to its start, of the last run that the schedule itself started.
    pub late_ms: Option<Millis>,
    /// Slots that passed without a run since the schedule was made.
    pub missed: Missed,
}

impl LastRun {
    pub fn status(&self) -> Option<LastStatus> {
        Some(LastStatus {
            ok: self.ok?,
            ts: crate::core::timing::seconds(self.ended?),
            message: self.message.clone().unwrap_or_default(),
            result: RunResult { stats: self.stats },
            short_import: self.short.clone(),
        })
    }
}

/// One schedule's stored half of its status.
#[derive(Clone, Debug)]
pub struct StatusRow {
    pub row: i64,
    pub tenant: String,
    pub interval_sec: Option<u32>,
    pub cron: Option<String>,
    pub timezone: Option<String>,
    pub paused: bool,
    pub pause_reason: Option<String>,
    pub pause_until: Option<Millis>,
    pub digest: Digest,
    pub next_due: Option<Millis>,
    pub last: LastRun,
}

/// Which statuses to read: in order of row key, after `after`, `limit` at most.
#[derive(Clone, Debug)]
pub struct StatusQuery {
    pub connector: Connector,
    pub tenant: Option<String>,
    pub after: i64,
    pub limit: u32,
}

/// Which audit entries to read, newest first.
#[derive(Clone, Debug, Default)]
pub struct AuditQuery {
    /// This connector's entries, and those of none.
    pub connector: Option<Connector>,
    pub tenant: Option<String>,
    pub operation: Option<String>,
    pub source: Option<String>,
    pub since: Option<Millis>,
    pub until: Option<Millis>,
    /// Only entries with a smaller sequence number.
    pub before: Option<i64>,
    pub limit: u32,
}

/// Facts for `/ops/db`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct StoreFacts {
    pub engine: String,
    /// Without secrets.
    pub dsn: String,
    pub schema_version: i64,
    pub size_bytes: u64,
    pub wal_bytes: u64,
    /// Rows by table.
    pub rows: std::collections::BTreeMap<String, u64>,
    /// Bytes by table with its indexes; empty for a store above 256 MiB, where measuring would read too much.
    #[serde(default)]
    pub table_bytes: std::collections::BTreeMap<String, u64>,
    /// Bytes within the file that are free: they are used again before the file grows.
    #[serde(default)]
    pub free_bytes: u64,
    /// The oldest audit entries, sealed into compressed blocks.
    #[serde(default)]
    pub audit_sealed: SealedFacts,
    /// When the last integrity check ran, RFC 3339, and what it found.
    pub last_integrity_check: Option<Value>,
    /// The newest snapshot: see /ops/snapshots.
    pub last_snapshot: Option<Value>,
    /// The daily backup's hour and the newest backup.
    #[serde(default)]
    pub backups: Option<Value>,
    /// What this store was restored from and what it lacks, if it was.
    #[serde(default)]
    pub restored: Option<Value>,
}

/// Keeps schedules, runs, records and the audit log. A future that resolves to `Ok` means durable.
pub trait Store: RecordStore + RunHistory + Inbox + Upkeep + AuditStore + Send + Sync {
    /// Applies all changes, their audit entries and the intents, or none of it. A change that brings
    /// another content, or takes the schedule away, makes a revision.
    fn apply(&self, changes: Vec<Change>, intents: Vec<Intent>, now: Millis) -> StoreFuture<'_, Applied>;
    /// As `apply`, of what takes an earlier change back: done also where the disk has no room for changes.
    fn take_back(&self, changes: Vec<Change>, now: Millis) -> StoreFuture<'_, Applied> {
        self.apply(changes, Vec::new(), now)
    }
    /// Appends audit entries that go with no change.
    fn append(&self, drafts: Vec<Draft>, now: Millis) -> StoreFuture<'_, Vec<i64>>;
    /// Takes slots; the answer says what came of each claim.
    fn claim(&self, claims: Vec<Claim>, now: Millis) -> StoreFuture<'_, Vec<Granted>>;
    /// Moves timers without a run, e.g. past a slot that is skipped. The answer says of each whether the
    /// schedule was as it is known.
    fn advance(&self, advances: Vec<Advance>) -> StoreFuture<'_, Vec<bool>>;
    /// Moves timers from the end of a pause to a slot, each with the entry that tells of it; where the
    /// timer stands elsewhere by now, neither. The answer is as with `advance`.
    fn lift(&self, lifts: Vec<(Advance, Draft)>, now: Millis) -> StoreFuture<'_, Vec<bool>>;
    /// A run that had waited goes on; the answer is whether it has not ended meanwhile.
    fn begin_run(&self, run: i64) -> StoreFuture<'_, bool>;
    /// An attempt failed; the run waits for the next one.
    fn park_run(&self, parked: Parked) -> StoreFuture<'_, ()>;
    /// Ends a run; the answer is how many of its schedule have failed in a row.
    fn complete(&self, completion: Completion) -> StoreFuture<'_, u32>;
    /// Stores pages' records and bookmarks, all or none, and counts new, changed and unchanged ones. The run that
    /// brings them has the counts added to its own, as long as it has not ended.
    fn write_pages(&self, id: ScheduleId, run: i64, pages: Vec<Page>, now: Millis) -> StoreFuture<'_, ImportStats>;
    fn bookmark(&self, id: ScheduleId, resource: Resource) -> StoreFuture<'_, Option<Value>>;
    /// Remembers the stats of files whose content is what was applied, so that the next start need not read
    /// them again; of rows that have another content by now, none.
    fn set_stamps(&self, stamps: Vec<Stamp>) -> StoreFuture<'_, ()>;
    /// Records a file that cannot be used, with entries for the audit.
    fn put_problem(&self, problem: Problem, drafts: Vec<Draft>, now: Millis) -> StoreFuture<'_, ()>;
    fn clear_problem(&self, path: String, drafts: Vec<Draft>, now: Millis) -> StoreFuture<'_, ()>;
    /// Keeps a defaults file's last good content, or forgets it, with entries for the audit.
    fn put_defaults(
        &self,
        path: String,
        content: Option<Vec<u8>>,
        drafts: Vec<Draft>,
        now: Millis,
    ) -> StoreFuture<'_, ()>;
    fn put_brake(&self, brake: Brake, draft: Draft) -> StoreFuture<'_, Vec<i64>>;
    fn release_brake(&self, scope: String, draft: Draft, now: Millis) -> StoreFuture<'_, Vec<i64>>;
    /// Replaces what is held and what was decided against, with entries for the audit.
    fn put_holds(
        &self,
        holds: Vec<Hold>,
        dismissal: Option<Dismissal>,
        drafts: Vec<Draft>,
        now: Millis,
    ) -> StoreFuture<'_, Vec<i64>>;
    /// Drops intents whose files are known to be on disk.
    fn forget_intents(&self, ids: Vec<i64>) -> StoreFuture<'_, ()>;
    /// Drops edits that a commit has, or whose change was taken back.
    fn forget_commits(&self, keys: Vec<i64>) -> StoreFuture<'_, ()>;
    /// Remembers the commit at which a pass has seen everything.
    fn note_commit(&self, commit: String) -> StoreFuture<'_, ()>;
    fn remember_answer(&self, key: String, remembered: Remembered, now: Millis) -> StoreFuture<'_, ()>;

    fn schedule_count(&self) -> StoreFuture<'_, usize>;
    /// Every schedule, in order of row key, in batches.
    fn fleet(&self) -> mpsc::Receiver<StoreResult<Vec<FleetRow>>>;
    fn statuses(&self, query: StatusQuery) -> mpsc::Receiver<StoreResult<Vec<StatusRow>>>;
    /// The whole audit log, oldest first, in batches.
    fn audit_log(&self) -> mpsc::Receiver<StoreResult<Vec<Entry>>>;
    fn audit_page(&self, query: AuditQuery) -> StoreFuture<'_, Vec<Entry>>;
    /// The head the store last wrote down.
    fn audit_head(&self) -> StoreFuture<'_, Head>;
    fn schedule(&self, id: ScheduleId) -> StoreFuture<'_, Option<ScheduleRow>>;
    fn revisions(&self, query: RevisionQuery) -> StoreFuture<'_, Vec<Revision>>;
    /// Every schedule there ever was, as it was at `at` and as it is, in order of their names.
    fn fleet_at(&self, at: Millis) -> mpsc::Receiver<StoreResult<Vec<PastState>>>;
    /// Specifications in order of their names.
    fn specs(&self, query: SpecQuery) -> mpsc::Receiver<StoreResult<Vec<SpecRow>>>;
    /// What an action changed, in order of the schedules' names.
    fn deeds(&self, action_id: String) -> StoreFuture<'_, Vec<Deed>>;
    fn open_runs(&self) -> StoreFuture<'_, Vec<OpenRun>>;
    fn intents(&self) -> StoreFuture<'_, Vec<(i64, Intent)>>;
    /// Edits still to be committed, oldest first.
    fn commits_due(&self, limit: u32) -> StoreFuture<'_, Vec<CommitDue>>;
    /// The commit that was last noted.
    fn noted_commit(&self) -> StoreFuture<'_, Option<String>>;
    fn problems(&self) -> StoreFuture<'_, Vec<Problem>>;
    /// The last good content of every defaults file there was, by path.
    fn defaults(&self) -> StoreFuture<'_, Vec<(String, Vec<u8>)>>;
    fn brakes(&self) -> StoreFuture<'_, Vec<Brake>>;
    fn holds(&self) -> StoreFuture<'_, (Vec<Hold>, Option<Dismissal>)>;
    /// The answer given under the key within the last day.
    fn answer(&self, key: String, now: Millis) -> StoreFuture<'_, Option<Remembered>>;
    fn facts(&self) -> StoreFuture<'_, StoreFacts>;
    fn fleet_counts(&self) -> StoreFuture<'_, FleetCounts>;
    fn tenant_counts(&self, tenant: String) -> StoreFuture<'_, Vec<TenantCounts>>;
    fn audit_counts(&self, since: Option<Millis>, until: Option<Millis>) -> StoreFuture<'_, AuditCounts>;
    /// Whether anyone but this process has written since the last call; when in doubt, true.
    fn changed_by_others(&self) -> StoreFuture<'_, bool>;
    /// The space on its disk, where it lies on one.
    fn space(&self) -> Option<Arc<Space>> {
        None
    }
    /// Has whoever writes show that it still does.
    fn probe(&self) -> StoreFuture<'_, ()> {
        Box::pin(std::future::ready(Ok(())))
    }
    /// How often whoever keeps the write-ahead log short has come round; `Stopped` when it is gone.
    fn checkpoint_rounds(&self) -> StoreResult<u64> {
        Ok(0)
    }
    /// Finishes what was handed in and closes; later calls answer `Stopped`.
    fn close(&self);
}

/// The store as everyone holds it.
pub type SharedStore = Arc<dyn Store>;
