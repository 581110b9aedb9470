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
                let guard = self.watch()?;
                // Nobody has watched until now.
                self.hints.push(Hint::Everything, Instant::now());
                guard
            }
        };
        while pulse.sleep(ROUND, "changes in the desired directory").await {
            if !guard.is_watching() {
                return Err(anyhow!("the thread that watches the desired directory has ended"));
            }
        }
        Ok(())
    }

    fn watch(&self) -> Result<WatchGuard, SourceError> {
        let (hints, settings) = (self.hints.clone(), &self.app.settings);
        watch(&settings.desired_dir, settings.poll_interval, move |hint| hints.push(hint, Instant::now()))
    }
}
