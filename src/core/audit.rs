//! The audit log's entries and the hash chain that shows tampering.
//!
//! An entry's hash is the SHA-256 over the RFC 8785 form of the entry without `hash` and `ts`
//! (`ts` is `ts_iso` in another unit). `prev_hash` is the hash before it, 64 zeros for the first.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

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
        RESTART_REQUESTED = "ops.restart.requested",
        LOOP_RESTARTED = "ops.loop.restarted",
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

/// The end of the chain: the last sequence number and hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub seq: i64,
    pub hash: Digest,
}

impl Default for Head {
    fn default() -> Self {
        Head { seq: 0, hash: Digest([0; 32]) }
    }
}

impl Head {
    /// Turns a draft into the chain's next entry and moves the head on to it. `at_iso` is `at` as
    /// [`iso`] writes it, made once for all entries of one moment.
    pub fn append(&mut self, draft: Draft, at: Millis, at_iso: &str) -> Entry {
        let Metadata(metadata) = draft.metadata;
        let mut entry = Entry {
            seq: self.seq + 1,
            at,
            tenant: draft.tenant,
            connector: draft.connector.map_or("", Connector::as_str).to_owned(),
            operation: draft.operation.to_owned(),
            source: draft.source.as_str().to_owned(),
            actor: draft.actor,
            action_id: draft.action_id,
            metadata,
            prev_hash: self.hash,
            hash: Digest([0; 32]),
        };
        entry.hash = entry.hash_at(at_iso);
        *self = Head { seq: entry.seq, hash: entry.hash };
        entry
    }
}

/// What a check of the chain found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Verdict {
    pub valid: bool,
    pub total_entries: u64,
    /// The first entry that does not fit, if any.
    pub first_bad_seq: Option<i64>,
    pub message: String,
}

/// Walks the chain from its first entry; hand it every entry in order of `seq`.
#[derive(Default)]
pub struct Verifier {
    head: Head,
    total: u64,
    bad: Option<(i64, String)>,
}

impl Verifier {
    /// Returns whether the chain is still whole.
    pub fn push(&mut self, entry: &Entry) -> bool {
        self.total += 1;
        if self.bad.is_some() {
            return false;
        }
        let problem = if entry.seq != self.head.seq + 1 {
            Some(format!("entry {} is missing: the log goes on with {}", self.head.seq + 1, entry.seq))
        } else if entry.prev_hash != self.head.hash {
            Some(format!("entry {} does not follow the entry before it", entry.seq))
        } else if entry.hash != entry.computed_hash() {
            Some(format!("entry {} was changed after it was written", entry.seq))
        } else {
            None
        };
        match problem {
            Some(problem) => self.bad = Some((self.head.seq + 1, problem)),
            None => self.head = Head { seq: entry.seq, hash: entry.hash },
        }
        self.bad.is_none()
    }

    /// Ends the walk. `expected` is the head the store believes in, which shows a cut end.
    pub fn finish(mut self, expected: Option<Head>) -> Verdict {
        if self.bad.is_none()
            && let Some(expected) = expected.filter(|expected| *expected != self.head)
        {
            let message = format!("the log ends at entry {} but {} had been written", self.head.seq, expected.seq);
            self.bad = Some((self.head.seq + 1, message));
        }
        match self.bad {
            None => Verdict {
                valid: true,
                total_entries: self.total,
                first_bad_seq: None,
                message: format!("all {} entries follow from one another", self.total),
            },
            Some((seq, message)) => {
                Verdict { valid: false, total_entries: self.total, first_bad_seq: Some(seq), message }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn draft(n: i64) -> Draft {
        Draft {
            tenant: format!("t{n}"),
            connector: Some(Connector::Noop),
            operation: operation::CREATED,
            source: Source::File,
            actor: "Zoë \"Z\" \\ \u{1}".into(),
            action_id: "0190".into(),
            metadata: json!({"diff": [{"to": n, "field": "interval_sec", "from": null}]}).into(),
        }
    }

    fn chain(length: i64) -> (Vec<Entry>, Head) {
        let mut head = Head::default();
        let entries =
            (1..=length).map(|n| head.append(draft(n), 1_700_000_000_000 + n, &iso(1_700_000_000_000 + n))).collect();
        (entries, head)
    }

    fn verify(entries: &[Entry], head: Option<Head>) -> Verdict {
        let mut verifier = Verifier::default();
        for entry in entries {
            verifier.push(entry);
        }
        verifier.finish(head)
    }

    #[test]
    fn the_hash_is_over_the_canonical_form_of_the_view() {
        let (entries, _) = chain(1);
        let mut view = serde_json::to_value(entries[0].view()).unwrap();
        let object = view.as_object_mut().unwrap();
        object.remove("hash");
        object.remove("ts");
        let canonical = serde_json_canonicalizer::to_string(&view).unwrap();
        assert_eq!(entries[0].hash, Digest::of(canonical.as_bytes()));
    }

    proptest::proptest! {
        #[test]
        fn the_short_way_to_the_canonical_form_is_right(names in proptest::collection::vec("[a-z\u{e9}\u{10000}\u{ffff}\"\\\\]{0,4}", 0..4), number: i64, float: f64, text: String) {
            let inner: Map<String, Value> = names.iter().map(|name| (name.clone(), json!(number))).collect();
            for value in [json!({"b": inner, "a": text}), json!({"f": float, "t": [number, text]})] {
                let expect = serde_json_canonicalizer::to_string(&value);
                if let Ok(expect) = expect {
                    proptest::prop_assert_eq!(Metadata::from(value), Metadata(expect));
                }
            }
        }
    }

    #[test]
    fn every_kind_of_tampering_is_named_by_its_first_entry() {
        let (good, head) = chain(5);
        assert!(verify(&good, Some(head)).valid);
        assert!(verify(&[], Some(Head::default())).valid);

        let mut changed = good.clone();
        changed[2].actor = "mallory".into();
        assert_eq!(verify(&changed, Some(head)).first_bad_seq, Some(3));

        let mut rehashed = changed;
        rehashed[2].hash = rehashed[2].computed_hash();
        assert_eq!(verify(&rehashed, Some(head)).first_bad_seq, Some(4));

        let mut dropped = good.clone();
        dropped.remove(1);
        assert_eq!(verify(&dropped, Some(head)).first_bad_seq, Some(2));

        let mut swapped = good.clone();
        swapped.swap(1, 2);
        assert_eq!(verify(&swapped, Some(head)).first_bad_seq, Some(2));

        assert_eq!(verify(&good[..3], Some(head)).first_bad_seq, Some(4));
        assert_eq!(verify(&good, None).total_entries, 5);
    }
}
