//! What keeps a claimed run from starting though it has waited for its turn: a pause, a window.

use super::*;
use crate::app::tests::windows::NIGHT;

const MINUTE: Millis = 60_000;

/// One run hangs and another is lined up behind it.
async fn lined_up(file: &str) -> (World, Arc<Script>) {
    let script = Script::of([Act::Hang]);
    let world = world(file, &script).await;
    for _ in 0..2 {
        to_next_slot(&world);
        dispatch(&world).await;
        until("it has begun", || script.begun() == 1).await;
    }
    assert_eq!(runs(&world), ["running - schedule 0", "queued - schedule 0"]);
    (world, script)
}

#[tokio::test]
async fn what_a_pause_keeps_from_starting_is_no_last_run() {
    let (world, script) = lined_up("interval_sec: 60\noverlap: queue_one\n").await;
    world.app.mutate(mutation("noop/a", Edit::Pause { reason: None, until: None })).await.unwrap();
    world.app.cancel_runs(&id(), None, Some("enough".into()), &caller()).await.unwrap();
    ended(&world).await;
    assert_eq!(runs(&world), ["cancelled failed schedule 1 cancelled", "cancelled failed schedule 0 cancelled"]);
    assert_eq!(script.begun(), 1);
    assert_eq!(world.status("noop/a").await.unwrap().last_status.unwrap().message, "cancelled by zoe: enough");
}

#[tokio::test]
async fn a_window_that_begins_while_a_run_waits_for_room_keeps_it() {
    let script = Script::of([Act::Hang, Act::Hang]);
    let world = world("interval_sec: 60\noverlap: allow\n", &script).await;
    put(world.folder.path().join("desired/windows/night.yaml"), NIGHT);
    world.pass().await;
    // One tenant may have two runs at once; START is 08:00, the window begins at 02:00.
    world.clock.advance(18 * 60 * MINUTE - 10 * MINUTE);
    for _ in 0..3 {
        world.clock.advance(MINUTE);
        dispatch(&world).await;
    }
    until("two have begun", || script.begun() == 2).await;
    world.clock.advance(20 * MINUTE);
    for run in [1, 2] {
        world.app.cancel_runs(&id(), Some(run), None, &caller()).await.unwrap();
    }
    until("one waits", || world.app.runs.count() == (1, 0)).await;
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert_eq!(script.begun(), 2, "the window stands");
    world.clock.advance(120 * MINUTE);
    ended(&world).await;
    assert_eq!(script.begun(), 3);
}

#[tokio::test]
async fn a_run_taken_out_of_the_line_takes_nobodys_attempt_away() {
    let script = Script::of([Act::Hang]);
    let world = world("interval_sec: 3600\ntimeout_sec: 1\nretries: 1\n", &script).await;
    to_next_slot(&world);
    dispatch(&world).await;
    until("it has begun", || script.begun() == 1).await;
    let RunNow::Accepted(asked) = world.app.run_now(&id(), &caller(), Duration::ZERO).await.unwrap() else {
        panic!("it waits behind the one in flight")
    };
    world.app.cancel_runs(&id(), Some(asked.run_id), None, &caller()).await.unwrap();
    until("it waits", || runs(&world)[0] == "waiting - schedule 1 timeout").await;
    world.clock.advance(60_000);
    ended(&world).await;
    assert_eq!(runs(&world)[0], "done ok schedule 2");
}
