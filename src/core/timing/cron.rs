//! The slots of a cron expression in a time zone, across changes of its clock. The expression is
//! matched on the wall clock alone; which instants a wall clock's time stands for is decided here.

use chrono::{DateTime, MappedLocalTime, NaiveDateTime, Offset as _, TimeZone, Utc};
use chrono_tz::{GapInfo, Tz};
use croner::Cron;

use super::rhythm::BadRhythm;
use crate::core::model::Millis;

/// A cron expression read in a time zone.
///
/// - A time that the clock skips fires once, at the first instant after the gap; several such times
///   fire there together, once. An expression of every hour owes nothing: its next time is near.
/// - A time that comes twice fires the first time; where minutes or hours are stepped or `*`, the
///   expression goes on through both.
#[derive(Clone, Debug)]
pub struct CronTimes {
    cron: Cron,
    zone: Tz,
    /// Goes through both halves of a repeated hour.
    repeats: bool,
    /// Runs in every hour of the day.
    hourly: bool,
}

impl CronTimes {
    pub fn new(expression: &str, zone: &str) -> Result<CronTimes, BadRhythm> {
        let cron = expression
            .parse::<Cron>()
            .map_err(|e| BadRhythm::Cron { expression: expression.to_owned(), reason: e.to_string() })?;
        let zone = zone.parse::<Tz>().map_err(|_| BadRhythm::Zone(zone.to_owned()))?;
        let repeats = expression.split_ascii_whitespace().take(2).any(|field| field.contains(['*', '/']));
        let hourly = (0..24).all(|hour| cron.pattern.hour_match(hour).unwrap_or(false));
        Ok(CronTimes { cron, zone, repeats, hourly })
    }

    /// The first slot strictly after `after`.
    pub fn next_after(&self, after: Millis) -> Option<Millis> {
        let local = self.local(after)?;
        let first = self.first_from(self.later_match(local, false), after);
        if self.repeats
            && let MappedLocalTime::Ambiguous(_, second) = self.zone.from_local_datetime(&local)
            && after < second.timestamp_millis()
        {
            // In the first half: what the wall clock says next may lie behind the second half.
            let turned = self.change_between(after, second.timestamp_millis());
            let again = self.first_from(self.later_match(self.local(turned)?, true), after);
            return first.into_iter().chain(again).min();
        }
        first
    }

    /// The last slot at or before `at`.
    pub fn latest(&self, at: Millis) -> Option<Millis> {
        let local = self.local(at)?;
        let last = self.last_from(self.earlier_match(local, true), at);
        if let MappedLocalTime::Ambiguous(first, second) = self.zone.from_local_datetime(&local)
            && at >= second.timestamp_millis()
        {
            // In the second half: the first one went on past what the wall clock says now.
            let turned = self.change_between(first.timestamp_millis(), at);
            let before = self.last_from(self.earlier_match(self.local(turned - 1)?, true), at);
            return last.into_iter().chain(before).max();
        }
        last
    }

    /// The earliest instant after `after` of the matches from `matched` on.
    fn first_from(&self, mut matched: Option<NaiveDateTime>, after: Millis) -> Option<Millis> {
        loop {
            let local = matched?;
            if let Some(at) = self.instants(local).into_iter().flatten().filter(|at| *at > after).min() {
                return Some(at);
            }
            matched = self.later_match(local, false);
        }
    }

    /// The latest instant up to `at` of the matches from `matched` back.
    fn last_from(&self, mut matched: Option<NaiveDateTime>, at: Millis) -> Option<Millis> {
        loop {
            let local = matched?;
            if let Some(slot) = self.instants(local).into_iter().flatten().filter(|slot| *slot <= at).max() {
                return Some(slot);
            }
            matched = self.earlier_match(local, false);
        }
    }

    /// When a matching time of the wall clock fires: the rule.
    fn instants(&self, local: NaiveDateTime) -> [Option<Millis>; 2] {
        match self.zone.from_local_datetime(&local) {
            MappedLocalTime::Single(at) => [Some(at.timestamp_millis()), None],
            MappedLocalTime::Ambiguous(first, second) => {
                [Some(first.timestamp_millis()), self.repeats.then(|| second.timestamp_millis())]
            }
            MappedLocalTime::None if self.hourly => [None, None],
            MappedLocalTime::None => {
                let end = GapInfo::new(&local, &self.zone).and_then(|gap| gap.end);
                [end.map(|end| end.timestamp_millis()), None]
            }
        }
    }

    fn later_match(&self, local: NaiveDateTime, inclusive: bool) -> Option<NaiveDateTime> {
        // Searched from a whole second on; a part of one must not bring a match that lies before it.
        let whole = local.and_utc().timestamp_subsec_nanos() == 0;
        self.cron.find_next_occurrence(&local, inclusive && whole).ok()
    }

    fn earlier_match(&self, local: NaiveDateTime, inclusive: bool) -> Option<NaiveDateTime> {
        self.cron.find_previous_occurrence(&local, inclusive).ok()
    }

    /// What the zone's wall clock says.
    fn local(&self, at: Millis) -> Option<NaiveDateTime> {
        Some(utc(at)?.with_timezone(&self.zone).naive_local())
    }

    /// The first instant after `from`, up to `to`, at which the clock is set otherwise than at `from`.
    fn change_between(&self, from: Millis, to: Millis) -> Millis {
        let offset = |at: Millis| utc(at).map(|utc| self.zone.offset_from_utc_datetime(&utc.naive_utc()).fix());
        let before = offset(from);
        let (mut same, mut other) = (from, to);
        while other - same > 1 {
            let middle = same + (other - same) / 2;
            if offset(middle) == before { same = middle } else { other = middle }
        }
        other
    }
}

fn utc(at: Millis) -> Option<DateTime<Utc>> {
    Utc.timestamp_millis_opt(at).single()
}

#[cfg(test)]
mod tests;
