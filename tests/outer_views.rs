//! What the outer API shows: status, audit and its exports, health, metrics, analytics, the
//! OpenAPI document, the log.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use common::{Options, Server, at, text};
use serde_json::{Value, json};

const STATUS: &str = "/api/crm/import/noop/schedule/status";
const AUDIT: &str = "/api/crm/import/noop/audit";

async fn three() -> Server {
    let mut options = Options::default();
    for tenant in ["ash", "birch", "cedar"] {
        options = options.noop(tenant, "interval_sec: 3600\n");
    }
    options.start().await
}

#[tokio::test]
async fn a_status_has_every_field_from_the_start() {
    let server = three().await;
    let status = server.status("ash").await;
    let fields: BTreeSet<&str> = status.as_object().expect("an object").keys().map(String::as_str).collect();
    for field in [
        "interval_sec",
        "paused",
        "pause_reason",
        "last_run",
        "last_run_iso",
        "next_run_iso",
        "next_run_in_sec",
        "running",
        "last_status",
        "consecutive_failures",
        "file",
        "etag",
        "sync",
    ] {
        assert!(fields.contains(field), "{field}: {status}");
    }
    assert_eq!(status["last_run"], Value::Null, "{status}");
    let bytes = server.read("schedules/noop/ash.yaml");
    let digest = command_center::core::model::Digest::of(bytes.as_bytes()).to_hex();
    assert_eq!(text(&status, "/etag").trim_matches('"'), digest, "the tag is the file's SHA-256");
}

