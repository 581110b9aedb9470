//! Runs that take their time: one at a time per schedule, queued and joined, drained and cut off.
//! The source is a listener that takes every connection and never answers.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{Options, Server, at, eventually, hold, text};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

const BASE: &str = "/api/crm/import/acculynx";

/// Counts the requests it holds open.
#[derive(Clone, Default)]
struct Silent {
    open: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Silent {
    async fn start() -> (Silent, String) {
        let silent = Silent::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/api/v2", listener.local_addr().expect("its address"));
        let counts = silent.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let counts = counts.clone();
                tokio::spawn(async move {
                    let open = counts.open.fetch_add(1, Ordering::SeqCst) + 1;
                    counts.most.fetch_max(open, Ordering::SeqCst);
                    let mut bytes = [0; 1024];
                    while stream.read(&mut bytes).await.is_ok_and(|read| read > 0) {}
                    counts.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        (silent, url)
    }

    async fn until_open(&self, count: usize) {
        eventually("requests held open", async || {
            let open = self.open.load(Ordering::SeqCst);
            hold(open == count, &open)
        })
        .await;
    }
}

/// A server with one schedule whose imports hang.
async fn hanging(interval_sec: u32) -> (Server, Silent) {
    let (silent, url) = Silent::start().await;
    let file = format!(
        "interval_sec: {interval_sec}\nconnection:\n  base_url: {url}\n  api_key: {{ env: CC_SECRET_SLOW }}\nresources: [jobs]\n"
    );
    let options = Options::default().file("schedules/acculynx/slow.yaml", &file).env("CC_SECRET_SLOW", "a-test-key");
    (options.noop("quick", "interval_sec: 1\n").start().await, silent)
}

fn act(server: &Server, action: &str) -> common::Call {
    server.post(&format!("{BASE}/{action}")).ops().tenant("slow")
}

async fn status(server: &Server) -> Value {
    server.statuses("acculynx").await.remove("slow").unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_run_now_queues_and_later_ones_join_it() {
    let (server, silent) = hanging(86_400).await;
    let mut ids = Vec::new();
    for _ in 0..4 {
        let answer = act(&server, "run-now?wait=0").send().await.expect(202);
        ids.push((answer["run_id"].as_u64(), text(&answer, "/state").to_owned()));
    }
    assert_ne!(ids[0].0, ids[1].0, "one runs, one is queued: {ids:?}");
    assert_eq!((ids[1].0, ids[1].0), (ids[2].0, ids[3].0), "later calls join the queued one: {ids:?}");
    assert_eq!(ids[1].1, "queued", "{ids:?}");
    silent.until_open(1).await;
    assert_eq!(status(&server).await["running"], true);
    let waited = act(&server, "run-now?wait=1").send().await.expect(202);
    assert_eq!(waited["run_id"].as_u64(), ids[1].0, "{waited}");
    assert_eq!(silent.most.load(Ordering::SeqCst), 1, "one at a time");
    server.until("others go on", "quick", |status| status["last_run"].is_f64()).await;

    act(&server, "pause").send().await.expect(200);
    let gone = server.delete(&format!("{BASE}/schedule")).ops().tenant("slow").send().await.expect(200);
    assert_eq!(gone["schedules"], json!({}), "{gone}");
    assert_eq!(silent.open.load(Ordering::SeqCst), 1, "a deleted schedule's run may end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_that_come_while_a_run_goes_on_are_skipped() {
    let (mut server, silent) = hanging(1).await;
    silent.until_open(1).await;
    let quick = server.status("quick").await["last_run"].as_f64();
    server.until("some seconds pass", "quick", |status| status["last_run"].as_f64() > quick.map(|at| at + 3.0)).await;
    assert_eq!(silent.most.load(Ordering::SeqCst), 1, "one at a time");
    assert_eq!(status(&server).await["running"], true);
    server.stop().await;
    silent.until_open(0).await;
    server.launch().await;
    server.cli(&["audit", "verify"]).expect(0);
    let open: i64 = server
        .sql()
        .query_row("SELECT count(*) FROM runs WHERE ended_ms IS NULL AND schedule = 'acculynx/slow'", [], |row| {
            row.get(0)
        })
        .expect("a count");
    assert!(open <= 1, "a stopped run was closed; at most the next one is open: {open}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_a_crash_cut_off_is_recorded_and_tried_again() {
    let (mut server, silent) = hanging(86_400).await;
    let asked = act(&server, "run-now?wait=0").send().await.expect(202);
    silent.until_open(1).await;
    server.kill9();
    silent.until_open(0).await;
    server.launch().await;
    let audit =
        server.get(&format!("{BASE}/audit?operation=scheduler.import.interrupted")).ops().send().await.expect(200);
    assert_eq!(audit["entries"].as_array().map(Vec::len), Some(1), "{audit}");
    assert_eq!(at(&audit, "/entries/0/source"), "command-center", "{audit}");
    let run = asked["run_id"].as_i64();
    let ok: Option<bool> =
        server.sql().query_row("SELECT ok FROM runs WHERE id = ?1", [run], |row| row.get(0)).expect("the run");
    assert_eq!(ok, Some(false), "recorded as it ended");
    silent.until_open(1).await;
    assert_eq!(status(&server).await["running"], true, "tried again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_callers_on_one_schedule_lose_nothing() {
    let server = Server::start(Options::default()).await;
    server.put("shared", &json!({"interval_sec": 3600})).await;
    let calls = (0..24).map(|n| async_label(&server, n));
    let answers = futures_util::future::join_all(calls).await;
    let actions: std::collections::BTreeSet<&str> = answers.iter().map(|answer| text(answer, "/action_id")).collect();
    assert_eq!(actions.len(), 24, "each its own action");
    let view = server.get("/api/crm/import/noop/schedule").ops().tenant("shared").send().await.expect(200);
    let labels = at(&view, "/written/labels").as_object().cloned().unwrap_or_default();
    assert_eq!(labels.len(), 24, "different fields merge: {view}");
    assert_eq!(server.audit("tenant=shared").await.len(), 25);
}

async fn async_label(server: &Server, n: u32) -> Value {
    server.put("shared", &json!({"labels": {format!("k{n}"): "v"}})).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_editor_and_the_api_at_one_file_never_tear_it() {
    let server = Server::start(Options::default()).await;
    server.put("shared", &json!({"interval_sec": 3600})).await;
    let path = server.desired("schedules/noop/shared.yaml");
    let editor = std::thread::spawn(move || {
        for n in 0..150 {
            let aside = path.with_extension("tmp");
            std::fs::write(&aside, format!("interval_sec: {}\nlabels: {{ by: editor }}\n", 1000 + n)).expect("aside");
            std::fs::rename(&aside, &path).expect("in place");
            std::thread::sleep(std::time::Duration::from_millis(7));
        }
    });
    let mut codes = std::collections::BTreeMap::new();
    while !editor.is_finished() {
        for action in ["pause", "resume"] {
            let reply = server.act(action, "shared").send().await;
            if reply.code() != 200 {
                reply.problem(409);
            }
            *codes.entry(reply.code()).or_insert(0) += 1;
        }
    }
    editor.join().expect("the editor");
    let file = server.read("schedules/noop/shared.yaml");
    assert!(
        file.contains("interval_sec: 1149") && file.contains("by: editor"),
        "the last save stands: {file:?} {codes:?}"
    );
    let paused = file.contains("paused: true");
    let status =
        server.until("followed", "shared", |status| status["interval_sec"] == 1149 && status["sync"] == "synced").await;
    assert_eq!(status["paused"], paused, "{file:?}: {status}");
    server.cli(&["audit", "verify"]).expect(0);
    let left: Vec<String> = std::fs::read_dir(server.desired("schedules/noop"))
        .expect("the folder")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(left, ["shared.yaml"], "nothing is left beside it");
}
