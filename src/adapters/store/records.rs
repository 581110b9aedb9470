//! Imported records read back and deleted. They are written page by page: see `Store::write_pages`.

use super::StoreFuture;
use crate::core::audit::Draft;
use crate::core::model::{Digest, Millis, Resource, ScheduleId};

/// A record as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRecord {
    pub resource: String,
    pub key: String,
    /// Of `payload`.
    pub hash: Digest,
    pub first_seen: Millis,
    /// Hours are its grain: a record that stays the same is not written each time it is seen.
    pub last_seen: Millis,
    /// When its content was last new; of records from before that was kept, when it was last seen.
    pub changed: Millis,
    /// JSON; `None` where it was not asked for.
    pub payload: Option<String>,
}

/// Which records of a schedule to read, in order of resource and key.
#[derive(Clone, Debug)]
pub struct RecordQuery {
    pub id: ScheduleId,
    pub resource: Option<Resource>,
    pub key: Option<String>,
    /// Only records whose content changed then or later.
    pub changed_since: Option<Millis>,
    /// Only records behind this resource and key.
    pub after: Option<(String, String)>,
    pub limit: u32,
    /// A page ends early when its payloads have come to so many bytes.
    pub max_bytes: usize,
    pub with_payload: bool,
}

#[derive(Clone, Debug, Default)]
pub struct RecordPage {
    pub records: Vec<StoredRecord>,
    pub has_more: bool,
}

/// What there is of one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceCount {
    pub resource: String,
    pub records: u64,
    /// Of all payloads.
    pub bytes: u64,
    /// When a record came last that had not been there; `None` without records.
    pub newest: Option<Millis>,
    /// When the content of any changed last.
    pub changed: Option<Millis>,
    /// Whether it is known up to where its source was read.
    pub has_bookmark: bool,
}

/// Records, and the bookmarks that speak of them, stand and fall together.
pub trait RecordStore {
    fn records(&self, query: RecordQuery) -> StoreFuture<'_, RecordPage>;
    /// Per resource, in order of their names; those with a bookmark and no records too.
    fn record_counts(&self, id: ScheduleId, resource: Option<Resource>) -> StoreFuture<'_, Vec<ResourceCount>>;
    /// Takes a schedule's records away at once, or those of one resource, with their bookmarks and one that
    /// speaks of all resources; from then on nobody sees them. `purge_records` gives their space back.
    fn delete_records(
        &self,
        id: ScheduleId,
        resource: Option<Resource>,
        draft: Draft,
        now: Millis,
    ) -> StoreFuture<'_, Vec<i64>>;
    /// Removes what was deleted, looking at `limit` records at most; whether there is more to do.
    fn purge_records(&self, limit: u32) -> StoreFuture<'_, bool>;
}
