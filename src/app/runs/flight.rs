//! Runs on their way: begun at once or lined up, stopped, waited for at the end of the program.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{End, Flight, Job, Line, RunEnd, Stage, Waiting};
use crate::app::App;
use crate::core::model::ScheduleId;
use crate::core::run::Trigger;

impl App {
    /// Starts a claimed run, or lines it up behind the one in flight.
    pub(super) fn launch(self: &Arc<Self>, job: Job) -> End {
        self.take_on(job, false)
    }

    /// Starts the claimed run of a slot; alongside others, where its schedule allows that.
    pub(in crate::app) fn launch_due(self: &Arc<Self>, job: Job, alongside: bool) {
        self.take_on(job, alongside);
    }

    fn take_on(self: &Arc<Self>, job: Job, alongside: bool) -> End {
        let (end, _) = watch::channel(None);
        let mut lines = self.runs.lines();
        let line = lines.entry(job.id.clone()).or_default();
        if line.flights.is_empty() || alongside {
            self.take_off(line, Waiting { job, end: end.clone() });
        } else {
            if job.trigger.is_of_the_whole() {
                line.flights.iter().for_each(|flight| flight.give_way.cancel());
            }
            // Slots of the past wait until nothing of the present does.
            let waits = |other: &Waiting| other.job.trigger == Trigger::Backfill && job.trigger != Trigger::Backfill;
            let at = line.waiting.iter().position(waits).unwrap_or(line.waiting.len());
            line.waiting.insert(at, Waiting { job, end: end.clone() });
        }
        end
    }

    fn take_off(self: &Arc<Self>, line: &mut Line, waiting: Waiting) {
        let Waiting { job, end } = waiting;
        let flight = Arc::new(Flight {
            run: job.run,
            trigger: job.trigger,
            end,
            cancel: self.runs.cancel.child_token(),
            reason: OnceLock::new(),
            give_way: CancellationToken::new(),
            readings: Mutex::default(),
            stage: Mutex::new(Stage::Entering),
        });
        line.flights.push(flight.clone());
        self.show_running(&job, true);
        let app = self.clone();
        self.runs.tasks.spawn(async move { app.fly(job, flight).await });
    }

    async fn fly(self: Arc<Self>, job: Job, flight: Arc<Flight>) {
        let end = match AssertUnwindSafe(self.see_through(&job, &flight)).catch_unwind().await {
            Ok(end) => end,
            Err(_) => Some(self.broken_off(&job).await),
        };
        flight.end.send_replace(end);
        self.land(&job, &flight);
    }

    /// Takes a run that has ended out of its line, and starts the one behind it.
    fn land(self: &Arc<Self>, job: &Job, flight: &Arc<Flight>) {
        let mut lines = self.runs.lines();
        let Some(line) = lines.get_mut(&job.id) else { return };
        line.flights.retain(|other| !Arc::ptr_eq(other, flight));
        if self.leaving.is_cancelled() {
            // What waits stands in the store and is found at the next start.
            line.waiting.clear();
        }
        if line.flights.is_empty() {
            match line.waiting.pop_front() {
                Some(next) => self.take_off(line, next),
                None => {
                    lines.remove(&job.id);
                    self.show_running(job, false);
                }
            }
        }
    }

    /// This program's own code failed in the middle of a run: it is recorded as interrupted, so that it holds up no
    /// other run of its schedule.
    async fn broken_off(&self, job: &Job) -> RunEnd {
        self.metrics.error();
        let message = "interrupted by a fault of this program (see the log)".to_owned();
        tracing::error!(component = "acculynx-scheduler", tenant_id = %job.id.tenant, run = job.run, "a run was {message}");
        let recorded = match self.store.open_runs().await {
            Ok(open) => match open.into_iter().find(|open| open.run == job.run) {
                Some(open) => self.close_interrupted(&open, &message).await,
                None => Ok(()),
            },
            Err(error) => Err(error.into()),
        };
        if let Err(error) = recorded {
            tracing::error!(component = "acculynx-scheduler", run = job.run, %error, "it shows as running until the next start");
        }
        RunEnd { ok: false, message, stats: job.stats }
    }

    fn show_running(&self, job: &Job, is_running: bool) {
        if let Some(slot) = job.slot {
            self.fleet().set_running(slot, is_running);
        }
    }

    /// Stops the runs of a schedule in flight that hold its slots up; each ends with this reason.
    pub(in crate::app) fn clear_the_way(&self, id: &ScheduleId, reason: &str) {
        if let Some(line) = self.runs.lines().get(id) {
            line.flights.iter().filter(|flight| flight.trigger.holds_slots_up()).for_each(|flight| flight.stop(reason));
        }
    }

    /// Stops one run if it is in flight, or takes it out of its line if it waits there.
    pub(super) fn stop_run(&self, id: &ScheduleId, run: i64, reason: &str) -> Stopped {
        let mut lines = self.runs.lines();
        let Some(line) = lines.get_mut(id) else { return Stopped::Unknown };
        if let Some(flight) = line.flights.iter().find(|flight| flight.run == run) {
            flight.stop(reason);
            return Stopped::InFlight(flight.end.subscribe());
        }
        match line.waiting.iter().position(|waiting| waiting.job.run == run) {
            Some(at) => line.waiting.remove(at).map_or(Stopped::Unknown, |waiting| Stopped::InLine(Box::new(waiting))),
            None => Stopped::Unknown,
        }
    }

    /// Lets no run start any more and those that go on end by themselves for `limit`; then cancels them and
    /// waits a moment more. What has not begun stands in the store and is taken up at the next start, as is
    /// what did not end, by its rule for retries.
    pub async fn drain_runs(&self, limit: Duration) {
        self.leaving.cancel();
        self.timer_set.notify_all();
        self.admission.close();
        self.runs.tasks.close();
        if tokio::time::timeout(limit, self.runs.tasks.wait()).await.is_err() {
            tracing::warn!(component = "acculynx-scheduler", "imports still under way after {limit:?} are stopped");
            self.runs.cancel.cancel();
            if tokio::time::timeout(Duration::from_secs(10), self.runs.tasks.wait()).await.is_err() {
                tracing::warn!(component = "acculynx-scheduler", "some imports did not stop; they show as interrupted");
            }
        }
    }
}

/// What became of a run that was to stop.
pub(super) enum Stopped {
    /// It stops soon.
    InFlight(watch::Receiver<Option<RunEnd>>),
    /// It was taken out of its line, and has no end in the store yet.
    InLine(Box<Waiting>),
    /// It is neither here nor there: it has ended, or never was.
    Unknown,
}
