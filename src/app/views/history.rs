//! History and rollback as callers see them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::core::plan::{ChangeView, FieldChange};

/// A page of a schedule's history, newest revision first.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct HistoryPage {
    pub ok: bool,
    pub connector: String,
    pub tenant: String,
    pub file: String,
    /// Whether there is a schedule now; history outlives it.
    pub exists: bool,
    pub revisions: Vec<RevisionView>,
    /// Where the next page begins; null on the last one.
    pub next_cursor: Option<String>,
}

/// One content that the file had.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RevisionView {
    /// Counted from 1 in each schedule; a rollback takes it.
    pub revision: i64,
    /// created, updated, paused, resumed or deleted; `found` where history began after the schedule.
    pub change: String,
    pub ts: f64,
    pub ts_iso: String,
    pub source: String,
    pub actor: String,
    /// Shared with the audit entries of the change; empty where nobody wrote it down.
    pub action_id: String,
    /// SHA-256 of the file's bytes, its ETag then; null for a deletion.
    pub digest: Option<String>,
    /// Whether the content is there to go back to.
    pub available: bool,
    /// What differs from the revision before, as written; empty where only comments or layout do.
    pub diff: Vec<FieldChange>,
    /// The file's text, when asked for; what looks like a secret is masked.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub content: Option<String>,
}

/// What going back to a moment would do, or has done.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RollbackAnswer {
    /// Nothing was left or refused.
    pub ok: bool,
    /// Nothing was changed: this is the plan.
    pub dry_run: bool,
    pub to_iso: String,
    /// Names exactly these changes; `confirm` takes it.
    pub digest: String,
    pub changes: Vec<ChangeView>,
    /// Files that stay as they are although they were otherwise then, and why.
    pub left: Vec<LeftFile>,
    /// The plan as people read it.
    pub text: String,
    /// Of every entry that the rollback wrote.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub action_id: Option<String>,
    /// One for each change, once it is carried out.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub results: Vec<RollbackResult>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct LeftFile {
    /// Empty where the file is no schedule's.
    pub connector: String,
    pub tenant: String,
    pub file: String,
    pub reason: String,
}

/// How one schedule's part of a rollback went.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RollbackResult {
    pub connector: String,
    pub tenant: String,
    pub action: String,
    pub ok: bool,
    /// Why it was not done.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub detail: Option<String>,
    /// Sequence numbers of its audit entries.
    pub audit: Vec<i64>,
}
