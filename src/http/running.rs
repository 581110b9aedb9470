//! Runs on request: those in flight stopped, slots of the past made up for.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::body::Fields;
use super::extract::{Target, for_target};
use super::problem::Answer;
use super::schedule::{MAX_MOMENT, MAX_REASON};
use super::table::Route;
use crate::app::views::{BackfillAnswer, CancelAnswer};
use crate::app::{App, Backfill};
use crate::core::access::Role;
use crate::core::model::Millis;
use crate::core::timing::parse_time;

/// The body of a cancellation.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct CancelRequest {
    /// The run to stop, in flight or waiting; all that are in flight when left out.
    #[serde(default)]
    pub run: Option<i64>,
    /// Why, for the run's record; 1 to 500 characters.
    #[serde(default)]
    pub reason: Option<String>,
}

/// The body of a backfill.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct BackfillRequest {
    /// The first moment, RFC 3339.
    pub from: String,
    /// The last moment, RFC 3339; now when left out.
    #[serde(default)]
    pub to: Option<String>,
    /// Only count the slots.
    #[serde(default)]
    pub dry_run: bool,
}

pub fn routes() -> Vec<Route> {
    let operator = |route: Route| for_target(route.under("Schedules", "scheduler").needs(Role::Operator).mutation());
    vec![
        operator(Route::post("/api/crm/import/{connector}/cancel", cancel))
            .says(
                "Stop a run",
                "Stops the named run, or all of the schedule that are in flight. What was imported stays. The run ends \
                 as `cancelled`, which is no failure; the next slot comes as ever.",
            )
            .body::<CancelRequest>(false, json!({"reason": "the source is being repaired"}))
            .answers::<CancelAnswer>(200, "The runs that were stopped.")
            .fails(409, "There is nothing to stop."),
        operator(Route::post("/api/crm/import/{connector}/backfill", backfill))
            .says(
                "Run slots of the past",
                "Runs the schedule's slots between two moments that have had no run, the oldest first, one after the \
                 other, behind whatever else it has to run. `dry_run` only lists them.",
            )
            .body::<BackfillRequest>(true, json!({"from": "2026-11-20T00:00:00Z", "dry_run": true}))
            .answers::<BackfillAnswer>(200, "The slots, with their runs unless it was a dry run.")
            .fails(409, "More than 1,000 slots lie between the moments, or the brake is pulled."),
    ]
}

async fn cancel(State(app): State<Arc<App>>, target: Target) -> Answer<Json<CancelAnswer>> {
    let mut fields = Fields::of(target.visit.object(false)?);
    let reason = fields.text("reason", MAX_REASON);
    let run = fields.take("run").filter(|run| !run.is_null());
    let number = run.as_ref().and_then(Value::as_i64);
    if run.is_some() && number.is_none() {
        fields.wrong("run", "must be a run's id, a whole number");
    }
    fields.finish()?;
    let caller = target.visit.caller()?;
    Ok(Json(app.cancel_runs(&target.id, number, reason, &caller).await?))
}

async fn backfill(State(app): State<Arc<App>>, target: Target) -> Answer<Json<BackfillAnswer>> {
    let body = target.visit.object(true)?;
    let is_missing = body.get("from").is_none_or(Value::is_null);
    let mut fields = Fields::of(body);
    if is_missing {
        fields.wrong("from", "is needed: the first moment, such as 2026-11-20T00:00:00Z");
    }
    let from = moment(&mut fields, "from");
    let to = moment(&mut fields, "to");
    let dry_run = match fields.take("dry_run") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(yes)) => yes,
        Some(_) => {
            fields.wrong("dry_run", "must be true or false");
            false
        }
    };
    let now = app.clock.now();
    let (from, to) = (from.unwrap_or(Millis::MIN), to.unwrap_or(now));
    if from > to.min(now) {
        fields.wrong("from", "must lie before `to` and before now: only slots of the past are made up for");
    }
    fields.finish()?;
    let caller = target.visit.caller()?;
    Ok(Json(app.backfill(&target.id, Backfill { from, to, dry_run }, &caller).await?))
}

fn moment(fields: &mut Fields, name: &'static str) -> Option<Millis> {
    let text = fields.text(name, MAX_MOMENT)?;
    let at = parse_time(&text);
    if at.is_none() {
        fields.wrong(name, "must be a moment, such as 2026-11-20T00:00:00Z");
    }
    at
}
