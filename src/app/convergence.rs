//! How long changes take from being saved to being effective: the last thousand.

use std::collections::VecDeque;

use super::views::Convergence;
use crate::core::model::Millis;

const KEPT: usize = 1000;

#[derive(Default)]
pub(super) struct Window {
    samples: VecDeque<Millis>,
    total: u64,
}

impl Window {
    pub fn push(&mut self, took_ms: Millis) {
        if self.samples.len() == KEPT {
            self.samples.pop_front();
        }
        self.samples.push_back(took_ms);
        self.total += 1;
    }

    pub fn report(&self) -> Convergence {
        let mut sorted: Vec<Millis> = self.samples.iter().copied().collect();
        sorted.sort_unstable();
        let at = |percent: usize| {
            let index = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
            #[expect(clippy::cast_precision_loss, reason = "milliseconds of one change")]
            sorted.get(index).map_or(0.0, |ms| *ms as f64)
        };
        Convergence { samples: self.total, p50_ms: at(50), p99_ms: at(99) }
    }
}
