//! `restore` cut off at every step it takes on the disk: the next start finds the store that was there or the one that
//! was to come, whole and with the files that belong to it; never an empty one, never half of each.
#![cfg(target_os = "linux")]
#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{Options, Server, at, copy_all, eventually, hold, text};
use serde_json::{Value, json};

/// What a home holds, as a person would compare it: the desired files, and the schedules' etags.
#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    files: BTreeMap<String, Vec<u8>>,
    etags: Vec<(String, String)>,
}

fn files_below(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let (mut found, mut open) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            match name.to_string_lossy().starts_with('.') {
                true => {}
                false if path.is_dir() => open.push(path),
                false => {
                    let name = path.strip_prefix(root).unwrap().display().to_string();
                    found.insert(name, fs::read(path).unwrap());
                }
            }
        }
    }
    found
}

async fn state(server: &Server) -> State {
    let all = server.statuses("noop").await;
    let mut etags: Vec<_> = all.into_iter().map(|(tenant, status)| (tenant, text(&status, "/etag").into())).collect();
    etags.sort();
    State { files: files_below(&server.path("desired")), etags }
}

fn library(folder: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/restoring/cut.c");
    let (library, compiler) = (folder.join("libcut.so"), std::env::var_os("CC").unwrap_or_else(|| "cc".into()));
    let mut build = Command::new(compiler);
    build.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).arg("-ldl");
    assert!(build.status().expect("a C compiler, as SQLite needs one").success(), "cut.c does not compile");
    library
}

const DIRS: [&str; 2] = ["data", "desired"];

/// A home that can be put back to where it was.
struct Play {
    server: Server,
    library: PathBuf,
    /// Hash of the log's first entry: whoever has another began anew.
    first: String,
    /// Where it is not known, nothing is compared.
    before: Option<State>,
    after: State,
}

impl Play {
    fn reset(&self) {
        for dir in DIRS {
            let _ = fs::remove_dir_all(self.server.path(dir));
            copy_all(&self.server.path("kept").join(dir), &self.server.path(dir));
        }
        for entry in fs::read_dir(self.server.path("")).unwrap().flatten() {
            if entry.file_name().to_string_lossy().starts_with("desired.before-restore") {
                fs::remove_dir_all(entry.path()).unwrap();
            }
        }
    }

    /// Runs the command until its step `cut`; says whether it came to its end.
    fn run(&self, args: &[&str], cut: u32) -> bool {
        let mut command = self.server.command();
        command.args(args).env("LD_PRELOAD", &self.library).env("CUT_AT", cut.to_string());
        command.env("CUT_UNDER", self.server.path("")).stdout(Stdio::null());
        let ended = command.output().unwrap();
        assert!(
            ended.status.success() || ended.status.signal() == Some(9),
            "{}",
            String::from_utf8_lossy(&ended.stderr)
        );
        ended.status.success()
    }

    /// Starts, looks, and says whether the restored state is there.
    async fn check(&mut self, what: &str) -> bool {
        self.server.launch().await;
        let verdict = self.server.get("/ops/audit/verify").ops().send().await.expect(200);
        assert_eq!(verdict["valid"], true, "{what}: {verdict}");
        let log = self.server.get("/api/crm/import/noop/audit?scope=all&limit=1000").ops().send().await.expect(200);
        let entries = log["entries"].as_array().unwrap();
        assert_eq!(text(entries.last().unwrap(), "/hash"), self.first, "{what}: it began anew");
        let restored = entries.iter().find(|entry| entry["operation"] == "ops.store.restored");
        let wanted = if restored.is_some() { Some(&self.after) } else { self.before.as_ref() };
        if let Some(wanted) = wanted {
            eventually(what, async || {
                let now = state(&self.server).await;
                hold(now == *wanted, &format!("restored: {}, {now:?}\nwanted: {wanted:?}", restored.is_some()))
            })
            .await;
        }
        let left = fs::read_dir(self.server.path("data")).unwrap().flatten();
        let left: Vec<_> = left.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        assert!(!left.iter().any(|name| name.contains("restoring") || name.contains("healing")), "{what}: {left:?}");
        self.server.kill9();
        restored.is_some()
    }

