//! Timers: each slot that one passes has a run or is counted as missed, under the reason that the
//! rules name; what an edit, a pause or its end sets never reaches back.

use std::sync::Arc;

use super::super::take::{Take, slots};
use super::{Known, Model, is_of_a_slot, learned};
use crate::adapters::store::memory::Row;
use crate::core::missed::{Miss, Missed};
use crate::core::model::Millis;
use crate::core::policy::Overlap;
use crate::core::row::is_asleep;
use crate::core::run::{RunState, Trigger};

/// Beyond this, missed slots of a cron expression are estimated.
const COUNTED: usize = 32;

impl Model {
    /// `missed` is what the timer counts, and how many runs just ended because they came too late.
    pub(super) fn follow_timer(
        &mut self,
        key: i64,
        row: &Arc<Row>,
        due: Option<Millis>,
        (missed, too_late): (Missed, u32),
        was_set: bool,
        fresh: &[(Millis, RunState)],
    ) {
        let before = self.known.get(&key).cloned();
        let was_set = was_set || before.as_ref().is_none_or(|before| !Arc::ptr_eq(&before.row, row));
        let known = match &before {
            Some(before) if Arc::ptr_eq(&before.row, row) => Known { due, missed, ..before.clone() },
            _ => learned(row, due, missed, before.as_ref()),
        };
        let slept = before.as_ref().filter(|before| before.is_asleep);
        let asleep_since = slept.map_or(self.moves, |before| before.asleep_since);
        // Without a slot to come, a pause that has ended leaves no trace.
        let is_over = due.is_none() && row.spec.pause_until.is_some_and(|end| end <= self.latest);
        let is_asleep = is_asleep(row.spec.paused, row.spec.pause_until, due) && !is_over;
        let stood_at = before.as_ref().filter(|before| was_set && before.due != due).map(|before| before.due);
        let stood_at = stood_at.unwrap_or(known.stood_at);
        let known = Known { is_asleep, asleep_since, stood_at, ..known };
        self.known.insert(key, known.clone());
        let Some(before) = before else { return self.timer_was_set(&known, None) };
        let late = missed.get(Miss::Deadline) - before.missed.get(Miss::Deadline);
        self.ensure(late == too_late, || format!("{}: {too_late} came too late, {late} are counted", row.id));
        let counts = |why: Miss| why != Miss::Deadline && missed.get(why) != before.missed.get(why);
        if before.due == due || was_set {
            let counted: Vec<_> = Miss::ALL.into_iter().filter(|why| counts(*why)).collect();
            self.ensure(counted.is_empty(), || format!("{}: {counted:?} counted where none passed", row.id));
        }
        if before.due == due {
            let newer = |slot: &Millis| !self.takes.iter().any(|take| take.id == row.id && take.wanted.contains(slot));
            let stray: Vec<_> = fresh.iter().map(|(at, _)| *at).filter(newer).collect();
            self.ensure(stray.is_empty(), || format!("{} is given runs nobody took: {stray:?}", row.id));
        } else if was_set {
            self.timer_was_set(&known, Some(&before));
        } else {
            self.timer_went_on(&before, &known, fresh);
        }
    }

    /// Set by an edit, a pause, its end, a repair: it never reaches back.
    fn timer_was_set(&mut self, known: &Known, before: Option<&Known>) {
        let (id, spec) = (&known.row.id, &known.row.spec);
        let earliest = self.recent.iter().copied().min().unwrap_or(0);
        let latest = self.recent.iter().copied().max().unwrap_or(0);
        let fits = match known.due {
            None => spec.paused || known.rhythm.next_after(earliest).is_none_or(|slot| slot <= latest),
            due if spec.paused && due == spec.pause_until => true,
            due if before.is_some_and(|before| before.stood_at == due) => true,
            Some(due) => {
                let is_slot = known.rhythm.next_after(due - 1) == Some(due);
                is_slot && due > earliest && known.rhythm.next_after(latest).is_none_or(|next| due <= next)
            }
        };
        let was = before.and_then(|before| before.due);
        self.ensure(fits, || format!("{id} is set from {was:?} to {:?} by an edit, late {latest}", known.due));
    }

