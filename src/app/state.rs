//! What the reconciler remembers between passes: files that are missing or broken, what is held,
//! and how the last pass went.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use super::convergence::Window;
use super::rollback::Shown;
use super::views::PassReport;
use crate::adapters::store::Problem;
use crate::core::model::{Millis, ScheduleId};
use crate::core::plan::Step;

/// Time within which deletions and pauses count together.
const BLAST_WINDOW_MS: Millis = 600_000;

#[derive(Default)]
pub(super) struct State {
    /// Files that cannot be used, by path.
    pub problems: BTreeMap<String, Problem>,
    /// Schedules whose file was gone in a complete scan, and since when.
    pub missing: HashMap<ScheduleId, Millis>,
    /// Steps that wait for a person or for a second scan, and since when.
    pub held: Vec<HeldStep>,
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

    /// Replaces what is held; steps that were held before keep their time. Returns the new ones.
    pub fn hold(&mut self, steps: Vec<Step>, now: Millis) -> Vec<Step> {
        let before = std::mem::take(&mut self.held);
        let mut fresh = Vec::new();
        for step in steps {
            let known = before.iter().find(|held| held.step.id == step.id && held.step.action == step.action);
            if known.is_none_or(|held| held.step.held != step.held) {
                fresh.push(step.clone());
            }
            self.held.push(HeldStep { since: known.map_or(now, |held| held.since), step });
        }
        fresh
    }
}
