//! The status list: one tenant, a page, or the whole fleet as a stream that holds one batch of
//! it in memory at a time.
//!
//! What fits one buffer is tagged with a weak ETag that leaves the countdown out. A larger whole
//! list goes out untagged, since its tag could only be known after its last byte; its pages have
//! tags of their own.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::mpsc;

use super::cursor::{self, List};
use super::extract::{InPath, Visit, split_tags, tenant_schema, with_connector};
use super::problem::{Answer, Problem};
use super::query::malformed;
use super::table::Route;
use crate::adapters::store::{StatusQuery, StatusRow, StoreError, StoreResult};
use crate::app::App;
use crate::app::views::ScheduleStatus;
use crate::core::model::{Connector, Digest, ScheduleId};

const MAX_PAGE: u32 = 10_000;
/// The most statuses that are put into one buffer and tagged.
const BUFFERED: usize = 4096;
/// What a status takes as JSON, about.
const STATUS_BYTES: usize = 640;

/// The status of schedules by tenant.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct StatusList {
    pub ok: bool,
    pub schedules: std::collections::BTreeMap<String, ScheduleStatus>,
    /// Only with `limit` or `cursor`: where the next page begins, null on the last one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next_cursor: Option<String>,
}

pub fn routes() -> Vec<Route> {
    let route = Route::get("/api/crm/import/{connector}/schedule/status", status)
        .under("Schedules", "scheduler")
        .says(
            "Show the status of schedules",
            "All schedules of the connector by tenant, one of them, or a page of them. One tenant, pages and lists of \
             up to 4096 schedules have a weak ETag that leaves the countdown out: If-None-Match answers 304 while \
             nothing but the countdown has changed. A longer whole list is streamed without a tag; use pages there.",
        )
        .query("tenant", "Only this tenant; an empty list when it has no schedule.", tenant_schema())
        .query("limit", "Schedules on a page.", json!({"type": "integer", "minimum": 1, "maximum": MAX_PAGE}))
        .query("cursor", "The next_cursor of the page before.", json!({"type": "string"}))
        .answers::<StatusList>(200, "The schedules by tenant.")
        .answers_media(304, "", "Nothing has changed since the tag in If-None-Match.");
    vec![with_connector(route)]
}

async fn status(State(app): State<Arc<App>>, InPath(connector): InPath, visit: Visit) -> Answer {
    let query = visit.query();
    let limit = query.number("limit", 1..=MAX_PAGE)?;
    let after = cursor::decode(query, List::Status)?;
    if let Some(tenant) = query.tenant("tenant")? {
        if limit.is_some() || after.is_some() {
            return Err(malformed("tenant", "asks for one schedule; it does not go with limit or cursor"));
        }
        let id = ScheduleId::new(connector, tenant);
        let found = app.status_of(&id).await?;
        let one: Vec<_> = found.map(|status| (id.tenant.to_string(), status)).into_iter().collect();
        return tagged(&visit.0.headers, &one, None);
    }
    if limit.is_none() && after.is_none() {
        return whole(app, connector, &visit.0.headers).await;
    }
    let limit = limit.unwrap_or(MAX_PAGE);
    let query = StatusQuery { connector, tenant: None, after: after.unwrap_or(0), limit: limit.saturating_add(1) };
    let mut rows = Vec::new();
    let mut batches = app.store.statuses(query);
    while let Some(batch) = batches.recv().await {
        rows.extend(batch?);
    }
    let has_more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    let last = rows.last().map(|row| row.row).filter(|_| has_more);
    let next = last.map(|row| cursor::encode(List::Status, row));
    tagged(&visit.0.headers, &app.statuses(connector, rows), Some(next))
}

/// An answer in one buffer with its weak tag, or 304. `next` is `None` outside of paging.
fn tagged(headers: &HeaderMap, statuses: &[(String, ScheduleStatus)], next: Option<Option<String>>) -> Answer {
    let tag = tag(statuses, next.as_ref())?;
    let quoted = HeaderValue::from_str(&format!("W/\"{tag}\"")).map_err(|_| Problem::internal())?;
    if none_match(headers, &tag) {
        return Ok((StatusCode::NOT_MODIFIED, [(ETAG, quoted)]).into_response());
    }
    let mut text = Vec::with_capacity(64 + statuses.len() * STATUS_BYTES);
    text.extend_from_slice(b"{\"ok\":true,\"schedules\":{");
    write_members(&mut text, statuses, true)?;
    text.push(b'}');
    if let Some(next) = next {
        text.extend_from_slice(b",\"next_cursor\":");
        serde_json::to_writer(&mut text, &next).map_err(|_| Problem::internal())?;
    }
    text.push(b'}');
    Ok(([(CONTENT_TYPE, HeaderValue::from_static("application/json")), (ETAG, quoted)], text).into_response())
}

/// A digest of what is shown, but for the countdown, which differs every second.
fn tag(statuses: &[(String, ScheduleStatus)], next: Option<&Option<String>>) -> Answer<String> {
    let mut text = serde_json::to_vec(&next).map_err(|_| Problem::internal())?;
    for (tenant, status) in statuses {
        let still = ScheduleStatus { next_run_in_sec: None, ..status.clone() };
        serde_json::to_writer(&mut text, &(tenant, still)).map_err(|_| Problem::internal())?;
    }
    let mut hex = Digest::of(&text).to_hex();
    hex.truncate(32);
    Ok(hex)
}

