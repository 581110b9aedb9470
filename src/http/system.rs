//! What machines ask: probes, version and features, metrics.

use std::path::Path;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ops::is_well;
use super::table::Route;
use crate::app::App;
use crate::telemetry::Metrics;

/// What works in this version, and nothing else.
const FEATURES: &[&str] = &[
    "schedules",
    "pause_resume",
    "run_now",
    "runs",
    "cancel",
    "backfill",
    "bulk",
    "records",
    "status_paging",
    "audit",
    "audit_export",
    "audit_verify",
    "drift",
    "diff",
    "apply",
    "brake",
    "windows",
    "forecast",
    "history",
    "rollback",
    "analytics",
    "replication",
    "webhooks_in",
    "idempotency",
    "etags",
    "metrics",
    "openapi",
    "schemas",
];

const API_VERSION: &str = "1";

#[derive(Serialize, Deserialize, JsonSchema)]
pub struct Probe {
    pub status: String,
    /// Why, where it is not well.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
pub struct Meta {
    /// Only what works.
    pub features: Vec<String>,
    /// The program's version.
    pub version: String,
    pub api_version: String,
    pub service: String,
}

pub fn routes() -> Vec<Route> {
    let public = |route: Route| route.under("System", "http").loose();
    vec![
        public(Route::get("/healthz", healthz))
            .says(
                "Liveness probe",
                "Whether the process is worth keeping: whoever keeps it alive restarts it on a 503.",
            )
            .answers::<Probe>(200, "`healthy`.")
            .answers::<Probe>(
                503,
                "`lost`: nobody watches its loops any more, or only a restart helps and it may not do that itself.",
            ),
        public(Route::get("/readyz", readyz))
            .says("Readiness probe", "Whether requests should be sent here.")
            .answers::<Probe>(200, "`ready`.")
            .answers::<Probe>(
                503,
                "`not_ready`: starting, draining, or without a working store or scheduler; `reason` says which.",
            ),
        public(Route::get("/health", plain_health))
            .says("Health, in the older form", "Answers while the process serves.")
            .answers::<Probe>(200, "`ok`."),
        public(Route::get("/meta", meta))
            .says("Version and features", "Names what works in this version.")
            .answers::<Meta>(200, "Version and features."),
        public(Route::get("/metrics", metrics)).says("Metrics", "For Prometheus.").answers_media(
            200,
            "text/plain",
            "Prometheus' text format.",
        ),
    ]
}

pub(super) fn probe(status: &str, reason: Option<String>) -> Json<Probe> {
    Json(Probe { status: status.to_owned(), reason })
}

async fn healthz(State(app): State<Arc<App>>) -> Response {
    match app.is_lost() {
        None => probe("healthy", None).into_response(),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, probe("lost", Some(why))).into_response(),
    }
}

async fn plain_health() -> Json<Probe> {
    probe("ok", None)
}

async fn readyz(State(app): State<Arc<App>>) -> Response {
    match app.unreadiness().await {
        None => probe("ready", None).into_response(),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, probe("not_ready", Some(why))).into_response(),
    }
}

async fn meta() -> Json<Meta> {
    Json(Meta {
        features: FEATURES.iter().map(|feature| (*feature).to_owned()).collect(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        api_version: API_VERSION.to_owned(),
        service: "command-center".to_owned(),
    })
}

/// Gauges are brought up to date by the scrape that reads them.
async fn metrics(State(app): State<Arc<App>>) -> Response {
    let health = app.health().await;
    app.metrics.set_health(is_well(&health));
    #[expect(clippy::cast_precision_loss, reason = "no server runs for 2^53 seconds")]
    app.metrics.set_uptime(health.uptime_sec as f64);
    let replication = &health.replication;
    let spooled = app.replication().map_or(0, |replication| replication.waiting_bytes());
    app.metrics.replication.set(replication.lag_sec, replication.lag_entries, spooled);
    app.metrics.set_running(health.scheduler.running);
    for what in Metrics::waits() {
        app.metrics.set_waiting(what, health.scheduler.waiting_for.get(what).copied().unwrap_or(0));
    }
    for state in ["synced", "pending", "drifted", "invalid", "held"] {
        app.metrics.set_schedules(state, health.drift.sync.get(state).copied().unwrap_or(0));
    }
    let disk = health.db.disk.as_ref();
    app.metrics.set_reserve(disk.map_or(0, |disk| disk.reserve_bytes));
    let mut wal = app.settings.dsn.clone().into_os_string();
    wal.push("-wal");
    app.measure_snapshots();
    app.metrics.set_sizes(
        size(&app.settings.dsn).await,
        size(Path::new(&wal)).await,
        disk.and_then(|disk| disk.free_bytes),
    );
    let media = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(CONTENT_TYPE, media)], app.metrics.render()).into_response()
}

/// A file's size in bytes, 0 when there is none.
async fn size(path: &Path) -> u64 {
    tokio::fs::metadata(path).await.map_or(0, |meta| meta.len())
}
