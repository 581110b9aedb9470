//! The real binary over a damaged database: whatever is damaged it comes up, says what is lost, and its audit log is
//! whole; kills while it makes copies leave nothing half-made.
#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod common;

use std::fs;
use std::path::Path;
use std::time::Duration;

use common::{Options, Server, copy_all, eventually, text};
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
    server.launch().await;
    server.cli(&["restored"]).expect(1).says("audit entries");
    server.cli(&["restored", "dismiss"]).expect(0).says("Dismissed");
    server.cli(&["restored", "dismiss"]).expect(0).says("nothing to dismiss");
    server.cli(&["restored"]).expect(0);
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

/// Flips a bit in an early frame of the write-ahead log.
fn damage_log(server: &Server) {
    let log = server.path("data/command_center.db-wal");
    let mut bytes = fs::read(&log).unwrap();
    let frame = (bytes.len() - 32) / 4120 / 4;
    bytes[32 + frame * 4120 + 700] ^= 4;
    fs::write(log, bytes).unwrap();
}

async fn count(server: &Server) -> u64 {
    server.get("/ops/audit/verify").ops().send().await.expect(200)["total_entries"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_behind_a_damaged_frame_of_the_log_are_not_dropped_in_silence() {
    let place = tempfile::tempdir().unwrap();
    let url = format!("file://{}/replica", place.path().display());
    for replicated in [false, true] {
        let mut options =
            Options::default().noop("a", "interval_sec: 3600\n").noop("b", "interval_sec: 3600\npaused: true\n");
        if replicated {
            options = options.env("COMMAND_CENTER_REPLICATION", "on").env("COMMAND_CENTER_REPLICATION_URL", &url);
        }
        let mut server = options.env("COMMAND_CENTER_SNAPSHOT_INTERVAL", "off").start().await;
        for n in 0..30 {
            server.act(if n % 2 == 0 { "pause" } else { "resume" }, "a").ops().send().await.expect(200);
        }
        if replicated {
            eventually("the replica is whole", async || {
                let view = server.get("/ops/replication").ops().send().await.expect(200);
                common::hold(view["state"] == "streaming" && view["lag_entries"] == 0, &view)
            })
            .await;
        }
        let before = count(&server).await;
        server.kill9();
        damage_log(&server);
        server.launch().await;
        let db = is_whole(&server, "a damaged log").await;
        assert!(text(&db, "/restored/cause").contains("write-ahead log is damaged"), "{db}");
        let from = if replicated { "replica file://" } else { "the database itself" };
        assert!(text(&db, "/restored/from").starts_with(from), "{db}");
        assert!(db["restored"]["first_lost_seq"].is_null(), "every entry is there: {db}");
        assert!(count(&server).await > before);
        assert!(server.log("stdout").contains("write-ahead log is damaged"));
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_removed_or_replaced_while_it_runs_comes_back_with_all_that_was_answered() {
    let options = Options::default().noop("a", "interval_sec: 3600\n").noop("b", "interval_sec: 3600\npaused: true\n");
    let mut server = options.env("COMMAND_CENTER_SNAPSHOT_INTERVAL", "off").start().await;
    type Harm = fn(&Path);
    let harms: [(&str, Harm); 4] = [
        ("removed", |data| fs::remove_file(data.join("command_center.db")).unwrap()),
        ("its log removed", |data| fs::remove_file(data.join("command_center.db-wal")).unwrap()),
        ("replaced", |data| {
            fs::write(data.join("other"), "no database").unwrap();
            fs::rename(data.join("other"), data.join("command_center.db")).unwrap();
        }),
        ("everything removed", |data| fs::remove_dir_all(data).unwrap()),
    ];
    for (what, harm) in harms {
        let before = count(&server).await;
        harm(&server.path("data"));
        let acted = server.act("pause", "a").ops().send().await;
        let expected = before + u64::from(acted.code() == 200);
        let paused = acted.code() == 200;
        let db = eventually(what, async || {
            // It restarts meanwhile.
            let asked =
                server.client().get(server.url("/ops/health")).send().await.map_err(|error| error.to_string())?;
            let health: Value = asked.json().await.map_err(|error| error.to_string())?;
            let cause = text(&health, "/db/restored/cause").to_owned();
            let is_told = cause.contains("removed or replaced") && !health["db"]["restored"]["first_lost_seq"].is_i64();
            common::hold(is_told && server.database().exists(), &health).map(|()| health["db"].clone())
        })
        .await;
        assert_eq!(db["restored"]["set_aside"].is_null(), what == "everything removed", "{what}: {db}");
        server.until(what, "a", |status| status["paused"] == paused && status["sync"] == "synced").await;
        assert!(count(&server).await > expected, "{what}");
        if paused {
            server.act("resume", "a").ops().send().await.expect(200);
        }
        server.cli(&["restored", "dismiss"]).expect(0);
        let before = count(&server).await;
        server.kill9();
        server.launch().await;
        assert!(count(&server).await >= before, "{what}: it lies where it belongs");
    }
    server.stop().await;
}
