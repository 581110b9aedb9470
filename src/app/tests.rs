//! The application on a real directory and a real store, with a clock moved by hand.

mod crashes;
mod git;
mod history;
mod sim;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::adapters::connectors::{Connect, Connectors, noop::Noop};
use crate::adapters::store::{AuditQuery, SqliteStore};
use crate::app::mutate::{Edit, IfMatch, Mutation};
use crate::core::model::{Caller, Source as Origin};

mod bounds;
mod bulk;
mod chance;
mod clocks;
mod concurrency;
mod defaults;
mod drifting;
mod fairness;
mod healing;
mod healing_log;
mod held;
mod holding;
mod keeping;
mod looking;
mod mutating;
mod pauses;
mod records;
mod running;
mod scheduler;
mod seeds;
mod volume;
mod windows;

/// Something that a test lets happen once, at a chosen place.
#[derive(Default)]
pub(super) struct Hook(Mutex<Vec<Box<dyn FnOnce() + Send>>>);

impl Hook {
    fn set(&self, deeds: Vec<Box<dyn FnOnce() + Send>>) {
        *self.0.lock().unwrap() = deeds;
    }

    /// Does the next deed, if there is one.
    pub fn run(&self) {
        let next = { self.0.lock().unwrap().pop() };
        if let Some(deed) = next {
            deed();
        }
    }
}

const START: Millis = 1_800_000_000_000;

struct World {
    folder: tempfile::TempDir,
    clock: Clock,
    app: Arc<App>,
}

impl World {
    async fn new(files: &[(&str, &str)]) -> World {
        World::with(files, Arc::new(Noop)).await
    }

