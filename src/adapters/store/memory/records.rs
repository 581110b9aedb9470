//! Imported records in memory: written, read and deleted.

use std::collections::BTreeMap;

use super::super::{RecordPage, RecordQuery, RecordStore, ResourceCount, StoreFuture, StoreResult, StoredRecord};
use super::tables::Tables;
use super::{MemoryStore, failed};
use crate::adapters::connectors::Page;
use crate::core::audit::Draft;
use crate::core::model::{Digest, ImportStats, Millis, Resource, ScheduleId};

#[derive(Clone, Debug)]
pub struct Kept {
    hash: Digest,
    payload: String,
    first_seen: Millis,
    last_seen: Millis,
    changed: Millis,
}

pub type Records = BTreeMap<(ScheduleId, Resource, String), Kept>;

impl Tables {
    pub fn pages(&mut self, id: &ScheduleId, pages: Vec<Page>, now: Millis) -> StoreResult<ImportStats> {
        let mut records = pages.iter().flat_map(|page| &page.records);
        if records.any(|record| Some(&record.key) == self.refused_record.as_ref()) {
            return Err(failed("store imported records", "refused"));
        }
        let mut stats = ImportStats::default();
        for page in pages {
            stats += self.page(id, page, now);
        }
        Ok(stats)
    }

    fn page(&mut self, id: &ScheduleId, page: Page, now: Millis) -> ImportStats {
        let mut stats = ImportStats::default();
        for record in page.records {
            let payload = record.payload.to_string();
            let hash = Digest::of(payload.as_bytes());
            let fresh = Kept { hash, payload, first_seen: now, last_seen: now, changed: now };
            let known = self.records.entry((id.clone(), page.resource.clone(), record.key));
            known
                .and_modify(|known| {
                    let is_same = known.hash == hash;
                    stats.updated += u64::from(!is_same);
                    stats.skipped += u64::from(is_same);
                    let changed = if is_same { known.changed } else { now };
                    *known = Kept { first_seen: known.first_seen, changed, ..fresh.clone() };
                })
                .or_insert_with(|| {
                    stats.imported += 1;
                    fresh.clone()
                });
        }
        if let Some(bookmark) = page.bookmark {
            self.bookmarks.insert((id.clone(), page.resource), bookmark);
        }
        stats
    }

    /// Forgets records that nobody has seen since `before`.
    pub fn forget_unseen(&mut self, before: Millis) -> u64 {
        let known = self.records.len();
        self.records.retain(|_, kept| kept.last_seen >= before);
        (known - self.records.len()) as u64
    }

    fn record_page(&self, query: &RecordQuery) -> RecordPage {
        let asked = |(id, resource, key): &(ScheduleId, Resource, String), kept: &Kept| {
            *id == query.id
                && query.resource.as_ref().is_none_or(|asked| asked == resource)
                && query.key.as_ref().is_none_or(|asked| asked == key)
                && query.changed_since.is_none_or(|since| kept.changed >= since)
                && query
                    .after
                    .as_ref()
                    .is_none_or(|(after, behind)| (resource.as_str(), key.as_str()) > (after.as_str(), behind.as_str()))
        };
        let (mut page, mut bytes) = (RecordPage::default(), 0);
        for ((_, resource, key), kept) in self.records.iter().filter(|(key, kept)| asked(key, kept)) {
            if page.records.len() >= query.limit as usize || bytes >= query.max_bytes {
                page.has_more = true;
                break;
            }
            let Kept { hash, first_seen, last_seen, changed, .. } = *kept;
            let payload = query.with_payload.then(|| kept.payload.clone());
            bytes += payload.as_ref().map_or(0, String::len);
            let (resource, key) = (resource.to_string(), key.clone());
            page.records.push(StoredRecord { resource, key, hash, first_seen, last_seen, changed, payload });
        }
        page
    }

    fn record_counts(&self, id: &ScheduleId, resource: Option<&Resource>) -> Vec<ResourceCount> {
        let asked = |of: &ScheduleId, name: &Resource| of == id && resource.is_none_or(|asked| asked == name);
        let mut counts: BTreeMap<&Resource, ResourceCount> = BTreeMap::new();
        let none = |name: &Resource| ResourceCount {
            resource: name.to_string(),
            records: 0,
            bytes: 0,
            newest: None,
            changed: None,
            has_bookmark: false,
        };
        for ((_, name, _), kept) in self.records.iter().filter(|((of, name, _), _)| asked(of, name)) {
            let count = counts.entry(name).or_insert_with(|| none(name));
            count.records += 1;
            count.bytes += kept.payload.len() as u64;
            count.newest = count.newest.max(Some(kept.first_seen));
            count.changed = count.changed.max(Some(kept.changed));
        }
        for (_, name) in self.bookmarks.keys().filter(|(of, name)| asked(of, name)) {
            counts.entry(name).or_insert_with(|| none(name)).has_bookmark = true;
        }
        counts.into_values().collect()
    }
}

impl RecordStore for MemoryStore {
    fn records(&self, query: RecordQuery) -> StoreFuture<'_, RecordPage> {
        self.read("read records", |tables| tables.record_page(&query))
    }

    fn record_counts(&self, id: ScheduleId, resource: Option<Resource>) -> StoreFuture<'_, Vec<ResourceCount>> {
        self.read("count records", |tables| tables.record_counts(&id, resource.as_ref()))
    }

    fn delete_records(
        &self,
        id: ScheduleId,
        resource: Option<Resource>,
        draft: Draft,
        now: Millis,
    ) -> StoreFuture<'_, Vec<i64>> {
        self.write("delete records", move |tables| {
            let stays = |of: &ScheduleId, name: &Resource| *of != id || resource.as_ref().is_some_and(|it| it != name);
            tables.records.retain(|(of, name, _), _| stays(of, name));
            let shared = id.connector.shared_bookmark();
            tables.bookmarks.retain(|(of, name), _| stays(of, name) && (*of != id || shared.as_ref() != Some(name)));
            Ok(tables.append(vec![draft], now))
        })
    }

    fn purge_records(&self, _: u32) -> StoreFuture<'_, bool> {
        self.read("look for deleted records", |_| false)
    }
}
