//! When a failed run is tried again.

use std::time::Duration;

use crate::core::model::Millis;
use crate::core::policy::RunPolicy;
use crate::core::run::ErrorClass;

/// The longest wait between two attempts of the program's own accord.
const MOST_MS: Millis = 3_600_000;
/// The longest wait that a source may ask for.
pub const MOST_ASKED_MS: Millis = 6 * 3_600_000;

/// How long to wait before the next attempt, after `attempts` of them; `None` when there is none to
/// be. The wait doubles with each attempt and is drawn apart by `seed`, so that many that failed
/// together do not come back together; a source that names a time is not asked earlier.
pub fn retry_after_ms(
    policy: &RunPolicy,
    attempts: u32,
    class: ErrorClass,
    asked: Option<Duration>,
    seed: u64,
) -> Option<Millis> {
    if !class.may_pass() || attempts > policy.retries {
        return None;
    }
    let doubled = 1_i64.checked_shl(attempts.saturating_sub(1).min(20)).unwrap_or(Millis::MAX);
    let wait = (Millis::from(policy.retry_backoff_sec) * 1000).saturating_mul(doubled).min(MOST_MS);
    // From four to six fifths of it.
    let spread = wait * 2 / 5;
    let drawn = wait - wait / 5 + Millis::try_from(mixed(seed) % 1_000).unwrap_or(0) * spread / 1_000;
    let asked = asked.map_or(0, |asked| Millis::try_from(asked.as_millis()).unwrap_or(MOST_ASKED_MS));
    Some(drawn.max(asked.min(MOST_ASKED_MS)))
}

/// Numbers that lie close become numbers that do not.
fn mixed(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy(retries: u32) -> RunPolicy {
        RunPolicy { retries, retry_backoff_sec: 10, ..RunPolicy::default() }
    }

    #[test]
    fn what_would_fail_again_is_not_tried_again() {
        for (class, again) in [
            (ErrorClass::Unauthorized, false),
            (ErrorClass::Configuration, false),
            (ErrorClass::Cancelled, false),
            (ErrorClass::Unavailable, true),
            (ErrorClass::Timeout, true),
            (ErrorClass::RateLimited, true),
        ] {
            assert_eq!(retry_after_ms(&policy(1), 1, class, None, 0).is_some(), again, "{class:?}");
        }
        assert_eq!(retry_after_ms(&policy(2), 3, ErrorClass::Unavailable, None, 0), None, "retries are used up");
    }

    #[test]
    fn a_source_that_names_a_time_is_not_asked_earlier() {
        let wait = |sec| retry_after_ms(&policy(1), 1, ErrorClass::RateLimited, Some(Duration::from_secs(sec)), 7);
        assert_eq!(wait(90), Some(90_000));
        assert!(wait(1).unwrap() >= 8_000);
        assert_eq!(wait(u64::MAX / 1000), Some(MOST_ASKED_MS));
    }

    proptest! {
        #[test]
        fn waits_double_within_their_bounds(attempts in 1u32..=20, seed: u64, sec in 1u32..=3600) {
            let policy = RunPolicy { retries: 20, retry_backoff_sec: sec, ..RunPolicy::default() };
            let wait = retry_after_ms(&policy, attempts, ErrorClass::Unavailable, None, seed).unwrap();
            let plain = (Millis::from(sec) * 1000 * (1 << (attempts - 1))).min(MOST_MS);
            prop_assert!(wait >= plain * 4 / 5 && wait <= plain * 6 / 5);
        }
    }
}
