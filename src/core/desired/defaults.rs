//! Defaults: values for what schedules' files leave out, from one file for the whole fleet and one
//! for each connector. The nearer wins key by key, and a file is laid over what they come to.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use super::check::{KEYS, check_defaults};
use super::connection;
use super::finding::{Finding, Mark};
use super::parse::{diagnostics, text};
use super::tree::{self, Entry, Loaded, Node, Value};
use super::{Diagnostic, Severity};
use crate::core::model::{Connector, Digest, ScheduleId};

/// Keys whose values merge entry by entry; all others are replaced whole.
const MAPS: [&str; 2] = ["connection", "labels"];
const CADENCE: [&str; 2] = ["interval_sec", "cron"];

/// A file that gives defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DefaultsFile {
    /// `defaults.yaml`
    Fleet,
    /// `schedules/CONNECTOR/_defaults.yaml`
    Of(Connector),
}

impl DefaultsFile {
    /// The farthest first.
    pub fn all() -> impl Iterator<Item = DefaultsFile> {
        std::iter::once(DefaultsFile::Fleet).chain(Connector::ALL.into_iter().map(DefaultsFile::Of))
    }

    /// The connector of which the fleet's `connection` and `resources` speak; others have files of their own.
    const FLEETS_SOURCES: Connector = Connector::Acculynx;
    pub const FLEETS_NAME: &'static str = "defaults.yaml";
    pub const CONNECTORS_NAME: &'static str = "_defaults.yaml";

    /// What the file is called in its folder.
    pub fn name(self) -> &'static str {
        match self {
            DefaultsFile::Fleet => Self::FLEETS_NAME,
            DefaultsFile::Of(_) => Self::CONNECTORS_NAME,
        }
    }

    /// Relative to the desired directory, with forward slashes.
    pub fn path(self) -> String {
        match self {
            DefaultsFile::Fleet => self.name().to_owned(),
            DefaultsFile::Of(connector) => format!("schedules/{connector}/{}", self.name()),
        }
    }

    /// The file of this path, if it is one that gives defaults.
    pub fn at(path: &str) -> Option<DefaultsFile> {
        DefaultsFile::all().find(|file| file.path() == path)
    }

    /// Whether it says something about this connector's schedules.
    pub fn governs(self, connector: Connector) -> bool {
        match self {
            DefaultsFile::Fleet => true,
            DefaultsFile::Of(own) => own == connector,
        }
    }
}

/// What one valid defaults file says.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    pub file: DefaultsFile,
    /// As written: a `null` takes a farther default away.
    values: Map<String, Json>,
    /// Where each value stands, by its dotted name.
    lines: BTreeMap<String, u32>,
}

impl Layer {
    /// The values by dotted name, `null` where a farther default is taken away.
    pub fn fields(&self) -> BTreeMap<String, Json> {
        flat(&self.values)
    }
}

/// A defaults file's meaning, and what is to be said about it.
#[derive(Clone, Debug)]
pub struct ParsedDefaults {
    /// `None` exactly when a diagnostic is an error.
    pub layer: Option<Layer>,
    pub diagnostics: Vec<Diagnostic>,
}

/// Reads a defaults file by the rules of schedules' files, but that nothing has to be there.
pub fn parse_defaults(file: DefaultsFile, bytes: &[u8]) -> ParsedDefaults {
    let mut findings = Vec::new();
    let layer = read(file, bytes, &mut findings);
    let failed = findings.iter().any(|finding| finding.severity == Severity::Error);
    ParsedDefaults { layer: layer.filter(|_| !failed), diagnostics: diagnostics(findings, &file.path()) }
}

fn read(file: DefaultsFile, bytes: &[u8], findings: &mut Vec<Finding>) -> Option<Layer> {
    let text = text(bytes).map_err(|finding| findings.push(finding)).ok()?;
    let Loaded { root, findings: found, .. } = tree::load(text);
    *findings = found;
    let root = match root {
        Some(Node { value: Value::Null, .. }) | None => {
            if findings.is_empty() {
                findings.push(
                    Finding::error(Mark::NONE, "empty", String::new(), "the file is empty")
                        .hint("write {} for no defaults, or delete the file"),
                );
            }
            return None;
        }
        Some(root) => root,
    };
    let values = match root.to_json() {
        Json::Object(values) => values,
        _ => Map::new(),
    };
    let mut lines = BTreeMap::new();
    note_lines(&root, &mut lines);
    match file {
        // Nothing is farther than the fleet's, so that a `null` there is a value forgotten.
        DefaultsFile::Fleet => check_defaults(DefaultsFile::FLEETS_SOURCES, &root, findings),
        DefaultsFile::Of(connector) => check_defaults(connector, &without_nulls(root), findings),
    }
    Some(Layer { file, values, lines })
}

