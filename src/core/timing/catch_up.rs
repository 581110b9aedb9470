//! What a due slot asks for after downtime.

use super::Rhythm;
use crate::core::model::Millis;

/// What a due slot asks for under the catch-up rule `latest`: the slot to run now, the older ones
/// folded into it, and the slot to wait for next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    pub nominal: Millis,
    pub next: Option<Millis>,
}

/// The turn to take at `now` for a schedule whose stored due time has passed.
pub fn turn(rhythm: &Rhythm, due: Millis, now: Millis) -> Turn {
    let next = rhythm.next_after(now);
    let nominal = rhythm.latest(now).filter(|slot| *slot > due).unwrap_or(due);
    Turn { nominal, next }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn downtime_folds_into_the_latest_slot() {
        let rhythm = Rhythm::cron("* * * * *", "UTC").unwrap();
        assert_eq!(turn(&rhythm, 60_000, 60_010), Turn { nominal: 60_000, next: Some(120_000) });
        assert_eq!(turn(&rhythm, 60_000, 200_000), Turn { nominal: 180_000, next: Some(240_000) });
    }
}
