//! The rules of a schedule, over located nodes: one pass that understands what it can and
//! collects everything that is wrong.

use std::collections::BTreeMap;

use super::cadence;
use super::connection::{connection, exec, keys_of};
use super::effect::{self, Places};
use super::finding::{Finding, Mark, Path, nearest, shown};
use super::moment::{Written, moment};
use super::resources::Named;
use super::running::{Life, Whole};
use super::tree::{Entry, Node, Value};
use crate::core::model::{Connector, MAX_INTERVAL_SEC, ScheduleId, ScheduleSpec};

/// A schedule's keys, in the order in which a fresh file has them.
pub const KEYS: [&str; 23] = [
    "interval_sec",
    "cron",
    "timezone",
    "paused",
    "pause_reason",
    "pause_until",
    "start_at",
    "end_at",
    "jitter_sec",
    "overlap",
    "catch_up",
    "catch_up_window_sec",
    "catch_up_max",
    "retries",
    "retry_backoff_sec",
    "timeout_sec",
    "start_deadline_sec",
    "auto_pause_after",
    "keep_runs",
    "keep_runs_days",
    "connection",
    "resources",
    "labels",
];
const INTERVAL: Whole = Whole {
    bounds: 1..=MAX_INTERVAL_SEC,
    about: "seconds, at least 1 and at most 366 days; use paused: true to stop a schedule",
    example: 300,
};
const MAX_REASON_CHARS: usize = 500;
const MAX_LABEL_KEY_CHARS: usize = 63;
const MAX_LABEL_CHARS: usize = 256;

/// Judges a document's root. The value means nothing when `out` has an error.
pub(super) fn check(id: &ScheduleId, root: &Node<'_>, out: &mut Vec<Finding>) -> ScheduleSpec {
    let mut spec = ScheduleSpec::default();
    let entries = match &root.value {
        Value::Map(entries) => entries,
        Value::Null => {
            out.push(empty());
            return spec;
        }
        _ => {
            let message = format!("a schedule is a mapping of keys to values, not a {}", kind(root));
            let finding = Finding::error(root.at, "not-a-mapping", String::new(), message);
            out.push(finding.hint("begin with e.g. \"interval_sec: 300\""));
            return spec;
        }
    };
    let mut checker = Checker::new(id.connector, out);
    for entry in entries {
        checker.field(entry, &mut spec);
    }
    checker.agree(&mut spec);
    effect::warn(id, &spec, &mut checker);
    *out = checker.out;
    spec
}

/// Judges a defaults file's root by the same rules, but that nothing has to be there.
pub(super) fn check_defaults(connector: Connector, root: &Node<'_>, out: &mut Vec<Finding>) {
    let Value::Map(entries) = &root.value else {
        let message = format!("defaults are a mapping of keys to values, not a {}", kind(root));
        let finding = Finding::error(root.at, "not-a-mapping", String::new(), message);
        return out.push(finding.hint("begin with e.g. \"interval_sec: 300\""));
    };
    let mut checker = Checker::new(connector, out);
    let mut spec = ScheduleSpec::default();
    for entry in entries {
        checker.field(entry, &mut spec);
    }
    checker.one_cadence();
    if let Some(written) = &checker.seen.moment {
        moment("pause_until", written, spec.timezone.as_deref(), &mut checker.out);
    }
    checker.agree_on_runs(&mut spec);
    let of_a_pause = [
        (checker.seen.pause_reason, "unused-pause-reason", "pause_reason"),
        (checker.seen.pause_until, "unused-pause-until", "pause_until"),
    ];
    for (at, code, key) in of_a_pause.into_iter().filter(|_| !spec.paused && !checker.seen.paused_is_bad) {
        let message = format!("{key} is no default without a pause");
        let hint = "remove it, or add \"paused: true\"";
        checker.out.extend(at.map(|at| Finding::error(at, code, format!("/{key}"), message).hint(hint)));
    }
    *out = checker.out;
}

/// The finding for a document without content.
pub(super) fn empty() -> Finding {
    Finding::error(Mark::NONE, "empty", String::new(), "the file is empty")
        .hint("the smallest schedule is \"interval_sec: 300\"; to remove a schedule, delete its file")
}

