//! Imports from any JSON API that a schedule's file describes: `reading` goes from page to page and keeps
//! the bookmark, `source` asks and survives the network, `token` fetches what OAuth wants.

use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};

use super::web::{self, SetUpClient};
use super::{Connect, ImportContext, ImportOutcome};

mod reading;
mod source;
mod token;

use reading::Reading;
use token::Tokens;

/// How hard the connector tries.
#[derive(Clone, Debug)]
pub struct Tuning {
    /// How often one request is sent again after a network error or a 5xx.
    pub retries: u32,
    /// The pause before the first repetition; it doubles with each further one.
    pub backoff: Duration,
    /// How long one import waits in all when it is asked to slow down, before it fails as rate limited.
    pub patience: Duration,
    pub connect_timeout: Duration,
    /// The longest silence within an answer.
    pub read_timeout: Duration,
    /// From sending a request to the end of its answer.
    pub request_timeout: Duration,
}

impl Default for Tuning {
    fn default() -> Self {
        Tuning {
            retries: 3,
            backoff: Duration::from_millis(250),
            patience: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_secs(90),
        }
    }
}

/// The connector. Keep one for the whole program: its connections and its tokens are kept between runs.
pub struct Http {
    client: reqwest::Client,
    tokens: Tokens,
    tuning: Tuning,
}

impl Http {
    pub fn new() -> Result<Self, SetUpClient> {
        Self::with(Tuning::default())
    }

    pub fn with(tuning: Tuning) -> Result<Self, SetUpClient> {
        let client = web::client(tuning.connect_timeout, tuning.read_timeout)?;
        Ok(Http { client, tokens: Tokens::default(), tuning })
    }
}

impl Connect for Http {
    fn import(&self, context: ImportContext) -> BoxFuture<'_, ImportOutcome> {
        async move {
            let mut reading = Reading::new(self, &context);
            let error = reading.run().await.err();
            ImportOutcome { stats: reading.stats(), error, log: None }
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests;
