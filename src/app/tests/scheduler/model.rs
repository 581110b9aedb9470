//! What must hold of schedules and their runs, watched write by write and import by import.

mod imports;
mod timers;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::closures::Closures;
use super::take::Take;
use crate::adapters::clock::Clock;
use crate::adapters::connectors::ErrorClass;
use crate::adapters::store::memory::{Row, Run, Tables};
use crate::core::audit::{Entry, operation};
use crate::core::fair::Limits;
use crate::core::missed::Missed;
use crate::core::model::{Millis, ScheduleId};
use crate::core::policy::{Overlap, RunPolicy};
use crate::core::run::{RunState, Trigger};
use crate::core::timing::Rhythm;

/// A schedule as its row and timer were after the last write.
#[derive(Clone)]
pub(super) struct Known {
    row: Arc<Row>,
    labels: BTreeMap<String, String>,
    pub rhythm: Rhythm,
    pub policy: RunPolicy,
    pub due: Option<Millis>,
    /// Where its timer stood before an edit set it: an edit that is taken back sets it there again.
    stood_at: Option<Millis>,
    missed: Missed,
    pub is_asleep: bool,
    /// How often the clock had moved when it fell asleep.
    asleep_since: u64,
    /// Its rules have changed since it was first seen.
    is_edited: bool,
    /// The rule for overlap was `allow` at some time.
    was_allowed: bool,
    most_retries: u32,
}

/// A run since its claim.
struct Watched {
    id: ScheduleId,
    nominal: Millis,
    trigger: Trigger,
    state: RunState,
    imports: u32,
    /// The failure of its last import, if that has ended.
    failure: Option<ErrorClass>,
    /// When its next attempt is due, and whether the clock has shown that time since.
    retry_at: Option<(Millis, bool)>,
    /// The last run claimed when it was parked.
    parked_after: i64,
}

struct Flying {
    run: i64,
    /// In the time that only goes forward.
    since_ms: u64,
    cancel: CancellationToken,
}

pub(super) struct Model {
    clock: Clock,
    limits: Limits,
    /// The server's limit for an attempt.
    timeout_ms: Option<u64>,
    known: BTreeMap<i64, Known>,
    claimed: BTreeSet<(ScheduleId, Millis)>,
    runs: BTreeMap<i64, Watched>,
    pub open: BTreeSet<i64>,
    last_run: i64,
    entries: usize,
    takes: VecDeque<Take>,
    /// What the clock showed lately, and the latest that it ever did.
    recent: VecDeque<Millis>,
    latest: Millis,
    moves: u64,
    pub passed_ms: u64,
    flying: BTreeMap<ScheduleId, Vec<Flying>>,
    /// Runs cut off that are to be tried again.
    cut_off: Vec<(i64, ScheduleId)>,
    /// Schedules that have tried again in this life what an earlier one was cut off at.
    retried: BTreeSet<ScheduleId>,
    /// Runs of which somebody was told that they are stopped.
    stopped: BTreeSet<i64>,
    /// Failures in a row, by row.
    failures: BTreeMap<i64, u32>,
    /// Schedules that have failed so often that they have to be paused.
    to_pause: BTreeSet<ScheduleId>,
    /// Since when each brake is pulled, in moves of the clock.
    brakes: BTreeMap<String, u64>,
    /// Versions of the windows that may be in force, the latest last.
    windows: Vec<Closures>,
    /// Rules that were broken.
    pub found: Vec<String>,
}

/// After so many moves of the clock everybody has noticed what was written before.
const NOTICED: u64 = 4;

fn is_of_a_slot(trigger: Trigger) -> bool {
    matches!(trigger, Trigger::Schedule | Trigger::CatchUp)
}

/// Whether an entry tells of a deed that sets a schedule's timer.
fn sets_timers(entry: &Entry) -> bool {
    let deeds =
        [operation::CREATED, operation::UPDATED, operation::PAUSED, operation::RESUMED, operation::DRIFT_REPAIRED];
    deeds.contains(&entry.operation.as_str())
}

