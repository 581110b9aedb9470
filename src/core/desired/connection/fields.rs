//! Rules that many keys of a connection share.

use std::ops::RangeInclusive;

use super::super::check::Checker;
use super::super::finding::{Finding, Path, shown};
use super::super::running::Whole;
use super::super::tree::{Entry, Node, Value};
use crate::core::rest::pointer::{self, BadPointer};

const MAX_NAME_CHARS: usize = 64;

/// The entries of a mapping that has to have some.
pub(super) fn entries<'n, 't>(
    checker: &mut Checker,
    node: &'n Node<'t>,
    path: &Path<'_>,
    hint: &str,
) -> Option<&'n [Entry<'t>]> {
    match &node.value {
        Value::Map(entries) if !entries.is_empty() => Some(entries),
        Value::Map(_) => {
            let message = format!("{} is empty", shown(path.name()));
            checker.out.push(Finding::error(node.at, "no-value", path.pointer(), message).hint(hint));
            None
        }
        _ => {
            checker.mismatch(node, path, "a mapping", hint);
            None
        }
    }
}

/// The one entry of a mapping that says which of several ways is meant.
pub(super) fn choice<'n, 't>(
    checker: &mut Checker,
    node: &'n Node<'t>,
    path: &Path<'_>,
    names: &[&'static str],
) -> Option<&'n Entry<'t>> {
    let hint = format!("one of: {}", names.join(", "));
    match entries(checker, node, path, &hint)? {
        [entry] if names.contains(&entry.key.as_ref()) => Some(entry),
        [entry] => {
            checker.unknown_key(entry, &path.key(&entry.key), names);
            None
        }
        several => {
            for entry in several.iter().filter(|entry| !names.contains(&entry.key.as_ref())) {
                checker.unknown_key(entry, &path.key(&entry.key), names);
            }
            let message = format!("{} takes exactly one way", shown(path.name()));
            checker.out.push(Finding::error(node.at, "two-ways", path.pointer(), message).hint(hint));
            None
        }
    }
}

/// A whole number within bounds; `about` says what it counts.
pub(super) fn whole(
    checker: &mut Checker,
    node: &Node<'_>,
    path: &Path<'_>,
    bounds: RangeInclusive<u32>,
    about: &'static str,
) -> Option<u32> {
    let example = (*bounds.end()).min(100).max(*bounds.start());
    checker.whole(node, path, &Whole { bounds, about, example })
}

/// A text of 1 to `most` characters, none of them a control character.
pub(super) fn words(checker: &mut Checker, node: &Node<'_>, path: &Path<'_>, most: usize) -> Option<String> {
    let text = checker.text(node, path)?;
    let chars = text.chars().count();
    if (1..=most).contains(&chars) && !text.contains(char::is_control) {
        return Some(text.to_owned());
    }
    let name = shown(path.name());
    let message = match chars {
        0 => format!("{name} is empty"),
        n if n > most => format!("{name} has {n} characters; the most is {most}"),
        _ => format!("{name} contains a control character"),
    };
    let hint = format!("write 1 to {most} characters on one line");
    checker.out.push(Finding::error(node.at, "out-of-range", path.pointer(), message).hint(hint));
    None
}

/// The name of a parameter.
pub(super) fn parameter(checker: &mut Checker, node: &Node<'_>, path: &Path<'_>) -> Option<String> {
    words(checker, node, path, MAX_NAME_CHARS)
}

/// A place in an answer or a record, in the one way to write it.
pub(super) fn place(checker: &mut Checker, node: &Node<'_>, path: &Path<'_>) -> Option<String> {
    let text = checker.text(node, path)?;
    let (message, hint) = match pointer::normal(text) {
        Ok(place) => return Some(place),
        Err(BadPointer::Escape) => {
            ("not a JSON pointer: in one, ~ is written ~0 and / within a name ~1".to_owned(), "e.g. /data/items".into())
        }
        Err(BadPointer::Dotted) => {
            let slashes = shown(&text.trim_start_matches(['$', '.']).replace('.', "/"));
            let name = shown(path.name());
            (format!("{name} is no path with dots"), format!("write the JSON pointer /{slashes}"))
        }
    };
    checker.out.push(Finding::error(node.at, "bad-pointer", path.pointer(), message).hint(hint));
    None
}

/// As [`place`], for a field: the record itself is none.
pub(super) fn field(checker: &mut Checker, node: &Node<'_>, path: &Path<'_>) -> Option<String> {
    let place = place(checker, node, path)?;
    if !place.is_empty() {
        return Some(place);
    }
    let message = format!("{} is empty", shown(path.name()));
    let finding = Finding::error(node.at, "bad-pointer", path.pointer(), message);
    checker.out.push(finding.hint("name a field, e.g. id, or give a JSON pointer, e.g. /meta/id"));
    None
}
