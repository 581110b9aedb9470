//! The one planner: what must be done to make the running fleet equal to the desired directory.
//! `diff`, `apply`, the loop, an API mutation and the drift report all ask it.

mod cause;
mod guard;
mod render;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use cause::Cause;
pub use guard::{Blast, GuardPolicy, HoldReason, guard};
pub use render::{render_diff, render_markdown, render_text};

use crate::core::model::{Digest, Millis, ScheduleId, ScheduleSpec};
use crate::core::row::is_asleep;
use crate::core::timing::Rhythm;

/// What the desired directory says about one schedule.
#[derive(Clone, Copy, Debug)]
pub enum Desired<'a> {
    /// A valid file: its effective value and the digest of its bytes.
    Present { spec: &'a ScheduleSpec, digest: Digest },
    /// No file, proven by a complete, error-free scan.
    Absent,
    /// A broken file, or a directory that cannot be read: what runs goes on running.
    Unknown,
}

/// What runs: the stored row of one schedule.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    pub spec: &'a ScheduleSpec,
    /// Digest of the file's bytes that were last applied.
    pub applied: Digest,
    pub next_due: Option<Millis>,
}

/// The parts of a schedule that can differ on their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Facet {
    Spec,
    Timer,
    Pause,
    Row,
    Replica,
}

impl Facet {
    pub fn as_str(self) -> &'static str {
        match self {
            Facet::Spec => "spec",
            Facet::Timer => "timer",
            Facet::Pause => "pause",
            Facet::Row => "row",
            Facet::Replica => "replica",
        }
    }
}

/// What one step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    Create,
    Update,
    Pause,
    Resume,
    Delete,
    /// Puts back what was changed beside the files.
    Repair(Facet),
}

impl Action {
    /// The destructive action of this name.
    pub fn destructive(name: &str) -> Option<Action> {
        [Action::Delete, Action::Pause].into_iter().find(|action| action.as_str() == name)
    }

    /// Takes running work away: what the blast radius limits.
    pub fn is_destructive(self) -> bool {
        matches!(self, Action::Delete | Action::Pause)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Action::Create => "create",
            Action::Update => "update",
            Action::Pause => "pause",
            Action::Resume => "resume",
            Action::Delete => "delete",
            Action::Repair(_) => "repair",
        }
    }
}

/// One field's change; secrets appear by reference only, since nothing else is ever stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FieldChange {
    /// Dotted, e.g. `connection.base_url`.
    pub field: String,
    pub from: Value,
    pub to: Value,
}

/// One step of a plan. A held step is shown, not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub id: ScheduleId,
    pub action: Action,
    pub diff: Vec<FieldChange>,
    pub held: Option<HoldReason>,
}

/// What is to be done to one schedule, and the due time it then has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SchedulePlan {
    pub steps: Vec<Step>,
    pub next_due: Option<Millis>,
}

/// Plans one schedule. `known` says that this process has applied it before, so that a row that
/// is gone was lost rather than never there.
pub fn plan_schedule(
    id: &ScheduleId,
    desired: Desired<'_>,
    observed: Option<Observed<'_>>,
    known: bool,
    now: Millis,
) -> SchedulePlan {
    match (desired, observed) {
        (Desired::Present { spec, .. }, None) => {
            let action = if known { Action::Repair(Facet::Row) } else { Action::Create };
            let step = Step { id: id.clone(), action, diff: diff(None, Some(spec)), held: None };
            SchedulePlan { steps: vec![step], next_due: first_due(id, spec, now) }
        }
        (Desired::Present { spec, digest }, Some(observed)) => plan_existing(id, spec, digest, observed, now),
        (Desired::Absent, Some(observed)) => {
            let step =
                Step { id: id.clone(), action: Action::Delete, diff: diff(Some(observed.spec), None), held: None };
            SchedulePlan { steps: vec![step], next_due: None }
        }
        (Desired::Unknown, Some(observed)) => SchedulePlan { steps: Vec::new(), next_due: observed.next_due },
        (Desired::Absent | Desired::Unknown, None) => SchedulePlan::default(),
    }
}

