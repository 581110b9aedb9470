//! The traps of the practice server, one by one, over loopback.

use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use tokio_util::sync::DropGuard;

use super::*;

/// 2026-06-01T12:00:00Z
const NOON: Millis = 1_780_315_200_000;

struct Practice {
    root: String,
    clock: Clock,
    http: reqwest::Client,
    _stop: DropGuard,
}

impl Practice {
    async fn new(options: SandboxOptions) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let root = format!("http://{}", listener.local_addr().unwrap());
        let (clock, stop) = (Clock::manual(NOON), CancellationToken::new());
        tokio::spawn(serve(listener, options, clock.clone(), stop.clone()));
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Practice { root, clock, http, _stop: stop.drop_guard() }
    }

    async fn unlimited() -> Self {
        Self::new(SandboxOptions { key_limit: 10_000, ip_limit: 10_000, ..SandboxOptions::default() }).await
    }

    async fn send(&self, key: &str, path: &str) -> Response {
        self.http.get(format!("{}{BASE_PATH}{path}", self.root)).bearer_auth(key).send().await.unwrap()
    }

    /// The status and the body of `path` as company `peak`.
    async fn get(&self, path: &str) -> (u16, Value) {
        let response = self.send("sandbox-peak", path).await;
        (response.status().as_u16(), response.json().await.unwrap())
    }

    async fn ids(&self, path: &str) -> Vec<String> {
        let (status, page) = self.get(path).await;
        assert_eq!(status, 200, "{path}: {page}");
        page["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
    }

    async fn dates(&self, path: &str, field: &str) -> Vec<String> {
        let (_, page) = self.get(path).await;
        page["items"].as_array().unwrap().iter().map(|item| item[field].as_str().unwrap().to_owned()).collect()
    }

    async fn fault(&self, fault: Value) -> u16 {
        let answer = self.http.post(format!("{}/sandbox/faults", self.root)).json(&fault).send().await;
        answer.unwrap().status().as_u16()
    }
}

