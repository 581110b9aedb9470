//! The copy of the store at another place: who may write it, what is on its way, how far it has come.

mod anchor;
mod behind;
mod bring_back;
mod copy;
mod course;
mod owner;
mod resume;
mod ship;
mod snapshot;
#[cfg(test)]
mod tests;
mod view;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::Notify;

pub use bring_back::{BringBack, BroughtBack, Copy, bring_back, is_refusal, rebuild};
pub use copy::ReplicaCopy;
pub use view::{LastSnapshot, ReplicationView};

use super::apply::{command_center, draft, new_action_id};
use crate::adapters::clock::Clock;
use crate::adapters::replica::{PlaceError, SharedPlace, Spool};
use crate::adapters::store::{Capture, SqliteStore, Store as _, StoreError};
use crate::core::audit::operation;
use crate::core::model::Millis;
use crate::core::replica::Point;
use crate::telemetry::Metrics;
use course::Course;
use owner::Owner;

/// How often what has changed is cut into a segment, so that with the time to send it the replica is less than a
/// second behind.
const CUT: Duration = Duration::from_millis(500);
/// How often it is looked whether a snapshot is due.
const TEND: Duration = Duration::from_millis(250);

/// How a replication is set up.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The destination, as it may be shown.
    pub shown: String,
    /// Where segments wait.
    pub spool: PathBuf,
    pub spool_bytes: u64,
    /// How long what was stays restorable.
    pub keep: Duration,
    /// What the segments since a snapshot may always come to before the next.
    pub little: u64,
}

impl Terms {
    pub const LITTLE: u64 = 64 << 20;
}

/// Everything the replicator works with. It outlives the replicator's loop, which may be started anew.
pub struct Replication {
    place: SharedPlace,
    store: Arc<SqliteStore>,
    capture: Arc<Capture>,
    clock: Clock,
    metrics: Arc<Metrics>,
    terms: Terms,
    status: Mutex<Status>,
    spool: Mutex<Spool>,
    course: tokio::sync::Mutex<Course>,
    owner: tokio::sync::Mutex<Owner>,
    looked: tokio::sync::Mutex<behind::Looked>,
    /// Something waits to be sent.
    cut_made: Notify,
}

/// What is told of it.
#[derive(Default)]
struct Status {
    /// The epoch under which this server writes, while it may.
    epoch: Option<u64>,
    refused: Option<String>,
    last_error: Option<String>,
    /// Attempts at the destination that failed in a row.
    failures: u32,
    /// When the destination is asked again, after a failure or a refusal.
    next_try: Option<Millis>,
    generation: Option<String>,
    /// Its first snapshot is there: what follows can be used.
    complete: Option<String>,
    /// The generation whose segments came last, and up to where.
    shipped: Option<(String, Point)>,
    /// Up to where the destination can be restored.
    replica: Option<i64>,
    /// Since when nothing that was written since can be restored there.
    behind_since: Option<Instant>,
    last_snapshot: Option<LastSnapshot>,
}

