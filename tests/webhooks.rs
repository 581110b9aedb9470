//! What AccuLynx tells by itself: who may tell, what is kept, and that only what was told of is read.

mod common;

use command_center::adapters::clock::Clock;
use command_center::sandbox::{self, BASE_PATH, SandboxOptions, WEBHOOKS_PATH};
use common::{Options, Server, at, eventually, hold, text};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

const TOKEN: &str = "Zm9ydHktdHdvLWNoYXJhY3RlcnMtb2YtcmFuZG9t";
const FILE: &str = "schedules/acculynx/peak.yaml";

/// A server whose one schedule reads the practice AccuLynx, and never by itself while a test runs.
struct Scene {
    server: Server,
    practice: String,
    _stop: DropGuard,
}

impl Scene {
    async fn new() -> Scene {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let practice = format!("http://{}", listener.local_addr().expect("its address"));
        let stop = CancellationToken::new();
        tokio::spawn(sandbox::serve(listener, SandboxOptions::default(), Clock::System, stop.clone()));
        let server = options(&format!("{practice}{BASE_PATH}")).start().await;
        Scene { server, practice, _stop: stop.drop_guard() }
    }

    async fn practice(&self, method: reqwest::Method, path: &str, body: Value) -> Value {
        let request = self.server.client().request(method, format!("{}{path}", self.practice));
        let answer = request.bearer_auth("sandbox-peak").json(&body).send().await.expect("an answer");
        answer.json().await.unwrap_or_default()
    }

    /// Ids of some jobs there are.
    async fn jobs(&self) -> Vec<String> {
        let page = self.practice(reqwest::Method::GET, &format!("{BASE_PATH}/jobs"), Value::Null).await;
        let items = page["items"].as_array().expect("items").iter();
        items.map(|item| text(item, "/id").to_owned()).collect()
    }

    /// How many requests the practice server has had from its one company.
    async fn asked(&self) -> u64 {
        let counts = self.practice(reqwest::Method::GET, "/sandbox/requests", Value::Null).await;
        at(&counts, "/companies/peak/requests").as_u64().unwrap_or(0)
    }

    /// The keys of all records.
    fn records(&self) -> Vec<String> {
        column(&self.server, "SELECT key FROM records ORDER BY key")
    }

    async fn until_records(&self, mut wanted: Vec<String>) {
        wanted.sort();
        eventually("the records told of", async || {
            let records = self.records();
            hold(records == wanted, &format!("{records:?}, not {wanted:?}"))
        })
        .await;
    }
}

fn options(base_url: &str) -> Options {
    let file = format!(
        "interval_sec: 31622400\nconnection:\n  base_url: {base_url}\n  api_key: {{ env: CC_SECRET_PEAK }}\n  \
         webhook_token: {{ env: CC_SECRET_HOOK }}\n"
    );
    Options::default().file(FILE, &file).env("CC_SECRET_PEAK", "sandbox-peak").env("CC_SECRET_HOOK", TOKEN)
}

fn hook(tenant: &str, token: &str) -> String {
    format!("/webhooks/acculynx/{tenant}/{token}")
}

fn updated(event: &str, job: &str) -> Value {
    json!({"topicName": "job_updated", "eventDateTime": "2026-06-01T12:00:00Z", "eventId": event,
        "subscriptionId": "s", "event": {"job": {"id": job, "date": "2026-06-01T12:00:00Z", "_link": "x"}}})
}

/// Tells of a job and gives what was made of it.
async fn tell(server: &Server, event: &str, job: &str) -> (u16, String) {
    let reply = server.post(&hook("peak", TOKEN)).json(&updated(event, job)).send().await;
    (reply.code(), text(&reply.json(), "/status").to_owned())
}

fn column(server: &Server, query: &str) -> Vec<String> {
    let sql = server.sql();
    let mut statement = sql.prepare(query).expect("a query");
    let rows = statement.query_map([], |row| row.get(0)).expect("rows");
    rows.map(|row| row.expect("a text")).collect()
}

