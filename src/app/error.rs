//! What the application answers when it cannot do as asked.

use serde_json::Value;

use crate::adapters::source::SourceError;
use crate::adapters::store::StoreError;
use crate::core::desired::FieldError;
use crate::core::model::ScheduleId;

/// Each variant is one kind of answer; nothing was changed unless it says so.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    #[error("{0} has no schedule; create one with POST …/schedule")]
    NotFound(ScheduleId),
    #[error("the schedule would not be valid")]
    Invalid(Vec<FieldError>),
    #[error("{0}")]
    Forbidden(String),
    #[error("the schedule has changed since the version that If-Match names")]
    PreconditionFailed {
        /// The tag of the file as it is now; empty when there is none.
        current_etag: String,
        /// The file as written now.
        current: Value,
        /// The caller's change on top of it, when it can be merged.
        proposal: Option<Value>,
    },
    #[error("{detail}")]
    Conflict { detail: String, suggestion: Option<String> },
    #[error("{detail}")]
    Busy { detail: String, retry_after_sec: u64 },
    #[error("{0}")]
    Full(String),
    #[error("{0}")]
    Store(StoreError),
    #[error("{0}")]
    Source(SourceError),
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
