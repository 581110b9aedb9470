//! Where an import's records go: bounded pieces of each page to the store, the bookmark with the last.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use futures_util::future::BoxFuture;
use serde_json::Value;

use super::records::Deletions;
use crate::adapters::clock::Clock;
use crate::adapters::connectors::{Page, Record, RecordSink, SinkError};
use crate::adapters::store::SharedStore;
use crate::core::model::{ImportStats, Resource, ScheduleId};
use crate::core::volume::Reading;

/// Records in one transaction, so that no claim waits long behind an import's pages.
const PIECE_RECORDS: usize = 500;
/// Bytes in one transaction, about; one record may be larger.
const PIECE_BYTES: usize = 4 << 20;
/// A larger record is none that an import should bring: it is left out and counts as failed.
const RECORD_BYTES: usize = 16 << 20;
const KEY_BYTES: usize = 1024;

/// Stores what an import hands over.
pub(super) struct StoreSink {
    store: SharedStore,
    id: ScheduleId,
    run: i64,
    clock: Clock,
    deletions: Deletions,
    /// Deletions there had been when the run began.
    deleted_before: u64,
    /// Resources that were read from end to end, by what they brought.
    swept: Mutex<Vec<Reading>>,
    /// A bookmark was there or was written: what came is only what is new.
    is_incremental: AtomicBool,
}

impl StoreSink {
    pub fn new(store: SharedStore, id: ScheduleId, run: i64, clock: Clock, deletions: Deletions) -> Self {
        let deleted_before = deletions.count(&id);
        let (swept, is_incremental) = (Mutex::default(), AtomicBool::new(false));
        StoreSink { store, id, run, clock, deletions, deleted_before, swept, is_incremental }
    }

    /// The complete readings of a run that ended well with these counts; none where it was incremental.
    pub fn readings(&self, stats: ImportStats) -> Vec<Reading> {
        let swept = std::mem::take(&mut *self.swept.lock().unwrap_or_else(PoisonError::into_inner));
        if swept.is_empty() && !self.is_incremental.load(Ordering::Relaxed) {
            return vec![Reading { resource: None, got: stats.volume() }];
        }
        swept
    }

    async fn write(&self, mut pages: Vec<Page>) -> Result<ImportStats, SinkError> {
        let written = self.deletions.holding(&self.id, |deletions| {
            if deletions != self.deleted_before {
                // It speaks of records that have been deleted since: the next run is to read them again.
                pages.iter_mut().for_each(|page| page.bookmark = None);
            }
            self.store.write_pages(self.id.clone(), self.run, pages, self.clock.now())
        });
        written.await.map_err(|error| SinkError(error.to_string()))
    }

    /// Whether a record may be kept; the log tells of one that may not, but nothing of what is in it.
    fn takes(&self, resource: &Resource, record: &Record, bytes: usize) -> bool {
        let fits = bytes <= RECORD_BYTES && record.key.len() <= KEY_BYTES;
        if !fits {
            tracing::warn!(component = "import", tenant_id = %self.id.tenant,
                "a record of {resource} of {} was left out: {bytes} bytes under a key of {} bytes; at most \
                 {RECORD_BYTES} and {KEY_BYTES} are taken", self.id, record.key.len());
        }
        fits
    }
}

impl RecordSink for StoreSink {
    fn bookmark(&self, resource: Resource) -> BoxFuture<'_, Result<Option<Value>, SinkError>> {
        Box::pin(async move {
            let found = self.store.bookmark(self.id.clone(), resource).await;
            let found = found.map_err(|error| SinkError(error.to_string()))?;
            self.is_incremental.fetch_or(found.is_some(), Ordering::Relaxed);
            Ok(found)
        })
    }

    fn write_page(&self, page: Page) -> BoxFuture<'_, Result<ImportStats, SinkError>> {
        self.write_pages(vec![page])
    }

    fn write_pages(&self, pages: Vec<Page>) -> BoxFuture<'_, Result<ImportStats, SinkError>> {
        Box::pin(async move {
            let is_marked = pages.iter().any(|page| page.bookmark.is_some());
            self.is_incremental.fetch_or(is_marked, Ordering::Relaxed);
            let mut stats = ImportStats::default();
            let (mut piece, mut count, mut bytes) = (Vec::with_capacity(pages.len()), 0, 0);
            for Page { resource, records, bookmark } in pages {
                let mut kept = Vec::with_capacity(records.len().min(PIECE_RECORDS));
                for record in records {
                    let weight = weight(&record.payload);
                    if !self.takes(&resource, &record, weight) {
                        stats.failed += 1;
                        continue;
                    }
                    if count == PIECE_RECORDS || (bytes > 0 && bytes + weight > PIECE_BYTES) {
                        let records = std::mem::take(&mut kept);
                        piece.push(Page { resource: resource.clone(), records, bookmark: None });
                        stats += self.write(std::mem::take(&mut piece)).await?;
                        (count, bytes) = (0, 0);
                    }
                    (count, bytes) = (count + 1, bytes + weight);
                    kept.push(record);
                }
                piece.push(Page { resource, records: kept, bookmark });
            }
            stats += self.write(piece).await?;
            Ok(stats)
        })
    }

    fn swept(&self, resource: &Resource, records: u64) {
        let reading = Reading { resource: Some(resource.to_string()), got: records };
        self.swept.lock().unwrap_or_else(PoisonError::into_inner).push(reading);
    }
}

/// About the bytes that a value takes as JSON, without writing it.
fn weight(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) => 5,
        Value::Number(_) => 8,
        Value::String(text) => text.len() + 2,
        Value::Array(items) => 2 + items.iter().map(|item| weight(item) + 1).sum::<usize>(),
        Value::Object(fields) => 2 + fields.iter().map(|(name, field)| name.len() + 4 + weight(field)).sum::<usize>(),
    }
}
