//! A run's nouns: why it began, where it stands, and what kind of failure ended it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::model::Millis;
use super::timing::iso;

/// Why a run began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Trigger {
    /// Its slot was due.
    Schedule,
    /// Somebody asked for it.
    RunNow,
    /// Its slot was missed and is made up for.
    CatchUp,
    /// Somebody asked for slots of the past.
    Backfill,
    /// The run before it was cut off.
    Retry,
    /// The source told of a change.
    Webhook,
}

impl Trigger {
    pub const ALL: [Trigger; 6] =
        [Trigger::Schedule, Trigger::RunNow, Trigger::CatchUp, Trigger::Backfill, Trigger::Retry, Trigger::Webhook];

    pub fn as_str(self) -> &'static str {
        match self {
            Trigger::Schedule => "schedule",
            Trigger::RunNow => "run-now",
            Trigger::CatchUp => "catch-up",
            Trigger::Backfill => "backfill",
            Trigger::Retry => "retry",
            Trigger::Webhook => "webhook",
        }
    }

    /// Whether its end is the schedule's last run: one that reads a few records says nothing of the whole.
    pub fn is_of_the_whole(self) -> bool {
        self != Trigger::Webhook
    }

    /// Whether a slot of the schedule heeds such a run by its rule for overlap. Slots of the past and
    /// what a source told of make no regular import late or missed.
    pub fn holds_slots_up(self) -> bool {
        !matches!(self, Trigger::Backfill | Trigger::Webhook)
    }

    pub fn named(text: &str) -> Option<Trigger> {
        Trigger::ALL.into_iter().find(|trigger| trigger.as_str() == text)
    }
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    /// Claimed; waits for the run before it.
    Queued,
    Running,
    /// An attempt failed; the next one comes by itself.
    Waiting,
    /// It ended by itself, well or not.
    Done,
    /// The server stopped while it ran.
    Interrupted,
    /// It was stopped, or made way, before it was done.
    Cancelled,
}

impl RunState {
    pub const ALL: [RunState; 6] = [
        RunState::Queued,
        RunState::Running,
        RunState::Waiting,
        RunState::Done,
        RunState::Interrupted,
        RunState::Cancelled,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            RunState::Queued => "queued",
            RunState::Running => "running",
            RunState::Waiting => "waiting",
            RunState::Done => "done",
            RunState::Interrupted => "interrupted",
            RunState::Cancelled => "cancelled",
        }
    }

    pub fn named(text: &str) -> Option<RunState> {
        RunState::ALL.into_iter().find(|state| state.as_str() == text)
    }

    /// A run that has ended counts as failed when it is not ok, unless somebody wanted its end.
    pub fn counts(self) -> bool {
        self != RunState::Cancelled
    }
}

/// Why an import failed, by what would help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// The key is missing, wrong or not allowed: trying again does not help.
    Unauthorized,
    /// The source asks to slow down.
    RateLimited,
    /// The source is down, slow or unreachable.
    Unavailable,
    /// The source answered something that is not what it documents.
    BadResponse,
    /// The schedule lacks something, or the source refuses what it asks for.
    Configuration,
    /// Our own store failed.
    Store,
    /// It took longer than it may.
    Timeout,
    /// It could not start in time.
    Deadline,
    /// Stopped by shutdown or by somebody.
    Cancelled,
    /// The server stopped without a chance to end it.
    Interrupted,
}

impl ErrorClass {
    pub const ALL: [ErrorClass; 10] = [
        ErrorClass::Unauthorized,
        ErrorClass::RateLimited,
        ErrorClass::Unavailable,
        ErrorClass::BadResponse,
        ErrorClass::Configuration,
        ErrorClass::Store,
        ErrorClass::Timeout,
        ErrorClass::Deadline,
        ErrorClass::Cancelled,
        ErrorClass::Interrupted,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            ErrorClass::Unauthorized => "unauthorized",
            ErrorClass::RateLimited => "rate_limited",
            ErrorClass::Unavailable => "unavailable",
            ErrorClass::BadResponse => "bad_response",
            ErrorClass::Configuration => "configuration",
            ErrorClass::Store => "store",
            ErrorClass::Timeout => "timeout",
            ErrorClass::Deadline => "deadline",
            ErrorClass::Cancelled => "cancelled",
            ErrorClass::Interrupted => "interrupted",
        }
    }

    /// Whether the same run may succeed a little later.
    pub fn may_pass(self) -> bool {
        match self {
            ErrorClass::RateLimited
            | ErrorClass::Unavailable
            | ErrorClass::BadResponse
            | ErrorClass::Store
            | ErrorClass::Timeout
            | ErrorClass::Interrupted => true,
            ErrorClass::Unauthorized | ErrorClass::Configuration | ErrorClass::Deadline | ErrorClass::Cancelled => {
                false
            }
        }
    }
}

/// What a run had to say, line by line; when there is too much, the middle is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunLog {
    lines: Vec<String>,
    bytes: usize,
    left_out: u32,
}

impl RunLog {
    const MOST_BYTES: usize = 16 * 1024;
    const MOST_LINE_CHARS: usize = 2_000;
    /// Lines at the beginning that always stay.
    const HEAD: usize = 20;

    /// Reads a log back that was written as text.
    pub fn parse(text: &str) -> Self {
        let mut log = RunLog::default();
        text.lines().for_each(|line| log.add(line.to_owned()));
        log
    }

    /// Adds what was said at a moment, each of its lines on its own.
    pub fn push(&mut self, at: Millis, text: &str) {
        let at = iso(at);
        for line in text.lines() {
            let line: String = line.chars().take(Self::MOST_LINE_CHARS).collect();
            self.add(format!("{at} {line}"));
        }
    }

    fn add(&mut self, line: String) {
        self.bytes += line.len() + 1;
        self.lines.push(line);
        while self.bytes > Self::MOST_BYTES && self.lines.len() > Self::HEAD + 1 {
            self.bytes -= self.lines.remove(Self::HEAD).len() + 1;
            self.left_out += 1;
        }
    }

    /// The log as text, a line each; `None` when nothing was said.
    pub fn text(&self) -> Option<String> {
        if self.lines.is_empty() {
            return None;
        }
        let mut lines: Vec<&str> = self.lines.iter().map(String::as_str).collect();
        let gap = format!("... {} lines left out ...", self.left_out);
        if self.left_out > 0 {
            lines.insert(Self::HEAD.min(lines.len()), &gap);
        }
        Some(lines.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_lines_keeps_its_beginning_and_its_end() {
        let mut log = RunLog::default();
        assert_eq!(log.text(), None);
        (0..100_000).for_each(|n| log.push(0, &format!("line {n}")));
        log.push(0, &"x".repeat(1_000_000));
        let text = log.text().unwrap();
        assert!(text.len() < 40_000, "{}", text.len());
        assert!(text.starts_with("1970-01-01T00:00:00.000Z line 0\n") && text.contains("line 99999\n"));
        assert!(text.contains("lines left out"));
        assert!(RunLog::parse(&text).text().unwrap().len() < 40_000);
    }
}
