//! One run from its beginning to its end: attempts, the waits between them, what it may not exceed.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use tokio_util::sync::CancellationToken;

use super::held::Asker;
use super::{Flight, Job, RunEnd, Stage};
use crate::adapters::connectors::{ImportFailure, ImportOutcome};
use crate::adapters::store::{Completion, Parked, StoreFuture};
use crate::app::App;
use crate::app::admission::Permit;
use crate::app::blocking::{passes, rest};
use crate::core::missed::Miss;
use crate::core::model::{ImportStats, Millis};
use crate::core::policy::RunPolicy;
use crate::core::run::{ErrorClass, RunLog, RunState, Trigger};
use crate::core::timing::{MOST_ASKED_MS, retry_after_ms};

/// How long an import that is to stop may take to do so.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// How long to wait before what the store could not do is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// A run as far as it has come.
struct Progress {
    began: Millis,
    attempts: u32,
    stats: ImportStats,
    log: RunLog,
}

/// How a run ends.
struct Verdict {
    state: RunState,
    failure: Option<ImportFailure>,
}

impl Verdict {
    fn stopped(class: ErrorClass, message: impl Into<String>) -> Self {
        Verdict { state: RunState::Cancelled, failure: Some(ImportFailure::new(class, message)) }
    }

    /// How it ended, in a word; what was stopped has not failed.
    fn outcome(&self) -> &'static str {
        match (self.state, &self.failure) {
            (RunState::Cancelled, _) => "cancelled",
            (_, Some(_)) => "failed",
            (_, None) => "ok",
        }
    }

    fn class(&self) -> Option<ErrorClass> {
        self.failure.as_ref().map(|failure| failure.class)
    }
}

/// Why the wait for the next attempt is over.
enum Woken {
    Due,
    /// Another run of the schedule wants to start.
    GiveWay,
    Stopped,
    /// The program stops; the run goes on at its next start.
    Shutdown,
}

impl App {
    /// Carries a run out and records its end; `None` where the program stops before it has one.
    pub(super) async fn see_through(self: &Arc<Self>, job: &Job, flight: &Flight) -> Option<RunEnd> {
        let policy = job.slot.and_then(|slot| self.fleet().policy(slot)).unwrap_or_default();
        let (began, log) = (self.clock.now(), job.log.clone());
        let mut progress = Progress { began, attempts: job.attempts, stats: job.stats, log };
        let started = Instant::now();
        let verdict = self.attempts(job, flight, &policy, &mut progress).await?;
        let seconds = started.elapsed().as_secs_f64();
        self.count_run(job, &verdict, progress.attempts, seconds);
        let end = RunEnd {
            ok: verdict.failure.is_none(),
            message: message(verdict.failure.as_ref(), progress.stats),
            stats: progress.stats,
        };
        let failures = self.record_end(job, flight, &end, &verdict, progress, seconds).await;
        if job.trigger == Trigger::Webhook {
            Box::pin(self.settle_told(&job.id, job.run, end.ok)).await;
        }
        if verdict.outcome() == "failed" {
            Box::pin(self.pause_if_failing(&job.id, &policy, failures, &end.message)).await;
        }
        Some(end)
    }

