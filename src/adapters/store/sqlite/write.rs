//! What the writer's jobs do: each function runs inside the group's transaction.

use rusqlite::Result;

use super::writer::Work;
use super::{history, records};
use crate::adapters::connectors::{Page, Record};
use crate::adapters::store::{
    ANSWER_TTL_MS, Applied, Brake, Change, ChangeKind, Intent, Problem, Promised, Put, Remembered, Stamp,
};
use crate::core::model::{Digest, ImportStats, Millis, ScheduleId};

pub(super) fn apply(work: &mut Work<'_>, changes: Vec<Change>, intents: Vec<Intent>, now: Millis) -> Result<Applied> {
    let mut applied = Applied::default();
    for change in changes {
        applied.rows.push(match change.kind {
            ChangeKind::Put(put) => {
                let row = put_schedule(work, &change.id, &put, now)?;
                history::add_revision(work, &change.id, &change.by, Some(put.digest), now)?;
                row
            }
            ChangeKind::Delete => {
                history::keep_deleted(work, &change.id)?;
                let row = delete_schedule(work, &change.id)?;
                history::add_revision(work, &change.id, &change.by, None, now)?;
                row
            }
            ChangeKind::Note => 0,
        });
        applied.seqs.extend(work.append(change.audit, now)?);
    }
    for intent in intents {
        let commit = match &intent.commit {
            Some(note) => Some(super::git::add_commit(work, &intent, note, now)?),
            None => None,
        };
        let key = work.new_intent();
        work.execute(
            "INSERT INTO intents (id, connector, tenant, base, content, created_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            (
                key,
                intent.id.connector.as_str(),
                intent.id.tenant.as_str(),
                intent.base.map(|digest| digest.0),
                intent.content,
                now,
            ),
        )?;
        applied.promised.push(Promised { intent: key, commit });
    }
    Ok(applied)
}

fn put_schedule(work: &mut Work<'_>, id: &ScheduleId, put: &Put, now: Millis) -> Result<i64> {
    let row = match put.row {
        Some(row) if update_schedule(work, row, id, put, now)? => row,
        _ => insert_schedule(work, id, put, now)?,
    };
    // A timer that stood still begins anew: what failed before the pause is not held against it.
    work.execute(
        "INSERT INTO timers (id, next_due_ms) VALUES (?1, ?2)
         ON CONFLICT (id) DO UPDATE SET
             failures = CASE WHEN next_due_ms IS NULL AND excluded.next_due_ms IS NOT NULL THEN 0 ELSE failures END,
             next_due_ms = excluded.next_due_ms
         WHERE NOT ?3",
        (row, put.next_due, put.keeps_due),
    )?;
    Ok(row)
}

/// Returns whether the row was there.
fn update_schedule(work: &mut Work<'_>, row: i64, id: &ScheduleId, put: &Put, now: Millis) -> Result<bool> {
    const UPDATE: &str =
        "UPDATE schedules SET interval_sec = ?4, cron = ?5, timezone = ?6, paused = ?7, pause_reason = ?8, spec = ?9,
                fingerprint = ?10, digest = ?11, stamp = ?12, updated_ms = ?13, content = ?14, pause_until_ms = ?15,
                basis = ?16
         WHERE id = ?1 AND connector = ?2 AND tenant = ?3";
    history::keep_displaced(work, row, put.digest)?;
    Ok(write_schedule(work, UPDATE, row, id, put, now)? > 0)
}

/// Inserts a row, under the key it had if it was lost. A row of that name put there by somebody
/// else is taken over.
fn insert_schedule(work: &mut Work<'_>, id: &ScheduleId, put: &Put, now: Millis) -> Result<i64> {
    const INSERT: &str =
        "INSERT OR IGNORE INTO schedules (id, connector, tenant, interval_sec, cron, timezone, paused, pause_reason, spec,
                                          fingerprint, digest, stamp, created_ms, updated_ms, content, pause_until_ms,
                                          basis)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?13, ?14, ?15, ?16)";
    let row = work.row_for(put.row);
    if write_schedule(work, INSERT, row, id, put, now)? > 0 {
        return Ok(row);
    }
    let (connector, tenant) = (id.connector.as_str(), id.tenant.as_str());
    let row = work.value("SELECT id FROM schedules WHERE connector = ?1 AND tenant = ?2", &[&connector, &tenant])?;
    update_schedule(work, row, id, put, now)?;
    Ok(row)
}

/// Runs a statement over a schedule's columns, in the order in which both statements number them.
#[expect(clippy::cast_possible_wrap, reason = "a stamp is 64 bits without meaning; the column keeps them all")]
fn write_schedule(
    work: &mut Work<'_>,
    statement: &str,
    row: i64,
    id: &ScheduleId,
    put: &Put,
    now: Millis,
) -> Result<usize> {
    let spec = &put.spec;
    work.execute(
        statement,
        rusqlite::params![
            row,
            id.connector.as_str(),
            id.tenant.as_str(),
            spec.interval_sec,
            spec.cron,
            spec.timezone,
            spec.paused,
            spec.pause_reason,
            spec.rest,
            put.fingerprint,
            put.digest.0,
            put.stamp as i64,
            now,
            put.content,
            spec.pause_until,
            (put.basis != put.digest).then_some(put.basis.0),
        ],
    )
}

