//! The OpenAPI 3.1 document, written from the table of routes and the types' own schemas.

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::problem::{PROBLEM_JSON, ProblemDocument};
use super::table::{Outcome, Param, Place, Route};
use crate::core::access::Role;

const ABOUT: &str = "Keeps a fleet of recurring CRM imports equal to a directory of YAML files, and audits every \
difference.\n\nProtected routes take one of the access headers: `x-ops: 1` or `x-role: ops` (operator), `x-role: \
viewer|operator|admin`, or `X-User-Roles: operator,admin`. `X-User-Name` names the actor in the audit, \
`X-User-Tenant` narrows the caller to one tenant. They are believed only from `COMMAND_CENTER_TRUSTED_PROXIES`. \
Errors are `application/problem+json` (RFC 9457).";

const TAGS: [(&str, &str); 10] = [
    ("Schedules", "One schedule per tenant and connector."),
    ("Runs", "Every run: why it began, how it went, how it ended."),
    ("Records", "What was imported, tenant by tenant."),
    ("Audit", "Who changed what, when, and from where."),
    ("Copies", "Snapshots and backups of the store."),
    ("Operations", "Health, drift, comparing and applying, the emergency stop."),
    ("Analytics", "Totals over the fleet, a tenant, and the audit log."),
    ("Webhooks", "What sources tell by themselves."),
    ("System", "Probes, version and metrics."),
    ("Pages", "The API's own pages."),
];

/// The header schemes; any one of them suffices.
const SCHEMES: [(&str, &str, &str); 3] = [
    ("ops", "x-ops", "`1` is the role operator."),
    ("role", "x-role", "`viewer`, `ops`, `operator` or `admin`."),
    ("roles", "X-User-Roles", "Roles separated by commas, such as `operator,admin`; the highest counts."),
];

/// Writes the document for `routes`.
pub fn document(routes: &[Route]) -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut shapes = settings.into_generator();
    let problem = shapes.subschema_for::<ProblemDocument>().to_value();
    let mut paths: Map<String, Value> = Map::new();
    for route in routes {
        let item = paths.entry(route.facts.template).or_insert_with(|| json!({}));
        if let Value::Object(item) = item {
            item.insert(route.facts.verb.as_str().to_owned(), operation(route, &mut shapes, &problem));
        }
    }
    let schemes: Map<String, Value> = SCHEMES
        .iter()
        .map(|(id, name, about)| {
            ((*id).to_owned(), json!({"type": "apiKey", "in": "header", "name": name, "description": about}))
        })
        .collect();
    let tags: Vec<Value> = TAGS.iter().map(|(name, about)| json!({"name": name, "description": about})).collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Command Center",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
            "license": {"name": "MIT", "identifier": "MIT OR Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": tags,
        "paths": paths,
        "components": {"schemas": shapes.take_definitions(true), "securitySchemes": schemes},
    })
}

fn operation(route: &Route, shapes: &mut SchemaGenerator, problem: &Value) -> Value {
    let facts = &route.facts;
    let mut params: Vec<&Param> = route.params.iter().collect();
    params.sort_by_key(|param| (!param.required, param.place));
    let mut operation = json!({
        "operationId": operation_id(route),
        "tags": [route.tag],
        "summary": route.summary,
        "description": format!("{}{}", route.about, access(facts.needs)),
        "parameters": params.into_iter().map(parameter).collect::<Vec<_>>(),
        "responses": responses(route, shapes, problem),
        "security": [],
    });
    if facts.needs.is_some() {
        operation["security"] = SCHEMES.iter().map(|(id, _, _)| json!({*id: []})).collect();
    }
    if let Some(role) = facts.needs {
        operation["x-role"] = role.as_str().into();
    }
    if let Some(body) = &route.body {
        let schema = (body.shape)(shapes).to_value();
        operation["requestBody"] = json!({
            "required": body.required,
            "content": {"application/json": {"schema": schema, "example": body.example}},
        });
    }
    operation
}

fn access(needs: Option<Role>) -> String {
    needs.map_or_else(|| " Public.".into(), |role| format!(" Needs the role {}.", role.as_str()))
}

/// `get_ops_health`: stable, since generated clients take their names from it.
fn operation_id(route: &Route) -> String {
    let words = route.facts.template.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    std::iter::once(route.facts.verb.as_str()).chain(words).collect::<Vec<_>>().join("_")
}

fn parameter(param: &Param) -> Value {
    let place = match param.place {
        Place::Query => "query",
        Place::Path => "path",
        Place::Header => "header",
    };
    json!({
        "name": param.name,
        "in": place,
        "required": param.required,
        "description": param.about,
        "schema": param.schema,
    })
}

/// The route's own outcomes and those that follow from what it takes.
fn responses(route: &Route, shapes: &mut SchemaGenerator, problem: &Value) -> Value {
    let mut responses: Map<String, Value> = Map::new();
    for outcome in &route.outcomes {
        add(&mut responses, outcome, shapes, problem);
    }
    let facts = &route.facts;
    let mut fails = Vec::new();
    if !route.params.is_empty() || route.body.is_some() {
        fails.push((400, "The request is malformed; `detail` says where."));
    }
    if facts.needs.is_some() {
        fails.push((403, "Access is refused; `reason` says why."));
    }
    if facts.mutation {
        fails.push((409, "A request with the same Idempotency-Key is under way."));
    }
    if route.body.is_some() {
        fails.push((413, "The body is too large."));
        fails.push((415, "The body is not sent as JSON."));
    }
    if route.body.is_some() || facts.mutation {
        fails.push((422, "The body is not valid, `errors` says where; or the Idempotency-Key was used before."));
    }
    for (status, about) in fails {
        let outcome = Outcome { status, about, media: PROBLEM_JSON, shape: None };
        add(&mut responses, &outcome, shapes, problem);
    }
    if !facts.loose_query {
        let outcome = Outcome { status: 500, about: "The server failed.", media: PROBLEM_JSON, shape: None };
        add(&mut responses, &outcome, shapes, problem);
    }
    Value::Object(responses)
}

