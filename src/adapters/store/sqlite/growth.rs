//! What keeps the store bounded where the operator wants it: old revisions and records unseen for long
//! are found on a reader and removed by the writer in small pieces. Also how large everything is.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension as _, Result};

use super::read::count;
use super::writer::Work;
use crate::core::model::Millis;
use crate::core::retention::KeepRevisions;

/// Schedules looked at in a step, and rows removed in one.
const VISITS: usize = 200;
const REMOVALS: usize = 500;

/// Up to which size the tables are measured whenever somebody asks: that reads every page.
const MEASURED_AT_ONCE: u64 = 256 << 20;

/// A schedule's revisions up to `number` are to go.
pub(super) struct Outdated {
    connector: String,
    tenant: String,
    number: i64,
}

/// What a step found, and where the next one begins.
pub(super) struct Found<T> {
    pub(super) rows: Vec<T>,
    pub(super) next: Option<String>,
}

/// Names as `after` has them: `connector/tenant`.
fn split(after: Option<&str>) -> (String, String) {
    let (connector, tenant) = after.and_then(|name| name.split_once('/')).unwrap_or_default();
    (connector.to_owned(), tenant.to_owned())
}

pub(super) fn outdated(
    connection: &Connection,
    after: Option<String>,
    keep: KeepRevisions,
    now: Millis,
) -> Result<Found<Outdated>> {
    let mut found = Found { rows: Vec::new(), next: after };
    let mut next = connection.prepare_cached(
        "SELECT connector, tenant FROM revisions WHERE (connector, tenant) > (?1, ?2)
         ORDER BY connector, tenant LIMIT 1",
    )?;
    // The newest stays, and so many before it; the rest goes up to the last that is old enough.
    let mut last = connection.prepare_cached(
        "SELECT max(number) FROM (SELECT number, at_ms FROM revisions WHERE connector = ?1 AND tenant = ?2
                                  ORDER BY number DESC LIMIT -1 OFFSET ?3) WHERE at_ms < ?4",
    )?;
    let oldest = keep.oldest(now);
    for _ in 0..VISITS {
        let behind = split(found.next.take().as_deref());
        let name: Option<(String, String)> =
            next.query_row((&behind.0, &behind.1), |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        let Some((connector, tenant)) = name else { return Ok(found) };
        found.next = Some(format!("{connector}/{tenant}"));
        let number: Option<i64> =
            last.query_row((&connector, &tenant, keep.at_least.max(1), oldest), |row| row.get(0))?;
        if let Some(number) = number {
            found.rows.push(Outdated { connector, tenant, number });
        }
    }
    Ok(found)
}

pub(super) fn forget_revisions(work: &mut Work<'_>, old: &[Outdated]) -> Result<u64> {
    let mut removed = 0;
    for Outdated { connector, tenant, number } in old {
        let sql = "DELETE FROM revisions WHERE connector = ?1 AND tenant = ?2 AND number <= ?3";
        removed += work.execute(sql, (connector, tenant, number))? as u64;
    }
    Ok(removed)
}

/// Contents that no revision has.
pub(super) fn unused_contents(connection: &Connection) -> Result<Vec<i64>> {
    let mut statement = connection.prepare(
        "SELECT id FROM contents WHERE digest NOT IN (SELECT digest FROM revisions WHERE digest IS NOT NULL) LIMIT ?1",
    )?;
    statement.query_map([i64::try_from(REMOVALS).unwrap_or(i64::MAX)], |row| row.get(0))?.collect()
}

/// One statement, since a revision may have come meanwhile that has the content again.
pub(super) fn forget_contents(work: &mut Work<'_>, ids: &[i64]) -> Result<u64> {
    let ids = serde_json::to_string(ids).unwrap_or_default();
    let removed = work.execute(
        "DELETE FROM contents WHERE id IN (SELECT value FROM json_each(?1))
         AND digest NOT IN (SELECT digest FROM revisions WHERE digest IS NOT NULL)",
        [ids],
    )?;
    Ok(removed as u64)
}

/// A record's key.
pub(super) struct Unseen {
    connector: String,
    tenant: String,
    resource: String,
    key: String,
}

/// Records of the next schedule behind `after` that have not been seen since `before`.
pub(super) fn unseen(connection: &Connection, after: Option<String>, before: Millis) -> Result<Found<Unseen>> {
    let behind = split(after.as_deref());
    let name: Option<(String, String)> = connection
        .prepare_cached(
            "SELECT connector, tenant FROM records WHERE (connector, tenant) > (?1, ?2)
             ORDER BY connector, tenant LIMIT 1",
        )?
        .query_row((behind.0, behind.1), |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((connector, tenant)) = name else { return Ok(Found { rows: Vec::new(), next: None }) };
    let mut statement = connection.prepare_cached(
        "SELECT resource, key FROM records WHERE connector = ?1 AND tenant = ?2 AND last_seen_ms < ?3 LIMIT ?4",
    )?;
    let limit = i64::try_from(REMOVALS).unwrap_or(i64::MAX);
    let rows = statement.query_map((&connector, &tenant, before, limit), |row| {
        let (connector, tenant) = (connector.clone(), tenant.clone());
        Ok(Unseen { connector, tenant, resource: row.get(0)?, key: row.get(1)? })
    })?;
    let rows = rows.collect::<Result<Vec<_>>>()?;
    // Of a schedule with more there is another step.
    let next =
        if rows.len() < REMOVALS { Some(format!("{connector}/{tenant}")) } else { after.or(Some(String::new())) };
    Ok(Found { rows, next })
}

pub(super) fn forget_records(work: &mut Work<'_>, unseen: &[Unseen], before: Millis) -> Result<u64> {
    let mut removed = 0;
    for Unseen { connector, tenant, resource, key } in unseen {
        removed += work.execute(
            "DELETE FROM records WHERE connector = ?1 AND tenant = ?2 AND resource = ?3 AND key = ?4
             AND last_seen_ms < ?5",
            (connector, tenant, resource, key, before),
        )? as u64;
    }
    Ok(removed)
}

/// Bytes by table, its indexes included; `None` where measuring would take long.
pub(super) fn table_bytes(connection: &Connection) -> Result<Option<BTreeMap<String, u64>>> {
    let pages: u64 =
        connection.query_row("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size", [], |row| {
            count(row, 0)
        })?;
    if pages > MEASURED_AT_ONCE {
        return Ok(None);
    }
    let mut statement = connection.prepare(
        "SELECT ifnull(m.tbl_name, d.name), sum(d.pgsize) FROM dbstat d LEFT JOIN sqlite_schema m ON m.name = d.name
         WHERE d.aggregate = TRUE GROUP BY 1",
    )?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, count(row, 1)?)))?;
    rows.collect::<Result<BTreeMap<String, u64>>>().map(Some)
}

/// Bytes inside the file that are free to be used again.
pub(super) fn free_bytes(connection: &Connection) -> Result<u64> {
    connection.query_row("SELECT freelist_count * page_size FROM pragma_freelist_count, pragma_page_size", [], |row| {
        count(row, 0)
    })
}
