//! The frozen outer API as callers meet it: who may, what is refused and how, and what a mutation
//! promises. What it shows to readers stands in `outer_views.rs`.

mod common;

use common::{Options, Server, at, free_addr, http::Call, text};
use reqwest::Method;
use serde_json::{Value, json};

const REFUSAL: &str = "Missing or invalid X-User-Roles header";
const BASE: &str = "/api/crm/import/noop";

const PUBLIC: [&str; 11] = [
    "/ops/ping",
    "/ops/health",
    "/api/crm/import/acculynx/schedule/status",
    "/api/crm/import/noop/schedule/status",
    "/healthz",
    "/readyz",
    "/meta",
    "/metrics",
    "/docs",
    "/openapi.json",
    "/schemas/schedule.schema.json",
];

const OPERATOR: [(&str, &str); 33] = [
    ("POST", "/api/crm/import/acculynx/schedule"),
    ("POST", "/api/crm/import/acculynx/pause"),
    ("POST", "/api/crm/import/acculynx/resume"),
    ("POST", "/api/crm/import/acculynx/run-now"),
    ("DELETE", "/api/crm/import/acculynx/schedule"),
    ("GET", "/api/crm/import/acculynx/schedule"),
    ("GET", "/api/crm/import/acculynx/audit"),
    ("GET", "/ops/db"),
    ("GET", "/ops/replication"),
    ("GET", "/analytics/summary"),
    ("GET", "/analytics/tenants/acme"),
    ("GET", "/analytics/audit"),
    ("GET", "/ops/drift"),
    ("GET", "/ops/audit/verify"),
    ("POST", "/ops/audit/verify"),
    ("GET", "/ops/audit/checkpoint"),
    ("GET", "/ops/audit/key"),
    ("GET", "/ops/whoami"),
    ("POST", "/ops/diff"),
    ("POST", "/ops/apply"),
    ("GET", "/ops/holds"),
    ("POST", "/ops/holds/dismiss"),
    ("GET", "/ops/windows"),
    ("GET", "/ops/forecast"),
    ("POST", "/ops/forecast"),
    ("GET", "/ops/brake"),
    ("POST", "/ops/brake"),
    ("DELETE", "/ops/brake"),
    ("POST", "/api/crm/import/noop/schedule"),
    ("POST", "/ops/restart"),
    ("GET", "/api/crm/import/acculynx/schedule/history"),
    ("POST", "/api/crm/import/acculynx/schedule/rollback"),
    ("POST", "/ops/rollback"),
];

fn call(server: &Server, (method, path): (&str, &str)) -> Call {
    server.call(method.parse().expect("a method"), path)
}

async fn plain() -> Server {
    Options::default().noop("acme", "interval_sec: 3600\n").env("COMMAND_CENTER_RESTART_DELAY_SEC", "600").start().await
}

#[tokio::test]
async fn public_routes_ask_for_nothing() {
    let server = plain().await;
    for path in PUBLIC {
        let reply = server.get(path).send().await;
        assert_eq!(reply.code(), 200, "{path}: {}", reply.text());
        assert_eq!(reply.header("access-control-allow-origin"), "", "{path}: cross-origin use is off");
    }
    let health = server.get("/healthz").send().await.expect(200);
    assert_eq!(health, json!({"status": "healthy"}));
    let meta = server.get("/meta").send().await.expect(200);
    assert!(meta["features"].is_array() && meta["version"].is_string() && meta["api_version"].is_string(), "{meta}");
}

#[tokio::test]
async fn operator_routes_refuse_strangers_and_viewers_in_the_clients_words() {
    let server = plain().await;
    for route in OPERATOR {
        let stranger = call(&server, route).tenant("acme").send().await.problem(403);
        assert_eq!(stranger["detail"], REFUSAL, "{route:?}: {stranger}");
        let viewer = call(&server, route).tenant("acme").role("viewer").send().await.problem(403);
        assert_eq!(viewer["detail"], REFUSAL, "{route:?}: {viewer}");
        let nonsense = call(&server, route).tenant("acme").header("x-ops", "0").role("boss").send().await;
        nonsense.problem(403);
    }
    assert_eq!(server.status("acme").await["paused"], false, "nothing was done");
}

