//! Carries out what was planned: one transaction for rows, audit and intent, then memory and timers.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value, json};

use super::App;
use super::drift::Seen;
use super::mutate::with_room;
use crate::adapters::store::{Applied, Author, Change, ChangeKind, Intent, Put, StoreError, StoreResult};
use crate::core::audit::{Draft, Metadata, operation};
use crate::core::fleet::Member;
use crate::core::model::{Caller, Digest, Millis, ScheduleId, ScheduleSpec, Source};
use crate::core::plan::{Action, Facet, FieldChange, Step};
use crate::core::policy::policy_text;
use crate::core::row::{Fingerprint, RowSpec, is_asleep};
use crate::core::timing::iso;
use crate::core::windows::Windows;

/// What is to be done to one schedule, ready to be carried out.
pub(super) struct Planned {
    pub id: ScheduleId,
    /// Steps to take; those that are held are not among them.
    pub steps: Vec<Step>,
    pub effect: Effect,
    pub caller: Caller,
    pub action_id: String,
    /// Said with every entry besides its diff, e.g. a reason.
    pub notes: Vec<(&'static str, Value)>,
}

pub(super) enum Effect {
    Put(Box<Put>),
    Delete,
}

impl Effect {
    /// The row for `spec`; its key is `row` where it had one. `basis` is the digest together with
    /// that of the defaults below the file.
    pub fn put(
        row: Option<i64>,
        spec: &ScheduleSpec,
        content: Vec<u8>,
        digest: Digest,
        basis: Digest,
        stamp: u64,
        next_due: Option<Millis>,
    ) -> Effect {
        let spec = RowSpec::of(spec);
        let fingerprint = spec.fingerprint();
        let keeps_due = false;
        Effect::Put(Box::new(Put { row, spec, fingerprint, digest, basis, content, stamp, next_due, keeps_due }))
    }

    /// With `keeps_due`, the timer stays where it is, also where it moves on before this is stored.
    pub fn keeping_due(self, keeps_due: bool) -> Effect {
        match self {
            Effect::Put(put) => Effect::Put(Box::new(Put { keeps_due, ..*put })),
            Effect::Delete => Effect::Delete,
        }
    }
}

/// What memory keeps of a change once it is stored.
struct Memo {
    id: ScheduleId,
    /// `None` after a deletion.
    kept: Option<Kept>,
}

struct Kept {
    stamp: u64,
    content: Digest,
    applied: Fingerprint,
    interval_sec: Option<u32>,
    cron: Option<String>,
    timezone: Option<String>,
    policy: String,
    is_paused: bool,
    pause_until: Option<Millis>,
    next_due: Option<Millis>,
    keeps_due: bool,
    /// Where windows ask for them.
    labels: BTreeMap<String, String>,
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
    /// Makes the plans durable together with the intents, then true in memory. With an error nothing
    /// has changed.
    pub(super) async fn carry_out(
        &self,
        planned: Vec<Planned>,
        intents: impl IntoIterator<Item = Intent>,
    ) -> StoreResult<Applied> {
        if planned.is_empty() {
            return Ok(Applied::default());
        }
        let now = self.clock.now();
        let windows = self.windows();
        let memos: Vec<Memo> = planned.iter().map(|plan| memo(plan, windows.ask_for_labels())).collect();
        let steps = planned.iter().flat_map(|plan| &plan.steps);
        let operations: Vec<&'static str> = steps.map(|step| operation_of(step.action)).collect();
        let seen = self.note_drift(&planned, now);
        let changes = planned.into_iter().map(|plan| change(plan, &seen)).collect();
        let intents: Vec<Intent> = intents.into_iter().collect();
        let is_asked_for = !intents.is_empty();
        let applied = self.store.apply(changes, intents, now).await.inspect_err(|error| {
            // It may have taken effect all the same; whoever asked is told that it has not, and a pass looks.
            if is_asked_for && matches!(error, StoreError::Failed { .. }) {
                self.pass_wanted.notify_one();
            }
        })?;
        self.remember(&memos, &applied, &windows);
        for operation in operations {
            self.metrics.event(operation, "info");
        }
        self.metrics.persisted("apply");
        Ok(applied)
    }

    /// As `carry_out`, of what takes an earlier change back: also where the disk has no room for changes.
    pub(super) async fn carry_out_undo(&self, undo: Planned) -> StoreResult<Applied> {
        let windows = self.windows();
        let memo = memo(&undo, windows.ask_for_labels());
        let change = change(undo, &Repairs::new());
        let applied = with_room(|| self.store.take_back(vec![change.clone()], self.clock.now())).await?;
        self.remember(&[memo], &applied, &windows);
        self.metrics.persisted("apply");
        Ok(applied)
    }

