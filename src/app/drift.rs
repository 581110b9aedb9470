//! Drift worth reading: what differs from the files at this moment, field by field, why, since when
//! and what is done about it; and what keeps coming back.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::App;
use super::error::AppError;
use super::reading::{Found, Valid, read};
use super::reconcile::{last_good, plan_valid};
use super::views::{DriftItem, DriftReport, FieldDrift, RecurringDrift};
use crate::adapters::store::{Brake, ScheduleRow};
use crate::core::fleet::{Glance, Sync};
use crate::core::model::{Millis, ScheduleId, ScheduleSpec, Source};
use crate::core::plan::{Action, Cause, Facet, HoldReason, Step, diff};
use crate::core::timing::iso;

/// More would be no report any more; the totals count all.
const MAX_ITEMS: usize = 1000;
const MAX_RECURRING: usize = 100;

/// Repaired drift that is remembered, and for how long after it was last seen.
const MAX_REMEMBERED: usize = 4096;
const REMEMBERED_MS: Millis = 86_400_000;

/// How often the same part of the same schedule has drifted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub first: Millis,
    pub last: Millis,
    pub times: u64,
    pub cause: Cause,
}

/// Drift that was repaired, counted as long as it keeps coming back.
#[derive(Default)]
pub(super) struct DriftMemory(HashMap<(ScheduleId, Facet), Seen>);

impl DriftMemory {
    /// Counts one more repair.
    pub fn note(&mut self, id: &ScheduleId, facet: Facet, cause: Cause, now: Millis) -> Seen {
        if self.0.len() >= MAX_REMEMBERED {
            self.0.retain(|_, seen| now - seen.last < REMEMBERED_MS);
        }
        if self.0.len() >= MAX_REMEMBERED {
            let oldest = self.0.iter().min_by_key(|(_, seen)| seen.last).map(|(key, _)| key.clone());
            oldest.map(|key| self.0.remove(&key));
        }
        let seen = self.0.entry((id.clone(), facet)).or_insert(Seen { first: now, last: now, times: 0, cause });
        if now - seen.last >= REMEMBERED_MS {
            *seen = Seen { first: now, last: now, times: 0, cause };
        }
        (seen.times, seen.last, seen.cause) = (seen.times + 1, now, cause);
        *seen
    }

    fn get(&self, id: &ScheduleId, facet: Facet) -> Option<Seen> {
        self.0.get(&(id.clone(), facet)).copied()
    }

    /// What came back, the last first.
    fn recurring(&self, now: Millis) -> Vec<RecurringDrift> {
        let mut recent: Vec<_> = self.0.iter().filter(|(_, seen)| now - seen.last < REMEMBERED_MS).collect();
        recent.sort_by_key(|((id, facet), seen)| (std::cmp::Reverse(seen.last), id.clone(), *facet));
        let view = |((id, facet), seen): (&(ScheduleId, Facet), &Seen)| RecurringDrift {
            connector: id.connector.to_string(),
            tenant: id.tenant.to_string(),
            facet: *facet,
            cause: seen.cause,
            first_seen_iso: iso(seen.first),
            last_seen_iso: iso(seen.last),
            times_seen: seen.times,
        };
        recent.into_iter().take(MAX_RECURRING).map(view).collect()
    }
}

/// What is known of one schedule that is not as desired.
struct Suspect<'a> {
    id: &'a ScheduleId,
    sync: Sync,
    since: Millis,
    /// What its file said when it was last applied.
    last_applied: Option<ScheduleSpec>,
    /// Who edited the file, if that is known.
    editor: Option<String>,
}

impl App {
    /// Everything that is not as desired at this moment, found by looking, not by remembering.
    pub async fn drift(&self) -> Result<DriftReport, AppError> {
        self.look_for_foreign_changes().await?;
        let suspects: Vec<(ScheduleId, Glance)> = {
            let fleet = self.fleet();
            let off: Vec<Glance> = fleet.iter().filter(|glance| glance.sync != Sync::Synced).collect();
            off.into_iter().take(MAX_ITEMS).filter_map(|g| Some((fleet.id(g.slot)?, g))).collect()
        };
        let mut items = Vec::new();
        for (id, glance) in suspects {
            items.extend(self.drift_of(&id, &glance).await?);
        }
        let brakes = self.brakes.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        items.extend(brakes.iter().map(braked_item));
        let behind = self.behind_replica().await?;
        items.extend(self.behind_items(&behind).await);
        let mut totals = self.drift_totals();
        self.count_behind(&behind, &mut totals);
        self.add_frames(&mut totals.invalid_files).await;
        let recurring = self.state().drift.recurring(self.clock.now());
        Ok(DriftReport { ok: items.is_empty(), totals, items, recurring })
    }

