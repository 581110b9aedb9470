//! The simulated world: many actors, faults and crashes over a disk and a store in memory, all drawn
//! from one seed; then calm, and the end must be the one that a world without faults comes to.
//!
//! `SIM_SEED=n` plays one seed and tells what happens in it, `SIM_SEEDS=count` plays more than usual.

mod actors;
mod chance;
mod check;
mod disk;
mod many;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use world::World;

/// Seeds that once found something, one a line; they are played first.
const KEPT: &str = include_str!("sim/seeds.txt");

/// How many new seeds a run of the tests plays.
const SEEDS: u64 = 3000;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn play(seed: u64, aloud: bool) -> Result<(), String> {
    crate::app::blocking::simulated::turn_on();
    let played = catch_unwind(AssertUnwindSafe(|| World::new(seed, aloud).play()));
    played.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default())
    })
}

#[test]
fn a_world_with_faults_ends_as_one_without() {
    if let Some(seed) = setting("SIM_SEED") {
        return assert_eq!(play(seed, true), Ok(()), "seed {seed}");
    }
    let kept = KEPT.lines().filter_map(|line| line.split('#').next()?.trim().parse().ok());
    let count = setting("SIM_SEEDS").unwrap_or(SEEDS);
    let seeds: Vec<u64> = kept.chain(1..=count).collect();
    let next = AtomicU64::new(0);
    let failures = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(seed) = seeds.get(usize::try_from(next.fetch_add(1, Ordering::Relaxed)).unwrap()) {
                    if let Err(found) = play(*seed, false) {
                        failures.lock().unwrap().push(format!("SIM_SEED={seed}: {found}"));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(
        failures.is_empty(),
        "{} of {} seeds end otherwise; keep them in src/app/tests/sim/seeds.txt:\n{}",
        failures.len(),
        seeds.len(),
        failures.iter().take(10).cloned().collect::<Vec<_>>().join("\n")
    );
}

#[test]
fn a_seed_gives_one_course_of_events() {
    crate::app::blocking::simulated::turn_on();
    for seed in [3, 14, 159, 116] {
        let told = [0, 1].map(|_| {
            let world = World::new(seed, false);
            let outcome = world.play();
            (outcome, world.told())
        });
        assert_eq!(told[0], told[1]);
        assert!(told[0].1.len() > 5);
    }
}
