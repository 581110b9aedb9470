//! The settings about proof and growth: where the audit's key lies and where its checkpoints go, and how
//! much of the past stays.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::keys::Key;
use super::values::{count, dir, masked_url, seconds, web_url};
use crate::adapters::connectors::Secret;
use crate::core::retention::KeepRevisions;

/// How the audit log is vouched for, and what is bounded.
#[derive(Clone, Debug)]
pub struct ProofSettings {
    /// `None`: `audit.key` in the data directory.
    pub key_file: Option<PathBuf>,
    /// How long the log may move on before its end is signed anew.
    pub checkpoint_interval: Duration,
    /// Where checkpoints are posted; the address may hold a token.
    pub checkpoint_url: Option<Secret>,
    /// Time between two verifications of the whole log.
    pub verify_interval: Duration,
    /// Audit entries that stay unsealed.
    pub audit_live: u32,
    /// Revisions of a schedule that stay in any case; `None` keeps all.
    pub keep_revisions: Option<u32>,
    /// How young a revision must be to stay beyond that count.
    pub keep_revisions_days: u32,
    /// Records that no run has seen for so many days are forgotten; `None` keeps all.
    pub records_unseen_days: Option<u32>,
}

impl Default for ProofSettings {
    fn default() -> Self {
        ProofSettings {
            key_file: None,
            checkpoint_interval: Duration::from_secs(60),
            checkpoint_url: None,
            verify_interval: Duration::from_secs(24 * 3600),
            audit_live: 200_000,
            keep_revisions: None,
            keep_revisions_days: 90,
            records_unseen_days: None,
        }
    }
}

impl ProofSettings {
    pub fn revisions(&self) -> Option<KeepRevisions> {
        self.keep_revisions.map(|at_least| KeepRevisions { at_least, days: self.keep_revisions_days })
    }
}

const SECOND: Duration = Duration::from_secs(1);
const YEAR: Duration = Duration::from_secs(366 * 24 * 3600);

pub(super) const AUDIT_KEY_FILE: Key = Key::new(
    "audit_key_file",
    "audit-key-file",
    "COMMAND_CENTER_AUDIT_KEY_FILE",
    "FILE",
    "The key that signs the audit log's end, made where there is none; audit.key in the data directory when left out",
    |s, text| dir(text).map(|v| s.proof.key_file = Some(v)),
    |s| s.proof.key_file.as_deref().map(Path::display).map(|path| path.to_string()).unwrap_or_default(),
);

pub(super) const CHECKPOINT_INTERVAL: Key = Key::new(
    "checkpoint_interval_sec",
    "checkpoint-interval-sec",
    "COMMAND_CENTER_CHECKPOINT_INTERVAL_SEC",
    "SECONDS",
    "How long the audit log may move on before its end is signed anew",
    |s, text| seconds(text, SECOND, YEAR).map(|v| s.proof.checkpoint_interval = v),
    |s| s.proof.checkpoint_interval.as_secs_f64().to_string(),
);

pub(super) const CHECKPOINT_URL: Key = Key::new(
    "checkpoint_url",
    "checkpoint-url",
    "COMMAND_CENTER_CHECKPOINT_URL",
    "URL",
    "Where each signed end of the audit log is posted too",
    |s, text| web_url(text).map(|v| s.proof.checkpoint_url = Some(Secret(v))),
    |s| s.proof.checkpoint_url.as_ref().map(|url| masked_url(&url.0)).unwrap_or_default(),
);

pub(super) const AUDIT_VERIFY_INTERVAL: Key = Key::new(
    "audit_verify_interval_sec",
    "audit-verify-interval-sec",
    "COMMAND_CENTER_AUDIT_VERIFY_INTERVAL_SEC",
    "SECONDS",
    "Time between two verifications of the whole audit log",
    |s, text| seconds(text, SECOND, YEAR).map(|v| s.proof.verify_interval = v),
    |s| s.proof.verify_interval.as_secs_f64().to_string(),
);

pub(super) const AUDIT_LIVE: Key = Key::new(
    "audit_live",
    "audit-live",
    "COMMAND_CENTER_AUDIT_LIVE",
    "COUNT",
    "The newest audit entries that stay as they are; older ones are sealed into compressed blocks",
    |s, text| count(text, 1000, 1_000_000_000).map(|v| s.proof.audit_live = v),
    |s| s.proof.audit_live.to_string(),
);

pub(super) const KEEP_REVISIONS: Key = Key::new(
    "keep_revisions",
    "keep-revisions",
    "COMMAND_CENTER_KEEP_REVISIONS",
    "COUNT",
    "Revisions of a schedule's file that stay in any case; off to keep all",
    |s, text| count_or_off(text, 1_000_000).map(|v| s.proof.keep_revisions = v),
    |s| or_off(s.proof.keep_revisions),
);

pub(super) const KEEP_REVISIONS_DAYS: Key = Key::new(
    "keep_revisions_days",
    "keep-revisions-days",
    "COMMAND_CENTER_KEEP_REVISIONS_DAYS",
    "DAYS",
    "Beyond that count, how young a revision must be to stay",
    |s, text| count(text, 1, 36_600).map(|v| s.proof.keep_revisions_days = v),
    |s| s.proof.keep_revisions_days.to_string(),
);

pub(super) const RECORDS_UNSEEN_DAYS: Key = Key::new(
    "records_unseen_days",
    "records-unseen-days",
    "COMMAND_CENTER_RECORDS_UNSEEN_DAYS",
    "DAYS",
    "Forget imported records that no run has seen for so many days; off to keep all",
    |s, text| count_or_off(text, 36_600).map(|v| s.proof.records_unseen_days = v),
    |s| or_off(s.proof.records_unseen_days),
);

fn count_or_off(text: &str, most: u32) -> Result<Option<u32>, String> {
    if text == "off" {
        return Ok(None);
    }
    count(text, 1, most).map(Some).map_err(|allowed| format!("{allowed}, or off"))
}

fn or_off(count: Option<u32>) -> String {
    count.map_or_else(|| "off".to_owned(), |count| count.to_string())
}