    /// With a connector of the test's own.
    async fn with(files: &[(&str, &str)], noop: Arc<dyn Connect>) -> World {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            put(folder.path().join("desired").join(file_of(name)), text);
        }
        std::fs::create_dir_all(folder.path().join("desired/schedules")).unwrap();
        let clock = Clock::manual(START);
        let app = open_with(&folder, &clock, noop).await;
        World { folder, clock, app }
    }

    /// Stops as a kill would, as far as the store goes, and starts again.
    async fn restart(self) -> World {
        self.restart_with(Arc::new(Noop)).await
    }

    async fn restart_with(self, noop: Arc<dyn Connect>) -> World {
        self.app.store.close();
        let World { folder, clock, app } = self;
        drop(app);
        let app = open_with(&folder, &clock, noop).await;
        World { folder, clock, app }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("desired").join(file_of(name))
    }

    fn write(&self, name: &str, text: &str) {
        put(self.path(name), text);
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    async fn pass(&self) -> views::PassReport {
        self.app.full_pass(None).await.unwrap()
    }

    /// `operation tenant field: from -> to, …` of every entry, oldest first.
    async fn audit(&self) -> Vec<String> {
        let query = AuditQuery { limit: 1000, ..AuditQuery::default() };
        let mut entries = self.app.store.audit_page(query).await.unwrap();
        entries.reverse();
        let verdict = self.app.verify_audit(Vec::new()).await.unwrap();
        assert!(verdict.valid, "{verdict:?}");
        entries
            .iter()
            .map(|entry| {
                let view = entry.view();
                let diff: Vec<String> = view.metadata["diff"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(|change| format!("{} {}->{}", change["field"].as_str().unwrap(), change["from"], change["to"]))
                    .collect();
                format!("{} {} [{}] by {}", view.operation, view.tenant, diff.join(", "), view.source)
            })
            .collect()
    }

    async fn status(&self, name: &str) -> Option<views::ScheduleStatus> {
        self.app.status_of(&name.parse().unwrap()).await.unwrap()
    }

    fn sql(&self, statement: &str) {
        let database = rusqlite::Connection::open(self.folder.path().join("data/store.db")).unwrap();
        database.busy_timeout(Duration::from_secs(5)).unwrap();
        database.execute_batch(statement).unwrap();
    }

    async fn mutate(&self, name: &str, edit: Edit) -> Result<views::MutationAnswer, AppError> {
        self.app.mutate(mutation(name, edit)).await
    }
}

fn mutation(name: &str, edit: Edit) -> Mutation {
    let caller = Caller { source: Origin::Ui, actor: "zoe".into() };
    Mutation {
        id: name.parse().unwrap(),
        edit,
        caller,
        may_change_connection: false,
        if_match: None,
        notes: Vec::new(),
    }
}

fn merge(patch: Value) -> Edit {
    Edit::Merge(patch.as_object().unwrap().clone())
}

fn file_of(name: &str) -> String {
    format!("schedules/{name}.yaml")
}

fn put(path: PathBuf, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

async fn open(folder: &tempfile::TempDir, clock: &Clock) -> Arc<App> {
    open_with(folder, clock, Arc::new(Noop)).await
}

async fn open_with(folder: &tempfile::TempDir, clock: &Clock, noop: Arc<dyn Connect>) -> Arc<App> {
    let settings = Settings { desired_dir: folder.path().join("desired"), ..Settings::default() };
    let store = Arc::new(SqliteStore::open(&folder.path().join("data/store.db")).unwrap());
    let connectors = Connectors { noop, ..Connectors::all(Arc::new(Noop)) };
    let metrics = Arc::new(Metrics::new(10).unwrap());
    let app = App::new(settings, clock.clone(), store, connectors, metrics);
    app.bring_up().await.unwrap();
    app
}

#[tokio::test]
async fn files_become_schedules_and_edits_follow() {
    let world = World::new(&[("noop/a", "interval_sec: 300\n"), ("noop/b", "cron: '0 2 * * *'\n")]).await;
    assert_eq!(world.status("noop/a").await.unwrap().interval_sec, Some(300));
    assert_eq!(world.status("noop/b").await.unwrap().timezone.as_deref(), Some("UTC"));

    world.write("noop/a", "interval_sec: 60\npaused: true\npause_reason: roof\n");
    assert_eq!(world.pass().await.changes, 2);
    let status = world.status("noop/a").await.unwrap();
    assert_eq!((status.paused, status.next_run_in_sec, status.sync.as_str()), (true, None, "synced"));
    let audit = world.audit().await;
    assert_eq!(
        audit[2..],
        [
            "scheduler.schedule.updated a [interval_sec 300->60] by file",
            "scheduler.schedule.paused a [pause_reason null->\"roof\", paused false->true] by file",
        ]
    );

    world.write("noop/a", "# a comment alone is no difference\ninterval_sec: 60\npaused: true\npause_reason: roof\n");
    assert_eq!(world.pass().await.changes, 0);
    assert_eq!(world.audit().await.len(), audit.len());
    assert_eq!(
        world.pass().await,
        views::PassReport { at_iso: world.pass().await.at_iso, ..world.pass().await }.same()
    );
}

impl views::PassReport {
    /// Without the time it took, for comparing.
    fn same(self) -> Self {
        views::PassReport { duration_ms: 0.0, ..self }
    }
}

impl PartialEq for views::PassReport {
    fn eq(&self, other: &Self) -> bool {
        let key = |report: &Self| (report.files, report.changes, report.repaired, report.invalid, report.held);
        key(self) == key(other)
    }
}

#[tokio::test]
async fn a_broken_file_freezes_only_its_tenant_also_over_a_restart() {
    let world = World::new(&[("noop/a", "interval_sec: 300\n"), ("noop/b", "interval_sec: 300\n")]).await;
    world.write("noop/a", "intervall_sec: 300\n");
    world.write("noop/b", "interval_sec: 60\n");
    world.pass().await;
    let world = world.restart().await;
    assert_eq!(world.status("noop/b").await.unwrap().interval_sec, Some(60));
    let broken = world.status("noop/a").await.unwrap();
    assert_eq!((broken.interval_sec, broken.sync.as_str()), (Some(300), "invalid"));
    assert!(broken.next_run_iso.is_some());
    let health = world.app.health().await;
    let found = &health.drift.invalid_files[0];
    assert_eq!((found.file.as_str(), found.diagnostics[0].line), ("schedules/noop/a.yaml", 1));
    assert_eq!(health.desired.status, 0);

    world.write("noop/a", "interval_sec: 30\n");
    world.pass().await;
    assert_eq!(world.status("noop/a").await.unwrap().sync, "synced");
    assert!(world.app.health().await.ok);
    let audit = world.audit().await;
    assert_eq!(audit.iter().filter(|line| line.starts_with("reconcile.file.invalid")).count(), 1, "{audit:#?}");
    assert!(audit.iter().any(|line| line.starts_with("reconcile.file.recovered")), "{audit:#?}");
}

#[tokio::test]
async fn what_is_changed_beside_the_files_is_put_back() {
    let world = World::new(&[("noop/a", "interval_sec: 300\n"), ("noop/b", "interval_sec: 300\n")]).await;
    let due = world.status("noop/a").await.unwrap().next_run_iso;
    world.sql("UPDATE schedules SET interval_sec = 7 WHERE tenant = 'a'; DELETE FROM schedules WHERE tenant = 'b'");
    assert_eq!(world.pass().await.repaired, 2);
    world.sql("UPDATE schedules SET paused = 1 WHERE tenant = 'a'");
    world.sql(
        "UPDATE timers SET next_due_ms = next_due_ms + 999999 WHERE id = (SELECT id FROM schedules WHERE tenant = 'a')",
    );
    let drift = world.app.drift().await.unwrap();
    assert_eq!(drift.items[0].actual, json!({"paused": true}));
    world.pass().await;
    let status = world.status("noop/a").await.unwrap();
    assert_eq!((status.interval_sec, status.paused, status.next_run_iso), (Some(300), false, due));
    assert!(world.status("noop/b").await.is_some());
    let mut repairs: Vec<_> = world.audit().await.into_iter().filter(|line| line.contains("drift")).collect();
    repairs.sort();
    assert_eq!(
        repairs,
        [
            "reconcile.drift.repaired a [interval_sec 7->300] by command-center",
            "reconcile.drift.repaired a [paused true->false] by command-center",
            "reconcile.drift.repaired b [interval_sec null->300, paused null->false] by command-center",
        ]
    );
    assert_eq!(world.pass().await.repaired, 0);
}

#[tokio::test]
async fn a_row_that_drifts_while_its_file_is_broken_goes_back_to_the_last_good_version() {
    let world = World::new(&[("noop/a", "interval_sec: 300\n"), ("noop/b", "interval_sec: 300\n")]).await;
    world.write("noop/a", "interval_sec: no\n");
    world.write("noop/b", "interval_sec: no\n");
    world.pass().await;
    world.sql("UPDATE schedules SET interval_sec = 7 WHERE tenant = 'a'; DELETE FROM schedules WHERE tenant = 'b'");
    for _ in 0..2 {
        world.pass().await;
    }
    let status = world.status("noop/a").await.unwrap();
    assert_eq!((status.interval_sec, status.sync.as_str()), (Some(300), "invalid"));
    let drift: Vec<_> = world.audit().await.into_iter().filter(|line| line.contains("drift")).collect();
    assert_eq!(drift.len(), 2, "{drift:#?}");
    assert!(drift.iter().any(|line| line == "reconcile.drift.detected b [] by command-center"), "{drift:#?}");
    world.write("noop/b", "interval_sec: 300\n");
    world.pass().await;
    assert_eq!(world.status("noop/b").await.unwrap().sync, "synced", "a lost row comes back with its file");
}

#[tokio::test]
async fn a_row_put_there_by_hand_goes_as_drift() {
    let world = World::new(&[("noop/a", "interval_sec: 300\n")]).await;
    world.sql(
        "INSERT INTO schedules (id, connector, tenant, interval_sec, paused, spec, fingerprint, digest, stamp, created_ms, updated_ms)
         VALUES (99, 'noop', 'x', 5, 0, '{}', zeroblob(16), zeroblob(32), 0, 0, 0)",
    );
    assert_eq!(world.pass().await.repaired, 1);
    assert!(world.status("noop/x").await.is_none());
    let last = world.audit().await.pop().unwrap();
    assert_eq!(last, "reconcile.drift.repaired x [interval_sec 5->null, paused false->null] by command-center");
}

#[tokio::test]
async fn nothing_is_called_synced_while_nobody_can_compare() {
    let world = World::new(&[("noop/a", "interval_sec: 300\n")]).await;
    std::fs::rename(world.folder.path().join("desired"), world.folder.path().join("away")).unwrap();
    world.pass().await;
    let status = world.status("noop/a").await.unwrap();
    assert_eq!((status.sync.as_str(), status.sync_reason.as_deref()), ("pending", Some("stale")));
    assert_eq!(world.app.health().await.desired.status, 0);
}

#[tokio::test]
async fn a_row_changed_while_nothing_ran_is_found_at_start() {
    let world = World::new(&[("noop/a", "interval_sec: 300\n")]).await;
    world.app.store.close();
    world.sql("UPDATE schedules SET interval_sec = 7");
    let world = world.restart().await;
    assert_eq!(world.status("noop/a").await.unwrap().interval_sec, Some(300));
}

#[tokio::test]
async fn absence_is_proven_before_anything_is_deleted() {
    let files: Vec<(String, &str)> = (0..10).map(|n| (format!("noop/t{n}"), "interval_sec: 300\n")).collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), *text)).collect();
    let world = World::new(&files).await;
    std::fs::remove_file(world.path("noop/t0")).unwrap();
    world.pass().await;
    assert_eq!(world.status("noop/t0").await.unwrap().sync, "pending");
    world.clock.advance(3000);
    world.pass().await;
    assert!(world.status("noop/t0").await.is_none());

    let (root, away) = (world.folder.path().join("desired"), world.folder.path().join("away"));
    std::fs::rename(&root, &away).unwrap();
    for _ in 0..2 {
        assert!(world.pass().await.waiting.unwrap().contains("missing"));
        world.clock.advance(3000);
    }
    std::fs::rename(&away, &root).unwrap();
    assert_eq!(world.pass().await.held, 0);

    for n in 1..4 {
        std::fs::remove_file(world.path(&format!("noop/t{n}"))).unwrap();
    }
    world.pass().await;
    world.clock.advance(3000);
    world.pass().await;
    assert_eq!(world.status("noop/t1").await.unwrap().sync, "held");
    let caller = Caller { source: Origin::Cli, actor: "zoe".into() };
    let held = world.app.apply(None, &caller).await.unwrap();
    assert_eq!((held.ok, held.held.len()), (false, 3));
    let applied = world.app.apply(held.held_digest, &caller).await.unwrap();
    assert!(applied.ok, "{applied:?}");
    assert!(world.status("noop/t3").await.is_none());
    let audit = world.audit().await;
    assert_eq!(audit.iter().filter(|line| line.starts_with("reconcile.prune.held")).count(), 3, "{audit:#?}");
}