#[tokio::test]
async fn every_way_of_saying_operator_is_believed_from_loopback() {
    let server = plain().await;
    let ways = [
        ("x-ops", "1"),
        ("x-role", "ops"),
        ("x-role", "operator"),
        ("x-role", "admin"),
        ("x-user-roles", "operator,admin"),
        ("x-user-roles", "viewer, operator"),
    ];
    for (name, value) in ways {
        for (method, path) in OPERATOR.iter().filter(|(_, path)| *path != "/ops/restart") {
            let reply = call(&server, (method, path)).header(name, value).send().await;
            assert!(![401, 403].contains(&reply.code()), "{name}: {value} on {method} {path}: {}", reply.text());
        }
    }
    let me = server.get("/ops/whoami").ops().header("x-user-name", "dana").send().await.expect(200);
    assert!(me.to_string().contains("dana") && me.to_string().contains("operator"), "{me}");
}

#[tokio::test]
async fn headers_from_an_untrusted_peer_are_ignored_and_the_refusal_says_so() {
    let server = Options::default().env("COMMAND_CENTER_TRUSTED_PROXIES", "10.9.8.0/24").start().await;
    let refused = server.get("/ops/db").ops().send().await.problem(403);
    assert_eq!(refused["detail"], REFUSAL, "{refused}");
    assert_eq!(refused["reason"], "untrusted_peer", "{refused}");
    assert!(server.log("stdout").contains("TRUSTED_PROXIES"), "the log names the setting to change");
}

#[tokio::test]
async fn an_operator_may_be_narrowed_to_a_tenant_and_only_an_admin_changes_a_connection() {
    let server = plain().await;
    let pause = |tenant| server.act("pause", tenant).header("x-user-tenant", "other");
    pause("acme").send().await.problem(403);
    assert_eq!(server.status("acme").await["paused"], false);

    let path = "/api/crm/import/acculynx/schedule";
    let body = json!({"interval_sec": 3600, "connection": {"base_url": "http://127.0.0.1:9/api/v2"}});
    server.post(path).ops().tenant("conn").json(&body).send().await.problem(403);
    assert!(!server.desired("schedules/acculynx/conn.yaml").exists(), "nothing was written");
    server.post(path).role("admin").tenant("conn").json(&body).send().await.expect(200);
    server.post(path).ops().tenant("conn").json(&json!({"interval_sec": 1800})).send().await.expect(200);
}

#[tokio::test]
async fn tenants_are_checked() {
    let server = plain().await;
    let long = "x".repeat(65);
    for action in ["schedule", "pause", "resume", "run-now"] {
        let missing = server.post(&format!("{BASE}/{action}")).ops().json(&json!({"interval_sec": 5})).send().await;
        let problem = missing.problem(400);
        assert!(text(&problem, "/detail").to_lowercase().contains("x-tenant"), "it says what is missing: {problem}");
        for bad in ["Acme", "../x", "a b", "-a", "a.", ".a", "con", "nul.x", "ä", "", &long] {
            let reply = server.act(action, bad).json(&json!({"interval_sec": 5})).send().await;
            reply.problem(400);
        }
    }
    for action in ["pause", "resume", "run-now"] {
        server.act(action, "nobody").send().await.problem(404);
    }
    server.delete(&format!("{BASE}/schedule")).ops().tenant("nobody").send().await.problem(404);
    server.get(&format!("{BASE}/schedule")).ops().tenant("nobody").send().await.problem(404);
    server.delete(&format!("{BASE}/schedule")).ops().send().await.problem(400);
}

