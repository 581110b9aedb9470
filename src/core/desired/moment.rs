//! The rules of moments (`pause_until`, `start_at`, `end_at`): one, with its offset or in the schedule's time zone.

use chrono::offset::LocalResult;
use chrono::{DateTime, NaiveDateTime, TimeZone as _};
use chrono_tz::Tz;

use super::finding::{Finding, Mark, shown};
use crate::core::model::{MAX_MOMENT, Millis};
use crate::core::timing::iso;

/// A moment as it was written, to be understood once the time zone is known.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub text: String,
    pub at: Mark,
}

/// The moment in UTC, in the one form in which equal moments are equal texts.
pub(super) fn moment(key: &str, written: &Written, zone: Option<&str>, out: &mut Vec<Finding>) -> Option<String> {
    match read(written.text.trim(), zone) {
        Ok(at) => Some(iso(at)),
        Err(hint) => {
            let message = format!("{key} is no moment: \"{}\"", shown(&written.text));
            out.push(Finding::error(written.at, "bad-time", format!("/{key}"), message).hint(hint));
            None
        }
    }
}

const SHAPE: &str = "write it with its offset, e.g. 2026-12-01T08:00:00Z or 2026-12-01T08:00:00-07:00";

fn read(text: &str, zone: Option<&str>) -> Result<Millis, String> {
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return in_range(at.timestamp_millis());
    }
    // As RFC 3339, but for the seconds or with a blank: what people write.
    let with_offset = ["%Y-%m-%dT%H:%M%#z", "%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%d %H:%M%#z"];
    if let Some(at) = with_offset.into_iter().find_map(|form| DateTime::parse_from_str(text, form).ok()) {
        return in_range(at.timestamp_millis());
    }
    let local = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M"]
        .into_iter()
        .find_map(|form| NaiveDateTime::parse_from_str(text, form).ok())
        .ok_or_else(|| SHAPE.to_owned())?;
    let zone: Tz = zone
        .and_then(|name| name.parse().ok())
        .ok_or_else(|| format!("it has no offset and the schedule no timezone; write e.g. {text}Z for UTC"))?;
    match zone.from_local_datetime(&local) {
        LocalResult::Single(at) | LocalResult::Ambiguous(at, _) => in_range(at.timestamp_millis()),
        LocalResult::None => Err(format!("a clock change skips this time in {zone}; {SHAPE}")),
    }
}

fn in_range(at: Millis) -> Result<Millis, String> {
    if (0..=MAX_MOMENT).contains(&at) { Ok(at) } else { Err("it lies outside the years 1970 to 9999".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_with_an_offset_or_in_the_schedules_zone() {
        let check = |text: &str, zone: Option<&str>| read(text, zone).map(iso).unwrap_or_else(|hint| hint);
        assert_eq!(check("2026-12-01T08:00:00Z", None), "2026-12-01T08:00:00.000Z");
        assert_eq!(check("2026-12-01t08:00:00.5-07:00", Some("UTC")), "2026-12-01T15:00:00.500Z");
        assert_eq!(check("2026-12-01T08:00Z", None), "2026-12-01T08:00:00.000Z");
        assert_eq!(check("2026-12-01 08:00-07:00", None), "2026-12-01T15:00:00.000Z");
        assert_eq!(check("2026-12-01 08:00:30Z", Some("America/Denver")), "2026-12-01T08:00:30.000Z");
        assert_eq!(check("2026-12-01T08:00", Some("America/Denver")), "2026-12-01T15:00:00.000Z");
        assert_eq!(
            check("2027-11-07 01:30:00", Some("America/Denver")),
            "2027-11-07T07:30:00.000Z",
            "the first of two"
        );
        assert!(check("2027-03-14T02:30", Some("America/Denver")).contains("skips"));
        assert!(check("2026-12-01T08:00", None).contains("write e.g. 2026-12-01T08:00Z"));
        assert!(check("tomorrow", None).contains("offset"));
        assert!(check("1969-12-31T23:59:59Z", None).contains("1970"));
    }
}
