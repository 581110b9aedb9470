//! Snapshots of the store: made by time, on request and at the end, kept for as long as the rules say.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::App;
use super::blocking::blocking;
use super::error::AppError;
use super::views::{CheckView, SnapshotView};
use crate::adapters::snapshots::{self, CopyError, CopyResult, Snapshot};
use crate::adapters::store::{Pace, StoreError};
use crate::core::copies::{is_due, superfluous};
use crate::core::model::Millis;
use crate::core::timing::seconds;

/// After a failure the next attempt waits this long, or as long as the interval where that is less.
const RETRY_MS: Millis = 60_000;

/// The first snapshot leaves the start to itself.
const SETTLE_MS: Millis = 5_000;

/// A database up to this size is copied when the program stops; a larger one would make the end wait.
const CHEAP_BYTES: u64 = 64 << 20;

/// What is known of copies and checks.
#[derive(Default)]
pub(super) struct Keeping {
    /// One copy at a time.
    pub(super) making: tokio::sync::Mutex<()>,
    told: Mutex<Told>,
    pub(super) backups: Mutex<super::backups::Backups>,
    /// Rung when a backup was asked for.
    pub(super) wanted: tokio::sync::Notify,
}

#[derive(Default)]
pub(super) struct Told {
    pub newest: Option<SnapshotView>,
    pub newest_at: Option<Millis>,
    /// The store's count of changes when the newest was made; `None` where another program made it.
    changes: Option<u64>,
    pub error: Option<String>,
    /// When the last attempt was made.
    tried: Option<Millis>,
    pub check: Option<CheckView>,
    pub checked: Option<Millis>,
    pub restored: Option<super::views::RestoredView>,
    /// A restart was asked for because of damage.
    pub gives_up: bool,
}

impl Keeping {
    pub(super) fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<CopyError> for AppError {
    fn from(error: CopyError) -> Self {
        match error {
            CopyError::Full { .. } => AppError::Full(error.to_string()),
            CopyError::Store(error) => error.into(),
            error => AppError::Copy(error.to_string()),
        }
    }
}

impl App {
    /// Where snapshots lie.
    pub fn snapshot_folder(&self) -> PathBuf {
        self.settings.data_dir.join("snapshots")
    }

    /// Sweeps up after a crash and looks at what is there. A failure keeps nothing from starting.
    pub(super) async fn find_copies(&self) {
        if let Err(error) = self.find_snapshots().await {
            tracing::warn!(component = "snapshots", %error, "could not look through the snapshots");
        }
    }

    async fn find_snapshots(&self) -> Result<(), AppError> {
        let (folder, backups) = (self.snapshot_folder(), self.backup_folder());
        let found = blocking(move || {
            snapshots::sweep(&folder);
            snapshots::bundle::sweep(&backups);
            snapshots::list(&folder)
        });
        let found = found.await.map_err(|_| StoreError::Stopped)??;
        let newest = found.into_iter().find(|snapshot| snapshot.manifest.is_ok());
        let mut told = self.keeping.told();
        told.newest_at = newest.as_ref().map(|snapshot| snapshot.at);
        told.newest = newest.as_ref().map(SnapshotView::of);
        Ok(())
    }

    /// Every snapshot there is, newest first.
    pub async fn snapshots(&self) -> Result<Vec<SnapshotView>, AppError> {
        let folder = self.snapshot_folder();
        let found = blocking(move || snapshots::list(&folder)).await.map_err(|_| StoreError::Stopped)??;
        Ok(found.iter().map(SnapshotView::of).collect())
    }

    /// Makes a snapshot now.
    pub async fn snapshot(&self, reason: &'static str) -> Result<SnapshotView, AppError> {
        let _alone = self.keeping.making.lock().await;
        let (now, begun) = (self.clock.now(), Instant::now());
        self.keeping.told().tried = Some(now);
        let changes = self.store.changes();
        let made = self.make_snapshot(reason, now).await;
        // Whoever restores it can tell by this how far the log had come.
        if let Err(error) = self.checkpoint_now().await {
            tracing::warn!(component = "notary", %error, "could not sign the audit log's end with the snapshot");
        }
        let mut told = self.keeping.told();
        match made {
            Ok((snapshot, removed)) => {
                let view = SnapshotView::of(&snapshot);
                (told.newest, told.newest_at, told.changes) = (Some(view.clone()), Some(now), Some(changes));
                told.error = None;
                self.metrics.snapshot_made(begun.elapsed().as_secs_f64(), view.bytes);
                tracing::info!(
                    component = "snapshots",
                    took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(0),
                    "snapshot {} made ({reason}), {removed} older ones removed",
                    view.name
                );
                Ok(view)
            }
            Err(error) => {
                self.metrics.copy_failed("snapshot");
                tracing::error!(component = "snapshots", %error, "could not make a snapshot; the rest goes on");
                told.error = Some(format!("could not make a snapshot: {error}"));
                Err(error)
            }
        }
    }

