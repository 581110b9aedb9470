//! Changes written back into a person's file: only what must change changes, or nothing does.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde_json::{Map, Value as Json};
use yaml_edit::{Document, Mapping};

use super::check::KEYS;
use super::finding::{Finding, Mark};
use super::merge::merged;
use super::parse;
use super::render::{self, Quotes};
use super::tree::{self, Entry, Node, Value};
use super::verify::verify;
use crate::core::model::ScheduleId;

/// Why a file cannot be edited safely. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}{} cannot be edited safely: {obstacle}", .line.map(|n| format!(":{n}")).unwrap_or_default())]
pub struct EditError {
    /// Relative to the desired directory.
    pub file: String,
    /// The line of what is in the way, from 1, if it is known.
    pub line: Option<u32>,
    pub obstacle: Obstacle,
    /// The change to make by hand, as YAML.
    pub suggestion: String,
}

/// What in a file is in the way of an edit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// It is no document that this program reads: code and message of the first diagnostic.
    Unreadable { code: &'static str, message: String },
    /// It is no mapping of keys to values.
    NotAMapping,
    /// An anchor or alias shares a value that would have to change.
    SharedValue,
    /// The way it is written: the edit would have touched more than it should.
    Layout,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Obstacle::Unreadable { message, .. } => f.write_str(message),
            Obstacle::NotAMapping => f.write_str("it is not a mapping of keys to values"),
            Obstacle::SharedValue => f.write_str("an anchor or alias shares a value that has to change"),
            Obstacle::Layout => f.write_str("its layout does not allow the change without touching other lines"),
        }
    }
}

/// Merges `patch` into the document as [`merged`] does, and gives back the file's new bytes.
///
/// Comments, order, quotes, anchors, line ends and the byte order mark stay. The result has been
/// read again and says exactly what was intended, and every line that was not concerned is the
/// same. A patch that changes nothing gives the same bytes. The rules of schedules are not checked
/// here: see [`check_value`](super::check_value).
///
/// # Errors
/// When that cannot be had, with what is in the way and the change to make by hand.
pub fn edit(id: &ScheduleId, bytes: &[u8], patch: &Map<String, Json>) -> Result<Vec<u8>, EditError> {
    let unreadable = |finding: Finding| EditError {
        file: id.file(),
        line: Some(finding.at.line).filter(|line| *line > 0),
        obstacle: Obstacle::Unreadable { code: finding.code, message: finding.message },
        suggestion: suggestion(&Json::Null, &merged(&Json::Null, patch)),
    };
    let text = parse::text(bytes).map_err(unreadable)?;
    let mut loaded = tree::load(text);
    if !loaded.findings.is_empty() {
        return Err(unreadable(loaded.findings.swap_remove(0)));
    }
    let before = loaded
        .root
        .as_ref()
        .map(Node::to_json)
        .filter(|root| !root.is_null())
        .unwrap_or_else(|| Json::Object(Map::new()));
    let target = merged(&before, patch);
    if before == target {
        return Ok(bytes.to_vec());
    }
    let refuse = |obstacle: Obstacle, at: Option<Mark>| EditError {
        file: id.file(),
        line: at.map(|mark| mark.line).filter(|line| *line > 0),
        obstacle,
        suggestion: suggestion(&before, &target),
    };
    let Json::Object(wanted) = &target else { return Err(refuse(Obstacle::NotAMapping, None)) };
    let after = match &loaded.root {
        None | Some(Node { value: Value::Null, .. }) => Some(appended(text, wanted)),
        Some(Node { value: Value::Map(entries), .. }) => changed(text, entries, wanted),
        Some(root) => return Err(refuse(Obstacle::NotAMapping, Some(root.at))),
    };
    let proven = |after: &&str| verify(text, loaded.root.as_ref(), after, &target);
    match after.as_deref().and_then(|after| endings(text, after).find(proven)) {
        Some(after) => Ok(after.as_bytes().to_vec()),
        None if loaded.shared_at.is_some() => Err(refuse(Obstacle::SharedValue, loaded.shared_at)),
        None => Err(refuse(Obstacle::Layout, None)),
    }
}

/// The keys that differ, as a person would write them; no literal secret among them.
fn suggestion(before: &Json, target: &Json) -> String {
    let empty = Map::new();
    let (before, mut target) = (before.as_object().unwrap_or(&empty), target.as_object().cloned().unwrap_or_default());
    if let Some(Json::Object(connection)) = target.get_mut("connection") {
        let reference = |key: &Json| key.as_object().is_some_and(render::is_reference);
        for name in ["api_key", "webhook_token"] {
            if connection.get(name).is_some_and(|key| !reference(key)) {
                connection.insert(name.into(), serde_json::json!({ "env": "CC_SECRET_NAME" }));
            }
        }
        if let Some(auth) = connection.get_mut("auth") {
            without_literals(auth);
        }
        if connection.get("base_url").and_then(Json::as_str).is_some_and(|url| url.contains('@')) {
            connection.insert("base_url".into(), serde_json::json!("https://HOST/PATH"));
        }
    }
    let mut text = String::new();
    for (key, value) in render::in_order(&target).filter(|(key, value)| before.get(*key) != Some(value)) {
        text.push_str(&render::entry(key, value, 0));
    }
    for key in before.keys().filter(|key| !target.contains_key(*key)) {
        text.push_str(&format!("# remove the key {}\n", render::quoted(key, Quotes::AsNeeded)));
    }
    text
}

