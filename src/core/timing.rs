//! When a schedule fires: slots of an interval or a cron expression, and the queue of due times.
//! Everything is a function of its arguments; no clock is read here.

mod backoff;
mod catch_up;
mod cron;
mod lateness;
mod moment;
mod queue;
mod rhythm;

pub use backoff::{MOST_ASKED_MS, retry_after_ms};
pub use catch_up::{DueSlot, ON_TIME_MS, Turn, turn};
pub use lateness::{grace_ms, overdue_ms};
pub use moment::{iso, parse_time, seconds};
pub use queue::DueQueue;
pub use rhythm::{BadRhythm, Rhythm, RhythmCache, jitter_ms};
