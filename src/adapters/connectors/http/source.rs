//! Asks one source: secrets go to its own host only, failures that may pass are tried again, and every way
//! to fail is put into words for the operator.

use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LINK, LOCATION};
use reqwest::{Method, Response, StatusCode, Url};

use super::token::Client;
use super::{Http, Tuning};
use crate::adapters::connectors::web::{self, BadBody};
use crate::adapters::connectors::{ErrorClass, ImportContext, ImportFailure, Secret, is_loopback};
use crate::core::model::{HttpAuth, Millis};
use crate::core::rest::link;
use crate::core::rest::template::{Values, fill};

/// How often one request may be sent on within its host.
const MOST_REDIRECTS: usize = 5;
const MIB: usize = 1 << 20;
const USUAL_BODY_MB: u32 = 8;

/// One request, ready to be sent as often as it takes.
pub(super) struct Call {
    /// How messages call it, e.g. `orders (page 2)`.
    pub what: String,
    pub url: Url,
    pub method: Method,
    pub headers: HeaderMap,
    pub body: Option<Vec<u8>>,
    /// The largest answer, in bytes.
    pub limit: usize,
    pub is_for_token: bool,
}

/// A good answer.
pub(super) struct Reply {
    /// Where it came from in the end.
    pub url: Url,
    pub content_type: String,
    /// The address of the next page, by the header `Link`.
    pub next: Option<String>,
    pub body: Vec<u8>,
}

/// Why a request brought nothing; the status is 0 without an answer.
pub(super) struct Failed {
    pub failure: ImportFailure,
    pub status: u16,
}

/// Why one attempt brought nothing.
enum Trouble {
    /// Trying again does not help.
    Final(Failed),
    /// It may pass.
    Passing(Failed),
    /// Asked to come back later; `None` when it was not said when.
    Refused(Option<Duration>, u16),
}

/// What every request carries to prove who asks.
enum Proof {
    None,
    Header(HeaderName, HeaderValue),
    Query(String, Secret),
    Oauth(Box<Client>),
}

/// The source that one import reads.
pub(super) struct Source<'a> {
    http: &'a Http,
    context: &'a ImportContext,
    base: Url,
    /// What each request carries, but the proof.
    headers: HeaderMap,
    proof: Proof,
    limit: usize,
    /// Never to be repeated, not even when the source does.
    secrets: Vec<String>,
    salt: u64,
    /// Spent on being asked to slow down so far.
    waited: Duration,
}

