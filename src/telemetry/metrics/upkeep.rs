//! What copies of the store and checks of it count and measure.

use prometheus::{Gauge, Histogram, IntCounter, IntCounterVec, IntGauge, Result};

use super::{Maker, Metrics, SLOW, gauge_value};

pub(super) struct UpkeepMetrics {
    made: IntCounterVec,
    failures: IntCounterVec,
    duration: Histogram,
    bytes: IntGauge,
    age: Gauge,
    checks: IntCounterVec,
    restored: IntCounter,
}

/// What kinds of copies there are.
pub const COPIES: [&str; 2] = ["snapshot", "backup"];

impl UpkeepMetrics {
    pub(super) fn new(make: &Maker) -> Result<UpkeepMetrics> {
        let made = make.counters("command_center_copies_total", "Snapshots and backups made", &["kind"])?;
        let failures =
            make.counters("command_center_copy_failures_total", "Snapshots and backups that failed", &["kind"])?;
        let checks =
            make.counters("command_center_integrity_checks_total", "Checks of the whole database", &["outcome"])?;
        for kind in COPIES {
            made.get_metric_with_label_values(&[kind])?;
            failures.get_metric_with_label_values(&[kind])?;
        }
        for outcome in ["sound", "damaged", "failed"] {
            checks.get_metric_with_label_values(&[outcome])?;
        }
        Ok(UpkeepMetrics {
            made,
            failures,
            duration: make.histogram("command_center_snapshot_duration_seconds", "Making a snapshot", &SLOW)?,
            bytes: make.gauge("command_center_snapshot_bytes", "Size of the newest snapshot")?,
            age: make.seconds("command_center_snapshot_age_seconds", "Age of the newest snapshot; 0 without one")?,
            checks,
            restored: make.counter("command_center_store_restored_total", "Damaged databases replaced at a start")?,
        })
    }
}

impl Metrics {
    pub fn copied(&self, kind: &str) {
        self.upkeep.made.with_label_values(&[kind]).inc();
    }

    pub fn copy_failed(&self, kind: &str) {
        self.upkeep.failures.with_label_values(&[kind]).inc();
    }

    pub fn snapshot_made(&self, seconds: f64, bytes: u64) {
        self.copied("snapshot");
        self.upkeep.duration.observe(seconds);
        self.upkeep.bytes.set(gauge_value(bytes));
    }

    pub fn set_snapshot_age(&self, seconds: f64) {
        self.upkeep.age.set(seconds);
    }

    /// `outcome` is `sound`, `damaged` or `failed`.
    pub fn integrity_checked(&self, outcome: &str) {
        self.upkeep.checks.with_label_values(&[outcome]).inc();
    }

    pub fn store_restored(&self) {
        self.upkeep.restored.inc();
    }
}
