//! What files mean over defaults, and where each value comes from.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::super::*;
use super::{acculynx, noop};
use crate::core::model::{Connector, Digest, ScheduleId, ScheduleSpec};

fn layer(file: DefaultsFile, text: &str) -> Layer {
    let parsed = parse_defaults(file, text.as_bytes());
    parsed.layer.unwrap_or_else(|| panic!("{text:?}: {:?}", parsed.diagnostics))
}

/// The fleet's and AccuLynx's; an empty text is no file.
fn defaults(fleet: &str, connectors: &str) -> Defaults {
    let given = [(DefaultsFile::Fleet, fleet), (DefaultsFile::Of(Connector::Acculynx), connectors)];
    Defaults::new(
        given.into_iter().filter(|(_, text)| !text.is_empty()).map(|(file, text)| layer(file, text)).collect(),
    )
}

/// Each effective field as `name=value origin:line`, in order.
fn render(id: &ScheduleId, file: &str, defaults: &Defaults) -> String {
    let parsed = parse(id, file.as_bytes(), defaults);
    let Some(spec) = parsed.spec else {
        return parsed
            .diagnostics
            .iter()
            .map(|d| format!("{}:{} {}", d.line, d.column, d.code))
            .collect::<Vec<_>>()
            .join(", ");
    };
    let origins = Origins::of(id, file.as_bytes(), defaults);
    let shown = crate::core::plan::diff(None, Some(&spec)).into_iter().map(|change| {
        let origin = match origins.origin(&change.field) {
            Origin::File(line) => format!("file:{line}"),
            Origin::Defaults(DefaultsFile::Fleet, line) => format!("fleet:{line}"),
            Origin::Defaults(DefaultsFile::Of(_), line) => format!("connector:{line}"),
            Origin::BuiltIn => "built-in".to_owned(),
        };
        format!("{}={} {origin}", change.field, change.to.to_string().replace('"', ""))
    });
    shown.filter(|field| !field.starts_with("resources=[jobs,contacts] built-in")).collect::<Vec<_>>().join(", ")
}

#[track_caller]
fn check(fleet: &str, connectors: &str, file: &str, expect: &str) {
    let found = render(&acculynx(), file, &defaults(fleet, connectors));
    assert_eq!(found, expect, "for {fleet:?}, {connectors:?}, {file:?}");
}

#[test]
fn the_nearer_wins_key_by_key() {
    check("interval_sec: 900", "", "labels: {}", "interval_sec=900 fleet:1, paused=false built-in");
    check("interval_sec: 900", "interval_sec: 600", "{}", "interval_sec=600 connector:1, paused=false built-in");
    check("interval_sec: 900", "interval_sec: 600", "interval_sec: 5", "interval_sec=5 file:1, paused=false built-in");
    check(
        "resources: [jobs]",
        "",
        "interval_sec: 5\nresources: [contacts]",
        "interval_sec=5 file:1, paused=false built-in, resources=[contacts] file:2",
    );
    check(
        "resources: [jobs]\n",
        "",
        "interval_sec: 5",
        "interval_sec=5 file:1, paused=false built-in, resources=[jobs] fleet:1",
    );
}

#[test]
fn maps_merge_per_key() {
    check(
        "interval_sec: 5\nlabels: { region: west, tier: gold }",
        "labels:\n  tier: silver\n  own: x",
        "labels: { own: y }",
        "interval_sec=5 fleet:1, labels.own=y file:1, labels.region=west fleet:2, labels.tier=silver connector:2, paused=false built-in",
    );
    check(
        "interval_sec: 5\nconnection: { base_url: 'https://a.example/', api_key: { env: CC_SECRET_A } }",
        "connection: { api_key: { file: b } }",
        "connection: { base_url: 'https://c.example' }",
        "connection.api_key={file:b} connector:1, connection.base_url=https://c.example file:1, interval_sec=5 fleet:1, paused=false built-in",
    );
}

