//! Runs that are not done, as status and health show them: under way, waiting and for what, overdue.

use std::collections::BTreeMap;

use super::App;
use super::runs::Stage;
use crate::core::model::{Millis, ScheduleId};
use crate::core::timing::overdue_ms;

/// One schedule's runs that are not done.
#[derive(Default)]
pub(super) struct LineUp {
    pub running: bool,
    pub queued: bool,
    /// The limit that the first of those queued waits for, or what else keeps it.
    pub waiting_for: Option<&'static str>,
    /// Until when it is kept, where that is known.
    pub waiting_until: Option<Millis>,
    /// The slot of a run that waits to start, where its time has come.
    pub due: Option<Millis>,
}

/// The same over the fleet.
pub(super) struct Lines {
    pub running: u64,
    pub queued: u64,
    pub waiting_for: BTreeMap<String, u64>,
    pub overdue: u64,
}

impl App {
    pub(super) fn line_up(&self, id: &ScheduleId) -> LineUp {
        let (stages, behind) = self.runs.stages_of(id);
        let wait = self.admission.wait_of(id);
        let under_way = under_way(&stages, wait.map_or(0, |wait| wait.runs));
        let held = stages.iter().find_map(|stage| match stage {
            Stage::Held { why, until } => Some((*why, *until)),
            _ => None,
        });
        let limit = wait.map(|wait| (wait.limit.as_str(), None));
        let waits = limit.or(held).or((behind > 0).then_some(("run", None)));
        LineUp {
            running: under_way > 0,
            queued: behind + stages.len() > under_way,
            waiting_for: waits.map(|(what, _)| what),
            waiting_until: waits.and_then(|(_, until)| until),
            due: wait.and_then(|wait| wait.due),
        }
    }

    pub(super) fn lines(&self, now: Millis) -> Lines {
        let (stages, behind) = self.runs.stages();
        let waits = self.admission.waits();
        let under_way = under_way(&stages, waits.values().map(|wait| wait.runs).sum());
        let mut waiting_for: BTreeMap<String, u64> = BTreeMap::new();
        for (limit, count) in self.admission.waiting_by_limit() {
            waiting_for.insert(limit.to_string(), count as u64);
        }
        for stage in &stages {
            if let Stage::Held { why, .. } = stage {
                *waiting_for.entry((*why).to_owned()).or_default() += 1;
            }
        }
        let late = |slot: Option<Millis>, interval| slot.and_then(|slot| overdue_ms(slot, interval, now)).is_some();
        let fleet = self.fleet();
        let mut overdue = 0;
        for glance in fleet.iter().filter(|glance| !glance.paused && !glance.running) {
            let waits = glance.wake.is_some_and(|wake| wake > now);
            overdue += u64::from(!waits && late(glance.next_due, glance.interval_sec));
        }
        // What is claimed and waits has its timer at the next slot already.
        for (id, wait) in &waits {
            let glance = fleet.get(id.connector, id.tenant.as_str()).filter(|glance| !glance.paused);
            overdue += u64::from(glance.is_some_and(|glance| late(wait.due, glance.interval_sec)));
        }
        Lines { running: under_way as u64, queued: (behind + stages.len() - under_way) as u64, waiting_for, overdue }
    }
}

/// How many of them import or are about to: the others are held, or wait for their turn.
fn under_way(stages: &[Stage], waiting: usize) -> usize {
    stages.iter().filter(|stage| !matches!(stage, Stage::Held { .. })).count().saturating_sub(waiting)
}
