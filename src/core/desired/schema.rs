//! The published JSON Schema of a schedule's file: from the type, plus the rules between fields.

use serde_json::{Map, Value, json};

use crate::core::model::ScheduleSpec;

/// The JSON Schema (2020-12) of a schedule. A document without any finding is valid by it and the
/// other way round, but for what a schema cannot say: zones, cron details, a connector's own rules.
pub fn schedule_schema() -> Value {
    let mut schema = schemars::schema_for!(ScheduleSpec).to_value();
    if let Value::Object(root) = &mut schema {
        root.insert("$id".into(), json!("urn:command-center:schema:schedule"));
        let about = "One tenant's schedule: the file desired/schedules/CONNECTOR/TENANT.yaml, or an API body.";
        root.insert("description".into(), json!(about));
        root.insert("oneOf".into(), json!([{ "required": ["interval_sec"] }, { "required": ["cron"] }]));
        root.insert("dependentRequired".into(), json!({ "timezone": ["cron"] }));
        root.insert("dependentSchemas".into(), json!({ "pause_reason": only_paused(), "pause_until": only_paused() }));
        root.insert("examples".into(), examples());
        let definitions = ["$defs", "Connection", "properties"];
        if let Some(connection) = at(root, &definitions) {
            connection.values_mut().for_each(forbid_null);
            extend(
                connection,
                "base_url",
                json!({
                    "maxLength": 2048,
                    "pattern": r"^https?://[^\s/?#@\\]+(/[^\s?#\\]*)?$",
                    "examples": ["https://api.acculynx.com/api/v2"],
                }),
            );
            extend(
                connection,
                "api_key",
                json!({ "examples": [{ "env": "CC_SECRET_PEAKPRO" }, { "file": "peakpro" }] }),
            );
        }
        if let Some(fields) = at(root, &["properties"]) {
            refine(fields);
        }
    }
    schema
}

/// What a key asks for that says more of a pause.
fn only_paused() -> Value {
    json!({ "required": ["paused"], "properties": { "paused": { "const": true } } })
}

/// What the rules of `check` say beyond the field's type.
fn refine(fields: &mut Map<String, Value>) {
    fields.values_mut().for_each(forbid_null);
    extend(fields, "cron", json!({ "pattern": r"^\s*([^\s@]\S*\s+){4}\S+\s*$" }));
    extend(
        fields,
        "pause_reason",
        json!({ "allOf": [
        { "pattern": r"\S" },
        { "pattern": r"^[^\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]*$" },
    ] }),
    );
    // An offset may be left out where there is a time zone, so that it is no `date-time`.
    extend(
        fields,
        "pause_until",
        json!({ "pattern": r"^\s*\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?([Zz]|[+-]\d{2}:\d{2})?\s*$" }),
    );
    extend(fields, "resources", json!({ "minItems": 1, "examples": [["jobs", "contacts"]] }));
    extend(
        fields,
        "labels",
        json!({
            // A key whose lines below it are all comments is no mistake.
            "type": ["object", "null"],
            "propertyNames": { "pattern": "^[a-zA-Z0-9._/-]{1,63}$" },
            "additionalProperties": { "type": "string", "maxLength": 256, "pattern": r"^[^\u0000-\u001f\u007f-\u009f]*$" },
            "examples": [{ "region": "west" }],
        }),
    );
    if let Some(Value::Object(connection)) = fields.get_mut("connection") {
        let reference = connection.remove("$ref").or_else(|| connection.remove("anyOf")?.get(0)?.get("$ref").cloned());
        connection.insert("anyOf".into(), json!([{ "$ref": reference }, { "type": "null" }]));
    }
    extend(fields, "paused", json!({ "examples": [true] }));
}

/// Takes `null` out: a key that is there has a value.
fn forbid_null(field: &mut Value) {
    let Value::Object(field) = field else { return };
    if let Some(Value::Array(types)) = field.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            field.insert("type".into(), only);
        }
    }
    let reference = match field.get_mut("anyOf") {
        Some(Value::Array(any)) => {
            any.retain(|schema| schema != &json!({ "type": "null" }));
            match any.as_slice() {
                [only] => only.get("$ref").cloned(),
                _ => None,
            }
        }
        _ => None,
    };
    if let Some(reference) = reference {
        field.remove("anyOf");
        field.insert("$ref".into(), reference);
    }
}

fn extend(fields: &mut Map<String, Value>, name: &str, more: Value) {
    if let (Some(Value::Object(field)), Value::Object(more)) = (fields.get_mut(name), more) {
        field.extend(more);
    }
}

fn at<'m>(map: &'m mut Map<String, Value>, path: &[&str]) -> Option<&'m mut Map<String, Value>> {
    path.iter().try_fold(map, |map, name| map.get_mut(*name)?.as_object_mut())
}

fn examples() -> Value {
    json!([
        { "interval_sec": 300 },
        {
            "cron": "*/15 7-18 * * 1-5",
            "timezone": "America/Denver",
            "paused": true,
            "pause_reason": "The API key is being replaced",
            "pause_until": "2026-12-01T08:00:00",
            "connection": {
                "base_url": "https://api.acculynx.com/api/v2",
                "api_key": { "env": "CC_SECRET_PEAKPRO" },
            },
            "resources": ["jobs", "contacts"],
            "labels": { "region": "west" },
        },
    ])
}
