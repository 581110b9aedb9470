//! Pulls records from a source. One module a connector; all behind `Connect`.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::adapters::clock::Clock;
use crate::adapters::secrets::Secrets;
use crate::core::model::{Connection, Connector, ImportStats, Millis, Resource, ScheduleId};

pub use crate::core::run::ErrorClass;

pub mod acculynx;
pub mod exec;
pub mod http;
#[cfg(test)]
mod kept;
pub mod noop;
pub mod web;

/// Whether a request to `url` stays on this machine.
pub fn is_loopback(url: &url::Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// A secret in memory: shown as `***` by `Debug`, so that it cannot slip into a log.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// Everything one import may use. Nothing else is read from the world but the source.
pub struct ImportContext {
    pub id: ScheduleId,
    pub run_id: i64,
    pub nominal: Millis,
    /// AccuLynx: its address without a trailing slash, the server's default filled in; empty for others.
    pub base_url: String,
    /// AccuLynx: its key, resolved; empty for others.
    pub api_key: Secret,
    /// The connection as the schedule has it; each connector reads its own keys.
    pub connection: Connection,
    /// Resolves what the connection refers to.
    pub secrets: Secrets,
    pub resources: Vec<Resource>,
    /// Single records to bring up to date instead of all that `resources` name: what a webhook told of.
    pub targets: Vec<(Resource, String)>,
    pub sink: Arc<dyn RecordSink>,
    pub clock: Clock,
    /// Fires when the run is to stop (shutdown); the import returns soon after.
    pub cancel: CancellationToken,
}

/// One record as it came, under the key that names it within its resource.
#[derive(Clone, Debug)]
pub struct Record {
    pub key: String,
    pub payload: Value,
}

/// A page of records and the bookmark that is true once they are stored.
#[derive(Clone, Debug)]
pub struct Page {
    pub resource: Resource,
    pub records: Vec<Record>,
    /// Opaque to the store; `None` leaves the stored one as it is.
    pub bookmark: Option<Value>,
}

/// Could not store what was imported.
#[derive(Debug, thiserror::Error)]
#[error("could not store imported records: {0}")]
pub struct SinkError(pub String);

/// Where an import's records go. A page, its bookmark and its counts are one transaction.
pub trait RecordSink: Send + Sync {
    fn bookmark(&self, resource: Resource) -> BoxFuture<'_, Result<Option<Value>, SinkError>>;
    /// Upserts by (tenant, connector, resource, key) and says how many were new, changed and unchanged.
    fn write_page(&self, page: Page) -> BoxFuture<'_, Result<ImportStats, SinkError>>;
    /// As `write_page`, of several in their order; the store's own does it in one transaction.
    fn write_pages(&self, pages: Vec<Page>) -> BoxFuture<'_, Result<ImportStats, SinkError>> {
        Box::pin(async move {
            let mut stats = ImportStats::default();
            for page in pages {
                stats += self.write_page(page).await?;
            }
            Ok(stats)
        })
    }
    /// Says that a resource was read from end to end, and how many records that brought: what a complete
    /// reading brings is compared with those before it. For resources with a bookmark; a run without any
    /// bookmark is taken for one reading of everything.
    fn swept(&self, _resource: &Resource, _records: u64) {}
}

/// How an import ended. What was stored before a failure stays and is counted.
#[derive(Clone, Debug)]
pub struct ImportOutcome {
    pub stats: ImportStats,
    /// `None` when it succeeded.
    pub error: Option<ImportFailure>,
    /// What there is to say of it for its record, besides how it ended; without secrets.
    pub log: Option<String>,
}

/// The class is for machines, the message for the operator: what failed, where, what to do.
#[derive(Clone, Debug)]
pub struct ImportFailure {
    pub class: ErrorClass,
    pub message: String,
    /// How long the source asks to be left alone, where it said so.
    pub retry_after: Option<Duration>,
}

impl ImportFailure {
    pub fn new(class: ErrorClass, message: impl Into<String>) -> Self {
        ImportFailure { class, message: message.into(), retry_after: None }
    }
}

/// A connector: one import of one tenant at a time through `import`.
pub trait Connect: Send + Sync {
    fn import(&self, context: ImportContext) -> BoxFuture<'_, ImportOutcome>;
}

/// The connectors this program has, each once, with the limits they keep between runs.
#[derive(Clone)]
pub struct Connectors {
    pub acculynx: Arc<dyn Connect>,
    pub exec: Arc<dyn Connect>,
    pub http: Arc<dyn Connect>,
    pub noop: Arc<dyn Connect>,
}

impl Connectors {
    /// One in the place of each: for rehearsals and tests.
    pub fn all(connector: Arc<dyn Connect>) -> Self {
        Connectors { acculynx: connector.clone(), exec: connector.clone(), http: connector.clone(), noop: connector }
    }

    pub fn get(&self, connector: Connector) -> &dyn Connect {
        match connector {
            Connector::Acculynx => self.acculynx.as_ref(),
            Connector::Exec => self.exec.as_ref(),
            Connector::Http => self.http.as_ref(),
            Connector::Noop => self.noop.as_ref(),
        }
    }
}
