//! Programs run by the real binary: only listed ones, and what a killed server does about them.
#![cfg(unix)]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use common::{Options, Server, at, eventually, hold, text};
use serde_json::{Value, json};

const BASE: &str = "/api/crm/import/exec";

fn script(folder: &Path, name: &str, body: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).expect("a script");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("its mode");
    path
}

fn schedule(program: &Path, more: &str) -> String {
    format!("interval_sec: 86400\nconnection: {{ command: [{:?}] }}\n{more}", program.to_str().expect("a plain path"))
}

async fn run(server: &Server, tenant: &str) -> Value {
    server.post(&format!("{BASE}/run-now?wait=30")).ops().tenant(tenant).send().await.expect(200)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listed_program_runs_and_another_does_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let listed = script(folder.path(), "listed", "env >&2; echo '{\"imported\": 4, \"failed\": 1}'");
    let other = script(folder.path(), "other", "touch $(dirname $0)/ran; echo '{\"imported\": 1}'");
    let options = Options::default()
        .file("schedules/exec/good.yaml", &schedule(&listed, ""))
        .file("schedules/exec/bad.yaml", &schedule(&other, ""))
        .env("COMMAND_CENTER_EXEC_ALLOW", &format!("{},no-such-program", listed.display()))
        .env("CC_SECRET_OTHER", "not-for-programs");
    let server = options.start().await;
    assert!(server.log("stdout").contains("COMMAND_CENTER_EXEC_ALLOW lists no-such-program"), "{}", server.log_tail());

    let good = run(&server, "good").await;
    assert_eq!(at(&good, "/result/stats"), &json!({"imported": 4, "updated": 0, "skipped": 0, "failed": 1}), "{good}");
    let log: String =
        server.sql().query_row("SELECT log FROM runs WHERE ok", [], |row| row.get(0)).expect("the run's log");
    assert!(log.contains("COMMAND_CENTER_TENANT=good") && log.contains("COMMAND_CENTER_RUN_ID="), "{log}");
    assert!(!log.contains("CC_SECRET") && !log.contains("COMMAND_CENTER_DSN"), "{log}");

    let bad = run(&server, "bad").await;
    assert_eq!(at(&bad, "/ok"), false, "{bad}");
    let message = text(&bad, "/message");
    let expected = format!("this server may not run {}: add it to COMMAND_CENTER_EXEC_ALLOW", other.display());
    assert!(message.starts_with(&expected), "{message}");
    assert!(!folder.path().join("ran").exists());
    let class: String =
        server.sql().query_row("SELECT error_class FROM runs WHERE NOT ok", [], |row| row.get(0)).expect("its class");
    assert_eq!(class, "configuration");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_a_crash_cut_off_is_tried_again_only_when_asked_for() {
    let folder = tempfile::tempdir().expect("a folder");
    // Hangs the first time that a tenant's import runs.
    let body = "here=$(dirname $0); echo $$ > $here/$COMMAND_CENTER_TENANT.id; echo x >> $here/$COMMAND_CENTER_TENANT
        if [ $(wc -l < $here/$COMMAND_CENTER_TENANT) -eq 1 ]; then sleep 600; fi; echo '{\"imported\": 1}'";
    let program = script(folder.path(), "slow", body);
    let options = Options::default()
        .file("schedules/exec/once.yaml", &schedule(&program, ""))
        .file("schedules/exec/again.yaml", &schedule(&program, "retries: 1\n"))
        .env("COMMAND_CENTER_EXEC_ALLOW", program.to_str().expect("a plain path"));
    let mut server = options.start().await;
    let count = |tenant: &str| std::fs::read_to_string(folder.path().join(tenant)).unwrap_or_default().lines().count();
    for tenant in ["once", "again"] {
        server.post(&format!("{BASE}/run-now?wait=0")).ops().tenant(tenant).send().await.expect(202);
        eventually("it runs", async || hold(count(tenant) == 1, &count(tenant))).await;
    }
    let scratch = server.path("data/command_center.db.exec");
    let left = || std::fs::read_dir(&scratch).map_or(0, Iterator::count);
    assert_eq!(left(), 2, "each run has a directory");
    server.kill9();
    server.launch().await;
    eventually("the one is tried again", async || {
        let status = server.statuses("exec").await.remove("again").unwrap_or_default();
        hold(at(&status, "/last_status/ok") == true, &status)
    })
    .await;
    assert_eq!((count("again"), count("once")), (2, 1));
    let once = server.statuses("exec").await.remove("once").unwrap_or_default();
    assert!(text(&once, "/last_status/message").starts_with("interrupted"), "{once}");
    if cfg!(target_os = "linux") {
        let id = std::fs::read_to_string(folder.path().join("once.id")).expect("the program's id");
        eventually("the program that was left behind is gone", async || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", id.trim())).unwrap_or_default();
            hold(stat.is_empty() || stat.contains(") Z "), &stat)
        })
        .await;
    }
    assert_eq!(left(), 0, "what the killed server left is cleared away");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_a_crash_cut_off_says_how_much_it_had_stored() {
    let folder = tempfile::tempdir().expect("a folder");
    let body = r#"echo '{"type": "SCHEMA", "stream": "s", "schema": {}, "key_properties": ["id"]}'
        seq 3000 | sed 's/.*/{"type": "RECORD", "stream": "s", "record": {"id": &}}/'; sleep 600"#;
    let program = script(folder.path(), "tap", body);
    let options = Options::default().file("schedules/exec/tap.yaml", &schedule(&program, ""));
    let mut server = options.env("COMMAND_CENTER_EXEC_ALLOW", program.to_str().expect("a plain path")).start().await;
    server.post(&format!("{BASE}/run-now?wait=0")).ops().tenant("tap").send().await.expect(202);
    let run = async |server: &Server| {
        let runs = server.get(&format!("{BASE}/runs")).ops().tenant("tap").send().await.expect(200);
        at(&runs, "/runs/0").clone()
    };
    eventually("its counts come while it goes on", async || {
        let run = run(&server).await;
        hold(run["state"] == "running" && at(&run, "/stats/imported").as_u64() > Some(0), &run)
    })
    .await;
    server.kill9();
    server.launch().await;
    let run = run(&server).await;
    let stored: i64 = server.sql().query_row("SELECT count(*) FROM records", [], |row| row.get(0)).expect("a count");
    let said = (run["state"].as_str(), at(&run, "/stats/imported").as_i64());
    assert_eq!(said, (Some("interrupted"), Some(stored)), "{run}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_waited_for_room_at_a_crash_runs_after_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let body = "here=$(dirname $0); echo x >> $here/$COMMAND_CENTER_TENANT
        if [ $COMMAND_CENTER_TENANT = first ]; then sleep 600; fi; echo '{\"imported\": 1}'";
    let program = script(folder.path(), "slow", body);
    let options = Options::default()
        .file("schedules/exec/first.yaml", &schedule(&program, ""))
        .file("schedules/exec/second.yaml", &schedule(&program, ""))
        .env("COMMAND_CENTER_MAX_RUNS_PER_CONNECTOR", "exec=1")
        .env("COMMAND_CENTER_EXEC_ALLOW", program.to_str().expect("a plain path"));
    let mut server = options.start().await;
    let has_run = |tenant: &str| folder.path().join(tenant).exists();
    server.post(&format!("{BASE}/run-now?wait=0")).ops().tenant("first").send().await.expect(202);
    eventually("it runs", async || hold(has_run("first"), &"")).await;
    server.post(&format!("{BASE}/run-now?wait=0")).ops().tenant("second").send().await.expect(202);
    let waiting = server.statuses("exec").await.remove("second").unwrap_or_default();
    assert_eq!((&waiting["queued"], has_run("second")), (&true.into(), false), "{waiting}");
    server.kill9();
    server.launch().await;
    eventually("nothing had begun that could not be repeated", async || {
        let status = server.statuses("exec").await.remove("second").unwrap_or_default();
        hold(at(&status, "/last_status/ok") == true, &status)
    })
    .await;
}
