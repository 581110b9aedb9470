//! The simulated scheduler: schedules with rules drawn from a seed, a clock that goes on, leaps and is
//! set back, a connector that follows a script, a store that fails, callers, kills between two writes;
//! and a small model of the rules that watches every write and every import.
//!
//! That the model notices was tried by breaking the program: a slot granted against its overlap or claimed twice,
//! one forgotten after downtime, a failure repeated that cannot pass, a resume that reaches back, a start in a
//! window, a replaced run not stopped, a repetition lost.
//!
//! `SCHED_SEED=n` plays one seed and tells what happens in it, `SCHED_SEEDS=count` plays more than usual.

mod actors;
mod closures;
mod model;
mod script;
mod take;
mod world;

use world::World;

use super::seeds;

/// Seeds that once found something, one a line; they are played first.
const KEPT: &str = include_str!("scheduler/seeds.txt");

/// How many new seeds a run of the tests plays.
const SEEDS: u64 = 500;

#[test]
fn the_rules_for_runs_hold_whatever_happens() {
    seeds::play_all("SCHED", "src/app/tests/scheduler/seeds.txt", KEPT, SEEDS, |seed, aloud| {
        World::new(seed, aloud).play().map(drop)
    });
}

#[test]
fn a_kill_between_any_two_writes_breaks_no_rule() {
    let mut played = 0;
    for seed in 1.. {
        let writes =
            World::new(seed, false).play_killed_after(u64::MAX).unwrap_or_else(|found| panic!("seed {seed}: {found}"));
        if !(20..80).contains(&writes) {
            continue;
        }
        played += 1;
        if played > 3 {
            break;
        }
        let found = (0..writes).filter_map(|writes| {
            let found = seeds::guarded(|| World::new(seed, false).play_killed_after(writes).map(drop)).err()?;
            Some(format!("seed {seed} killed after {writes} writes: {found}"))
        });
        assert_eq!(found.collect::<Vec<_>>(), Vec::<String>::new());
    }
}

#[test]
fn a_seed_gives_one_course_of_events() {
    for seed in [3, 14, 159] {
        let told = [0, 1].map(|_| {
            let world = World::new(seed, false);
            let outcome = world.play();
            (outcome, world.told())
        });
        assert_eq!(told[0], told[1]);
        assert!(told[0].1.len() > 5);
    }
}
