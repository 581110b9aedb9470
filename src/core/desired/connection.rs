//! The rules of `connection`. Nothing here repeats a value: it may be a secret in the wrong place.

use url::Url;

use super::check::{Checker, kind};
use super::finding::{Finding, Path};
use super::tree::{Entry, Node, Value};
use crate::core::model::{Connection, EnvSecret, FileSecret, SecretRef};

const KEYS: [&str; 2] = ["base_url", "api_key"];
const MAX_URL_CHARS: usize = 2048;
const BY_REFERENCE: &str = "write { env: CC_SECRET_NAME } or { file: NAME }";

pub(super) fn connection(checker: &mut Checker, entries: &[Entry<'_>], path: &Path<'_>) -> Connection {
    let mut connection = Connection::default();
    for entry in entries {
        let path = path.key(&entry.key);
        match entry.key.as_ref() {
            "base_url" => connection.base_url = base_url(checker, &entry.value, &path),
            "api_key" => connection.api_key = secret(checker, &entry.value, &path),
            _ => checker.unknown_key(entry, &path, &KEYS),
        }
    }
    connection
}

fn base_url(checker: &mut Checker, node: &Node<'_>, path: &Path<'_>) -> Option<String> {
    let text = checker.text(node, path)?;
    let (code, message, hint) = match Url::parse(text) {
        _ if text.len() > MAX_URL_CHARS => ("bad-url", "base_url is too long", "at most 2048 characters"),
        _ if text.chars().any(|c| c.is_whitespace() || c.is_control()) => {
            ("bad-url", "base_url contains a blank", "write blanks as %20, or remove them")
        }
        Err(_) => ("bad-url", "base_url is not a URL", "e.g. https://api.acculynx.com/api/v2"),
        Ok(url) if !matches!(url.scheme(), "http" | "https") || !has_http_prefix(text) => {
            ("bad-url", "base_url has to begin with http:// or https://", "e.g. https://api.acculynx.com/api/v2")
        }
        Ok(url) if !url.username().is_empty() || url.password().is_some() || authority(text).contains('@') => {
            ("url-credentials", "base_url carries credentials", "remove them, and give the key as api_key by reference")
        }
        Ok(url) if url.query().is_some() || url.fragment().is_some() => {
            ("bad-url", "base_url has a query or a fragment", "remove everything from \"?\" or \"#\" on")
        }
        Ok(_) => return Some(text.trim_end_matches('/').to_owned()),
    };
    checker.out.push(Finding::error(node.at, code, path.pointer(), message).hint(hint));
    None
}

/// The URL parser forgives `https:host` and backslashes; a file should say what it means.
fn has_http_prefix(text: &str) -> bool {
    (text.starts_with("https://") || text.starts_with("http://")) && !text.contains('\\')
}

fn authority(text: &str) -> &str {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or(rest)
}

fn secret(checker: &mut Checker, node: &Node<'_>, path: &Path<'_>) -> Option<SecretRef> {
    let entries = match &node.value {
        Value::Map(entries) => entries,
        Value::Null => {
            checker.no_value(node, path);
            return None;
        }
        Value::Text { .. } | Value::Number { .. } | Value::Bool(_) => {
            let message = "api_key holds the secret itself; only a reference is allowed here";
            let hint = format!("{BY_REFERENCE}, and replace the key: it stands in a file");
            checker.out.push(Finding::error(node.at, "literal-secret", path.pointer(), message).hint(hint));
            return None;
        }
        Value::List(_) => {
            checker.wrong_type(node, path, "a reference", &format!("a {}", kind(node)), Some(BY_REFERENCE.to_owned()));
            return None;
        }
    };
    let [entry] = entries.as_slice() else {
        let message = "api_key takes exactly one of env and file";
        checker.out.push(Finding::error(node.at, "bad-secret-ref", path.pointer(), message).hint(BY_REFERENCE));
        return None;
    };
    let path = path.key(&entry.key);
    match entry.key.as_ref() {
        "env" => env_secret(checker, &entry.value, &path),
        "file" => file_secret(checker, &entry.value, &path),
        _ => {
            // The key itself may be the secret (`{ sk-… }`), so it is not repeated, not even in the pointer.
            let message = "api_key takes env or file, nothing else";
            let field = path.parent_pointer();
            checker.out.push(Finding::error(entry.at, "bad-secret-ref", field, message).hint(BY_REFERENCE));
            None
        }
    }
}

fn env_secret(checker: &mut Checker, node: &Node<'_>, path: &Path<'_>) -> Option<SecretRef> {
    let name = checker.secret_name(node, path)?;
    let rest = name.strip_prefix("CC_SECRET_");
    let word = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
    if rest.is_some_and(word) {
        return Some(SecretRef::Env(EnvSecret { env: name.to_owned() }));
    }
    let message = if rest.is_none() {
        "the variable's name has to begin with CC_SECRET_"
    } else {
        "after CC_SECRET_ the variable's name is made of A-Z, 0-9 and _"
    };
    let hint = "name the variable e.g. CC_SECRET_PEAKPRO, here and in the server's environment";
    checker.out.push(Finding::error(node.at, "bad-secret-ref", path.pointer(), message).hint(hint));
    None
}

fn file_secret(checker: &mut Checker, node: &Node<'_>, path: &Path<'_>) -> Option<SecretRef> {
    let name = checker.secret_name(node, path)?;
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let good = name.len() <= 255
        && name.bytes().all(allowed)
        && name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    if good {
        return Some(SecretRef::File(FileSecret { file: name.to_owned() }));
    }
    let message = "not a plain file name: letters, digits, '.', '_' and '-', without a path";
    let hint = "name a file that lies directly in the secrets directory, e.g. { file: peakpro }";
    checker.out.push(Finding::error(node.at, "bad-secret-ref", path.pointer(), message).hint(hint));
    None
}
