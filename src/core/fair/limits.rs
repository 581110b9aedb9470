//! How many runs may go on at once, and how fast they may start.

use std::collections::BTreeMap;
use std::fmt;

use super::StartsPerSec;
use crate::core::model::Connector;

/// What can keep a run from starting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Limit {
    Global,
    Connector,
    Tenant,
    Credential,
    Rate,
}

impl Limit {
    pub const ALL: [Limit; 5] = [Limit::Global, Limit::Connector, Limit::Tenant, Limit::Credential, Limit::Rate];

    pub fn as_str(self) -> &'static str {
        match self {
            Limit::Global => "global",
            Limit::Connector => "connector",
            Limit::Tenant => "tenant",
            Limit::Credential => "credential",
            Limit::Rate => "rate",
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A number for every connector, and others for some; `None` is no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PerConnector {
    pub each: Option<usize>,
    pub of: BTreeMap<Connector, usize>,
}

/// The limits of one server.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Runs at once, over all.
    pub global: usize,
    pub per_connector: PerConnector,
    pub per_tenant: Option<usize>,
    pub per_credential: Option<usize>,
    /// Starts a second, over all.
    pub starts: Option<StartsPerSec>,
    pub starts_of: BTreeMap<Connector, StartsPerSec>,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            global: 64,
            // Each is a program of its own.
            per_connector: PerConnector { each: None, of: BTreeMap::from([(Connector::Exec, 8)]) },
            per_tenant: Some(2),
            per_credential: Some(2),
            starts: None,
            starts_of: BTreeMap::new(),
        }
    }
}

impl Limits {
    /// Whether one more may start where `started` go on.
    pub(super) fn room(&self, limit: Limit, connector: Option<Connector>, started: usize) -> bool {
        let most = match limit {
            Limit::Global => Some(self.global),
            Limit::Connector => {
                let own = connector.and_then(|connector| self.per_connector.of.get(&connector).copied());
                own.or(self.per_connector.each)
            }
            Limit::Tenant => self.per_tenant,
            Limit::Credential => self.per_credential,
            Limit::Rate => None,
        };
        most.is_none_or(|most| started < most)
    }
}
