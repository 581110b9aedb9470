//! Real programs, small ones: what they may see, what comes of what they write, and that they end.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::adapters::clock::Clock;
use crate::adapters::connectors::Secret;
use crate::adapters::connectors::kept::Kept;
use crate::adapters::secrets::Secrets;

mod bounds;
mod environment;

/// A folder with programs, and what their runs leave.
struct Site {
    folder: TempDir,
    kept: Arc<Kept>,
    cancel: CancellationToken,
}

impl Site {
    /// `tap` is a program with this script; it is the only one that is allowed.
    fn new(script: &str) -> Site {
        let site =
            Site { folder: tempfile::tempdir().unwrap(), kept: Arc::default(), cancel: CancellationToken::new() };
        site.program("tap", script);
        site
    }

    fn at(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn program(&self, name: &str, script: &str) {
        std::fs::write(self.at(name), format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(self.at(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.at(name)).unwrap_or_default()
    }

    fn context(&self, connection: Value) -> ImportContext {
        ImportContext {
            id: "exec/peak".parse().unwrap(),
            run_id: 7,
            nominal: 1_795_000_000_000,
            base_url: String::new(),
            api_key: Secret(String::new()),
            connection: serde_json::from_value(connection).unwrap(),
            secrets: Secrets { folder: Some(self.folder.path().to_owned()) },
            resources: Vec::new(),
            targets: Vec::new(),
            sink: self.kept.clone(),
            clock: Clock::manual(1_795_000_000_000),
            cancel: self.cancel.clone(),
        }
    }

    async fn import(&self, connection: Value) -> ImportOutcome {
        let path = std::env::join_paths([self.folder.path(), Path::new("/usr/bin"), Path::new("/bin")]).unwrap();
        let exec = Exec::new(Programs::new(&["tap".to_owned()], path), self.folder.path().join("exec"));
        loop {
            let outcome = exec.import(self.context(connection.clone())).await;
            let left = std::fs::read_dir(self.folder.path().join("exec")).map(Iterator::count);
            assert_eq!(left.unwrap_or_default(), 0, "a run's directory stayed");
            // Another test's fork may hold the script open for a moment.
            let is_busy = outcome.error.as_ref().is_some_and(|error| error.message.contains("Text file busy"));
            if !is_busy {
                return outcome;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Runs `tap` without further words.
    async fn tap(&self) -> ImportOutcome {
        self.import(json!({"command": ["tap"]})).await
    }

    fn keys(&self) -> Vec<String> {
        self.kept.records.lock().unwrap().keys().map(|(resource, key)| format!("{resource}/{key}")).collect()
    }

    fn state(&self) -> Option<Value> {
        self.kept.bookmarks.lock().unwrap().get("singer-state").cloned()
    }
}

#[track_caller]
fn refused(outcome: &ImportOutcome, class: ErrorClass, words: &str) {
    let error = outcome.error.as_ref().expect("a failure");
    assert!(error.class == class && error.message.contains(words), "{error:?}");
}

const TAP: &str = r#"
echo "starting" >&2
echo '{"type":"SCHEMA","stream":"jobs","schema":{},"key_properties":["id"]}'
echo '{"type":"SCHEMA","stream":"notes","schema":{},"key_properties":[]}'
echo '{"type":"RECORD","stream":"jobs","record":{"id":1}}'
echo '{"type":"RECORD","stream":"notes","record":{"text":"x"}}'
echo '{"type":"STATE","value":{"at":1}}'
echo '{"type":"RECORD","stream":"jobs","record":{"id":2}}'
"#;

#[tokio::test]
async fn a_taps_records_and_state_are_stored_together() {
    let site = Site::new(TAP);
    let outcome = site.tap().await;
    assert!(outcome.error.is_none(), "{outcome:?}");
    assert_eq!((outcome.stats.imported, outcome.log.as_deref()), (3, Some("starting\n")));
    let keys = site.keys();
    assert_eq!(keys[..2], ["jobs/1", "jobs/2"]);
    assert!(keys[2].starts_with("notes/sha256:"), "{keys:?}");
    assert_eq!(site.state(), Some(json!({"tap": "tap", "state": {"at": 1}})));
    assert_eq!(*site.kept.writes.lock().unwrap(), [(3, true)]);
    assert_eq!(site.tap().await.stats.skipped, 3);
}

#[tokio::test]
async fn a_state_comes_back_as_an_option_or_where_the_command_has_its_place() {
    let site = Site::new(&format!("echo \"$@\" > $(dirname $0)/arguments; cat \"$2\" > $(dirname $0)/file 2>&1{TAP}"));
    site.tap().await;
    assert_eq!(site.read("arguments"), "\n", "there is no state yet");
    site.tap().await;
    let given = site.read("arguments");
    assert!(given.starts_with("--state /") && given.ends_with("/state.json\n"), "{given}");
    assert_eq!(site.read("file"), r#"{"at":1}"#);
    site.import(json!({"command": ["tap", "-s", "{{state}}"]})).await;
    assert!(site.read("arguments").starts_with("-s /"), "{}", site.read("arguments"));
    assert_eq!(site.read("file"), r#"{"at":1}"#);
    // Another tap's state says nothing.
    site.kept.bookmarks.lock().unwrap().insert("singer-state".into(), json!({"tap": "other", "state": 5}));
    site.import(json!({"command": ["tap", "-s", "{{state}}"]})).await;
    assert_eq!(site.read("file"), "{}");
}

#[tokio::test]
async fn what_came_before_a_failure_is_kept_with_its_state() {
    for (rest, class, words) in [
        ("echo 'Boom: no' >&2; exit 3", ErrorClass::Unavailable, "tap failed with exit status: 3: Boom: no"),
        ("exit 77", ErrorClass::Unauthorized, "exit status: 77: "),
        ("exit 78", ErrorClass::Configuration, "exit status: 78"),
        ("kill -9 $$", ErrorClass::Unavailable, "signal: 9"),
        ("echo progress", ErrorClass::BadResponse, "line 7 of the output is not a Singer message: \"progress\""),
        (
            "printf '{\"type\":\"REC'",
            ErrorClass::BadResponse,
            "line 7 of the output is not a Singer message: it is cut off",
        ),
        ("printf '{\"type\":\"REC'; exit 1", ErrorClass::Unavailable, "exit status: 1"),
        ("echo '{\"type\":\"RECORD\",\"stream\":\"x\",\"record\":{}}'", ErrorClass::BadResponse, "no SCHEMA before it"),
    ] {
        let site = Site::new(&format!("{TAP}{rest}"));
        let outcome = site.tap().await;
        refused(&outcome, class, words);
        assert_eq!((outcome.stats.imported, site.keys().len()), (3, 3), "{rest}");
        assert_eq!(site.state().unwrap()["state"], json!({"at": 1}), "{rest}");
    }
}

#[tokio::test]
async fn a_store_that_fails_ends_the_program() {
    let mut site = Site::new(&format!("{TAP}exit 3"));
    site.kept = Arc::new(Kept { broken: true, ..Kept::default() });
    let outcome = site.tap().await;
    refused(&outcome, ErrorClass::Unavailable, "exit status: 3");
    let site = Site { kept: Arc::new(Kept { broken: true, ..Kept::default() }), ..Site::new(TAP) };
    refused(&site.tap().await, ErrorClass::Store, "disk full");
}

#[tokio::test]
async fn many_records_come_in_pages_and_none_is_lost() {
    let record = r#"'{"type":"RECORD","stream":"jobs","record":{"id":'"$i"'}}'"#;
    let site = Site::new(&format!(
        "echo '{{\"type\":\"SCHEMA\",\"stream\":\"jobs\",\"schema\":{{}},\"key_properties\":[\"id\"]}}'
         i=0; while [ $i -lt 1203 ]; do echo {record}; i=$((i+1)); done; echo '{{\"type\":\"STATE\",\"value\":9}}'"
    ));
    let outcome = site.tap().await;
    assert_eq!((outcome.stats.imported, site.keys().len()), (1203, 1203), "{outcome:?}");
    assert_eq!(*site.kept.writes.lock().unwrap(), [(500, false), (500, false), (203, true)]);
}

#[tokio::test]
async fn a_program_may_count_for_itself() {
    let check = async |script: &str, protocol: &str| {
        Site::new(script).import(json!({"command": ["tap"], "protocol": protocol})).await
    };
    let counted = ImportStats { imported: 3, updated: 0, skipped: 2, failed: 0 };
    let script = "echo working; echo '{\"imported\":3, \"skipped\":2, \"took\":\"5 s\"}'; echo";
    for protocol in ["auto", "stats"] {
        let outcome = check(script, protocol).await;
        assert!(outcome.error.is_none() && outcome.stats == counted, "{outcome:?}");
    }
    for last in ["", "echo done", "echo '{}'", "echo '{\"imported\":-1}'", "echo '{\"imported\":1}'; echo bye"] {
        refused(&check(last, "auto").await, ErrorClass::BadResponse, "neither Singer messages nor stats");
        refused(&check(last, "stats").await, ErrorClass::BadResponse, "no stats");
    }
    refused(&check(script, "singer").await, ErrorClass::BadResponse, "line 1 of the output is not a Singer message");
    assert!(check("", "singer").await.error.is_none(), "a tap without anything to tell");
    let banner = check(&format!("echo Welcome{TAP}"), "auto").await;
    assert!(banner.error.is_none() && banner.stats.imported == 3, "{banner:?}");
}

#[tokio::test]
async fn streams_that_would_share_a_name_are_refused() {
    let two = TAP.replace("notes", "jobs!").replace("\"jobs\"", "\"jobs?\"");
    refused(&Site::new(&two).tap().await, ErrorClass::BadResponse, "would both be stored as jobs_");
}
