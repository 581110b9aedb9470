//! The command line: exit codes, what it says, and that looking changes nothing.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use common::cli::run;
use common::{Options, Server, at, bare_command, noop_file, text};
use serde_json::{Value, json};

/// Every file below `root` with its bytes, except the store's own lock.
fn tree(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut open = vec![root.to_path_buf()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                open.push(path);
            } else {
                files.insert(path.display().to_string(), fs::read(&path).expect("a file"));
            }
        }
    }
    files
}

#[test]
fn validate_shows_every_finding_with_its_place_and_a_hint() {
    let home = Server::prepare(Options::default().noop("good", "interval_sec: 300\n"));
    home.offline(&["validate"]).expect(0);
    home.offline(&["validate", "desired/schedules/noop/good.yaml"]).expect(0);
    home.write(&noop_file("typo"), "interval_sec: 300\n\nintervall_sec: 5\npaused: maybe\n");
    home.write(&noop_file("broken"), "interval_sec: [\n");
    let bad = home.offline(&["validate"]).expect(1);
    bad.says("typo.yaml:3:1").says("typo.yaml:4:").says("broken.yaml:").says("interval_sec").says("did you mean");
    home.offline(&["validate", "desired/schedules/noop/good.yaml"]).expect(0);
    home.offline(&["validate", "desired/schedules/noop/typo.yaml"]).expect(1);
    let json = home.offline(&["validate", "--output", "json"]).expect(1).json();
    assert!(json.to_string().contains("unknown-key") || json.to_string().contains("\"line\":3"), "{json}");
    assert!(!home.database().exists(), "validate needs no store and makes none");
    let missing = home.offline(&["validate", "no/such/file.yaml"]);
    assert_ne!(missing.code, 0, "{}", missing.said());
}

#[tokio::test]
async fn diff_tells_no_difference_differences_and_errors_apart() {
    let mut server = Options::default().noop("a", "interval_sec: 300\n").noop("b", "interval_sec: 300\n").start().await;
    server.cli(&["diff"]).expect(0).says("No changes");
    server.stop().await;
    server.offline(&["diff"]).expect(0).says("No changes");

    server.write(&noop_file("a"), "interval_sec: 60\npaused: true\n");
    server.write(&noop_file("c"), "interval_sec: 5\n");
    server.remove(&noop_file("b"));
    let offline = server.offline(&["diff"]).expect(1);
    offline.says("~ noop/a").says("- noop/b").says("+ noop/c").says("Plan: 1 to create, 2 to change, 1 to delete.");
    let json = server.offline(&["diff", "--output", "json"]).expect(1).json();
    assert_eq!(text(&json, "/digest").len(), 64, "{json}");
    let actions: Vec<&str> = json["changes"].as_array().into_iter().flatten().map(|c| text(c, "/action")).collect();
    assert_eq!(actions, ["update", "pause", "delete", "create"], "{json}");
    let change = at(&json, "/changes/0/diff/0");
    assert_eq!(change, &json!({"field": "interval_sec", "from": 300, "to": 60}), "{json}");
    server.offline(&["diff", "--output", "markdown"]).expect(1).says("| `noop/a` |").says(text(&json, "/digest"));

    server.write(&noop_file("d"), "interval_sec: never\n");
    server.offline(&["diff"]).expect(2).says("d.yaml");
    let invalid = server.offline(&["diff", "--output", "json"]).expect(2);
    assert!(invalid.said().contains("d.yaml"), "{}", invalid.said());
}

#[tokio::test]
async fn diff_against_the_server_takes_the_callers_directory() {
    let server = Options::default().noop("a", "interval_sec: 300\n").noop("b", "interval_sec: 300\n").start().await;
    let copy = server.path("checkout/schedules/noop");
    fs::create_dir_all(&copy).expect("a checkout");
    fs::write(copy.join("a.yaml"), "interval_sec: 60\n").expect("a file");
    fs::write(copy.join("b.yaml"), "interval_sec: 300\n").expect("a file");
    let diff = |arguments: &[&str]| {
        let mut command = server.command();
        command.env("COMMAND_CENTER_URL", server.url("")).env("COMMAND_CENTER_DESIRED_DIR", server.path("checkout"));
        command.arg("diff").args(arguments);
        run(command)
    };
    diff(&[]).expect(1).says("~ noop/a").says("300 -> 60");
    let online = diff(&["--output", "json"]).expect(1).json();
    assert_eq!(online["changes"].as_array().map(Vec::len), Some(1), "{online}");
    assert_eq!(server.status("a").await["interval_sec"], 300, "looking changed nothing");
    assert_eq!(server.audit("tenant=a").await.len(), 1);
    fs::write(copy.join("a.yaml"), "interval_sec: [\n").expect("a file");
    diff(&[]).expect(2);
    fs::remove_file(copy.join("a.yaml")).expect("gone");
    diff(&[]).expect(1).says("- noop/a");
}

