//! What the readers ask. Scans hand over batches and stop when nobody takes them any more.

use std::path::Path;

use rusqlite::types::FromSql;
use rusqlite::{Connection, Error, OptionalExtension as _, Result, Row};
use serde_json::Value;

use super::with_suffix;
use crate::adapters::store::runs::read_stats;
use crate::adapters::store::{
    ANSWER_TTL_MS, Brake, FleetCounts, FleetRow, Intent, LastRun, Problem, Remembered, ScheduleRow, StatusQuery,
    StatusRow, StoreFacts, TenantCounts,
};
use crate::core::audit::Head;
use crate::core::missed::{Miss, Missed};
use crate::core::model::{Digest, Millis, Resource, ScheduleId};
use crate::core::policy::policy_text;
use crate::core::row::{Fingerprint, RowSpec, row_fingerprint};

/// Takes a batch; false when nobody wants more.
pub(super) type HandOver<'a, T> = &'a mut dyn FnMut(Vec<T>) -> bool;

const BATCH: usize = 1024;

/// Reads all rows of a statement in batches.
pub(super) fn scan<T>(
    mut rows: rusqlite::Rows<'_>,
    mut read: impl FnMut(&Row<'_>) -> Result<Option<T>>,
    hand_over: HandOver<'_, T>,
) -> Result<()> {
    let mut batch = Vec::with_capacity(BATCH);
    while let Some(row) = rows.next()? {
        if let Some(item) = read(row)? {
            batch.push(item);
        }
        if batch.len() == BATCH && !hand_over(std::mem::replace(&mut batch, Vec::with_capacity(BATCH))) {
            return Ok(());
        }
    }
    if !batch.is_empty() {
        hand_over(batch);
    }
    Ok(())
}

#[expect(clippy::cast_sign_loss, reason = "a stamp is 64 bits without meaning; the column keeps them all")]
fn stamp(value: i64) -> u64 {
    value as u64
}

pub(super) fn digest(row: &Row<'_>, column: usize) -> Result<Digest> {
    Ok(Digest(row.get(column)?))
}

/// A column that a person may have changed by hand: a value of the wrong kind counts as absent, so
/// that one damaged row cannot hide all others.
pub(super) fn loose<T: FromSql>(row: &Row<'_>, column: usize) -> Result<Option<T>> {
    match row.get(column) {
        Err(
            Error::InvalidColumnType(..) | Error::FromSqlConversionFailure(..) | Error::IntegralValueOutOfRange(..),
        ) => Ok(None),
        other => other,
    }
}

/// The digest of a file that the row no longer knows is that of no file.
fn loose_digest(row: &Row<'_>, column: usize) -> Result<Digest> {
    Ok(Digest(loose(row, column)?.unwrap_or_default()))
}

/// What a row was worked out from; without defaults that is the file alone.
fn basis(row: &Row<'_>, column: usize, digest: usize) -> Result<Digest> {
    match loose::<[u8; 32]>(row, column)? {
        Some(basis) => Ok(Digest(basis)),
        None => loose_digest(row, digest),
    }
}

/// The specification's columns from `first` on, read strictly and not copied.
fn columns_fingerprint(row: &Row<'_>, first: usize) -> Result<Fingerprint> {
    Ok(row_fingerprint(
        row.get(first)?,
        row.get_ref(first + 1)?.as_str_or_null()?,
        row.get_ref(first + 2)?.as_str_or_null()?,
        row.get(first + 3)?,
        row.get_ref(first + 4)?.as_str_or_null()?,
        row.get_ref(first + 5)?.as_str()?,
        row.get(first + 6)?,
    ))
}

pub(super) fn fleet(connection: &Connection, hand_over: HandOver<'_, FleetRow>) -> Result<()> {
    let mut statement = connection.prepare_cached(
        "SELECT s.id, s.connector, s.tenant, s.interval_sec, s.cron, s.timezone, s.paused, s.pause_reason, s.spec,
                s.pause_until_ms, s.fingerprint, s.digest, s.stamp, t.next_due_ms, s.basis
         FROM schedules s LEFT JOIN timers t ON t.id = s.id ORDER BY s.id",
    )?;
    let read = |row: &Row<'_>| {
        // A connector this version does not know was written by a newer one; it is left alone.
        let Some(connector) = loose::<String>(row, 1)?.and_then(|name| name.parse().ok()) else { return Ok(None) };
        let Some(tenant) = loose(row, 2)? else { return Ok(None) };
        Ok(Some(FleetRow {
            row: row.get(0)?,
            connector,
            tenant,
            interval_sec: loose(row, 3)?,
            cron: loose(row, 4)?,
            timezone: loose(row, 5)?,
            policy: row.get_ref(8)?.as_str().map(policy_text).unwrap_or_default().to_owned(),
            paused: loose(row, 6)?.unwrap_or(false),
            // Columns that cannot be read are unlike any that were applied.
            actual: columns_fingerprint(row, 3).unwrap_or([0; 16]),
            pause_until: loose(row, 9)?,
            applied: loose(row, 10)?.unwrap_or([1; 16]),
            digest: loose_digest(row, 11)?,
            basis: basis(row, 14, 11)?,
            stamp: stamp(loose(row, 12)?.unwrap_or(0)),
            next_due: loose(row, 13)?,
        }))
    };
    scan(statement.query([])?, read, hand_over)
}

