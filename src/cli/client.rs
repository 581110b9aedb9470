//! Talks to the server's API: the headers that say who asks, and errors a person can act on.

use std::fmt;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue, IF_MATCH};
use reqwest::{Method, Response, StatusCode};
use serde_json::Value;
use url::Url;

use crate::adapters::connectors::is_loopback;
use crate::adapters::connectors::web::cause;
use crate::core::model::{Connector, Tenant};
use crate::settings::values::masked_url;

/// How long an answer may take where the request does not itself ask the server to wait.
const PATIENCE: Duration = Duration::from_secs(60);

/// What can go wrong between here and the server.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    #[error("--server {shown} is no address of a server: {reason}")]
    BadUrl { shown: String, reason: String },
    #[error("no server answers at {url}")]
    Unreachable { url: String, reason: String },
    #[error("{url} did not answer within {} s", .patience.as_secs())]
    Slow { url: String, patience: Duration },
    #[error("the connection to {url} broke: {reason}")]
    Broken { url: String, reason: String },
    /// A change was asked for, and no answer came.
    #[error("{0}; it may have been done all the same")]
    Unsure(Box<ClientError>),
    #[error("what answers at {url} is no Command Center: {reason}")]
    Foreign { url: String, reason: String },
    #[error("{0}")]
    Refused(Box<Problem>),
}

/// An error answer (RFC 9457).
#[derive(Debug)]
pub(super) struct Problem {
    pub status: StatusCode,
    pub title: String,
    pub detail: String,
    /// JSON pointers and what is wrong there.
    pub fields: Vec<(String, String)>,
    pub reason: Option<String>,
    /// Finds the request in the server's log.
    pub request_id: Option<String>,
    /// What the server adds for this kind of error, such as a change to make by hand.
    pub suggestion: Option<String>,
    /// The answer whole.
    pub body: Value,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.status.as_u16();
        if let [_, _, ..] = self.fields.as_slice() {
            // The detail tells of the first field only.
            write!(f, "{} ({status})", self.title)?;
            return self.fields.iter().try_for_each(|(pointer, message)| {
                let pointer = if pointer.is_empty() { "(body)" } else { pointer };
                write!(f, "\n  {pointer}: {message}")
            });
        }
        write!(f, "{} ({status})", self.detail)
    }
}

impl Problem {
    /// Whether it is of this kind.
    pub fn is(&self, kind: &str) -> bool {
        let found = self.body.get("type").and_then(Value::as_str);
        found.and_then(|found| found.strip_prefix("urn:command-center:problem:")) == Some(kind)
    }

    fn of(status: StatusCode, body: &Value) -> Option<Problem> {
        let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
        let fields = body.get("errors").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let field = |error: &Value| {
            let message = text(error, "detail").or_else(|| text(error, "message")).unwrap_or_else(|| error.to_string());
            (text(error, "pointer").unwrap_or_default(), message)
        };
        let title = text(body, "title");
        let detail = text(body, "detail").or_else(|| title.clone())?;
        Some(Problem {
            status,
            title: title.unwrap_or_else(|| detail.clone()),
            detail,
            fields: fields.iter().map(field).collect(),
            reason: text(body, "reason"),
            request_id: None,
            suggestion: text(body, "suggestion"),
            body: body.clone(),
        })
    }
}

impl ClientError {
    pub fn is_unreachable(&self) -> bool {
        matches!(self, ClientError::Unreachable { .. })
    }

    fn of_change(self, is_change: bool) -> ClientError {
        match self {
            ClientError::Slow { .. } | ClientError::Broken { .. } if is_change => ClientError::Unsure(Box::new(self)),
            other => other,
        }
    }

    pub fn hint(&self) -> Option<String> {
        let text = match self {
            ClientError::BadUrl { .. } => "it looks like http://127.0.0.1:8000".into(),
            ClientError::Unreachable { reason, .. } => format!(
                "start one with `command-center serve`, or name another with --server or COMMAND_CENTER_URL ({reason})"
            ),
            ClientError::Foreign { .. } => "see --server and COMMAND_CENTER_URL".into(),
            ClientError::Slow { .. } | ClientError::Broken { .. } => return None,
            ClientError::Unsure(_) => {
                "`command-center audit list` shows what was done; look before you repeat it".into()
            }
            ClientError::Refused(problem) => match (&problem.suggestion, problem.reason.as_deref(), problem.status) {
                (Some(suggestion), ..) => suggestion.clone(),
                (None, Some("untrusted_peer"), _) => {
                    "add this machine's address to the server's COMMAND_CENTER_TRUSTED_PROXIES".into()
                }
                (None, _, status) if status.is_server_error() => {
                    format!("the server's log knows it as request {}", problem.request_id.as_ref()?)
                }
                (None, _, StatusCode::PRECONDITION_FAILED) => {
                    "look at it again with `command-center schedule show`, then retry with the new ETag".into()
                }
                _ => return None,
            },
        };
        Some(text)
    }
}

