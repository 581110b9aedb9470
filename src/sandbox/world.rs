//! The invented companies: every job, contact and user as a pure function of seed, company and
//! time. Nothing is stored; a later `now` simply sees more jobs and newer changes.

use chrono::DateTime;
use serde_json::{Value, json};

use super::SandboxOptions;
use crate::core::model::{Digest, Millis};

const DAY: Millis = 86_400_000;
/// The companies' first jobs were created in the year after this (2022-01-01T00:00:00Z), so that they stay
/// the same whenever the sandbox is started.
const GENESIS: Millis = 1_640_995_200_000;
const FIRST_YEAR: Millis = 365 * DAY;
/// At most about this many older jobs are still worked on: a large company's change list stays short.
const ACTIVE_AT_MOST: u32 = 200;
/// Of a small company's older jobs one in this many is still worked on.
const ACTIVE_ONE_IN: u32 = 6;
/// A new job moves to its next milestone after this many times the span between two new jobs.
const STAGE_PACE: Millis = 4;

const FIRST_NAMES: [&str; 16] = [
    "Ada", "Brent", "Carla", "Dwayne", "Elena", "Foster", "Gwen", "Hollis", "Imani", "Jorge", "Keiko", "Lamar",
    "Maeve", "Nestor", "Odette", "Priya",
];
const LAST_NAMES: [&str; 16] = [
    "Albright",
    "Baptiste",
    "Castellan",
    "Drummond",
    "Eastwick",
    "Farrow",
    "Gallegos",
    "Hathorne",
    "Ibarra",
    "Jankowski",
    "Kettering",
    "Lindqvist",
    "Marchetti",
    "Nakamoto",
    "Okafor",
    "Pemberly",
];
const STREETS: [&str; 8] =
    ["Juniper Hollow", "Cobble Ridge", "Larkspur", "Old Quarry", "Saddleback", "Tamarack", "Wren Creek", "Amber Mesa"];
const CITIES: [(&str, &str, u64); 6] = [
    ("Aurora Springs", "CO", 80_010),
    ("Bellmont", "KS", 66_050),
    ("Cedar Fork", "MO", 63_010),
    ("Dry Basin", "NM", 87_050),
    ("Elkhorn Park", "UT", 84_020),
    ("Fairlane", "TX", 75_030),
];
const WORK_TYPES: [&str; 3] = ["Insurance", "Retail", "Inspection"];
const TRADES: [&str; 4] = ["Roofing", "Gutters", "Siding", "Windows"];

/// The milestones a job passes, in order.
const PIPELINE: [&str; 6] = ["Lead", "Prospect", "Approved", "Completed", "Invoiced", "Closed"];

/// The milestones between which an older job that is still worked on moves.
const WORKED_ON: [&str; 3] = ["Approved", "Completed", "Invoiced"];
/// How many moves before the last the milestone history of such a job still tells.
const EARLIER_MOVES: Millis = 2;

/// Which record of a kind: of the first year, or one that came with time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    First(u32),
    /// The number of its span on the grid of `job_every`.
    Grown(Millis),
}

/// What lists filter and sort a job by; the rest is only made for the jobs on a page.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    place: Place,
    revision: Millis,
    pub created: Millis,
    pub milestone_at: Millis,
    pub modified: Millis,
    pub milestone: &'static str,
    /// Leads that nobody has taken on are only listed on request.
    pub assigned: bool,
}

/// A contact: no dates, as the vendor gives none.
#[derive(Clone, Copy, Debug)]
pub struct Contact {
    place: Place,
    revision: Millis,
}

/// One company's data.
#[derive(Clone, Debug)]
pub struct World {
    key: u64,
    jobs: u32,
    contacts: u32,
    since: Millis,
    job_every: Millis,
    change_every: Millis,
}

