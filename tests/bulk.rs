//! Many schedules at once as callers meet it: the plan first, all or nothing, undone again.

mod common;

use common::{Options, Server, noop_file, text};
use serde_json::{Value, json};

const WEST: &str = "interval_sec: 300 # ours\nlabels: { region: west }\n";
const EAST: &str = "interval_sec: 60\nlabels: { region: east }\n";

fn options() -> Options {
    Options::default().noop("ash", WEST).noop("birch", WEST).noop("cedar", EAST)
}

async fn bulk(server: &Server, body: &Value, code: u16) -> Value {
    let reply = server.post("/ops/bulk").ops().json(body).send().await;
    if code == 200 { reply.expect(200) } else { reply.problem(code) }
}

fn paused(text: &str) -> bool {
    text.contains("paused: true")
}

#[tokio::test]
async fn a_choice_is_shown_carried_out_undone_and_survives_a_kill() {
    let mut server = options().start().await;
    let west = json!({"labels": {"region": "west"}});
    let plan = bulk(&server, &json!({"action": "pause", "select": west, "reason": "storm"}), 200).await;
    assert_eq!(
        (&plan["dry_run"], &plan["selected"], &plan["changing"]),
        (&json!(true), &json!(2), &json!(2)),
        "{plan}"
    );
    assert!(!paused(&server.read(&noop_file("ash"))));

    let body =
        json!({"action": "pause", "select": west, "reason": "storm", "dry_run": false, "digest": plan["digest"]});
    let call = || server.post("/ops/bulk").ops().header("Idempotency-Key", "k1").json(&body);
    let done = call().send().await.expect(200);
    assert_eq!((&done["ok"], done["audit"].as_array().map(Vec::len)), (&json!(true), Some(2)), "{done}");
    assert_eq!(call().send().await.header("idempotent-replay"), "true");
    let action = text(&done, "/action_id").to_owned();
    let entries = server.audit("operation=pause").await;
    assert_eq!(entries.iter().filter(|entry| entry["action_id"] == action.as_str()).count(), 2, "{entries:?}");
    server.kill9();
    server.launch().await;
    assert!(paused(&server.read(&noop_file("ash"))) && paused(&server.read(&noop_file("birch"))));
    assert!(!paused(&server.read(&noop_file("cedar"))));

    let undo = format!("/ops/bulk/{action}/undo");
    let shown = server.post(&undo).ops().send().await.expect(200);
    assert_eq!((&shown["dry_run"], &shown["changing"]), (&json!(true), &json!(2)), "{shown}");
    server.post(&undo).ops().json(&json!({"dry_run": false})).send().await.expect(200);
    assert_eq!((server.read(&noop_file("ash")), server.read(&noop_file("birch"))), (WEST.to_owned(), WEST.to_owned()));
    let entry = server.audit("tenant=ash").await.remove(0);
    assert_eq!(entry["metadata"]["undoes"], action.as_str(), "{entry}");
    server.post("/ops/bulk/0190/undo").ops().json(&json!({"dry_run": false})).send().await.problem(404);
}

#[tokio::test]
async fn what_cannot_be_done_changes_nothing_and_is_named() {
    let server = options().start().await;
    let set = |set: Value, select: Value| json!({"action": "set", "set": set, "select": select, "dry_run": false});
    let all = json!({"all": true});
    let refused = bulk(&server, &set(json!({"interval_sec": 0}), all.clone()), 409).await;
    assert_eq!(refused["refused"].as_array().map(Vec::len), Some(3), "{refused}");
    let refused = bulk(&server, &set(json!({"interval_sec": 9}), json!({"tenants": ["ash", "nobody"]})), 409).await;
    assert_eq!(
        (text(&refused, "/type"), text(&refused, "/refused/0/tenant")),
        ("urn:command-center:problem:bulk-refused", "nobody")
    );
    assert_eq!(server.read(&noop_file("ash")), WEST);
    for bad in [
        set(json!({}), all.clone()),
        set(json!({"interval_sec": 9}), json!({})),
        json!({"action": "pause", "select": all, "digest": "00"}),
        json!({"action": "burn", "select": all}),
    ] {
        bulk(&server, &bad, 422).await;
    }
    let moved = bulk(&server, &json!({"action": "delete", "select": all, "dry_run": false, "digest": "00"}), 409).await;
    assert_eq!(text(&moved, "/type"), "urn:command-center:problem:plan-moved");

    let own = |body: Value| server.post("/ops/bulk").ops().header("X-User-Tenant", "ash").json(&body).send();
    let others = own(json!({"action": "pause", "select": {"labels": {"region": "west"}}})).await.problem(403);
    assert_eq!(others["reason"], "other_tenant");
    own(json!({"action": "pause", "select": {"tenants": ["ash"]}, "dry_run": false})).await.expect(200);
    assert!(paused(&server.read(&noop_file("ash"))));
    server.post("/ops/bulk").role("viewer").json(&json!({"action": "pause", "select": all})).send().await.problem(403);
}