#[tokio::test]
async fn unknown_paths_connectors_and_methods() {
    let server = plain().await;
    let unknown = server.post("/api/crm/import/hubspot/pause").ops().tenant("acme").send().await.problem(404);
    for connector in ["acculynx", "noop"] {
        assert!(unknown.to_string().contains(connector), "the list of those there are: {unknown}");
    }
    server.get("/api/crm/import/hubspot/schedule/status").send().await.problem(404);
    server.get("/no/such/page").send().await.problem(404);
    let wrong = [
        (Method::PUT, format!("{BASE}/pause"), "POST"),
        (Method::GET, format!("{BASE}/run-now"), "POST"),
        (Method::POST, "/ops/ping".into(), "GET"),
        (Method::DELETE, "/ops/health".into(), "GET"),
        (Method::PATCH, format!("{BASE}/schedule"), "DELETE"),
    ];
    for (method, path, allowed) in wrong {
        let reply = server.call(method, &path).ops().tenant("acme").send().await;
        reply.problem(405);
        assert!(reply.header("allow").contains(allowed), "{path}: Allow: {:?}", reply.header("allow"));
    }
}

#[tokio::test]
async fn bodies_are_checked_and_each_error_points_at_its_field() {
    let server = plain().await;
    let cases = [
        (json!({"interval_sec": "soon"}), "/interval_sec"),
        (json!({"interval_sec": 0}), "/interval_sec"),
        (json!({"interval_sec": -5}), "/interval_sec"),
        (json!({"interval_sec": 1.5}), "/interval_sec"),
        (json!({"interval_sec": 99_999_999}), "/interval_sec"),
        (json!({"intervall_sec": 60}), "/intervall_sec"),
        (json!({"interval_sec": 60, "paused": "yes"}), "/paused"),
        (json!({"interval_sec": null, "cron": "every day"}), "/cron"),
        (json!({"cron": "0 5 * * *", "timezone": "Mars/Olympus"}), "/timezone"),
        (json!({"resources": ["jobs", "roofs"]}), "/resources"),
        (json!({"labels": ["a"]}), "/labels"),
    ];
    for (body, pointer) in cases {
        let problem = server.act("schedule", "acme").json(&body).send().await.problem(422);
        let pointers: Vec<&str> =
            problem["errors"].as_array().into_iter().flatten().map(|error| text(error, "/pointer")).collect();
        assert!(pointers.iter().any(|found| found.starts_with(pointer)), "{body}: {pointer} in {problem}");
    }
    let two = server.act("schedule", "acme").json(&json!({"interval_sec": 0, "colour": 1})).send().await.problem(422);
    assert!(two["errors"].as_array().is_some_and(|errors| errors.len() >= 2), "every error at once: {two}");
    let misspelt = server.act("schedule", "acme").json(&json!({"intervall_sec": 60})).send().await.problem(422);
    assert!(misspelt.to_string().contains("interval_sec"), "a hint: {misspelt}");
    for bad in ["{", "{\"interval_sec\":60", "", "{\"interval_sec\":60}}", "{\"interval_sec\":60,\"interval_sec\":61}"]
    {
        server.act("schedule", "acme").body("application/json", bad.to_owned()).send().await.problem(400);
    }
    for other in ["[]", "7", "\"x\"", "null"] {
        server.act("schedule", "acme").body("application/json", other.to_owned()).send().await.problem(422);
    }
    server.act("schedule", "fresh").json(&json!({})).send().await.problem(422);
    server.act("pause", "acme").json(&json!({"reason": 7})).send().await.problem(422);
    server.act("pause", "acme").json(&json!({"raeson": "x"})).send().await.problem(422);
    server.act("run-now?wait=soon", "acme").send().await.problem(400);
    assert_eq!(server.read("schedules/noop/acme.yaml"), "interval_sec: 3600\n", "nothing was written");
    assert_eq!(server.audit("tenant=acme").await.len(), 1, "and nothing audited but the creation");
}

#[tokio::test]
async fn a_secret_in_a_body_is_refused_and_not_repeated() {
    let server = plain().await;
    let body = json!({"interval_sec": 60, "connection": {"api_key": "live-0123456789"}});
    let reply = server.post("/api/crm/import/acculynx/schedule").role("admin").tenant("leaky").json(&body).send().await;
    reply.problem(422);
    assert!(!reply.text().contains("live-0123456789"), "not in the answer: {}", reply.text());
    let body = json!({"connection": {"api_key": {"env": "HOME"}}, "interval_sec": 60});
    let reply = server.post("/api/crm/import/acculynx/schedule").role("admin").tenant("leaky").json(&body).send().await;
    reply.problem(422);
    assert!(!server.log("stdout").contains("live-0123456789"), "nor in the log");
}

