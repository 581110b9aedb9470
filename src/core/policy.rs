//! How a schedule's runs behave around their due time: the rules that its file may set, with what
//! stands where it says nothing.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::model::{Millis, ScheduleSpec};

/// What becomes of a slot that comes while a run of the same schedule is not yet done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// The slot passes without a run.
    #[default]
    Skip,
    /// One run waits behind the one in flight; further slots pass.
    QueueOne,
    /// The run in flight is cancelled, and the new one starts when it has stopped.
    Cancel,
    /// Both run at once.
    Allow,
}

impl Overlap {
    pub const ALL: [Overlap; 4] = [Overlap::Skip, Overlap::QueueOne, Overlap::Cancel, Overlap::Allow];

    pub fn as_str(self) -> &'static str {
        match self {
            Overlap::Skip => "skip",
            Overlap::QueueOne => "queue_one",
            Overlap::Cancel => "cancel",
            Overlap::Allow => "allow",
        }
    }
}

/// What becomes of slots that passed while nothing could run: the program was down, the machine
/// slept, a maintenance window stood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CatchUp {
    /// They are gone.
    None,
    /// The latest runs once.
    #[default]
    Latest,
    /// Each runs, the oldest first.
    All,
}

impl CatchUp {
    pub const ALL: [CatchUp; 3] = [CatchUp::None, CatchUp::Latest, CatchUp::All];

    pub fn as_str(self) -> &'static str {
        match self {
            CatchUp::None => "none",
            CatchUp::Latest => "latest",
            CatchUp::All => "all",
        }
    }
}

/// Seconds before the first repetition of a failed run, where the file says nothing.
pub const RETRY_BACKOFF_SEC: u32 = 30;
/// Slots made up for at once under `catch_up: all`, where the file says nothing.
pub const CATCH_UP_MAX: u32 = 100;

/// A schedule's rules for its runs, with everything filled in that is the same for all.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RunPolicy {
    /// No slot lies before this.
    pub start_at: Option<Millis>,
    /// No slot lies after this.
    pub end_at: Option<Millis>,
    pub jitter_sec: u32,
    pub overlap: Overlap,
    pub catch_up: CatchUp,
    /// Slots older than this are not made up for; `None` is no limit.
    pub catch_up_window_sec: Option<u32>,
    pub catch_up_max: u32,
    /// How often a failed run is tried again.
    pub retries: u32,
    pub retry_backoff_sec: u32,
    /// `None` is the server's own limit.
    pub timeout_sec: Option<u32>,
    /// A run that could not start within this time of its slot does not start.
    pub start_deadline_sec: Option<u32>,
    /// Failures in a row after which the schedule is paused; `None` is never.
    pub auto_pause_after: Option<u32>,
}

impl Default for RunPolicy {
    fn default() -> Self {
        RunPolicy::of(&ScheduleSpec::default())
    }
}

impl RunPolicy {
    pub fn of(spec: &ScheduleSpec) -> Self {
        RunPolicy {
            start_at: moment(spec.start_at.as_deref()),
            end_at: moment(spec.end_at.as_deref()),
            jitter_sec: spec.jitter_sec.unwrap_or(0),
            overlap: spec.overlap.unwrap_or_default(),
            catch_up: spec.catch_up.unwrap_or_default(),
            catch_up_window_sec: spec.catch_up_window_sec,
            catch_up_max: spec.catch_up_max.unwrap_or(CATCH_UP_MAX),
            retries: spec.retries.unwrap_or(0),
            retry_backoff_sec: spec.retry_backoff_sec.unwrap_or(RETRY_BACKOFF_SEC),
            timeout_sec: spec.timeout_sec,
            start_deadline_sec: spec.start_deadline_sec,
            auto_pause_after: spec.auto_pause_after,
        }
    }

    /// Reads the rules out of the head of a row's JSON (see [`policy_text`]); a damaged one says nothing.
    pub fn parse(text: &str) -> Self {
        if text.is_empty() {
            return RunPolicy::default();
        }
        serde_json::from_str(&format!("{{{text}}}")).map(|spec| RunPolicy::of(&spec)).unwrap_or_default()
    }
}

/// The part of a row's JSON that holds its rules for runs, without reading the rest: they stand at
/// its head. Rows of the same rules have the same text, and most have none.
pub fn policy_text(rest: &str) -> &str {
    let Some(body) = rest.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else { return "" };
    let end = ["\"connection\":", "\"resources\":", "\"labels\":"].iter().filter_map(|key| body.find(key)).min();
    body.get(..end.unwrap_or(body.len())).unwrap_or("").trim_end_matches(',')
}

fn moment(text: Option<&str>) -> Option<Millis> {
    chrono::DateTime::parse_from_rfc3339(text?).ok().map(|at| at.timestamp_millis())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::core::row::RowSpec;

    fn check(spec: serde_json::Value, text: &str) {
        let spec: ScheduleSpec = serde_json::from_value(spec).unwrap();
        let rest = RowSpec::of(&spec).rest;
        assert_eq!(policy_text(&rest), text, "{rest}");
        assert_eq!(RunPolicy::parse(policy_text(&rest)), RunPolicy::of(&spec));
    }

    #[test]
    fn the_rules_are_found_at_the_head_of_a_row() {
        check(json!({ "interval_sec": 5 }), "");
        check(json!({ "interval_sec": 5, "resources": ["jobs"], "labels": {"retries": "x"} }), "");
        check(json!({ "retries": 3 }), "\"retries\":3");
        check(
            json!({ "jitter_sec": 9, "overlap": "queue_one", "catch_up": "all", "labels": {"a": "b"} }),
            "\"jitter_sec\":9,\"overlap\":\"queue_one\",\"catch_up\":\"all\"",
        );
        check(
            json!({ "start_at": "2026-12-01T08:00:00.000Z", "connection": {"base_url": "http://x"} }),
            "\"start_at\":\"2026-12-01T08:00:00.000Z\"",
        );
    }

    #[test]
    fn damaged_rules_are_the_usual_ones() {
        for text in ["", "{", "{\"retries\":}", "nonsense"] {
            assert_eq!(RunPolicy::parse(policy_text(text)), RunPolicy::default(), "{text}");
        }
    }
}
