//! The history of runs over HTTP.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use serde_json::json;

use super::audit::{range, time_schema};
use super::cursor::{self, List};
use super::extract::{InPath, Visit, tenant_schema, with_connector};
use super::problem::{Answer, Problem};
use super::query::malformed;
use super::table::{Param, Place, Route};
use crate::adapters::store::RunQuery;
use crate::app::App;
use crate::app::views::{RunAnswer, RunsPage};
use crate::core::access::Role;
use crate::core::model::{Connector, Tenant};
use crate::core::run::{ErrorClass, RunState, Trigger};

const RUNS: &str = "/api/crm/import/{connector}/runs";

const DEFAULT_LIMIT: u32 = 50;
const MAX_LIMIT: u32 = 1000;
/// Runs looked at for one page, a fraction of a second.
const MOST_LOOKED_AT: u32 = 100_000;

pub fn routes() -> Vec<Route> {
    let operator = |route: Route| with_connector(route.under("Runs", "runs").needs(Role::Operator));
    let words = |all: &[&str]| json!({"type": "string", "enum": all});
    vec![
        operator(Route::get(RUNS, list))
            .says(
                "List runs",
                "Newest first: of one tenant by their slots, of the connector's whole fleet in the order in which they \
                 began. As many as are kept (`keep_runs`, `keep_runs_days`).",
            )
            .param(Param {
                name: "x-tenant",
                place: Place::Header,
                about: "Only this tenant's runs.",
                required: false,
                schema: tenant_schema(),
            })
            .query("tenant", "Only this tenant's runs; the same as the header x-tenant.", tenant_schema())
            .query("state", "Only runs that stand so.", words(&RunState::ALL.map(RunState::as_str)))
            .query("ok", "With 1 only runs that succeeded, with 0 only those that failed.", words(&["0", "1"]))
            .query("trigger", "Only runs that began for this reason.", words(&Trigger::ALL.map(Trigger::as_str)))
            .query("error_class", "Only runs that failed so.", words(&ErrorClass::ALL.map(ErrorClass::as_str)))
            .query("since", "Only runs of slots at or after this time.", time_schema())
            .query("until", "Only runs of slots before this time.", time_schema())
            .query(
                "limit",
                "Runs on a page.",
                json!({"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT}),
            )
            .query("cursor", "The next_cursor of the page before.", json!({"type": "string"}))
            .answers::<RunsPage>(200, "A page of runs."),
        operator(Route::get("/api/crm/import/{connector}/runs/{id}", show))
            .says("Show a run", "One run whole, with what its attempts had to say.")
            .param(Param {
                name: "id",
                place: Place::Path,
                about: "The run's number.",
                required: true,
                schema: json!({"type": "integer", "minimum": 1}),
            })
            .answers::<RunAnswer>(200, "The run."),
    ]
}

/// The tenant that header and query name; both may, if they agree.
fn tenant(visit: &Visit) -> Answer<Option<Tenant>> {
    let asked = visit.tenant_filter()?;
    let Some(named) = visit.tenant_header()? else { return Ok(asked) };
    visit.may_touch(&named)?;
    if visit.query().text("tenant").is_some() && asked.as_ref() != Some(&named) {
        return Err(malformed("tenant", "names another tenant than the header x-tenant"));
    }
    Ok(Some(named))
}

fn wanted(visit: &Visit, connector: Connector) -> Answer<RunQuery> {
    let query = visit.query();
    let (since, until) = range(visit)?;
    Ok(RunQuery {
        connector,
        tenant: tenant(visit)?,
        state: query.choice("state", &RunState::ALL.map(RunState::as_str))?.and_then(RunState::named),
        ok: query.text("ok").map(|_| query.flag("ok")).transpose()?,
        trigger: query.choice("trigger", &Trigger::ALL.map(Trigger::as_str))?.and_then(Trigger::named),
        error_class: query.choice("error_class", &ErrorClass::ALL.map(ErrorClass::as_str))?.map(str::to_owned),
        since,
        until,
        before: cursor::decode(query, List::Runs)?,
        limit: query.number("limit", 1..=MAX_LIMIT)?.unwrap_or(DEFAULT_LIMIT),
        most_looked_at: MOST_LOOKED_AT,
    })
}

async fn list(State(app): State<Arc<App>>, InPath(connector): InPath, visit: Visit) -> Answer<Json<RunsPage>> {
    let (runs, next) = app.past_runs(wanted(&visit, connector)?).await?;
    Ok(Json(RunsPage { ok: true, runs, next_cursor: next.map(|place| cursor::encode(List::Runs, place)) }))
}

async fn show(
    State(app): State<Arc<App>>,
    InPath(connector): InPath,
    Path(path): Path<Vec<(String, String)>>,
    visit: Visit,
) -> Answer<Json<RunAnswer>> {
    let named = path.iter().find(|(name, _)| name == "id").map_or("", |(_, value)| value);
    let unknown = || {
        let detail = format!("{connector} has no run {named}; runs are kept for a while only (keep_runs)");
        Problem::not_found(detail)
    };
    let run = named.parse().map_err(|_| unknown())?;
    let run = app.past_run(connector, run).await?.ok_or_else(unknown)?;
    let tenant = run.tenant.parse::<Tenant>().map_err(|_| Problem::internal())?;
    visit.may_touch(&tenant)?;
    Ok(Json(RunAnswer { ok: true, run }))
}
