//! The history of runs over the real binary: listed, filtered, shown one by one, and forgotten in time.

mod common;

use common::{Options, Server, at, eventually, hold, text};
use serde_json::Value;

const NOOP: &str = "/api/crm/import/noop/runs";
const ACCULYNX: &str = "/api/crm/import/acculynx/runs";

fn runs(page: &Value) -> Vec<Value> {
    page["runs"].as_array().cloned().unwrap_or_default()
}

async fn get(server: &Server, path: &str) -> Value {
    server.get(path).ops().send().await.expect(200)
}

/// Two tenants that tick each second, and one whose imports fail for want of a key.
async fn ticking(options: Options) -> Server {
    let server = options
        .noop("tick", "interval_sec: 1\n")
        .noop("tock", "interval_sec: 1\nkeep_runs: 2\n")
        .file("schedules/acculynx/keyless.yaml", "interval_sec: 86400\n")
        .start()
        .await;
    let ran = server.post("/api/crm/import/acculynx/run-now").ops().tenant("keyless").header("X-User-Name", "zoe");
    assert_eq!(ran.send().await.expect(200)["ok"], false);
    server
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_are_listed_and_shown() {
    let server = ticking(Options::default()).await;
    eventually("some runs of each", async || {
        let (tick, tock) = (get(&server, &format!("{NOOP}?tenant=tick&state=done")).await, get(&server, NOOP).await);
        hold(runs(&tick).len() >= 3 && runs(&tock).iter().any(|run| run["tenant"] == "tock"), &tick)
    })
    .await;
    let page = server.get(&format!("{NOOP}?state=done&limit=2")).ops().tenant("tick").send().await.expect(200);
    let listed = runs(&page);
    assert_eq!(listed.len(), 2);
    let run = &listed[0];
    assert!(text(run, "/nominal_iso") > text(&listed[1], "/nominal_iso"), "newest first: {page}");
    let known = [("tenant", "tick"), ("connector", "noop"), ("trigger", "schedule"), ("state", "done")];
    assert!(known.iter().all(|(field, value)| run[field] == *value), "{run}");
    assert_eq!(
        (&run["ok"], &run["error_class"], &run["asked_by"]),
        (&true.into(), &Value::Null, &Value::Null),
        "{run}"
    );
    assert!(run["late_ms"].as_i64() >= Some(0) && run["duration_ms"].as_i64() >= Some(0), "{run}");
    assert!(run["stats"]["imported"].is_u64() && run.get("log").is_none(), "{run}");
    let cursor = text(&page, "/next_cursor");
    let next = get(&server, &format!("{NOOP}?tenant=tick&state=done&limit=2&cursor={cursor}")).await;
    assert!(text(&runs(&next)[0], "/nominal_iso") < text(&listed[1], "/nominal_iso"), "{next}");

    let one = get(&server, &format!("{NOOP}/{}", run["id"])).await;
    assert_eq!((&one["run"]["id"], one["run"]["log"].is_array()), (&run["id"], true), "{one}");
    server.get(&format!("{ACCULYNX}/{}", run["id"])).ops().send().await.problem(404);
    server.get(&format!("{NOOP}/999999999")).ops().send().await.problem(404);
    server.get(&format!("{NOOP}/x")).ops().send().await.problem(404);
    server.get(&format!("{NOOP}/{}", run["id"])).ops().header("X-User-Tenant", "tock").send().await.problem(403);

    let failed = runs(&get(&server, &format!("{ACCULYNX}?ok=0")).await);
    assert_eq!(failed.len(), 1);
    assert_eq!((text(&failed[0], "/error_class"), text(&failed[0], "/trigger")), ("configuration", "run-now"));
    assert_eq!(text(&failed[0], "/asked_by"), "zoe");
    assert!(!text(&failed[0], "/action_id").is_empty());
    assert_eq!(runs(&get(&server, &format!("{ACCULYNX}?error_class=timeout")).await).len(), 0);
    let wrong = server.get(&format!("{ACCULYNX}?error_class=time")).ops().send().await.problem(400);
    assert!(text(&wrong, "/detail").contains("bad_response, "), "{wrong}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_see_which_runs() {
    let server = ticking(Options::default()).await;
    eventually("both ran", async || {
        let page = get(&server, NOOP).await;
        hold(["tick", "tock"].iter().all(|name| runs(&page).iter().any(|run| run["tenant"] == *name)), &page)
    })
    .await;
    server.get(NOOP).send().await.problem(403);
    server.get(NOOP).role("viewer").send().await.problem(403);
    let narrowed = |path: &str| server.get(path).ops().header("X-User-Tenant", "tick");
    let own = narrowed(NOOP).send().await.expect(200);
    assert!(!runs(&own).is_empty() && runs(&own).iter().all(|run| run["tenant"] == "tick"), "{own}");
    narrowed(&format!("{NOOP}?tenant=tock")).send().await.problem(403);
    narrowed(NOOP).tenant("tock").send().await.problem(403);
    server.get(&format!("{NOOP}?tenant=tock")).ops().tenant("tick").send().await.problem(400);
    for bad in ["state=gone", "trigger=x", "ok=maybe", "limit=0", "cursor=zz", "since=x", "since=5&until=4", "page=2"] {
        server.get(&format!("{NOOP}?{bad}")).ops().send().await.problem(400);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_is_kept_as_long_as_asked_for() {
    let mut server = ticking(Options::default().env("COMMAND_CENTER_KEEP_RUNS", "4")).await;
    let slots = async |tenant: &str| {
        let page = get(&server, &format!("{NOOP}?tenant={tenant}")).await;
        let slot = |run: &Value| text(run, "/nominal_iso").to_owned();
        runs(&page).iter().map(slot).collect::<Vec<_>>()
    };
    let first = eventually("a first run", async || slots("tock").await.pop().ok_or_else(|| "none".to_owned())).await;
    eventually("the first one is forgotten", async || {
        let slots = slots("tock").await;
        hold(slots.len() >= 2 && !slots.contains(&first), &slots.len())
    })
    .await;
    server.stop().await;
    let kept = |tenant: &str| -> i64 {
        let count = "SELECT count(*) FROM runs WHERE schedule = 'noop/' || ?1";
        server.sql().query_row(count, [tenant], |row| row.get(0)).expect("a count")
    };
    // Between two walks each second adds a run.
    assert!((2..20).contains(&kept("tock")) && (4..22).contains(&kept("tick")), "{} {}", kept("tock"), kept("tick"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_shows_runs() {
    let server = ticking(Options::default()).await;
    server.until("it ran", "tick", |status| status["last_run"].is_f64()).await;
    let runs_of = |tenant: &str, connector: &str, rest: &[&str]| {
        let line = [&["schedule", "runs", tenant, "--connector", connector], rest].concat();
        server.cli(&line)
    };
    let table = runs_of("tick", "noop", &[]).expect(0);
    table.says("SLOT").says("ok: 0 new");
    assert!(!table.out.contains('\u{1b}'), "no colours in a file");
    runs_of("tick", "noop", &["--failed"]).expect(0).says("No runs");
    runs_of("keyless", "acculynx", &["--failed"]).expect(0).says("configuration").says("run-now");
    let listed = runs_of("keyless", "acculynx", &["--output", "json"]).expect(0).json();
    let id = at(&listed, "/runs/0/id").to_string();
    runs_of("keyless", "acculynx", &["--id", &id]).expect(0).says("asked by");
    server.cli(&["schedule", "run", "keyless", &id]).expect(0).says("run-now").says("1 attempt\n");
    server.cli(&["schedule", "run", "other", &id]).expect(2).says("keyless");
    server.cli(&["schedule", "run", "keyless", "999999999"]).expect(2).says("no run");
}