/// One request.
#[derive(Clone, Debug)]
pub(super) struct Request<'a> {
    method: Method,
    path: String,
    tenant: Option<&'a Tenant>,
    query: Vec<(&'a str, String)>,
    body: Option<Value>,
    if_match: Option<&'a str>,
    patience: Duration,
}

impl<'a> Request<'a> {
    fn is_change(&self) -> bool {
        // These only take files to look at.
        self.method != Method::GET && !matches!(self.path.as_str(), "/ops/diff" | "/ops/forecast")
    }

    pub fn new(method: Method, path: impl Into<String>) -> Self {
        let path = path.into();
        Request { method, path, tenant: None, query: Vec::new(), body: None, if_match: None, patience: PATIENCE }
    }

    pub fn get(path: impl Into<String>) -> Self {
        Request::new(Method::GET, path)
    }

    pub fn post(path: impl Into<String>, body: Value) -> Self {
        Request { body: Some(body), ..Request::new(Method::POST, path) }
    }

    pub fn tenant(self, tenant: &'a Tenant) -> Self {
        Request { tenant: Some(tenant), ..self }
    }

    /// Adds a parameter when there is a value for it.
    pub fn query(mut self, name: &'a str, value: Option<impl ToString>) -> Self {
        self.query.extend(value.map(|value| (name, value.to_string())));
        self
    }

    pub fn if_match(self, etag: Option<&'a str>) -> Self {
        Request { if_match: etag, ..self }
    }

    /// Waits this much longer than usual for the answer.
    pub fn wait(self, longer: Duration) -> Self {
        Request { patience: PATIENCE.saturating_add(longer), ..self }
    }
}

/// The path of a connector's routes.
pub(super) fn route(connector: Connector, rest: &str) -> String {
    format!("/api/crm/import/{connector}/{rest}")
}

/// A server, by its address.
pub(super) struct Client {
    http: reqwest::Client,
    base: Url,
}

impl Client {
    pub fn new(server: &str) -> Result<Client, ClientError> {
        let bad = |reason: String| ClientError::BadUrl { shown: masked_url(server), reason };
        let base = Url::parse(server).map_err(|error| bad(error.to_string()))?;
        if !matches!(base.scheme(), "http" | "https") || !base.has_host() {
            return Err(bad("it has to start with http:// or https://".into()));
        }
        let mut builder = reqwest::Client::builder()
            .default_headers(identity())
            .connect_timeout(Duration::from_secs(5))
            .redirect(reqwest::redirect::Policy::none());
        if is_loopback(&base) {
            // A proxy for the internet cannot reach this machine's own ports.
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|error| bad(cause(&error)))?;
        Ok(Client { http, base })
    }

    /// The address as it may be shown.
    pub fn shown(&self) -> String {
        masked_url(self.base.as_str()).trim_end_matches('/').to_owned()
    }

    /// Sends a request and reads its JSON answer.
    ///
    /// # Errors
    /// When there is no answer, or one that is an error.
    pub async fn send(&self, request: Request<'_>) -> Result<Value, ClientError> {
        let (patience, is_change) = (request.patience, request.is_change());
        let response = self.open(request).await?;
        let bytes = response.bytes().await.map_err(|error| self.failed(&error, patience).of_change(is_change))?;
        serde_json::from_slice(&bytes).map_err(|_| self.foreign("the answer is not JSON"))
    }

    /// As `send`, and reads the answer as a shape.
    pub async fn ask<T: serde::de::DeserializeOwned>(&self, request: Request<'_>) -> Result<(T, Value), ClientError> {
        let value = self.send(request).await?;
        let shape =
            T::deserialize(&value).map_err(|error| self.foreign(&format!("the answer lacks something: {error}")))?;
        Ok((shape, value))
    }

