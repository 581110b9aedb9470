//! The status list: one tenant, a page, or the whole fleet as a stream that holds one batch of
//! it in memory at a time.
//!
//! What fits one buffer is tagged with a weak ETag that leaves the countdown out. A larger whole
//! list goes out untagged, since its tag could only be known after its last byte; its pages have
//! tags of their own.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::mpsc;

use super::cursor::{self, List};
use super::extract::{InPath, Visit, split_tags, tenant_schema, with_connector};
use super::problem::{Answer, Problem};
use super::query::malformed;
use super::table::Route;
use crate::adapters::store::{StatusQuery, StatusRow, StoreResult};
use crate::app::App;
use crate::app::views::ScheduleStatus;
use crate::core::model::{Connector, Digest, ScheduleId};

const MAX_PAGE: u32 = 10_000;
/// The most statuses that are put into one buffer and tagged.
const BUFFERED: usize = 4096;
/// Pieces of a stream that wait for a caller, and for how long before it is given up.
const PIECES: usize = 4;
const STALL: Duration = Duration::from_secs(30);
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
        let still = ScheduleStatus { next_run_in_sec: None, overdue_sec: None, ..status.clone() };
        serde_json::to_writer(&mut text, &(tenant, still)).map_err(|_| Problem::internal())?;
    }
    let mut hex = Digest::of(&text).to_hex();
    hex.truncate(32);
    Ok(hex)
}

/// Whether `If-None-Match` names the tag; compared weakly.
pub fn none_match(headers: &HeaderMap, tag: &str) -> bool {
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

/// The list as a body, written by a task of its own while the pieces before are sent.
fn streamed(app: Arc<App>, connector: Connector, begun: Vec<StatusRow>, batches: Batches) -> Response {
    let (pieces, taken) = mpsc::channel(PIECES);
    tokio::spawn(async move {
        if let Err(why) = write_all(&app, connector, begun, batches, &pieces).await {
            tracing::warn!(component = "http", why, "the status list is cut off");
        }
    });
    let body = stream::unfold(Some(taken), |taken| async move {
        let mut taken = taken?;
        match taken.recv().await {
            Some(Piece::Members(text)) => Some((Ok(text), Some(taken))),
            Some(Piece::End) => Some((Ok(Bytes::from_static(b"}}")), None)),
            // All that is left is to break the answer off, so that nobody takes it for whole.
            None => Some((Err(std::io::Error::other("the list is cut off")), None)),
        }
    });
    ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], Body::from_stream(body)).into_response()
}

/// A piece of a streamed list.
enum Piece {
    Members(Bytes),
    End,
}

/// A batch at a time: read, joined with memory's half, written, handed over. The error says what
/// cut the list off.
async fn write_all(
    app: &App,
    connector: Connector,
    begun: Vec<StatusRow>,
    mut batches: Batches,
    pieces: &mpsc::Sender<Piece>,
) -> Result<(), &'static str> {
    let mut batch = begun;
    let mut is_first = true;
    loop {
        let statuses = app.statuses(connector, batch);
        let mut text = Vec::with_capacity(64 + statuses.len() * STATUS_BYTES);
        if is_first {
            text.extend_from_slice(b"{\"ok\":true,\"schedules\":{");
        }
        write_members(&mut text, &statuses, is_first).map_err(|_| "a status could not be written")?;
        is_first = false;
        hand_over(pieces, Piece::Members(text.into())).await?;
        batch = match batches.recv().await {
            Some(Ok(next)) => next,
            Some(Err(error)) => {
                tracing::error!(component = "http", %error, "the store failed within a status list");
                return Err("the store failed");
            }
            None => break,
        };
    }
    hand_over(pieces, Piece::End).await
}

/// A caller that stops reading must not hold the store's reading open, which would keep its log
/// from being folded back.
async fn hand_over(pieces: &mpsc::Sender<Piece>, piece: Piece) -> Result<(), &'static str> {
    match tokio::time::timeout(STALL, pieces.send(piece)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err("the caller hung up"),
        Err(_) => Err("the caller stopped reading"),
    }
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
            pause_until: None,
            last_run: None,
            last_run_iso: None,
            next_run_iso: Some("2026-11-21T03:00:00.000Z".into()),
            next_run_in_sec: Some(countdown),
            running: false,
            short: false,
            overdue: false,
            overdue_sec: None,
            queued: false,
            waiting_for: None,
            waiting_until_iso: None,
            last_late_ms: None,
            missed: 0,
            missed_by: std::collections::BTreeMap::new(),
            last_status: None,
            consecutive_failures: 0,
            file: "schedules/acculynx/a.yaml".into(),
            etag: "ab".into(),
            sync: "synced".into(),
            sync_reason: None,
            window: None,
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
