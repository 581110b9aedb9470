//! Looks at the loops again and again, from a thread of its own, so that it sees also that the runtime
//! stands still. What only a restart of the program mends is handed to whoever may order one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::supervisor::Supervisor;
use crate::app::App;

/// The shortest and the longest time between two looks.
const SOONEST: Duration = Duration::from_millis(20);
const LATEST: Duration = Duration::from_secs(1);

/// Where a look comes later than this many rounds after the last, everything stood still.
const ROUNDS: u32 = 3;

pub struct Watchdog {
    app: Arc<App>,
    supervisor: Arc<Supervisor>,
}

impl Watchdog {
    pub fn new(app: Arc<App>, supervisor: Arc<Supervisor>) -> Self {
        Watchdog { app, supervisor }
    }

    /// Looks until `stop`, which outlasts the loops.
    /// `rescue` is told in each round what only a restart of the program helps, if anything, and returns what
    /// is to be shown of it.
    pub fn run(self, stop: &CancellationToken, mut rescue: impl FnMut(Option<String>) -> Option<String>) {
        let settings = &self.app.settings;
        let round = (settings.scheduler_stall / 8).min(settings.health_interval).clamp(SOONEST, LATEST);
        let started = Instant::now();
        while !stop.is_cancelled() {
            let hopeless = self.supervisor.look(started.elapsed(), self.app.clock.now(), round * ROUNDS);
            self.app.note_stuck(rescue(hopeless));
            // Whoever ends it wakes it.
            std::thread::park_timeout(round);
        }
    }
}
