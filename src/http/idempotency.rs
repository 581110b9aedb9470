//! `Idempotency-Key`: the same request under the same key is carried out once, and answered the
//! same every time. Keys are the caller's own: another caller's equal key is another key. They are
//! exact within this process; several nodes on one store share answers, not requests under way.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CONTENT_TYPE, ETAG, LOCATION};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http_body_util::BodyExt as _;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::access::{Gate, source_param};
use super::extract::Visit;
use super::problem::{Answer, Problem};
use super::table::{Param, Place};
use crate::adapters::store::Remembered;
use crate::core::access::Identity;
use crate::core::model::Digest;

const KEY: &str = "idempotency-key";
const REPLAY: HeaderName = HeaderName::from_static("idempotent-replay");

/// The headers of an answer that are kept with it.
const KEPT: [HeaderName; 3] = [CONTENT_TYPE, ETAG, LOCATION];

/// The keys whose first request is still being carried out.
#[derive(Clone, Default)]
pub struct InFlight(Arc<Mutex<HashSet<String>>>);

impl InFlight {
    /// Takes the key, or answers `None` when someone else has it.
    fn enter(&self, key: &str) -> Option<Entered> {
        let new = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_owned());
        new.then(|| Entered { keys: self.clone(), key: key.to_owned() })
    }
}

