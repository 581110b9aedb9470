//! Runs: those of one schedule one after the other, unless it allows more, and some number at a time
//! in all. A run is claimed before it comes here, so all that can be lost is the work, never the
//! record of it.

mod asked;
mod attempt;
mod backfill;
mod context;
mod failing;
mod flight;
mod held;
mod told;
mod volume;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(super) use asked::Asking;
pub use asked::RunNow;
pub use backfill::Backfill;
pub(super) use held::Wishes;

use crate::adapters::store::OpenRun;
use crate::core::fleet::Slot;
use crate::core::model::{ImportStats, Millis, Resource, ScheduleId};
use crate::core::run::{RunLog, RunState, Trigger};
use crate::core::volume::Reading;

/// Runs in flight and those that wait behind them.
pub(super) struct RunTable {
    lines: Mutex<HashMap<ScheduleId, Line>>,
    tasks: TaskTracker,
    /// Fires when runs have had their time to end by themselves.
    cancel: CancellationToken,
}

/// One schedule's runs; more than one is in flight only where it allows that.
#[derive(Default)]
struct Line {
    flights: Vec<Arc<Flight>>,
    waiting: VecDeque<Waiting>,
}

/// A claimed run that waits for the one before it.
struct Waiting {
    job: Job,
    end: End,
}

/// A run in flight, as others can reach it.
struct Flight {
    run: i64,
    trigger: Trigger,
    end: End,
    /// Fires when the run is to stop.
    cancel: CancellationToken,
    /// Why it is to stop, for its record.
    reason: OnceLock<String>,
    /// Fires when another run waits: one that is between two attempts ends then.
    give_way: CancellationToken,
    /// What its last attempt read from end to end.
    readings: Mutex<Vec<Reading>>,
    stage: Mutex<Stage>,
}

/// Where a run in flight stands, for whoever looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// On its way in: it waits for its turn and for room, if it has to.
    Entering,
    /// Something else keeps it from starting, until then if that is known.
    Held { why: &'static str, until: Option<Millis> },
    /// The import goes on; the run began then.
    Running { began: Millis },
}

impl Flight {
    fn stage(&self) -> Stage {
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stand(&self, stage: Stage) {
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner) = stage;
    }

    fn stop(&self, reason: &str) {
        self.reason.set(reason.to_owned()).ok();
        self.cancel.cancel();
    }
}

/// What is known of a run when it is handed over to be carried out.
#[derive(Clone)]
pub(super) struct Job {
    id: ScheduleId,
    slot: Option<Slot>,
    run: i64,
    nominal: Millis,
    trigger: Trigger,
    /// The store has it waiting, and is told when it goes on.
    is_parked: bool,
    /// Attempts made so far, also before a restart.
    attempts: u32,
    /// When the next attempt is due, of a run that was between two at a restart.
    retry_at: Option<Millis>,
    log: RunLog,
    /// What attempts before a restart brought.
    stats: ImportStats,
    /// Only these records are wanted; all when empty.
    targets: Vec<(Resource, String)>,
}

/// Tells everyone who waits for a run how it ended.
type End = watch::Sender<Option<RunEnd>>;

#[derive(Clone, Debug)]
struct RunEnd {
    ok: bool,
    message: String,
    stats: ImportStats,
}

impl Job {
    /// A run that has just been claimed.
    pub(super) fn new(id: ScheduleId, slot: Option<Slot>, run: i64, nominal: Millis, trigger: Trigger) -> Self {
        let (attempts, retry_at, log, targets) = (0, None, RunLog::default(), Vec::new());
        let stats = ImportStats::default();
        Job { id, slot, run, nominal, trigger, is_parked: false, attempts, retry_at, log, stats, targets }
    }

    /// As claimed: perhaps behind another run.
    pub(super) fn queued(self, is_queued: bool) -> Self {
        Job { is_parked: is_queued, ..self }
    }

    /// A run that waited when the program stopped.
    fn found(open: OpenRun, slot: Option<Slot>) -> Self {
        Job {
            is_parked: true,
            attempts: open.attempts,
            retry_at: open.retry_at.filter(|_| open.state == RunState::Waiting),
            log: RunLog::parse(open.log.as_deref().unwrap_or_default()),
            stats: open.stats,
            ..Job::new(open.id, slot, open.run, open.nominal, open.trigger)
        }
    }
}

impl RunTable {
    pub(super) fn new() -> Self {
        RunTable { lines: Mutex::default(), tasks: TaskTracker::new(), cancel: CancellationToken::new() }
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<ScheduleId, Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many runs are in flight, and how many wait behind them.
    #[cfg(test)]
    pub(super) fn count(&self) -> (u64, u64) {
        let lines = self.lines();
        let flights: usize = lines.values().map(|line| line.flights.len()).sum();
        let waiting: usize = lines.values().map(|line| line.waiting.len()).sum();
        (flights as u64, waiting as u64)
    }

    /// Where each run in flight stands, and how many wait behind them.
    pub(super) fn stages(&self) -> (Vec<Stage>, usize) {
        let lines = self.lines();
        let stages = lines.values().flat_map(|line| &line.flights).map(|flight| flight.stage()).collect();
        (stages, lines.values().map(|line| line.waiting.len()).sum())
    }

    /// Whether another run of the schedule waits that one between two attempts has to give way to.
    fn is_waited_for(&self, id: &ScheduleId) -> bool {
        let waits = |waiting: &Waiting| waiting.job.trigger.is_of_the_whole();
        self.lines().get(id).is_some_and(|line| line.waiting.iter().any(waits))
    }

    /// The same of one schedule.
    pub(super) fn stages_of(&self, id: &ScheduleId) -> (Vec<Stage>, usize) {
        let lines = self.lines();
        let Some(line) = lines.get(id) else { return (Vec::new(), 0) };
        (line.flights.iter().map(|flight| flight.stage()).collect(), line.waiting.len())
    }

    /// Where one run stands, if it is in flight.
    pub(super) fn stage_of(&self, id: &ScheduleId, run: i64) -> Option<Stage> {
        self.lines().get(id)?.flights.iter().find(|flight| flight.run == run).map(|flight| flight.stage())
    }
}
