//! A branch switch that touches 1,000 files of 10,000, under the real program: from `git checkout` to
//! the last of them in force.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::{Fleet, Server, Table, ms, runtime, six_lines};

const FILES: usize = 10_000;
const EVERY: usize = 10;
const SWITCHES: usize = 7;

pub fn measure(table: &mut Table) {
    if !table.wants("branch switch touching 1,000 files") {
        return;
    }
    let fleet = Fleet::new(FILES, six_lines);
    let folder = fleet.folder.path();
    git(folder, &["init", "-q", "-b", "main"]);
    git(folder, &["add", "desired"]);
    git(folder, &["commit", "-q", "-m", "main"]);
    git(folder, &["checkout", "-q", "-b", "next"]);
    for n in (0..FILES).step_by(EVERY) {
        std::fs::write(fleet.file(n), format!("interval_sec: {}\n", changed(n))).expect("an edit");
    }
    git(folder, &["commit", "-q", "-am", "next"]);
    git(folder, &["checkout", "-q", "main"]);
    let server = Server::start(&fleet);
    let runtime = runtime();
    // Files are applied in the order of their names, so that the last one stands for all.
    let last = (FILES - 1) / EVERY * EVERY;
    runtime.block_on(until(&server.url, last, 3600 + last % 40_000));
    let (mut whole, mut checkouts) = (Vec::new(), Vec::new());
    for switch in 0..SWITCHES {
        // What was read within two seconds of being written is read once more by the next pass.
        std::thread::sleep(Duration::from_millis(2500));
        let to_next = switch.is_multiple_of(2);
        let start = Instant::now();
        git(folder, &["checkout", "-q", if to_next { "next" } else { "main" }]);
        checkouts.push(start.elapsed());
        runtime.block_on(until(&server.url, last, if to_next { changed(last) } else { 3600 + last % 40_000 }));
        whole.push(start.elapsed());
        runtime.block_on(one_pass(&server.url));
    }
    whole.sort();
    checkouts.sort();
    let beside = format!("checkout alone {}, medians of {SWITCHES}", ms(checkouts[SWITCHES / 2]));
    let title = "branch switch touching 1,000 files: checkout to effective";
    table.row(title, ms(whole[SWITCHES / 2]), beside, "1 s");
}

fn changed(n: usize) -> usize {
    60 + n % 3000
}

fn git(folder: &Path, args: &[&str]) {
    let status = Command::new("git")
        .args(["-c", "user.name=Bench", "-c", "user.email=bench@example.com", "-c", "gc.auto=0"])
        .args(args)
        .current_dir(folder)
        .env("GIT_CONFIG_GLOBAL", if cfg!(windows) { "NUL" } else { "/dev/null" })
        .status()
        .expect("the git program");
    assert!(status.success(), "git {args:?}");
}

/// Waits until a schedule runs at an interval.
async fn until(url: &str, n: usize, interval_sec: usize) {
    let http = reqwest::Client::new();
    let tenant = format!("tenant-{n:06}");
    let path = format!("{url}/api/crm/import/noop/schedule/status?tenant={tenant}");
    let start = Instant::now();
    loop {
        assert!(start.elapsed() < Duration::from_secs(60), "{tenant} never ran every {interval_sec} s");
        let answer = http.get(&path).send().await.expect("an answer").bytes().await.expect("a body");
        let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap_or_default();
        if answer["schedules"][&tenant]["interval_sec"] == interval_sec {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The switch was one pass over all of its files.
async fn one_pass(url: &str) {
    let http = reqwest::Client::new();
    let start = Instant::now();
    loop {
        let answer = http.get(format!("{url}/ops/health")).send().await.expect("an answer");
        let health: serde_json::Value = answer.json().await.expect("the health");
        let changes = &health["drift"]["last_full_reconcile"]["changes"];
        if *changes == FILES / EVERY {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(5), "the last pass made {changes} changes");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
