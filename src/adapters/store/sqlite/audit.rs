//! The audit log as one, though its oldest part lies sealed in blocks: walked, searched, counted.

use std::collections::BTreeMap;
use std::io::Read as _;

use rusqlite::types::Value as Sql;
use rusqlite::{Connection, OptionalExtension as _, Result, Row, Transaction, params_from_iter};

use super::read::{HandOver, count, digest};
use crate::adapters::store::{AuditCounts, AuditQuery, Counted, Damage, SealedFacts};
use crate::core::audit::{Entry, Head, Segment, Summary, decode, operation};
use crate::core::model::{Digest, Millis};
use crate::core::timing::iso;

const BATCH: u32 = 1024;

const COLUMNS: &str =
    "SELECT seq, at_ms, tenant, connector, operation, source, actor, action_id, metadata, prev_hash, hash FROM audit";

const SEGMENT: &str = "SELECT first_seq, last_seq, from_ms, to_ms, prev_hash, last_hash, summary, tenants, raw_bytes
    FROM audit_segments";

/// The newest sealed entry. A row of `audit` that is not newer is none of the log's.
const SEALED: &str = "SELECT ifnull(max(last_seq), 0) FROM audit_segments
    WHERE first_seq = (SELECT max(first_seq) FROM audit_segments)";

fn entry(row: &Row<'_>) -> Result<Entry> {
    Ok(Entry {
        seq: row.get(0)?,
        at: row.get(1)?,
        tenant: row.get(2)?,
        connector: row.get(3)?,
        operation: row.get(4)?,
        source: row.get(5)?,
        actor: row.get(6)?,
        action_id: row.get(7)?,
        metadata: row.get(8)?,
        prev_hash: digest(row, 9)?,
        hash: digest(row, 10)?,
    })
}

/// Entries behind `after`, oldest first, `limit` at most, of those that are not sealed.
pub(super) fn live(connection: &Connection, after: i64, limit: u32) -> Result<Vec<Entry>> {
    let mut statement = connection.prepare_cached(&format!("{COLUMNS} WHERE seq > ?1 ORDER BY seq LIMIT ?2"))?;
    statement.query_map((after, limit), entry)?.collect()
}

fn segment(row: &Row<'_>) -> Result<(Segment, u64)> {
    let summary: String = row.get(6)?;
    let segment = Segment {
        first_seq: row.get(0)?,
        last_seq: row.get(1)?,
        from: row.get(2)?,
        to: row.get(3)?,
        prev_hash: digest(row, 4)?,
        last_hash: digest(row, 5)?,
        // One that cannot be read holds nothing, which the walk notices.
        summary: serde_json::from_str(&summary).unwrap_or_default(),
        tenants: row.get(7)?,
    };
    Ok((segment, count(row, 8)?))
}

/// Says which entries cannot be read; the store's caller is told so by `StoreError::Damaged`.
fn damaged(segment: &Segment, reason: impl std::fmt::Display) -> rusqlite::Error {
    let Segment { first_seq: first, last_seq: last, .. } = *segment;
    rusqlite::Error::UserFunctionError(Box::new(Damage { first, last, reason: reason.to_string() }))
}

/// The block's entries.
fn open(connection: &Connection, segment: &Segment, raw_bytes: u64) -> Result<Vec<Entry>> {
    let (packed, hash): (Vec<u8>, [u8; 32]) = connection
        .prepare_cached("SELECT packed, packed_hash FROM audit_segments WHERE first_seq = ?1")?
        .query_row([segment.first_seq], |row| Ok((row.get(0)?, row.get(1)?)))
        .map_err(|error| damaged(segment, error))?;
    if Digest::of(&packed).0 != hash {
        return Err(damaged(segment, "their block is not as it was written"));
    }
    let mut raw = Vec::new();
    let unpacked = zstd::stream::read::Decoder::with_buffer(packed.as_slice())
        .and_then(|decoder| decoder.take(raw_bytes.saturating_add(1)).read_to_end(&mut raw));
    unpacked.map_err(|error| damaged(segment, format!("they cannot be unpacked ({error})")))?;
    if raw.len() as u64 != raw_bytes {
        return Err(damaged(segment, "they are not as long as they were"));
    }
    let entries = segment.last_seq.checked_sub(segment.first_seq).and_then(|more| u64::try_from(more).ok());
    let entries = entries.ok_or_else(|| damaged(segment, "their numbers make no sense"))? + 1;
    decode(segment.first_seq, entries, segment.prev_hash, &raw).map_err(|error| damaged(segment, error))
}

