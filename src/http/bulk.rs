//! Many schedules at once, taking an action back, and the cadences defined once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::Json;
use axum::extract::{RawPathParams, State};
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::access::is_admin;
use super::body::Fields;
use super::extract::Visit;
use super::problem::{Answer, Problem};
use super::schedule::{MAX_MOMENT, MAX_REASON};
use super::table::{Param, Place, Route};
use crate::app::views::BulkAnswer;
use crate::app::{App, Bulk, Consent, Deed, Terms, Undo};
use crate::core::access::Role;
use crate::core::model::{Connector, Tenant};
use crate::core::presets::{Preset, preset, presets};
use crate::core::selection::{Condition, Named, Selection};

/// What is to be done, to which schedules, and whether to do it.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct BulkRequest {
    /// pause, resume, set, delete or run-now.
    pub action: String,
    pub select: SelectRequest,
    /// Only show the plan; the default.
    #[serde(default = "yes")]
    pub dry_run: bool,
    /// The plan's digest: only if it is still that plan.
    #[serde(default)]
    pub digest: Option<String>,
    /// The plan's digest: agrees also to what is beyond the blast radius.
    #[serde(default)]
    pub confirm: Option<String>,
    /// Why; 1 to 500 characters. Of a pause it stands in the files too.
    #[serde(default)]
    pub reason: Option<String>,
    /// Of a pause: when it lifts by itself.
    #[serde(default)]
    pub pause_until: Option<String>,
    /// Of set: what is merged into each schedule (RFC 7396).
    #[serde(default)]
    pub set: Option<Map<String, Value>>,
    /// Of set: the name of a preset, over which `set` is laid.
    #[serde(default)]
    pub preset: Option<String>,
}

/// Which schedules; each condition narrows the choice. What says nothing is refused.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct SelectRequest {
    /// Every schedule is meant.
    #[serde(default)]
    pub all: bool,
    #[serde(default)]
    pub connector: Option<String>,
    /// Labels that must all be there with these values.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// TENANT, or CONNECTOR/TENANT; all of them must be there.
    #[serde(default)]
    pub tenants: Vec<String>,
    /// paused, active (not paused) or failing (the last import failed).
    #[serde(default)]
    pub state: Option<String>,
}

/// Whether and how to take an action back.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct UndoRequest {
    /// Only show the plan; the default.
    #[serde(default = "yes")]
    pub dry_run: bool,
    /// The plan's digest: only if it is still that plan.
    #[serde(default)]
    pub digest: Option<String>,
    /// The plan's digest: agrees also to what is beyond the blast radius.
    #[serde(default)]
    pub confirm: Option<String>,
    /// Leave out what has changed since, instead of undoing nothing.
    #[serde(default)]
    pub partial: bool,
    /// Why, for the audit; 1 to 500 characters.
    #[serde(default)]
    pub reason: Option<String>,
}

/// The cadences that are defined once.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct Presets {
    pub ok: bool,
    pub presets: Vec<Preset>,
}

fn yes() -> bool {
    true
}

pub fn routes() -> Vec<Route> {
    let changes = |route: Route| {
        route
            .under("Operations", "ops")
            .needs(Role::Operator)
            .mutation()
            .fails(
                409,
                "Nothing was changed. `bulk-refused`: some schedules cannot be changed, each named in `refused`; \
                 `bulk-held`: it is beyond the blast radius, `confirm` takes the `digest`; `plan-moved`: the plan is \
                 not the one of that digest any more, `moved` says how.",
            )
            .fails(503, "Git or the disk is busy; try again after Retry-After seconds.")
            .fails(507, "The disk is full; nothing was changed.")
    };
    vec![
        changes(Route::post("/ops/bulk", bulk))
            .says(
                "Change many schedules at once",
                "Answers with the plan; carries it out with `dry_run` false, as one action: every file is worked out \
                 first, and if one cannot be edited safely none is. An editor who saves at the same moment keeps \
                 their version; `failed` names such schedules, and the others are done. 10,000 at once at most. What \
                 changes `connection` needs the role admin.",
            )
            .body::<BulkRequest>(
                true,
                json!({"action": "pause", "select": {"labels": {"region": "west"}}, "reason": "storm", "dry_run": false}),
            )
            .answers::<BulkAnswer>(200, "The plan, or what was done; `ok` is false when some were displaced.")
            .answers::<BulkAnswer>(202, "Of run-now: the runs go on."),
        changes(Route::post("/ops/bulk/{action_id}/undo", undo))
            .param(Param {
                name: "action_id",
                place: Place::Path,
                about: "The action to take back, as its answer and its audit entries name it.",
                required: true,
                schema: json!({"type": "string"}),
            })
            .says(
                "Take an action back",
                "Every file that the action changed gets the content it had before, comments included, as a new \
                 action; within 24 hours. Of one change as well as of many. A schedule that has changed since stops \
                 it, unless `partial`.",
            )
            .body::<UndoRequest>(false, json!({"dry_run": false}))
            .answers::<BulkAnswer>(200, "The plan, or what was done.")
            .fails(404, "No such action, or it changed no file."),
        Route::get("/ops/presets", list_presets)
            .under("Operations", "ops")
            .says("List the presets", "Cadences by name, with what each sets in a schedule's file.")
            .answers::<Presets>(200, "The presets."),
    ]
}