impl World {
    /// The company as `options` shape it, growing from `since` on.
    pub fn new(options: &SandboxOptions, company: &str, since: Millis) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = Digest::of(format!("{}/{company}", options.seed).as_bytes()).0;
        let span = |duration: std::time::Duration| Millis::try_from(duration.as_millis()).unwrap_or(DAY).max(1);
        World {
            key: u64::from_be_bytes([a, b, c, d, e, f, g, h]),
            jobs: options.jobs,
            contacts: options.contacts,
            since,
            job_every: span(options.job_every),
            change_every: span(options.change_every),
        }
    }

    /// Every job there is at `now`, oldest first.
    pub fn jobs(&self, now: Millis) -> Vec<Job> {
        let first = (0..self.jobs).map(|i| self.first_job(i, now));
        let grown = self.grown(now).map(|k| self.grown_job(k, now));
        first.chain(grown).filter(|job| job.created <= now).collect()
    }

    /// Every contact there is at `now`, oldest first.
    pub fn contacts(&self, now: Millis) -> Vec<Contact> {
        let first = (0..self.contacts).map(|i| {
            let (revision, _) = self.last_change("contact", i, self.contacts, now).unwrap_or_default();
            Contact { place: Place::First(i), revision }
        });
        let own = self.grown(now).filter(|k| brings_contact(*k));
        first.chain(own.map(|k| Contact { place: Place::Grown(k), revision: 0 })).collect()
    }

    /// The company's people.
    pub fn users(&self) -> Vec<Value> {
        (0..8u32).map(|i| self.user_json(i)).collect()
    }

    /// A stub of an estimate for every job that has come beyond a lead, in the order of their jobs.
    pub fn estimates(&self, now: Millis) -> Vec<Value> {
        self.jobs(now).iter().filter(|job| job.milestone != "Lead").map(|job| self.estimate_json(job)).collect()
    }

    /// The milestones a job has come through as far as the practice server knows: the first of all and
    /// the latest few. Entries have no id.
    pub fn milestone_history(&self, job: &Job) -> Vec<Value> {
        let entry = |name: &str, at: Millis| json!({"name": name, "date": stamp(at)});
        if let Place::Grown(_) = job.place {
            let stage = self.job_every * STAGE_PACE;
            let passed = PIPELINE.iter().zip(0..=job.revision);
            return passed.map(|(name, n)| entry(name, job.created + n * stage)).collect();
        }
        if job.milestone == "Lead" {
            return vec![entry(job.milestone, job.milestone_at)];
        }
        let mut moves = vec![entry("Lead", job.created)];
        // Every second change was a move.
        for back in (1..=EARLIER_MOVES).rev() {
            let (turn, at) = (job.revision / 2 - back, job.milestone_at - 2 * back * self.change_span(self.jobs));
            if turn >= 0 && at > job.created {
                moves.push(entry(pick(&WORKED_ON, turn.unsigned_abs()), at));
            }
        }
        moves.push(entry(job.milestone, job.milestone_at));
        moves
    }

    /// The numbers of the jobs that came after `since`, up to `now`.
    fn grown(&self, now: Millis) -> impl Iterator<Item = Millis> + '_ {
        let range = self.since.div_euclid(self.job_every)..=now.div_euclid(self.job_every);
        range.filter(move |k| (self.since + 1..=now).contains(&self.grown_at(*k)))
    }

    fn grown_at(&self, k: Millis) -> Millis {
        let jitter = self.roll("arrival", k) % (self.job_every.unsigned_abs() / 2).max(1);
        k * self.job_every + jitter.cast_signed()
    }

    fn first_job(&self, i: u32, now: Millis) -> Job {
        let gap = (FIRST_YEAR / Millis::from(self.jobs.max(1))).max(1);
        let n = Millis::from(i);
        let jitter = self.roll("created", n) % gap.unsigned_abs();
        let created = GENESIS + n * FIRST_YEAR / Millis::from(self.jobs.max(1)) + jitter.cast_signed();
        let place = Place::First(i);
        if let Some((revision, changed)) = self.last_change("job", i, self.jobs, now) {
            // Every second change is a move: work goes on, is billed, and a supplement opens it again.
            let milestone = pick(&WORKED_ON, (revision / 2).unsigned_abs());
            let moved = if revision % 2 == 0 { changed } else { changed - self.change_span(self.jobs) };
            let (modified, milestone_at) = (changed.max(created), moved.max(created));
            return Job { place, revision, created, milestone_at, modified, milestone, assigned: true };
        }
        let settled = created + (self.roll("settled", n) % (30 * DAY).unsigned_abs()).cast_signed();
        let modified = if settled <= now { settled } else { created };
        let assigned = !self.roll("assigned", n).is_multiple_of(20);
        let milestone = if assigned { pick(&["Closed", "Closed", "Cancelled"], self.roll("end", n)) } else { "Lead" };
        Job { place, revision: 0, created, milestone_at: modified, modified, milestone, assigned }
    }

    fn grown_job(&self, k: Millis, now: Millis) -> Job {
        let created = self.grown_at(k);
        let stage = self.job_every * STAGE_PACE;
        let last = Millis::try_from(PIPELINE.len()).unwrap_or(1) - 1;
        let revision = ((now - created) / stage).clamp(0, last);
        let modified = created + revision * stage;
        let milestone = pick(&PIPELINE, revision.unsigned_abs());
        let assigned = revision > 0 || !self.roll("taken", k).is_multiple_of(4);
        Job { place: Place::Grown(k), revision, created, milestone_at: modified, modified, milestone, assigned }
    }

    /// How often one older record that is still worked on changes, so that together they make one
    /// change every `change_every`.
    fn change_span(&self, of: u32) -> Millis {
        Millis::from((of / stride(of)).max(1)) * self.change_every
    }

    /// The number and time of an older record's last change; `None` when it is no longer worked on.
    fn last_change(&self, kind: &str, i: u32, of: u32, now: Millis) -> Option<(Millis, Millis)> {
        let stride = stride(of);
        if i % stride != u32::try_from(self.key % u64::from(stride)).unwrap_or(0) {
            return None;
        }
        let span = self.change_span(of);
        let phase = (self.roll(kind, Millis::from(i)) % span.unsigned_abs()).cast_signed();
        let revision = (now - GENESIS - phase).div_euclid(span);
        (revision >= 0).then(|| (revision, GENESIS + phase + revision * span))
    }

    /// A job's record as the API gives it.
    pub fn job_json(&self, job: &Job) -> Value {
        let n = number(job.place);
        let id = self.id("job", job.place);
        let owner = self.owner(job.place);
        let last = owner.map_or("Walk-in", |place| self.last_name(place));
        let contacts = owner.map(|place| {
            let contact = self.id("contact", place);
            json!({"isPrimary": true, "contact": {"id": contact, "_link": format!("{}/contacts/{contact}", super::BASE_PATH)}})
        });
        json!({
            "id": id,
            "jobNumber": format!("{}-{:05}", pick(&["R", "I", "S"], self.roll("series", n)), n.rem_euclid(100_000)),
            "jobName": format!("{last}: {}", pick(&TRADES, self.roll("trade", n))),
            "currentMilestone": job.milestone,
            "milestoneDate": stamp(job.milestone_at),
            "createdDate": stamp(job.created),
            "modifiedDate": stamp(job.modified),
            "priority": pick(&["Normal", "Normal", "High"], self.roll("priority", n + job.revision)),
            "isUnassigned": !job.assigned,
            "workType": {"id": 1 + self.roll("work", n) % 3, "name": pick(&WORK_TYPES, self.roll("work", n))},
            "tradeTypes": [{"name": pick(&TRADES, self.roll("trade", n))}],
            "approvedValue": 4_000 + self.roll("value", n + job.revision) % 36_000,
            "locationAddress": self.address("job", n),
            "contacts": contacts.into_iter().collect::<Vec<_>>(),
            "_link": format!("{}/jobs/{id}", super::BASE_PATH),
        })
    }

    /// A contact's record as the API gives it.
    pub fn contact_json(&self, contact: &Contact) -> Value {
        let n = number(contact.place);
        let id = self.id("contact", contact.place);
        let first = pick(&FIRST_NAMES, self.roll("first name", n));
        let last = self.last_name(contact.place);
        json!({
            "id": id,
            "firstName": first,
            "lastName": last,
            "mailingAddress": self.address("contact", n),
            "emailAddress": format!("{}.{}{}@example.com", first.to_lowercase(), last.to_lowercase(), n.rem_euclid(1000)),
            "phoneNumber": format!("555-01{:02}", self.roll("phone", n + contact.revision) % 100),
            "_link": format!("{}/contacts/{id}", super::BASE_PATH),
        })
    }

    /// The id of a job's record.
    pub fn job_id(&self, job: &Job) -> String {
        self.id("job", job.place)
    }

    /// The id of a contact's record.
    pub fn contact_id(&self, contact: &Contact) -> String {
        self.id("contact", contact.place)
    }

    /// What a list of estimates gives of one: where it is and whose it is.
    fn estimate_json(&self, job: &Job) -> Value {
        let (id, job) = (self.id("estimate", job.place), self.id("job", job.place));
        json!({
            "id": id,
            "isPrimary": true,
            "job": {"id": job, "_link": format!("{}/jobs/{job}", super::BASE_PATH)},
            "_link": format!("{}/estimates/{id}", super::BASE_PATH),
        })
    }

    fn user_json(&self, i: u32) -> Value {
        let n = Millis::from(i);
        let (first, last) = (pick(&FIRST_NAMES, self.roll("user", n)), pick(&LAST_NAMES, self.roll("user last", n)));
        json!({
            "id": self.id("user", Place::First(i)),
            "firstName": first,
            "lastName": last,
            "email": format!("{}.{}{i}@example.com", first.to_lowercase(), last.to_lowercase()),
            "role": pick(&["Salesperson", "Estimator", "Office"], self.roll("role", n)),
            "status": "Active",
        })
    }

    /// The contact a job belongs to; none when the company has no contacts.
    fn owner(&self, job: Place) -> Option<Place> {
        match job {
            Place::Grown(k) if brings_contact(k) => Some(job),
            _ if self.contacts == 0 => None,
            _ => {
                let of = u64::from(self.contacts);
                Some(Place::First(u32::try_from(self.roll("owner", number(job)) % of).unwrap_or(0)))
            }
        }
    }

    fn last_name(&self, contact: Place) -> &'static str {
        pick(&LAST_NAMES, self.roll("last name", number(contact)))
    }

    fn address(&self, kind: &str, n: Millis) -> Value {
        let roll = self.roll(kind, n.wrapping_add(7_919));
        let (city, state, zip) = CITIES[usize::try_from(roll % CITIES.len() as u64).unwrap_or(0)];
        json!({
            "street1": format!("{} {} Rd", 100 + roll % 8_900, pick(&STREETS, roll >> 16)),
            "city": city,
            "state": {"abbreviation": state},
            "zipCode": format!("{:05}", zip + (roll >> 32) % 40),
        })
    }

    fn id(&self, kind: &str, place: Place) -> String {
        let tag = match place {
            Place::First(_) => kind,
            Place::Grown(_) => "grown",
        };
        let (a, b) = (self.roll(tag, number(place)), self.roll(kind, number(place).wrapping_add(104_729)));
        let (high, low) = (a >> 32, a & 0xffff);
        format!("{high:08x}-{low:04x}-4{:03x}-8{:03x}-{:012x}", (a >> 16) & 0xfff, b >> 52, b & 0xffff_ffff_ffff)
    }

    /// An even number from the company, a tag and a position: the only source of chance here.
    fn roll(&self, tag: &str, n: Millis) -> u64 {
        let tagged = tag.bytes().fold(self.key, |state, byte| mix(state ^ u64::from(byte)));
        mix(tagged ^ mix(n.cast_unsigned()))
    }
}

