//! Keeps the fleet equal to the files: hints by name take a short lane, doubt and time bring a full
//! pass. Wake-ups carry no data that is believed; every one ends in looking at the files.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::hints::{HintQueue, Work};
use super::supervisor::Ended;
use crate::app::{App, Pulse, SECOND_SCAN};

pub struct Reconciler {
    app: Arc<App>,
    hints: Arc<HintQueue>,
}

/// How long listing the files may take: nothing shows progress until it is done. A large fleet on a slow
/// disk is given a multiple of what its last pass took.
const LISTING: Duration = Duration::from_secs(60);
const LISTINGS: u32 = 4;

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
    pub fn new(app: Arc<App>, hints: Arc<HintQueue>) -> Self {
        Reconciler { app, hints }
    }

    pub async fn run(self, pulse: Pulse) -> Ended {
        // A moment, not a delay: edits that keep coming must not put the pass off for ever.
        let mut next_pass = Instant::now() + self.app.settings.health_interval;
        let mut longest = Duration::ZERO;
        loop {
            pulse.waits(next_pass.saturating_duration_since(Instant::now()), "edits and the next full pass");
            let wake = tokio::select! {
                biased;
                () = pulse.stopped() => Wake::Stop,
                () = tokio::time::sleep_until(next_pass.into()) => Wake::Pass,
                () = self.app.pass_wanted.notified() => Wake::Pass,
                work = self.hints.next(self.app.settings.debounce) => Wake::Hinted(work),
            };
            pulse.waits(LISTING.max(longest * LISTINGS), "reconciling");
            let begun = Instant::now();
            next_pass = match wake {
                Wake::Stop => return Ok(()),
                Wake::Pass | Wake::Hinted(Work::Everything) => self.pass(&pulse).await,
                Wake::Hinted(Work::Schedules(ids)) => match self.app.reconcile_hinted(ids).await {
                    Ok(false) => next_pass,
                    Ok(true) => self.pass(&pulse).await,
                    Err(error) => self.failed(&error, &pulse),
                },
            };
            longest = longest.max(begun.elapsed());
        }
    }

    /// One full pass; returns when the next is due.
    async fn pass(&self, pulse: &Pulse) -> Instant {
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
            Err(error) => return self.failed(&error, pulse),
        };
        pulse.is_well();
        Instant::now() + delay
    }

    fn failed(&self, error: &dyn std::fmt::Display, pulse: &Pulse) -> Instant {
        self.app.metrics.error();
        pulse.failed(error);
        tracing::error!(component = "reconciler", %error, "could not reconcile; trying again");
        Instant::now() + BACKOFF.min(self.app.settings.health_interval)
    }
}
