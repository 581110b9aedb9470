//! Kills the server at random moments under load, again and again on one home, and holds it to
//! every answer it gave: nothing promised is lost, no slot runs twice, the audit chain is whole.
#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod common;
#[path = "crash/witness.rs"]
mod witness;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::chance::{Random, fresh_seed};
use common::{Options, Server, at, eventually, hold, noop_file, text};
use serde_json::{Value, json};
use witness::Witness;

const CLIENTS: u64 = 5;
const TENANTS_EACH: u64 = 4;
const FILE_TENANTS: u64 = 4;

/// What a schedule is to look like; `None` in the maps below means that there is none.
#[derive(Clone, Debug, PartialEq)]
struct Shape {
    interval_sec: u64,
    paused: bool,
    reason: Option<String>,
    rev: String,
}

type Wanted = Option<Shape>;

/// One tenant as the outside recorder knows it.
#[derive(Clone, Debug, Default)]
struct Record {
    /// After the last answer.
    sure: Wanted,
    /// What a request that was never answered would have made of it.
    maybe: Option<Wanted>,
}

/// What an outsider wrote down: tenants, and answered action ids by audit sequence number.
#[derive(Default)]
struct Recorder {
    tenants: BTreeMap<String, Record>,
    answered: HashMap<i64, String>,
    /// All of them, for the end.
    ever_answered: HashMap<i64, String>,
    /// Runs that were asked for, and their schedules.
    runs: HashMap<i64, String>,
    /// The first signed end of the audit log that was given out.
    checkpoint: Option<String>,
    /// The newest that an answer named.
    snapshot: Option<String>,
    mutations: u64,
    refused: Vec<String>,
}

type Shared = Arc<Mutex<Recorder>>;

#[derive(Clone, Copy, Debug)]
enum Act {
    Put,
    Pause,
    Resume,
    Delete,
    RunNow,
}

impl Act {
    /// What it makes of a schedule.
    fn outcome(self, before: &Wanted, rev: &str) -> Wanted {
        let interval_sec = if rev.ends_with(['1', '5', '9']) { 2 } else { 1 };
        match (self, before.clone()) {
            (Act::Put, None) => Some(Shape { interval_sec, paused: false, reason: None, rev: rev.into() }),
            (Act::Put, Some(shape)) => Some(Shape { interval_sec, rev: rev.into(), ..shape }),
            (Act::Pause, Some(shape)) => Some(Shape { paused: true, reason: Some(rev.into()), ..shape }),
            (Act::Resume, Some(shape)) => Some(Shape { paused: false, reason: None, ..shape }),
            (Act::Delete, _) => None,
            (_, same) => same,
        }
    }
}

/// The requests of one client, which alone changes its tenants.
struct Client {
    http: reqwest::Client,
    base: String,
    number: u64,
    random: Random,
    shared: Shared,
}

impl Client {
    /// Works until the server is gone.
    async fn run(mut self, round: u64) {
        for step in 0.. {
            let tenant = format!("c{}-{}", self.number, self.random.below(TENANTS_EACH));
            let before = self.shared.lock().unwrap().tenants.entry(tenant.clone()).or_default().sure.clone();
            let act = match (before.is_some(), self.random.below(10)) {
                (false, _) | (true, 0..4) => Act::Put,
                (true, 4 | 5) => Act::Pause,
                (true, 6 | 7) => Act::Resume,
                (true, 8) => Act::RunNow,
                (true, _) => Act::Delete,
            };
            let rev = format!("r{round}.{}.{step}", self.number);
            let after = act.outcome(&before, &rev);
            self.shared.lock().unwrap().tenants.entry(tenant.clone()).or_default().maybe = Some(after.clone());
            let Some((code, answer)) = self.send(act, &tenant, &after, &rev).await else { return };
            let mut recorder = self.shared.lock().unwrap();
            if code == 200 || code == 202 {
                recorder.mutations += 1;
                let action = text(&answer, "/action_id").to_owned();
                if let Some(run) = answer["run_id"].as_i64() {
                    recorder.runs.insert(run, format!("noop/{tenant}"));
                }
                let seqs = at(&answer, "/audit").as_array().into_iter().flatten().filter_map(Value::as_i64);
                for seq in seqs.collect::<Vec<_>>() {
                    recorder.answered.insert(seq, action.clone());
                }
                recorder.tenants.insert(tenant, Record { sure: after, maybe: None });
            } else {
                recorder.refused.push(format!("{act:?} {tenant}: {code} {answer}"));
                recorder.tenants.entry(tenant).or_default().maybe = None;
            }
        }
    }

