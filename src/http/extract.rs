//! What handlers are handed: the visit that the gate let in, the schedule it is about, and the
//! tags it carries.

use std::sync::Arc;

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::header::IF_MATCH;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::body;
use super::problem::{Answer, Problem};
use super::query::Query;
use super::table::{Param, Place, Route};
use crate::app::IfMatch;
use crate::core::access::Identity;
use crate::core::model::{BadTenant, Caller, Connector, ScheduleId, Source, Tenant, UnknownConnector};

/// One admitted request: who, what they ask, and the body, read whole.
#[derive(Clone)]
pub struct Visit(pub Arc<Visited>);

pub struct Visited {
    /// `None` on public routes.
    pub identity: Option<Identity>,
    pub source: Source,
    pub query: Query,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Visit {
    pub fn query(&self) -> &Query {
        &self.0.query
    }

    pub fn identity(&self) -> Answer<&Identity> {
        // A protected handler on a public route is a slip in the table; it must not let anyone in.
        self.0.identity.as_ref().ok_or_else(Problem::internal)
    }

    /// Who the audit names.
    pub fn caller(&self) -> Answer<Caller> {
        Ok(Caller { source: self.0.source, actor: self.identity()?.actor.clone() })
    }

    /// Refuses unless the caller may act for `tenant`.
    pub fn may_touch(&self, tenant: &Tenant) -> Answer<()> {
        let identity = self.identity()?;
        if identity.may_touch(tenant) { Ok(()) } else { Err(other_tenant(identity)) }
    }

    /// Refuses callers that are narrowed to one tenant: what follows is about all of them.
    pub fn whole_fleet(&self) -> Answer<()> {
        let identity = self.identity()?;
        if identity.tenant.is_none() { Ok(()) } else { Err(other_tenant(identity)) }
    }

    /// The tenant to filter by: the `tenant` parameter, narrowed to the caller's own.
    pub fn tenant_filter(&self) -> Answer<Option<Tenant>> {
        match self.query().tenant("tenant")? {
            Some(asked) => self.may_touch(&asked).map(|()| Some(asked)),
            None => Ok(self.identity()?.tenant.clone()),
        }
    }

    pub fn object(&self, required: bool) -> Answer<Map<String, Value>> {
        body::object(&self.0.headers, &self.0.body, required)
    }

    /// The `x-tenant` header, which may be absent.
    pub fn tenant_header(&self) -> Answer<Option<Tenant>> {
        tenant_header(&self.0.headers)
    }
}

fn other_tenant(identity: &Identity) -> Problem {
    Problem::other_tenant(identity.tenant.as_ref().map_or("", |tenant| tenant.as_str()))
}

fn tenant_header(headers: &HeaderMap) -> Answer<Option<Tenant>> {
    let mut values = headers.get_all("x-tenant").iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = String::from_utf8_lossy(value.as_bytes());
    let bad =
        |why: String| Problem::bad_request("tenant-malformed", format!("The header x-tenant is malformed: {why}"));
    if values.next().is_some() {
        return Err(bad("it is given more than once".into()));
    }
    text.trim().parse().map(Some).map_err(|why: BadTenant| bad(why.to_string()))
}

impl<S: Send + Sync> FromRequestParts<S> for Visit {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Answer<Self> {
        parts.extensions.get::<Visit>().cloned().ok_or_else(Problem::internal)
    }
}

/// The path's `{connector}`.
pub struct InPath(pub Connector);

impl<S: Send + Sync> FromRequestParts<S> for InPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Answer<Self> {
        let params = RawPathParams::from_request_parts(parts, state).await;
        let params = params.map_err(|_| Problem::not_found("The path is not valid UTF-8"))?;
        let name = params.iter().find(|(name, _)| *name == "connector").map_or("", |(_, value)| value);
        let connector: Connector = name.parse().map_err(|unknown: UnknownConnector| {
            let known: Vec<&str> = Connector::ALL.iter().map(|connector| connector.as_str()).collect();
            Problem::new(StatusCode::NOT_FOUND, "unknown-connector", "There is no such connector", unknown.to_string())
                .with("connectors", known)
        })?;
        Ok(InPath(connector))
    }
}

/// The schedule that the path and `x-tenant` name, which the caller may touch.
pub struct Target {
    pub id: ScheduleId,
    pub if_match: Option<IfMatch>,
    pub visit: Visit,
}

impl<S: Send + Sync> FromRequestParts<S> for Target {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Answer<Self> {
        let InPath(connector) = InPath::from_request_parts(parts, state).await?;
        let visit = Visit::from_request_parts(parts, state).await?;
        let tenant = visit.tenant_header()?.ok_or_else(|| {
            Problem::bad_request(
                "tenant-missing",
                "The header x-tenant is missing; it names the tenant, as in x-tenant: acme",
            )
        })?;
        visit.may_touch(&tenant)?;
        Ok(Target { id: ScheduleId::new(connector, tenant), if_match: if_match(&parts.headers)?, visit })
    }
}

