//! Asks AccuLynx for one page: at the vendor's pace, with the key kept to itself, trying again where
//! that can help, and with every way to fail put into words for the operator.

use std::time::{Duration, Instant};

use reqwest::header::{AUTHORIZATION, HeaderValue, LOCATION};
use reqwest::{Response, StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::limits::Limits;
use super::{SetUpClient, Tuning, failure};
use crate::adapters::clock::Clock;
use crate::adapters::connectors::web::{self, BadBody};
use crate::adapters::connectors::{ErrorClass, ImportContext, ImportFailure, is_loopback};
use crate::core::model::Digest;

/// Keys of the practice server open nothing of value; they alone may travel unencrypted to other machines.
const PRACTICE_KEY: &str = "sandbox-";

/// A list's answer, as far as it is needed.
#[derive(Debug, Deserialize)]
pub(super) struct ListPage {
    /// The number of records whatever the filter.
    #[serde(default)]
    pub count: Option<u64>,
    pub items: Vec<Value>,
}

/// The shared HTTP client and the pace it keeps.
pub(super) struct Client {
    http: reqwest::Client,
    limits: Limits,
    tuning: Tuning,
}

/// The account that one import reads: where it is, the key to it, how patient to be with it.
pub(super) struct Account {
    base: Url,
    host: String,
    authorization: HeaderValue,
    key: Digest,
    secret: String,
    /// The schedule's file, to send the operator to.
    file: String,
    /// Makes pauses differ between tenants and runs.
    salt: u64,
    /// Spent on refusals so far.
    waited: Duration,
    clock: Clock,
    cancel: CancellationToken,
}

/// One request.
struct Ask<'a> {
    path: &'a str,
    query: &'a [(&'a str, String)],
    /// The status that says that there is nothing there.
    none: StatusCode,
}

/// Why one attempt did not bring a page.
enum Trouble {
    /// Trying again does not help.
    Final(ImportFailure),
    /// It may pass.
    Passing(ImportFailure),
    /// Asked to come back later; `None` when it was not said when.
    Refused(Option<Duration>),
}

impl Account {
    /// Checks address and key, so that the key goes nowhere it should not.
    pub fn open(context: &ImportContext) -> Result<Self, ImportFailure> {
        let file = context.id.file();
        let configuration = |message: String| failure(ErrorClass::Configuration, message);
        let base = Url::parse(context.base_url.trim_end_matches('/'))
            .map_err(|error| configuration(format!("connection.base_url in {file} is not an address: {error}")))?;
        let plain = base.query().is_none() && base.fragment().is_none();
        if !plain || !base.username().is_empty() || base.password().is_some() {
            return Err(configuration(format!(
                "connection.base_url in {file} must be a plain address, without user, query or fragment"
            )));
        }
        let key = context.api_key.0.trim();
        let open_ground = !is_loopback(&base) && !key.starts_with(PRACTICE_KEY);
        if base.scheme() != "https" && (base.scheme() != "http" || open_ground) {
            return Err(configuration(format!(
                "connection.base_url in {file} would send the key unencrypted: use an https:// address"
            )));
        }
        let authorization = HeaderValue::from_str(&format!("Bearer {key}")).ok().filter(|_| !key.is_empty());
        let Some(mut authorization) = authorization else {
            let message = format!("the API key is empty or has characters no key has: {}", where_the_key_is(&file));
            return Err(failure(ErrorClass::Unauthorized, message));
        };
        authorization.set_sensitive(true);
        Ok(Account {
            host: format!("{}:{}", base.host_str().unwrap_or_default(), base.port_or_known_default().unwrap_or(0)),
            base,
            authorization,
            key: Digest::of(key.as_bytes()),
            secret: key.to_owned(),
            salt: web::salt(&file, context.run_id),
            file,
            waited: Duration::ZERO,
            clock: context.clock.clone(),
            cancel: context.cancel.clone(),
        })
    }

    async fn unless_cancelled<T>(&self, work: impl Future<Output = T>) -> Result<T, ImportFailure> {
        web::unless_cancelled(&self.cancel, work).await
    }

