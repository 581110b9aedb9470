//! The slots of an interval or a cron expression, and compiled expressions kept for the next time.

use std::collections::HashMap;
use std::sync::Arc;

use super::cron::CronTimes;
use crate::core::model::{Digest, Millis, ScheduleId, ScheduleSpec};
use crate::core::policy::RunPolicy;

/// Why a spec has no rhythm. A spec that `core::desired` accepted always has one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRhythm {
    #[error("neither interval_sec nor cron is set")]
    Missing,
    #[error("cron expression \"{expression}\": {reason}")]
    Cron { expression: String, reason: String },
    #[error("unknown time zone \"{0}\"")]
    Zone(String),
}

/// The times at which one schedule is due, as a function of time alone: a first start, a restart
/// and a lost store find the same slots.
#[derive(Clone, Debug)]
pub struct Rhythm {
    beat: Beat,
    /// Jitter: how much later than its beat every slot comes.
    shift_ms: Millis,
    /// No slot lies before the first or after the last of these moments.
    first: Millis,
    last: Millis,
}

#[derive(Clone, Debug)]
enum Beat {
    /// At `phase_ms + n * period_ms` since the epoch.
    Interval {
        period_ms: Millis,
        phase_ms: Millis,
    },
    Cron(Arc<CronTimes>),
}

impl Rhythm {
    pub fn of(id: &ScheduleId, spec: &ScheduleSpec) -> Result<Rhythm, BadRhythm> {
        let rhythm = match (spec.interval_sec, &spec.cron) {
            (Some(sec), _) => Rhythm::interval(id, sec),
            (None, Some(expression)) => Rhythm::cron(expression, spec.timezone.as_deref().unwrap_or("UTC"))?,
            (None, None) => return Err(BadRhythm::Missing),
        };
        Ok(rhythm.under(id, &RunPolicy::of(spec)))
    }

    /// By the jitter and within the bounds that a schedule's rules give.
    #[must_use]
    pub fn under(self, id: &ScheduleId, policy: &RunPolicy) -> Rhythm {
        let bounded = self.bounded(policy.start_at, policy.end_at);
        if policy.jitter_sec == 0 { bounded } else { bounded.jittered(id, policy.jitter_sec) }
    }

    /// An interval's slots lie on the epoch's grid, shifted by a hash of the schedule's name, so
    /// that a fleet of equal intervals does not fire at one instant.
    pub fn interval(id: &ScheduleId, interval_sec: u32) -> Rhythm {
        let period_ms = Millis::from(interval_sec.max(1)) * 1000;
        Rhythm::from(Beat::Interval { period_ms, phase_ms: hashed::<0>(id, period_ms) })
    }

    pub fn cron(expression: &str, zone: &str) -> Result<Rhythm, BadRhythm> {
        Ok(Rhythm::from(Beat::Cron(Arc::new(CronTimes::new(expression, zone)?))))
    }

    fn from(beat: Beat) -> Rhythm {
        Rhythm { beat, shift_ms: 0, first: Millis::MIN, last: Millis::MAX }
    }

    /// With every slot later by up to `jitter_sec`: always as much, by a hash of the schedule's name.
    #[must_use]
    pub fn jittered(self, id: &ScheduleId, jitter_sec: u32) -> Rhythm {
        Rhythm { shift_ms: jitter_ms(id, jitter_sec), ..self }
    }

    /// With no slot before `start` or after `end`.
    #[must_use]
    pub fn bounded(self, start: Option<Millis>, end: Option<Millis>) -> Rhythm {
        Rhythm { first: start.unwrap_or(Millis::MIN), last: end.unwrap_or(Millis::MAX), ..self }
    }

