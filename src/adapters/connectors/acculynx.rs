//! Imports from AccuLynx: `sync` decides what to ask for and when a list is complete, `client` asks for
//! one page and survives the network, `limits` keeps to the vendor's pace.

use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};

use super::web::SetUpClient;
use super::{Connect, ErrorClass, ImportContext, ImportFailure, ImportOutcome};

mod client;
mod limits;
mod sync;
mod webhook;

use client::Client;
use sync::Sync;

pub use webhook::{Told, read_event};

/// How hard the connector tries and how fast it may go. The defaults suit the vendor.
#[derive(Clone, Debug)]
pub struct Tuning {
    /// Requests a second with one key; the vendor allows 10. Zero is no limit, here and below.
    pub key_rate: f64,
    /// Requests a second to one host, over all keys; the vendor bans an address at 30.
    pub host_rate: f64,
    /// How often one request is sent again after a network error or a 5xx.
    pub retries: u32,
    /// The pause before the first repetition; it doubles with each further one.
    pub backoff: Duration,
    /// How long one import waits for a refused key in all, before it fails as rate limited.
    pub rate_limit_patience: Duration,
    pub connect_timeout: Duration,
    /// The longest silence within an answer.
    pub read_timeout: Duration,
    /// From sending a request to the end of its answer.
    pub request_timeout: Duration,
    /// The largest answer taken in, in bytes after decompression.
    pub body_limit: usize,
    /// How many jobs' milestone histories one import reads; the next goes on where it stopped.
    pub histories_a_run: u32,
}

impl Default for Tuning {
    fn default() -> Self {
        Tuning {
            key_rate: 8.0,
            host_rate: 25.0,
            retries: 3,
            backoff: Duration::from_millis(250),
            rate_limit_patience: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_secs(90),
            body_limit: 8 << 20,
            histories_a_run: 500,
        }
    }
}

/// The connector. Keep one for the whole program: its pace and its connections are shared by all tenants.
pub struct AccuLynx {
    client: Client,
    tuning: Tuning,
}

impl AccuLynx {
    /// With the vendor's limits.
    pub fn new() -> Result<Self, SetUpClient> {
        Self::with(Tuning::default())
    }

    pub fn with(tuning: Tuning) -> Result<Self, SetUpClient> {
        Ok(AccuLynx { client: Client::new(tuning.clone())?, tuning })
    }
}

impl Connect for AccuLynx {
    fn import(&self, context: ImportContext) -> BoxFuture<'_, ImportOutcome> {
        async move {
            let mut sync = Sync::new(&self.client, &self.tuning, &context);
            let error = sync.run().await.err();
            ImportOutcome { stats: sync.stats(), error, log: None }
        }
        .boxed()
    }
}

fn failure(class: ErrorClass, message: impl Into<String>) -> ImportFailure {
    ImportFailure::new(class, message)
}

#[cfg(test)]
mod tests;
