//! The settings of copies and checks.

use std::time::Duration;

use super::keys::Key;
use super::values::seconds;

/// How often the store is copied and looked at; `None` is never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upkeep {
    pub snapshot_interval: Option<Duration>,
    pub check_interval: Option<Duration>,
}

impl Default for Upkeep {
    fn default() -> Self {
        let hours = |hours: u64| Some(Duration::from_secs(hours * 3600));
        Upkeep { snapshot_interval: hours(1), check_interval: hours(24) }
    }
}

const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(31 * 24 * 3600);

pub(super) const SNAPSHOT_INTERVAL: Key = Key::new(
    "snapshot_interval",
    "snapshot-interval",
    "COMMAND_CENTER_SNAPSHOT_INTERVAL",
    "SECONDS",
    "Time between two snapshots of the store, when anything has changed; off for none by themselves",
    |s, text| or_off(text).map(|v| s.upkeep.snapshot_interval = v),
    |s| shown(s.upkeep.snapshot_interval),
);

pub(super) const CHECK_INTERVAL: Key = Key::new(
    "integrity_check_interval",
    "integrity-check-interval",
    "COMMAND_CENTER_INTEGRITY_CHECK_INTERVAL",
    "SECONDS",
    "Time between two checks of the whole database while the server runs; off for none",
    |s, text| or_off(text).map(|v| s.upkeep.check_interval = v),
    |s| shown(s.upkeep.check_interval),
);

fn or_off(text: &str) -> Result<Option<Duration>, String> {
    match text {
        "off" => Ok(None),
        _ => seconds(text, SHORTEST, LONGEST).map(Some).map_err(|allowed| format!("{allowed}, or off")),
    }
}

fn shown(interval: Option<Duration>) -> String {
    interval.map_or_else(|| "off".to_owned(), |interval| interval.as_secs_f64().to_string())
}
