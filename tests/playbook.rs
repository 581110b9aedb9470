//! The playbook's test matrix, in its order, on the real binary with the practice AccuLynx.
#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod common;

use common::{Options, Server, at, eventually, hold, http::change_of, text};
use serde_json::{Value, json};

const TENANT: &str = "field-tenant";
const BASE: &str = "/api/crm/import/acculynx";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_playbooks_matrix_in_order() {
    let mut server = Server::start_sandboxed(Options::default()).await;
    health_checks(&server).await;
    create_with_the_ops_header(&server).await;
    status_shows_it_and_imports_appear(&server).await;
    pause_run_now_resume(&server).await;
    let before = audit_tells_all_of_it(&server).await;
    everything_persists(&mut server, &before).await;
}

async fn health_checks(server: &Server) {
    let ping = server.get("/ops/ping").send().await.expect(200);
    assert_eq!(ping, json!({"ok": true, "status": "up", "service": "command-center"}));
    let health = server.health().await;
    for section in ["scheduler", "db", "replication", "desired"] {
        assert_eq!(at(&health, &format!("/{section}/status")), 1, "{section}: {health}");
    }
}

async fn create_with_the_ops_header(server: &Server) {
    let refused = server.post(&format!("{BASE}/schedule")).tenant(TENANT).json(&json!({"interval_sec": 120}));
    refused.send().await.problem(403);

    let create = server.post(&format!("{BASE}/schedule")).ops().tenant(TENANT).json(&json!({"interval_sec": 120}));
    let answer = create.send().await.expect(200);
    assert_eq!(answer["ok"], true, "{answer}");
    assert_eq!(at(&answer, &format!("/schedules/{TENANT}/interval_sec")), 120, "{answer}");
    assert!(!text(&answer, "/action_id").is_empty(), "{answer}");
    assert_eq!(answer["audit"].as_array().map(Vec::len), Some(1), "one entry for one creation: {answer}");
    let file = server.read(&format!("schedules/acculynx/{TENANT}.yaml"));
    assert!(file.contains("interval_sec: 120"), "the schedule is a file: {file}");
}

async fn status_shows_it_and_imports_appear(server: &Server) {
    let status = status(server).await;
    assert_eq!(status["interval_sec"], 120, "{status}");
    assert_eq!(status["paused"], false, "{status}");
    assert!(status.as_object().is_some_and(|fields| fields.contains_key("last_run_iso")), "{status}");
    let next = status["next_run_in_sec"].as_u64().unwrap_or_else(|| panic!("a countdown: {status}"));
    assert!(next <= 120, "{status}");
    assert_eq!(status["file"], format!("schedules/acculynx/{TENANT}.yaml"), "{status}");
    assert_eq!(status["sync"], "synced", "{status}");

    // A short interval, so that the schedule's own rhythm is seen to import.
    let faster = server.post(&format!("{BASE}/schedule")).ops().tenant(TENANT).json(&json!({"interval_sec": 2}));
    faster.send().await.expect(200);
    let status = eventually("the schedule imports by itself", async || {
        let status = self::status(server).await;
        hold(status["last_status"]["ok"] == true, &status).map(|()| status)
    })
    .await;
    let stats = at(&status, "/last_status/result/stats");
    for count in ["imported", "updated", "skipped", "failed"] {
        assert!(stats[count].is_u64(), "{count}: {status}");
    }
    assert!(status["last_run"].is_f64(), "epoch seconds: {status}");
    assert!(text(&status, "/last_run_iso").ends_with('Z'), "{status}");
    assert_eq!(status["consecutive_failures"], 0, "{status}");
    let metrics = server.get("/metrics").send().await.text();
    let counted = metrics.lines().any(|line| {
        line.starts_with("aetherlink_acculynx_scheduled_imports_total{")
            && line.contains(TENANT)
            && !line.ends_with(" 0")
    });
    assert!(counted, "a scheduled import is counted:\n{metrics}");
    let records: i64 = server.sql().query_row("SELECT count(*) FROM records", [], |row| row.get(0)).unwrap();
    assert!(records > 0, "records were stored");
}

async fn pause_run_now_resume(server: &Server) {
    let paused = act(server, "pause").json(&json!({"reason": "roof inspection"})).send().await.expect(200);
    let status = at(&paused, &format!("/schedules/{TENANT}"));
    assert_eq!(status["paused"], true, "{status}");
    assert_eq!(status["pause_reason"], "roof inspection", "{status}");
    assert_eq!(status["next_run_in_sec"], Value::Null, "{status}");

    // A run that was under way at the pause may still end; after it, nothing starts by itself.
    let calm = eventually("no run under way", async || {
        let status = self::status(server).await;
        hold(status["running"] == false, &status).map(|()| status)
    })
    .await;
    let ran = act(server, "run-now").send().await.expect(200);
    assert_eq!(ran["ok"], true, "{ran}");
    assert_eq!(ran["state"], "done", "{ran}");
    assert!(at(&ran, "/result/stats/imported").is_u64(), "{ran}");
    let after = self::status(server).await;
    assert!(after["last_run"].as_f64() > calm["last_run"].as_f64(), "run-now ran while paused: {after}");
    assert_eq!(after["paused"], true, "{after}");
    assert_eq!(after["next_run_in_sec"], Value::Null, "still no countdown: {after}");
    assert_eq!(after["next_run_iso"], Value::Null, "{after}");

    let resumed = act(server, "resume").send().await.expect(200);
    let status = at(&resumed, &format!("/schedules/{TENANT}"));
    assert_eq!(status["paused"], false, "{status}");
    assert_eq!(status["pause_reason"], Value::Null, "{status}");
    assert!(status["next_run_in_sec"].is_u64(), "{status}");
}

