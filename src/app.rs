//! The application: what the rooms share, handed over explicitly. Opening it brings the fleet up
//! from the store; `reconcile`, `mutate` and `runs` are what it can do.

pub mod views;

mod error;

mod admission;
mod adopt;
mod apply;
mod backups;
mod binding;
mod blocking;
mod brake;
mod bulk;
mod checks;
mod convergence;
mod defaults;
mod diff;
mod drift;
mod forecast;
mod git;
mod growth;
pub mod heal;
mod health;
mod history;
mod holds;
mod line_up;
mod loops;
mod merge;
mod mutate;
mod origins;
mod pass;
mod past;
mod promises;
mod proof;
mod reading;
mod reconcile;
mod records;
mod replace;
mod replication;
mod report;
mod restarting;
mod restored;
mod rollback;
mod runs;
mod sink;
mod snapshots;
mod space;
mod start;
mod state;
mod timers;
mod webhooks;
mod windows;

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, AtomicI64};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, RwLock};
use tokio_util::sync::CancellationToken;

pub use adopt::{StoredFleet, stored_fleet};
pub use backups::backup_offline;
pub use bulk::{Bulk, Consent, Deed, MAX_AT_ONCE, Terms, Undo};
pub use diff::offline_diff;
pub use error::{AppError, PlanMoved, Refused, Stale};
pub use forecast::ForecastQuery;
pub use git::Pulled;
pub use growth::Past;
pub use health::{DISPATCHER, STORE};
pub use history::HistoryQuery;
pub use loops::{Beats, Pulse, Words};
pub use mutate::{Edit, IfMatch, Mutation};
pub use pass::SECOND_SCAN;
pub use proof::{Presented, ProofError};
pub use records::RecordsWanted;
pub use replication::{
    BringBack, BroughtBack, Copy, LastSnapshot, ReplicaCopy, Replication, ReplicationView, Terms as ReplicationTerms,
    bring_back, is_refusal, rebuild, spool_folder,
};
pub use rollback::{DirectoryRollback, Rollback};
pub use runs::{Backfill, RunNow};
pub use timers::DueBatch;
pub use webhooks::{NotTaken, Taken};

use crate::adapters::clock::Clock;
use crate::adapters::connectors::Connectors;
use crate::adapters::source::Files;
use crate::adapters::store::{Brake, SharedStore};
use crate::core::fleet::Fleet;
use crate::core::model::{Millis, ScheduleId};
use crate::settings::Settings;
use crate::telemetry::Metrics;

/// Everything the loops, the API and the tests work with.
pub struct App {
    pub settings: Settings,
    pub clock: Clock,
    pub store: SharedStore,
    pub metrics: Arc<Metrics>,
    /// Fires when the program is to end: nothing starts any more, and requests are answered until imports in
    /// flight have had their time.
    pub leaving: CancellationToken,
    /// Fires after that: no connection is taken any more.
    pub doors_closed: CancellationToken,
    /// Fires when the program ends: the loops stop, and no request is taken any more.
    pub shutdown: CancellationToken,
    /// The program is to start again once it has stopped.
    restarting: AtomicBool,
    successor: restarting::Successor,
    source: Arc<dyn Files>,
    connectors: Connectors,
    fleet: Mutex<Fleet>,
    /// Rung when a timer was set that is earlier than what the dispatcher waits for.
    timer_set: Condvar,
    /// What the dispatcher waits for; the smallest number while it is awake.
    waits_for: AtomicI64,
    /// Held shared by a mutation, alone by a batch of the reconciler.
    gate: RwLock<()>,
    /// One mutation a schedule at a time.
    lanes: Lanes,
    state: Mutex<state::State>,
    work_tree: origins::WorkTree,
    defaults: Mutex<defaults::State>,
    windows: Mutex<windows::State>,
    git: git::GitWork,
    runs: runs::RunTable,
    webhooks: webhooks::Webhooks,
    deletions: records::Deletions,
    /// Who may start.
    admission: Arc<admission::Admission>,
    /// When sources want to be asked again.
    wishes: runs::Wishes,
    brakes: Mutex<Vec<Brake>>,
    keeping: snapshots::Keeping,
    promises: promises::Promises,
    /// What vouches for the audit log.
    proof: proof::Proof,
    /// The copy at another place, where there is to be one.
    replication: std::sync::OnceLock<Arc<Replication>>,
    /// Why there is none yet, where there is to be one.
    replication_trouble: Mutex<Option<String>>,
    /// Rung to have the next full pass early.
    pub pass_wanted: Notify,
    started: Millis,
    ready: AtomicBool,
    /// When the dispatcher last came round.
    dispatcher_seen: AtomicI64,
    /// How the loops are.
    loops: loops::Loops,
    /// The clock was set back: timers may stand further ahead than their rhythm wants.
    timers_in_doubt: AtomicBool,
    /// Claims fail, and that was told of.
    claims_fail: AtomicBool,
    /// What a test lets happen between a mutation's commit and its exchange.
    #[cfg(test)]
    before_exchange: tests::Hook,
    /// And before due slots are claimed, and before a run's end is recorded.
    #[cfg(test)]
    before_claim: tests::Hook,
    #[cfg(test)]
    before_end: tests::Hook,
}

impl App {
    /// The fleet, for a moment: never held across a wait.
    fn fleet(&self) -> MutexGuard<'_, Fleet> {
        self.fleet.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the dispatcher if it would sleep past `due`.
    fn ring_for(&self, due: Option<Millis>) {
        if due.is_some_and(|due| due < self.waits_for.load(std::sync::atomic::Ordering::Acquire)) {
            self.timer_set.notify_all();
        }
    }

    fn state(&self) -> MutexGuard<'_, state::State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the first reconcile is done and requests are welcome.
    pub fn is_ready(&self) -> bool {
        self.ready.load(std::sync::atomic::Ordering::Acquire)
    }

    /// Whether the program is to start again after it has stopped.
    pub fn is_restarting(&self) -> bool {
        self.restarting.load(std::sync::atomic::Ordering::Acquire)
    }

    /// The store is to be copied to another place, and cannot be for now.
    pub fn cannot_replicate(&self, why: String) {
        *self.replication_trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }

    /// Has the store copied to another place from now on.
    pub fn replicate(&self, replication: Arc<Replication>) {
        // Set once, by whoever starts the program.
        let _ = self.replication.set(replication);
    }

    pub fn replication(&self) -> Option<&Arc<Replication>> {
        self.replication.get()
    }

    /// How the copy at another place stands.
    pub async fn replication_view(&self) -> ReplicationView {
        match self.replication.get() {
            Some(replication) => replication.view().await,
            None => match &*self.replication_trouble.lock().unwrap_or_else(PoisonError::into_inner) {
                Some(why) => ReplicationView::failed(why),
                None => ReplicationView::off(),
            },
        }
    }

    pub fn source(&self) -> &Arc<dyn Files> {
        &self.source
    }
}

/// Serialises work on one schedule without a lock for each: schedules share some hundred.
struct Lanes(Vec<tokio::sync::Mutex<()>>);

impl Lanes {
    fn new() -> Self {
        Lanes((0..256).map(|_| tokio::sync::Mutex::new(())).collect())
    }

    async fn enter(&self, id: &ScheduleId) -> tokio::sync::MutexGuard<'_, ()> {
        use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(id);
        #[expect(clippy::cast_possible_truncation, reason = "any part of a hash is as good")]
        let lane = hash as usize % self.0.len();
        self.0[lane].lock().await
    }
}
