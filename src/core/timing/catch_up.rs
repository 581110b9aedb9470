//! What a due slot asks for: usually itself, and after downtime what the catch-up rule says.

use super::Rhythm;
use crate::core::model::Millis;
use crate::core::policy::{CatchUp, RunPolicy};

/// A slot that starts within this time of its moment is on time; a later one was missed and is made
/// up for, or not.
pub const ON_TIME_MS: Millis = 60_000;

/// Missed slots of a cron expression are counted one by one up to here, and estimated beyond: a
/// restart after a long downtime has more to do than to count minutes.
const COUNTED: u32 = 32;

/// What is to be done about a schedule whose stored due time has passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The slots to run, the oldest first.
    pub slots: Vec<DueSlot>,
    /// Slots that pass without a run.
    pub missed: u32,
    /// The slot to wait for next.
    pub next: Option<Millis>,
}

/// A slot to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DueSlot {
    pub nominal: Millis,
    /// It was missed and is made up for.
    pub is_late: bool,
}

/// The turn to take at `now` for a schedule whose stored due time `due` has passed. Slots beyond the
/// start deadline are missed whatever the rule says.
pub fn turn(rhythm: &Rhythm, policy: &RunPolicy, due: Millis, now: Millis) -> Turn {
    let next = rhythm.next_after(now);
    let latest = rhythm.latest(now).filter(|slot| *slot > due).unwrap_or(due);
    let slot = |nominal: Millis| DueSlot { nominal, is_late: now - nominal > ON_TIME_MS };
    let wanted = |nominal: &Millis| {
        let age = now - nominal;
        let within = |limit: Option<u32>| limit.is_none_or(|sec| age <= Millis::from(sec) * 1000);
        let made_up_for = age <= ON_TIME_MS || within(policy.catch_up_window_sec);
        made_up_for && within(policy.start_deadline_sec)
    };
    let slots: Vec<DueSlot> = match policy.catch_up {
        CatchUp::None => {
            Some(latest).filter(|at| now - at <= ON_TIME_MS).filter(wanted).map(slot).into_iter().collect()
        }
        CatchUp::Latest => Some(latest).filter(wanted).map(slot).into_iter().collect(),
        CatchUp::All => {
            let backwards = std::iter::successors(Some(latest), |at| rhythm.latest(at - 1));
            let most = usize::try_from(policy.catch_up_max).unwrap_or(usize::MAX);
            let mut slots: Vec<_> = backwards.take_while(|at| *at >= due && wanted(at)).take(most).map(slot).collect();
            slots.reverse();
            slots
        }
    };
    let taken = u32::try_from(slots.len()).unwrap_or(u32::MAX);
    Turn { missed: count(rhythm, due, latest).saturating_sub(taken), slots, next }
}

/// How many slots lie from `due` to `latest`, both counted.
fn count(rhythm: &Rhythm, due: Millis, latest: Millis) -> u32 {
    let mut at = due;
    for counted in 1..=COUNTED {
        if at >= latest {
            return counted;
        }
        let Some(next) = rhythm.next_after(at) else { return counted };
        at = next;
    }
    let spacing = ((at - due) / Millis::from(COUNTED)).max(1);
    COUNTED.saturating_add(u32::try_from((latest - at) / spacing + 1).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Millis = 60_000;

    fn minutes() -> Rhythm {
        Rhythm::cron("* * * * *", "UTC").unwrap()
    }

    /// Every minute, due at minute 1: the slots run, in minutes, those missed, and the next.
    fn check(policy: &RunPolicy, now: Millis, slots: &[Millis], missed: u32) {
        let found = turn(&minutes(), policy, MINUTE, now);
        let nominal: Vec<_> = found.slots.iter().map(|slot| slot.nominal / MINUTE).collect();
        assert_eq!((nominal.as_slice(), found.missed), (slots, missed), "{policy:?} at {now}");
        assert_eq!(found.next, Some((now / MINUTE + 1) * MINUTE));
    }

    #[test]
    fn the_rules() {
        let usual = RunPolicy::default();
        let rule = |catch_up| RunPolicy { catch_up, ..RunPolicy::default() };
        check(&usual, MINUTE + 10, &[1], 0);
        check(&usual, 10 * MINUTE + 10, &[10], 9);
        check(&rule(CatchUp::None), MINUTE + 10, &[1], 0);
        check(&rule(CatchUp::None), 10 * MINUTE + 10, &[10], 9);
        check(&rule(CatchUp::All), 5 * MINUTE + 10, &[1, 2, 3, 4, 5], 0);
        check(&RunPolicy { catch_up_max: 2, ..rule(CatchUp::All) }, 5 * MINUTE, &[4, 5], 3);
        check(&RunPolicy { catch_up_window_sec: Some(150), ..rule(CatchUp::All) }, 5 * MINUTE, &[3, 4, 5], 2);
        check(&RunPolicy { catch_up_window_sec: Some(1), ..rule(CatchUp::All) }, 5 * MINUTE, &[4, 5], 3);
        check(&RunPolicy { start_deadline_sec: Some(20), ..usual }, 5 * MINUTE + 30_000, &[], 5);
    }

    #[test]
    fn a_daily_slot_that_was_missed_by_hours() {
        let daily = Rhythm::cron("0 2 * * *", "UTC").unwrap();
        let (due, hour) = (2 * 60 * MINUTE, 60 * MINUTE);
        let at = |catch_up, window| {
            let policy = RunPolicy { catch_up, catch_up_window_sec: window, ..RunPolicy::default() };
            let found = turn(&daily, &policy, due, due + 3 * hour);
            (found.slots.iter().map(|slot| slot.is_late).collect::<Vec<_>>(), found.missed)
        };
        assert_eq!(at(CatchUp::None, None), (vec![], 1));
        assert_eq!(at(CatchUp::Latest, None), (vec![true], 0));
        assert_eq!(at(CatchUp::Latest, Some(7_200)), (vec![], 1));
        assert_eq!(at(CatchUp::All, Some(14_400)), (vec![true], 0));
    }

    #[test]
    fn a_long_downtime_is_estimated() {
        let found = turn(&minutes(), &RunPolicy::default(), MINUTE, 10_000 * MINUTE);
        assert_eq!(found.missed, 9_999);
    }

    proptest! {
        #[test]
        fn no_slot_is_invented_and_none_forgotten(
            rule in proptest::sample::select(&CatchUp::ALL[..]),
            down in 0i64..2_000_000,
            window in proptest::option::of(1u32..2_000),
            catch_up_max in 1u32..40,
        ) {
            let policy = RunPolicy { catch_up: rule, catch_up_window_sec: window, catch_up_max, ..RunPolicy::default() };
            let now = MINUTE + down;
            let found = turn(&minutes(), &policy, MINUTE, now);
            let all: Vec<Millis> = (1..=now / MINUTE).map(|n| n * MINUTE).collect();
            let nominal: Vec<Millis> = found.slots.iter().map(|slot| slot.nominal).collect();
            prop_assert!(nominal.is_sorted() && nominal.iter().all(|at| all.contains(at)));
            prop_assert_eq!(nominal.len() + found.missed as usize, all.len());
            prop_assert!(nominal.len() <= catch_up_max as usize);
            prop_assert!(found.next.unwrap() > now);
        }
    }
}
