//! Clocks that leap, are set back or stand still while the machine sleeps: no claimed slot fires again,
//! and none that is due is forgotten but by its rule.

use super::*;

const MINUTE: Millis = 60_000;
const HOUR: Millis = 60 * MINUTE;

/// `trigger` and minutes since START of every run there is, the earliest slot first; each slot once.
fn slots(world: &World) -> Vec<(String, Millis)> {
    let database = rusqlite::Connection::open(world.folder.path().join("data/store.db")).unwrap();
    let mut statement = database.prepare("SELECT trigger, nominal_ms FROM runs ORDER BY nominal_ms").unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, (row.get::<_, i64>(1)? - START) / MINUTE)));
    let slots: Vec<(String, Millis)> = rows.unwrap().map(Result::unwrap).collect();
    assert!(slots.is_sorted_by(|a, b| a.1 < b.1), "{slots:?}");
    slots
}

fn minutes(world: &World) -> Vec<Millis> {
    slots(world).into_iter().map(|(_, at)| at).collect()
}

/// The clock shows another time; whatever is due fires, and a full pass looks at the timers.
async fn step(world: &World, delta: Millis) {
    world.clock.advance(delta);
    look(world).await;
    world.pass().await;
    look(world).await;
    let due = world.app.fleet().get(Connector::Noop, "a").unwrap().next_due.unwrap();
    let now = world.clock.now();
    assert_eq!(due, now - now % (10 * MINUTE) + 10 * MINUTE, "the next slot after now");
}

async fn every_ten_minutes(rules: &str) -> World {
    let world = world(&format!("cron: '*/10 * * * *'\n{rules}"), &Script::of([])).await;
    step(&world, 10 * MINUTE).await;
    step(&world, 10 * MINUTE).await;
    world
}

async fn missed(world: &World) -> u64 {
    world.status("noop/a").await.unwrap().missed
}

#[tokio::test]
async fn forward_by_hours_is_a_downtime() {
    let world = every_ten_minutes("").await;
    step(&world, 3 * HOUR + 5 * MINUTE).await;
    assert_eq!((minutes(&world), missed(&world).await), (vec![10, 20, 200], 17));
    assert_eq!(slots(&world)[2].0, "catch-up");

    let world = every_ten_minutes("catch_up: none\n").await;
    step(&world, 3 * HOUR + 5 * MINUTE).await;
    assert_eq!((minutes(&world), missed(&world).await), (vec![10, 20], 18));
    step(&world, 5 * MINUTE).await;
    assert_eq!(minutes(&world), [10, 20, 210], "and on it goes");

    let world = every_ten_minutes("catch_up: all\ncatch_up_max: 4\n").await;
    step(&world, 3 * HOUR + 5 * MINUTE).await;
    assert_eq!((minutes(&world), missed(&world).await), (vec![10, 20, 170, 180, 190, 200], 14));
}

#[tokio::test]
async fn back_by_hours_repeats_nothing_and_does_not_fall_silent() {
    let world = every_ten_minutes("").await;
    step(&world, -2 * HOUR).await;
    assert_eq!(minutes(&world), [10, 20], "nothing is due by being set back");
    for _ in 0..14 {
        step(&world, 10 * MINUTE).await;
    }
    // Through the hours that come twice: what ran in them does not run again.
    let expected: Vec<Millis> = (-9..=4).map(|n| n * 10).collect();
    assert_eq!((minutes(&world), missed(&world).await), (expected, 0));
}

#[tokio::test]
async fn a_slot_that_was_due_when_the_clock_was_set_back_runs_when_it_comes() {
    let world = every_ten_minutes("").await;
    // Due, and set back before anybody looked.
    world.clock.advance(10 * MINUTE);
    step(&world, -HOUR).await;
    assert_eq!(minutes(&world), [10, 20]);
    for _ in 0..6 {
        step(&world, 10 * MINUTE).await;
    }
    assert_eq!((minutes(&world), missed(&world).await), (vec![-20, -10, 0, 10, 20, 30], 0));
}

#[tokio::test]
async fn back_and_forth_and_back_runs_each_slot_once() {
    let world = every_ten_minutes("catch_up: all\n").await;
    for _ in 0..4 {
        step(&world, 3 * HOUR).await;
        step(&world, -3 * HOUR).await;
        step(&world, 10 * MINUTE).await;
        step(&world, -10 * MINUTE).await;
    }
    step(&world, 3 * HOUR).await;
    let expected: Vec<Millis> = (1..=20).map(|n| n * 10).collect();
    assert_eq!((minutes(&world), missed(&world).await), (expected, 0));
}

#[tokio::test]
async fn a_machine_that_slept_goes_on_where_it_was() {
    let script = Script::of([Act::Hang, Act::Fail(ErrorClass::Unavailable, None)]);
    let file = "cron: '*/10 * * * *'\noverlap: queue_one\ntimeout_sec: 3600\nretries: 1\nretry_backoff_sec: 600\n";
    let world = world(file, &script).await;
    to_next_slot(&world);
    dispatch(&world).await;
    until("it has begun", || script.begun() == 1).await;
    // It sleeps for eight hours: no time passes for the run, while slots do.
    world.clock.advance(8 * HOUR + 5 * MINUTE);
    dispatch(&world).await;
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert_eq!(runs(&world), ["running - schedule 0", "queued - catch-up 0"]);
    world.app.cancel_runs(&id(), None, None, &caller()).await.unwrap();
    until("the next one fails", || runs(&world)[1] == "waiting - catch-up 1 unavailable").await;
    // And again, past the time of its next attempt, which comes at once.
    world.clock.advance(12 * MINUTE);
    until("it is tried again", || runs(&world)[1] == "done ok catch-up 2").await;
}

#[tokio::test]
async fn what_is_edited_between_its_taking_and_its_claim_goes_by_its_new_rules() {
    let world = World::new(&[("noop/a", "cron: '*/10 * * * *'\n"), ("noop/b", "cron: '*/10 * * * *'\n")]).await;
    world.clock.advance(10 * MINUTE);
    let taken = world.app.due_now(world.app.fleet());
    // Its timer stays where it is, so that only the rules tell the old claim from a new one.
    world.write("noop/a", "cron: '10 * * * *'\n");
    world.pass().await;
    world.write("noop/b", "cron: '*/10 * * * *'\npaused: true\n");
    world.pass().await;
    world.app.dispatch(taken).await;
    fire(&world).await;
    let runs = world.app.store.facts().await.unwrap().rows["runs"];
    let row = world.app.store.schedule("noop/a".parse().unwrap()).await.unwrap().unwrap();
    let due = world.app.fleet().get(Connector::Noop, "a").unwrap().next_due;
    assert_eq!((row.next_due, due), (Some(START + 70 * MINUTE), Some(START + 70 * MINUTE)));
    assert_eq!(runs, u64::from(row.last.ok == Some(true)), "the one that was paused has not run");
}
