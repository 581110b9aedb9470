//! The settings on how the program ends, and on what it sets aside for a full disk.

use std::time::Duration;

use super::keys::Key;
use super::values::{count, seconds};

pub(super) const DRAIN_SEC: Key = Key::new(
    "drain_sec",
    "drain-sec",
    "COMMAND_CENTER_DRAIN_SEC",
    "SECONDS",
    "How long imports in flight may go on when the program stops or restarts",
    |s, text| seconds(text, Duration::ZERO, Duration::from_secs(3600)).map(|v| s.drain = v),
    |s| s.drain.as_secs_f64().to_string(),
);

pub(super) const DISK_RESERVE_MB: Key = Key::new(
    "disk_reserve_mb",
    "disk-reserve-mb",
    "COMMAND_CENTER_DISK_RESERVE_MB",
    "MEGABYTES",
    "Disk space set aside in the data directory, so that runs go on for a while when the disk is full; 0 for none",
    |s, text| count(text, 0, 102_400).map(|v| s.disk_reserve_mb = v),
    |s| s.disk_reserve_mb.to_string(),
);