#[tokio::test]
async fn the_status_list_is_paged_and_tagged() {
    let server = three().await;
    let mut seen = Vec::new();
    let mut cursor = String::new();
    for _ in 0..4 {
        let page = server.get(&format!("{STATUS}?limit=1{cursor}")).send().await.expect(200);
        seen.extend(page["schedules"].as_object().expect("schedules").keys().cloned());
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    seen.sort();
    assert_eq!(seen, ["ash", "birch", "cedar"], "each once over the pages");
    let one = server.get(&format!("{STATUS}?tenant=birch")).send().await.expect(200);
    assert_eq!(one["schedules"].as_object().map(serde_json::Map::len), Some(1), "{one}");
    server.get(&format!("{STATUS}?limit=nine")).send().await.problem(400);

    let list = server.get(STATUS).send().await;
    let tag = list.header("etag").to_owned();
    assert!(tag.starts_with("W/\""), "a weak tag: {tag}");
    let same = server.get(STATUS).header("if-none-match", &tag).send().await;
    assert_eq!(same.code(), 304, "{}", same.text());
    assert!(same.body.is_empty());
    server.act("pause", "ash").send().await.expect(200);
    let moved = server.get(STATUS).header("if-none-match", &tag).send().await;
    assert_eq!(moved.code(), 200, "a change is seen");
    assert_ne!(moved.header("etag"), tag);
}

/// Seven entries for two tenants besides the three creations.
async fn busy() -> Server {
    let server = three().await;
    for tenant in ["ash", "birch"] {
        server.act("pause", tenant).header("x-source", "api").send().await.expect(200);
        server.act("resume", tenant).send().await.expect(200);
        server.act("run-now", tenant).send().await.expect(200);
    }
    server.put("ash", &json!({"interval_sec": 60, "labels": {"note": "a, \"b\" 'c'"}})).await;
    server
}

fn seqs(answer: &Value) -> Vec<u64> {
    answer["entries"].as_array().into_iter().flatten().filter_map(|entry| entry["seq"].as_u64()).collect()
}

#[tokio::test]
async fn the_audit_is_filtered_and_paged() {
    let server = busy().await;
    let ask = async |query: &str| server.get(&format!("{AUDIT}?{query}")).ops().send().await.expect(200);
    let whole = seqs(&ask("").await);
    assert_eq!(whole, (1..=10).rev().collect::<Vec<u64>>(), "newest first, none missing");
    assert_eq!(seqs(&ask("limit=2").await), [10, 9]);
    assert_eq!(seqs(&ask("tenant=birch").await).len(), 4);
    for (older, name) in [
        ("pause", "scheduler.schedule.paused"),
        ("resume", "scheduler.schedule.resumed"),
        ("run-now", "scheduler.import.force_run"),
        ("schedule", "scheduler.schedule.created"),
    ] {
        let named = seqs(&ask(&format!("operation={name}")).await);
        assert!(!named.is_empty(), "{name}");
        assert_eq!(seqs(&ask(&format!("operation={older}")).await), named, "{older}");
    }
    assert_eq!(seqs(&ask("source=api").await).len(), 2);
    assert_eq!(seqs(&ask("source=file").await).len(), 3);
    assert_eq!(seqs(&ask("source=ui&tenant=ash&operation=resume").await).len(), 1);

    let mut paged = Vec::new();
    let mut cursor = String::new();
    for _ in 0..10 {
        let page = ask(&format!("limit=3{cursor}")).await;
        paged.extend(seqs(&page));
        let Some(next) = page.get("next_cursor").filter(|next| !next.is_null()) else { break };
        cursor = format!("&cursor={}", next.as_str().map_or_else(|| next.to_string(), str::to_owned));
    }
    assert_eq!(paged, whole, "pages neither repeat nor lose");

    let fifth = text(&ask("limit=6").await, "/entries/5/ts_iso").to_owned();
    let since = seqs(&ask(&format!("since={fifth}")).await);
    let until = seqs(&ask(&format!("until={fifth}")).await);
    assert!(since.contains(&5) && since.contains(&10), "since includes its instant: {since:?}");
    assert!(until.contains(&1) && !until.contains(&10), "{until:?}");
    for bad in ["limit=x", "limit=-1", "since=yesterday", "format=xml", "cursor=%00"] {
        server.get(&format!("{AUDIT}?{bad}")).ops().send().await.problem(400);
    }
    assert_eq!(seqs(&ask("tenant=nobody").await).len(), 0);
}

#[tokio::test]
async fn the_audit_is_exported_in_three_formats() {
    let server = busy().await;
    let export = async |format: &str| {
        let reply = server.get(&format!("{AUDIT}?format={format}")).ops().send().await;
        assert_eq!(reply.code(), 200, "{}", reply.text());
        assert!(reply.header("content-disposition").contains("attachment"), "{format}: a download");
        reply
    };
    let csv = export("csv").await;
    assert!(csv.header("content-type").starts_with("text/csv"), "{}", csv.header("content-type"));
    let rows = parse_csv(&csv.text());
    assert_eq!(rows.len(), 11, "a header and ten entries: {}", csv.text());
    for field in
        ["seq", "ts_iso", "tenant", "connector", "operation", "source", "actor", "action_id", "metadata", "hash"]
    {
        assert!(rows[0].iter().any(|name| name == field), "{field}: {:?}", rows[0]);
    }
    let metadata = rows[0].iter().position(|name| name == "metadata").expect("metadata");
    for row in &rows[1..] {
        assert_eq!(row.len(), rows[0].len(), "{row:?}");
        serde_json::from_str::<Value>(&row[metadata]).unwrap_or_else(|e| panic!("metadata ({e}): {row:?}"));
    }
    let lines = export("jsonl").await.text();
    let entries: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
    assert_eq!(entries.len(), 10, "{lines}");
    assert!(entries.iter().all(|entry| entry["hash"].is_string()), "{lines}");
    let json = export("json").await.json();
    let entries = json.as_array().or_else(|| json["entries"].as_array()).unwrap_or_else(|| panic!("{json}"));
    assert_eq!(entries.len(), 10, "{json}");
}

/// RFC 4180, as far as a test needs it.
fn parse_csv(text: &str) -> Vec<Vec<String>> {
    let (mut rows, mut row, mut field, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => field.extend(chars.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(std::mem::take(&mut field)),
            '\r' if !quoted => {}
            '\n' if !quoted => {
                row.push(std::mem::take(&mut field));
                rows.push(std::mem::take(&mut row));
            }
            c => field.push(c),
        }
    }
    if !field.is_empty() || !row.is_empty() {
        row.push(field);
        rows.push(row);
    }
    rows
}

#[tokio::test]
async fn health_shows_counts_and_places_but_no_values() {
    let server = Options::default().noop("ok", "interval_sec: 60\n").start().await;
    server.get("/ops/health?strict=1").send().await.expect(200);
    server.write("schedules/noop/bad.yaml", "interval_sec: 60\nlabels:\n  note: s3cret-value\npaused: maybe-s3cret\n");
    let health = server.until_health("the bad file", |health| at(health, "/desired/invalid") == 1).await;
    for pointer in ["/scheduler/status", "/db/status", "/replication/status", "/desired/status"] {
        assert!([json!(0), json!(1)].contains(at(&health, pointer)), "{pointer}: {health}");
    }
    for field in ["schedules", "synced", "invalid", "held"] {
        assert!(at(&health, "/desired")[field].is_u64(), "{field}: {health}");
    }
    assert!(!text(&health, "/desired/revision").is_empty(), "{health}");
    let file = at(&health, "/drift/invalid_files/0");
    assert_eq!(file["file"], "schedules/noop/bad.yaml", "{health}");
    assert_eq!(at(file, "/diagnostics/0/line"), 4, "{health}");
    assert!(at(file, "/diagnostics/0/column").as_u64() > Some(0), "{health}");
    assert!(!health.to_string().contains("s3cret"), "public, so no values: {health}");
    let strict = server.get("/ops/health?strict=1").send().await;
    let zero =
        ["scheduler", "db", "replication", "desired"].iter().any(|name| at(&health, &format!("/{name}/status")) == 0);
    assert_eq!(strict.code(), if zero { 503 } else { 200 }, "{}", strict.text());
}

#[tokio::test]
async fn a_secret_pasted_into_a_file_shows_nowhere() {
    let server = Options::default().noop("ok", "interval_sec: 60\n").start().await;
    let pasted = [
        ("key", "interval_sec: 60\nconnection:\n  api_key: s3cret-1\n"),
        ("env", "interval_sec: 60\nconnection:\n  api_key: { env: s3cret-2 }\n"),
        ("url", "interval_sec: 60\nconnection:\n  base_url: ftp://user:s3cret-3@example.com/\n"),
        ("extra", "interval_sec: 60\nconnection:\n  api_key: { env: CC_SECRET_A, value: s3cret-4 }\n"),
        ("torn", "interval_sec: 60\nconnection:\n  api_key: \"s3cret-5\n"),
        ("basic", "interval_sec: 60\nconnection:\n  base_url: https://user:s3cret-6@example.com/api\n"),
    ];
    for (tenant, content) in pasted {
        server.write(&format!("schedules/acculynx/{tenant}.yaml"), content);
    }
    server.until_health("told", |health| at(health, "/desired/invalid").as_u64() >= Some(5)).await;
    for path in
        ["/ops/health", "/ops/drift", "/api/crm/import/acculynx/audit", "/api/crm/import/acculynx/schedule/status"]
    {
        let shown = server.get(path).ops().send().await.text();
        assert!(!shown.contains("s3cret"), "{path}: {shown}");
    }
    let log = server.log("stdout");
    assert!(!log.contains("s3cret"), "{log}");
}

#[tokio::test]
async fn frozen_metrics_stand_from_the_start_and_count() {
    let server = three().await;
    let fresh = server.get("/metrics").send().await;
    assert!(fresh.header("content-type").starts_with("text/plain"), "{}", fresh.header("content-type"));
    let fresh = fresh.text();
    for name in [
        "aetherlink_acculynx_scheduled_imports_total",
        "aetherlink_local_actions_total",
        "command_center_health",
        "command_center_uptime_seconds",
        "command_center_events_total",
        "command_center_api_requests_total",
        "errors_total",
    ] {
        assert!(fresh.lines().any(|line| line.starts_with(name)), "{name} has no sample:\n{fresh}");
    }
    server.act("pause", "ash").send().await.expect(200);
    server.act("pause", "nobody").send().await.problem(404);
    server.get("/no/such/page-77").send().await.problem(404);
    let text = server.get("/metrics").send().await.text();
    let sample = |name: &str, parts: &[&str]| {
        text.lines()
            .any(|line| line.starts_with(name) && parts.iter().all(|part| line.contains(part)) && !line.ends_with(" 0"))
    };
    assert!(sample("aetherlink_local_actions_total{", &["tenant=\"ash\"", "action=\"pause\""]), "{text}");
    let route = "endpoint=\"/api/crm/import/{connector}/pause\"";
    assert!(sample("command_center_api_requests_total{", &[route, "method=\"POST\"", "status=\"200\""]), "{text}");
    assert!(sample("command_center_api_requests_total{", &[route, "status=\"404\""]), "{text}");
    assert!(!text.contains("page-77"), "no raw path in a label:\n{text}");
    assert!(sample("command_center_events_total{", &["event_type=", "severity="]), "{text}");
}

#[tokio::test]
async fn the_openapi_document_has_every_route_and_says_who_may() {
    let server = three().await;
    let document = server.get("/openapi.json").send().await.expect(200);
    assert!(text(&document, "/openapi").starts_with("3."), "{document}");
    let paths = document["paths"].as_object().expect("paths");
    let operation = |method: &str, path: &str| {
        let template = path.replace("/acculynx/", "/{connector}/");
        paths.get(path).or_else(|| paths.get(&template)).and_then(|item| item.get(method)).cloned()
    };
    for path in [
        "/ops/ping",
        "/ops/health",
        "/api/crm/import/acculynx/schedule/status",
        "/healthz",
        "/readyz",
        "/meta",
        "/metrics",
    ] {
        assert!(operation("get", path).is_some(), "GET {path}");
    }
    for (method, path) in [
        ("post", "/api/crm/import/acculynx/schedule"),
        ("get", "/api/crm/import/acculynx/schedule"),
        ("delete", "/api/crm/import/acculynx/schedule"),
        ("post", "/api/crm/import/acculynx/pause"),
        ("post", "/api/crm/import/acculynx/resume"),
        ("post", "/api/crm/import/acculynx/run-now"),
        ("get", "/api/crm/import/acculynx/audit"),
        ("get", "/ops/db"),
        ("get", "/ops/replication"),
        ("post", "/ops/restart"),
        ("get", "/analytics/summary"),
        ("get", "/analytics/tenants/{tenant}"),
        ("get", "/analytics/audit"),
        ("get", "/ops/drift"),
        ("get", "/ops/audit/verify"),
        ("post", "/ops/audit/verify"),
        ("get", "/ops/audit/checkpoint"),
        ("get", "/ops/audit/key"),
        ("post", "/ops/audit/set-aside"),
        ("get", "/ops/whoami"),
        ("post", "/ops/diff"),
        ("post", "/ops/apply"),
        ("get", "/ops/holds"),
        ("post", "/ops/holds/dismiss"),
        ("get", "/ops/windows"),
        ("get", "/ops/forecast"),
        ("post", "/ops/forecast"),
        ("get", "/ops/brake"),
        ("post", "/ops/brake"),
        ("delete", "/ops/brake"),
    ] {
        let operation = operation(method, path).unwrap_or_else(|| panic!("{method} {path}"));
        let secured = operation["security"].as_array().or_else(|| document["security"].as_array());
        assert!(secured.is_some_and(|schemes| !schemes.is_empty()), "{method} {path} needs a header: {operation}");
    }
    assert!(at(&document, "/components/securitySchemes").to_string().contains("x-ops"), "the Authorize button");
    let docs = server.get("/docs").send().await;
    assert!(docs.header("content-type").starts_with("text/html"), "{}", docs.header("content-type"));
    for remote in ["src=\"http", "href=\"http", "src=\"//", "url(http"] {
        assert!(!docs.text().contains(remote), "the page needs no internet: {remote}");
    }
}

#[tokio::test]
async fn store_replication_and_analytics_answer() {
    let server = busy().await;
    let get = async |path: &str| server.get(path).ops().send().await.expect(200);
    let db = get("/ops/db").await;
    assert!(text(&db, "/engine").contains("sqlite"), "{db}");
    assert!(db["schema_version"].is_u64() && db["dsn"].is_string(), "{db}");
    assert_eq!(at(&db, "/rows/schedules"), 3, "{db}");
    assert_eq!(at(&db, "/rows/audit"), 10, "{db}");
    let replication = get("/ops/replication").await;
    assert_eq!(replication["mode"], "off", "{replication}");
    for field in ["destination", "last_seq", "lag_entries", "lag_sec", "last_error"] {
        assert!(replication.as_object().is_some_and(|fields| fields.contains_key(field)), "{field}: {replication}");
    }
    let summary = get("/analytics/summary").await;
    assert!(summary.to_string().contains("\"schedules\":3"), "{summary}");
    let tenant = get("/analytics/tenants/ash").await;
    assert!(tenant.to_string().contains("noop"), "{tenant}");
    server.get("/analytics/tenants/nobody").ops().send().await.problem(404);
    server.get("/analytics/tenants/NoBody").ops().send().await.problem(400);
    let audit = get("/analytics/audit").await;
    assert!(audit.to_string().contains("scheduler.schedule.paused"), "{audit}");
    let verdict = get("/ops/audit/verify").await;
    assert_eq!(verdict["valid"], true, "{verdict}");
    assert_eq!(verdict["total_entries"], 10, "{verdict}");
    assert_eq!(verdict["first_bad_seq"], Value::Null, "{verdict}");
}

#[tokio::test]
async fn the_log_is_json_lines_with_the_frozen_fields() {
    let server = three().await;
    server.act("pause", "ash").send().await.expect(200);
    let line = common::eventually("the request's line", async || {
        let log = server.log("stdout");
        let mut lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.find(|line| text(line, "/endpoint").ends_with("/pause")).ok_or_else(|| log.clone())
    })
    .await;
    for field in [
        "timestamp",
        "level",
        "service",
        "endpoint",
        "method",
        "status",
        "duration_ms",
        "user_roles",
        "tenant_id",
        "component",
    ] {
        assert!(line.as_object().is_some_and(|fields| fields.contains_key(field)), "{field}: {line}");
    }
    assert_eq!(line["level"], "INFO", "{line}");
    assert_eq!(line["tenant_id"], "ash", "{line}");
    for line in server.log("stdout").lines() {
        serde_json::from_str::<Value>(line).unwrap_or_else(|e| panic!("every line is JSON ({e}): {line}"));
    }
}

#[tokio::test]
async fn schemas_are_served_as_they_are_committed() {
    let server = Options::default().start().await;
    for name in ["schedule.schema.json", "defaults.schema.json", "window.schema.json"] {
        let path = format!("/schemas/{name}");
        let reply = server.get(&path).send().await;
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas").join(name);
        assert_eq!(reply.text(), fs::read_to_string(file).expect("a schema").replace("\r\n", "\n"));
        assert_eq!(reply.header("content-type"), "application/schema+json");
        let again = server.get(&path).header("If-None-Match", reply.header("etag")).send().await;
        assert_eq!((again.code(), again.text().as_str()), (304, ""));
    }
    let unknown = server.get("/schemas/nothing.json").send().await.problem(404);
    assert_eq!(
        unknown["schemas"],
        json!(["schedule.schema.json", "defaults.schema.json", "window.schema.json"]),
        "{unknown}"
    );
    let document = server.get("/openapi.json").send().await.expect(200);
    assert!(
        at(&document, "/paths/~1schemas~1{name}/get/responses/200/content").get("application/schema+json").is_some()
    );
}
