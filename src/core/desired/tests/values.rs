//! What good documents mean, and what fresh ones look like.

use serde_json::json;

use super::super::*;
use super::{acculynx, noop};
use crate::core::model::{Resource, ScheduleSpec, SecretRef};

#[track_caller]
fn spec(text: &str) -> ScheduleSpec {
    let parsed = parse(&acculynx(), text.as_bytes(), Defaults::NONE);
    assert_eq!(parsed.diagnostics, [], "for {text}");
    parsed.spec.unwrap()
}

#[test]
fn the_smallest_schedule_gets_its_defaults() {
    let spec = spec("interval_sec: 300\n");
    assert_eq!(spec.interval_sec, Some(300));
    assert_eq!((spec.cron, spec.timezone, spec.paused), (None, None, false));
    assert_eq!(spec.resources, [Resource::JOBS, Resource::CONTACTS]);
    assert_eq!(parse(&noop(), b"interval_sec: 1", Defaults::NONE).spec.unwrap().resources, []);
}

#[test]
fn different_spellings_of_the_same_schedule_are_equal() {
    let written = spec(
        "cron: \"*/15  7-18 * * 1-5\"\npaused: false\nconnection: {}\nresources: [contacts, jobs, jobs]\nlabels:\n",
    );
    assert_eq!(written, spec("cron: '*/15 7-18 * * 1-5'\ntimezone: UTC\n"));
    let one = spec("interval_sec: 5\nconnection: { base_url: https://x.example/api/ }\n");
    assert_eq!(one, spec("\u{feff}# c\r\ninterval_sec: 5\r\nconnection:\r\n  base_url: &a https://x.example/api\r\n"));
}

#[test]
fn the_contract_s_example_is_read_whole() {
    let text = "# yaml-language-server: $schema=../../../schemas/schedule.schema.json\n\
        cron: \"*/15 7-18 * * 1-5\"\ntimezone: America/Denver\npaused: true\npause_reason: ' moving house '\n\
        connection:\n  base_url: https://api.acculynx.com/api/v2\n  api_key: { env: CC_SECRET_PEAKPRO }\n\
        resources: [jobs]\nlabels: { region: west }\n";
    let spec = spec(text);
    assert_eq!(spec.pause_reason.as_deref(), Some("moving house"));
    assert!(
        matches!(spec.connection.unwrap().api_key, Some(SecretRef::Env(secret)) if secret.env == "CC_SECRET_PEAKPRO")
    );
    assert_eq!(spec.labels["region"], "west");
}

#[test]
fn the_end_of_a_pause_is_one_moment_however_it_is_written() {
    let end = |text: &str| spec(text).pause_until;
    let utc = Some("2026-12-01T15:00:00.000Z".to_owned());
    assert_eq!(end("interval_sec: 5\npaused: true\npause_until: 2026-12-01T15:00:00Z\n"), utc);
    assert_eq!(end("interval_sec: 5\npaused: true\npause_until: '2026-12-01T08:00:00-07:00'\n"), utc);
    let local = "cron: 0 5 * * *\npause_until: 2026-12-01T08:00\npaused: true\ntimezone: America/Denver\n";
    assert_eq!(end(local), utc);
    let ended = spec("interval_sec: 5\npaused: true\npause_until: 1970-01-01T00:00:01Z\n");
    assert_eq!((ended.pause_end(), ended.is_paused_at(999), ended.is_paused_at(1000)), (Some(1000), true, false));
}

#[test]
fn an_api_body_is_judged_like_a_file() {
    let good = json!({ "cron": "0  5 * * *", "labels": { "a": "b" } });
    assert_eq!(check_value(&acculynx(), &good, Defaults::NONE).unwrap(), spec("cron: 0 5 * * *\nlabels: { a: b }\n"));
    let bad = json!({ "intervall_sec": 5, "interval_sec": "300", "connection": { "api_key": "sk-live" } });
    let errors = check_value(&acculynx(), &bad, Defaults::NONE).unwrap_err();
    let pointers: Vec<_> = errors.iter().map(|e| e.pointer.as_str()).collect();
    assert_eq!(pointers, ["/connection/api_key", "/interval_sec", "/intervall_sec"]);
    assert!(errors.iter().all(|e| !e.message.contains("sk-live")), "{errors:?}");
    assert_eq!(errors[1].message, "interval_sec has to be a whole number, not the text \"300\"; write 300");
}

