//! Watches the desired directory and hands on what it hints at. Without it edits take effect with the next
//! full pass, so that a watch that cannot be had is tried for again and again, and no reason to stop.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::anyhow;

use super::hints::HintQueue;
use super::supervisor::Ended;
use crate::adapters::source::{Hint, SourceError, WatchGuard, watch};
use crate::app::{App, Pulse};

/// How often the watch itself is looked after.
const ROUND: Duration = Duration::from_secs(5);

/// So many times as long as a stall a look at all files may take, on a slow disk.
const LOOK: u32 = 2;

pub struct Watcher {
    app: Arc<App>,
    hints: Arc<HintQueue>,
    /// The watch that stood before the first pass.
    early: Mutex<Option<WatchGuard>>,
}

impl Watcher {
    pub fn new(app: Arc<App>, hints: Arc<HintQueue>) -> Self {
        Watcher { app, hints, early: Mutex::default() }
    }

    /// Begins to watch ahead of `run`. Call it before the first pass, so that nothing saved between the two
    /// is missed; what fails here `run` tries again.
    pub fn begin(&self) {
        match self.watch() {
            Ok(guard) => *self.early.lock().unwrap_or_else(PoisonError::into_inner) = Some(guard),
            Err(error) => tracing::error!(component = "reconciler", %error,
                "cannot watch the desired directory; edits take effect with the next full reconcile"),
        }
    }

    pub async fn run(self: Arc<Self>, pulse: Pulse) -> Ended {
        let early = self.early.lock().unwrap_or_else(PoisonError::into_inner).take();
        let guard = match early {
            Some(guard) => guard,
            None => {
                // A directory that hangs must not take one of the runtime's threads with it.
                let own = self.clone();
                let guard = tokio::task::spawn_blocking(move || own.watch()).await??;
                // Nobody has watched until now.
                self.hints.push(Hint::Everything, Instant::now());
                guard
            }
        };
        let (mut seen, mut missed) = (guard.rounds(), 0);
        while pulse.sleep(ROUND, "changes in the desired directory").await {
            if !guard.is_watching() {
                return Err(anyhow!("the thread that watches the desired directory has ended"));
            }
            let rounds = guard.rounds();
            missed = if rounds == seen { missed + 1 } else { 0 };
            seen = rounds;
            // Counted in rounds of its own: while the program stood still, neither came round.
            if ROUND * missed > self.patience() {
                return Err(anyhow!("the thread that watches the desired directory stands still"));
            }
        }
        Ok(())
    }

    /// How long its thread may be away: for as long as it waits between two looks, and for a look.
    fn patience(&self) -> Duration {
        let settings = &self.app.settings;
        settings.poll_interval.unwrap_or(ROUND) + settings.scheduler_stall * LOOK
    }

    fn watch(&self) -> Result<WatchGuard, SourceError> {
        let (hints, settings) = (self.hints.clone(), &self.app.settings);
        watch(&settings.desired_dir, settings.poll_interval, move |hint| hints.push(hint, Instant::now()))
    }
}
