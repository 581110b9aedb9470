//! Every error as RFC 9457 `application/problem+json`: what happened, where, and what to do.

use axum::Json;
use axum::http::header::{ALLOW, CONTENT_TYPE, ETAG, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::adapters::store::StoreError;
use crate::app::views::BulkAnswer;
use crate::app::{AppError, Refused};
use crate::core::access::Refusal;
use crate::core::desired::FieldError;

pub const PROBLEM_JSON: &str = "application/problem+json";

/// A confirmed plan that is not what would be done now.
pub const PLAN_MOVED: &str = "plan-moved";

/// The detail every refusal carries; the seeds' clients compare it.
pub const REFUSED: &str = "Missing or invalid X-User-Roles header";

/// One field that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FieldProblem {
    /// JSON pointer into the body, `/interval_sec`; empty for the body as a whole.
    pub pointer: String,
    pub detail: String,
}

/// The document's fixed members; a problem may carry more (`reason`, `current_etag`, …).
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Problem")]
pub struct ProblemDocument {
    /// `urn:command-center:problem:NAME`, stable.
    #[serde(rename = "type")]
    kind: String,
    title: String,
    status: u16,
    detail: String,
    /// One entry per field that is wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldProblem>,
    #[serde(flatten)]
    more: Map<String, Value>,
}

/// An error answer in the making; boxed, so that what may fail stays cheap when it does not.
#[derive(Debug)]
pub struct Problem(Box<Parts>);

#[derive(Debug)]
struct Parts {
    status: StatusCode,
    /// The type's last part, stable.
    name: &'static str,
    title: &'static str,
    detail: String,
    errors: Vec<FieldProblem>,
    /// Why access is refused, if that is what it is.
    reason: Option<&'static str>,
    more: Map<String, Value>,
    headers: HeaderMap,
}

