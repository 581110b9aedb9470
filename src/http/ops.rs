//! Operations: health and drift, the store, comparing and applying, restart, who am I.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::body::Fields;
use super::extract::Visit;
use super::problem::Answer;
use super::table::Route;
use crate::adapters::store::StoreFacts;
use crate::app::views::{ApplyAnswer, DiffAnswer, DriftReport, Health};
use crate::app::{App, ReplicationView};
use crate::core::access::Role;
use crate::core::model::{Connector, ScheduleId, Tenant};

/// The largest directory that `/ops/diff` takes, bytes of JSON.
pub const DIFF_LIMIT: usize = 64 * 1024 * 1024;

#[derive(Serialize, Deserialize, JsonSchema)]
pub struct Ping {
    pub ok: bool,
    pub status: String,
    pub service: String,
}

/// Facts about the store.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct Database {
    pub ok: bool,
    #[serde(flatten)]
    pub facts: StoreFacts,
    /// How far each part may grow; null where everything is kept.
    #[serde(default)]
    pub limits: BTreeMap<String, Value>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
pub struct Restarting {
    pub ok: bool,
    pub status: String,
    /// Seconds from the end of the running requests to the new start.
    pub restart_in_sec: u64,
}

/// Whom the server takes the caller for.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct Whoami {
    pub ok: bool,
    pub role: Role,
    /// The name that the audit records.
    pub actor: String,
    /// The one tenant this caller may act for; null is every tenant.
    pub tenant: Option<String>,
    /// How the caller was identified.
    pub method: String,
}

/// A directory to compare with what runs.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct DiffRequest {
    /// Text of each file by its path relative to the desired directory; the server's own directory
    /// when left out.
    #[serde(default)]
    pub files: Option<BTreeMap<String, String>>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
pub struct ApplyRequest {
    /// The digest of a plan as `diff` shows it, or of held changes (`held_digest`): what it needs
    /// agreement for is applied, if it still is exactly that plan.
    #[serde(default)]
    pub confirm: Option<String>,
}

pub fn routes() -> Vec<Route> {
    let mut all = probes();
    all.extend(reports());
    all.extend(actions());
    all
}

fn probes() -> Vec<Route> {
    let public = |route: Route| route.under("Operations", "ops");
    vec![
        public(Route::get("/ops/ping", ping))
            .loose()
            .says("Ping", "Answers while the server runs.")
            .answers::<Ping>(200, "Always the same."),
        public(Route::get("/ops/health", health))
            .says(
                "Show the health of every part",
                "Each section has `status` 1 or 0. Shows counts, names and places; values stand in /ops/drift.",
            )
            .query(
                "strict",
                "With 1, answers 503 when a section has status 0.",
                json!({"type": "string", "enum": ["0", "1"]}),
            )
            .answers::<Health>(200, "The sections; also when one has status 0, unless `strict` is set.")
            .answers::<Health>(503, "With `strict`: a section has status 0."),
    ]
}

fn reports() -> Vec<Route> {
    let operator = |route: Route| route.under("Operations", "ops").needs(Role::Operator);
    vec![
        operator(Route::get("/ops/drift", drift))
            .says(
                "Show what is not as desired",
                "Per schedule and facet, field by field: desired, actual, last applied; why, since when, how often, and what is \
                 done about it.",
            )
            .answers::<DriftReport>(200, "The drift report."),
        operator(Route::get("/ops/db", db))
            .says(
                "Show facts about the store",
                "Engine, location without secrets, schema version, sizes and row counts.",
            )
            .answers::<Database>(200, "The facts."),
        operator(Route::get("/ops/replication", replication))
            .says("Show the state of replication", "Where the copy goes and how far behind it is.")
            .answers::<ReplicationView>(200, "The state."),
        operator(Route::get("/ops/whoami", whoami))
            .says("Show whom the server takes you for", "Role, name and tenant as the access headers prove them.")
            .answers::<Whoami>(200, "Your identity."),
    ]
}

fn actions() -> Vec<Route> {
    let operator = |route: Route| route.under("Operations", "ops").needs(Role::Operator);
    vec![
        operator(Route::post("/ops/diff", diff))
            .limit(DIFF_LIMIT)
            .says(
                "Say what a directory would change",
                "Changes nothing. Any invalid file makes the comparison an error, listed in `invalid`.",
            )
            .body::<DiffRequest>(false, json!({"files": {"schedules/acculynx/peakpro.yaml": "interval_sec: 300\n"}}))
            .answers::<DiffAnswer>(200, "The plan: its digest and its changes."),
        operator(Route::post("/ops/apply", apply).mutation())
            .says("Reconcile once", "Applies the directory now; with `confirm` also what is held, if the plan is still the one of that digest.")
            .body::<ApplyRequest>(false, json!({}))
            .answers::<ApplyAnswer>(200, "What the pass did and what is still held.")
            .fails(409, "The plan is not the one of that digest: `moved` has its steps that are new, gone or different, where \
                         the server still knows the plan (`known`), `digest` and `held_digest` name the plan as it is now."),
        operator(Route::post("/ops/restart", restart).mutation())
            .says("Restart the server", "Answers, lets running requests end, and starts again.")
            .answers::<Restarting>(202, "The restart is on its way.")
            .fails(409, "The program to be started would not start, by its own word; the one that runs goes on."),
    ]
}

