//! A disk that fills under the running binary and gets room again: a small file system of the test's own.
//! Where no file system can be mounted, the test says so and passes.
#![cfg(target_os = "linux")]

mod common;

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Options, Server, at, eventually, hold, text};
use serde_json::{Value, json};

/// A mounted file system in memory; goes when dropped.
struct Disk {
    folder: tempfile::TempDir,
}

impl Disk {
    /// `None` where this user may not mount.
    fn of_mb(mb: u32) -> Option<Disk> {
        let folder = tempfile::tempdir().expect("a folder");
        let size = format!("size={mb}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder.path()).output();
        match mounted {
            Ok(done) if done.status.success() => Some(Disk { folder }),
            failed => {
                let why = failed.map_or_else(|e| e.to_string(), |done| String::from_utf8_lossy(&done.stderr).into());
                eprintln!("skipped: no file system can be mounted here ({})", why.trim());
                None
            }
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Takes all the room there is.
    fn fill(&self) {
        let mut file = File::options().create(true).append(true).open(self.path("filler")).expect("a file");
        for piece in [1 << 20, 4096] {
            let piece = vec![0u8; piece];
            while file.write_all(&piece).is_ok() {}
        }
    }

    fn free(&self) {
        std::fs::remove_file(self.path("filler")).expect("the filler goes");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a server that was killed may not be gone yet.
        let _ = Command::new("umount").arg("-l").arg(self.folder.path()).status();
    }
}

async fn server_on(store: &Path, more: impl FnOnce(Options) -> Options) -> Server {
    let mut options = Options::default()
        .env("COMMAND_CENTER_DATA_DIR", store.to_str().expect("a plain path"))
        .env("COMMAND_CENTER_DSN", store.join("command_center.db").to_str().expect("a plain path"))
        .env("COMMAND_CENTER_DISK_RESERVE_MB", "8");
    for n in 0..10 {
        options = options.noop(&format!("t{n}"), "interval_sec: 1\n");
    }
    more(options).start().await
}

async fn disk(server: &Server) -> Value {
    let health = server.get("/ops/health").send().await.expect(200);
    at(&health, "/db").clone()
}

async fn last_run(server: &Server) -> f64 {
    server.status("t1").await["last_run"].as_f64().unwrap_or(0.0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fills_refuses_changes_lets_runs_go_on_and_gets_well_by_itself() {
    let Some(small) = Disk::of_mb(40) else { return };
    let mut server = server_on(&small.path("data"), |options| options).await;
    eventually("space is set aside", async || {
        let db = disk(&server).await;
        hold(at(&db, "/disk/reserve_bytes") == 8 << 20, &db)
    })
    .await;
    server.put("kept", &json!({"interval_sec": 3600})).await;

    small.fill();
    let file = common::noop_file("t1");
    let before = server.read(&file);
    // Until something that must be written met the full disk, a change may still find a page to use.
    let refused = eventually("changes are refused", async || {
        let answer = server.post("/api/crm/import/noop/pause").ops().tenant("t1").send().await;
        if answer.code() == 200 {
            server.post("/api/crm/import/noop/resume").ops().tenant("t1").send().await;
        }
        hold(answer.code() == 507, &answer.code()).map(|()| answer)
    })
    .await;
    let problem = refused.problem(507);
    assert!(text(&problem, "/detail").contains("full"), "{problem}");
    let db = eventually("it is known to be full", async || {
        let db = disk(&server).await;
        hold(at(&db, "/disk/short") == true, &db).map(|()| db)
    })
    .await;
    assert_eq!((at(&db, "/status"), at(&db, "/disk/reserve_bytes")), (&json!(0), &json!(0)), "{db}");
    assert!(text(&db, "/message").contains("free some space"), "{db}");
    server.post("/api/crm/import/noop/pause").ops().tenant("t1").send().await.problem(507);
    assert_eq!(server.read(&file), before, "the file is as it was");
    assert_eq!(server.status("t1").await["paused"], false);
    server.get("/readyz").send().await.expect(200);

    // Runs go on from what was set aside.
    let then = last_run(&server).await;
    eventually("runs go on", async || {
        let now = last_run(&server).await;
        hold(now > then + 2.0, &now)
    })
    .await;
    // Also over a kill and a start on the full disk.
    server.kill9();
    server.launch().await;
    let then = last_run(&server).await;
    eventually("runs go on after a start", async || {
        let now = last_run(&server).await;
        hold(now > then, &now)
    })
    .await;
    assert_eq!(at(&disk(&server).await, "/disk/short"), true);

    small.free();
    eventually("all is well again", async || {
        let db = disk(&server).await;
        hold(at(&db, "/status") == 1 && at(&db, "/disk/reserve_bytes") == 8 << 20, &db)
    })
    .await;
    server.post("/api/crm/import/noop/pause").ops().tenant("t1").send().await.expect(200);
    assert_eq!(server.status("kept").await["interval_sec"], 3600);
    server.until_audit("operation=ops.disk.freed", |entry| at(entry, "/metadata/short_sec").is_i64()).await;
    assert!(!server.audit("operation=ops.disk.full").await.is_empty());
    let verdict = server.get("/ops/audit/verify").ops().send().await.expect(200);
    assert_eq!(verdict["valid"], true, "{verdict}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_desired_directory_takes_the_change_back_and_leaves_no_rubbish() {
    let Some(small) = Disk::of_mb(2) else { return };
    let desired = small.path("desired");
    std::fs::create_dir_all(desired.join("schedules/noop")).expect("folders");
    let file = desired.join("schedules/noop/acme.yaml");
    // A page and a bit, so that the new content needs blocks of its own.
    let content = format!("# {}\ninterval_sec: 3600\n", "x".repeat(5000));
    std::fs::write(&file, &content).expect("a file");
    let options = Options::default().env("COMMAND_CENTER_DESIRED_DIR", desired.to_str().expect("a plain path"));
    let server = options.start().await;
    server.until("it is there", "acme", |status| status["interval_sec"] == 3600).await;
    small.fill();
    server.post("/api/crm/import/noop/pause").ops().tenant("acme").send().await.problem(507);
    assert_eq!(std::fs::read_to_string(&file).expect("the file"), content);
    assert_eq!(server.status("acme").await["paused"], false);
    let owed: i64 = server.sql().query_row("SELECT count(*) FROM intents", [], |row| row.get(0)).expect("a count");
    assert_eq!(owed, 0, "nothing is promised any more");
    small.free();
    server.post("/api/crm/import/noop/pause").ops().tenant("acme").send().await.expect(200);
    let mut left = Vec::new();
    let mut open = vec![desired.clone()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            match entry.path() {
                path if path.is_dir() => open.push(path),
                path => left.push(path.strip_prefix(&desired).expect("below").display().to_string()),
            }
        }
    }
    left.retain(|path| !path.ends_with(".gitignore") && path != "schedules/noop/acme.yaml");
    // An emptied spare of the staging folder serves the next edit.
    left.retain(|path| std::fs::metadata(desired.join(path)).is_ok_and(|meta| meta.len() > 0));
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_set_aside_is_used_up_and_due_runs_wait_and_show_as_overdue() {
    let Some(small) = Disk::of_mb(40) else { return };
    let mut server = server_on(&small.path("data"), |options| {
        options.env("COMMAND_CENTER_DISK_RESERVE_MB", "4").env("COMMAND_CENTER_SNAPSHOT_INTERVAL", "off")
    })
    .await;
    server.put("kept", &json!({"interval_sec": 3600})).await;
    eventually("space is set aside", async || {
        let db = disk(&server).await;
        hold(at(&db, "/disk/reserve_bytes") == 4 << 20, &db)
    })
    .await;
    let mut answered = 0;
    // Somebody else takes the room that was given up, again and again.
    let status = eventually("runs wait", async || {
        small.fill();
        let answer = server.act(if answered % 2 == 0 { "pause" } else { "resume" }, "kept").ops().send().await;
        answered += u32::from(answer.code() == 200);
        let status = server.status("t1").await;
        hold(status["overdue"] == true && status["sync_reason"] == "overdue", &status).map(|()| status)
    })
    .await;
    assert!(status["overdue_sec"].is_u64() && status["running"] == false, "{status}");
    let health = server.get("/ops/health").send().await.expect(200);
    assert!(at(&health, "/scheduler/overdue").as_u64() >= Some(1), "{health}");
    let db = at(&health, "/db");
    assert_eq!((at(db, "/disk/spent"), at(db, "/status")), (&json!(true), &json!(0)), "{db}");
    assert!(text(db, "/message").contains("used up"), "{db}");
    let file = common::noop_file("t1");
    let before = server.read(&file);
    let problem = server.act("pause", "t1").ops().send().await.problem(507);
    assert!(text(&problem, "/detail").contains("free some space"), "{problem}");
    assert_eq!(server.read(&file), before, "the file is as it was");
    let told = server.log("stdout").matches("could not claim due runs").count();
    assert!(told < 5, "told {told} times");
    let waits = last_run(&server).await;

    small.free();
    eventually("all is well again", async || {
        let db = disk(&server).await;
        hold(at(&db, "/status") == 1 && at(&db, "/disk/spent") == false, &db)
    })
    .await;
    eventually("what waited is run", async || {
        let (now, status) = (last_run(&server).await, server.status("t1").await);
        hold(now > waits && status["overdue"] == false, &status)
    })
    .await;
    assert_eq!(server.status("kept").await["paused"], answered % 2 == 1, "what was answered is there");
    server.act("pause", "t1").ops().send().await.expect(200);
    let verdict = server.get("/ops/audit/verify").ops().send().await.expect(200);
    assert_eq!(verdict["valid"], true, "{verdict}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_damaged_while_the_disk_was_full_is_healed_by_the_next_start() {
    let Some(small) = Disk::of_mb(40) else { return };
    let mut server =
        server_on(&small.path("data"), |options| options.env("COMMAND_CENTER_SNAPSHOT_INTERVAL", "off")).await;
    eventually("space is set aside", async || {
        let db = disk(&server).await;
        hold(at(&db, "/disk/reserve_bytes") == 8 << 20, &db)
    })
    .await;
    server.post("/ops/snapshots").ops().send().await.expect(200);
    server.put("kept", &json!({"interval_sec": 3600})).await;
    small.fill();
    eventually("it is known to be full", async || {
        let db = disk(&server).await;
        hold(at(&db, "/disk/short") == true, &db)
    })
    .await;
    server.kill9();
    // Of the log nothing is left, and what is in the database is wrong.
    let database = small.path("data/command_center.db");
    std::fs::remove_file(small.path("data/command_center.db-wal")).expect("a log");
    let mut bytes = std::fs::read(&database).expect("a database");
    bytes[100..].fill(0x55);
    std::fs::File::options().write(true).open(&database).and_then(|mut file| file.write_all(&bytes)).expect("written");
    small.free();
    // What was given up is still short when it starts, and is set aside anew only then.
    server.launch().await;
    let db = disk(&server).await;
    assert!(text(&db, "/restored/from").starts_with("snapshot "), "{db}");
    server.until("its file is there", "kept", |status| status["sync"] == "synced").await;
    eventually("all is well again", async || {
        let db = disk(&server).await;
        hold(at(&db, "/status") == 1 && at(&db, "/disk/reserve_bytes") == 8 << 20, &db)
    })
    .await;
    server.stop().await;
}