    /// Moved on from a slot that was due.
    fn timer_went_on(&mut self, before: &Known, known: &Known, fresh: &[(Millis, RunState)]) {
        let id = known.row.id.clone();
        let Some(from) = before.due else {
            return self.found.push(format!("{id} is due at {:?}, out of nothing", known.due));
        };
        if let Some(to) = known.due.filter(|to| *to < from) {
            // The clock was set back.
            let earliest = self.recent.iter().copied().min().unwrap_or(0);
            let fits = self.latest > earliest && to > earliest && known.rhythm.next_after(to - 1) == Some(to);
            let fits = fits && fresh.is_empty() && known.missed == before.missed;
            return self.ensure(fits, || format!("{id} goes back from {from} to {to}"));
        }
        let passed = slots(&before.rhythm, from, known.due);
        let bare = passed.iter().filter(|slot| !self.claimed.contains(&(id.clone(), **slot))).count();
        let counted: u64 = known.missed.total() - before.missed.total();
        let is_estimated = passed.len() > COUNTED && before.row.spec.cron.is_some();
        let covered = is_estimated || (bare as u64..=passed.len() as u64).contains(&counted);
        let most = passed.len();
        self.ensure(covered, || format!("{id} passes {most} slots, {bare} without a run, and counts {counted} missed"));
        let takes: Vec<Take> = self.takes.iter().filter(|take| take.id == id && take.from == from).cloned().collect();
        let ours = takes.iter().filter(|take| take.next == known.due);
        let judged: Vec<_> = ours.map(|take| self.judge(take, before, known, fresh)).collect();
        let fits = judged.iter().any(Result::is_ok);
        self.ensure(fits, || {
            format!("{id} goes from {from} to {:?} with {fresh:?}: {judged:?} of {takes:?}", known.due)
        });
    }

    /// Whether the runs claimed and the slots counted as missed are those that the rules want.
    fn judge(&self, take: &Take, before: &Known, known: &Known, fresh: &[(Millis, RunState)]) -> Result<(), String> {
        let others: Vec<_> = self
            .open
            .iter()
            .map(|run| &self.runs[run])
            .filter(|run| run.id == take.id && run.state != RunState::Waiting)
            .filter(|run| !(is_of_a_slot(run.trigger) && fresh.iter().any(|(at, _)| *at == run.nominal)))
            .collect();
        let heeded = || others.iter().filter(|run| !matches!(run.trigger, Trigger::Backfill | Trigger::Webhook));
        let has_queued = heeded().any(|run| run.state == RunState::Queued);
        let is_single = take.wanted.len() == 1;
        let is_refused = is_single
            && match take.overlap {
                Overlap::Skip => heeded().next().is_some(),
                Overlap::QueueOne | Overlap::Cancel => has_queued,
                Overlap::Allow => false,
            };
        let is_new = |slot: &&Millis| {
            fresh.iter().any(|(at, _)| at == *slot) || !self.claimed.contains(&(take.id.clone(), **slot))
        };
        let free = take.wanted.iter().filter(is_new).copied();
        let expected: Vec<Millis> = if take.is_braked || is_refused { Vec::new() } else { free.collect() };
        let runs: Vec<Millis> = fresh.iter().map(|(at, _)| *at).collect();
        if runs != expected {
            return Err(format!("{expected:?} are to run"));
        }
        let alongside = is_single && take.overlap == Overlap::Allow;
        // What may not be repeated blindly is said to run only once it does.
        let begins_later = !take.id.connector.imports_idempotently();
        let is_first = |n: usize| others.is_empty() && n == 0;
        let begins = |n: usize| (alongside || is_first(n)) && !begins_later;
        let state = |n: usize| if begins(n) { RunState::Running } else { RunState::Queued };
        if !fresh.iter().enumerate().all(|(n, (_, found))| *found == state(n)) {
            return Err("it begins beside another, or waits for none".to_owned());
        }
        self.judge_missed(take, before, known, u32::from(is_refused && !take.is_braked))
    }

    fn judge_missed(&self, take: &Take, before: &Known, known: &Known, overlapped: u32) -> Result<(), String> {
        let counted = |why: Miss| known.missed.get(why) - before.missed.get(why);
        let count = |slots: usize| u32::try_from(slots).unwrap();
        let braked = if take.is_braked { count(take.wanted.len()) } else { 0 };
        if (counted(Miss::Overlap), counted(Miss::Brake)) != (overlapped, braked) {
            return Err(format!("{overlapped} by overlap and {braked} by the brake are missed"));
        }
        let is_estimated = take.due > COUNTED && before.row.spec.cron.is_some();
        let folded = count(take.due - take.wanted.len());
        let (by_window, by_rule) = (counted(Miss::Window), counted(Miss::Folded));
        if !is_estimated && by_window + by_rule != folded {
            return Err(format!("{folded} are folded or kept by a window"));
        }
        match take.was_kept {
            Some(true) if by_rule > 0 => Err("a window kept what is counted as folded".to_owned()),
            Some(false) if by_window > 0 => Err("no window kept it".to_owned()),
            _ => Ok(()),
        }
    }
}
