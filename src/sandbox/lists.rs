//! Paging, filters and order of the lists, refusing what the vendor refuses and ignoring what it ignores.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use chrono::NaiveDate;
use serde::Serialize;
use serde_json::Value;

use super::world::{Job, World};
use crate::core::model::Millis;

const MOST_JOBS: usize = 25;
const MOST_ELSEWHERE: usize = 50;
const DEFAULT_PAGE_SIZE: usize = 10;

/// A list's answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Page {
    /// How many records the company has, whatever the filter.
    pub count: usize,
    pub page_size: usize,
    pub page_start_index: usize,
    pub items: Vec<Value>,
}

/// Why a list is not given.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub status: StatusCode,
    pub detail: String,
}

fn bad_request(detail: String) -> Refused {
    Refused { status: StatusCode::BAD_REQUEST, detail }
}

/// The parameter that carries a list's offset: the vendor has two names for it.
pub(super) struct OffsetName(pub String);

/// A request's parameters. Unknown ones, `pageNumber` among them, are ignored without a word.
pub(super) struct Parameters {
    query: BTreeMap<String, String>,
    offset: OffsetName,
}

impl Parameters {
    pub fn new(query: BTreeMap<String, String>, offset: OffsetName) -> Self {
        Parameters { query, offset }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }

    fn number(&self, name: &str, default: usize) -> Result<usize, Refused> {
        self.get(name).map_or(Ok(default), |text| {
            text.parse().map_err(|_| bad_request(format!("The value '{text}' is not valid for {name}.")))
        })
    }

    /// One of `choices`, ignoring case; its place among them.
    fn choice(&self, name: &str, choices: &[&str]) -> Result<Option<usize>, Refused> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let place = choices.iter().position(|choice| choice.eq_ignore_ascii_case(text));
        place.map(Some).ok_or_else(|| bad_request(format!("The value '{text}' is not valid for {name}.")))
    }

    /// A page of `all`, made by `make`; `count` is what the answer calls the total.
    fn page<T>(&self, all: &[T], count: usize, most: usize, make: impl Fn(&T) -> Value) -> Result<Page, Refused> {
        let size = self.number("pageSize", DEFAULT_PAGE_SIZE)?;
        if !(1..=most).contains(&size) {
            return Err(bad_request(format!("pageSize must be between 1 and {most}.")));
        }
        let start = self.number(&self.offset.0, 0)?;
        if start > 0 && start >= all.len() {
            let detail = format!("{} {start} is past the last record.", self.offset.0);
            return Err(Refused { status: StatusCode::RANGE_NOT_SATISFIABLE, detail });
        }
        let items = all.iter().skip(start).take(size).map(make).collect();
        Ok(Page { count, page_size: size, page_start_index: start, items })
    }

    /// The first millisecond of `startDate` and the last of `endDate`; both or neither.
    fn dates(&self) -> Result<Option<(Millis, Millis)>, Refused> {
        let read = |name: &str| {
            self.get(name).map(|text| {
                // The length keeps out what the parser would be lenient about.
                let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().filter(|_| text.len() == 10);
                date.ok_or_else(|| bad_request(format!("{name} must be a date of the form YYYY-MM-DD.")))
            })
        };
        match (read("startDate").transpose()?, read("endDate").transpose()?) {
            (None, None) => Ok(None),
            (Some(start), Some(end)) if start <= end => {
                let midnight = |date: NaiveDate| date.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_millis();
                Ok(Some((midnight(start), midnight(end) + 86_399_999)))
            }
            (Some(_), Some(_)) => Err(bad_request("startDate must not be after endDate.".to_owned())),
            _ => Err(bad_request("startDate and endDate must be given together.".to_owned())),
        }
    }
}

const DATES: [&str; 3] = ["CreatedDate", "MilestoneDate", "ModifiedDate"];

/// A job's date by its place in `DATES`.
fn date(job: &Job, which: usize) -> Millis {
    match which {
        0 => job.created,
        1 => job.milestone_at,
        _ => job.modified,
    }
}

pub(super) fn jobs(world: &World, now: Millis, parameters: &Parameters) -> Result<Page, Refused> {
    let filter_by = parameters.choice("dateFilterType", &DATES)?.unwrap_or(0);
    let dates = parameters.dates()?;
    let sort_by = parameters.choice("sortBy", &DATES)?.unwrap_or(0);
    let descending = parameters.choice("sortOrder", &["Ascending", "Descending"])?.unwrap_or(1) == 1;
    let unassigned = parameters.choice("assignment", &["assigned", "unassigned"])? == Some(1);
    let milestones = parameters.get("milestones").map(|list| list.split(',').map(str::trim).collect::<Vec<_>>());

    let mut jobs = world.jobs(now);
    let count = jobs.len();
    jobs.retain(|job| {
        let among = |list: &Vec<&str>| list.iter().any(|milestone| milestone.eq_ignore_ascii_case(job.milestone));
        job.assigned != unassigned
            && dates.is_none_or(|(start, end)| (start..=end).contains(&date(job, filter_by)))
            && milestones.as_ref().is_none_or(among)
    });
    // Stable, so that equal dates keep one order from page to page.
    jobs.sort_by_key(|job| date(job, sort_by));
    if descending {
        jobs.reverse();
    }
    parameters.page(&jobs, count, MOST_JOBS, |job| world.job_json(job))
}

pub(super) fn contacts(world: &World, now: Millis, parameters: &Parameters) -> Result<Page, Refused> {
    let contacts = world.contacts(now);
    parameters.page(&contacts, contacts.len(), MOST_ELSEWHERE, |contact| world.contact_json(contact))
}

pub(super) fn users(world: &World, _now: Millis, parameters: &Parameters) -> Result<Page, Refused> {
    let users = world.users();
    parameters.page(&users, users.len(), MOST_ELSEWHERE, Value::clone)
}

pub(super) fn estimates(world: &World, now: Millis, parameters: &Parameters) -> Result<Page, Refused> {
    let estimates = world.estimates(now);
    parameters.page(&estimates, estimates.len(), MOST_ELSEWHERE, Value::clone)
}
