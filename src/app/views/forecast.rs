//! The shapes of forecasts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::core::desired::Diagnostic;

/// What is to come: a schedule's next starts, and the load by minutes.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ForecastAnswer {
    pub ok: bool,
    pub from_iso: String,
    pub until_iso: String,
    /// Of the asked tenant only; empty without `tenant`.
    pub schedules: Vec<ScheduleForecast>,
    /// Of what is desired, or of the given directory.
    pub load: LoadView,
    /// With a directory: the load as it is without it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub before: Option<LoadView>,
    /// With a directory: minutes that it makes much busier, the busiest first; 100 at most.
    #[serde(default)]
    pub jumps: Vec<JumpView>,
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Files of the given directory that cannot be used; what they would change is not counted.
    #[serde(default)]
    pub invalid: Vec<Diagnostic>,
}

/// A schedule's next starts.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ScheduleForecast {
    pub connector: String,
    pub tenant: String,
    pub paused: bool,
    /// In order; fewer than asked for where the schedule ends before.
    pub fires: Vec<FireView>,
}

/// One start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FireView {
    pub at_iso: String,
    /// The slot it is for: earlier than `at_iso` where a window keeps it back.
    pub nominal_iso: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub window: Option<String>,
    /// Earlier slots within the window that it stands for.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub folded: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over so")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// Starts by minutes, hours and as a whole.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct LoadView {
    /// Schedules that start at all in this time.
    pub schedules: u64,
    pub fires: u64,
    /// Starts of the minute in the middle, when all are put in order.
    pub median_minute: u32,
    /// The busiest first; ten at most.
    pub busiest: Vec<MinuteView>,
    /// By hours of UTC.
    pub hours: Vec<HourView>,
    /// Starts of every minute from `from_iso` on.
    pub per_minute: Vec<u32>,
    /// With `false`, there were too many different cron expressions to count all.
    pub complete: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MinuteView {
    pub minute_iso: String,
    pub fires: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HourView {
    pub hour_iso: String,
    pub fires: u64,
    pub peak_minute_iso: String,
    pub peak: u32,
}

/// A minute that a change would make much busier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JumpView {
    pub minute_iso: String,
    pub before: u32,
    pub after: u32,
}