    /// Cuts the command off at every step from `first` on until it comes to its end.
    async fn everywhere(&mut self, args: &[&str], stride: usize) {
        let (mut cuts, mut restored) = (0, 0);
        for cut in (1..).step_by(stride) {
            self.reset();
            let is_done = self.run(args, cut);
            let is_restored = self.check(&format!("{args:?} cut at {cut}")).await;
            if is_done {
                assert!(is_restored);
                break;
            }
            (cuts, restored) = (cuts + 1, restored + usize::from(is_restored));
        }
        println!("{args:?}: cut off {cuts} times, finished by the next start {restored} times");
        assert!(restored > 0 && restored < cuts, "{restored} of {cuts}");
    }
}

async fn first_hash(server: &Server) -> String {
    let log = server.get("/api/crm/import/noop/audit?scope=all&limit=1000").ops().send().await.expect(200);
    text(log["entries"].as_array().unwrap().last().unwrap(), "/hash").to_owned()
}

fn options() -> Options {
    let options = Options::default().env("COMMAND_CENTER_SNAPSHOT_INTERVAL", "off").noop("a", "interval_sec: 3600\n");
    let window = "# nobody is there\ncron: \"0 2 * * 0\"\nduration_sec: 7200\nconnectors: [exec]\n";
    options
        .noop("b", "# kept to the byte\r\ninterval_sec: 7200 # two hours\r\n")
        .file("defaults.yaml", "# for all\njitter_sec: 0\n")
        .file("windows/night.yaml", window)
}

/// Changes what the copy does not have: a file changed, one gone, one new.
async fn go_on(server: &Server) {
    server.act("pause", "a").ops().send().await.expect(200);
    server.put("c", &json!({"interval_sec": 60})).await;
    server.delete("/api/crm/import/noop/schedule").ops().tenant("b").send().await.expect(200);
    server.write("defaults.yaml", "# other\njitter_sec: 1\n");
    eventually("the defaults are applied", async || {
        let drift = server.get("/ops/health").send().await.expect(200);
        hold(at(&drift, "/desired/synced") == at(&drift, "/desired/schedules"), &drift)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_whose_restoring_is_cut_off_anywhere_is_there_or_not() {
    let mut server = options().start().await;
    let out = server.path("out");
    let mut after = state(&server).await;
    let made = server.cli(&["backup", "--to", out.to_str().unwrap(), "--output", "json"]).expect(0).json();
    let (file, first) = (text(&made, "/path").to_owned(), first_hash(&server).await);
    go_on(&server).await;
    let before = state(&server).await;
    // `--desired` leaves files alone that the backup does not know.
    let (name, extra) = (common::noop_file("c"), before.files[&common::noop_file("c")].clone());
    after.files.insert(name, extra);
    let added = before.etags.iter().find(|(tenant, _)| tenant == "c").unwrap().clone();
    after.etags.push(added);
    server.kill9();
    for dir in DIRS {
        copy_all(&server.path(dir), &server.path("kept").join(dir));
    }
    let library = library(&server.path(""));
    let mut play = Play { server, library, first, before: Some(before), after };
    play.everywhere(&["restore", &file, "--force", "--desired"], 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_whose_restoring_is_cut_off_anywhere_is_there_or_not() {
    let place = tempfile::tempdir().unwrap();
    let url = format!("file://{}/replica", place.path().display());
    let mut server =
        options().env("COMMAND_CENTER_REPLICATION", "on").env("COMMAND_CENTER_REPLICATION_URL", &url).start().await;
    let whole = async |server: &Server| -> Value {
        eventually("the replica is whole", async || {
            let view = server.get("/ops/replication").ops().send().await.expect(200);
            hold(view["state"] == "streaming" && view["lag_entries"] == 0 && view["lag_sec"] == 0.0, &view)?;
            Ok(view)
        })
        .await
    };
    let view = whole(&server).await;
    let (after, first) = (state(&server).await, first_hash(&server).await);
    let seq = view["last_seq"].to_string();
    go_on(&server).await;
    server.stop().await;
    // The files are gone with the disk: a folder without any is all that is left of them.
    for dir in DIRS {
        copy_all(&server.path(dir), &server.path("kept").join(dir));
    }
    fs::remove_dir_all(server.path("kept/desired")).unwrap();
    fs::create_dir_all(server.path("kept/desired/schedules/noop")).unwrap();
    server.set_env("COMMAND_CENTER_REPLICATION", "off");
    let library = library(&server.path(""));
    let mut play = Play { server, library, first, before: None, after };
    let args = ["restore", "--from", &url, "--to-seq", &seq, "--force", "--write-desired"];
    play.everywhere(&args, 1).await;
}
