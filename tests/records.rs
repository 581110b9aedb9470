//! Imported records over the real binary: listed, downloaded, counted, deleted and imported again.

mod common;

use std::collections::BTreeSet;

use common::{Options, Server, at, eventually, hold, text};
use serde_json::{Value, json};

const BASE: &str = "/api/crm/import/acculynx";

/// A server with the practice AccuLynx, where tenant `east` has been imported.
async fn imported() -> Server {
    let server = Server::start_sandboxed(Options::default()).await;
    let body = json!({"interval_sec": 86_400});
    server.post(&format!("{BASE}/schedule")).ops().tenant("east").json(&body).send().await.expect(200);
    import(&server).await;
    server
}

async fn import(server: &Server) -> u64 {
    let ran = server.post(&format!("{BASE}/run-now")).ops().tenant("east").send().await.expect(200);
    assert_eq!(ran["ok"], true, "{ran}");
    at(&ran, "/result/stats/imported").as_u64().unwrap_or_default()
}

fn get(server: &Server, rest: &str) -> common::Call {
    server.get(&format!("{BASE}/records{rest}")).ops().tenant("east")
}

async fn summary(server: &Server) -> Value {
    get(server, "/summary").send().await.expect(200)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_are_listed_and_downloaded_whole() {
    let server = imported().await;
    let counts = summary(&server).await;
    let total = counts["records"].as_u64().unwrap_or_default();
    assert!(total > 100, "{counts}");
    let (mut keys, mut cursor) = (BTreeSet::new(), String::new());
    loop {
        let page = get(&server, &format!("?limit=60&cursor={cursor}")).send().await.expect(200);
        let records = page["records"].as_array().cloned().unwrap_or_default();
        assert!((1..=60).contains(&records.len()), "{}", records.len());
        for record in &records {
            assert!(record["payload"]["id"].is_string() || record["payload"]["id"].is_number(), "{record}");
            assert!(keys.insert((text(record, "/resource").to_owned(), text(record, "/key").to_owned())), "{record}");
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(keys.len() as u64, total);

    let download = get(&server, "/export").send().await;
    assert_eq!(download.header("content-type"), "application/x-ndjson");
    let lines: Vec<Value> = download.text().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let found: BTreeSet<_> = lines.iter().map(|l| (text(l, "/resource").into(), text(l, "/key").into())).collect();
    assert_eq!(found, keys);

    let one = &lines[0];
    let path = format!("?resource={}&key={}", text(one, "/resource"), text(one, "/key"));
    let page = get(&server, &path).send().await.expect(200);
    assert_eq!(page["records"], json!([one]));
    assert_eq!(get(&server, "?changed_since=2999-01-01T00:00:00Z").send().await.expect(200)["records"], json!([]));
    get(&server, "?resource=no/such").send().await.problem(400);
    get(&server, "?cursor=zz").send().await.problem(400);
    server.get(&format!("{BASE}/records")).ops().send().await.problem(400);
    server.get(&format!("{BASE}/records")).role("viewer").tenant("east").send().await.problem(403);
    get(&server, "").header("X-User-Tenant", "west").send().await.problem(403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleted_records_are_gone_and_come_back_with_the_next_import() {
    let mut server = imported().await;
    let before = summary(&server).await;
    let total = before["records"].as_u64().unwrap_or_default();
    let delete = |query: &str| server.delete(&format!("{BASE}/records{query}")).ops().tenant("east");
    let counted = delete("?dry_run=1").send().await.expect(200);
    assert_eq!((counted["records"].as_u64(), &counted["audit"]), (Some(total), &json!([])), "{counted}");
    assert_eq!(summary(&server).await, before, "counting changes nothing");

    let jobs = delete("?resource=jobs").send().await.expect(200);
    assert_eq!(jobs["resources"].as_array().map(Vec::len), Some(1), "{jobs}");
    let left = summary(&server).await;
    assert_eq!(at(&left, "/resources/0/resource"), "contacts", "{left}");
    server.kill9();
    server.launch().await;
    assert_eq!(summary(&server).await, left, "what was answered survives");
    eventually("the space is given back", async || {
        let rows: i64 = server
            .sql()
            .query_row("SELECT count(*) FROM records WHERE resource = 'jobs'", [], |row| row.get(0))
            .expect("a count");
        hold(rows == 0, &rows)
    })
    .await;
    assert_eq!(import(&server).await, jobs["records"].as_u64().unwrap_or_default(), "all jobs are new again");
    assert_eq!(summary(&server).await["records"], total);

    let entries = server.get(&format!("{BASE}/audit?operation=import.records.deleted")).ops().send().await.expect(200);
    assert_eq!(entries["entries"].as_array().map(Vec::len), Some(1), "{entries}");
    assert_eq!(at(&entries, "/entries/0/metadata/resources/jobs"), &jobs["records"], "{entries}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_asks_before_it_deletes() {
    let server = imported().await;
    let total = summary(&server).await["records"].as_u64().unwrap_or_default();
    server.cli(&["records", "summary", "east"]).expect(0).says("contacts").says("jobs");
    let listed = server.cli(&["records", "list", "east", "--limit", "70", "--output", "json"]).expect(0).json();
    assert_eq!(listed["records"].as_array().map(Vec::len), Some(70));
    let file = server.path("east.jsonl");
    let path = file.to_string_lossy().into_owned();
    server.cli(&["records", "export", "east", "--out", &path]).expect(0).says(&format!("{total} records"));
    assert_eq!(std::fs::read_to_string(&file).expect("the download").lines().count() as u64, total);

    server.cli(&["records", "delete", "east"]).expect(1).says("would be deleted").says("--yes");
    assert_eq!(summary(&server).await["records"], total);
    server.cli(&["records", "delete", "east", "--yes"]).expect(0).says(&format!("{total} records"));
    assert_eq!(summary(&server).await["records"], 0);
    server.cli(&["records", "delete", "east", "--yes"]).expect(0).says("nothing to delete");
    let log = server.log("stdout");
    let payload = std::fs::read_to_string(&file).expect("the download");
    let first: Value = serde_json::from_str(payload.lines().next().unwrap_or_default()).expect("JSON");
    let key = text(&first, "/key");
    assert!(!log.contains(key), "no record's content stands in the log");
}
