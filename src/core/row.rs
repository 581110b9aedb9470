//! A schedule as a row of the store, and the fingerprints by which a changed row or file is known
//! without reading it whole.

use crate::core::model::{Digest, Millis, ScheduleSpec};
use crate::core::timing::iso;

/// Half a SHA-256: enough to tell two contents apart.
pub type Fingerprint = [u8; 16];

/// The first half of a digest, as the fleet keeps it.
pub fn fingerprint(digest: Digest) -> Fingerprint {
    let mut half = [0; 16];
    half.copy_from_slice(&digest.0[..16]);
    half
}

/// A schedule's row as the store keeps it: the cadence and pause in columns of their own, the rest
/// as JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowSpec {
    pub interval_sec: Option<u32>,
    pub cron: Option<String>,
    pub timezone: Option<String>,
    pub paused: bool,
    pub pause_reason: Option<String>,
    /// When the pause lifts by itself.
    pub pause_until: Option<Millis>,
    /// Everything else, the rules for runs first: see `core::policy::policy_text`.
    pub rest: String,
}

impl RowSpec {
    pub fn of(spec: &ScheduleSpec) -> Self {
        let rest = ScheduleSpec {
            interval_sec: None,
            cron: None,
            timezone: None,
            paused: false,
            pause_reason: None,
            pause_until: None,
            ..spec.clone()
        };
        RowSpec {
            interval_sec: spec.interval_sec,
            cron: spec.cron.clone(),
            timezone: spec.timezone.clone(),
            paused: spec.paused,
            pause_reason: spec.pause_reason.clone(),
            pause_until: spec.pause_end(),
            rest: serde_json::to_string(&rest).unwrap_or_default(),
        }
    }

    /// The whole value again; `None` when the row's JSON was damaged by hand.
    pub fn spec(&self) -> Option<ScheduleSpec> {
        let rest: ScheduleSpec = serde_json::from_str(&self.rest).ok()?;
        Some(ScheduleSpec {
            interval_sec: self.interval_sec,
            cron: self.cron.clone(),
            timezone: self.timezone.clone(),
            paused: self.paused,
            pause_reason: self.pause_reason.clone(),
            pause_until: self.pause_until.map(iso),
            ..rest
        })
    }

    /// Whether its pause stands at `now`.
    pub fn is_paused_at(&self, now: Millis) -> bool {
        self.paused && self.pause_until.is_none_or(|end| now < end)
    }

    pub fn fingerprint(&self) -> Fingerprint {
        row_fingerprint(
            self.interval_sec,
            self.cron.as_deref(),
            self.timezone.as_deref(),
            self.paused,
            self.pause_reason.as_deref(),
            &self.rest,
            self.pause_until,
        )
    }
}

/// Condenses a row's columns without parsing them, so that a whole fleet can be checked for
/// changes made by hand.
pub fn row_fingerprint(
    interval_sec: Option<u32>,
    cron: Option<&str>,
    timezone: Option<&str>,
    paused: bool,
    pause_reason: Option<&str>,
    rest: &str,
    pause_until: Option<Millis>,
) -> Fingerprint {
    let mut text = Vec::with_capacity(rest.len() + 64);
    text.extend_from_slice(&interval_sec.unwrap_or(0).to_le_bytes());
    text.push(u8::from(paused));
    for part in [cron, timezone, pause_reason, Some(rest)] {
        match part {
            Some(part) => {
                text.push(1);
                text.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes());
                text.extend_from_slice(part.as_bytes());
            }
            None => text.push(0),
        }
    }
    // Left out where there is none, so that rows of before this column keep their fingerprint.
    if let Some(end) = pause_until {
        text.extend_from_slice(&end.to_le_bytes());
    }
    fingerprint(Digest::of(&text))
}

/// Whether a row's schedule sleeps: it is paused, and if the pause has an end, the timer still waits
/// for it. Once lifted, the timer stands at a slot after that end.
pub fn is_asleep(paused: bool, pause_until: Option<Millis>, next_due: Option<Millis>) -> bool {
    paused && (pause_until.is_none() || next_due.is_none() || next_due == pause_until)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_gives_its_spec_back() {
        let spec: ScheduleSpec = serde_json::from_value(serde_json::json!({
            "cron": "0 2 * * *", "timezone": "UTC", "paused": true, "pause_reason": "x",
            "resources": ["jobs"], "labels": {"a": "b"}, "connection": {"api_key": {"env": "CC_SECRET_X"}}
        }))
        .unwrap();
        let row = RowSpec::of(&spec);
        assert_eq!(row.spec(), Some(spec));
        let other = RowSpec { pause_reason: Some("y".into()), ..row.clone() };
        assert_ne!(row.fingerprint(), other.fingerprint());
        let until = RowSpec { pause_until: Some(5), ..row.clone() };
        assert_ne!(row.fingerprint(), until.fingerprint());
        assert_eq!(until.spec().unwrap().pause_end(), Some(5));
    }

    #[test]
    fn rows_of_existing_databases_keep_their_fingerprint() {
        let text = b"interval_sec: 5\nresources: [contacts, jobs]\n\
            connection: { api_key: { env: CC_SECRET_X }, base_url: 'https://x.example' }\n";
        let id = "acculynx/a".parse().unwrap();
        let spec = crate::core::desired::parse(&id, text, crate::core::desired::Defaults::NONE).spec.unwrap();
        assert_eq!(
            RowSpec::of(&spec).rest,
            r#"{"connection":{"base_url":"https://x.example","api_key":{"env":"CC_SECRET_X"}},"resources":["jobs","contacts"]}"#
        );
    }
}
