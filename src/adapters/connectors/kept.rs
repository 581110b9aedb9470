//! A sink in memory for the connectors' tests.

use std::collections::BTreeMap;
use std::sync::Mutex;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::Value;

use super::{Page, RecordSink, SinkError};
use crate::core::model::{ImportStats, Resource};

type OnWrite = Box<dyn Fn(&[Page]) + Send + Sync>;

/// Keeps records and bookmarks, counts like the real store, and lets a test act between writes.
#[derive(Default)]
pub(super) struct Kept {
    /// Payloads by resource and key.
    pub records: Mutex<BTreeMap<(String, String), Value>>,
    pub bookmarks: Mutex<BTreeMap<String, Value>>,
    /// Of each write: how many records, and whether a bookmark came with them.
    pub writes: Mutex<Vec<(usize, bool)>>,
    pub on_write: Option<OnWrite>,
    pub broken: bool,
}

impl Kept {
    pub fn bookmark_of(&self, resource: &str) -> Option<Value> {
        self.bookmarks.lock().unwrap().get(resource).cloned()
    }

    fn write(&self, pages: Vec<Page>) -> Result<ImportStats, SinkError> {
        if self.broken {
            return Err(SinkError("disk full".to_owned()));
        }
        let has_bookmark = pages.iter().any(|page| page.bookmark.is_some());
        self.writes.lock().unwrap().push((pages.iter().map(|page| page.records.len()).sum(), has_bookmark));
        if let Some(on_write) = &self.on_write {
            on_write(&pages);
        }
        let mut stats = ImportStats::default();
        let mut records = self.records.lock().unwrap();
        for page in pages {
            for record in page.records {
                match records.insert((page.resource.to_string(), record.key), record.payload.clone()) {
                    None => stats.imported += 1,
                    Some(old) if old == record.payload => stats.skipped += 1,
                    Some(_) => stats.updated += 1,
                }
            }
            let bookmark = page.bookmark.map(|bookmark| (page.resource.to_string(), bookmark));
            self.bookmarks.lock().unwrap().extend(bookmark);
        }
        Ok(stats)
    }
}

impl RecordSink for Kept {
    fn bookmark(&self, resource: Resource) -> BoxFuture<'_, Result<Option<Value>, SinkError>> {
        std::future::ready(Ok(self.bookmark_of(resource.as_str()))).boxed()
    }

    fn write_page(&self, page: Page) -> BoxFuture<'_, Result<ImportStats, SinkError>> {
        std::future::ready(self.write(vec![page])).boxed()
    }

    fn write_pages(&self, pages: Vec<Page>) -> BoxFuture<'_, Result<ImportStats, SinkError>> {
        std::future::ready(self.write(pages)).boxed()
    }
}
