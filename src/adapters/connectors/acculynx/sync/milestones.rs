//! Milestone histories, which the vendor gives job by job: they are read for the jobs that changed since
//! the last one read, the longest unchanged first, so that a run that is cut off has lost nothing.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::client::{Account, is_plain_id};
use super::super::failure;
use super::paging::{Reading, jobs_pass, modified_date};
use super::{Sync, key_of, to_value};
use crate::adapters::connectors::{ErrorClass, ImportFailure, Record};
use crate::core::model::{Digest, Resource};

/// A change may become visible a little after its own date: so far back jobs are looked at again.
const OVERLAP: TimeDelta = TimeDelta::minutes(10);
/// Of the jobs within the overlap that many are known to be read already; more are simply read again.
const MOST_RECENT: usize = 200;

/// Up to where histories are known in each of the two job lists.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Bookmark {
    /// The address they were read from.
    source: String,
    assigned: Mark,
    unassigned: Mark,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Mark {
    /// The histories of all jobs changed up to here are stored.
    through: Option<DateTime<Utc>>,
    /// The last of them, as they were when their history was read.
    recent: BTreeMap<String, DateTime<Utc>>,
}

/// One reading of one of the lists.
struct Progress {
    /// Jobs that changed before need no second look.
    floor: Option<DateTime<Utc>>,
    last: Option<DateTime<Utc>>,
    /// Whether a change came well after a later one: a list out of order says nothing of what is still
    /// to come, until it is over.
    is_disordered: bool,
    left: u32,
}

impl Mark {
    fn knows(&self, key: &str, modified: DateTime<Utc>) -> bool {
        self.recent.get(key) == Some(&modified)
    }

    /// Moves on, keeping of the recent jobs those that would be looked at again.
    fn move_to(&mut self, through: Option<DateTime<Utc>>) {
        self.through = through.max(self.through);
        let from = self.through.map(|through| through - OVERLAP);
        self.recent.retain(|_, modified| from.is_none_or(|from| *modified >= from));
        while self.recent.len() > MOST_RECENT {
            let Some(oldest) = self.recent.iter().min_by_key(|(_, modified)| **modified).map(|(key, _)| key.clone())
            else {
                return;
            };
            self.recent.remove(&oldest);
        }
    }
}

impl Progress {
    /// Notes a job in the order of the list.
    fn note(&mut self, modified: DateTime<Utc>) {
        self.is_disordered |= self.last.is_some_and(|last| modified < last - OVERLAP);
        self.last = self.last.max(Some(modified));
    }

    /// Whether the run has read its share and may stop before this job. Jobs of one moment stay
    /// together, since the bookmark cannot tell them apart.
    fn may_stop(&self, modified: DateTime<Utc>) -> bool {
        self.left == 0 && !self.is_disordered && self.last.is_some_and(|last| last < modified)
    }
}

