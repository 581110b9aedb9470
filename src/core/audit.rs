//! The audit log's entries and the hash chain that shows tampering.
//!
//! An entry's hash is the SHA-256 over the RFC 8785 form of the entry without `hash` and `ts`
//! (`ts` is `ts_iso` in another unit). `prev_hash` is the hash before it, 64 zeros for the first.

mod chain;
mod checkpoint;
mod note;
mod segment;

#[cfg(test)]
mod tests;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use chain::{Anchor, Head, Verdict, Verifier};
pub use checkpoint::{BadCheckpoint, Checkpoint, Signed, origin, read_kept};
pub use note::{BadNote, Note, Signature, VerifierKey};
pub use segment::{BadSegment, Segment, Summary, decode, encode, tenant_mark};

use crate::core::model::{Connector, Digest, Millis, Source};
use crate::core::timing::iso;

/// Operations' names, as contract part 3 freezes them.
pub mod operation {
    macro_rules! operations {
        ($($name:ident = $text:literal,)*) => {
            $(pub const $name: &str = $text;)*

            /// Every operation there is; `docs/audit.md` explains them.
            pub const ALL: &[&str] = &[$($name),*];
        };
    }

    operations! {
        CREATED = "scheduler.schedule.created",
        UPDATED = "scheduler.schedule.updated",
        DELETED = "scheduler.schedule.deleted",
        PAUSED = "scheduler.schedule.paused",
        RESUMED = "scheduler.schedule.resumed",
        FORCE_RUN = "scheduler.import.force_run",
        INTERRUPTED = "scheduler.import.interrupted",
        VOLUME_SHORT = "import.volume.short",
        RECORDS_DELETED = "import.records.deleted",
        CANCELLED = "scheduler.import.cancelled",
        BACKFILLED = "scheduler.import.backfilled",
        DRIFT_DETECTED = "reconcile.drift.detected",
        DRIFT_REPAIRED = "reconcile.drift.repaired",
        FILE_INVALID = "reconcile.file.invalid",
        DEFAULTS_CHANGED = "reconcile.defaults.changed",
        WINDOW_CHANGED = "desired.window.changed",
        FILE_RECOVERED = "reconcile.file.recovered",
        BULK_HELD = "scheduler.bulk.held",
        PRUNE_HELD = "reconcile.prune.held",
        WRITE_DISPLACED = "reconcile.write.displaced",
        HOLD_DISMISSED = "reconcile.hold.dismissed",
        HOLD_LAPSED = "reconcile.hold.lapsed",
        PLAN_CONFIRMED = "reconcile.plan.confirmed",
        GIT_PULLED = "ops.git.pulled",
        BRAKE_PULLED = "ops.brake.pulled",
        BRAKE_RELEASED = "ops.brake.released",
        ACCESS_REFUSED = "access.request.refused",
        DIRECTORY_ROLLED_BACK = "ops.directory.rolled_back",
        REPLICATION_BEGAN = "ops.replication.began",
        REPLICATION_GAP = "ops.replication.gap",
        REPLICATION_REFUSED = "ops.replication.refused",
        RESTART_REQUESTED = "ops.restart.requested",
        RECOVERED = "ops.restart.recovered",
        AUDIT_BROKEN = "audit.chain.broken",
        AUDIT_KEY_REPLACED = "audit.key.replaced",
        CHECKPOINTS_SET_ASIDE = "audit.checkpoints.set_aside",
        BACKUP_MADE = "ops.backup.made",
        BACKUP_SCHEDULED = "ops.backup.scheduled",
        STORE_RESTORED = "ops.store.restored",
        RESTORATION_DISMISSED = "ops.restoration.dismissed",
        LOOP_RESTARTED = "ops.loop.restarted",
        DISK_FULL = "ops.disk.full",
        DISK_FREED = "ops.disk.freed",
    }

    /// The name an `operation=` filter means: the seeds' older names stand for today's.
    pub fn canonical(name: &str) -> &str {
        match name {
            "schedule" => CREATED,
            "pause" => PAUSED,
            "resume" => RESUMED,
            "run-now" => FORCE_RUN,
            "delete" => DELETED,
            other => other,
        }
    }
}

/// What is to be written; the chain adds sequence, time and hashes.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    /// Empty when the entry concerns no single tenant.
    pub tenant: String,
    pub connector: Option<Connector>,
    pub operation: &'static str,
    pub source: Source,
    pub actor: String,
    /// UUIDv7; entries of one action share it.
    pub action_id: String,
    pub metadata: Metadata,
}

