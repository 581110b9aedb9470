//! The audit log over HTTP: pages, newest first, and downloads.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::cursor::{self, List};
use super::export::{self, Format};
use super::extract::{InPath, Visit, tenant_schema, with_connector};
use super::problem::Answer;
use super::query::malformed;
use super::table::Route;
use crate::adapters::store::AuditQuery;
use crate::app::App;
use crate::core::access::Role;
use crate::core::audit::EntryView;
use crate::core::model::{Connector, Source};

const DEFAULT_LIMIT: u32 = 50;
pub const MAX_LIMIT: u32 = 1000;

const SOURCES: [Source; 8] = [
    Source::Ui,
    Source::Api,
    Source::Cli,
    Source::Ops,
    Source::File,
    Source::Git,
    Source::Scheduler,
    Source::CommandCenter,
];

/// A page of the audit log, newest entry first.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct AuditPage {
    pub ok: bool,
    pub entries: Vec<EntryView>,
    /// Where the next page begins; null on the last one.
    pub next_cursor: Option<String>,
}

/// An instant as a parameter, for the document.
pub fn time_schema() -> Value {
    json!({"type": "string", "examples": ["2025-11-08T22:02:19Z", "1762639339"]})
}

/// What `scope` may say.
const SCOPES: [&str; 2] = ["connector", "all"];

pub fn routes() -> Vec<Route> {
    let sources: Vec<&str> = SOURCES.iter().map(|source| source.as_str()).collect();
    let route = Route::get("/api/crm/import/{connector}/audit", audit)
        .under("Audit", "audit")
        .needs(Role::Operator)
        .says(
            "Read the audit log",
            "What happened to the connector's schedules and to the fleet as a whole, newest first. Entries form a \
             hash chain; /ops/audit/verify checks it. With `format` every entry that fits is downloaded, or `limit` \
             of them.",
        )
        .query(
            "limit",
            "Entries on a page.",
            json!({"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT}),
        )
        .query(
            "scope",
            "connector: the connector's entries and the fleet's; all: every entry, which is what a check of the chain needs.",
            json!({"type": "string", "enum": SCOPES, "default": "connector"}),
        )
        .query("tenant", "Only this tenant's entries.", tenant_schema())
        .query(
            "operation",
            "Only this operation; the older names schedule, pause, resume, run-now and delete are understood.",
            json!({"type": "string", "example": "scheduler.schedule.paused"}),
        )
        .query("source", "Only entries from this source.", json!({"type": "string", "enum": sources}))
        .query("since", "Only entries at or after this time.", time_schema())
        .query("until", "Only entries before this time.", time_schema())
        .query("cursor", "The next_cursor of the page before.", json!({"type": "string"}))
        .query("format", "Download as a file.", json!({"type": "string", "enum": ["csv", "json", "jsonl"]}))
        .answers::<AuditPage>(200, "A page of entries, or with `format` a file of them.")
        .answers_media(200, "text/csv", "With format=csv.")
        .answers_media(200, "application/x-ndjson", "With format=jsonl: one entry a line.");
    vec![with_connector(route)]
}

async fn audit(State(app): State<Arc<App>>, InPath(connector): InPath, visit: Visit) -> Answer {
    let limit = visit.query().number("limit", 1..=MAX_LIMIT)?;
    let format = visit.query().choice("format", &Format::NAMES)?.and_then(Format::parse);
    let mut query = filters(&visit, connector)?;
    if let Some(format) = format {
        return export::download(app, query, limit, format).await;
    }
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    query.limit = limit.saturating_add(1);
    let mut entries = app.store.audit_page(query).await?;
    let has_more = entries.len() > limit as usize;
    entries.truncate(limit as usize);
    let next_cursor = entries.last().filter(|_| has_more).map(|entry| cursor::encode(List::Audit, entry.seq));
    let entries = entries.iter().map(crate::core::audit::Entry::view).collect();
    Ok(Json(AuditPage { ok: true, entries, next_cursor }).into_response())
}

fn filters(visit: &Visit, connector: Connector) -> Answer<AuditQuery> {
    let query = visit.query();
    let sources = SOURCES.map(Source::as_str);
    let (since, until) = range(visit)?;
    Ok(AuditQuery {
        connector: (query.choice("scope", &SCOPES)? != Some("all")).then_some(connector),
        tenant: visit.tenant_filter()?.map(|tenant| tenant.to_string()),
        operation: query.text("operation").map(str::to_owned),
        source: query.choice("source", &sources)?.map(str::to_owned),
        since,
        until,
        before: cursor::decode(query, List::Audit)?,
        limit: 0,
    })
}

/// `since` and `until`, in this order in time too.
pub fn range(visit: &Visit) -> Answer<(Option<i64>, Option<i64>)> {
    let (since, until) = (visit.query().time("since")?, visit.query().time("until")?);
    if since.zip(until).is_some_and(|(since, until)| since > until) {
        return Err(malformed("until", "lies before since"));
    }
    Ok((since, until))
}
