//! Reads a tenant's lists to their proven end while they change underneath, hands the records to the
//! sink, and lets a bookmark stand only with the last records it speaks for.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use chrono::{DateTime, Days, NaiveDate, NaiveDateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::client::{Account, Client, ListPage};
use super::{Tuning, failure};
use crate::adapters::connectors::{ErrorClass, ImportContext, ImportFailure, Page, Record, SinkError};
use crate::core::model::{ImportStats, Resource};

/// The most the vendor gives of jobs, and of everything else.
const JOBS_A_PAGE: u64 = 25;
const CONTACTS_A_PAGE: u64 = 50;
/// How far paging may go past the total the source names, which counts what is there, filtered or not.
const BEYOND_COUNT: u64 = 1_000;
/// How often one pass may step back, besides once for each page of the list.
const MOST_STEPS_BACK: u64 = 20;
/// More pages than this are no list, whatever the source says.
const MOST_PAGES: u64 = 40_000;

/// One list to read from end to end.
struct Pass {
    resource: Resource,
    /// The name of the parameter that carries the offset: the vendor has two.
    offset: &'static str,
    page_size: u64,
    query: Vec<(&'static str, String)>,
}

/// What a finished pass leaves to be written together with its bookmark.
struct Finished {
    held: Vec<Record>,
    newest: Option<DateTime<Utc>>,
}

/// Up to where each of the two job lists is known; written when its pass is complete.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct JobsBookmark {
    /// The address it was read from: what is known of one source says nothing of another.
    source: String,
    modified_date: Option<DateTime<Utc>>,
    unassigned_modified_date: Option<DateTime<Utc>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct ContactsBookmark {
    /// The address they were read from.
    source: String,
    /// When contacts were last read completely.
    swept_at: Option<DateTime<Utc>>,
}

/// A record as it was met.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Met {
    /// Its place in the list: it moves only with this.
    modified: Option<DateTime<Utc>>,
    content: u64,
}

impl Met {
    fn new(item: &Value) -> Self {
        Met { modified: modified_date(item), content: content_hash(item) }
    }
}

/// One import of one tenant.
pub(super) struct Sync<'a> {
    client: &'a Client,
    tuning: &'a Tuning,
    context: &'a ImportContext,
    stats: ImportStats,
    /// Every key met in this import, as it was met last.
    seen: HashMap<(Resource, Box<str>), Met>,
    /// Hashes of the records without a key, so that each counts as failed once.
    nameless: HashSet<(Resource, u64)>,
}

impl<'a> Sync<'a> {
    pub fn new(client: &'a Client, tuning: &'a Tuning, context: &'a ImportContext) -> Self {
        Sync { client, tuning, context, stats: ImportStats::default(), seen: HashMap::new(), nameless: HashSet::new() }
    }

    /// What was written so far, whether or not the import ended well.
    pub fn stats(&self) -> ImportStats {
        self.stats
    }

    /// Imports the resources asked for, in their order, up to the first failure.
    pub async fn run(&mut self) -> Result<(), ImportFailure> {
        let mut account = Account::open(self.context)?;
        for resource in &self.context.resources {
            match resource.as_str() {
                "jobs" => self.jobs(&mut account).await?,
                "contacts" => self.contacts(&mut account).await?,
                name => {
                    let message = format!("AccuLynx has no resource \"{name}\": correct resources in the file");
                    return Err(failure(ErrorClass::Configuration, message));
                }
            }
        }
        Ok(())
    }

    async fn jobs(&mut self, account: &mut Account) -> Result<(), ImportFailure> {
        let started = self.now();
        let stored: JobsBookmark = self.bookmark(Resource::JOBS).await?;
        let source = self.context.base_url.clone();
        let mut bookmark =
            if stored.source == source { stored } else { JobsBookmark { source, ..JobsBookmark::default() } };
        for unassigned in [false, true] {
            let known = if unassigned { bookmark.unassigned_modified_date } else { bookmark.modified_date };
            let finished = self.sweep(account, &jobs_pass(unassigned, known, started)).await?;
            // Not beyond the start: what changed meanwhile may have slipped in behind the reading.
            let reached = finished.newest.map(|newest| newest.min(started)).max(known);
            if unassigned {
                bookmark.unassigned_modified_date = reached;
            } else {
                bookmark.modified_date = reached;
            }
            self.write(&Resource::JOBS, finished.held, to_value(&bookmark)).await?;
        }
        Ok(())
    }

