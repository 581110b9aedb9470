//! Rows changed by hand in the database go back to what the files say, each repair audited.

mod common;

use common::{Options, Server, at, eventually, hold, http::change_of, text};
use rusqlite::Connection;
use serde_json::{Value, json};

const REPAIRED: &str = "operation=reconcile.drift.repaired";

async fn fleet() -> Server {
    let mut options = Options::default().noop("asleep", "interval_sec: 600\npaused: true\npause_reason: winter\n");
    for tenant in ["one", "two", "three"] {
        options = options.noop(tenant, "interval_sec: 600\n");
    }
    options.start().await
}

fn change_row(server: &Server, assignments: &str, tenant: &str) {
    let sql = format!("UPDATE schedules SET {assignments} WHERE connector='noop' AND tenant=?1");
    assert_eq!(server.sql().execute(&sql, [tenant]).expect("the change by hand"), 1);
}

fn next_due(connection: &Connection, tenant: &str) -> Option<i64> {
    let sql = "SELECT t.next_due_ms FROM timers t JOIN schedules s USING (id) WHERE s.tenant=?1";
    connection.query_row(sql, [tenant], |row| row.get(0)).expect("the timer's row")
}

async fn repaired(server: &Server, tenant: &str, field: &str) -> Value {
    let entry =
        server.until_audit(&format!("{REPAIRED}&tenant={tenant}"), |entry| change_of(entry, field).is_some()).await;
    assert_eq!(entry["source"], "command-center", "{entry}");
    entry
}

#[tokio::test]
async fn an_interval_changed_by_hand_goes_back() {
    let server = fleet().await;
    change_row(&server, "interval_sec=17", "one");
    let entry = repaired(&server, "one", "interval_sec").await;
    assert_eq!(change_of(&entry, "interval_sec"), Some(&json!({"field": "interval_sec", "from": 17, "to": 600})));
    let status = server.until("the file's interval", "one", |status| status["interval_sec"] == 600).await;
    assert_eq!(status["sync"], "synced", "{status}");
    assert!(server.read("schedules/noop/one.yaml").contains("interval_sec: 600"), "the file was not touched");
    server.passes(2).await;
    assert_eq!(server.audit(&format!("{REPAIRED}&tenant=one")).await.len(), 1, "repaired once, not at every pass");
    assert_eq!(server.audit(&format!("{REPAIRED}&tenant=two")).await.len(), 0, "and nobody else");
}

#[tokio::test]
async fn a_pause_flag_flipped_by_hand_goes_back_both_ways() {
    let server = fleet().await;
    change_row(&server, "paused=1", "one");
    change_row(&server, "paused=0", "asleep");
    let on = repaired(&server, "one", "paused").await;
    assert_eq!(change_of(&on, "paused"), Some(&json!({"field": "paused", "from": true, "to": false})));
    let off = repaired(&server, "asleep", "paused").await;
    assert_eq!(change_of(&off, "paused"), Some(&json!({"field": "paused", "from": false, "to": true})));
    let status = server.until("armed again", "one", |status| status["paused"] == false).await;
    assert!(status["next_run_in_sec"].is_u64(), "{status}");
    let status = server.until("paused again", "asleep", |status| status["paused"] == true).await;
    assert_eq!(status["next_run_in_sec"], Value::Null, "{status}");
    assert_eq!(status["pause_reason"], "winter", "{status}");
}

#[tokio::test]
async fn a_due_time_moved_or_lost_by_hand_goes_back() {
    let server = fleet().await;
    let connection = server.sql();
    let right = next_due(&connection, "one").expect("armed");
    let sql = "UPDATE timers SET next_due_ms=?2 WHERE id=(SELECT id FROM schedules WHERE tenant=?1)";
    for wrong in [Some(right + 86_400_001), Some(right + 1), None] {
        connection.execute(sql, rusqlite::params!["one", wrong]).expect("the change by hand");
        eventually("the due time goes back", async || {
            let due = next_due(&connection, "one");
            // The slot may have passed meanwhile; then it is a later one on the same grid.
            hold(due.is_some_and(|due| due >= right && (due - right) % 600_000 == 0), &format!("{due:?} for {right}"))
        })
        .await;
    }
    let entry = repaired(&server, "one", "next_run_iso").await;
    assert!(text(&entry, "/ts_iso").ends_with('Z'), "{entry}");
    eventually("an entry for each of the three", async || {
        let entries = server.audit(&format!("{REPAIRED}&tenant=one")).await;
        hold(entries.len() == 3, &format!("{entries:?}"))
    })
    .await;
}