/// Rides with a refusal's response: its reason, for those who count.
#[derive(Clone, Copy, Debug)]
pub struct Reason(pub &'static str);

pub type Answer<T = Response> = Result<T, Problem>;

impl Problem {
    /// `name` is stable and lower-case-with-dashes; `title` says the same for people.
    pub fn new(status: StatusCode, name: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Problem(Box::new(Parts {
            status,
            name,
            title,
            detail: detail.into(),
            errors: Vec::new(),
            reason: None,
            more: Map::new(),
            headers: HeaderMap::new(),
        }))
    }

    pub fn bad_request(name: &'static str, detail: impl Into<String>) -> Self {
        Problem::new(StatusCode::BAD_REQUEST, name, "The request is malformed", detail)
    }

    pub fn not_found(detail: impl Into<String>) -> Self {
        Problem::new(StatusCode::NOT_FOUND, "not-found", "There is no such thing", detail)
    }

    /// Fields of the body that cannot be taken.
    pub fn invalid(errors: Vec<FieldProblem>) -> Self {
        let detail = match errors.as_slice() {
            [] => "The body is not valid".to_owned(),
            [one] if one.pointer.is_empty() => one.detail.clone(),
            [one] => format!("{}: {}", one.pointer, one.detail),
            [first, rest @ ..] => format!("{}: {} (and {} more)", first.pointer, first.detail, rest.len()),
        };
        let mut problem =
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-body", "The body is not valid", detail);
        problem.0.errors = errors;
        problem
    }

    /// Ours to fix: the log has the cause, the answer does not.
    pub fn internal() -> Self {
        Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "The server failed",
            "The server failed at this request; its log says why, under the x-request-id of this answer",
        )
    }

    pub fn refused(refusal: &Refusal) -> Self {
        let problem =
            Problem::new(StatusCode::FORBIDDEN, "refused", "Access is refused", REFUSED).because(refusal.reason());
        match refusal {
            Refusal::InsufficientRole { needs, .. } => problem.with("required_role", needs.as_str()),
            _ => problem,
        }
    }

    /// The caller may act for one tenant only, and this is not about that one.
    pub fn other_tenant(own: &str) -> Self {
        Problem::new(
            StatusCode::FORBIDDEN,
            "other-tenant",
            "Access is refused",
            format!("This caller may act for the tenant \"{own}\" only"),
        )
        .because("other_tenant")
    }

    /// Adds a member of its own.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.more.insert(name.to_owned(), value.into());
        self
    }

    /// Says why access is refused, to the caller and to those who count.
    #[must_use]
    fn because(mut self, reason: &'static str) -> Self {
        self.0.reason = Some(reason);
        self.with("reason", reason)
    }

    #[must_use]
    pub fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.0.headers.insert(name, value);
        }
        self
    }

    #[cfg(test)]
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    fn document(self) -> ProblemDocument {
        let Parts { status, name, title, detail, errors, more, .. } = *self.0;
        ProblemDocument {
            kind: format!("urn:command-center:problem:{name}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail,
            errors,
            more,
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(mut self) -> Response {
        let (status, headers) = (self.0.status, std::mem::take(&mut self.0.headers));
        let reason = self.0.reason;
        let mut response = (status, Json(self.document())).into_response();
        if let Some(reason) = reason {
            response.extensions_mut().insert(Reason(reason));
        }
        response.headers_mut().extend(headers);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        response
    }
}

impl From<AppError> for Problem {
    fn from(error: AppError) -> Self {
        let detail = error.to_string();
        match error {
            AppError::NotFound(id) => {
                Problem::new(StatusCode::NOT_FOUND, "no-schedule", "There is no such schedule", detail)
                    .with("connector", id.connector.as_str())
                    .with("tenant", id.tenant.as_str())
            }
            AppError::NoHistory(_) => {
                Problem::new(StatusCode::NOT_FOUND, "no-history", "There is no such history", detail)
            }
            AppError::NoRevision { known, .. } => {
                Problem::new(StatusCode::NOT_FOUND, "no-revision", "There is no such revision", detail)
                    .with("revisions", known)
            }
            AppError::UnfitRevision { errors, .. } => unfit(errors, detail),
            AppError::Invalid(errors) => Problem::invalid(field_problems(errors)),
            AppError::Forbidden(detail) => {
                Problem::new(StatusCode::FORBIDDEN, "forbidden", "This is not allowed", detail).because("forbidden")
            }
            AppError::PreconditionFailed(found) => stale(&found.current_etag, detail)
                .with("base", found.base)
                .with("yours", found.yours)
                .with("current", found.current)
                .with("proposal", found.proposal)
                .with("conflicts", plain(&found.conflicts)),
            AppError::Contested { conflicts, .. } => {
                conflict("The change conflicts with another", detail).with("conflicts", plain(&conflicts))
            }
            AppError::Conflict { suggestion, .. } => {
                let problem = conflict("The change conflicts with how things stand", detail);
                match suggestion {
                    Some(suggestion) => problem.with("suggestion", suggestion),
                    None => problem,
                }
            }
            AppError::PlanMoved(moved) => {
                Problem::new(StatusCode::CONFLICT, PLAN_MOVED, "The plan is not what was confirmed", detail)
                    .with("known", moved.moved.is_some())
                    .with("moved", plain(&moved.moved.unwrap_or_default()))
                    .with("moved_total", moved.total)
                    .with("digest", moved.digest)
                    .with("held_digest", moved.held_digest)
            }
            AppError::Refused(found) => refused(&found, detail),
            AppError::Held(plan) => held(&plan, detail),
            AppError::NoAction(_) => {
                Problem::new(StatusCode::NOT_FOUND, "no-action", "There is no such action", detail)
            }
            AppError::Busy { detail, retry_after_sec } => {
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "Try again shortly", detail)
                    .header(RETRY_AFTER, &retry_after_sec.to_string())
            }
            AppError::Copy(detail) => {
                Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "copy-failed", "The store could not be copied", detail)
            }
            AppError::Full(detail) => full(detail),
            AppError::Store(error) => error.into(),
            AppError::Source(error) => {
                let detail = error.to_string();
                tracing::error!(component = "http", error = %detail, "the desired directory could not be used");
                Problem::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "desired-directory",
                    "The desired directory cannot be used",
                    detail,
                )
                .header(RETRY_AFTER, "5")
            }
        }
    }
}

