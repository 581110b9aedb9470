//! What callers see: the shapes of answers, shared by the API, its OpenAPI document and the
//! command line.

mod bulk;
mod forecast;
mod history;
mod loops;
mod proof;
mod records;
mod runs;
mod upkeep;
mod windows;

pub use bulk::{BulkAnswer, BulkRefusal, BulkRun};
pub use forecast::{FireView, ForecastAnswer, HourView, JumpView, LoadView, MinuteView, ScheduleForecast};
pub use history::{HistoryPage, LeftFile, RevisionView, RollbackAnswer, RollbackResult};
pub use loops::{DiskHealth, LoopHealth, LoopState, LoopsHealth};
pub use proof::{AuditHealth, CheckpointView, DbHealth, VerifyingView};
pub use records::{RecordView, RecordsDeleted, RecordsPage, RecordsSummary, ResourceSummary};
pub use runs::{RunAnswer, RunView, RunsPage};
pub use upkeep::{BackupState, BackupView, BackupsView, CheckView, RestoredView, SnapshotView, UpkeepHealth};
pub use windows::{WindowChange, WindowStretch, WindowView, WindowsAnswer};

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::core::desired::Diagnostic;
use crate::core::model::{LastStatus, RunResult, ScheduleSpec};
use crate::core::plan::{Cause, ChangeView, Facet, FieldChange};

/// One schedule's status (contract part 2).
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ScheduleStatus {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub interval_sec: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cron: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub timezone: Option<String>,
    pub paused: bool,
    pub pause_reason: Option<String>,
    /// When the pause lifts by itself; only while it stands.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pause_until: Option<String>,
    /// End of the last run, epoch seconds.
    pub last_run: Option<f64>,
    pub last_run_iso: Option<String>,
    pub next_run_iso: Option<String>,
    /// Whole seconds until the next run, null while paused; 0 when it is overdue.
    pub next_run_in_sec: Option<u64>,
    pub running: bool,
    /// Its time has come, and the run has not started: beyond a grace of 5 seconds, or of 2 % of the
    /// interval where that is longer.
    #[serde(default)]
    pub overdue: bool,
    /// Seconds since that time came; only while it is overdue.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub overdue_sec: Option<u64>,
    /// A run is claimed and waits to start.
    #[serde(default)]
    pub queued: bool,
    /// The limit it waits for: `global`, `connector`, `tenant`, `credential` or `rate`; `run` where it waits
    /// for the schedule's run before it, `retry` for its next attempt, `source` until its source wants to be
    /// asked again, `window` for a maintenance window's end, `brake` for the brake.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub waiting_for: Option<String>,
    /// Until when it waits, where that is known: for `retry`, `source` and `window`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub waiting_until_iso: Option<String>,
    /// How late the last run started that the schedule itself started, milliseconds.
    #[serde(default)]
    pub last_late_ms: Option<i64>,
    /// Slots that passed without a run since the schedule was made.
    #[serde(default)]
    pub missed: u64,
    /// The same by reason: `folded`, `overlap`, `brake`, `window`, `deadline`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub missed_by: BTreeMap<String, u64>,
    pub last_status: Option<LastStatus>,
    /// The last run ended well but brought far less than usual: `last_status.short_import` says how much.
    #[serde(default)]
    pub short: bool,
    pub consecutive_failures: u32,
    /// Relative to the desired directory.
    pub file: String,
    /// SHA-256 of the file's bytes as last applied.
    pub etag: String,
    /// synced, pending, drifted, invalid or held.
    pub sync: String,
    /// More on `sync`, where there is more to say.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sync_reason: Option<String>,
    /// The maintenance window that the next run waits for: `next_run_iso` is its end.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub window: Option<String>,
}

/// A schedule as written, with its effective value.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ScheduleView {
    pub ok: bool,
    pub connector: String,
    pub tenant: String,
    pub file: String,
    pub etag: String,
    /// The file's content as a value, `null` when it is invalid.
    pub written: Value,
    /// What it means with defaults filled in; the last good one when the file is invalid.
    pub effective: ScheduleSpec,
    /// Where each effective value comes from, by the field's dotted name.
    #[serde(default)]
    pub origin: BTreeMap<String, OriginView>,
    pub status: ScheduleStatus,
}

/// An effective value and where it comes from.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct OriginView {
    pub value: Value,
    /// `file`, the path of a defaults file, `built-in`, or `last applied` where the files say otherwise by now.
    pub from: String,
    /// Its line there.
    pub line: Option<u32>,
}

/// A successful mutation's answer.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct MutationAnswer {
    pub ok: bool,
    /// The tenant it touched; empty after a delete.
    pub schedules: BTreeMap<String, ScheduleStatus>,
    pub action_id: String,
    /// Sequence numbers of the audit entries it wrote.
    pub audit: Vec<i64>,
}