#[tokio::test]
async fn a_row_deleted_by_hand_comes_back() {
    let server = fleet().await;
    let before = server.status("two").await;
    assert_eq!(server.sql().execute("DELETE FROM schedules WHERE tenant='two'", []).expect("by hand"), 1);
    let entry = repaired(&server, "two", "interval_sec").await;
    assert_eq!(at(&change_of(&entry, "interval_sec").cloned().unwrap_or_default(), "/to"), 600);
    let status = server.until("back", "two", |status| status["interval_sec"] == 600).await;
    assert_eq!(status["etag"], before["etag"], "{status}");
    assert_eq!(status["next_run_iso"], before["next_run_iso"], "the rhythm does not shift");
    let ran = server.act("run-now", "two").send().await.expect(200);
    assert_eq!(ran["ok"], true, "and it works: {ran}");
    let created = server.audit("operation=scheduler.schedule.created&tenant=two").await;
    assert_eq!(created.len(), 1, "a repair is not a creation: {created:?}");
}

#[tokio::test]
async fn a_row_that_no_file_wants_goes_away_and_a_healthy_fleet_stays() {
    let server = fleet().await;
    let copied = server.sql().execute(
        "INSERT INTO schedules (connector, tenant, interval_sec, paused, spec, fingerprint, digest, stamp, created_ms, updated_ms)
         SELECT connector, 'ghost', interval_sec, paused, spec, fingerprint, digest, stamp, created_ms, updated_ms
         FROM schedules WHERE tenant='one'",
        [],
    );
    assert_eq!(copied.expect("by hand"), 1);
    server.until("the ghost is gone", "ghost", Value::is_null).await;
    let tenants: Vec<String> = server.statuses("noop").await.into_keys().collect();
    assert_eq!(tenants, ["asleep", "one", "three", "two"]);
}

#[tokio::test]
async fn drift_made_while_nothing_ran_is_found_at_start() {
    let mut server = fleet().await;
    server.stop().await;
    change_row(&server, "interval_sec=5, paused=1", "three");
    server.launch().await;
    let status = server.until("as the file says", "three", |status| status["paused"] == false).await;
    assert_eq!(status["interval_sec"], 600, "{status}");
    repaired(&server, "three", "interval_sec").await;
    repaired(&server, "three", "paused").await;
    server.cli(&["audit", "verify"]).expect(0);
}

#[tokio::test]
async fn drift_is_found_while_edits_keep_coming() {
    let server = Options::default().interval(2).noop("busy", "interval_sec: 600\n").noop("one", "interval_sec: 600\n");
    let server = server.start().await;
    change_row(&server, "interval_sec=17", "one");
    // Each edit wakes the loop for its own file; the full pass must not wait for a quiet moment.
    let began = std::time::Instant::now();
    for n in 0.. {
        server.write("schedules/noop/busy.yaml", format!("interval_sec: {}\n", 600 + n % 7));
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        if server.status("one").await["interval_sec"] == 600 {
            return;
        }
        assert!(began.elapsed() < common::PATIENCE, "five edits a second keep a two-second pass from coming");
    }
}

#[tokio::test]
async fn the_reports_totals_add_up() {
    let server = fleet().await;
    server.write("schedules/noop/two.yaml", "interval_sec: [\n");
    let health = server.until_health("one invalid file", |health| at(health, "/desired/invalid") == 1).await;
    assert_eq!(at(&health, "/desired/schedules"), 4, "{health}");
    assert_eq!(at(&health, "/desired/synced"), 3, "{health}");
    assert_eq!(at(&health, "/drift/sync/synced"), 3, "{health}");
    assert_eq!(at(&health, "/drift/sync/invalid"), 1, "{health}");
    let pass = at(&health, "/drift/last_full_reconcile");
    assert!(text(pass, "/at_iso").ends_with('Z') && pass["duration_ms"].is_number(), "{health}");
    assert!(pass["changes"].is_u64(), "{health}");
    for figure in ["p50_ms", "p99_ms"] {
        assert!(at(&health, "/drift/convergence")[figure].is_number(), "{figure}: {health}");
    }
    let report = server.get("/ops/drift").ops().send().await.expect(200);
    assert_eq!(at(&report, "/totals/sync/invalid"), 1, "{report}");
    let item = report["items"].as_array().and_then(|items| items.iter().find(|item| item["tenant"] == "two"));
    let item = item.unwrap_or_else(|| panic!("the broken file is an item: {report}"));
    for field in ["facet", "since_iso", "sync", "action"] {
        assert!(!text(item, &format!("/{field}")).is_empty(), "{field}: {item}");
    }
}