    async fn contacts(&mut self, account: &mut Account) -> Result<(), ImportFailure> {
        let started = self.now();
        let bookmark: ContactsBookmark = self.bookmark(Resource::CONTACTS).await?;
        let pause = TimeDelta::from_std(self.tuning.contacts_at_most_every).unwrap_or(TimeDelta::MAX);
        let source = self.context.base_url.clone();
        let age = bookmark.swept_at.filter(|_| bookmark.source == source).map(|swept_at| started - swept_at);
        if age.is_some_and(|age| age >= TimeDelta::zero() && age < pause) {
            return Ok(());
        }
        let pass = Pass {
            resource: Resource::CONTACTS,
            offset: "pageStartIndex",
            page_size: CONTACTS_A_PAGE,
            query: Vec::new(),
        };
        let finished = self.sweep(account, &pass).await?;
        let bookmark = ContactsBookmark { source, swept_at: Some(self.now()) };
        self.write(&Resource::CONTACTS, finished.held, to_value(&bookmark)).await
    }

    /// Reads a list to its end. The last page with anything new is held back for its bookmark; on a
    /// failure it is written without one.
    async fn sweep(&mut self, account: &mut Account, pass: &Pass) -> Result<Finished, ImportFailure> {
        let mut finished = Finished { held: Vec::new(), newest: None };
        match self.read_pages(account, pass, &mut finished).await {
            Ok(()) => Ok(finished),
            Err(failure) => {
                if !finished.held.is_empty() && failure.class != ErrorClass::Store {
                    self.write(&pass.resource, finished.held, None).await?;
                }
                Err(failure)
            }
        }
    }

    /// Offsets shift when records come, go or move while a list is read. So each page but the first
    /// starts with the last record of the one before. A page that starts with anything not yet met,
    /// or with a record that has changed and hence moved, may have skipped something: then the
    /// reading steps back. What is met twice is written once.
    async fn read_pages(
        &mut self,
        account: &mut Account,
        pass: &Pass,
        finished: &mut Finished,
    ) -> Result<(), ImportFailure> {
        let mut cursor = Cursor::default();
        loop {
            cursor.turn(pass)?;
            let Some(page) = self.page(account, pass, cursor.offset).await? else {
                // Nothing where a known record should be: the list has shrunk, which one look back settles.
                if !cursor.anchored || cursor.looked_back {
                    return Ok(());
                }
                cursor.step_back(pass.page_size);
                continue;
            };
            cursor.count = cursor.count.max(page.count);
            let first = page.items.first().and_then(key_of);
            if cursor.anchored && !self.met(&pass.resource, page.items.first(), first.as_deref()) {
                cursor.step_back(pass.page_size);
                continue;
            }
            if cursor.is_same_page(first.as_deref()) {
                return Err(failure(
                    ErrorClass::BadResponse,
                    format!(
                        "AccuLynx gave the same page of {} again (offset {}): its paging does not work; \
                         nothing was marked as read",
                        pass.resource.as_str(),
                        cursor.offset
                    ),
                ));
            }
            let received = page.items.len() as u64;
            let new = self.take(&pass.resource, page.items, cursor.anchored, finished);
            if !new.is_empty() {
                cursor.looked_back = false;
                let before = std::mem::replace(&mut finished.held, new);
                if !before.is_empty() {
                    self.write(&pass.resource, before, None).await?;
                }
            }
            if !cursor.advance(received, first) {
                return Ok(());
            }
        }
    }

