//! The running fleet follows the directory: edits, breakage, floods, swaps and disappearances.
#![allow(clippy::panic, reason = "helpers of tests fail by panicking")]

mod common;

use std::fs;
use std::time::{Duration, Instant};

use common::{Options, Server, at, eventually, hold, http::change_of, noop_file, text};
use serde_json::{Value, json};

const GOOD: &str = "interval_sec: 600\n";

async fn fleet(size: usize) -> Server {
    let mut options = Options::default();
    for n in 0..size {
        options = options.noop(&format!("t{n:02}"), GOOD);
    }
    options.start().await
}

fn counts(health: &Value) -> (u64, u64, u64, u64) {
    let count = |field: &str| at(health, "/desired")[field].as_u64().unwrap_or(u64::MAX);
    (count("schedules"), count("synced"), count("invalid"), count("held"))
}

#[tokio::test]
async fn an_edit_is_followed_and_told_apart_by_what_it_changed() {
    let server = fleet(2).await;
    let began = Instant::now();
    server.write(&noop_file("t00"), "interval_sec: 60\n");
    server.until("the new interval", "t00", |status| status["interval_sec"] == 60).await;
    assert!(began.elapsed() < Duration::from_secs(15), "an edit is not left to chance: {:?}", began.elapsed());
    let entry = server.until_audit("tenant=t00", |entry| entry["operation"] == "scheduler.schedule.updated").await;
    assert_eq!(entry["source"], "file", "{entry}");
    assert_eq!(change_of(&entry, "interval_sec"), Some(&json!({"field": "interval_sec", "from": 600, "to": 60})));

    server.write(&noop_file("t00"), "interval_sec: 90\npaused: true\npause_reason: storm\n");
    server.until("paused by file", "t00", |status| status["paused"] == true).await;
    let entries = server.audit("tenant=t00").await;
    let mut operations: Vec<&str> = entries[..2].iter().map(|entry| text(entry, "/operation")).collect();
    operations.sort_unstable();
    assert_eq!(operations, ["scheduler.schedule.paused", "scheduler.schedule.updated"], "{entries:?}");
    assert_eq!(entries[0]["action_id"], entries[1]["action_id"], "one edit, one action");
    assert_ne!(entries[1]["action_id"], entries[2]["action_id"], "another edit, another action");
    assert_eq!(entries.len(), 4, "{entries:?}");
}

#[tokio::test]
async fn a_comment_is_no_change_of_the_fleet() {
    let server = fleet(1).await;
    let before = server.status("t00").await;
    server.write(&noop_file("t00"), "# twice an hour would be too often\ninterval_sec: 600\npaused: false\n");
    let after = server.until("the new tag", "t00", |status| status["etag"] != before["etag"]).await;
    assert_eq!(after["next_run_iso"], before["next_run_iso"], "the rhythm does not shift: {after}");
    server.passes(2).await;
    assert_eq!(server.audit("tenant=t00").await.len(), 1, "only the creation");
}

