//! The published schema and the rules of `parse` agree.

use serde_json::json;

use super::super::*;
use super::acculynx;

/// Documents without a finding only because of the defaults below them, which no schema sees.
const GOOD_OVER_DEFAULTS: &[&str] = &[
    "{}",
    "paused: true",
    "interval_sec:",
    "cron:",
    "cron: '* * * * *'\ntimezone:",
    "interval_sec: 5\npaused:",
    "interval_sec: 5\npause_reason: x",
    "interval_sec: 5\npaused: true\npause_reason:",
    "interval_sec: 5\nconnection: { base_url: }",
    "interval_sec: 5\nconnection: { api_key: }",
    "interval_sec: 5\nresources:",
    "interval_sec: 5\nlabels: { a: }",
    "interval_sec:\ncron: '* * * * *'",
];

/// Documents, and whether they are good. What no schema can say (zones, dates, cron ranges) is left out.
const TABLE: &[(bool, &str)] = &[
    (true, "interval_sec: 1"),
    (true, "interval_sec: 31622400"),
    (true, "cron: '*/15 7-18 * * 1-5'"),
    (true, "cron: ' 0  5 * * * '\ntimezone: America/Denver"),
    (true, "interval_sec: 5\npaused: true\npause_reason: moving"),
    (true, "interval_sec: 5\npaused: true\npause_reason: |\n  two\n  lines"),
    (true, "interval_sec: 5\npaused: false"),
    (true, "interval_sec: 5\nconnection: {}"),
    (true, "interval_sec: 5\nconnection:"),
    (true, "interval_sec: 5\nconnection: { base_url: 'http://localhost:9000/a@b/' }"),
    (true, "interval_sec: 5\nconnection: { api_key: { env: CC_SECRET_A } }"),
    (true, "interval_sec: 5\nconnection: { api_key: { file: a.b-c } }"),
    (true, "interval_sec: 5\nresources: [contacts, jobs]"),
    (true, "interval_sec: 5\njitter_sec: 0\noverlap: allow\ncatch_up: none\nretries: 20\ntimeout_sec: 86400"),
    (true, "interval_sec: 5\nstart_at: 2026-12-01T08:00:00Z\nend_at: '2026-12-02T08:00:00+01:00'"),
    (true, "interval_sec: 5\ncatch_up: all\ncatch_up_max: 1000\ncatch_up_window_sec: 60\nauto_pause_after: 3"),
    (false, "interval_sec: 5\noverlap: queue"),
    (false, "interval_sec: 5\ncatch_up: false"),
    (false, "interval_sec: 5\nretries: 21"),
    (false, "interval_sec: 5\njitter_sec: -1"),
    (false, "interval_sec: 5\ntimeout_sec: 0"),
    (false, "interval_sec: 5\nstart_at: soon"),
    (true, "interval_sec: 5\nlabels: { a/b.c: '' }"),
    (true, "interval_sec: 5\nlabels:"),
    (false, "[]"),
    (false, "interval_sec: 0"),
    (false, "interval_sec: 31622401"),
    (false, "interval_sec: '5'"),
    (false, "interval_sec: 1.5"),
    (false, "interval_sec: 5\ncron: '* * * * *'"),
    (false, "interval_sec: 5\ntimezone: UTC"),
    (false, "interval_sec: 5\nfoo: bar"),
    (false, "cron: '* * * *'"),
    (false, "cron: '* * * * * *'"),
    (false, "cron: '@daily'"),
    (false, "cron: 5"),
    (false, "interval_sec: 5\npaused: 'true'"),
    (false, "interval_sec: 5\npaused: yes"),
    (false, "interval_sec: 5\npaused: false\npause_reason: x"),
    (false, "interval_sec: 5\npaused: true\npause_reason: ' '"),
    (false, "interval_sec: 5\npaused: true\npause_reason: \"\\e[1m\""),
    (false, "interval_sec: 5\nconnection: x"),
    (false, "interval_sec: 5\nconnection: { base_url: 'ftp://x' }"),
    (false, "interval_sec: 5\nconnection: { base_url: 'https://u:p@x' }"),
    (false, "interval_sec: 5\nconnection: { base_url: 'https://x/?q=1' }"),
    (false, "interval_sec: 5\nconnection: { base_url: 'https://' }"),
    (false, "interval_sec: 5\nconnection: { token: x }"),
    (false, "interval_sec: 5\nconnection: { api_key: abc }"),
    (false, "interval_sec: 5\nconnection: { api_key: { env: A } }"),
    (false, "interval_sec: 5\nconnection: { api_key: { env: CC_SECRET_ } }"),
    (false, "interval_sec: 5\nconnection: { api_key: { file: a/b } }"),
    (false, "interval_sec: 5\nconnection: { api_key: { file: a, env: CC_SECRET_A } }"),
    (false, "interval_sec: 5\nconnection: { api_key: { } }"),
    (false, "interval_sec: 5\nresources: []"),
    (false, "interval_sec: 5\nresources: ['a job']"),
    (false, "interval_sec: 5\nresources: jobs"),
    (false, "interval_sec: 5\nlabels: { a: 5 }"),
    (false, "interval_sec: 5\nlabels: { 'a b': c }"),
    (false, "interval_sec: 5\nlabels: { '': c }"),
    (false, "interval_sec: 5\nlabels: { a: \"b\\n\" }"),
];

