//! Limits, turns and paces of starts as they show from outside; lateness and missed slots.

use std::collections::BTreeMap;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;

use super::*;
use crate::adapters::connectors::{Connect, ImportContext, ImportOutcome};
use crate::core::fair::{Limits, StartsPerSec};

/// Imports go on until they are let out, the first first.
struct Held {
    out: Semaphore,
    inside: Mutex<Vec<String>>,
    most_inside: Mutex<usize>,
}

impl Connect for Held {
    fn import(&self, context: ImportContext) -> BoxFuture<'_, ImportOutcome> {
        let id = context.id.to_string();
        async move {
            let count = {
                let mut inside = self.inside.lock().unwrap();
                inside.push(id.clone());
                inside.len()
            };
            let mut most = *self.most_inside.lock().unwrap();
            most = most.max(count);
            *self.most_inside.lock().unwrap() = most;
            if let Ok(permit) = self.out.acquire().await {
                permit.forget();
            }
            self.inside.lock().unwrap().retain(|other| *other != id);
            Noop.import(context).await
        }
        .boxed()
    }
}

struct Hall {
    world: World,
    held: Arc<Held>,
}

impl Hall {
    async fn new(files: &[(&str, &str)], limits: Limits) -> Hall {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            put(folder.path().join("desired").join(file_of(name)), text);
        }
        for secret in ["one", "two"] {
            put(folder.path().join("secrets").join(secret), "key");
        }
        let held = Held { out: Semaphore::new(0), inside: Mutex::default(), most_inside: Mutex::default() };
        let (held, clock) = (Arc::new(held), Clock::manual(START));
        let settings = Settings {
            desired_dir: folder.path().join("desired"),
            secrets_dir: Some(folder.path().join("secrets")),
            limits,
            ..Settings::default()
        };
        let store = Arc::new(SqliteStore::open(&folder.path().join("data/store.db")).unwrap());
        let connectors =
            Connectors { acculynx: held.clone(), noop: held.clone(), exec: held.clone(), http: held.clone() };
        let app = App::new(settings, clock.clone(), store, connectors, Arc::new(Metrics::new(10).unwrap()));
        app.bring_up().await.unwrap();
        Hall { world: World { folder, clock, app }, held }
    }

    /// Lets time pass, claims what is due, and waits until as many run and wait.
    async fn fire(&self, after: Millis, running: usize, queued: u64) {
        self.world.clock.advance(after);
        let app = self.world.app.clone();
        let batch = tokio::task::spawn_blocking(move || app.wait_for_due()).await.unwrap();
        self.world.app.dispatch(batch).await;
        self.until(running, queued).await;
    }

    /// Lets imports end, and waits until as many run and wait.
    async fn let_out(&self, count: usize, running: usize, queued: u64) {
        self.held.out.add_permits(count);
        self.until(running, queued).await;
    }

    async fn until(&self, running: usize, queued: u64) {
        let mut seen = (0, 0, 0);
        for _ in 0..5_000 {
            let scheduler = self.world.app.health().await.scheduler;
            seen = (scheduler.running, scheduler.queued, self.held.inside.lock().unwrap().len());
            if seen == (running as u64, queued, running) && self.held.out.available_permits() == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("{seen:?} run, wait and are in an import, not {running} and {queued}");
    }

    /// Running, queued, and the limit it waits for.
    async fn stands(&self, name: &str) -> (bool, bool, Option<String>) {
        let status = self.world.status(name).await.unwrap();
        (status.running, status.queued, status.waiting_for)
    }
}

fn waits(limit: &str) -> (bool, bool, Option<String>) {
    (false, true, Some(limit.to_owned()))
}

fn keyed(minute: u32, key: &str) -> String {
    format!(
        "cron: '{minute} * * * *'\nconnection: {{ base_url: 'http://127.0.0.1:9/api', api_key: {{ file: {key} }} }}\n"
    )
}

