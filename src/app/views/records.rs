//! Imported records as callers see them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One record as it was last imported.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RecordView {
    pub connector: String,
    pub tenant: String,
    pub resource: String,
    /// Names it within its resource.
    pub key: String,
    /// SHA-256 of the payload's JSON.
    pub hash: String,
    pub first_seen_iso: String,
    /// To the hour, for records that stay the same.
    pub last_seen_iso: String,
    /// When its content was last new.
    pub changed_iso: String,
    /// As it came; missing where it was not asked for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub payload: Option<Value>,
}

/// A page of a tenant's records, in order of resource and key.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RecordsPage {
    pub ok: bool,
    pub records: Vec<RecordView>,
    /// Where the next page begins; null on the last one.
    pub next_cursor: Option<String>,
}

/// What there is of a tenant's records.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RecordsSummary {
    pub ok: bool,
    pub connector: String,
    pub tenant: String,
    pub records: u64,
    pub bytes: u64,
    pub resources: Vec<ResourceSummary>,
}

/// What there is of one resource.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ResourceSummary {
    pub resource: String,
    pub records: u64,
    /// Of all payloads.
    pub bytes: u64,
    /// When a record came last that had not been there.
    pub newest_iso: Option<String>,
    /// When the content of any changed last.
    pub changed_iso: Option<String>,
    /// Whether a bookmark says up to where its source was read; without one, the next import reads it whole.
    pub bookmark: bool,
}

/// What a deletion took away, or with `dry_run` would.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RecordsDeleted {
    pub ok: bool,
    pub dry_run: bool,
    /// As counted when it was asked for.
    pub records: u64,
    pub resources: Vec<ResourceSummary>,
    /// Empty when nothing was there, and of a dry run.
    pub action_id: String,
    /// Sequence numbers of the audit entries it wrote.
    pub audit: Vec<i64>,
}
