//! Imported records shown and deleted. Payloads are customers' data: they are handed to operators who
//! ask for them and stand in no log and no audit entry.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::json;

use super::App;
use super::apply::{draft, new_action_id};
use super::error::AppError;
use super::views::{RecordView, RecordsDeleted, RecordsSummary, ResourceSummary};
use crate::adapters::store::{RecordQuery, ResourceCount, StoredRecord};
use crate::core::audit::operation;
use crate::core::model::{Caller, Resource, ScheduleId};
use crate::core::timing::iso;

/// Payload bytes in one answer or one piece of an export; one record may be larger.
const PAGE_BYTES: usize = 4 << 20;

/// Which records a caller asks for.
#[derive(Clone, Debug, Default)]
pub struct RecordsWanted {
    pub resource: Option<Resource>,
    pub key: Option<String>,
    pub changed_since: Option<i64>,
    pub with_payload: bool,
}

/// How often each schedule's records were deleted since the program started: a bookmark that was read
/// before a deletion must not be written after it, else what was deleted would never come again.
#[derive(Clone, Default)]
pub(super) struct Deletions(Arc<Mutex<HashMap<ScheduleId, u64>>>);

impl Deletions {
    pub fn count(&self, id: &ScheduleId) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(id).copied().unwrap_or(0)
    }

    /// Does something with the count, during which there is no deletion.
    pub fn holding<T>(&self, id: &ScheduleId, deed: impl FnOnce(u64) -> T) -> T {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        deed(counts.get(id).copied().unwrap_or(0))
    }

    /// Counts a deletion, which `hand_in` hands to the store.
    fn during<T>(&self, id: &ScheduleId, hand_in: impl FnOnce() -> T) -> T {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(id.clone()).or_default() += 1;
        hand_in()
    }
}

impl App {
    /// A page of records behind `after`, and where the next page begins.
    pub async fn records(
        &self,
        id: &ScheduleId,
        wanted: RecordsWanted,
        after: Option<(String, String)>,
        limit: u32,
    ) -> Result<(Vec<RecordView>, Option<(String, String)>), AppError> {
        let RecordsWanted { resource, key, changed_since, with_payload } = wanted;
        let query = RecordQuery {
            id: id.clone(),
            resource,
            key,
            changed_since,
            after,
            limit,
            max_bytes: PAGE_BYTES,
            with_payload,
        };
        let page = self.store.records(query).await?;
        let next = page.records.last().filter(|_| page.has_more);
        let next = next.map(|last| (last.resource.clone(), last.key.clone()));
        Ok((page.records.into_iter().map(|record| view(id, record)).collect(), next))
    }

    pub async fn records_summary(
        &self,
        id: &ScheduleId,
        resource: Option<Resource>,
    ) -> Result<RecordsSummary, AppError> {
        let counts = self.store.record_counts(id.clone(), resource).await?;
        Ok(RecordsSummary {
            ok: true,
            connector: id.connector.to_string(),
            tenant: id.tenant.to_string(),
            records: counts.iter().map(|count| count.records).sum(),
            bytes: counts.iter().map(|count| count.bytes).sum(),
            resources: counts.into_iter().map(summary).collect(),
        })
    }

    /// Deletes a tenant's records, or those of one resource, and the bookmarks that speak of them: the
    /// next import reads everything again.
    pub async fn delete_records(
        &self,
        id: &ScheduleId,
        resource: Option<Resource>,
        dry_run: bool,
        caller: &Caller,
    ) -> Result<RecordsDeleted, AppError> {
        let counts = self.store.record_counts(id.clone(), resource.clone()).await?;
        let mut answer = RecordsDeleted {
            ok: true,
            dry_run,
            records: counts.iter().map(|count| count.records).sum(),
            resources: counts.into_iter().map(summary).collect(),
            action_id: String::new(),
            audit: Vec::new(),
        };
        if dry_run || answer.resources.is_empty() {
            return Ok(answer);
        }
        answer.action_id = new_action_id();
        let by_resource: serde_json::Map<_, _> =
            answer.resources.iter().map(|count| (count.resource.clone(), count.records.into())).collect();
        let detail = json!({"records": answer.records, "resources": by_resource});
        let entry = draft(Some(id), operation::RECORDS_DELETED, caller, &answer.action_id, detail);
        let now = self.clock.now();
        let deleted = self.deletions.during(id, || self.store.delete_records(id.clone(), resource, entry, now));
        answer.audit = deleted.await?;
        self.metrics.local_action(id.tenant.as_str(), "delete-records");
        self.metrics.event(operation::RECORDS_DELETED, "warning");
        Ok(answer)
    }

    /// Gives back the space of deleted records; whether there is more to do.
    pub async fn purge_records(&self) -> Result<bool, AppError> {
        /// Some milliseconds of the store's time, so that no claim waits longer for it.
        const AT_ONCE: u32 = 500;
        Ok(self.store.purge_records(AT_ONCE).await?)
    }
}

fn view(id: &ScheduleId, record: StoredRecord) -> RecordView {
    RecordView {
        connector: id.connector.to_string(),
        tenant: id.tenant.to_string(),
        resource: record.resource,
        key: record.key,
        hash: record.hash.to_hex(),
        first_seen_iso: iso(record.first_seen),
        last_seen_iso: iso(record.last_seen),
        changed_iso: iso(record.changed),
        // A payload that somebody broke by hand is shown as the text it is.
        payload: record.payload.map(|text| serde_json::from_str(&text).unwrap_or_else(|_| text.into())),
    }
}

fn summary(count: ResourceCount) -> ResourceSummary {
    ResourceSummary {
        resource: count.resource,
        records: count.records,
        bytes: count.bytes,
        newest_iso: count.newest.map(iso),
        changed_iso: count.changed.map(iso),
        bookmark: count.has_bookmark,
    }
}
