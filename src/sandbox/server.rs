//! The practice server's routes: who is asking, may they yet, what goes wrong, and the answer.
//! Lists and their traps are in `lists`.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, Extension, Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Json, Router};
use futures_util::stream;
use http_body_util::BodyExt;
use serde::Serialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::faults::{Fault, FaultKind, Faults};
use super::limits::{Limits, TooMany};
use super::lists::{self, Parameters};
use super::webhooks::{self, Webhooks};
use super::world::World;
use super::{BASE_PATH, KEY_PREFIX, SandboxOptions, WEBHOOKS_PATH};
use crate::adapters::clock::Clock;
use crate::core::model::{Millis, Tenant};

/// Companies beyond this many are counted together, so that made-up keys cannot fill the memory.
const COUNTED_COMPANIES: usize = 100_000;
/// Between the first half of a body and breaking off, so that the first half really goes out.
const TRUNCATE_PAUSE: Duration = Duration::from_millis(20);

/// How often subscribers are told what changed.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// What every request shares.
struct Sandbox {
    options: SandboxOptions,
    since: Millis,
    clock: Clock,
    shutdown: CancellationToken,
    limits: Limits,
    faults: Faults,
    webhooks: Webhooks,
    counts: Mutex<Counts>,
    traces: AtomicU64,
}

/// What `GET /sandbox/requests` answers.
#[derive(Clone, Default, Serialize)]
struct Counts {
    companies: BTreeMap<String, CompanyCounts>,
    /// Requests without a key that opens a company.
    unauthorized: u64,
    /// Requests from an address over its limit or banned.
    refused_addresses: u64,
}

#[derive(Clone, Default, Serialize)]
struct CompanyCounts {
    requests: u64,
    /// Of these, how many were over the key's limit.
    refused: u64,
    /// Of these, how many met a fault.
    faults: u64,
}

/// The company that the request's key opens.
#[derive(Clone)]
struct Company(String);

/// A fault that the handler has to act out.
#[derive(Clone, Copy)]
struct Twist(FaultKind);

pub(super) fn router(options: SandboxOptions, clock: Clock, shutdown: CancellationToken) -> Router {
    let sandbox = Arc::new(Sandbox {
        since: options.since.unwrap_or_else(|| clock.now()),
        limits: Limits::new(options.key_limit, options.ip_limit, options.ban),
        options,
        clock,
        shutdown,
        faults: Faults::default(),
        webhooks: Webhooks::default(),
        counts: Mutex::default(),
        traces: AtomicU64::new(1),
    });
    let api = Router::new()
        .route("/jobs", pages("recordStartIndex", lists::jobs))
        .route("/jobs/{id}", get(job))
        .route("/contacts", pages("pageStartIndex", lists::contacts))
        .route("/contacts/{id}", get(contact))
        .route("/jobs/{id}/milestone-history", get(milestone_history))
        .route("/estimates", pages("pageStartIndex", lists::estimates))
        .route("/users", pages("recordStartIndex", lists::users))
        .route("/diagnostics/ping", get(|| async { Json(json!({"status": "ok"})) }))
        .fallback(|State(sandbox): State<Arc<Sandbox>>| async move {
            sandbox.problem(StatusCode::NOT_FOUND, "There is nothing at this path.")
        })
        .layer(from_fn_with_state(sandbox.clone(), guard));
    let events = Router::new()
        .route("/topics", get(topics))
        .route("/subscriptions", post(subscribe))
        .route("/subscriptions/{id}", get(subscription).put(set_topics).delete(unsubscribe))
        .route("/subscriptions/{id}/test-event", post(test_event))
        .layer(from_fn_with_state(sandbox.clone(), guard));
    tokio::spawn(tell_changes(sandbox.clone()));
    Router::new()
        .nest(BASE_PATH, api)
        .nest(WEBHOOKS_PATH, events)
        .route("/sandbox/events", post(send_event))
        .route("/sandbox/faults", get(list_faults).post(add_fault).delete(clear_faults))
        .route("/sandbox/requests", get(requests))
        .with_state(sandbox)
}