#[tokio::test]
async fn oversized_bodies_and_foreign_hosts_are_refused() {
    let server = plain().await;
    let huge = format!("{{\"pause_reason\":\"{}\"}}", "x".repeat(4 << 20));
    for _ in 0..10 {
        server.act("schedule", "acme").body("application/json", huge.clone()).send().await.problem(413);
        // A server that hangs up on the rest must say so, or the client's next request is lost.
        server.get("/ops/ping").send().await.expect(200);
    }
    for host in ["evil.example", "evil.example:8000", "127.0.0.1.evil.example"] {
        for path in ["/ops/ping", "/api/crm/import/noop/schedule/status", "/ops/db"] {
            let reply = server.get(path).ops().header("host", host).send().await;
            assert!([400, 403, 421].contains(&reply.code()), "{host}: {} {}", reply.code(), reply.text());
            reply.problem(reply.code());
        }
    }
    let ours = format!("localhost:{}", server.addr().port());
    server.get("/ops/ping").header("host", &ours).send().await.expect(200);
    let named = Options::default().env("COMMAND_CENTER_ALLOWED_HOSTS", "cc.internal").start().await;
    named.get("/ops/ping").header("host", "cc.internal").send().await.expect(200);
}

#[tokio::test]
async fn if_match_lets_one_of_two_editors_win() {
    let server = plain().await;
    let view = server.get(&format!("{BASE}/schedule")).ops().tenant("acme").send().await;
    let etag = view.header("etag").to_owned();
    assert!(etag.starts_with('"') && etag.ends_with('"'), "a strong tag: {etag}");
    let view = view.expect(200);
    assert_eq!(etag.trim_matches('"'), text(&view, "/etag").trim_matches('"'), "{view}");
    assert_eq!(at(&view, "/effective/interval_sec"), 3600, "{view}");
    assert_eq!(at(&view, "/written/interval_sec"), 3600, "{view}");

    let edit = |seconds: u32| server.act("schedule", "acme").json(&json!({"interval_sec": seconds}));
    edit(1800).header("if-match", &etag).send().await.expect(200);
    edit(900).header("if-match", &etag).send().await.problem(412);
    server.act("pause", "acme").header("if-match", &etag).send().await.problem(412);
    server.delete(&format!("{BASE}/schedule")).ops().tenant("acme").header("if-match", &etag).send().await.problem(412);
    assert_eq!(server.status("acme").await["interval_sec"], 1800, "the second editor changed nothing");

    let moved = server.get(&format!("{BASE}/schedule")).ops().tenant("acme").send().await;
    assert_ne!(moved.header("etag"), etag);
    server.act("run-now", "acme").send().await.expect(200);
    let after = server.get(&format!("{BASE}/schedule")).ops().tenant("acme").send().await;
    assert_eq!(after.header("etag"), moved.header("etag"), "runs do not change it");
    edit(900).header("if-match", moved.header("etag")).send().await.expect(200);
}

#[tokio::test]
async fn an_idempotency_key_replays_the_first_answer() {
    let mut server = plain().await;
    let body = json!({"interval_sec": 1200});
    let keyed =
        |server: &Server, body: &Value| server.act("schedule", "acme").header("idempotency-key", "k-1").json(body);
    let first = keyed(&server, &body).send().await.expect(200);
    server.put("acme", &json!({"interval_sec": 60})).await;
    let again = keyed(&server, &body).send().await.expect(200);
    assert_eq!(again["action_id"], first["action_id"], "{again}");
    assert_eq!(again["audit"], first["audit"], "{again}");
    assert_eq!(server.status("acme").await["interval_sec"], 60, "it was not done again");
    let other = keyed(&server, &json!({"interval_sec": 7})).send().await;
    assert!([409, 422].contains(&other.code()), "another request under the same key: {}", other.text());
    other.problem(other.code());
    server.restart().await;
    let later = keyed(&server, &body).send().await.expect(200);
    assert_eq!(later["action_id"], first["action_id"], "also after a restart: {later}");
}