    /// Counts what is repaired.
    fn note_drift(&self, planned: &[Planned], now: Millis) -> Repairs {
        let mut seen = Repairs::new();
        for step in planned.iter().flat_map(|plan| &plan.steps) {
            if let Action::Repair(facet) = step.action {
                seen.insert((step.id.clone(), facet), self.state().drift.note(&step.id, facet, step.cause(), now));
            }
        }
        seen
    }

    /// Brings memory up to what is stored and arms the timers.
    fn remember(&self, memos: &[Memo], applied: &Applied, windows: &Windows) {
        let mut fleet = self.fleet();
        let earliest = memos.iter().filter_map(|memo| memo.kept.as_ref()?.next_due).min();
        for (memo, row) in memos.iter().zip(&applied.rows) {
            let (connector, tenant) = (memo.id.connector, memo.id.tenant.as_str());
            match &memo.kept {
                Some(kept) => {
                    let known = fleet.get(connector, tenant).filter(|_| kept.keeps_due);
                    let next_due = known.map_or(kept.next_due, |known| known.next_due);
                    let slot = fleet.put(connector, tenant, &member(*row, kept, next_due));
                    fleet.choose(slot, &windows.chosen(connector, &kept.labels));
                }
                None => fleet.remove(connector, tenant),
            }
        }
        drop(fleet);
        self.ring_for(earliest);
    }
}

fn memo(plan: &Planned, with_labels: bool) -> Memo {
    let kept = match &plan.effect {
        Effect::Delete => None,
        Effect::Put(put) => Some(Kept {
            stamp: put.stamp,
            content: put.basis,
            applied: put.fingerprint,
            interval_sec: put.spec.interval_sec,
            cron: put.spec.cron.clone(),
            timezone: put.spec.timezone.clone(),
            policy: policy_text(&put.spec.rest).to_owned(),
            is_paused: put.spec.paused,
            pause_until: put.spec.pause_until,
            next_due: put.next_due,
            keeps_due: put.keeps_due,
            labels: put.spec.spec().filter(|_| with_labels).map(|spec| spec.labels).unwrap_or_default(),
        }),
    };
    Memo { id: plan.id.clone(), kept }
}

fn member(row: i64, kept: &Kept, next_due: Option<Millis>) -> Member<'_> {
    Member {
        row,
        stamp: kept.stamp,
        content: kept.content,
        applied: kept.applied,
        interval_sec: kept.interval_sec,
        cron: kept.cron.as_deref(),
        timezone: kept.timezone.as_deref(),
        policy: &kept.policy,
        paused: is_asleep(kept.is_paused, kept.pause_until, next_due),
        next_due,
    }
}

/// How often what is being repaired has drifted.
type Repairs = HashMap<(ScheduleId, Facet), Seen>;

fn change(plan: Planned, seen: &Repairs) -> Change {
    let audit = plan.steps.iter().map(|step| step_draft(&plan, step, seen)).collect();
    let kind = match plan.effect {
        Effect::Put(put) => ChangeKind::Put(put),
        Effect::Delete => ChangeKind::Delete,
    };
    let by = Author { source: plan.caller.source, actor: plan.caller.actor, action_id: plan.action_id };
    Change { id: plan.id, kind, by, audit }
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
fn step_draft(plan: &Planned, step: &Step, seen: &Repairs) -> Draft {
    let mut metadata = Map::new();
    metadata.insert("diff".to_owned(), diff_value(&step.diff));
    metadata.insert("file".to_owned(), plan.id.file().into());
    let caller = if let Action::Repair(facet) = step.action {
        metadata.insert("facet".to_owned(), facet.as_str().into());
        metadata.insert("cause".to_owned(), step.cause().as_str().into());
        if let Some(seen) = seen.get(&(plan.id.clone(), facet)) {
            metadata.insert("times_seen".to_owned(), seen.times.into());
            metadata.insert("first_seen_iso".to_owned(), iso(seen.first).into());
        }
        command_center()
    } else {
        plan.caller.clone()
    };
    metadata.extend(plan.notes.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    draft(Some(&plan.id), operation_of(step.action), &caller, &plan.action_id, Value::Object(metadata))
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
    metadata: impl Into<Metadata>,
) -> Draft {
    Draft {
        tenant: id.map(|id| id.tenant.to_string()).unwrap_or_default(),
        connector: id.map(|id| id.connector),
        operation,
        source: caller.source,
        actor: caller.actor.clone(),
        action_id: action_id.to_owned(),
        metadata: metadata.into(),
    }
}