/// 412: the schedule has moved on from the tag that the caller knows.
pub fn stale(current_etag: &str, detail: impl Into<String>) -> Problem {
    let problem = Problem::new(StatusCode::PRECONDITION_FAILED, "stale", "The schedule has changed since", detail)
        .with("current_etag", current_etag);
    if current_etag.is_empty() { problem } else { problem.header(ETAG, &format!("\"{current_etag}\"")) }
}

/// A value that is plain data, as a member of a problem.
fn plain(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

fn conflict(title: &'static str, detail: String) -> Problem {
    Problem::new(StatusCode::CONFLICT, "conflict", title, detail)
}

/// 409: an action on many, none of which was changed.
fn refused(found: &Refused, detail: String) -> Problem {
    Problem::new(StatusCode::CONFLICT, "bulk-refused", "Some schedules cannot be changed", detail)
        .with("refused", plain(&found.refused))
}

/// 409: an action on many that takes too much away, with the digest by which to agree to it.
fn held(plan: &BulkAnswer, detail: String) -> Problem {
    let suggestion =
        format!("look at the plan; if it is meant, repeat the request with \"confirm\": \"{}\"", plan.digest);
    Problem::new(StatusCode::CONFLICT, "bulk-held", "This needs a person's confirmation", detail)
        .with("digest", plan.digest.as_str())
        .with("held", plan.held)
        .with("plan", plain(plan))
        .with("suggestion", suggestion)
}

fn field_problems(errors: Vec<FieldError>) -> Vec<FieldProblem> {
    errors.into_iter().map(|error| FieldProblem { pointer: error.pointer, detail: error.message }).collect()
}

/// A revision that the rules have left behind: its findings, by field.
fn unfit(errors: Vec<FieldError>, detail: String) -> Problem {
    const TITLE: &str = "The revision is not valid any more";
    let mut problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-revision", TITLE, detail);
    problem.0.errors = field_problems(errors);
    problem
}

fn full(detail: String) -> Problem {
    Problem::new(StatusCode::INSUFFICIENT_STORAGE, "disk-full", "The disk is full", detail)
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full => full(error.to_string()),
            StoreError::Stopped => Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "stopping",
                "The server is stopping",
                "The server is shutting down; nothing was changed",
            )
            .header(RETRY_AFTER, "5"),
            StoreError::Damaged(damage) => {
                tracing::error!(component = "http", error = %damage, "the audit log is damaged");
                let title = "Part of the audit log is damaged";
                Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "audit-damaged", title, damage.to_string())
            }
            error => {
                tracing::error!(component = "http", %error, "the store failed");
                Problem::internal()
            }
        }
    }
}

/// A path as it may be repeated: what lies below the webhooks is a secret, or was meant to be one.
fn shown(uri: &axum::http::Uri) -> &str {
    if uri.path().starts_with(super::webhooks::FOLDER) { "this path below /webhooks/" } else { uri.path() }
}

/// No route has this path.
pub async fn unknown_path(uri: axum::http::Uri) -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "unknown-path",
        "There is no such path",
        format!("Nothing is served at {}; /openapi.json lists every path", shown(&uri)),
    )
}

/// The path is known, the method is not; axum adds `Allow`.
pub async fn unknown_method(method: axum::http::Method, uri: axum::http::Uri) -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "unknown-method",
        "The path does not take this method",
        format!("{} does not take {method}; the Allow header lists what it takes", shown(&uri)),
    )
}

/// What a handler that panicked answers; the panic itself is in the log.
pub fn panicked(panic: Box<dyn std::any::Any + Send>) -> Response {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    tracing::error!(component = "http", panic = text.unwrap_or("unknown"), "a handler panicked");
    Problem::internal().into_response()
}