/// Run-now's answer: with 200 the run has ended, with 202 it goes on.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RunNowAnswer {
    /// Whether the import succeeded; true while it is still running.
    pub ok: bool,
    pub run_id: i64,
    /// queued, running or done.
    pub state: String,
    pub message: String,
    pub result: Option<RunResult>,
    pub schedules: BTreeMap<String, ScheduleStatus>,
    pub action_id: String,
    pub audit: Vec<i64>,
}

/// Which runs were stopped.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct CancelAnswer {
    pub ok: bool,
    /// The ids of the runs that were stopped.
    pub cancelled: Vec<i64>,
    pub action_id: String,
    pub audit: Vec<i64>,
}

/// What a backfill began, or with `dry_run` would begin.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct BackfillAnswer {
    pub ok: bool,
    pub dry_run: bool,
    /// The slots, the oldest first, in which order they run.
    pub slots: Vec<BackfillSlot>,
    /// Slots that have had a run before, and get no other.
    pub skipped: u64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub action_id: Option<String>,
    pub audit: Vec<i64>,
}

/// A slot of the past.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct BackfillSlot {
    pub nominal_iso: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub run_id: Option<i64>,
}

/// `/ops/health`: counts, ids, places and error classes; values stand in `/ops/drift`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Health {
    pub ok: bool,
    pub ts_iso: String,
    pub uptime_sec: u64,
    pub version: String,
    /// starting, serving, restarting or stopping.
    #[serde(default)]
    pub phase: String,
    pub scheduler: SchedulerHealth,
    pub db: DbHealth,
    pub replication: ReplicationHealth,
    pub desired: DesiredHealth,
    #[serde(default = "LoopsHealth::unknown")]
    pub loops: LoopsHealth,
    pub drift: DriftTotals,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SchedulerHealth {
    /// 1 well, 0 not.
    pub status: u8,
    pub schedules: u64,
    pub paused: u64,
    pub running: u64,
    /// Claimed runs that wait: for a limit, for the run of the same schedule before them, for their next attempt.
    pub queued: u64,
    /// Those that wait for a limit, by which, or for a `retry`, a `source`, a `window` or the `brake`.
    #[serde(default)]
    pub waiting_for: BTreeMap<String, u64>,
    /// Schedules whose time has come and whose run has not started, beyond a grace.
    pub overdue: u64,
    /// Slots that passed without a run since the program started, by reason.
    #[serde(default)]
    pub missed: BTreeMap<String, u64>,
    /// Seconds since the dispatcher last showed progress.
    pub last_progress_sec: f64,
    pub next_due_iso: Option<String>,
    /// Brakes that are pulled: `fleet` or `connector/tenant`.
    pub brakes: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub message: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ReplicationHealth {
    /// 0 when this server may not write there, or the copy is more than 30 s behind.
    pub status: u8,
    pub mode: String,
    /// `off`, `streaming`, `catching_up`, `away` or `refused`.
    pub state: String,
    pub last_seq: Option<i64>,
    pub lag_entries: u64,
    pub lag_sec: f64,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct DesiredHealth {
    pub status: u8,
    pub schedules: u64,
    pub synced: u64,
    pub invalid: u64,
    pub held: u64,
    /// Of those held, how many a person has decided against; they do not make the status 0.
    #[serde(default)]
    pub dismissed: u64,
    /// Digest over the directory's listing, changing with any file.
    pub revision: String,
    /// The git commit the directory stands at, when it is in a work tree.
    pub commit: Option<String>,
    /// How the work with the repository goes, where any is asked for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub git: Option<GitHealth>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub message: Option<String>,
}

/// Commits, pushes and pulls of the desired directory's repository.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct GitHealth {
    /// Which of commit, push and pull are on.
    pub mode: String,
    /// The commit that is checked out.
    pub head: Option<String>,
    /// The remote and its branch.
    pub upstream: Option<String>,
    /// Commits that the remote branch lacks.
    pub ahead: Option<u64>,
    /// Changes made through the API that are still to be committed.
    pub pending: u64,
    pub last_pull_iso: Option<String>,
    /// What fails at the moment; it is tried again.
    pub last_error: Option<String>,
    pub failing_since_iso: Option<String>,
}

/// The drift report's totals.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct DriftTotals {
    /// Schedules per sync state.
    pub sync: BTreeMap<String, u64>,
    pub invalid_files: Vec<InvalidFile>,
    pub held: Vec<HeldChange>,
    /// Confirms the held changes: `apply --confirm DIGEST`.
    pub held_digest: Option<String>,
    /// The decision not to take the held changes, if there is one; not in `/ops/health`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub dismissed: Option<DismissalView>,
    pub last_full_reconcile: Option<PassReport>,
    pub convergence: Convergence,
}

