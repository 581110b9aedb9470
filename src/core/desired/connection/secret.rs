//! References to secrets. Nothing here repeats a value: it may be the secret itself.

use super::super::check::{Checker, kind};
use super::super::finding::{Finding, Path};
use super::super::tree::{Node, Value};
use crate::core::model::{EnvSecret, FileSecret, SecretRef};

const BY_REFERENCE: &str = "write { env: CC_SECRET_NAME } or { file: NAME }";

pub(super) fn secret(checker: &mut Checker, node: &Node<'_>, path: &Path<'_>) -> Option<SecretRef> {
    let name = path.name();
    let entries = match &node.value {
        Value::Map(entries) => entries,
        Value::Null => {
            checker.no_value(node, path);
            return None;
        }
        Value::Text { .. } | Value::Number { .. } | Value::Bool(_) => {
            let message = format!("{name} holds the secret itself; only a reference is allowed here");
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
        let message = format!("{name} takes exactly one of env and file");
        checker.out.push(Finding::error(node.at, "bad-secret-ref", path.pointer(), message).hint(BY_REFERENCE));
        return None;
    };
    let path = path.key(&entry.key);
    match entry.key.as_ref() {
        "env" => env_secret(checker, &entry.value, &path),
        "file" => file_secret(checker, &entry.value, &path),
        _ => {
            // The key itself may be the secret (`{ sk-… }`), so it is not repeated, not even in the pointer.
            let message = format!("{name} takes env or file, nothing else");
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
