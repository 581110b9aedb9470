//! Runs: one at a time a schedule, some number at a time in all. A run is claimed before it comes
//! here, so all that can be lost is the work, never the record of it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::App;
use super::apply::{draft, new_action_id};
use super::error::AppError;
use super::sink::StoreSink;
use super::views::RunNowAnswer;
use crate::adapters::connectors::{ErrorClass, ImportContext, ImportFailure, ImportOutcome, Secret};
use crate::adapters::secrets::{self, Secrets};
use crate::adapters::store::{Asked, Claim, Claimed, Completion, Granted};
use crate::core::audit::operation;
use crate::core::fleet::Slot;
use crate::core::model::{Caller, Connector, ImportStats, Millis, RunResult, ScheduleId, ScheduleSpec};
use crate::core::run::{RunState, Trigger};

/// Runs in flight and those that wait behind them.
pub(super) struct RunTable {
    flights: Mutex<HashMap<ScheduleId, VecDeque<Waiting>>>,
    /// Bounds how many imports run at once.
    room: Semaphore,
    tasks: TaskTracker,
    /// Fires when runs have had their time to end by themselves.
    cancel: CancellationToken,
}

/// A claimed run that waits for the one before it.
struct Waiting {
    job: Job,
    end: End,
}

#[derive(Clone)]
struct Job {
    id: ScheduleId,
    slot: Option<Slot>,
    run: i64,
    nominal: Millis,
    trigger: Trigger,
}

/// Tells everyone who waits for a run how it ended.
type End = watch::Sender<Option<RunEnd>>;

#[derive(Clone, Debug)]
struct RunEnd {
    ok: bool,
    message: String,
    stats: ImportStats,
}

/// Run-now's outcome: ended within the wait, or still going on.
pub enum RunNow {
    Done(RunNowAnswer),
    Accepted(RunNowAnswer),
}

impl RunTable {
    /// A table that lets `room` imports run at once.
    pub(super) fn new(room: usize) -> Self {
        RunTable {
            flights: Mutex::default(),
            room: Semaphore::new(room),
            tasks: TaskTracker::new(),
            cancel: CancellationToken::new(),
        }
    }

    fn flights(&self) -> std::sync::MutexGuard<'_, HashMap<ScheduleId, VecDeque<Waiting>>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn count(&self) -> (u64, u64) {
        let flights = self.flights();
        let waiting: usize = flights.values().map(VecDeque::len).sum();
        (flights.len() as u64, waiting as u64)
    }
}

impl App {
    /// Starts a claimed run, or lines it up behind the one in flight.
    pub(super) fn start_run(
        self: &Arc<Self>,
        id: ScheduleId,
        slot: Option<Slot>,
        run: i64,
        nominal: Millis,
        trigger: Trigger,
    ) {
        let (end, _) = watch::channel(None);
        self.launch(Waiting { job: Job { id, slot, run, nominal, trigger }, end });
    }

    fn launch(self: &Arc<Self>, waiting: Waiting) {
        match self.runs.flights().entry(waiting.job.id.clone()) {
            std::collections::hash_map::Entry::Occupied(mut flight) => {
                flight.get_mut().push_back(waiting);
                return;
            }
            std::collections::hash_map::Entry::Vacant(flight) => {
                flight.insert(VecDeque::new());
            }
        }
        if let Some(slot) = waiting.job.slot {
            self.fleet().set_running(slot, true);
        }
        let app = self.clone();
        self.runs.tasks.spawn(async move { app.fly(waiting).await });
    }

    /// Runs a job and whatever waits behind it.
    async fn fly(self: Arc<Self>, first: Waiting) {
        let mut current = Some(first);
        while let Some(Waiting { job, end }) = current {
            let result = self.run(&job).await;
            end.send_replace(Some(result));
            current = self.next_flight(&job);
        }
    }

    /// The run that waits behind `job`; with none, the schedule is idle again.
    fn next_flight(&self, job: &Job) -> Option<Waiting> {
        let mut flights = self.runs.flights();
        let next = flights.get_mut(&job.id).and_then(VecDeque::pop_front);
        if next.is_none() {
            flights.remove(&job.id);
            if let Some(slot) = job.slot {
                self.fleet().set_running(slot, false);
            }
        }
        next
    }

    async fn run(&self, job: &Job) -> RunEnd {
        let began = self.clock.now();
        let started = Instant::now();
        let outcome = match self.runs.room.acquire().await {
            Ok(_room) => self.import(job).await,
            Err(_) => failure(ErrorClass::Cancelled, "the server is stopping".to_owned()),
        };
        let seconds = started.elapsed().as_secs_f64();
        self.metrics.import_duration(job.id.connector.as_str(), seconds);
        self.metrics.run_finished(job.id.connector.as_str(), outcome.error.is_none());
        if job.trigger == Trigger::Schedule {
            self.metrics.scheduled_import(job.id.tenant.as_str());
        }
        let end = RunEnd { ok: outcome.error.is_none(), message: message(&outcome), stats: outcome.stats };
        self.record_end(job, &end, outcome.error.map(|error| error.class), began, seconds).await;
        end
    }

