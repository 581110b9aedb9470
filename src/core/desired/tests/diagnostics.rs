//! Bad documents and what is said about them.

use super::super::*;
use super::{acculynx, noop};
use crate::core::model::ScheduleId;

/// Every finding as `line:column code pointer: message (hint)`.
fn render(id: &ScheduleId, bytes: &[u8]) -> String {
    let parsed = parse(id, bytes, Defaults::NONE);
    let failed = parsed.diagnostics.iter().any(|d| d.severity == Severity::Error);
    assert_eq!(parsed.spec.is_none(), failed, "a spec exactly when there is no error");
    let lines = parsed.diagnostics.iter().map(|d| {
        assert_eq!(d.file, id.file());
        let (hint, field) = (d.hint.as_deref().unwrap_or("-"), &d.field);
        format!("{}:{} {} {field}: {} ({hint})", d.line, d.column, d.code, d.message)
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[track_caller]
pub(super) fn check(text: &str, expect: &[&str]) {
    assert_eq!(render(&acculynx(), text.as_bytes()), expect.join("\n"), "for {text:?}");
}

#[test]
fn documents_that_are_no_schedule() {
    check(
        "# only\n",
        &[
            "0:0 empty : the file is empty (the smallest schedule is \"interval_sec: 300\"; to remove a schedule, delete its file)",
        ],
    );
    check(
        "---\n",
        &[
            "0:0 empty : the file is empty (the smallest schedule is \"interval_sec: 300\"; to remove a schedule, delete its file)",
        ],
    );
    check(
        "~",
        &[
            "0:0 empty : the file is empty (the smallest schedule is \"interval_sec: 300\"; to remove a schedule, delete its file)",
        ],
    );
    check(
        "- a\n",
        &[
            "1:1 not-a-mapping : a schedule is a mapping of keys to values, not a list (begin with e.g. \"interval_sec: 300\")",
        ],
    );
    check(
        "just text",
        &[
            "1:1 not-a-mapping : a schedule is a mapping of keys to values, not a text (begin with e.g. \"interval_sec: 300\")",
        ],
    );
    check(
        "paused: true\n",
        &["0:0 no-cadence : a schedule needs interval_sec or cron (add e.g. \"interval_sec: 300\")"],
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn cadences() {
    check(
        "intervall_sec: 300\n",
        &["1:1 unknown-key /intervall_sec: unknown key \"intervall_sec\" (did you mean \"interval_sec\"?)"],
    );
    check("interval: 300\n", &["1:1 unknown-key /interval: unknown key \"interval\" (did you mean \"interval_sec\"?)"]);
    check(
        "colour: red\n",
        &[
            "0:0 no-cadence : a schedule needs interval_sec or cron (add e.g. \"interval_sec: 300\")",
            "1:1 unknown-key /colour: unknown key \"colour\" (there are: interval_sec, cron, timezone, paused, pause_reason, pause_until, start_at, end_at, jitter_sec, overlap, catch_up, catch_up_window_sec, catch_up_max, retries, retry_backoff_sec, timeout_sec, start_deadline_sec, auto_pause_after, keep_runs, keep_runs_days, connection, resources, labels)",
        ],
    );
    check(
        "interval_sec: 300\ncron: '* * * * *'\n",
        &[
            "2:1 two-cadences /cron: a schedule has one of interval_sec and cron, not both (remove the one that should not apply)",
        ],
    );
    check(
        "interval_sec: 300\ninterval_sec: 60\n",
        &[
            "2:1 duplicate-key /interval_sec: \"interval_sec\" is given twice (line 1 has it first; keep one of the two)",
        ],
    );
    check(
        "interval_sec: \"300\"\n",
        &[
            "1:15 wrong-type /interval_sec: interval_sec has to be a whole number, not the text \"300\" (write 300, without quotes)",
        ],
    );
    check(
        "interval_sec: 1_000\n",
        &["1:15 wrong-type /interval_sec: interval_sec has to be a whole number, not the text \"1_000\" (write 1000)"],
    );
    check(
        "interval_sec: 0\n",
        &[
            "1:15 out-of-range /interval_sec: interval_sec is 0, outside 1 to 31622400 (seconds, at least 1 and at most 366 days; use paused: true to stop a schedule)",
        ],
    );
    check(
        "interval_sec: -5\n",
        &[
            "1:15 out-of-range /interval_sec: interval_sec is -5, outside 1 to 31622400 (seconds, at least 1 and at most 366 days; use paused: true to stop a schedule)",
        ],
    );
    check(
        "interval_sec: 31622401\n",
        &[
            "1:15 out-of-range /interval_sec: interval_sec is 31622401, outside 1 to 31622400 (seconds, at least 1 and at most 366 days; use paused: true to stop a schedule)",
        ],
    );
    check(
        "interval_sec: 99999999999999999999999\n",
        &[
            "1:15 out-of-range /interval_sec: interval_sec is 99999999999999999999999, outside 1 to 31622400 (seconds, at least 1 and at most 366 days; use paused: true to stop a schedule)",
        ],
    );
    check(
        "interval_sec: 1.5\n",
        &[
            "1:15 wrong-type /interval_sec: interval_sec has to be a whole number, not 1.5 (write a whole number, e.g. 300)",
        ],
    );
    check(
        "interval_sec: 5m\n",
        &[
            "1:15 wrong-type /interval_sec: interval_sec has to be a whole number, not the text \"5m\" (write a whole number, e.g. 300)",
        ],
    );
    check(
        "interval_sec: 0x10\n",
        &["1:15 wrong-type /interval_sec: interval_sec has to be a plain decimal number, not \"0x10\" (write 16)"],
    );
    check(
        "interval_sec: 0300\n",
        &["1:15 wrong-type /interval_sec: interval_sec has to be a plain decimal number, not \"0300\" (write 300)"],
    );
    check(
        "interval_sec: +5\n",
        &["1:15 wrong-type /interval_sec: interval_sec has to be a plain decimal number, not \"+5\" (write 5)"],
    );
    check(
        "interval_sec: true\n",
        &[
            "1:15 wrong-type /interval_sec: interval_sec has to be a whole number, not a boolean (write a whole number, e.g. 300)",
        ],
    );
    check(
        "interval_sec:\n",
        &["1:13 no-value /interval_sec: interval_sec has no value (give a value, or remove the key)"],
    );
    check(
        "interval_sec: [1]\n",
        &[
            "1:15 wrong-type /interval_sec: interval_sec has to be a whole number, not a list (write a whole number, e.g. 300)",
        ],
    );
    check(
        "interval_sec: 300\ntimezone: UTC\n",
        &["2:1 timezone-without-cron /timezone: timezone only goes with cron (remove timezone; an interval has none)"],
    );
    check(
        "cron: '* * * *'\n",
        &[
            "1:7 bad-cron /cron: cron has 4 fields, not five (five fields: minute, hour, day of month, month, day of week, e.g. \"*/15 7-18 * * 1-5\")",
        ],
    );
    check(
        "cron: '0 * * * * *'\n",
        &["1:7 bad-cron /cron: cron has 6 fields, not five (leave out the seconds (or the year))"],
    );
    check(
        "cron: '@daily'\n",
        &["1:7 bad-cron /cron: cron does not take the nickname \"@daily\" (write \"0 0 * * *\")"],
    );
    check(
        "cron: '61 * * * *'\n",
        &[
            "1:7 bad-cron /cron: cron \"61 * * * *\": the minute \"61\" is not valid (the minute is 0 to 59, a range, a list, or steps such as */5)",
        ],
    );
    check(
        "cron: '0 0 30 2 *'\n",
        &["1:7 bad-cron /cron: cron \"0 0 30 2 *\" names a date that never comes (check day of month against month)"],
    );
    check(
        "cron: 0 0 31 4,6 *\n",
        &["1:7 bad-cron /cron: cron \"0 0 31 4,6 *\" names a date that never comes (check day of month against month)"],
    );
    check("cron: '0 0 29 2 *'\n", &[]);
    check(
        "cron: ''\n",
        &[
            "1:7 bad-cron /cron: cron has 0 fields, not five (five fields: minute, hour, day of month, month, day of week, e.g. \"*/15 7-18 * * 1-5\")",
        ],
    );
    check("cron: '0 0 L * *'\n", &[]);
    check("cron: 5\n", &["1:7 wrong-type /cron: cron has to be a text, not the number 5 (put it in quotes: \"5\")"]);
}

#[test]
fn time_zones() {
    check(
        "cron: '0 5 * * *'\ntimezone: America/Denvr\n",
        &[
            "2:11 unknown-timezone /timezone: there is no time zone \"America/Denvr\" (did you mean \"America/Denver\"?)",
        ],
    );
    check(
        "cron: '0 5 * * *'\ntimezone: denver\n",
        &["2:11 unknown-timezone /timezone: there is no time zone \"denver\" (did you mean \"America/Denver\"?)"],
    );
    check(
        "cron: '0 5 * * *'\ntimezone: america/denver\n",
        &[
            "2:11 unknown-timezone /timezone: there is no time zone \"america/denver\" (did you mean \"America/Denver\"?)",
        ],
    );
    check(
        "cron: '0 5 * * *'\ntimezone: Mars\n",
        &[
            "2:11 unknown-timezone /timezone: there is no time zone \"Mars\" (use a name of the IANA database, e.g. \"America/Denver\" or \"UTC\")",
        ],
    );
}

#[test]
fn pauses() {
    check(
        "interval_sec: 5\npaused: yes\n",
        &["2:9 wrong-type /paused: paused has to be true or false, not the text \"yes\" (write true, without quotes)"],
    );
    check(
        "interval_sec: 5\npaused: \"true\"\n",
        &["2:9 wrong-type /paused: paused has to be true or false, not the text \"true\" (write true, without quotes)"],
    );
    check(
        "interval_sec: 5\npaused: 1\n",
        &["2:9 wrong-type /paused: paused has to be true or false, not a number (write true or false)"],
    );
    check(
        "interval_sec: 5\npause_reason: x\n",
        &[
            "2:1 unused-pause-reason /pause_reason: pause_reason has no effect: the schedule is not paused (remove it, or set \"paused: true\")",
        ],
    );
    check(
        "interval_sec: 5\npause_until: 2026-12-01T08:00:00Z\n",
        &[
            "2:1 unused-pause-until /pause_until: pause_until has no effect: the schedule is not paused (remove it, or set \"paused: true\")",
        ],
    );
    check(
        "interval_sec: 5\npaused: true\npause_until: 2026-12-01T08:00\n",
        &[
            "3:14 bad-time /pause_until: pause_until is no moment: \"2026-12-01T08:00\" (it has no offset and the schedule no timezone; write e.g. 2026-12-01T08:00Z for UTC)",
        ],
    );
    check(
        "interval_sec: 5\npaused: true\npause_reason: ''\n",
        &[
            "3:15 out-of-range /pause_reason: pause_reason is empty (say in a sentence why it is paused, or remove the key)",
        ],
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn connections() {
    check(
        "interval_sec: 5\nconnection:\n  api_key: sk-live-abc\n",
        &[
            "3:12 literal-secret /connection/api_key: api_key holds the secret itself; only a reference is allowed here (write { env: CC_SECRET_NAME } or { file: NAME }, and replace the key: it stands in a file)",
        ],
    );
    check(
        "interval_sec: 5\nconnection: { api_key: { env: PEAK } }\n",
        &[
            "2:31 bad-secret-ref /connection/api_key/env: the variable's name has to begin with CC_SECRET_ (name the variable e.g. CC_SECRET_PEAKPRO, here and in the server's environment)",
        ],
    );
    check(
        "interval_sec: 5\nconnection: { api_key: { env: CC_SECRET_peak } }\n",
        &[
            "2:31 bad-secret-ref /connection/api_key/env: after CC_SECRET_ the variable's name is made of A-Z, 0-9 and _ (name the variable e.g. CC_SECRET_PEAKPRO, here and in the server's environment)",
        ],
    );
    check(
        "interval_sec: 5\nconnection: { api_key: { file: ../x } }\n",
        &[
            "2:32 bad-secret-ref /connection/api_key/file: not a plain file name: letters, digits, '.', '_' and '-', without a path (name a file that lies directly in the secrets directory, e.g. { file: peakpro })",
        ],
    );
    check(
        "interval_sec: 5\nconnection: { api_key: { sk-live } }\n",
        &[
            "2:26 bad-secret-ref /connection/api_key: api_key takes env or file, nothing else (write { env: CC_SECRET_NAME } or { file: NAME })",
        ],
    );
    check(
        "interval_sec: 5\nconnection: { api_key: { env: CC_SECRET_A, file: a } }\n",
        &[
            "2:24 bad-secret-ref /connection/api_key: api_key takes exactly one of env and file (write { env: CC_SECRET_NAME } or { file: NAME })",
        ],
    );
    check(
        "interval_sec: 5\nconnection: { api_key: }\n",
        &["2:22 no-value /connection/api_key: api_key has no value (give a value, or remove the key)"],
    );
    check(
        "interval_sec: 5\nconnection: { api_key: [a] }\n",
        &[
            "2:24 wrong-type /connection/api_key: api_key has to be a reference, not a list (write { env: CC_SECRET_NAME } or { file: NAME })",
        ],
    );
    check(
        "interval_sec: 5\nconnection: { base_url: \"ftp://x\" }\n",
        &[
            "2:25 bad-url /connection/base_url: base_url has to begin with http:// or https:// (e.g. https://api.acculynx.com/api/v2)",
        ],
    );
    check(
        "interval_sec: 5\nconnection: { base_url: \"https://u:p@x.com\" }\n",
        &[
            "2:25 url-credentials /connection/base_url: base_url carries credentials (remove them, and give the key as api_key by reference)",
        ],
    );
    check(
        "interval_sec: 5\nconnection: { base_url: \"https://x.com?a=b\" }\n",
        &[
            "2:25 bad-url /connection/base_url: base_url has a query or a fragment (remove everything from \"?\" or \"#\" on)",
        ],
    );
    check(
        "interval_sec: 5\nconnection: { base_url: x, baseurl: y }\n",
        &[
            "2:25 bad-url /connection/base_url: base_url is not a URL (e.g. https://api.acculynx.com/api/v2)",
            "2:28 unknown-key /connection/baseurl: unknown key \"baseurl\" (did you mean \"base_url\"?)",
        ],
    );
    check(
        "interval_sec: 5\nconnection: x\n",
        &[
            "2:13 wrong-type /connection: connection has to be a mapping, not a text (put base_url, api_key, webhook_token below it)",
        ],
    );
}

#[test]
fn resources_and_labels() {
    check(
        "interval_sec: 5\nresources: jobs\n",
        &["2:12 wrong-type /resources: resources has to be a list, not a text (write e.g. [jobs, contacts])"],
    );
    check(
        "interval_sec: 5\nresources: []\n",
        &["2:12 out-of-range /resources: resources is empty (name at least one, or remove the key for the usual ones)"],
    );
    check(
        "interval_sec: 5\nresources: [job, Contacts, 5]\n",
        &[
            "2:13 unknown-resource /resources/0: there is no resource \"job\" (did you mean \"jobs\"?)",
            "2:18 unknown-resource /resources/1: there is no resource \"Contacts\" (did you mean \"contacts\"?)",
            "2:28 unknown-resource /resources/2: a resource is a name, not a number (there are: jobs, contacts, estimates, users, milestone_history)",
        ],
    );
    check(
        "interval_sec: 5\nlabels: { port: 80, ok: no, \"a b\": c }\n",
        &[
            "2:17 wrong-type /labels/port: port has to be a text, not the number 80 (put it in quotes: \"80\")",
            "2:29 bad-label /labels/a b: \"a b\" is not a label's name (1 to 63 characters of a-z, A-Z, 0-9, '.', '_', '/' and '-')",
        ],
    );
    check(
        "interval_sec: 5\nlabels: { a: { b: c } }\n",
        &["2:14 wrong-type /labels/a: a has to be a text, not a mapping (write a text)"],
    );
    check(
        "interval_sec: 5\nlabels: [a]\n",
        &["2:9 wrong-type /labels: labels has to be a mapping, not a list (write e.g. { region: west })"],
    );
}

#[test]
fn yaml_that_is_not_supported() {
    check(
        "interval_sec: 5\nlabels: { a: b, a: c }\n",
        &["2:17 duplicate-key /labels/a: \"a\" is given twice (line 2 has it first; keep one of the two)"],
    );
    check(
        "<<: { a: b }\ninterval_sec: 5\n",
        &["1:1 merge-key : merge keys (\"<<\") are not supported (write the merged keys out)"],
    );
    check(
        "interval_sec: !!str 5\n",
        &[
            "1:15 unsupported-tag /interval_sec: YAML tags (\"!…\") are not supported here (remove the tag; quote the value if it is to be text)",
        ],
    );
    check("? [a]\n: b\ninterval_sec: 5\n", &["1:3 complex-key : a key has to be plain text (write the key as a word)"]);
    check(
        "interval_sec: 5\n---\ninterval_sec: 6\n",
        &[
            "2:1 multi-document : the file holds more than one document (one file is one schedule: remove everything from this \"---\" on)",
        ],
    );
}

#[test]
fn yaml_that_is_broken() {
    check(
        "interval_sec: 5\nlabels:\n\ta: b\n",
        &[
            "3:2 tab : not valid YAML: tabs disallowed within this context (block indentation) (indent with spaces; YAML does not allow tabs there)",
        ],
    );
    check(
        "interval_sec: 5: 6\n",
        &[
            "1:16 syntax : not valid YAML: mapping values are not allowed in this context (put a value that contains \": \" in quotes, and check the indentation)",
        ],
    );
    check(
        "labels: { a: b\ninterval_sec: 5\n",
        &[
            "2:13 syntax : not valid YAML: while parsing a flow mapping, did not find expected ',' or '}' (check quotes, brackets and indentation on this line and the one before)",
        ],
    );
    check(
        "a: *x\n",
        &[
            "1:4 unknown-anchor : not valid YAML: while parsing node, found unknown anchor (define the anchor before its use, or write the value out)",
        ],
    );
    check("a: &x [*x]\n", &["1:8 recursive-alias /a/0: this alias refers to what it is part of (write the value out)"]);
    check(
        "interval_sec: \"5\n",
        &[
            "2:1 syntax : not valid YAML: invalid indentation in multiline quoted scalar (check quotes, brackets and indentation on this line and the one before)",
        ],
    );
    check(
        "\u{feff}intervalsec: 5\n",
        &["1:1 unknown-key /intervalsec: unknown key \"intervalsec\" (did you mean \"interval_sec\"?)"],
    );
    check(
        "é: 1\ninterval_sec: 5\n  x: 1\n",
        &[
            "3:4 syntax : not valid YAML: mapping values are not allowed in this context (put a value that contains \": \" in quotes, and check the indentation)",
        ],
    );
    check(
        "interval_sec: 5\nlabels: {a: \"\\0\"}\n",
        &["2:13 bad-label /labels/a: this label contains a control character (write it on one line, without escapes)"],
    );
    check(
        "a\0: b",
        &[
            "1:2 syntax : not valid YAML: unexpected character: `\\u{0}' (check quotes, brackets and indentation on this line and the one before)",
        ],
    );
    check("%YAML 1.2\n---\ninterval_sec: 5\n", &[]);
}

#[test]
fn bytes_that_are_no_text() {
    let latin = "2:5 not-utf8 : not UTF-8: the byte at offset 21 does not belong there (save the file as UTF-8)";
    assert_eq!(render(&acculynx(), b"interval_sec: 5\n# \xc3\xa9 \xe9\n"), latin);
    let large = vec![b'#'; MAX_FILE_BYTES + 1];
    assert!(render(&acculynx(), &large).starts_with("0:0 too-large "));
}

#[test]
fn every_finding_comes_at_once() {
    let text =
        "intervall_sec: 300\npaused: yes\nconnection: { api_key: abc, base_url: 5 }\nlabels: { a: 1, a: 2 }\nzone: x\n";
    let found: Vec<_> =
        parse(&acculynx(), text.as_bytes(), Defaults::NONE).diagnostics.into_iter().map(|d| (d.line, d.code)).collect();
    let codes =
        ["unknown-key", "wrong-type", "literal-secret", "wrong-type", "wrong-type", "duplicate-key", "unknown-key"];
    assert_eq!(found, [1, 2, 3, 3, 4, 4, 5].into_iter().zip(codes.map(str::to_owned)).collect::<Vec<_>>());
}

#[test]
fn the_noop_connector_takes_nothing() {
    let text = b"interval_sec: 5\nconnection: {base_url: 'http://x'}\nresources: [jobs]\n";
    let expect = "2:1 not-for-connector /connection: the noop connector takes no connection (remove connection)\n\
        3:12 not-for-connector /resources: the noop connector takes no resources (remove resources)";
    assert_eq!(render(&noop(), text), expect);
}
