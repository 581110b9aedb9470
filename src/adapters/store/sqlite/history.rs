//! Revisions: written in the transaction of their change, read by schedule or as the fleet was once.

use rusqlite::types::Value as Sql;
use rusqlite::{Connection, Result, Row, params_from_iter};

use super::read::{HandOver, scan};
use super::writer::Work;
use crate::adapters::store::{Author, PastState, Revision, RevisionQuery, Version};
use crate::core::model::{Digest, Millis, ScheduleId};

/// Keeps what a row held before it is put to another content.
pub(super) fn keep_displaced(work: &mut Work<'_>, row: i64, next: Digest) -> Result<()> {
    work.execute(
        "INSERT OR IGNORE INTO contents (digest, content)
         SELECT digest, content FROM schedules WHERE id = ?1 AND digest <> ?2",
        (row, next.0),
    )
    .map(|_| ())
}

/// As `keep_displaced`, of a row about to be deleted.
pub(super) fn keep_deleted(work: &mut Work<'_>, id: &ScheduleId) -> Result<()> {
    work.execute(
        "INSERT OR IGNORE INTO contents (digest, content)
         SELECT digest, content FROM schedules WHERE connector = ?1 AND tenant = ?2",
        (id.connector.as_str(), id.tenant.as_str()),
    )
    .map(|_| ())
}

/// Adds a revision unless the last one says the same already, as it does when a row is repaired;
/// what never was there is not deleted either.
pub(super) fn add_revision(
    work: &mut Work<'_>,
    id: &ScheduleId,
    by: &Author,
    digest: Option<Digest>,
    now: Millis,
) -> Result<()> {
    let (connector, tenant) = (id.connector.as_str(), id.tenant.as_str());
    let last = work.row(
        "SELECT number, digest FROM revisions WHERE connector = ?1 AND tenant = ?2 ORDER BY number DESC LIMIT 1",
        (connector, tenant),
        |row| Ok((row.get::<_, i64>(0)?, digest_at(row, 1))),
    )?;
    let (number, was) = last.unwrap_or((0, None));
    if was == digest {
        return Ok(());
    }
    let digest = digest.map(|digest| digest.0);
    work.execute(
        "INSERT INTO revisions (connector, tenant, number, at_ms, source, actor, action_id, digest)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        (connector, tenant, number + 1, now, by.source.as_str(), &by.actor, &by.action_id, digest),
    )
    .map(|_| ())
}

/// The bytes behind the digest, if they are still those.
pub(super) fn content(digest: Option<Digest>, bytes: Option<Vec<u8>>) -> Option<Vec<u8>> {
    bytes.filter(|bytes| Some(Digest::of(bytes)) == digest)
}

pub(super) fn digest_at(row: &Row<'_>, column: usize) -> Option<Digest> {
    row.get::<_, Option<[u8; 32]>>(column).ok().flatten().map(Digest)
}

fn bytes_at(row: &Row<'_>, column: usize) -> Option<Vec<u8>> {
    row.get::<_, Option<Vec<u8>>>(column).ok().flatten()
}

pub(super) fn revisions(connection: &Connection, query: &RevisionQuery) -> Result<Vec<Revision>> {
    const CONTENT: &str = "ifnull((SELECT content FROM contents c WHERE c.digest = r.digest),
        (SELECT content FROM schedules s WHERE s.connector = r.connector AND s.tenant = r.tenant AND s.digest = r.digest))";
    let mut conditions = vec!["connector = ?1 AND tenant = ?2".to_owned()];
    let text = |text: &str| Sql::Text(text.to_owned());
    let mut values = vec![text(query.id.connector.as_str()), text(query.id.tenant.as_str())];
    let mut when = |condition: &str, value: Option<Sql>| {
        if let Some(value) = value {
            values.push(value);
            conditions.push(condition.replace('?', &format!("?{}", values.len())));
        }
    };
    when("number < ?", query.before.map(Sql::Integer));
    when("at_ms <= ?", query.until.map(Sql::Integer));
    when("substr(lower(hex(digest)), 1, length(?)) = ?", query.digest_prefix.as_deref().map(text));
    values.push(Sql::Integer(query.limit.into()));
    let with = if query.with_content { CONTENT } else { "NULL" };
    let sql = format!(
        "SELECT number, at_ms, source, actor, action_id, digest, {with} FROM revisions r
         WHERE {} ORDER BY number DESC LIMIT ?{}",
        conditions.join(" AND "),
        values.len()
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map(params_from_iter(values), |row| {
        let digest = digest_at(row, 5);
        Ok(Revision {
            number: row.get(0)?,
            at: row.get(1)?,
            source: row.get(2)?,
            actor: row.get(3)?,
            action_id: row.get(4)?,
            digest,
            content: content(digest, bytes_at(row, 6)),
        })
    })?;
    rows.collect()
}

pub(super) fn fleet_at(connection: &Connection, at: Millis, hand_over: HandOver<'_, PastState>) -> Result<()> {
    let mut statement = connection.prepare(
        "SELECT f.connector, f.tenant, f.at_ms, f.action_id = '' OR f.number > 1, p.number, p.digest,
                ifnull((SELECT content FROM contents c WHERE c.digest = p.digest),
                       CASE WHEN s.digest = p.digest THEN s.content END),
                s.digest, s.content
         FROM revisions f
         LEFT JOIN revisions p ON p.connector = f.connector AND p.tenant = f.tenant
              AND p.number = (SELECT number FROM revisions q
                              WHERE q.connector = f.connector AND q.tenant = f.tenant AND q.at_ms <= ?1
                              ORDER BY number DESC LIMIT 1)
         LEFT JOIN schedules s ON s.connector = f.connector AND s.tenant = f.tenant
         WHERE f.number = (SELECT min(number) FROM revisions m WHERE m.connector = f.connector AND m.tenant = f.tenant)
         ORDER BY f.connector, f.tenant",
    )?;
    let read = |row: &Row<'_>| {
        let name = format!("{}/{}", row.get_ref(0)?.as_str()?, row.get_ref(1)?.as_str()?);
        let Ok(id) = name.parse() else { return Ok(None) };
        let version = |digest: Option<Digest>, bytes: Option<Vec<u8>>| {
            digest.map(|digest| Version { digest, content: content(Some(digest), bytes) })
        };
        Ok(Some(PastState {
            id,
            known_since: row.get(2)?,
            // What was before the first revision that is kept was there.
            is_begun_late: row.get(3)?,
            number: row.get(4)?,
            then: version(digest_at(row, 5), bytes_at(row, 6)),
            now: version(digest_at(row, 7), bytes_at(row, 8)),
        }))
    };
    scan(statement.query([at])?, read, hand_over)
}