impl Sync<'_> {
    pub(super) async fn milestones(&mut self, account: &mut Account) -> Result<(), ImportFailure> {
        let started = self.now();
        let stored: Bookmark = self.bookmark(Resource::MILESTONE_HISTORY).await?;
        let source = self.context.base_url.clone();
        let mut bookmark = if stored.source == source { stored } else { Bookmark { source, ..Bookmark::default() } };
        let mut left = self.tuning.histories_a_run;
        for unassigned in [false, true] {
            let mark = bookmark.mark(unassigned);
            let floor = mark.through.map(|through| through - OVERLAP);
            let mut progress = Progress { floor, last: None, is_disordered: false, left };
            let mut reading = Reading::new(jobs_pass(Resource::MILESTONE_HISTORY, unassigned, floor, started));
            let mut is_over = true;
            while let Some(jobs) = self.next_page(account, &mut reading).await? {
                is_over = self.histories(account, jobs, &mut bookmark, unassigned, &mut progress).await?;
                if !is_over {
                    break;
                }
            }
            if is_over {
                // Not beyond the start: what changed meanwhile may have slipped in behind the reading.
                let reached = reading.newest.map(|newest| newest.min(started));
                bookmark.mark(unassigned).move_to(reached);
                self.write(&Resource::MILESTONE_HISTORY, Vec::new(), to_value(&bookmark)).await?;
            }
            left = progress.left;
        }
        Ok(())
    }

    /// Reads the histories of a page of jobs and stores them with how far that is; `false` when the run
    /// has read its share.
    async fn histories(
        &mut self,
        account: &mut Account,
        jobs: Vec<Record>,
        bookmark: &mut Bookmark,
        unassigned: bool,
        progress: &mut Progress,
    ) -> Result<bool, ImportFailure> {
        let mut records = Vec::new();
        let mut ended = Ok(true);
        for job in jobs {
            let modified = modified_date(&job.payload).unwrap_or(DateTime::UNIX_EPOCH);
            if progress.may_stop(modified) {
                ended = Ok(false);
                break;
            }
            let is_old = progress.floor.is_some_and(|floor| modified < floor);
            if is_old || bookmark.mark(unassigned).knows(&job.key, modified) {
                progress.note(modified);
                continue;
            }
            match self.history(account, &job.key).await {
                Ok(history) => records.extend(history),
                Err(failure) => {
                    ended = Err(failure);
                    break;
                }
            }
            progress.note(modified);
            progress.left = progress.left.saturating_sub(1);
            bookmark.mark(unassigned).recent.insert(job.key, modified);
        }
        if progress.is_disordered {
            bookmark.mark(unassigned).through = None;
        } else {
            bookmark.mark(unassigned).move_to(progress.last);
        }
        if !records.is_empty() {
            self.write(&Resource::MILESTONE_HISTORY, records, to_value(&*bookmark)).await?;
        }
        ended
    }

    /// One job's history as records; none for a job that is gone.
    pub(super) async fn history(&mut self, account: &mut Account, job: &str) -> Result<Vec<Record>, ImportFailure> {
        if !is_plain_id(job) {
            self.stats.failed += 1;
            return Ok(Vec::new());
        }
        let Some(history) = self.client.one(account, &format!("jobs/{job}/milestone-history")).await? else {
            return Ok(Vec::new());
        };
        let entries = match history {
            Value::Array(entries) => entries,
            Value::Object(mut whole) => match whole.remove("items") {
                Some(Value::Array(entries)) => entries,
                _ => return Err(no_history(job)),
            },
            _ => return Err(no_history(job)),
        };
        let mut records = Vec::with_capacity(entries.len());
        for mut entry in entries {
            let key = entry_key(job, &entry);
            let Some(fields) = entry.as_object_mut() else {
                self.stats.failed += 1;
                continue;
            };
            fields.entry("jobId").or_insert_with(|| job.into());
            records.push(Record { key, payload: entry });
        }
        Ok(records)
    }
}

impl Bookmark {
    fn mark(&mut self, unassigned: bool) -> &mut Mark {
        if unassigned { &mut self.unassigned } else { &mut self.assigned }
    }
}

/// `JOBID:` and what tells the entry from the job's others: its id, its milestone and date, or all of it.
fn entry_key(job: &str, entry: &Value) -> String {
    let text = |name: &str| entry.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let tail = key_of(entry).or_else(|| Some(format!("{}@{}", text("name")?, text("date")?)));
    let tail = tail.unwrap_or_else(|| Digest::of(entry.to_string().as_bytes()).to_hex().chars().take(16).collect());
    format!("{job}:{tail}")
}

fn no_history(job: &str) -> ImportFailure {
    let message =
        format!("AccuLynx answered /jobs/{job}/milestone-history with something that is no list of milestones");
    failure(ErrorClass::BadResponse, message)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_entry_is_told_from_the_others_by_what_it_has() {
        let key = |entry: Value| entry_key("j", &entry);
        assert_eq!(key(json!({"id": "7", "name": "Lead"})), "j:7");
        assert_eq!(key(json!({"name": "Lead", "date": "2026-01-01"})), "j:Lead@2026-01-01");
        let (one, other) = (key(json!({"name": "Lead"})), key(json!({"name": "Closed"})));
        assert!(one != other && one.len() == "j:".len() + 16, "{one} {other}");
    }

    #[test]
    fn a_mark_keeps_few_jobs_and_never_goes_back() {
        let at = |minute: i64| DateTime::from_timestamp(minute * 60, 0).unwrap();
        let recent = (0..1000).map(|n| (n.to_string(), at(n / 100))).collect();
        let mut mark = Mark { through: None, recent };
        mark.move_to(Some(at(20)));
        assert!(mark.recent.is_empty(), "all lie before the overlap");
        mark.recent = (0..1000).map(|n| (n.to_string(), at(15 + n / 500))).collect();
        mark.move_to(Some(at(3)));
        assert_eq!((mark.through, mark.recent.len()), (Some(at(20)), MOST_RECENT));
        assert!(mark.recent.values().all(|modified| *modified == at(16)), "the latest are kept");
    }
}
