//! The gate before every handler: who asks, with which query and body, and is that allowed.
//! What it needs to know of a route stands in the table.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::CACHE_CONTROL;
use axum::http::{Extensions, HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::extract::{Visit, Visited};
use super::idempotency::{self, InFlight};
use super::problem::{self, Answer, Problem};
use super::query::Query;
use super::request_log::Noted;
use super::table::{Facts, Verb};
use super::{body, extract};
use crate::app::App;
use crate::core::access::{self, HeaderView, Identity, Refusal};
use crate::core::model::{Connector, Source, Tenant};

/// One route's gate.
pub struct Gate {
    pub app: Arc<App>,
    pub facts: Facts,
    pub in_flight: InFlight,
}

/// Lets a request through to its handler, or answers why not.
pub async fn pass(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let mut noted = gate.note(&request);
    let peer = peer(request.extensions());
    let mut response = match gate.admit(request, peer, &mut noted).await {
        Ok((visit, request)) => gate.hand_on(visit, request, next).await,
        Err(problem) => problem.into_response(),
    };
    gate.count_refusal(&response, peer);
    if gate.facts.needs.is_some() {
        response.headers_mut().entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    }
    response.extensions_mut().insert(noted);
    response
}

impl Gate {
    /// Runs the handler: a mutation in a task of its own, since a caller that hangs up must not
    /// leave a change half told.
    async fn hand_on(self: &Arc<Self>, visit: Visit, request: Request, next: Next) -> Response {
        if !self.facts.mutation {
            return next.run(request).await;
        }
        let task = tokio::spawn(idempotency::once(self.clone(), visit, request, next));
        task.await.unwrap_or_else(|failed| match failed.try_into_panic() {
            Ok(panic) => problem::panicked(panic),
            Err(_) => Problem::internal().into_response(),
        })
    }

    /// Establishes who asks, checks the query, reads the body.
    async fn admit(&self, request: Request, peer: IpAddr, noted: &mut Noted) -> Answer<(Visit, Request)> {
        let identity = self.identity(request.headers(), peer)?;
        if let Some(identity) = &identity {
            noted.user_roles = identity.role.as_str();
            noted.tenant = noted.tenant.take().or_else(|| identity.tenant.clone());
        }
        let known = (!self.facts.loose_query).then_some(self.facts.query.as_slice());
        let query = Query::parse(request.uri().query(), known)?;
        noted.tenant = noted.tenant.take().or_else(|| query.tenant("tenant").ok().flatten());
        let source = if self.facts.mutation { source(request.headers())? } else { Source::Ui };

        let (mut parts, stream) = request.into_parts();
        let body = match self.facts.verb {
            Verb::Get => Default::default(),
            Verb::Post | Verb::Delete => body::read(&parts.headers, stream, self.facts.body_limit).await?,
        };
        let headers = parts.headers.clone();
        let visit = Visit(Arc::new(Visited { identity, source, query, headers, body }));
        parts.extensions.insert(visit.clone());
        Ok((visit, Request::from_parts(parts, Body::empty())))
    }

    /// The caller's identity; `None` where the route is public.
    fn identity(&self, headers: &HeaderMap, peer: IpAddr) -> Answer<Option<Identity>> {
        let Some(needs) = self.facts.needs else { return Ok(None) };
        let view = view(headers);
        access::authorize(&view, peer, &self.app.settings.trusted_proxies, needs).map(Some).map_err(|refusal| {
            self.explain(&refusal, peer);
            Problem::refused(&refusal)
        })
    }

    /// Tells the operator what a refused caller should not be told.
    fn explain(&self, refusal: &Refusal, peer: IpAddr) {
        let (reason, endpoint) = (refusal.reason(), self.facts.template);
        if let Refusal::UntrustedPeer { peer } = refusal {
            tracing::warn!(
                component = "access",
                endpoint,
                peer = %peer,
                reason,
                "role headers from {peer} are ignored; if that is your proxy, add it to COMMAND_CENTER_TRUSTED_PROXIES"
            );
        } else {
            tracing::debug!(component = "access", endpoint, peer = %peer, reason, "refused: {refusal}");
        }
    }

    /// Counts and audits a 403, whether the gate or the handler gave it.
    fn count_refusal(&self, response: &Response, peer: IpAddr) {
        if response.status() != StatusCode::FORBIDDEN {
            return;
        }
        let reason = response.extensions().get::<problem::Reason>().map_or("forbidden", |reason| reason.0);
        self.app.metrics.access_refused(reason);
        self.app.note_refusal(peer, self.facts.template, reason);
    }

    /// What the log will say of this request, as far as it is known by now.
    fn note(&self, request: &Request) -> Noted {
        let part = self.facts.component;
        let connector = self.facts.template.contains("{connector}").then(|| {
            let named = request.uri().path().split('/').nth(4).and_then(|name| name.parse::<Connector>().ok());
            named.map_or("unknown", Connector::as_str)
        });
        let component = connector.map_or(part.to_owned(), |connector| format!("{connector}-{part}"));
        let tenant = request.headers().get("x-tenant").and_then(|value| value.to_str().ok()?.trim().parse().ok());
        Noted { component, user_roles: "", tenant: tenant.or_else(|| self.tenant_in_path(request)) }
    }

    fn tenant_in_path(&self, request: &Request) -> Option<Tenant> {
        let place = self.facts.template.split('/').position(|part| part == "{tenant}")?;
        request.uri().path().split('/').nth(place)?.parse().ok()
    }
}

/// The address a request came from; one that nobody trusts when it is not known.
pub fn peer(extensions: &Extensions) -> IpAddr {
    let known = extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| *peer).or_else(|| {
        extensions
            .get::<axum::extract::connect_info::MockConnectInfo<SocketAddr>>()
            .map(|axum::extract::connect_info::MockConnectInfo(peer)| *peer)
    });
    known.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip().to_canonical())
}

