//! What protects people's browsers: the `Host` check against DNS rebinding, cross-origin rules,
//! and the headers that keep answers from being misread or framed.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, CACHE_CONTROL,
    CONTENT_SECURITY_POLICY, HOST, ORIGIN, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::problem::Problem;
use crate::app::App;
use crate::settings::Settings;

/// What a page of another origin may send.
const CORS_HEADERS: &str = "content-type, x-tenant, x-ops, x-role, x-user-roles, x-user-name, x-user-tenant, \
                            x-source, x-request-id, if-match, if-none-match, idempotency-key";
/// What a page of another origin may read.
const CORS_EXPOSED: &str = "etag, location, x-request-id, idempotent-replay, retry-after, content-disposition";

/// The headers that every answer has unless it sets its own.
const DEFAULTS: [(HeaderName, &str); 5] = [
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
    (REFERRER_POLICY, "no-referrer"),
    (CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (CACHE_CONTROL, "no-cache"),
];

/// Checks `Host`, answers preflights, and adds the protecting headers.
pub async fn protect(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let origin = request.headers().get(ORIGIN).cloned();
    let allowed = origin.filter(|origin| {
        origin.to_str().is_ok_and(|origin| app.settings.cors_origins.iter().any(|known| same_origin(known, origin)))
    });
    let mut response = if let Some(problem) = host_problem(&request, &app.settings) {
        app.metrics.access_refused("unknown_host");
        problem.into_response()
    } else if allowed.is_some() && is_preflight(&request) {
        preflight()
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    for (name, value) in DEFAULTS {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    if !app.settings.cors_origins.is_empty() {
        headers.append(VARY, HeaderValue::from_static("origin"));
    }
    if let Some(origin) = allowed {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(CORS_EXPOSED));
    }
    response
}

fn same_origin(known: &str, origin: &str) -> bool {
    known.trim_end_matches('/').eq_ignore_ascii_case(origin)
}

fn is_preflight(request: &Request) -> bool {
    request.method() == Method::OPTIONS && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

fn preflight() -> Response {
    let mut headers = HeaderMap::new();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD, POST, DELETE"));
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(CORS_HEADERS));
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    (StatusCode::NO_CONTENT, headers).into_response()
}

/// A page on a name that was rebound to our address sends that name as `Host`. A request that
/// names no host comes from no browser.
fn host_problem(request: &Request, settings: &Settings) -> Option<Problem> {
    let mut given = request.headers().get_all(HOST).iter().map(|value| value.to_str().unwrap_or("?"));
    let authority = request.uri().authority().map(axum::http::uri::Authority::as_str);
    let strange = given.by_ref().chain(authority).find(|host| !is_ours(host, settings))?.to_owned();
    tracing::warn!(
        component = "access",
        host = strange.as_str(),
        "refused a request for a host that is not ours; if it is, add it to COMMAND_CENTER_ALLOWED_HOSTS"
    );
    Some(
        Problem::new(
            StatusCode::MISDIRECTED_REQUEST,
            "host",
            "The request is for another host",
            "The Host header names no host of this server; COMMAND_CENTER_ALLOWED_HOSTS lists those it answers for",
        )
        .with("reason", "unknown_host"),
    )
}

/// Whether `host`, with or without a port, is one of ours: a loopback name, the bound address, or
/// listed. On an unspecified address (0.0.0.0) any literal address is ours: rebinding needs a name.
fn is_ours(host: &str, settings: &Settings) -> bool {
    let name = without_port(host).trim_end_matches('.').to_ascii_lowercase();
    let bound = settings.addr.ip();
    if let Ok(literal) = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        let literal = literal.to_canonical();
        if literal.is_loopback() || literal == bound.to_canonical() || bound.is_unspecified() {
            return true;
        }
    }
    name == "localhost"
        || name.ends_with(".localhost")
        || settings.allowed_hosts.iter().any(|known| lists(known, host, &name))
}

/// An entry is a host, a host with its port, `*.` and a domain, or `*` for any.
fn lists(entry: &str, host: &str, name: &str) -> bool {
    let entry = entry.trim().to_ascii_lowercase();
    match entry.strip_prefix('*') {
        Some("") => true,
        Some(suffix) => suffix.starts_with('.') && name.len() > suffix.len() && name.ends_with(suffix),
        None => entry == name || entry == host.to_ascii_lowercase(),
    }
}

fn without_port(host: &str) -> &str {
    if let Some(end) = host.find(']') {
        return host.get(..=end).unwrap_or(host);
    }
    host.split_once(':').map_or(host, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(addr: &str, allowed: &[&str], ours: &[&str], strange: &[&str]) {
        let settings = Settings {
            addr: addr.parse().unwrap(),
            allowed_hosts: allowed.iter().map(|host| (*host).to_owned()).collect(),
            ..Settings::default()
        };
        for host in ours {
            assert!(is_ours(host, &settings), "{host} is ours on {addr}");
        }
        for host in strange {
            assert!(!is_ours(host, &settings), "{host} is not ours on {addr}");
        }
    }

    #[test]
    fn hosts_are_ours_or_strange() {
        let loopback =
            ["localhost", "LOCALHOST:8000", "127.0.0.1:8000", "[::1]:8000", "[::1]", "localhost.", "127.8.9.1"];
        check(
            "127.0.0.1:8000",
            &[],
            &loopback,
            &["evil.example", "10.0.0.1", "localhost.evil.example", "127.0.0.1.evil.example", ""],
        );
        check("10.0.0.5:8000", &[], &["10.0.0.5:8000", "localhost"], &["10.0.0.6", "rebound.example:8000"]);
        check("0.0.0.0:8000", &[], &["10.0.0.5:8000", "[fd00::1]:8000"], &["command-center:8000", "evil.example"]);
        check(
            "0.0.0.0:8000",
            &["command-center", "ops.example.com:8443", "*.corp.example"],
            &["command-center:8000", "Command-Center", "ops.example.com:8443", "a.corp.example"],
            &["ops.example.com:1", "corp.example", "evilcorp.example"],
        );
        check("127.0.0.1:8000", &["*"], &["anything.example"], &[]);
    }

    #[test]
    fn origins_are_compared_whole() {
        assert!(same_origin("https://ui.example/", "https://ui.example"));
        assert!(!same_origin("https://ui.example", "https://ui.example.evil"));
        assert!(!same_origin("https://ui.example", "http://ui.example"));
    }
}