    /// Tries until the run succeeds or there is no point in going on.
    async fn attempts(
        &self,
        job: &Job,
        flight: &Flight,
        policy: &RunPolicy,
        progress: &mut Progress,
    ) -> Option<Verdict> {
        let mut waits = job.retry_at;
        let mut is_parked = job.is_parked;
        let mut last = None;
        loop {
            if let Some(at) = waits.take()
                && let Some(verdict) = self.until_next_attempt(job, flight, at, last.take()).await?
            {
                return Some(verdict);
            }
            let Some(asker) = self.asker_of(&job.id, &flight.cancel).await else {
                return self.stopped(flight);
            };
            let Some(room) = self.come_in(job, flight, &asker).await else {
                if !is_parked && flight.reason.get().is_none() {
                    self.put_off(job, progress).await;
                }
                return self.stopped(flight);
            };
            if let Some(became) = self.called_off(job) {
                let what = if progress.attempts == 0 { "not started" } else { "not tried again" };
                let message = format!("{what}: the schedule was {became} while the run waited");
                return Some(Verdict::stopped(ErrorClass::Cancelled, message));
            }
            if is_parked && !self.insist(job, || self.store.begin_run(job.run)).await? {
                return None;
            }
            if let Some(verdict) = self.missed_deadline(job, policy, progress.attempts) {
                return Some(verdict);
            }
            if progress.attempts == job.attempts {
                progress.began = self.clock.now();
            }
            progress.attempts += 1;
            flight.stand(Stage::Running { began: progress.began });
            // Thousands of runs may wait at this; only those that go on need an import's memory.
            let outcome = Box::pin(self.try_once(job, flight, policy)).await;
            drop(room);
            progress.stats += outcome.stats;
            if let Some(text) = &outcome.log {
                progress.log.push(self.clock.now(), text);
            }
            let Some(failure) = outcome.error else {
                return Some(Verdict { state: RunState::Done, failure: None });
            };
            if flight.cancel.is_cancelled() {
                return self.stopped(flight);
            }
            self.heed(asker, &failure);
            let Some(at) = self.park(job, policy, &failure, progress).await else {
                return Some(Verdict { state: RunState::Done, failure: Some(failure) });
            };
            (waits, is_parked, last) = (Some(at), true, Some(failure));
        }
    }

    /// Waits for whatever keeps the run back, then for its turn and for room: `None` where it is stopped
    /// before. What the others before it were told by the source meanwhile, it heeds too.
    async fn come_in(&self, job: &Job, flight: &Flight, asker: &Asker) -> Option<Permit> {
        loop {
            if !self.outlast_holds(job, flight, asker).await {
                return None;
            }
            let room = self.admit(&job.id, job.trigger, job.nominal, asker.credential(), &flight.cancel).await?;
            if !self.is_held(job, asker) {
                return Some(room);
            }
        }
    }

    /// The verdict over a run that was stopped: none where it was the program's end that stopped it.
    fn stopped(&self, flight: &Flight) -> Option<Verdict> {
        let reason = flight.reason.get()?;
        Some(Verdict::stopped(ErrorClass::Cancelled, reason.clone()))
    }

