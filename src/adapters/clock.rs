//! The one place that reads the wall clock; everything else is handed a `Clock` or a `now`.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crate::core::model::Millis;

/// Tells the time: the system's, or in tests one that is moved by hand.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    #[default]
    System,
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// A clock that stands at `now` until it is moved.
    pub fn manual(now: Millis) -> Self {
        Clock::Manual(Arc::new(AtomicI64::new(now)))
    }

    pub fn now(&self) -> Millis {
        match self {
            #[expect(clippy::disallowed_methods, reason = "the one reading of the wall clock")]
            Clock::System => chrono::Utc::now().timestamp_millis(),
            Clock::Manual(now) => now.load(Ordering::SeqCst),
        }
    }

    /// The same instant in microseconds, for lateness and waiting.
    pub fn now_micros(&self) -> i64 {
        match self {
            #[expect(clippy::disallowed_methods, reason = "the other reading of the wall clock")]
            Clock::System => chrono::Utc::now().timestamp_micros(),
            Clock::Manual(now) => now.load(Ordering::SeqCst) * 1000,
        }
    }

    /// How long it is until `at`; zero when that has passed.
    pub fn until(&self, at: Millis) -> Duration {
        let left = at.saturating_mul(1000).saturating_sub(self.now_micros());
        Duration::from_micros(u64::try_from(left).unwrap_or(0))
    }

    /// How long to sleep at most on the way to `at`: never more than a second, so that a step of the
    /// clock is noticed, and zero when the time has come.
    pub fn nap_until(&self, at: Millis) -> Duration {
        let longest = match self {
            Clock::System => Duration::from_secs(1),
            // Moved by hand, at any moment.
            Clock::Manual(_) => Duration::from_millis(5),
        };
        self.until(at).min(longest)
    }

    /// Moves a manual clock by `delta`; the system's is not ours to move.
    pub fn advance(&self, delta: Millis) {
        if let Clock::Manual(now) = self {
            now.fetch_add(delta, Ordering::SeqCst);
        }
    }
}
