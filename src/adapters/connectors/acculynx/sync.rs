//! Brings one tenant up to date: which lists to read, how far they are known, and what may be said to
//! be known afterwards. A bookmark stands only with the last records it speaks for.

mod milestones;
mod paging;
mod targets;

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::client::{Account, Client};
use super::{Tuning, failure};
use crate::adapters::connectors::{ErrorClass, ImportContext, ImportFailure, Page, Record, SinkError};
use crate::core::model::{ImportStats, Resource};
use paging::{Pass, Reading, jobs_pass, modified_date};

/// A list whose records carry no date of change: an import reads it whole, but not again within
/// `at_most_every` of the last complete reading.
struct Swept {
    resource: Resource,
    offset: &'static str,
    at_most_every: Duration,
}

const MINUTE: Duration = Duration::from_secs(60);
/// The most the vendor gives of these.
const SWEPT_A_PAGE: u64 = 50;

static SWEPT: [Swept; 3] = [
    Swept { resource: Resource::CONTACTS, offset: "pageStartIndex", at_most_every: MINUTE.saturating_mul(10) },
    Swept { resource: Resource::ESTIMATES, offset: "pageStartIndex", at_most_every: MINUTE.saturating_mul(10) },
    Swept { resource: Resource::USERS, offset: "recordStartIndex", at_most_every: MINUTE.saturating_mul(60) },
];

/// Up to where each of the two job lists is known, by its last complete pass.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct JobsBookmark {
    /// The address it was read from: what is known of one source says nothing of another.
    source: String,
    modified_date: Option<DateTime<Utc>>,
    unassigned_modified_date: Option<DateTime<Utc>>,
    /// Where a pass stands that is not complete, so that one which is cut off goes on there.
    #[serde(skip_serializing_if = "Option::is_none")]
    under_way: Option<UnderWay>,
}

/// The list comes in order of change: what changed before `reached` is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct UnderWay {
    unassigned: bool,
    reached: DateTime<Utc>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct SweepBookmark {
    /// The address it was read from.
    source: String,
    /// When the list was last read completely.
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

    /// Imports the resources asked for, in their order, up to the first failure; or only the records
    /// that the run was told of.
    pub async fn run(&mut self) -> Result<(), ImportFailure> {
        let mut account = Account::open(self.context)?;
        if !self.context.targets.is_empty() {
            return self.targets(&mut account).await;
        }
        for resource in &self.context.resources {
            if let Some(list) = SWEPT.iter().find(|list| list.resource == *resource) {
                self.sweep(&mut account, list).await?;
            } else if *resource == Resource::JOBS {
                self.jobs(&mut account).await?;
            } else if *resource == Resource::MILESTONE_HISTORY {
                self.milestones(&mut account).await?;
            } else {
                let message = format!("AccuLynx has no resource \"{resource}\": correct resources in the file");
                return Err(failure(ErrorClass::Configuration, message));
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
            let before = bookmark.under_way.filter(|pass| pass.unassigned == unassigned).map(|pass| pass.reached);
            let known = known.max(before);
            let mut reading = Reading::new(jobs_pass(Resource::JOBS, unassigned, known, started));
            let mark = |reached: Option<DateTime<Utc>>| {
                let under_way = reached.map(|reached| UnderWay { unassigned, reached: reached.min(started) });
                to_value(&JobsBookmark { under_way, ..bookmark.clone() })
            };
            let held = self.read_to_the_end(account, &Resource::JOBS, &mut reading, mark).await?;
            // Not beyond the start: what changed meanwhile may have slipped in behind the reading.
            let reached = reading.newest.map(|newest| newest.min(started)).max(known);
            bookmark.under_way = bookmark.under_way.filter(|pass| pass.unassigned != unassigned);
            if unassigned {
                bookmark.unassigned_modified_date = reached;
            } else {
                bookmark.modified_date = reached;
            }
            self.write(&Resource::JOBS, held, to_value(&bookmark)).await?;
        }
        Ok(())
    }

    async fn sweep(&mut self, account: &mut Account, list: &'static Swept) -> Result<(), ImportFailure> {
        let started = self.now();
        let bookmark: SweepBookmark = self.bookmark(list.resource.clone()).await?;
        let pause = TimeDelta::from_std(list.at_most_every).unwrap_or(TimeDelta::MAX);
        let source = self.context.base_url.clone();
        let age = bookmark.swept_at.filter(|_| bookmark.source == source).map(|swept_at| started - swept_at);
        if age.is_some_and(|age| age >= TimeDelta::zero() && age < pause) {
            return Ok(());
        }
        let before = self.stats.volume();
        let (resource, path) = (list.resource.clone(), list.resource.known().unwrap_or_default());
        let pass = Pass { resource, path, offset: list.offset, page_size: SWEPT_A_PAGE, query: Vec::new() };
        let held = self.read_to_the_end(account, &list.resource, &mut Reading::new(pass), |_| None).await?;
        let bookmark = SweepBookmark { source, swept_at: Some(self.now()) };
        self.write(&list.resource, held, to_value(&bookmark)).await?;
        self.context.sink.swept(&list.resource, self.stats.volume() - before);
        Ok(())
    }

    /// Reads a list to its end. The last page with anything new is held back for its bookmark; the others,
    /// and that one on a failure, are written with the mark of how far the reading had come by then.
    async fn read_to_the_end(
        &mut self,
        account: &mut Account,
        resource: &Resource,
        reading: &mut Reading,
        mark: impl Fn(Option<DateTime<Utc>>) -> Option<Value>,
    ) -> Result<Vec<Record>, ImportFailure> {
        let (mut held, mut reached) = (Vec::new(), None);
        loop {
            match self.next_page(account, reading).await {
                Ok(Some(new)) => {
                    let before = std::mem::replace(&mut held, new);
                    if !before.is_empty() {
                        self.write(resource, before, mark(reached)).await?;
                    }
                    reached = reading.reached();
                }
                Ok(None) => return Ok(held),
                Err(failure) => {
                    if !held.is_empty() {
                        // From a list that makes no sense nothing is concluded.
                        let reached = reached.filter(|_| failure.class != ErrorClass::BadResponse);
                        self.write(resource, held, mark(reached)).await?;
                    }
                    return Err(failure);
                }
            }
        }
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

fn to_value(bookmark: &impl Serialize) -> Option<Value> {
    serde_json::to_value(bookmark).ok()
}

fn store_failed(error: SinkError) -> ImportFailure {
    failure(ErrorClass::Store, error.to_string())
}
