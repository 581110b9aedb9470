//! What counts as the same credential: the same reference to a secret at the same address.

use serde_json::Value;

use crate::core::model::{Connection, Digest};

/// Names what a source counts requests against: the same for all runs that use one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Credential(pub u64);

impl Credential {
    /// Of a connection that refers to secrets, or of the server's own key where it refers to none.
    /// `None` where nothing is known that a source could count.
    pub fn of(connection: Option<&Connection>, own_key: Option<&str>, own_address: Option<&str>) -> Option<Self> {
        let mut names = Vec::new();
        let tree = connection.and_then(|connection| serde_json::to_value(connection).ok()).unwrap_or_default();
        references(&tree, &mut names);
        if names.is_empty() {
            names.push(format!("own:{}", own_key?));
        }
        names.sort_unstable();
        names.dedup();
        let address = connection.and_then(|connection| connection.base_url.as_deref()).or(own_address);
        let address = address.unwrap_or_default().trim_end_matches('/');
        let Digest(hash) = Digest::of(format!("{address}\n{}", names.join("\n")).as_bytes());
        let mut head = [0; 8];
        head.copy_from_slice(&hash[..8]);
        Some(Credential(u64::from_be_bytes(head)))
    }
}

/// Collects every `{ env: NAME }` and `{ file: NAME }`, wherever a connector has them.
fn references(value: &Value, names: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, inner) in fields {
                match inner {
                    Value::String(name) if fields.len() == 1 && matches!(key.as_str(), "env" | "file") => {
                        names.push(format!("{key}:{name}"));
                    }
                    _ => references(inner, names),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, names)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(connection: Value) -> Option<Credential> {
        let connection: Connection = serde_json::from_value(connection).unwrap();
        Credential::of(Some(&connection), None, Some("https://api.example.com/"))
    }

    #[test]
    fn one_key_at_one_address_is_one_credential() {
        let key = json!({ "api_key": { "env": "CC_SECRET_A" } });
        let spelt = json!({ "base_url": "https://api.example.com", "api_key": { "env": "CC_SECRET_A" } });
        assert_eq!(of(key.clone()), of(spelt));
        for other in [
            json!({ "api_key": { "env": "CC_SECRET_B" } }),
            json!({ "api_key": { "file": "CC_SECRET_A" } }),
            json!({ "base_url": "https://other.example.com", "api_key": { "env": "CC_SECRET_A" } }),
        ] {
            assert_ne!(of(other.clone()), of(key.clone()), "{other}");
        }
    }

    #[test]
    fn without_a_reference_it_is_the_servers_own_key_or_none() {
        assert_eq!(of(json!({})), None);
        let own = |key| Credential::of(None, Some(key), Some("https://api.example.com"));
        assert_eq!(own("sandbox-a"), own("sandbox-a"));
        assert_ne!(own("sandbox-a"), own("sandbox-b"));
    }
}
