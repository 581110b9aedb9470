//! Cadences that most schedules want, defined once: a name, what it is for, and the keys it sets.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// A named cadence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Preset {
    pub name: String,
    pub description: String,
    /// What it sets in a schedule's file (RFC 7396): the other kind of cadence goes, everything else stays.
    pub set: Map<String, Value>,
}

/// All of them, the most frequent first.
pub fn presets() -> Vec<Preset> {
    let every = |interval_sec: u32| json!({ "interval_sec": interval_sec, "jitter_sec": null });
    // An hour's spread keeps a fleet's nights from beginning all at the same second.
    let nightly = json!({ "cron": "0 2 * * *", "jitter_sec": 3600 });
    let all = [
        ("5min", "every 5 minutes", every(300)),
        ("15min", "every 15 minutes", every(900)),
        ("1h", "every hour", every(3600)),
        ("nightly", "once a night, between 2 and 3 o'clock in the schedule's time zone", nightly),
    ];
    let preset = |(name, description, set): (&str, &str, Value)| Preset {
        name: name.to_owned(),
        description: description.to_owned(),
        set: if let Value::Object(set) = set { set } else { Map::new() },
    };
    all.into_iter().map(preset).collect()
}

/// No preset has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no preset \"{name}\" (there are: {known})")]
pub struct UnknownPreset {
    name: String,
    known: String,
}

/// What the preset of this name sets.
///
/// # Errors
/// When there is none, with the names that there are.
pub fn preset(name: &str) -> Result<Map<String, Value>, UnknownPreset> {
    let all = presets();
    let known = || all.iter().map(|preset| preset.name.as_str()).collect::<Vec<_>>().join(", ");
    match all.iter().find(|preset| preset.name == name) {
        Some(preset) => Ok(preset.set.clone()),
        None => Err(UnknownPreset { name: name.to_owned(), known: known() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::desired::{Defaults, check_value, merged};

    /// What a schedule that says `before` says with the preset.
    fn check(before: &Value, name: &str, expect: &Value) {
        let after = merged(before, &preset(name).unwrap());
        assert_eq!(after, *expect, "{name} over {before}");
        check_value(&"noop/a".parse().unwrap(), &after, &Defaults::default()).unwrap();
    }

    #[test]
    fn a_preset_takes_the_place_of_any_cadence_and_leaves_the_rest() {
        let nightly = json!({"cron": "0 2 * * *", "jitter_sec": 3600, "labels": {"a": "b"}});
        check(&json!({"interval_sec": 60, "labels": {"a": "b"}}), "nightly", &nightly);
        check(&nightly, "5min", &json!({"interval_sec": 300, "labels": {"a": "b"}}));
        let at_home = json!({"cron": "5 5 * * *", "timezone": "America/Denver"});
        let expect = json!({"cron": "0 2 * * *", "timezone": "America/Denver", "jitter_sec": 3600});
        check(&at_home, "nightly", &expect);
        check(&at_home, "1h", &json!({"interval_sec": 3600}));
        check(&json!({}), "15min", &json!({"interval_sec": 900}));
        let refused = preset("weekly").unwrap_err().to_string();
        assert!(refused.ends_with("(there are: 5min, 15min, 1h, nightly)"), "{refused}");
    }
}