/// What a node is, as a message says it.
pub(super) fn kind(node: &Node<'_>) -> &'static str {
    match node.value {
        Value::Null => "nothing",
        Value::Bool(_) => "boolean",
        Value::Number { .. } => "number",
        Value::Text { .. } => "text",
        Value::List(_) => "list",
        Value::Map(_) => "mapping",
    }
}

/// Where the keys stand that have to agree with others, whether their values were good or not.
#[derive(Default)]
struct Seen {
    interval_sec: Option<Mark>,
    cron: Option<Mark>,
    timezone: Option<Mark>,
    pause_reason: Option<Mark>,
    pause_until: Option<Mark>,
    moment: Option<Written>,
    connection: Option<Mark>,
    paused_is_bad: bool,
    /// An unknown key that most likely is a misspelt cadence.
    near_cadence: bool,
}

pub(super) struct Checker {
    pub connector: Connector,
    seen: Seen,
    /// The resources that the file names, and where.
    pub named: Vec<Named>,
    pub life: Life,
    pub places: Places,
    pub out: Vec<Finding>,
}

impl Checker {
    /// Goes on with the findings there are already.
    fn new(connector: Connector, out: &mut Vec<Finding>) -> Self {
        let (seen, life, places) = (Seen::default(), Life::default(), Places::default());
        Checker { connector, seen, named: Vec::new(), life, places, out: std::mem::take(out) }
    }

    fn field(&mut self, entry: &Entry<'_>, spec: &mut ScheduleSpec) {
        let (node, path) = (&entry.value, Path::ROOT.key(&entry.key));
        match entry.key.as_ref() {
            "interval_sec" => {
                self.seen.interval_sec = Some(entry.at);
                spec.interval_sec = self.whole(node, &path, &INTERVAL);
            }
            "cron" => {
                self.seen.cron = Some(entry.at);
                spec.cron = self.text(node, &path).and_then(|text| cadence::cron(text, node, &path, &mut self.out));
            }
            "timezone" => {
                self.seen.timezone = Some(entry.at);
                spec.timezone =
                    self.text(node, &path).and_then(|text| cadence::timezone(text, node, &path, &mut self.out));
            }
            "paused" => {
                let paused = self.boolean(node, &path);
                self.seen.paused_is_bad = paused.is_none();
                spec.paused = paused.unwrap_or_default();
            }
            "pause_reason" => {
                self.seen.pause_reason = Some(entry.at);
                spec.pause_reason = self.reason(node, &path);
            }
            "pause_until" => {
                self.seen.pause_until = Some(entry.at);
                let text = self.text(node, &path);
                self.seen.moment = text.map(|text| Written { text: text.to_owned(), at: node.at });
            }
            "connection" => {
                self.seen.connection = Some(entry.at);
                self.connection(entry, &path, spec);
            }
            "resources" => self.named = self.resources(node, &path),
            "labels" => spec.labels = self.labels(node, &path),
            _ if self.run_rule(entry, &path, spec) => {}
            key => {
                self.seen.near_cadence |= matches!(nearest(key, KEYS), Some("interval_sec" | "cron"));
                self.unknown_key(entry, &path, &KEYS);
            }
        }
    }

    /// The rules between fields, and the defaults.
    fn agree(&mut self, spec: &mut ScheduleSpec) {
        self.one_cadence();
        if let (None, None, false) = (self.seen.interval_sec, self.seen.cron, self.seen.near_cadence) {
            self.out.push(
                Finding::error(Mark::NONE, "no-cadence", String::new(), "a schedule needs interval_sec or cron")
                    .hint("add e.g. \"interval_sec: 300\""),
            );
        }
        if let (Some(at), None) = (self.seen.timezone, self.seen.cron) {
            self.out.push(
                Finding::error(at, "timezone-without-cron", "/timezone".to_owned(), "timezone only goes with cron")
                    .hint("remove timezone; an interval has none"),
            );
        }
        if spec.cron.is_some() && spec.timezone.is_none() {
            spec.timezone = Some("UTC".to_owned());
        }
        if let Some(written) = &self.seen.moment {
            spec.pause_until = moment("pause_until", written, spec.timezone.as_deref(), &mut self.out);
        }
        self.agree_on_runs(spec);
        if !spec.paused {
            (spec.pause_reason, spec.pause_until) = (None, None);
            self.unused(self.seen.pause_reason, "unused-pause-reason", "pause_reason");
            self.unused(self.seen.pause_until, "unused-pause-until", "pause_until");
        }
        if self.connector == Connector::Exec {
            let at = self.seen.connection.unwrap_or(Mark::NONE);
            exec::agree(self, spec.connection.as_ref(), at);
        }
        self.agree_on_resources(spec);
    }

    /// A key that says more of a pause while there is none.
    fn unused(&mut self, at: Option<Mark>, code: &'static str, key: &str) {
        let Some(at) = at.filter(|_| !self.seen.paused_is_bad) else { return };
        let message = format!("{key} has no effect: the schedule is not paused");
        let hint = "remove it, or set \"paused: true\"";
        self.out.push(Finding::error(at, code, format!("/{key}"), message).hint(hint).warning());
    }

    fn one_cadence(&mut self) {
        if let (Some(a), Some(b)) = (self.seen.interval_sec, self.seen.cron) {
            let (at, field) = if a > b { (a, "/interval_sec") } else { (b, "/cron") };
            let message = "a schedule has one of interval_sec and cron, not both";
            self.out.push(
                Finding::error(at, "two-cadences", field.to_owned(), message)
                    .hint("remove the one that should not apply"),
            );
        }
    }

    fn boolean(&mut self, node: &Node<'_>, path: &Path<'_>) -> Option<bool> {
        match &node.value {
            Value::Bool(yes) => return Some(*yes),
            Value::Text { text, .. } => {
                let hint = match text.to_ascii_lowercase().as_str() {
                    "yes" | "on" | "y" | "true" => "write true, without quotes",
                    "no" | "off" | "n" | "false" => "write false, without quotes",
                    _ => "write true or false",
                };
                let found = format!("the text \"{}\"", shown(text));
                self.wrong_type(node, path, "true or false", &found, Some(hint.to_owned()));
            }
            _ => self.mismatch(node, path, "true or false", "write true or false"),
        }
        None
    }

    /// A text; a plain scalar that YAML takes for something else is reported with the quotes to add.
    pub fn text<'n>(&mut self, node: &'n Node<'_>, path: &Path<'_>) -> Option<&'n str> {
        match &node.value {
            Value::Text { text, .. } => return Some(text),
            Value::Number { raw, .. } => {
                let hint = format!("put it in quotes: \"{}\"", shown(raw));
                self.wrong_type(node, path, "a text", &format!("the number {}", shown(raw)), Some(hint));
            }
            Value::Bool(yes) => {
                self.wrong_type(node, path, "a text", "a boolean", Some(format!("put it in quotes: \"{yes}\"")));
            }
            _ => self.mismatch(node, path, "a text", "write a text"),
        }
        None
    }

    /// As `text`, but repeats nothing of what it found.
    pub fn secret_name<'n>(&mut self, node: &'n Node<'_>, path: &Path<'_>) -> Option<&'n str> {
        match &node.value {
            Value::Text { text, .. } => Some(text),
            _ => {
                self.mismatch(node, path, "a name", "write the name as a text");
                None
            }
        }
    }

    fn reason(&mut self, node: &Node<'_>, path: &Path<'_>) -> Option<String> {
        let text = self.text(node, path)?;
        let chars = text.chars().count();
        let fault = if chars > MAX_REASON_CHARS {
            Some(format!("pause_reason has {chars} characters; the most is {MAX_REASON_CHARS}"))
        } else if text.trim().is_empty() {
            Some("pause_reason is empty".to_owned())
        } else if text.contains(|c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r')) {
            Some("pause_reason contains a control character".to_owned())
        } else {
            None
        };
        match fault {
            None => Some(text.trim().to_owned()),
            Some(message) => {
                let finding = Finding::error(node.at, "out-of-range", path.pointer(), message);
                self.out.push(finding.hint("say in a sentence why it is paused, or remove the key"));
                None
            }
        }
    }

    fn connection(&mut self, entry: &Entry<'_>, path: &Path<'_>, spec: &mut ScheduleSpec) {
        let node = &entry.value;
        let entries = match &node.value {
            Value::Null => return,
            Value::Map(entries) if entries.is_empty() => return,
            Value::Map(entries) => entries,
            _ => {
                let keys = keys_of(self.connector);
                let hint = format!("put {} below it", keys.join(", "));
                return self.mismatch(node, path, "a mapping", if keys.is_empty() { "remove it" } else { &hint });
            }
        };
        if keys_of(self.connector).is_empty() {
            return self.not_for_connector(entry.at, path, "connection");
        }
        spec.connection = Some(connection(self, self.connector, entries, path)).filter(|c| *c != Default::default());
    }

    pub fn not_for_connector(&mut self, at: Mark, path: &Path<'_>, key: &str) {
        let message = format!("the {} connector takes no {key}", self.connector);
        self.out.push(Finding::error(at, "not-for-connector", path.pointer(), message).hint(format!("remove {key}")));
    }

    fn labels(&mut self, node: &Node<'_>, path: &Path<'_>) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::new();
        let entries = match &node.value {
            Value::Null => return labels,
            Value::Map(entries) => entries,
            _ => {
                self.mismatch(node, path, "a mapping", "write e.g. { region: west }");
                return labels;
            }
        };
        for entry in entries {
            let path = path.key(&entry.key);
            let good = (1..=MAX_LABEL_KEY_CHARS).contains(&entry.key.len())
                && entry.key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'/' | b'-'));
            if !good {
                let message = format!("\"{}\" is not a label's name", shown(&entry.key));
                let hint = "1 to 63 characters of a-z, A-Z, 0-9, '.', '_', '/' and '-'";
                self.out.push(Finding::error(entry.at, "bad-label", path.pointer(), message).hint(hint));
            }
            let Some(text) = self.text(&entry.value, &path) else { continue };
            let chars = if text.len() > MAX_LABEL_CHARS { text.chars().count() } else { 0 };
            if chars > MAX_LABEL_CHARS {
                let message = format!("this label has {chars} characters; the most is {MAX_LABEL_CHARS}");
                let finding = Finding::error(entry.value.at, "bad-label", path.pointer(), message);
                self.out.push(finding.hint("shorten it"));
            } else if text.contains(char::is_control) {
                let message = "this label contains a control character";
                let finding = Finding::error(entry.value.at, "bad-label", path.pointer(), message);
                self.out.push(finding.hint("write it on one line, without escapes"));
            } else if good {
                labels.insert(entry.key.as_ref().to_owned(), text.to_owned());
            }
        }
        labels
    }

    pub fn unknown_key(&mut self, entry: &Entry<'_>, path: &Path<'_>, known: &[&'static str]) {
        let message = format!("unknown key \"{}\"", shown(&entry.key));
        let hint = match nearest(&entry.key, known.iter().copied()) {
            Some(name) => format!("did you mean \"{name}\"?"),
            None => format!("there are: {}", known.join(", ")),
        };
        self.out.push(Finding::error(entry.at, "unknown-key", path.pointer(), message).hint(hint));
    }

    pub fn wrong_type(&mut self, node: &Node<'_>, path: &Path<'_>, wanted: &str, found: &str, hint: Option<String>) {
        let message = format!("{} has to be {wanted}, not {found}", shown(path.name()));
        let mut finding = Finding::error(node.at, "wrong-type", path.pointer(), message);
        finding.hint = hint;
        self.out.push(finding);
    }

    pub fn no_value(&mut self, node: &Node<'_>, path: &Path<'_>) {
        let message = format!("{} has no value", shown(path.name()));
        let finding = Finding::error(node.at, "no-value", path.pointer(), message);
        self.out.push(finding.hint("give a value, or remove the key"));
    }

    pub fn mismatch(&mut self, node: &Node<'_>, path: &Path<'_>, wanted: &str, hint: &str) {
        match node.value {
            Value::Null => self.no_value(node, path),
            _ => self.wrong_type(node, path, wanted, &format!("a {}", kind(node)), Some(hint.to_owned())),
        }
    }
}
