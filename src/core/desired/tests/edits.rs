//! Edits: what they change, what they leave, and what they refuse.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::super::*;
use super::acculynx;

fn object(value: &Value) -> &Map<String, Value> {
    value.as_object().unwrap()
}

#[track_caller]
fn check(before: &str, patch: Value, after: &str) {
    let edited = edit(&acculynx(), before.as_bytes(), object(&patch));
    assert_eq!(edited.map(|bytes| String::from_utf8(bytes).unwrap()).as_deref(), Ok(after), "for {before:?} {patch}");
}

const FILE: &str = "# Peak\n\
    interval_sec: 300   # five minutes\n\
    \n\
    paused: false # see below\n\
    connection:\n\
    \x20   # the source\n\
    \x20   base_url: \"https://a.example/api\" # v2\n\
    \x20   api_key: { env: CC_SECRET_PEAK }   # by reference\n\
    resources: [jobs,  contacts] # all\n\
    labels: { region: west, tier: 'gold' }\n\
    # the end\n";

#[test]
fn scalars_change_in_place() {
    check(FILE, json!({ "interval_sec": 60 }), &FILE.replace("300", "60"));
    check(
        FILE,
        json!({ "connection": { "base_url": "https://b.example" } }),
        &FILE.replace("https://a.example/api", "https://b.example"),
    );
    check(FILE, json!({ "labels": { "tier": "it's" } }), &FILE.replace("'gold'", "'it''s'"));
    check(
        FILE,
        json!({ "connection": { "api_key": { "env": "CC_SECRET_X" } } }),
        &FILE.replace("CC_SECRET_PEAK", "CC_SECRET_X"),
    );
}

#[test]
fn a_pause_stands_by_its_reason() {
    let paused =
        FILE.replace("paused: false # see below\n", "paused: true # see below\npause_reason: \"moving: day 1\"\n");
    check(FILE, json!({ "paused": true, "pause_reason": "moving: day 1" }), &paused);
    check(&paused, json!({ "paused": false, "pause_reason": null }), FILE);
    check(
        "interval_sec: 5\n# end\n",
        json!({ "paused": true, "pause_reason": "x" }),
        "interval_sec: 5\npaused: true\npause_reason: x\n# end\n",
    );
}

#[test]
fn cron_and_interval_displace_each_other() {
    let cron = FILE.replace("interval_sec: 300", "cron: \"*/5 * * * *\"");
    check(FILE, json!({ "cron": "*/5 * * * *" }), &cron);
    check(&cron, json!({ "interval_sec": 300 }), FILE);
    let zoned = FILE.replace(
        "interval_sec: 300   # five minutes\n",
        "cron: \"*/5 * * * *\"   # five minutes\ntimezone: America/Denver\n",
    );
    check(FILE, json!({ "cron": "*/5 * * * *", "timezone": "America/Denver" }), &zoned);
    check(&zoned, json!({ "interval_sec": 300 }), FILE);
    check("interval_sec: 5", json!({ "cron": "0 5 * * *", "interval_sec": null }), "cron: \"0 5 * * *\"");
}

#[test]
fn keys_come_and_go() {
    check(FILE, json!({ "resources": null }), &FILE.replace("resources: [jobs,  contacts] # all\n", ""));
    check(FILE, json!({ "resources": ["jobs"] }), &FILE.replace("[jobs,  contacts]", "[jobs]"));
    check(
        FILE,
        json!({ "labels": { "region": null, "a": "b" } }),
        &FILE.replace("{ region: west, tier: 'gold' }", "{ tier: 'gold', a: b }"),
    );
    check(
        FILE,
        json!({ "connection": { "base_url": null } }),
        &FILE.replace("    base_url: \"https://a.example/api\" # v2\n", ""),
    );
    check(
        "interval_sec: 5\nlabels:\n  a: b\n# end\n",
        json!({ "labels": { "c": "1" } }),
        "interval_sec: 5\nlabels:\n  a: b\n  c: \"1\"\n# end\n",
    );
    check(
        "interval_sec: 5\nresources:\n  - jobs # j\n  # second\n  - contacts\n",
        json!({ "resources": ["jobs"] }),
        "interval_sec: 5\nresources:\n  - jobs # j\n  # second\n",
    );
    let connection = json!({ "connection": { "base_url": "https://a.example", "api_key": { "file": "peak" } } });
    check(
        "interval_sec: 5\r\n",
        connection,
        "interval_sec: 5\r\nconnection:\r\n  base_url: https://a.example\r\n  api_key: { file: peak }\r\n",
    );
}