    /// The first slot strictly after `after`; `None` when there is none left.
    pub fn next_after(&self, after: Millis) -> Option<Millis> {
        let from = after.max(self.first.saturating_sub(1)).saturating_sub(self.shift_ms);
        let slot = match &self.beat {
            Beat::Interval { period_ms, phase_ms } => {
                let since_slot = from.saturating_sub(*phase_ms).rem_euclid(*period_ms);
                (from - since_slot).saturating_add(*period_ms)
            }
            Beat::Cron(times) => times.next_after(from)?,
        };
        Some(slot.saturating_add(self.shift_ms)).filter(|slot| *slot <= self.last)
    }

    /// The last slot at or before `at`.
    pub fn latest(&self, at: Millis) -> Option<Millis> {
        let until = at.min(self.last).saturating_sub(self.shift_ms);
        let slot = match &self.beat {
            Beat::Interval { period_ms, phase_ms } => until - until.saturating_sub(*phase_ms).rem_euclid(*period_ms),
            Beat::Cron(times) => times.latest(until)?,
        };
        Some(slot + self.shift_ms).filter(|slot| *slot >= self.first)
    }

    /// Whether a stored due time is one this rhythm could have set by `now`: a slot, and not
    /// beyond the next one. Anything else was put there by somebody else.
    pub fn accepts(&self, due: Millis, now: Millis) -> bool {
        let beyond = self.next_after(now).is_some_and(|next| due > next);
        !beyond && self.next_after(due - 1) == Some(due)
    }
}

/// How much later than its beat a schedule fires.
pub fn jitter_ms(id: &ScheduleId, jitter_sec: u32) -> Millis {
    hashed::<8>(id, Millis::from(jitter_sec) * 1000 + 1)
}

/// A number below `bound` from a schedule's name: from the eight bytes of its hash at `AT`, so that
/// what is drawn for one purpose says nothing of the other.
fn hashed<const AT: usize>(id: &ScheduleId, bound: Millis) -> Millis {
    let Digest(hash) = Digest::of(id.to_string().as_bytes());
    let mut part = [0; 8];
    part.copy_from_slice(&hash[AT..AT + 8]);
    let bound = u64::try_from(bound).unwrap_or(1).max(1);
    Millis::try_from(u64::from_be_bytes(part) % bound).unwrap_or(0)
}

/// Compiled rhythms of cron schedules, shared by their text. Compiling costs some ten
/// microseconds and a kilobyte, so a bounded number is kept.
#[derive(Default)]
pub struct RhythmCache {
    compiled: HashMap<(Box<str>, Box<str>), Rhythm>,
}

impl RhythmCache {
    const LIMIT: usize = 256;