/// Limits, key, faults, in the order in which the vendor's gateway meets them.
async fn guard(
    State(sandbox): State<Arc<Sandbox>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    mut request: Request,
    next: Next,
) -> Response {
    let now = Instant::now();
    if let Err(too_many) = sandbox.limits.admit_address(peer.ip(), now) {
        sandbox.count(|counts| counts.refused_addresses += 1);
        return refusal(too_many);
    }
    let Some(company) = company(request.headers()) else {
        sandbox.count(|counts| counts.unauthorized += 1);
        return sandbox.problem(StatusCode::UNAUTHORIZED, "The API key is missing or not valid.");
    };
    let admitted = sandbox.limits.admit_key(&company, now);
    sandbox.count_company(&company, |counts| {
        counts.requests += 1;
        counts.refused += u64::from(admitted.is_err());
    });
    if let Err(too_many) = admitted {
        return refusal(too_many);
    }
    // Inside the nest the path has lost its base.
    let resource = request.uri().path().split('/').nth(1).unwrap_or_default().to_owned();
    let fault = sandbox.faults.take(&company, &resource);
    request.extensions_mut().insert(Company(company.clone()));
    let Some(fault) = fault else { return next.run(request).await };
    sandbox.count_company(&company, |counts| counts.faults += 1);
    sandbox.act_out(fault, request, next).await
}

/// The company a bearer key opens; `None` for any other key.
fn company(headers: &HeaderMap) -> Option<String> {
    let (scheme, key) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let name = key.trim().strip_prefix(KEY_PREFIX)?;
    let known = scheme.eq_ignore_ascii_case("bearer") && name.parse::<Tenant>().is_ok();
    known.then(|| name.to_owned())
}

/// 429 as the vendor sends it: plain text, not a problem.
fn refusal(too_many: TooMany) -> Response {
    let headers = [
        ("RateLimit-Limit", too_many.limit.to_string()),
        ("RateLimit-Remaining", "0".to_owned()),
        ("RateLimit-Reset", too_many.retry_after_sec.to_string()),
        ("RateLimit-Policy", format!("{};w=1", too_many.limit)),
        ("Retry-After", too_many.retry_after_sec.to_string()),
    ];
    (StatusCode::TOO_MANY_REQUESTS, headers, "API calls quota exceeded.").into_response()
}

