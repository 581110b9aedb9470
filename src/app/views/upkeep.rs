//! Copies of the store, checks of it, and what a restored one lacks, as answers show them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::adapters::snapshots::Snapshot;
use crate::core::timing::iso;

/// A snapshot: a folder with the store's state, a copy of its database and a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SnapshotView {
    /// The folder's name: when it was made and where the audit log ended.
    pub name: String,
    pub at_iso: String,
    pub bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub audit_seq: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub audit_hash: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub schema_version: Option<i64>,
    /// Of the program that made it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub version: Option<String>,
    /// `interval`, `stop`, `asked`, `upgrade`, `restored`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// Why it cannot be used, if that shows at a glance.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub problem: Option<String>,
}

impl SnapshotView {
    pub fn of(snapshot: &Snapshot) -> SnapshotView {
        let manifest = snapshot.manifest.as_ref().ok();
        SnapshotView {
            name: snapshot.name.clone(),
            at_iso: iso(snapshot.at),
            bytes: snapshot.bytes(),
            audit_seq: manifest.map(|manifest| manifest.audit_seq),
            audit_hash: manifest.map(|manifest| manifest.audit_hash.clone()),
            schema_version: manifest.map(|manifest| manifest.schema_version),
            version: manifest.map(|manifest| manifest.version.clone()),
            reason: manifest.map(|manifest| manifest.reason.clone()),
            problem: snapshot.manifest.as_ref().err().cloned(),
        }
    }
}

/// A check of the whole database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CheckView {
    pub at_iso: String,
    pub took_ms: i64,
    /// `sound`, or what is damaged.
    pub result: String,
}

/// A finished backup, or one in the making.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BackupView {
    pub id: u64,
    pub state: BackupState,
    /// What is being done.
    pub doing: String,
    pub done: u64,
    pub total: u64,
    pub asked_iso: String,
    /// The zip in the server's folder of backups, once it is there.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BackupState {
    Running,
    Done,
    Failed,
}

/// The daily backup and the newest one there is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BackupsView {
    /// When the daily backup is made, `HH:MM` in UTC; null while there is none.
    pub daily_at: Option<String>,
    /// The newest backup's file.
    pub last: Option<String>,
    pub last_iso: Option<String>,
    pub count: u64,
    /// Why the last attempt failed, if it did.
    pub error: Option<String>,
}

/// The database was not as it had been written and was replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RestoredView {
    pub at_ms: i64,
    pub at_iso: String,
    /// What was found damaged, or who asked.
    pub cause: String,
    /// What it was restored from: `snapshot NAME`, `backup FILE`, `replica …`, or `nothing`.
    pub from: String,
    /// When that was made; null for nothing.
    pub from_iso: Option<String>,
    /// The last audit entry that it held.
    pub from_seq: i64,
    /// The last audit entry there is now from before, those taken over from the damaged file included.
    pub kept_seq: i64,
    /// The first audit entry that is gone; null when none is.
    pub first_lost_seq: Option<i64>,
    /// The last audit entry that is known to have been there; `unknown` where nothing tells, null when none is gone.
    pub last_lost_seq: Value,
    /// The same in words.
    pub lost: String,
    /// Where the damaged or displaced database lies.
    pub set_aside: Option<String>,
    /// The slots that passed meanwhile have been dealt with.
    #[serde(default)]
    pub settled: bool,
    /// Signed ends of the audit log that it no longer reaches have been set aside.
    #[serde(default)]
    pub signed: bool,
}

/// How the store's copies and checks are, in `/ops/health`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct UpkeepHealth {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_snapshot_iso: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_snapshot_seq: Option<i64>,
    /// Why the last attempt to make a snapshot or a backup failed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub snapshot_error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_integrity_check: Option<CheckView>,
    /// What was restored and what is lost, until somebody has dismissed it or for seven days.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub restored: Option<RestoredView>,
}
