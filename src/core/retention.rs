//! How long the history of runs is kept: by count and by age, whichever comes first.

use super::model::{Millis, ScheduleSpec};
use super::policy::policy_text;
use super::run::Trigger;

const DAY_MS: Millis = 24 * 3600 * 1000;

/// How much of a schedule's history is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Runs of each schedule; 0 is no limit.
    pub runs: u32,
    /// Days since a run ended; 0 is no limit.
    pub days: u32,
}

impl Default for Keep {
    fn default() -> Self {
        Keep { runs: 100, days: 30 }
    }
}

impl Keep {
    /// With what a schedule's row says of its own; `rest` is the row's JSON.
    pub fn under(self, rest: &str) -> Keep {
        let text = policy_text(rest);
        if !text.contains("\"keep_runs") {
            return self;
        }
        let spec: ScheduleSpec = serde_json::from_str(&format!("{{{text}}}")).unwrap_or_default();
        Keep { runs: spec.keep_runs.unwrap_or(self.runs), days: spec.keep_runs_days.unwrap_or(self.days) }
    }

    /// Runs that ended before this are too old.
    pub fn oldest(self, now: Millis) -> Option<Millis> {
        (self.days > 0).then(|| now - Millis::from(self.days) * DAY_MS)
    }
}

/// How much of a schedule's revisions is kept: so many in any case, and all that are younger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepRevisions {
    pub at_least: u32,
    pub days: u32,
}

impl KeepRevisions {
    /// Revisions made before this may go.
    pub fn oldest(self, now: Millis) -> Millis {
        now - Millis::from(self.days) * DAY_MS
    }
}

/// A run, as far as its staying depends on it.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    pub nominal: Millis,
    pub trigger: Trigger,
    pub ended: Option<Millis>,
}

/// What limits a schedule's history at some moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bounds {
    /// The slot of the newest run that is beyond the count.
    pub beyond: Option<Millis>,
    /// When the oldest run that is kept by age may have ended.
    pub oldest: Option<Millis>,
    /// The slot of the newest run, which stays while there is its schedule.
    pub newest: Option<Millis>,
}

/// What becomes of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Goes,
    Stays,
    /// So do all of later slots.
    StaysWithLater,
}

impl Bounds {
    /// Runs are asked about in order of their slots. One that is not done stays; one that somebody asked
    /// for of the past stays as long as its age allows: its slot says nothing of how new it is.
    pub fn fate(&self, run: Candidate) -> Fate {
        let is_beyond = self.beyond.is_some_and(|beyond| run.nominal <= beyond);
        let Some(ended) = run.ended else { return Fate::Stays };
        if Some(run.nominal) == self.newest {
            return Fate::StaysWithLater;
        }
        let is_old = self.oldest.is_some_and(|oldest| ended < oldest);
        if is_old || (is_beyond && run.trigger != Trigger::Backfill) {
            Fate::Goes
        } else if is_beyond || run.trigger == Trigger::Backfill {
            Fate::Stays
        } else {
            Fate::StaysWithLater
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_may_say_how_much_it_keeps() {
        let check = |rest: &str, runs, days| assert_eq!(Keep::default().under(rest), Keep { runs, days }, "{rest}");
        check("{}", 100, 30);
        check("", 100, 30);
        check(r#"{"keep_runs":500}"#, 500, 30);
        check(r#"{"retries":2,"keep_runs_days":7,"labels":{"keep_runs":"9"}}"#, 100, 7);
        check(r#"{"labels":{"keep_runs":"9"}}"#, 100, 30);
        check(r#"{"keep_runs":damaged}"#, 100, 30);
    }

    #[test]
    fn no_days_are_no_limit() {
        assert_eq!(Keep { runs: 1, days: 0 }.oldest(5), None);
        assert_eq!(Keep { runs: 0, days: 1 }.oldest(DAY_MS + 5), Some(5));
    }

    #[test]
    fn the_fate_of_runs() {
        let bounds = Bounds { beyond: Some(10), oldest: Some(100), newest: Some(30) };
        let check = |nominal, trigger, ended, expect| {
            assert_eq!(bounds.fate(Candidate { nominal, trigger, ended }), expect, "{nominal} {trigger:?} {ended:?}");
        };
        check(10, Trigger::Schedule, Some(200), Fate::Goes);
        check(11, Trigger::Schedule, Some(200), Fate::StaysWithLater);
        check(11, Trigger::Schedule, Some(99), Fate::Goes);
        check(5, Trigger::Schedule, None, Fate::Stays);
        check(5, Trigger::Backfill, Some(200), Fate::Stays);
        check(5, Trigger::Backfill, Some(99), Fate::Goes);
        check(30, Trigger::Schedule, Some(1), Fate::StaysWithLater);
        let none = Bounds::default();
        assert_eq!(none.fate(Candidate { nominal: 1, trigger: Trigger::RunNow, ended: Some(1) }), Fate::StaysWithLater);
    }
}
