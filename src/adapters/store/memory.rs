//! A store in memory for the simulated world: as durable as any, since what it holds lies on a
//! `Platter` that outlives it, and as unreliable as its `Fates` want it.

mod engine;
mod inbox;
mod keep;
mod log;
mod many;
mod past;
mod records;
mod runs;
mod tables;
mod upkeep;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use runs::Run;
pub use tables::{Row, Tables};

use super::StoreError;

/// How a write ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Done,
    /// No room: nothing has changed.
    Full,
    /// Nothing has changed.
    Failed,
    /// It took effect, and is said to have failed.
    Doubtful,
}

/// What becomes of each call.
pub trait Fates: Send + Sync {
    /// How a write ends, how many turns it waits to be done and then to be answered.
    fn write(&self, operation: &'static str) -> (Ending, u32, u32);
    /// Whether a read fails.
    fn read_fails(&self, operation: &'static str) -> bool;
    /// Whether the program has been killed: nothing is done or answered any more.
    fn is_dead(&self) -> bool;
}

/// Every call succeeds at once.
pub struct Calm;

impl Fates for Calm {
    fn write(&self, _: &'static str) -> (Ending, u32, u32) {
        (Ending::Done, 0, 0)
    }

    fn read_fails(&self, _: &'static str) -> bool {
        false
    }

    fn is_dead(&self) -> bool {
        false
    }
}

type Job = Box<dyn FnOnce(&mut Tables) + Send>;

/// Sees the tables after every write.
type Witness = Box<dyn FnMut(&Tables) + Send>;

/// What a store leaves behind: its tables, and the writes that were handed in and not yet done.
#[derive(Default)]
pub struct Platter(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    tables: Tables,
    handed_in: VecDeque<(u64, Job)>,
    next_ticket: u64,
    /// Someone else has written, or a write's outcome is in doubt.
    foreign: bool,
    /// Counts openings, which is the fencing term of the present one.
    term: i64,
    witness: Option<Witness>,
}

impl Inner {
    fn work(&mut self, job: Job) {
        job(&mut self.tables);
        if let Some(witness) = &mut self.witness {
            witness(&self.tables);
        }
    }
}

impl Platter {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Kills whoever works on it: of the writes handed in, `keep` were done just in time.
    pub fn crash(&self, keep: usize) {
        let mut inner = self.lock();
        for _ in 0..keep {
            let Some((_, job)) = inner.handed_in.pop_front() else { break };
            inner.work(job);
        }
        inner.handed_in.clear();
    }

    /// How many writes wait to be done.
    pub fn waiting(&self) -> usize {
        self.lock().handed_in.len()
    }

    /// A person's hand in the tables, past every open store.
    pub fn by_hand<T>(&self, change: impl FnOnce(&mut Tables) -> T) -> T {
        let mut inner = self.lock();
        inner.foreign = true;
        change(&mut inner.tables)
    }

    /// From now on `witness` sees the tables after every write; it must not come back here.
    pub fn let_watch(&self, witness: impl FnMut(&Tables) + Send + 'static) {
        self.lock().witness = Some(Box::new(witness));
    }

    /// A look at the tables, which nobody notices.
    pub fn look<T>(&self, look: impl FnOnce(&Tables) -> T) -> T {
        look(&self.lock().tables)
    }

    fn hand_in(&self, job: Job) -> u64 {
        let mut inner = self.lock();
        inner.next_ticket += 1;
        let ticket = inner.next_ticket;
        inner.handed_in.push_back((ticket, job));
        ticket
    }

    /// Does what was handed in up to `ticket`, in order.
    fn work_off(&self, ticket: u64) {
        let mut inner = self.lock();
        while inner.handed_in.front().is_some_and(|(first, _)| *first <= ticket) {
            if let Some((_, job)) = inner.handed_in.pop_front() {
                inner.work(job);
            }
        }
    }

    fn doubt(&self) {
        self.lock().foreign = true;
    }
}

/// One opening of a platter.
pub struct MemoryStore {
    platter: Arc<Platter>,
    fates: Arc<dyn Fates>,
    term: i64,
    closed: Arc<std::sync::atomic::AtomicBool>,
}

impl MemoryStore {
    pub fn open(platter: Arc<Platter>, fates: Arc<dyn Fates>) -> MemoryStore {
        let mut inner = platter.lock();
        inner.term += 1;
        inner.foreign = true;
        let term = inner.term;
        drop(inner);
        MemoryStore { platter, fates, term, closed: Arc::default() }
    }
}

/// Lets others go first, `turns` times.
pub async fn wait(turns: u32) {
    for _ in 0..turns {
        tokio::task::yield_now().await;
    }
}

fn failed(operation: &'static str, reason: &str) -> StoreError {
    StoreError::Failed { operation, reason: reason.to_owned() }
}
