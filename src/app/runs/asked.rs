//! Runs outside the rhythm: asked for by a caller, stopped by one, or begun again after a crash.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::flight::Stopped;
use super::{Job, RunEnd, Stage, Waiting};
use crate::adapters::store::{Asked, Claim, Claimed, Completion, Granted, OpenRun};
use crate::app::App;
use crate::app::apply::{command_center, draft, new_action_id};
use crate::app::error::AppError;
use crate::app::views::{CancelAnswer, RunNowAnswer, ScheduleStatus};
use crate::core::audit::operation;
use crate::core::model::{Caller, Millis, RunResult, ScheduleId};
use crate::core::run::{ErrorClass, RunState, Trigger};

/// Run-now's outcome: ended within the wait, or still going on.
pub enum RunNow {
    Done(RunNowAnswer),
    Accepted(RunNowAnswer),
}

/// Who asks for a run, in which action, and what the audit says of it besides.
pub(in crate::app) struct Asking {
    pub caller: Caller,
    pub action_id: String,
    pub notes: Map<String, Value>,
}

/// A run that was asked for.
pub(in crate::app) struct Begun {
    pub run: i64,
    /// Of its audit entries.
    pub seqs: Vec<i64>,
    end: tokio::sync::watch::Receiver<Option<RunEnd>>,
}

impl App {
    /// Runs a schedule now, also while it is paused. While a run is in flight one more is lined up;
    /// later calls join that one. Waits for the result as long as `wait`.
    pub async fn run_now(
        self: &Arc<Self>,
        id: &ScheduleId,
        caller: &Caller,
        wait: Duration,
    ) -> Result<RunNow, AppError> {
        let asking = Asking { caller: caller.clone(), action_id: new_action_id(), notes: Map::new() };
        let Begun { run, seqs, mut end } = self.begin_run(id, &asking).await?;
        let ended = if wait.is_zero() {
            None
        } else {
            let ended = tokio::time::timeout(wait, end.wait_for(Option::is_some)).await;
            ended.ok().and_then(Result::ok).and_then(|end| end.clone())
        };
        let answer = self.run_answer(id, run, asking.action_id, seqs, ended.as_ref()).await?;
        Ok(if ended.is_some() { RunNow::Done(answer) } else { RunNow::Accepted(answer) })
    }

    /// Claims a run that somebody asks for, or joins the one that waits already.
    pub(in crate::app) async fn begin_run(
        self: &Arc<Self>,
        id: &ScheduleId,
        asking: &Asking,
    ) -> Result<Begun, AppError> {
        let _lane = self.lanes.enter(id).await;
        let glance = self.fleet().get(id.connector, id.tenant.as_str());
        let slot = glance.ok_or_else(|| AppError::NotFound(id.clone()))?.slot;
        self.check_not_braked(id)?;
        self.metrics.local_action(id.tenant.as_str(), "run-now");
        if let Some((run, end)) = self.lined_up(id) {
            let mut detail = asking.notes.clone();
            detail.extend([("run".to_owned(), run.into()), ("joined".to_owned(), true.into())]);
            let detail = Value::Object(detail);
            let entry = draft(Some(id), operation::FORCE_RUN, &asking.caller, &asking.action_id, detail);
            let seqs = self.store.append(vec![entry], self.clock.now()).await?;
            self.metrics.event(operation::FORCE_RUN, "info");
            return Ok(Begun { run, seqs, end });
        }
        let (nominal, claimed) = self.claim_now(id, asking, Trigger::RunNow, 0).await?;
        let job = Job::new(id.clone(), Some(slot), claimed.run, nominal, Trigger::RunNow);
        let end = self.launch(job.queued(claimed.is_queued)).subscribe();
        Ok(Begun { run: claimed.run, seqs: claimed.seqs, end })
    }