    /// `None` when no whole answer came: then nobody was promised anything.
    async fn send(&self, act: Act, tenant: &str, after: &Wanted, rev: &str) -> Option<(u16, Value)> {
        let route = match act {
            Act::Put | Act::Delete => "schedule",
            Act::Pause => "pause",
            Act::Resume => "resume",
            Act::RunNow => "run-now?wait=0",
        };
        let url = format!("{}/api/crm/import/noop/{route}", self.base);
        let request = if matches!(act, Act::Delete) { self.http.delete(url) } else { self.http.post(url) };
        let request = request.header("x-ops", "1").header("x-tenant", tenant);
        let request = match (act, after) {
            (Act::Put, Some(shape)) => {
                request.json(&json!({"interval_sec": shape.interval_sec, "labels": {"rev": shape.rev}}))
            }
            (Act::Pause, _) => request.json(&json!({"reason": rev})),
            _ => request,
        };
        let answer = request.send().await.ok()?;
        let code = answer.status().as_u16();
        // Shutting down is no answer either way.
        if code == 503 {
            return None;
        }
        let body = answer.bytes().await.ok()?;
        Some((code, serde_json::from_slice(&body).unwrap_or_default()))
    }
}

/// Saves files directly, as an editor beside the API does. Creates and edits only: too many
/// deletions or pauses by file within ten minutes would rightly be held.
async fn edit_files(root: std::path::PathBuf, mut random: Random, shared: Shared, round: u64, stop: Arc<Mutex<bool>>) {
    for step in 0.. {
        if *stop.lock().unwrap() {
            return;
        }
        let tenant = format!("f-{}", random.below(FILE_TENANTS));
        let shape =
            Shape { interval_sec: 1 + random.below(2), paused: false, reason: None, rev: format!("r{round}.{step}") };
        let path = root.join(noop_file(&tenant));
        let content = format!("# by hand\ninterval_sec: {}\nlabels:\n  rev: {}\n", shape.interval_sec, shape.rev);
        let aside = path.with_extension("tmp");
        std::fs::write(&aside, content).expect("written aside");
        std::fs::rename(&aside, &path).expect("renamed into place");
        shared.lock().unwrap().tenants.insert(tenant, Record { sure: Some(shape), maybe: None });
        tokio::time::sleep(Duration::from_millis(5 + random.below(30))).await;
    }
}