/// Fires what is due and waits until nothing runs.
async fn fire(world: &World) {
    let app = world.app.clone();
    let batch = tokio::task::spawn_blocking(move || app.wait_for_due()).await.unwrap();
    world.app.dispatch(batch).await;
    while world.app.runs.count().0 > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_slot_runs_once_and_downtime_folds_into_one_run() {
    let world = World::new(&[("noop/a", "interval_sec: 60\n")]).await;
    world.clock.advance(60_000);
    fire(&world).await;
    let first = world.status("noop/a").await.unwrap();
    assert!(first.last_status.unwrap().ok);
    world.clock.advance(600_000);
    let world = world.restart().await;
    fire(&world).await;
    fire(&world).await;
    let facts = world.app.store.facts().await.unwrap();
    assert_eq!(facts.rows["runs"], 2, "ten missed slots are one run");
    let status = world.status("noop/a").await.unwrap();
    assert!(status.next_run_in_sec.unwrap() <= 60);
}

#[tokio::test]
async fn run_now_works_while_paused_and_the_brake_stops_everything() {
    let world = World::new(&[("noop/a", "interval_sec: 60\npaused: true\n")]).await;
    let id = "noop/a".parse().unwrap();
    let caller = Caller { source: Origin::Ui, actor: "zoe".into() };
    let wait = Duration::from_secs(5);
    let RunNow::Done(answer) = world.app.run_now(&id, &caller, wait).await.unwrap() else { panic!("not done") };
    assert!(answer.ok && answer.schedules["a"].next_run_iso.is_none());
    world.app.pull_brake(None, "fire".into(), &caller).await.unwrap();
    assert!(matches!(world.app.run_now(&id, &caller, wait).await, Err(AppError::Conflict { .. })));
    let world = world.restart().await;
    assert_eq!(world.app.brakes().await.unwrap()[0].scope, "fleet");
    assert!(!world.app.drift().await.unwrap().ok);
    world.app.release_brake(None, &caller).await.unwrap();
    assert!(world.app.run_now(&id, &caller, wait).await.is_ok());
    let operations: Vec<String> =
        world.audit().await.iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
    assert_eq!(
        operations[1..],
        ["scheduler.import.force_run", "ops.brake.pulled", "ops.brake.released", "scheduler.import.force_run"]
    );
}

#[tokio::test]
async fn diff_tells_and_changes_nothing() {
    let world = World::new(&[("noop/a", "interval_sec: 300\n"), ("noop/b", "interval_sec: 300\n")]).await;
    assert!(world.app.diff(None).await.unwrap().changes.is_empty());
    world.write("noop/a", "interval_sec: 60\n");
    world.write("noop/c", "interval_sec: 60\n");
    std::fs::remove_file(world.path("noop/b")).unwrap();
    let before = world.audit().await;
    let answer = world.app.diff(None).await.unwrap();
    let expect = "~ noop/a (update)\n    ~ interval_sec = 300 -> 60\n- noop/b (delete)\n    - interval_sec = 300\n    \
                  - paused       = false\n+ noop/c (create)\n    + interval_sec = 60\n    + paused       = false\n\
                  Plan: 1 to create, 1 to change, 1 to delete.\n";
    assert_eq!(answer.text, format!("{expect}Digest: {}\n", answer.digest));
    assert!(answer.markdown.contains(&answer.digest));
    let files = [("schedules/noop/a.yaml", "interval_sec: 60\n"), ("schedules/noop/c.yaml", "interval_sec: 60\n")];
    let upload = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
    assert_eq!(world.app.diff(Some(upload)).await.unwrap().digest, answer.digest);
    assert_eq!(world.audit().await, before);
    world.app.store.close();
    let offline =
        offline_diff(&world.folder.path().join("desired"), &world.folder.path().join("data/store.db")).await.unwrap();
    assert_eq!(offline.digest, answer.digest);
}