impl Sandbox {
    fn problem(&self, status: StatusCode, detail: &str) -> Response {
        let trace = self.traces.fetch_add(1, Ordering::Relaxed);
        let body = json!({
            "type": format!("https://httpstatuses.io/{}", status.as_u16()),
            "title": status.canonical_reason().unwrap_or("Error"),
            "status": status.as_u16(),
            "detail": detail,
            "traceId": format!("00-{trace:032x}-01"),
        });
        (status, [(header::CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response()
    }

    async fn act_out(&self, fault: Fault, mut request: Request, next: Next) -> Response {
        match fault.kind {
            FaultKind::Status => {
                let status = StatusCode::from_u16(fault.status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
                self.problem(status, "A fault that was asked for.")
            }
            FaultKind::RateLimit => {
                refusal(TooMany { limit: self.options.key_limit, retry_after_sec: fault.delay_ms.div_ceil(1000) })
            }
            FaultKind::Garbage => {
                let page = "<!doctype html><title>Maintenance</title><p>We will be back soon.";
                ([(header::CONTENT_TYPE, "text/html")], page).into_response()
            }
            FaultKind::Slow => {
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_millis(fault.delay_ms)) => {}
                    () = self.shutdown.cancelled() => {}
                }
                next.run(request).await
            }
            FaultKind::Reset => broken(Vec::new(), 1),
            FaultKind::Truncate => {
                let (_, body) = next.run(request).await.into_parts();
                let whole = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
                broken(whole.get(..whole.len() / 2).unwrap_or_default().to_vec(), whole.len())
            }
            FaultKind::Endless => {
                let chunk = Bytes::from(vec![b' '; 65_536]);
                let forever = stream::repeat_with(move || Ok::<_, Infallible>(chunk.clone()));
                ([(header::CONTENT_TYPE, "application/json")], Body::from_stream(forever)).into_response()
            }
            FaultKind::RepeatPage | FaultKind::MissingId => {
                request.extensions_mut().insert(Twist(fault.kind));
                next.run(request).await
            }
        }
    }

    fn count(&self, note: impl FnOnce(&mut Counts)) {
        note(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn count_company(&self, company: &str, note: impl FnOnce(&mut CompanyCounts)) {
        self.count(|counts| {
            let room = counts.companies.len() < COUNTED_COMPANIES || counts.companies.contains_key(company);
            let name = if room { company } else { "(others)" };
            note(counts.companies.entry(name.to_owned()).or_default());
        });
    }

    fn no_subscription(&self) -> Response {
        self.problem(StatusCode::NOT_FOUND, "There is no subscription with this id.")
    }

    fn world(&self, company: &Company) -> (World, Millis) {
        (World::new(&self.options, &company.0, self.since), self.clock.now())
    }

    fn page(&self, list: Result<lists::Page, lists::Refused>, twist: Option<Extension<Twist>>) -> Response {
        let mut page = match list {
            Ok(page) => page,
            Err(refused) => return self.problem(refused.status, &refused.detail),
        };
        if let Some(Extension(Twist(FaultKind::MissingId))) = twist
            && let Some(Value::Object(first)) = page.items.first_mut()
        {
            first.remove("id");
        }
        Json(page).into_response()
    }
}

/// A 200 that promises `promised` bytes, sends `sent` and drops the connection.
fn broken(sent: Vec<u8>, promised: usize) -> Response {
    let first = (!sent.is_empty()).then(|| Ok(Bytes::from(sent)));
    let pause = if first.is_some() { TRUNCATE_PAUSE } else { Duration::ZERO };
    let body = stream::unfold((first, false), move |(first, failed)| async move {
        match first {
            Some(chunk) => Some((chunk, (None, false))),
            None if failed => None,
            None => {
                if !pause.is_zero() {
                    tokio::time::sleep(pause).await;
                }
                Some((Err(std::io::Error::other("a fault that was asked for")), (None, true)))
            }
        }
    });
    let headers =
        [(header::CONTENT_TYPE, "application/json".to_owned()), (header::CONTENT_LENGTH, promised.to_string())];
    (headers, Body::from_stream(body)).into_response()
}

/// The query, with a repeated page's offset taken out.
fn parameters(query: &BTreeMap<String, String>, offset: &str, twist: Option<&Extension<Twist>>) -> Parameters {
    let mut query = query.clone();
    if let Some(Extension(Twist(FaultKind::RepeatPage))) = twist {
        query.remove(offset);
    }
    Parameters::new(query, lists::OffsetName(offset.to_owned()))
}

/// Answers with a list's pages, whose offset is asked for by the name `offset`.
fn pages(offset: &'static str, list: List) -> MethodRouter<Arc<Sandbox>> {
    let answer = async move |State(sandbox): State<Arc<Sandbox>>,
                             Extension(company): Extension<Company>,
                             twist: Option<Extension<Twist>>,
                             Query(query): Query<BTreeMap<String, String>>| {
        let (world, now) = sandbox.world(&company);
        let page = list(&world, now, &parameters(&query, offset, twist.as_ref()));
        sandbox.page(page, twist)
    };
    get(answer)
}

type List = fn(&World, Millis, &Parameters) -> Result<lists::Page, lists::Refused>;

/// All of it at once: this list has no pages.
async fn milestone_history(
    State(sandbox): State<Arc<Sandbox>>,
    Extension(company): Extension<Company>,
    Path(id): Path<String>,
) -> Response {
    let (world, now) = sandbox.world(&company);
    match world.jobs(now).iter().find(|job| world.job_id(job) == id) {
        Some(job) => Json(json!({"items": world.milestone_history(job)})).into_response(),
        None => sandbox.problem(StatusCode::NOT_FOUND, "There is no job with this id."),
    }
}

async fn job(
    State(sandbox): State<Arc<Sandbox>>,
    Extension(company): Extension<Company>,
    Path(id): Path<String>,
) -> Response {
    let (world, now) = sandbox.world(&company);
    match world.jobs(now).iter().find(|job| world.job_id(job) == id) {
        Some(job) => Json(world.job_json(job)).into_response(),
        None => sandbox.problem(StatusCode::NOT_FOUND, "There is no job with this id."),
    }
}

async fn contact(
    State(sandbox): State<Arc<Sandbox>>,
    Extension(company): Extension<Company>,
    Path(id): Path<String>,
) -> Response {
    let (world, now) = sandbox.world(&company);
    match world.contacts(now).iter().find(|contact| world.contact_id(contact) == id) {
        Some(contact) => Json(world.contact_json(contact)).into_response(),
        None => sandbox.problem(StatusCode::NOT_FOUND, "There is no contact with this id."),
    }
}

async fn requests(State(sandbox): State<Arc<Sandbox>>) -> Response {
    Json(sandbox.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()).into_response()
}

async fn list_faults(State(sandbox): State<Arc<Sandbox>>) -> Response {
    Json(json!({"faults": sandbox.faults.list()})).into_response()
}

/// Reads the body by hand, so that a mistake is answered as a problem with its reason.
async fn add_fault(State(sandbox): State<Arc<Sandbox>>, body: Bytes) -> Response {
    let added = serde_json::from_slice::<Fault>(&body).map_err(|error| error.to_string());
    match added.and_then(|fault| sandbox.faults.add(fault.clone()).map(|()| fault)) {
        Ok(fault) => (StatusCode::CREATED, Json(fault)).into_response(),
        Err(reason) => sandbox.problem(StatusCode::BAD_REQUEST, &reason),
    }
}

async fn clear_faults(State(sandbox): State<Arc<Sandbox>>) -> Response {
    Json(json!({"cleared": sandbox.faults.clear()})).into_response()
}

/// Tells subscribers of changes until the server stops.
async fn tell_changes(sandbox: Arc<Sandbox>) {
    let mut every = tokio::time::interval(TELL_EVERY);
    loop {
        tokio::select! {
            () = sandbox.shutdown.cancelled() => return,
            _ = every.tick() => {}
        }
        sandbox.webhooks.tell_changes(&sandbox.options, sandbox.since, sandbox.clock.now()).await;
    }
}

async fn topics() -> Response {
    let items: Vec<Value> = webhooks::TOPICS.iter().map(|name| json!({"topicName": name})).collect();
    Json(json!({"items": items})).into_response()
}

async fn subscribe(
    State(sandbox): State<Arc<Sandbox>>,
    Extension(Company(company)): Extension<Company>,
    body: Bytes,
) -> Response {
    let subscription = serde_json::from_slice(&body).map_err(|error| error.to_string());
    match subscription.and_then(|subscription| sandbox.webhooks.subscribe(&company, subscription)) {
        Ok(id) => (StatusCode::CREATED, Json(json!({"subscriptionId": id}))).into_response(),
        Err(reason) => sandbox.problem(StatusCode::BAD_REQUEST, &reason),
    }
}

async fn subscription(
    State(sandbox): State<Arc<Sandbox>>,
    Extension(Company(company)): Extension<Company>,
    Path(id): Path<String>,
) -> Response {
    let found = sandbox.webhooks.get(&company, &id);
    found.map_or_else(|| sandbox.no_subscription(), |subscription| Json(subscription).into_response())
}

async fn set_topics(
    State(sandbox): State<Arc<Sandbox>>,
    Extension(Company(company)): Extension<Company>,
    Path(id): Path<String>,
    body: Bytes,
) -> Response {
    let topics = match serde_json::from_slice(&body) {
        Ok(topics) => topics,
        Err(error) => return sandbox.problem(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    match sandbox.webhooks.set_topics(&company, &id, topics) {
        Some(Ok(())) => StatusCode::NO_CONTENT.into_response(),
        Some(Err(reason)) => sandbox.problem(StatusCode::BAD_REQUEST, &reason),
        None => sandbox.no_subscription(),
    }
}

async fn unsubscribe(
    State(sandbox): State<Arc<Sandbox>>,
    Extension(Company(company)): Extension<Company>,
    Path(id): Path<String>,
) -> Response {
    let gone = sandbox.webhooks.unsubscribe(&company, &id);
    if gone { StatusCode::NO_CONTENT.into_response() } else { sandbox.no_subscription() }
}

async fn test_event(
    State(sandbox): State<Arc<Sandbox>>,
    Extension(Company(company)): Extension<Company>,
    Path(id): Path<String>,
) -> Response {
    let sent = sandbox.webhooks.send_test(&company, &id, sandbox.clock.now()).await;
    sent.map_or_else(|| sandbox.no_subscription(), |delivery| Json(delivery).into_response())
}

/// Sends an event now, whether or not anything changed.
async fn send_event(State(sandbox): State<Arc<Sandbox>>, body: Bytes) -> Response {
    let asked: webhooks::Asked = match serde_json::from_slice(&body) {
        Ok(asked) => asked,
        Err(error) => return sandbox.problem(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    let (world, now) = sandbox.world(&Company(asked.company.clone()));
    match sandbox.webhooks.send_asked(&world, now, asked).await {
        Ok(sent) => Json(sent).into_response(),
        Err(reason) => sandbox.problem(StatusCode::BAD_REQUEST, &reason),
    }
}