/// What a search passes blocks over by must be what is in them, or entries could be hidden.
fn check_summary(segment: &Segment, entries: &[Entry]) -> Result<()> {
    let mut summary = Summary::default();
    let mut tenants = std::collections::BTreeSet::new();
    for entry in entries {
        summary.count(entry);
        tenants.insert(crate::core::audit::tenant_mark(&entry.tenant));
    }
    let times = || entries.iter().map(|entry| entry.at);
    let told = (segment.from, segment.to, segment.last_hash);
    let is = (times().min().unwrap_or_default(), times().max().unwrap_or_default());
    let last = entries.last().map_or(segment.prev_hash, |last| last.hash);
    if (is.0, is.1, last) == told && summary == segment.summary && tenants.iter().flatten().eq(&segment.tenants) {
        return Ok(());
    }
    Err(damaged(segment, "what is said of them is not what they hold"))
}

/// Makes what follows one reading, unless it is part of one already.
pub(super) fn standing_still(connection: &Connection) -> Result<Option<Transaction<'_>>> {
    connection.is_autocommit().then(|| connection.unchecked_transaction()).transpose()
}

/// The next entries behind `after`, sealed or not; none at the end. A moment's look, so that a slow walk
/// holds nothing back.
pub(super) fn next(connection: &Connection, after: i64) -> Result<Vec<Entry>> {
    let _look = standing_still(connection)?;
    let found = connection
        .prepare_cached(&format!(
            "{SEGMENT} WHERE last_seq > ?1 AND first_seq >= ifnull(
                 (SELECT max(first_seq) FROM audit_segments WHERE first_seq <= ?1 + 1), 0)
             ORDER BY first_seq LIMIT 1"
        ))?
        .query_row([after], segment)
        .optional()?;
    let Some((segment, raw_bytes)) = found else { return live(connection, after, BATCH) };
    let mut entries = open(connection, &segment, raw_bytes)?;
    check_summary(&segment, &entries)?;
    entries.retain(|entry| entry.seq > after);
    Ok(entries)
}

/// The whole log, oldest first.
pub(super) fn log(connection: &Connection, hand_over: HandOver<'_, Entry>) -> Result<()> {
    // A row with a sealed entry's number was put there by somebody else: it comes first, where it does not fit.
    let stray = connection
        .prepare_cached(&format!("{COLUMNS} WHERE seq <= ({SEALED}) ORDER BY seq LIMIT 1"))?
        .query_row([], entry)
        .optional()?;
    if let Some(stray) = stray
        && !hand_over(vec![stray])
    {
        return Ok(());
    }
    let mut after = 0;
    loop {
        let entries = next(connection, after)?;
        let Some(last) = entries.last().map(|last| last.seq) else { return Ok(()) };
        after = last;
        if !hand_over(entries) {
            return Ok(());
        }
    }
}

pub(super) fn at(connection: &Connection, seq: i64) -> Result<Option<Head>> {
    let found = next(connection, seq - 1)?;
    Ok(found.first().filter(|entry| entry.seq == seq).map(|entry| Head { seq, hash: entry.hash }))
}

/// Entries that a query lets through, newest first: those that are not sealed, then block by block, of which
/// one at a time is opened and most are passed over.
pub(super) fn page(connection: &Connection, query: &AuditQuery) -> Result<Vec<Entry>> {
    let _look = standing_still(connection)?;
    let limit = query.limit as usize;
    let mut found = live_page(connection, query)?;
    if found.len() >= limit {
        return Ok(found);
    }
    let mut statement = connection.prepare_cached(&format!(
        "{SEGMENT} WHERE first_seq < ?1 AND to_ms >= ?2 AND from_ms < ?3 ORDER BY first_seq DESC"
    ))?;
    let bounds =
        (query.before.unwrap_or(i64::MAX), query.since.unwrap_or(Millis::MIN), query.until.unwrap_or(Millis::MAX));
    let mut segments = statement.query(bounds)?;
    while let Some(row) = segments.next()? {
        let (segment, raw_bytes) = segment(row)?;
        if !may_hold(&segment, query) {
            continue;
        }
        let entries = open(connection, &segment, raw_bytes)?.into_iter().rev();
        found.extend(entries.filter(|entry| query.lets_through(entry)).take(limit - found.len()));
        if found.len() >= limit {
            break;
        }
    }
    Ok(found)
}

fn may_hold(segment: &Segment, query: &AuditQuery) -> bool {
    let among =
        |names: &BTreeMap<String, u64>, wanted: Option<&str>| wanted.is_none_or(|name| names.contains_key(name));
    among(&segment.summary.operations, query.operation.as_deref().map(operation::canonical))
        && among(&segment.summary.sources, query.source.as_deref())
        && query.tenant.as_deref().is_none_or(|tenant| segment.may_hold_tenant(tenant))
}