#[tokio::test]
async fn a_source_may_be_claimed_but_not_the_programs_own() {
    let server = plain().await;
    for source in ["api", "cli", "ops", "ui"] {
        server.act("pause", "acme").header("x-source", source).send().await.expect(200);
        server.act("resume", "acme").header("x-source", source).header("x-user-name", "dana").send().await.expect(200);
        let entry = &server.audit("tenant=acme").await[0];
        assert_eq!(entry["source"], source, "{entry}");
        assert_eq!(entry["actor"], "dana", "{entry}");
    }
    for source in ["file", "git", "scheduler", "command-center", "nonsense"] {
        let reply = server.act("pause", "acme").header("x-source", source).send().await;
        assert!([200, 400].contains(&reply.code()), "{source}: {}", reply.text());
        server.act("resume", "acme").send().await.expect(200);
    }
    for entry in server.audit("tenant=acme").await {
        let made_by_file = entry["operation"] == "scheduler.schedule.created";
        assert!(made_by_file || ["ui", "api", "cli", "ops"].contains(&text(&entry, "/source")), "{entry}");
    }
}

#[tokio::test]
async fn a_merge_touches_what_it_names_and_keeps_every_other_byte() {
    let original = "# Peak Roofing, the west side.\r\ninterval_sec: 300   # five minutes\r\n\r\nlabels:\r\n  region: 'west'  # quoted\r\n# the end\r\n";
    let server = Options::default().noop("peak", original).start().await;
    server.act("pause", "peak").json(&json!({"reason": "storm"})).send().await.expect(200);
    let paused = server.read("schedules/noop/peak.yaml");
    let kept: Vec<&str> = original.split_inclusive('\n').collect();
    let added: Vec<&str> = paused.split_inclusive('\n').filter(|line| !kept.contains(line)).collect();
    assert_eq!(added.len(), 2, "paused and its reason, nothing else: {paused:?}");
    assert!(kept.iter().all(|line| paused.contains(line)), "{paused:?}");
    server.act("resume", "peak").send().await.expect(200);
    let resumed = server.read("schedules/noop/peak.yaml");
    assert!(kept.iter().all(|line| resumed.contains(line)), "{resumed:?}");

    server.put("peak", &json!({"interval_sec": 600})).await;
    let slower = server.read("schedules/noop/peak.yaml");
    assert!(slower.contains("interval_sec: 600   # five minutes\r\n"), "{slower:?}");
    let answer = server.put("peak", &json!({"cron": "0 5 * * *", "timezone": "America/Denver"})).await;
    let status = at(&answer, "/schedules/peak");
    assert_eq!(status["cron"], "0 5 * * *", "{status}");
    assert_eq!(status["interval_sec"], Value::Null, "cron displaces the interval: {status}");
    let answer = server.put("peak", &json!({"interval_sec": 60, "labels": {"region": null, "crew": "b"}})).await;
    let status = at(&answer, "/schedules/peak");
    assert_eq!((&status["cron"], &status["interval_sec"]), (&Value::Null, &json!(60)), "and back: {status}");
    let view = server.get(&format!("{BASE}/schedule")).ops().tenant("peak").send().await.expect(200);
    assert_eq!(at(&view, "/written/labels"), &json!({"crew": "b"}), "null removes a key: {view}");
    assert!(server.read("schedules/noop/peak.yaml").contains("# the end"), "comments survive it all");
}

