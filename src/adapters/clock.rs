//! The one place that reads the wall clock; everything else is handed a `Clock` or a `now`.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

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

    /// Moves a manual clock by `delta`; the system's is not ours to move.
    pub fn advance(&self, delta: Millis) {
        if let Clock::Manual(now) = self {
            now.fetch_add(delta, Ordering::SeqCst);
        }
    }
}