#[test]
fn files_without_final_line_break_stay_so() {
    check("interval_sec: 5", json!({ "interval_sec": 6 }), "interval_sec: 6");
    check("interval_sec: 5\npaused: true", json!({ "paused": null }), "interval_sec: 5\n");
    check("interval_sec: 5\n# c", json!({ "paused": true }), "interval_sec: 5\npaused: true\n# c");
    check("interval_sec: 5", json!({ "paused": true }), "interval_sec: 5\npaused: true");
    let last_goes = json!({ "paused": false, "pause_reason": null });
    check("interval_sec: 5\npaused: true # c\npause_reason: x # y", last_goes, "interval_sec: 5\npaused: false # c\n");
}

#[test]
fn empty_documents_are_filled() {
    check("", json!({ "interval_sec": 5 }), "interval_sec: 5\n");
    check("\u{feff}# mine\r\n", json!({ "interval_sec": 5 }), "\u{feff}# mine\r\ninterval_sec: 5\r\n");
    check("# mine", json!({ "interval_sec": 5 }), "# mine\ninterval_sec: 5");
    check("{}\n", json!({ "interval_sec": 5 }), "{interval_sec: 5}\n");
}

#[test]
fn nothing_to_change_gives_the_same_bytes() {
    for text in [FILE, "{interval_sec:   5}", "interval_sec: 5\r\n\r\n", "", "# only"] {
        let same = json!({ "timezone": null });
        check(text, same, text);
    }
    check(FILE, json!({ "interval_sec": 300, "labels": { "region": "west" } }), FILE);
}

#[test]
fn what_is_in_the_way_is_named() {
    let refuse = |text: &str, patch: Value| edit(&acculynx(), text.as_bytes(), object(&patch)).unwrap_err();
    let error = refuse("interval_sec: 5\n---\ninterval_sec: 6\n", json!({ "interval_sec": 7 }));
    assert_eq!(error.line, Some(2));
    assert_eq!(
        error.to_string(),
        "schedules/acculynx/peak.yaml:2 cannot be edited safely: the file holds more than one document"
    );
    assert_eq!(error.suggestion, "interval_sec: 7\n");
    let error = refuse("interval_sec: 5\nlabels: &l { a: x }\nother: *l\n", json!({ "labels": { "a": "y" } }));
    assert_eq!((error.line, error.obstacle), (Some(2), Obstacle::SharedValue));
    assert_eq!(error.suggestion, "labels:\n  a: \"y\"\n");
    let error = refuse("- a\n", json!({ "interval_sec": 5 }));
    assert_eq!(error.obstacle, Obstacle::NotAMapping);
    assert!(matches!(refuse("a: [\n", json!({ "a": 5 })).obstacle, Obstacle::Unreadable { code: "syntax", .. }));
    assert!(matches!(
        refuse("a: !!str 5\n", json!({ "a": 6 })).obstacle,
        Obstacle::Unreadable { code: "unsupported-tag", .. }
    ));
}

/// A document built of lines that people write, with the lines that hold each key.
fn document() -> impl Strategy<Value = String> {
    let cadence = prop::sample::select(vec![
        "interval_sec: 300\n",
        "interval_sec:    7 # often\n",
        "cron: \"*/5 * * * *\" # c\n",
        "cron: '0 5 * * *'\ntimezone: \"America/Denver\"\n",
        "cron: 0 5 * * *\n",
        "'interval_sec': &n 300\n",
        "? interval_sec\n: 5\n",
        "cron: >-\n  0 5\n  * * *\n",
    ]);
    let paused = prop::sample::select(vec![
        "",
        "paused: false\n",
        "paused: true # why\npause_reason: 'it''s off' # see\n",
        "paused: true\npause_reason: |\n  two\n  lines\n\n",
        "paused: &p true\n",
        "pause_reason: \"a\n  b\"\npaused: true\n",
    ]);
    let connection = prop::sample::select(vec![
        "",
        "connection:\n  base_url: https://a.example # x\n  api_key: { env: CC_SECRET_A }\n",
        "connection: { base_url: 'https://a.example', api_key: { file: a } } # flow\n",
        "connection: # here\n      # deep\n      api_key:\n        env: CC_SECRET_A # e\n      # after\n",
        "connection: {}\n",
        "connection:\n  # nothing\n",
        "connection: {\n  base_url: https://a.example,\n  # c\n  }\n",
    ]);
    let resources = prop::sample::select(vec![
        "",
        "resources: [jobs, contacts] # all\n",
        "resources:\n- jobs # j\n- contacts\n",
        "resources:\n  - jobs\n  # and\n  - contacts # c\n",
        "resources: [ jobs ]\n",
        "resources: [\n  jobs, # j\n  contacts,\n]\n",
    ]);
    let labels = prop::sample::select(vec![
        "",
        "labels: { region: west }\n",
        "labels:\n  region: west # r\n  \"tier\": 'gold'\n\n  # c\n  2024: year\n",
        "labels: &l\n  region: &r west\n",
        "labels: {region: west, tier: \"a, b\"}\n",
        "labels: {}\n",
    ]);
    let comment = prop::sample::select(vec!["", "# top\n", "\n", "  # indented\n", "# a: b\n\n"]);
    let parts =
        (cadence, paused, connection, resources, labels).prop_map(|(a, b, c, d, e)| vec![a, b, c, d, e]).prop_shuffle();
    (parts, prop::collection::vec(comment, 6), any::<(bool, bool, bool, bool)>()).prop_map(
        |(parts, comments, (crlf, bom, unfinished, dashes))| {
            let mut text = String::new();
            for (part, comment) in parts.iter().zip(&comments) {
                text.push_str(comment);
                text.push_str(part);
            }
            text.push_str(comments[5]);
            if dashes {
                text.insert_str(0, "---\n");
            }
            if unfinished {
                text.truncate(text.trim_end().len());
            }
            if crlf {
                text = text.replace('\n', "\r\n");
            }
            if bom { format!("\u{feff}{text}") } else { text }
        },
    )
}

