//! What work on many schedules at once is told by the store.

use super::Version;
use crate::core::model::{Connector, Digest, Millis, ScheduleId};
use crate::core::row::RowSpec;

/// A schedule with what it is selected and forecast by.
#[derive(Clone, Debug)]
pub struct SpecRow {
    pub id: ScheduleId,
    pub spec: RowSpec,
    pub next_due: Option<Millis>,
    /// Imports that failed in a row.
    pub failures: u32,
}

/// Whose specifications to read.
#[derive(Clone, Copy, Debug, Default)]
pub struct SpecQuery {
    /// This connector's only.
    pub connector: Option<Connector>,
}

/// What an action made of one schedule's file, and what it is by now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deed {
    pub id: ScheduleId,
    /// When the action changed it last.
    pub at: Millis,
    /// What the file held before; `None` where there was none.
    pub before: Option<Version>,
    /// What the action left; `None` where it deleted the schedule.
    pub after: Option<Digest>,
    /// The newest revision's.
    pub now: Option<Digest>,
}
