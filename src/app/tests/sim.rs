//! The simulated world: many actors, faults and crashes over a disk and a store in memory, all drawn
//! from one seed; then calm, and the end must be the one that a world without faults comes to.
//!
//! `SIM_SEED=n` plays one seed and tells what happens in it, `SIM_SEEDS=count` plays more than usual.

mod actors;
mod check;
pub(super) mod disk;
mod many;
mod world;

use world::World;

use super::seeds;

/// Seeds that once found something, one a line; they are played first.
const KEPT: &str = include_str!("sim/seeds.txt");

/// How many new seeds a run of the tests plays.
const SEEDS: u64 = 3000;

fn play(seed: u64, aloud: bool) -> Result<(), String> {
    crate::app::blocking::simulated::turn_on();
    World::new(seed, aloud).play()
}

#[test]
fn a_world_with_faults_ends_as_one_without() {
    seeds::play_all("SIM", "src/app/tests/sim/seeds.txt", KEPT, SEEDS, play);
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