/// A file that is not applied, by place and class; never by value.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct InvalidFile {
    pub file: String,
    pub since_iso: String,
    pub diagnostics: Vec<Diagnostic>,
    /// Each finding drawn over the lines it is about; for operators only, and for the first 200 files.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub frames: Vec<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct HeldChange {
    pub connector: String,
    pub tenant: String,
    pub action: String,
    pub reason: String,
    pub since_iso: String,
}

/// A person's decision against what is held.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct DismissalView {
    pub digest: String,
    pub reason: String,
    pub actor: String,
    pub at_iso: String,
}

/// What waits for a person.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct HoldsAnswer {
    pub ok: bool,
    /// Names exactly these steps, to confirm (`apply --confirm`) or to dismiss them; null when
    /// nothing is held.
    pub digest: Option<String>,
    pub holds: Vec<HoldView>,
    /// Set when somebody has decided against them.
    pub dismissed: Option<DismissalView>,
}

/// One held step.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct HoldView {
    #[serde(flatten)]
    pub change: ChangeView,
    pub since_iso: String,
}

/// A step in which a plan differs from the one that was confirmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MovedStep {
    pub connector: String,
    pub tenant: String,
    pub action: String,
    /// `new`, `gone` or `different`, against the confirmed plan.
    pub how: String,
}

/// What a full reconcile did.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct PassReport {
    pub at_iso: String,
    pub duration_ms: f64,
    pub files: u64,
    pub changes: u64,
    pub repaired: u64,
    pub invalid: u64,
    pub held: u64,
    /// Why the pass did not look at everything, if so (git at work, directory unreadable).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub waiting: Option<String>,
}

/// From noticing a change to having applied it, milliseconds, over the last thousand.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Convergence {
    pub samples: u64,
    pub p50_ms: f64,
    pub p99_ms: f64,
}

/// The whole drift report.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct DriftReport {
    pub ok: bool,
    pub totals: DriftTotals,
    /// Everything that is not as desired at this moment.
    pub items: Vec<DriftItem>,
    /// What was repaired within the last day, the last first, and how often it came back.
    #[serde(default)]
    pub recurring: Vec<RecurringDrift>,
}

/// One field that is not as desired; null where a side has none.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct FieldDrift {
    /// Dotted, e.g. `connection.base_url`.
    pub field: String,
    pub desired: Value,
    pub actual: Value,
    /// What the file said when it was last applied.
    pub last_applied: Value,
}

/// Drift that was repaired, counted since it first came up.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RecurringDrift {
    pub connector: String,
    pub tenant: String,
    pub facet: Facet,
    pub cause: Cause,
    pub first_seen_iso: String,
    pub last_seen_iso: String,
    pub times_seen: u64,
}

/// One facet of one schedule that is not as desired.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct DriftItem {
    pub connector: String,
    pub tenant: String,
    pub facet: Facet,
    pub desired: Value,
    pub actual: Value,
    /// The same field by field, with what was last applied.
    pub fields: Vec<FieldDrift>,
    pub cause: Cause,
    /// Who brought it about, where that is known.
    pub actor: Option<String>,
    pub since_iso: String,
    /// When it first came up; earlier than `since_iso` for what was repaired and came back.
    pub first_seen_iso: String,
    /// How often it has come up, not how often it was looked at.
    pub times_seen: u64,
    pub sync: String,
    /// What the loop will do about it.
    pub action: String,
    /// When it tries next.
    pub next_try_iso: Option<String>,
}

/// `diff`'s answer.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct DiffAnswer {
    pub ok: bool,
    pub digest: String,
    pub changes: Vec<ChangeView>,
    /// Files of defaults that change.
    #[serde(default)]
    pub defaults: Vec<DefaultsChange>,
    /// Maintenance windows that change: which slots run, not which schedules there are.
    #[serde(default)]
    pub windows: Vec<WindowChange>,
    /// What is to be thought of first: minutes that would become much busier.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Files that cannot be used; with any of them a diff is an error, never "no difference".
    pub invalid: Vec<Diagnostic>,
    pub text: String,
    pub markdown: String,
}

/// What changes in a file of defaults.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct DefaultsChange {
    pub file: String,
    /// create, update or delete.
    pub action: String,
    pub diff: Vec<FieldChange>,
}

/// `apply`'s answer.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ApplyAnswer {
    pub ok: bool,
    pub pass: PassReport,
    pub held: Vec<HeldChange>,
    pub held_digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub dismissed: Option<DismissalView>,
    pub invalid: Vec<InvalidFile>,
}

/// One brake that is pulled.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct BrakeView {
    /// `fleet` or `connector/tenant`.
    pub scope: String,
    pub reason: String,
    pub actor: String,
    pub since_iso: String,
}