impl Model {
    pub fn new(clock: Clock, limits: Limits, timeout_ms: Option<u64>) -> Model {
        let now = clock.now();
        Model {
            clock,
            limits,
            timeout_ms,
            known: BTreeMap::new(),
            claimed: BTreeSet::new(),
            runs: BTreeMap::new(),
            open: BTreeSet::new(),
            last_run: 0,
            entries: 0,
            takes: VecDeque::new(),
            recent: VecDeque::from([now]),
            latest: now,
            moves: 0,
            passed_ms: 0,
            flying: BTreeMap::new(),
            cut_off: Vec::new(),
            retried: BTreeSet::new(),
            stopped: BTreeSet::new(),
            failures: BTreeMap::new(),
            to_pause: BTreeSet::new(),
            brakes: BTreeMap::new(),
            windows: vec![Closures::default()],
            found: Vec::new(),
        }
    }

    fn ensure(&mut self, holds: bool, said: impl FnOnce() -> String) {
        if !holds {
            self.found.push(said());
        }
    }

    pub fn schedules(&self) -> impl Iterator<Item = (&ScheduleId, &Known)> {
        self.known.values().map(|known| (&known.row.id, known))
    }

    fn known(&self, id: &ScheduleId) -> Option<&Known> {
        self.known.values().find(|known| known.row.id == *id)
    }

    /// A life begins: nothing is remembered but what is stored.
    pub fn wakes_up(&mut self) {
        self.takes.clear();
        self.to_pause.clear();
        self.retried.clear();
        self.windows.drain(..self.windows.len() - 1);
    }

    /// The clock was moved.
    pub fn moved(&mut self, ms: u64) {
        let now = self.clock.now();
        self.moves += 1;
        self.passed_ms += ms;
        self.latest = self.latest.max(now);
        self.recent.push_back(now);
        if self.recent.len() > 4 {
            self.recent.pop_front();
        }
        for (at, has_come) in self.runs.values_mut().filter_map(|run| run.retry_at.as_mut()) {
            *has_come |= *at <= now;
        }
    }

    /// The dispatcher comes round.
    pub fn taken(&mut self, take: Take) {
        let (id, at) = (&take.id, self.clock.now());
        let Some(known) = self.known(id) else { return };
        let hold = |at: Millis| {
            let holds = |version: &Closures| version.hold(at, id.connector, &known.labels);
            let count = self.windows.iter().filter(|version| holds(version)).count();
            if count == 0 { Some(false) } else { (count == self.windows.len()).then_some(true) }
        };
        if hold(at) == Some(true) {
            return;
        }
        let was_kept = hold(take.from);
        self.takes.push_back(Take { was_kept, ..take });
        if self.takes.len() > 200 {
            self.takes.pop_front();
        }
    }

    /// A run of which somebody was told that it is there, or that it is stopped.
    pub fn told_of(&mut self, run: i64, is_stopped: bool) {
        let is_known = self.runs.contains_key(&run);
        self.ensure(is_known, || format!("run {run} was told of and is not there"));
        if is_stopped {
            self.stopped.insert(run);
        }
    }

    /// A write was done.
    pub fn watch(&mut self, tables: &Tables) {
        let entries = tables.audit[self.entries..].iter();
        let touched: BTreeSet<String> =
            entries.filter(|e| sets_timers(e)).map(|e| format!("{}/{}", e.connector, e.tenant)).collect();
        self.entries = tables.audit.len();
        if let Some(version) = self.windows.last().and_then(|last| last.renewed(&tables.defaults)) {
            self.windows.push(version);
        }
        let moves = self.moves;
        self.brakes.retain(|scope, _| tables.brakes.contains_key(scope));
        for scope in tables.brakes.keys() {
            self.brakes.entry(scope.clone()).or_insert(moves);
        }
        let fresh = self.new_runs(tables);
        let ended = self.follow_runs(tables);
        for (key, row) in &tables.schedules {
            let Some(timer) = tables.timers.get(key) else { continue };
            let fresh: Vec<(Millis, RunState)> =
                fresh.iter().filter(|(id, ..)| *id == row.id).map(|(_, at, state)| (*at, *state)).collect();
            let too_late = ended.iter().filter(|(id, class)| *id == row.id && *class == Some("deadline")).count();
            let was_set = touched.contains(&row.id.to_string());
            let has_failed = self.failures.insert(*key, timer.last.failures) < Some(timer.last.failures);
            let missed = (timer.last.missed, u32::try_from(too_late).unwrap());
            self.follow_timer(*key, row, timer.due, missed, was_set, &fresh);
            if was_set || self.is_held(&row.id) {
                self.to_pause.remove(&row.id);
            } else if has_failed && ended.iter().any(|(id, class)| *id == row.id && *class != Some("interrupted")) {
                self.count_failures(*key, timer.last.failures);
            }
        }
        self.known.retain(|key, _| tables.schedules.contains_key(key));
    }

