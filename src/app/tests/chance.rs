//! Where the simulated world's chance comes from: one seeded stream that everything draws from in
//! turn, so that a seed gives one course of events.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::adapters::store::memory::{Ending, Fates};

/// SplitMix64: small, and good enough to play dice with.
struct Dice(u64);

impl Dice {
    fn throw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// Decides what goes wrong.
pub(in crate::app::tests) struct Chance {
    dice: Mutex<Dice>,
    /// How many calls in a thousand fail.
    pub faults: AtomicU64,
    has_failed: AtomicBool,
    dead: AtomicBool,
    writes: AtomicU64,
    /// The write that the program is killed at.
    last_write: AtomicU64,
}

impl Chance {
    pub fn new(seed: u64) -> Chance {
        let chance = Chance {
            dice: Mutex::new(Dice(seed.wrapping_mul(0x2545_f491_4f6c_dd1d))),
            faults: AtomicU64::new(0),
            has_failed: AtomicBool::new(false),
            dead: AtomicBool::new(false),
            writes: AtomicU64::new(0),
            last_write: AtomicU64::new(u64::MAX),
        };
        let rate = *chance.pick(&[0, 10, 40, 120]);
        chance.faults.store(rate, Ordering::SeqCst);
        chance
    }

    /// Where nothing goes wrong from the beginning.
    pub fn calm() -> Chance {
        let chance = Chance::new(0);
        chance.be_calm();
        chance
    }

    pub fn below(&self, bound: u64) -> u64 {
        self.dice.lock().unwrap().throw() % bound.max(1)
    }

    /// True `percent` times in a hundred.
    pub fn is(&self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub fn pick<'a, T>(&self, of: &'a [T]) -> &'a T {
        &of[usize::try_from(self.below(of.len() as u64)).unwrap()]
    }

    /// Whether this call fails.
    pub fn fails(&self) -> bool {
        self.fails_times(1)
    }

    /// As `fails`, so many times as often.
    pub fn fails_times(&self, factor: u64) -> bool {
        let rate = self.faults.load(Ordering::SeqCst);
        let fails = rate > 0 && self.below(1000) < rate * factor;
        self.has_failed.fetch_or(fails, Ordering::SeqCst);
        fails
    }

    /// Whether nothing ever failed.
    pub fn was_faultless(&self) -> bool {
        !self.has_failed.load(Ordering::SeqCst)
    }

    /// From now on nothing goes wrong.
    pub fn be_calm(&self) {
        self.faults.store(0, Ordering::SeqCst);
    }

    /// The program is killed at the write that comes after so many others; lives on with `u64::MAX`.
    pub fn kill_after(&self, writes: u64) {
        self.last_write.store(self.writes().saturating_add(writes), Ordering::SeqCst);
    }

    /// How many writes were handed in so far.
    pub fn writes(&self) -> u64 {
        self.writes.load(Ordering::SeqCst)
    }

    /// The program is killed between two of its steps, or lives again.
    pub fn set_dead(&self, dead: bool) {
        self.dead.store(dead, Ordering::SeqCst);
    }
}

impl Fates for Chance {
    fn write(&self, _: &'static str) -> (Ending, u32, u32) {
        if self.writes.fetch_add(1, Ordering::SeqCst) >= self.last_write.load(Ordering::SeqCst) {
            self.set_dead(true);
        }
        let ending =
            if self.fails() { *self.pick(&[Ending::Full, Ending::Failed, Ending::Doubtful]) } else { Ending::Done };
        let turns = |chance: &Chance| u32::try_from(chance.below(4)).unwrap();
        (ending, turns(self), turns(self))
    }

    fn read_fails(&self, _: &'static str) -> bool {
        self.fails()
    }

    fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }
}
