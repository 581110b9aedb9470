//! What the schema says of the keys of a connection to a program.

use serde_json::{Map, Value, json};

use super::extend;

pub(super) fn keys(connection: &mut Map<String, Value>) {
    let word = json!({ "type": "string", "maxLength": 4096, "pattern": r"^[^\u0000]*$" });
    let program = json!({ "type": "string", "pattern": r"^(/[^\u0000]+|\\\\.+|.:\\.+|[^/\\{\s][^/\\]*)$" });
    extend(
        connection,
        "command",
        json!({
            "minItems": 1,
            "maxItems": 256,
            "prefixItems": [program],
            "items": word,
            "examples": [["tap-example"], ["/opt/taps/bin/tap-example", "--config", "{{config}}"]],
        }),
    );
    extend(
        connection,
        "config",
        json!({ "examples": [{ "api_url": "https://api.example.com", "api_key": { "env": "CC_SECRET_EXAMPLE" } }] }),
    );
    extend(connection, "catalog", json!({ "examples": [{ "streams": [] }] }));
    extend(
        connection,
        "env",
        json!({
            "maxProperties": 128,
            "propertyNames": { "pattern": "^[A-Za-z_][A-Za-z0-9_]{0,127}$" },
            "additionalProperties": { "anyOf": [{ "$ref": "#/$defs/EnvValue" }, { "type": "null" }] },
            "examples": [{ "TAP_EXAMPLE_TOKEN": { "env": "CC_SECRET_EXAMPLE" } }],
        }),
    );
    extend(connection, "protocol", json!({ "examples": ["singer", "stats"] }));
}
