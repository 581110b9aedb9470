//! Answers about many schedules at once.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::core::plan::ChangeView;

/// What an action on many schedules would do, or has done.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct BulkAnswer {
    /// Nothing stands in the way; once it is carried out: nothing was displaced or refused.
    pub ok: bool,
    /// Nothing was changed: this is the plan.
    pub dry_run: bool,
    /// pause, resume, set, delete, run-now or undo.
    pub action: String,
    /// Schedules that were selected, those that were named and are not there among them.
    pub selected: u64,
    /// Of those, how many change; of run-now, how many are to run.
    pub changing: u64,
    /// Names exactly these changes; `digest` and `confirm` take it.
    pub digest: String,
    /// The first thousand, in order of connector and tenant.
    pub changes: Vec<ChangeView>,
    /// How many more there are.
    pub changes_left_out: u64,
    /// Deletions and pauses that are too many at once: they need `confirm`.
    pub held: u64,
    /// Schedules that stand in the way of all: none is changed. Of `partial`: those that stay as they are.
    pub refused: Vec<BulkRefusal>,
    /// Of every entry that the action wrote; takes it back, see `/ops/bulk/{action_id}/undo`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub action_id: Option<String>,
    /// Sequence numbers of the audit entries it wrote.
    #[serde(default)]
    pub audit: Vec<i64>,
    /// Schedules that an editor changed at the same moment, or that could not be written or started: these
    /// stay as they are, the others are done.
    #[serde(default)]
    pub failed: Vec<BulkRefusal>,
    /// Of run-now: the runs.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub runs: Vec<BulkRun>,
    /// Until when it can be undone.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub undo_until_iso: Option<String>,
}

/// Why one schedule is not changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BulkRefusal {
    /// Empty where a tenant was named that has no schedule with any.
    pub connector: String,
    pub tenant: String,
    pub detail: String,
}

/// A run that run-now started or found waiting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BulkRun {
    pub connector: String,
    pub tenant: String,
    pub run_id: i64,
    /// queued, running or done.
    pub state: String,
}