    async fn record_end(&self, job: &Job, end: &RunEnd, class: Option<ErrorClass>, began: Millis, seconds: f64) {
        let completion = Completion {
            run: job.run,
            started: began,
            row: self.fleet().get(job.id.connector, job.id.tenant.as_str()).map_or(0, |glance| glance.row),
            ended: self.clock.now(),
            ok: end.ok,
            message: end.message.clone(),
            error_class: class.map(ErrorClass::as_str),
            stats: end.stats,
            state: RunState::Done,
            attempts: 1,
            log: None,
        };
        if let Err(error) = self.store.complete(completion).await {
            self.metrics.error();
            tracing::error!(component = "acculynx-scheduler", tenant_id = %job.id.tenant, run = job.run, %error,
                "could not record the end of a run; it will show as interrupted");
        }
        let duration_ms = seconds * 1000.0;
        if end.ok {
            tracing::debug!(component = "acculynx-scheduler", tenant_id = %job.id.tenant, run = job.run, duration_ms,
                "{}", end.message);
        } else {
            tracing::warn!(component = "acculynx-scheduler", tenant_id = %job.id.tenant, run = job.run, duration_ms,
                "import of {} failed: {}", job.id, end.message);
        }
    }

    async fn import(&self, job: &Job) -> ImportOutcome {
        let context = match self.import_context(job).await {
            Ok(context) => context,
            Err(error) => return ImportOutcome { stats: ImportStats::default(), error: Some(error) },
        };
        self.connectors.get(job.id.connector).import(context).await
    }

    /// What the import may use; secrets are resolved here, at run time.
    async fn import_context(&self, job: &Job) -> Result<ImportContext, ImportFailure> {
        let configuration = |message: String| ImportFailure::new(ErrorClass::Configuration, message);
        let secrets = Secrets { folder: self.settings.secrets_dir.clone() };
        let nowhere = || (String::new(), Secret(String::new()));
        let (spec, reach) = if job.id.connector == Connector::Noop {
            (ScheduleSpec::default(), nowhere())
        } else {
            let row = self.store.schedule(job.id.clone()).await;
            let row = row.map_err(|e| ImportFailure::new(ErrorClass::Store, e.to_string()))?;
            let spec = row.and_then(|row| row.spec.spec());
            let spec = spec.ok_or_else(|| configuration("the schedule was deleted before its run began".to_owned()))?;
            let reach = match job.id.connector {
                Connector::Acculynx => secrets::connection(&spec, &job.id, &self.settings.acculynx, &secrets),
                Connector::Noop => Ok(nowhere()),
            };
            (spec, reach.map_err(configuration)?)
        };
        Ok(ImportContext {
            id: job.id.clone(),
            run_id: job.run,
            nominal: job.nominal,
            base_url: reach.0,
            api_key: reach.1,
            connection: spec.connection.unwrap_or_default(),
            secrets,
            resources: spec.resources,
            targets: Vec::new(),
            sink: Arc::new(StoreSink::new(
                self.store.clone(),
                job.id.clone(),
                self.clock.clone(),
                self.deletions.clone(),
            )),
            clock: self.clock.clone(),
            cancel: self.runs.cancel.child_token(),
        })
    }

    /// Runs a schedule now, also while it is paused. While a run is in flight one more is lined up;
    /// later calls join that one. Waits for the result as long as `wait`.
    pub async fn run_now(
        self: &Arc<Self>,
        id: &ScheduleId,
        caller: &Caller,
        wait: Duration,
    ) -> Result<RunNow, AppError> {
        let lane = self.lanes.enter(id).await;
        let glance = self.fleet().get(id.connector, id.tenant.as_str());
        let slot = glance.ok_or_else(|| AppError::NotFound(id.clone()))?.slot;
        if self.is_braked(id) {
            let detail = "the brake is pulled: no run starts until it is released (DELETE /ops/brake)".to_owned();
            return Err(AppError::Conflict { detail, suggestion: None });
        }
        self.metrics.local_action(id.tenant.as_str(), "run-now");
        let action_id = new_action_id();
        let lined_up =
            self.runs.flights().get(id).and_then(VecDeque::back).map(|last| (last.job.run, last.end.subscribe()));
        let (run, seqs, mut end) = if let Some((run, end)) = lined_up {
            let detail = json!({"run": run, "joined": true});
            let entry = draft(Some(id), operation::FORCE_RUN, caller, &action_id, detail);
            (run, self.store.append(vec![entry], self.clock.now()).await?, end)
        } else {
            let (nominal, claimed) = self.claim_now(id, caller, &action_id, Trigger::RunNow).await?;
            let (end, receiver) = watch::channel(None);
            let job = Job { id: id.clone(), slot: Some(slot), run: claimed.run, nominal, trigger: Trigger::RunNow };
            self.launch(Waiting { job, end });
            (claimed.run, claimed.seqs, receiver)
        };
        drop(lane);
        let ended = if wait.is_zero() {
            None
        } else {
            let ended = tokio::time::timeout(wait, end.wait_for(Option::is_some)).await;
            ended.ok().and_then(Result::ok).and_then(|end| end.clone())
        };
        let answer = self.run_answer(id, run, action_id, seqs, ended.as_ref()).await?;
        Ok(if ended.is_some() { RunNow::Done(answer) } else { RunNow::Accepted(answer) })
    }

