//! Events of sources in memory: the counterpart of `sqlite/inbox`.

use std::collections::BTreeMap;

use super::super::{Inbox, StoreFuture, WaitingEvent, WebhookEvent};
use super::MemoryStore;
use crate::core::model::{Millis, ScheduleId};

/// Events by the order in which they came.
#[derive(Clone, Debug, Default)]
pub struct Events(BTreeMap<i64, Kept>);

#[derive(Clone, Debug)]
struct Kept {
    event: WebhookEvent,
    received: Millis,
}

impl Inbox for MemoryStore {
    fn take_event(&self, event: WebhookEvent, now: Millis) -> StoreFuture<'_, bool> {
        self.write("keep a source's event", move |tables| {
            let events = &mut tables.events.0;
            if events.values().any(|kept| kept.event.id == event.id && kept.event.event_id == event.event_id) {
                return Ok(false);
            }
            let row = events.last_key_value().map_or(0, |(row, _)| *row) + 1;
            events.insert(row, Kept { event, received: now });
            Ok(true)
        })
    }

    fn waiting_events(&self, id: ScheduleId, limit: u32) -> StoreFuture<'_, Vec<WaitingEvent>> {
        self.read("read a source's events", move |tables| {
            let waiting =
                tables.events.0.iter().filter(|(_, kept)| kept.event.id == id && kept.event.outcome.is_none());
            let shown = waiting.map(|(row, Kept { event, .. })| WaitingEvent {
                row: *row,
                resource: event.resource.clone(),
                key: event.key.clone(),
            });
            shown.take(limit as usize).collect()
        })
    }

    fn schedules_with_events(&self) -> StoreFuture<'_, Vec<ScheduleId>> {
        self.read("read a source's events", |tables| {
            let waiting = tables.events.0.values().filter(|kept| kept.event.outcome.is_none());
            let ids: std::collections::BTreeSet<_> = waiting.map(|kept| kept.event.id.clone()).collect();
            ids.into_iter().collect()
        })
    }

    fn settle_events(&self, rows: Vec<i64>, outcome: &'static str, _now: Millis) -> StoreFuture<'_, ()> {
        self.write("settle a source's events", move |tables| {
            for row in rows {
                if let Some(kept) = tables.events.0.get_mut(&row) {
                    kept.event.outcome.get_or_insert(outcome);
                }
            }
            Ok(())
        })
    }

    fn prune_events(&self, before: Millis) -> StoreFuture<'_, usize> {
        self.write("forget old events", move |tables| {
            let count = tables.events.0.len();
            tables.events.0.retain(|_, kept| kept.received >= before);
            Ok(count - tables.events.0.len())
        })
    }
}