impl<'a> Source<'a> {
    /// Checks the address and resolves the secrets, so that they go nowhere they should not.
    pub fn open(http: &'a Http, context: &'a ImportContext) -> Result<Self, ImportFailure> {
        let file = context.id.file();
        let connection = &context.connection;
        let text = connection.base_url.as_deref().ok_or_else(|| {
            let defaults = format!("schedules/{}/_defaults.yaml", context.id.connector);
            configuration(format!("connection.base_url is missing: set it in {file}, or in {defaults}"))
        })?;
        let base = address("connection.base_url", text, &file, connection.auth.is_some())?;
        let mut source = Source {
            http,
            context,
            base,
            headers: HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/json"))]),
            proof: Proof::None,
            limit: connection.max_body_mb.unwrap_or(USUAL_BODY_MB) as usize * MIB,
            secrets: Vec::new(),
            salt: web::salt(&file, context.run_id),
            waited: Duration::ZERO,
        };
        let values = source.values();
        for (name, text) in &connection.headers {
            let value = fill(text, &values).unwrap_or_default();
            let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) else {
                return Err(configuration(format!("connection.headers.{name} in {file} is no header")));
            };
            source.headers.insert(name, value);
        }
        source.proof = source.prove(connection.auth.as_ref())?;
        Ok(source)
    }

    fn prove(&mut self, auth: Option<&HttpAuth>) -> Result<Proof, ImportFailure> {
        let Some(auth) = auth else { return Ok(Proof::None) };
        let file = self.file();
        let resolve = |reference| self.context.secrets.resolve(reference).map_err(configuration);
        let (name, value, secret) = match auth {
            HttpAuth::Bearer(reference) => {
                let secret = resolve(reference)?;
                (AUTHORIZATION, format!("Bearer {}", secret.0), secret)
            }
            HttpAuth::Header(auth) => {
                let name = HeaderName::try_from(&auth.name)
                    .map_err(|_| configuration(format!("connection.auth.header.name in {file} is no header")))?;
                let secret = resolve(&auth.secret)?;
                (name, format!("{}{}", auth.prefix, secret.0), secret)
            }
            HttpAuth::Basic(auth) => {
                let secret = resolve(&auth.password)?;
                let pair = format!("{}:{}", auth.user, secret.0);
                (AUTHORIZATION, format!("Basic {}", web::base64(pair.as_bytes())), secret)
            }
            HttpAuth::Query(auth) => {
                let secret = resolve(&auth.secret)?;
                self.keep_secret(&secret);
                return Ok(Proof::Query(auth.name.clone(), secret));
            }
            HttpAuth::Oauth(auth) => {
                let secret = resolve(&auth.client_secret)?;
                let token_url = address("connection.auth.oauth.token_url", &auth.token_url, &file, true)?;
                self.keep_secret(&secret);
                return Ok(Proof::Oauth(Box::new(Client {
                    token_url,
                    id: auth.client_id.clone(),
                    secret,
                    scope: auth.scope.clone(),
                    audience: auth.audience.clone(),
                })));
            }
        };
        self.keep_secret(&secret);
        let value = sensitive(&value).ok_or_else(|| {
            let message = format!("the secret has characters that no header takes: {}", where_it_is(&file));
            ImportFailure::new(ErrorClass::Unauthorized, message)
        })?;
        Ok(Proof::Header(name, value))
    }

    /// The schedule's file, to send the operator to.
    pub fn file(&self) -> String {
        self.context.id.file()
    }

    pub fn now(&self) -> Millis {
        self.context.clock.now()
    }

    /// How messages call it.
    pub fn host(&self) -> String {
        host(&self.base)
    }

    pub fn base(&self) -> &Url {
        &self.base
    }

    /// What templates may name in every request.
    pub fn values(&self) -> Values {
        Values {
            tenant: self.context.id.tenant.to_string(),
            run_id: self.context.run_id,
            now: self.now(),
            ..Values::default()
        }
    }

    /// From now on no message repeats it.
    pub fn keep_secret(&mut self, secret: &Secret) {
        self.secrets.push(secret.0.clone());
        let encoded: String = url::form_urlencoded::byte_serialize(secret.0.as_bytes()).collect();
        if encoded != secret.0 {
            self.secrets.push(encoded);
        }
    }

    pub fn quote(&self, text: &str) -> String {
        web::quote(text, self.secrets.iter().map(String::as_str))
    }

    pub async fn unless_cancelled<T>(&self, work: impl Future<Output = T>) -> Result<T, ImportFailure> {
        web::unless_cancelled(&self.context.cancel, work).await
    }

    /// Whether secrets for this source may go to `url`.
    pub fn is_own(&self, url: &Url) -> bool {
        same_origin(&self.base, url)
    }

    /// One page: the request with the proof of who asks. A token that is refused is fetched anew, once.
    pub async fn ask(&mut self, what: String, url: Url, body: Option<Vec<u8>>) -> Result<Reply, ImportFailure> {
        let mut headers = self.headers.clone();
        if body.is_some() {
            headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
        }
        let method = if body.is_some() { Method::POST } else { Method::GET };
        let mut call = Call { what, url, method, headers, body, limit: self.limit, is_for_token: false };
        match &self.proof {
            Proof::None => {}
            Proof::Header(name, value) => drop(call.headers.insert(name, value.clone())),
            Proof::Query(name, secret) => set_parameter(&mut call.url, name, &secret.0),
            Proof::Oauth(_) => return self.ask_with_token(call).await,
        }
        self.reply(&call).await.map_err(|failed| failed.failure)
    }

    async fn ask_with_token(&mut self, mut call: Call) -> Result<Reply, ImportFailure> {
        let Proof::Oauth(client) = std::mem::replace(&mut self.proof, Proof::None) else {
            return self.reply(&call).await.map_err(|failed| failed.failure);
        };
        let done = self.try_tokens(&mut call, &client).await;
        self.proof = Proof::Oauth(client);
        done
    }

    async fn try_tokens(&mut self, call: &mut Call, client: &Client) -> Result<Reply, ImportFailure> {
        let mut refused: Option<Secret> = None;
        loop {
            let tokens = &self.http.tokens;
            let token = tokens.get(self, client, refused.as_ref()).await?;
            // In the place of the one that was refused, not beside it.
            if let Some(value) = sensitive(&format!("Bearer {}", token.0)) {
                call.headers.insert(AUTHORIZATION, value);
            }
            match self.reply(call).await {
                Err(Failed { status: 401, .. }) if refused.is_none() => refused = Some(token),
                other => return other.map_err(|failed| failed.failure),
            }
        }
    }

    /// Sends a request until it is answered well, or it does not help.
    pub async fn reply(&mut self, call: &Call) -> Result<Reply, Failed> {
        let tuning = &self.http.tuning;
        let (mut failed, mut refused) = (0, 0);
        loop {
            let attempt = tokio::time::timeout(tuning.request_timeout, self.attempt(call));
            let outcome = self.unless_cancelled(attempt).await.map_err(without_answer)?;
            match outcome.unwrap_or_else(|_| Err(too_slow(call, tuning))) {
                Ok(reply) => return Ok(reply),
                Err(Trouble::Final(failure)) => return Err(failure),
                Err(Trouble::Passing(failure)) => {
                    failed += 1;
                    if failed > tuning.retries {
                        return Err(failure);
                    }
                    let pause = tokio::time::sleep(web::backoff(tuning.backoff, failed, self.salt));
                    self.unless_cancelled(pause).await.map_err(without_answer)?;
                }
                Err(Trouble::Refused(after, status)) => {
                    refused += 1;
                    self.wait_out(call, after, refused, status).await?;
                }
            }
        }
    }

    /// Waits as long as the source asks, unless that is longer than this import's patience.
    async fn wait_out(
        &mut self,
        call: &Call,
        after: Option<Duration>,
        refused: u32,
        status: u16,
    ) -> Result<(), Failed> {
        // Whatever is asked, each further refusal waits longer, so that this comes to an end.
        let tuning = &self.http.tuning;
        let pause = after.unwrap_or_default().max(web::backoff(tuning.backoff, refused, self.salt));
        self.waited = self.waited.saturating_add(pause);
        if self.waited > tuning.patience {
            let host = host(&call.url);
            let message = format!(
                "{host} asks to slow down ({status}) and to wait {} s before {}: something else may be using it with \
                 this secret or from this address",
                pause.as_secs().max(1),
                call.what
            );
            let failure = ImportFailure::new(ErrorClass::RateLimited, message);
            return Err(Failed { failure: ImportFailure { retry_after: Some(pause), ..failure }, status });
        }
        self.unless_cancelled(tokio::time::sleep(pause)).await.map_err(without_answer)
    }

    /// Sends it once, and on within its own host where it is redirected.
    async fn attempt(&self, call: &Call) -> Result<Reply, Trouble> {
        let mut url = call.url.clone();
        for _ in 0..=MOST_REDIRECTS {
            let request = self.http.client.request(call.method.clone(), url.clone()).headers(call.headers.clone());
            let request = match &call.body {
                Some(body) => request.body(body.clone()),
                None => request,
            };
            let response = request.send().await.map_err(|error| unreachable(call, &error))?;
            if !response.status().is_redirection() {
                return self.answer(call, url, response).await;
            }
            url = self.redirected(call, &url, &response)?;
        }
        let message = format!("{} redirects {} in a circle", host(&url), call.what);
        Err(Trouble::Final(Failed { failure: ImportFailure::new(ErrorClass::BadResponse, message), status: 302 }))
    }

    async fn answer(&self, call: &Call, url: Url, response: Response) -> Result<Reply, Trouble> {
        let status = response.status();
        let headers = response.headers();
        match status {
            _ if status.is_success() => {
                let links = headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok());
                let next = links.filter_map(link::next).map(str::to_owned).next();
                let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("no type");
                let content_type = self.quote(kind);
                let body = web::body(response, call.limit).await.map_err(|bad| bad_body(call, &url, bad))?;
                Ok(Reply { url, content_type, next, body })
            }
            StatusCode::TOO_MANY_REQUESTS => {
                Err(Trouble::Refused(web::retry_after(headers, self.now()), status.as_u16()))
            }
            StatusCode::SERVICE_UNAVAILABLE if web::retry_after(headers, self.now()).is_some() => {
                Err(Trouble::Refused(web::retry_after(headers, self.now()), status.as_u16()))
            }
            _ => Err(self.refusal(call, &url, response).await),
        }
    }

    /// Where a redirect leads, if it may be followed: never to another host, and never with another method.
    fn redirected(&self, call: &Call, from: &Url, response: &Response) -> Result<Url, Trouble> {
        let status = response.status().as_u16();
        let target = response.headers().get(LOCATION).and_then(|to| to.to_str().ok());
        let to = target.and_then(|to| from.join(to).ok());
        let keeps_method = call.method == Method::GET || matches!(status, 307 | 308);
        match to {
            Some(mut to) if same_origin(from, &to) && keeps_method => {
                if let Proof::Query(name, secret) = &self.proof {
                    set_parameter(&mut to, name, &secret.0);
                }
                Ok(to)
            }
            to => {
                let place = to.map_or_else(
                    || "nowhere".to_owned(),
                    |to| self.quote(&format!("{}://{}{}", to.scheme(), host(&to), to.path())),
                );
                let message = format!(
                    "{} redirects {} ({status}) to {place}, where nothing is sent: correct connection in {}",
                    host(from),
                    call.what,
                    self.file()
                );
                Err(Trouble::Final(Failed { failure: configuration(message), status }))
            }
        }
    }

    /// Puts an answer that is not a good one into words.
    async fn refusal(&self, call: &Call, url: &Url, response: Response) -> Trouble {
        let status = response.status().as_u16();
        let said = web::detail(response).await.map(|words| format!(": {}", self.quote(&words))).unwrap_or_default();
        let (host, what, file) = (host(url), &call.what, self.file());
        let (class, message) = match status {
            // A client that is not known, or whose secret is wrong, is a 400 to some.
            400 | 401 | 403 if call.is_for_token => {
                let check = "check client_id and the secret that connection.auth.oauth.client_secret names in";
                (ErrorClass::Unauthorized, format!("{host} gave no token ({status}){said}: {check} {file}"))
            }
            401 => {
                let message = format!("{host} refused who asks for {what} (401){said}: {}", where_it_is(&file));
                (ErrorClass::Unauthorized, message)
            }
            403 => {
                let message = format!("{host} does not let us read {what} (403){said}: {}", where_it_is(&file));
                (ErrorClass::Unauthorized, message)
            }
            404 => {
                let path = self.quote(url.path());
                let message = format!("{host} knows no {path} (404){said}: check base_url and path in {file}");
                (ErrorClass::Configuration, message)
            }
            408 | 500..=599 => (ErrorClass::Unavailable, format!("{host} failed on {what} ({status}){said}")),
            400..=499 => {
                let message =
                    format!("{host} refused the request for {what} ({status}){said}: check connection in {file}");
                (ErrorClass::Configuration, message)
            }
            _ => (ErrorClass::BadResponse, format!("{host} answered {what} with status {status}")),
        };
        let failed = Failed { failure: ImportFailure::new(class, message), status };
        if class == ErrorClass::Unavailable { Trouble::Passing(failed) } else { Trouble::Final(failed) }
    }
}

