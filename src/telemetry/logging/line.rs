//! One event as a line of text: its fields in the contract's order, secrets masked.

use std::fmt::Write as _;

use serde::Serialize;
use serde::ser::{SerializeMap as _, Serializer};
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Level, Metadata};

use crate::core::model::Millis;
use crate::core::timing::iso;

/// Written before all others, in this order.
const ORDER: [&str; 8] =
    ["component", "endpoint", "method", "status", "duration_ms", "user_roles", "tenant_id", "message"];

/// Names the line gives itself; a field cannot take them.
const RESERVED: [&str; 3] = ["timestamp", "level", "service"];

/// Fields whose value is never to be seen, whoever logs it.
const SECRETS: [&str; 6] = ["api_key", "authorization", "password", "secret", "token", "x-api-key"];

const SERVICE: &str = "command-center";

/// Names and values as they were recorded; a later value of a name replaces the earlier one.
#[derive(Default)]
pub(super) struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    pub fn extend(&mut self, other: &Fields) {
        for (name, value) in &other.0 {
            self.set(name, value.clone());
        }
    }

    fn set(&mut self, name: &'static str, value: Value) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name, value)),
        }
    }

    fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    fn add(&mut self, field: &Field, value: Value) {
        let name = field.name();
        if RESERVED.contains(&name) || name.starts_with("log.") {
            return;
        }
        let value = match value {
            _ if SECRETS.contains(&name) => Value::from("***"),
            Value::String(text) if name == "user_roles" => roles(&text),
            Value::String(text) => Value::from(mask_credentials(text)),
            value => value,
        };
        self.set(name, value);
    }
}

/// Roles are a list in the line, however they were handed over: `operator,admin` or `["operator"]`.
fn roles(text: &str) -> Value {
    if let Ok(list @ Value::Array(_)) = serde_json::from_str(text) {
        return list;
    }
    text.split(',').map(str::trim).filter(|role| !role.is_empty()).collect()
}

/// `https://user:password@host` without what stands before the `@`.
pub(crate) fn mask_credentials(text: String) -> String {
    let mut masked = String::new();
    let mut rest = text.as_str();
    while let Some(start) = rest.find("://") {
        let (head, tail) = rest.split_at(start + 3);
        masked.push_str(head);
        let authority = tail.find(|c: char| matches!(c, '/' | '?' | '#' | '"' | '\'') || c.is_whitespace());
        let (authority, after) = tail.split_at(authority.unwrap_or(tail.len()));
        match authority.rsplit_once('@') {
            Some((_, host)) => {
                masked.push_str("***@");
                masked.push_str(host);
            }
            None => masked.push_str(authority),
        }
        rest = after;
    }
    if masked.is_empty() {
        return text;
    }
    masked.push_str(rest);
    masked
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.into());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut text = value.to_string();
        let mut cause = value.source();
        while let Some(error) = cause {
            let _ = write!(text, ": {error}");
            cause = error.source();
        }
        self.add(field, text.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.add(field, format!("{value:?}").into());
    }
}

/// Everything a line is made of.
pub(super) struct Line<'a> {
    pub at: Millis,
    pub metadata: &'a Metadata<'a>,
    pub fields: &'a Fields,
}

impl Line<'_> {
    pub fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// `12:00:00.000 INFO [component] message name=value`, one line whatever the values hold.
    pub fn text(&self, colour: bool) -> String {
        let time = iso(self.at);
        let time = time.get(11..23).unwrap_or(&time);
        let (level, style) = match *self.metadata.level() {
            Level::ERROR => ("ERROR  ", anstyle::AnsiColor::Red.on_default().bold()),
            Level::WARN => ("WARNING", anstyle::AnsiColor::Yellow.on_default()),
            Level::INFO => ("INFO   ", anstyle::AnsiColor::Green.on_default()),
            Level::DEBUG | Level::TRACE => ("DEBUG  ", anstyle::AnsiColor::Blue.on_default()),
        };
        let dim = anstyle::Style::new().dimmed();
        let paint = |style: anstyle::Style, text: &str| {
            if colour { format!("{style}{text}{style:#}") } else { text.to_owned() }
        };
        let mut line = format!("{} {} [{}]", paint(dim, time), paint(style, level), self.component());
        if let Some(message) = self.fields.get("message") {
            line.push(' ');
            line.push_str(&plain(message));
        }
        let told = |(name, value): &(&str, &Value)| *name != "message" && !is_empty(value);
        for (name, value) in self.rest().filter(told) {
            let _ = write!(line, " {}{}", paint(dim, &format!("{name}=")), plain(value));
        }
        line
    }

    fn level(&self) -> &'static str {
        match *self.metadata.level() {
            Level::ERROR => "ERROR",
            Level::WARN => "WARNING",
            Level::INFO => "INFO",
            Level::DEBUG | Level::TRACE => "DEBUG",
        }
    }

    /// What the event says of itself, else the module that it came from.
    fn component(&self) -> String {
        match self.fields.get("component") {
            Some(Value::String(component)) => component.clone(),
            _ => {
                let target = self.metadata.target();
                let ours = target == env!("CARGO_CRATE_NAME");
                let module = if target.starts_with(concat!(env!("CARGO_CRATE_NAME"), "::")) {
                    target.rsplit("::").next().unwrap_or(target)
                } else {
                    target.split("::").next().unwrap_or(target)
                };
                if ours { SERVICE.to_owned() } else { module.replace('_', "-") }
            }
        }
    }

    /// All fields but the component: those of the contract first, the others as they came.
    fn rest(&self) -> impl Iterator<Item = (&'static str, &Value)> {
        let known = ORDER.into_iter().filter_map(|name| Some((name, self.fields.get(name)?)));
        let others = self.fields.0.iter().filter(|(name, _)| !ORDER.contains(name)).map(|(name, value)| (*name, value));
        known.chain(others).filter(|(name, _)| *name != "component")
    }
}

/// A request without a tenant or a role says so by an empty value, which tells a person nothing.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        value => value.is_null(),
    }
}

/// A value in a readable line: no control character gets through to the terminal.
fn plain(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        value => value.to_string(),
    };
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("timestamp", &iso(self.at))?;
        map.serialize_entry("level", self.level())?;
        map.serialize_entry("service", SERVICE)?;
        map.serialize_entry("component", &self.component())?;
        for (name, value) in self.rest() {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}