    async fn sleep(&self, duration: Duration) -> Result<(), ImportFailure> {
        self.unless_cancelled(tokio::time::sleep(duration)).await
    }

    fn backoff(&self, base: Duration, attempt: u32) -> Duration {
        web::backoff(base, attempt, self.salt)
    }

    /// The source's own words, without the key should they repeat it.
    fn quote(&self, text: &str) -> String {
        web::quote(text, [self.secret.as_str()])
    }
}

impl Client {
    pub fn new(tuning: Tuning) -> Result<Self, SetUpClient> {
        let http = web::client(tuning.connect_timeout, tuning.read_timeout)?;
        Ok(Client { http, limits: Limits::new(tuning.key_rate, tuning.host_rate), tuning })
    }

    /// One page of `path`; `None` when the offset is past the end.
    pub async fn page(
        &self,
        account: &mut Account,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<Option<ListPage>, ImportFailure> {
        let body = self.get(account, &Ask { path, query, none: StatusCode::RANGE_NOT_SATISFIABLE }).await?;
        body.map(|body| read(path, "its list", &body)).transpose()
    }

    /// The one thing at `path`; `None` when there is none.
    pub async fn one(&self, account: &mut Account, path: &str) -> Result<Option<Value>, ImportFailure> {
        let body = self.get(account, &Ask { path, query: &[], none: StatusCode::NOT_FOUND }).await?;
        body.map(|body| read(path, "a record", &body)).transpose()
    }

    async fn get(&self, account: &mut Account, ask: &Ask<'_>) -> Result<Option<Vec<u8>>, ImportFailure> {
        let mut failed = 0;
        let mut refused = 0;
        loop {
            account.unless_cancelled(self.limits.pass(account.key, &account.host)).await?;
            let attempt = tokio::time::timeout(self.tuning.request_timeout, self.attempt(account, ask));
            match account.unless_cancelled(attempt).await?.unwrap_or_else(|_| Err(self.too_slow(ask.path))) {
                Ok(body) => return Ok(body),
                Err(Trouble::Final(failure)) => return Err(failure),
                Err(Trouble::Passing(failure)) => {
                    failed += 1;
                    if failed > self.tuning.retries {
                        return Err(failure);
                    }
                    account.sleep(account.backoff(self.tuning.backoff, failed)).await?;
                }
                Err(Trouble::Refused(after)) => {
                    refused += 1;
                    self.wait_out(account, after, refused).await?;
                }
            }
        }
    }

    /// Waits as long as the source asks, unless that is longer than this import's patience.
    async fn wait_out(
        &self,
        account: &mut Account,
        after: Option<Duration>,
        refused: u32,
    ) -> Result<(), ImportFailure> {
        // Whatever is asked, each further refusal waits longer, so that this comes to an end.
        let pause = after.unwrap_or_default().max(account.backoff(self.tuning.backoff, refused));
        account.waited = account.waited.saturating_add(pause);
        // A `Retry-After` may be absurd; the key is not held longer than an import would wait.
        self.limits.hold_key(account.key, Instant::now() + pause.min(self.tuning.rate_limit_patience));
        if account.waited > self.tuning.rate_limit_patience {
            let message = format!(
                "AccuLynx asks to slow down (429) and to wait {} s: something else may be using this key or this address; \
                 the next run tries again",
                pause.as_secs().max(1)
            );
            return Err(ImportFailure { retry_after: after, ..failure(ErrorClass::RateLimited, message) });
        }
        account.sleep(pause).await
    }

    async fn attempt(&self, account: &Account, ask: &Ask<'_>) -> Result<Option<Vec<u8>>, Trouble> {
        let url = format!("{}/{}", account.base.as_str().trim_end_matches('/'), ask.path);
        let request = self.http.get(url).header(AUTHORIZATION, account.authorization.clone()).query(ask.query);
        let response = request.send().await.map_err(|error| self.unreachable(account, &error))?;
        match response.status() {
            StatusCode::OK => self.body(ask.path, response).await.map(Some),
            status if status == ask.none => Ok(None),
            StatusCode::TOO_MANY_REQUESTS => {
                Err(Trouble::Refused(web::retry_after(response.headers(), account.clock.now())))
            }
            _ => Err(self.refusal(account, ask.path, response).await),
        }
    }

    /// The body, up to the limit.
    async fn body(&self, path: &str, response: Response) -> Result<Vec<u8>, Trouble> {
        web::body(response, self.tuning.body_limit).await.map_err(|bad| match bad {
            BadBody::BrokeOff(cause) => {
                let message = format!("AccuLynx broke off in the middle of /{path}: {cause}");
                Trouble::Passing(failure(ErrorClass::Unavailable, message))
            }
            BadBody::TooLarge => {
                let mib = self.tuning.body_limit >> 20;
                let message =
                    format!("AccuLynx answered /{path} with more than {mib} MiB: that is not a page of a list");
                Trouble::Final(failure(ErrorClass::BadResponse, message))
            }
        })
    }

    /// Puts an answer that is not a page into words.
    async fn refusal(&self, account: &Account, path: &str, response: Response) -> Trouble {
        let status = response.status();
        let code = status.as_u16();
        if status.is_redirection() {
            let to = response.headers().get(LOCATION).and_then(|to| to.to_str().ok()).unwrap_or("elsewhere");
            let message = format!(
                "AccuLynx redirects /{path} to {}, where the key is not sent: correct connection.base_url in {}",
                account.quote(to),
                account.file
            );
            return Trouble::Final(failure(ErrorClass::Configuration, message));
        }
        let detail = self.detail(account, response).await;
        match code {
            401 => {
                let message = format!("AccuLynx refused the key (401): {}", where_the_key_is(&account.file));
                Trouble::Final(failure(ErrorClass::Unauthorized, message))
            }
            403 => {
                let message = format!(
                    "AccuLynx does not let this key read {path} (403): ask the account's administrator, or {}",
                    where_the_key_is(&account.file)
                );
                Trouble::Final(failure(ErrorClass::Unauthorized, message))
            }
            404 => {
                let message =
                    format!("AccuLynx knows no /{path} here (404): check connection.base_url in {}", account.file);
                Trouble::Final(failure(ErrorClass::Configuration, message))
            }
            400..=499 if code != 408 => {
                let message = format!("AccuLynx refused the request for /{path} ({code}){detail}");
                Trouble::Final(failure(ErrorClass::Configuration, message))
            }
            408 | 500..=599 => {
                let message = format!("AccuLynx failed on /{path} ({code}){detail}; the next run tries again");
                Trouble::Passing(failure(ErrorClass::Unavailable, message))
            }
            _ => {
                let message = format!("AccuLynx answered /{path} with status {code}, which it does not document");
                Trouble::Final(failure(ErrorClass::BadResponse, message))
            }
        }
    }

    /// `: detail` from a problem's body, or nothing.
    async fn detail(&self, account: &Account, response: Response) -> String {
        web::detail(response).await.map(|words| format!(": {}", account.quote(&words))).unwrap_or_default()
    }

    fn unreachable(&self, account: &Account, error: &reqwest::Error) -> Trouble {
        let what = if error.is_timeout() { "did not answer in time" } else { "could not be reached" };
        let message = format!("AccuLynx {what} at {}: {}", account.host, web::cause(error));
        Trouble::Passing(failure(ErrorClass::Unavailable, message))
    }

    fn too_slow(&self, path: &str) -> Trouble {
        let limit = self.tuning.request_timeout.as_secs();
        let message = format!("AccuLynx did not finish answering /{path} within {limit} s; the next run tries again");
        Trouble::Passing(failure(ErrorClass::Unavailable, message))
    }
}

fn read<T: DeserializeOwned>(path: &str, what: &str, body: &[u8]) -> Result<T, ImportFailure> {
    serde_json::from_slice(body).map_err(|error| {
        let message = format!("AccuLynx answered /{path} with something that is not {what}: {error}");
        failure(ErrorClass::BadResponse, message)
    })
}

/// Whether an id can stand in a path as it is. The vendor's are UUIDs.
pub(crate) fn is_plain_id(id: &str) -> bool {
    (1..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

fn where_the_key_is(file: &str) -> String {
    format!("check the secret that connection.api_key names in {file}")
}