#[test]
fn an_effective_schedule_is_its_own_value() {
    for text in [
        "interval_sec: 5\n",
        "cron: 0 5 * * *\npaused: true\npause_reason: x\npause_until: 2026-12-01T08:00\nlabels: { a: b }\n",
    ] {
        let spec = spec(text);
        assert_eq!(check_value(&acculynx(), &serde_json::to_value(&spec).unwrap(), Defaults::NONE).unwrap(), spec);
    }
}

#[test]
fn a_document_is_given_as_written() {
    let value = document_value(&acculynx(), b"cron: '5  5 * * *'\nlabels: &l { a: 1 }\nx: *l\n").unwrap();
    assert_eq!(value, json!({ "cron": "5  5 * * *", "labels": { "a": 1 }, "x": { "a": 1 } }));
    assert_eq!(document_value(&acculynx(), b"# nothing\n").unwrap(), json!({}));
    assert_eq!(document_value(&acculynx(), b"a: [").unwrap_err().code, "syntax");
}

#[test]
fn a_fresh_file_reads_well() {
    let value = json!({
        "labels": { "region": "west", "on": "yes", "2024": "1.5" }, "interval_sec": 300, "paused": true,
        "pause_reason": "it's \"broken\": see #5", "resources": ["jobs", "contacts"],
        "connection": { "api_key": { "env": "CC_SECRET_X" }, "base_url": "https://api.acculynx.com/api/v2" },
    });
    let bytes = new_document(value.as_object().unwrap());
    assert_eq!(
        String::from_utf8(bytes.clone()).unwrap(),
        "# yaml-language-server: $schema=../../../schemas/schedule.schema.json\n\
         interval_sec: 300\npaused: true\npause_reason: \"it's \\\"broken\\\": see #5\"\n\
         connection:\n  base_url: https://api.acculynx.com/api/v2\n  api_key: { env: CC_SECRET_X }\n\
         resources: [jobs, contacts]\nlabels:\n  \"2024\": \"1.5\"\n  \"on\": \"yes\"\n  region: west\n"
    );
    assert_eq!(document_value(&acculynx(), &bytes).unwrap(), value);
}

proptest::proptest! {
    #[test]
    fn any_text_survives_a_fresh_file(key in "[a-zA-Z0-9._/-]{1,20}", text in "\\PC{0,30}|[ -~\n\t\r\u{85}\u{a0}\u{2028}\u{feff}]{0,30}") {
        let value = json!({ "interval_sec": 5, "pause_reason": text, "labels": { key: text } });
        let bytes = new_document(value.as_object().unwrap());
        let read = document_value(&acculynx(), &bytes);
        proptest::prop_assert_eq!(read.as_ref().ok(), Some(&value), "{}", String::from_utf8_lossy(&bytes));
        // The parser behind other tools agrees.
        let other: serde_json::Value = serde_yaml::from_slice(&bytes).unwrap();
        proptest::prop_assert_eq!(other, value);
    }
}

#[test]
fn the_usual_rules_for_runs_are_the_same_said_or_not() {
    let said = "interval_sec: 5\noverlap: skip\ncatch_up: latest\nretries: 0\njitter_sec: 0\nretry_backoff_sec: 30\ncatch_up_max: 100";
    assert_eq!(spec(said), spec("interval_sec: 5"));
    let moments =
        spec("cron: '0 8 * * *'\ntimezone: America/Denver\nstart_at: 2026-12-01T08:00\nend_at: 2026-12-01T15:00:01Z");
    assert_eq!(moments.start_at.as_deref(), Some("2026-12-01T15:00:00.000Z"));
    let text = "interval_sec: 5\nstart_at: 2026-12-02T00:00:00Z\nend_at: 2026-12-02T00:00:00Z";
    let found = parse(&acculynx(), text.as_bytes(), Defaults::NONE).diagnostics;
    assert_eq!(found.iter().map(|d| (d.code.as_str(), d.line)).collect::<Vec<_>>(), [("out-of-range", 3)]);
}
