//! Slots that passed without a run, and why.

use std::collections::BTreeMap;
use std::ops::AddAssign;

/// Why a slot passed without a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Miss {
    /// Nothing could run then, and the catch-up rule let a later slot stand for it, or none.
    Folded,
    /// A run of the same schedule was not done.
    Overlap,
    /// The brake was pulled.
    Brake,
    /// A maintenance window stood.
    Window,
    /// It could not start in time.
    Deadline,
}

impl Miss {
    pub const ALL: [Miss; 5] = [Miss::Folded, Miss::Overlap, Miss::Brake, Miss::Window, Miss::Deadline];

    pub fn as_str(self) -> &'static str {
        match self {
            Miss::Folded => "folded",
            Miss::Overlap => "overlap",
            Miss::Brake => "brake",
            Miss::Window => "window",
            Miss::Deadline => "deadline",
        }
    }
}

/// How many slots passed without a run, by why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Missed([u32; Miss::ALL.len()]);

impl Missed {
    pub const NONE: Missed = Missed([0; Miss::ALL.len()]);

    pub fn of(why: Miss, count: u32) -> Self {
        Missed::NONE.and(why, count)
    }

    /// These, and `count` more.
    #[must_use]
    pub fn and(mut self, why: Miss, count: u32) -> Self {
        self.0[why as usize] = self.0[why as usize].saturating_add(count);
        self
    }

    pub fn get(self, why: Miss) -> u32 {
        self.0[why as usize]
    }

    pub fn total(self) -> u64 {
        self.0.iter().map(|count| u64::from(*count)).sum()
    }

    /// Those there are.
    pub fn iter(self) -> impl Iterator<Item = (Miss, u32)> {
        Miss::ALL.into_iter().map(move |why| (why, self.get(why))).filter(|(_, count)| *count > 0)
    }

    /// By name, as callers see it.
    pub fn by_name(self) -> BTreeMap<String, u64> {
        self.iter().map(|(why, count)| (why.as_str().to_owned(), u64::from(count))).collect()
    }
}

impl AddAssign for Missed {
    fn add_assign(&mut self, more: Self) {
        *self = more.iter().fold(*self, |sum, (why, count)| sum.and(why, count));
    }
}