#[test]
fn a_document_without_findings_is_valid_by_the_schema_and_the_other_way_round() {
    let schema = jsonschema::draft202012::new(&schedule_schema()).unwrap();
    let long = |n: usize, m: usize| {
        format!(
            "interval_sec: 5\npaused: true\npause_reason: {}\nlabels: {{ {}: {} }}",
            "r".repeat(n),
            "k".repeat(m),
            "v".repeat(m * 4)
        )
    };
    let long = [(true, long(500, 63)), (false, long(501, 1)), (false, long(1, 64)), (false, long(1, 65))];
    let table = TABLE.iter().map(|(good, text)| (*good, (*text).to_owned())).chain(long);
    for (good, text) in table {
        let value = document_value(&acculynx(), text.as_bytes()).unwrap();
        let errors: Vec<_> = schema.iter_errors(&value).map(|error| error.to_string()).collect();
        assert_eq!(errors.is_empty(), good, "schema on {text:?}: {errors:?}");
        let found = parse(&acculynx(), text.as_bytes(), Defaults::NONE).diagnostics;
        assert_eq!(found.is_empty(), good, "parse on {text:?}: {found:?}");
    }
}

#[test]
fn what_defaults_can_mend_is_valid_by_the_schema_and_found_without_them() {
    let schema = jsonschema::draft202012::new(&schedule_schema()).unwrap();
    for text in GOOD_OVER_DEFAULTS {
        let value = document_value(&acculynx(), text.as_bytes()).unwrap();
        assert!(schema.is_valid(&value), "schema on {text:?}");
        let found = parse(&acculynx(), text.as_bytes(), Defaults::NONE).diagnostics;
        assert!(!found.is_empty(), "parse on {text:?}");
    }
}

/// Files of a connector's defaults, and whether they are good.
const DEFAULTS: &[(bool, &str)] = &[
    (true, "{}"),
    (true, "interval_sec: 900"),
    (true, "interval_sec: 900\ntimezone: America/Denver"),
    (true, "cron: '0 5 * * *'\ninterval_sec:"),
    (true, "paused: true\npause_reason: moving"),
    (true, "labels: { region: west, tier: }\nresources: [jobs]"),
    (true, "connection: { base_url: 'https://x.example', api_key: }"),
    (true, "paused:\npause_reason:\nlabels:\nconnection:"),
    (false, "[]"),
    (false, "interval_sec: 900\ncron: '0 5 * * *'"),
    (false, "pause_reason: moving"),
    (false, "paused: false\npause_reason: moving"),
    (false, "paused:\npause_reason: moving"),
    (false, "interval: 900"),
    (false, "connection: { token: }"),
    (false, "connection: { api_key: abc }"),
];

