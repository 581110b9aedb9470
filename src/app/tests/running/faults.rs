//! This program's own code fails around a run: what was due stays due, and no run holds others up.

use super::*;

fn fault() -> Vec<Box<dyn FnOnce() + Send>> {
    vec![Box::new(|| panic!("a fault of the program's"))]
}

#[tokio::test]
async fn slots_taken_by_a_dispatch_that_breaks_are_taken_again() {
    let script = Script::of([]);
    let world = world("interval_sec: 60\n", &script).await;
    world.app.before_claim.set(fault());
    to_next_slot(&world);
    dispatch(&world).await;
    assert_eq!(script.begun(), 0);
    dispatch(&world).await;
    ended(&world).await;
    assert_eq!(runs(&world), ["done ok schedule 1"]);
}

#[tokio::test]
async fn a_run_that_breaks_is_interrupted_and_the_next_slot_fires() {
    let script = Script::of([]);
    let world = world("interval_sec: 60\n", &script).await;
    world.app.before_end.set(fault());
    to_next_slot(&world);
    dispatch(&world).await;
    ended(&world).await;
    assert_eq!(runs(&world), ["interrupted failed schedule 1 interrupted"]);
    assert!(!world.status("noop/a").await.unwrap().running);
    to_next_slot(&world);
    dispatch(&world).await;
    ended(&world).await;
    assert_eq!(runs(&world)[1], "done ok schedule 1");
}
