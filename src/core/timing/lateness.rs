//! When a run that has not started is overdue.

use crate::core::model::Millis;

const GRACE: Millis = 5_000;

/// How long after its slot a run may start before anybody needs to know: 5 seconds, or 2 % of the
/// interval where that is longer.
pub fn grace_ms(interval_sec: Option<u32>) -> Millis {
    GRACE.max(Millis::from(interval_sec.unwrap_or(0)) * 1000 / 50)
}

/// How long a slot is overdue at `now`; `None` within its grace.
pub fn overdue_ms(slot: Millis, interval_sec: Option<u32>, now: Millis) -> Option<Millis> {
    Some(now - slot).filter(|late| *late > grace_ms(interval_sec))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_intervals_have_a_longer_grace() {
        assert_eq!((overdue_ms(0, Some(60), 5_000), overdue_ms(0, Some(60), 5_001)), (None, Some(5_001)));
        assert_eq!((overdue_ms(0, None, 5_000), overdue_ms(0, None, 5_001)), (None, Some(5_001)));
        assert_eq!((overdue_ms(0, Some(3600), 72_000), overdue_ms(0, Some(3600), 72_001)), (None, Some(72_001)));
    }
}
