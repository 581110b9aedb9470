//! `auth`: one way to prove who asks. Nothing here repeats a value: it may be the secret itself.

use super::super::super::check::Checker;
use super::super::super::finding::{Finding, Path, shown};
use super::super::super::tree::{Entry, Node};
use super::super::address::{Advice, address};
use super::super::fields::{choice, entries, parameter, words};
use super::super::secret::secret;
use super::is_header_name;
use crate::core::model::{BasicAuth, HeaderAuth, HttpAuth, OauthAuth, QueryAuth, SecretRef};

const WAYS: [&str; 5] = ["bearer", "header", "query", "basic", "oauth"];
const TOKEN_ADDRESS: Advice = Advice {
    example: "https://login.example.com/oauth/token",
    credentials: "remove them, and give client_id and client_secret",
};
const MAX_WORDS: usize = 1024;

pub(super) fn auth(checker: &mut Checker, node: &Node<'_>, path: &Path<'_>) -> Option<HttpAuth> {
    let entry = choice(checker, node, path, &WAYS)?;
    let path = path.key(&entry.key);
    let node = &entry.value;
    match entry.key.as_ref() {
        "bearer" => secret(checker, node, &path).map(HttpAuth::Bearer),
        "header" => header(checker, node, &path).map(HttpAuth::Header),
        "query" => query(checker, node, &path).map(HttpAuth::Query),
        "basic" => basic(checker, node, &path).map(HttpAuth::Basic),
        _ => oauth(checker, node, &path).map(HttpAuth::Oauth),
    }
}

/// The entries of one way, each of which is known; the others are reported.
fn known<'n, 't>(
    checker: &mut Checker,
    node: &'n Node<'t>,
    path: &Path<'_>,
    names: &[&'static str],
) -> Option<Vec<&'n Entry<'t>>> {
    let entries = entries(checker, node, path, &format!("it takes: {}", names.join(", ")))?;
    for entry in entries.iter().filter(|entry| !names.contains(&entry.key.as_ref())) {
        checker.unknown_key(entry, &path.key(&entry.key), names);
    }
    Some(entries.iter().filter(|entry| names.contains(&entry.key.as_ref())).collect())
}

/// What has to be there, unless its value was already found to be wrong.
fn required<T>(
    checker: &mut Checker,
    node: &Node<'_>,
    path: &Path<'_>,
    (given, value): (bool, Option<T>),
    key: &str,
) -> Option<T> {
    if !given {
        let message = format!("{} needs {key}", shown(path.name()));
        let hint = match key {
            "secret" | "password" | "client_secret" => format!("add {key}: {{ env: CC_SECRET_NAME }}"),
            _ => format!("add {key}"),
        };
        checker.out.push(Finding::error(node.at, "missing-key", path.pointer(), message).hint(hint));
    }
    value
}

/// A value that has to be given, and whether it was.
type Given<T> = (bool, Option<T>);

fn header(checker: &mut Checker, node: &Node<'_>, path: &Path<'_>) -> Option<HeaderAuth> {
    let (mut name, mut value): (Given<String>, Given<SecretRef>) = Default::default();
    let mut prefix = String::new();
    for entry in known(checker, node, path, &["name", "secret", "prefix"])? {
        let path = path.key(&entry.key);
        match entry.key.as_ref() {
            "name" => name = (true, header_name(checker, &entry.value, &path)),
            "secret" => value = (true, secret(checker, &entry.value, &path)),
            _ => prefix = prefix_text(checker, &entry.value, &path),
        }
    }
    let name = required(checker, node, path, name, "name");
    let secret = required(checker, node, path, value, "secret");
    Some(HeaderAuth { name: name?, secret: secret?, prefix })
}

fn header_name(checker: &mut Checker, node: &Node<'_>, path: &Path<'_>) -> Option<String> {
    let name = parameter(checker, node, path)?;
    if is_header_name(&name) {
        return Some(name);
    }
    let message = "not a header's name";
    let finding = Finding::error(node.at, "bad-header", path.pointer(), message);
    checker.out.push(finding.hint("e.g. X-Api-Key"));
    None
}

fn prefix_text(checker: &mut Checker, node: &Node<'_>, path: &Path<'_>) -> String {
    let text = words(checker, node, path, 64).unwrap_or_default();
    if !text.is_ascii() {
        let finding = Finding::error(node.at, "bad-header", path.pointer(), "prefix is not plain ASCII");
        checker.out.push(finding.hint("e.g. \"Token \""));
    }
    text
}

fn query(checker: &mut Checker, node: &Node<'_>, path: &Path<'_>) -> Option<QueryAuth> {
    let (mut name, mut value): (Given<String>, Given<SecretRef>) = Default::default();
    for entry in known(checker, node, path, &["name", "secret"])? {
        let path = path.key(&entry.key);
        match entry.key.as_ref() {
            "name" => name = (true, parameter(checker, &entry.value, &path)),
            _ => value = (true, secret(checker, &entry.value, &path)),
        }
    }
    let name = required(checker, node, path, name, "name");
    let secret = required(checker, node, path, value, "secret");
    Some(QueryAuth { name: name?, secret: secret? })
}

fn basic(checker: &mut Checker, node: &Node<'_>, path: &Path<'_>) -> Option<BasicAuth> {
    let (mut user, mut password): (Given<String>, Given<SecretRef>) = Default::default();
    for entry in known(checker, node, path, &["user", "password"])? {
        let path = path.key(&entry.key);
        match entry.key.as_ref() {
            "user" => user = (true, user_name(checker, &entry.value, &path)),
            _ => password = (true, secret(checker, &entry.value, &path)),
        }
    }
    let user = required(checker, node, path, user, "user");
    let password = required(checker, node, path, password, "password");
    Some(BasicAuth { user: user?, password: password? })
}

fn user_name(checker: &mut Checker, node: &Node<'_>, path: &Path<'_>) -> Option<String> {
    let user = words(checker, node, path, 256)?;
    if !user.contains(':') {
        return Some(user);
    }
    let message = "a user's name has no colon";
    let finding = Finding::error(node.at, "out-of-range", path.pointer(), message);
    checker.out.push(finding.hint("give the password by reference: password: { env: CC_SECRET_NAME }"));
    None
}

fn oauth(checker: &mut Checker, node: &Node<'_>, path: &Path<'_>) -> Option<OauthAuth> {
    let (mut token_url, mut client_id): (Given<String>, Given<String>) = Default::default();
    let mut client_secret: Given<SecretRef> = Default::default();
    let (mut scope, mut audience) = (None, None);
    for entry in known(checker, node, path, &["token_url", "client_id", "client_secret", "scope", "audience"])? {
        let path = path.key(&entry.key);
        let value = &entry.value;
        match entry.key.as_ref() {
            "token_url" => token_url = (true, address(checker, value, &path, &TOKEN_ADDRESS)),
            "client_id" => client_id = (true, words(checker, value, &path, 256)),
            "client_secret" => client_secret = (true, secret(checker, value, &path)),
            "scope" => scope = words(checker, value, &path, MAX_WORDS),
            _ => audience = words(checker, value, &path, MAX_WORDS),
        }
    }
    let token_url = required(checker, node, path, token_url, "token_url");
    let client_id = required(checker, node, path, client_id, "client_id");
    let client_secret = required(checker, node, path, client_secret, "client_secret");
    Some(OauthAuth { token_url: token_url?, client_id: client_id?, client_secret: client_secret?, scope, audience })
}
