//! Loops that hang, panic and end early, over time that is moved by hand.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;

use super::*;
use crate::adapters::clock::Clock;
use crate::adapters::connectors::acculynx::AccuLynx;
use crate::adapters::connectors::exec::{Exec, Programs};
use crate::adapters::connectors::http::Http;
use crate::adapters::connectors::{Connectors, noop::Noop};
use crate::adapters::store::{AuditQuery, SqliteStore};
use crate::app::DISPATCHER;
use crate::settings::Settings;
use crate::tasks::Dispatcher;
use crate::telemetry::Metrics;

const STALL: u64 = 30;
/// Longer than any test.
const LONG: Duration = Duration::from_secs(100_000);
const START: Millis = 1_800_000_000_000;

struct World {
    app: Arc<App>,
    supervisor: Supervisor,
    clock: Clock,
    steady: Mutex<Duration>,
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> World {
        World::with(|_| {})
    }

    fn with(set: impl FnOnce(&mut Settings)) -> World {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = Settings {
            desired_dir: folder.path().join("desired"),
            dsn: folder.path().join("store.db"),
            scheduler_stall: Duration::from_secs(STALL),
            ..Settings::default()
        };
        set(&mut settings);
        let exec = Arc::new(Exec::new(Programs::new(&[], "".into()), folder.path().join("exec")));
        let (acculynx, http) = (Arc::new(AccuLynx::new().unwrap()), Arc::new(Http::new().unwrap()));
        let connectors = Connectors { acculynx, exec, http, noop: Arc::new(Noop) };
        let store = Arc::new(SqliteStore::open(&settings.dsn).unwrap());
        let clock = Clock::manual(START);
        let app = App::new(settings, clock.clone(), store, connectors, Arc::new(Metrics::new(10).unwrap()));
        let supervisor = Supervisor::new(app.clone(), Handle::current());
        World { app, supervisor, clock, steady: Mutex::default(), folder }
    }

    /// Time goes on and the watchdog looks, once a second; returns what is hopeless.
    fn pass(&self, secs: u64) -> Option<String> {
        (0..secs).fold(None, |hopeless, _| self.step(Duration::from_secs(1), 1000).or(hopeless))
    }

    fn step(&self, steady: Duration, wall: Millis) -> Option<String> {
        self.clock.advance(wall);
        let now = {
            let mut now = self.steady.lock().unwrap();
            *now += steady;
            *now
        };
        self.supervisor.look(now, self.clock.now(), Duration::from_secs(3))
    }

    async fn loop_named(&self, name: &str) -> LoopHealth {
        self.app.health().await.loops.loops.into_iter().find(|known| known.name == name).unwrap()
    }

