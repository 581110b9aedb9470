//! Runs that are not done, as status and health show them: under way, waiting and for what, overdue.

use std::collections::BTreeMap;

use super::App;
use crate::core::model::{Millis, ScheduleId};
use crate::core::timing::overdue_ms;

/// One schedule's runs that are not done.
#[derive(Default)]
pub(super) struct LineUp {
    pub running: bool,
    pub queued: bool,
    /// The limit that the first of those queued waits for, or `run`.
    pub waiting_for: Option<&'static str>,
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
        let (in_flight, behind) = self.runs.count_of(id);
        let wait = self.admission.wait_of(id);
        let waiting = wait.map_or(0, |wait| wait.runs);
        LineUp {
            running: in_flight > waiting,
            queued: behind + waiting > 0,
            waiting_for: wait.map(|wait| wait.limit.as_str()).or((behind > 0).then_some("run")),
            due: wait.and_then(|wait| wait.due),
        }
    }

    pub(super) fn lines(&self, now: Millis) -> Lines {
        let (in_flight, behind) = self.runs.count();
        let waiting_for = self.admission.waiting_by_limit();
        let waits = self.admission.waits();
        let waiting: usize = waits.values().map(|wait| wait.runs).sum();
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
        Lines {
            running: in_flight.saturating_sub(waiting as u64),
            queued: behind + waiting as u64,
            waiting_for: waiting_for.into_iter().map(|(limit, count)| (limit.to_string(), count as u64)).collect(),
            overdue,
        }
    }
}
