//! The dispatcher's view: wait for the earliest timer, take what is due, claim it, start it.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use serde_json::json;

use super::App;
use super::apply::{diff_value, draft, new_action_id};
use super::blocking::rest;
use super::runs::Job;
use super::windows::Gatekeeper;
use crate::adapters::store::{Advance, Claim, Granted, StoreResult};
use crate::core::audit::{Draft, operation};
use crate::core::fleet::{Fleet, Slot};
use crate::core::missed::{Miss, Missed};
use crate::core::model::{Caller, Millis, ScheduleId, Source};
use crate::core::plan::FieldChange;
use crate::core::policy::Overlap;
use crate::core::run::Trigger;
use crate::core::timing::{DueSlot, Turn, iso, turn};

/// Claims that share a transaction: large enough for a herd, small enough for the first to start soon.
const BATCH: usize = 256;

/// How long to wait before what the store could not do is tried again.
const RETRY: Duration = Duration::from_millis(250);

/// A clock that goes back further than this was set; less is drift put right.
const SET_BACK_MS: Millis = 1_000;

/// How often the dispatcher looks whether the program has ended.
const LEAVING_NAP: Duration = Duration::from_millis(20);

/// The longest sleep, so that a step of the clock is noticed within a second.
const NAP: Duration = Duration::from_secs(1);

/// What is due: slots to claim together, and timers to move on without a run.
pub struct DueBatch {
    due: Vec<Due>,
    skipped: Vec<(Slot, Advance)>,
    /// Pauses whose end has come.
    lifts: Vec<(Slot, Advance, Draft)>,
}

/// A schedule whose turn it is.
struct Due {
    slot: Slot,
    id: ScheduleId,
    advance: Advance,
    slots: Vec<DueSlot>,
    overlap: Overlap,
}

impl Due {
    /// One claim a slot; the timer moves with the first. Several at once line up whatever the rule
    /// for overlap: they are to be made up for one after the other.
    fn claims(&self) -> impl Iterator<Item = Claim> + '_ {
        let overlap = (self.slots.len() == 1).then_some(self.overlap);
        let mut advance = Some(self.advance);
        self.slots.iter().map(move |due| Claim {
            id: self.id.clone(),
            nominal: due.nominal,
            trigger: if due.is_late { Trigger::CatchUp } else { Trigger::Schedule },
            overlap,
            asked: None,
            attempts: 0,
            advance: advance.take(),
            audit: Vec::new(),
        })
    }
}

impl App {
    /// Blocks until something is due, a second has passed or the program stops; takes what is due.
    pub fn wait_for_due(&self) -> DueBatch {
        let mut fleet = self.fleet();
        if self.leaving.is_cancelled() {
            // What is due stays so, and is on time when the program is back within the minute.
            drop(self.timer_set.wait_timeout(fleet, LEAVING_NAP));
            return DueBatch { due: Vec::new(), skipped: Vec::new(), lifts: Vec::new() };
        }
        let earliest = fleet.next_due();
        let wait = earliest.map_or(NAP, |due| self.clock.until(due).min(NAP));
        if !wait.is_zero() {
            // Written while the fleet is locked: whoever sets a timer after this sees it.
            self.waits_for.store(earliest.unwrap_or(Millis::MAX), Ordering::Release);
            let woken = self.timer_set.wait_timeout(fleet, wait).unwrap_or_else(PoisonError::into_inner);
            fleet = woken.0;
            self.waits_for.store(Millis::MIN, Ordering::Release);
        }
        self.due_now(fleet)
    }

    /// Takes what is due now.
    pub(super) fn due_now(&self, mut fleet: MutexGuard<'_, Fleet>) -> DueBatch {
        let now = self.clock.now();
        let seen = self.dispatcher_seen.swap(now, Ordering::Relaxed);
        if now < seen {
            // The window that something waits for may not have begun yet.
            fleet.wake_all();
        }
        if now < seen - SET_BACK_MS {
            self.clock_was_set_back();
        }
        let due = fleet.take_due(now, BATCH);
        let mut gatekeeper = Gatekeeper::at(self.windows(), now);
        let mut batch = DueBatch { due: Vec::with_capacity(due.len()), skipped: Vec::new(), lifts: Vec::new() };
        for (slot, at) in due {
            let Some((id, glance)) = fleet.id(slot).zip(fleet.glance(slot)) else { continue };
            let Some((Ok(rhythm), policy)) = fleet.rhythm(slot).zip(fleet.policy(slot)) else { continue };
            if glance.paused {
                let (to, applied) = (rhythm.next_after(now), Some(glance.applied));
                let advance = Advance { row: glance.row, from: at, to, applied, missed: Missed::NONE };
                batch.lifts.push((slot, advance, lifted(&id, at)));
                continue;
            }
            if let Some(end) = gatekeeper.wait(&fleet, slot, id.connector) {
                // It stays due: at the window's end the catch-up rule decides.
                fleet.delay(slot, end);
                continue;
            }
            let Turn { slots, missed, next } = turn(&rhythm, &policy, at, now);
            let in_window = missed > 0 && gatekeeper.kept(&fleet, slot, id.connector, at);
            let mut missed = Missed::of(if in_window { Miss::Window } else { Miss::Folded }, missed);
            let is_braked = self.is_braked(&id);
            if is_braked {
                missed = missed.and(Miss::Brake, u32::try_from(slots.len()).unwrap_or(u32::MAX));
            }
            let applied = Some(glance.applied);
            let advance = Advance { row: glance.row, from: at, to: next, applied, missed };
            if is_braked || slots.is_empty() {
                batch.skipped.push((slot, advance));
            } else {
                batch.due.push(Due { slot, id, advance, slots, overlap: policy.overlap });
            }
        }
        batch
    }