#[tokio::test]
async fn a_key_opens_its_own_company_and_no_other_key_opens_any() {
    let practice = Practice::unlimited().await;
    let (status, problem) = (401, practice.send("live-key", "/jobs").await);
    assert_eq!(problem.status().as_u16(), status);
    let problem: Value = problem.json().await.unwrap();
    for field in ["type", "title", "status", "detail", "traceId"] {
        assert!(!problem[field].is_null(), "{field}: {problem}");
    }
    for key in ["sandbox-", "sandbox-Peak", "sandbox-..", "peak", ""] {
        assert_eq!(practice.send(key, "/diagnostics/ping").await.status(), StatusCode::UNAUTHORIZED, "{key}");
    }
    let bare = practice.http.get(format!("{}{BASE_PATH}/jobs", practice.root)).send().await.unwrap();
    assert_eq!(bare.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(practice.get("/diagnostics/ping").await.0, 200);
    let other: Value = practice.send("sandbox-summit", "/jobs").await.json().await.unwrap();
    assert_ne!(other["items"], practice.get("/jobs").await.1["items"]);
    assert_eq!(practice.get("/nothing").await.0, 404);
}

#[tokio::test]
async fn paging_is_by_record_and_has_the_vendors_traps() {
    let practice = Practice::unlimited().await;
    let (_, page) = practice.get("/jobs?pageSize=25&recordStartIndex=50").await;
    assert_eq!((&page["count"], &page["pageSize"], &page["pageStartIndex"]), (&json!(120), &json!(25), &json!(50)));
    assert_eq!(page["items"].as_array().unwrap().len(), 25);

    let first = practice.ids("/jobs?pageSize=10").await;
    assert_eq!(practice.ids("/jobs?pageSize=10&pageNumber=3").await, first, "pageNumber is ignored");
    assert_eq!(practice.ids("/jobs?pageSize=10&pageStartIndex=10").await, first, "so is the other lists' offset");
    assert_eq!(practice.ids("/jobs?pageSize=10&recordStartIndex=1").await[..9], first[1..]);
    let contacts = practice.ids("/contacts?pageSize=10").await;
    assert_eq!(practice.ids("/contacts?pageSize=10&pageStartIndex=1").await[..9], contacts[1..], "records, not pages");
    assert_eq!(practice.ids("/contacts?pageSize=10&recordStartIndex=1").await, contacts);
    assert_eq!(practice.ids("/users?recordStartIndex=6").await.len(), 2);
    let estimates = practice.ids("/estimates?pageSize=50").await;
    assert_eq!(practice.ids("/estimates?pageSize=49&pageStartIndex=1").await, estimates[1..]);
    assert_eq!(practice.ids("/estimates?pageSize=50&pageNumber=2&recordStartIndex=3").await, estimates);

    for (path, status) in [
        ("/jobs?pageSize=26", 400),
        ("/jobs?pageSize=0", 400),
        ("/jobs?pageSize=many", 400),
        ("/contacts?pageSize=50", 200),
        ("/contacts?pageSize=51", 400),
        ("/users?pageSize=51", 400),
        ("/jobs?recordStartIndex=120", 416),
        ("/jobs?recordStartIndex=-1", 400),
        ("/contacts?pageStartIndex=79", 200),
        ("/contacts?pageStartIndex=80", 416),
        ("/users?recordStartIndex=8", 416),
        ("/estimates?pageSize=50", 200),
        ("/estimates?pageSize=51", 400),
        ("/estimates?pageStartIndex=500", 416),
    ] {
        assert_eq!(practice.get(path).await.0, status, "{path}");
    }
}

#[tokio::test]
async fn job_filters_want_both_dates_and_whole_days() {
    let practice = Practice::unlimited().await;
    for (query, status) in [
        ("startDate=2026-05-31", 400),
        ("endDate=2026-05-31", 400),
        ("startDate=2026-05-31T00:00:00Z&endDate=2026-06-01", 400),
        ("startDate=2026-6-1&endDate=2026-06-02", 400),
        ("startDate=2026-06-02&endDate=2026-06-01", 400),
        ("startDate=2026-05-31&endDate=2026-06-01&dateFilterType=Sometime", 400),
        ("sortBy=Name", 400),
        ("sortOrder=up", 400),
        ("startDate=2026-05-31&endDate=2026-06-01&dateFilterType=ModifiedDate", 200),
    ] {
        assert_eq!(practice.get(&format!("/jobs?{query}")).await.0, status, "{query}");
    }
    let today = "/jobs?pageSize=25&startDate=2026-06-01&endDate=2026-06-01";
    let modified = practice.dates(&format!("{today}&dateFilterType=ModifiedDate"), "modifiedDate").await;
    assert_eq!(modified.len(), 20, "the jobs that are worked on");
    assert!(modified.iter().all(|date| date.starts_with("2026-06-01")));
    assert!(practice.dates(today, "createdDate").await.is_empty(), "created is what is filtered by default");
    let (_, page) = practice.get(&format!("{today}&dateFilterType=ModifiedDate")).await;
    assert_eq!(page["count"], 120, "the count knows no filter");

    let sorted = practice.dates("/jobs?pageSize=25&sortBy=ModifiedDate&sortOrder=Ascending", "modifiedDate").await;
    assert!(sorted.is_sorted());
    let newest = practice.dates("/jobs?pageSize=25", "createdDate").await;
    assert!(newest.iter().rev().is_sorted(), "newest first unless asked otherwise");
}

#[tokio::test]
async fn nobodys_leads_are_only_listed_on_request() {
    let practice = Practice::unlimited().await;
    let leads = practice.ids("/jobs?pageSize=25&assignment=unassigned").await;
    assert!(!leads.is_empty());
    let mut assigned = Vec::new();
    for start in (0..120).step_by(25).filter(|start| start + leads.len() < 120) {
        assigned.extend(practice.ids(&format!("/jobs?pageSize=25&recordStartIndex={start}")).await);
    }
    assert_eq!(assigned.len() + leads.len(), 120);
    assert!(leads.iter().all(|lead| !assigned.contains(lead)));
    let (_, lead) = practice.get(&format!("/jobs/{}", leads[0])).await;
    assert_eq!((&lead["id"], &lead["isUnassigned"]), (&json!(leads[0]), &json!(true)));
    assert_eq!(practice.get("/jobs/none").await.0, 404);
}

#[tokio::test]
async fn a_jobs_milestones_end_with_the_one_it_is_in() {
    let practice = Practice::unlimited().await;
    let (_, page) = practice.get("/jobs?pageSize=25").await;
    for job in page["items"].as_array().unwrap() {
        let id = job["id"].as_str().unwrap();
        let (status, history) = practice.get(&format!("/jobs/{id}/milestone-history")).await;
        let last = history["items"].as_array().unwrap().last().unwrap().clone();
        assert_eq!((status, &last["name"], &last["date"]), (200, &job["currentMilestone"], &job["milestoneDate"]));
    }
    assert_eq!(practice.get("/jobs/none/milestone-history").await.0, 404);
}

#[tokio::test]
async fn subscribers_are_sent_what_they_asked_for() {
    let practice = Practice::unlimited().await;
    let (url, mut events) = consumer().await;
    let send = async |verb: reqwest::Method, path: &str, body: Value| {
        let request = practice.http.request(verb, format!("{}{path}", practice.root)).json(&body);
        let answer = request.bearer_auth("sandbox-peak").send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap_or_default())
    };
    let (post, put) = (reqwest::Method::POST, reqwest::Method::PUT);
    let subscribe = |url: &str, topic: &str| json!({"consumerUrl": url, "techContact": {}, "topicNames": [topic]});
    let subscriptions = format!("{WEBHOOKS_PATH}/subscriptions");
    for bad in [subscribe("http://example.com/x", "job_updated"), subscribe(&url, "job_gone"), json!({})] {
        assert_eq!(send(post.clone(), &subscriptions, bad).await.0, 400);
    }
    let (status, made) = send(post.clone(), &subscriptions, subscribe(&url, "contact_added")).await;
    let id = made["subscriptionId"].as_str().unwrap().to_owned();
    let own = format!("{subscriptions}/{id}");
    assert_eq!(status, 201);
    let event = json!({"company": "peak", "id": "j1", "times": 2});
    assert_eq!(send(post.clone(), "/sandbox/events", event.clone()).await.1["deliveries"], json!([]));
    assert_eq!(send(put.clone(), &own, json!({"topicNames": ["job_updated"], "consumerUrl": "x"})).await.0, 400);
    assert_eq!(send(put, &own, json!({"topicNames": ["job_updated"]})).await.0, 204);
    let (_, sent) = send(post.clone(), "/sandbox/events", event).await;
    assert_eq!(sent["deliveries"].as_array().unwrap().len(), 2, "{sent}");
    assert_eq!(sent["deliveries"][0]["status"], 202);
    let (first, copy) = (events.recv().await.unwrap(), events.recv().await.unwrap());
    assert_eq!(
        (&first, &first["event"]["job"]["id"], &first["topicName"]),
        (&copy, &json!("j1"), &json!("job_updated"))
    );
    assert_eq!((&first["eventId"], &first["subscriptionId"]), (&sent["eventId"], &json!(id)));
    assert_eq!(send(post, &format!("{own}/test-event"), json!({})).await.1["status"], 202);
    assert_eq!(events.recv().await.unwrap()["topicName"], "test_event");

    // Once it has looked at the company, what changes there is told without being asked for.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    practice.clock.advance(120_000);
    assert_eq!(events.recv().await.unwrap()["topicName"], "job_updated");
    assert_eq!(send(reqwest::Method::DELETE, &own, json!({})).await.0, 204);
    assert_eq!(send(reqwest::Method::GET, &own, json!({})).await.0, 404);
}