/// Every second new job brings a customer of its own.
fn brings_contact(k: Millis) -> bool {
    k % 2 == 0
}

/// One in how many of a company's older records is still worked on.
fn stride(of: u32) -> u32 {
    ACTIVE_ONE_IN.max(of / ACTIVE_AT_MOST)
}

fn number(place: Place) -> Millis {
    match place {
        Place::First(i) => Millis::from(i),
        Place::Grown(k) => k,
    }
}

fn pick(from: &[&'static str], roll: u64) -> &'static str {
    let length = (from.len() as u64).max(1);
    from.get(usize::try_from(roll % length).unwrap_or(0)).copied().unwrap_or_default()
}

/// A bijective scrambling of 64 bits (the finaliser of SplitMix64).
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// Whole seconds in UTC, as the vendor writes dates.
fn stamp(at: Millis) -> String {
    DateTime::from_timestamp_millis(at).unwrap_or_default().format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// 2026-06-01T12:00:00Z
    const NOON: Millis = 1_780_315_200_000;

    fn world(company: &str) -> World {
        World::new(&SandboxOptions::default(), company, NOON)
    }

    fn everything(world: &World, now: Millis) -> Vec<Value> {
        let jobs = world.jobs(now).iter().map(|job| world.job_json(job)).collect::<Vec<_>>();
        let contacts = world.contacts(now).iter().map(|contact| world.contact_json(contact)).collect::<Vec<_>>();
        [jobs, contacts, world.estimates(now), world.users()].concat()
    }

    #[test]
    fn the_same_seed_company_and_time_give_the_same_data() {
        assert_eq!(everything(&world("peak"), NOON), everything(&world("peak"), NOON));
        assert_ne!(everything(&world("peak"), NOON), everything(&world("summit"), NOON));
        let other_seed = World::new(&SandboxOptions { seed: 2, ..SandboxOptions::default() }, "peak", NOON);
        assert_ne!(everything(&world("peak"), NOON), everything(&other_seed, NOON));
    }

    #[test]
    fn a_company_starts_with_the_counts_asked_for_and_grows() {
        let world = world("peak");
        assert_eq!(world.jobs(NOON).len(), 120);
        assert_eq!(world.contacts(NOON).len(), 80);
        let later = NOON + 3_600_000;
        assert_eq!(world.jobs(later).len(), 132, "one job each five minutes");
        assert_eq!(world.contacts(later).len(), 86, "every second one brings a contact");
        let ids: HashSet<_> = world.jobs(later).iter().map(|job| world.job_id(job)).collect();
        assert_eq!(ids.len(), 132, "ids are unique");
    }

    #[test]
    fn a_change_shows_in_the_modified_date_and_nothing_changes_without_it() {
        let world = world("peak");
        let (before, after) = (world.jobs(NOON), world.jobs(NOON + 600_000));
        let mut changed = 0;
        for (old, new) in before.iter().zip(&after) {
            if world.job_json(old) != world.job_json(new) {
                assert!(new.modified > NOON && new.modified <= NOON + 600_000);
                changed += 1;
            } else {
                assert_eq!(old.modified, new.modified);
            }
        }
        assert!((9..=11).contains(&changed), "one change a minute, not {changed}");
    }

    #[test]
    fn a_new_job_moves_through_its_milestones_and_is_taken_on() {
        let world = world("peak");
        let newest = |now| world.jobs(now).into_iter().nth(120).map(|job| (job.milestone, job.assigned));
        assert_eq!(newest(NOON + 600_000).map(|job| job.0), Some("Lead"));
        assert_eq!(newest(NOON + 600_000 + 1_200_000), Some(("Prospect", true)));
        assert_eq!(newest(NOON + DAY), Some(("Closed", true)));
        assert!(world.jobs(NOON + DAY).iter().any(|job| !job.assigned), "some leads are nobody's");
    }

    #[test]
    fn dates_are_in_order() {
        let world = world("peak");
        for job in world.jobs(NOON + DAY) {
            let history = world.milestone_history(&job);
            let dates = history.iter().map(|entry| entry["date"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
            assert!(dates.is_sorted(), "{history:?}");
            assert_eq!(history.last().unwrap()["name"], job.milestone, "{job:?} {history:?}");
            assert_eq!(dates.last(), Some(&stamp(job.milestone_at)), "{job:?}");
            assert!(job.created <= job.milestone_at, "{job:?}");
            assert!(job.milestone_at <= job.modified && job.modified <= NOON + DAY, "{job:?}");
        }
    }

    #[test]
    fn empty_companies_and_odd_times_are_fine() {
        let bare = SandboxOptions { jobs: 0, contacts: 0, ..SandboxOptions::default() };
        let world = World::new(&bare, "bare", NOON);
        assert!(world.jobs(NOON).is_empty() && world.contacts(NOON).is_empty());
        assert!(world.jobs(0).is_empty() && !world.jobs(NOON + DAY).is_empty());
    }
}