/// Both sides exist. An unchanged file makes every difference drift; a changed one makes it a
/// change of desire.
fn plan_existing(
    id: &ScheduleId,
    spec: &ScheduleSpec,
    digest: Digest,
    observed: Observed<'_>,
    now: Millis,
) -> SchedulePlan {
    let (pause, other): (Vec<_>, Vec<_>) =
        diff(Some(observed.spec), Some(spec)).into_iter().partition(|change| is_pause_field(&change.field));
    let drifted = observed.applied == digest;
    let next_due = next_due(id, spec, observed, now);
    let mut steps = Vec::new();
    let mut step = |action, diff: Vec<FieldChange>| {
        if !diff.is_empty() {
            steps.push(Step { id: id.clone(), action, diff, held: None });
        }
    };
    let toggled = spec.is_paused_at(now) != observed.spec.is_paused_at(now);
    if drifted {
        let rest_kept = same_cadence(spec, observed.spec) && pause.is_empty();
        step(Action::Repair(Facet::Spec), other);
        step(Action::Repair(Facet::Pause), pause);
        if rest_kept && next_due != observed.next_due {
            step(Action::Repair(Facet::Timer), vec![due_change(observed.next_due, next_due)]);
        }
    } else if toggled {
        step(Action::Update, other);
        step(if spec.is_paused_at(now) { Action::Pause } else { Action::Resume }, pause);
    } else {
        step(Action::Update, other.into_iter().chain(pause).collect());
    }
    SchedulePlan { steps, next_due }
}

/// The due time that belongs to `spec`: kept where it is still right, else the next slot after
/// now, so that an edit or a resume never back-fills. While a pause with an end stands, its end.
fn next_due(id: &ScheduleId, spec: &ScheduleSpec, observed: Observed<'_>, now: Millis) -> Option<Millis> {
    let end = spec.pause_end();
    if spec.is_paused_at(now) {
        return end;
    }
    let slept = is_asleep(observed.spec.paused, observed.spec.pause_end(), observed.next_due);
    if slept && end.is_some() && observed.next_due == end {
        // The pause has ended and its timer is about to lift it, which tells of it.
        return end;
    }
    let rhythm = Rhythm::of(id, spec).ok()?;
    let unchanged = same_cadence(spec, observed.spec) && !slept;
    observed.next_due.filter(|due| unchanged && rhythm.accepts(*due, now)).or_else(|| rhythm.next_after(now))
}

fn first_due(id: &ScheduleId, spec: &ScheduleSpec, now: Millis) -> Option<Millis> {
    if spec.is_paused_at(now) { spec.pause_end() } else { Rhythm::of(id, spec).ok()?.next_after(now) }
}

fn same_cadence(a: &ScheduleSpec, b: &ScheduleSpec) -> bool {
    let cadence = |spec: &ScheduleSpec| (spec.interval_sec, spec.jitter_sec.filter(|sec| *sec > 0));
    let bounds = |spec: &ScheduleSpec| (spec.start_at.clone(), spec.end_at.clone());
    cadence(a) == cadence(b) && a.cron == b.cron && a.timezone == b.timezone && bounds(a) == bounds(b)
}

fn is_pause_field(field: &str) -> bool {
    matches!(field, "paused" | "pause_reason" | "pause_until")
}

/// The difference of a due time, in the words of the status.
pub fn due_change(from: Option<Millis>, to: Option<Millis>) -> FieldChange {
    let show = |due: Option<Millis>| due.map_or(Value::Null, |due| crate::core::timing::iso(due).into());
    FieldChange { field: "next_run_iso".into(), from: show(from), to: show(to) }
}

/// Field by field, in the alphabet's order. A side that does not exist has no field at all.
pub fn diff(from: Option<&ScheduleSpec>, to: Option<&ScheduleSpec>) -> Vec<FieldChange> {
    diff_fields(&from.map(fields).unwrap_or_default(), &to.map(fields).unwrap_or_default())
}

/// As [`diff`], of documents as they were written: nothing defaulted, no rule applied.
pub fn diff_written(from: Option<&Value>, to: Option<&Value>) -> Vec<FieldChange> {
    let fields = |side: Option<&Value>| side.and_then(Value::as_object).cloned().map(flat).unwrap_or_default();
    diff_fields(&fields(from), &fields(to))
}