/// Puts a reference where a text stands that may be a secret: all but what only names something.
fn without_literals(auth: &mut Json) {
    let Json::Object(map) = auth else { return *auth = serde_json::json!({ "env": "CC_SECRET_NAME" }) };
    for (key, value) in map.iter_mut().filter(|(_, value)| !value.as_object().is_some_and(render::is_reference)) {
        match key.as_str() {
            "name" | "user" | "prefix" | "client_id" | "scope" | "audience" => {}
            "token_url" if value.as_str().is_some_and(|url| !url.contains('@')) => {}
            _ => without_literals(value),
        }
    }
}

fn newline(text: &str) -> &'static str {
    if text.contains("\r\n") { "\r\n" } else { "\n" }
}

/// A file of blanks and comments with the keys added below them.
fn appended(text: &str, wanted: &Map<String, Json>) -> String {
    let end = newline(text);
    let body = render::block(wanted, 0).replace('\n', end);
    let bare = text.trim_start_matches('\u{feff}');
    let gap = if bare.is_empty() || bare.ends_with('\n') { "" } else { end };
    format!("{text}{gap}{body}")
}

/// The text as it may end: without a final line break if it had none, unless the line that lacked it went.
fn endings<'a>(before: &str, after: &'a str) -> impl Iterator<Item = &'a str> {
    let unfinished = !before.is_empty() && !before.ends_with('\n');
    let bare = after.strip_suffix("\r\n").or_else(|| after.strip_suffix('\n'));
    bare.filter(|_| unfinished).into_iter().chain([after])
}

/// The edited text with a final line break, not yet verified; `None` when the editor cannot read or write it.
fn changed(text: &str, entries: &[Entry<'_>], wanted: &Map<String, Json>) -> Option<String> {
    // Without a final line break the editor may take the one before with a removed last key.
    let end = newline(text);
    let unfinished = !text.ends_with('\n');
    // The byte order mark would go with a removed first key.
    let (mark, body) = text.split_at(text.len() - text.trim_start_matches('\u{feff}').len());
    let finished = if unfinished { format!("{body}{end}") } else { body.to_owned() };
    let document = Document::from_str(&finished).ok()?;
    let editor = Editor { text, newline: end };
    editor.apply(&document.as_mapping()?, entries, wanted, true)?;
    Some(format!("{mark}{document}"))
}

struct Editor<'a> {
    text: &'a str,
    newline: &'static str,
}

