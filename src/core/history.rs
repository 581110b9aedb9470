//! Revisions of a schedule's file: how a caller names one, and what each did.

use serde_json::Value;

use crate::core::mask::masked_value;
use crate::core::model::Millis;
use crate::core::plan::{FieldChange, diff_written};
use crate::core::timing::parse_time;

/// How a caller names a revision.
#[derive(Clone, Debug, PartialEq)]
pub enum RevisionRef {
    Number(i64),
    /// The beginning of a content's digest, in lower-case hex.
    Digest(String),
    /// The revision that was in force at this moment.
    Time(Millis),
}

/// A text that names no revision.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" names no revision: give its number (3), at least 7 characters of its digest, or a time in RFC 3339 \
     (2026-11-21T08:00:00Z)"
)]
pub struct BadRevision(pub String);

/// Fewer characters of a digest would rather be a number or a slip.
const MIN_DIGEST_CHARS: usize = 7;

impl std::str::FromStr for RevisionRef {
    type Err = BadRevision;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim().trim_matches('"');
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if let Some(number) = text.parse().ok().filter(|number| digits && text.len() < 10 && *number > 0) {
            return Ok(RevisionRef::Number(number));
        }
        let hex = text.bytes().all(|b| b.is_ascii_hexdigit()) && (MIN_DIGEST_CHARS..=64).contains(&text.len());
        if hex && !digits {
            return Ok(RevisionRef::Digest(text.to_ascii_lowercase()));
        }
        // Epoch seconds of any day after 2001 have ten digits; other numbers are slips.
        let is_number = text.parse::<f64>().is_ok();
        let time = if is_number && !(digits && text.len() >= 10) { None } else { parse_time(text) };
        time.map(RevisionRef::Time).ok_or_else(|| BadRevision(text.to_owned()))
    }
}

/// What a revision did, by the documents before and after it; `None` where there was no schedule.
/// `known` says whether anybody wrote down who made it.
pub fn verb(before: Option<&Value>, after: Option<&Value>, known: bool) -> &'static str {
    let paused = |side: &Value| side.get("paused").and_then(Value::as_bool).unwrap_or(false);
    match (before, after) {
        (_, _) if !known => "found",
        (_, None) => "deleted",
        (None, Some(_)) => "created",
        (Some(before), Some(after)) => match (paused(before), paused(after)) {
            (false, true) => "paused",
            (true, false) => "resumed",
            _ => "updated",
        },
    }
}

/// Field by field as written, with what looks like a secret masked.
pub fn shown_diff(before: Option<&Value>, after: Option<&Value>) -> Vec<FieldChange> {
    let shown = |change: FieldChange| FieldChange {
        from: masked_value(&change.field, &change.from),
        to: masked_value(&change.field, &change.to),
        field: change.field,
    };
    diff_written(before, after).into_iter().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(text: &str, expect: Option<RevisionRef>) {
        assert_eq!(text.parse().ok(), expect, "{text}");
    }

    #[test]
    fn a_revision_is_named_by_number_digest_or_time() {
        check("3", Some(RevisionRef::Number(3)));
        check("\"9F86D081\"", Some(RevisionRef::Digest("9f86d081".into())));
        check("1970-01-01T00:00:01Z", Some(RevisionRef::Time(1000)));
        check("1795232067", Some(RevisionRef::Time(1_795_232_067_000)));
        for bad in ["", "0", "-1", "x", "abc", "yesterday", "1.5e300x", &"a".repeat(65)] {
            check(bad, None);
        }
    }

    #[test]
    fn a_revision_says_what_it_did() {
        let (on, off) = (json!({"interval_sec": 5}), json!({"interval_sec": 5, "paused": true}));
        let check = |before: Option<&Value>, after: Option<&Value>, expect: &str| {
            assert_eq!(verb(before, after, true), expect);
        };
        check(None, Some(&on), "created");
        check(Some(&on), None, "deleted");
        check(Some(&on), Some(&off), "paused");
        check(Some(&off), Some(&on), "resumed");
        check(Some(&on), Some(&on), "updated");
        assert_eq!(verb(None, Some(&on), false), "found");
    }

    #[test]
    fn a_shown_diff_has_no_secret() {
        let before =
            json!({"interval_sec": 5, "labels": {"token": "gold"}, "connection": {"api_key": {"env": "CC_SECRET_A"}}});
        let diff = shown_diff(Some(&before), Some(&json!({"interval_sec": 6})));
        let text = serde_json::to_string(&diff).unwrap();
        assert!(!text.contains("gold") && text.contains("CC_SECRET_A"), "{text}");
        assert_eq!(diff.len(), 3);
    }
}