fn diff_fields(before: &Map<String, Value>, after: &Map<String, Value>) -> Vec<FieldChange> {
    let mut names: Vec<&String> = before.keys().chain(after.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let value = |side: &Map<String, Value>, name: &str| side.get(name).cloned().unwrap_or(Value::Null);
    names
        .into_iter()
        .map(|name| FieldChange { field: name.clone(), from: value(before, name), to: value(after, name) })
        .filter(|change| change.from != change.to)
        .collect()
}

/// A spec's fields under dotted names, however deep. Secret references and lists are values of their own.
fn fields(spec: &ScheduleSpec) -> Map<String, Value> {
    let Ok(Value::Object(object)) = serde_json::to_value(spec) else { return Map::new() };
    let mut flat = flat(object);
    flat.entry("paused").or_insert(Value::Bool(false));
    flat
}

fn flat(object: Map<String, Value>) -> Map<String, Value> {
    let mut flat = Map::new();
    for (name, value) in object {
        match value {
            Value::Object(inner) if name == "labels" => {
                flat.extend(inner.into_iter().map(|(key, value)| (format!("{name}.{key}"), value)));
            }
            Value::Object(inner) if name == "connection" => flatten(&name, inner, &mut flat),
            value => {
                flat.insert(name, value);
            }
        }
    }
    flat
}

fn flatten(name: &str, object: Map<String, Value>, flat: &mut Map<String, Value>) {
    for (key, value) in object {
        let name = format!("{name}.{key}");
        match value {
            Value::Object(inner) if !inner.is_empty() && !is_reference(&inner) => flatten(&name, inner, flat),
            value => drop(flat.insert(name, value)),
        }
    }
}

/// `{ env: NAME }` or `{ file: NAME }`.
fn is_reference(object: &Map<String, Value>) -> bool {
    object.len() == 1 && object.keys().all(|key| key == "env" || key == "file")
}

/// A plan for people and machines: every step, and the digest that names exactly this plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub steps: Vec<Step>,
}

/// A step as `diff --output json` and `/ops/diff` show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChangeView {
    pub connector: String,
    pub tenant: String,
    pub action: String,
    /// Only of a repair: the part that had drifted.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub facet: Option<Facet>,
    pub diff: Vec<FieldChange>,
    /// Why the step is not taken by itself.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub held: Option<String>,
    /// The defaults that cause it, where the schedule's own file stays as it is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub because: Option<String>,
}

impl Step {
    pub fn view(&self) -> ChangeView {
        ChangeView {
            connector: self.id.connector.to_string(),
            tenant: self.id.tenant.to_string(),
            action: self.action.as_str().to_owned(),
            facet: if let Action::Repair(facet) = self.action { Some(facet) } else { None },
            diff: self.diff.clone(),
            held: self.held.map(|held| held.to_string()),
            because: None,
        }
    }
}

impl Plan {
    /// Steps in the order of connector, tenant and action, whatever order they were found in.
    pub fn new(mut steps: Vec<Step>) -> Self {
        steps.sort_by(|a, b| (&a.id, a.action).cmp(&(&b.id, b.action)));
        Plan { steps }
    }

    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Names what the plan does, whatever the time and whether steps are held: the hex SHA-256
    /// over the RFC 8785 form of its changes.
    pub fn digest(&self) -> String {
        digest_of(self.steps.iter())
    }

    /// The digest of the held steps alone, by which they can be confirmed.
    pub fn held_digest(&self) -> Option<String> {
        let mut held = self.held().peekable();
        held.peek().is_some().then(|| digest_of(self.held()))
    }

    /// The steps that take running work away, as a plan of their own.
    pub fn destructive(&self) -> Plan {
        Plan { steps: self.steps.iter().filter(|step| step.action.is_destructive()).cloned().collect() }
    }

    pub fn held(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(|step| step.held.is_some())
    }
}

fn digest_of<'a>(steps: impl Iterator<Item = &'a Step>) -> String {
    let changes: Vec<ChangeView> = steps.map(|step| ChangeView { held: None, ..step.view() }).collect();
    changes_digest(&changes)
}

/// The hex SHA-256 over the RFC 8785 form of changes.
pub fn changes_digest(changes: &[ChangeView]) -> String {
    let canonical = serde_json_canonicalizer::to_vec(&changes).unwrap_or_default();
    Digest::of(&canonical).to_hex()
}

#[cfg(test)]
mod tests;
