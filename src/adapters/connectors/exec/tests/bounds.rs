//! Programs that do not end, do not stop, or leave others behind.

use std::time::Instant;

use super::*;

/// Whether a process is there and no mere entry in the table.
fn is_alive(id: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", id.trim())).unwrap_or_default();
    let alive = std::process::Command::new("kill").args(["-0", id.trim()]).output().unwrap().status.success();
    alive && !stat.contains(") Z ")
}

/// The test fails before this passes when a program is waited for that does not end.
async fn soon(outcome: impl Future<Output = ImportOutcome>) -> ImportOutcome {
    tokio::time::timeout(Duration::from_secs(60), outcome).await.expect("an end")
}

#[tokio::test]
async fn silence_ends_a_program() {
    let site = Site::new(&format!("{TAP}sleep 1000"));
    let outcome = soon(site.import(json!({"command": ["tap"], "idle_timeout_sec": 1}))).await;
    refused(&outcome, ErrorClass::Timeout, "tap wrote nothing for 1 s and was ended (connection.idle_timeout_sec)");
    assert_eq!((outcome.stats.imported, site.state().unwrap()["state"].clone()), (3, json!({"at": 1})));
    // Closing its output is no way to go on unseen.
    let site = Site::new("exec >&- 2>&-; sleep 1000");
    let outcome = soon(site.import(json!({"command": ["tap"], "idle_timeout_sec": 1}))).await;
    refused(&outcome, ErrorClass::Timeout, "wrote nothing for 1 s");
}

#[tokio::test]
async fn words_on_standard_error_are_signs_of_life() {
    let site = Site::new("for i in 1 2 3 4; do sleep 0.4; echo $i >&2; done; echo '{\"imported\":1}'");
    let outcome = soon(site.import(json!({"command": ["tap"], "idle_timeout_sec": 1}))).await;
    assert!(outcome.error.is_none(), "{outcome:?}");
}

#[tokio::test]
async fn floods_are_cut_off() {
    let yes = "while :; do echo 0123456789012345678901234567890123456789012345678901234567890123456789; done";
    let outcome = soon(Site::new(yes).import(json!({"command": ["tap"], "max_output_mb": 1}))).await;
    refused(&outcome, ErrorClass::BadResponse, "tap wrote more than 1 MiB and was ended (connection.max_output_mb)");
    let line = "while :; do printf 0123456789012345678901234567890123456789; done";
    let outcome = soon(Site::new(line).import(json!({"command": ["tap"], "max_line_kb": 64}))).await;
    refused(&outcome, ErrorClass::BadResponse, "a line of more than 64 KiB");
    let garbage = "head -c 300000 /dev/zero; echo; head -c 300000 /dev/zero >&2";
    let outcome = soon(Site::new(garbage).tap()).await;
    refused(&outcome, ErrorClass::BadResponse, "neither Singer messages nor stats");
    assert!(outcome.log.is_none_or(|log| log.len() < 100_000));
}

#[tokio::test]
async fn the_log_is_the_end_of_what_it_said() {
    let script = "i=0; while [ $i -lt 20000 ]; do echo line $i >&2; i=$((i+1)); done; echo '{\"imported\":1}'";
    let log = soon(Site::new(script).tap()).await.log.unwrap();
    assert!(log.starts_with("[the first ") && log.ends_with("\nline 19999\n") && log.len() < 70_000, "{}", log.len());
}

#[tokio::test]
async fn a_run_that_is_cancelled_ends_its_program() {
    let site = Site::new(&format!("{TAP}echo $$ > $(dirname $0)/id; sleep 1000"));
    let stop = async {
        while site.read("id").is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        site.cancel.cancel();
    };
    let (outcome, ()) = tokio::join!(soon(site.tap()), stop);
    refused(&outcome, ErrorClass::Cancelled, "was ended before it was done");
    assert_eq!(site.keys().len(), 3);
    assert!(!is_alive(&site.read("id")));
}

#[tokio::test]
async fn what_a_program_left_behind_is_ended_too() {
    let children = "here=$(dirname $0)
        for i in 1 2 3; do (trap '' HUP; (sleep 1000; echo never) & echo $! >> $here/ids; wait) & done
        while [ $(cat $here/ids 2>/dev/null | wc -l) -lt 3 ]; do sleep 0.05; done
        echo '{\"imported\":1}'";
    let site = Site::new(children);
    let began = Instant::now();
    let outcome = soon(site.tap()).await;
    assert!(outcome.error.is_none(), "{outcome:?}");
    assert!(began.elapsed() < Duration::from_secs(50), "it did not wait for them");
    let ids = site.read("ids");
    assert_eq!(ids.lines().count(), 3);
    assert!(!ids.lines().any(is_alive), "{ids}");
}

#[tokio::test]
async fn who_will_not_hear_is_ended_by_force() {
    let site = Site::new("trap '' TERM; echo $$ > $(dirname $0)/id; while :; do sleep 0.1; done");
    let outcome = soon(site.import(json!({"command": ["tap"], "idle_timeout_sec": 1}))).await;
    refused(&outcome, ErrorClass::Timeout, "wrote nothing");
    assert!(!is_alive(&site.read("id")));
}

#[tokio::test]
async fn a_run_that_is_dropped_leaves_nothing_behind() {
    let site = Site::new("here=$(dirname $0); (sleep 1000) & echo $! > $here/child; echo $$ > $here/id; wait");
    {
        let import = site.tap();
        tokio::pin!(import);
        while site.read("id").trim().is_empty() {
            let nap = tokio::time::sleep(Duration::from_millis(10));
            tokio::select! { _ = &mut import => break, () = nap => {} }
        }
    }
    let gone = async {
        while is_alive(&site.read("id")) || is_alive(&site.read("child")) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), gone).await.expect("both are gone");
    assert_eq!(std::fs::read_dir(site.folder.path().join("exec")).unwrap().count(), 0);
}
