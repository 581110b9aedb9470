//! The emergency stop: no run starts while it is pulled, whatever the files say.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::body::Fields;
use super::extract::{Visit, tenant_schema};
use super::problem::Answer;
use super::query::malformed;
use super::table::{Param, Place, Route};
use crate::app::App;
use crate::app::views::BrakeView;
use crate::core::access::Role;
use crate::core::model::{Connector, ScheduleId};

const PATH: &str = "/ops/brake";
const MAX_REASON: usize = 500;

/// The brakes that are pulled.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct Brakes {
    pub ok: bool,
    pub brakes: Vec<BrakeView>,
}

/// Why the brake is pulled.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct BrakeReason {
    /// 1 to 500 characters.
    pub reason: String,
}

pub fn routes() -> Vec<Route> {
    let brake = |route: Route| route.under("Operations", "brake").needs(Role::Operator);
    let scoped = |route: Route| {
        let connectors = Connector::ALL.map(Connector::as_str);
        brake(route.mutation())
            .param(Param {
                name: "x-tenant",
                place: Place::Header,
                about: "One tenant; the whole fleet when left out.",
                required: false,
                schema: tenant_schema(),
            })
            .query(
                "connector",
                "With x-tenant: the connector of its schedule.",
                json!({"type": "string", "enum": connectors, "default": "acculynx"}),
            )
            .answers::<Brakes>(200, "The brakes that are pulled now.")
    };
    vec![
        brake(Route::get(PATH, list))
            .says("List the brakes that are pulled", "Kept in the store only, and shown as drift until released.")
            .answers::<Brakes>(200, "The brakes."),
        scoped(Route::post(PATH, pull))
            .says(
                "Pull the brake",
                "Stops starting runs for the fleet, or for one tenant, at once, whatever state the files are in. Runs \
                 that have started end by themselves.",
            )
            .body::<BrakeReason>(true, json!({"reason": "duplicate records at the source"})),
        scoped(Route::delete(PATH, release))
            .says("Release the brake", "Runs go on with their next slot; missed ones are not made up for."),
    ]
}

/// What the brake is about: one schedule, or `None` for the fleet.
fn scope(visit: &Visit) -> Answer<Option<ScheduleId>> {
    let connectors = Connector::ALL.map(Connector::as_str);
    let named = visit.query().choice("connector", &connectors)?.and_then(|name| name.parse::<Connector>().ok());
    let Some(tenant) = visit.tenant_header()? else {
        visit.whole_fleet()?;
        return match named {
            Some(_) => Err(malformed("connector", "needs the header x-tenant; without both the fleet is meant")),
            None => Ok(None),
        };
    };
    visit.may_touch(&tenant)?;
    Ok(Some(ScheduleId::new(named.unwrap_or(Connector::Acculynx), tenant)))
}

/// A narrowed caller sees the fleet's brake and its own tenant's.
fn shown(visit: &Visit, mut brakes: Vec<BrakeView>) -> Answer<Json<Brakes>> {
    if let Some(own) = &visit.identity()?.tenant {
        brakes.retain(|brake| brake.scope.split_once('/').is_none_or(|(_, tenant)| tenant == own.as_str()));
    }
    Ok(Json(Brakes { ok: true, brakes }))
}

async fn list(State(app): State<Arc<App>>, visit: Visit) -> Answer<Json<Brakes>> {
    let brakes = app.brakes().await?;
    shown(&visit, brakes)
}

async fn pull(State(app): State<Arc<App>>, visit: Visit) -> Answer<Json<Brakes>> {
    let scope = scope(&visit)?;
    let mut fields = Fields::of(visit.object(true)?);
    let reason = fields.text("reason", MAX_REASON);
    if reason.is_none() {
        fields.wrong("reason", "is needed: it tells those who find the fleet stopped why");
    }
    fields.finish()?;
    let brakes = app.pull_brake(scope, reason.unwrap_or_default(), &visit.caller()?).await?;
    shown(&visit, brakes)
}

async fn release(State(app): State<Arc<App>>, visit: Visit) -> Answer<Json<Brakes>> {
    let scope = scope(&visit)?;
    let brakes = app.release_brake(scope, &visit.caller()?).await?;
    shown(&visit, brakes)
}
