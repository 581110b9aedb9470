//! Carries out what was planned: one transaction for rows, audit and intent, then memory and timers.

use serde_json::{Map, Value, json};

use super::App;
use crate::adapters::store::{Applied, Change, ChangeKind, Intent, Put, StoreResult};
use crate::core::audit::{Draft, operation};
use crate::core::fleet::{Member, RowSpec};
use crate::core::model::{Caller, Digest, Millis, ScheduleId, ScheduleSpec, Source};
use crate::core::plan::{Action, FieldChange, Step};

/// What is to be done to one schedule, ready to be carried out.
pub(super) struct Planned {
    pub id: ScheduleId,
    /// Steps to take; those that are held are not among them.
    pub steps: Vec<Step>,
    pub effect: Effect,
    pub caller: Caller,
    pub action_id: String,
    /// Said with every entry besides its diff, e.g. a reason.
    pub note: Option<(&'static str, String)>,
}

pub(super) enum Effect {
    Put(Box<NewRow>),
    Delete,
}

/// A schedule's row as it is to be.
pub(super) struct NewRow {
    pub row: Option<i64>,
    pub spec: ScheduleSpec,
    pub digest: Digest,
    pub content: Vec<u8>,
    pub stamp: u64,
    pub next_due: Option<Millis>,
}

/// The program itself, as it stands in the audit.
pub(super) fn command_center() -> Caller {
    Caller { source: Source::CommandCenter, actor: "command-center".to_owned() }
}

/// An edit on disk by somebody unknown.
pub(super) fn file_edit() -> Caller {
    Caller { source: Source::File, actor: "unknown".to_owned() }
}

/// A new identifier for entries that belong together.
pub(super) fn new_action_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

impl App {
    /// Makes the plans durable together with `intent`, then true in memory. With an error nothing
    /// has changed.
    pub(super) async fn carry_out(&self, planned: Vec<Planned>, intent: Option<Intent>) -> StoreResult<Applied> {
        if planned.is_empty() {
            return Ok(Applied::default());
        }
        let now = self.clock.now();
        let changes = planned.iter().map(change).collect();
        let applied = self.store.apply(changes, intent, now).await?;
        self.remember(&planned, &applied);
        for step in planned.iter().flat_map(|plan| &plan.steps) {
            self.metrics.event(operation_of(step.action), "info");
        }
        self.metrics.persisted("apply");
        Ok(applied)
    }

    /// Brings memory up to what is stored and arms the timers.
    fn remember(&self, planned: &[Planned], applied: &Applied) {
        let mut fleet = self.fleet();
        for (plan, row) in planned.iter().zip(&applied.rows) {
            let (connector, tenant) = (plan.id.connector, plan.id.tenant.as_str());
            match &plan.effect {
                Effect::Put(new) => {
                    fleet.put(connector, tenant, &member(*row, new));
                }
                Effect::Delete => fleet.remove(connector, tenant),
            }
        }
        drop(fleet);
        self.timer_set.notify_all();
    }
}

fn member(row: i64, new: &NewRow) -> Member<'_> {
    Member {
        row,
        stamp: new.stamp,
        content: new.digest,
        applied: RowSpec::of(&new.spec).fingerprint(),
        interval_sec: new.spec.interval_sec,
        cron: new.spec.cron.as_deref(),
        timezone: new.spec.timezone.as_deref(),
        paused: new.spec.paused,
        next_due: new.next_due,
    }
}

fn change(plan: &Planned) -> Change {
    let kind = match &plan.effect {
        Effect::Put(new) => ChangeKind::Put(Box::new(Put {
            row: new.row,
            spec: RowSpec::of(&new.spec),
            digest: new.digest,
            content: new.content.clone(),
            stamp: new.stamp,
            next_due: new.next_due,
        })),
        Effect::Delete => ChangeKind::Delete,
    };
    Change { id: plan.id.clone(), kind, audit: plan.steps.iter().map(|step| step_draft(plan, step)).collect() }
}

fn operation_of(action: Action) -> &'static str {
    match action {
        Action::Create => operation::CREATED,
        Action::Update => operation::UPDATED,
        Action::Pause => operation::PAUSED,
        Action::Resume => operation::RESUMED,
        Action::Delete => operation::DELETED,
        Action::Repair(_) => operation::DRIFT_REPAIRED,
    }
}

/// The audit entry of one step. A repair is the program's own doing, whoever edited last.
fn step_draft(plan: &Planned, step: &Step) -> Draft {
    let mut metadata = Map::new();
    metadata.insert("diff".to_owned(), diff_value(&step.diff));
    metadata.insert("file".to_owned(), plan.id.file().into());
    let caller = if let Action::Repair(facet) = step.action {
        metadata.insert("facet".to_owned(), facet.as_str().into());
        command_center()
    } else {
        plan.caller.clone()
    };
    if let Some((name, text)) = &plan.note {
        metadata.insert((*name).to_owned(), text.clone().into());
    }
    draft(Some(&plan.id), operation_of(step.action), &caller, &plan.action_id, metadata)
}

/// `[{"field":…,"from":…,"to":…}]`
pub(super) fn diff_value(diff: &[FieldChange]) -> Value {
    diff.iter().map(|change| json!({"field": change.field, "from": change.from, "to": change.to})).collect()
}

/// An audit entry about one schedule, or about the whole.
pub(super) fn draft(
    id: Option<&ScheduleId>,
    operation: &'static str,
    caller: &Caller,
    action_id: &str,
    metadata: Map<String, Value>,
) -> Draft {
    Draft {
        tenant: id.map(|id| id.tenant.to_string()).unwrap_or_default(),
        connector: id.map(|id| id.connector),
        operation,
        source: caller.source,
        actor: caller.actor.clone(),
        action_id: action_id.to_owned(),
        metadata,
    }
}

/// Metadata from a JSON object literal.
pub(super) fn metadata(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => Map::from_iter([("value".to_owned(), other)]),
    }
}
