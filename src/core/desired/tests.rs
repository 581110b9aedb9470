//! The module's behaviour through its public functions.

mod defaults;
mod diagnostics;
mod edits;
mod effect;
mod exec;
mod fuzz;
mod hostile;
mod http;
mod schema;
mod values;

use crate::core::model::ScheduleId;

fn acculynx() -> ScheduleId {
    "acculynx/peak".parse().unwrap()
}

fn noop() -> ScheduleId {
    "noop/bench".parse().unwrap()
}
