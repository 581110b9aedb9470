//! A bucket of starts: so many a second, one and a tenth of a second's worth at once.

use crate::core::model::Millis;

/// How many runs may start within a second; a fraction too.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StartsPerSec(pub f64);

impl StartsPerSec {
    /// Beyond this a limit limits nothing, below this nothing ever starts.
    pub const MOST: f64 = 100_000.0;
    pub const LEAST: f64 = 0.001;

    #[expect(clippy::cast_possible_truncation, reason = "from 10 to a billion microseconds")]
    fn step_us(self) -> i64 {
        (1e6 / self.0.clamp(Self::LEAST, Self::MOST)).ceil() as i64
    }
}

/// What may burst: timers are not exact, and what they sleep past is not to be lost.
const BURST_US: i64 = 100_000;

/// The bucket's level, kept as the moment at which it will be full again: each start moves that on by
/// a step, and while it lies a burst ahead none is let through.
#[derive(Clone, Debug)]
pub struct Pace {
    step_us: i64,
    full_us: i64,
    shut: bool,
}

impl Pace {
    pub fn new(rate: StartsPerSec) -> Self {
        Pace { step_us: rate.step_us(), full_us: i64::MIN / 2, shut: false }
    }

    /// Whether a run may start. A clock that was set back does not stop the starts for as long.
    pub(super) fn is_open(&mut self, now: Millis) -> bool {
        let now_us = now.saturating_mul(1000);
        self.full_us = self.full_us.min(now_us.saturating_add(BURST_US + self.step_us));
        self.shut = self.full_us > now_us.saturating_add(BURST_US);
        !self.shut
    }

    /// Whether it let nothing through when it was last asked.
    pub(super) fn was_shut(&self) -> bool {
        self.shut
    }

    pub(super) fn take(&mut self, now: Millis) {
        self.full_us = self.full_us.max(now.saturating_mul(1000)).saturating_add(self.step_us);
    }

    /// The first millisecond at which a run may start.
    pub(super) fn opens_at(&self) -> Millis {
        (self.full_us - BURST_US).saturating_add(999).div_euclid(1000)
    }
}