    /// Whether a run waits for another of its schedule.
    pub(in crate::app) fn is_waiting(&self, id: &ScheduleId, run: i64) -> bool {
        let waits = |waiting: &Waiting| waiting.job.run == run;
        self.runs.lines().get(id).is_some_and(|line| line.waiting.iter().any(waits))
    }

    pub(super) fn check_not_braked(&self, id: &ScheduleId) -> Result<(), AppError> {
        if !self.is_braked(id) {
            return Ok(());
        }
        let detail = "the brake is pulled: no run starts until it is released (DELETE /ops/brake)".to_owned();
        Err(AppError::Conflict { detail, suggestion: None })
    }

    /// The run that somebody asked for and that has not begun.
    fn lined_up(&self, id: &ScheduleId) -> Option<(i64, tokio::sync::watch::Receiver<Option<RunEnd>>)> {
        let lines = self.runs.lines();
        let asked = lines.get(id)?.waiting.iter().find(|waiting| waiting.job.trigger == Trigger::RunNow)?;
        Some((asked.job.run, asked.end.subscribe()))
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
        let queued = self.is_waiting(id, run);
        let waits_for = status.as_ref().filter(|status| !status.running).and_then(|status| status.waiting_for.clone());
        let is_put_off =
            self.leaving.is_cancelled() && !matches!(self.runs.stage_of(id, run), Some(Stage::Running { .. }));
        let (state, message) = match (ended, waits_for) {
            (Some(end), _) => ("done", end.message.clone()),
            (None, _) if is_put_off => ("queued", "the import begins when the program is back".to_owned()),
            (None, _) if queued => ("queued", "the import begins when the one in flight has ended".to_owned()),
            (None, Some(what)) => ("queued", begins_when(&what, status.as_ref())),
            (None, None) => ("running", "the import goes on".to_owned()),
        };
        Ok(RunNowAnswer {
            ok: ended.is_none_or(|end| end.ok),
            run_id: run,
            state: state.to_owned(),
            message,
            result: ended.map(|end| RunResult { stats: end.stats }),
            schedules: status.into_iter().map(|status| (id.tenant.to_string(), status)).collect(),
            action_id,
            audit,
        })
    }

    /// Claims a run outside the rhythm: its nominal time is now, or the next free millisecond.
    pub(in crate::app) async fn claim_now(
        &self,
        id: &ScheduleId,
        asking: &Asking,
        trigger: Trigger,
        attempts: u32,
    ) -> Result<(Millis, Claimed), AppError> {
        let now = self.clock.now();
        let Asking { caller, action_id, notes } = asking;
        for nominal in now..now + 50 {
            let detail = Value::Object(notes.clone());
            let entry = draft(Some(id), operation::FORCE_RUN, caller, action_id, detail);
            let asked = Some(Asked { by: caller.actor.clone(), action_id: action_id.clone() });
            let (id, audit) = (id.clone(), vec![entry]);
            let claim = Claim { id, nominal, trigger, overlap: None, asked, attempts, advance: None, audit };
            if let Some(claimed) = self.store.claim(vec![claim], now).await?.into_iter().find_map(Granted::run) {
                self.metrics.event(operation::FORCE_RUN, "info");
                return Ok((nominal, claimed));
            }
        }
        let detail = "too many runs of this schedule were asked for at once; try again".to_owned();
        Err(AppError::Busy { detail, retry_after_sec: 1 })
    }

    /// Claims the repetition of what a crash cut off after so many attempts.
    pub(in crate::app) async fn claim_again(&self, id: &ScheduleId, attempts: u32) -> Result<Option<Job>, AppError> {
        let slot = self.fleet().get(id.connector, id.tenant.as_str()).map(|glance| glance.slot);
        let Some(slot) = slot else { return Ok(None) };
        let asking = Asking { caller: command_center(), action_id: new_action_id(), notes: Map::new() };
        let (nominal, claimed) = self.claim_now(id, &asking, Trigger::Retry, attempts).await?;
        let job = Job::new(id.clone(), Some(slot), claimed.run, nominal, Trigger::Retry);
        Ok(Some(Job { attempts, ..job.queued(claimed.is_queued) }))
    }

