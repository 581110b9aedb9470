//! What must not happen: a secret repeated, a panic, time or memory without bound.

use proptest::prelude::*;

use super::super::*;
use super::{acculynx, noop};

#[test]
fn no_secret_is_repeated() {
    const SECRET: &str = "hunter2";
    for value in [
        "hunter2",
        "[hunter2]",
        "{ hunter2 }",
        "{ hunter2, hunter2 }",
        "{ env: hunter2 }",
        "{ file: hunter2/ }",
        "{ env: { hunter2: hunter2 } }",
        "{ hunter2: !x a }",
        "{ env: [ hunter2 ] }",
        "|\n    hunter2\n",
        "{ <<: hunter2 }",
        "{ ? [hunter2] : hunter2 }",
        "\"hunter2\" # it is hunter2",
        "\n    hunter2: a",
        "\n    env: hunter2",
        "\n    hunter2: { env: hunter2 }",
        "{\n    env: hunter2,\n    file: hunter2\n    }",
        "\n  # hunter2\n    - hunter2\n    - a: hunter2",
    ] {
        for key in ["api_key", "webhook_token"] {
            let text = format!("interval_sec: 5\nconnection:\n  {key}: {value}\nlabels: 5\n");
            let parsed = parse(&acculynx(), text.as_bytes(), Defaults::NONE);
            assert!(parsed.spec.is_none(), "{text}");
            for diagnostic in parsed.diagnostics {
                let shown = format!("{diagnostic:?}{}", code_frame(&diagnostic, &text));
                assert!(!shown.contains(SECRET), "{text}: {shown}");
            }
            if let Ok(value) = document_value(&acculynx(), text.as_bytes()) {
                let errors = check_value(&acculynx(), &value, Defaults::NONE).unwrap_err();
                assert!(!format!("{errors:?}").contains(SECRET), "{text}: {errors:?}");
            }
        }
    }
    let text = "interval_sec: 5\nconnection: { base_url: \"https://me:hunter2@x.example\" }\nlabels: 5\n";
    for diagnostic in parse(&acculynx(), text.as_bytes(), Defaults::NONE).diagnostics {
        let shown = format!("{diagnostic:?}{}", code_frame(&diagnostic, text));
        assert!(!shown.contains(SECRET), "{shown}");
    }
}

#[test]
fn a_frame_points_at_the_place() {
    let text = "# top\ninterval_sec: \"300\"\n";
    let parsed = parse(&acculynx(), text.as_bytes(), Defaults::NONE);
    let expect = "error[wrong-type]: interval_sec has to be a whole number, not the text \"300\"\n  \
        --> schedules/acculynx/peak.yaml:2:15\n\
        1 | # top\n\
        2 | interval_sec: \"300\"\n  \
        |               ^\n  \
        hint: write 300, without quotes\n";
    assert_eq!(code_frame(&parsed.diagnostics[0], text), expect);
    let empty = parse(&acculynx(), b"", Defaults::NONE);
    assert!(code_frame(&empty.diagnostics[0], "").contains("--> schedules/acculynx/peak.yaml\n  hint: "));
}

#[test]
fn hostile_documents_are_refused_soon() {
    let bomb: String = (1..30).map(|i| format!("a{i}: &a{i} [*a{p}, *a{p}, *a{p}]\n", p = i - 1)).collect();
    let cases = [
        (format!("a0: &a0 [x, x]\n{bomb}"), "alias-bomb"),
        (format!("a: &x {}\nb: [{}]\n", "y".repeat(100_000), "*x,".repeat(10_000)), "alias-bomb"),
        ("[".repeat(250_000), "too-deep"),
        ("- ".repeat(100_000), "too-deep"),
        (format!("x: [{}]\n", "a,".repeat(120_000)), "too-large"),
        ("a: 1\n".repeat(19_000), "more"),
        (format!("cron: '{} * * * *'\n", "1,".repeat(100_000)), "bad-cron"),
    ];
    for (text, code) in cases {
        let parsed = parse(&acculynx(), text.as_bytes(), Defaults::NONE);
        assert!(parsed.diagnostics.iter().any(|d| d.code == code), "{code}: {:?}", parsed.diagnostics.first());
        assert!(parsed.diagnostics.iter().all(|d| d.message.len() < 300));
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        for id in [acculynx(), noop()] {
            for diagnostic in parse(&id, &bytes, Defaults::NONE).diagnostics {
                code_frame(&diagnostic, &String::from_utf8_lossy(&bytes));
            }
            let _ = document_value(&id, &bytes);
        }
    }

    #[test]
    fn no_text_of_yaml_pieces_makes_it_panic(text in "([a-c]|interval_sec|: |- |\n|  |\\{|\\}|\\[|\\]|&a |\\*a |!!str |\"|'|#|\\||>|<<|~|---|\\?|,|\t|300|\r\n|%|é){0,40}") {
        for diagnostic in parse(&acculynx(), text.as_bytes(), Defaults::NONE).diagnostics {
            code_frame(&diagnostic, &text);
        }
        let _ = document_value(&acculynx(), text.as_bytes());
        let patch = serde_json::json!({ "interval_sec": 5, "labels": { "a": "b" }, "a": null });
        let _ = edit(&acculynx(), text.as_bytes(), patch.as_object().unwrap());
    }
}
