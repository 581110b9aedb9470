//! Runs as callers see them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::core::model::ImportStats;
use crate::core::run::{RunState, Trigger};
use crate::core::volume::ShortImport;

/// One run.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RunView {
    pub id: i64,
    pub connector: String,
    pub tenant: String,
    /// The slot it ran for; of one that was asked for, when that was.
    pub nominal_iso: String,
    /// When its import began; null while it waits for the run before it.
    pub start_iso: Option<String>,
    pub end_iso: Option<String>,
    /// From its start to its end.
    pub duration_ms: Option<i64>,
    /// From its slot to its start.
    pub late_ms: Option<i64>,
    pub trigger: Trigger,
    pub state: RunState,
    /// Attempts that have ended.
    pub attempts: u32,
    /// When the next attempt is due, while it waits for that.
    pub retry_at_iso: Option<String>,
    /// Null until it has ended.
    pub ok: Option<bool>,
    pub message: Option<String>,
    /// By what would help: unauthorized, rate_limited, unavailable, bad_response, configuration, store, timeout,
    /// deadline, cancelled, interrupted.
    pub error_class: Option<String>,
    /// Of one that goes on, or was cut off: what is stored so far.
    pub stats: Option<ImportStats>,
    /// Set when it ended well but brought far less than its schedule usually does.
    pub short_import: Option<ShortImport>,
    /// Who asked for it; null where its rhythm did.
    pub asked_by: Option<String>,
    /// The action of the audit entries that tell of its being asked for.
    pub action_id: Option<String>,
    /// What its attempts had to say, bounded; only where one run is asked for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub log: Option<Vec<String>>,
}

/// A page of runs, newest first.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RunsPage {
    pub ok: bool,
    pub runs: Vec<RunView>,
    /// Where the next page begins; null on the last one. A page may come short where a filter lets few through.
    pub next_cursor: Option<String>,
}

/// One run, whole.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RunAnswer {
    pub ok: bool,
    pub run: RunView,
}