fn live_page(connection: &Connection, query: &AuditQuery) -> Result<Vec<Entry>> {
    let mut conditions = vec![format!("seq > ({SEALED})")];
    let mut values: Vec<Sql> = Vec::new();
    let mut when = |condition: &str, value: Option<Sql>| {
        if let Some(value) = value {
            values.push(value);
            conditions.push(condition.replace('?', &format!("?{}", values.len())));
        }
    };
    let text = |value: &str| Sql::Text(value.to_owned());
    when("connector IN (?, '')", query.connector.map(|connector| text(connector.as_str())));
    when("tenant = ?", query.tenant.as_deref().map(text));
    when("operation = ?", query.operation.as_deref().map(operation::canonical).map(text));
    when("source = ?", query.source.as_deref().map(text));
    when("at_ms >= ?", query.since.map(Sql::Integer));
    when("at_ms < ?", query.until.map(Sql::Integer));
    when("seq < ?", query.before.map(Sql::Integer));
    values.push(Sql::Integer(query.limit.into()));
    let sql = format!("{COLUMNS} WHERE {} ORDER BY seq DESC LIMIT ?{}", conditions.join(" AND "), values.len());
    let mut statement = connection.prepare(&sql)?;
    statement.query_map(params_from_iter(values), entry)?.collect()
}

pub(super) fn counts(connection: &Connection, since: Option<Millis>, until: Option<Millis>) -> Result<AuditCounts> {
    let _look = standing_still(connection)?;
    let range = (since.unwrap_or(Millis::MIN), until.unwrap_or(Millis::MAX));
    let by = |expression: &str| -> Result<BTreeMap<String, u64>> {
        let mut statement = connection.prepare(&format!(
            "SELECT {expression} AS name, count(*) FROM audit
             WHERE at_ms >= ?1 AND at_ms < ?2 AND seq > ({SEALED}) GROUP BY name"
        ))?;
        let rows = statement.query_map(range, |row| Ok((row.get::<_, String>(0)?, count(row, 1)?)))?;
        rows.collect()
    };
    let hours = by("CAST(at_ms / 3600000 AS TEXT)")?;
    let hours = hours.into_iter().filter_map(|(hour, count)| Some((hour.parse().ok()?, count))).collect();
    let mut sum = Summary { operations: by("operation")?, sources: by("source")?, actors: by("actor")?, hours };
    let mut statement = connection.prepare_cached(&format!("{SEGMENT} WHERE to_ms >= ?1 AND from_ms < ?2"))?;
    let mut segments = statement.query(range)?;
    while let Some(row) = segments.next()? {
        let (segment, raw_bytes) = segment(row)?;
        if segment.from >= range.0 && segment.to < range.1 {
            sum.add(segment.summary);
            continue;
        }
        let entries = open(connection, &segment, raw_bytes)?;
        entries.iter().filter(|entry| entry.at >= range.0 && entry.at < range.1).for_each(|entry| sum.count(entry));
    }
    Ok(AuditCounts {
        total: sum.operations.values().sum(),
        by_operation: most(sum.operations),
        by_source: most(sum.sources),
        by_actor: most(sum.actors),
        by_bucket: sum.hours.into_iter().map(|(hour, count)| Counted { name: hour_name(hour), count }).collect(),
    })
}

/// The commonest first, 500 at most.
fn most(counts: BTreeMap<String, u64>) -> Vec<Counted> {
    let mut all: Vec<Counted> = counts.into_iter().map(|(name, count)| Counted { name, count }).collect();
    all.sort_by_key(|counted| std::cmp::Reverse(counted.count));
    all.truncate(500);
    all
}

fn hour_name(hour: i64) -> String {
    iso(hour.saturating_mul(3_600_000)).replace(".000Z", "Z")
}

pub(super) fn sealed(connection: &Connection) -> Result<SealedFacts> {
    connection.query_row(
        &format!(
            "SELECT count(*), sum(last_seq - first_seq + 1), ({SEALED}), sum(raw_bytes), sum(packed_bytes)
             FROM audit_segments"
        ),
        [],
        |row| {
            Ok(SealedFacts {
                segments: count(row, 0)?,
                entries: count(row, 1)?,
                last_seq: row.get(2)?,
                raw_bytes: count(row, 3)?,
                packed_bytes: count(row, 4)?,
            })
        },
    )
}

/// What the oldest entry that is not sealed follows.
pub(super) fn sealed_head(connection: &Connection) -> Result<Head> {
    let found = connection
        .query_row("SELECT last_seq, last_hash FROM audit_segments ORDER BY first_seq DESC LIMIT 1", [], |row| {
            Ok(Head { seq: row.get(0)?, hash: Digest(row.get(1)?) })
        })
        .optional()?;
    Ok(found.unwrap_or_default())
}
