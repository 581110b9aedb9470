//! Reads one list page by page while it changes underneath: nothing is skipped unseen, and no answer,
//! however wrong, can keep a reading going for ever.

use chrono::{DateTime, Days, NaiveDate, NaiveDateTime, Utc};
use serde_json::Value;

use super::super::client::{Account, ListPage};
use super::super::failure;
use super::{Met, Sync, content_hash, key_of};
use crate::adapters::connectors::{ErrorClass, ImportFailure, Record};
use crate::core::model::Resource;

/// The most the vendor gives of jobs; of everything else it gives twice as many.
const JOBS_A_PAGE: u64 = 25;
/// How far paging may go past the total the source names, which counts what is there, filtered or not.
const BEYOND_COUNT: u64 = 1_000;
/// How often one pass may step back, besides once for each page of the list.
const MOST_STEPS_BACK: u64 = 20;
/// More pages than this are no list, whatever the source says.
const MOST_PAGES: u64 = 40_000;
/// How often the one record of a page may come again at another offset: once, when another came before it.
const LONE_REPEATS: u32 = 2;

/// One list to read from end to end.
pub(super) struct Pass {
    /// What its records are stored or remembered as.
    pub resource: Resource,
    pub path: &'static str,
    /// The name of the parameter that carries the offset: the vendor has two.
    pub offset: &'static str,
    pub page_size: u64,
    pub query: Vec<(&'static str, String)>,
}

/// A list being read.
pub(super) struct Reading {
    pass: Pass,
    cursor: Cursor,
    /// The latest change among the records met.
    pub newest: Option<DateTime<Utc>>,
    /// No record came that had changed before one that came earlier.
    is_in_order: bool,
    is_over: bool,
}

impl Reading {
    pub fn new(pass: Pass) -> Self {
        Reading { pass, cursor: Cursor::default(), newest: None, is_in_order: true, is_over: false }
    }

    /// Up to which change the list has been read; `None` where it is in no order.
    pub fn reached(&self) -> Option<DateTime<Utc>> {
        self.newest.filter(|_| self.is_in_order)
    }
}

impl Sync<'_> {
    /// The next records that have not been met as they are; `None` at the end of the list.
    ///
    /// Offsets shift when records come, go or move while a list is read. So each page but the first
    /// starts with the last record of the one before. A page that starts with anything not yet met,
    /// or with a record that has changed and hence moved, may have skipped something: then the
    /// reading steps back. What is met twice is given once.
    pub(super) async fn next_page(
        &mut self,
        account: &mut Account,
        reading: &mut Reading,
    ) -> Result<Option<Vec<Record>>, ImportFailure> {
        while !reading.is_over {
            reading.cursor.turn(&reading.pass)?;
            let Some(page) = self.page(account, &reading.pass, reading.cursor.offset).await? else {
                // Nothing where a known record should be: the list has shrunk, which one look back settles.
                if !reading.cursor.anchored || reading.cursor.looked_back {
                    break;
                }
                reading.cursor.step_back(reading.pass.page_size);
                continue;
            };
            reading.cursor.count = reading.cursor.count.max(page.count);
            let first = page.items.first().and_then(key_of);
            if reading.cursor.anchored && !self.met(&reading.pass.resource, page.items.first(), first.as_deref()) {
                reading.cursor.step_back(reading.pass.page_size);
                continue;
            }
            if reading.cursor.is_same_page(first.as_deref()) {
                return Err(failure(
                    ErrorClass::BadResponse,
                    format!(
                        "AccuLynx gave the same page of {} again (offset {}): its paging does not work; \
                         nothing was marked as read",
                        reading.pass.path, reading.cursor.offset
                    ),
                ));
            }
            let received = page.items.len() as u64;
            let new = self.take(page.items, reading);
            reading.is_over = !reading.cursor.advance(received, first);
            if !new.is_empty() {
                reading.cursor.looked_back = false;
                return Ok(Some(new));
            }
        }
        reading.is_over = true;
        Ok(None)
    }

    async fn page(&self, account: &mut Account, pass: &Pass, offset: u64) -> Result<Option<ListPage>, ImportFailure> {
        let mut query = pass.query.clone();
        query.push(("pageSize", pass.page_size.to_string()));
        query.push((pass.offset, offset.to_string()));
        let page = self.client.page(account, pass.path, &query).await?;
        Ok(page.filter(|page| !page.items.is_empty()))
    }

    /// Whether an item has been met in this import and not moved since. One without a key cannot be
    /// told from others and is given the benefit of the doubt.
    fn met(&self, resource: &Resource, item: Option<&Value>, key: Option<&str>) -> bool {
        let (Some(item), Some(key)) = (item, key) else { return true };
        self.seen.get(&(resource.clone(), key.into())).is_some_and(|met| met.modified == modified_date(item))
    }