    /// It sleeps, or its brake is pulled.
    fn is_held(&self, id: &ScheduleId) -> bool {
        self.braked_since(id).is_some() || self.known(id).is_some_and(|known| known.is_asleep)
    }

    /// Since when a brake holds the schedule, in moves of the clock.
    fn braked_since(&self, id: &ScheduleId) -> Option<u64> {
        let name = id.to_string();
        let ours = |scope: &String| *scope == name || scope.parse::<ScheduleId>().is_err();
        self.brakes.iter().filter(|(scope, _)| ours(scope)).map(|(_, since)| *since).min()
    }

    fn count_failures(&mut self, key: i64, failures: u32) {
        let Some(known) = self.known.get(&key).filter(|known| !known.is_edited) else { return };
        if known.policy.auto_pause_after.is_some_and(|most| failures >= most) {
            self.to_pause.insert(known.row.id.clone());
        }
    }

    /// Notes the runs claimed; returns the slots among them.
    fn new_runs(&mut self, tables: &Tables) -> Vec<(ScheduleId, Millis, RunState)> {
        let mut fresh = Vec::new();
        for (number, run) in tables.runs.range(self.last_run + 1..) {
            self.last_run = *number;
            let is_first = self.claimed.insert((run.id.clone(), run.nominal));
            self.ensure(is_first, || format!("the slot {} of {} is claimed twice", run.nominal, run.id));
            if is_of_a_slot(run.trigger) {
                fresh.push((run.id.clone(), run.nominal, run.state));
            }
            if run.trigger == Trigger::Retry {
                self.is_tried_again(*number, run);
            }
            self.open.insert(*number);
            let watched = Watched {
                id: run.id.clone(),
                nominal: run.nominal,
                trigger: run.trigger,
                state: run.state,
                imports: 0,
                failure: None,
                retry_at: None,
                parked_after: 0,
            };
            self.runs.insert(*number, watched);
        }
        fresh
    }

    /// What a crash cut off is tried again so often and no more.
    fn is_tried_again(&mut self, number: i64, run: &Run) {
        let most = self.known(&run.id).map(|known| most_interruptions(&run.id, known.most_retries));
        let fits = most.is_some_and(|most| (1..=most).contains(&run.attempts));
        self.ensure(fits, || format!("run {number} of {} is the attempt after {} of {most:?}", run.id, run.attempts));
    }

    /// Notes what becomes of runs; returns whose have ended, and with which class of failure.
    fn follow_runs(&mut self, tables: &Tables) -> Vec<(ScheduleId, Option<&'static str>)> {
        let mut ended = Vec::new();
        for number in self.open.clone() {
            let Some(run) = tables.runs.get(&number) else {
                self.ensure(false, || format!("run {number} is gone before its end"));
                self.open.remove(&number);
                continue;
            };
            let (last_run, now) = (self.last_run, self.clock.now());
            let Some(watched) = self.runs.get_mut(&number) else { continue };
            let before = std::mem::replace(&mut watched.state, run.state);
            if before != RunState::Waiting && run.state == RunState::Waiting {
                watched.retry_at = run.retry_at.map(|at| (at, at <= now));
                watched.parked_after = last_run;
                self.is_parked_long_enough(number, run);
            }
            if run.ended.is_some() {
                self.open.remove(&number);
                self.has_ended(number, run, before);
                ended.push((run.id.clone(), run.error_class));
            }
        }
        ended
    }