/// Has snapshots made, one after the other, until the server is gone.
async fn snap(http: reqwest::Client, url: String, shared: Shared) {
    loop {
        let Ok(answer) = http.post(&url).header("x-ops", "1").send().await else { return };
        let Ok(body) = answer.bytes().await else { return };
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        if let Some(name) = at(&body, "/snapshot/name").as_str() {
            shared.lock().unwrap().snapshot = Some(name.to_owned());
        }
        if shared.lock().unwrap().checkpoint.is_none() {
            let asked = http.get(url.replace("/snapshots", "/audit/checkpoint")).header("x-ops", "1").send().await;
            let Ok(Ok(answer)) = asked.map(reqwest::Response::error_for_status) else { continue };
            shared.lock().unwrap().checkpoint = answer.text().await.ok();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The newest snapshot that was answered is there, and nothing half made is shown.
async fn check_snapshots(server: &Server, shared: &Shared) {
    let answer = server.get("/ops/snapshots").ops().send().await.expect(200);
    for snapshot in at(&answer, "/snapshots").as_array().unwrap() {
        assert!(snapshot["audit_seq"].is_i64(), "half made: {snapshot}");
    }
    let names: Vec<&str> = at(&answer, "/snapshots").as_array().unwrap().iter().map(|s| text(s, "/name")).collect();
    if let Some(answered) = &shared.lock().unwrap().snapshot {
        assert!(names.contains(&answered.as_str()), "{answered} was in an answer, there are {names:?}");
    }
    let folder = server.path("data/snapshots");
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        assert!(names.contains(&name.as_str()), "{name} is left over; shown are {names:?}");
    }
    let damaged = std::fs::read_dir(server.path("data")).expect("a folder").flatten();
    let damaged = damaged.filter(|entry| entry.file_name().to_string_lossy().contains(".corrupt"));
    assert_eq!(damaged.count(), 0, "a kill was taken for damage");
}

/// What was copied elsewhere is a store that stands: not beyond the one it was copied from, and after an
/// orderly stop its equal.
fn check_replica(server: &Server, url: &str, is_whole: bool) {
    let home = tempfile::tempdir().expect("a folder");
    let folder = home.path().join("data").display().to_string();
    server.offline(&["restore", "--from", url, "--data-dir", &folder]).expect(0);
    let restored = rusqlite::Connection::open(home.path().join("data/command_center.db")).expect("a database");
    let rows = |of: &rusqlite::Connection, query: &str| -> Vec<String> {
        let mut query = of.prepare(query).expect("a query");
        let rows = query.query_map([], |row| row.get(0)).expect("rows");
        rows.collect::<Result<_, _>>().expect("a row")
    };
    // That it was restored a store writes down itself.
    let log = "SELECT seq || ' ' || hex(hash) FROM audit WHERE operation <> 'ops.store.restored' ORDER BY seq";
    let (there, here) = (rows(&restored, log), rows(&server.sql(), log));
    assert!(here.starts_with(&there[..there.len().min(here.len())]), "the replica tells another story");
    assert!(there.len() <= here.len(), "the replica has {} entries, the store {}", there.len(), here.len());
    if is_whole {
        let fleet =
            "SELECT connector || tenant || hex(fingerprint) || hex(digest) || paused FROM schedules ORDER BY id";
        let runs = "SELECT id || schedule || nominal_ms || state FROM runs ORDER BY id";
        for query in [log, fleet, runs] {
            let (there, here) = (rows(&restored, query), rows(&server.sql(), query));
            let first = here.iter().zip(&there).position(|(here, there)| here != there);
            let counts = (there.len(), here.len());
            assert!(there == here, "{query}: {counts:?}, first different {first:?}\n{}", server.log("stdout"));
        }
    }
}

/// A file's meaning, `None` when there is none.
fn file_shape(server: &Server, tenant: &str) -> Wanted {
    let content = std::fs::read_to_string(server.desired(&noop_file(tenant))).ok()?;
    let value: Value =
        serde_yaml::from_str(&content).unwrap_or_else(|error| panic!("{tenant}: torn file ({error}): {content:?}"));
    Some(Shape {
        interval_sec: value["interval_sec"].as_u64().unwrap_or_else(|| panic!("{tenant}: {content:?}")),
        paused: value["paused"] == true,
        reason: value["pause_reason"].as_str().map(str::to_owned),
        rev: text(&value, "/labels/rev").to_owned(),
    })
}

/// Whether a status says what the file does; labels show in files only.
fn agrees(status: &Value, file: &Wanted) -> bool {
    match file {
        None => status.is_null(),
        Some(shape) => {
            status["interval_sec"] == shape.interval_sec
                && status["paused"] == shape.paused
                && status["pause_reason"].as_str() == shape.reason.as_deref()
        }
    }
}

/// Right after a restart: every answer holds, in the file and in the status.
async fn check_promises(server: &Server, shared: &Shared) {
    let tenants = shared.lock().unwrap().tenants.clone();
    for (tenant, record) in &tenants {
        let file = file_shape(server, tenant);
        let allowed = file == record.sure || record.maybe.as_ref() == Some(&file);
        assert!(allowed, "{tenant}: the file says {file:?}, promised was {record:?}");
    }
    eventually("status and files agree", async || {
        let statuses = server.statuses("noop").await;
        for tenant in tenants.keys() {
            let file = file_shape(server, tenant);
            let status = statuses.get(tenant).cloned().unwrap_or_default();
            hold(agrees(&status, &file), &format!("{tenant}: status {status}, file {file:?}"))?;
        }
        Ok(())
    })
    .await;
    let mut recorder = shared.lock().unwrap();
    for tenant in tenants.keys() {
        let now = file_shape(server, tenant);
        recorder.tenants.insert(tenant.clone(), Record { sure: now, maybe: None });
    }
}

impl Recorder {
    /// Whatever was answered at any time is in the log still.
    fn answered_ever(&self, sql: &rusqlite::Connection) {
        let mut find = sql.prepare("SELECT action_id FROM audit WHERE seq = ?1").expect("a query");
        for (seq, action) in &self.ever_answered {
            let found: Option<String> = find.query_row([seq], |row| row.get(0)).ok();
            assert_eq!(found.as_ref(), Some(action), "audit entry {seq} was in an answer");
        }
    }
}

/// Today's log goes on from its end as it was signed long ago.
fn check_kept_checkpoint(server: &Server, shared: &Shared) {
    let Some(kept) = shared.lock().unwrap().checkpoint.clone() else { return };
    let path = server.path("kept-checkpoint.txt");
    std::fs::write(&path, kept).expect("written");
    let path = path.display().to_string();
    server.offline(&["audit", "verify", "--checkpoint", &path]).expect(0);
}

/// The store agrees with the directory byte for byte, and the ledger of runs with one claim a slot.
async fn check_store(server: &Server, shared: &Shared) {
    let rows = eventually("rows and files are the same", async || {
        let statuses = server.statuses("noop").await;
        let mut files = BTreeMap::new();
        for entry in std::fs::read_dir(server.desired("schedules/noop")).expect("the directory").flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(tenant) = name.strip_suffix(".yaml") else { continue };
            let digest = command_center::core::model::Digest::of(&std::fs::read(entry.path()).expect("a file"));
            files.insert(tenant.to_owned(), digest.to_hex());
        }
        let tags: BTreeMap<String, String> = statuses
            .iter()
            .map(|(tenant, status)| (tenant.clone(), text(status, "/etag").trim_matches('"').to_owned()))
            .collect();
        hold(tags == files, &format!("rows {tags:?}, files {files:?}")).map(|()| tags.len())
    })
    .await;
    let sql = server.sql();
    let count = |query: &str| sql.query_row::<i64, _, _>(query, [], |row| row.get(0)).expect("a count");
    assert_eq!(count("SELECT count(*) FROM schedules WHERE connector = 'noop'"), i64::try_from(rows).unwrap());
    let twice = "SELECT count(*) FROM (SELECT 1 FROM runs GROUP BY schedule, nominal_ms HAVING count(*) > 1)";
    assert_eq!(count(twice), 0, "a slot was claimed twice");
    // A queued run-now is written down when it is asked for, before the run that it waits for has ended.
    let overlapping = "SELECT a.schedule || ': ' || group_concat(b.id || ' ' || b.trigger || ' ' || b.state || ' slot '
            || b.nominal_ms || ' from ' || b.started_ms || ' to ' || coalesce(b.ended_ms, '-'), '; ')
        FROM runs a JOIN runs b ON a.trigger = 'schedule' AND b.trigger = 'schedule' AND a.schedule = b.schedule AND a.started_ms < b.ended_ms AND b.started_ms < a.ended_ms
        GROUP BY a.id HAVING count(*) > 1";
    let twice: Vec<String> = sql
        .prepare(overlapping)
        .and_then(|mut query| query.query_map([], |row| row.get(0))?.collect())
        .expect("the overlapping runs");
    assert!(twice.is_empty(), "two runs of one schedule at a time: {twice:#?}");
    let disobedient = "SELECT count(*) FROM schedules s JOIN runs r ON r.schedule = s.connector || '/' || s.tenant
        JOIN (SELECT tenant, max(at_ms) AS at FROM audit WHERE operation = 'scheduler.schedule.paused' GROUP BY tenant) p
        ON p.tenant = s.tenant WHERE s.paused = 1 AND r.trigger = 'schedule' AND r.started_ms > p.at + 100";
    assert_eq!(count(disobedient), 0, "a paused schedule ran by itself");
    let orphans = "SELECT count(*) FROM timers WHERE id NOT IN (SELECT id FROM schedules)";
    assert_eq!(count(orphans), 0, "a timer without a schedule");
    let stuck = "SELECT count(*) FROM runs WHERE state = 'running' AND ended_ms IS NULL
        AND term < (SELECT CAST(value AS INTEGER) FROM facts WHERE name = 'term')";
    assert_eq!(count(stuck), 0, "a run that was cut off still counts as running");
    let (answered, runs) = {
        let mut recorder = shared.lock().unwrap();
        let answered = std::mem::take(&mut recorder.answered);
        recorder.ever_answered.extend(answered.clone());
        (answered, std::mem::take(&mut recorder.runs))
    };
    for (run, schedule) in runs {
        let found: Option<String> =
            sql.query_row("SELECT schedule FROM runs WHERE id = ?1", [run], |row| row.get(0)).ok();
        assert_eq!(found.as_ref(), Some(&schedule), "run {run} was in an answer");
    }
    let mut find = sql.prepare("SELECT action_id FROM audit WHERE seq = ?1").expect("a query");
    for (seq, action) in answered {
        let found: Option<String> = find.query_row([seq], |row| row.get(0)).ok();
        assert_eq!(found.as_deref(), Some(action.as_str()), "audit entry {seq} was in an answer");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_promised_is_lost_when_the_process_is_killed() {
    let rounds: u64 = std::env::var("CC_CRASH_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(200);
    let seed = std::env::var("CC_CRASH_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or_else(fresh_seed);
    println!("seed: CC_CRASH_SEED={seed} CC_CRASH_ROUNDS={rounds}");
    let mut random = Random(seed | 1);
    let shared = Shared::default();
    let outside = tempfile::tempdir().expect("a folder");
    let options = Options::default().interval(2).env("COMMAND_CENTER_DISK_RESERVE_MB", "1");
    let (mut witness, options) = Witness::in_folder(outside.path(), options);
    let mut server = Server::prepare(options);
    let replica = format!("file://{}", server.path("replica").display());
    server.set_env("COMMAND_CENTER_REPLICATION", "on");
    server.set_env("COMMAND_CENTER_REPLICATION_URL", &replica);
    std::fs::create_dir_all(server.desired("schedules/noop")).expect("the directory");
    for round in 0..rounds {
        if random.below(3) == 0 {
            // It is killed again while the last crash is being cleared up.
            server.launch_and_kill(Duration::from_millis(random.below(120))).await;
        }
        server.launch().await;
        check_promises(&server, &shared).await;
        check_store(&server, &shared).await;
        witness.check(&server);
        check_snapshots(&server, &shared).await;
        load_and_kill(&mut server, &mut random, &shared, round).await;
        if round % 10 == 9 {
            server.offline(&["audit", "verify"]).expect(0);
            check_kept_checkpoint(&server, &shared);
        }
        if round % 10 == 5 {
            check_replica(&server, &replica, false);
        }
    }
    server.launch().await;
    check_promises(&server, &shared).await;
    check_store(&server, &shared).await;
    eventually("the replica follows", async || {
        let state = server.get("/ops/replication").ops().send().await.expect(200);
        hold(state["lag_entries"] == 0 && state["last_seq"].is_i64(), &state)
    })
    .await;
    // Enough that every kind of page is sent behind the snapshot with which the generation began.
    for step in 0..100 {
        let tenant = format!("c{}-{}", step % CLIENTS, step % TENANTS_EACH);
        let call = server.post("/api/crm/import/noop/schedule").ops().tenant(&tenant);
        call.json(&json!({"interval_sec": 5 + step})).send().await.expect(200);
    }
    server.stop().await;
    server.offline(&["audit", "verify"]).expect(0);
    check_kept_checkpoint(&server, &shared);
    check_replica(&server, &replica, true);
    witness.check(&server);
    shared.lock().unwrap().answered_ever(&server.sql());
    let recorder = shared.lock().unwrap();
    let (refused, runs) = (recorder.refused.len(), witness.runs);
    println!("{} answered mutations, {runs} programs run over {rounds} kills, {refused} refused", recorder.mutations);
    assert!(runs as u64 >= rounds / 10 || cfg!(windows), "programs ran: {runs}");
    assert!(recorder.mutations >= rounds, "there was load: {}", recorder.mutations);
    assert!(recorder.refused.is_empty(), "each client is alone with its tenants: {:?}", recorder.refused);
}

async fn load_and_kill(server: &mut Server, random: &mut Random, shared: &Shared, round: u64) {
    let stop = Arc::new(Mutex::new(false));
    let mut tasks = Vec::new();
    for number in 0..CLIENTS {
        let client = Client {
            http: server.client().clone(),
            base: server.url(""),
            number,
            random: Random(random.next() | 1),
            shared: shared.clone(),
        };
        tasks.push(tokio::spawn(client.run(round)));
    }
    tasks.push(tokio::spawn(snap(server.client().clone(), server.url("/ops/snapshots"), shared.clone())));
    let editor = edit_files(server.desired(""), Random(random.next() | 1), shared.clone(), round, stop.clone());
    tasks.push(tokio::spawn(editor));
    tokio::time::sleep(Duration::from_millis(random.below(450) + 50)).await;
    server.kill9();
    *stop.lock().unwrap() = true;
    for task in tasks {
        task.await.expect("a client");
    }
}
