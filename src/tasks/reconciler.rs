//! Keeps the fleet equal to the files: hints by name take a short lane, doubt and time bring a full
//! pass. Wake-ups carry no data that is believed; every one ends in looking at the files.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::hints::{HintQueue, Work};
use crate::adapters::source::{WatchGuard, watch};
use crate::app::{App, SECOND_SCAN};

pub struct Reconciler {
    app: Arc<App>,
    hints: Arc<HintQueue>,
}

/// How soon to look again when git or the directory keeps a pass waiting.
const RETRY: Duration = Duration::from_millis(100);

/// How soon to look again after an error of the store.
const BACKOFF: Duration = Duration::from_secs(5);

enum Wake {
    Hinted(Work),
    Pass,
    Stop,
}

impl Reconciler {
    pub fn new(app: Arc<App>) -> Self {
        Reconciler { app, hints: Arc::new(HintQueue::default()) }
    }

    /// Starts to watch; hints queue up until `run` takes them. Call it before the first pass, so
    /// that nothing saved between the two is missed.
    pub fn watch(&self) -> Option<WatchGuard> {
        let hints = self.hints.clone();
        let settings = &self.app.settings;
        let guard = watch(&settings.desired_dir, settings.poll_interval, move |hint| hints.push(hint, Instant::now()));
        match guard {
            Ok(guard) => Some(guard),
            Err(error) => {
                tracing::error!(component = "reconciler", %error,
                    "cannot watch the desired directory; edits take effect with the next full reconcile");
                None
            }
        }
    }

    pub async fn run(self) {
        // A moment, not a delay: edits that keep coming must not put the pass off for ever.
        let mut next_pass = Instant::now() + self.app.settings.health_interval;
        loop {
            let wake = tokio::select! {
                biased;
                () = self.app.shutdown.cancelled() => Wake::Stop,
                () = tokio::time::sleep_until(next_pass.into()) => Wake::Pass,
                () = self.app.pass_wanted.notified() => Wake::Pass,
                work = self.hints.next(self.app.settings.debounce) => Wake::Hinted(work),
            };
            next_pass = match wake {
                Wake::Stop => return,
                Wake::Pass | Wake::Hinted(Work::Everything) => self.pass().await,
                Wake::Hinted(Work::Schedules(ids)) => match self.app.reconcile_hinted(ids).await {
                    Ok(false) => next_pass,
                    Ok(true) => self.pass().await,
                    Err(error) => self.failed(&error),
                },
            };
        }
    }

    /// One full pass; returns when the next is due.
    async fn pass(&self) -> Instant {
        let delay = match self.app.full_pass(None).await {
            Ok(report) if report.waiting.is_some() => RETRY,
            Ok(_) if self.app.awaits_second_scan() => SECOND_SCAN,
            Ok(report) => {
                if report.changes + report.repaired > 0 {
                    tracing::info!(
                        component = "reconciler",
                        duration_ms = report.duration_ms,
                        "reconciled {} files: {} changes, {} repairs",
                        report.files,
                        report.changes,
                        report.repaired
                    );
                }
                self.app.settings.health_interval
            }
            Err(error) => return self.failed(&error),
        };
        Instant::now() + delay
    }

    fn failed(&self, error: &dyn std::fmt::Display) -> Instant {
        self.app.metrics.error();
        tracing::error!(component = "reconciler", %error, "could not reconcile; trying again");
        Instant::now() + BACKOFF.min(self.app.settings.health_interval)
    }
}