    /// The wait doubles with each attempt, up to an hour, drawn apart by a fifth.
    fn is_parked_long_enough(&mut self, number: i64, run: &Run) {
        let Some(known) = self.known(&run.id).filter(|known| !known.is_edited) else { return };
        let doubled = 1u64 << (run.attempts - 1).min(20);
        let wait_ms = (u64::from(known.policy.retry_backoff_sec) * doubled).min(3600) * 800;
        let earliest = self.recent.iter().min().unwrap() + i64::try_from(wait_ms).unwrap();
        let fits = run.retry_at.is_some_and(|at| at >= earliest);
        self.ensure(fits, || format!("run {number} of {} is tried again at {:?}, too soon", run.id, run.retry_at));
    }

    fn has_ended(&mut self, number: i64, run: &Run, before: RunState) {
        let id = &run.id;
        let others: Vec<&Watched> = self.open.iter().map(|other| &self.runs[other]).filter(|o| o.id == *id).collect();
        let known = self.known(id);
        if before == RunState::Waiting {
            let waits = !others.is_empty();
            let parked_after = self.runs[&number].parked_after;
            let came = self.runs.range(parked_after + 1..).any(|(_, other)| other.id == *id);
            let fair = run.state == RunState::Cancelled || (run.state == RunState::Done && (waits || came));
            self.ensure(fair, || format!("run {number} waited for its next attempt and is {:?}", run.state));
        } else if run.state == RunState::Done && run.ok == Some(false) {
            let class = self.runs[&number].failure;
            let may = class.is_some_and(may_pass) && class.map(ErrorClass::as_str) == run.error_class;
            let left = known.is_some_and(|known| !known.is_edited && run.attempts <= known.policy.retries);
            self.ensure(!(may && left), || format!("run {number} of {id} is given up after {} attempts", run.attempts));
        } else if run.state == RunState::Interrupted
            && let Some(known) = known
            // Without a slot to come nobody can tell whether a pause has ended.
            && (known.due.is_some() || !known.row.spec.paused)
            && (!known.is_asleep || run.trigger == Trigger::RunNow)
            && run.attempts <= most_interruptions(id, known.policy.retries)
            && !others.iter().any(|other| other.trigger == Trigger::Retry)
            && !self.retried.contains(id)
        {
            self.cut_off.push((number, id.clone()));
        }
    }

    pub fn nothing_flies(&self) -> bool {
        self.flying.values().all(Vec::is_empty)
    }

    /// In the end: nothing that a kill cut off was forgotten.
    pub fn forgotten(&self) -> Vec<i64> {
        let again = |id: &ScheduleId, after: i64| {
            self.runs.range(after + 1..).any(|(_, run)| run.id == *id && run.trigger == Trigger::Retry)
        };
        self.cut_off.iter().filter(|(run, id)| !again(id, *run)).map(|(run, _)| *run).collect()
    }
}

/// Whether an attempt that failed so is tried again, as the manual has it.
fn may_pass(class: ErrorClass) -> bool {
    use ErrorClass::{BadResponse, RateLimited, Store, Timeout, Unavailable};
    matches!(class, RateLimited | Unavailable | BadResponse | Store | Timeout)
}

/// How often in a row a run that was cut off is tried again.
fn most_interruptions(id: &ScheduleId, retries: u32) -> u32 {
    let unasked = if id.connector.as_str() == "exec" { 0 } else { 3 };
    retries.max(unasked)
}

fn learned(row: &Arc<Row>, due: Option<Millis>, missed: Missed, before: Option<&Known>) -> Known {
    let spec = row.spec.spec().unwrap();
    let policy = RunPolicy::of(&spec);
    let same = before.is_none_or(|before| !before.is_edited && before.policy == policy);
    Known {
        rhythm: Rhythm::of(&row.id, &spec).unwrap(),
        labels: spec.labels,
        due,
        stood_at: before.and_then(|before| before.stood_at),
        missed,
        is_asleep: false,
        asleep_since: 0,
        is_edited: !same,
        was_allowed: policy.overlap == Overlap::Allow || before.is_some_and(|before| before.was_allowed),
        most_retries: policy.retries.max(before.map_or(0, |before| before.most_retries)),
        policy,
        row: row.clone(),
    }
}
