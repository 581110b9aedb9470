//! Three versions of one document: which fields two people changed to different values.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A field that both sides changed since their common base, each to another value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FieldConflict {
    /// Dotted, e.g. `labels.region`.
    pub field: String,
    /// What both started from; null where there was nothing.
    pub base: Value,
    pub yours: Value,
    pub current: Value,
}

/// The fields in which `yours` and `current` went different ways from `base`. Empty means that the
/// two changes go together.
pub fn conflicts(base: &Value, yours: &Value, current: &Value) -> Vec<FieldConflict> {
    let [base, yours, current] = [base, yours, current].map(flat);
    let fields: BTreeSet<&String> = base.keys().chain(yours.keys()).chain(current.keys()).collect();
    let at = |side: &Map<String, Value>, field: &String| side.get(field).cloned().unwrap_or(Value::Null);
    fields
        .into_iter()
        .map(|field| FieldConflict {
            field: field.clone(),
            base: at(&base, field),
            yours: at(&yours, field),
            current: at(&current, field),
        })
        .filter(|found| found.yours != found.base && found.current != found.base && found.yours != found.current)
        .collect()
}

/// A document's fields; those of a mapping one by one, but a reference to a secret as a whole.
fn flat(document: &Value) -> Map<String, Value> {
    let mut fields = Map::new();
    for (name, value) in document.as_object().into_iter().flatten() {
        match value {
            Value::Object(inner) => {
                fields.extend(inner.iter().map(|(key, value)| (format!("{name}.{key}"), value.clone())));
            }
            value => {
                fields.insert(name.clone(), value.clone());
            }
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(base: &Value, yours: &Value, current: &Value, expect: &[&str]) {
        let found = conflicts(base, yours, current);
        let fields: Vec<&str> = found.iter().map(|conflict| conflict.field.as_str()).collect();
        assert_eq!(fields, expect, "{base} {yours} {current}");
    }

    #[test]
    fn only_the_same_field_changed_to_different_values_conflicts() {
        let base = json!({"interval_sec": 300, "labels": {"a": "1"}});
        let yours = json!({"interval_sec": 60, "labels": {"a": "1"}});
        check(&base, &yours, &json!({"interval_sec": 300, "labels": {"a": "2"}}), &[]);
        check(&base, &yours, &yours, &[]);
        check(&base, &yours, &json!({"interval_sec": 5, "labels": {"a": "1"}}), &["interval_sec"]);
        check(&base, &yours, &json!({"cron": "0 2 * * *", "labels": {"a": "1"}}), &["interval_sec"]);
        let labels = |a: &str, b: &str| json!({"interval_sec": 300, "labels": {"a": a, "b": b}});
        check(&base, &labels("1", "x"), &labels("2", "y"), &["labels.b"]);
        check(&base, &json!({}), &labels("2", "y"), &["labels.a"]);
    }
}