fn states(server: &Server) -> Vec<String> {
    column(server, "SELECT ifnull(outcome, 'waiting') FROM webhook_events ORDER BY id")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_token_opens_the_door_and_nobody_repeats_it() {
    let scene = Scene::new().await;
    let server = &scene.server;
    let wrong = format!("{TOKEN}x");
    let mut answers = Vec::new();
    for path in [hook("peak", &wrong), hook("nobody", TOKEN), hook("Peak%20", TOKEN), hook("peak", "short")] {
        let reply = server.post(&path).json(&updated("e", "j")).send().await;
        let body = reply.expect(404);
        answers.push((text(&body, "/detail").to_owned(), text(&body, "/type").to_owned()));
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "one answer to all of them: {answers:?}");
    for reply in [
        server.get(&hook("peak", TOKEN)).send().await,
        server.post(&format!("{}/more", hook("peak", TOKEN))).send().await,
    ] {
        assert!([404, 405].contains(&reply.code()) && !reply.text().contains(TOKEN), "{}", reply.text());
    }
    let job = scene.jobs().await.remove(0);
    assert_eq!(tell(server, "e", &job).await, (202, "accepted".into()));
    let metrics = server.get("/metrics").send().await.text();
    assert!(metrics.contains(r#"command_center_webhook_events_total{connector="acculynx",outcome="refused"} 4"#));
    assert!(metrics.contains(r#"endpoint="/webhooks/acculynx/{tenant}/{token}""#), "the template is the label");
    scene.until_records(vec![job]).await;
    let mut scene = scene;
    scene.server.stop().await;
    for shown in [metrics, scene.server.log("stdout"), scene.server.log("stderr")] {
        assert!(!shown.contains(TOKEN), "{shown}");
    }
    let refused = column(&scene.server, "SELECT metadata FROM audit WHERE operation = 'access.request.refused'");
    assert!(refused.len() == 1 && refused[0].contains("webhook_token") && !refused[0].contains(TOKEN), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_told_of_is_read_once_and_nothing_else() {
    let scene = Scene::new().await;
    let server = &scene.server;
    let jobs = scene.jobs().await;
    let before = scene.asked().await;
    assert_eq!(tell(server, "1", &jobs[0]).await, (202, "accepted".into()));
    assert_eq!(tell(server, "1", &jobs[0]).await, (200, "duplicate".into()));
    assert_eq!(tell(server, "2", &jobs[0]).await, (202, "accepted".into()));
    assert_eq!(tell(server, "3", &jobs[1]).await, (202, "accepted".into()));
    assert_eq!(tell(server, "4", "a-job-that-is-gone").await, (202, "accepted".into()));
    scene.until_records(vec![jobs[0].clone(), jobs[1].clone()]).await;
    eventually("all are worked off", async || {
        let states = states(server);
        hold(states == ["imported"; 4], &format!("{states:?}"))
    })
    .await;
    assert_eq!(scene.asked().await - before, 3, "one request a record, whatever was told of it");
    assert_eq!(column(server, "SELECT \"trigger\" || ' ' || state FROM runs"), ["webhook done"], "they share a run");
    assert!(column(server, "SELECT log FROM runs")[0].contains("told of: 3 records"));
    assert_eq!(tell(server, "1", &jobs[0]).await, (200, "duplicate".into()), "also when it is long done");
    let status = server.statuses("acculynx").await.remove("peak").unwrap_or_default();
    assert!(status["last_run"].is_null(), "the schedule's own runs are another matter: {status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_makes_no_sense_harms_nobody() {
    let scene = Scene::new().await;
    let server = &scene.server;
    let post = async |body: String| {
        let reply = server.post(&hook("peak", TOKEN)).body("text/plain", body).send().await;
        (reply.code(), text(&reply.json(), "/status").to_owned())
    };
    let ignored = (202, "ignored".to_owned());
    assert_eq!(
        post(json!({"topicName": "estimate_added", "event": {"estimate": {"id": "x"}}}).to_string()).await,
        ignored
    );
    assert_eq!(post(json!({"topicName": "unheard_of"}).to_string()).await, ignored);
    assert_eq!(post(updated("e", "../users").to_string()).await, ignored);
    assert_eq!(post("{".into()).await.0, 400);
    assert_eq!(post("[]".into()).await.0, 400);
    assert_eq!(post(format!("\"{}\"", "x".repeat(70_000))).await.0, 413);
    assert!(states(server).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_survives_a_kill() {
    let mut scene = Scene::new().await;
    let jobs = scene.jobs().await;
    assert_eq!(tell(&scene.server, "1", &jobs[0]).await.0, 202);
    scene.server.kill9();
    assert_eq!((states(&scene.server), scene.records().len()), (vec!["waiting".to_owned()], 0));
    scene.server.launch().await;
    scene.until_records(vec![jobs[0].clone()]).await;
    assert_eq!(tell(&scene.server, "1", &jobs[0]).await, (200, "duplicate".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_is_answered_while_the_source_hangs_and_waits_out_a_crash() {
    // It takes connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}/api/v2", silent.local_addr().expect("its address"));
    let mut server = options(&url).start().await;
    assert_eq!(tell(&server, "1", "j").await.0, 202);
    let (_first, _) = silent.accept().await.expect("the run asks");
    assert_eq!(tell(&server, "2", "j").await.0, 202, "while the run before it hangs");
    server.kill9();
    assert_eq!(states(&server), ["waiting", "waiting"]);
    server.launch().await;
    let (_second, _) = silent.accept().await.expect("and asks again after the crash");
    let cut = column(&server, "SELECT state FROM runs WHERE \"trigger\" = 'webhook' ORDER BY id LIMIT 1");
    assert_eq!(cut, ["interrupted"]);
    let triggers = column(&server, "SELECT DISTINCT \"trigger\" FROM runs");
    assert_eq!(triggers, ["webhook"], "what was cut off is not made a full import");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_paused_events_are_left_to_the_next_import() {
    let scene = Scene::new().await;
    let server = &scene.server;
    let jobs = scene.jobs().await;
    server.post("/api/crm/import/acculynx/pause").ops().tenant("peak").send().await.expect(200);
    assert_eq!(tell(server, "1", &jobs[0]).await.0, 202);
    assert_eq!(states(server), ["paused"]);
    server.post("/api/crm/import/acculynx/resume").ops().tenant("peak").send().await.expect(200);
    assert_eq!(tell(server, "2", &jobs[1]).await.0, 202);
    scene.until_records(vec![jobs[1].clone()]).await;
    server.post("/api/crm/import/acculynx/run-now").ops().tenant("peak").send().await.expect(200);
    assert!(scene.records().contains(&jobs[0]), "the full import has it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_practice_server_tells_and_is_believed() {
    let scene = Scene::new().await;
    let consumer = scene.server.url(&hook("peak", TOKEN));
    let body =
        json!({"consumerUrl": consumer, "techContact": {}, "topicNames": ["job_updated"], "integrationType": "x"});
    let made = scene.practice(reqwest::Method::POST, &format!("{WEBHOOKS_PATH}/subscriptions"), body).await;
    assert!(made["subscriptionId"].is_string(), "{made}");
    let job = scene.jobs().await.remove(0);
    let event = json!({"company": "peak", "id": job, "times": 3});
    let sent = scene.practice(reqwest::Method::POST, "/sandbox/events", event).await;
    let statuses = sent["deliveries"].as_array().expect("deliveries").iter();
    assert_eq!(statuses.map(|sent| sent["status"].as_u64()).collect::<Vec<_>>(), [Some(202), Some(200), Some(200)]);
    eventually("the job told of", async || {
        let records = scene.records();
        hold(records.contains(&job), &format!("{records:?}"))
    })
    .await;
}
