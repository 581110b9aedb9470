//! What sources told of changes: each event once, and kept until it is worked off and for a while after.

use super::{Millis, Resource, ScheduleId, StoreFuture};

/// An event about one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookEvent {
    pub id: ScheduleId,
    /// The source's name for the event: it may send it again.
    pub event_id: String,
    pub topic: String,
    pub resource: Resource,
    pub key: String,
    /// Why nothing is to be done; `None` where it waits to be worked off.
    pub outcome: Option<&'static str>,
}

/// An event that waits to be worked off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingEvent {
    pub row: i64,
    pub resource: Resource,
    pub key: String,
}

/// The part of the store that keeps them.
pub trait Inbox: Send + Sync {
    /// Keeps an event; whether it is new.
    fn take_event(&self, event: WebhookEvent, now: Millis) -> StoreFuture<'_, bool>;
    /// A schedule's waiting events, oldest first.
    fn waiting_events(&self, id: ScheduleId, limit: u32) -> StoreFuture<'_, Vec<WaitingEvent>>;
    /// The schedules that events wait for.
    fn schedules_with_events(&self) -> StoreFuture<'_, Vec<ScheduleId>>;
    /// They need not be looked at again, and why.
    fn settle_events(&self, rows: Vec<i64>, outcome: &'static str, now: Millis) -> StoreFuture<'_, ()>;
    /// Forgets what was received before, settled or not; how many there were.
    fn prune_events(&self, before: Millis) -> StoreFuture<'_, usize>;
}