    /// The entries on loops that were started anew, once there are so many.
    async fn told(&self, count: usize) -> Vec<serde_json::Value> {
        for _ in 0..2000 {
            let operation = Some("ops.loop.restarted".to_owned());
            let entries = self.app.store.audit_page(AuditQuery { operation, limit: 50, ..AuditQuery::default() });
            let entries = entries.await.unwrap();
            if entries.len() >= count {
                return entries.iter().map(|entry| serde_json::from_str(&entry.metadata).unwrap()).collect();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("no {count} entries");
    }
}

/// Waits for something that happens on another thread.
async fn until(mut happened: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if happened() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it never happened");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_hangs_is_named_and_started_anew_and_the_others_go_on() {
    let world = World::new();
    let starts = Arc::new(AtomicU32::new(0));
    let count = starts.clone();
    world.supervisor.start("hanging", Need::Needed, move |pulse| {
        let count = count.clone();
        async move {
            // Counted only once it has said for how long it is away: from then on time may pass.
            if count.load(Ordering::SeqCst) == 0 {
                pulse.waits(Duration::from_secs(10), "a thing that never comes");
                count.fetch_add(1, Ordering::SeqCst);
                std::future::pending::<()>().await;
            }
            pulse.waits(LONG, "the end");
            count.fetch_add(1, Ordering::SeqCst);
            pulse.stopped().await;
            Ok(())
        }
    });
    let rounds = Arc::new(AtomicU32::new(0));
    let count = rounds.clone();
    world.supervisor.start("other", Need::Needed, move |pulse| {
        let count = count.clone();
        async move {
            while !pulse.is_stopping() {
                // Time passes faster for the watchdog than for it.
                pulse.waits(LONG, "the next round");
                tokio::time::sleep(Duration::from_millis(1)).await;
                count.fetch_add(1, Ordering::SeqCst);
            }
            Ok(())
        }
    });
    until(|| starts.load(Ordering::SeqCst) == 1 && rounds.load(Ordering::SeqCst) > 0).await;
    world.pass(10 + STALL);
    assert!(world.loop_named("hanging").await.is_well(), "it said that it would be away");
    world.pass(2);
    let hanging = world.loop_named("hanging").await;
    assert_eq!((hanging.state, hanging.restarts), (LoopState::Stalled, 1));
    assert!(hanging.tell().contains("a thing that never comes"), "{}", hanging.tell());
    until(|| starts.load(Ordering::SeqCst) == 2).await;
    let told = world.told(1).await;
    assert_eq!((&told[0]["loop"], told.len()), (&"hanging".into(), 1));
    assert!(told[0]["stood_sec"].as_u64().unwrap() >= 10 + STALL);
    until(|| {
        world.pass(1);
        world.app.metrics.render().contains("command_center_loop_restarts_total{loop=\"hanging\"} 1")
    })
    .await;
    assert!(world.loop_named("hanging").await.is_well());
    let before = rounds.load(Ordering::SeqCst);
    until(|| rounds.load(Ordering::SeqCst) > before + 3).await;
    assert_eq!(world.loop_named("other").await.restarts, 0);
}

#[tokio::test]
async fn a_panic_takes_nothing_else_down_and_its_data_is_not_shown() {
    let world = World::new();
    let starts = Arc::new(AtomicU32::new(0));
    let count = starts.clone();
    world.supervisor.start("panicking", Need::Optional, move |pulse| {
        let count = count.clone();
        async move {
            if count.fetch_add(1, Ordering::SeqCst) < 2 {
                panic!("cannot go on with {:?}", "hunter2");
            }
            pulse.waits(LONG, "the end");
            pulse.stopped().await;
            Ok(())
        }
    });
    until(|| world.supervisor.lock()[0].now.has_ended()).await;
    world.pass(1);
    let seen = world.loop_named("panicking").await;
    assert_eq!(seen.state, LoopState::Failed);
    assert_eq!(seen.last_error.as_deref(), Some("it panicked: cannot go on with \"…\""));
    assert_eq!(world.app.health().await.loops.status, 0);
    world.pass(2);
    until(|| starts.load(Ordering::SeqCst) == 2 && world.supervisor.lock()[0].now.has_ended()).await;
    world.pass(4);
    until(|| starts.load(Ordering::SeqCst) == 3).await;
    world.pass(1);
    let seen = world.loop_named("panicking").await;
    assert_eq!((seen.state, seen.restarts), (LoopState::Running, 2));
    assert_eq!(world.told(2).await.len(), 2);
}

#[tokio::test]
async fn what_ends_early_or_cannot_start_is_tried_again_and_shown() {
    let world = World::new();
    let starts = Arc::new(AtomicU32::new(0));
    let count = starts.clone();
    world.supervisor.start("early", Need::Optional, move |_| {
        let tries = count.fetch_add(1, Ordering::SeqCst);
        async move { if tries == 0 { Ok(()) } else { Err(anyhow::anyhow!("there is no {tries}")) } }
    });
    until(|| world.supervisor.lock()[0].now.has_ended()).await;
    world.pass(1);
    let seen = world.loop_named("early").await;
    assert_eq!(seen.last_error.as_deref(), Some("it ended without having been told to"));
    for (tries, pause) in [(1, 1), (2, 2), (3, 4)] {
        world.pass(pause);
        until(|| starts.load(Ordering::SeqCst) == tries + 1 && world.supervisor.lock()[0].now.has_ended()).await;
        world.pass(1);
        assert_eq!(world.loop_named("early").await.last_error, Some(format!("there is no {tries}")));
    }
    assert!(world.pass(3000).is_none(), "an optional loop is no reason to restart the program");
}

#[tokio::test]
async fn a_dispatcher_that_hangs_is_superseded_and_steps_down() {
    let world = World::new();
    let (tell, told) = mpsc::channel::<u32>();
    let (let_go, held) = mpsc::channel::<()>();
    let (starts, held, tell) = (Arc::new(AtomicU32::new(0)), Mutex::new(held), Mutex::new(tell));
    let (app, runtime, started) = (world.app.clone(), Handle::current(), starts.clone());
    world.supervisor.start_thread(DISPATCHER, Need::Needed, move |pulse| {
        let start = starts.fetch_add(1, Ordering::SeqCst);
        if start == 0 {
            held.lock().unwrap().recv().unwrap();
        }
        let ended = Dispatcher::new(app.clone()).run(&runtime, &pulse);
        tell.lock().unwrap().send(start).unwrap();
        ended
    });
    // Or its successor might be the first to come to its senses.
    until(|| started.load(Ordering::SeqCst) == 1).await;
    world.pass(STALL + 2);
    let seen = world.loop_named(DISPATCHER).await;
    assert_eq!((seen.state, seen.restarts), (LoopState::Stalled, 1));
    assert_eq!(world.app.health().await.scheduler.status, 0);
    until(|| {
        // No more time passes for the watchdog once the second comes up.
        if started.load(Ordering::SeqCst) < 2 {
            world.pass(1);
        }
        world.supervisor.lock()[0].now.beats.count() > 1
    })
    .await;
    world.pass(1);
    assert_eq!(world.app.health().await.scheduler.status, 1);
    let_go.send(()).unwrap();
    assert_eq!(told.recv_timeout(Duration::from_secs(20)).unwrap(), 0, "the first steps down");
    assert!(!world.supervisor.lock()[0].now.has_ended(), "the second goes on");
    world.app.shutdown.cancel();
    assert_eq!(told.recv_timeout(Duration::from_secs(20)).unwrap(), 1);
    assert!(world.supervisor.stopped(Duration::from_secs(20)).await.is_empty());
}

#[tokio::test]
async fn what_a_restart_of_the_loop_does_not_help_asks_for_one_of_the_program() {
    let world = World::new();
    world.supervisor.start("stuck", Need::Needed, |_| std::future::pending());
    assert_eq!(world.pass(3 * STALL), None);
    let why = world.pass(2 * STALL).unwrap();
    assert!(why.contains("stuck"), "{why}");
    assert_eq!(world.loop_named("stuck").await.restarts, 3);
    // A vital one asks at once, and is not started anew.
    let world = World::new();
    world.supervisor.start("runtime", Need::Vital, |_| std::future::pending());
    assert!(world.pass(STALL + 2).unwrap().contains("runtime"));
    assert_eq!(world.loop_named("runtime").await.restarts, 0);
}

#[tokio::test]
async fn nothing_is_started_anew_where_that_is_switched_off() {
    let world = World::with(|settings| settings.auto_recover = false);
    world.supervisor.start("stuck", Need::Needed, |_| std::future::pending());
    assert_eq!(world.pass(20 * STALL), None);
    let seen = world.loop_named("stuck").await;
    assert_eq!((seen.state, seen.restarts), (LoopState::Stalled, 0));
}

#[tokio::test]
async fn a_machine_that_slept_and_a_clock_that_was_set_stall_nobody() {
    let world = World::new();
    world.supervisor.start("idle", Need::Needed, |_| std::future::pending());
    world.pass(5);
    // The machine slept for an hour, once by each kind of clock; then the clock was set, both ways.
    world.step(Duration::from_secs(1), 3_600_000);
    world.step(Duration::from_secs(3600), 3_600_000);
    world.step(Duration::from_secs(1), 86_400_000);
    world.step(Duration::from_secs(1), -86_400_000);
    let seen = world.loop_named("idle").await;
    assert_eq!((seen.state, seen.restarts), (LoopState::Running, 0));
    assert!(seen.last_progress_sec < 15.0, "{}", seen.last_progress_sec);
    world.pass(STALL);
    assert_eq!(world.loop_named("idle").await.restarts, 1, "and a clock set back hides no stall");
    drop(world.folder);
}
