//! What the application answers when it cannot do as asked.

use serde_json::Value;

use crate::adapters::source::SourceError;
use crate::adapters::store::StoreError;
use crate::core::desired::{FieldConflict, FieldError};
use crate::core::model::ScheduleId;

use super::views::{BulkAnswer, BulkRefusal, MovedStep};

/// Each variant is one kind of answer; nothing was changed unless it says so.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    #[error("{0} has no schedule; create one with POST …/schedule")]
    NotFound(ScheduleId),
    #[error("{0} has no history: there never was such a schedule")]
    NoHistory(ScheduleId),
    #[error("{detail}")]
    NoRevision {
        detail: String,
        /// The newest there are.
        known: Vec<i64>,
    },
    #[error("what the file held at {to} is not valid by today's rules{}", first(.errors))]
    UnfitRevision { to: Value, errors: Vec<FieldError> },
    #[error("the schedule would not be valid")]
    Invalid(Vec<FieldError>),
    #[error("{0}")]
    Forbidden(String),
    #[error("the schedule has changed since the version that If-Match names")]
    PreconditionFailed(Box<Stale>),
    /// Somebody else changed the same fields at the same moment.
    #[error("{detail}")]
    Contested { detail: String, conflicts: Vec<FieldConflict> },
    #[error("{detail}")]
    Conflict { detail: String, suggestion: Option<String> },
    /// A confirmed plan is not what would be done now.
    #[error("{}", .0.detail)]
    PlanMoved(Box<PlanMoved>),
    /// Of many schedules some cannot be changed, so that none was.
    #[error("{}", .0.detail)]
    Refused(Box<Refused>),
    /// An action on many would take too much away at once.
    #[error("{} of {} deletions and pauses are too large a part of the fleet at once; nothing was changed", .0.held, .0.changing)]
    Held(Box<BulkAnswer>),
    #[error("no action {0} changed a schedule's file")]
    NoAction(String),
    #[error("{detail}")]
    Busy { detail: String, retry_after_sec: u64 },
    #[error("{0}")]
    Full(String),
    /// A copy of the store could not be made or read.
    #[error("{0}")]
    Copy(String),
    #[error("{0}")]
    Store(StoreError),
    #[error("{0}")]
    Source(SourceError),
}

/// Which schedules stood in the way, each with why.
#[derive(Clone, Debug)]
pub struct Refused {
    pub detail: String,
    pub refused: Vec<BulkRefusal>,
}

/// How the plan that a caller named differs from what would be done now.
#[derive(Clone, Debug)]
pub struct PlanMoved {
    pub detail: String,
    /// The digest of the plan as it is now, if it does anything.
    pub digest: Option<String>,
    /// The digest of what in it a person has to agree to.
    pub held_digest: Option<String>,
    /// The steps that differ, the first hundred; `None` when the named plan is not known.
    pub moved: Option<Vec<MovedStep>>,
    pub total: usize,
}

/// What a caller whose version is out of date needs to decide anew. Each value is the document as
/// written; null where there is none, where it is not known, or where it is not valid.
#[derive(Clone, Debug, Default)]
pub struct Stale {
    /// The version that the caller's tag stands for, if it is still known.
    pub base: Value,
    /// The caller's change applied to `base`; the change alone where that is not known.
    pub yours: Value,
    /// The tag of the file as it is now; empty when there is none.
    pub current_etag: String,
    pub current: Value,
    /// The caller's change on top of `current`, when it can be merged.
    pub proposal: Value,
    /// Fields that both changed; the proposal has the caller's values there.
    pub conflicts: Vec<FieldConflict>,
}

impl From<StoreError> for AppError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full => AppError::Full(error.to_string()),
            error => AppError::Store(error),
        }
    }
}

impl From<SourceError> for AppError {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::NoSpace { .. } => AppError::Full(error.to_string()),
            error => AppError::Source(error),
        }
    }
}

fn first(errors: &[FieldError]) -> String {
    errors.first().map(|error| format!(": {}", error.message)).unwrap_or_default()
}