/// An address from the file: plain, and encrypted where secrets go to another machine.
fn address(key: &str, text: &str, file: &str, with_secret: bool) -> Result<Url, ImportFailure> {
    let url = Url::parse(text).map_err(|error| configuration(format!("{key} in {file} is no address: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") || !url.username().is_empty() || url.password().is_some() {
        let message = format!("{key} in {file} must be a plain http:// or https:// address, without a user");
        return Err(configuration(message));
    }
    if with_secret && url.scheme() != "https" && !is_loopback(&url) {
        let message = format!("{key} in {file} would send the secret unencrypted: use an https:// address");
        return Err(configuration(message));
    }
    Ok(url)
}

fn same_origin(a: &Url, b: &Url) -> bool {
    a.scheme() == b.scheme() && a.host() == b.host() && a.port_or_known_default() == b.port_or_known_default()
}

/// Sets a parameter, in the place of any of its name.
fn set_parameter(url: &mut Url, name: &str, value: &str) {
    let others: Vec<(String, String)> =
        url.query_pairs().filter(|(key, _)| key != name).map(|(key, value)| (key.into(), value.into())).collect();
    url.query_pairs_mut().clear().extend_pairs(others).append_pair(name, value);
}

pub(super) fn host(url: &Url) -> String {
    let name = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"))
}

fn where_it_is(file: &str) -> String {
    format!("check connection.auth in {file} and the secret that it names")
}

pub(super) fn configuration(message: impl Into<String>) -> ImportFailure {
    ImportFailure::new(ErrorClass::Configuration, message)
}

fn without_answer(failure: ImportFailure) -> Failed {
    Failed { failure, status: 0 }
}

fn unreachable(call: &Call, error: &reqwest::Error) -> Trouble {
    let what = if error.is_timeout() { "did not answer in time" } else { "could not be reached" };
    let message = format!("{} {what} for {}: {}", host(&call.url), call.what, web::cause(error));
    Trouble::Passing(without_answer(ImportFailure::new(ErrorClass::Unavailable, message)))
}

fn too_slow(call: &Call, tuning: &Tuning) -> Trouble {
    let limit = tuning.request_timeout.as_secs();
    let message = format!("{} did not finish answering {} within {limit} s", host(&call.url), call.what);
    Trouble::Passing(without_answer(ImportFailure::new(ErrorClass::Unavailable, message)))
}

fn bad_body(call: &Call, url: &Url, bad: BadBody) -> Trouble {
    let (host, what) = (host(url), &call.what);
    match bad {
        BadBody::TooLarge => {
            let message = format!(
                "{host} answered {what} with more than {} MiB (max_body_mb): ask for smaller pages",
                call.limit / MIB
            );
            Trouble::Final(without_answer(ImportFailure::new(ErrorClass::BadResponse, message)))
        }
        BadBody::BrokeOff(cause) => {
            let message = format!("{host} broke off in the middle of {what}: {cause}");
            Trouble::Passing(without_answer(ImportFailure::new(ErrorClass::Unavailable, message)))
        }
    }
}

/// A header's value that no log shows.
pub(super) fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}
