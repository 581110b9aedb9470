//! What the reconciler remembers between passes: files that are missing or broken, what is held,
//! and how the last pass went.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use super::binding::PlanMemory;
use super::convergence::Window;
use super::drift::DriftMemory;
use super::rollback::Shown;
use super::views::PassReport;
use crate::adapters::store::{Dismissal, Hold, Problem};
use crate::core::model::{Millis, ScheduleId};
use crate::core::plan::{Action, HoldReason, Step};

/// Time within which deletions and pauses count together.
pub(super) const BLAST_WINDOW_MS: Millis = 600_000;

#[derive(Default)]
pub(super) struct State {
    /// Rows may have been changed by others, and could not be compared.
    pub in_doubt: bool,
    /// A loop was ended in the middle of its work: what it stored, memory may not have learnt.
    pub is_behind: bool,
    /// Files that cannot be used, by path.
    pub problems: BTreeMap<String, Problem>,
    /// Schedules whose file was gone in a complete scan, and since when.
    pub missing: HashMap<ScheduleId, Millis>,
    /// Steps that wait for a person or for a second scan, and since when.
    pub held: Vec<HeldStep>,
    /// What waits for a person as the store has it: it goes on waiting until a person agrees or the
    /// files no longer ask for it.
    pub holds: BTreeMap<(ScheduleId, Action), Hold>,
    /// The decision against what is held, if there is one.
    pub dismissal: Option<Dismissal>,
    /// Repaired drift, counted.
    pub drift: DriftMemory,
    /// Plans that callers have seen.
    pub plans: PlanMemory,
    /// When files last deleted or paused something.
    blasts: VecDeque<Millis>,
    pub last_pass: Option<PassReport>,
    /// When a pass last compared everything.
    pub compared: Option<Millis>,
    /// Schedules whose rows somebody put into the store by hand.
    pub foreign: HashSet<ScheduleId>,
    pub revision: String,
    pub commit: Option<String>,
    /// Why the directory cannot be read as a whole, if so.
    pub trouble: Option<String>,
    pub convergence: Window,
    /// Plans of going back that were shown lately.
    pub shown_rollbacks: VecDeque<Shown>,
    /// Refused requests that wait for their minute to end before they are audited.
    pub refusals: HashMap<(String, String, String), Refusals>,
}

/// Refused requests of one peer on one route within one minute.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refusals {
    pub count: u64,
    pub since: Millis,
}

#[derive(Clone, Debug)]
pub(super) struct HeldStep {
    pub step: Step,
    pub since: Millis,
}

impl State {
    /// Destructive steps that files caused within the window.
    pub fn recent_blasts(&mut self, now: Millis) -> usize {
        while self.blasts.front().is_some_and(|at| now - at > BLAST_WINDOW_MS) {
            self.blasts.pop_front();
        }
        self.blasts.len()
    }

    pub fn note_blasts(&mut self, now: Millis, count: usize) {
        self.blasts.extend(std::iter::repeat_n(now, count));
    }

    /// Replaces what is held; steps that were held before keep their time. Returns those that a person
    /// is to be told of.
    pub fn hold(&mut self, steps: Vec<Step>, now: Millis) -> Vec<Step> {
        let key = |step: &Step| (step.id.clone(), step.action);
        let before: BTreeMap<_, Millis> = self.held.drain(..).map(|held| (key(&held.step), held.since)).collect();
        let mut fresh = Vec::new();
        for step in steps {
            let stored = self.holds.get(&key(&step)).map(|hold| hold.since);
            if stored.is_none() && step.held.is_some_and(HoldReason::needs_person) {
                fresh.push(step.clone());
            }
            self.held.push(HeldStep { since: stored.or(before.get(&key(&step)).copied()).unwrap_or(now), step });
        }
        fresh
    }

    /// What waits for a person now, as the store is to keep it.
    pub fn holds_now(&self) -> BTreeMap<(ScheduleId, Action), Hold> {
        let hold = |held: &HeldStep| {
            let key = (held.step.id.clone(), held.step.action);
            // A decision against a step does not change why it was held.
            let reason = match held.step.held? {
                HoldReason::Unconfirmed => return None,
                HoldReason::Dismissed => self.holds.get(&key).map_or(HoldReason::BlastRadius, |hold| hold.reason),
                reason => reason,
            };
            let hold = Hold { id: key.0.clone(), action: key.1, reason, since: held.since };
            Some((key, hold))
        };
        self.held.iter().filter_map(hold).collect()
    }
}
