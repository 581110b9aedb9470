//! Jitter and bounds: what fires is what is shown, over edits and restarts.

use super::*;
use crate::core::timing::{iso, jitter_ms};

const HOUR: Millis = 3_600_000;

async fn next(world: &World) -> Option<String> {
    world.status("noop/a").await.unwrap().next_run_iso
}

async fn runs(world: &World) -> u64 {
    world.app.store.facts().await.unwrap().rows["runs"]
}

#[tokio::test]
async fn jitter_is_part_of_the_slot_and_stays_over_a_restart() {
    let world = World::new(&[("noop/a", "cron: 0 * * * *\njitter_sec: 1800\n")]).await;
    let shift = jitter_ms(&"noop/a".parse().unwrap(), 1800);
    assert!(shift > 0);
    let hour = (START - shift) / HOUR * HOUR + HOUR;
    assert_eq!(next(&world).await, Some(iso(hour + shift)));
    let world = world.restart().await;
    assert_eq!(next(&world).await, Some(iso(hour + shift)));
    assert_eq!(world.pass().await.repaired, 0);
    world.clock.advance(hour + shift - START - 1);
    fire(&world).await;
    assert_eq!(runs(&world).await, 0);
    world.clock.advance(1);
    fire(&world).await;
    assert_eq!((runs(&world).await, next(&world).await), (1, Some(iso(hour + shift + HOUR))));

    world.write("noop/a", "cron: 0 * * * *\n");
    assert_eq!(world.pass().await.changes, 1);
    assert_eq!(next(&world).await, Some(iso(hour + HOUR)));
    assert_eq!(runs(&world).await, 1, "an edit makes up for nothing");
}

#[tokio::test]
async fn nothing_runs_before_its_start_or_after_its_end() {
    let text = |start: Millis, end: Millis| {
        format!("cron: 0 * * * *\nstart_at: {}\nend_at: {}\n", iso(START + start), iso(START + end))
    };
    let world = World::new(&[("noop/a", &text(3 * HOUR, 5 * HOUR - 1))]).await;
    let first = (START + 3 * HOUR + HOUR - 1) / HOUR * HOUR;
    assert_eq!(next(&world).await, Some(iso(first)));
    world.clock.advance(first - START);
    fire(&world).await;
    assert_eq!((runs(&world).await, next(&world).await), (1, Some(iso(first + HOUR))));
    world.clock.advance(HOUR);
    fire(&world).await;
    assert_eq!(world.pass().await.repaired, 0);
    let status = world.status("noop/a").await.unwrap();
    let shown = (status.next_run_iso, status.next_run_in_sec, status.paused, status.sync_reason.as_deref());
    assert_eq!(shown, (None, None, false, Some("ended")));

    // Nothing to repair, now and after a restart, and nothing fires any more.
    let world = world.restart().await;
    world.clock.advance(10 * HOUR);
    fire(&world).await;
    assert_eq!(world.pass().await.repaired, 0);
    let status = world.status("noop/a").await.unwrap();
    assert_eq!((runs(&world).await, status.sync.as_str(), status.sync_reason.as_deref()), (2, "synced", Some("ended")));

    // A later end arms it again, with the slots after now only.
    world.write("noop/a", &text(3 * HOUR, 100 * HOUR));
    world.pass().await;
    assert_eq!(next(&world).await, Some(iso(first + 12 * HOUR)));
    fire(&world).await;
    assert_eq!(runs(&world).await, 2);
}
