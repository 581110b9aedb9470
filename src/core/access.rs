//! Who may do what: roles, and the identity that a request's headers prove. Headers are believed
//! only from trusted peers, since anyone can write them.

use std::net::IpAddr;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::core::model::Tenant;

/// What a caller may do; a higher role may do all that a lower one may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Viewer,
    Operator,
    Admin,
}

impl Role {
    pub const ALL: [Role; 3] = [Role::Viewer, Role::Operator, Role::Admin];

    pub fn as_str(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Operator => "operator",
            Role::Admin => "admin",
        }
    }

    fn parse(text: &str) -> Option<Role> {
        let text = text.trim();
        Role::ALL.into_iter().find(|role| role.as_str().eq_ignore_ascii_case(text))
    }
}

/// Who asks, once it is established.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub role: Role,
    /// The name the audit records.
    pub actor: String,
    /// The one tenant this caller may act for; `None` is every tenant.
    pub tenant: Option<Tenant>,
}

impl Identity {
    /// Whether this caller may see and change `tenant`.
    pub fn may_touch(&self, tenant: &Tenant) -> bool {
        self.tenant.as_ref().is_none_or(|own| own == tenant)
    }
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("no header names a known role")]
    MissingRole,
    #[error("role headers came from {peer}, which is not a trusted proxy")]
    UntrustedPeer { peer: IpAddr },
    #[error("X-User-Tenant does not name one tenant: {reason}")]
    MalformedTenant { reason: String },
    #[error("role {has} is not enough, {needs} is needed", has = has.as_str(), needs = needs.as_str())]
    InsufficientRole { has: Role, needs: Role },
}

impl Refusal {
    /// The short stable name that answers, metrics and audit carry.
    pub fn reason(&self) -> &'static str {
        match self {
            Refusal::MissingRole => "missing_role",
            Refusal::UntrustedPeer { .. } => "untrusted_peer",
            Refusal::MalformedTenant { .. } => "malformed_tenant",
            Refusal::InsufficientRole { .. } => "insufficient_role",
        }
    }
}

/// The headers that speak of access, in lower case.
pub const ACCESS_HEADERS: [&str; 5] = ["x-ops", "x-role", "x-user-roles", "x-user-name", "x-user-tenant"];

/// The headers that claim a role.
const ROLE_HEADERS: [&str; 3] = ["x-ops", "x-role", "x-user-roles"];

/// The longest actor's name that is kept, in characters.
const MAX_ACTOR: usize = 200;

/// A request's access headers: names in lower case, each value of a repeated header on its own.
#[derive(Clone, Debug, Default)]
pub struct HeaderView {
    headers: Vec<(String, String)>,
}

impl HeaderView {
    /// Keeps the access headers among `headers`.
    pub fn new<'a>(headers: impl Iterator<Item = (&'a str, String)>) -> Self {
        let headers = headers
            .map(|(name, value)| (name.to_ascii_lowercase(), value))
            .filter(|(name, _)| ACCESS_HEADERS.contains(&name.as_str()))
            .collect();
        HeaderView { headers }
    }

    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.trim())
    }

    /// The highest role that any header names.
    fn role(&self) -> Option<Role> {
        let ops = self.all("x-ops").any(|value| value == "1").then_some(Role::Operator);
        let single = self.all("x-role").filter_map(|value| {
            if value.eq_ignore_ascii_case("ops") { Some(Role::Operator) } else { Role::parse(value) }
        });
        let lists = self.all("x-user-roles").flat_map(|list| list.split(',')).filter_map(Role::parse);
        ops.into_iter().chain(single).chain(lists).max()
    }

    fn claims_role(&self) -> bool {
        ROLE_HEADERS.iter().any(|name| self.all(name).next().is_some())
    }

    fn actor(&self) -> Option<String> {
        let name = self.all("x-user-name").find(|value| !value.is_empty())?;
        Some(name.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_ACTOR).collect())
    }

    /// A tenant header that cannot be read refuses the request: ignoring it would widen access.
    fn tenant(&self) -> Result<Option<Tenant>, Refusal> {
        let mut values: Vec<&str> = self.all("x-user-tenant").collect();
        values.dedup();
        match values.as_slice() {
            [] => Ok(None),
            [one] => one
                .parse()
                .map(Some)
                .map_err(|why: crate::core::model::BadTenant| Refusal::MalformedTenant { reason: why.to_string() }),
            _ => Err(Refusal::MalformedTenant { reason: "it is given more than once".into() }),
        }
    }
}

/// Establishes who asks from the access headers, believed only when `peer` is in `trusted`.
///
/// `X-User-Tenant` narrows whatever role it comes with.
pub fn identify(headers: &HeaderView, peer: IpAddr, trusted: &[IpNet]) -> Result<Identity, Refusal> {
    let peer = peer.to_canonical();
    if !trusted.iter().any(|net| net.contains(&peer)) {
        let refusal = if headers.claims_role() { Refusal::UntrustedPeer { peer } } else { Refusal::MissingRole };
        return Err(refusal);
    }
    let role = headers.role().ok_or(Refusal::MissingRole)?;
    let tenant = headers.tenant()?;
    let actor = headers.actor().unwrap_or_else(|| format!("{}@{peer}", role.as_str()));
    Ok(Identity { role, actor, tenant })
}

