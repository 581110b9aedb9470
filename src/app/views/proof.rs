//! How well the store is, and how well its audit log is vouched for.

use super::DiskHealth;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::UpkeepHealth;

#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct AuditHealth {
    /// What the last verification found; null before the first.
    pub valid: Option<bool>,
    pub verified_iso: Option<String>,
    pub verified_entries: Option<u64>,
    /// How far a verification has come, while one goes on.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub verifying: Option<VerifyingView>,
    /// The newest signed end of the log.
    pub checkpoint: Option<CheckpointView>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub message: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct VerifyingView {
    pub entries: i64,
    pub of: i64,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct CheckpointView {
    pub seq: i64,
    pub ts_iso: String,
    /// Whether it lies beside the replica; null where nothing is replicated.
    #[serde(default)]
    pub in_replica: Option<bool>,
    /// Whether it was taken at COMMAND_CENTER_CHECKPOINT_URL; null where that is not set.
    pub posted: Option<bool>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct DbHealth {
    pub status: u8,
    pub engine: String,
    /// How well the audit log is vouched for.
    #[serde(default)]
    pub audit: AuditHealth,
    /// The disk that it lies on.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub disk: Option<DiskHealth>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub message: Option<String>,
    #[serde(flatten, default)]
    pub upkeep: UpkeepHealth,
}