    /// What differs of one schedule, step by step of the plan that would mend it.
    async fn drift_of(&self, id: &ScheduleId, glance: &Glance) -> Result<Vec<DriftItem>, AppError> {
        let now = self.clock.now();
        let row = self.store.schedule(id.clone()).await?;
        let (held, held_since): (Vec<Step>, Option<Millis>) = {
            let state = self.state();
            let of: Vec<_> = state.held.iter().filter(|held| held.step.id == *id).collect();
            let since = of.first().map(|held| held.since).or(state.missing.get(id).copied());
            (of.iter().map(|held| held.step.clone()).collect(), since)
        };
        let defaults = self.defaults();
        let origin = self.origin(id).caller;
        let suspect = |since: Millis| Suspect {
            id,
            sync: glance.sync,
            since,
            last_applied: row.as_ref().and_then(|row| last_good(id, row, &defaults)).map(|good| good.spec),
            editor: Some(origin.actor.clone()).filter(|_| origin.source == Source::Git),
        };
        let steps = |found: Valid| plan_valid(id, found, Some(glance), row.as_ref(), now).map(|plan| plan.steps);
        match read(&*self.source, id, &defaults, now).found {
            Found::Valid(valid) if held.is_empty() => {
                let is_edited = row.as_ref().is_some_and(|row| row.basis != valid.basis);
                let about = suspect(if is_edited { valid.changed.min(now) } else { held_since.unwrap_or(now) });
                Ok(steps(*valid).unwrap_or_default().iter().map(|step| self.drift_item(step, &about)).collect())
            }
            Found::Invalid { diagnostics, .. } => {
                let since = self.state().problems.get(&id.file()).map_or(now, |problem| problem.since);
                let message = diagnostics.first().map(|found| found.message.clone());
                let mut items = vec![invalid_item(&suspect(since), message)];
                // The file being broken hides no drift of what runs on.
                let beside =
                    row.as_ref().and_then(|row| last_good(id, row, &defaults)).and_then(steps).unwrap_or_default();
                items.extend(beside.iter().map(|step| self.drift_item(step, &suspect(now))));
                Ok(items)
            }
            _ => {
                let held = if held.is_empty() { unexplained(id, row.as_ref(), self.is_foreign(id)) } else { held };
                let about = suspect(held_since.unwrap_or(now));
                Ok(held.iter().map(|step| self.drift_item(step, &about)).collect())
            }
        }
    }

    fn is_foreign(&self, id: &ScheduleId) -> bool {
        self.state().foreign.contains(id)
    }