/// Documents what [`Target`] reads.
pub fn for_target(route: Route) -> Route {
    with_connector(route).param(Param {
        name: "x-tenant",
        place: Place::Header,
        about: "The tenant.",
        required: true,
        schema: tenant_schema(),
    })
}

/// Documents what [`InPath`] reads.
pub fn with_connector(route: Route) -> Route {
    let names: Vec<&str> = Connector::ALL.iter().map(|connector| connector.as_str()).collect();
    route
        .param(Param {
            name: "connector",
            place: Place::Path,
            about: "The connector's name.",
            required: true,
            schema: json!({"type": "string", "enum": names, "example": "acculynx"}),
        })
        .fails(404, "No such connector, or the tenant has no schedule.")
}

pub fn tenant_schema() -> Value {
    json!({"type": "string", "pattern": "^[a-z0-9][a-z0-9._-]{0,63}$", "example": "peakpro"})
}

/// Documents `If-Match`.
pub fn takes_if_match(route: Route) -> Route {
    route
        .param(Param {
            name: "If-Match",
            place: Place::Header,
            about: "The schedule's ETag as last seen; 412 when it has moved on. `*` asks only that there is a schedule.",
            required: false,
            schema: json!({"type": "string"}),
        })
        .fails(412, "The schedule has changed since: `base`, `yours`, `current` (`current_etag`), the merged `proposal` and the \
             `conflicts` say how.")
}

/// Reads `If-Match`: `*`, or tags compared strongly, so that a weak one never matches.
pub fn if_match(headers: &HeaderMap) -> Answer<Option<IfMatch>> {
    let mut tags = Vec::new();
    let mut seen = false;
    for value in headers.get_all(IF_MATCH) {
        seen = true;
        let text = value.to_str().map_err(|_| bad_tag())?;
        if text.trim() == "*" {
            return Ok(Some(IfMatch::Any));
        }
        tags.extend(split_tags(text).ok_or_else(bad_tag)?);
    }
    let strong = tags.into_iter().filter(|tag| !tag.weak).map(|tag| tag.value).collect();
    Ok(seen.then_some(IfMatch::Etags(strong)))
}

fn bad_tag() -> Problem {
    Problem::bad_request("if-match", "The header If-Match takes *, or tags in double quotes separated by commas")
}

#[derive(Debug, PartialEq, Eq)]
pub struct Tag {
    pub weak: bool,
    pub value: String,
}

/// Splits a list of entity tags. A bare word counts as a strong tag, since the `etag` of a status
/// stands there without quotes.
pub fn split_tags(text: &str) -> Option<Vec<Tag>> {
    let mut tags = Vec::new();
    let mut rest = text.trim_start_matches([' ', '\t', ',']);
    while !rest.is_empty() {
        let (weak, after) = rest.strip_prefix("W/").map_or((false, rest), |after| (true, after));
        let value;
        (value, rest) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None if weak => return None,
            None => {
                let (word, more) = after.split_at(after.find(',').unwrap_or(after.len()));
                if word.contains(['"', ' ']) && word.trim_end().contains(['"', ' ']) {
                    return None;
                }
                (word.trim_end(), more)
            }
        };
        tags.push(Tag { weak, value: value.to_owned() });
        let trimmed = rest.trim_start_matches([' ', '\t']);
        if !trimmed.is_empty() && !trimmed.starts_with(',') {
            return None;
        }
        rest = trimmed.trim_start_matches([' ', '\t', ',']);
    }
    Some(tags)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &str) {
        let mut headers = HeaderMap::new();
        headers.insert(IF_MATCH, text.parse().unwrap());
        let got = match if_match(&headers) {
            Ok(Some(IfMatch::Any)) => "any".to_owned(),
            Ok(Some(IfMatch::Etags(tags))) => tags.join("|"),
            Ok(None) => "none".into(),
            Err(problem) => problem.status().as_u16().to_string(),
        };
        assert_eq!(got, expect, "{text}");
    }

    #[test]
    fn if_match_is_read_strictly_and_compared_strongly() {
        check("*", "any");
        check("\"ab\"", "ab");
        check("\"ab\", \"c,d\"", "ab|c,d");
        check("W/\"ab\"", "");
        check("W/\"ab\",\"cd\"", "cd");
        check("ab12", "ab12");
        check("ab12 , \"cd\"", "ab12|cd");
        check("\"open", "400");
        check("\"a\" \"b\"", "400");
        check("W/ab", "400");
        check("a b", "400");
    }

    #[test]
    fn no_header_is_no_condition() {
        assert!(if_match(&HeaderMap::new()).unwrap().is_none());
    }

    #[test]
    fn the_tenant_header_is_checked() {
        let mut headers = HeaderMap::new();
        assert!(tenant_header(&headers).unwrap().is_none());
        headers.insert("x-tenant", " acme ".parse().unwrap());
        assert_eq!(tenant_header(&headers).unwrap().unwrap().as_str(), "acme");
        headers.append("x-tenant", "other".parse().unwrap());
        assert_eq!(tenant_header(&headers).unwrap_err().status(), 400);
        headers.insert("x-tenant", "Acme/..".parse().unwrap());
        assert_eq!(tenant_header(&headers).unwrap_err().status(), 400);
    }
}