    pub fn cron(&mut self, expression: &str, zone: &str) -> Result<&Rhythm, BadRhythm> {
        let key = (expression.into(), zone.into());
        if !self.compiled.contains_key(&key) && self.compiled.len() >= Self::LIMIT {
            self.compiled.clear();
        }
        match self.compiled.entry(key) {
            std::collections::hash_map::Entry::Occupied(hit) => Ok(hit.into_mut()),
            std::collections::hash_map::Entry::Vacant(miss) => Ok(miss.insert(Rhythm::cron(expression, zone)?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(name: &str) -> ScheduleId {
        format!("noop/{name}").parse().unwrap()
    }

    #[test]
    fn a_due_time_set_by_hand_is_not_accepted() {
        let rhythm = Rhythm::from(Beat::Interval { period_ms: 60_000, phase_ms: 7 });
        assert!(rhythm.accepts(120_007, 61_000));
        assert!(rhythm.accepts(60_007, 61_000), "overdue, about to be claimed");
        assert!(!rhythm.accepts(180_007, 61_000), "one slot too far");
        assert!(!rhythm.accepts(120_008, 61_000), "off the grid");
    }

    #[test]
    fn equal_intervals_spread_over_the_period() {
        let mut quarters = [0; 4];
        for n in 0..400 {
            let phase_ms = Rhythm::interval(&id(&format!("t{n}")), 60).next_after(-1).unwrap();
            quarters[usize::try_from(phase_ms / 15_000).unwrap()] += 1;
        }
        assert!(quarters.iter().all(|n| (60..140).contains(n)), "{quarters:?}");
    }

    #[test]
    fn jitter_stays_the_same_and_within_its_bound() {
        let daily = Rhythm::cron("0 6 * * *", "UTC").unwrap();
        let six = daily.next_after(0).unwrap();
        let mut quarters = [0; 4];
        for n in 0..400 {
            let name = id(&format!("t{n}"));
            let shifted = daily.clone().jittered(&name, 600);
            let slot = shifted.next_after(0).unwrap();
            assert_eq!(daily.clone().jittered(&name, 600).next_after(0), Some(slot));
            assert_eq!(shifted.next_after(slot), Some(slot + 86_400_000));
            assert!((0..=600_000).contains(&(slot - six)));
            quarters[usize::try_from((slot - six) / 150_001).unwrap()] += 1;
        }
        assert!(quarters.iter().all(|n| (60..140).contains(n)), "{quarters:?}");
        assert_eq!(daily.jittered(&id("a"), 0).next_after(0), Some(six));
    }

    #[test]
    fn nothing_fires_outside_its_bounds() {
        let rhythm = Rhythm::from(Beat::Interval { period_ms: 1000, phase_ms: 0 }).bounded(Some(5000), Some(7500));
        let slots: Vec<_> = std::iter::successors(rhythm.next_after(0), |slot| rhythm.next_after(*slot)).collect();
        assert_eq!(slots, [5000, 6000, 7000]);
        assert_eq!((rhythm.latest(4999), rhythm.latest(5000), rhythm.latest(9999)), (None, Some(5000), Some(7000)));
        assert!(rhythm.accepts(5000, 0) && !rhythm.accepts(8000, 7200) && !rhythm.accepts(4000, 3500));
        let none = rhythm.bounded(Some(5500), Some(5900));
        assert_eq!((none.next_after(0), none.latest(9999)), (None, None));
    }

    proptest! {
        #[test]
        fn any_rhythm_goes_forth_and_back_alike(
            sec in prop_oneof![Just(None), (1u32..100_000).prop_map(Some)], jitter in 0u32..90_000, name in "[a-z]{1,8}",
            after in 1_500_000_000_000i64..2_000_000_000_000, start in 0i64..20_000_000_000, length in 0i64..20_000_000_000,
        ) {
            let name = id(&name);
            let beat = match sec {
                Some(sec) => Rhythm::interval(&name, sec),
                None => Rhythm::cron("*/7 1-9/2 * * *", "Europe/Berlin").unwrap(),
            };
            let (first, last) = (after - 10_000_000_000 + start, after - 10_000_000_000 + start + length);
            let rhythm = beat.jittered(&name, jitter).bounded(Some(first), Some(last));
            let Some(next) = rhythm.next_after(after) else { return Ok(()) };
            prop_assert!(next > after && (first..=last).contains(&next));
            prop_assert_eq!(rhythm.latest(next), Some(next));
            prop_assert_eq!(rhythm.next_after(next - 1), Some(next));
            prop_assert!(rhythm.latest(next - 1).is_none_or(|slot| slot <= after && slot >= first));
            prop_assert!(rhythm.accepts(next, after));
        }

        #[test]
        fn the_next_slot_is_the_nearest_later_one(after in -1_000_000_000_000i64..4_000_000_000_000, sec in 1u32..100_000, name in "[a-z]{1,8}") {
            let rhythm = Rhythm::interval(&id(&name), sec);
            let next = rhythm.next_after(after).unwrap();
            prop_assert!(next > after && next - after <= Millis::from(sec) * 1000);
            prop_assert_eq!(rhythm.latest(next), Some(next));
            prop_assert_eq!(rhythm.next_after(next - 1), Some(next));
            prop_assert!(rhythm.accepts(next, after));
        }
    }
}