async fn list_presets() -> Json<Presets> {
    Json(Presets { ok: true, presets: presets() })
}

async fn bulk(State(app): State<Arc<App>>, visit: Visit) -> Answer<(StatusCode, Json<BulkAnswer>)> {
    let mut fields = Fields::of(visit.object(true)?);
    let deed = deed(&mut fields);
    let select = select(&mut fields);
    let terms = terms(&mut fields, &visit)?;
    fields.finish()?;
    // Without one of them, `finish` has refused.
    let (Some(deed), Some(select)) = (deed, select) else { return Err(Problem::internal()) };
    let is_own = |own: &Tenant| !select.named.is_empty() && select.named.iter().all(|named| named.tenant() == own);
    if !visit.identity()?.tenant.as_ref().is_some_and(is_own) {
        visit.whole_fleet()?;
    }
    let answer = app.bulk(Bulk { deed, select, terms }).await?;
    let goes_on = answer.action == "run-now" && !answer.dry_run;
    Ok((if goes_on { StatusCode::ACCEPTED } else { StatusCode::OK }, Json(answer)))
}

async fn undo(State(app): State<Arc<App>>, visit: Visit, params: RawPathParams) -> Answer<Json<BulkAnswer>> {
    let action_id = params.iter().find(|(name, _)| *name == "action_id").map_or("", |(_, value)| value).to_owned();
    let mut fields = Fields::of(visit.object(false)?);
    let partial = flag(&mut fields, "partial", false);
    let terms = terms(&mut fields, &visit)?;
    fields.finish()?;
    let only = visit.identity()?.tenant.clone();
    Ok(Json(app.undo(Undo { action_id, partial, only, terms }).await?))
}

fn terms(fields: &mut Fields, visit: &Visit) -> Answer<Terms> {
    let dry_run = flag(fields, "dry_run", true);
    let (digest, confirm) = (fields.text("digest", 64), fields.text("confirm", 64));
    if dry_run && (digest.is_some() || confirm.is_some()) {
        let name = if digest.is_some() { "digest" } else { "confirm" };
        fields.wrong(name, "is for carrying the plan out: set dry_run to false");
    }
    if digest.is_some() && confirm.is_some() && digest != confirm {
        fields.wrong("confirm", "names another plan than digest does");
    }
    let consent = match (dry_run, digest, confirm) {
        (true, ..) => Consent::DryRun,
        (false, _, Some(digest)) => Consent::Confirm(digest),
        (false, Some(digest), None) => Consent::Digest(digest),
        (false, None, None) => Consent::Any,
    };
    let reason = fields.text("reason", MAX_REASON);
    Ok(Terms { reason, caller: visit.caller()?, may_change_connection: is_admin(visit), consent })
}

fn flag(fields: &mut Fields, name: &'static str, default: bool) -> bool {
    match fields.take(name) {
        None | Some(Value::Null) => default,
        Some(Value::Bool(flag)) => flag,
        Some(_) => {
            fields.wrong(name, "must be true or false");
            default
        }
    }
}

/// What is to be done, with the fields that belong to it.
fn deed(fields: &mut Fields) -> Option<Deed> {
    let action = fields.text("action", 16).unwrap_or_default();
    let until = fields.text("pause_until", MAX_MOMENT);
    let name = fields.text("preset", 64);
    let set = match fields.take("set") {
        None | Some(Value::Null) => None,
        Some(Value::Object(set)) => Some(set),
        Some(_) => {
            fields.wrong("set", "must be an object of keys and values");
            None
        }
    };
    if until.is_some() && action != "pause" {
        fields.wrong("pause_until", "belongs to the action pause");
    }
    for (field, given) in [("set", set.is_some()), ("preset", name.is_some())] {
        if given && action != "set" {
            fields.wrong(field, "belongs to the action set");
        }
    }
    match action.as_str() {
        "pause" => Some(Deed::Pause { until }),
        "resume" => Some(Deed::Resume),
        "delete" => Some(Deed::Delete),
        "run-now" => Some(Deed::RunNow),
        "set" => {
            let mut patch = match name.as_deref().map(preset) {
                None => Map::new(),
                Some(Ok(patch)) => patch,
                Some(Err(unknown)) => {
                    fields.wrong("preset", unknown.to_string());
                    return None;
                }
            };
            patch.extend(set.unwrap_or_default());
            if patch.is_empty() {
                fields.wrong("set", "is needed, or preset: what is to be set, such as {\"interval_sec\": 300}");
            }
            Some(Deed::Set(patch))
        }
        _ => {
            fields.wrong("action", "is needed: pause, resume, set, delete or run-now");
            None
        }
    }
}

