//! What waits for a person: kept until somebody agrees, the files no longer ask for it, or somebody
//! decides against it.

use std::collections::HashSet;

use serde_json::json;

use super::App;
use super::apply::{command_center, draft, new_action_id};
use super::error::AppError;
use super::state::State;
use super::views::{DismissalView, HeldChange, HoldView, HoldsAnswer};
use crate::adapters::store::{AuditQuery, Dismissal};
use crate::core::audit::{Entry, operation};
use crate::core::fleet::Sync;
use crate::core::model::{Caller, Millis, ScheduleId, Source};
use crate::core::plan::{HoldReason, Plan, Step};
use crate::core::timing::iso;

/// More deletions and pauses than this within ten minutes need not be counted one by one.
const MAX_RECENT: u32 = 100_000;

impl App {
    /// What the store knows of holds, and how much files deleted and paused of late: a restart does not
    /// let pass what was held, nor begin to count anew.
    pub(super) async fn load_holds(&self) -> Result<(), AppError> {
        let (holds, dismissal) = self.store.holds().await?;
        let since = self.clock.now() - super::state::BLAST_WINDOW_MS;
        let mut recent = Vec::new();
        for operation in [operation::DELETED, operation::PAUSED] {
            let query = AuditQuery {
                operation: Some(operation.to_owned()),
                since: Some(since),
                limit: MAX_RECENT,
                ..AuditQuery::default()
            };
            let entries = self.store.audit_page(query).await?.into_iter();
            recent.extend(entries.filter(counts).map(|entry| entry.at));
        }
        recent.sort_unstable();
        let mut state = self.state();
        state.holds = holds.into_iter().map(|hold| ((hold.id.clone(), hold.action), hold)).collect();
        state.dismissal = dismissal;
        recent.into_iter().for_each(|at| state.note_blasts(at, 1));
        Ok(())
    }

    /// What was held stays held, though it be less than the guard would hold by now; and what a person
    /// has decided against is marked so.
    pub(super) fn keep_holding(&self, steps: &mut [Step]) {
        let state = self.state();
        for step in steps.iter_mut().filter(|step| !step.held.is_some_and(HoldReason::needs_person)) {
            let stored = state.holds.get(&(step.id.clone(), step.action)).map(|hold| hold.reason);
            step.held = stored.or(step.held);
        }
        let Some(dismissal) = &state.dismissal else { return };
        let waits = |step: &Step| step.held.is_some_and(HoldReason::needs_person);
        let waiting = Plan::new(steps.iter().filter(|step| waits(step)).cloned().collect());
        if waiting.digest() == dismissal.digest {
            steps.iter_mut().filter(|step| waits(step)).for_each(|step| step.held = Some(HoldReason::Dismissed));
        }
    }

    /// Shows what is held; what is held anew, and not just until the second scan, is audited. `seen`
    /// says that all files could be looked at.
    pub(super) async fn hold(&self, held: Vec<Step>, seen: bool) -> Result<(), AppError> {
        let now = self.clock.now();
        self.show_held(&held);
        let fresh = self.release_and_hold(held, now);
        let action_id = new_action_id();
        let mut entries: Vec<_> = fresh
            .iter()
            .map(|step| {
                let reason = step.held.map(|held| held.to_string());
                let detail = json!({"action": step.action.as_str(), "reason": reason});
                draft(Some(&step.id), operation::PRUNE_HELD, &command_center(), &action_id, detail)
            })
            .collect();
        if !fresh.is_empty() {
            self.metrics.event(operation::PRUNE_HELD, "warning");
        }
        let lapsed = if seen { self.lapsed_dismissal() } else { None };
        entries.extend(lapsed.iter().map(|dismissal| {
            let detail = json!({"digest": dismissal.digest, "reason": dismissal.reason});
            draft(None, operation::HOLD_LAPSED, &command_center(), &new_action_id(), detail)
        }));
        let (holds, dismissal) = {
            let state = self.state();
            let holds = state.holds_now();
            if holds == state.holds && lapsed.is_none() {
                return Ok(());
            }
            (holds, state.dismissal.clone().filter(|_| lapsed.is_none()))
        };
        self.store.put_holds(holds.values().cloned().collect(), dismissal.clone(), entries, now).await?;
        let mut state = self.state();
        if let Some((digest, steps)) = held_plan(&state).map(|plan| (plan.digest(), plan)) {
            state.plans.remember(digest, &steps);
        }
        (state.holds, state.dismissal) = (holds, dismissal);
        Ok(())
    }

    fn show_held(&self, held: &[Step]) {
        let mut fleet = self.fleet();
        for step in held {
            if let Some(glance) = fleet.get(step.id.connector, step.id.tenant.as_str()) {
                let waiting = step.held == Some(HoldReason::Unconfirmed);
                fleet.set_sync(glance.slot, if waiting { Sync::Pending } else { Sync::Held });
            }
        }
    }