fn patches() -> Vec<Value> {
    vec![
        json!({ "interval_sec": 61 }),
        json!({ "cron": "15 6 * * 1-5" }),
        json!({ "cron": "15 6 * * 1-5", "timezone": "Europe/Berlin" }),
        json!({ "paused": true, "pause_reason": "key: \"x\" # gone" }),
        json!({ "paused": false, "pause_reason": null }),
        json!({ "paused": true }),
        json!({ "resources": null }),
        json!({ "resources": ["contacts"] }),
        json!({ "resources": ["contacts", "jobs"] }),
        json!({ "labels": null }),
        json!({ "labels": { "region": null } }),
        json!({ "labels": { "region": "east", "new/one": "yes" } }),
        json!({ "connection": null }),
        json!({ "connection": { "base_url": "https://b.example/api" } }),
        json!({ "connection": { "api_key": { "env": "CC_SECRET_B", "file": null } } }),
        json!({ "connection": { "api_key": { "file": "b", "env": null } }, "interval_sec": 9, "labels": { "a": "b" } }),
        json!({ "connection": { "base_url": null, "api_key": null } }),
    ]
}

/// Comments inside values that an edit removes or writes anew, and text that only looks like one.
const LOST_WITH_THEIR_KEY: [&str; 6] = ["# deep", "# after", "# c", "# and", "# nothing", "# indented"];

fn comments(text: &str) -> Vec<&str> {
    text.trim_start_matches('\u{feff}').lines().map(str::trim).filter(|line| line.starts_with('#')).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn an_edit_says_what_was_meant_and_keeps_the_rest(text in document()) {
        let id = acculynx();
        let before = document_value(&id, text.as_bytes()).map_err(|d| TestCaseError::fail(format!("{d:?} in {text:?}")))?;
        for patch in patches() {
            let target = merged(&before, object(&patch));
            let bytes = match edit(&id, text.as_bytes(), object(&patch)) {
                Ok(bytes) => bytes,
                // Refusals are for odd layouts only: see the next test.
                Err(error) => {
                    prop_assert!(!error.suggestion.is_empty());
                    continue;
                }
            };
            let after = String::from_utf8(bytes.clone()).unwrap();
            prop_assert_eq!(&document_value(&id, &bytes).unwrap(), &target, "{} {:?} {:?}", patch, text, after);
            prop_assert_eq!(edit(&id, &bytes, object(&patch)).unwrap(), bytes, "again: {} {:?}", patch, after);
            prop_assert_eq!(text.starts_with('\u{feff}'), after.starts_with('\u{feff}'));
            prop_assert_eq!(text.contains("\r\n"), after.contains("\r\n") && !after.replace("\r\n", "").contains('\n'), "{:?}", after);
            let others = |text: &str| comments(text).into_iter().filter(|c| !LOST_WITH_THEIR_KEY.contains(c)).map(str::to_owned).collect::<Vec<_>>();
            prop_assert_eq!(others(&text), others(&after), "{} {:?} {:?}", patch, text, after);
        }
    }

    #[test]
    fn ordinary_documents_are_never_refused(text in document()) {
        let odd = ["|\n", "|\r", ">-", "?", "&", "# nothing", "  # indented"];
        if odd.iter().any(|sign| text.contains(sign)) {
            return Ok(());
        }
        for patch in patches() {
            let edited = edit(&acculynx(), text.as_bytes(), object(&patch));
            prop_assert!(edited.is_ok(), "{} {:?}", patch, text);
        }
    }
}
