//! Runs in memory: the counterpart of `sqlite/runs`.

use super::super::{Advance, Asked, Claim, Claimed, Completion, Granted, LastRun, OpenRun, Parked};
use super::tables::{Tables, Timer};
use crate::core::audit::Draft;
use crate::core::missed::Miss;
use crate::core::model::{ImportStats, Millis, ScheduleId};
use crate::core::policy::Overlap;
use crate::core::run::{RunState, Trigger};
use crate::core::volume::ShortImport;

#[derive(Clone, Debug)]
pub struct Run {
    pub id: ScheduleId,
    pub nominal: Millis,
    pub trigger: Trigger,
    pub state: RunState,
    pub term: i64,
    pub started: Millis,
    pub ended: Option<Millis>,
    pub ok: Option<bool>,
    pub stats: ImportStats,
    pub attempts: u32,
    pub retry_at: Option<Millis>,
    pub asked: Option<Asked>,
    pub message: Option<String>,
    pub error_class: Option<&'static str>,
    pub short: Option<ShortImport>,
    pub log: Option<String>,
}

impl Tables {
    pub fn claim(&mut self, claims: Vec<Claim>, term: i64, now: Millis) -> Vec<Granted> {
        let mut outrun: Option<ScheduleId> = None;
        let granted = claims.into_iter().map(|claim| {
            let is_outrun = match &claim.advance {
                Some(advance) => !self.is_as_known(advance),
                None => outrun.as_ref() == Some(&claim.id),
            };
            outrun = is_outrun.then(|| claim.id.clone());
            if is_outrun { Granted::Outrun } else { self.claim_one(claim, term, now) }
        });
        granted.collect()
    }

    fn is_as_known(&self, advance: &Advance) -> bool {
        let applied = || self.schedules.get(&advance.row).map(|row| row.fingerprint);
        advance.applied.is_none_or(|known| applied() == Some(known))
    }

    fn claim_one(&mut self, claim: Claim, term: i64, now: Millis) -> Granted {
        let open = self.runs.values().filter(|run| run.id == claim.id && run.ended.is_none());
        let open: Vec<(RunState, Trigger)> =
            open.map(|run| (run.state, run.trigger)).filter(|(state, _)| *state != RunState::Waiting).collect();
        let heeded = || open.iter().filter(|(_, trigger)| !matches!(trigger, Trigger::Backfill | Trigger::Webhook));
        let (any, busy) = (!open.is_empty(), heeded().next().is_some());
        let lined_up = heeded().any(|(state, _)| *state == RunState::Queued);
        let queued = match claim.overlap {
            Some(Overlap::Allow) => Some(false),
            Some(Overlap::Skip) => (!busy).then_some(any),
            Some(Overlap::QueueOne | Overlap::Cancel) => (!lined_up).then_some(any),
            None => Some(any),
        };
        let is_forgotten = claim.is_of_rhythm() && {
            let timer = self.row_of(&claim.id).and_then(|(row, _)| self.timers.get(&row));
            timer.and_then(|timer| timer.pruned) >= Some(claim.nominal)
        };
        let free = queued.is_some() && !is_forgotten && self.slots.insert((claim.id.clone(), claim.nominal));
        if let Some(advance) = &claim.advance {
            let missed = advance.missed.and(Miss::Overlap, u32::from(queued.is_none()));
            self.advance(&Advance { missed, ..*advance });
        }
        let Some(is_queued) = queued else { return Granted::Overlap };
        let is_queued = is_queued || claim.begins_later();
        if !free {
            return Granted::Taken;
        }
        let run = self.runs.last_key_value().map_or(0, |(run, _)| *run) + 1;
        let Claim { id, nominal, trigger, audit, attempts, asked, .. } = claim;
        let state = if is_queued { RunState::Queued } else { RunState::Running };
        let row = Run {
            id,
            nominal,
            trigger,
            state,
            term,
            started: now,
            ended: None,
            ok: None,
            stats: ImportStats::default(),
            attempts,
            retry_at: None,
            asked,
            message: None,
            error_class: None,
            short: None,
            log: None,
        };
        self.runs.insert(run, row);
        Granted::Run(Claimed { run, is_queued, seqs: self.append(audit, now) })
    }