fn view(headers: &HeaderMap) -> HeaderView {
    // Bytes that are no text become a character that no role, and above all no tenant, contains.
    HeaderView::new(
        headers.iter().map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes()).into_owned())),
    )
}

/// The `source` that the caller says it is; the operator endpoints' default is the UI.
fn source(headers: &HeaderMap) -> Answer<Source> {
    let Some(value) = headers.get("x-source") else { return Ok(Source::Ui) };
    let text = String::from_utf8_lossy(value.as_bytes()).trim().to_ascii_lowercase();
    Source::claimable(&text).ok_or_else(|| {
        Problem::bad_request("source", format!("The header x-source takes ui, api, cli or ops, not \"{text}\""))
    })
}

/// Documents the headers that every mutation reads.
pub fn source_param() -> super::table::Param {
    super::table::Param {
        name: "x-source",
        place: super::table::Place::Header,
        about: "Where the change comes from, for the audit.",
        required: false,
        schema: serde_json::json!({"type": "string", "enum": ["ui", "api", "cli", "ops"], "default": "ui"}),
    }
}

/// Whether the visit's identity, if any, is an admin: only then may a body change `connection`.
pub fn is_admin(visit: &extract::Visit) -> bool {
    visit.0.identity.as_ref().is_some_and(|identity| identity.role == access::Role::Admin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_may_claim_four_sources_only() {
        let check = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-source", value.parse().unwrap());
            source(&headers).map(Source::as_str).map_err(|problem| problem.status().as_u16())
        };
        assert_eq!(source(&HeaderMap::new()).unwrap(), Source::Ui);
        assert_eq!(check("api"), Ok("api"));
        assert_eq!(check(" CLI "), Ok("cli"));
        for own in ["file", "git", "scheduler", "command-center", ""] {
            assert_eq!(check(own), Err(400), "{own}");
        }
    }

    #[test]
    fn a_request_without_a_known_peer_comes_from_nobody() {
        assert_eq!(peer(&Extensions::new()), IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    }

    #[test]
    fn a_header_that_is_no_text_still_counts_as_given() {
        let mut headers = HeaderMap::new();
        headers.insert("x-ops", HeaderValue::from_static("1"));
        headers.insert("x-user-tenant", HeaderValue::from_bytes(&[0xff, 0xfe]).unwrap());
        let refused =
            access::identify(&view(&headers), IpAddr::from([127, 0, 0, 1]), &["127.0.0.0/8".parse().unwrap()]);
        assert_eq!(refused.unwrap_err().reason(), "malformed_tenant");
    }
}
