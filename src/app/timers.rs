//! The dispatcher's view: wait for the earliest timer, take what is due, claim it, start it.

use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;

use super::App;
use super::apply::{diff_value, draft, new_action_id};
use super::blocking::rest;
use super::windows::Gatekeeper;
use crate::adapters::store::{Advance, Claim, Granted};
use crate::core::audit::{Draft, operation};
use crate::core::fleet::Slot;
use crate::core::model::{Caller, Millis, ScheduleId, Source};
use crate::core::plan::FieldChange;
use crate::core::policy::Overlap;
use crate::core::run::Trigger;
use crate::core::timing::{iso, turn};

/// Claims that share a transaction: large enough for a herd, small enough for the first to start soon.
const BATCH: usize = 256;

/// How long to wait before what the store could not do is tried again.
const RETRY: Duration = Duration::from_millis(250);

/// The longest sleep, so that a step of the clock is noticed within a second.
const NAP: Duration = Duration::from_secs(1);

/// Slots to claim together, and timers to move on without a run.
pub struct DueBatch {
    claims: Vec<(Slot, Claim)>,
    skipped: Vec<(Slot, Advance)>,
    /// Pauses whose end has come.
    lifts: Vec<(Slot, Advance, Draft)>,
}

impl App {
    /// Blocks until something is due, a second has passed or the program stops; takes what is due.
    pub fn wait_for_due(&self) -> DueBatch {
        let mut fleet = self.fleet();
        let now = self.clock.now();
        self.dispatcher_seen.store(now, Ordering::Relaxed);
        let earliest = fleet.next_due();
        let wait = earliest.map_or(NAP, |due| self.clock.until(due).min(NAP));
        if !wait.is_zero() {
            // Written while the fleet is locked: whoever sets a timer after this sees it.
            self.waits_for.store(earliest.unwrap_or(Millis::MAX), Ordering::Release);
            let woken = self.timer_set.wait_timeout(fleet, wait).unwrap_or_else(PoisonError::into_inner);
            fleet = woken.0;
            self.waits_for.store(Millis::MIN, Ordering::Release);
        }
        let now = self.clock.now();
        let due = fleet.take_due(now, BATCH);
        let mut gatekeeper = Gatekeeper::at(self.windows(), now);
        let mut batch = DueBatch { claims: Vec::with_capacity(due.len()), skipped: Vec::new(), lifts: Vec::new() };
        for (slot, at) in due {
            let Some((id, glance)) = fleet.id(slot).zip(fleet.glance(slot)) else { continue };
            let Some(Ok(rhythm)) = fleet.rhythm(slot) else { continue };
            if glance.paused {
                let advance = Advance { row: glance.row, from: at, to: rhythm.next_after(now), missed: 0 };
                batch.lifts.push((slot, advance, lifted(&id, at)));
                continue;
            }
            if let Some(end) = gatekeeper.wait(&fleet, slot, id.connector) {
                // It stays due: at the window's end the catch-up rule decides.
                fleet.delay(slot, end);
                continue;
            }
            let turn = turn(&rhythm, at, now);
            let advance = Advance { row: glance.row, from: at, to: turn.next, missed: 0 };
            if let Some(reason) = self.skip_reason(&id, glance.running) {
                self.metrics.slot_skipped(reason);
                batch.skipped.push((slot, advance));
            } else {
                let claim = Claim {
                    id,
                    nominal: turn.nominal,
                    trigger: Trigger::Schedule,
                    overlap: Some(Overlap::Skip),
                    asked: None,
                    attempts: 0,
                    advance: Some(advance),
                    audit: Vec::new(),
                };
                batch.claims.push((slot, claim));
            }
        }
        batch
    }

