//! A run's nouns: why it began, where it stands, and what kind of failure ended it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
