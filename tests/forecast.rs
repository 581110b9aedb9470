//! Maintenance windows and forecasts on the real binary: what the files say, what is shown, what is warned of.

mod common;

use command_center::adapters::clock::Clock;
use common::{Options, Server, at, eventually, hold, text};
use serde_json::{Value, json};

/// A window that stands now: it began with this minute and lasts for nearly an hour.
fn now() -> String {
    let minute = Clock::System.now() / 60_000 % 60;
    format!("cron: {minute} * * * *\nduration_sec: 3599\nconnectors: [noop]\nreason: the roof is open\n")
}

async fn windowed(server: &Server, wanted: bool) -> Value {
    eventually("the window in the status", async || {
        let status = server.status("a").await;
        hold(status["window"].is_string() == wanted, &status).map(|()| status)
    })
    .await
}

#[tokio::test]
async fn a_window_keeps_runs_from_starting_until_its_file_goes() {
    let server = Options::default().noop("a", "interval_sec: 1\n").start().await;
    server.until("a run", "a", |status| status["last_run"].is_number()).await;
    server.write("windows/now.yaml", now());
    let status = server.until("a start that waits", "a", |status| status["sync_reason"] == "window").await;
    assert_eq!(text(&status, "/window"), "now", "{status}");
    let answer = server.get("/ops/windows").ops().send().await.expect(200);
    let window = at(&answer, "/windows/0");
    assert_eq!((text(window, "/name"), text(window, "/reason")), ("now", "the roof is open"), "{answer}");
    assert_eq!(
        (&window["open"], text(window, "/next/0/end_iso")),
        (&json!(true), text(&status, "/next_run_iso")),
        "{answer}"
    );
    server.cli(&["windows", "list"]).expect(0).says("now").says("open").says("noop").says("the roof is open");
    let entry = server.until_audit("operation=desired.window.changed", |_| true).await;
    assert_eq!(text(&entry, "/metadata/file"), "windows/now.yaml", "{entry}");

    // A person may still start a run, which the status shows.
    let last = server.status("a").await["last_run"].clone();
    server.post("/api/crm/import/noop/run-now").ops().tenant("a").send().await.expect(200);
    let after = server.status("a").await;
    assert_ne!(after["last_run"], last, "{after}");

    server.write("windows/now.yaml", now().replace("3599", "7200000"));
    let broken = eventually("the broken file in the drift report", async || {
        let drift = server.get("/ops/drift").ops().send().await.expect(200);
        let file = drift.to_string().contains("windows/now.yaml");
        hold(file, &drift).map(|()| drift)
    })
    .await;
    assert!(broken.to_string().contains("outside 1 to 2678400"), "{broken}");
    windowed(&server, true).await;

    server.remove("windows/now.yaml");
    windowed(&server, false).await;
    server.until("it runs again", "a", |status| status["last_run"].as_f64() > after["last_run"].as_f64()).await;
    assert_eq!(server.get("/ops/windows").ops().send().await.expect(200)["windows"], json!([]));
    let health = server.health().await;
    assert_eq!(at(&health, "/desired/invalid"), 0, "{health}");
}

#[tokio::test]
async fn windows_files_are_checked_with_the_others() {
    let server = Options::default().noop("a", "interval_sec: 600\n").start().await;
    server.write("windows/night.yaml", "cron: 0 2 * * *\nduration_sec: 7200\n");
    server.offline(&["validate"]).expect(0).says("2 files checked");
    server.write("windows/night.yaml", "cron: 0 2 * * *\nduration: 2h\n");
    let ended = server.offline(&["validate"]).expect(1);
    ended.says("windows/night.yaml:2:1").says("unknown key \"duration\"").says("did you mean \"duration_sec\"?");
    let path = server.desired("windows/night.yaml").display().to_string();
    server.offline(&["validate", &path]).expect(1).says("1 file checked");
    server.cli(&["diff"]).expect(2).says("windows/night.yaml:2:1");
}

