//! Threads of the real binary held by a debugger's means: what hangs is named and replaced, and where nothing
//! less helps the program restarts itself. Where nobody may hold a thread, the tests say so and pass.
#![cfg(target_os = "linux")]
#![allow(clippy::panic, reason = "helpers of tests fail by panicking")]

mod common;

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use common::{Options, Server, at, eventually, hold, text};
use serde_json::Value;

/// A thread that stands still until this is dropped.
struct Held {
    release: Option<Sender<()>>,
    holder: Option<JoinHandle<()>>,
}

impl Held {
    /// Stops one thread of the process. `None` where that is not allowed.
    fn thread(pid: u32, name: &str) -> Option<Held> {
        let thread = threads(pid, name).into_iter().next().expect("a thread of that name");
        let ((release, released), (tell, told)) = (channel(), channel());
        // Whoever takes hold of a thread is the one who has to let go.
        let holder = std::thread::spawn(move || hold_until(thread, &tell, &released));
        let is_held = told.recv().expect("an answer");
        if !is_held {
            eprintln!("skipped: no thread may be held here");
            holder.join().expect("the holder");
            return None;
        }
        Some(Held { release: Some(release), holder: Some(holder) })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.release.take());
        if let Some(holder) = self.holder.take() {
            let _ = holder.join();
        }
    }
}

#[expect(unsafe_code, reason = "a debugger's calls have no other door")]
fn hold_until(thread: i32, tell: &Sender<bool>, released: &Receiver<()>) {
    let none = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: these calls take no memory of ours; the thread is another process's.
    let is_held = unsafe {
        libc::ptrace(libc::PTRACE_SEIZE, thread, none, none) == 0
            && libc::ptrace(libc::PTRACE_INTERRUPT, thread, none, none) == 0
            && libc::waitpid(thread, std::ptr::null_mut(), libc::__WALL) == thread
    };
    let _ = tell.send(is_held);
    let is_gone = || {
        // SAFETY: as above. One that is killed while it is held is not gone until its holder takes note.
        unsafe { libc::waitpid(thread, std::ptr::null_mut(), libc::__WALL | libc::WNOHANG) == thread }
    };
    while is_held && !is_gone() {
        if released.recv_timeout(Duration::from_millis(20)) == Err(RecvTimeoutError::Disconnected) {
            // SAFETY: as above.
            unsafe { libc::ptrace(libc::PTRACE_DETACH, thread, none, none) };
            return;
        }
    }
}

/// The process's threads of that name.
fn threads(pid: u32, name: &str) -> Vec<i32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("its threads").flatten();
    let named =
        tasks.filter(|task| std::fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim() == name));
    named.filter_map(|task| task.file_name().to_str()?.parse().ok()).collect()
}

fn options() -> Options {
    let mut options =
        Options::default().env("COMMAND_CENTER_SCHEDULER_STALL_SEC", "2").env("COMMAND_CENTER_DRAIN_SEC", "1");
    for n in 0..5 {
        options = options.noop(&format!("t{n}"), "interval_sec: 1\n");
    }
    options
}

fn of_loop(health: &Value, name: &str) -> Value {
    let loops = at(health, "/loops/loops").as_array().cloned().unwrap_or_default();
    loops.into_iter().find(|known| known["name"] == name).unwrap_or_default()
}

async fn last_run(server: &Server) -> f64 {
    server.status("t1").await["last_run"].as_f64().unwrap_or(0.0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dispatcher_that_hangs_is_named_and_another_takes_its_place() {
    let server = options().start().await;
    let pid = server.pid().expect("it runs");
    let Some(held) = Held::thread(pid, "dispatcher") else { return };
    let health = server.until_health("it is replaced", |health| of_loop(health, "dispatcher")["restarts"] == 1).await;
    let seen = of_loop(&health, "dispatcher");
    assert!(text(&seen, "/last_error").contains("stood still"), "{seen}");
    let then = last_run(&server).await;
    eventually("runs go on", async || {
        let now = last_run(&server).await;
        hold(now > then + 1.0, &now)
    })
    .await;
    let entry = server.until_audit("operation=ops.loop.restarted", |_| true).await;
    assert_eq!(at(&entry, "/metadata/loop"), "dispatcher", "{entry}");
    assert_eq!(threads(pid, "dispatcher").len(), 2);
    drop(held);
    eventually("the first steps down", async || {
        let left = threads(pid, "dispatcher").len();
        hold(left == 1, &left)
    })
    .await;
    let twice: i64 = server
        .sql()
        .query_row("SELECT count(*) - count(DISTINCT schedule || nominal_ms) FROM runs", [], |row| row.get(0))
        .expect("a count");
    assert_eq!(twice, 0, "no slot was taken twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_hangs_ends_in_a_restart_of_the_program() {
    let mut server = options().start().await;
    let pid = server.pid().expect("it runs");
    server.put("kept", &serde_json::json!({"interval_sec": 3600})).await;
    let Some(_held) = Held::thread(pid, "store-writer") else { return };
    eventually("it has started anew", async || {
        let starts = server.log("stdout").matches("listening on http://").count();
        hold(starts == 2, &starts)
    })
    .await;
    assert!(server.is_running() && server.pid() == Some(pid));
    assert_eq!(server.status("kept").await["interval_sec"], 3600);
    let then = last_run(&server).await;
    eventually("runs go on", async || {
        let now = last_run(&server).await;
        hold(now > then, &now)
    })
    .await;
    let entry = server.until_audit("operation=ops.restart.recovered", |_| true).await;
    assert!(text(&entry, "/metadata/why").contains("the store has not come round"), "{entry}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_that_hangs_is_named_and_another_takes_its_place() {
    let server = options().start().await;
    let Some(_held) = Held::thread(server.pid().expect("it runs"), "desired-watch") else { return };
    let health = server.until_health("it is replaced", |health| of_loop(health, "watcher")["restarts"] == 1).await;
    assert!(text(&of_loop(&health, "watcher"), "/last_error").contains("stands still"), "{health}");
    server.write(&common::noop_file("t9"), "interval_sec: 1\n");
    eventually("edits are seen", async || {
        let status = server.status("t9").await;
        hold(status["interval_sec"] == 1, &status)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_it_may_not_restart_itself_it_says_so_to_whoever_keeps_it_alive() {
    let server = options().env("COMMAND_CENTER_ALLOW_RESTART", "false").start().await;
    let Some(held) = Held::thread(server.pid().expect("it runs"), "store-writer") else { return };
    let told = eventually("it is lost", async || {
        let answer = server.get("/healthz").try_send().await.map_err(|error| error.to_string())?;
        let body: Value = serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?;
        hold(answer.code() == 503, &body).map(|()| body)
    })
    .await;
    assert!(text(&told, "/reason").contains("COMMAND_CENTER_ALLOW_RESTART forbids"), "{told}");
    let told = server.get("/readyz").send().await.expect(503);
    assert!(text(&told, "/reason").contains("the store has not come round"), "{told}");
    drop(held);
    server.until_health("all is well again", |health| health["ok"] == true).await;
    server.get("/healthz").send().await.expect(200);
}
