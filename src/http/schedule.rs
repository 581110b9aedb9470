//! Schedules: read one, and everything that changes one.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::header::{ETAG, LOCATION};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, json};

use super::access::is_admin;
use super::body::Fields;
use super::extract::{Target, for_target, takes_if_match};
use super::problem::{Answer, FieldProblem, Problem, stale};
use super::table::Route;
use crate::app::views::{MutationAnswer, RunNowAnswer, ScheduleView};
use crate::app::{App, Edit, IfMatch, Mutation, RunNow};
use crate::core::access::Role;
use crate::core::model::{Connector, ScheduleSpec};
use crate::core::presets::preset;

const SCHEDULE: &str = "/api/crm/import/{connector}/schedule";
const PAUSE: &str = "/api/crm/import/{connector}/pause";
const RESUME: &str = "/api/crm/import/{connector}/resume";
const RUN_NOW: &str = "/api/crm/import/{connector}/run-now";

/// The longest reason, as the schedule's schema has it.
pub const MAX_REASON: usize = 500;
/// The longest moment, as text.
pub const MAX_MOMENT: usize = 64;
const DEFAULT_WAIT_SEC: u32 = 30;
const MAX_WAIT_SEC: u32 = 300;

/// The body of a pause.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct PauseRequest {
    /// Why, for the people who find it so; 1 to 500 characters.
    #[serde(default)]
    pub reason: Option<String>,
    /// When the pause lifts by itself: RFC 3339, or a time in the schedule's own time zone.
    #[serde(default)]
    pub pause_until: Option<String>,
}

/// The body of a resume.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct Reason {
    /// Why, for the people who find it so; 1 to 500 characters.
    #[serde(default)]
    pub reason: Option<String>,
}

pub fn routes() -> Vec<Route> {
    let operator = |route: Route| for_target(route.under("Schedules", "scheduler").needs(Role::Operator));
    let changes = |route: Route| {
        takes_if_match(operator(route.mutation()))
            .fails(
                409,
                "The file cannot be edited safely, or an editor changed the same field meanwhile (`conflicts`).",
            )
            .fails(503, "Git or the disk is busy; try again after Retry-After seconds.")
            .fails(507, "The disk is full; nothing was changed.")
    };
    vec![
        operator(Route::get(SCHEDULE, show))
            .says(
                "Show a schedule",
                "The schedule as written in its file, its effective values, its status, and its ETag.",
            )
            .answers::<ScheduleView>(200, "The schedule; the ETag header is the SHA-256 of its file."),
        changes(Route::post(SCHEDULE, merge))
            .says(
                "Create or change a schedule",
                "The body is merged into the schedule (RFC 7396): null removes a key, cron and interval_sec displace \
                 each other. Creates the schedule when there is none. Changing `connection` needs the role admin. \
                 Answers when the change is in the file and runs.",
            )
            .query(
                "preset",
                "The name of a preset (GET /ops/presets), over which the body is laid; the body may be left out then.",
                json!({"type": "string"}),
            )
            .body::<ScheduleSpec>(true, json!({"interval_sec": 300}))
            .answers::<MutationAnswer>(200, "The schedule as it is now."),
        changes(Route::delete(SCHEDULE, delete))
            .says("Delete a schedule", "Removes the schedule and its file. Its history and audit stay.")
            .answers::<MutationAnswer>(200, "It is gone; `schedules` is empty."),
        changes(Route::post(PAUSE, pause))
            .says(
                "Pause a schedule",
                "No scheduled run starts until it is resumed, or until `pause_until`; run-now still works. A pause without \
                 `pause_until` has no end, also where the one before had.",
            )
            .body::<PauseRequest>(
                false,
                json!({"reason": "source under maintenance", "pause_until": "2026-12-01T08:00:00Z"}),
            )
            .answers::<MutationAnswer>(200, "The schedule as it is now."),
        changes(Route::post(RESUME, resume))
            .says("Resume a schedule", "Runs go on with the next slot; missed ones are not made up for.")
            .body::<Reason>(false, json!({"reason": "maintenance is over"}))
            .answers::<MutationAnswer>(200, "The schedule as it is now."),
        changes(Route::post(RUN_NOW, run_now))
            .says(
                "Run an import now",
                "Runs at once, also while paused, and leaves the rhythm as it is. While a run is in flight one more \
                 is queued, which later calls join.",
            )
            .query(
                "wait",
                "Seconds to wait for the run's end; 0 answers at once.",
                json!({"type": "integer", "minimum": 0, "maximum": MAX_WAIT_SEC, "default": DEFAULT_WAIT_SEC}),
            )
            .answers::<RunNowAnswer>(200, "The run has ended; a failed import has `ok: false`.")
            .answers::<RunNowAnswer>(202, "The run goes on; Location is where its outcome will show."),
    ]
}