#[tokio::test]
async fn diff_changes_not_one_byte_even_of_a_read_only_copy() {
    let mut server = Options::default().noop("a", "interval_sec: 300\n").start().await;
    server.act("run-now", "a").send().await.expect(200);
    // As a crash leaves it: with a write-ahead log that was not folded in.
    server.kill9();
    server.write(&noop_file("a"), "interval_sec: 60\n");
    let before = (tree(&server.path("desired")), tree(&server.path("data")));
    let plan = server.offline(&["diff", "--output", "json"]).expect(1).json();
    let after = (tree(&server.path("desired")), tree(&server.path("data")));
    assert_eq!(before.0, after.0, "the directory");
    assert_eq!(names(&before.1), names(&after.1), "no file came or went beside the store");
    assert!(before.1 == after.1, "nor did a byte of it change");
    read_only(&server.path("data"), true);
    read_only(&server.path("desired"), true);
    let sealed = server.offline(&["diff", "--output", "json"]);
    read_only(&server.path("data"), false);
    read_only(&server.path("desired"), false);
    let sealed = sealed.expect(1).json();
    assert_eq!(sealed["digest"], plan["digest"], "the same plan from a read-only copy");
}

fn names(files: &BTreeMap<String, Vec<u8>>) -> Vec<&String> {
    files.keys().collect()
}

/// Takes away, or gives back, the right to write below a directory. (Root may write all the same;
/// for it the comparison of bytes is the test.)
fn read_only(root: &Path, sealed: bool) {
    let mut open = vec![root.to_path_buf()];
    while let Some(path) = open.pop() {
        let mut rights = fs::metadata(&path).expect("rights").permissions();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let directory = if path.is_dir() { 0o111 } else { 0 };
            rights.set_mode(directory | if sealed { 0o444 } else { 0o644 });
        }
        #[cfg(not(unix))]
        rights.set_readonly(sealed);
        fs::set_permissions(&path, rights).expect("rights");
        if path.is_dir() {
            open.extend(fs::read_dir(&path).expect("a directory").map(|entry| entry.expect("an entry").path()));
        }
    }
}

#[tokio::test]
async fn the_digest_is_the_same_online_and_offline() {
    let mut server = Options::default().noop("a", "interval_sec: 300\n").start().await;
    let checkout = server.path("checkout/schedules/noop");
    fs::create_dir_all(&checkout).expect("a checkout");
    fs::write(checkout.join("a.yaml"), "interval_sec: 60\n").expect("a file");
    let diff = |server: &Server, url: String| {
        let mut command = server.command();
        command.env("COMMAND_CENTER_DESIRED_DIR", server.path("checkout")).env("COMMAND_CENTER_URL", url);
        command.args(["diff", "--output", "json"]);
        run(command).expect(1).json()
    };
    let online = diff(&server, server.url(""));
    server.stop().await;
    let offline = diff(&server, common::cli::NOWHERE.to_owned());
    assert_eq!(online["digest"], offline["digest"]);
    assert_eq!(online["changes"], offline["changes"]);
}

#[tokio::test]
async fn apply_reconciles_once_with_and_without_a_server() {
    let mut server = Options::default().noop("a", "interval_sec: 300\n").start().await;
    server.write(&noop_file("b"), "interval_sec: 60\n");
    server.cli(&["apply"]).expect(0);
    assert_eq!(server.status("b").await["interval_sec"], 60, "done when the command ends");
    server.write(&noop_file("c"), "interval_sec: never\n");
    server.cli(&["apply"]).expect(1).says("c.yaml");
    server.remove(&noop_file("c"));
    server.stop().await;
    server.write(&noop_file("d"), "interval_sec: 61\n");
    let offline = server.offline(&["apply"]);
    assert!([0, 2].contains(&offline.code), "done, or a clear refusal without a server: {}", offline.said());
    server.launch().await;
    server.until("applied", "d", |status| status["interval_sec"] == 61).await;
}