    /// Records what is held now; schedules that are held no more are as their files again.
    fn release_and_hold(&self, held: Vec<Step>, now: Millis) -> Vec<Step> {
        let mut state = self.state();
        let before: Vec<ScheduleId> = state.held.iter().map(|held| held.step.id.clone()).collect();
        let fresh = state.hold(held, now);
        let still: HashSet<&ScheduleId> = state.held.iter().map(|held| &held.step.id).collect();
        let mut fleet = self.fleet();
        for id in before.iter().filter(|id| !still.contains(id)) {
            let glance = fleet.get(id.connector, id.tenant.as_str());
            if let Some(glance) = glance.filter(|glance| matches!(glance.sync, Sync::Held | Sync::Pending)) {
                fleet.set_sync(glance.slot, Sync::Synced);
            }
        }
        fresh
    }

    /// A decision against a plan ends with that plan. While something waits only for a second scan, it
    /// is not known yet what the plan is.
    fn lapsed_dismissal(&self) -> Option<Dismissal> {
        let state = self.state();
        let undecided = state.held.iter().any(|held| held.step.held == Some(HoldReason::Unconfirmed));
        let digest = held_plan(&state).map(|plan| plan.digest());
        state.dismissal.clone().filter(|dismissal| !undecided && digest.as_ref() != Some(&dismissal.digest))
    }

    /// What waits for a person.
    pub fn holds(&self) -> HoldsAnswer {
        let state = self.state();
        let waiting = state.held.iter().filter(|held| held.step.held.is_some_and(HoldReason::needs_person));
        HoldsAnswer {
            ok: true,
            digest: held_plan(&state).map(|plan| plan.digest()),
            holds: waiting.map(|held| HoldView { change: held.step.view(), since_iso: iso(held.since) }).collect(),
            dismissed: dismissal_view(&state),
        }
    }

    /// Decides against what is held: it stays unapplied, and is shown as dismissed, until the files come
    /// back or the plan becomes another.
    pub async fn dismiss_hold(&self, digest: &str, reason: String, caller: &Caller) -> Result<HoldsAnswer, AppError> {
        // Nothing is to become held, or be released, meanwhile.
        let alone = self.gate.write().await;
        let (held, holds) = {
            let state = self.state();
            (held_plan(&state), state.holds.values().cloned().collect())
        };
        let Some(plan) = held.filter(|plan| plan.digest() == digest) else {
            return Err(self.not_held(digest));
        };
        let now = self.clock.now();
        let detail = json!({"digest": digest, "reason": reason, "steps": plan.steps.len()});
        let entry = draft(None, operation::HOLD_DISMISSED, caller, &new_action_id(), detail);
        let dismissal = Dismissal { digest: digest.to_owned(), reason, actor: caller.actor.clone(), at: now };
        self.store.put_holds(holds, Some(dismissal.clone()), vec![entry], now).await?;
        {
            let mut state = self.state();
            state.dismissal = Some(dismissal);
            for held in state.held.iter_mut().filter(|held| held.step.held.is_some_and(HoldReason::needs_person)) {
                held.step.held = Some(HoldReason::Dismissed);
            }
        }
        drop(alone);
        self.metrics.event(operation::HOLD_DISMISSED, "warning");
        Ok(self.holds())
    }
}

/// Whether a deletion or pause counts towards the blast radius: those by files and of many at once, unless a
/// person agreed to them.
fn counts(entry: &Entry) -> bool {
    let by_file = [Source::File, Source::Git].iter().any(|source| source.as_str() == entry.source);
    let metadata = entry.view().metadata;
    (by_file || metadata.get("bulk").is_some()) && metadata.get("confirmed").is_none()
}

/// What waits for a person, as a plan; `None` when nothing does.
pub(super) fn held_plan(state: &State) -> Option<Plan> {
    let waiting = state.held.iter().filter(|held| held.step.held.is_some_and(HoldReason::needs_person));
    let steps: Vec<Step> = waiting.map(|held| held.step.clone()).collect();
    (!steps.is_empty()).then(|| Plan::new(steps))
}

/// The decision against what is held, if it is in force.
pub(super) fn dismissal_view(state: &State) -> Option<DismissalView> {
    let in_force = state.held.iter().any(|held| held.step.held == Some(HoldReason::Dismissed));
    state.dismissal.as_ref().filter(|_| in_force).map(|dismissal| DismissalView {
        digest: dismissal.digest.clone(),
        reason: dismissal.reason.clone(),
        actor: dismissal.actor.clone(),
        at_iso: iso(dismissal.at),
    })
}

pub(super) fn held_changes(state: &State) -> Vec<HeldChange> {
    let view = |held: &super::state::HeldStep| HeldChange {
        connector: held.step.id.connector.to_string(),
        tenant: held.step.id.tenant.to_string(),
        action: held.step.action.as_str().to_owned(),
        reason: held.step.held.map(|held| held.to_string()).unwrap_or_default(),
        since_iso: iso(held.since),
    };
    state.held.iter().map(view).collect()
}

/// The digest of everything held, what waits for a second scan included: it can be confirmed too.
pub(super) fn held_digest(state: &State) -> Option<String> {
    Plan::new(state.held.iter().map(|held| held.step.clone()).collect()).held_digest()
}
