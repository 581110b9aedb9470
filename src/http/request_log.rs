//! One log line and one count per request, under the route's template, and the id that ties an
//! answer to its line.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::CONNECTION;
use axum::http::{HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::Response;

use super::access::peer;
use super::problem::polish;
use crate::app::App;
use crate::core::model::Tenant;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What the gate knows of a request and the log wants to say.
#[derive(Clone, Debug)]
pub struct Noted {
    pub component: String,
    /// Empty when nobody was identified.
    pub user_roles: &'static str,
    pub tenant: Option<Tenant>,
}

/// Times the request, gives it an id, shapes plain errors, logs and counts.
pub async fn record(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let endpoint =
        request.extensions().get::<MatchedPath>().map_or("unmatched".into(), |path| path.as_str().to_owned());
    let peer = peer(request.extensions());
    let id = request_id(&request);
    request.headers_mut().insert(REQUEST_ID, id.clone());

    let mut response = polish(next.run(request).await);

    let seconds = started.elapsed().as_secs_f64();
    let status = response.status().as_u16();
    app.metrics.api_request(label(&method), &endpoint, status, seconds);
    if response.status().is_server_error() {
        app.metrics.error();
    }
    let noted = response.extensions_mut().remove::<Noted>();
    let line = Line { method: &method, endpoint: &endpoint, status, seconds, id: &id, peer: &peer.to_string() };
    line.write(noted.as_ref());
    response.headers_mut().insert(REQUEST_ID, id);
    if app.leaving.is_cancelled() {
        // Whoever keeps the connection would find it closed in the middle of the next request.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

struct Line<'a> {
    method: &'a Method,
    endpoint: &'a str,
    status: u16,
    seconds: f64,
    id: &'a HeaderValue,
    peer: &'a str,
}

impl Line<'_> {
    fn write(&self, noted: Option<&Noted>) {
        let component = noted.map_or("http", |noted| noted.component.as_str());
        let user_roles = noted.map_or("", |noted| noted.user_roles);
        let tenant_id = noted.and_then(|noted| noted.tenant.as_ref()).map_or("", Tenant::as_str);
        let duration_ms = (self.seconds * 1_000_000.0).round() / 1000.0;
        let (method, endpoint, status) = (self.method.as_str(), self.endpoint, self.status);
        let (request_id, peer) = (self.id.to_str().unwrap_or(""), self.peer);
        // The level is part of a line's fixed description, hence one call for each.
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    component,
                    endpoint,
                    method,
                    status,
                    duration_ms,
                    user_roles,
                    tenant_id,
                    request_id,
                    peer,
                    "{method} {endpoint} {status}"
                )
            };
        }
        match self.status {
            500.. => line!(error),
            400.. => line!(warn),
            _ => line!(info),
        }
    }
}

/// The caller's id where it is a plain word, else one of ours.
fn request_id(request: &Request) -> HeaderValue {
    let given = request.headers().get(REQUEST_ID).filter(|value| {
        let bytes = value.as_bytes();
        (1..=64).contains(&bytes.len()) && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(b))
    });
    given.cloned().unwrap_or_else(|| {
        let id = uuid::Uuid::now_v7().to_string();
        HeaderValue::from_str(&id).unwrap_or(HeaderValue::from_static("unknown"))
    })
}

/// A method as a metric's label: callers can make up methods, and labels must stay few.
fn label(method: &Method) -> &'static str {
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS]
        .iter()
        .position(|known| known == method)
        .and_then(|at| ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"].get(at).copied())
        .unwrap_or("other")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id_for(given: &str) -> String {
        let request = Request::builder().header(REQUEST_ID, given).body(axum::body::Body::empty()).unwrap();
        request_id(&request).to_str().unwrap().to_owned()
    }

    #[test]
    fn only_plain_request_ids_are_taken_over() {
        assert_eq!(id_for("abc-1.2_3"), "abc-1.2_3");
        for strange in ["a b", "\"x\"", &"x".repeat(65), "a\u{e9}"] {
            assert_eq!(id_for(strange).len(), 36, "{strange}");
        }
    }

    #[test]
    fn made_up_methods_share_a_label() {
        assert_eq!(label(&Method::GET), "GET");
        assert_eq!(label(&Method::from_bytes(b"BREW").unwrap()), "other");
    }
}
