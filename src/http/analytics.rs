//! Numbers over the fleet, one tenant, and the audit log.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{RawPathParams, State};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::audit::{range, time_schema};
use super::extract::{Visit, tenant_schema};
use super::problem::{Answer, Problem};
use super::table::{Param, Place, Route};
use crate::adapters::store::{AuditCounts, FleetCounts, TenantCounts};
use crate::app::App;
use crate::app::views::ScheduleStatus;
use crate::core::access::Role;
use crate::core::model::{BadTenant, Connector, ScheduleId, Tenant};
use crate::core::timing::iso;

/// Totals over the fleet.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct Summary {
    pub ok: bool,
    pub ts_iso: String,
    #[serde(flatten)]
    pub counts: FleetCounts,
}

/// One tenant in numbers.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct TenantNumbers {
    pub ok: bool,
    pub tenant: String,
    /// By connector, where the tenant has a schedule.
    pub schedules: BTreeMap<String, ScheduleStatus>,
    /// By connector, where the tenant has had runs.
    pub connectors: Vec<TenantCounts>,
}

/// Audit entries counted.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct AuditNumbers {
    pub ok: bool,
    #[serde(flatten)]
    pub counts: AuditCounts,
}

pub fn routes() -> Vec<Route> {
    let analytics = |route: Route| route.under("Analytics", "analytics").needs(Role::Operator);
    vec![
        analytics(Route::get("/analytics/summary", summary))
            .says("Sum up the fleet", "Schedules, runs, records and audit entries over all tenants.")
            .answers::<Summary>(200, "The totals."),
        analytics(Route::get("/analytics/tenants/{tenant}", tenant))
            .says("Sum up one tenant", "Its schedules, and its runs and records by connector.")
            .param(Param {
                name: "tenant",
                place: Place::Path,
                about: "The tenant.",
                required: true,
                schema: tenant_schema(),
            })
            .answers::<TenantNumbers>(200, "The tenant's numbers.")
            .fails(404, "The tenant has no schedule and has never had a run."),
        analytics(Route::get("/analytics/audit", audit))
            .says("Count audit entries", "By operation, source, actor and hour.")
            .query("since", "Only entries at or after this time.", time_schema())
            .query("until", "Only entries before this time.", time_schema())
            .answers::<AuditNumbers>(200, "The counts."),
    ]
}

async fn summary(State(app): State<Arc<App>>, visit: Visit) -> Answer<Json<Summary>> {
    visit.whole_fleet()?;
    app.metrics.analytics_query();
    let counts = app.store.fleet_counts().await?;
    Ok(Json(Summary { ok: true, ts_iso: iso(app.clock.now()), counts }))
}

async fn tenant(State(app): State<Arc<App>>, visit: Visit, params: RawPathParams) -> Answer<Json<TenantNumbers>> {
    let name = params.iter().find(|(name, _)| *name == "tenant").map_or("", |(_, value)| value);
    let tenant: Tenant = name.parse().map_err(|why: BadTenant| {
        Problem::bad_request("tenant-malformed", format!("The path names no tenant: {why}"))
    })?;
    visit.may_touch(&tenant)?;
    app.metrics.analytics_query();
    let connectors = app.store.tenant_counts(tenant.to_string()).await?;
    let mut schedules = BTreeMap::new();
    for connector in Connector::ALL {
        if let Some(status) = app.status_of(&ScheduleId::new(connector, tenant.clone())).await? {
            schedules.insert(connector.to_string(), status);
        }
    }
    if schedules.is_empty() && connectors.is_empty() {
        return Err(Problem::not_found(format!("The tenant \"{tenant}\" has no schedule and has never had a run")));
    }
    Ok(Json(TenantNumbers { ok: true, tenant: tenant.to_string(), schedules, connectors }))
}

async fn audit(State(app): State<Arc<App>>, visit: Visit) -> Answer<Json<AuditNumbers>> {
    visit.whole_fleet()?;
    let (since, until) = range(&visit)?;
    app.metrics.analytics_query();
    let counts = app.store.audit_counts(since, until).await?;
    Ok(Json(AuditNumbers { ok: true, counts }))
}