/// A mutation's answer, tagged with the schedule's new ETag where there still is one.
pub fn changed(answer: MutationAnswer) -> Response {
    let etag = answer.schedules.values().next().map(|status| status.etag.clone());
    tagged(etag.as_deref(), StatusCode::OK, answer)
}

fn tagged(etag: Option<&str>, status: StatusCode, answer: impl Serialize) -> Response {
    let mut response = (status, Json(answer)).into_response();
    let quoted = etag.filter(|etag| !etag.is_empty()).map(|etag| HeaderValue::from_str(&format!("\"{etag}\"")));
    if let Some(Ok(quoted)) = quoted {
        response.headers_mut().insert(ETAG, quoted);
    }
    response
}

async fn show(State(app): State<Arc<App>>, target: Target) -> Answer {
    let view = app.schedule_view(&target.id).await?;
    let etag = view.etag.clone();
    Ok(tagged(Some(&etag), StatusCode::OK, view))
}

async fn mutate(app: &App, target: Target, edit: Edit) -> Answer {
    let mutation = Mutation {
        caller: target.visit.caller()?,
        may_change_connection: is_admin(&target.visit),
        id: target.id,
        edit,
        if_match: target.if_match,
        notes: Vec::new(),
    };
    Ok(changed(app.mutate(mutation).await?))
}

async fn merge(State(app): State<Arc<App>>, target: Target) -> Answer {
    let name = target.visit.query().text("preset");
    let mut patch = match name.map(preset) {
        None => Map::new(),
        Some(Ok(patch)) => patch,
        Some(Err(unknown)) => return Err(Problem::bad_request("preset", unknown.to_string())),
    };
    patch.extend(target.visit.object(name.is_none())?);
    if patch.is_empty() {
        let detail = "The body changes nothing; name at least one field, such as interval_sec".to_owned();
        return Err(Problem::invalid(vec![FieldProblem { pointer: String::new(), detail }]));
    }
    mutate(&app, target, Edit::Merge(patch)).await
}

async fn delete(State(app): State<Arc<App>>, target: Target) -> Answer {
    mutate(&app, target, Edit::Delete).await
}

fn reason(target: &Target) -> Answer<Option<String>> {
    let mut fields = Fields::of(target.visit.object(false)?);
    let reason = fields.text("reason", MAX_REASON);
    fields.finish()?;
    Ok(reason)
}

async fn pause(State(app): State<Arc<App>>, target: Target) -> Answer {
    let mut fields = Fields::of(target.visit.object(false)?);
    let (reason, until) = (fields.text("reason", MAX_REASON), fields.text("pause_until", MAX_MOMENT));
    fields.finish()?;
    mutate(&app, target, Edit::Pause { reason, until }).await
}

async fn resume(State(app): State<Arc<App>>, target: Target) -> Answer {
    let reason = reason(&target)?;
    mutate(&app, target, Edit::Resume { reason }).await
}

async fn run_now(State(app): State<Arc<App>>, target: Target) -> Answer {
    let wait = target.visit.query().number("wait", 0..=MAX_WAIT_SEC)?.unwrap_or(DEFAULT_WAIT_SEC);
    Fields::of(target.visit.object(false)?).finish()?;
    if let Some(wanted) = &target.if_match {
        require_match(&app, &target, wanted).await?;
    }
    let caller = target.visit.caller()?;
    match app.run_now(&target.id, &caller, Duration::from_secs(wait.into())).await? {
        RunNow::Done(answer) => Ok(Json(answer).into_response()),
        RunNow::Accepted(answer) => {
            let mut response = (StatusCode::ACCEPTED, Json(answer)).into_response();
            let place = status_of(target.id.connector, target.id.tenant.as_str());
            if let Ok(place) = HeaderValue::from_str(&place) {
                response.headers_mut().insert(LOCATION, place);
            }
            Ok(response)
        }
    }
}

/// A run changes no file, so that reading the tag before it is as good as reading it within.
async fn require_match(app: &App, target: &Target, wanted: &IfMatch) -> Answer<()> {
    let view = app.schedule_view(&target.id).await?;
    let matches = match wanted {
        IfMatch::Any => true,
        IfMatch::Etags(tags) => tags.contains(&view.etag),
    };
    if matches {
        return Ok(());
    }
    Err(stale(&view.etag, "the schedule has changed since; the run was not started").with("current", view.written))
}

fn status_of(connector: Connector, tenant: &str) -> String {
    format!("/api/crm/import/{connector}/schedule/status?tenant={tenant}")
}