#[tokio::test]
async fn a_large_part_of_the_fleet_takes_a_confirmation() {
    let options = (0..12).fold(Options::default(), |options, n| options.noop(&format!("t{n:02}"), EAST));
    let server = options.start().await;
    let body = json!({"action": "delete", "select": {"connector": "noop"}, "dry_run": false, "reason": "closed"});
    let held = bulk(&server, &body, 409).await;
    assert_eq!((text(&held, "/type"), &held["held"]), ("urn:command-center:problem:bulk-held", &json!(12)), "{held}");
    assert_eq!(server.audit("operation=scheduler.bulk.held").await.len(), 1);
    let ended = server.cli(&["schedule", "delete", "--connector", "noop", "--yes"]).expect(1);
    ended.says("--confirm");
    let ended = server.cli(&["schedule", "delete", "--connector", "noop", "--yes", "--output", "json"]).expect(1);
    assert_eq!(ended.json()["held"], 12);
    let digest = text(&held, "/digest");
    server.cli(&["schedule", "delete", "--connector", "noop", "--confirm", digest, "--reason", "closed"]).expect(0);
    assert!(server.statuses("noop").await.is_empty());
    let entry = server.audit("operation=delete").await.remove(0);
    assert_eq!((&entry["metadata"]["confirmed"], &entry["metadata"]["reason"]), (&json!(digest), &json!("closed")));
    let action = text(&entry, "/action_id");
    server.cli(&["schedule", "undo", action, "--yes"]).expect(0).says("undo: 12 of 12");
    assert_eq!(server.statuses("noop").await.len(), 12);
}

#[tokio::test]
async fn the_command_line_shows_the_plan_before_the_deed() {
    let server = options().start().await;
    let shown = server.cli(&["schedule", "pause", "--label", "region=west", "--reason", "storm"]).expect(1);
    shown.says("2 of 2 schedules change").says("repeat the command with --yes").says("noop/birch");
    assert!(!paused(&server.read(&noop_file("ash"))));
    server.cli(&["schedule", "pause", "--label", "region=west", "--dry-run"]).expect(0).says("2 of 2");
    let done =
        server.cli(&["schedule", "pause", "--label", "region=west", "--yes", "--output", "json"]).expect(0).json();
    assert_eq!(done["changing"], 2, "{done}");
    assert!(paused(&server.read(&noop_file("birch"))));

    let list = server.path("list.txt");
    std::fs::write(&list, "ash # first\n\nnoop/birch\n").expect("written");
    let list = list.to_str().expect("a path");
    server.cli(&["schedule", "resume", "--connector", "noop", "--from-file", list, "--yes"]).expect(0);
    assert!(!paused(&server.read(&noop_file("ash"))));
    server.cli(&["schedule", "set", "noop/ash", "noop/cedar", "interval_sec=7", "--yes"]).expect(0).says("set: 2 of 2");
    assert!(server.read(&noop_file("ash")).starts_with("interval_sec: 7 # ours\n"));
    server.cli(&["schedule", "set", "cedar", "--connector", "noop", "--preset", "nightly"]).expect(0);
    assert!(server.read(&noop_file("cedar")).contains("jitter_sec: 3600"), "{}", server.read(&noop_file("cedar")));
    let ran = server.cli(&["schedule", "run-now", "--connector", "noop", "--yes", "--output", "json"]).expect(0).json();
    assert_eq!(ran["runs"].as_array().map(Vec::len), Some(3), "{ran}");
    server.until("it ran", "birch", |status| !status["last_run"].is_null()).await;
    server.cli(&["schedule", "presets"]).expect(0).says("nightly").says("interval_sec=900");
    server.cli(&["schedule", "pause"]).expect(2);
    server.cli(&["schedule", "pause", "--label", "region=north", "--yes"]).expect(1).says("No schedule is chosen");
}
