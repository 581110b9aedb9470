//! What keeps a store whole: consistent readings to copy from, checks, and facts it knows of itself.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::{Frozen, StoreError, StoreFuture, StoreResult};
use crate::core::audit::Draft;
use crate::core::model::Millis;

/// How thorough a check is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Every page and row; seconds for a gigabyte.
    Quick,
    /// Indexes against their tables as well; several times as long.
    Full,
}

/// What a check of the database found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Soundness {
    Sound,
    /// The first things that are wrong, as the engine puts them.
    Damaged(String),
}

/// How fast a copy goes: so many pages at a time, and a pause after each step, in which claims and commits
/// have the disk for themselves.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub pages: u16,
    pub pause: Duration,
}

impl Pace {
    /// Beside a running server.
    pub const GENTLE: Pace = Pace { pages: 256, pause: Duration::from_millis(4) };
    /// Nobody else wants the disk.
    pub const FULL: Pace = Pace { pages: 4096, pause: Duration::ZERO };
}

/// How far a copy has come, in pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    pub done: u64,
    pub total: u64,
}

/// Takes how far something has come; false when it is to be given up.
pub type Progress<'a> = &'a mut dyn FnMut(Copied) -> bool;

/// A store's own upkeep.
pub trait Upkeep {
    /// A reading of exactly what was committed before this was handed in and nothing after, as long as it is held.
    fn freeze(&self, now: Millis) -> StoreFuture<'_, Frozen>;
    /// Looks at the whole database; `gently` takes longer and keeps nobody waiting.
    fn check(&self, depth: Depth, gently: bool) -> StoreFuture<'_, Soundness>;
    /// Whether the database should be looked at before anything is built on it: it was not closed in order, or is
    /// small enough for a look to cost nothing.
    fn wants_check(&self) -> bool;
    /// Whether the open files are still those that lie in the database's place: nobody has removed or replaced them.
    fn is_in_place(&self) -> bool;
    /// Writes what has been committed into a new file, from the files that are open, wherever they lie by now. Nothing
    /// is written to the store any more after that: where this is needed, it would be lost.
    fn leave_to(&self, target: PathBuf) -> StoreFuture<'_, ()>;
    /// Counts rows changed through this store: the same number twice says that nothing was written in between.
    fn changes(&self) -> u64;
    /// What a reading or writing found damaged since this was last asked.
    fn suspicion(&self) -> Option<String>;
    /// A fact by its name.
    fn fact(&self, name: &'static str) -> StoreFuture<'_, Option<String>>;
    /// Sets or forgets a fact, with entries for the audit.
    fn put_fact(
        &self,
        name: &'static str,
        value: Option<String>,
        drafts: Vec<Draft>,
        now: Millis,
    ) -> StoreFuture<'_, Vec<i64>>;
}

impl fmt::Display for Soundness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Soundness::Sound => f.write_str("sound"),
            Soundness::Damaged(what) => f.write_str(what),
        }
    }
}

impl Soundness {
    /// Damage as an error of an operation.
    pub fn or_corrupt(self, operation: &'static str) -> StoreResult<()> {
        match self {
            Soundness::Sound => Ok(()),
            Soundness::Damaged(reason) => Err(StoreError::Corrupt { operation: operation.to_owned(), reason }),
        }
    }
}
