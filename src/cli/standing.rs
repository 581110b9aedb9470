//! How schedules stand, in a table: what goes on, when the next run comes, how the last one ended.

use std::collections::BTreeMap;

use super::{out, runs};
use crate::app::views::ScheduleStatus;

const HEAD: [&str; 7] = ["TENANT", "EVERY", "STATE", "NEXT", "MISSED", "LAST RUN", "RESULT"];

/// The column that is left out where nothing was missed.
const MISSED: usize = 4;

/// Characters of a reason that a table has room for; `schedule show` has all of it.
const SHOWN_REASON: usize = 40;

pub(super) fn table(schedules: &BTreeMap<String, ScheduleStatus>) {
    let (mut head, mut rows) = (HEAD.to_vec(), Vec::with_capacity(schedules.len()));
    rows.extend(schedules.iter().map(|(tenant, status)| row(tenant, status)));
    if schedules.values().all(|status| status.missed == 0) {
        head.remove(MISSED);
        rows.iter_mut().for_each(|row| drop(row.remove(MISSED)));
    }
    out::table(&head, rows);
}

fn row(tenant: &str, status: &ScheduleStatus) -> Vec<String> {
    let next = match status.next_run_in_sec {
        None => "-".to_owned(),
        Some(left) => format!("in {}", span(left)),
    };
    vec![
        tenant.to_owned(),
        cadence(status),
        state(&ScheduleStatus { pause_reason: status.pause_reason.as_deref().map(shortened), ..status.clone() }),
        what_goes_on(status).unwrap_or(next),
        status.missed.to_string(),
        status.last_run_iso.clone().unwrap_or_else(|| "-".to_owned()),
        result(status),
    ]
}

/// How the last run ended.
fn result(status: &ScheduleStatus) -> String {
    let Some(last) = &status.last_status else { return "-".to_owned() };
    if last.ok {
        let stats = last.result.stats;
        let short = runs::shortfall(last.short_import.as_ref());
        return format!(
            "ok: {} new, {} changed, {} same, {} failed{short}",
            stats.imported, stats.updated, stats.skipped, stats.failed
        );
    }
    match status.consecutive_failures {
        // It was stopped, or never started, which is no failure.
        0 => last.message.clone(),
        failures => format!("failed ({failures} in a row): {}", last.message),
    }
}

/// What goes on at the moment: a run, or what one waits for.
pub(super) fn what_goes_on(status: &ScheduleStatus) -> Option<String> {
    if status.running {
        return Some("running".to_owned());
    }
    if !status.queued {
        return None;
    }
    let until = status.waiting_until_iso.as_deref().and_then(|text| text.get(11..19)).unwrap_or("?");
    Some(match status.waiting_for.as_deref() {
        None => "about to start".to_owned(),
        Some("retry") => format!("tries again at {until}Z"),
        Some("source") => format!("source rests until {until}Z"),
        Some("window") => format!("window until {until}Z"),
        Some("brake") => "held by the brake".to_owned(),
        Some("run") => "queued".to_owned(),
        Some(limit) => format!("queued ({limit})"),
    })
}

pub(super) fn cadence(status: &ScheduleStatus) -> String {
    match (&status.cron, status.interval_sec) {
        (Some(cron), _) => format!("{cron} {}", status.timezone.as_deref().unwrap_or("UTC")),
        (None, Some(interval)) => parts(interval.into()).join(" "),
        (None, None) => "-".to_owned(),
    }
}

pub(super) fn state(status: &ScheduleStatus) -> String {
    let mut state = status.sync.clone();
    if let Some(reason) = &status.sync_reason {
        state.push_str(&format!(" ({reason})"));
    }
    if status.paused {
        state.push_str(", paused");
        if let Some(until) = &status.pause_until {
            state.push_str(&format!(" until {until}"));
        }
        if let Some(reason) = &status.pause_reason {
            state.push_str(&format!(": {reason}"));
        }
    }
    state
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN_REASON) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or(text).trim_end()),
        None => text.to_owned(),
    }
}

/// A length of time as a person says it: its two largest units.
fn span(sec: u64) -> String {
    let mut parts = parts(sec);
    parts.truncate(2);
    parts.join(" ")
}

/// A length of time in units, the largest first, without those that are zero.
fn parts(sec: u64) -> Vec<String> {
    let units = [(sec / 86_400, "d"), (sec / 3_600 % 24, "h"), (sec / 60 % 60, "m"), (sec % 60, "s")];
    let parts: Vec<String> =
        units.into_iter().filter(|(count, _)| *count > 0).map(|(count, unit)| format!("{count}{unit}")).collect();
    if parts.is_empty() { vec!["0s".to_owned()] } else { parts }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_short() {
        let check = |sec, expect: &str| assert_eq!(span(sec), expect);
        check(0, "0s");
        check(59, "59s");
        check(5_400, "1h 30m");
        check(31_622_400, "366d");
        check(20_769_995, "240d 9h");
        assert_eq!(parts(90_061).join(" "), "1d 1h 1m 1s", "a cadence is told whole");
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        assert_eq!(shortened("storm"), "storm");
        assert_eq!(shortened(&"ä".repeat(60)), format!("{}…", "ä".repeat(40)));
    }
}