    /// Sends a request and hands back its answer unread, once it is known to be no error.
    pub async fn open(&self, request: Request<'_>) -> Result<Response, ClientError> {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{}", self.base.path().trim_end_matches('/'), request.path));
        let is_change = request.is_change();
        let mut builder = self.http.request(request.method, url).timeout(request.patience).query(&request.query);
        if let Some(tenant) = request.tenant {
            builder = builder.header("x-tenant", tenant.as_str());
        }
        if let Some(etag) = request.if_match {
            builder = builder.header(IF_MATCH, format!("\"{}\"", etag.trim_matches('"')));
        }
        if let Some(body) = &request.body {
            builder = builder.json(body);
        }
        let response =
            builder.send().await.map_err(|error| self.failed(&error, request.patience).of_change(is_change))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let request_id = response.headers().get("x-request-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
        let bytes = response.bytes().await.unwrap_or_default();
        let problem = serde_json::from_slice(&bytes).ok().and_then(|body| Problem::of(status, &body));
        Err(match problem {
            Some(problem) => ClientError::Refused(Box::new(Problem { request_id, ..problem })),
            None => self.foreign(&format!("it says {status} without a reason")),
        })
    }

    pub fn failed(&self, error: &reqwest::Error, patience: Duration) -> ClientError {
        let url = self.shown();
        if error.is_connect() {
            ClientError::Unreachable { url, reason: cause(error) }
        } else if error.is_timeout() {
            ClientError::Slow { url, patience }
        } else {
            ClientError::Broken { url, reason: cause(error) }
        }
    }

    fn foreign(&self, reason: &str) -> ClientError {
        ClientError::Foreign { url: self.shown(), reason: reason.to_owned() }
    }
}

/// What tells the server who asks and by which way.
fn identity() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(HeaderName::from_static("x-ops"), HeaderValue::from_static("1"));
    headers.insert(HeaderName::from_static("x-source"), HeaderValue::from_static("cli"));
    let user = std::env::var("USER").or_else(|_| std::env::var("USERNAME")).unwrap_or_default();
    if let Ok(user) = HeaderValue::from_str(user.trim())
        && !user.is_empty()
    {
        headers.insert(HeaderName::from_static("x-user-name"), user);
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(status: u16, body: &Value) -> (String, Option<String>) {
        let problem = Problem::of(StatusCode::from_u16(status).unwrap(), body).unwrap();
        let error = ClientError::Refused(Box::new(problem));
        (error.to_string(), error.hint())
    }

    #[test]
    fn problems_are_shown_field_by_field_with_what_to_do() {
        let one = json!({"title": "The body is not valid", "detail": "/interval_sec: is 0",
            "errors": [{"pointer": "/interval_sec", "detail": "is 0"}]});
        assert_eq!(check(422, &one), ("/interval_sec: is 0 (422)".into(), None));
        let two = json!({"title": "The body is not valid", "detail": "/interval_sec: is 0 (and 1 more)",
            "errors": [{"pointer": "/interval_sec", "detail": "is 0"}, {"pointer": "", "detail": "too big"}]});
        let shown = "The body is not valid (422)\n  /interval_sec: is 0\n  (body): too big";
        assert_eq!(check(422, &two), (shown.into(), None));
        let peer = json!({"detail": "Missing or invalid X-User-Roles header", "reason": "untrusted_peer"});
        assert!(check(403, &peer).1.unwrap().contains("COMMAND_CENTER_TRUSTED_PROXIES"));
        let conflict = json!({"detail": "the file has an alias", "suggestion": "set paused: true by hand"});
        assert_eq!(check(409, &conflict).1.unwrap(), "set paused: true by hand");
        assert!(Problem::of(StatusCode::BAD_GATEWAY, &json!({})).is_none());
    }

    #[test]
    fn addresses_are_judged_before_anything_is_sent() {
        for bad in ["127.0.0.1:8000", "ftp://host", "http://", "nonsense"] {
            assert!(matches!(Client::new(bad), Err(ClientError::BadUrl { .. })), "{bad}");
        }
        let client = Client::new("http://u:p@127.0.0.1:8000/prefix/").unwrap();
        assert_eq!(client.shown(), "http://127.0.0.1:8000/prefix");
    }
}