/// What `last_run` reads, in its order.
const LAST_RUN: &str = "t.last_run_ms, t.last_ok, t.last_message, t.last_stats, t.failures, t.last_late_ms,
    t.missed_folded, t.missed_overlap, t.missed_brake, t.missed_window, t.missed_deadline";

fn missed(row: &Row<'_>, first: usize) -> Result<Missed> {
    Miss::ALL
        .into_iter()
        .enumerate()
        .try_fold(Missed::NONE, |sum, (at, why)| Ok(sum.and(why, loose(row, first + at)?.unwrap_or(0))))
}

fn last_run(row: &Row<'_>, first: usize) -> Result<LastRun> {
    let (stats, short) = loose::<String>(row, first + 3)?.map(|text| read_stats(&text)).unwrap_or_default();
    Ok(LastRun {
        ended: loose(row, first)?,
        ok: loose(row, first + 1)?,
        message: loose(row, first + 2)?,
        stats: stats.unwrap_or_default(),
        short,
        failures: loose(row, first + 4)?.unwrap_or(0),
        late_ms: loose(row, first + 5)?,
        missed: missed(row, first + 6)?,
    })
}

pub(super) fn statuses(connection: &Connection, query: &StatusQuery, hand_over: HandOver<'_, StatusRow>) -> Result<()> {
    let columns = format!(
        "SELECT s.id, s.tenant, s.interval_sec, s.cron, s.timezone, s.paused, s.pause_reason,
                s.digest, t.next_due_ms, s.pause_until_ms, {LAST_RUN}
         FROM schedules s LEFT JOIN timers t ON t.id = s.id WHERE s.connector = ?1"
    );
    let read = |row: &Row<'_>| {
        let Some(tenant) = loose(row, 1)? else { return Ok(None) };
        Ok(Some(StatusRow {
            row: row.get(0)?,
            tenant,
            interval_sec: loose(row, 2)?,
            cron: loose(row, 3)?,
            timezone: loose(row, 4)?,
            paused: loose(row, 5)?.unwrap_or(false),
            pause_reason: loose(row, 6)?,
            digest: loose_digest(row, 7)?,
            next_due: loose(row, 8)?,
            pause_until: loose(row, 9)?,
            last: last_run(row, 10)?,
        }))
    };
    let connector = query.connector.as_str();
    if let Some(tenant) = &query.tenant {
        let one = format!("{columns} AND s.tenant = ?2 AND s.id > ?3 LIMIT ?4");
        let mut statement = connection.prepare_cached(&one)?;
        return scan(statement.query((connector, tenant, query.after, query.limit))?, read, hand_over);
    }
    // The unary plus keeps the planner on the row key, the order the cursor needs.
    let all = format!("{} AND s.id > ?2 ORDER BY s.id LIMIT ?3", columns.replace("s.connector", "+s.connector"));
    let mut statement = connection.prepare_cached(&all)?;
    scan(statement.query((connector, query.after, query.limit))?, read, hand_over)
}