/// Gives an error that the framework made in plain text the shape all others have.
pub fn polish(response: Response) -> Response {
    let status = response.status();
    let is_plain = response.headers().get(CONTENT_TYPE).is_none_or(|kind| kind.as_bytes().starts_with(b"text/plain"));
    if !(status.is_client_error() || status.is_server_error()) || !is_plain {
        return response;
    }
    let title = status.canonical_reason().unwrap_or("The request failed");
    let mut shaped = Problem::new(status, "request", title, title).into_response();
    for name in [ALLOW, RETRY_AFTER] {
        if let Some(value) = response.headers().get(&name) {
            shaped.headers_mut().insert(name, value.clone());
        }
    }
    *shaped.extensions_mut() = response.extensions().clone();
    shaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::access::Role;
    use http_body_util::BodyExt as _;

    async fn read(problem: Problem) -> (StatusCode, HeaderMap, Value) {
        let (parts, body) = problem.into_response().into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        (parts.status, parts.headers, serde_json::from_slice(&bytes).unwrap())
    }

    #[tokio::test]
    async fn a_refusal_has_the_seeds_detail_and_says_why() {
        let refusal = Refusal::UntrustedPeer { peer: "10.0.0.1".parse().unwrap() };
        let (status, headers, body) = read(Problem::refused(&refusal)).await;
        assert_eq!(status, 403);
        assert_eq!(headers[CONTENT_TYPE], PROBLEM_JSON);
        assert_eq!(body["detail"], "Missing or invalid X-User-Roles header");
        assert_eq!(body["reason"], "untrusted_peer");
        assert_eq!(body["status"], 403);
        let refusal = Refusal::InsufficientRole { has: Role::Viewer, needs: Role::Admin };
        let (_, _, body) = read(Problem::refused(&refusal)).await;
        assert_eq!(body["required_role"], "admin");
        assert_eq!(body["detail"], REFUSED);
    }

    #[tokio::test]
    async fn each_wrong_field_has_its_pointer() {
        let field = |pointer: &str| FieldProblem { pointer: pointer.into(), detail: "wrong".into() };
        let (status, _, body) = read(Problem::invalid(vec![field("/interval_sec"), field("/cron")])).await;
        assert_eq!(status, 422);
        assert_eq!(body["errors"][1]["pointer"], "/cron");
        assert_eq!(body["detail"], "/interval_sec: wrong (and 1 more)");
    }

    #[tokio::test]
    async fn a_stale_tag_shows_the_current_one() {
        let error = AppError::PreconditionFailed(Box::new(crate::app::Stale {
            current_etag: "ab12".into(),
            current: serde_json::json!({"interval_sec": 5}),
            ..crate::app::Stale::default()
        }));
        let (status, headers, body) = read(error.into()).await;
        assert_eq!(status, 412);
        assert_eq!(headers[ETAG], "\"ab12\"");
        assert_eq!(body["current_etag"], "ab12");
        assert_eq!(body["current"]["interval_sec"], 5);
        for absent in ["base", "yours", "proposal"] {
            assert_eq!(body.get(absent), Some(&Value::Null), "{absent}");
        }
    }

    #[tokio::test]
    async fn a_store_failure_keeps_its_cause_to_the_log() {
        let error = StoreError::Failed { operation: "read", reason: "secret path".into() };
        let (status, _, body) = read(error.into()).await;
        assert_eq!(status, 500);
        assert!(!body.to_string().contains("secret path"));
        let (status, headers, _) =
            read(AppError::Busy { detail: "git is at work".into(), retry_after_sec: 5 }.into()).await;
        assert_eq!((status.as_u16(), headers[RETRY_AFTER].to_str().unwrap()), (503, "5"));
    }

    #[test]
    fn plain_framework_errors_take_the_common_shape() {
        let plain = (StatusCode::BAD_REQUEST, "Invalid URL").into_response();
        assert_eq!(polish(plain).headers()[CONTENT_TYPE], PROBLEM_JSON);
        let own = (StatusCode::SERVICE_UNAVAILABLE, Json(Value::Null)).into_response();
        assert_eq!(polish(own).headers()[CONTENT_TYPE], "application/json");
        let fine = (StatusCode::OK, "metrics").into_response();
        assert_eq!(polish(fine).headers()[CONTENT_TYPE], "text/plain; charset=utf-8");
    }
}