#[test]
fn the_schema_of_defaults_agrees_with_their_rules() {
    let schema = defaults_schema();
    assert!(jsonschema::meta::is_valid(&schema));
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    for example in schema["examples"].as_array().unwrap() {
        assert!(validator.is_valid(example), "{example}");
    }
    let file = DefaultsFile::Of(acculynx().connector);
    for (good, text) in DEFAULTS {
        let value = document_value(&acculynx(), text.as_bytes()).unwrap();
        let errors: Vec<_> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
        assert_eq!(errors.is_empty(), *good, "schema on {text:?}: {errors:?}");
        let found = parse_defaults(file, text.as_bytes());
        assert_eq!(found.layer.is_some(), *good, "parse on {text:?}: {:?}", found.diagnostics);
    }
}

#[test]
fn the_schema_is_itself_valid_and_its_examples_are_too() {
    let schema = schedule_schema();
    assert!(jsonschema::meta::is_valid(&schema));
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_eq!(schema["title"], "Command Center schedule");
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    for example in schema["examples"].as_array().unwrap() {
        assert!(validator.is_valid(example), "{example}");
        assert!(check_value(&acculynx(), example, Defaults::NONE).is_ok(), "{example}");
    }
    for (name, field) in schema["properties"].as_object().unwrap() {
        assert!(field["description"].is_string(), "{name} has no description");
    }
    assert_eq!(serde_json::to_string(&schema).unwrap(), serde_json::to_string(&schedule_schema()).unwrap());
}

/// What an editor completes from: words on each key, and values to choose from.
fn help_of(schema: &serde_json::Value, at: &str, out: &mut Vec<String>) {
    let keys = schema["properties"].as_object();
    for (name, field) in keys.into_iter().flatten() {
        let chosen = |field: &serde_json::Value| field["examples"].is_array() || field["enum"].is_array();
        if !field["description"].is_string() || !chosen(field) {
            out.push(format!("{at}/{name}"));
        }
    }
    for (name, inner) in schema["$defs"].as_object().into_iter().flatten() {
        if !inner["description"].is_string() {
            out.push(format!("$defs/{name}"));
        }
        help_of(inner, name, out);
    }
}

#[test]
fn every_key_has_a_description_and_values_to_choose_from() {
    for (name, schema) in schemas() {
        let mut lacking = Vec::new();
        help_of(&schema, "", &mut lacking);
        assert_eq!(lacking, Vec::<String>::new(), "{name}");
        assert!(schema["title"].is_string() && schema["description"].is_string(), "{name}");
        let validator = jsonschema::draft202012::new(&schema).unwrap();
        for (key, field) in schema["properties"].as_object().unwrap() {
            for example in field["examples"].as_array().unwrap() {
                let paused = matches!(key.as_str(), "pause_reason" | "pause_until");
                let base = match () {
                    () if paused => json!({ "paused": true }),
                    () if schema["required"].is_array() => schema["examples"][0].clone(),
                    () => json!({}),
                };
                let document = merged(&base, json!({ key: example }).as_object().unwrap());
                assert!(validator.is_valid(&document), "{name}: {document}");
            }
        }
    }
}

#[test]
fn a_new_file_names_the_schema_beside_the_desired_directory() {
    let text = String::from_utf8(new_document(&serde_json::Map::new())).unwrap();
    let named = text.lines().next().unwrap().strip_prefix("# yaml-language-server: $schema=").unwrap();
    let mut place: Vec<&str> = vec!["desired"];
    let file = acculynx().file();
    place.extend(file.split('/').rev().skip(1).collect::<Vec<_>>().into_iter().rev());
    for part in named.split('/') {
        match part {
            ".." => place.truncate(place.len() - 1),
            part => place.push(part),
        }
    }
    assert_eq!(place, ["schemas", schemas()[0].0]);
}

#[test]
fn an_effective_schedule_is_valid_by_the_schema() {
    let validator = jsonschema::draft202012::new(&schedule_schema()).unwrap();
    let body = json!({ "cron": "0 5 * * *", "connection": { "api_key": { "file": "a" } }, "paused": true });
    let spec = check_value(&acculynx(), &body, Defaults::NONE).unwrap();
    assert!(validator.is_valid(&serde_json::to_value(spec).unwrap()));
}
