//! Power cuts, which a kill is none of: the system forgets what was not synced. The server runs over a
//! library that writes down what it does to its disk; from that come disks that a cut at some moment could
//! have left, the server is started on each, and held to every answer it had given by that moment.
#![cfg(target_os = "linux")]
#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod common;
#[path = "power/mod.rs"]
mod disk;

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::chance::{Random, fresh_seed};
use common::{Options, Server, eventually, hold, noop_file, text};
use disk::{Recording, photograph};
use futures_util::FutureExt as _;
use serde_json::{Value, json};

const CLIENTS: u64 = 4;
const TENANTS_EACH: u64 = 3;

/// Enough to see the write-ahead log moved and begun anew.
const LOG_BYTES: u64 = 48 << 20;

type Wanted = Option<(u64, bool, String)>;

/// A request as the log's length saw it: sent, answered, and what it makes of its schedule.
#[derive(Clone, Debug)]
struct Deed {
    sent: u64,
    /// `None` where no answer came, or one that promises nothing.
    answered: Option<u64>,
    wanted: Wanted,
}

type Story = Arc<Mutex<BTreeMap<String, Vec<Deed>>>>;

fn length(log: &Path) -> u64 {
    std::fs::metadata(log).map_or(0, |meta| meta.len())
}

/// One client, which alone changes its tenants, until the server is gone.
async fn work(http: reqwest::Client, base: String, number: u64, log: PathBuf, mut random: Random, story: Story) {
    let mut now: BTreeMap<String, Wanted> = BTreeMap::new();
    for step in 0.. {
        let tenant = format!("c{number}-{}", random.below(TENANTS_EACH));
        let before = now.get(&tenant).cloned().flatten();
        let rev = format!("r{number}.{step}");
        let url = format!("{base}/api/crm/import/noop");
        let (request, wanted) = match (before, random.below(10)) {
            (Some((every, _, rev)), 0 | 1) => (http.post(format!("{url}/pause")), Some((every, true, rev))),
            (Some((every, _, rev)), 2 | 3) => (http.post(format!("{url}/resume")), Some((every, false, rev))),
            (Some(_), 4) => (http.delete(format!("{url}/schedule")), None),
            (before, _) => {
                let every = 1 + random.below(3);
                // Now and then longer than a sector.
                let long = (step % 4 == 0).then(|| "x".repeat(250));
                let labels = json!({"rev": rev, "a": long, "b": long, "c": long, "d": long, "e": long});
                let body = json!({"interval_sec": every, "labels": labels});
                let paused = before.is_some_and(|(_, paused, _)| paused);
                (http.post(format!("{url}/schedule")).json(&body), Some((every, paused, rev)))
            }
        };
        let sent = length(&log);
        let answer = request.header("x-ops", "1").header("x-tenant", &tenant).send().await;
        let (is_over, is_kept) = match &answer {
            Ok(answer) => (false, answer.status().is_success()),
            Err(_) => (true, false),
        };
        // Read only now: what was promised was logged by then.
        let answered = is_kept.then(|| length(&log));
        let deed = Deed { sent, answered, wanted: wanted.clone() };
        story.lock().unwrap().entry(tenant.clone()).or_default().push(deed);
        if is_over {
            return;
        }
        if is_kept {
            now.insert(tenant, wanted);
        }
    }
}

/// What a tenant may look like after a power cut at `moment`: as last answered, or as anything that
/// was on its way. A refused request may have taken effect as well: only its answer failed.
fn allowed(deeds: &[Deed], moment: u64) -> Vec<Wanted> {
    let last = deeds.iter().rposition(|deed| deed.answered.is_some_and(|at| at <= moment));
    let sure = last.and_then(|last| deeds[last].wanted.clone());
    let open = deeds.iter().skip(last.map_or(0, |last| last + 1)).filter(|deed| deed.sent <= moment);
    std::iter::once(sure).chain(open.map(|deed| deed.wanted.clone())).collect()
}

fn file_shape(server: &Server, tenant: &str) -> Wanted {
    let content = std::fs::read_to_string(server.desired(&noop_file(tenant))).ok()?;
    let value: Value =
        serde_yaml::from_str(&content).unwrap_or_else(|error| panic!("{tenant}: torn file ({error}): {content:?}"));
    let every = value["interval_sec"].as_u64().unwrap_or_else(|| panic!("{tenant}: {content:?}"));
    Some((every, value["paused"] == true, text(&value, "/labels/rev").to_owned()))
}

fn build_library(folder: &Path) -> PathBuf {
    let (source, library) = ("tests/power/disk.c", folder.join("libdisk.so"));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(source);
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let built =
        Command::new(compiler).args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).arg("-ldl").status();
    assert!(built.expect("a C compiler, as SQLite needs one").success(), "tests/power/disk.c does not compile");
    library
}

struct Recorded {
    recording: Recording,
    story: BTreeMap<String, Vec<Deed>>,
    home: PathBuf,
    end: u64,
    _server: Server,
}

/// How the disk answers a sync.
#[derive(Clone, Copy)]
enum Syncs {
    Work,
    /// One of some fails.
    Fail,
    /// All say that they worked, and did nothing.
    Lie,
}