    /// The records of a page that have not been met as they are; an anchor was on the page before.
    fn take(&mut self, items: Vec<Value>, reading: &mut Reading) -> Vec<Record> {
        let resource = &reading.pass.resource;
        let mut new = Vec::with_capacity(items.len());
        for item in items.into_iter().skip(usize::from(reading.cursor.anchored)) {
            let Some(key) = key_of(&item) else {
                self.stats.failed += u64::from(self.nameless.insert((resource.clone(), content_hash(&item))));
                continue;
            };
            let met = Met::new(&item);
            if self.seen.insert((resource.clone(), key.as_str().into()), met) != Some(met) {
                reading.is_in_order &= met.modified >= reading.newest;
                new.push(Record { key, payload: item });
            }
            reading.newest = reading.newest.max(met.modified);
        }
        new
    }
}

/// Where a pass stands.
#[derive(Default)]
struct Cursor {
    offset: u64,
    /// Whether the page at `offset` has to start with a record already met.
    anchored: bool,
    pages: u64,
    steps_back: u64,
    /// Whether nothing new has come since the last step back.
    looked_back: bool,
    /// The largest total the source has named.
    count: Option<u64>,
    /// The first key of the page before and whether it had more than one record.
    before: Option<(String, bool)>,
    /// How often in a row a page had that one record only.
    lone_repeats: u32,
}

impl Cursor {
    /// Counts a request, so that no answer can keep a pass going for ever: a page either moves on,
    /// up to the total, or is one of a bounded number of steps back.
    fn turn(&mut self, pass: &Pass) -> Result<(), ImportFailure> {
        self.pages += 1;
        let count = self.count.unwrap_or(u64::MAX).min(u64::MAX - BEYOND_COUNT);
        let most_steps_back = MOST_STEPS_BACK + self.count.unwrap_or_default() / pass.page_size;
        if self.offset <= count + BEYOND_COUNT && self.steps_back <= most_steps_back && self.pages <= MOST_PAGES {
            return Ok(());
        }
        let message = format!(
            "AccuLynx gives {} without end: {} pages read, at offset {} of {}; nothing was marked as read",
            pass.path,
            self.pages - 1,
            self.offset,
            self.count.map_or("an unknown total".to_owned(), |count| count.to_string())
        );
        Err(failure(ErrorClass::BadResponse, message))
    }

    fn is_same_page(&mut self, first: Option<&str>) -> bool {
        let Some((_, several)) = self.before.as_ref().filter(|(before, _)| Some(before.as_str()) == first) else {
            self.lone_repeats = 0;
            return false;
        };
        self.lone_repeats += 1;
        *several || self.lone_repeats >= LONE_REPEATS
    }

    /// Moves on behind a page of `received` records; `false` at the end of the list.
    fn advance(&mut self, received: u64, first: Option<String>) -> bool {
        if self.anchored && received <= 1 {
            return false;
        }
        // A lone record at the start leaves nothing to overlap with but itself.
        self.anchored = received > 1;
        self.offset += if self.anchored { received - 1 } else { received };
        self.before = first.map(|first| (first, received > 1));
        true
    }

    fn step_back(&mut self, by: u64) {
        self.offset = self.offset.saturating_sub(by);
        self.anchored = self.offset > 0;
        self.before = None;
        self.steps_back += 1;
        self.looked_back = true;
    }
}

/// Jobs changed since the day before `known`, or all of them, the longest unchanged first; always both
/// bounds, which the vendor demands.
pub(super) fn jobs_pass(
    resource: Resource,
    unassigned: bool,
    known: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Pass {
    let mut query = vec![("sortBy", "ModifiedDate".to_owned()), ("sortOrder", "Ascending".to_owned())];
    if unassigned {
        query.push(("assignment", "unassigned".to_owned()));
    }
    if let Some(known) = known {
        // A day more on either side: the vendor's days may begin at another hour than ours.
        let day = |at: NaiveDate| at.format("%Y-%m-%d").to_string();
        let start = known.date_naive();
        let end = now.max(known).date_naive();
        query.push(("dateFilterType", "ModifiedDate".to_owned()));
        query.push(("startDate", day(start.checked_sub_days(Days::new(1)).unwrap_or(start))));
        query.push(("endDate", day(end.checked_add_days(Days::new(1)).unwrap_or(end))));
    }
    Pass { resource, path: "jobs", offset: "recordStartIndex", page_size: JOBS_A_PAGE, query }
}

/// The vendor writes UTC, with or without saying so.
pub(super) fn modified_date(item: &Value) -> Option<DateTime<Utc>> {
    let text = item.get("modifiedDate")?.as_str()?;
    let with_zone = DateTime::parse_from_rfc3339(text).map(|at| at.to_utc());
    with_zone.or_else(|_| text.parse::<NaiveDateTime>().map(|at| at.and_utc())).ok()
}