#[test]
fn a_cadence_is_one_thing() {
    let zone = "cron: 0 5 * * *\ntimezone: America/Denver";
    check(zone, "", "interval_sec: 5", "interval_sec=5 file:1, paused=false built-in");
    check(
        "interval_sec: 5",
        "",
        "cron: 0 6 * * *",
        "cron=0 6 * * * file:1, paused=false built-in, timezone=UTC built-in",
    );
    check(zone, "", "cron: 0 6 * * *", "cron=0 6 * * * file:1, paused=false built-in, timezone=America/Denver fleet:2");
    check(
        "timezone: America/Denver",
        "cron: 0 7 * * *",
        "{}",
        "cron=0 7 * * * connector:1, paused=false built-in, timezone=America/Denver fleet:1",
    );
    check(zone, "interval_sec: 7", "{}", "interval_sec=7 connector:1, paused=false built-in");
    check("interval_sec: 5", "", "timezone: UTC", "1:1 timezone-without-cron");
    check(
        zone,
        "",
        "timezone: Europe/Berlin",
        "cron=0 5 * * * fleet:1, paused=false built-in, timezone=Europe/Berlin file:1",
    );
}

#[test]
fn a_null_takes_a_farther_default_away() {
    check("interval_sec: 5", "", "interval_sec:", "0:0 no-cadence");
    check("interval_sec: 5", "interval_sec:", "{}", "0:0 no-cadence");
    check(
        "interval_sec: 5",
        "interval_sec:",
        "cron: 0 5 * * *",
        "cron=0 5 * * * file:1, paused=false built-in, timezone=UTC built-in",
    );
    check(
        "cron: 0 5 * * *\ntimezone: America/Denver",
        "",
        "timezone: ~",
        "cron=0 5 * * * fleet:1, paused=false built-in, timezone=UTC built-in",
    );
    check(
        "interval_sec: 5\nlabels: { a: x, b: y }",
        "",
        "labels: { a: }",
        "interval_sec=5 fleet:1, labels.b=y fleet:2, paused=false built-in",
    );
    check(
        "interval_sec: 5\nlabels: { a: x, b: y }",
        "labels: { b: }",
        "{}",
        "interval_sec=5 fleet:1, labels.a=x fleet:2, paused=false built-in",
    );
    check("interval_sec: 5\nlabels: { a: x }", "", "labels:", "interval_sec=5 fleet:1, paused=false built-in");
    check("interval_sec: 5\nresources: [jobs]", "", "resources:", "interval_sec=5 fleet:1, paused=false built-in");
    // Where there is nothing to take away, it is a value forgotten, as ever.
    check("interval_sec: 5", "", "paused:", "1:7 no-value");
    check("interval_sec: 5", "", "labels: { a: }", "1:12 no-value");
}

#[test]
fn a_reason_belongs_to_its_pause() {
    let paused = "interval_sec: 5\npaused: true\npause_reason: winter";
    check(paused, "", "{}", "interval_sec=5 fleet:1, pause_reason=winter fleet:3, paused=true fleet:2");
    check(paused, "", "paused: false", "interval_sec=5 fleet:1, paused=false file:1");
    check(paused, "", "paused:", "interval_sec=5 fleet:1, paused=false built-in");
    check(paused, "paused: false", "{}", "interval_sec=5 fleet:1, paused=false connector:1");
    check(paused, "paused: false", "paused: true", "interval_sec=5 fleet:1, paused=true file:1");
    check(paused, "", "pause_reason: mine", "interval_sec=5 fleet:1, pause_reason=mine file:1, paused=true fleet:2");
}

#[test]
fn an_empty_file_never_means_anything() {
    let defaults = defaults("interval_sec: 5", "");
    for text in ["", "\n", "# only\n", "---\n", "~"] {
        assert_eq!(render(&acculynx(), text, &defaults), "0:0 empty", "{text:?}");
    }
    assert_eq!(render(&acculynx(), "- a", &defaults), "1:1 not-a-mapping");
    assert_eq!(render(&acculynx(), "a: [", &defaults), "1:4 syntax");
}

#[test]
fn what_the_fleet_says_of_sources_passes_by_a_connector_without_one() {
    let defaults =
        defaults("interval_sec: 5\nconnection: { base_url: 'https://a.example' }\nresources: [jobs]", "paused: true");
    assert_eq!(render(&noop(), "{}", &defaults), "interval_sec=5 fleet:1, paused=false built-in");
}

