//! Lines are captured through a writer, as stdout would get them.

use std::io;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::*;

#[derive(Clone, Default)]
struct Capture(Arc<Mutex<Vec<u8>>>);

impl io::Write for Capture {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Capture {
    type Writer = Capture;

    fn make_writer(&'a self) -> Capture {
        self.clone()
    }
}

/// What `log` writes in this format at this level.
fn lines(format: LogFormat, level: LogLevel, log: impl FnOnce()) -> Vec<String> {
    let capture = Capture::default();
    let layer = Lines { format, colour: false, clock: Clock::manual(1_762_353_121_234), writer: capture.clone() };
    tracing::subscriber::with_default(subscriber(layer, level), log);
    let bytes = capture.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
}

fn request() {
    let span =
        tracing::info_span!("request", endpoint = "/alerts/{id}", method = "GET", tenant_id = tracing::field::Empty);
    let _entered = span.enter();
    span.record("tenant_id", "acme-corp");
    tracing::info!(
        component = "acculynx-audit",
        status = 200_u16,
        duration_ms = 42_u64,
        user_roles = "operator,admin",
        extra = true,
        "answered\nquickly"
    );
}

#[test]
fn a_json_line_is_flat_and_in_the_contracts_order() {
    assert_eq!(
        lines(LogFormat::Json, LogLevel::Info, request),
        [concat!(
            r#"{"timestamp":"2025-11-05T14:32:01.234Z","level":"INFO","service":"command-center","#,
            r#""component":"acculynx-audit","endpoint":"/alerts/{id}","method":"GET","status":200,"duration_ms":42,"#,
            r#""user_roles":["operator","admin"],"tenant_id":"acme-corp","message":"answered\nquickly","extra":true}"#
        )]
    );
}

#[test]
fn a_readable_line_stays_one_line() {
    assert_eq!(
        lines(LogFormat::Text, LogLevel::Info, request),
        [concat!(
            r"14:32:01.234 INFO    [acculynx-audit] answered\nquickly endpoint=/alerts/{id} method=GET status=200 ",
            r#"duration_ms=42 user_roles=["operator","admin"] tenant_id=acme-corp extra=true"#
        )]
    );
}

#[test]
fn levels_have_the_contracts_names_and_filter() {
    let log = || {
        tracing::error!("e");
        tracing::warn!("w");
        tracing::info!("i");
        tracing::debug!("d");
        tracing::info!(target: "hyper::proto", "a library's progress");
        tracing::warn!(target: "hyper::proto", "a library's worry");
    };
    let levels = |level| -> Vec<String> {
        let level_of =
            |line: &String| serde_json::from_str::<Value>(line).unwrap()["level"].as_str().unwrap().to_owned();
        lines(LogFormat::Json, level, log).iter().map(level_of).collect()
    };
    assert_eq!(levels(LogLevel::Debug), ["ERROR", "WARNING", "INFO", "DEBUG", "WARNING"]);
    assert_eq!(levels(LogLevel::Info), ["ERROR", "WARNING", "INFO", "WARNING"]);
    assert_eq!(levels("warn".parse().unwrap()), ["ERROR", "WARNING", "WARNING"]);
    assert_eq!(levels("ERROR".parse().unwrap()), ["ERROR"]);
    assert!("loud".parse::<LogLevel>().is_err());
}

#[test]
fn the_component_is_the_module_unless_said() {
    let log = || {
        tracing::info!(target: "command_center::tasks::stall_watch", "x");
        tracing::info!(target: "command_center", "x");
        tracing::error!(target: "hyper::proto", "x");
    };
    let components: Vec<_> = lines(LogFormat::Json, LogLevel::Info, log)
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["component"].clone())
        .collect();
    assert_eq!(components, ["stall-watch", "command-center", "hyper"]);
}

#[test]
fn secrets_and_forged_fields_do_not_get_through() {
    let log = || {
        tracing::warn!(
            api_key = "AKIA",
            url = "https://u:hunter2@host/x?y=@",
            timestamp = "never",
            level = "FATAL",
            "calling https://u:hunter2@host failed"
        );
    };
    let json = lines(LogFormat::Json, LogLevel::Info, log).remove(0);
    assert!(!json.contains("hunter2") && !json.contains("AKIA") && !json.contains("never"), "{json}");
    let line: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(line["url"], "https://***@host/x?y=@");
    assert_eq!(line["message"], "calling https://***@host failed");
    assert_eq!(line["level"], "WARNING");
    let text = lines(LogFormat::Text, LogLevel::Info, || tracing::info!(name = "\u{1b}[2J", "x")).remove(0);
    assert!(!text.contains('\u{1b}'), "{text:?}");
}
