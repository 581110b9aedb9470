//! The rules of `connection`: each connector has its own keys, one file a connector.
//! Nothing here repeats a value: it may be a secret in the wrong place.

mod acculynx;
mod address;
pub(super) mod exec;
mod fields;
mod http;
mod secret;

use super::check::Checker;
use super::finding::{Finding, Path, shown};
use super::tree::Entry;
use crate::core::model::{Connection, Connector};

/// Every key of a connection, and the connectors that take it.
const KEYS: &[(&str, &[Connector])] = &[
    ("base_url", &[Connector::Acculynx, Connector::Http]),
    ("api_key", &[Connector::Acculynx]),
    ("webhook_token", &[Connector::Acculynx]),
    ("headers", &[Connector::Http]),
    ("auth", &[Connector::Http]),
    ("max_body_mb", &[Connector::Http]),
    ("requests", &[Connector::Http]),
    ("command", &[Connector::Exec]),
    ("config", &[Connector::Exec]),
    ("catalog", &[Connector::Exec]),
    ("env", &[Connector::Exec]),
    ("protocol", &[Connector::Exec]),
    ("idle_timeout_sec", &[Connector::Exec]),
    ("max_output_mb", &[Connector::Exec]),
    ("max_line_kb", &[Connector::Exec]),
];

/// Whether some connector takes this key.
pub(super) fn is_known(key: &str) -> bool {
    KEYS.iter().any(|(known, _)| *known == key)
}

/// The keys that a connector takes; none for one that connects to nothing.
pub(super) fn keys_of(connector: Connector) -> Vec<&'static str> {
    KEYS.iter().filter(|(_, takers)| takers.contains(&connector)).map(|(key, _)| *key).collect()
}

pub(super) fn connection(
    checker: &mut Checker,
    connector: Connector,
    entries: &[Entry<'_>],
    path: &Path<'_>,
) -> Connection {
    let mut connection = Connection::default();
    let own = keys_of(connector);
    for entry in entries {
        let path = path.key(&entry.key);
        if own.contains(&entry.key.as_ref()) {
            match connector {
                Connector::Acculynx => acculynx::entry(checker, entry, &path, &mut connection),
                Connector::Exec => exec::entry(checker, entry, &path, &mut connection),
                Connector::Http => http::entry(checker, entry, &path, &mut connection),
                Connector::Noop => {}
            }
        } else if let Some((_, takers)) = KEYS.iter().find(|(key, _)| *key == entry.key) {
            checker.out.push(of_another(connector, takers, &own, entry, &path));
        } else {
            checker.unknown_key(entry, &path, &own);
        }
    }
    connection
}

/// A key that belongs to other connectors' connections.
fn of_another(connector: Connector, takers: &[Connector], own: &[&str], entry: &Entry<'_>, path: &Path<'_>) -> Finding {
    let does = if takers.len() == 1 { "does" } else { "do" };
    let takers = takers.iter().map(|taker| taker.as_str()).collect::<Vec<_>>().join(" and ");
    let message = format!("the {connector} connector takes no {}; {takers} {does}", shown(&entry.key));
    let hint = format!("remove it; {connector} takes: {}", own.join(", "));
    Finding::error(entry.at, "not-for-connector", path.pointer(), message).hint(hint)
}
