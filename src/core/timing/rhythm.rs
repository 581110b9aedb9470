//! The slots of an interval or a cron expression, and compiled expressions kept for the next time.

use std::collections::HashMap;

use chrono::{DateTime, TimeZone, Utc};
use chrono_tz::Tz;
use croner::Cron;

use crate::core::model::{Digest, Millis, ScheduleId, ScheduleSpec};

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
pub enum Rhythm {
    /// Slots lie at `phase_ms + n * period_ms` since the epoch.
    Interval {
        period_ms: Millis,
        phase_ms: Millis,
    },
    Cron(Box<CronRhythm>),
}

/// A cron expression read in a time zone. A time that a clock change skips fires at the next valid
/// instant; of one that comes twice a fixed time fires once and a step fires through both.
#[derive(Clone, Debug)]
pub struct CronRhythm {
    cron: Cron,
    zone: Tz,
}

impl Rhythm {
    pub fn of(id: &ScheduleId, spec: &ScheduleSpec) -> Result<Rhythm, BadRhythm> {
        match (spec.interval_sec, &spec.cron) {
            (Some(sec), _) => Ok(Rhythm::interval(id, sec)),
            (None, Some(expression)) => Rhythm::cron(expression, spec.timezone.as_deref().unwrap_or("UTC")),
            (None, None) => Err(BadRhythm::Missing),
        }
    }

    /// An interval's slots lie on the epoch's grid, shifted by a hash of the schedule's name, so
    /// that a fleet of equal intervals does not fire at one instant.
    pub fn interval(id: &ScheduleId, interval_sec: u32) -> Rhythm {
        let period_ms = Millis::from(interval_sec.max(1)) * 1000;
        Rhythm::Interval { period_ms, phase_ms: phase_ms(id, period_ms) }
    }

    pub fn cron(expression: &str, zone: &str) -> Result<Rhythm, BadRhythm> {
        let cron = expression
            .parse::<Cron>()
            .map_err(|e| BadRhythm::Cron { expression: expression.to_owned(), reason: e.to_string() })?;
        let zone = zone.parse::<Tz>().map_err(|_| BadRhythm::Zone(zone.to_owned()))?;
        Ok(Rhythm::Cron(Box::new(CronRhythm { cron, zone })))
    }

    /// The first slot strictly after `after`; `None` when a cron expression has none left.
    pub fn next_after(&self, after: Millis) -> Option<Millis> {
        match self {
            Rhythm::Interval { period_ms, phase_ms } => {
                let since_slot = (after - phase_ms).rem_euclid(*period_ms);
                Some(after - since_slot + period_ms)
            }
            Rhythm::Cron(rhythm) => {
                let at = rhythm.local(after)?;
                rhythm.cron.find_next_occurrence(&at, false).ok().map(|next| next.timestamp_millis())
            }
        }
    }

    /// The last slot at or before `at`.
    pub fn latest(&self, at: Millis) -> Option<Millis> {
        match self {
            Rhythm::Interval { period_ms, phase_ms } => Some(at - (at - phase_ms).rem_euclid(*period_ms)),
            Rhythm::Cron(rhythm) => {
                let local = rhythm.local(at)?;
                rhythm.cron.find_previous_occurrence(&local, true).ok().map(|slot| slot.timestamp_millis())
            }
        }
    }

    /// Whether a stored due time is one this rhythm could have set by `now`: a slot, and not
    /// beyond the next one. Anything else was put there by somebody else.
    pub fn accepts(&self, due: Millis, now: Millis) -> bool {
        let beyond = self.next_after(now).is_some_and(|next| due > next);
        !beyond && self.next_after(due - 1) == Some(due)
    }
}

impl CronRhythm {
    fn local(&self, at: Millis) -> Option<DateTime<Tz>> {
        Utc.timestamp_millis_opt(at).single().map(|utc| utc.with_timezone(&self.zone))
    }
}

fn phase_ms(id: &ScheduleId, period_ms: Millis) -> Millis {
    let Digest(hash) = Digest::of(id.to_string().as_bytes());
    let mut head = [0; 8];
    head.copy_from_slice(&hash[..8]);
    let period = u64::try_from(period_ms).unwrap_or(1).max(1);
    Millis::try_from(u64::from_be_bytes(head) % period).unwrap_or(0)
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
    use crate::core::timing::iso;
    use proptest::prelude::*;

    fn id(name: &str) -> ScheduleId {
        format!("noop/{name}").parse().unwrap()
    }

    fn at(text: &str) -> Millis {
        DateTime::parse_from_rfc3339(text).unwrap().timestamp_millis()
    }

    fn check_cron(expression: &str, zone: &str, from: &str, expect: &[&str]) {
        let rhythm = Rhythm::cron(expression, zone).unwrap();
        let mut now = at(from);
        for want in expect {
            now = rhythm.next_after(now).unwrap();
            assert_eq!(iso(now), iso(at(want)), "{expression} in {zone}");
        }
    }

    #[test]
    fn cron_across_clock_changes() {
        // Denver skips 02:00-03:00 on 2026-03-08 and repeats 01:00-02:00 on 2026-11-01.
        check_cron(
            "30 2 * * *",
            "America/Denver",
            "2026-03-07T12:00:00Z",
            &["2026-03-08T09:00:00Z", "2026-03-09T08:30:00Z"],
        );
        check_cron(
            "30 1 * * *",
            "America/Denver",
            "2026-10-31T12:00:00Z",
            &["2026-11-01T07:30:00Z", "2026-11-02T08:30:00Z"],
        );
        check_cron(
            "*/30 1 * * *",
            "America/Denver",
            "2026-11-01T06:59:00Z",
            &["2026-11-01T07:00:00Z", "2026-11-01T07:30:00Z", "2026-11-01T08:00:00Z", "2026-11-01T08:30:00Z"],
        );
    }

    #[test]
    fn a_due_time_set_by_hand_is_not_accepted() {
        let rhythm = Rhythm::Interval { period_ms: 60_000, phase_ms: 7 };
        assert!(rhythm.accepts(120_007, 61_000));
        assert!(rhythm.accepts(60_007, 61_000), "overdue, about to be claimed");
        assert!(!rhythm.accepts(180_007, 61_000), "one slot too far");
        assert!(!rhythm.accepts(120_008, 61_000), "off the grid");
    }

    #[test]
    fn equal_intervals_spread_over_the_period() {
        let mut quarters = [0; 4];
        for n in 0..400 {
            let Rhythm::Interval { phase_ms, .. } = Rhythm::interval(&id(&format!("t{n}")), 60) else { unreachable!() };
            quarters[usize::try_from(phase_ms / 15_000).unwrap()] += 1;
        }
        assert!(quarters.iter().all(|n| (60..140).contains(n)), "{quarters:?}");
    }

    proptest! {
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
