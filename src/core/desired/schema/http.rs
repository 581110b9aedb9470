//! The schema of the connector `http`: what its rules say beyond the types.

use serde_json::{Map, Value, json};

use super::{at, extend};

/// The definitions in which nothing may be null: only whole keys of `connection` take defaults away.
const OWN: [&str; 10] = [
    "BasicAuth",
    "CursorPaging",
    "HeaderAuth",
    "HttpBookmark",
    "HttpMethod",
    "HttpRequest",
    "OauthAuth",
    "OffsetPaging",
    "PagePaging",
    "QueryAuth",
];

pub(super) fn refine(root: &mut Map<String, Value>) {
    for name in OWN {
        if let Some(fields) = at(root, &["$defs", name, "properties"]) {
            fields.values_mut().for_each(forbid_null);
        }
    }
    if let Some(fields) = at(root, &["$defs", "HttpRequest", "properties"]) {
        request(fields);
    }
    if let Some(fields) = at(root, &["$defs", "HttpBookmark", "properties"]) {
        extend(fields, "start", json!({ "type": ["string", "number"] }));
    }
    if let Some(cursor) = at(root, &["$defs", "CursorPaging"]) {
        cursor.insert("oneOf".into(), json!([{ "required": ["at"] }, { "required": ["last"] }]));
    }
    for (name, size) in [("OffsetPaging", "limit"), ("PagePaging", "size")] {
        if let Some(paging) = at(root, &["$defs", name]) {
            paging.insert("dependentRequired".into(), json!({ format!("{size}_param"): [size] }));
            paging.insert("minProperties".into(), json!(1));
        }
    }
    if let Some(Value::Array(ways)) = at(root, &["$defs", "HttpPaging"]).and_then(|paging| paging.get_mut("oneOf")) {
        for way in ways.iter_mut().filter_map(Value::as_object_mut) {
            if let Some(fields) = at(way, &["properties"]) {
                extend(fields, "link", json!({ "const": true }));
                extend(fields, "next_url", json!({ "minLength": 1 }));
            }
        }
    }
}

/// The keys of `connection` that are this connector's.
pub(super) fn connection(fields: &mut Map<String, Value>) {
    let header = "^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}$";
    extend(
        fields,
        "headers",
        json!({
            "minProperties": 1,
            "propertyNames": { "pattern": header },
            "additionalProperties": { "type": "string", "minLength": 1, "maxLength": 1024 },
            "examples": [{ "Accept": "application/json" }],
        }),
    );
    let key = json!({ "env": "CC_SECRET_SHOP" });
    extend(
        fields,
        "auth",
        json!({ "examples": [{ "bearer": key }, { "header": { "name": "X-Api-Key", "secret": key } }] }),
    );
    extend(fields, "max_body_mb", json!({ "examples": [8, 32] }));
    let orders = json!({ "orders": {
        "path": "/orders",
        "query": { "updated_since": "{{bookmark}}" },
        "records": "/data/items",
        "key": ["id"],
        "paging": { "cursor": { "at": "/meta/next", "param": "cursor" } },
        "bookmark": { "field": "updated_at", "start": "1970-01-01T00:00:00Z" },
    } });
    extend(fields, "requests", json!({ "minProperties": 1, "maxProperties": 100, "examples": [orders] }));
}

fn request(fields: &mut Map<String, Value>) {
    let scalar = json!({ "type": ["string", "number", "boolean"], "maxLength": 2048 });
    extend(fields, "query", json!({ "minProperties": 1, "additionalProperties": scalar }));
    extend(fields, "method", json!({ "examples": ["GET", "POST"] }));
    extend(
        fields,
        "body",
        json!({ "type": ["object", "array"], "examples": [{ "filter": { "updated_since": "{{bookmark}}" } }] }),
    );
    let field = json!({ "type": "string", "minLength": 1 });
    if let Some(Value::Object(key)) = fields.get_mut("key") {
        for word in ["type", "items", "minItems", "maxItems"] {
            key.remove(word);
        }
        key.insert("anyOf".into(), json!([field, { "type": "array", "items": field, "minItems": 1, "maxItems": 8 }]));
        key.insert("examples".into(), json!(["id", ["account", "id"]]));
    }
    extend(fields, "max_pages", json!({ "examples": [1000] }));
    extend(
        fields,
        "paging",
        json!({ "examples": [
            { "cursor": { "at": "/meta/next", "param": "cursor" } },
            { "offset": { "param": "offset", "limit_param": "limit", "limit": 100 } },
            { "page": { "param": "page", "size_param": "per_page", "size": 100 } },
            { "link": true },
            { "next_url": "/paging/next" },
        ] }),
    );
    extend(fields, "bookmark", json!({ "examples": [{ "field": "updated_at", "start": "1970-01-01T00:00:00Z" }] }));
}

/// Takes null out again that an optional field's type lets in.
fn forbid_null(field: &mut Value) {
    let Value::Object(field) = field else { return };
    if let Some(Value::Array(types)) = field.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            field.insert("type".into(), only);
        }
    }
    if let Some(Value::Array(ways)) = field.remove("anyOf") {
        let reference = ways.iter().find_map(|way| way.get("$ref").cloned());
        match reference {
            Some(reference) => field.insert("$ref".into(), reference),
            None => field.insert("anyOf".into(), ways.into()),
        };
    }
}
