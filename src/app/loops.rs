//! What the loops say of themselves, and what the watchdog makes of it for everybody to see.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::App;
use super::views::LoopHealth;
use crate::adapters::clock::Clock;
use crate::core::model::Millis;
use crate::core::watch::shown;

tokio::task_local! {
    /// The loop that a task is; what it does deep down shows progress by it without being handed it.
    static OWN: Pulse;
}

/// A loop's line to the watchdog, good for one incarnation. Cheap to use: a lock that nobody holds for long.
#[derive(Clone)]
pub struct Pulse {
    beats: Arc<Beats>,
    stop: CancellationToken,
    clock: Clock,
}

/// What a loop has said.
#[derive(Default)]
pub struct Beats {
    count: AtomicU64,
    words: Mutex<Words>,
}

#[derive(Clone, Default)]
pub struct Words {
    /// What it does or waits for.
    pub doing: &'static str,
    /// How long it may be away for that.
    pub away: Duration,
    /// What fails at the moment.
    pub error: Option<String>,
    /// When it last came round.
    pub at: Millis,
}

impl Beats {
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    pub fn words(&self) -> Words {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Words> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pulse {
    /// `stop` ends this incarnation.
    pub fn new(beats: Arc<Beats>, stop: CancellationToken, clock: Clock) -> Pulse {
        let pulse = Pulse { beats, stop, clock };
        pulse.works("starting");
        pulse
    }

    /// Of a loop that nobody watches.
    pub fn unwatched(app: &App) -> Pulse {
        Pulse::new(Arc::default(), app.shutdown.child_token(), app.clock.clone())
    }

    /// It came round, and does something that takes no longer than a stall.
    pub fn works(&self, what: &'static str) {
        self.waits(Duration::ZERO, what);
    }

    /// It came round, and is to come round again after this long.
    pub fn waits(&self, away: Duration, what: &'static str) {
        let mut words = self.beats.lock();
        (words.doing, words.away, words.at) = (what, away, self.clock.now());
        drop(words);
        self.beats.count.fetch_add(1, Ordering::Release);
    }

    /// It goes on with what it does.
    pub fn goes_on(&self) {
        self.beats.lock().at = self.clock.now();
        self.beats.count.fetch_add(1, Ordering::Release);
    }

    /// Tells what fails, until `is_well`; the loop goes on all the same.
    pub fn failed(&self, error: &dyn std::fmt::Display) {
        self.beats.lock().error = Some(shown(&error.to_string()));
    }

    pub fn is_well(&self) {
        self.beats.lock().error = None;
    }

    /// Whether this incarnation is to end: the program stops, or another has taken its place.
    pub fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    pub async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    /// Waits; false when the incarnation is to end.
    pub async fn sleep(&self, pause: Duration, what: &'static str) -> bool {
        self.waits(pause, what);
        tokio::select! {
            biased;
            () = self.stop.cancelled() => false,
            () = tokio::time::sleep(pause) => {
                self.works(what);
                true
            }
        }
    }

    /// Runs a loop's body such that `came_round` below it is the loop's.
    pub async fn carry<T>(self, body: impl Future<Output = T>) -> T {
        OWN.scope(self, body).await
    }
}

/// Work that a loop may be in, and that takes long, has got somewhere.
pub(super) fn came_round() {
    let _ = OWN.try_with(Pulse::goes_on);
}

/// What the watchdog last saw.
#[derive(Default)]
pub(super) struct Loops {
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    loops: Vec<LoopHealth>,
    /// When the watchdog last looked; `None` before it began.
    looked: Option<Instant>,
    /// Why the program ought to be restarted and is not.
    stuck: Option<String>,
}

impl Loops {
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn all(&self) -> Vec<LoopHealth> {
        self.lock().loops.clone()
    }

    pub(super) fn stuck(&self) -> Option<String> {
        self.lock().stuck.clone()
    }

    /// How long nobody has looked, once somebody does.
    pub(super) fn unwatched_for(&self) -> Option<Duration> {
        self.lock().looked.map(|looked| looked.elapsed())
    }
}

impl App {
    /// Takes down what the watchdog saw.
    pub fn note_loops(&self, loops: Vec<LoopHealth>) {
        let mut seen = self.loops.lock();
        (seen.loops, seen.looked) = (loops, Some(Instant::now()));
    }

    /// Why the program ought to be restarted and is not yet; `None` when it need not be.
    pub fn note_stuck(&self, why: Option<String>) {
        let mut seen = self.loops.lock();
        if let (None, Some(why)) = (&seen.stuck, &why) {
            tracing::error!(component = "watchdog", "{why}");
        }
        seen.stuck = why;
    }
}
