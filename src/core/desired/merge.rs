//! RFC 7396 merging, with the one rule of schedules: an interval and a cron expression displace each other.

use serde_json::{Map, Value};

/// The document that `patch` makes of `document`: `null` removes a key, mappings merge, everything
/// else replaces. Setting `cron` removes `interval_sec`; setting `interval_sec` removes `cron` and
/// `timezone`; unless the patch itself sets the other one too.
pub fn merged(document: &Value, patch: &Map<String, Value>) -> Value {
    let mut target = match document {
        Value::Object(map) => map.clone(),
        _ => Map::new(),
    };
    merge(&mut target, patch);
    let sets = |key: &str| patch.get(key).is_some_and(|value| !value.is_null());
    if sets("cron") && !patch.contains_key("interval_sec") {
        target.remove("interval_sec");
    }
    if sets("interval_sec") && !sets("cron") {
        for key in ["cron", "timezone"] {
            if !patch.contains_key(key) {
                target.remove(key);
            }
        }
    }
    Value::Object(target)
}

/// Recursion follows the patch, whose depth its own reader bounds.
fn merge(target: &mut Map<String, Value>, patch: &Map<String, Value>) {
    for (key, value) in patch {
        match value {
            Value::Null => {
                target.remove(key);
            }
            Value::Object(inner) => {
                let slot = target.entry(key.clone()).or_insert_with(|| Value::Object(Map::new()));
                if !slot.is_object() {
                    *slot = Value::Object(Map::new());
                }
                if let Value::Object(slot) = slot {
                    merge(slot, inner);
                }
            }
            _ => {
                target.insert(key.clone(), value.clone());
            }
        }
    }
}
