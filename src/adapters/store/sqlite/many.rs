//! Reads over many schedules: their specifications, and what one action changed.

use rusqlite::{Connection, Result, Row};

use super::history::{content, digest_at};
use super::read::{HandOver, loose, scan};
use crate::adapters::store::{Deed, SpecQuery, SpecRow, Version};
use crate::core::model::Digest;
use crate::core::row::RowSpec;

pub(super) fn specs(connection: &Connection, query: SpecQuery, hand_over: HandOver<'_, SpecRow>) -> Result<()> {
    let mut statement = connection.prepare_cached(
        "SELECT s.connector, s.tenant, s.interval_sec, s.cron, s.timezone, s.paused, s.pause_reason, s.pause_until_ms,
                s.spec, t.next_due_ms, t.failures
         FROM schedules s LEFT JOIN timers t ON t.id = s.id
         WHERE ?1 IS NULL OR s.connector = ?1 ORDER BY s.connector, s.tenant",
    )?;
    let read = |row: &Row<'_>| {
        let name = format!("{}/{}", row.get_ref(0)?.as_str()?, row.get_ref(1)?.as_str()?);
        let Ok(id) = name.parse() else { return Ok(None) };
        let spec = RowSpec {
            interval_sec: loose(row, 2)?,
            cron: loose(row, 3)?,
            timezone: loose(row, 4)?,
            paused: loose(row, 5)?.unwrap_or(false),
            pause_reason: loose(row, 6)?,
            pause_until: loose(row, 7)?,
            rest: loose(row, 8)?.unwrap_or_default(),
        };
        Ok(Some(SpecRow { id, spec, next_due: loose(row, 9)?, failures: loose(row, 10)?.unwrap_or(0) }))
    };
    scan(statement.query([query.connector.map(|connector| connector.as_str())])?, read, hand_over)
}

/// Walks all revisions: it is asked for rarely, and an index would cost every change.
pub(super) fn deeds(connection: &Connection, action_id: &str) -> Result<Vec<Deed>> {
    let mut statement = connection.prepare(
        "SELECT r.connector, r.tenant, r.at_ms, r.digest, b.digest,
                ifnull((SELECT content FROM contents c WHERE c.digest = b.digest),
                       CASE WHEN s.digest = b.digest THEN s.content END),
                n.digest, b.number IS NULL AND a.number > 1
         FROM (SELECT connector, tenant, max(number) AS number FROM revisions WHERE action_id = ?1
               GROUP BY connector, tenant) a
         JOIN revisions r ON r.connector = a.connector AND r.tenant = a.tenant AND r.number = a.number
         LEFT JOIN revisions b ON b.connector = a.connector AND b.tenant = a.tenant AND b.number = a.number - 1
         JOIN revisions n ON n.connector = a.connector AND n.tenant = a.tenant
              AND n.number = (SELECT max(number) FROM revisions q
                              WHERE q.connector = a.connector AND q.tenant = a.tenant)
         LEFT JOIN schedules s ON s.connector = a.connector AND s.tenant = a.tenant
         ORDER BY a.connector, a.tenant",
    )?;
    let rows = statement.query_map([action_id], |row| {
        let name = format!("{}/{}", row.get_ref(0)?.as_str()?, row.get_ref(1)?.as_str()?);
        let Ok(id) = name.parse() else { return Ok(None) };
        let bytes = row.get::<_, Option<Vec<u8>>>(5).ok().flatten();
        let mut before = digest_at(row, 4).map(|digest| Version { digest, content: content(Some(digest), bytes) });
        // A revision that was forgotten is not one that never was.
        if row.get(7)? {
            before = Some(Version { digest: Digest([0; 32]), content: None });
        }
        Ok(Some(Deed { id, at: row.get(2)?, before, after: digest_at(row, 3), now: digest_at(row, 6) }))
    })?;
    rows.filter_map(Result::transpose).collect()
}