async fn ping() -> Json<Ping> {
    Json(Ping { ok: true, status: "up".into(), service: "command-center".into() })
}

/// Whether every section is well.
pub fn is_well(health: &Health) -> bool {
    let sections = [health.scheduler.status, health.db.status, health.replication.status, health.desired.status];
    sections.iter().all(|status| *status == 1)
}

async fn health(State(app): State<Arc<App>>, visit: Visit) -> Answer {
    let strict = visit.query().flag("strict")?;
    let health = app.health().await;
    let status = if strict && !is_well(&health) { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    Ok((status, Json(health)).into_response())
}

async fn drift(State(app): State<Arc<App>>, visit: Visit) -> Answer<Json<DriftReport>> {
    let mut report = app.drift().await?;
    if let Some(own) = visit.identity()?.tenant.clone() {
        let mut sync = BTreeMap::new();
        for connector in Connector::ALL {
            if let Some(status) = app.status_of(&ScheduleId::new(connector, own.clone())).await? {
                *sync.entry(status.sync).or_insert(0) += 1;
            }
        }
        report.totals.sync = sync;
        narrow(&mut report, &own);
    }
    Ok(Json(report))
}

/// Leaves only what concerns one tenant.
fn narrow(report: &mut DriftReport, own: &Tenant) {
    report.items.retain(|item| item.tenant == own.as_str());
    report.recurring.retain(|item| item.tenant == own.as_str());
    report.totals.dismissed = None;
    report.totals.held.retain(|held| held.tenant == own.as_str());
    // The digest confirms everybody's held changes.
    report.totals.held_digest = None;
    let is_own =
        |file: &str| Connector::ALL.into_iter().any(|connector| ScheduleId::new(connector, own.clone()).file() == file);
    report.totals.invalid_files.retain(|invalid| is_own(&invalid.file));
}

async fn db(State(app): State<Arc<App>>, visit: Visit) -> Answer<Json<Database>> {
    visit.whole_fleet()?;
    let (facts, limits) = app.database_facts().await?;
    Ok(Json(Database { ok: true, facts, limits }))
}

async fn replication(State(app): State<Arc<App>>, visit: Visit) -> Answer<Json<ReplicationView>> {
    visit.whole_fleet()?;
    Ok(Json(app.replication_view().await))
}

async fn whoami(visit: Visit) -> Answer<Json<Whoami>> {
    let identity = visit.identity()?;
    Ok(Json(Whoami {
        ok: true,
        role: identity.role,
        actor: identity.actor.clone(),
        tenant: identity.tenant.as_ref().map(ToString::to_string),
        method: "headers".into(),
    }))
}

async fn diff(State(app): State<Arc<App>>, visit: Visit) -> Answer<Json<DiffAnswer>> {
    visit.whole_fleet()?;
    let mut fields = Fields::of(visit.object(false)?);
    let files = match fields.take("files") {
        None | Some(Value::Null) => None,
        Some(Value::Object(files)) => Some(texts(files, &mut fields)),
        Some(_) => {
            fields.wrong("files", "must be an object of paths and texts");
            None
        }
    };
    fields.finish()?;
    Ok(Json(app.diff(files).await?))
}

pub fn texts(files: serde_json::Map<String, Value>, fields: &mut Fields) -> BTreeMap<String, String> {
    let mut texts = BTreeMap::new();
    for (path, text) in files {
        let is_inside = !path.is_empty() && path.split(['/', '\\']).all(|part| !part.is_empty() && part != "..");
        match text {
            Value::String(text) if is_inside => {
                texts.insert(path, text);
            }
            Value::String(_) => fields.wrong_at(&["files", &path], "is no path inside a directory"),
            _ => fields.wrong_at(&["files", &path], "must be the file's text"),
        }
    }
    texts
}

async fn apply(State(app): State<Arc<App>>, visit: Visit) -> Answer<Json<ApplyAnswer>> {
    visit.whole_fleet()?;
    let mut fields = Fields::of(visit.object(false)?);
    let confirm = fields.text("confirm", 64);
    fields.finish()?;
    Ok(Json(app.apply(confirm, &visit.caller()?).await?))
}

async fn restart(State(app): State<Arc<App>>, visit: Visit) -> Answer<Response> {
    visit.whole_fleet()?;
    Fields::of(visit.object(false)?).finish()?;
    app.restart(&visit.caller()?).await?;
    let restart_in_sec = app.settings.restart_delay.as_secs();
    let answer = Restarting { ok: true, status: "restarting".into(), restart_in_sec };
    Ok((StatusCode::ACCEPTED, Json(answer)).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_inside_a_directory_are_compared() {
        let check = |path: &str| {
            let mut fields = Fields::of(serde_json::Map::new());
            let files = json!({path: "interval_sec: 1\n"});
            let taken = texts(files.as_object().unwrap().clone(), &mut fields).len();
            assert_eq!(taken == 1, fields.finish().is_ok());
            taken == 1
        };
        assert!(check("schedules/acculynx/a.yaml"));
        for outside in ["", "/etc/passwd", "../a.yaml", "a/../../b", "a//b", "..\\a"] {
            assert!(!check(outside), "{outside}");
        }
    }
}
