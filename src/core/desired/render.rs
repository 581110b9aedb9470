//! Values as YAML text: a fresh file, and the pieces that an edit or a suggestion needs.

use serde_json::{Map, Value};

use super::check::KEYS;
use super::scalar;

/// What a fresh file begins with, so that editors check it.
const SCHEMA_LINE: &str = "# yaml-language-server: $schema=../../../schemas/schedule.schema.json\n";
/// The order of nested keys; others follow by name.
const NESTED_KEYS: [&str; 5] = ["base_url", "api_key", "webhook_token", "env", "file"];

/// The quotes a text had before an edit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quotes {
    /// None where they are not needed.
    AsNeeded,
    Single,
    Double,
}

/// A new schedule's file: the line that names the schema, then the keys in their usual order.
pub fn new_document(value: &Map<String, Value>) -> Vec<u8> {
    let mut text = SCHEMA_LINE.to_owned();
    text.push_str(&block(value, 0));
    text.into_bytes()
}

/// A mapping in block style, every line ended by a line feed.
pub(super) fn block(map: &Map<String, Value>, indent: usize) -> String {
    let mut text = String::new();
    if map.is_empty() && indent == 0 {
        return "{}\n".to_owned();
    }
    for (key, value) in in_order(map) {
        text.push_str(&" ".repeat(indent));
        text.push_str(&entry(key, value, indent));
    }
    text
}

/// One key with its value, without the indentation of its first line.
pub(super) fn entry(key: &str, value: &Value, indent: usize) -> String {
    let name = quoted(key, Quotes::AsNeeded);
    match value {
        Value::Object(inner) if !inner.is_empty() && !is_reference(inner) => {
            format!("{name}:\n{}", block(inner, indent + 2))
        }
        _ => format!("{name}: {}\n", flow(value)),
    }
}

/// A value on one line.
pub(super) fn flow(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(yes) => yes.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => quoted(text, Quotes::AsNeeded),
        Value::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::Object(map) if map.is_empty() => "{}".to_owned(),
        Value::Object(map) => {
            let entries =
                in_order(map).map(|(key, value)| format!("{}: {}", quoted(key, Quotes::AsNeeded), flow(value)));
            format!("{{ {} }}", entries.collect::<Vec<_>>().join(", "))
        }
    }
}

/// Whether a mapping is a reference to a secret, which stands on one line.
pub(super) fn is_reference(map: &Map<String, Value>) -> bool {
    map.len() == 1 && map.iter().all(|(key, value)| matches!(key.as_str(), "env" | "file") && value.is_string())
}

/// The entries in the order in which a person would write them.
pub(super) fn in_order(map: &Map<String, Value>) -> impl Iterator<Item = (&String, &Value)> {
    let rank = |key: &str| KEYS.iter().chain(&NESTED_KEYS).position(|known| *known == key).unwrap_or(usize::MAX);
    let mut entries: Vec<_> = map.iter().collect();
    entries.sort_by_key(|(key, _)| rank(key));
    entries.into_iter()
}

/// A text as a scalar that every YAML reader takes for that text, on one line.
pub(super) fn quoted(text: &str, quotes: Quotes) -> String {
    let printable = !text.chars().any(needs_escape);
    match quotes {
        Quotes::AsNeeded if is_plain(text) => text.to_owned(),
        Quotes::Single if printable => format!("'{}'", text.replace('\'', "''")),
        _ => double(text),
    }
}

fn is_plain(text: &str) -> bool {
    let inner = |c: char| c.is_alphanumeric() || matches!(c, ' ' | '_' | '-' | '.' | '/' | ':' | '@' | '+' | '(' | ')');
    text.starts_with(|c: char| c.is_alphanumeric() || c == '/')
        && text.chars().all(inner)
        && !text.ends_with([' ', ':'])
        && !text.contains(": ")
        && text != "<<"
        && !scalar::is_ambiguous(text)
}

fn needs_escape(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

fn double(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if needs_escape(c) => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
