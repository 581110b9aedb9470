//! Groups without copies, and adoption: defaults below files, and files out of what runs.

mod common;

use std::fs;

use common::{Options, Server, at, noop_file};
use serde_json::{Value, json};

const NOOPS: &str = "schedules/noop/_defaults.yaml";

#[tokio::test]
async fn an_edit_of_defaults_is_watched_shown_and_told() {
    let server = Options::default()
        .interval(3600)
        .file("defaults.yaml", "interval_sec: 900\nlabels: { region: west }\n")
        .noop("a", "labels: { tier: gold }\n")
        .noop("b", "{}\n")
        .start()
        .await;
    server.write(NOOPS, "interval_sec: 600\n");
    for tenant in ["a", "b"] {
        server.until("the defaults have taken effect", tenant, |status| status["interval_sec"] == 600).await;
    }
    let shown = server.cli(&["schedule", "show", "a", "--connector", "noop", "--origin"]).expect(0);
    for line in [
        "interval_sec   600    schedules/noop/_defaults.yaml:1",
        "labels.region  west   defaults.yaml:2",
        "labels.tier    gold   schedules/noop/a.yaml:1",
        "paused         false  built-in",
    ] {
        shown.says(line);
    }
    server.cli(&["diff"]).expect(0).says("No changes");
    server.cli(&["validate"]).expect(0).says("4 files checked");

    server.write(NOOPS, "interval_sec: 600\npaused: ja\n");
    let is_told = |health: &Value| at(health, "/drift/invalid_files/0/file") == NOOPS;
    let health = server.until_health("the broken file is reported", is_told).await;
    assert_eq!(at(&health, "/drift/invalid_files/0/diagnostics/0/line"), 2);
    let said = server.cli(&["validate"]).expect(1);
    said.says("_defaults.yaml:2:9").says("paused: ja").says("1 invalid, 1 error");
    server.cli(&["validate", &format!("desired/{NOOPS}")]).expect(1);
    server.cli(&["validate", "desired/defaults.yaml"]).expect(0).says("1 file checked");
    server.cli(&["diff"]).expect(2).says("_defaults.yaml");
    let shown = server.cli(&["schedule", "show", "b", "--connector", "noop", "--output", "json"]).expect(0).json();
    assert_eq!(shown["effective"]["interval_sec"], 600, "as it was last good");
}

#[test]
fn a_file_of_the_former_system_becomes_files() {
    let home = Server::prepare(Options::default());
    let former = json!({
        "peak-pro": {
            "interval_sec": 300, "last_run": 1762639028.177, "paused": false,
            "last_status": {"ok": true, "ts": 1762639028.177, "message": "done", "result": {"stats": {"imported": 0}}},
        },
        "lakeside": {"interval_sec": 180, "paused": true, "pause_reason": "new roof"},
        "Harbor Homes": {"interval_sec": 60},
        "broken": {"interval_sec": 0},
        "mine": {"interval_sec": 900},
    });
    fs::write(home.path("former.json"), former.to_string()).unwrap();
    home.write("schedules/acculynx/mine.yaml", "interval_sec: 60 # mine\n");
    let import = ["import", "--from", "former.json"];
    let dry = home.offline(&[&import[..], &["--dry-run"]].concat()).expect(1);
    dry.says("+ schedules/acculynx/peak-pro.yaml\n    interval_sec: 300\n")
        .says("last_run: left out")
        .says("    pause_reason: new roof")
        .says("! schedules/acculynx/Harbor Homes.yaml: a tenant's name is made of a-z")
        .says("! schedules/acculynx/broken.yaml: it would not be valid: interval_sec is 0")
        .says("! schedules/acculynx/mine.yaml: is there and says something else; --overwrite replaces it")
        .says("2 to write, 0 to replace, 0 the same, 3 left out.");
    assert!(!home.desired("schedules/acculynx/peak-pro.yaml").exists(), "a dry run writes nothing");

    let json = home.offline(&[&import[..], &["--output", "json"]].concat()).expect(1).json();
    let of = |json: &Value, name: &str| {
        let file = format!("schedules/acculynx/{name}.yaml");
        json["files"].as_array().unwrap().iter().find(|found| found["file"] == file.as_str()).unwrap().clone()
    };
    assert_eq!((of(&json, "peak-pro")["action"].as_str(), json["dry_run"].as_bool()), (Some("create"), Some(false)));
    assert_eq!(of(&json, "peak-pro")["warnings"][0]["field"], "last_run");
    let written = fs::read_to_string(home.desired("schedules/acculynx/peak-pro.yaml")).unwrap();
    assert_eq!(written, "# yaml-language-server: $schema=../../../schemas/schedule.schema.json\ninterval_sec: 300\n");
    let mine = || fs::read_to_string(home.desired("schedules/acculynx/mine.yaml")).unwrap();
    assert_eq!(mine(), "interval_sec: 60 # mine\n");
    home.offline(&["validate"]).expect(0);

    let again = home.offline(&[&import[..], &["--overwrite"]].concat()).expect(1);
    again.says("0 written, 1 replaced, 2 the same, 2 left out.");
    assert!(mine().ends_with("interval_sec: 900\n"), "{}", mine());
    let bad = home.offline(&["import", "--from", "desired/schedules/acculynx/mine.yaml"]).expect(2);
    bad.says("is no schedules file of the former system");
}

#[tokio::test]
async fn what_runs_becomes_files_again() {
    let mut server = Options::default()
        .file(NOOPS, "interval_sec: 600\nlabels: { region: west }\n")
        .noop("a", "# ours\nlabels: { tier: gold }\n")
        .noop("b", "# mine\ninterval_sec: 5\n")
        .start()
        .await;
    server.cli(&["import", "--into", "copy"]).expect(0).says("2 written, 0 replaced, 0 the same, 0 left out.");
    let copied = |name: &str| fs::read_to_string(server.path("copy").join(name)).unwrap();
    assert!(copied(&noop_file("a")).ends_with("interval_sec: 600\nlabels:\n  region: west\n  tier: gold\n"));
    assert!(copied(&noop_file("b")).ends_with("\ninterval_sec: 5\nlabels:\n  region: west\n"));
    server.cli(&["import"]).expect(0).says("0 written, 0 replaced, 2 the same, 0 left out.");
    server.stop().await;

    // Without a server the store's last good bytes come back, comments and defaults too.
    server.remove(&noop_file("a"));
    server.remove(NOOPS);
    server.offline(&["import", "--dry-run"]).expect(0).says("2 to write, 0 to replace, 1 the same, 0 left out.");
    server.offline(&["import"]).expect(0).says("+ schedules/noop/_defaults.yaml").says("+ schedules/noop/a.yaml");
    let text = |path: &str| fs::read_to_string(server.desired(path)).unwrap();
    assert_eq!(text(&noop_file("a")), "# ours\nlabels: { tier: gold }\n");
    assert_eq!(text(NOOPS), "interval_sec: 600\nlabels: { region: west }\n");
    server.offline(&["diff"]).expect(0).says("No changes");
}