/// Whether `If-None-Match` names the tag; compared weakly.
fn none_match(headers: &HeaderMap, tag: &str) -> bool {
    headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok()).any(|text| {
        text.trim() == "*" || split_tags(text).is_some_and(|tags| tags.iter().any(|given| given.value == tag))
    })
}

/// `"tenant":{…}` for each; `first` says that nothing stands before them.
fn write_members(text: &mut Vec<u8>, statuses: &[(String, ScheduleStatus)], first: bool) -> Answer<()> {
    for (at, (tenant, status)) in statuses.iter().enumerate() {
        if !(first && at == 0) {
            text.push(b',');
        }
        serde_json::to_writer(&mut *text, tenant).map_err(|_| Problem::internal())?;
        text.push(b':');
        serde_json::to_writer(&mut *text, status).map_err(|_| Problem::internal())?;
    }
    Ok(())
}

type Batches = mpsc::Receiver<StoreResult<Vec<StatusRow>>>;

/// The whole fleet. Its beginning is read first, so that a store that fails answers as an error.
async fn whole(app: Arc<App>, connector: Connector, headers: &HeaderMap) -> Answer {
    let query = StatusQuery { connector, tenant: None, after: 0, limit: u32::MAX };
    let mut batches = app.store.statuses(query);
    let mut begun = Vec::new();
    while begun.len() <= BUFFERED {
        match batches.recv().await {
            Some(batch) => begun.extend(batch?),
            None => return tagged(headers, &app.statuses(connector, begun), None),
        }
    }
    Ok(streamed(app, connector, begun, batches))
}

/// A batch at a time: read, joined with memory's half, written, sent.
fn streamed(app: Arc<App>, connector: Connector, begun: Vec<StatusRow>, batches: Batches) -> Response {
    let first = std::iter::once(Ok(begun));
    let rest = stream::unfold(batches, |mut batches| async move { Some((batches.recv().await?, batches)) });
    let mut is_first = true;
    let members = stream::iter(first).chain(rest).map(move |batch: StoreResult<Vec<StatusRow>>| {
        let statuses = app.statuses(connector, batch.map_err(cut_off)?);
        let mut text = Vec::with_capacity(statuses.len() * STATUS_BYTES);
        if is_first {
            text.extend_from_slice(b"{\"ok\":true,\"schedules\":{");
        }
        write_members(&mut text, &statuses, is_first).map_err(|_| std::io::Error::other("a status is no JSON"))?;
        is_first = false;
        Ok::<_, std::io::Error>(Bytes::from(text))
    });
    let end = stream::iter([Ok(Bytes::from_static(b"}}"))]);
    let body = Body::from_stream(members.chain(end));
    ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
}

/// The answer has begun: all that is left is to break it off, so that nobody takes it for whole.
fn cut_off(error: StoreError) -> std::io::Error {
    tracing::error!(component = "http", %error, "the status list is cut off: the store failed");
    std::io::Error::other("the store failed")
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;

    fn status(countdown: u64) -> ScheduleStatus {
        ScheduleStatus {
            interval_sec: Some(300),
            cron: None,
            timezone: None,
            paused: false,
            pause_reason: None,
            last_run: None,
            last_run_iso: None,
            next_run_iso: Some("2026-11-21T03:00:00.000Z".into()),
            next_run_in_sec: Some(countdown),
            running: false,
            last_status: None,
            consecutive_failures: 0,
            file: "schedules/acculynx/a.yaml".into(),
            etag: "ab".into(),
            sync: "synced".into(),
            sync_reason: None,
        }
    }

    async fn text(response: Response) -> serde_json::Value {
        serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
    }

    #[tokio::test]
    async fn a_list_is_one_object_of_tenants() {
        let none = HeaderMap::new();
        let two = [("a".to_owned(), status(1)), ("b".to_owned(), status(2))];
        let whole = text(tagged(&none, &two, None).unwrap()).await;
        assert_eq!(whole["schedules"]["b"]["next_run_in_sec"], 2);
        assert!(whole.get("next_cursor").is_none());
        let last_page = text(tagged(&none, &two, Some(None)).unwrap()).await;
        assert_eq!(last_page["next_cursor"], serde_json::Value::Null);
        let page = text(tagged(&none, &two, Some(Some("x".into()))).unwrap()).await;
        assert_eq!(page["next_cursor"], "x");
        assert_eq!(text(tagged(&none, &[], None).unwrap()).await, json!({"ok": true, "schedules": {}}));
    }

    #[test]
    fn the_tag_leaves_the_countdown_out_and_nothing_else() {
        let of = |status: ScheduleStatus| tag(&[("a".into(), status)], None).unwrap();
        assert_eq!(of(status(1)), of(status(299)));
        assert_ne!(of(status(1)), of(ScheduleStatus { paused: true, ..status(1) }));
        assert_ne!(of(status(1)), of(ScheduleStatus { running: true, ..status(1) }));
        let mut headers = HeaderMap::new();
        headers.insert(IF_NONE_MATCH, format!("\"x\", W/\"{}\"", of(status(7))).parse().unwrap());
        let again = tagged(&headers, &[("a".into(), status(3))], None).unwrap();
        assert_eq!(again.status(), 304);
        assert!(again.headers().contains_key(ETAG));
    }
}
