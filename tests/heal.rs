//! The real binary over a damaged database: whatever is damaged it comes up, says what is lost, and its audit log is
//! whole; kills while it makes copies leave nothing half-made.
#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod common;

use std::fs;
use std::path::Path;
use std::time::Duration;

use common::{Options, Server, eventually, text};
use serde_json::Value;

/// A server with a snapshot, changes after it, and an end in order.
async fn filled() -> Server {
    let options = Options::default().noop("a", "interval_sec: 3600\n").noop("b", "interval_sec: 3600\npaused: true\n");
    let mut server = options.env("COMMAND_CENTER_SNAPSHOT_INTERVAL", "off").start().await;
    server.post("/ops/snapshots").ops().send().await.expect(200);
    for n in 0..20 {
        server.act(if n % 2 == 0 { "pause" } else { "resume" }, "a").ops().send().await.expect(200);
    }
    server.stop().await;
    server
}

fn copy_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_all(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

async fn is_whole(server: &Server, what: &str) -> Value {
    let verdict = server.get("/ops/audit/verify").ops().send().await.expect(200);
    let db = server.health().await["db"].clone();
    let healed = !db["restored"].is_null();
    assert!(verdict["valid"] == true || !healed, "{what}: {verdict} {db}");
    for (tenant, paused) in [("a", false), ("b", true)] {
        let what = format!("{what}: {tenant} as its file says");
        server.until(&what, tenant, |status| status["paused"] == paused && status["sync"] == "synced").await;
    }
    db
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_database_comes_up_healed() {
    let mut server = filled().await;
    let good = fs::read(server.database()).unwrap();
    copy_all(&server.path("data"), &server.path("kept"));
    let pages = good.len() / 4096;
    let mut healed = 0;
    for page in (0..pages).step_by(2) {
        let mut bytes = good.clone();
        bytes[page * 4096..][..256].iter_mut().for_each(|byte| *byte ^= 0x55);
        // All of it as it was: what was signed or copied in another round's course is none of this one's.
        fs::remove_dir_all(server.path("data")).unwrap();
        copy_all(&server.path("kept"), &server.path("data"));
        fs::write(server.database(), bytes).unwrap();
        server.launch().await;
        let db = is_whole(&server, &format!("page {page}")).await;
        if !db["restored"].is_null() {
            healed += 1;
            assert!(text(&db, "/restored/from").starts_with("snapshot "), "{db}");
            assert!(server.path("data").join(text(&db, "/restored/set_aside")).exists(), "{db}");
            assert!(server.log("stdout").contains("is damaged"), "said in the log");
        }
        server.kill9();
    }
    assert!(healed > pages / 4, "{healed} of {pages}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_cut_off_empty_or_gone_comes_back() {
    let mut server = filled().await;
    let good = fs::read(server.database()).unwrap();
    for length in [0, 4096, good.len() / 2, good.len() - 4096, usize::MAX] {
        if length == usize::MAX {
            fs::remove_file(server.database()).unwrap();
        } else {
            fs::write(server.database(), &good[..length]).unwrap();
        }
        server.launch().await;
        let db = is_whole(&server, &format!("cut at {length}")).await;
        assert!(!db["restored"].is_null(), "cut at {length}: {db}");
        server.stop().await;
    }
    let dismissed = {
        server.launch().await;
        server.delete("/ops/db/restored").ops().send().await.expect(200)
    };
    assert_eq!(dismissed["dismissed"], true);
    assert!(server.health().await["db"]["restored"].is_null());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_while_copies_are_made_leaves_nothing_half_made() {
    let options = Options::default().noop("a", "interval_sec: 3600\n");
    let mut server = options.env("COMMAND_CENTER_SNAPSHOT_INTERVAL", "0.1").start().await;
    for round in 0..8_u64 {
        server.act(if round % 2 == 0 { "pause" } else { "resume" }, "a").ops().send().await.expect(200);
        server.post("/ops/backup").ops().send().await.expect(202);
        tokio::time::sleep(Duration::from_millis(20 + 17 * round)).await;
        server.kill9();
        server.launch().await;
        let folder = server.path("data/snapshots");
        let leftovers = || fs::read_dir(&folder).into_iter().flatten().flatten();
        let stale = leftovers().filter(|entry| entry.file_name().to_string_lossy().starts_with(".making-")).count();
        // At most the one that is being made now.
        assert!(stale <= 1, "{stale} leftovers");
        let listed = server.get("/ops/snapshots").ops().send().await.expect(200);
        for snapshot in listed["snapshots"].as_array().unwrap() {
            assert!(snapshot["problem"].is_null(), "{snapshot}");
        }
    }
    eventually("a snapshot", async || {
        let listed = server.get("/ops/snapshots").ops().send().await.expect(200);
        common::hold(!listed["snapshots"].as_array().unwrap().is_empty(), &listed)
    })
    .await;
    server.stop().await;
}
