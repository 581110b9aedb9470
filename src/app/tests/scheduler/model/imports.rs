//! Imports: who may begin and when, and what must hold while they go on.

use super::{Flying, Known, Model, NOTICED, Watched, is_of_a_slot, may_pass};
use crate::adapters::connectors::{ErrorClass, ImportContext};
use crate::core::model::{Connector, Millis, ScheduleId};
use crate::core::policy::{CatchUp, Overlap};
use crate::core::run::{RunState, Trigger};

impl Model {
    pub fn import_begun(&mut self, context: &ImportContext) {
        let (id, run) = (&context.id, context.run_id);
        let known = self.known(id).cloned();
        let is_open = self.open.contains(&run) && !self.stopped.contains(&run);
        self.ensure(is_open, || format!("run {run} of {id} begins after its end"));
        let others: Vec<i64> = self.flying.get(id).into_iter().flatten().map(|flying| flying.run).collect();
        let alone = others.is_empty() || known.as_ref().is_none_or(|known| known.was_allowed);
        self.ensure(alone, || format!("run {run} of {id} begins beside {others:?}"));
        let flying = Flying { run, since_ms: self.passed_ms, cancel: context.cancel.clone() };
        self.flying.entry(id.clone()).or_default().push(flying);
        self.stays_below_limits(id);
        let Some(watched) = self.runs.get_mut(&run) else { return };
        let (failure, retry_at) = (watched.failure.take(), watched.retry_at.take());
        watched.imports += 1;
        if watched.trigger == Trigger::Retry {
            self.retried.insert(id.clone());
        }
        if let Some(known) = known {
            self.may_begin(run, &known);
            self.attempt_may_begin(run, &known, failure, retry_at);
        }
    }

    /// Nothing keeps it: no window, no pause, no brake, no bound.
    fn may_begin(&mut self, run: i64, known: &Known) {
        let Watched { ref id, trigger, nominal, imports, .. } = self.runs[&run];
        let (id, now) = (id.clone(), self.clock.now());
        let holds = |at: &Millis| self.windows.iter().all(|version| version.hold(*at, id.connector, &known.labels));
        let is_kept = trigger != Trigger::RunNow && self.recent.iter().all(holds);
        self.ensure(!is_kept, || format!("run {run} of {id} begins in a window"));
        let noticed = |since: u64| self.moves >= since + NOTICED;
        let is_braked = self.braked_since(&id).is_some_and(noticed);
        self.ensure(!is_braked, || format!("run {run} of {id} begins in spite of the brake"));
        if !is_of_a_slot(trigger) {
            return;
        }
        let sleeps = known.is_asleep && self.moves >= known.asleep_since + NOTICED;
        self.ensure(!sleeps, || format!("run {run} of {id} begins while it is paused"));
        if known.is_edited {
            return;
        }
        let (first, last) = (known.policy.start_at.unwrap_or(nominal), known.policy.end_at.unwrap_or(nominal));
        self.ensure((first..=last).contains(&nominal), || format!("run {run} of {id} is out of bounds at {nominal}"));
        if let Some(limit) = known.policy.start_deadline_sec.filter(|_| imports == 1) {
            let late = self.recent.iter().min().unwrap().min(&now) - nominal;
            self.ensure(late <= i64::from(limit) * 1000, || format!("run {run} of {id} begins {late} ms late"));
        }
    }

    /// So often and no more, after a failure that may pass, and not before its time.
    fn attempt_may_begin(
        &mut self,
        run: i64,
        known: &Known,
        failure: Option<ErrorClass>,
        retry_at: Option<(Millis, bool)>,
    ) {
        let (imports, now) = (self.runs[&run].imports, self.clock.now());
        let id = &known.row.id;
        self.ensure(imports <= known.most_retries + 1, || format!("run {run} of {id} is tried {imports} times"));
        if imports > 1 {
            let passes = failure.is_some_and(may_pass);
            self.ensure(passes, || format!("run {run} of {id} is tried again after {failure:?}"));
            // No wait is longer than six hours: the clock was set back.
            let is_come = |at: Millis| self.recent.iter().chain([&now]).any(|now| at - now > 6 * 3_600_000);
            let has_come = retry_at.is_some_and(|(at, has_come)| has_come || at <= now || is_come(at));
            self.ensure(has_come, || format!("run {run} of {id} is tried again at {now}, due at {retry_at:?}"));
        }
    }

