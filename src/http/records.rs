//! Imported records over HTTP: pages, a download as JSON Lines, counts, deletion.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::IntoResponse as _;
use bytes::Bytes;
use futures_util::stream;
use serde_json::json;

use super::audit::time_schema;
use super::cursor;
use super::extract::{Target, for_target};
use super::problem::{Answer, Problem};
use super::query::{Query, malformed};
use super::table::Route;
use crate::app::views::{RecordView, RecordsDeleted, RecordsPage, RecordsSummary};
use crate::app::{App, AppError, RecordsWanted};
use crate::core::access::Role;
use crate::core::model::{BadResource, Resource, ScheduleId};

const RECORDS: &str = "/api/crm/import/{connector}/records";

const DEFAULT_LIMIT: u32 = 50;
const MAX_LIMIT: u32 = 1000;

pub fn routes() -> Vec<Route> {
    let operator = |route: Route| {
        let route = for_target(route.under("Records", "records").needs(Role::Operator));
        let schema = json!({"type": "string", "pattern": Resource::PATTERN, "example": "jobs"});
        route.query("resource", "Only records of this resource.", schema)
    };
    let filtered = |route: Route| {
        route
            .query("key", "Only records under this key.", json!({"type": "string"}))
            .query("changed_since", "Only records whose content changed at or after this time.", time_schema())
            .query(
                "payload",
                "With 0, without payloads.",
                json!({"type": "string", "enum": ["0", "1"], "default": "1"}),
            )
    };
    vec![
        filtered(operator(Route::get(RECORDS, list)))
            .says(
                "Read imported records",
                "A tenant's records in order of resource and key, as they were last imported; of a deleted schedule \
                 too. A page ends early when its payloads come to 4 MiB.",
            )
            .query(
                "limit",
                "Records on a page.",
                json!({"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT}),
            )
            .query("cursor", "The next_cursor of the page before.", json!({"type": "string"}))
            .answers::<RecordsPage>(200, "A page of records."),
        filtered(operator(Route::get("/api/crm/import/{connector}/records/export", export)))
            .says(
                "Download imported records",
                "One JSON object a line, in order of resource and key. Read page by page: what an import changes \
                 meanwhile may be in it or not.",
            )
            .answers_media(200, "application/x-ndjson", "The records, one a line."),
        operator(Route::get("/api/crm/import/{connector}/records/summary", summary))
            .says("Count imported records", "Per resource: how many, how large, what is newest.")
            .answers::<RecordsSummary>(200, "The counts."),
        operator(Route::delete(RECORDS, delete).mutation())
            .says(
                "Delete imported records",
                "Takes a tenant's records away, or those of one resource, together with the bookmarks that say up to \
                 where the source was read: the next import reads everything again. `dry_run=1` only counts. They are \
                 gone at once and for everybody; the space they took is given back within minutes.",
            )
            .query("dry_run", "With 1, only count.", json!({"type": "string", "enum": ["0", "1"], "default": "0"}))
            .answers::<RecordsDeleted>(200, "What was deleted, or would be.")
            .fails(507, "The disk is full; nothing was changed."),
    ]
}

fn resource(query: &Query) -> Answer<Option<Resource>> {
    let named = query.text("resource").map(str::parse).transpose();
    named.map_err(|bad: BadResource| malformed("resource", format!("names none: {bad}")))
}

fn wanted(query: &Query) -> Answer<RecordsWanted> {
    Ok(RecordsWanted {
        resource: resource(query)?,
        key: query.text("key").map(str::to_owned),
        changed_since: query.time("changed_since")?,
        with_payload: query.text("payload").is_none() || query.flag("payload")?,
    })
}

async fn list(State(app): State<Arc<App>>, target: Target) -> Answer<Json<RecordsPage>> {
    let query = target.visit.query();
    let limit = query.number("limit", 1..=MAX_LIMIT)?.unwrap_or(DEFAULT_LIMIT);
    let (records, next) = app.records(&target.id, wanted(query)?, cursor::decode_record(query)?, limit).await?;
    Ok(Json(RecordsPage { ok: true, records, next_cursor: next.as_ref().map(cursor::encode_record) }))
}

async fn summary(State(app): State<Arc<App>>, target: Target) -> Answer<Json<RecordsSummary>> {
    Ok(Json(app.records_summary(&target.id, resource(target.visit.query())?).await?))
}

async fn delete(State(app): State<Arc<App>>, target: Target) -> Answer<Json<RecordsDeleted>> {
    let query = target.visit.query();
    let (resource, dry_run) = (resource(query)?, query.flag("dry_run")?);
    Ok(Json(app.delete_records(&target.id, resource, dry_run, &target.visit.caller()?).await?))
}

/// How far a download has come.
struct Reader {
    app: Arc<App>,
    id: ScheduleId,
    wanted: RecordsWanted,
    /// The next page, once it was read; the first is before the answer begins.
    page: Option<Vec<RecordView>>,
    /// Where the page after it begins; `None` at the end.
    next: Option<(String, String)>,
}

impl Reader {
    async fn read(&mut self, after: Option<(String, String)>) -> Result<(), AppError> {
        let (page, next) = self.app.records(&self.id, self.wanted.clone(), after, MAX_LIMIT).await?;
        (self.page, self.next) = (Some(page), next);
        Ok(())
    }

    /// The next piece of the file; `None` when it is complete.
    async fn chunk(&mut self) -> std::io::Result<Option<Bytes>> {
        if self.page.is_none() {
            let Some(after) = self.next.take() else { return Ok(None) };
            self.read(Some(after)).await.map_err(|error| {
                tracing::error!(component = "http", %error, "a download of records is cut off: the store failed");
                std::io::Error::other("the store failed")
            })?;
        }
        let mut text = Vec::new();
        for record in self.page.take().unwrap_or_default() {
            serde_json::to_writer(&mut text, &record)?;
            text.push(b'\n');
        }
        Ok(Some(Bytes::from(text)))
    }
}

async fn export(State(app): State<Arc<App>>, target: Target) -> Answer {
    let wanted = wanted(target.visit.query())?;
    let id = target.id;
    let name = format!("attachment; filename=\"records-{}-{}.jsonl\"", id.connector, id.tenant);
    let mut reader = Reader { app, id, wanted, page: None, next: None };
    reader.read(None).await?;
    let chunks = stream::try_unfold(reader, |mut reader| async move {
        Ok::<_, std::io::Error>(reader.chunk().await?.map(|chunk| (chunk, reader)))
    });
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson")),
        (CONTENT_DISPOSITION, HeaderValue::from_str(&name).map_err(|_| Problem::internal())?),
    ];
    Ok((headers, Body::from_stream(chunks)).into_response())
}