#[test]
fn a_file_of_defaults_is_judged_as_strictly() {
    let check = |file: DefaultsFile, text: &str, expect: &str| {
        let parsed = parse_defaults(file, text.as_bytes());
        assert_eq!(parsed.layer.is_none(), parsed.diagnostics.iter().any(|d| d.severity == Severity::Error), "{text}");
        let found = parsed.diagnostics.iter().map(|d| {
            assert_eq!(d.file, file.path());
            format!("{}:{} {} {}", d.line, d.column, d.code, d.field)
        });
        assert_eq!(found.collect::<Vec<_>>().join(", "), expect, "for {text:?}");
    };
    let (fleet, own, idle) =
        (DefaultsFile::Fleet, DefaultsFile::Of(Connector::Acculynx), DefaultsFile::Of(Connector::Noop));
    check(fleet, "", "0:0 empty ");
    check(fleet, "# nothing yet\n", "0:0 empty ");
    check(fleet, "{}", "");
    check(fleet, "- a", "1:1 not-a-mapping ");
    check(
        fleet,
        "interval_sec: 0\ncron: x\nfoo: 1\n",
        "1:15 out-of-range /interval_sec, 2:1 two-cadences /cron, 2:7 bad-cron /cron, 3:1 unknown-key /foo",
    );
    check(fleet, "interval_sec:\n", "1:13 no-value /interval_sec");
    check(
        own,
        "interval_sec:\nfoo:\nlabels: { a: }\nconnection: { api_key: , token: }\n",
        "2:1 unknown-key /foo, 4:26 unknown-key /connection/token",
    );
    check(own, "pause_reason: x", "1:1 unused-pause-reason /pause_reason");
    check(own, "connection: { api_key: sk-live }", "1:24 literal-secret /connection/api_key");
    check(idle, "connection: { base_url: 'https://a.example' }", "1:1 not-for-connector /connection");
    check(own, "a: 1\na: 2", "1:1 unknown-key /a, 2:1 duplicate-key /a");
    check(own, "\u{0}", "1:1 syntax ");
}

#[test]
fn the_basis_tells_defaults_apart_and_is_the_files_without_any() {
    let file = Digest::of(b"x");
    let basis = |fleet: &str, connectors: &str, connector| defaults(fleet, connectors).basis(connector, file);
    assert_eq!(basis("", "", Connector::Acculynx), file);
    assert_eq!(basis("{}", "interval_sec:", Connector::Acculynx), file);
    let five = basis("interval_sec: 5", "", Connector::Acculynx);
    assert_eq!(five, basis("# same\ninterval_sec: 5\n", "{}", Connector::Acculynx));
    assert_eq!(five, basis("interval_sec: 7", "interval_sec: 5", Connector::Acculynx));
    assert_ne!(five, file);
    assert_ne!(five, basis("interval_sec: 6", "", Connector::Acculynx));
    assert_ne!(five, defaults("interval_sec: 5", "").basis(Connector::Acculynx, Digest::of(b"y")));
    assert_eq!(basis("", "interval_sec: 5", Connector::Noop), file);
    assert_eq!(basis("connection: { base_url: 'https://a.example' }", "", Connector::Noop), file);
}

#[test]
fn an_api_body_is_judged_over_the_defaults() {
    let defaults = defaults("interval_sec: 5\nlabels: { a: x }", "");
    let spec = check_value(&acculynx(), &json!({ "labels": { "b": "y" } }), &defaults).unwrap();
    assert_eq!((spec.interval_sec, spec.labels.len()), (Some(5), 2));
    assert!(check_value(&acculynx(), &json!({ "labels": {} }), Defaults::NONE).is_err());
}

/// Documents out of a few values for each key, `null` among them.
fn document(nulls: bool) -> impl Strategy<Value = Map<String, Value>> {
    let cadence = prop_oneof![
        Just(json!({})),
        Just(json!({ "interval_sec": 5 })),
        Just(json!({ "interval_sec": 7 })),
        Just(json!({ "cron": "0 5 * * *" })),
        Just(json!({ "cron": "0 6 * * *", "timezone": "America/Denver" })),
    ];
    let pause = prop_oneof![
        Just(json!({})),
        Just(json!({ "paused": false })),
        Just(json!({ "paused": true })),
        Just(json!({ "paused": true, "pause_reason": "winter" })),
        Just(json!({ "paused": true, "pause_reason": "rest" })),
    ];
    let value =
        |nulls: bool| prop_oneof![4 => Just(json!("x")), 4 => Just(json!("y")), u32::from(nulls) => Just(Value::Null)];
    let labels = proptest::collection::btree_map("[abc]", value(nulls), 0..3);
    let taken = proptest::collection::vec(
        prop_oneof![Just("interval_sec"), Just("cron"), Just("paused"), Just("resources"), Just("labels")],
        0..if nulls { 3 } else { 1 },
    );
    let resources = prop_oneof![Just(json!({})), Just(json!({ "resources": ["jobs"] }))];
    (cadence, pause, labels, resources, taken).prop_map(|(cadence, pause, labels, resources, taken)| {
        let mut document = Map::new();
        for part in [cadence, pause, resources] {
            document.extend(part.as_object().unwrap().clone());
        }
        if !labels.is_empty() {
            document.insert("labels".into(), json!(labels));
        }
        for key in taken {
            if !document.contains_key(key) {
                document.insert(key.into(), Value::Null);
            }
        }
        document
    })
}

