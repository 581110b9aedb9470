//! SQLite through the suite of all stores, and what is particular to it.

mod capturing;
mod copying;
mod history;
mod opening;
mod sealing;
mod upgrading;
mod writing;

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::*;
use crate::adapters::store::conformance::{Site, store_conformance};

/// A database file in a folder that goes with it.
struct Place(TempDir);

impl Place {
    fn new() -> Place {
        Place(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("data/store.db")
    }

    /// A connection past the store, as the sqlite3 shell would have it.
    fn shell(&self) -> Connection {
        let connection = Connection::open(self.path()).unwrap();
        connection.busy_timeout(std::time::Duration::from_secs(5)).unwrap();
        connection
    }
}

impl Site for Place {
    fn open(&self) -> SharedStore {
        Arc::new(SqliteStore::open(&self.path()).unwrap())
    }

    fn write_past(&self) {
        self.shell().execute("INSERT OR REPLACE INTO facts (name, value) VALUES ('by_hand', '1')", []).unwrap();
    }

    fn refuse_record(&self, key: &str) {
        let trigger = format!(
            "CREATE TRIGGER refuse BEFORE INSERT ON records WHEN NEW.key = '{key}'
             BEGIN SELECT RAISE(ABORT, 'refused'); END"
        );
        self.shell().execute_batch(&trigger).unwrap();
    }

    fn terms(&self) -> Vec<i64> {
        let shell = self.shell();
        let mut statement = shell.prepare("SELECT term FROM runs ORDER BY id").unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().collect::<rusqlite::Result<_>>().unwrap()
    }
}

store_conformance!(Place::new());

fn draft(tenant: &str) -> crate::core::audit::Draft {
    crate::core::audit::Draft {
        tenant: tenant.to_owned(),
        connector: None,
        operation: crate::core::audit::operation::UPDATED,
        source: crate::core::model::Source::Api,
        actor: "a".into(),
        action_id: "0190".into(),
        metadata: serde_json::json!({}).into(),
    }
}

async fn log(store: &dyn Store) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut batches = store.audit_log();
    while let Some(batch) = batches.recv().await {
        entries.extend(batch.unwrap());
    }
    entries
}

/// The log must be whole; gives the tenants it names.
async fn whole_log(store: &dyn Store) -> Vec<String> {
    let entries = log(store).await;
    let mut verifier = crate::core::audit::Verifier::default();
    for entry in &entries {
        verifier.push(entry);
    }
    let verdict = verifier.finish(Some(store.audit_head().await.unwrap()));
    assert!(verdict.valid, "{}", verdict.message);
    entries.into_iter().map(|entry| entry.tenant).collect()
}

#[test]
fn a_database_without_a_write_ahead_log_is_refused() {
    // One in memory has none, and SQLite says nothing of it.
    let error = super::configure(&Connection::open_in_memory().unwrap()).unwrap_err().to_string();
    assert!(error.contains("the journal's mode is memory"), "{error}");
}