/// Leaves out what only takes a farther default away; unknown keys stay to be reported.
fn without_nulls(mut root: Node<'_>) -> Node<'_> {
    let Value::Map(entries) = &mut root.value else { return root };
    entries.retain(|entry| !is_null(&entry.value) || !KEYS.contains(&entry.key.as_ref()));
    for entry in entries.iter_mut().filter(|entry| MAPS.contains(&entry.key.as_ref())) {
        let is_known = |key: &str| entry.key != "connection" || connection::is_known(key);
        if let Value::Map(inner) = &mut entry.value.value {
            inner.retain(|field| !is_null(&field.value) || !is_known(&field.key));
        }
    }
    root
}

fn is_null(node: &Node<'_>) -> bool {
    matches!(node.value, Value::Null)
}

/// Where the values of a document stand, by dotted name.
fn note_lines(root: &Node<'_>, lines: &mut BTreeMap<String, u32>) {
    let Value::Map(entries) = &root.value else { return };
    for entry in entries {
        match &entry.value.value {
            Value::Map(inner) if MAPS.contains(&entry.key.as_ref()) => {
                lines.extend(inner.iter().map(|field| (format!("{}.{}", entry.key, field.key), field.at.line)));
            }
            _ => {
                lines.insert(entry.key.as_ref().to_owned(), entry.at.line);
            }
        }
    }
}

fn flat(values: &Map<String, Json>) -> BTreeMap<String, Json> {
    let mut fields = BTreeMap::new();
    for (key, value) in values {
        match value {
            Json::Object(inner) if MAPS.contains(&key.as_str()) => {
                fields.extend(inner.iter().map(|(name, value)| (format!("{key}.{name}"), value.clone())));
            }
            _ => {
                fields.insert(key.clone(), value.clone());
            }
        }
    }
    fields
}

/// What all defaults files together come to, worked out once for each connector.
#[derive(Clone, Debug, Default)]
pub struct Defaults {
    layers: Vec<Layer>,
    bases: BTreeMap<Connector, Base>,
}

/// What a connector's schedules are laid over; never empty.
#[derive(Clone, Debug)]
struct Base {
    values: Map<String, Json>,
    digest: Digest,
}

impl Defaults {
    /// No defaults but the program's own.
    pub const NONE: &'static Defaults = &Defaults { layers: Vec::new(), bases: BTreeMap::new() };

    pub fn new(mut layers: Vec<Layer>) -> Defaults {
        layers.sort_by_key(|layer| layer.file);
        let base = |connector: Connector| {
            let mut values = Map::new();
            for layer in layers.iter().filter(|layer| layer.file.governs(connector)) {
                overlay(&mut values, &layer.values);
                if layer.file == DefaultsFile::Fleet && connector != DefaultsFile::FLEETS_SOURCES {
                    // What the fleet's say of sources is not for connectors with other sources, or none.
                    values.retain(|key, _| !matches!(key.as_str(), "connection" | "resources"));
                }
            }
            let canonical = serde_json_canonicalizer::to_vec(&values).unwrap_or_default();
            (!values.is_empty()).then(|| (connector, Base { digest: Digest::of(&canonical), values }))
        };
        let bases = Connector::ALL.into_iter().filter_map(base).collect();
        Defaults { layers, bases }
    }

    /// The files that were read, the farthest first.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// What a schedule's value comes from: its file's digest and that of the defaults below it, in
    /// one. Without defaults it is the file's.
    pub fn basis(&self, connector: Connector, file: Digest) -> Digest {
        let Some(base) = self.bases.get(&connector) else { return file };
        let mut basis = file;
        basis.0.iter_mut().zip(base.digest.0).for_each(|(byte, more)| *byte ^= more);
        basis
    }

    /// Names what a connector's schedules get; `None` when that is nothing.
    pub fn digest(&self, connector: Connector) -> Option<Digest> {
        self.bases.get(&connector).map(|base| base.digest)
    }

    /// The default of a key for a connector's schedules.
    pub fn value(&self, connector: Connector, key: &str) -> Option<&Json> {
        self.bases.get(&connector)?.values.get(key)
    }

    /// A schedule's document with what it leaves out. What comes from a default has no place in it.
    pub(super) fn under<'t>(&'t self, connector: Connector, mut root: Node<'t>) -> Node<'t> {
        if let (Some(base), Value::Map(entries)) = (self.bases.get(&connector), &mut root.value) {
            lay_under(entries, &base.values);
        }
        root
    }
}

/// The farther values with the nearer ones over them.
fn overlay(values: &mut Map<String, Json>, nearer: &Map<String, Json>) {
    let sets = |key: &str| nearer.get(key).is_some_and(|value| !value.is_null());
    if CADENCE.into_iter().any(sets) {
        values.retain(|key, _| !CADENCE.contains(&key.as_str()));
    }
    if nearer.get("paused").is_some_and(|paused| *paused != Json::Bool(true)) {
        values.retain(|key, _| !belongs_to_a_pause(key));
    }
    for (key, value) in nearer {
        match value {
            Json::Null => drop(values.remove(key)),
            Json::Object(inner) if MAPS.contains(&key.as_str()) => {
                let slot = values.entry(key.clone()).or_insert_with(|| Json::Object(Map::new()));
                if let Json::Object(fields) = slot {
                    for (name, value) in inner {
                        match value {
                            Json::Null => drop(fields.remove(name)),
                            value => drop(fields.insert(name.clone(), value.clone())),
                        }
                    }
                }
            }
            value => drop(values.insert(key.clone(), value.clone())),
        }
    }
    values.retain(|_, value| value.as_object().is_none_or(|fields| !fields.is_empty()));
}

/// Keys that say more of a pause, and nothing without one.
fn belongs_to_a_pause(key: &str) -> bool {
    key.starts_with("pause_")
}

fn lay_under<'t>(entries: &mut Vec<Entry<'t>>, base: &'t Map<String, Json>) {
    let own: Vec<String> = entries.iter().map(|entry| entry.key.as_ref().to_owned()).collect();
    let is_own = |key: &str| own.iter().any(|own| own == key);
    // A null that takes a default away has done so by being there.
    entries.retain(|entry| !is_null(&entry.value) || !base.contains_key(entry.key.as_ref()));
    let own_cadence = entries.iter().any(|entry| CADENCE.contains(&entry.key.as_ref()) && !is_null(&entry.value));
    for entry in entries.iter_mut().filter(|entry| MAPS.contains(&entry.key.as_ref())) {
        if let (Value::Map(fields), Some(Json::Object(below))) = (&mut entry.value.value, base.get(entry.key.as_ref()))
        {
            let missing: Vec<_> =
                below.iter().filter(|(key, _)| !fields.iter().any(|own| own.key == key.as_str())).collect();
            fields.retain(|field| !is_null(&field.value) || !below.contains_key(field.key.as_ref()));
            fields.extend(missing.into_iter().map(|(key, value)| from_default(key, value)));
        }
    }
    let depends = |key: &str| key == "timezone" || belongs_to_a_pause(key);
    for (key, value) in base.iter().filter(|(key, _)| !is_own(key) && !depends(key)) {
        if !(own_cadence && CADENCE.contains(&key.as_str())) {
            entries.push(from_default(key, value));
        }
    }
    let has_cron = entries.iter().any(|entry| entry.key == "cron" && !is_null(&entry.value));
    let is_paused = entries.iter().any(|entry| entry.key == "paused" && matches!(entry.value.value, Value::Bool(true)));
    for (key, value) in base.iter().filter(|(key, _)| !is_own(key) && depends(key)) {
        if if key == "timezone" { has_cron } else { is_paused } {
            entries.push(from_default(key, value));
        }
    }
}

