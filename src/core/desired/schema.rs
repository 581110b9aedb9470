//! The published JSON Schema of a schedule's file: from the type, plus the rules between fields.

mod exec;
mod http;

use serde_json::{Map, Value, json};

use crate::core::model::ScheduleSpec;
use crate::core::windows::WindowSpec;

/// Every published schema by the name of its file. A schedule's is the one that new files name.
pub fn schemas() -> [(&'static str, Value); 3] {
    [
        ("schedule.schema.json", schedule_schema()),
        ("defaults.schema.json", defaults_schema()),
        ("window.schema.json", window_schema()),
    ]
}

/// A schema as its file and the API have it.
pub fn schema_text(schema: &Value) -> String {
    format!("{schema:#}\n")
}

/// The JSON Schema (2020-12) of a schedule. A document without any finding is valid by it and the
/// other way round, but for what a schema cannot say: zones, cron details, a connector's own rules,
/// and what a document leaves out or takes away (`null`) of the defaults below it.
pub fn schedule_schema() -> Value {
    let mut schema = common();
    if let Value::Object(root) = &mut schema {
        root.insert("$id".into(), json!("urn:command-center:schema:schedule"));
        let about = "One tenant's schedule: the file desired/schedules/CONNECTOR/TENANT.yaml, or an API body.";
        root.insert("description".into(), json!(about));
        let both = json!({ "allOf": [given("interval_sec"), given("cron")] });
        let zoned = json!({ "allOf": [given("interval_sec"), given("timezone")] });
        root.insert("not".into(), json!({ "anyOf": [both, zoned] }));
        root.insert(
            "dependentSchemas".into(),
            json!({ "pause_reason": unless_running(), "pause_until": unless_running() }),
        );
        root.insert("examples".into(), examples());
    }
    schema
}

/// The JSON Schema of a file that gives defaults, the fleet's or a connector's.
pub fn defaults_schema() -> Value {
    let mut schema = common();
    if let Value::Object(root) = &mut schema {
        root.insert("$id".into(), json!("urn:command-center:schema:defaults"));
        root.insert("title".into(), json!("Command Center defaults"));
        let about = "What schedules' files leave out: the file desired/defaults.yaml for the whole fleet, \
                     desired/schedules/CONNECTOR/_defaults.yaml for one connector. The nearer wins key by key.";
        root.insert("description".into(), json!(about));
        root.insert("not".into(), json!({ "allOf": [given("interval_sec"), given("cron")] }));
        let mut paused = unless_running();
        if let Value::Object(paused) = &mut paused {
            paused.insert("required".into(), json!(["paused"]));
        }
        let either = json!({ "anyOf": [given("pause_reason"), given("pause_until")] });
        root.insert("if".into(), either);
        root.insert("then".into(), paused);
        root.insert(
            "examples".into(),
            json!([{ "interval_sec": 900, "labels": { "region": "west" } }, { "timezone": "America/Denver" }]),
        );
    }
    schema
}

/// The JSON Schema of a maintenance window's file.
pub fn window_schema() -> Value {
    let mut schema = schemars::schema_for!(WindowSpec).to_value();
    if let Value::Object(root) = &mut schema {
        root.insert("$id".into(), json!("urn:command-center:schema:window"));
        let about = "A time in which no run starts: the file desired/windows/NAME.yaml.";
        root.insert("description".into(), json!(about));
        if let Some(fields) = at(root, &["properties"]) {
            extend(fields, "cron", json!({ "pattern": CRON }));
            extend(fields, "reason", json!({ "type": "string", "pattern": r"\S" }));
            extend(fields, "timezone", json!({ "type": "string" }));
            extend(fields, "connectors", json!({ "minItems": 1, "examples": [["acculynx"]] }));
            extend(fields, "labels", json!({ "minProperties": 1, "examples": [{ "region": "west" }] }));
            extend(fields, "enabled", json!({ "examples": [false] }));
        }
        root.insert(
            "examples".into(),
            json!([
                { "cron": "0 2 * * 0", "duration_sec": 7200 },
                {
                    "cron": "30 22 1 * *",
                    "timezone": "America/Denver",
                    "duration_sec": 3600,
                    "connectors": ["acculynx"],
                    "labels": { "region": "west" },
                    "reason": "AccuLynx maintenance",
                },
            ]),
        );
    }
    schema
}

/// Five fields, and no nickname.
const CRON: &str = r"^\s*([^\s@]\S*\s+){4}\S+\s*$";

/// A key that is there and has a value.
fn given(key: &str) -> Value {
    json!({ "required": [key], "properties": { key: { "not": { "type": "null" } } } })
}

/// A pause is not taken back in the same file.
fn unless_running() -> Value {
    json!({ "properties": { "paused": { "const": true } } })
}

/// What both have: the keys, each with the rules for its value.
fn common() -> Value {
    let mut schema = schemars::schema_for!(ScheduleSpec).to_value();
    if let Value::Object(root) = &mut schema {
        if let Some(connection) = at(root, &["$defs", "Connection", "properties"]) {
            extend(
                connection,
                "base_url",
                json!({
                    "maxLength": 2048,
                    "pattern": r"^https?://[^\s/?#@\\]+(/[^\s?#\\]*)?$",
                    "examples": ["https://api.acculynx.com/api/v2", "https://api.example.com/v1"],
                }),
            );
            extend(
                connection,
                "api_key",
                json!({ "examples": [{ "env": "CC_SECRET_PEAKPRO" }, { "file": "peakpro" }] }),
            );
            extend(
                connection,
                "webhook_token",
                json!({ "examples": [{ "env": "CC_SECRET_PEAKPRO_WEBHOOK" }, { "file": "peakpro-webhook" }] }),
            );
            exec::keys(connection);
            http::connection(connection);
            connection.values_mut().for_each(allow_null);
        }
        http::refine(root);
        if let Some(fields) = at(root, &["properties"]) {
            refine(fields);
        }
    }
    schema
}

/// What the rules of `check` say beyond the field's type.
fn refine(fields: &mut Map<String, Value>) {
    extend(fields, "cron", json!({ "pattern": CRON }));
    extend(
        fields,
        "pause_reason",
        json!({ "allOf": [
        { "pattern": r"\S" },
        { "pattern": r"^[^\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]*$" },
    ] }),
    );
    // An offset may be left out where there is a time zone, so that it is no `date-time`.
    let moment =
        json!({ "pattern": r"^\s*\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?([Zz]|[+-]\d{2}:\d{2})?\s*$" });
    for key in ["pause_until", "start_at", "end_at"] {
        extend(fields, key, moment.clone());
    }
    extend(fields, "resources", json!({ "minItems": 1, "examples": [["jobs", "contacts"], ["orders"]] }));
    extend(
        fields,
        "labels",
        json!({
            "propertyNames": { "pattern": "^[a-zA-Z0-9._/-]{1,63}$" },
            "additionalProperties": { "type": ["string", "null"], "maxLength": 256, "pattern": r"^[^\u0000-\u001f\u007f-\u009f]*$" },
            "examples": [{ "region": "west" }],
        }),
    );
    extend(fields, "connection", json!({ "examples": [{ "api_key": { "env": "CC_SECRET_PEAKPRO" } }] }));
    extend(fields, "paused", json!({ "examples": [true, false] }));
    fields.values_mut().for_each(allow_null);
}

/// Lets `null` in: it takes a farther default away. The other rules for the value stand as they are.
fn allow_null(field: &mut Value) {
    let Value::Object(field) = field else { return };
    let null = json!("null");
    match field.get_mut("type") {
        Some(Value::Array(types)) if !types.contains(&null) => types.push(null),
        Some(only @ Value::String(_)) => *only = json!([only, "null"]),
        Some(_) => {}
        None => {
            let reference = field.remove("$ref").or_else(|| field.remove("anyOf")?.get(0)?.get("$ref").cloned());
            field.insert("anyOf".into(), json!([{ "$ref": reference }, { "type": "null" }]));
        }
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
