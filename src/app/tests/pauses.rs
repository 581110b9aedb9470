//! Pauses that lift by themselves: on time, once, told of, over restarts and steps of the clock.

use super::*;
use crate::core::timing::iso;

const HOUR: Millis = 3_600_000;

fn until(end: Millis) -> Edit {
    Edit::Pause { reason: Some("roof".into()), until: Some(iso(end)) }
}

/// `paused`, the end shown, and whether it is to run.
async fn shown(world: &World) -> (bool, Option<String>, bool) {
    let status = world.status("noop/a").await.unwrap();
    (status.paused, status.pause_until, status.next_run_in_sec.is_some())
}

async fn resumed(world: &World) -> Vec<String> {
    world.audit().await.into_iter().filter(|line| line.starts_with("scheduler.schedule.resumed")).collect()
}

#[tokio::test]
async fn a_pause_lifts_at_its_end_and_the_file_stays() {
    let world = World::new(&[("noop/a", "interval_sec: 600 # ours\n")]).await;
    let end = START + HOUR;
    world.mutate("noop/a", until(end)).await.unwrap();
    let text = world.text("noop/a");
    let expect = format!("interval_sec: 600 # ours\npaused: true\npause_reason: roof\npause_until: \"{}\"\n", iso(end));
    assert_eq!(text, expect);
    assert_eq!(shown(&world).await, (true, Some(iso(end)), false));
    assert_eq!(world.app.health().await.scheduler.paused, 1);

    world.clock.advance(HOUR - 1);
    fire(&world).await;
    assert_eq!(shown(&world).await, (true, Some(iso(end)), false));
    world.clock.advance(1);
    assert_eq!(shown(&world).await, (false, None, false), "over, and about to be lifted");
    assert_eq!(world.status("noop/a").await.unwrap().pause_reason, None);
    fire(&world).await;
    assert_eq!(resumed(&world).await, ["scheduler.schedule.resumed a [paused true->false] by scheduler"]);
    let (paused, _, armed) = shown(&world).await;
    assert!(!paused && armed);
    assert_eq!(world.app.health().await.scheduler.paused, 0);
    assert_eq!(world.app.store.fleet_counts().await.unwrap().paused, 0);
    assert_eq!(world.text("noop/a"), text);
    assert_eq!(world.app.store.facts().await.unwrap().rows["runs"], 0, "missed slots are not made up for");

    assert!(world.app.diff(None).await.unwrap().changes.is_empty(), "a lifted pause is no difference");
    assert_eq!(world.pass().await.repaired, 0);
    world.write("noop/a", &format!("# a comment\n{text}"));
    assert_eq!(world.pass().await.changes, 0);
    world.clock.advance(600_000);
    fire(&world).await;
    assert_eq!(world.app.store.facts().await.unwrap().rows["runs"], 1);
    assert_eq!(resumed(&world).await.len(), 1);
}

#[tokio::test]
async fn a_pause_lifts_though_nothing_ran_at_its_end() {
    let world = World::new(&[("noop/a", "interval_sec: 600\n")]).await;
    world.mutate("noop/a", until(START + HOUR)).await.unwrap();
    let world = world.restart().await;
    assert_eq!(shown(&world).await, (true, Some(iso(START + HOUR)), false));
    world.clock.advance(2 * HOUR);
    let world = world.restart().await;
    fire(&world).await;
    assert_eq!(resumed(&world).await.len(), 1);
    let world = world.restart().await;
    fire(&world).await;
    assert_eq!(resumed(&world).await.len(), 1, "and not again");
    assert!(shown(&world).await.2);
    assert_eq!(world.app.store.facts().await.unwrap().rows["runs"], 0);
}

#[tokio::test]
async fn a_clock_that_steps_back_starts_no_run_before_the_end() {
    let world = World::new(&[("noop/a", "interval_sec: 60\n")]).await;
    world.mutate("noop/a", until(START + HOUR)).await.unwrap();
    world.clock.advance(HOUR + 1000);
    fire(&world).await;
    world.clock.advance(-HOUR);
    assert_eq!(shown(&world).await, (true, Some(iso(START + HOUR)), false), "its end lies ahead again");
    for _ in 0..5 {
        world.clock.advance(600_000);
        fire(&world).await;
    }
    assert_eq!(world.app.store.facts().await.unwrap().rows["runs"], 0);
    world.clock.advance(720_000);
    fire(&world).await;
    assert_eq!(world.app.store.facts().await.unwrap().rows["runs"], 1);
}

#[tokio::test]
async fn an_edit_sets_lengthens_or_ends_the_pause() {
    let world = World::new(&[("noop/a", "interval_sec: 600\n")]).await;
    world.mutate("noop/a", until(START + HOUR)).await.unwrap();
    world.mutate("noop/a", until(START + 2 * HOUR)).await.unwrap();
    world.clock.advance(HOUR);
    fire(&world).await;
    assert_eq!(resumed(&world).await.len(), 0);
    world.mutate("noop/a", Edit::Resume { reason: None }).await.unwrap();
    assert_eq!(world.text("noop/a"), "interval_sec: 600\npaused: false\n");
    world.mutate("noop/a", until(START + 2 * HOUR)).await.unwrap();
    world.clock.advance(HOUR);
    fire(&world).await;
    assert!(!shown(&world).await.0);
    // A pause without an end takes the ended one's place, and counts as a pause.
    world.mutate("noop/a", Edit::Pause { reason: None, until: None }).await.unwrap();
    assert_eq!(world.text("noop/a"), "interval_sec: 600\npaused: true\n");
    assert_eq!(shown(&world).await, (true, None, false));
    let last = world.audit().await.pop().unwrap();
    assert!(last.starts_with("scheduler.schedule.paused a [pause_reason \"roof\"->null, pause_until "), "{last}");
    let past = world.mutate("noop/a", until(START)).await;
    assert!(matches!(&past, Err(AppError::Invalid(errors)) if errors[0].pointer == "/pause_until"), "{past:?}");
}

#[tokio::test]
async fn an_end_changed_by_hand_goes_back_and_a_lost_timer_too() {
    let world = World::new(&[("noop/a", "interval_sec: 600\n")]).await;
    world.mutate("noop/a", until(START + HOUR)).await.unwrap();
    world.sql("UPDATE schedules SET pause_until_ms = 5");
    assert_eq!(world.pass().await.repaired, 1);
    world.sql("UPDATE timers SET next_due_ms = NULL");
    assert_eq!(world.pass().await.repaired, 1);
    world.app.store.close();
    world.sql("UPDATE timers SET next_due_ms = NULL");
    let world = world.restart().await;
    world.clock.advance(HOUR);
    fire(&world).await;
    assert_eq!(resumed(&world).await.len(), 1);
}