    async fn page(&self, account: &mut Account, pass: &Pass, offset: u64) -> Result<Option<ListPage>, ImportFailure> {
        let mut query = pass.query.clone();
        query.push(("pageSize", pass.page_size.to_string()));
        query.push((pass.offset, offset.to_string()));
        let page = self.client.page(account, pass.resource.as_str(), &query).await?;
        Ok(page.filter(|page| !page.items.is_empty()))
    }

    /// Whether an item has been met in this import and not moved since. One without a key cannot be
    /// told from others and is given the benefit of the doubt.
    fn met(&self, resource: &Resource, item: Option<&Value>, key: Option<&str>) -> bool {
        let (Some(item), Some(key)) = (item, key) else { return true };
        self.seen.get(&(resource.clone(), key.into())).is_some_and(|met| met.modified == modified_date(item))
    }

    /// The records of a page that have not been met as they are. `anchored`: the first was on the page before.
    fn take(&mut self, resource: &Resource, items: Vec<Value>, anchored: bool, finished: &mut Finished) -> Vec<Record> {
        let mut new = Vec::with_capacity(items.len());
        for item in items.into_iter().skip(usize::from(anchored)) {
            let Some(key) = key_of(&item) else {
                self.stats.failed += u64::from(self.nameless.insert((resource.clone(), content_hash(&item))));
                continue;
            };
            let met = Met::new(&item);
            finished.newest = finished.newest.max(met.modified);
            if self.seen.insert((resource.clone(), key.as_str().into()), met) != Some(met) {
                new.push(Record { key, payload: item });
            }
        }
        new
    }

    async fn bookmark<T: Default + for<'de> Deserialize<'de>>(&self, resource: Resource) -> Result<T, ImportFailure> {
        let stored = self.context.sink.bookmark(resource).await.map_err(store_failed)?;
        // One that cannot be read is from another time: reading everything again is always right.
        Ok(stored.and_then(|value| serde_json::from_value(value).ok()).unwrap_or_default())
    }

    async fn write(
        &mut self,
        resource: &Resource,
        records: Vec<Record>,
        bookmark: Option<Value>,
    ) -> Result<(), ImportFailure> {
        let resource = resource.clone();
        self.stats += self.context.sink.write_page(Page { resource, records, bookmark }).await.map_err(store_failed)?;
        Ok(())
    }

    fn now(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(self.context.clock.now()).unwrap_or_default()
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
            pass.resource.as_str(),
            self.pages - 1,
            self.offset,
            self.count.map_or("an unknown total".to_owned(), |count| count.to_string())
        );
        Err(failure(ErrorClass::BadResponse, message))
    }

    fn is_same_page(&self, first: Option<&str>) -> bool {
        self.before.as_ref().is_some_and(|(before, several)| *several && Some(before.as_str()) == first)
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

/// Jobs changed since the day before `known`, or all of them; always both bounds, which the vendor demands.
fn jobs_pass(unassigned: bool, known: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Pass {
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
    Pass { resource: Resource::JOBS, offset: "recordStartIndex", page_size: JOBS_A_PAGE, query }
}

/// A record's id, as text.
fn key_of(item: &Value) -> Option<String> {
    match item.get("id")? {
        Value::String(id) if !id.is_empty() => Some(id.clone()),
        Value::Number(id) => Some(id.to_string()),
        _ => None,
    }
}

fn content_hash(item: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    item.to_string().hash(&mut hasher);
    hasher.finish()
}

/// The vendor writes UTC, with or without saying so.
fn modified_date(item: &Value) -> Option<DateTime<Utc>> {
    let text = item.get("modifiedDate")?.as_str()?;
    let with_zone = DateTime::parse_from_rfc3339(text).map(|at| at.to_utc());
    with_zone.or_else(|_| text.parse::<NaiveDateTime>().map(|at| at.and_utc())).ok()
}

fn to_value(bookmark: &impl Serialize) -> Option<Value> {
    serde_json::to_value(bookmark).ok()
}

fn store_failed(error: SinkError) -> ImportFailure {
    failure(ErrorClass::Store, error.to_string())
}
