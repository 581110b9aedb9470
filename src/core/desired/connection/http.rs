//! `connection` of the connector `http`: any JSON API, described in the file.

mod auth;
mod paging;
mod request;
mod template;

use std::collections::BTreeMap;

use super::super::check::Checker;
use super::super::finding::{Finding, Path, shown};
use super::super::tree::{Entry, Node, Value};
use super::address::{Advice, base_url};
use super::fields::{entries, whole, words};
use crate::core::mask::is_secret_name;
use crate::core::model::Connection;
use crate::core::rest::template::Placeholder;

pub(super) const ADDRESS: Advice =
    Advice { example: "https://api.example.com/v1", credentials: "remove them, and give them in auth by reference" };
const IN_AUTH: &str = "give it in auth by reference, e.g. auth: { bearer: { env: CC_SECRET_NAME } }";
const MAX_HEADER_CHARS: usize = 1024;
/// What holds in every request alike.
const STEADY: [Placeholder; 4] = [Placeholder::Tenant, Placeholder::RunId, Placeholder::Now, Placeholder::NowDate];
/// Headers that the client itself writes.
const OURS: [&str; 8] =
    ["host", "content-length", "transfer-encoding", "connection", "te", "upgrade", "expect", "accept-encoding"];

pub(super) fn entry(checker: &mut Checker, entry: &Entry<'_>, path: &Path<'_>, connection: &mut Connection) {
    let node = &entry.value;
    match entry.key.as_ref() {
        "base_url" => connection.base_url = base_url(checker, node, path, &ADDRESS),
        "headers" => connection.headers = headers(checker, node, path),
        "auth" => connection.auth = auth::auth(checker, node, path),
        "max_body_mb" => connection.max_body_mb = whole(checker, node, path, 1..=256, "MiB, at most 256"),
        "requests" => connection.requests = request::requests(checker, node, path),
        _ => {}
    }
}

fn headers(checker: &mut Checker, node: &Node<'_>, path: &Path<'_>) -> BTreeMap<String, String> {
    let mut headers: BTreeMap<String, String> = BTreeMap::new();
    let hint = "write e.g. { Accept: application/json }";
    for entry in entries(checker, node, path, hint).unwrap_or_default() {
        let path = path.key(&entry.key);
        if headers.keys().any(|known| known.eq_ignore_ascii_case(&entry.key)) {
            let message = format!("the header {} is given twice", shown(&entry.key));
            let finding = Finding::error(entry.at, "duplicate-key", path.pointer(), message);
            checker.out.push(finding.hint("names of headers do not tell capitals from small letters; remove one"));
        } else if let Some(finding) = bad_header(entry, &path) {
            checker.out.push(finding);
        } else if let Some(text) = words(checker, &entry.value, &path, MAX_HEADER_CHARS) {
            if !text.is_ascii() {
                let message = format!("the header {} is not plain ASCII", shown(&entry.key));
                let finding = Finding::error(entry.value.at, "bad-header", path.pointer(), message);
                checker.out.push(finding.hint("write it in letters, digits and signs of ASCII"));
            } else if template::check(checker, &entry.value, &path, &text, &STEADY).is_some() {
                headers.insert(entry.key.as_ref().to_owned(), text);
            }
        }
    }
    headers
}

/// What is wrong with a header's name, if anything is.
fn bad_header(entry: &Entry<'_>, path: &Path<'_>) -> Option<Finding> {
    let name = entry.key.as_ref();
    let lower = name.to_ascii_lowercase();
    let (code, message, hint) = if !is_header_name(name) {
        ("bad-header", format!("\"{}\" is no header's name", shown(name)), "1 to 64 letters, digits and -")
    } else if is_secret_name(name) {
        (
            "literal-secret",
            format!("the header {} holds a secret, and headers are no place for one", shown(name)),
            IN_AUTH,
        )
    } else if OURS.contains(&lower.as_str()) {
        ("bad-header", format!("the header {} is written by the program itself", shown(name)), "remove it")
    } else {
        return None;
    };
    Some(Finding::error(entry.at, code, path.pointer(), message).hint(hint))
}

fn is_header_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// A text under a name that announces a secret: the secret itself, unless it is a placeholder.
fn no_literal_secret(checker: &mut Checker, entry: &Entry<'_>, path: &Path<'_>) -> bool {
    let Value::Text { text, .. } = &entry.value.value else { return true };
    if !is_secret_name(&entry.key) || text.contains("{{") {
        return true;
    }
    let message = format!("{} holds a secret itself", shown(&entry.key));
    let hint = "give it in auth by reference, e.g. auth: { query: { name: api_key, secret: { env: CC_SECRET_NAME } } }";
    checker.out.push(Finding::error(entry.value.at, "literal-secret", path.pointer(), message).hint(hint));
    false
}