    /// Goes on with a run that waited, for another or for its next attempt, when the program stopped.
    pub(in crate::app) fn take_up(self: &Arc<Self>, open: OpenRun) {
        let slot = self.fleet().get(open.id.connector, open.id.tenant.as_str()).map(|glance| glance.slot);
        self.launch(Job::found(open, slot));
    }

    /// Stops a schedule's run: the one named, else all that are in flight. Answers when they have
    /// stopped, or after a few seconds.
    pub async fn cancel_runs(
        &self,
        id: &ScheduleId,
        run: Option<i64>,
        reason: Option<String>,
        caller: &Caller,
    ) -> Result<CancelAnswer, AppError> {
        if self.fleet().get(id.connector, id.tenant.as_str()).is_none() {
            return Err(AppError::NotFound(id.clone()));
        }
        let in_flight = || self.runs.lines().get(id).map(|line| line.flights.iter().map(|f| f.run).collect());
        let runs: Vec<i64> = run.map_or_else(|| in_flight().unwrap_or_default(), |run| vec![run]);
        let action_id = new_action_id();
        let why = reason.clone().unwrap_or_else(|| "no reason given".to_owned());
        let message = format!("cancelled by {}: {why}", caller.actor);
        let mut stopped = Vec::new();
        for run in &runs {
            match self.stop_run(id, *run, &message) {
                Stopped::Unknown => continue,
                Stopped::InLine(waiting) => self.end_unbegun(&waiting.job, &message).await?,
                Stopped::InFlight(mut end) => {
                    tokio::time::timeout(Duration::from_secs(10), end.wait_for(Option::is_some)).await.ok();
                }
            }
            stopped.push(*run);
        }
        if stopped.is_empty() {
            let detail = match run {
                Some(run) => format!("run {run} of {id} is neither in flight nor waiting"),
                None => format!("no run of {id} is in flight"),
            };
            return Err(AppError::Conflict { detail, suggestion: None });
        }
        let detail = json!({"runs": stopped, "reason": reason});
        let entry = draft(Some(id), operation::CANCELLED, caller, &action_id, detail);
        let audit = self.store.append(vec![entry], self.clock.now()).await?;
        self.metrics.event(operation::CANCELLED, "info");
        self.metrics.local_action(id.tenant.as_str(), "cancel");
        Ok(CancelAnswer { ok: true, cancelled: stopped, action_id, audit })
    }

    /// Ends a run that never began.
    async fn end_unbegun(&self, job: &Job, message: &str) -> Result<(), AppError> {
        let now = self.clock.now();
        let completion = Completion {
            run: job.run,
            started: now,
            // It says nothing of the schedule's last run.
            row: 0,
            ended: now,
            state: RunState::Cancelled,
            ok: false,
            message: message.to_owned(),
            error_class: Some(ErrorClass::Cancelled.as_str()),
            stats: job.stats,
            attempts: job.attempts,
            log: job.log.text(),
            volume: None,
        };
        self.store.complete(completion).await?;
        Ok(())
    }
}

/// When a run begins that waits.
fn begins_when(waits_for: &str, status: Option<&ScheduleStatus>) -> String {
    let until = status.and_then(|status| status.waiting_until_iso.as_deref()).unwrap_or("the time comes");
    match waits_for {
        "retry" => format!("an attempt failed; the next one comes at {until}"),
        "source" => format!("the import begins at {until}: the source does not want to be asked earlier"),
        "window" => format!("the import begins at {until}, when the maintenance window ends"),
        "brake" => "the import begins when the brake is released".to_owned(),
        "run" => "the import begins when the one in flight has ended".to_owned(),
        limit => format!("the import begins when the limit \"{limit}\" has room for it"),
    }
}
