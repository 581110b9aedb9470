//! Connections to programs: what they may say, and what is said about what they may not.

use serde_json::json;

use super::super::*;
use crate::core::model::{Connection, Connector, Protocol, ScheduleId};

fn id() -> ScheduleId {
    "exec/peak".parse().unwrap()
}

fn render(text: &str) -> String {
    let found = parse(&id(), format!("interval_sec: 5\n{text}").as_bytes(), Defaults::NONE);
    let line = |d: &Diagnostic| format!("{} {}: {} ({})", d.code, d.field, d.message, d.hint.as_deref().unwrap_or("-"));
    found.diagnostics.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[track_caller]
fn check(text: &str, expect: &str) {
    assert_eq!(render(text), expect, "for {text:?}");
}

fn connection(text: &str) -> Connection {
    let parsed = parse(&id(), format!("interval_sec: 5\nconnection:\n{text}").as_bytes(), Defaults::NONE);
    parsed.spec.unwrap_or_else(|| panic!("{:?}", parsed.diagnostics)).connection.unwrap()
}

#[test]
fn a_program_is_described_whole() {
    let full = connection(
        "  command: [/opt/tap, --config, '{{config}}', '--properties={{catalog}}', '{ not a place }']
  config:
    api_url: https://api.example.com
    key: { env: CC_SECRET_TAP }
    streams: [{ name: jobs, token: { file: peak } }, 5, true]
    start_date:
  catalog: { streams: [] }
  env: { TAP_MODE: full, TAP_TOKEN: { file: peak } }
  protocol: singer
  idle_timeout_sec: 60
  max_output_mb: 1
  max_line_kb: 64\n",
    );
    assert_eq!(full.command[3], "--properties={{catalog}}");
    assert_eq!(
        serde_json::to_value(&full.config).unwrap(),
        json!({
            "api_url": "https://api.example.com",
            "key": {"env": "CC_SECRET_TAP"},
            "streams": [{"name": "jobs", "token": {"file": "peak"}}, 5, true],
        })
    );
    assert_eq!(full.protocol, Some(Protocol::Singer));
    assert_eq!((full.idle_timeout_sec, full.max_output_mb, full.max_line_kb), (Some(60), Some(1), Some(64)));
    let text = serde_json::to_string(&full).unwrap();
    assert_eq!(serde_json::from_str::<Connection>(&text).unwrap(), full, "as the store keeps it");
    // One way to say the usual.
    let usual = connection(
        "  command: [tap]\n  protocol: auto\n  idle_timeout_sec: 300\n  max_output_mb: 512\n  max_line_kb: 4096\n  config: {}\n  env:\n",
    );
    assert_eq!(usual, connection("  command: [tap]\n"));
}

#[test]
fn a_command_is_needed_and_checked() {
    check(
        "",
        "no-command /connection/command: a schedule of exec needs connection.command (add e.g. \"command: [tap-example]\" below connection)",
    );
    check(
        "connection: { env: { A: b } }",
        "no-command /connection/command: a schedule of exec needs connection.command (add e.g. \"command: [tap-example]\" below connection)",
    );
    check(
        "connection: { command: tap --all }",
        "wrong-type /connection/command: command has to be a list of the program and its arguments, not a text (no shell reads it; write each word as an item, e.g. [tap-example, --verbose])",
    );
    check(
        "connection: { command: [] }",
        "out-of-range /connection/command: command has 0 words; allowed are 1 to 256 (name the program first, then its arguments)",
    );
    check(
        "connection: { command: [tap, 5] }",
        "wrong-type /connection/command/1: 1 has to be a text, not the number 5 (put it in quotes: \"5\")",
    );
    for relative in ["./tap", "taps/tap", "../tap"] {
        check(
            &format!("connection: {{ command: [{relative}] }}"),
            "bad-command /connection/command/0: the program's path is relative, and there is no directory that it could start from (write its absolute path, or its name alone to look it up on the server's PATH)",
        );
    }
    for nameless in ["' '", "'{{config}}'"] {
        check(
            &format!("connection: {{ command: [{nameless}] }}"),
            "bad-command /connection/command/0: the program has no name (name it first, e.g. tap-example or /opt/taps/bin/tap-example)",
        );
    }
    check(
        "connection: { command: [tap, '{{confg}}'] }",
        "bad-command /connection/command/1: there is no place {{confg}} (did you mean {{config}}?)",
    );
    check(
        "connection: { command: [tap, '{{config}}'] }",
        "unused-place /connection/command: command says {{config}}, but there is no connection.config (add connection.config, or remove {{config}})",
    );
    check(
        "connection: { command: [tap, '{{state}}'], protocol: stats }",
        "unused-place /connection/command: command says {{state}}, but a program that writes stats has no state (set \"protocol: singer\", or remove {{state}})",
    );
    check(
        "connection: { command: [tap], protocol: sinter }",
        "unknown-protocol /connection/protocol: there is no protocol \"sinter\" (did you mean \"singer\"?)",
    );
    check(
        "connection: { command: [tap], idle_timeout_sec: 0 }",
        "out-of-range /connection/idle_timeout_sec: idle_timeout_sec is 0, outside 1 to 86400 (seconds, at most a day)",
    );
    check(
        "connection: { command: [tap], base_url: 'https://x.example' }",
        "not-for-connector /connection/base_url: the exec connector takes no base_url; acculynx and http do (remove it; exec takes: command, config, catalog, env, protocol, idle_timeout_sec, max_output_mb, max_line_kb)",
    );
    check(
        "connection: { command: [tap] }\nresources: [jobs]",
        "not-for-connector /resources: the exec connector takes no resources (remove resources)",
    );
}

#[test]
fn secrets_are_references_at_any_depth() {
    let hint = "(write { env: CC_SECRET_NAME } or { file: NAME }, and replace the key: it stands in a file)";
    check(
        "connection: { command: [tap], config: { oauth: [{ client_secret: hunter2 }] } }",
        &format!(
            "literal-secret /connection/config/oauth/0/client_secret: client_secret holds the secret itself; only a reference is allowed here {hint}"
        ),
    );
    check(
        "connection: { command: [tap], env: { TAP_PASSWORD: hunter2 } }",
        &format!(
            "literal-secret /connection/env/TAP_PASSWORD: TAP_PASSWORD holds the secret itself; only a reference is allowed here {hint}"
        ),
    );
    for (config, code) in [
        ("{ a: { env: HOME } }", "bad-secret-ref /connection/config/a/env"),
        ("{ a: [{ file: ../key }] }", "bad-secret-ref /connection/config/a/0/file"),
    ] {
        let found = render(&format!("connection: {{ command: [tap], config: {config} }}"));
        assert!(found.starts_with(code) && !found.contains('\n'), "{found}");
    }
    check(
        "connection: { command: [tap], config: { a: { env: x, more: 1 }, token: '', next_page_token_path: $.next } }",
        "",
    );
}

#[test]
fn variables_are_named_and_none_loads_code() {
    let check = |name: &str, expect: &str| {
        let found = render(&format!("connection: {{ command: [tap], env: {{ '{name}': x }} }}"));
        assert!(
            found.starts_with(&format!("bad-variable /connection/env/{name}")) && found.contains(expect),
            "{found}"
        );
    };
    for name in ["PATH", "home", "TZ", "COMMAND_CENTER_TENANT", "command_center_x"] {
        check(name, "is set by the server");
    }
    for name in ["LD_PRELOAD", "ld_library_path", "DYLD_INSERT_LIBRARIES", "PYTHONPATH", "NODE_OPTIONS", "BASH_ENV"] {
        check(name, "load code that nobody allowed");
    }
    for name in ["1A", "A-B", "A B"] {
        check(name, "is not a variable's name");
    }
    assert!(render("connection: { command: [tap], env: { '': x } }").contains("is not a variable's name"));
    assert_eq!(render("connection: { command: [tap], env: { PYTHONUNBUFFERED: '1' } }"), "");
    assert!(render("connection: { command: [tap], env: { A: [b] } }").starts_with("wrong-type /connection/env/A"));
    assert!(render("connection: { command: [tap], env: { A: 5 } }").contains("put it in quotes"));
}

#[test]
fn a_connectors_defaults_may_hold_half_of_it() {
    let file = DefaultsFile::Of(Connector::Exec);
    let half = "connection: { command: [tap, --config, '{{config}}'], config: { api_url: https://api.example.com } }";
    let found = parse_defaults(file, half.as_bytes());
    let defaults = Defaults::new(vec![found.layer.expect("no finding")]);
    let own = "interval_sec: 5\nconnection: { config: { company: peak } }";
    let spec = parse(&id(), own.as_bytes(), &defaults).spec.unwrap();
    let config = serde_json::to_value(spec.connection.unwrap().config).unwrap();
    assert_eq!(config["company"], "peak");
    for alone in ["connection: { command: [tap, '{{config}}'] }", "connection: { env: { A: b } }", "interval_sec: 5"] {
        assert!(parse_defaults(file, alone.as_bytes()).layer.is_some(), "{alone}");
    }
}

#[test]
fn the_schema_takes_what_the_rules_take() {
    let schema = jsonschema::draft202012::new(&schedule_schema()).unwrap();
    for (good, text) in [
        (true, "command: [tap]"),
        (true, "command: [/opt/taps/bin/tap, '', '--x']"),
        (true, r"command: ['C:\taps\tap.exe']"),
        (true, "command: [tap]\nconfig: { a: [{ b: 1 }], c: { env: CC_SECRET_X } }\nenv: { A: b, C: { file: x } }"),
        (true, "command: [tap]\nprotocol: stats\nmax_line_kb: 65536"),
        (false, "command: tap"),
        (false, "command: []"),
        (false, "command: [./tap]"),
        (false, "command: ['']"),
        (false, "command: [tap, 5]"),
        (false, "command: [tap]\nconfig: [a]"),
        (false, "command: [tap]\nenv: { 'A B': c }"),
        (false, "command: [tap]\nenv: { A: { env: X } }"),
        (false, "command: [tap]\nenv: { A: 5 }"),
        (false, "command: [tap]\nprotocol: airbyte"),
        (false, "command: [tap]\nmax_output_mb: 0"),
        (false, "command: [tap]\nidle_timeout_sec: 86401"),
    ] {
        let document = format!("interval_sec: 5\nconnection:\n  {}\n", text.replace('\n', "\n  "));
        let value = document_value(&id(), document.as_bytes()).unwrap();
        let errors: Vec<_> = schema.iter_errors(&value).map(|error| error.to_string()).collect();
        assert_eq!(errors.is_empty(), good, "schema on {text:?}: {errors:?}");
        let found = parse(&id(), document.as_bytes(), Defaults::NONE).diagnostics;
        assert_eq!(found.is_empty(), good, "parse on {text:?}: {found:?}");
    }
}