    async fn make_snapshot(&self, reason: &'static str, now: Millis) -> Result<(Snapshot, usize), AppError> {
        // Refused on a full disk.
        let frozen = self.store.freeze(now).await?;
        let (folder, keep) = (self.snapshot_folder(), self.settings.max_snapshots as usize);
        let stop = self.shutdown.clone();
        let pace = if reason == "stop" { Pace::FULL } else { Pace::GENTLE };
        let made = blocking(move || -> CopyResult<_> {
            // A program that stops waits for no copy but the one that it makes then.
            let mut goes_on = |_| reason == "stop" || !stop.is_cancelled();
            let made = snapshots::make(&folder, frozen, reason, pace, &mut goes_on)?;
            Ok((made, prune(&folder, keep, now)?))
        });
        Ok(made.await.map_err(|_| StoreError::Stopped)??)
    }

    /// Makes a snapshot when one is due and anything has changed since the last. A failure is told of.
    pub async fn snapshot_if_due(&self) {
        let Some(interval) = self.settings.upkeep.snapshot_interval else { return };
        let interval = millis(interval);
        let now = self.clock.now();
        let reason = {
            let told = self.keeping.told();
            let settles = now - self.started < SETTLE_MS.min(interval) && now >= self.started;
            let is_fresh = told.changes == Some(self.store.changes());
            let rests = told.error.is_some() && !is_due(told.tried, interval.min(RETRY_MS), now);
            // Copies from before a restoring may be of another course of events.
            let restored = told.restored.as_ref().map(|restored| restored.at_ms);
            let is_outdated = restored.is_some_and(|at| told.newest_at.is_none_or(|newest| newest < at));
            if settles || is_fresh || rests || !(is_outdated || is_due(told.newest_at, interval, now)) {
                return;
            }
            if is_outdated { "restored" } else { "interval" }
        };
        // A failure is in the log and in health already.
        let _ = self.snapshot(reason).await;
    }

    /// The last snapshot, when the program stops: of a database that is copied in no time, if it has changed.
    pub async fn snapshot_at_stop(&self) {
        let size = std::fs::metadata(&self.settings.dsn).map_or(0, |meta| meta.len());
        let is_wanted = self.settings.upkeep.snapshot_interval.is_some() && size <= CHEAP_BYTES;
        if is_wanted && self.keeping.told().changes != Some(self.store.changes()) {
            let _ = self.snapshot("stop").await;
        }
    }

    /// For the metrics: how old the newest snapshot is.
    pub fn measure_snapshots(&self) {
        let at = self.keeping.told().newest_at;
        self.metrics.set_snapshot_age(at.map_or(0.0, |at| seconds((self.clock.now() - at).max(0))));
    }
}

/// Removes what need not be kept. The newest was checked when it was made, so that a good one always stays.
fn prune(folder: &std::path::Path, keep: usize, now: Millis) -> CopyResult<usize> {
    let all = snapshots::list(folder)?;
    let dated: Vec<(Snapshot, Millis)> = all.into_iter().map(|snapshot| (snapshot.clone(), snapshot.at)).collect();
    // One that an upgrade or a restored store began with is kept like a day's last.
    let gone = superfluous(&dated, keep, now);
    let is_kept = |snapshot: &Snapshot| {
        let reason = snapshot.manifest.as_ref().map_or("", |manifest| manifest.reason.as_str());
        reason == "upgrade" && now - snapshot.at < crate::core::copies::KEPT_DAYS * 86_400_000
    };
    let gone: Vec<_> = gone.into_iter().filter(|snapshot| !is_kept(snapshot)).collect();
    for snapshot in &gone {
        snapshots::remove(snapshot)?;
    }
    Ok(gone.len())
}

pub(super) fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}