    /// Without this a schedule would stay silent for as long as the clock was set back: timers go back to
    /// the next slot after now. No claimed slot is claimed again.
    fn clock_was_set_back(&self) {
        tracing::warn!(component = "acculynx-scheduler", "the clock was set back; timers are checked");
        self.timers_in_doubt.store(true, Ordering::Release);
        self.pass_wanted.notify_one();
    }

    /// Makes the claims durable and starts their runs. What cannot be claimed stays due, also where this program's
    /// own code fails.
    pub async fn dispatch(self: &Arc<Self>, batch: DueBatch) {
        let slots = batch.slots();
        if AssertUnwindSafe(self.try_dispatch(batch)).catch_unwind().await.is_ok() {
            return;
        }
        self.metrics.error();
        tracing::error!(
            component = "acculynx-scheduler",
            "a fault of this program kept due runs from starting; trying again"
        );
        rest(RETRY).await;
        {
            let mut fleet = self.fleet();
            slots.into_iter().for_each(|slot| fleet.put_back(slot));
        }
        self.ring_for(Some(Millis::MIN));
    }

    async fn try_dispatch(self: &Arc<Self>, batch: DueBatch) {
        #[cfg(test)]
        self.before_claim.run();
        let DueBatch { due, skipped, lifts } = batch;
        if !lifts.is_empty() {
            self.lift(lifts).await;
        }
        if !skipped.is_empty() {
            let advances = skipped.iter().map(|(_, advance)| *advance).collect();
            let moved = self.store.advance(advances).await;
            self.move_on(skipped, moved).await;
        }
        if !due.is_empty() {
            self.claim(due).await;
        }
    }

    async fn claim(self: &Arc<Self>, due: Vec<Due>) {
        let granted = self.store.claim(due.iter().flat_map(Due::claims).collect(), self.clock.now()).await;
        let advances: Vec<_> = due.iter().map(|due| (due.slot, due.advance)).collect();
        let mut granted = match granted {
            Ok(granted) => {
                if self.claims_fail.swap(false, Ordering::Relaxed) {
                    tracing::info!(component = "acculynx-scheduler", "due runs are claimed again");
                }
                granted.into_iter()
            }
            Err(error) => {
                self.metrics.error();
                // Once: what cannot be claimed is tried four times a second.
                if !self.claims_fail.swap(true, Ordering::Relaxed) {
                    tracing::error!(component = "acculynx-scheduler", %error, "could not claim due runs; trying until it works");
                }
                return self.line_up_again_soon(&advances).await;
            }
        };
        let each: Vec<Vec<Granted>> = due.iter().map(|due| granted.by_ref().take(due.slots.len()).collect()).collect();
        let as_known = each.iter().map(|granted| granted.first() != Some(&Granted::Outrun)).collect();
        let outrun = self.went_on(advances, as_known);
        for (due, granted) in due.iter().zip(each) {
            for (slot, granted) in due.slots.iter().zip(granted) {
                self.start_due(due, *slot, granted);
            }
        }
        self.take_anew(outrun).await;
    }

    /// Starts the run of a slot, as far as it was granted.
    fn start_due(self: &Arc<Self>, due: &Due, slot: DueSlot, granted: Granted) {
        let claimed = match granted {
            Granted::Run(claimed) => claimed,
            Granted::Overlap => return self.metrics.slots_missed(Miss::Overlap, 1),
            Granted::Taken | Granted::Outrun => return,
        };
        if !slot.is_late {
            self.note_lateness(slot.nominal);
        }
        if due.overlap == Overlap::Cancel && claimed.is_queued {
            self.clear_the_way(&due.id, "cancelled: the schedule's next slot was due (overlap: cancel)");
        }
        let trigger = if slot.is_late { Trigger::CatchUp } else { Trigger::Schedule };
        let job = Job::new(due.id.clone(), Some(due.slot), claimed.run, slot.nominal, trigger);
        self.launch_due(job.queued(claimed.is_queued), due.overlap == Overlap::Allow);
    }

