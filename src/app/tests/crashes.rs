//! What a crash leaves and what was done while nothing ran: cases that the simulated world found.

use std::sync::atomic::AtomicBool;

use super::*;
use crate::adapters::store::memory::{Calm, Ending, Fates, MemoryStore, Platter};

#[tokio::test]
async fn a_timer_moved_while_nothing_ran_is_found_at_start() {
    let files =
        [("noop/a", "interval_sec: 300\n"), ("noop/b", "cron: '0 2 * * *'\n"), ("noop/c", "interval_sec: 60\n")];
    let world = World::new(&files).await;
    let dues = async |world: &World| {
        let due = async |name: &str| world.status(name).await.unwrap().next_run_iso;
        [due("noop/a").await, due("noop/b").await, due("noop/c").await]
    };
    let before = dues(&world).await;
    world.app.store.close();
    world.sql("UPDATE timers SET next_due_ms = next_due_ms + 999999999 WHERE id < 3; DELETE FROM timers WHERE id = 3");
    let world = world.restart().await;
    assert_eq!(dues(&world).await, before);
    assert_eq!(world.audit().await.iter().filter(|line| line.starts_with("reconcile.drift.repaired")).count(), 3);
}

const TEXT: &str = "interval_sec: 300\n";

async fn paused(world: &World, name: &str) {
    world.mutate(name, Edit::Pause { reason: None, until: None }).await.unwrap();
}

#[tokio::test]
async fn an_edit_back_to_the_old_content_outlives_the_promise_it_undid() {
    let world = World::new(&[("noop/a", TEXT)]).await;
    paused(&world, "noop/a").await;
    world.write("noop/a", TEXT);
    world.pass().await;
    let world = world.restart().await;
    assert_eq!(world.text("noop/a"), TEXT);
    assert!(!world.status("noop/a").await.unwrap().paused);
}

#[tokio::test]
async fn a_promise_is_kept_whichever_version_a_power_cut_leaves() {
    let world = World::new(&[("noop/a", TEXT)]).await;
    paused(&world, "noop/a").await;
    let between = world.text("noop/a");
    world.mutate("noop/a", merge(json!({"interval_sec": 60}))).await.unwrap();
    let mut world = world;
    for left in [TEXT, &between, ""] {
        let promised = "interval_sec: 60\npaused: true\n";
        world.write("noop/a", left);
        let intents = world.app.store.intents().await.unwrap();
        world = world.restart().await;
        assert_eq!(world.text("noop/a"), promised, "from {left:?}");
        assert_eq!(world.status("noop/a").await.unwrap().sync, "synced");
        assert_eq!(world.app.store.intents().await.unwrap(), vec![]);
        // The same promises once more, for the next version.
        for (_, intent) in intents {
            world.app.store.apply(Vec::new(), vec![intent], START).await.unwrap();
        }
    }
}

#[tokio::test]
async fn what_cannot_be_written_yet_stays_promised() {
    let world = World::new(&[("noop/a", TEXT), ("noop/b", TEXT)]).await;
    paused(&world, "noop/a").await;
    let promised = world.text("noop/a");
    // Neither a file nor its absence.
    std::fs::remove_file(world.path("noop/a")).unwrap();
    std::fs::create_dir(world.path("noop/a")).unwrap();
    let world = world.restart().await;
    assert!(world.status("noop/a").await.unwrap().paused);
    let refused = world.mutate("noop/a", Edit::Resume { reason: None }).await;
    assert!(matches!(refused, Err(AppError::Busy { .. })), "{refused:?}");
    paused(&world, "noop/b").await;

    std::fs::remove_dir(world.path("noop/a")).unwrap();
    world.write("noop/a", TEXT);
    world.pass().await;
    assert_eq!(world.text("noop/a"), promised);
    world.pass().await;
    let status = world.status("noop/a").await.unwrap();
    assert_eq!((status.paused, status.sync.as_str()), (true, "synced"));
    world.app.sync_files().await;
    assert_eq!(world.app.store.intents().await.unwrap(), vec![]);
}

/// Fails to read the fleet once it is told to, one time.
#[derive(Default)]
struct Stumble(AtomicBool);

impl Fates for Stumble {
    fn write(&self, operation: &'static str) -> (Ending, u32, u32) {
        Calm.write(operation)
    }

    fn read_fails(&self, operation: &'static str) -> bool {
        operation == "read the fleet" && self.0.swap(false, std::sync::atomic::Ordering::SeqCst)
    }

    fn is_dead(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn a_row_changed_by_hand_is_found_though_the_first_look_failed() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path().join(file_of("noop/a")), TEXT);
    let (platter, stumble) = (Arc::new(Platter::default()), Arc::new(Stumble::default()));
    let store = Arc::new(MemoryStore::open(platter.clone(), stumble.clone()));
    let settings = Settings { desired_dir: folder.path().to_owned(), ..Settings::default() };
    let connectors = Connectors::all(Arc::new(Noop));
    let metrics = Arc::new(Metrics::new(10).unwrap());
    let app = App::new(settings, Clock::manual(START), store, connectors, metrics);
    app.bring_up().await.unwrap();
    platter.by_hand(|tables| {
        for row in tables.schedules.values_mut() {
            Arc::make_mut(row).spec.interval_sec = Some(7);
        }
    });
    stumble.0.store(true, std::sync::atomic::Ordering::SeqCst);
    app.full_pass(None).await.unwrap_err();
    assert_eq!(app.full_pass(None).await.unwrap().repaired, 1);
    let row = app.store.schedule("noop/a".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(row.spec.interval_sec, Some(300));
}

#[cfg(unix)]
#[tokio::test]
async fn an_edit_whose_file_could_not_be_synced_stays_promised() {
    let world = World::new(&[("noop/a", TEXT)]).await;
    paused(&world, "noop/a").await;
    let (path, aside) = (world.path("noop/a"), world.folder.path().join("aside"));
    std::fs::rename(&path, &aside).unwrap();
    std::os::unix::fs::symlink(world.folder.path().join("nowhere"), &path).unwrap();
    world.app.sync_files().await;
    assert_eq!(world.app.store.intents().await.unwrap().len(), 1);
    std::fs::remove_file(&path).unwrap();
    std::fs::rename(&aside, &path).unwrap();
    world.app.sync_files().await;
    assert_eq!(world.app.store.intents().await.unwrap(), vec![]);
}
