//! A load by minutes: its sum, peaks and hours, and where another one jumps above it.

use crate::core::model::Millis;

use super::MINUTE;

/// Fires by minute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Load {
    /// The begin of the first minute.
    pub from: Millis,
    pub per_minute: Vec<u32>,
    /// Schedules that may fire at all.
    pub schedules: u64,
    /// Nothing was left out.
    pub complete: bool,
}

/// One hour of a load, or what there is of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hour {
    pub begin: Millis,
    pub fires: u64,
    pub peak_minute: Millis,
    pub peak: u32,
}

/// A minute that a change would make much busier than others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jump {
    pub minute: Millis,
    pub before: u32,
    pub after: u32,
}

impl Load {
    pub(super) fn empty(from: Millis, minutes: usize) -> Load {
        Load { from, per_minute: vec![0; minutes], schedules: 0, complete: true }
    }

    fn minutes(&self) -> impl Iterator<Item = (Millis, u32)> + '_ {
        (0..).map(|n| self.from + n * MINUTE).zip(self.per_minute.iter().copied())
    }

    pub fn total(&self) -> u64 {
        self.per_minute.iter().map(|fires| u64::from(*fires)).sum()
    }

    /// The minute in the middle when all are put in order.
    pub fn median(&self) -> u32 {
        let mut minutes = self.per_minute.clone();
        let middle = minutes.len() / 2;
        if minutes.is_empty() { 0 } else { *minutes.select_nth_unstable(middle).1 }
    }

    /// The busiest minutes, the busiest first; of equal ones the earlier.
    pub fn busiest(&self, count: usize) -> Vec<(Millis, u32)> {
        let mut minutes: Vec<(Millis, u32)> = self.minutes().filter(|(_, fires)| *fires > 0).collect();
        minutes.sort_by_key(|(minute, fires)| (std::cmp::Reverse(*fires), *minute));
        minutes.truncate(count);
        minutes
    }

    /// By hours of UTC; the first and the last may be cut.
    pub fn hours(&self) -> Vec<Hour> {
        const HOUR: Millis = 60 * MINUTE;
        let mut hours: Vec<Hour> = Vec::new();
        for (minute, fires) in self.minutes() {
            let begin = minute - minute.rem_euclid(HOUR);
            match hours.last_mut().filter(|hour| hour.begin == begin) {
                Some(hour) => {
                    hour.fires += u64::from(fires);
                    if fires > hour.peak {
                        (hour.peak_minute, hour.peak) = (minute, fires);
                    }
                }
                None => hours.push(Hour { begin, fires: u64::from(fires), peak_minute: minute, peak: fires }),
            }
        }
        hours
    }
}

/// How many more fires make a minute worth a warning.
pub const JUMP_FIRES: u32 = 100;
/// How many times the median minute's a busy minute has to have.
pub const JUMP_TIMES: u32 = 10;

/// Minutes that a change gives at least [`JUMP_FIRES`] more fires and `JUMP_TIMES` the fires of the
/// median minute: the highest first.
pub fn jumps(before: &Load, after: &Load) -> Vec<Jump> {
    let least = after.median().saturating_mul(JUMP_TIMES).max(JUMP_FIRES);
    let pairs = before.per_minute.iter().copied().chain(std::iter::repeat(0)).zip(after.minutes());
    let mut jumps: Vec<Jump> = pairs
        .map(|(before, (minute, after))| Jump { minute, before, after })
        .filter(|jump| jump.after >= least && jump.after >= jump.before.saturating_add(JUMP_FIRES))
        .collect();
    jumps.sort_by_key(|jump| (std::cmp::Reverse(jump.after), jump.minute));
    jumps
}