    fn stays_below_limits(&mut self, id: &ScheduleId) {
        let count = |is_ours: &dyn Fn(&ScheduleId) -> bool| -> usize {
            self.flying.iter().filter(|(id, _)| is_ours(id)).map(|(_, flying)| flying.len()).sum()
        };
        let per_connector = &self.limits.per_connector;
        let limits = [
            ("all", Some(self.limits.global), count(&|_| true)),
            (
                "its connector",
                per_connector.of.get(&id.connector).copied().or(per_connector.each),
                count(&|other| other.connector == id.connector),
            ),
            ("its tenant", self.limits.per_tenant, count(&|other| other.tenant == id.tenant)),
            // Those of AccuLynx share the server's key.
            (
                "its credential",
                self.limits.per_credential.filter(|_| id.connector == Connector::Acculynx),
                count(&|other| other.connector == Connector::Acculynx),
            ),
        ];
        for (whose, limit, count) in limits {
            let fits = limit.is_none_or(|limit| count <= limit);
            self.ensure(fits, || format!("{count} runs of {whose} go on with {id}, {limit:?} may"));
        }
    }

    pub fn import_ended(&mut self, id: &ScheduleId, run: i64, failure: Option<ErrorClass>) {
        let mut failure = failure;
        let policy = self.known(id).map(|known| known.policy.clone()).unwrap_or_default();
        let is_edited = self.known(id).is_none_or(|known| known.is_edited);
        let limit_ms = policy.timeout_sec.map(|sec| u64::from(sec) * 1000).or(self.timeout_ms);
        if let Some(flying) = self.flying.get_mut(id) {
            if let Some(found) = flying.iter().find(|flying| flying.run == run && flying.cancel.is_cancelled()) {
                // It was stopped: by its limit, or by somebody.
                let took = self.passed_ms - found.since_ms;
                let is_timeout = is_edited || limit_ms.is_some_and(|limit| took >= limit);
                failure = Some(if is_timeout { ErrorClass::Timeout } else { ErrorClass::Cancelled });
            }
            flying.retain(|flying| flying.run != run);
        }
        if let Some(run) = self.runs.get_mut(&run) {
            run.failure = failure;
        }
    }

    /// What must hold once everybody has done what they could at this moment.
    pub fn at_rest(&mut self, is_faultless: bool) {
        let mut found = Vec::new();
        for (id, flying) in &self.flying {
            let Some(known) = self.known(id).filter(|known| !known.is_edited) else { continue };
            let is_ours = |run: &&i64| self.runs[*run].id == *id && is_of_a_slot(self.runs[*run].trigger);
            let waiting: Vec<i64> = self.open.iter().filter(is_ours).copied().collect();
            let waiting: Vec<i64> =
                waiting.into_iter().filter(|run| self.runs[run].state == RunState::Queued).collect();
            let one_by_one = known.policy.catch_up != CatchUp::All;
            if known.policy.overlap == Overlap::QueueOne && one_by_one && !flying.is_empty() && waiting.len() > 1 {
                found.push(format!("{id} has {waiting:?} waiting behind one run"));
            }
            for flying in flying {
                let is_heeded = !matches!(self.runs[&flying.run].trigger, Trigger::Backfill | Trigger::Webhook);
                let is_younger = waiting.iter().any(|run| *run > flying.run) && is_heeded;
                if known.policy.overlap == Overlap::Cancel && one_by_one && is_younger && !flying.cancel.is_cancelled()
                {
                    found.push(format!("run {} of {id} goes on though {waiting:?} is to replace it", flying.run));
                }
                let took = (self.passed_ms - flying.since_ms) / 1000;
                if let Some(limit) = known.policy.timeout_sec.filter(|sec| took > u64::from(*sec) + 700) {
                    found.push(format!("run {} of {id} takes {took} s of {limit} s", flying.run));
                }
            }
        }
        if !is_faultless {
            // A claim said to have failed lines a run up that nobody knows of before the next start.
            found.clear();
        } else {
            let now = self.clock.now();
            for known in self.known.values().filter(|known| !known.is_asleep) {
                let id = &known.row.id;
                let is_kept = self.windows.iter().any(|version| version.hold(now, id.connector, &known.labels));
                if let Some(due) = known.due.filter(|due| *due <= now && !is_kept) {
                    found.push(format!("{id} is due since {due} at {now}, and nobody looks"));
                }
            }
            found.extend(self.to_pause.iter().map(|id| format!("{id} fails and fails and is not paused")));
        }
        self.found.extend(found);
        self.to_pause.clear();
        if is_faultless {
            // Else what was stored may be taken up later.
            self.windows.drain(..self.windows.len() - 1);
        }
    }
}