/// The document that says what `near` over `far` means, worked out key by key.
fn by_hand(far: &Map<String, Value>, near: &Map<String, Value>) -> Map<String, Value> {
    let pick = |key: &str| near.get(key).or_else(|| far.get(key)).filter(|value| !value.is_null()).cloned();
    let mut out = Map::new();
    let has = |key: &str| near.get(key).is_some_and(|value| !value.is_null());
    match (has("interval_sec"), has("cron")) {
        (false, false) => {
            out.extend(pick("interval_sec").map(|value| ("interval_sec".to_owned(), value)));
            out.extend(pick("cron").map(|value| ("cron".to_owned(), value)));
        }
        (true, _) => drop(out.insert("interval_sec".to_owned(), near["interval_sec"].clone())),
        (false, true) => drop(out.insert("cron".to_owned(), near["cron"].clone())),
    }
    for key in ["timezone", "resources", "paused"] {
        out.extend(pick(key).map(|value| (key.to_owned(), value)));
    }
    let far_is_paused = far.get("paused") == Some(&json!(true));
    let reason = match near.get("paused") {
        None | Some(Value::Bool(true)) if far_is_paused => pick("pause_reason"),
        _ => near.get("pause_reason").cloned(),
    };
    out.extend(reason.map(|value| ("pause_reason".to_owned(), value)));
    let mut labels = Map::new();
    if near.get("labels") != Some(&Value::Null) {
        for side in [far, near] {
            labels.extend(side.get("labels").and_then(Value::as_object).cloned().into_iter().flatten());
        }
    }
    labels.retain(|_, value| !value.is_null());
    out.insert("labels".to_owned(), Value::Object(labels));
    out
}

fn yaml(document: &Map<String, Value>) -> Vec<u8> {
    serde_json::to_vec(document).unwrap()
}

/// What a document means by itself; a time zone without a cron expression means nothing.
fn meaning(mut document: Map<String, Value>) -> Option<ScheduleSpec> {
    if !document.contains_key("cron") {
        document.remove("timezone");
    }
    parse(&acculynx(), &yaml(&document), Defaults::NONE).spec
}

proptest! {
    #[test]
    fn a_file_over_defaults_means_what_merging_by_hand_means(
        fleet in document(false), connectors in document(true), file in document(true),
    ) {
        let layers = [(DefaultsFile::Fleet, &fleet), (DefaultsFile::Of(Connector::Acculynx), &connectors)];
        let layers: Option<Vec<Layer>> =
            layers.into_iter().map(|(file, document)| parse_defaults(file, &yaml(document)).layer).collect();
        let defaults = Defaults::new(layers.unwrap());
        let base = by_hand(&fleet, &connectors);
        // A null with nothing to take away is a finding, which merging by hand does not know.
        let taken = |near: &Map<String, Value>, far: &Map<String, Value>| {
            near.iter().all(|(key, value)| !value.is_null() || key == "labels" || far.contains_key(key))
        };
        let of = |document: &Map<String, Value>| document.get("labels").and_then(Value::as_object).cloned().unwrap_or_default();
        prop_assume!(taken(&file, &base) && taken(&of(&file), &of(&base)));
        let effective = parse(&acculynx(), &yaml(&file), &defaults);
        prop_assert_eq!(effective.spec, meaning(by_hand(&base, &file)), "{:?} {:?} {:?}", fleet, connectors, file);
    }

    #[test]
    fn without_defaults_nothing_is_different(file in document(true)) {
        let none = Defaults::new(Vec::new());
        let empty = defaults("{}", "{}");
        let (a, b) = (parse(&acculynx(), &yaml(&file), Defaults::NONE), parse(&acculynx(), &yaml(&file), &none));
        let c = parse(&acculynx(), &yaml(&file), &empty);
        prop_assert_eq!((&a.spec, &a.diagnostics), (&b.spec, &b.diagnostics));
        prop_assert_eq!((&a.spec, &a.diagnostics), (&c.spec, &c.diagnostics));
        prop_assert_eq!(empty.basis(Connector::Acculynx, Digest::of(b"x")), Digest::of(b"x"));
    }
}