pub(super) fn schedule(connection: &Connection, id: &ScheduleId) -> Result<Option<ScheduleRow>> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT s.id, s.interval_sec, s.cron, s.timezone, s.paused, s.pause_reason, s.spec, s.digest, s.stamp,
                s.content, t.next_due_ms, s.pause_until_ms, s.basis, {LAST_RUN}
         FROM schedules s LEFT JOIN timers t ON t.id = s.id
         WHERE s.connector = ?1 AND s.tenant = ?2"
    ))?;
    let read = |row: &Row<'_>| {
        Ok(ScheduleRow {
            row: row.get(0)?,
            spec: RowSpec {
                interval_sec: loose(row, 1)?,
                cron: loose(row, 2)?,
                timezone: loose(row, 3)?,
                paused: loose(row, 4)?.unwrap_or(false),
                pause_reason: loose(row, 5)?,
                pause_until: loose(row, 11)?,
                rest: loose(row, 6)?.unwrap_or_default(),
            },
            digest: loose_digest(row, 7)?,
            basis: basis(row, 12, 7)?,
            stamp: stamp(loose(row, 8)?.unwrap_or(0)),
            content: loose(row, 9)?.unwrap_or_default(),
            next_due: loose(row, 10)?,
            last: last_run(row, 13)?,
        })
    };
    statement.query_row((id.connector.as_str(), id.tenant.as_str()), read).optional()
}

pub(super) fn audit_head(connection: &Connection) -> Result<Head> {
    let text: Option<String> =
        connection.query_row("SELECT value FROM facts WHERE name = 'audit_head'", [], |row| row.get(0)).optional()?;
    let head = text.as_deref().and_then(|text| {
        let (seq, hash) = text.split_once(':')?;
        Some(Head { seq: seq.parse().ok()?, hash: Digest::from_hex(hash)? })
    });
    Ok(head.unwrap_or_default())
}

/// Where the chain goes on: after the last entry that was ever written down. Should the log end
/// before it, the gap stays to be seen.
pub(super) fn chain_end(connection: &Connection) -> rusqlite::Result<Head> {
    let recorded = audit_head(connection)?;
    let last = connection
        .query_row("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1", [], |row| {
            Ok(Head { seq: row.get(0)?, hash: Digest(row.get(1)?) })
        })
        .optional()?;
    Ok(last.filter(|last| last.seq > recorded.seq).unwrap_or(recorded))
}

pub(super) fn bookmark(connection: &Connection, id: &ScheduleId, resource: &Resource) -> Result<Option<Value>> {
    let text: Option<String> = connection
        .prepare_cached("SELECT bookmark FROM bookmarks WHERE connector = ?1 AND tenant = ?2 AND resource = ?3")?
        .query_row((id.connector.as_str(), id.tenant.as_str(), resource.as_str()), |row| row.get(0))
        .optional()?;
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
}

pub(super) fn intents(connection: &Connection) -> Result<Vec<(i64, Intent)>> {
    let mut statement = connection.prepare("SELECT id, connector, tenant, base, content FROM intents ORDER BY id")?;
    let rows = statement.query_map([], |row| {
        let name = format!("{}/{}", row.get_ref(1)?.as_str()?, row.get_ref(2)?.as_str()?);
        let Ok(id) = name.parse() else { return Ok(None) };
        let base = row.get::<_, Option<[u8; 32]>>(3)?.map(Digest);
        Ok(Some((row.get(0)?, Intent { id, base, content: row.get(4)?, commit: None })))
    })?;
    rows.filter_map(Result::transpose).collect()
}

pub(super) fn problems(connection: &Connection) -> Result<Vec<Problem>> {
    let mut statement = connection.prepare("SELECT path, digest, since_ms, diagnostics FROM problems ORDER BY path")?;
    let rows = statement.query_map([], |row| {
        Ok(Problem {
            path: row.get(0)?,
            digest: row.get::<_, Option<[u8; 32]>>(1)?.map(Digest),
            since: row.get(2)?,
            diagnostics: serde_json::from_str(row.get_ref(3)?.as_str()?).unwrap_or_default(),
        })
    })?;
    rows.collect()
}

pub(super) fn defaults(connection: &Connection) -> Result<Vec<(String, Vec<u8>)>> {
    let mut statement = connection.prepare("SELECT path, content FROM defaults ORDER BY path")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}

pub(super) fn brakes(connection: &Connection) -> Result<Vec<Brake>> {
    let mut statement =
        connection.prepare_cached("SELECT scope, reason, actor, since_ms FROM brakes ORDER BY scope")?;
    let rows = statement.query_map([], |row| {
        Ok(Brake { scope: row.get(0)?, reason: row.get(1)?, actor: row.get(2)?, since: row.get(3)? })
    })?;
    rows.collect()
}