/// Somebody who takes events and answers 202.
async fn consumer() -> (String, tokio::sync::mpsc::UnboundedReceiver<Value>) {
    let (sender, events) = tokio::sync::mpsc::unbounded_channel();
    let take = move |axum::Json(event): axum::Json<Value>| {
        let _ = sender.send(event);
        std::future::ready(axum::http::StatusCode::ACCEPTED)
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/events", listener.local_addr().unwrap());
    let app = axum::Router::new().route("/events", axum::routing::post(take));
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, events)
}

#[tokio::test]
async fn the_lists_move_with_time_and_not_without() {
    let practice = Practice::unlimited().await;
    let path = "/jobs?pageSize=10";
    let before = practice.ids(path).await;
    assert_eq!(practice.ids(path).await, before);
    practice.clock.advance(600_000);
    let after = practice.ids(path).await;
    let shift = after.iter().position(|id| *id == before[0]);
    assert!(shift.is_some_and(|shift| shift > 0), "new jobs push the others down: {shift:?}");
}

#[tokio::test]
async fn too_many_requests_are_refused_in_plain_text() {
    let practice = Practice::new(SandboxOptions { key_limit: 3, ..SandboxOptions::default() }).await;
    for _ in 0..3 {
        assert_eq!(practice.send("sandbox-peak", "/users").await.status(), StatusCode::OK);
    }
    let refused = practice.send("sandbox-peak", "/users").await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    let header = |name: &str| refused.headers()[name].to_str().unwrap().to_owned();
    assert!(header("content-type").starts_with("text/plain"));
    assert_eq!((header("RateLimit-Limit"), header("RateLimit-Remaining")), ("3".to_owned(), "0".to_owned()));
    assert_eq!((header("RateLimit-Policy"), header("RateLimit-Reset")), ("3;w=1".to_owned(), "1".to_owned()));
    assert_eq!(header("Retry-After"), "1");
    assert_eq!(practice.send("sandbox-summit", "/users").await.status(), StatusCode::OK, "another key may");
}

