//! Which copies are kept, and when the next is due.

use crate::core::model::Millis;

const DAY_MS: Millis = 24 * 3600 * 1000;

/// Days of which the last copy is kept, and how long a backup is.
pub const KEPT_DAYS: Millis = 7;

/// The copies that may go, of all there are (newest first, each with when it was made): neither among the
/// `newest`, nor the last of one of the past seven days.
pub fn superfluous<T: Clone>(all: &[(T, Millis)], newest: usize, now: Millis) -> Vec<T> {
    let mut days = Vec::new();
    let mut gone = Vec::new();
    for (place, (copy, at)) in all.iter().enumerate() {
        let day = at.div_euclid(DAY_MS);
        let is_last_of_its_day = !days.contains(&day);
        days.push(day);
        let is_recent = now - at < KEPT_DAYS * DAY_MS;
        if place >= newest.max(1) && !(is_last_of_its_day && is_recent) {
            gone.push(copy.clone());
        }
    }
    gone
}

/// The backups that may go, newest first: older than seven days, and never the newest.
pub fn expired<T: Clone>(all: &[(T, Millis)], now: Millis) -> Vec<T> {
    let old = |(_, at): &&(T, Millis)| now - at > KEPT_DAYS * DAY_MS;
    all.iter().skip(1).filter(old).map(|(copy, _)| copy.clone()).collect()
}

/// Whether something that is to be done every `interval` is due. A last time that lies ahead was told by
/// another clock.
pub fn is_due(last: Option<Millis>, interval: Millis, now: Millis) -> bool {
    last.is_none_or(|last| now - last >= interval || last > now)
}

/// An hour of the day, in minutes since midnight UTC, as `02:30`.
pub fn parse_hour(text: &str) -> Option<u32> {
    let (hour, minute) = text.split_once(':')?;
    let number = |text: &str, below: u32| -> Option<u32> {
        let is_plain = (1..=2).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        text.parse().ok().filter(|number| is_plain && *number < below)
    };
    Some(number(hour, 24)? * 60 + number(minute, 60)?)
}

/// The hour as `02:30`.
pub fn hour_text(minutes: u32) -> String {
    format!("{:02}:{:02}", minutes / 60, minutes % 60)
}

/// The day, counted from 1970, whose daily backup is due: its hour has come and it has none yet. `last` is the
/// day that had one last; a clock that was set back makes none twice, and one missed by a stop is made up for.
pub fn daily_due(minutes: u32, last: Option<i64>, now: Millis) -> Option<i64> {
    let begun = now - Millis::from(minutes) * 60_000;
    let day = begun.div_euclid(DAY_MS);
    last.is_none_or(|last| day > last).then_some(day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(ages_hours: &[Millis], newest: usize, gone: &[Millis]) {
        let now = 1000 * DAY_MS + DAY_MS / 2;
        let all: Vec<_> = ages_hours.iter().map(|age| (*age, now - age * 3_600_000)).collect();
        assert_eq!(superfluous(&all, newest, now), gone, "{ages_hours:?}");
    }

    #[test]
    fn the_newest_and_the_last_of_each_day_are_kept() {
        check(&[], 5, &[]);
        check(&[0, 1, 2], 5, &[]);
        check(&[0, 1, 2, 3], 2, &[2, 3]);
        // Noon: 13 hours ago is yesterday's last, 14 hours ago is not.
        check(&[0, 1, 2, 13, 14, 37, 40], 2, &[2, 14, 40]);
        check(&[0, 1, 24 * 6, 24 * 7 - 1, 24 * 7, 24 * 30], 1, &[1, 24 * 7, 24 * 30]);
        check(&[24 * 40, 24 * 50], 0, &[24 * 50]);
    }

    #[test]
    fn old_backups_go_but_the_newest() {
        let now = 1000 * DAY_MS;
        let all = [("a", now - 8 * DAY_MS), ("b", now - 9 * DAY_MS), ("c", now - 7 * DAY_MS)];
        assert_eq!(expired(&all, now), ["b"]);
        assert_eq!(expired(&all[..1], now), [""; 0]);
    }

    #[test]
    fn what_is_due_is_due_once() {
        assert!(is_due(None, 10, 0) && is_due(Some(0), 10, 10) && !is_due(Some(0), 10, 9));
        assert!(is_due(Some(50), 10, 20), "the clock was set back");
        let (two, day) = (120, DAY_MS);
        assert_eq!(daily_due(two, None, 10 * day + 7_200_000), Some(10));
        assert_eq!(daily_due(two, Some(10), 10 * day + 8_000_000), None);
        assert_eq!(daily_due(two, Some(10), 11 * day + 7_199_999), None);
        assert_eq!(daily_due(two, Some(10), 13 * day + 7_200_000), Some(13));
        assert_eq!(daily_due(two, Some(10), 9 * day + 7_200_000), None, "the clock was set back");
    }

    #[test]
    fn hours_are_read_strictly() {
        assert_eq!(parse_hour("02:30").map(hour_text).as_deref(), Some("02:30"));
        assert_eq!(parse_hour("0:05"), Some(5));
        for bad in ["", "24:00", "2", "02:60", "+2:00", "02:3x", "002:00"] {
            assert_eq!(parse_hour(bad), None, "{bad}");
        }
    }
}