#[tokio::test]
async fn a_mutation_answers_with_what_it_did() {
    let server = plain().await;
    let same = server.put("acme", &json!({"interval_sec": 3600})).await;
    assert_eq!(same["audit"], json!([]), "nothing changed, nothing audited: {same}");
    let run = server.act("run-now?wait=0", "acme").send().await;
    let run = run.expect(202);
    assert!(run["run_id"].is_u64(), "{run}");
    let gone = server.delete(&format!("{BASE}/schedule")).ops().tenant("acme").send().await.expect(200);
    assert_eq!(gone["schedules"], json!({}), "{gone}");
    assert!(!server.desired("schedules/noop/acme.yaml").exists(), "the file is gone");
    assert_eq!(server.status("acme").await, Value::Null);
    let entries = server.audit("tenant=acme").await;
    assert_eq!(entries[0]["operation"], "scheduler.schedule.deleted", "its audit stays");
    assert_eq!(gone["audit"], json!([entries[0]["seq"]]), "{gone}");
    server.put("acme", &json!({"interval_sec": 60})).await;
    assert_eq!(server.status("acme").await["interval_sec"], 60, "and it can come again");
}

#[tokio::test]
async fn a_file_that_cannot_be_edited_safely_is_a_conflict() {
    let server = Options::default().noop("flow", "interval_sec: 60\n").start().await;
    server.write("schedules/noop/flow.yaml", "interval_sec: [\n");
    server.until("frozen", "flow", |status| status["sync"] == "invalid").await;
    server.act("pause", "flow").send().await.problem(409);
    assert_eq!(server.read("schedules/noop/flow.yaml"), "interval_sec: [\n", "not a byte was touched");
    assert_eq!(server.status("flow").await["paused"], false);
}

#[tokio::test]
async fn the_brake_stops_starts_until_released() {
    let server = plain().await;
    server.put("acme", &json!({"interval_sec": 1})).await;
    server.until("it runs", "acme", |status| status["last_run"].is_f64()).await;
    server.post("/ops/brake").ops().json(&json!({"reason": "storm"})).send().await.expect(200);
    let held = server.health().await;
    assert!(at(&held, "/scheduler/brakes").to_string().contains("fleet"), "{held}");
    let drift = server.get("/ops/drift").ops().send().await.expect(200);
    assert!(drift.to_string().contains("brake") || drift.to_string().contains("suspended"), "shown as drift: {drift}");
    let calm = server.until("no run under way", "acme", |status| status["running"] == false).await;
    server.passes(3).await;
    let after = server.status("acme").await;
    assert_eq!(after["last_run"], calm["last_run"], "three passes and no run of a one-second schedule");
    server.delete("/ops/brake").ops().send().await.expect(200);
    server.until("it runs again", "acme", |status| status["last_run"].as_f64() > after["last_run"].as_f64()).await;
}

#[tokio::test]
async fn a_restart_comes_back_on_the_same_port_with_nothing_lost() {
    let server = Options::default().env("COMMAND_CENTER_RESTART_DELAY_SEC", "0").start().await;
    server.put("acme", &json!({"interval_sec": 3600, "paused": true})).await;
    let uptime = |health: &Value| health["uptime_sec"].as_u64();
    let before = server.until_health("some uptime", |health| uptime(health) >= Some(1)).await;
    server.post("/ops/restart").ops().send().await.expect(202);
    common::eventually("a younger process on the same port", async || {
        let health = server.get("/ops/health").try_send().await.map_err(|error| error.to_string())?;
        let health: Value = serde_json::from_slice(&health.body).map_err(|error| error.to_string())?;
        common::hold(uptime(&health) < uptime(&before), &health)
    })
    .await;
    let status = server.until("as before", "acme", |status| status["paused"] == true).await;
    assert_eq!(status["interval_sec"], 3600, "{status}");
    let entries = server.audit("").await;
    assert!(entries.iter().any(|entry| entry["operation"] == "ops.restart.requested"), "{entries:?}");

    let closed = Options::default().env("COMMAND_CENTER_ALLOW_RESTART", "false").start().await;
    closed.post("/ops/restart").ops().send().await.problem(403);
}

#[tokio::test]
async fn a_second_server_on_the_port_leaves_the_first_alone() {
    let server = plain().await;
    let taken = server.addr();
    assert_ne!(taken, free_addr());
    let home = Server::prepare(Options::default());
    let mut second = home.command();
    second.env("COMMAND_CENTER_ADDR", taken.to_string()).arg("serve");
    common::cli::run(second).expect(2);
    server.health().await;
}