fn select(fields: &mut Fields) -> Option<Selection> {
    let Some(Value::Object(map)) = fields.take("select") else {
        fields.wrong("select", "is needed: an object with labels, tenants, connector, state, or all");
        return None;
    };
    let mut select = Selection::default();
    for (key, value) in map {
        let wrong = match (key.as_str(), value) {
            (_, Value::Null) => None,
            ("all", Value::Bool(all)) => {
                select.all = all;
                None
            }
            ("connector", Value::String(name)) => match name.parse::<Connector>() {
                Ok(connector) => {
                    select.connector = Some(connector);
                    None
                }
                Err(unknown) => Some(unknown.to_string()),
            },
            ("labels", Value::Object(labels)) => texts(labels).map_or_else(
                |key| Some(format!("{key}: a label's value is a text")),
                |labels| {
                    select.labels = labels;
                    None
                },
            ),
            ("tenants", Value::Array(names)) => named(&names).map_or_else(Some, |named| {
                select.named = named;
                None
            }),
            ("state", Value::String(name)) => {
                select.condition = Condition::of_name(&name);
                let known = Condition::NAMES.join(", ");
                select.condition.is_none().then(|| format!("is one of {known}"))
            }
            ("all" | "connector" | "labels" | "tenants" | "state", _) => Some("has the wrong type".to_owned()),
            _ => Some("is not known here; a choice takes all, connector, labels, tenants, state".to_owned()),
        };
        if let Some(wrong) = wrong {
            fields.wrong_at(&["select", &key], wrong);
        }
    }
    Some(select)
}

/// The key whose value is none.
fn texts(labels: Map<String, Value>) -> Result<BTreeMap<String, String>, String> {
    let text = |(key, value): (String, Value)| match value {
        Value::String(text) => Ok((key, text)),
        _ => Err(key),
    };
    labels.into_iter().map(text).collect()
}

fn named(names: &[Value]) -> Result<BTreeSet<Named>, String> {
    if names.is_empty() {
        return Err("is empty; leave it out, or name somebody".to_owned());
    }
    let name = |name: &Value| match name {
        Value::String(name) => name.parse(),
        other => Err(format!("{other} is no name")),
    };
    names.iter().map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: Value, expect: &str) {
        let mut fields = Fields::of(body.as_object().unwrap().clone());
        let (deed, select) = (deed(&mut fields), select(&mut fields));
        let got = match fields.finish() {
            Ok(()) => format!("{} {}", deed.unwrap().name(), select.unwrap().told()),
            Err(problem) => format!("{problem:?}"),
        };
        assert!(got.contains(expect), "{body}: {got} lacks {expect}");
    }

    #[test]
    fn a_request_says_what_and_for_whom() {
        let west = json!({"labels": {"region": "west"}});
        check(json!({"action": "pause", "select": west}), "pause region=west");
        check(json!({"action": "set", "preset": "nightly", "select": {"all": true}}), "set all");
        check(
            json!({"action": "delete", "select": {"tenants": ["a", "noop/b"], "state": "paused"}}),
            "delete paused, a or noop/b",
        );
        check(json!({"action": "delete", "select": {"tenants": []}}), "/select/tenants");
        check(json!({"action": "delete", "select": {"tenants": ["A!"]}}), "/select/tenants");
        check(json!({"action": "delete", "select": {"colour": 1}}), "/select/colour");
        check(json!({"action": "delete", "select": {"connector": "fax"}}), "/select/connector");
        check(json!({"action": "delete"}), "/select");
        check(json!({"action": "burn", "select": west}), "/action");
        check(json!({"action": "pause", "set": {"a": 1}, "select": west}), "/set");
        check(json!({"action": "set", "select": west}), "/set");
        check(json!({"action": "set", "preset": "weekly", "select": west}), "there are: 5min");
        check(json!({"action": "resume", "pause_until": "x", "select": west}), "/pause_until");
    }
}
