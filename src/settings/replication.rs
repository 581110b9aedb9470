//! The settings of the copy at another place.

use super::Settings;
use super::keys::Key;
use super::values::count;
use crate::adapters::connectors::Secret;
use crate::adapters::replica::Destination;

#[derive(Clone, Debug)]
pub struct ReplicationSettings {
    pub on: bool,
    /// Where the copy goes; there is no credential in it, though a person may have tried.
    pub url: Option<Secret>,
    pub spool_mb: u32,
    pub keep_days: u32,
}

impl Default for ReplicationSettings {
    fn default() -> Self {
        ReplicationSettings { on: false, url: None, spool_mb: 1024, keep_days: 7 }
    }
}

pub(super) const REPLICATION: Key = Key::new(
    "replication",
    "replication",
    "COMMAND_CENTER_REPLICATION",
    "MODE",
    "Send every change to a second place: on or off",
    |s, text| {
        s.replication.on = match text.to_ascii_lowercase().as_str() {
            "on" | "true" | "1" | "yes" => true,
            "off" | "false" | "0" | "no" => false,
            _ => return Err("allowed are on, off".to_owned()),
        };
        Ok(())
    },
    |s| if s.replication.on { "on".into() } else { "off".into() },
);

pub(super) const REPLICATION_URL: Key = Key::new(
    "replication_url",
    "replication-url",
    "COMMAND_CENTER_REPLICATION_URL",
    "URL",
    "Where it goes: file:///FOLDER or s3://BUCKET/PREFIX?region=REGION&endpoint=URL",
    |s, text| {
        Destination::parse(text)?;
        s.replication.url = Some(Secret(text.to_owned()));
        Ok(())
    },
    |s| s.replication.url.as_ref().map(|url| url.0.clone()).unwrap_or_default(),
);

pub(super) const REPLICATION_SPOOL_MB: Key = Key::new(
    "replication_spool_mb",
    "replication-spool-mb",
    "COMMAND_CENTER_REPLICATION_SPOOL_MB",
    "MEBIBYTES",
    "How much may wait on this machine while the destination is away; beyond it the copy begins anew",
    |s, text| count(text, 1, 1 << 20).map(|v| s.replication.spool_mb = v),
    |s| s.replication.spool_mb.to_string(),
);

pub(super) const REPLICATION_KEEP_DAYS: Key = Key::new(
    "replication_keep_days",
    "replication-keep-days",
    "COMMAND_CENTER_REPLICATION_KEEP_DAYS",
    "DAYS",
    "For how many days past states stay restorable from there",
    |s, text| count(text, 0, 36_600).map(|v| s.replication.keep_days = v),
    |s| s.replication.keep_days.to_string(),
);

/// What is wrong between settings that are right each for itself.
pub(super) fn missing(settings: &Settings) -> Option<String> {
    (settings.replication.on && settings.replication.url.is_none())
        .then(|| "replication is on and has nowhere to go: set COMMAND_CENTER_REPLICATION_URL".to_owned())
}
