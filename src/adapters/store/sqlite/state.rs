//! What a store holds, written as JSON that a person can read: one item a line, section by section, so that
//! little of it is in memory at a time.

use std::io::{self, Write};
use std::time::Duration;

use rusqlite::Row;
use rusqlite::types::ValueRef;
use serde_json::{Map, Value, json};

use super::{Frozen, failed};
use crate::adapters::store::StoreError;
use crate::core::mask::{masked, masked_value};
use crate::core::timing::iso;

/// Why a state could not be written: its reading failed, or its writing.
#[derive(Debug)]
pub enum StateError {
    Store(StoreError),
    Write(io::Error),
}

impl From<io::Error> for StateError {
    fn from(error: io::Error) -> Self {
        StateError::Write(error)
    }
}

/// The sections in their order: their name, and what they are read by. Of the columns, `…_ms` become `…_iso`,
/// JSON stays JSON, and what looks like a secret is masked.
const SECTIONS: [(&str, &str); 12] = [
    (
        "schedules",
        "SELECT s.connector, s.tenant, 'schedules/' || s.connector || '/' || s.tenant || '.yaml' AS file,
                s.interval_sec, s.cron, s.timezone, s.paused AS paused_flag, s.pause_reason, s.pause_until_ms,
                s.spec AS spec_json, s.digest, s.content, s.created_ms, s.updated_ms,
                (SELECT max(number) FROM revisions r WHERE r.connector = s.connector AND r.tenant = s.tenant) AS revision,
                t.next_due_ms, t.last_run_ms, t.last_ok AS last_ok_flag, t.last_message, t.last_stats AS last_stats_json,
                t.failures, t.missed_folded, t.missed_overlap, t.missed_brake, t.missed_window, t.missed_deadline
         FROM schedules s LEFT JOIN timers t ON t.id = s.id ORDER BY s.id",
    ),
    ("defaults", "SELECT path, content FROM defaults WHERE path NOT LIKE 'windows/%' ORDER BY path"),
    ("windows", "SELECT path, content FROM defaults WHERE path LIKE 'windows/%' ORDER BY path"),
    ("brakes", "SELECT scope, reason, actor, since_ms FROM brakes ORDER BY scope"),
    ("holds", "SELECT schedule, action, reason, since_ms FROM holds ORDER BY schedule, action"),
    ("dismissals", "SELECT digest AS plan_digest, reason, actor, at_ms FROM dismissals ORDER BY digest"),
    (
        "open_runs",
        "SELECT id, schedule, nominal_ms, trigger, state, started_ms, attempts, retry_at_ms, asked_by, action_id
         FROM runs WHERE ended_ms IS NULL ORDER BY id",
    ),
    ("bookmarks", "SELECT connector, tenant, resource, bookmark AS bookmark_json FROM bookmarks ORDER BY 1, 2, 3"),
    ("invalid_files", "SELECT path, digest, since_ms, diagnostics AS diagnostics_json FROM problems ORDER BY path"),
    ("promised_edits", "SELECT connector, tenant, base AS base_digest, content, created_ms FROM intents ORDER BY id"),
    ("commits_due", "SELECT connector, tenant, actor, action_id, message, at_ms FROM commits ORDER BY id"),
    (
        "webhook_events_waiting",
        "SELECT connector, tenant, event_id, topic, resource, key, received_ms FROM webhook_events
         WHERE done_ms IS NULL ORDER BY id",
    ),
];

/// After so many items the writing pauses, so that it has a processor to itself but some of the time.
const STRETCH: usize = 200;

impl Frozen {
    /// Writes everything but imported records, past runs, revisions and the audit log, which the database's copy has.
    pub fn write_state(&self, pause: Duration, out: &mut dyn Write) -> Result<(), StateError> {
        let head = json!({"seq": self.head.seq, "hash": self.head.hash.to_hex()});
        write!(
            out,
            "{{\n\"format\": 1,\n\"at_iso\": {},\n\"schema_version\": {}",
            json!(iso(self.at)),
            self.schema_version
        )?;
        write!(out, ",\n\"audit\": {head}")?;
        for (name, sql) in SECTIONS {
            write!(out, ",\n\"{name}\": [")?;
            self.section(sql, pause, out)?;
            out.write_all(b"]")?;
        }
        out.write_all(b"\n}\n")?;
        Ok(())
    }

    fn section(&self, sql: &str, pause: Duration, out: &mut dyn Write) -> Result<(), StateError> {
        let fail = |error: rusqlite::Error| StateError::Store(failed("read the state", &error));
        let mut statement = match self.connection().prepare(sql) {
            // An older program's schema, copied before it is brought up to date, lacks tables and columns.
            Err(_) if self.schema_version < super::newest_schema() => return Ok(()),
            prepared => prepared.map_err(fail)?,
        };
        let names: Vec<String> = statement.column_names().into_iter().map(str::to_owned).collect();
        let mut rows = statement.query([]).map_err(fail)?;
        let mut count = 0;
        while let Some(row) = rows.next().map_err(fail)? {
            let item = item(row, &names).map_err(fail)?;
            write!(out, "{}\n{item}", if count == 0 { "" } else { "," })?;
            count += 1;
            if count % STRETCH == 0 && !pause.is_zero() {
                std::thread::sleep(pause);
            }
        }
        if count > 0 {
            out.write_all(b"\n")?;
        }
        Ok(())
    }
}

fn item(row: &Row<'_>, names: &[String]) -> rusqlite::Result<Value> {
    let mut item = Map::new();
    for (column, name) in names.iter().enumerate() {
        let value = row.get_ref(column)?;
        if let Some(name) = name.strip_suffix("_ms") {
            item.insert(format!("{name}_iso"), value.as_i64_or_null()?.map(iso).into());
        } else if let Some(name) = name.strip_suffix("_flag") {
            item.insert(name.to_owned(), value.as_i64_or_null()?.map(|flag| flag != 0).into());
        } else if let Some(name) = name.strip_suffix("_json") {
            let parsed = value.as_str_or_null()?.and_then(|text| serde_json::from_str::<Value>(text).ok());
            item.insert(name.to_owned(), masked_value(name, &parsed.unwrap_or_default()));
        } else {
            item.insert(name.clone(), plain(name, value));
        }
    }
    Ok(Value::Object(item))
}

fn plain(name: &str, value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => number.into(),
        ValueRef::Real(number) => number.into(),
        ValueRef::Text(text) => text_value(name, &String::from_utf8_lossy(text)),
        ValueRef::Blob(bytes) if name.ends_with("digest") => hex::encode(bytes).into(),
        ValueRef::Blob(bytes) => text_value(name, &String::from_utf8_lossy(bytes)),
    }
}

/// Names are no secrets, however much a tenant's may look like one.
fn text_value(name: &str, text: &str) -> Value {
    match name {
        "content" | "reason" | "pause_reason" | "last_message" | "message" => masked(text).into(),
        _ => text.into(),
    }
}