#[tokio::test]
async fn an_address_that_goes_too_far_is_banned_whatever_its_key() {
    let options = SandboxOptions { ip_limit: 3, ban: Duration::from_millis(300), ..SandboxOptions::default() };
    let practice = Practice::new(options).await;
    for company in ["a", "b", "c"] {
        assert_eq!(practice.send(&format!("sandbox-{company}"), "/users").await.status(), StatusCode::OK);
    }
    assert_eq!(practice.send("sandbox-d", "/users").await.status(), StatusCode::TOO_MANY_REQUESTS);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(practice.send("sandbox-e", "/users").await.status(), StatusCode::TOO_MANY_REQUESTS);
    tokio::time::sleep(Duration::from_millis(950)).await;
    assert_eq!(practice.send("sandbox-e", "/users").await.status(), StatusCode::OK, "the ban is over");
}

#[tokio::test]
async fn faults_come_as_asked_and_can_be_taken_back() {
    let practice = Practice::unlimited().await;
    assert_eq!(practice.fault(json!({"kind": "status", "status": 200})).await, 400);
    assert_eq!(practice.fault(json!({"kind": "unheard_of"})).await, 400);
    assert_eq!(practice.fault(json!({"company": "peak", "kind": "status", "status": 503, "times": 2})).await, 201);
    assert_eq!(practice.send("sandbox-summit", "/jobs").await.status(), StatusCode::OK);
    assert_eq!(practice.get("/jobs").await.0, 503);
    let faults = format!("{}/sandbox/faults", practice.root);
    let listed: Value = practice.http.get(&faults).send().await.unwrap().json().await.unwrap();
    assert_eq!(listed["faults"][0]["times"], 1);
    let cleared: Value = practice.http.delete(&faults).send().await.unwrap().json().await.unwrap();
    assert_eq!(cleared["cleared"], 1);
    assert_eq!(practice.get("/jobs").await.0, 200);

    let first = practice.ids("/jobs?pageSize=10").await;
    practice.fault(json!({"kind": "repeat_page"})).await;
    assert_eq!(practice.ids("/jobs?pageSize=10&recordStartIndex=10").await, first);
    practice.fault(json!({"kind": "truncate"})).await;
    let cut = practice.send("sandbox-peak", "/jobs").await;
    assert_eq!(cut.status(), StatusCode::OK);
    assert!(cut.bytes().await.is_err());
    practice.fault(json!({"kind": "garbage"})).await;
    assert!(practice.send("sandbox-peak", "/jobs").await.json::<Value>().await.is_err());

    let counts: Value =
        practice.http.get(format!("{}/sandbox/requests", practice.root)).send().await.unwrap().json().await.unwrap();
    assert_eq!(counts["companies"]["peak"], json!({"requests": 6, "refused": 0, "faults": 4}));
    assert_eq!(counts["companies"]["summit"]["requests"], 1);
}

#[tokio::test]
async fn it_stops_when_told_even_while_a_client_hangs_on() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let root = format!("http://{}", listener.local_addr().unwrap());
    let stop = CancellationToken::new();
    let serving = tokio::spawn(serve(listener, SandboxOptions::default(), Clock::manual(NOON), stop.clone()));
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    http.post(format!("{root}/sandbox/faults")).json(&json!({"kind": "endless"})).send().await.unwrap();
    let endless = http.get(format!("{root}{BASE_PATH}/jobs")).bearer_auth("sandbox-peak").send().await.unwrap();
    stop.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(3), serving).await;
    assert!(ended.unwrap().unwrap().is_ok());
    drop(endless);
}
