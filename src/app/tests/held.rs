//! What keeps a claimed run from starting: the brake, a pause, a window, a source's wish; how it shows.

use super::running::{Act, Script, caller, dispatch, ended, id, runs, to_next_slot, until, world};
use super::*;
use crate::adapters::connectors::ErrorClass;
use crate::core::model::Connector;
use crate::core::run::RunState;
use crate::core::timing::iso;

/// What the schedule's run waits for, and until when.
async fn waits(world: &World) -> (bool, Option<String>, Option<String>) {
    let status = world.status("noop/a").await.unwrap();
    (status.running, status.waiting_for, status.waiting_until_iso)
}

async fn wait_until(world: &World, what: &str) {
    for _ in 0..2_000 {
        if waits(world).await.1.as_deref() == Some(what) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("it never waited for {what}, but: {:?}", waits(world).await);
}

#[tokio::test]
async fn the_brake_keeps_what_is_lined_up_and_what_would_be_tried_again() {
    let script = Script::of([Act::Fail(ErrorClass::Unavailable, None)]);
    let world = world("interval_sec: 3600\nretries: 1\nretry_backoff_sec: 10\n", &script).await;
    to_next_slot(&world);
    dispatch(&world).await;
    wait_until(&world, "retry").await;
    let (running, _, at) = waits(&world).await;
    assert!(!running && at.unwrap() > iso(world.clock.now()));
    world.app.pull_brake(Some(id()), "stop".to_owned(), &caller()).await.unwrap();
    world.clock.advance(60_000);
    wait_until(&world, "brake").await;
    assert_eq!((script.begun(), world.app.health().await.scheduler.waiting_for["brake"]), (1, 1));
    world.app.release_brake(Some(id()), &caller()).await.unwrap();
    ended(&world).await;
    assert_eq!((script.begun(), runs(&world)), (2, vec!["done ok schedule 2".to_owned()]));
}

#[tokio::test]
async fn slots_of_the_past_stop_at_the_brake() {
    let script = Script::of([Act::Hang]);
    let world = world("interval_sec: 60\nstart_at: 2020-01-01T00:00:00Z\n", &script).await;
    let asked = Backfill { from: START - 300_000, to: START, dry_run: false };
    assert_eq!(world.app.backfill(&id(), asked, &caller()).await.unwrap().slots.len(), 5);
    until("the first begins", || script.begun() == 1).await;
    world.app.pull_brake(None, "stop".to_owned(), &caller()).await.unwrap();
    world.app.cancel_runs(&id(), None, None, &caller()).await.unwrap();
    wait_until(&world, "brake").await;
    assert_eq!(script.begun(), 1);
    world.app.release_brake(None, &caller()).await.unwrap();
    ended(&world).await;
    assert_eq!(script.begun(), 5);
}

/// One run that hangs, and the next slot's behind it.
async fn one_lined_up(script: &Arc<Script>) -> World {
    let world = world("interval_sec: 60\noverlap: queue_one\n", script).await;
    to_next_slot(&world);
    dispatch(&world).await;
    until("the first begins", || script.begun() == 1).await;
    to_next_slot(&world);
    dispatch(&world).await;
    world
}

#[tokio::test]
async fn a_pause_ends_what_the_schedule_lined_up() {
    let script = Script::of([Act::Hang]);
    let world = one_lined_up(&script).await;
    assert_eq!(waits(&world).await, (true, Some("run".to_owned()), None));
    world.write("noop/a", "interval_sec: 60\noverlap: queue_one\npaused: true\n");
    world.pass().await;
    world.app.cancel_runs(&id(), None, None, &caller()).await.unwrap();
    ended(&world).await;
    assert_eq!(script.begun(), 1);
    assert_eq!(runs(&world), ["cancelled failed schedule 1 cancelled", "cancelled failed schedule 0 cancelled"]);
}

#[tokio::test]
async fn what_a_deleted_schedule_had_lined_up_is_no_failure() {
    let script = Script::of([Act::Hang]);
    let world = one_lined_up(&script).await;
    world.mutate("noop/a", Edit::Delete).await.unwrap();
    world.app.clear_the_way(&id(), "over");
    ended(&world).await;
    assert_eq!(script.begun(), 1);
    assert_eq!(runs(&world), ["cancelled failed schedule 1 cancelled", "cancelled failed schedule 0 cancelled"]);
}

#[tokio::test]
async fn a_source_that_asked_for_a_rest_is_left_alone_by_later_slots_too() {
    let script = Script::of([Act::Fail(ErrorClass::RateLimited, Some(600))]);
    let world = world("interval_sec: 60\n", &script).await;
    to_next_slot(&world);
    dispatch(&world).await;
    ended(&world).await;
    let rested = world.clock.now() + 600_000;
    for _ in 0..3 {
        to_next_slot(&world);
        dispatch(&world).await;
    }
    wait_until(&world, "source").await;
    assert_eq!(waits(&world).await, (false, Some("source".to_owned()), Some(iso(rested))));
    assert_eq!((script.begun(), world.status("noop/a").await.unwrap().missed_by["overlap"]), (1, 2));

    // Of one that is held the store thinks that it runs.
    let shown = world.app.past_run(Connector::Noop, 2).await.unwrap().unwrap();
    assert_eq!((shown.state, shown.start_iso), (RunState::Queued, None));

    world.clock.advance(rested - world.clock.now());
    ended(&world).await;
    assert_eq!(script.begun(), 2);
}

#[tokio::test]
async fn a_person_asks_a_resting_source_at_once() {
    let script = Script::of([Act::Fail(ErrorClass::RateLimited, Some(600))]);
    let world = world("interval_sec: 3600\n", &script).await;
    for begun in 1..=2 {
        world.app.run_now(&id(), &caller(), Duration::from_secs(5)).await.unwrap();
        assert_eq!(script.begun(), begun);
        let told = "command_center_events_total{event_type=\"scheduler.import.force_run\",severity=\"info\"}";
        assert!(world.app.metrics.render().contains(&format!("{told} {begun}")));
    }
}

#[tokio::test]
async fn a_clock_set_back_prolongs_no_wait() {
    let limited = || Act::Fail(ErrorClass::RateLimited, Some(600));
    let script = Script::of([limited(), limited()]);
    let world = world("interval_sec: 3600\nretries: 2\n", &script).await;
    world.app.run_now(&id(), &caller(), Duration::ZERO).await.unwrap();
    wait_until(&world, "retry").await;
    world.clock.advance(-24 * 3_600_000);
    until("it tries again", || script.begun() >= 2).await;
}

#[tokio::test]
async fn slots_that_a_window_swallowed_are_counted_as_such() {
    let world = world("cron: '*/10 * * * *'\n", &Script::of([])).await;
    put(world.folder.path().join("desired/windows/noon.yaml"), "cron: 0 12 * * *\nduration_sec: 3600\n");
    world.pass().await;
    let hour = 3_600_000;
    world.clock.advance(4 * hour - 60_000);
    fire(&world).await;
    let before = world.status("noop/a").await.unwrap().missed;
    for _ in 0..7 {
        world.clock.advance(hour / 6);
        fire(&world).await;
        fire(&world).await;
    }
    ended(&world).await;
    let status = world.status("noop/a").await.unwrap();
    assert_eq!((status.missed - before, status.missed_by.get("window").copied()), (6, Some(6)));
}