#[tokio::test]
async fn next_starts_and_the_load_are_foretold() {
    let server = Options::default()
        .noop("a", "cron: 0 2 * * *\n")
        .noop("b", "interval_sec: 60\n")
        .noop("c", "cron: 30 2 * * *\npaused: true\n")
        .start()
        .await;
    let ended = server.cli(&["forecast", "a", "--connector", "noop", "--count", "3", "--output", "json"]).expect(0);
    let answer = ended.json();
    let fires = at(&answer, "/schedules/0/fires").as_array().expect("starts");
    assert_eq!(fires.len(), 3, "{answer}");
    let status = server.status("a").await;
    assert_eq!(text(&fires[0], "/at_iso"), text(&status, "/next_run_iso"), "what is shown is what fires");
    server.cli(&["forecast", "c", "--connector", "noop"]).expect(0).says("paused");
    server.cli(&["forecast", "nobody"]).expect(2).says("nobody");

    let day = server.get("/ops/forecast").ops().send().await.expect(200);
    assert_eq!((at(&day, "/load/fires"), at(&day, "/load/schedules")), (&json!(1441), &json!(2)), "{day}");
    assert_eq!(at(&day, "/load/per_minute").as_array().map(Vec::len), Some(1440));
    assert_eq!(at(&day, "/load/busiest/0/fires"), 2, "{}", at(&day, "/load/busiest"));
    assert!(text(&day, "/load/busiest/0/minute_iso").ends_with("T02:00:00.000Z"));
    let week = server.cli(&["forecast", "--for", "7d", "--output", "json"]).expect(0).json();
    assert_eq!(at(&week, "/load/fires"), 7 * 1441, "{}", at(&week, "/load/busiest"));
    server.cli(&["forecast"]).expect(0).says("1441 starts of 2 schedules").says("█").says("02:00 with 2");
    for bad in ["for=2d", "count=0", "connector=nope", "tenant=A"] {
        server.get(&format!("/ops/forecast?{bad}")).ops().send().await.problem(400);
    }
    server.get("/ops/forecast").send().await.problem(403);
}

#[tokio::test]
async fn a_change_that_crowds_a_minute_is_warned_of() {
    let server = Options::default().noop("a", "interval_sec: 60\n").start().await;
    let other = tempfile::tempdir().expect("a temporary directory");
    let folder = other.path().join("schedules/noop");
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join("a.yaml"), "interval_sec: 60\n").expect("a file");
    for n in 0..150 {
        std::fs::write(folder.join(format!("t{n}.yaml")), "cron: 0 3 * * *\n").expect("a file");
    }
    let dir = other.path().display().to_string();
    let told = "this change puts 151 fires on";
    server.cli(&["diff", "--desired-dir", &dir]).expect(1).says(told).says("03:00 UTC").says("jitter_sec spreads them");
    server
        .cli(&["forecast", "--desired-dir", &dir])
        .expect(1)
        .says(told)
        .says("1590 starts of 151 schedules")
        .says("NOW");
    let answer = server.cli(&["forecast", "--desired-dir", &dir, "--output", "json"]).expect(1).json();
    assert_eq!(
        (at(&answer, "/jumps/0/before"), at(&answer, "/jumps/0/after")),
        (&json!(1), &json!(151)),
        "{}",
        answer["jumps"]
    );
    assert_eq!(at(&answer, "/before/fires"), 1440);

    // Jitter takes the edge off.
    for n in 0..150 {
        std::fs::write(folder.join(format!("t{n}.yaml")), "cron: 0 3 * * *\njitter_sec: 3600\n").expect("a file");
    }
    let calm = server.cli(&["diff", "--desired-dir", &dir]).expect(1);
    assert!(!calm.said().contains("this change puts"), "{}", calm.said());
    server.cli(&["forecast", "--desired-dir", &dir]).expect(0).says("1590 starts");
}