#[tokio::test]
async fn schedule_does_all_that_the_api_does() {
    let server = Server::start(Options::default()).await;
    let noop = ["--connector", "noop"];
    let schedule = |arguments: &[&str]| server.cli(&[&["schedule"], arguments, &noop].concat());
    schedule(&["set", "acme", "interval_sec=300"]).expect(0);
    assert_eq!(server.status("acme").await["interval_sec"], 300);
    schedule(&["list"]).expect(0).says("acme").says("5m");
    let list = schedule(&["list", "--output", "json"]).expect(0).json();
    assert_eq!(at(&list, "/schedules/acme/interval_sec"), 300, "{list}");
    schedule(&["pause", "acme", "--reason", "storm"]).expect(0);
    let status = server.status("acme").await;
    assert_eq!((&status["paused"], &status["pause_reason"]), (&json!(true), &json!("storm")), "{status}");
    schedule(&["show", "acme"]).expect(0).says("storm");
    schedule(&["run-now", "acme"]).expect(0);
    assert_eq!(server.status("acme").await["last_status"]["ok"], true);
    schedule(&["resume", "acme"]).expect(0);
    assert_eq!(server.status("acme").await["paused"], false);
    schedule(&["delete", "acme"]).expect(0);
    assert_eq!(server.status("acme").await, Value::Null);
    let missing = schedule(&["pause", "nobody"]);
    assert_ne!(missing.code, 0, "{}", missing.said());
    assert!(missing.err.contains("nobody"), "{}", missing.said());
    let sources: Vec<Value> = server.audit("tenant=acme").await.iter().map(|entry| entry["source"].clone()).collect();
    assert!(sources.iter().all(|source| source == "cli"), "{sources:?}");
    server.cli(&["audit", "list", "--connector", "noop"]).expect(0).says("scheduler.schedule.paused");
    let export = server.cli(&["audit", "export", "--format", "jsonl", "--connector", "noop"]).expect(0);
    assert_eq!(export.out.lines().count(), 5, "{}", export.out);
}

#[tokio::test]
async fn audit_verify_names_the_entry_that_was_changed() {
    let mut server = Options::default().noop("a", "interval_sec: 300\n").start().await;
    for _ in 0..3 {
        server.act("pause", "a").send().await.expect(200);
        server.act("resume", "a").send().await.expect(200);
    }
    server.cli(&["audit", "verify"]).expect(0);
    server.stop().await;
    server.offline(&["audit", "verify"]).expect(0).says("7");
    let verdict = server.offline(&["audit", "verify", "--output", "json"]).expect(0).json();
    assert_eq!((&verdict["valid"], &verdict["total_entries"]), (&json!(true), &json!(7)), "{verdict}");

    let change = |sql: &str| assert_eq!(server.sql().execute(sql, []).expect("by hand"), 1);
    change("UPDATE audit SET actor='mallory' WHERE seq=4");
    let verdict = server.offline(&["audit", "verify", "--output", "json"]).expect(1).json();
    assert_eq!((&verdict["valid"], &verdict["first_bad_seq"]), (&json!(false), &json!(4)), "{verdict}");
    server.offline(&["audit", "verify"]).expect(1).says("4");
    change("DELETE FROM audit WHERE seq=2");
    let verdict = server.offline(&["audit", "verify", "--output", "json"]).expect(1).json();
    assert_eq!(verdict["first_bad_seq"], 2, "{verdict}");

    let empty = Server::prepare(Options::default());
    fs::write(empty.database(), "this is no database, but some text that is long enough").expect("a file");
    empty.offline(&["audit", "verify"]).expect(2);
}

