//! Keys that are good each by itself and have no effect together: warnings, each at its place.

use super::Severity;
use super::check::Checker;
use super::finding::{Finding, Mark};
use crate::core::model::{ScheduleId, ScheduleSpec};
use crate::core::policy::CatchUp;
use crate::core::timing::Rhythm;

/// Where the keys stand that only mean something beside others. Of a default, nowhere.
#[derive(Default)]
pub(super) struct Places {
    catch_up_max: Option<Mark>,
    catch_up_window_sec: Option<Mark>,
    retry_backoff_sec: Option<Mark>,
    jitter_sec: Option<Mark>,
    pub end_at: Option<Mark>,
}

impl Places {
    pub fn note(&mut self, key: &str, at: Mark) {
        let place = match key {
            "catch_up_max" => &mut self.catch_up_max,
            "catch_up_window_sec" => &mut self.catch_up_window_sec,
            "retry_backoff_sec" => &mut self.retry_backoff_sec,
            "jitter_sec" => &mut self.jitter_sec,
            "end_at" => &mut self.end_at,
            _ => return,
        };
        *place = Some(at).filter(|at| *at != Mark::NONE);
    }
}

/// Looks at a schedule that is good so far.
pub(super) fn warn(id: &ScheduleId, spec: &ScheduleSpec, checker: &mut Checker) {
    let Checker { places, out, .. } = checker;
    if out.iter().any(|finding| finding.severity == Severity::Error) {
        return;
    }
    let mut warn = |place: Option<Mark>, code, key: &str, message: String, hint: &str| {
        let finding = |at| Finding::error(at, code, format!("/{key}"), message).hint(hint).warning();
        out.extend(place.map(finding));
    };
    let catch_up = spec.catch_up.unwrap_or_default();
    // What says no more than would be without it does no harm: such values are gone from the spec.
    if catch_up != CatchUp::All && spec.catch_up_max.is_some() {
        let message = format!("catch_up_max has no effect: catch_up is \"{}\"", catch_up.as_str());
        warn(places.catch_up_max, "unused-rule", "catch_up_max", message, "remove it, or set \"catch_up: all\"");
    }
    if catch_up == CatchUp::None {
        let message = "catch_up_window_sec has no effect: catch_up is \"none\"".to_owned();
        let hint = "remove it, or set \"catch_up: latest\" or \"catch_up: all\"";
        warn(places.catch_up_window_sec, "unused-rule", "catch_up_window_sec", message, hint);
    }
    if spec.retries.is_none() && spec.retry_backoff_sec.is_some() {
        let message = "retry_backoff_sec has no effect: a failed run is not tried again".to_owned();
        warn(places.retry_backoff_sec, "unused-rule", "retry_backoff_sec", message, "remove it, or add \"retries: 3\"");
    }
    if let (Some(jitter), Some(interval)) = (spec.jitter_sec, spec.interval_sec)
        && jitter >= interval
    {
        let message = format!("jitter_sec is {jitter}, not less than interval_sec, which is {interval}");
        let hint = "remove it: schedules of equal intervals are spread over the interval as it is";
        warn(places.jitter_sec, "wide-jitter", "jitter_sec", message, hint);
    }
    if let (Some(_), Some(_), Some(_)) = (&spec.start_at, &spec.end_at, places.end_at)
        && Rhythm::of(id, spec).is_ok_and(|rhythm| rhythm.next_after(0).is_none())
    {
        let message = "no slot lies between start_at and end_at: the schedule never runs".to_owned();
        warn(places.end_at, "no-slot", "end_at", message, "set them farther apart, or remove one of them");
    }
}