    async fn run_answer(
        &self,
        id: &ScheduleId,
        run: i64,
        action_id: String,
        audit: Vec<i64>,
        ended: Option<&RunEnd>,
    ) -> Result<RunNowAnswer, AppError> {
        let status = self.status_of(id).await?;
        let queued = self.runs.flights().get(id).is_some_and(|line| line.iter().any(|next| next.job.run == run));
        let (state, message) = match ended {
            Some(end) => ("done", end.message.as_str()),
            None if queued => ("queued", "the import begins when the one in flight has ended"),
            None => ("running", "the import goes on"),
        };
        Ok(RunNowAnswer {
            ok: ended.is_none_or(|end| end.ok),
            run_id: run,
            state: state.to_owned(),
            message: message.to_owned(),
            result: ended.map(|end| RunResult { stats: end.stats }),
            schedules: status.into_iter().map(|status| (id.tenant.to_string(), status)).collect(),
            action_id,
            audit,
        })
    }

    /// Claims a run outside the rhythm: its nominal time is now, or the next free millisecond.
    async fn claim_now(
        &self,
        id: &ScheduleId,
        caller: &Caller,
        action_id: &str,
        trigger: Trigger,
    ) -> Result<(Millis, Claimed), AppError> {
        let now = self.clock.now();
        for nominal in now..now + 50 {
            let entry = draft(Some(id), operation::FORCE_RUN, caller, action_id, json!({}));
            let asked = Some(Asked { by: caller.actor.clone(), action_id: action_id.to_owned() });
            let (id, audit) = (id.clone(), vec![entry]);
            let claim = Claim { id, nominal, trigger, overlap: None, asked, attempts: 0, advance: None, audit };
            if let Some(claimed) = self.store.claim(vec![claim], now).await?.into_iter().find_map(Granted::run) {
                return Ok((nominal, claimed));
            }
        }
        let detail = "too many runs of this schedule were asked for at once; try again".to_owned();
        Err(AppError::Busy { detail, retry_after_sec: 1 })
    }

    /// Runs again what a crash cut off.
    pub(super) async fn start_again(self: &Arc<Self>, id: &ScheduleId) {
        let slot = self.fleet().get(id.connector, id.tenant.as_str()).map(|glance| glance.slot);
        let Some(slot) = slot else { return };
        match self.claim_now(id, &super::apply::command_center(), &new_action_id(), Trigger::RunNow).await {
            Ok((nominal, claimed)) => self.start_run(id.clone(), Some(slot), claimed.run, nominal, Trigger::RunNow),
            Err(error) => {
                tracing::error!(component = "acculynx-scheduler", tenant_id = %id.tenant, %error,
                    "could not run again what was interrupted");
            }
        }
    }

    /// Lets runs end by themselves for `limit`, then cancels them and waits a moment more.
    pub async fn drain_runs(&self, limit: Duration) {
        self.runs.tasks.close();
        if tokio::time::timeout(limit, self.runs.tasks.wait()).await.is_err() {
            self.runs.cancel.cancel();
            self.runs.room.close();
            if tokio::time::timeout(Duration::from_secs(5), self.runs.tasks.wait()).await.is_err() {
                tracing::warn!(component = "acculynx-scheduler", "some imports did not stop; they show as interrupted");
            }
        }
    }
}

fn failure(class: ErrorClass, message: String) -> ImportOutcome {
    ImportOutcome { stats: ImportStats::default(), error: Some(ImportFailure::new(class, message)) }
}

fn message(outcome: &ImportOutcome) -> String {
    let ImportStats { imported, updated, skipped, failed } = outcome.stats;
    match &outcome.error {
        Some(error) => error.message.clone(),
        None => {
            format!("import completed: {imported} imported, {updated} updated, {skipped} unchanged, {failed} failed")
        }
    }
}
