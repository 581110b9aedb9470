//! History and rollback as callers meet them, by the API and by the command line.

mod common;

use common::{Options, Server, noop_file, text};
use serde_json::{Value, json};

const HISTORY: &str = "/api/crm/import/noop/schedule/history";
const ROLLBACK: &str = "schedule/rollback";

const OURS: &str = "# ours\ninterval_sec: 300 # five minutes\n";

fn revisions(page: &Value) -> Vec<String> {
    let line =
        |r: &Value| format!("{} {} by {}/{}", r["revision"], text(r, "/change"), text(r, "/source"), text(r, "/actor"));
    page["revisions"].as_array().into_iter().flatten().map(line).collect()
}

async fn history(server: &Server, tenant: &str) -> Value {
    server.get(HISTORY).ops().tenant(tenant).send().await.expect(200)
}

#[tokio::test]
async fn a_schedule_goes_back_to_what_it_was() {
    let mut server = Options::default().noop("acme", OURS).start().await;
    server.put("acme", &json!({"interval_sec": 60})).await;
    server.act("pause", "acme").header("X-User-Name", "zoe").send().await.expect(200);
    let page = history(&server, "acme").await;
    let expect = ["3 paused by ui/zoe", "2 updated by ui/operator@127.0.0.1", "1 created by file/unknown"];
    assert_eq!(revisions(&page), expect, "{page}");
    assert_eq!(page["revisions"][1]["diff"], json!([{"field": "interval_sec", "from": 300, "to": 60}]));
    assert!(page["revisions"][0].get("content").is_none() && page["next_cursor"].is_null(), "{page}");

    let before = text(&page, "/revisions/0/digest").to_owned();
    let body = json!({"to": 1, "reason": "too often"});
    let stale = server.act(ROLLBACK, "acme").header("If-Match", "\"00\"").json(&body).send().await.problem(412);
    assert_eq!(stale["current_etag"], before.as_str(), "{stale}");
    assert_eq!(stale["yours"]["interval_sec"], 300, "{stale}");
    let call = || server.act(ROLLBACK, "acme").header("If-Match", &before).header("Idempotency-Key", "k1").json(&body);
    let done = call().send().await;
    assert_eq!(done.expect(200)["schedules"]["acme"]["interval_sec"], 300);
    assert_eq!(done.header("etag"), format!("\"{}\"", text(&page, "/revisions/2/digest")));
    assert_eq!(call().send().await.header("idempotent-replay"), "true");
    assert_eq!(server.read(&noop_file("acme")), OURS);
    let entry = server.audit("tenant=acme").await.remove(0);
    assert_eq!((&entry["metadata"]["rollback_to"], &entry["metadata"]["reason"]), (&json!(1), &json!("too often")));

    server.delete("/api/crm/import/noop/schedule").ops().tenant("acme").send().await.expect(200);
    server.stop().await;
    server.launch().await;
    let page = history(&server, "acme").await;
    assert_eq!((page["exists"].clone(), revisions(&page).len()), (json!(false), 5));
    let digest = text(&page, "/revisions/1/digest").get(..8).expect("a digest").to_owned();
    server.act(ROLLBACK, "acme").json(&json!({"to": digest})).send().await.expect(200);
    assert_eq!(server.read(&noop_file("acme")), OURS);
}

#[tokio::test]
async fn what_cannot_be_done_is_answered_with_what_can() {
    let server = Options::default().noop("acme", OURS).start().await;
    let back = async |body: Value, code: u16| server.act(ROLLBACK, "acme").json(&body).send().await.problem(code);
    let unknown = back(json!({"to": 9}), 404).await;
    assert_eq!(unknown["revisions"], json!([1]), "{unknown}");
    assert!(text(&unknown, "/detail").contains("no revision 9"), "{unknown}");
    for bad in [json!({}), json!({"to": 0}), json!({"to": "soon"}), json!({"to": 1, "more": 1})] {
        back(bad, 422).await;
    }
    server.get(HISTORY).ops().tenant("nobody").send().await.problem(404);
    server.get(&format!("{HISTORY}?limit=201")).ops().tenant("acme").send().await.problem(400);
    server.get(&format!("{HISTORY}?cursor=zz")).ops().tenant("acme").send().await.problem(400);
    let own = server.get(HISTORY).ops().header("X-User-Tenant", "other").tenant("acme").send().await.problem(403);
    assert_eq!(own["reason"], "other_tenant");
    let all = server.post("/ops/rollback").ops().header("X-User-Tenant", "acme").json(&json!({"to_time": "0"}));
    all.send().await.problem(403);
}