#[tokio::test]
async fn audit_verify_sees_a_cut_end() {
    let mut server = Options::default().noop("a", "interval_sec: 300\n").start().await;
    server.act("pause", "a").send().await.expect(200);
    server.stop().await;
    assert_eq!(server.sql().execute("DELETE FROM audit WHERE seq=2", []).expect("by hand"), 1);
    let verdict = server.offline(&["audit", "verify", "--output", "json"]).expect(1).json();
    assert_eq!(verdict["first_bad_seq"], 2, "{verdict}");
}

/// One clear line, and exit code 2.
#[track_caller]
fn one_line(ended: common::cli::Ended, needles: &[&str]) {
    let ended = ended.expect(2);
    let lines: Vec<&str> = ended.err.lines().filter(|line| !line.trim().is_empty()).collect();
    assert_eq!(lines.len(), 1, "one line on stderr:\n{}", ended.said());
    for needle in needles {
        assert!(lines[0].contains(needle), "{needle:?} in: {}", lines[0]);
    }
}

#[tokio::test]
async fn what_keeps_it_from_starting_is_one_clear_line() {
    let server = Server::start(Options::default()).await;
    let port = server.addr().port().to_string();

    let elsewhere = Server::prepare(Options::default());
    let mut command = elsewhere.command();
    command.env("COMMAND_CENTER_ADDR", server.addr().to_string()).arg("serve");
    one_line(run(command), &[&port]);

    let mut command = elsewhere.command();
    command.env("COMMAND_CENTER_DSN", server.database()).arg("serve");
    one_line(run(command), &["in use"]);

    // A directory below a regular file can be made by nobody, not even by root.
    fs::write(elsewhere.path("file"), "").expect("a file");
    let mut command = elsewhere.command();
    command.env("COMMAND_CENTER_DATA_DIR", elsewhere.path("file/data"));
    command.env("COMMAND_CENTER_DSN", elsewhere.path("file/data/cc.db")).arg("serve");
    one_line(run(command), &["file/data"]);

    let settings = [
        ("COMMAND_CENTER_ADDR", "nowhere"),
        ("COMMAND_CENTER_HEALTH_INTERVAL", "soon"),
        ("COMMAND_CENTER_STORE", "mongo"),
    ];
    for (name, value) in settings {
        let mut command = elsewhere.command();
        command.env(name, value).arg("serve");
        let ended = run(command).expect(2);
        assert!(ended.err.contains(value), "{name}: {}", ended.err);
    }
}

#[test]
fn help_has_an_example_and_a_wrong_command_is_an_error() {
    let home = tempfile::tempdir().expect("a directory");
    let ask = |arguments: &[&str]| {
        let mut command = bare_command(home.path());
        command.args(arguments);
        run(command)
    };
    ask(&["--version"]).expect(0).says("command-center");
    for command in [
        &["serve"][..],
        &["validate"],
        &["diff"],
        &["apply"],
        &["import"],
        &["schedule", "set"],
        &["schedule", "pause"],
        &["audit", "verify"],
        &["schema"],
        &["sandbox"],
    ] {
        let help = ask(&[command, &["--help"]].concat()).expect(0);
        assert!(help.out.to_lowercase().contains("example"), "{command:?} has an example:\n{}", help.out);
        assert!(!help.out.contains('\u{1b}'), "NO_COLOR is respected: {command:?}");
    }
    ask(&["frobnicate"]).expect(2);
    ask(&["completions", "bash"]).expect(0).says("command-center");
}

#[test]
fn print_config_shows_each_value_and_where_it_came_from() {
    let home = Server::prepare(Options::default());
    let shown = home.offline(&["serve", "--print-config", "--health-interval", "9"]).expect(0);
    shown.says("health_interval").says("9").says("flag").says("environment").says("default");
    let mut command = home.command();
    command.env("COMMAND_CENTER_DSN", "postgres://cc:hunter2@db/cc").args(["serve", "--print-config"]);
    let masked = run(command);
    assert!(!masked.said().contains("hunter2"), "{}", masked.said());
}

#[test]
fn the_published_schema_is_the_programs_own() {
    let home = Server::prepare(Options::default());
    let schema = home.offline(&["schema"]);
    assert_eq!(schema.code, 0, "{}", schema.said());
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = bare_command(repository);
    command.args(["schema", "--check"]);
    run(command).expect(0);
}