/// As [`identify`], and the role must be `needs` at least.
pub fn authorize(headers: &HeaderView, peer: IpAddr, trusted: &[IpNet], needs: Role) -> Result<Identity, Refusal> {
    let identity = identify(headers, peer, trusted)?;
    if identity.role < needs {
        return Err(Refusal::InsufficientRole { has: identity.role, needs });
    }
    Ok(identity)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trusted() -> Vec<IpNet> {
        ["127.0.0.0/8", "::1/128"].iter().map(|net| net.parse().unwrap()).collect()
    }

    fn view(headers: &[(&str, &str)]) -> HeaderView {
        HeaderView::new(headers.iter().map(|(name, value)| (*name, (*value).to_owned())))
    }

    /// `expect` is `role actor tenant` or a refusal's reason.
    fn check(peer: &str, headers: &[(&str, &str)], expect: &str) {
        let got = match identify(&view(headers), peer.parse().unwrap(), &trusted()) {
            Ok(who) => {
                format!("{} {} {}", who.role.as_str(), who.actor, who.tenant.map_or("-".into(), |t| t.to_string()))
            }
            Err(refusal) => refusal.reason().to_owned(),
        };
        assert_eq!(got, expect, "{headers:?} from {peer}");
    }

    #[test]
    fn roles_are_read_from_each_header() {
        let home = "127.0.0.1";
        check(home, &[("x-ops", "1")], "operator operator@127.0.0.1 -");
        check(home, &[("X-Ops", " 1 ")], "operator operator@127.0.0.1 -");
        check(home, &[("x-ops", "0")], "missing_role");
        check(home, &[("x-ops", "true")], "missing_role");
        check(home, &[("x-role", "ops")], "operator operator@127.0.0.1 -");
        check(home, &[("x-role", "OPERATOR")], "operator operator@127.0.0.1 -");
        check(home, &[("x-role", " Admin ")], "admin admin@127.0.0.1 -");
        check(home, &[("x-role", "viewer")], "viewer viewer@127.0.0.1 -");
        check(home, &[("x-role", "root")], "missing_role");
        check(home, &[("x-role", "")], "missing_role");
        check(home, &[("X-User-Roles", "operator,admin")], "admin admin@127.0.0.1 -");
        check(home, &[("X-User-Roles", " nobody , Viewer ")], "viewer viewer@127.0.0.1 -");
        check(home, &[("X-User-Roles", ",,")], "missing_role");
        check(home, &[("X-User-Roles", "administrator")], "missing_role");
        check(home, &[], "missing_role");
    }

    #[test]
    fn the_highest_role_counts_across_headers_and_repetitions() {
        let home = "::1";
        check(home, &[("x-ops", "1"), ("x-role", "viewer")], "operator operator@::1 -");
        check(home, &[("x-ops", "1"), ("x-user-roles", "admin")], "admin admin@::1 -");
        check(home, &[("x-user-roles", "viewer"), ("x-user-roles", "operator")], "operator operator@::1 -");
        check(home, &[("x-role", "junk"), ("x-ops", "1")], "operator operator@::1 -");
    }

    #[test]
    fn headers_from_elsewhere_are_not_believed() {
        check("10.0.0.7", &[("x-ops", "1")], "untrusted_peer");
        check("10.0.0.7", &[("x-user-roles", "admin")], "untrusted_peer");
        check("10.0.0.7", &[("x-role", "junk")], "untrusted_peer");
        check("10.0.0.7", &[], "missing_role");
        check("10.0.0.7", &[("x-user-name", "eve")], "missing_role");
        check("::ffff:10.0.0.7", &[("x-ops", "1")], "untrusted_peer");
        check("::ffff:127.0.0.1", &[("x-ops", "1")], "operator operator@127.0.0.1 -");
    }

    #[test]
    fn name_and_tenant_are_taken_over() {
        let home = "127.0.0.1";
        check(home, &[("x-ops", "1"), ("x-user-name", "jon")], "operator jon -");
        check(home, &[("x-ops", "1"), ("x-user-name", " ")], "operator operator@127.0.0.1 -");
        check(home, &[("x-ops", "1"), ("x-user-name", "a\tb\u{1}c")], "operator a b c -");
        check(home, &[("x-ops", "1"), ("x-user-tenant", "acme")], "operator operator@127.0.0.1 acme");
        check(
            home,
            &[("x-ops", "1"), ("x-user-tenant", "acme"), ("x-user-tenant", "acme")],
            "operator operator@127.0.0.1 acme",
        );
        check(home, &[("x-ops", "1"), ("x-user-tenant", "acme"), ("x-user-tenant", "b")], "malformed_tenant");
        for bad in ["", "*", "acme,b", "ACME", "../x", "\u{fffd}"] {
            check(home, &[("x-ops", "1"), ("x-user-tenant", bad)], "malformed_tenant");
        }
    }

    #[test]
    fn a_role_must_be_high_enough() {
        let reason = |role: &str, needs| {
            authorize(&view(&[("x-role", role)]), "127.0.0.1".parse().unwrap(), &trusted(), needs)
                .err()
                .map_or("allowed", |refusal| refusal.reason())
        };
        assert_eq!(reason("viewer", Role::Viewer), "allowed");
        assert_eq!(reason("viewer", Role::Operator), "insufficient_role");
        assert_eq!(reason("operator", Role::Operator), "allowed");
        assert_eq!(reason("operator", Role::Admin), "insufficient_role");
        assert_eq!(reason("admin", Role::Operator), "allowed");
        assert_eq!(reason("admin", Role::Admin), "allowed");
    }
}