/// Gives the key back when the request ends, however it ends.
struct Entered {
    keys: InFlight,
    key: String,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.keys.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

/// An answer as the store keeps it.
#[derive(Serialize, Deserialize)]
struct Kept {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

/// Carries the request out, or answers as before when its key has been answered.
pub async fn once(gate: Arc<Gate>, visit: Visit, request: Request, next: Next) -> Response {
    match attempt(&gate, &visit, request, next).await {
        Ok(response) => response,
        Err(problem) => problem.into_response(),
    }
}

async fn attempt(gate: &Gate, visit: &Visit, request: Request, next: Next) -> Answer {
    let Some(key) = key(visit)? else { return Ok(next.run(request).await) };
    let fingerprint = fingerprint(&request, visit);
    let Some(_entered) = gate.in_flight.enter(&key) else {
        let detail = "A request with this Idempotency-Key is still being carried out; ask again shortly";
        return Err(Problem::new(StatusCode::CONFLICT, "key-in-flight", "The request is under way", detail));
    };
    if let Some(before) = gate.app.store.answer(key.clone(), gate.app.clock.now()).await? {
        return if before.request == fingerprint { replay(&before) } else { Err(reused()) };
    }
    let response = next.run(request).await;
    // What failed changed nothing, so that a retry may succeed.
    if !response.status().is_success() {
        return Ok(response);
    }
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.map_err(|_| Problem::internal())?.to_bytes();
    let kept = Kept {
        status: parts.status.as_u16(),
        headers: KEPT
            .iter()
            .filter_map(|name| Some((name.to_string(), parts.headers.get(name)?.to_str().ok()?.to_owned())))
            .collect(),
        body: String::from_utf8_lossy(&bytes).into_owned(),
    };
    if let Ok(answer) = serde_json::to_string(&kept) {
        let remembered = Remembered { request: fingerprint, answer };
        if let Err(error) = gate.app.store.remember_answer(key, remembered, gate.app.clock.now()).await {
            // The change is made and durable; only a retry would now be carried out again.
            tracing::error!(component = "http", %error, "could not keep the answer to an Idempotency-Key");
        }
    }
    Ok(Response::from_parts(parts, Body::from(bytes)))
}

/// The key under which the store keeps the answer.
fn key(visit: &Visit) -> Answer<Option<String>> {
    let mut values = visit.0.headers.get_all(KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    let is_good = (1..=255).contains(&text.len()) && text.bytes().all(|b| (0x20..0x7f).contains(&b));
    if !is_good || values.next().is_some() {
        let detail = "The header Idempotency-Key takes one value of 1 to 255 printable characters";
        return Err(Problem::bad_request("idempotency-key", detail));
    }
    Ok(Some(scoped(visit.identity()?, text)))
}

/// Whoever may do less, or acts under another name, has keys of their own: a replay must not show
/// an answer that the caller could not have had.
fn scoped(identity: &Identity, key: &str) -> String {
    let tenant = identity.tenant.as_ref().map_or("", |tenant| tenant.as_str());
    let parts = [identity.actor.as_str(), identity.role.as_str(), tenant, key];
    Digest::of(parts.join("\n").as_bytes()).to_hex()
}

/// What must be equal for two requests to be the same: method, path, tenant and body.
fn fingerprint(request: &Request, visit: &Visit) -> Digest {
    let tenant = visit.0.headers.get("x-tenant").map_or(&b""[..], HeaderValue::as_bytes);
    let parts = [request.method().as_str().as_bytes(), request.uri().path().as_bytes(), tenant, &visit.0.body];
    let mut text = Vec::new();
    for part in parts {
        text.extend_from_slice(&part.len().to_le_bytes());
        text.extend_from_slice(part);
    }
    Digest::of(&text)
}

fn replay(before: &Remembered) -> Answer {
    let kept: Kept = serde_json::from_str(&before.answer).map_err(|_| Problem::internal())?;
    let status = StatusCode::from_u16(kept.status).map_err(|_| Problem::internal())?;
    let mut response = (status, kept.body).into_response();
    response.headers_mut().remove(CONTENT_TYPE);
    for (name, value) in kept.headers {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
            response.headers_mut().insert(name, value);
        }
    }
    response.headers_mut().insert(REPLAY, HeaderValue::from_static("true"));
    Ok(response)
}

fn reused() -> Problem {
    Problem::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "key-reused",
        "The key belongs to another request",
        "This Idempotency-Key was used for another request; use a new key for a new request",
    )
}

/// Documents the headers that every mutation takes.
pub fn params() -> Vec<Param> {
    let key = Param {
        name: "Idempotency-Key",
        place: Place::Header,
        about: "Repeats of a request under the same key are carried out once and answered alike, with \
                Idempotent-Replay: true. The same key with another request is 422, one still under way 409. \
                Answers are kept for a day; failures are not kept.",
        required: false,
        schema: json!({"type": "string", "minLength": 1, "maxLength": 255}),
    };
    vec![key, source_param()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_taken_once_at_a_time() {
        let keys = InFlight::default();
        let first = keys.enter("a");
        assert!(first.is_some());
        assert!(keys.enter("a").is_none());
        assert!(keys.enter("b").is_some());
        drop(first);
        assert!(keys.enter("a").is_some());
    }

    #[test]
    fn keys_are_the_callers_own() {
        use crate::core::access::Role;
        let jon = Identity { role: Role::Admin, actor: "jon".into(), tenant: None };
        let key = scoped(&jon, "k");
        assert_eq!(key, scoped(&jon, "k"));
        assert_ne!(key, scoped(&jon, "l"));
        assert_ne!(key, scoped(&Identity { actor: "eve".into(), ..jon.clone() }, "k"));
        assert_ne!(key, scoped(&Identity { role: Role::Operator, ..jon.clone() }, "k"));
        assert_ne!(key, scoped(&Identity { tenant: "acme".parse().ok(), ..jon }, "k"));
    }

    #[tokio::test]
    async fn a_replay_is_the_answer_as_it_was() {
        let kept = Kept {
            status: 202,
            headers: vec![("content-type".into(), "application/json".into()), ("etag".into(), "\"x\"".into())],
            body: "{\"ok\":true}".into(),
        };
        let answer = serde_json::to_string(&kept).unwrap();
        let response = replay(&Remembered { request: Digest::of(b""), answer }).unwrap();
        assert_eq!(response.status(), 202);
        assert_eq!(response.headers()["idempotent-replay"], "true");
        assert_eq!(response.headers()[ETAG], "\"x\"");
        assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "{\"ok\":true}");
    }
}
