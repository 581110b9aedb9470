//! Counts that the store makes for analytics.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::core::model::ImportStats;

/// Counts over the whole fleet, for analytics.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct FleetCounts {
    pub schedules: u64,
    pub paused: u64,
    pub failing: u64,
    pub runs_total: u64,
    pub runs_ok: u64,
    pub runs_failed: u64,
    pub records: u64,
    pub audit_entries: u64,
    /// Slots that passed without a run, of the schedules there are.
    #[serde(default)]
    pub missed: u64,
}

/// One tenant's run history in numbers, per connector.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct TenantCounts {
    pub connector: String,
    pub runs_total: u64,
    pub runs_ok: u64,
    pub runs_failed: u64,
    pub stats: ImportStats,
    /// Mean length of the finished runs, milliseconds.
    pub mean_duration_ms: Option<f64>,
    pub records: u64,
}

/// A name and how often it occurs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Counted {
    pub name: String,
    pub count: u64,
}

/// Audit entries counted by what they say.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct AuditCounts {
    pub total: u64,
    pub by_operation: Vec<Counted>,
    pub by_source: Vec<Counted>,
    pub by_actor: Vec<Counted>,
    /// By hour (RFC 3339 start of the bucket).
    pub by_bucket: Vec<Counted>,
}
