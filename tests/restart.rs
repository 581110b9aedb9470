//! The real binary restarting in place: nobody is turned away, nobody slips in between, and what was in
//! flight is told truthfully.

mod common;

use std::fs::{File, OpenOptions};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use common::{Options, Server, eventually, hold};

fn quick() -> Options {
    Options::default().env("COMMAND_CENTER_RESTART_DELAY_SEC", "0")
}

/// How often this home's server, one process all the time, has begun to listen.
fn starts(server: &Server) -> usize {
    server.log("stdout").matches("listening on http://").count()
}

async fn ask_for_restart(server: &Server) {
    // As everybody else, with one repetition.
    if server.post("/ops/restart").ops().try_send().await.is_err() {
        server.post("/ops/restart").ops().send().await.expect(202);
    }
}

async fn until_started(server: &Server, times: usize) {
    eventually("it has started anew", async || hold(starts(server) == times, &starts(server))).await;
    eventually("it is ready", async || {
        let answer = server.get("/readyz").try_send().await.map_err(|error| error.to_string())?;
        hold(answer.status == 200, &answer.status)
    })
    .await;
}

#[derive(Default)]
struct Tally {
    answered: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
}

/// Asks without a pause, as a client that repeats a request once.
async fn hammer(url: String, tally: Arc<Tally>, done: Arc<AtomicBool>) {
    let client = reqwest::Client::builder().no_proxy().timeout(common::PATIENCE).build().expect("a client");
    let mut asked = 0;
    while !done.load(Ordering::Relaxed) || asked < 50 {
        asked += 1;
        let mut is_answered = false;
        for _ in 0..2 {
            match client.get(&url).send().await {
                Ok(answer) => {
                    assert_eq!(answer.status(), 200);
                    is_answered = true;
                    break;
                }
                Err(error) => {
                    let is_refused = format!("{error:?}").contains("ConnectionRefused");
                    tally.refused.fetch_add(u64::from(is_refused), Ordering::Relaxed);
                }
            }
        }
        let count = if is_answered { &tally.answered } else { &tally.failed };
        count.fetch_add(1, Ordering::Relaxed);
        // Others want to be served as well.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_restarts_turn_nobody_away_and_let_nobody_in_between() {
    let mut options = quick();
    for n in 0..20 {
        options = options.noop(&format!("t{n}"), "interval_sec: 1\n");
    }
    let mut server = options.start().await;
    let (pid, addr) = (server.pid(), server.addr());
    let (tally, done) = (Arc::new(Tally::default()), Arc::new(AtomicBool::new(false)));
    let clients: Vec<_> =
        (0..4).map(|_| tokio::spawn(hammer(server.url("/ops/ping"), tally.clone(), done.clone()))).collect();
    // Somebody who wants the store, whenever it is free for a moment.
    let lock = server.path("data/command_center.db.lock");
    let (until, stolen) = (done.clone(), Arc::new(AtomicU64::new(0)));
    let count = stolen.clone();
    let thief = std::thread::spawn(move || {
        while !until.load(Ordering::Relaxed) {
            let file = OpenOptions::new().write(true).open(&lock).expect("the lock's file");
            count.fetch_add(u64::from(File::try_lock(&file).is_ok()), Ordering::Relaxed);
            std::thread::sleep(Duration::from_micros(200));
        }
    });
    for restart in 1..=5 {
        ask_for_restart(&server).await;
        until_started(&server, restart + 1).await;
    }
    done.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.expect("a client");
    }
    thief.join().expect("the thief");
    let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
    assert_eq!((of(&tally.refused), of(&tally.failed)), (0, 0), "of {} answered", of(&tally.answered));
    assert_eq!(of(&stolen), 0, "nobody else got the store's lock");
    assert!(server.is_running() && (server.pid(), server.addr()) == (pid, addr));
    let twice: i64 = server
        .sql()
        .query_row(
            "SELECT count(*) FROM (SELECT 1 FROM runs GROUP BY schedule, nominal_ms HAVING count(*) > 1)",
            [],
            |row| row.get(0),
        )
        .expect("a count");
    assert_eq!(twice, 0, "no slot was taken twice");
    assert_eq!(interrupted(&server), 0, "short imports end in time");
}

/// Entries on imports that were cut off, of whichever connector.
fn interrupted(server: &Server) -> i64 {
    let count = "SELECT count(*) FROM audit WHERE operation = 'scheduler.import.interrupted'";
    server.sql().query_row(count, [], |row| row.get(0)).expect("a count")
}

#[cfg(unix)]
mod on_unix {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    use std::path::Path;

    use serde_json::Value;