    fn drift_item(&self, step: &Step, about: &Suspect<'_>) -> DriftItem {
        let last_applied = diff(None, about.last_applied.as_ref());
        let applied = |field: &str| {
            let found = last_applied.iter().find(|change| change.field == field);
            found.map_or(Value::Null, |change| change.to.clone())
        };
        let fields: Vec<FieldDrift> = step
            .diff
            .iter()
            .map(|change| FieldDrift {
                field: change.field.clone(),
                desired: change.to.clone(),
                actual: change.from.clone(),
                last_applied: applied(&change.field),
            })
            .collect();
        let (facet, cause) = (facet_of(step.action), step.cause());
        let interval = Millis::try_from(self.settings.health_interval.as_millis()).unwrap_or(0);
        let (seen, next_try) = {
            let state = self.state();
            let next = state.compared.map_or(self.clock.now(), |at| at + interval).max(self.clock.now());
            (state.drift.get(about.id, facet).filter(|_| cause != Cause::FileEdited), next)
        };
        let decided = self.state().dismissal.clone().filter(|_| step.held == Some(HoldReason::Dismissed));
        let by_file = cause == Cause::FileEdited;
        DriftItem {
            connector: about.id.connector.to_string(),
            tenant: about.id.tenant.to_string(),
            facet,
            desired: fields.iter().map(|field| (field.field.clone(), field.desired.clone())).collect(),
            actual: fields.iter().map(|field| (field.field.clone(), field.actual.clone())).collect(),
            fields,
            cause,
            actor: about.editor.clone().filter(|_| by_file),
            since_iso: iso(about.since),
            first_seen_iso: iso(seen.map_or(about.since, |seen| seen.first)),
            times_seen: seen.map_or(1, |seen| seen.times + 1),
            sync: about.sync.as_str().to_owned(),
            action: match (step.held, decided) {
                (_, Some(decided)) => {
                    format!("{}: dismissed by {}: {}", step.action.as_str(), decided.actor, decided.reason)
                }
                (Some(held), None) => format!("{}: {held}", step.action.as_str()),
                (None, None) => step.action.as_str().to_owned(),
            },
            next_try_iso: step.held.is_none_or(|held| !held.needs_person()).then(|| iso(next_try)),
        }
    }
}

fn facet_of(action: Action) -> Facet {
    match action {
        Action::Repair(facet) => facet,
        Action::Pause | Action::Resume => Facet::Pause,
        Action::Create | Action::Delete => Facet::Row,
        Action::Update => Facet::Spec,
    }
}

/// A schedule without a file that no pass has judged yet.
fn unexplained(id: &ScheduleId, row: Option<&ScheduleRow>, foreign: bool) -> Vec<Step> {
    let Some(spec) = row.and_then(|row| row.spec.spec()) else { return Vec::new() };
    let action = if foreign { Action::Repair(Facet::Row) } else { Action::Delete };
    let held = (!foreign).then_some(HoldReason::Unconfirmed);
    vec![Step { id: id.clone(), action, diff: diff(Some(&spec), None), held }]
}

fn invalid_item(about: &Suspect<'_>, message: Option<String>) -> DriftItem {
    DriftItem {
        connector: about.id.connector.to_string(),
        tenant: about.id.tenant.to_string(),
        facet: Facet::Spec,
        desired: json!({"unreadable": message}),
        actual: json!("the last good version"),
        fields: Vec::new(),
        cause: Cause::FileEdited,
        actor: about.editor.clone(),
        since_iso: iso(about.since),
        first_seen_iso: iso(about.since),
        times_seen: 1,
        sync: Sync::Invalid.as_str().to_owned(),
        action: "wait for the file to be mended; the last good version runs on".to_owned(),
        next_try_iso: None,
    }
}

fn braked_item(brake: &Brake) -> DriftItem {
    let (connector, tenant) = brake.scope.split_once('/').unwrap_or(("*", "*"));
    DriftItem {
        connector: connector.to_owned(),
        tenant: tenant.to_owned(),
        facet: Facet::Timer,
        desired: json!("runs start when due"),
        actual: json!({"brake": brake.reason}),
        fields: Vec::new(),
        cause: Cause::Unknown,
        actor: Some(brake.actor.clone()),
        since_iso: iso(brake.since),
        first_seen_iso: iso(brake.since),
        times_seen: 1,
        sync: Sync::Held.as_str().to_owned(),
        action: "start no run until the brake is released".to_owned(),
        next_try_iso: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_drift_is_counted_and_the_memory_of_it_is_bounded() {
        let id = |n: usize| -> ScheduleId { format!("noop/t{n}").parse().unwrap() };
        let mut memory = DriftMemory::default();
        let mut note = |n, at| memory.note(&id(n), Facet::Pause, Cause::FlagFlipped, at).times;
        assert_eq!((note(0, 0), note(0, 60_000), note(1, 60_000)), (1, 2, 1));
        assert_eq!(note(0, 60_000 + REMEMBERED_MS), 1, "after a quiet day it begins anew");
        for n in 0..2 * MAX_REMEMBERED {
            note(n + 2, 200_000_000);
        }
        assert_eq!(memory.0.len(), MAX_REMEMBERED);
        assert!(memory.recurring(200_000_000).len() <= MAX_RECURRING);
    }
}
