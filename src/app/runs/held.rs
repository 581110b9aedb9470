//! What keeps a claimed run from starting beside limits and turns: the brake, a maintenance window,
//! and the wish of a source to be left alone for a while.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Flight, Job, Stage};
use crate::adapters::connectors::ImportFailure;
use crate::app::App;
use crate::app::blocking::rest;
use crate::core::fair::Credential;
use crate::core::model::{Millis, ScheduleId};
use crate::core::run::Trigger;
use crate::core::timing::MOST_ASKED_MS;

/// How often a run looks whether the brake still keeps it.
const LOOK: Duration = Duration::from_secs(1);

/// Whom a source knows: a credential, or the schedule alone where it proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Asker {
    Credential(Credential),
    Schedule(ScheduleId),
}

impl Asker {
    pub fn credential(&self) -> Option<Credential> {
        match self {
            Asker::Credential(credential) => Some(*credential),
            Asker::Schedule(_) => None,
        }
    }
}

/// Until when sources want to be left alone, by whom they said it to.
#[derive(Default)]
pub(in crate::app) struct Wishes(Mutex<HashMap<Asker, Millis>>);

impl Wishes {
    /// A source asks not to be asked again before `until`.
    fn note(&self, asker: Asker, until: Millis, now: Millis) {
        let mut wishes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        wishes.retain(|_, until| *until > now);
        let known = wishes.entry(asker).or_insert(until);
        *known = until.max(*known);
    }

    /// Until when it is to be left alone. What lies farther ahead than any wish may is the work of a
    /// clock that was set back.
    fn until(&self, asker: &Asker, now: Millis) -> Option<Millis> {
        let wishes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        wishes.get(asker).copied().filter(|until| (1..=MOST_ASKED_MS).contains(&(until - now)))
    }
}

/// What keeps a run, and until when if that is known.
struct Hold {
    why: &'static str,
    until: Option<Millis>,
}

impl App {
    /// Whom the source of a schedule's run will know; `None` where the run is stopped before that is known.
    pub(super) async fn asker_of(&self, id: &ScheduleId, stop: &CancellationToken) -> Option<Asker> {
        Some(match self.credential_of(id, stop).await? {
            Some(credential) => Asker::Credential(credential),
            None => Asker::Schedule(id.clone()),
        })
    }

    /// Remembers when the source of a failed run wants to be asked again, for whatever else would ask it.
    pub(super) fn heed(&self, asker: Asker, failure: &ImportFailure) {
        let Some(wait) = failure.retry_after else { return };
        let now = self.clock.now();
        let wait = Millis::try_from(wait.as_millis()).unwrap_or(MOST_ASKED_MS).min(MOST_ASKED_MS);
        self.wishes.note(asker, now + wait, now);
    }

    /// Waits until nothing keeps the run from starting. With `false` it was stopped before, or the
    /// program stops.
    pub(super) async fn outlast_holds(&self, job: &Job, flight: &Flight, asker: &Asker) -> bool {
        while let Some(Hold { why, until }) = self.hold_of(job, asker) {
            flight.stand(Stage::Held { why, until });
            // Looked at again every second: the clock may step, and what keeps it may be taken away.
            let nap = until.map_or(LOOK, |until| self.clock.nap_until(until));
            tokio::select! {
                biased;
                () = self.leaving.cancelled() => return false,
                () = flight.cancel.cancelled() => return false,
                () = rest(nap) => {}
            }
        }
        flight.stand(Stage::Entering);
        true
    }

    /// Whether anything keeps the run from starting.
    pub(super) fn is_held(&self, job: &Job, asker: &Asker) -> bool {
        self.hold_of(job, asker).is_some()
    }

    fn hold_of(&self, job: &Job, asker: &Asker) -> Option<Hold> {
        if self.is_braked(&job.id) {
            return Some(Hold { why: "brake", until: None });
        }
        // A person asks at once.
        if job.trigger == Trigger::RunNow {
            return None;
        }
        let now = self.clock.now();
        let window = self.window_over(&job.id, now).map(|end| Hold { why: "window", until: Some(end) });
        let wish = || self.wishes.until(asker, now).map(|until| Hold { why: "source", until: Some(until) });
        window.or_else(wish)
    }

    /// What became of the schedule since it claimed the run, where the run is not to start for it.
    pub(super) fn called_off(&self, job: &Job) -> Option<&'static str> {
        let is_its_own = matches!(job.trigger, Trigger::Schedule | Trigger::CatchUp | Trigger::Retry);
        match self.fleet().get(job.id.connector, job.id.tenant.as_str()) {
            None => Some("deleted"),
            // What somebody asked for runs also while it is paused.
            Some(glance) => (glance.paused && is_its_own).then_some("paused"),
        }
    }
}