    /// Has the store take note of how a run goes, however often it takes: a run that the store thinks
    /// is under way keeps others of its schedule from starting. `None` when the program stops before.
    async fn insist<'a, T>(&'a self, job: &Job, note: impl Fn() -> StoreFuture<'a, T>) -> Option<T> {
        let mut told = false;
        loop {
            let error = match note().await {
                Ok(noted) => return Some(noted),
                Err(error) => error,
            };
            if !std::mem::replace(&mut told, true) {
                self.metrics.error();
                tracing::error!(component = "acculynx-scheduler", tenant_id = %job.id.tenant, run = job.run, %error,
                    "could not record how a run goes; trying until it works");
            }
            if self.shutdown.is_cancelled() {
                return None;
            }
            rest(RETRY).await;
        }
    }

    /// Whether the run comes too late for its slot to start at all.
    fn missed_deadline(&self, job: &Job, policy: &RunPolicy, attempts: u32) -> Option<Verdict> {
        let of_a_slot = matches!(job.trigger, Trigger::Schedule | Trigger::CatchUp);
        let limit = policy.start_deadline_sec.filter(|_| of_a_slot && attempts == 0)?;
        let late = self.clock.now() - job.nominal > Millis::from(limit) * 1000;
        late.then(|| {
            self.metrics.slots_missed(Miss::Deadline, 1);
            let message = format!("not started: its slot is longer ago than start_deadline_sec ({limit} s)");
            Verdict::stopped(ErrorClass::Deadline, message)
        })
    }

    /// Writes a failed attempt down and says when the next one is due; `None` when there is none.
    async fn park(
        &self,
        job: &Job,
        policy: &RunPolicy,
        failure: &ImportFailure,
        progress: &mut Progress,
    ) -> Option<Millis> {
        let now = self.clock.now();
        let seed = job.run.unsigned_abs() ^ (u64::from(progress.attempts) << 48);
        let wait = retry_after_ms(policy, progress.attempts, failure.class, failure.retry_after, seed);
        let attempt = format!("attempt {} failed ({}): {}", progress.attempts, failure.class.as_str(), failure.message);
        let Some(wait) = wait else {
            if progress.attempts > 1 {
                progress.log.push(now, &attempt);
            }
            return None;
        };
        progress.log.push(now, &format!("{attempt}; the next one comes in {} s", wait / 1000));
        let parked = Parked {
            run: job.run,
            attempts: progress.attempts,
            retry_at: now + wait,
            message: failure.message.clone(),
            error_class: failure.class.as_str(),
            log: progress.log.text(),
        };
        self.insist(job, || self.store.park_run(parked.clone())).await;
        Some(now + wait)
    }

    /// A run that had not begun when the program was to end: no interruption, it begins at the next start.
    async fn put_off(&self, job: &Job, progress: &Progress) {
        let parked = Parked {
            run: job.run,
            attempts: progress.attempts,
            retry_at: self.clock.now(),
            message: "not begun: the server was stopped before its turn came".to_owned(),
            error_class: ErrorClass::Interrupted.as_str(),
            log: progress.log.text(),
        };
        if let Err(error) = self.store.park_run(parked).await {
            tracing::warn!(component = "acculynx-scheduler", run = job.run, %error, "a run that has not begun shows as interrupted");
        }
    }

    /// Waits until `at`. An inner `None` is the time to go on; the outer one the program's end.
    async fn until_next_attempt(
        &self,
        job: &Job,
        flight: &Flight,
        at: Millis,
        last: Option<ImportFailure>,
    ) -> Option<Option<Verdict>> {
        match self.wait_for_attempt(job, flight, at).await {
            Woken::Due => Some(None),
            Woken::Shutdown => None,
            Woken::Stopped => self.stopped(flight).map(Some),
            Woken::GiveWay => {
                let failure = last.unwrap_or_else(|| ImportFailure::new(ErrorClass::Interrupted, "an attempt failed"));
                let message = format!("{}; gave way to the next run before it was tried again", failure.message);
                let failure = ImportFailure { message, ..failure };
                Some(Some(Verdict { state: RunState::Done, failure: Some(failure) }))
            }
        }
    }

    async fn wait_for_attempt(&self, job: &Job, flight: &Flight, at: Millis) -> Woken {
        flight.stand(Stage::Held { why: "retry", until: Some(at) });
        loop {
            // Who wanted to start may have been taken out of the line since.
            let is_wanted = !flight.give_way.is_cancelled() || self.runs.is_waited_for(&job.id);
            let nap = self.clock.nap_until(at);
            // No wait is that long: the clock was set back.
            if nap.is_zero() || at - self.clock.now() > MOST_ASKED_MS {
                return Woken::Due;
            }
            tokio::select! {
                biased;
                () = self.leaving.cancelled() => return Woken::Shutdown,
                () = flight.cancel.cancelled() => {
                    return if flight.reason.get().is_some() { Woken::Stopped } else { Woken::Shutdown };
                }
                () = flight.give_way.cancelled(), if is_wanted => {
                    if self.runs.is_waited_for(&job.id) {
                        return Woken::GiveWay;
                    }
                }
                () = rest(nap) => {}
            }
        }
    }

    /// One import, stopped when it is asked to or takes too long.
    async fn try_once(&self, job: &Job, flight: &Flight, policy: &RunPolicy) -> ImportOutcome {
        let limit = policy.timeout_sec.map(|sec| Duration::from_secs(sec.into())).or(self.settings.run_timeout);
        let cancel = flight.cancel.child_token();
        let import = AssertUnwindSafe(self.import(job, flight, &cancel)).catch_unwind();
        tokio::pin!(import);
        let failure = tokio::select! {
            biased;
            outcome = &mut import => return outcome.unwrap_or_else(|_| panicked()),
            () = flight.cancel.cancelled() => ImportFailure::new(ErrorClass::Cancelled, "stopped"),
            () = passes(limit) => {
                let seconds = limit.unwrap_or_default().as_secs();
                ImportFailure::new(ErrorClass::Timeout, format!("stopped: it took longer than {seconds} s"))
            }
        };
        cancel.cancel();
        let outcome = tokio::select! {
            biased;
            outcome = import => outcome.ok(),
            () = passes(Some(STOP_GRACE)) => None,
        };
        let (stats, log) = outcome.map(|outcome| (outcome.stats, outcome.log)).unwrap_or_default();
        ImportOutcome { stats, log, error: Some(failure) }
    }

    async fn import(&self, job: &Job, flight: &Flight, cancel: &CancellationToken) -> ImportOutcome {
        if job.trigger == Trigger::Webhook {
            return self.import_told(job, cancel).await;
        }
        match self.import_context(job, cancel).await {
            Ok((context, sink)) => {
                let outcome = self.connectors.get(job.id.connector).import(context).await;
                flight.note_readings(job, &sink, &outcome);
                outcome
            }
            Err(error) => ImportOutcome { stats: ImportStats::default(), error: Some(error), log: None },
        }
    }

    fn count_run(&self, job: &Job, verdict: &Verdict, attempts: u32, seconds: f64) {
        self.metrics.run_finished(job.id.connector.as_str(), verdict.outcome());
        if attempts == 0 {
            return;
        }
        self.metrics.import_duration(job.id.connector.as_str(), seconds);
        if matches!(job.trigger, Trigger::Schedule | Trigger::CatchUp) {
            self.metrics.scheduled_import(job.id.tenant.as_str());
        }
    }

    /// Writes the end down; returns how many runs of the schedule have failed in a row.
    async fn record_end(
        &self,
        job: &Job,
        flight: &Flight,
        end: &RunEnd,
        verdict: &Verdict,
        progress: Progress,
        seconds: f64,
    ) -> u32 {
        #[cfg(test)]
        self.before_end.run();
        // One that did not begin says nothing of the schedule's last run, but that it missed its deadline.
        let is_begun = progress.attempts > 0 || verdict.class() != Some(ErrorClass::Cancelled);
        let row = if is_begun { self.row_told_of(&job.id, job.trigger) } else { 0 };
        let completion = Completion {
            run: job.run,
            started: progress.began,
            row,
            ended: self.clock.now(),
            state: verdict.state,
            ok: end.ok,
            message: end.message.clone(),
            error_class: verdict.class().map(ErrorClass::as_str),
            stats: end.stats,
            attempts: progress.attempts,
            log: progress.log.text(),
            volume: if end.ok { self.volume_of(job, flight, row).await } else { None },
        };
        let failures = self.insist(job, || self.store.complete(completion.clone())).await;
        let duration_ms = (seconds * 1000.0).round();
        let component = format!("{}-scheduler", job.id.connector);
        let (tenant_id, run, outcome) = (&job.id.tenant, job.run, verdict.outcome());
        if outcome == "failed" {
            tracing::warn!(component, %tenant_id, run, duration_ms, "import of {} failed: {}", job.id, end.message);
        } else {
            tracing::debug!(component, %tenant_id, run, duration_ms, "import of {} {outcome}: {}", job.id, end.message);
        }
        failures.unwrap_or(0)
    }
}

fn panicked() -> ImportOutcome {
    let message = "the connector failed in a way that it must not (a fault of this program; see the log)";
    ImportOutcome {
        stats: ImportStats::default(),
        error: Some(ImportFailure::new(ErrorClass::BadResponse, message)),
        log: None,
    }
}

fn message(failure: Option<&ImportFailure>, stats: ImportStats) -> String {
    let ImportStats { imported, updated, skipped, failed } = stats;
    match failure {
        Some(failure) => failure.message.clone(),
        None => {
            format!("import completed: {imported} imported, {updated} updated, {skipped} unchanged, {failed} failed")
        }
    }
}