    /// Ends pauses whose end has come: their timers go on to the next slot after now.
    async fn lift(&self, lifts: Vec<(Slot, Advance, Draft)>) {
        let entries = lifts.iter().map(|(_, advance, entry)| (*advance, entry.clone())).collect();
        let advances: Vec<(Slot, Advance)> = lifts.into_iter().map(|(slot, advance, _)| (slot, advance)).collect();
        match self.store.lift(entries, self.clock.now()).await {
            Ok(as_known) => {
                for ((slot, advance), _) in advances.iter().zip(&as_known).filter(|(_, as_known)| **as_known) {
                    self.fleet().lift(*slot, advance.from, advance.to);
                    self.metrics.event(operation::RESUMED, "info");
                }
                let outrun = self.went_on(advances, as_known);
                self.take_anew(outrun).await;
            }
            Err(error) => {
                self.metrics.error();
                tracing::error!(component = "acculynx-scheduler", %error, "could not lift pauses; trying again");
                self.line_up_again_soon(&advances).await;
            }
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "microseconds of lateness")]
    fn note_lateness(&self, nominal: Millis) {
        let late_micros = self.clock.now_micros() - nominal * 1000;
        self.metrics.fire_lateness(late_micros.max(0) as f64 / 1e6);
    }

    /// After success the timers stand at their next slot; after a failure they are due again soon.
    async fn move_on(&self, advances: Vec<(Slot, Advance)>, moved: StoreResult<Vec<bool>>) {
        match moved {
            Ok(as_known) => {
                let outrun = self.went_on(advances, as_known);
                self.take_anew(outrun).await;
            }
            Err(_) => self.line_up_again_soon(&advances).await,
        }
    }

    /// Has the timers stand in memory where the store has moved them; gives those it has not.
    fn went_on(&self, advances: Vec<(Slot, Advance)>, as_known: Vec<bool>) -> Vec<(Slot, Advance)> {
        let mut outrun = Vec::new();
        let mut earliest = None;
        let mut fleet = self.fleet();
        for ((slot, advance), as_known) in advances.into_iter().zip(as_known) {
            if !as_known {
                outrun.push((slot, advance));
                continue;
            }
            advance.missed.iter().for_each(|(why, count)| self.metrics.slots_missed(why, count));
            fleet.advance(slot, advance.from, advance.to);
            earliest = [earliest, advance.to].into_iter().flatten().min();
        }
        drop(fleet);
        self.ring_for(earliest);
        outrun
    }

    /// What was changed between its taking and its claim is taken anew, by its new rules. Where memory
    /// does not know of them a moment later, it has missed something that the store has.
    async fn take_anew(&self, outrun: Vec<(Slot, Advance)>) {
        let (behind, current): (Vec<_>, Vec<_>) =
            outrun.into_iter().partition(|(slot, it)| self.is_known_as(*slot, it));
        self.line_up_again(&current);
        if behind.is_empty() {
            return;
        }
        self.line_up_again_soon(&behind).await;
        if behind.iter().any(|(slot, advance)| self.is_known_as(*slot, advance)) {
            self.doubt_everything();
        }
    }

    /// Whether the schedule still is, as far as memory knows, what it was when it was taken.
    fn is_known_as(&self, slot: Slot, advance: &Advance) -> bool {
        let glance = self.fleet().glance(slot);
        glance.is_some_and(|glance| glance.row == advance.row && Some(glance.applied) == advance.applied)
    }

    async fn line_up_again_soon(&self, taken: &[(Slot, Advance)]) {
        rest(RETRY).await;
        self.line_up_again(taken);
    }

    fn line_up_again(&self, taken: &[(Slot, Advance)]) {
        if taken.is_empty() {
            return;
        }
        let mut fleet = self.fleet();
        taken.iter().for_each(|(slot, _)| fleet.put_back(*slot));
        drop(fleet);
        self.ring_for(Some(Millis::MIN));
    }
}

impl DueBatch {
    /// All that was taken out of the queue.
    fn slots(&self) -> Vec<Slot> {
        let due = self.due.iter().map(|due| due.slot);
        let skipped = self.skipped.iter().map(|(slot, _)| *slot);
        due.chain(skipped).chain(self.lifts.iter().map(|(slot, ..)| *slot)).collect()
    }

    pub fn is_empty(&self) -> bool {
        self.due.is_empty() && self.skipped.is_empty() && self.lifts.is_empty()
    }
}

/// The entry that tells of a pause whose end has come.
fn lifted(id: &ScheduleId, end: Millis) -> Draft {
    let caller = Caller { source: Source::Scheduler, actor: "scheduler".to_owned() };
    let diff = [FieldChange { field: "paused".to_owned(), from: true.into(), to: false.into() }];
    let detail = json!({"diff": diff_value(&diff), "file": id.file(), "pause_until": iso(end)});
    draft(Some(id), operation::RESUMED, &caller, &new_action_id(), detail)
}