    /// Says whether the schedule is as it is known.
    pub fn advance(&mut self, advance: &Advance) -> bool {
        if !self.is_as_known(advance) {
            return false;
        }
        if let Some(timer) = self.timers.get_mut(&advance.row).filter(|timer| timer.due == Some(advance.from)) {
            timer.due = advance.to;
            timer.last.missed += advance.missed;
        }
        true
    }

    pub fn lift(&mut self, lifts: Vec<(Advance, Draft)>, now: Millis) -> Vec<bool> {
        let lifted = lifts.into_iter().map(|(advance, entry)| {
            let stands = self.timers.get(&advance.row).is_some_and(|timer| timer.due == Some(advance.from));
            let is_as_known = self.advance(&advance);
            if is_as_known && stands {
                self.append(vec![entry], now);
            }
            is_as_known
        });
        lifted.collect()
    }

    fn open(&mut self, run: i64) -> Option<&mut Run> {
        self.runs.get_mut(&run).filter(|run| run.ended.is_none())
    }

    pub fn begin(&mut self, run: i64) -> bool {
        let Some(run) = self.open(run) else { return false };
        (run.state, run.retry_at) = (RunState::Running, None);
        true
    }

    pub fn park(&mut self, parked: Parked) {
        let Some(run) = self.open(parked.run) else { return };
        run.state = RunState::Waiting;
        (run.attempts, run.retry_at, run.log) = (parked.attempts, Some(parked.retry_at), parked.log);
        (run.message, run.error_class) = (Some(parked.message), Some(parked.error_class));
    }

    pub fn add_counts(&mut self, run: i64, stats: ImportStats) {
        if let Some(run) = self.open(run) {
            run.stats += stats;
        }
    }

    pub fn complete(&mut self, mut completion: Completion) -> u32 {
        let is_deadline_missed = completion.is_deadline_missed();
        let volume = completion.volume.take();
        let (short, entry) = volume.as_ref().and_then(|volume| volume.short.clone()).unzip();
        let Some(run) = self.open(completion.run) else { return 0 };
        run.state = completion.state;
        run.ended = Some(completion.ended);
        run.started = completion.started;
        run.ok = Some(completion.ok);
        run.stats = completion.stats;
        (run.attempts, run.retry_at, run.log) = (completion.attempts, None, completion.log);
        (run.message, run.error_class) = (Some(completion.message.clone()), completion.error_class);
        let is_timed = run.trigger == Trigger::Schedule && !is_deadline_missed;
        let late_ms = is_timed.then_some((run.started - run.nominal).max(0));
        run.short = short.clone();
        self.append(entry.into_iter().collect(), completion.ended);
        let Some(Timer { last, volumes, .. }) = self.timers.get_mut(&completion.row) else { return 0 };
        if let Some(volume) = volume {
            *volumes = volume.recent;
        }
        let failures = if completion.ok { 0 } else { last.failures + u32::from(completion.state.counts()) };
        *last = LastRun {
            ended: Some(completion.ended),
            ok: Some(completion.ok),
            message: Some(completion.message),
            stats: completion.stats,
            short,
            failures,
            late_ms: late_ms.or(last.late_ms),
            missed: last.missed.and(Miss::Deadline, u32::from(is_deadline_missed)),
        };
        failures
    }

    pub fn open_runs(&self) -> Vec<OpenRun> {
        let open = self.runs.iter().filter(|(_, run)| run.ended.is_none());
        open.map(|(key, run)| OpenRun {
            run: *key,
            id: run.id.clone(),
            nominal: run.nominal,
            trigger: run.trigger,
            state: run.state,
            started: run.started,
            attempts: run.attempts,
            retry_at: run.retry_at,
            log: run.log.clone(),
            stats: run.stats,
        })
        .collect()
    }
}
