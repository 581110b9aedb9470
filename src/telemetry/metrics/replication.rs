//! What the replica is sent, and how far it is behind.

use prometheus::{Gauge, IntCounter, IntGauge, Result};

use super::Maker;

pub struct ReplicationMetrics {
    entries: IntCounter,
    segments: IntCounter,
    bytes: IntCounter,
    errors: IntCounter,
    lag: Gauge,
    lag_entries: IntGauge,
    spool: IntGauge,
}

impl ReplicationMetrics {
    pub(super) fn new(make: &Maker) -> Result<ReplicationMetrics> {
        Ok(ReplicationMetrics {
            entries: make.counter(
                "command_center_replication_entries_total",
                "Audit entries that became restorable from the replica",
            )?,
            segments: make.counter("command_center_replication_segments_total", "Segments the replica has shown")?,
            bytes: make.counter("command_center_replication_bytes_total", "Bytes of these segments")?,
            errors: make
                .counter("command_center_replication_errors_total", "Attempts at the destination that failed")?,
            lag: make
                .seconds("command_center_replication_lag_seconds", "Age of the oldest change not in the replica")?,
            lag_entries: make.gauge("command_center_replication_lag_entries", "Audit entries not in the replica")?,
            spool: make.gauge("command_center_replication_spool_bytes", "What waits on this machine to be sent")?,
        })
    }

    pub fn entries(&self, count: i64) {
        self.entries.inc_by(u64::try_from(count).unwrap_or(0));
    }

    pub fn segment(&self, bytes: u64) {
        self.segments.inc();
        self.bytes.inc_by(bytes);
    }

    pub fn error(&self) {
        self.errors.inc();
    }

    pub fn set(&self, lag_sec: f64, lag_entries: u64, spool_bytes: u64) {
        self.lag.set(lag_sec);
        self.lag_entries.set(i64::try_from(lag_entries).unwrap_or(i64::MAX));
        self.spool.set(i64::try_from(spool_bytes).unwrap_or(i64::MAX));
    }
}
