//! Moments as people read and write them.

use chrono::{DateTime, TimeZone, Utc};

use crate::core::model::Millis;

/// Epoch milliseconds as RFC 3339 in UTC with milliseconds, ending in `Z`.
pub fn iso(at: Millis) -> String {
    Utc.timestamp_millis_opt(at)
        .single()
        .map_or_else(|| format!("out of range: {at}"), |utc| utc.to_rfc3339_opts(chrono::SecondsFormat::Millis, true))
}

/// Epoch milliseconds as epoch seconds, the API's older unit.
#[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit a double's 53 bits until the year 287396")]
pub fn seconds(at: Millis) -> f64 {
    at as f64 / 1000.0
}

/// Reads a time that a caller wrote: RFC 3339, or epoch seconds.
pub fn parse_time(text: &str) -> Option<Millis> {
    if let Ok(seconds) = text.parse::<f64>() {
        #[expect(clippy::cast_possible_truncation, reason = "a saturated far future or past is as good a bound")]
        return seconds.is_finite().then_some((seconds * 1000.0) as Millis);
    }
    DateTime::parse_from_rfc3339(text).ok().map(|at| at.timestamp_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_both_forms() {
        assert_eq!(parse_time("1.5"), Some(1500));
        assert_eq!(parse_time("1970-01-01T00:00:02Z"), Some(2000));
        assert_eq!(parse_time("yesterday"), None);
    }
}