async fn audit_tells_all_of_it(server: &Server) -> Vec<Value> {
    let answer = server.get(&format!("{BASE}/audit?tenant={TENANT}")).ops().send().await.expect(200);
    let entries = answer["entries"].as_array().cloned().unwrap_or_default();
    let operations: Vec<&str> = entries.iter().rev().map(|entry| text(entry, "/operation")).collect();
    let expected = [
        "scheduler.schedule.created",
        "scheduler.schedule.updated",
        "scheduler.schedule.paused",
        "scheduler.import.force_run",
        "scheduler.schedule.resumed",
    ];
    assert_eq!(operations, expected, "{answer}");
    for entry in &entries {
        assert_eq!(entry["source"], "ui", "{entry}");
        assert_eq!(entry["tenant"], TENANT, "{entry}");
        assert_eq!(entry["connector"], "acculynx", "{entry}");
        assert!(text(entry, "/ts_iso").ends_with('Z'), "{entry}");
        assert!(entry["ts"].is_number() && entry["seq"].is_u64(), "{entry}");
        assert_eq!(text(entry, "/action_id").as_bytes().get(14), Some(&b'7'), "a UUIDv7: {entry}");
        assert_eq!(text(entry, "/hash").len(), 64, "{entry}");
        assert_eq!(text(entry, "/prev_hash").len(), 64, "{entry}");
    }
    let change = |index: usize, field: &str| change_of(&entries[entries.len() - 1 - index], field).cloned();
    assert_eq!(change(0, "interval_sec"), Some(json!({"field": "interval_sec", "from": null, "to": 120})));
    assert_eq!(change(1, "interval_sec"), Some(json!({"field": "interval_sec", "from": 120, "to": 2})));
    assert_eq!(change(2, "paused"), Some(json!({"field": "paused", "from": false, "to": true})));
    assert_eq!(change(4, "paused"), Some(json!({"field": "paused", "from": true, "to": false})));
    entries
}

async fn everything_persists(server: &mut Server, before: &[Value]) {
    let last_run = status(server).await["last_run"].as_f64();
    server.restart().await;
    let status = status(server).await;
    assert_eq!(status["interval_sec"], 2, "{status}");
    assert_eq!(status["paused"], false, "{status}");
    assert!(status["last_run"].as_f64() >= last_run, "the last run is remembered: {status}");
    let answer = server.get(&format!("{BASE}/audit?tenant={TENANT}")).ops().send().await.expect(200);
    let entries = answer["entries"].as_array().cloned().unwrap_or_default();
    let kept = &entries[entries.len() - before.len()..];
    assert_eq!(kept, before, "every entry is as it was");
    let verdict = server.get("/ops/audit/verify").ops().send().await.expect(200);
    assert_eq!(verdict["valid"], true, "{verdict}");
    eventually("imports go on after the restart", async || {
        let status = self::status(server).await;
        hold(status["last_run"].as_f64() > last_run && status["last_status"]["ok"] == true, &status)
    })
    .await;
}

fn act(server: &Server, action: &str) -> common::Call {
    server.post(&format!("{BASE}/{action}")).ops().tenant(TENANT)
}

async fn status(server: &Server) -> Value {
    server.statuses("acculynx").await.remove(TENANT).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_missing_fails_only_its_own_runs_and_says_what_is_missing() {
    let server = Options::default()
        .file("schedules/acculynx/keyless.yaml", "interval_sec: 3600\n")
        .noop("well", "interval_sec: 3600\n")
        .start()
        .await;
    let ran = server.post(&format!("{BASE}/run-now")).ops().tenant("keyless").send().await.expect(200);
    assert_eq!(ran["ok"], false, "{ran}");
    assert!(text(&ran, "/message").contains("api_key"), "the message names the missing key: {ran}");
    let status = at(&ran, "/schedules/keyless");
    assert_eq!(status["last_status"]["ok"], false, "{ran}");
    assert_eq!(status["consecutive_failures"], 1, "{ran}");
    let well = server.act("run-now", "well").send().await.expect(200);
    assert_eq!(well["ok"], true, "{well}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_sandboxed_tenants_have_data_of_their_own_and_a_second_import_repeats_nothing() {
    let server = Server::start_sandboxed(Options::default()).await;
    for tenant in ["east", "west"] {
        let body = json!({"interval_sec": 86_400});
        server.post(&format!("{BASE}/schedule")).ops().tenant(tenant).json(&body).send().await.expect(200);
        let first = server.post(&format!("{BASE}/run-now")).ops().tenant(tenant).send().await.expect(200);
        assert_eq!(first["ok"], true, "{first}");
        let imported = at(&first, "/result/stats/imported").as_u64();
        assert!(imported > Some(0), "{first}");
        let second = server.post(&format!("{BASE}/run-now")).ops().tenant(tenant).send().await.expect(200);
        assert_eq!(second["ok"], true, "{second}");
        assert!(at(&second, "/result/stats/imported").as_u64() < imported, "the bookmark spares the rest: {second}");
    }
    let keys: i64 = server
        .sql()
        .query_row(
            "SELECT count(*) FROM records a JOIN records b USING (resource, key) WHERE a.tenant='east' AND b.tenant='west'",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(keys, 0, "two companies share no record");
}
