//! Steps of the clock over hours and days: no slot that was claimed fires again, and none that is due is forgotten.

use super::running::{Script, ended, runs, world};
use super::*;

const HOUR: Millis = 3_600_000;

/// Slots of the runs there are, in minutes from START.
async fn ran(world: &World) -> Vec<Millis> {
    fire(world).await;
    world.pass().await;
    fire(world).await;
    ended(world).await;
    let database = rusqlite::Connection::open(world.folder.path().join("data/store.db")).unwrap();
    let mut statement = database.prepare("SELECT nominal_ms FROM runs ORDER BY id").unwrap();
    let slots = statement.query_map([], |row| row.get::<_, Millis>(0)).unwrap();
    slots.map(|slot| (slot.unwrap() - START) / 60_000).collect()
}

#[tokio::test]
async fn a_clock_set_back_fires_no_slot_twice() {
    let world = world("cron: '*/10 * * * *'\n", &Script::of([])).await;
    for _ in 0..6 {
        world.clock.advance(HOUR / 6);
        ran(&world).await;
    }
    assert_eq!(ran(&world).await, [10, 20, 30, 40, 50, 60]);
    world.clock.advance(-HOUR / 2);
    for _ in 0..4 {
        assert_eq!(ran(&world).await.len(), 6);
        world.clock.advance(HOUR / 6);
    }
    assert_eq!(ran(&world).await, [10, 20, 30, 40, 50, 60, 70]);
}

#[tokio::test]
async fn a_leap_ahead_and_back_silences_nobody() {
    let world = world("cron: '*/10 * * * *'\n", &Script::of([])).await;
    world.clock.advance(HOUR / 6);
    assert_eq!(ran(&world).await, [10]);
    world.clock.advance(240 * HOUR);
    assert_eq!(ran(&world).await, [10, 10 + 240 * 60]);
    world.clock.advance(-240 * HOUR);
    ran(&world).await;
    world.clock.advance(HOUR / 6);
    assert_eq!(ran(&world).await, [10, 10 + 240 * 60, 20]);
    // The slot that the leap claimed had its run.
    world.clock.advance(240 * HOUR - HOUR / 6);
    let all = ran(&world).await;
    assert_eq!(all.iter().filter(|slot| **slot == 10 + 240 * 60).count(), 1, "{:?}", runs(&world));
}
