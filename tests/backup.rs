//! Backups and their restoring by the command line, with a server and without.
#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod common;

use std::fs;

use common::cli::run;
use common::{Options, noop_file};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_is_made_by_the_server_and_restored_without_it() {
    let options = Options::default().noop("a", "interval_sec: 3600\n").noop("b", "interval_sec: 3600\n");
    let mut server = options.start().await;
    let command = |server: &common::Server, args: &[&str]| {
        let mut command = server.command();
        command.args(args);
        run(command)
    };
    let out = server.path("out");
    let made = command(&server, &["backup", "--to", out.to_str().unwrap(), "--output", "json"]).expect(0).json();
    let file = made["path"].as_str().unwrap().to_owned();
    assert!(fs::read(&file).unwrap().starts_with(b"PK"));
    // Each entry is dated as the backup's name is: the zip's local header has the date in its bytes 12 and 13.
    let (name, zip) = (file.rsplit('_').nth(1).unwrap(), fs::read(&file).unwrap());
    let date = u16::from_le_bytes([zip[12], zip[13]]);
    assert_eq!(format!("{:04}{:02}{:02}", 1980 + (date >> 9), date >> 5 & 15, date & 31), name);
    command(&server, &["backup", "--schedule", "02:30"]).expect(0).says("02:30");
    command(&server, &["backup", "--schedule", "26:30"]).expect(2);
    let facts = server.get("/ops/db").ops().send().await.expect(200);
    assert_eq!(facts["backups"]["daily_at"], "02:30");
    assert_eq!(facts["backups"]["count"], 1);
    server.act("pause", "a").ops().send().await.expect(200);
    command(&server, &["restore", &file, "--force"]).expect(1).says("stop the server");
    server.kill9();

    command(&server, &["restore", &file]).expect(1).says("--force");
    let torn = server.path("torn.zip");
    let bytes = fs::read(&file).unwrap();
    fs::write(&torn, &bytes[..bytes.len() / 2]).unwrap();
    command(&server, &["restore", torn.to_str().unwrap(), "--force"]).expect(1);
    let store = fs::read(server.database()).unwrap();
    command(&server, &["restore", &file, "--force", "--desired"]).expect(0).says("audit log up to entry");
    assert_ne!(fs::read(server.database()).unwrap(), store);
    assert!(!server.read(&noop_file("a")).contains("paused"), "the backup's files are back");
    server.launch().await;
    let status = server.status("a").await;
    assert_eq!(status["paused"], false);
    let verdict = server.get("/ops/audit/verify").ops().send().await.expect(200);
    assert_eq!(verdict["valid"], true, "{verdict}");
    let entries = server.audit("operation=ops.store.restored&scope=all").await;
    assert_eq!(entries.len(), 1);
    server.stop().await;

    // Of the store itself, and into a new place.
    let made = command(&server, &["backup", "--to", out.to_str().unwrap(), "--output", "json"]).expect(0).json();
    fs::remove_dir_all(server.path("data")).unwrap();
    fs::remove_dir_all(server.path("desired")).unwrap();
    command(&server, &["restore", made["path"].as_str().unwrap()]).expect(0).says("desired files written");
    server.launch().await;
    assert_eq!(server.status("b").await["sync"], "synced");
    server.stop().await;
}