    use super::*;
    use crate::common::{at, text};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn several_requests_make_one_restart_and_sighup_is_one() {
        let server = Options::default().env("COMMAND_CENTER_RESTART_DELAY_SEC", "1").start().await;
        for _ in 0..3 {
            server.post("/ops/restart").ops().send().await.expect(202);
        }
        let health = server.get("/ops/health").send().await.expect(200);
        assert_eq!(health["phase"], "restarting", "{health}");
        until_started(&server, 2).await;
        let asked = |entries: &[Value]| entries.iter().filter(|e| e["operation"] == "ops.restart.requested").count();
        assert_eq!(asked(&server.audit("").await), 1);
        let pid = server.pid().expect("it runs").to_string();
        let sent = std::process::Command::new("kill").args(["-HUP", &pid]).status().expect("kill");
        assert!(sent.success());
        until_started(&server, 3).await;
        assert_eq!(asked(&server.audit("").await), 2);
        let health = server.get("/ops/health").send().await.expect(200);
        assert_eq!(health["phase"], "serving", "{health}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_program_that_lies_at_the_path_by_then_is_the_one_that_starts() {
        if !cfg!(target_os = "linux") {
            return;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let (path, next) = (folder.path().join("command-center"), folder.path().join("next"));
        for copy in [&path, &next] {
            std::fs::copy(env!("CARGO_BIN_EXE_command-center"), copy).expect("a copy");
        }
        let mut server = Server::prepare(quick());
        server.use_program(&path);
        server.launch().await;
        let runs = |server: &Server| {
            let exe = format!("/proc/{}/exe", server.pid().expect("it runs"));
            std::fs::metadata(exe).expect("what runs").ino()
        };
        assert_eq!(runs(&server), std::fs::metadata(&path).expect("the old one").ino());
        let new = std::fs::metadata(&next).expect("the new one").ino();
        std::fs::rename(&next, &path).expect("an upgrade in place");
        ask_for_restart(&server).await;
        until_started(&server, 2).await;
        assert_eq!(runs(&server), new);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_program_that_would_not_start_does_not_take_the_place_of_one_that_runs() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("command-center");
        let install = |script: Option<&str>| {
            let _ = std::fs::remove_file(&path);
            match script {
                Some(script) => {
                    std::fs::write(&path, script).expect("a script");
                    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("its mode");
                }
                None => drop(std::fs::copy(env!("CARGO_BIN_EXE_command-center"), &path).expect("a copy")),
            }
        };
        install(None);
        let mut server = Server::prepare(Options::default().env("COMMAND_CENTER_RESTART_DELAY_SEC", "1"));
        server.use_program(&path);
        server.launch().await;
        let refused = async |said: &str| {
            let refused = server.post("/ops/restart").ops().send().await.problem(409);
            assert!(text(&refused, "/detail").contains(said), "{refused}");
            assert!(text(&refused, "/detail").contains("this program goes on"), "{refused}");
        };
        install(Some("#!/bin/sh\necho 'all is broken' >&2\nexit 101\n"));
        refused("all is broken").await;
        std::fs::remove_file(&path).expect("removed");
        refused("No such file").await;
        install(Some("nonsense"));
        refused("command-center").await;
        // The right program, and settings that it does not take.
        install(None);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("its mode");
        refused("denied").await;
        server.get("/readyz").send().await.expect(200);
        assert_eq!(starts(&server), 1);

        // One that is gone only after it was tried: what ran is started again.
        install(None);
        server.post("/ops/restart").ops().send().await.expect(202);
        std::fs::remove_file(&path).expect("removed");
        until_started(&server, 2).await;
        assert!(server.log("stdout").contains("the program that ran is started again"));
        // And the place where it lies is known to that as well.
        install(None);
        ask_for_restart(&server).await;
        until_started(&server, 3).await;
        let exe = std::fs::metadata(format!("/proc/{}/exe", server.pid().expect("it runs"))).expect("what runs");
        assert_eq!(exe.ino(), std::fs::metadata(&path).expect("the new one").ino());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_hangup_at_any_moment_of_a_restart_ends_nothing() {
        let mut server = quick().start().await;
        let pid = server.pid().expect("it runs").to_string();
        ask_for_restart(&server).await;
        for _ in 0..150 {
            std::process::Command::new("kill").args(["-HUP", &pid]).status().expect("kill");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        eventually("it serves", async || {
            let health = server.get("/ops/health").try_send().await.map_err(|error| error.to_string())?;
            let body: Value = serde_json::from_slice(&health.body).map_err(|error| error.to_string())?;
            hold(body["phase"] == "serving", &body["phase"])
        })
        .await;
        assert!(server.is_running() && starts(&server) >= 2, "{} starts", starts(&server));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn probes_are_answered_while_it_comes_up_and_requests_wait() {
        let mut server = quick().noop("a", "interval_sec: 3600\n").start().await;
        server.stop().await;
        // Somebody has the database for a moment: the start waits.
        let other = server.sql();
        other.execute_batch("BEGIN IMMEDIATE").expect("a transaction");
        server.spawn();
        let reason = eventually("it says that it starts", async || {
            let answer = server.get("/readyz").try_send().await.map_err(|error| error.to_string())?;
            let body: Value = serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?;
            hold(answer.status == 503, &body).map(|()| text(&body, "/reason").to_owned())
        })
        .await;
        assert_eq!(reason, "the program is starting");
        server.get("/healthz").send().await.expect(200);
        let waiting = tokio::spawn(server.client().get(server.url("/ops/ping")).send());
        other.execute_batch("ROLLBACK").expect("an end");
        assert_eq!(waiting.await.expect("no panic").expect("an answer").status(), 200);
        server.get("/readyz").send().await.expect(200);
    }

    fn script(folder: &Path, body: &str) -> String {
        let path = folder.join("import");
        std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).expect("a script");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("its mode");
        path.to_str().expect("a plain path").to_owned()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_does_not_end_in_time_is_interrupted_and_handled_by_its_rule() {
        let folder = tempfile::tempdir().expect("a folder");
        // The first import of each tenant hangs, with a child of its own.
        let body = "here=$(dirname $0); echo x >> $here/$COMMAND_CENTER_TENANT
            if [ $(wc -l < $here/$COMMAND_CENTER_TENANT) -eq 1 ]; then sleep 600 & echo $! > $here/$COMMAND_CENTER_TENANT.id; wait; fi
            echo '{\"imported\": 1}'";
        let program = script(folder.path(), body);
        let schedule = |more: &str| format!("interval_sec: 86400\nconnection: {{ command: [{program:?}] }}\n{more}");
        let server = quick()
            .env("COMMAND_CENTER_DRAIN_SEC", "3")
            .env("COMMAND_CENTER_EXEC_ALLOW", &program)
            .file("schedules/exec/once.yaml", &schedule(""))
            .file("schedules/exec/again.yaml", &schedule("retries: 1\n"))
            .file("schedules/noop/later.yaml", "interval_sec: 86400\n")
            .start()
            .await;
        let run_now = async |connector: &str, tenant: &str, wait: u32| {
            server.post(&format!("/api/crm/import/{connector}/run-now?wait={wait}")).ops().tenant(tenant).send().await
        };
        let count =
            |tenant: &str| std::fs::read_to_string(folder.path().join(tenant)).unwrap_or_default().lines().count();
        for tenant in ["once", "again"] {
            run_now("exec", tenant, 0).await.expect(202);
            eventually("its child runs", async || hold(folder.path().join(format!("{tenant}.id")).exists(), &tenant))
                .await;
        }
        server.post("/ops/restart").ops().send().await.expect(202);
        // While imports have their time, requests are answered; new runs wait for the successor.
        let told = eventually("it drains", async || {
            let answer = server.get("/readyz").try_send().await.map_err(|error| error.to_string())?;
            let body: Value = serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?;
            hold(answer.status == 503, &answer.status).map(|()| body)
        })
        .await;
        assert!(text(&told, "/reason").contains("draining"), "{told}");
        server.get("/healthz").send().await.expect(200);
        let status = server.statuses("exec").await;
        assert_eq!(at(&status["once"], "/running"), true, "{status:?}");
        let later = run_now("noop", "later", 0).await.expect(202);
        assert_eq!(later["state"], "queued", "{later}");
        until_started(&server, 2).await;

        eventually("the one is tried again", async || {
            let status = server.statuses("exec").await.remove("again").unwrap_or_default();
            hold(at(&status, "/last_status/ok") == true, &status)
        })
        .await;
        assert_eq!((count("again"), count("once")), (2, 1));
        let once = server.statuses("exec").await.remove("once").unwrap_or_default();
        assert!(text(&once, "/last_status/message").starts_with("interrupted"), "{once}");
        eventually("what was asked for meanwhile has run", async || {
            let status = server.statuses("noop").await.remove("later").unwrap_or_default();
            hold(at(&status, "/last_status/ok") == true, &status)
        })
        .await;
        assert_eq!(interrupted(&server), 2, "and not the one that had not begun");
        for tenant in ["once", "again"] {
            let id = std::fs::read_to_string(folder.path().join(format!("{tenant}.id"))).expect("its child's id");
            let alive = std::process::Command::new("kill").args(["-0", id.trim()]).output().expect("kill");
            assert!(!alive.status.success(), "the child of {tenant}'s import outlived it");
        }
    }
}
