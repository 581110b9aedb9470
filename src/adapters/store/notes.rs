//! What the store keeps beside the schedules: broken files, brakes, holds, given answers.

use serde::{Deserialize, Serialize};

use crate::core::desired::Diagnostic;
use crate::core::model::{Digest, Millis, ScheduleId};
use crate::core::plan::{Action, HoldReason};

/// A file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Relative to the desired directory.
    pub path: String,
    /// Digest of the bytes that are wrong; `None` when they could not be read.
    #[serde(skip)]
    pub digest: Option<Digest>,
    pub since: Millis,
    pub diagnostics: Vec<Diagnostic>,
}

/// An emergency stop of the fleet (empty scope) or of one schedule (`connector/tenant`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Brake {
    pub scope: String,
    pub reason: String,
    pub actor: String,
    pub since: Millis,
}

/// A step that waits for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    pub id: ScheduleId,
    pub action: Action,
    pub reason: HoldReason,
    pub since: Millis,
}

/// A person's decision against the held steps of this digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dismissal {
    pub digest: String,
    pub reason: String,
    pub actor: String,
    pub at: Millis,
}

/// An answer given before to the same `Idempotency-Key`.
#[derive(Clone, Debug)]
pub struct Remembered {
    /// Digest over method, path, tenant and body of the request it answered.
    pub request: Digest,
    pub answer: String,
}

/// How long an answer is kept: a day.
pub const ANSWER_TTL_MS: Millis = 86_400_000;