/// An entry's metadata in its canonical form (RFC 8785), made where the entry is thought up: the
/// thread that writes the log has no time for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata(String);

impl Metadata {
    pub fn new(fields: Map<String, Value>) -> Self {
        let value = Value::Object(fields);
        if is_plain(&value) {
            return Metadata(value.to_string());
        }
        Metadata(serde_json_canonicalizer::to_string(&value).unwrap_or_else(|_| value.to_string()))
    }
}

/// Whether serde_json writes the value in its canonical form already, at a fifth of the cost: names
/// whose order by bytes is that by UTF-16 units, and no number that could be written in two ways.
fn is_plain(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::String(_) => true,
        Value::Number(number) => number.as_i64().is_some_and(|number| number.unsigned_abs() < 1 << 53),
        Value::Array(items) => items.iter().all(is_plain),
        Value::Object(fields) => fields.iter().all(|(name, value)| name.is_ascii() && is_plain(value)),
    }
}

impl From<Value> for Metadata {
    /// An object as it is; anything else under the name `value`.
    fn from(value: Value) -> Self {
        Metadata::new(match value {
            Value::Object(fields) => fields,
            other => Map::from_iter([("value".to_owned(), other)]),
        })
    }
}

/// One line of the log as it stands in the store. `metadata` is its canonical text, so that what
/// is hashed is what is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub seq: i64,
    pub at: Millis,
    pub tenant: String,
    pub connector: String,
    pub operation: String,
    pub source: String,
    pub actor: String,
    pub action_id: String,
    pub metadata: String,
    pub prev_hash: Digest,
    pub hash: Digest,
}

/// An entry as the API and the exports show it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EntryView {
    pub seq: i64,
    /// Epoch seconds.
    pub ts: f64,
    /// The same instant, RFC 3339 in UTC.
    pub ts_iso: String,
    pub tenant: String,
    pub connector: String,
    pub operation: String,
    pub source: String,
    pub actor: String,
    pub action_id: String,
    pub metadata: Value,
    pub prev_hash: String,
    pub hash: String,
}

impl Entry {
    pub fn view(&self) -> EntryView {
        EntryView {
            seq: self.seq,
            ts: crate::core::timing::seconds(self.at),
            ts_iso: iso(self.at),
            tenant: self.tenant.clone(),
            connector: self.connector.clone(),
            operation: self.operation.clone(),
            source: self.source.clone(),
            actor: self.actor.clone(),
            action_id: self.action_id.clone(),
            metadata: serde_json::from_str(&self.metadata).unwrap_or(Value::Null),
            prev_hash: self.prev_hash.to_hex(),
            hash: self.hash.to_hex(),
        }
    }

    /// The hash this entry ought to have.
    pub fn computed_hash(&self) -> Digest {
        self.hash_at(&iso(self.at))
    }

    fn hash_at(&self, at_iso: &str) -> Digest {
        Digest::of(self.canonical(at_iso).as_bytes())
    }

    /// Keys in RFC 8785's order, which for these is the alphabet's.
    fn canonical(&self, at_iso: &str) -> String {
        let mut text = String::with_capacity(384 + self.metadata.len());
        let field = |text: &mut String, name: &str, value: &str| {
            text.push_str(name);
            push_json_string(text, value);
        };
        field(&mut text, "{\"action_id\":", &self.action_id);
        field(&mut text, ",\"actor\":", &self.actor);
        field(&mut text, ",\"connector\":", &self.connector);
        text.push_str(",\"metadata\":");
        text.push_str(&self.metadata);
        field(&mut text, ",\"operation\":", &self.operation);
        field(&mut text, ",\"prev_hash\":", &self.prev_hash.to_hex());
        text.push_str(",\"seq\":");
        text.push_str(&self.seq.to_string());
        field(&mut text, ",\"source\":", &self.source);
        field(&mut text, ",\"tenant\":", &self.tenant);
        field(&mut text, ",\"ts_iso\":", at_iso);
        text.push('}');
        text
    }
}

/// JSON's own escapes as serde_json writes them are those of RFC 8785.
fn push_json_string(text: &mut String, value: &str) {
    let plain = value.bytes().all(|b| b >= 0x20 && b != b'"' && b != b'\\');
    if plain {
        text.push('"');
        text.push_str(value);
        text.push('"');
    } else {
        text.push_str(&Value::from(value).to_string());
    }
}