/// Adds an outcome; a status that is there already gets its words and its media type too.
fn add(responses: &mut Map<String, Value>, outcome: &Outcome, shapes: &mut SchemaGenerator, problem: &Value) {
    let entry = responses.entry(outcome.status.to_string()).or_insert_with(|| json!({"description": ""}));
    let before = entry["description"].as_str().unwrap_or_default();
    entry["description"] = format!("{before} {}", outcome.about).trim().into();
    if outcome.media.is_empty() {
        return;
    }
    let schema = match outcome.shape {
        Some(shape) => shape(shapes).to_value(),
        None if outcome.media == PROBLEM_JSON => problem.clone(),
        None => json!({"type": "string"}),
    };
    entry["content"][outcome.media] = json!({"schema": schema});
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::routes;
    use std::collections::BTreeSet;

    /// Every `$ref` in a value.
    fn refs(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(map) => {
                if let Some(Value::String(target)) = map.get("$ref") {
                    found.insert(target.clone());
                }
                map.values().for_each(|inner| refs(inner, found));
            }
            Value::Array(items) => items.iter().for_each(|inner| refs(inner, found)),
            _ => {}
        }
    }

    #[test]
    fn document_and_router_have_the_same_routes() {
        let table = routes();
        let document = document(&table);
        let mut documented = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            documented.extend(item.as_object().unwrap().keys().map(|verb| format!("{verb} {path}")));
        }
        let routed: Vec<String> =
            table.iter().map(|r| format!("{} {}", r.facts.verb.as_str(), r.facts.template)).collect();
        assert_eq!(documented.len(), routed.len(), "no route stands twice");
        assert_eq!(documented, routed.into_iter().collect());
    }

    #[test]
    fn the_frozen_routes_are_there_with_their_access() {
        let table = routes();
        let check = |line: &str| {
            let mut words = line.split(' ');
            let (verb, path, role) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
            let route = table.iter().find(|r| r.facts.verb.as_str() == verb && r.facts.template == path);
            let needs = route.unwrap_or_else(|| panic!("{line} is missing")).facts.needs;
            assert_eq!(needs.map_or("public", Role::as_str), role, "{line}");
        };
        let import = "/api/crm/import/{connector}";
        for rest in [
            "post {i}/schedule",
            "get {i}/schedule",
            "delete {i}/schedule",
            "post {i}/pause",
            "post {i}/resume",
            "post {i}/run-now",
            "get {i}/audit",
            "get /ops/db",
            "get /ops/replication",
            "post /ops/restart",
            "get /ops/drift",
            "get /ops/audit/verify",
            "post /ops/audit/verify",
            "get /ops/audit/checkpoint",
            "get /ops/audit/key",
            "get /ops/whoami",
            "post /ops/diff",
            "post /ops/apply",
            "get /ops/brake",
            "post /ops/brake",
            "delete /ops/brake",
            "get /analytics/summary",
            "get /analytics/tenants/{tenant}",
            "get /analytics/audit",
        ] {
            check(&format!("{} operator", rest.replace("{i}", import)));
        }
        for path in [
            "/ops/ping",
            "/ops/health",
            "/healthz",
            "/readyz",
            "/meta",
            "/metrics",
            "/docs",
            "/openapi.json",
            "/health",
            "/api/crm/import/{connector}/schedule/status",
        ] {
            check(&format!("get {path} public"));
        }
    }

    #[test]
    fn every_reference_resolves_and_every_operation_is_described() {
        let document = document(&routes());
        let mut found = BTreeSet::new();
        refs(&document, &mut found);
        assert!(found.len() > 10, "{found:?}");
        for target in found {
            let pointer = target.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{target}");
        }
        let tags: Vec<&str> = TAGS.iter().map(|(name, _)| *name).collect();
        for (path, item) in document["paths"].as_object().unwrap() {
            for operation in item.as_object().unwrap().values() {
                assert!(!operation["summary"].as_str().unwrap().is_empty(), "{path}");
                assert!(tags.contains(&operation["tags"][0].as_str().unwrap()), "{path}");
                assert!(!operation["responses"].as_object().unwrap().is_empty(), "{path}");
                for name in path.split('{').skip(1).map(|part| part.split('}').next().unwrap()) {
                    let has = operation["parameters"]
                        .as_array()
                        .unwrap()
                        .iter()
                        .any(|p| p["name"] == name && p["in"] == "path");
                    assert!(has, "{path} documents {name}");
                }
            }
        }
    }

    #[test]
    fn every_schema_is_a_schema() {
        let document = document(&routes());
        for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
            let mut whole = schema.clone();
            whole["components"] = document["components"].clone();
            assert!(jsonschema::draft202012::new(&whole).is_ok(), "{name}");
        }
    }
}
