//! Bad documents and what is said about them.

use proptest::prelude::*;

use super::super::*;
use super::{acculynx, noop};
use crate::core::model::ScheduleId;

/// Every finding as `line:column code pointer: message (hint)`.
fn render(id: &ScheduleId, bytes: &[u8]) -> String {
    let parsed = parse(id, bytes);
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
fn check(text: &str, expect: &[&str]) {
    assert_eq!(render(&acculynx(), text.as_bytes()), expect.join("\n"), "for {text:?}");
}

#[test]
fn cadences() {
    check(
        "",
        &[
            "0:0 empty : the file is empty (the smallest schedule is \"interval_sec: 300\"; to remove a schedule, delete its file)",
        ],
    );
}

#[test]
fn dump() {
    let table: &[&str] = &[
        "# only\n",
        "---\n",
        "~",
        "- a\n",
        "just text",
        "paused: true\n",
        "intervall_sec: 300\n",
        "interval: 300\n",
        "colour: red\n",
        "interval_sec: 300\ncron: '* * * * *'\n",
        "interval_sec: 300\ninterval_sec: 60\n",
        "interval_sec: \"300\"\n",
        "interval_sec: 1_000\n",
        "interval_sec: 0\n",
        "interval_sec: -5\n",
        "interval_sec: 31622401\n",
        "interval_sec: 99999999999999999999999\n",
        "interval_sec: 1.5\n",
        "interval_sec: 5m\n",
        "interval_sec: 0x10\n",
        "interval_sec: 0300\n",
        "interval_sec: +5\n",
        "interval_sec: true\n",
        "interval_sec:\n",
        "interval_sec: [1]\n",
        "interval_sec: 300\ntimezone: UTC\n",
        "cron: '* * * *'\n",
        "cron: '0 * * * * *'\n",
        "cron: '@daily'\n",
        "cron: '61 * * * *'\n",
        "cron: '0 0 30 2 *'\n",
        "cron: 0 0 31 4,6 *\n",
        "cron: '0 0 29 2 *'\n",
        "cron: ''\n",
        "cron: '0 0 L * *'\n",
        "cron: 5\n",
        "cron: '0 5 * * *'\ntimezone: America/Denvr\n",
        "cron: '0 5 * * *'\ntimezone: denver\n",
        "cron: '0 5 * * *'\ntimezone: america/denver\n",
        "cron: '0 5 * * *'\ntimezone: Mars\n",
        "interval_sec: 5\npaused: yes\n",
        "interval_sec: 5\npaused: \"true\"\n",
        "interval_sec: 5\npaused: 1\n",
        "interval_sec: 5\npause_reason: x\n",
        "interval_sec: 5\npaused: true\npause_reason: ''\n",
        "interval_sec: 5\nconnection:\n  api_key: sk-live-abc\n",
        "interval_sec: 5\nconnection: { api_key: { env: PEAK } }\n",
        "interval_sec: 5\nconnection: { api_key: { env: CC_SECRET_peak } }\n",
        "interval_sec: 5\nconnection: { api_key: { file: ../x } }\n",
        "interval_sec: 5\nconnection: { api_key: { sk-live } }\n",
        "interval_sec: 5\nconnection: { api_key: { env: CC_SECRET_A, file: a } }\n",
        "interval_sec: 5\nconnection: { api_key: }\n",
        "interval_sec: 5\nconnection: { api_key: [a] }\n",
        "interval_sec: 5\nconnection: { base_url: \"ftp://x\" }\n",
        "interval_sec: 5\nconnection: { base_url: \"https://u:p@x.com\" }\n",
        "interval_sec: 5\nconnection: { base_url: \"https://x.com?a=b\" }\n",
        "interval_sec: 5\nconnection: { base_url: x, baseurl: y }\n",
        "interval_sec: 5\nconnection: x\n",
        "interval_sec: 5\nresources: jobs\n",
        "interval_sec: 5\nresources: []\n",
        "interval_sec: 5\nresources: [job, Contacts, 5]\n",
        "interval_sec: 5\nlabels: { port: 80, ok: no, \"a b\": c }\n",
        "interval_sec: 5\nlabels: { a: { b: c } }\n",
        "interval_sec: 5\nlabels: [a]\n",
        "interval_sec: 5\nlabels: { a: b, a: c }\n",
        "<<: { a: b }\ninterval_sec: 5\n",
        "interval_sec: !!str 5\n",
        "? [a]\n: b\ninterval_sec: 5\n",
        "interval_sec: 5\n---\ninterval_sec: 6\n",
        "interval_sec: 5\nlabels:\n\ta: b\n",
        "interval_sec: 5: 6\n",
        "labels: { a: b\ninterval_sec: 5\n",
        "a: *x\n",
        "a: &x [*x]\n",
        "interval_sec: \"5\n",
        "\u{feff}intervalsec: 5\n",
        "é: 1\ninterval_sec: 5\n  x: 1\n",
        "interval_sec: 5\nlabels: {a: \"\\0\"}\n",
        "a\0: b",
        "%YAML 1.2\n---\ninterval_sec: 5\n",
    ];
    for text in table {
        println!("    check({text:?}, &[");
        for l in render(&acculynx(), text.as_bytes()).lines() {
            println!("        {l:?},");
        }
        println!("    ]);");
    }
    for b in [&b"interval_sec: 5\n# caf\xe9\n"[..], b"\xff\xfei\0"] {
        println!("{}", render(&acculynx(), b));
    }
    println!("{}", render(&noop(), b"interval_sec: 5\nconnection: {base_url: 'http://x'}\nresources: [jobs]\n"));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        for id in [acculynx(), noop()] {
            for diagnostic in parse(&id, &bytes).diagnostics {
                code_frame(&diagnostic, &String::from_utf8_lossy(&bytes));
            }
            let _ = document_value(&id, &bytes);
        }
    }

    #[test]
    fn no_text_of_yaml_pieces_makes_it_panic(text in "([a-c]|interval_sec|: |- |\n|  |\\{|\\}|\\[|\\]|&a |\\*a |!!str |\"|'|#|\\||>|<<|~|---|\\?|,|\t|300|\r\n|%|é){0,40}") {
        for diagnostic in parse(&acculynx(), text.as_bytes()).diagnostics {
            code_frame(&diagnostic, &text);
        }
        let _ = document_value(&acculynx(), text.as_bytes());
        let patch = serde_json::json!({ "interval_sec": 5, "labels": { "a": "b" }, "a": null });
        let _ = edit(&acculynx(), text.as_bytes(), patch.as_object().unwrap());
    }
}
