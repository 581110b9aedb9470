//! Events of sources.

use rusqlite::{Connection, Result};

use super::writer::{Lane, Work};
use super::{SqliteStore, StoreFuture};
use crate::adapters::store::{Inbox, WaitingEvent, WebhookEvent};
use crate::core::model::{Millis, ScheduleId};

impl Inbox for SqliteStore {
    fn take_event(&self, event: WebhookEvent, now: Millis) -> StoreFuture<'_, bool> {
        self.writer.submit(Lane::Mutation, "keep a source's event", move |work| take(work, &event, now))
    }

    fn waiting_events(&self, id: ScheduleId, limit: u32) -> StoreFuture<'_, Vec<WaitingEvent>> {
        self.answer_now("read a source's events", |connection| waiting(connection, &id, limit))
    }

    fn schedules_with_events(&self) -> StoreFuture<'_, Vec<ScheduleId>> {
        self.answer_later("read a source's events", schedules)
    }

    fn settle_events(&self, rows: Vec<i64>, outcome: &'static str, now: Millis) -> StoreFuture<'_, ()> {
        self.writer.submit(Lane::Completion, "settle a source's events", move |work| {
            for row in rows {
                work.execute(
                    "UPDATE webhook_events SET done_ms = ?2, outcome = ?3 WHERE id = ?1 AND done_ms IS NULL",
                    (row, now, outcome),
                )?;
            }
            Ok(())
        })
    }

    fn prune_events(&self, before: Millis) -> StoreFuture<'_, usize> {
        self.writer.submit(Lane::Completion, "forget old events", move |work| {
            work.execute("DELETE FROM webhook_events WHERE received_ms < ?1", [before])
        })
    }
}

fn take(work: &mut Work<'_>, event: &WebhookEvent, now: Millis) -> Result<bool> {
    let taken = work.execute(
        "INSERT INTO webhook_events (connector, tenant, event_id, topic, resource, key, received_ms, done_ms, outcome)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO NOTHING",
        (
            event.id.connector.as_str(),
            event.id.tenant.as_str(),
            &event.event_id,
            &event.topic,
            event.resource.as_str(),
            &event.key,
            now,
            event.outcome.map(|_| now),
            event.outcome,
        ),
    )?;
    Ok(taken == 1)
}

fn waiting(connection: &Connection, id: &ScheduleId, limit: u32) -> Result<Vec<WaitingEvent>> {
    let mut statement = connection.prepare_cached(
        "SELECT id, resource, key FROM webhook_events
         WHERE connector = ?1 AND tenant = ?2 AND done_ms IS NULL ORDER BY id LIMIT ?3",
    )?;
    let rows = statement.query_map((id.connector.as_str(), id.tenant.as_str(), limit), |row| {
        let (key, name): (i64, String) = (row.get(0)?, row.get(1)?);
        let Ok(resource) = name.parse() else { return Ok(None) };
        Ok(Some(WaitingEvent { row: key, resource, key: row.get(2)? }))
    })?;
    rows.filter_map(Result::transpose).collect()
}

fn schedules(connection: &Connection) -> Result<Vec<ScheduleId>> {
    let mut statement = connection.prepare(
        "SELECT DISTINCT connector, tenant FROM webhook_events WHERE done_ms IS NULL ORDER BY connector, tenant",
    )?;
    let rows = statement
        .query_map([], |row| Ok(format!("{}/{}", row.get_ref(0)?.as_str()?, row.get_ref(1)?.as_str()?).parse().ok()))?;
    rows.filter_map(Result::transpose).collect()
}
