//! The connector against a server of its own over loopback, with a sink in memory. What a file says goes
//! through the same rules as in earnest.

mod faults;
mod reading;
mod server;

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::adapters::clock::Clock;
use crate::adapters::connectors::kept::Kept;
use crate::adapters::connectors::{ErrorClass, Secret};
use crate::adapters::secrets::Secrets;
use crate::core::desired::{Defaults, parse};
use crate::core::model::{ImportStats, Millis};
use server::{Answer, Asked, Body, Server};

/// 2026-06-01T12:00:00Z
const NOON: Millis = 1_780_315_200_000;
const SECRET: &str = "hunter2+x";

impl Kept {
    fn keys(&self) -> Vec<String> {
        self.records.lock().unwrap().keys().map(|(_, key)| key.clone()).collect()
    }

    /// What the connector remembers of where it stands, without what that belongs to.
    fn standing(&self, resource: &str) -> Option<Value> {
        self.bookmark_of(resource).map(|stored| stored["value"].clone())
    }
}

/// A connector that is quick to give up, with its secrets in a folder.
struct Bench {
    connector: Http,
    clock: Clock,
    folder: tempfile::TempDir,
    sink: Arc<Kept>,
    cancel: CancellationToken,
}

impl Bench {
    fn new() -> Self {
        Self::with(Kept::default())
    }

    fn with(sink: Kept) -> Self {
        let tuning = Tuning {
            backoff: Duration::from_millis(5),
            patience: Duration::from_millis(1500),
            request_timeout: Duration::from_millis(700),
            ..Tuning::default()
        };
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("shop"), SECRET).unwrap();
        let (clock, cancel) = (Clock::manual(NOON), CancellationToken::new());
        Bench { connector: Http::with(tuning).unwrap(), clock, folder, sink: Arc::new(sink), cancel }
    }

    /// Imports by a file's `connection`, in YAML; `URL` in it is the server's.
    async fn import(&self, server: &Server, connection: &str) -> ImportOutcome {
        let text = connection.replace("URL", &server.url);
        let text = format!("interval_sec: 60\nconnection:\n{}", indented(&text, 2));
        self.connector.import(self.context(&text)).await
    }

    fn context(&self, file: &str) -> ImportContext {
        let id = "http/peak".parse().unwrap();
        let parsed = parse(&id, file.as_bytes(), Defaults::NONE);
        let spec = parsed.spec.unwrap_or_else(|| panic!("{:#?}", parsed.diagnostics));
        ImportContext {
            id,
            run_id: 7,
            nominal: NOON,
            base_url: String::new(),
            api_key: Secret(String::new()),
            connection: spec.connection.unwrap_or_default(),
            secrets: Secrets { folder: Some(Path::new(self.folder.path()).to_owned()) },
            resources: spec.resources,
            targets: Vec::new(),
            sink: self.sink.clone(),
            clock: self.clock.clone(),
            cancel: self.cancel.clone(),
        }
    }
}

fn indented(text: &str, by: usize) -> String {
    text.lines().map(|line| format!("{}{line}\n", " ".repeat(by))).collect()
}

/// A list of orders, plain but for what `more` adds (lines, indented as the request's keys).
fn orders(more: &str) -> String {
    format!("base_url: URL/api\nrequests:\n  orders:\n    path: /orders\n    key: id\n{}", indented(more, 4))
}

fn items(from: u64, to: u64) -> Value {
    (from..to).map(|id| json!({ "id": id, "updated_at": format!("2026-05-01T00:00:{id:02}Z") })).collect()
}

fn succeeded(outcome: ImportOutcome) -> ImportStats {
    assert!(outcome.error.is_none(), "{:?}", outcome.error);
    outcome.stats
}

/// The class and the message of an import that must have failed; no secret may be in it.
fn failed(outcome: ImportOutcome) -> (ErrorClass, String) {
    let failure = outcome.error.expect("the import should have failed");
    assert!(!failure.message.contains("hunter2"), "{}", failure.message);
    (failure.class, failure.message)
}