/// Every way to break a file, with the line it is broken on where there is one.
fn broken_contents() -> Vec<(&'static str, Vec<u8>, Option<u64>)> {
    let bomb = (1..9).fold("x0: &a0 [1,1,1,1,1,1,1,1,1,1]\n".to_owned(), |text, n| {
        format!("{text}x{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 10].join(","))
    });
    let deep = format!("interval_sec: {}{}\n", "[".repeat(50_000), "]".repeat(50_000));
    let huge = format!("interval_sec: 60\nlabels:\n{}", "  k: value\n".repeat(1 << 19));
    vec![
        ("unclosed", b"interval_sec: 60\nlabels: {a: b\n".to_vec(), None),
        ("unknown_key", b"interval_sec: 60\nintervall_sec: 5\n".to_vec(), Some(2)),
        ("wrong_type", b"# why\n\ninterval_sec: soon\n".to_vec(), Some(3)),
        ("duplicate", b"interval_sec: 60\npaused: false\ninterval_sec: 61\n".to_vec(), Some(3)),
        ("both", b"interval_sec: 60\ncron: \"* * * * *\"\n".to_vec(), None),
        ("neither", b"paused: true\n".to_vec(), None),
        ("empty", Vec::new(), None),
        ("blank", b"\n\n# nothing\n".to_vec(), None),
        ("truncated", b"interval_sec: 60\nlab".to_vec(), Some(2)),
        ("not_utf8", b"interval_sec: 60\nlabels: {a: \"\xff\xfe\"}\n".to_vec(), Some(2)),
        ("zeros", vec![0; 4096], None),
        ("two_documents", b"interval_sec: 60\n---\ninterval_sec: 61\n".to_vec(), None),
        ("bomb", format!("{bomb}interval_sec: 60\n").into_bytes(), None),
        ("deep", deep.into_bytes(), None),
        ("huge", huge.into_bytes(), None),
    ]
}

#[tokio::test]
async fn a_broken_file_freezes_only_its_own_tenant_also_over_a_restart() {
    let broken = broken_contents();
    let mut options = Options::default().noop("healthy", GOOD);
    for (name, _, _) in &broken {
        options = options.noop(name, "interval_sec: 600\nlabels: {v: good}\n");
    }
    let mut server = options.start().await;
    let count = broken.len() as u64;
    for (name, content, _) in &broken {
        server.write(&noop_file(name), content);
    }
    let health = server.until_health("all are found", |health| counts(health).2 == count).await;
    assert_eq!(counts(&health), (count + 1, 1, count, 0), "{:?}", counts(&health));
    assert_places(&server, &broken).await;
    server.write(&noop_file("healthy"), "interval_sec: 61\n");
    server.until("the neighbour goes on", "healthy", |status| status["interval_sec"] == 61).await;
    server.audit("operation=reconcile.file.invalid").await.iter().for_each(|entry| {
        assert_eq!(entry["source"], "file", "{entry}");
    });
    assert_eq!(server.audit("operation=reconcile.file.invalid").await.len() as u64, count, "one entry each");

    server.restart().await;
    server.until_health("still known after a restart", |health| counts(health).2 == count).await;
    assert_places(&server, &broken).await;
    server.passes(1).await;
    assert_eq!(server.audit("operation=reconcile.file.invalid").await.len() as u64, count, "and not told twice");
    for (name, ..) in &broken {
        let ran = server.act("run-now", name).send().await.expect(200);
        assert_eq!(ran["ok"], true, "the last good version runs: {ran}");
        server.write(&noop_file(name), "interval_sec: 300\n");
    }
    server.until_health("all recover", |health| counts(health) == (count + 1, count + 1, 0, 0)).await;
    for (name, ..) in &broken {
        let status = server.status(name).await;
        assert_eq!((&status["interval_sec"], &status["sync"]), (&json!(300), &json!("synced")), "{status}");
        server.until_audit(&format!("tenant={name}"), |entry| entry["operation"] == "reconcile.file.recovered").await;
    }
    server.cli(&["audit", "verify"]).expect(0);
}

/// Each broken file keeps its last good version and is shown with its place.
async fn assert_places(server: &Server, broken: &[(&str, Vec<u8>, Option<u64>)]) {
    let health = server.health().await;
    let files = at(&health, "/drift/invalid_files").as_array().cloned().unwrap_or_default();
    for (name, _, line) in broken {
        let status = server.status(name).await;
        assert_eq!((&status["interval_sec"], &status["sync"]), (&json!(600), &json!("invalid")), "{name}: {status}");
        let path = noop_file(name);
        let file = files.iter().find(|file| file["file"] == *path).unwrap_or_else(|| panic!("{path}: {files:?}"));
        assert!(!text(file, "/since_iso").is_empty() && !text(file, "/diagnostics/0/message").is_empty(), "{file}");
        if let Some(line) = line {
            assert_eq!(at(file, "/diagnostics/0/line"), *line, "{file}");
            assert!(at(file, "/diagnostics/0/column").as_u64() > Some(0), "{file}");
        }
    }
}

#[tokio::test]
async fn a_file_broken_from_the_first_has_no_schedule_and_then_one() {
    let server = Options::default().noop("young", "interval_sec\n").noop("well", GOOD).start().await;
    server.until_health("found", |health| counts(health).2 == 1).await;
    assert_eq!(server.status("young").await, Value::Null, "never applied");
    server.write(&noop_file("young"), GOOD);
    server.until("applied", "young", |status| status["sync"] == "synced").await;
    server.write("schedules/noop/Bad Name.yaml", GOOD);
    server.write("schedules/hubspot/acme.yaml", GOOD);
    let health = server.until_health("both misplaced files are told", |health| counts(health).2 == 2).await;
    assert!(health.to_string().contains("Bad Name"), "{health}");
    assert!(health.to_string().contains("hubspot"), "{health}");
    server.remove("schedules/noop/Bad Name.yaml");
    fs::remove_dir_all(server.desired("schedules/hubspot")).expect("the folder too");
    server.until_health("and forgotten", |health| counts(health) == (2, 2, 0, 0)).await;
}

#[tokio::test]
async fn a_new_folder_with_many_files_is_taken_whole() {
    let server = fleet(1).await;
    fs::create_dir_all(server.desired("schedules/acculynx")).expect("a new folder");
    for n in 0..50 {
        fs::write(server.desired(&format!("schedules/acculynx/n{n:02}.yaml")), GOOD).expect("a file");
    }
    eventually("all fifty", async || {
        let found = server.statuses("acculynx").await.len();
        hold(found == 50, &found)
    })
    .await;
    let entries =
        server.get("/api/crm/import/acculynx/audit?limit=1000&operation=schedule").ops().send().await.expect(200);
    assert_eq!(entries["entries"].as_array().map(Vec::len), Some(50), "one creation each");
}

#[tokio::test]
async fn editors_leave_nothing_behind_and_half_written_saves_settle() {
    let server = fleet(1).await;
    let path = server.desired(&noop_file("t00"));
    for litter in [".t00.yaml.swp", "t00.yaml~", "4913", "#t00.yaml#", ".#t00.yaml"] {
        fs::write(server.desired("schedules/noop").join(litter), "interval_sec: 1\n").expect("litter");
    }
    for n in 1..=20 {
        // In place, in two writes, as some editors do.
        fs::write(&path, "interval_s").expect("half");
        fs::write(&path, format!("interval_sec: {}\n", 1000 + n)).expect("whole");
    }
    server.until("the last save", "t00", |status| status["interval_sec"] == 1020 && status["sync"] == "synced").await;
    fs::rename(&path, path.with_extension("yaml.bak")).expect("a backup copy");
    fs::write(&path, "interval_sec: 2000\n").expect("written anew");
    server.until("the new file", "t00", |status| status["interval_sec"] == 2000).await;
    server.passes(1).await;
    let tenants: Vec<String> = server.statuses("noop").await.into_keys().collect();
    assert_eq!(tenants, ["t00"], "no schedule came of litter");
    assert!(server.audit("operation=delete").await.is_empty(), "and none went");
}

#[cfg(unix)]
#[tokio::test]
async fn a_config_maps_symlink_swap_is_one_change() {
    use std::os::unix::fs::symlink;
    let mut server = Server::prepare(Options::default());
    fs::remove_dir_all(server.desired("")).expect("an empty mount");
    let version = |name: &str, files: &[(&str, &str)]| {
        for (tenant, content) in files {
            server.write(&format!("{name}/{}", noop_file(tenant)), content);
        }
    };
    version("..v1", &[("a", GOOD), ("b", GOOD), ("c", GOOD)]);
    symlink("..v1", server.desired("..data")).expect("a link");
    symlink("..data/schedules", server.desired("schedules")).expect("a link");
    server.launch().await;
    assert_eq!(server.statuses("noop").await.len(), 3);
    let swap = |name: &str, old: &str| {
        symlink(name, server.desired("..data_tmp")).expect("a link");
        fs::rename(server.desired("..data_tmp"), server.desired("..data")).expect("the swap");
        fs::remove_dir_all(server.desired(old)).expect("the old version goes");
    };
    let files: &[(&str, &str)] = &[("a", "interval_sec: 60\n"), ("b", GOOD), ("c", "interval_sec: 61\n"), ("d", GOOD)];
    for (tenant, content) in files {
        server.write(&format!("..v2/{}", noop_file(tenant)), content);
    }
    swap("..v2", "..v1");
    server.until("the swap", "a", |status| status["interval_sec"] == 60).await;
    server.until("all of it", "d", |status| status["interval_sec"] == 600).await;
    assert_eq!(server.status("c").await["interval_sec"], 61);
    assert_eq!(server.status("b").await["sync"], "synced");
    // A second swap: a watch on what the first one removed would be deaf now.
    server.write(&format!("..v3/{}", noop_file("a")), "interval_sec: 70\n");
    for tenant in ["b", "c", "d"] {
        server.write(&format!("..v3/{}", noop_file(tenant)), GOOD);
    }
    swap("..v3", "..v2");
    server.until("the second swap", "a", |status| status["interval_sec"] == 70).await;
    assert!(server.audit("operation=delete").await.is_empty(), "nothing was taken for gone");
}

#[tokio::test]
async fn a_deleted_file_is_deleted_after_the_second_look() {
    let server = fleet(3).await;
    let gone = Instant::now();
    server.remove(&noop_file("t01"));
    server.until("deleted", "t01", Value::is_null).await;
    assert!(gone.elapsed() >= Duration::from_secs(2), "two scans at least two seconds apart: {:?}", gone.elapsed());
    let entry = &server.audit("tenant=t01").await[0];
    assert_eq!(entry["operation"], "scheduler.schedule.deleted", "{entry}");
    assert_eq!(entry["source"], "file", "{entry}");
    assert_eq!(server.statuses("noop").await.len(), 2);

    server.remove(&noop_file("t02"));
    server.write(&noop_file("t02"), GOOD);
    server.passes(4).await;
    assert!(server.audit("tenant=t02&operation=delete").await.is_empty(), "a file that came back was never gone");
}

#[tokio::test]
async fn a_directory_that_is_away_deletes_nothing() {
    let mut server = fleet(3).await;
    fs::rename(server.desired(""), server.path("unmounted")).expect("away");
    let health = server.until_health("it is said", |health| at(health, "/desired/status") == 0).await;
    assert_eq!(at(&health, "/desired/schedules"), 3, "{health}");
    server.get("/ops/health?strict=1").send().await;
    // Longer than a deletion takes, and across a restart.
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(server.statuses("noop").await.len(), 3, "absence of the root proves nothing");
    server.restart().await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(server.statuses("noop").await.len(), 3, "not after a restart either");
    let ran = server.act("run-now", "t00").send().await.expect(200);
    assert_eq!(ran["ok"], true, "the fleet goes on: {ran}");
    fs::rename(server.path("unmounted"), server.desired("")).expect("back");
    server
        .until_health("well again", |health| at(health, "/desired/status") == 1 && counts(health) == (3, 3, 0, 0))
        .await;
    assert!(server.audit("operation=delete").await.is_empty());
    server.write(&noop_file("t00"), "interval_sec: 77\n");
    server.until("and followed again", "t00", |status| status["interval_sec"] == 77).await;
}

#[tokio::test]
async fn too_many_deletions_at_once_wait_for_a_person() {
    let server = fleet(12).await;
    for n in 0..5 {
        server.remove(&noop_file(&format!("t{n:02}")));
    }
    server.write(&noop_file("t11"), "interval_sec: 61\n");
    server.until("edits go on beside it", "t11", |status| status["interval_sec"] == 61).await;
    let health = server.until_health("held", |health| counts(health).3 == 5).await;
    assert_eq!(at(&health, "/drift/held").as_array().map(Vec::len), Some(5), "{health}");
    assert_eq!(server.status("t00").await["sync"], "held");
    let digest = text(&health, "/drift/held_digest").to_owned();
    assert!(!digest.is_empty(), "{health}");
    server.until_audit("operation=reconcile.prune.held", |_| true).await;
    server.passes(3).await;
    assert_eq!(server.statuses("noop").await.len(), 12, "they wait");

    let wrong = server.cli(&["apply", "--confirm", &"0".repeat(64)]);
    assert_ne!(wrong.code, 0, "another digest confirms nothing: {}", wrong.said());
    assert_eq!(server.statuses("noop").await.len(), 12);
    let held = server.cli(&["apply"]);
    assert_eq!(held.code, 1, "something is held: {}", held.said());
    held.says(&digest);
    server.cli(&["apply", "--confirm", &digest]).expect(0);
    eventually("the confirmed ones go", async || {
        let left = server.statuses("noop").await.len();
        hold(left == 7, &left)
    })
    .await;
    server.until_health("nothing held", |health| counts(health) == (7, 7, 0, 0)).await;
    assert_eq!(server.audit("operation=delete").await.len(), 5);
}

#[tokio::test]
async fn an_emptied_directory_is_held_whatever_its_size() {
    let server = fleet(2).await;
    for tenant in ["t00", "t01"] {
        server.remove(&noop_file(tenant));
    }
    let health = server.until_health("held", |health| counts(health).3 == 2).await;
    server.passes(3).await;
    assert_eq!(server.statuses("noop").await.len(), 2, "{health}");
    let digest = text(&health, "/drift/held_digest").to_owned();
    let confirmed = server.post("/ops/apply").ops().json(&json!({"confirm": digest})).send().await.expect(200);
    assert_eq!(confirmed["ok"], true, "{confirmed}");
    eventually("gone", async || hold(server.statuses("noop").await.is_empty(), &"still there")).await;
}

#[tokio::test]
async fn a_deletion_by_the_api_needs_no_second_look_and_is_never_held() {
    let server = fleet(10).await;
    for n in 0..10 {
        let tenant = format!("t{n:02}");
        server.delete("/api/crm/import/noop/schedule").ops().tenant(&tenant).send().await.expect(200);
        assert_eq!(server.status(&tenant).await, Value::Null);
    }
    assert!(server.statuses("noop").await.is_empty());
    server.passes(2).await;
    assert_eq!(counts(&server.health().await), (0, 0, 0, 0));
}

#[tokio::test]
async fn a_return_to_old_content_is_seen() {
    let server = fleet(1).await;
    for round in 0..10 {
        let seconds = if round % 2 == 0 { 60 } else { 600 };
        server.write(&noop_file("t00"), format!("interval_sec: {seconds}\n"));
        server.until("this round's interval", "t00", |status| status["interval_sec"] == seconds).await;
    }
    assert_eq!(server.audit("tenant=t00&operation=scheduler.schedule.updated").await.len(), 10);
}

#[tokio::test]
async fn a_missing_directory_is_made_at_the_first_start_only() {
    let mut server = Server::prepare(Options::default());
    fs::remove_dir_all(server.desired("")).expect("no directory");
    server.launch().await;
    assert!(server.desired("").is_dir(), "made");
    server.put("first", &json!({"interval_sec": 60})).await;
    assert!(server.read(&noop_file("first")).contains("interval_sec: 60"));
    server.stop().await;
    fs::remove_dir_all(server.desired("")).expect("gone");
    server.launch().await;
    server.until_health("unknown, not empty", |health| at(health, "/desired/status") == 0).await;
    assert_eq!(server.status("first").await["interval_sec"], 60, "the last good version goes on");
}