pub(super) fn answer(connection: &Connection, key: &str, now: Millis) -> Result<Option<Remembered>> {
    connection
        .prepare_cached("SELECT request, answer FROM answers WHERE key = ?1 AND created_ms >= ?2")?
        .query_row((key, now - ANSWER_TTL_MS), |row| Ok(Remembered { request: digest(row, 0)?, answer: row.get(1)? }))
        .optional()
}

pub(super) fn facts(connection: &Connection, path: &Path) -> Result<StoreFacts> {
    let size = |path: &Path| std::fs::metadata(path).map_or(0, |meta| meta.len());
    let mut facts = StoreFacts {
        engine: format!("sqlite {}", rusqlite::version()),
        dsn: path.display().to_string(),
        schema_version: connection.pragma_query_value(None, "user_version", |row| row.get(0))?,
        size_bytes: size(path),
        wal_bytes: size(&with_suffix(path, "-wal")),
        ..StoreFacts::default()
    };
    for table in [
        "schedules",
        "revisions",
        "contents",
        "runs",
        "records",
        "audit",
        "audit_segments",
        "intents",
        "problems",
        "brakes",
        "webhook_events",
    ] {
        let count = connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get::<_, i64>(0))?;
        facts.rows.insert(table.to_owned(), u64::try_from(count).unwrap_or(0));
    }
    facts.free_bytes = super::growth::free_bytes(connection)?;
    facts.table_bytes = super::growth::table_bytes(connection)?.unwrap_or_default();
    facts.audit_sealed = super::audit::sealed(connection)?;
    Ok(facts)
}

pub(super) fn count(row: &Row<'_>, column: usize) -> Result<u64> {
    Ok(u64::try_from(row.get::<_, Option<i64>>(column)?.unwrap_or(0)).unwrap_or(0))
}

pub(super) fn fleet_counts(connection: &Connection) -> Result<FleetCounts> {
    connection.query_row(
        "SELECT (SELECT count(*) FROM schedules), (SELECT count(*) FROM schedules s LEFT JOIN timers t ON t.id = s.id
                 WHERE paused AND (pause_until_ms IS NULL OR next_due_ms IS NULL OR next_due_ms = pause_until_ms)),
                (SELECT count(*) FROM timers WHERE failures > 0), count(*), sum(ok = 1), sum(ok = 0),
                (SELECT count(*) FROM records), (SELECT count(*) FROM audit) + (SELECT ifnull(sum(last_seq - first_seq + 1), 0) FROM audit_segments),
                (SELECT sum(missed_folded + missed_overlap + missed_brake + missed_window + missed_deadline) FROM timers)
         FROM runs",
        [],
        |row| {
            Ok(FleetCounts {
                schedules: count(row, 0)?,
                paused: count(row, 1)?,
                failing: count(row, 2)?,
                runs_total: count(row, 3)?,
                runs_ok: count(row, 4)?,
                runs_failed: count(row, 5)?,
                records: count(row, 6)?,
                audit_entries: count(row, 7)?,
                missed: count(row, 8)?,
            })
        },
    )
}

pub(super) fn tenant_counts(connection: &Connection, tenant: &str) -> Result<Vec<TenantCounts>> {
    let mut all = Vec::new();
    for connector in crate::core::model::Connector::ALL {
        let mut statement = connection.prepare_cached(
            "SELECT count(*), sum(ok = 1), sum(ok = 0), avg(ended_ms - started_ms),
                    sum(stats ->> 'imported'), sum(stats ->> 'updated'), sum(stats ->> 'skipped'), sum(stats ->> 'failed'),
                    (SELECT count(*) FROM records WHERE connector = ?2 AND tenant = ?3)
             FROM runs WHERE schedule = ?1",
        )?;
        let counts = statement.query_row((format!("{connector}/{tenant}"), connector.as_str(), tenant), |row| {
            Ok(TenantCounts {
                connector: connector.to_string(),
                runs_total: count(row, 0)?,
                runs_ok: count(row, 1)?,
                runs_failed: count(row, 2)?,
                mean_duration_ms: row.get(3)?,
                stats: crate::core::model::ImportStats {
                    imported: count(row, 4)?,
                    updated: count(row, 5)?,
                    skipped: count(row, 6)?,
                    failed: count(row, 7)?,
                },
                records: count(row, 8)?,
            })
        })?;
        if counts.runs_total > 0 || counts.records > 0 {
            all.push(counts);
        }
    }
    Ok(all)
}