/// Runs the server over the recording library under load and kills it.
async fn record(seed: u64, syncs: Syncs) -> Recorded {
    let tools = tempfile::tempdir().expect("a folder");
    let library = build_library(tools.path());
    // What is set aside is written at the start, and nothing to power cuts.
    let mut server = Server::prepare(Options::default().interval(2).env("COMMAND_CENTER_DISK_RESERVE_MB", "0"));
    std::fs::create_dir_all(server.desired("schedules/noop")).expect("a folder");
    let home = server.path("");
    let (log, roots) = (server.path("disk.log"), [server.path("data"), server.path("desired")]);
    let before = photograph(&roots);
    server.set_env("LD_PRELOAD", &library.display().to_string());
    server.set_env("DISK_LOG", &log.display().to_string());
    server.set_env("DISK_ROOTS", &roots.each_ref().map(|root| root.display().to_string()).join(":"));
    server.set_env("DISK_SEED", &seed.to_string());
    match syncs {
        Syncs::Work => {}
        Syncs::Fail => server.set_env("DISK_FSYNC_FAILS", "60"),
        Syncs::Lie => server.set_env("DISK_LIES", "1"),
    }
    server.launch().await;
    let story = Story::default();
    let mut random = Random(seed | 1);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let random = Random(random.next() | 1);
            let work = work(server.client().clone(), server.url(""), number, log.clone(), random, story.clone());
            tokio::spawn(work)
        })
        .collect();
    for _ in 0..400 {
        if length(&log) > LOG_BYTES {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    server.kill9();
    for client in clients {
        client.await.expect("a client");
    }
    let recording = Recording::read(before, &std::fs::read(&log).expect("the log"));
    let (end, story) = (length(&log), story.lock().unwrap().clone());
    Recorded { recording, story, home, end, _server: server }
}

/// Starts the server on a disk as a cut at `moment` may have left it.
async fn check(recorded: &Recorded, moment: u64, seed: u64) -> (usize, usize) {
    let mut random = Random(seed | 1);
    let mut again = random.clone();
    let mut server = Server::prepare(Options::default().interval(2));
    for folder in ["data", "desired"] {
        std::fs::remove_dir_all(server.path(folder)).expect("removed");
        std::fs::create_dir_all(server.path(folder)).expect("made");
    }
    let counts = recorded.recording.power_cut(moment, &mut random, &recorded.home, &server.path(""));
    if let Some(kept) = std::env::var_os("POWER_KEEP") {
        // The disk as the server found it, of the last cut alone.
        let _ = std::fs::remove_dir_all(&kept);
        recorded.recording.power_cut(moment, &mut again, &recorded.home, Path::new(&kept));
    }
    server.launch().await;
    let told = || format!("POWER_MOMENT={moment} POWER_SEED={seed} of {}", recorded.end);
    for (tenant, deeds) in &recorded.story {
        let (file, allowed) = (file_shape(&server, tenant), allowed(deeds, moment));
        let tale = || recorded.recording.tale(moment, &recorded.home.join("desired").join(noop_file(tenant)));
        assert!(allowed.contains(&file), "{}: {tenant} is {file:?}, allowed {allowed:?}\n{}", told(), tale());
    }
    eventually("status and files agree", async || {
        let statuses = server.statuses("noop").await;
        for tenant in recorded.story.keys() {
            let file = file_shape(&server, tenant);
            let status = statuses.get(tenant).cloned().unwrap_or_default();
            let shown = status["interval_sec"].as_u64().map(|every| (every, status["paused"] == true));
            let is_same = shown == file.as_ref().map(|(every, paused, _)| (*every, *paused));
            hold(is_same, &format!("{}: {tenant}: status {status}, file {file:?}", told()))?;
        }
        Ok(())
    })
    .await;
    server.stop().await;
    server.offline(&["audit", "verify"]).expect(0);
    assert!(
        !server
            .path("data")
            .read_dir()
            .unwrap()
            .flatten()
            .any(|entry| { entry.file_name().to_string_lossy().contains(".corrupt") }),
        "{}: the database was taken for damaged",
        told()
    );
    counts
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

async fn many_cuts(syncs: Syncs, cuts: u64) {
    let seed = number("POWER_RUN_SEED").unwrap_or_else(fresh_seed);
    let cuts = number("POWER_CUTS").unwrap_or(cuts);
    println!("POWER_RUN_SEED={seed} POWER_CUTS={cuts}");
    let recorded = record(seed, syncs).await;
    let answers = recorded.story.values().flatten().filter(|deed| deed.answered.is_some()).count();
    let (done, waited) = recorded.recording.counts();
    println!("{answers} answered mutations, {done} things done to the disk, {waited} syncs");
    assert!(answers > 50 && waited > 50, "there was load: {answers} answers, {waited} syncs");
    let mut random = Random(seed.rotate_left(17) | 1);
    let (mut done, mut lost) = (0, 0);
    for _ in 0..cuts {
        let cut = check(&recorded, random.below(recorded.end), random.next()).await;
        done += cut.0;
        lost += cut.1;
    }
    println!("{cuts} power cuts: of {done} things done {lost} were lost or torn");
    assert!(lost > 0, "a cut that loses nothing is none");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_answered_is_lost_with_what_was_not_synced() {
    many_cuts(Syncs::Work, 40).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sync_that_fails_is_not_taken_for_one_that_worked() {
    many_cuts(Syncs::Fail, 20).await;
}

/// What would notice nothing on a disk that keeps no promise would notice nothing at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_lies_is_found_out() {
    let recorded = record(fresh_seed(), Syncs::Lie).await;
    let mut random = Random(fresh_seed() | 1);
    for _ in 0..30 {
        let cut = check(&recorded, random.below(recorded.end), random.next());
        if AssertUnwindSafe(cut).catch_unwind().await.is_err() {
            return;
        }
    }
    panic!("30 power cuts on a disk that syncs nothing, and nothing answered was missed");
}
