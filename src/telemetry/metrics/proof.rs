//! What shows whether the audit log is vouched for.

use prometheus::{Gauge, IntCounterVec, IntGauge, Result};

use super::{Maker, gauge_value};

pub(super) struct ProofMetrics {
    valid: IntGauge,
    verified_at: Gauge,
    checkpoint_at: Gauge,
    checkpoint_seq: IntGauge,
    posts: IntCounterVec,
    sealed: IntGauge,
}

impl ProofMetrics {
    pub(super) fn new(make: &Maker) -> Result<ProofMetrics> {
        let metrics = ProofMetrics {
            valid: make
                .gauge("command_center_audit_valid", "1 when the last verification found the audit log whole")?,
            verified_at: make.seconds(
                "command_center_audit_verified_timestamp_seconds",
                "When the audit log was last verified; 0 before the first time",
            )?,
            checkpoint_at: make.seconds(
                "command_center_audit_checkpoint_timestamp_seconds",
                "When the audit log's end was last signed",
            )?,
            checkpoint_seq: make.gauge("command_center_audit_checkpoint_seq", "The entry that was last signed")?,
            posts: make.counters(
                "command_center_audit_checkpoint_posts_total",
                "Checkpoints sent to COMMAND_CENTER_CHECKPOINT_URL",
                &["outcome"],
            )?,
            sealed: make.gauge("command_center_audit_sealed_entries", "Audit entries in sealed blocks")?,
        };
        for outcome in ["ok", "failed"] {
            metrics.posts.get_metric_with_label_values(&[outcome])?;
        }
        Ok(metrics)
    }
}

impl super::Metrics {
    /// What a verification found, and when, in epoch seconds.
    pub fn audit_verified(&self, valid: bool, at: f64) {
        self.proof.valid.set(i64::from(valid));
        self.proof.verified_at.set(at);
    }

    pub fn audit_checkpoint(&self, seq: i64, at: f64) {
        self.proof.checkpoint_seq.set(seq);
        self.proof.checkpoint_at.set(at);
    }

    pub fn checkpoint_posted(&self, ok: bool) {
        self.proof.posts.with_label_values(&[if ok { "ok" } else { "failed" }]).inc();
    }

    pub fn set_audit_sealed(&self, entries: u64) {
        self.proof.sealed.set(gauge_value(entries));
    }
}