#[tokio::test]
async fn a_run_that_waits_says_for_what_and_starts_when_there_is_room() {
    let files = [
        ("noop/a", "cron: '1 * * * *'\n".to_owned()),
        ("noop/d", "cron: '1 * * * *'\n".to_owned()),
        ("acculynx/b", keyed(2, "one")),
        ("acculynx/a", keyed(3, "two")),
        ("acculynx/c", keyed(3, "two")),
        ("acculynx/e", keyed(3, "one")),
    ];
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let limits = Limits { global: 3, per_tenant: Some(1), per_credential: Some(1), ..Limits::default() };
    let hall = Hall::new(&files, limits).await;
    hall.fire(60_000, 2, 0).await;
    hall.fire(60_000, 3, 0).await;
    hall.fire(60_000, 3, 3).await;
    assert_eq!(hall.stands("noop/a").await, (true, false, None));
    assert_eq!(hall.stands("acculynx/a").await, waits("tenant"));
    assert_eq!(hall.stands("acculynx/e").await, waits("credential"));
    assert_eq!(hall.stands("acculynx/c").await, waits("global"));
    let health = hall.world.app.health().await.scheduler;
    let each = ["credential", "global", "tenant"].map(|limit| (limit.to_owned(), 1));
    assert_eq!((health.waiting_for, health.overdue), (BTreeMap::from(each), 0));

    hall.world.clock.advance(6_000);
    hall.world.pass().await;
    let status = hall.world.status("acculynx/c").await.unwrap();
    assert_eq!((status.overdue, status.overdue_sec, status.sync_reason.as_deref()), (true, Some(6), Some("overdue")));
    assert!(!hall.world.status("noop/a").await.unwrap().overdue, "it runs");
    assert_eq!(hall.world.app.health().await.scheduler.overdue, 3);

    hall.let_out(1, 3, 2).await;
    hall.let_out(3, 2, 0).await;
    hall.let_out(2, 0, 0).await;
    assert_eq!(*hall.held.most_inside.lock().unwrap(), 3);
    for (name, late) in [("noop/a", 0), ("acculynx/b", 0), ("acculynx/c", 6_000), ("acculynx/e", 6_000)] {
        let status = hall.world.status(name).await.unwrap();
        assert!(status.last_status.unwrap().ok && !status.overdue, "{name}");
        assert_eq!((status.last_late_ms, status.missed), (Some(late), 0), "{name}");
    }
}

#[tokio::test]
async fn starts_keep_their_pace_by_the_clock() {
    let names: Vec<String> = (0..5).map(|n| format!("noop/t{n}")).collect();
    let files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "cron: '* * * * *'\n")).collect();
    let hall = Hall::new(&files, Limits { starts: Some(StartsPerSec(10.0)), ..Limits::default() }).await;
    hall.fire(60_000, 2, 3).await;
    assert_eq!(hall.world.app.health().await.scheduler.waiting_for, BTreeMap::from([("rate".to_owned(), 3)]));
    hall.world.clock.advance(100);
    hall.until(3, 2).await;
    hall.world.clock.advance(10_000);
    hall.until(5, 0).await;
}

#[tokio::test]
async fn what_waits_is_let_go_when_the_program_stops() {
    let files = [("noop/a", "cron: '* * * * *'\n"), ("noop/b", "cron: '* * * * *'\n")];
    let hall = Hall::new(&files, Limits { global: 1, ..Limits::default() }).await;
    hall.fire(60_000, 1, 1).await;
    hall.world.app.shutdown.cancel();
    hall.held.out.add_permits(1);
    hall.world.app.drain_runs(Duration::from_millis(50)).await;
    assert_eq!(*hall.held.most_inside.lock().unwrap(), 1);
}

#[tokio::test]
async fn slots_that_pass_are_counted_by_why_and_kept() {
    let hall = Hall::new(&[("noop/a", "cron: '* * * * *'\n")], Limits::default()).await;
    let missed = async |world: &World| world.status("noop/a").await.unwrap().missed_by;
    hall.fire(60_000, 1, 0).await;
    hall.fire(60_000, 1, 0).await;
    assert_eq!(missed(&hall.world).await, BTreeMap::from([("overlap".to_owned(), 1)]));
    hall.let_out(1, 0, 0).await;
    let caller = Caller { source: Origin::Ui, actor: "zoe".into() };
    hall.world.app.pull_brake(None, "storm".into(), &caller).await.unwrap();
    hall.fire(60_000, 0, 0).await;
    hall.world.app.release_brake(None, &caller).await.unwrap();
    hall.fire(600_000, 1, 0).await;
    hall.let_out(1, 0, 0).await;
    let all = [("brake", 1), ("folded", 9), ("overlap", 1)].map(|(why, count)| (why.to_owned(), count));
    assert_eq!(missed(&hall.world).await, BTreeMap::from(all.clone()));
    let health = hall.world.app.health().await.scheduler.missed;
    assert_eq!(all.into_iter().filter(|(why, count)| health[why] != *count).collect::<Vec<_>>(), []);
    let world = hall.world.restart().await;
    let status = world.status("noop/a").await.unwrap();
    assert_eq!((status.missed, status.missed_by["folded"]), (11, 9));
}