    /// Why a due slot passes without a run: the brake, or the run before it that still goes on.
    fn skip_reason(&self, id: &ScheduleId, running: bool) -> Option<&'static str> {
        if self.is_braked(id) {
            Some("brake")
        } else if running {
            Some("overlap")
        } else {
            None
        }
    }

    /// Makes the claims durable and starts their runs. What cannot be claimed stays due.
    pub async fn dispatch(self: &Arc<Self>, batch: DueBatch) {
        let DueBatch { claims, skipped, lifts } = batch;
        if !lifts.is_empty() {
            self.lift(lifts).await;
        }
        if !skipped.is_empty() {
            let advances = skipped.iter().map(|(_, advance)| *advance).collect();
            let moved = self.store.advance(advances).await;
            self.move_on(skipped, moved.is_ok()).await;
        }
        if claims.is_empty() {
            return;
        }
        let (slots, claims): (Vec<Slot>, Vec<Claim>) = claims.into_iter().unzip();
        let granted = self.store.claim(claims.clone(), self.clock.now()).await;
        let advances = slots.iter().zip(&claims).filter_map(|(slot, claim)| Some((*slot, claim.advance?))).collect();
        self.move_on(advances, granted.is_ok()).await;
        match granted {
            Ok(granted) => {
                for ((slot, claim), granted) in slots.into_iter().zip(claims).zip(granted) {
                    let Granted::Run(granted) = granted else { continue };
                    self.note_lateness(claim.nominal);
                    self.start_run(claim.id, Some(slot), granted.run, claim.nominal, Trigger::Schedule);
                }
            }
            Err(error) => {
                self.metrics.error();
                tracing::error!(component = "acculynx-scheduler", %error, "could not claim due runs; trying again");
            }
        }
    }

    /// Ends pauses whose end has come: their timers go on to the next slot after now.
    async fn lift(&self, lifts: Vec<(Slot, Advance, Draft)>) {
        let entries = lifts.iter().map(|(_, advance, entry)| (*advance, entry.clone())).collect();
        let done = self.store.lift(entries, self.clock.now()).await;
        if let Err(error) = &done {
            self.metrics.error();
            tracing::error!(component = "acculynx-scheduler", %error, "could not lift pauses; trying again");
            rest(RETRY).await;
        }
        let earliest = lifts.iter().filter_map(|(_, advance, _)| advance.to).min();
        let mut fleet = self.fleet();
        for (slot, advance, _) in lifts {
            if done.is_ok() {
                fleet.lift(slot, advance.from, advance.to);
                self.metrics.event(operation::RESUMED, "info");
            } else {
                fleet.put_back(slot);
            }
        }
        drop(fleet);
        self.ring_for(if done.is_ok() { earliest } else { Some(Millis::MIN) });
    }

    #[expect(clippy::cast_precision_loss, reason = "microseconds of lateness")]
    fn note_lateness(&self, nominal: Millis) {
        let late_micros = self.clock.now_micros() - nominal * 1000;
        self.metrics.fire_lateness(late_micros.max(0) as f64 / 1e6);
    }

    /// After success the timers stand at their next slot; after a failure they are due again soon.
    async fn move_on(&self, advances: Vec<(Slot, Advance)>, done: bool) {
        if !done {
            rest(RETRY).await;
        }
        let earliest =
            advances.iter().filter_map(|(_, advance)| if done { advance.to } else { Some(advance.from) }).min();
        let mut fleet = self.fleet();
        for (slot, advance) in advances {
            if done {
                fleet.advance(slot, advance.from, advance.to);
            } else {
                fleet.put_back(slot);
            }
        }
        drop(fleet);
        self.ring_for(earliest);
    }
}

impl DueBatch {
    pub fn is_empty(&self) -> bool {
        self.claims.is_empty() && self.skipped.is_empty() && self.lifts.is_empty()
    }
}

/// The entry that tells of a pause whose end has come.
fn lifted(id: &ScheduleId, end: Millis) -> Draft {
    let caller = Caller { source: Source::Scheduler, actor: "scheduler".to_owned() };
    let diff = [FieldChange { field: "paused".to_owned(), from: true.into(), to: false.into() }];
    let detail = json!({"diff": diff_value(&diff), "file": id.file(), "pause_until": iso(end)});
    draft(Some(id), operation::RESUMED, &caller, &new_action_id(), detail)
}