impl Editor<'_> {
    /// Makes one mapping say what is wanted. `None` when a step finds nothing to act on.
    fn apply(&self, map: &Mapping, entries: &[Entry<'_>], wanted: &Map<String, Json>, root: bool) -> Option<()> {
        let renamed = if root { self.displace(map, entries, wanted)? } else { None };
        for entry in entries {
            let Some(value) = wanted.get(entry.key.as_ref()) else {
                if renamed != Some(entry.key.as_ref()) {
                    map.remove(self.key(entry)?)?;
                }
                continue;
            };
            if entry.value.to_json() != *value {
                self.replace(map, entry, value)?;
            }
        }
        let mut order: Vec<String> = entries
            .iter()
            .filter(|entry| wanted.contains_key(entry.key.as_ref()))
            .map(|entry| entry.key.as_ref().to_owned())
            .collect();
        if let Some(name) = renamed {
            order.push(other_cadence(name).to_owned());
        }
        let there: BTreeSet<String> = order.iter().cloned().collect();
        for (key, value) in render::in_order(wanted).filter(|(key, _)| !there.contains(*key)) {
            self.insert(map, entries, &order, key, value)?;
            order.push(key.clone());
        }
        Some(())
    }

    /// Lets `cron` take the place of `interval_sec` or the other way round, so that the line keeps
    /// its place and comment. Gives the name that went.
    fn displace<'n>(
        &self,
        map: &Mapping,
        entries: &[Entry<'n>],
        wanted: &Map<String, Json>,
    ) -> Option<Option<&'static str>> {
        for name in ["interval_sec", "cron"] {
            let other = other_cadence(name);
            let had = entries.iter().find(|entry| entry.key == name);
            let has_other = entries.iter().any(|entry| entry.key == other);
            if let (Some(entry), Some(value)) = (had, wanted.get(other))
                && !has_other
                && !wanted.contains_key(name)
                && is_scalar(&entry.value)
            {
                map.rename_key(self.key(entry)?, other).then_some(())?;
                map.set(other, self.value(value, map, self.quotes(&entry.value))?);
                return Some(Some(name));
            }
        }
        Some(None)
    }

    fn replace(&self, map: &Mapping, entry: &Entry<'_>, value: &Json) -> Option<()> {
        let key = self.key(entry)?;
        match (&entry.value.value, value) {
            (Value::Map(inner), Json::Object(wanted)) if !inner.is_empty() && !self.is_alias(&entry.value) => {
                self.apply(&map.get_mapping(&key)?, inner, wanted, false)
            }
            (Value::List(items), Json::Array(wanted)) if !wanted.is_empty() && !self.is_alias(&entry.value) => {
                self.replace_items(map, &key, items, wanted)
            }
            _ => {
                map.set(&key, self.value(value, map, self.quotes(&entry.value))?);
                Some(())
            }
        }
    }

    /// Takes single items out of a list or adds to its end, so that the others stay as they are;
    /// any other change writes the list anew.
    fn replace_items(&self, map: &Mapping, key: &Document, items: &[Node<'_>], wanted: &[Json]) -> Option<()> {
        let had: Vec<Json> = items.iter().map(Node::to_json).collect();
        let list = map.get_sequence(key)?;
        if let Some(added) = wanted.strip_prefix(had.as_slice()) {
            for item in added {
                list.push(Document::from_str(&render::flow(item)).ok()?);
            }
            return Some(());
        }
        let mut rest = wanted.iter().peekable();
        let kept: Vec<bool> = had.iter().map(|item| rest.next_if(|next| *next == item).is_some()).collect();
        if rest.peek().is_none() {
            for index in (0..kept.len()).rev().filter(|index| kept.get(*index) == Some(&false)) {
                list.remove(index)?;
            }
            return Some(());
        }
        map.set(key, Document::from_str(&render::flow(&Json::Array(wanted.to_vec()))).ok()?);
        Some(())
    }

    /// Adds a key behind the one it belongs to, else behind the last.
    fn insert(&self, map: &Mapping, entries: &[Entry<'_>], order: &[String], key: &str, value: &Json) -> Option<()> {
        let name = Document::from_str(&render::quoted(key, Quotes::AsNeeded)).ok()?;
        let value = self.value(value, map, Quotes::AsNeeded)?;
        let partner = match key {
            "timezone" => "cron",
            "pause_until" if order.iter().any(|known| known == "pause_reason") => "pause_reason",
            "pause_reason" | "pause_until" => "paused",
            "api_key" => "base_url",
            "webhook_token" => "api_key",
            _ => "",
        };
        let Some(neighbour) = order.iter().find(|known| *known == partner).or_else(|| last(entries, order)) else {
            map.set(name, value);
            return Some(());
        };
        let neighbour = match entries.iter().find(|entry| entry.key == neighbour.as_str()) {
            Some(entry) => self.key(entry)?,
            None => Document::from_str(&render::quoted(neighbour, Quotes::AsNeeded)).ok()?,
        };
        map.insert_after(neighbour, name, value).then_some(())
    }

    /// A key as it is written, so that the editor finds it whatever its type.
    fn key(&self, entry: &Entry<'_>) -> Option<Document> {
        Document::from_str(self.text.get(entry.span.clone())?).ok()
    }

    fn value(&self, value: &Json, map: &Mapping, quotes: Quotes) -> Option<Document> {
        let text = match value {
            Json::String(text) => render::quoted(text, quotes),
            Json::Object(inner) if !inner.is_empty() && !map.is_flow_style() && is_deep(value) => {
                render::block(inner, 0).replace('\n', self.newline)
            }
            _ => render::flow(value),
        };
        Document::from_str(&text).ok()
    }

    fn quotes(&self, node: &Node<'_>) -> Quotes {
        match self.text.as_bytes().get(node.span.start) {
            Some(b'"') => Quotes::Double,
            Some(b'\'') => Quotes::Single,
            _ => Quotes::AsNeeded,
        }
    }

    fn is_alias(&self, node: &Node<'_>) -> bool {
        self.text.as_bytes().get(node.span.start) == Some(&b'*')
    }
}

/// Whether a mapping is written over several lines: all but a reference to a secret.
fn is_deep(value: &Json) -> bool {
    render::entry("", value, 0).lines().count() > 1
}

/// The last key as the text has it, or the last one added.
fn last<'o>(entries: &[Entry<'_>], order: &'o [String]) -> Option<&'o String> {
    let added = order.last().filter(|key| !entries.iter().any(|entry| entry.key == key.as_str()));
    let is_cadence = |key: &&String| matches!(key.as_str(), "interval_sec" | "cron");
    added.filter(|key| !is_cadence(key)).or_else(|| {
        let kept = entries.iter().rev().find_map(|entry| order.iter().find(|key| entry.key == key.as_str()));
        kept.or_else(|| order.last())
    })
}

fn is_scalar(node: &Node<'_>) -> bool {
    !matches!(node.value, Value::List(_) | Value::Map(_))
}

fn other_cadence(name: &str) -> &'static str {
    let [interval, cron, ..] = KEYS;
    if name == interval { cron } else { interval }
}