fn delete_schedule(work: &mut Work<'_>, id: &ScheduleId) -> Result<i64> {
    let key = (id.connector.as_str(), id.tenant.as_str());
    let row = work.row("DELETE FROM schedules WHERE connector = ?1 AND tenant = ?2 RETURNING id", key, |row| {
        row.get::<_, i64>(0)
    })?;
    if let Some(row) = row {
        work.execute("DELETE FROM timers WHERE id = ?1", [row])?;
        work.retire_row(row)?;
    }
    Ok(row.unwrap_or(0))
}

#[expect(clippy::cast_possible_wrap, reason = "a stamp is 64 bits without meaning; the column keeps them all")]
pub(super) fn set_stamps(work: &mut Work<'_>, stamps: &[Stamp]) -> Result<()> {
    for Stamp { row, digest, stamp } in stamps {
        let set = "UPDATE schedules SET stamp = ?3 WHERE id = ?1 AND digest = ?2";
        work.execute(set, (row, digest.0, *stamp as i64))?;
    }
    Ok(())
}

/// How coarse `last_seen_ms` is: a sweep that finds everything unchanged need not rewrite it all.
const LAST_SEEN_GRAIN_MS: Millis = 3_600_000;

pub(super) fn pages(work: &mut Work<'_>, id: &ScheduleId, pages: &[Page], now: Millis) -> Result<ImportStats> {
    let mut stats = ImportStats::default();
    for page in pages {
        stats += write_page(work, id, page, now)?;
    }
    Ok(stats)
}

fn write_page(work: &mut Work<'_>, id: &ScheduleId, page: &Page, now: Millis) -> Result<ImportStats> {
    let mut stats = ImportStats::default();
    let epoch = records::epoch(work, id, page.resource.as_str())?;
    for record in &page.records {
        upsert(work, id, page, record, (epoch, now), &mut stats)?;
    }
    if let Some(bookmark) = &page.bookmark {
        work.execute(
            "INSERT INTO bookmarks (connector, tenant, resource, bookmark) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (connector, tenant, resource) DO UPDATE SET bookmark = excluded.bookmark",
            (id.connector.as_str(), id.tenant.as_str(), page.resource.as_str(), bookmark.to_string()),
        )?;
    }
    Ok(stats)
}

/// `epoch` is the one that the resource's records are written in: a record of an earlier one was deleted.
fn upsert(
    work: &mut Work<'_>,
    id: &ScheduleId,
    page: &Page,
    record: &Record,
    (epoch, now): (i64, Millis),
    stats: &mut ImportStats,
) -> Result<()> {
    let payload = record.payload.to_string();
    let hash = Digest::of(payload.as_bytes());
    let key = (id.connector.as_str(), id.tenant.as_str(), page.resource.as_str(), record.key.as_str());
    let known = work.row(
        "SELECT hash, last_seen_ms, epoch FROM records
         WHERE connector = ?1 AND tenant = ?2 AND resource = ?3 AND key = ?4",
        key,
        |row| Ok((Digest(row.get(0)?), row.get::<_, Millis>(1)?, row.get::<_, i64>(2)?)),
    )?;
    match known.filter(|(_, _, written_in)| *written_in >= epoch) {
        None => {
            stats.imported += 1;
            work.execute(
                "INSERT OR REPLACE INTO records (connector, tenant, resource, key, hash, payload, first_seen_ms,
                                                 last_seen_ms, changed_ms, epoch)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7, ?7, ?8)",
                (key.0, key.1, key.2, key.3, hash.0, payload, now, epoch),
            )?;
        }
        Some((known, ..)) if known != hash => {
            stats.updated += 1;
            work.execute(
                "UPDATE records SET hash = ?5, payload = ?6, last_seen_ms = ?7, changed_ms = ?7
                 WHERE connector = ?1 AND tenant = ?2 AND resource = ?3 AND key = ?4",
                (key.0, key.1, key.2, key.3, hash.0, payload, now),
            )?;
        }
        Some((_, last_seen, _)) => {
            stats.skipped += 1;
            if now - last_seen >= LAST_SEEN_GRAIN_MS {
                work.execute(
                    "UPDATE records SET last_seen_ms = ?5
                     WHERE connector = ?1 AND tenant = ?2 AND resource = ?3 AND key = ?4",
                    (key.0, key.1, key.2, key.3, now),
                )?;
            }
        }
    }
    Ok(())
}

/// A file that stays broken keeps the moment since when it is.
pub(super) fn put_problem(work: &mut Work<'_>, problem: &Problem) -> Result<()> {
    work.execute(
        "INSERT INTO problems (path, digest, since_ms, diagnostics) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (path) DO UPDATE SET digest = excluded.digest, diagnostics = excluded.diagnostics",
        (
            &problem.path,
            problem.digest.map(|digest| digest.0),
            problem.since,
            serde_json::to_string(&problem.diagnostics).unwrap_or_default(),
        ),
    )
    .map(|_| ())
}

pub(super) fn put_brake(work: &mut Work<'_>, brake: &Brake) -> Result<()> {
    work.execute(
        "INSERT OR REPLACE INTO brakes (scope, reason, actor, since_ms) VALUES (?1, ?2, ?3, ?4)",
        (&brake.scope, &brake.reason, &brake.actor, brake.since),
    )
    .map(|_| ())
}

pub(super) fn remember_answer(work: &mut Work<'_>, key: &str, remembered: &Remembered, now: Millis) -> Result<()> {
    work.execute("DELETE FROM answers WHERE created_ms < ?1", [now - ANSWER_TTL_MS])?;
    work.execute(
        "INSERT OR REPLACE INTO answers (key, request, answer, created_ms) VALUES (?1, ?2, ?3, ?4)",
        (key, remembered.request.0, &remembered.answer, now),
    )
    .map(|_| ())
}