fn from_default<'t>(key: &'t str, value: &'t Json) -> Entry<'t> {
    Entry { key: key.into(), at: Mark::NONE, span: 0..0, value: Node::from_json(value) }
}

/// Where a value of a schedule comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The schedule's own file, at this line.
    File(u32),
    Defaults(DefaultsFile, u32),
    BuiltIn,
}

/// What is written where, of one schedule.
pub struct Origins<'d> {
    connector: Connector,
    own: Map<String, Json>,
    lines: BTreeMap<String, u32>,
    defaults: &'d Defaults,
}

impl<'d> Origins<'d> {
    /// Takes the file's bytes as they were parsed; of bytes that are no document, nothing is known.
    pub fn of(id: &ScheduleId, bytes: &[u8], defaults: &'d Defaults) -> Self {
        let mut origins = Origins { connector: id.connector, own: Map::new(), lines: BTreeMap::new(), defaults };
        if let Some(root) = text(bytes).ok().and_then(|text| tree::load(text).root) {
            note_lines(&root, &mut origins.lines);
            if let Json::Object(own) = root.to_json() {
                origins.own = own;
            }
        }
        origins
    }

    /// Where an effective value, by its dotted name, comes from.
    pub fn origin(&self, field: &str) -> Origin {
        let field = merged_name(field);
        let line = |lines: &BTreeMap<String, u32>| lines.get(field).copied().unwrap_or(0);
        match written(&self.own, field) {
            Some(Json::Null) => return Origin::BuiltIn,
            Some(_) => return Origin::File(line(&self.lines)),
            None => {}
        }
        let governing = self.defaults.layers.iter().rev().filter(|layer| layer.file.governs(self.connector));
        for layer in governing {
            match written(&layer.values, field) {
                Some(Json::Null) => return Origin::BuiltIn,
                Some(_) => return Origin::Defaults(layer.file, line(&layer.lines)),
                None => {}
            }
        }
        Origin::BuiltIn
    }
}

/// The part of a field's name down to which documents merge: an entry of `connection` is replaced whole.
fn merged_name(field: &str) -> &str {
    let Some(inner) = field.strip_prefix("connection.") else { return field };
    let key = inner.split('.').next().unwrap_or(inner);
    field.get(.."connection.".len() + key.len()).unwrap_or(field)
}

/// What a document says of a field, by its dotted name.
fn written<'v>(values: &'v Map<String, Json>, field: &str) -> Option<&'v Json> {
    match field.split_once('.').filter(|(map, _)| MAPS.contains(map)) {
        Some((map, name)) => match values.get(map)? {
            Json::Object(fields) => fields.get(name),
            Json::Null => Some(&Json::Null),
            _ => None,
        },
        None => values.get(field),
    }
}