#[tokio::test]
async fn history_pages_and_masks() {
    let secret = "# the old token: hunter2hunter2\ninterval_sec: 1\n";
    let server = Options::default().noop("acme", secret).start().await;
    for n in 2..=5 {
        server.put("acme", &json!({"interval_sec": n})).await;
    }
    let (mut cursor, mut seen) = (String::new(), Vec::new());
    loop {
        let path = format!("{HISTORY}?limit=2&content=1&cursor={cursor}");
        let reply = server.get(&path).ops().tenant("acme").send().await;
        assert!(!reply.text().contains("hunter2"), "{}", reply.text());
        let page = reply.expect(200);
        assert!(text(&page, "/revisions/0/content").starts_with("# the old token: ***\n"), "{page}");
        seen.extend(revisions(&page).into_iter().map(|line| line[..1].to_owned()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(seen.concat(), "54321");
    assert!(server.read(&noop_file("acme")).contains("hunter2"), "the file is its owner's");
}

#[tokio::test]
async fn the_directory_goes_back_to_a_moment() {
    let server = Options::default().noop("a", OURS).noop("b", OURS).start().await;
    let moment = text(&history(&server, "b").await, "/revisions/0/ts_iso").to_owned();
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    server.put("a", &json!({"interval_sec": 60})).await;
    server.put("new", &json!({"interval_sec": 5})).await;
    server.delete("/api/crm/import/noop/schedule").ops().tenant("b").send().await.expect(200);

    let ask = async |body: Value| server.post("/ops/rollback").ops().json(&body).send().await;
    let plan = ask(json!({"to_time": moment})).await.expect(200);
    let actions: Vec<&str> = plan["changes"].as_array().into_iter().flatten().map(|c| text(c, "/action")).collect();
    assert_eq!(actions, ["update", "create", "delete"], "{plan}");
    assert_eq!((&plan["dry_run"], &plan["ok"]), (&json!(true), &json!(true)));
    assert!(server.desired(&noop_file("new")).exists());
    ask(json!({"to_time": moment, "dry_run": false})).await.problem(422);
    let moved = ask(json!({"to_time": moment, "dry_run": false, "confirm": "00"})).await.problem(409);
    assert!(text(&moved, "/detail").contains(text(&plan, "/digest")), "{moved}");

    let body = json!({"to_time": moment, "dry_run": false, "confirm": plan["digest"], "reason": "bad day"});
    let done = ask(body).await.expect(200);
    assert_eq!((&done["ok"], done["results"].as_array().map(Vec::len)), (&json!(true), Some(3)), "{done}");
    assert_eq!((server.read(&noop_file("a")), server.read(&noop_file("b"))), (OURS.to_owned(), OURS.to_owned()));
    assert!(!server.desired(&noop_file("new")).exists());
    let entries = server.audit("").await;
    let ours = entries.iter().filter(|entry| entry["action_id"] == done["action_id"]).count();
    assert_eq!(ours, 4, "{entries:?}");
    server.cli(&["audit", "verify"]).expect(0);
}

#[tokio::test]
async fn the_command_line_shows_history_and_goes_back() {
    let server = Options::default().noop("acme", OURS).start().await;
    let moment = text(&history(&server, "acme").await, "/revisions/0/ts_iso").to_owned();
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    server.put("acme", &json!({"interval_sec": 60})).await;
    let noop = |rest: &[&'static str]| [rest, &["--connector", "noop"]].concat();
    let shown = server.cli(&noop(&["history", "acme", "--content"])).expect(0);
    shown.says("noop/acme (schedules/noop/acme.yaml)").says("~ 2  ").says("updated by operator@127.0.0.1 (ui)");
    shown.says("    ~ interval_sec = 300 -> 60").says("+ 1  ").says("    | # ours");
    server.cli(&noop(&["history", "acme", "--limit", "1"])).expect(0).says("There are older ones");
    let json = server.cli(&noop(&["history", "acme", "--output", "json"])).expect(0).json();
    assert_eq!(json["revisions"][0]["revision"], 2, "{json}");
    server.cli(&noop(&["history", "nobody"])).expect(2).says("has no history");

    server.cli(&noop(&["rollback", "acme", "--to", "9"])).expect(2).says("has no revision 9");
    server.cli(&noop(&["rollback", "acme", "--to", "1", "--reason", "too often"])).expect(0).says("acme");
    assert_eq!(server.read(&noop_file("acme")), OURS);

    server.put("more", &json!({"interval_sec": 60})).await;
    let all = ["rollback", "--all", "--to", &moment];
    let plan = server.cli(&all).expect(1);
    plan.says("- noop/more (delete)").says("Plan: 0 to create, 0 to change, 1 to delete.").says("--confirm");
    let digest = server.cli(&[&all[..], &["--output", "json"]].concat()).expect(1).json();
    let digest = text(&digest, "/digest").to_owned();
    server.cli(&[&all[..], &["--confirm", &digest]].concat()).expect(0).says("1 of 1 changes made.");
    server.cli(&all).expect(0).says("No changes");
    server.cli(&[&all[..], &["--confirm", &digest]].concat()).expect(2).says("the plan is another now");
    server.cli(&["rollback", "--to", "1"]).expect(2);
    assert!(!server.desired(&noop_file("more")).exists());
}

#[tokio::test]
async fn a_rollback_that_was_answered_survives_a_kill() {
    let mut server = Options::default().noop("acme", OURS).start().await;
    for round in 1..=3 {
        server.put("acme", &json!({"interval_sec": 60 + round})).await;
        server.act(ROLLBACK, "acme").json(&json!({"to": 1})).send().await.expect(200);
        server.kill9();
        server.launch().await;
        assert_eq!(server.read(&noop_file("acme")), OURS);
        let page = history(&server, "acme").await;
        assert_eq!(page["revisions"][0]["revision"], 1 + 2 * round, "{page}");
        assert_eq!(page["revisions"][0]["digest"], page["revisions"][2 * round]["digest"], "{page}");
    }
    server.cli(&["audit", "verify"]).expect(0);
}