/// Why something did not come about.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    #[error(transparent)]
    Place(#[from] PlaceError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the folder for what waits to be sent: {0}")]
    Spool(#[from] io::Error),
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    Other(String),
}

impl Replication {
    /// Sets it up; the destination is not asked yet.
    ///
    /// # Errors
    /// When the folder for what waits cannot be used.
    pub fn new(
        place: SharedPlace,
        store: Arc<SqliteStore>,
        clock: Clock,
        metrics: Arc<Metrics>,
        terms: Terms,
    ) -> io::Result<Arc<Replication>> {
        let spool = Spool::open(terms.spool.clone())?;
        let owner = Owner::of(&spool)?;
        let status = Status { behind_since: Some(Instant::now()), ..Status::default() };
        let mut replication = Replication {
            place,
            capture: store.capture(),
            store,
            clock,
            metrics,
            terms,
            status: Mutex::new(status),
            spool: Mutex::new(spool),
            course: tokio::sync::Mutex::default(),
            owner: tokio::sync::Mutex::new(owner),
            looked: tokio::sync::Mutex::default(),
            cut_made: Notify::new(),
        };
        let (mut course, instance) = (Course::default(), replication.owner.get_mut().instance().to_owned());
        replication.take_up(&instance, &mut course);
        replication.course = course.into();
        Ok(Arc::new(replication))
    }

    fn status(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spool(&self) -> MutexGuard<'_, Spool> {
        self.spool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the store's disk is full. Nothing more is put into the spool then; what is captured waits in memory,
    /// and more of it than fits there is a gap.
    fn is_space_short(&self) -> bool {
        self.store.space().is_some_and(|space| space.is_short())
    }

    fn now(&self) -> Millis {
        self.clock.now()
    }

    /// Cuts, sends and makes snapshots, side by side, without end: whoever calls it drops it. `round` is told of
    /// each round.
    pub async fn run(&self, round: impl Fn()) {
        self.give_up_unfinished().await;
        let cutting = async {
            loop {
                round();
                tokio::select! {
                    () = tokio::time::sleep(CUT) => {}
                    () = self.capture.filled.notified() => {}
                }
                self.cut_round().await;
            }
        };
        let sending = async {
            loop {
                let pause = self.send_round().await;
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    // A destination that fails is not asked for every cut.
                    () = self.cut_made.notified(), if self.status().failures == 0 => {}
                }
            }
        };
        let tending = async {
            loop {
                tokio::time::sleep(self.tend().await).await;
            }
        };
        // None of them ends.
        let ((), (), ()) = tokio::join!(cutting, sending, tending);
    }

    /// Sends what is left, as far as `patience` allows, and gives the destination free. Called when nothing writes any more.
    pub async fn finish(&self, patience: Duration) {
        let rest = async {
            loop {
                match self.send_rest().await {
                    // That it may not write there was told.
                    Ok(()) | Err(Trouble::Refused(_)) => return,
                    Err(trouble) => tokio::time::sleep(self.failed(&trouble)).await,
                }
            }
        };
        if tokio::time::timeout(patience, rest).await.is_err() {
            let error = self.status().last_error.clone().unwrap_or_else(|| "it takes too long".to_owned());
            tracing::warn!(component = "replication", error, "the last changes are sent by the next start");
        }
    }

    /// All that there is up to now. What this start has not come to copy yet is in no segment, but in a snapshot; on
    /// a full disk there is no room to make one.
    async fn send_rest(&self) -> Result<(), Trouble> {
        self.give_up_unfinished().await;
        self.own().await?;
        self.store.captured().await;
        self.cut_all().await;
        // What an earlier start left first: a snapshot may not come about in time.
        while self.send().await? {}
        let epoch = self.status().epoch.filter(|_| !self.is_space_short());
        let is_missing = self.course.lock().await.generation.is_none();
        if let Some(epoch) = epoch.filter(|_| is_missing) {
            self.snapshot(epoch, true).await?;
            self.store.captured().await;
            self.cut_all().await;
            while self.send().await? {}
        }
        self.release().await
    }

    /// Writes an entry down; that failing is no reason to stop.
    async fn note(&self, operation: &'static str, detail: Value) {
        let entry = draft(None, operation, &command_center(), &new_action_id(), detail);
        self.metrics.event(operation, if operation == operation::REPLICATION_BEGAN { "info" } else { "warning" });
        if let Err(error) = self.store.append(vec![entry], self.now()).await {
            tracing::warn!(component = "replication", %error, "could not write down {operation}");
        }
    }

    /// The generation ends: something of it is missing. The next one begins with a snapshot.
    async fn gap(&self, generation: &str, reason: &str) {
        {
            let mut status = self.status();
            status.behind_since.get_or_insert_with(Instant::now);
            (status.generation, status.complete) = (None, None);
        }
        tracing::warn!(
            component = "replication",
            generation,
            "the replica has a gap, a snapshot will close it: {reason}"
        );
        let detail = json!({"generation": generation, "reason": reason, "destination": self.terms.shown});
        self.note(operation::REPLICATION_GAP, detail).await;
    }
}

/// Where segments wait, below the data directory.
pub fn spool_folder(data_dir: &Path) -> PathBuf {
    data_dir.join("replica-spool")
}
