//! A maintenance window's file: YAML to its value, by rules like those of schedules' files.

use std::collections::BTreeMap;

use super::check::kind;
use super::finding::{Finding, Mark, Path, nearest, shown};
use super::parse::{diagnostics, text};
use super::tree::{self, Entry, Loaded, Node, Value};
use super::{Diagnostic, Severity, cadence, scalar};
use crate::core::model::{Connector, Tenant};
use crate::core::windows::{FOLDER, MAX_DURATION_SEC, Window, WindowSpec};

const KEYS: [&str; 7] = ["cron", "timezone", "duration_sec", "connectors", "labels", "reason", "enabled"];
const MAX_REASON_CHARS: usize = 500;

/// A window file's meaning, and what is to be said about it.
#[derive(Clone, Debug)]
pub struct ParsedWindow {
    /// `None` exactly when a diagnostic is an error.
    pub spec: Option<WindowSpec>,
    pub diagnostics: Vec<Diagnostic>,
}

/// The path of a window's file, relative to the desired directory.
pub fn window_file(name: &str) -> String {
    format!("{FOLDER}/{name}.yaml")
}

/// The name of the window whose file has this path, if it is one: names are as tenants' are.
pub fn window_name(path: &str) -> Option<&str> {
    let name = path.strip_prefix(FOLDER)?.strip_prefix('/')?.strip_suffix(".yaml")?;
    name.parse::<Tenant>().is_ok().then_some(name)
}

/// Reads a window's file. Time and memory are bounded whatever the bytes.
pub fn parse_window(name: &str, bytes: &[u8]) -> ParsedWindow {
    let mut reader = Reader::default();
    let spec = reader.read(name, bytes);
    let failed = reader.out.iter().any(|finding| finding.severity == Severity::Error);
    ParsedWindow { spec: spec.filter(|_| !failed), diagnostics: diagnostics(reader.out, &window_file(name)) }
}

#[derive(Default)]
struct Reader {
    out: Vec<Finding>,
}

impl Reader {
    fn read(&mut self, name: &str, bytes: &[u8]) -> Option<WindowSpec> {
        let text = text(bytes).map_err(|finding| self.out.push(finding)).ok()?;
        let Loaded { root, findings, .. } = tree::load(text);
        self.out = findings;
        const SMALLEST: &str =
            "the smallest window is cron and duration_sec, e.g. cron: \"0 2 * * 0\" and duration_sec: 7200";
        let root = match root {
            Some(Node { value: Value::Null, .. }) | None => {
                if self.out.is_empty() {
                    self.out
                        .push(Finding::error(Mark::NONE, "empty", String::new(), "the file is empty").hint(SMALLEST));
                }
                return None;
            }
            Some(root) => root,
        };
        let Value::Map(entries) = &root.value else {
            let message = format!("a window is a mapping of keys to values, not a {}", kind(&root));
            self.out.push(Finding::error(root.at, "not-a-mapping", String::new(), message).hint(SMALLEST));
            return None;
        };
        let spec = self.spec(entries);
        for key in ["cron", "duration_sec"] {
            if !entries.iter().any(|entry| entry.key == key || nearest(&entry.key, KEYS) == Some(key)) {
                let message = format!("a window needs {key}");
                self.out.push(Finding::error(Mark::NONE, "missing-key", String::new(), message).hint(SMALLEST));
            }
        }
        let clean = self.out.iter().all(|finding| finding.severity != Severity::Error);
        // Any fixed moment serves: what runs into itself there does so everywhere.
        const LOOKED_AT: i64 = 1_767_225_600_000;
        if clean && Window::new(name, spec.clone()).is_some_and(|window| window.is_endless_from(LOOKED_AT)) {
            let at =
                entries.iter().find(|entry| entry.key == "duration_sec").map_or(Mark::NONE, |entry| entry.value.at);
            let message = "this window would never end: it lasts until it begins again";
            let hint = "shorten duration_sec; to stop schedules for good, pause them";
            self.out.push(Finding::error(at, "endless-window", "/duration_sec".to_owned(), message).hint(hint));
        }
        Some(spec)
    }

    fn spec(&mut self, entries: &[Entry<'_>]) -> WindowSpec {
        let mut spec = WindowSpec {
            cron: String::new(),
            timezone: Some("UTC".to_owned()),
            duration_sec: 0,
            connectors: Vec::new(),
            labels: BTreeMap::new(),
            reason: None,
            enabled: true,
        };
        for entry in entries {
            let (node, path) = (&entry.value, Path::ROOT.key(&entry.key));
            match entry.key.as_ref() {
                "cron" => {
                    let cron = self.text(node, &path).and_then(|text| cadence::cron(text, node, &path, &mut self.out));
                    spec.cron = cron.unwrap_or_default();
                }
                "timezone" => {
                    spec.timezone =
                        self.text(node, &path).and_then(|text| cadence::timezone(text, node, &path, &mut self.out));
                }
                "duration_sec" => spec.duration_sec = self.duration(node, &path).unwrap_or_default(),
                "connectors" => spec.connectors = self.connectors(node, &path),
                "labels" => spec.labels = self.labels(node, &path),
                "reason" => spec.reason = self.reason(node, &path),
                "enabled" => match node.value {
                    Value::Bool(yes) => spec.enabled = yes,
                    _ => self.wrong_type(node, &path, "true or false", "write true or false, without quotes"),
                },
                key => {
                    let message = format!("unknown key \"{}\"", shown(key));
                    let hint = match nearest(key, KEYS) {
                        Some(name) => format!("did you mean \"{name}\"?"),
                        None => format!("there are: {}", KEYS.join(", ")),
                    };
                    self.out.push(Finding::error(entry.at, "unknown-key", path.pointer(), message).hint(hint));
                }
            }
        }
        spec
    }

    fn text<'n>(&mut self, node: &'n Node<'_>, path: &Path<'_>) -> Option<&'n str> {
        match &node.value {
            Value::Text { text, .. } => return Some(text),
            Value::Number { raw, .. } => {
                self.wrong_type(node, path, "a text", &format!("put it in quotes: \"{}\"", shown(raw)));
            }
            _ => self.wrong_type(node, path, "a text", "write a text"),
        }
        None
    }

    fn duration(&mut self, node: &Node<'_>, path: &Path<'_>) -> Option<u32> {
        const HINT: &str = "write whole seconds, e.g. 7200 for two hours";
        let Value::Number { number, raw } = &node.value else {
            self.wrong_type(node, path, "a whole number", HINT);
            return None;
        };
        if !scalar::is_ordinary_integer(raw) {
            self.wrong_type(node, path, "a plain whole number", HINT);
            return None;
        }
        let seconds =
            number.as_u64().and_then(|n| u32::try_from(n).ok()).filter(|n| (1..=MAX_DURATION_SEC).contains(n));
        if seconds.is_none() {
            let message = format!("duration_sec is {}, outside 1 to {MAX_DURATION_SEC}", shown(raw));
            let finding = Finding::error(node.at, "out-of-range", path.pointer(), message);
            self.out.push(finding.hint("seconds, at most 31 days; to stop schedules for longer, pause them"));
        }
        seconds
    }

    fn connectors(&mut self, node: &Node<'_>, path: &Path<'_>) -> Vec<Connector> {
        let known = || Connector::ALL.map(Connector::as_str).join(", ");
        let Value::List(items) = &node.value else {
            self.wrong_type(node, path, "a list", &format!("write e.g. [acculynx]; there are: {}", known()));
            return Vec::new();
        };
        if items.is_empty() {
            let finding = Finding::error(node.at, "no-value", path.pointer(), "connectors names none");
            self.out.push(finding.hint("name one, or leave the key out for all"));
        }
        let mut found = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let index = index.to_string();
            let path = path.key(&index);
            let Some(text) = self.text(item, &path) else { continue };
            match text.parse::<Connector>() {
                Ok(connector) if found.contains(&connector) => {}
                Ok(connector) => found.push(connector),
                Err(_) => {
                    let message = format!("unknown connector \"{}\"", shown(text));
                    let finding = Finding::error(item.at, "unknown-connector", path.pointer(), message);
                    self.out.push(finding.hint(format!("there are: {}", known())));
                }
            }
        }
        found.sort_unstable();
        found
    }

    fn labels(&mut self, node: &Node<'_>, path: &Path<'_>) -> BTreeMap<String, String> {
        let Value::Map(entries) = &node.value else {
            self.wrong_type(node, path, "a mapping", "write e.g. { region: west }, or leave the key out for all");
            return BTreeMap::new();
        };
        if entries.is_empty() {
            let finding = Finding::error(node.at, "no-value", path.pointer(), "labels names none");
            self.out.push(finding.hint("name one, or leave the key out for all"));
        }
        let mut labels = BTreeMap::new();
        for entry in entries {
            let path = path.key(&entry.key);
            let value = self.text(&entry.value, &path).map(str::to_owned);
            labels.extend(value.map(|value| (entry.key.as_ref().to_owned(), value)));
        }
        labels
    }

    fn reason(&mut self, node: &Node<'_>, path: &Path<'_>) -> Option<String> {
        let text = self.text(node, path)?.trim();
        let is_odd = |c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r');
        if text.is_empty() || text.chars().count() > MAX_REASON_CHARS || text.contains(is_odd) {
            let message = format!("reason has to be a text of 1 to {MAX_REASON_CHARS} characters");
            let finding = Finding::error(node.at, "out-of-range", path.pointer(), message);
            self.out.push(finding.hint("say in a sentence what the window is for, or remove the key"));
            return None;
        }
        Some(text.to_owned())
    }

    fn wrong_type(&mut self, node: &Node<'_>, path: &Path<'_>, wanted: &str, hint: &str) {
        let (code, message) = match node.value {
            Value::Null => ("no-value", format!("{} has no value", shown(path.name()))),
            _ => ("wrong-type", format!("{} has to be {wanted}, not a {}", shown(path.name()), kind(node))),
        };
        self.out.push(Finding::error(node.at, code, path.pointer(), message).hint(hint));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> String {
        let parsed = parse_window("night", text.as_bytes());
        let found = parsed.diagnostics.iter().map(|d| {
            assert_eq!(d.file, "windows/night.yaml");
            assert!(d.hint.is_some(), "{}", d.message);
            format!("{}:{} {} {}", d.line, d.column, d.code, d.message)
        });
        let found: Vec<String> = found.collect();
        assert_eq!(parsed.spec.is_some(), found.is_empty());
        found.join("\n")
    }

    #[test]
    fn a_good_file_is_understood() {
        let text = "cron: '0 2  * * 0'\ntimezone: America/Denver\nduration_sec: 7200\nconnectors: [noop, acculynx, noop]\n\
                    labels: {region: west}\nreason: ' upkeep '\nenabled: false\n";
        let spec = parse_window("night", text.as_bytes()).spec.unwrap();
        let value = serde_json::to_value(&spec).unwrap();
        assert_eq!(
            value,
            serde_json::json!({
                "cron": "0 2 * * 0", "timezone": "America/Denver", "duration_sec": 7200, "connectors": ["acculynx", "noop"],
                "labels": {"region": "west"}, "reason": "upkeep", "enabled": false
            })
        );
        let smallest = parse_window("a", b"cron: 0 2 * * *\nduration_sec: 60").spec.unwrap();
        assert_eq!((smallest.timezone.as_deref(), smallest.enabled), (Some("UTC"), true));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        assert_eq!(check(""), "0:0 empty the file is empty");
        assert_eq!(check("[1]"), "1:1 not-a-mapping a window is a mapping of keys to values, not a list");
        assert_eq!(check("cron: 0 2 * * *"), "0:0 missing-key a window needs duration_sec");
        assert_eq!(check("cron: 0 2 * *\nduration_sec: 60"), "1:7 bad-cron cron has 4 fields, not five");
        assert_eq!(
            check("cron: 0 2 * * *\nduration_sec: 1h"),
            "2:15 wrong-type duration_sec has to be a whole number, not a text"
        );
        assert_eq!(
            check("cron: 0 2 * * *\nduration_sec: 0"),
            "2:15 out-of-range duration_sec is 0, outside 1 to 2678400"
        );
        assert_eq!(
            check("cron: '*/5 * * * *'\nduration_sec: 300"),
            "2:15 endless-window this window would never end: it lasts until it begins again"
        );
        let many =
            check("cron: 0 2 * * *\nduration_sec: 60\nconnector: [noop]\nlabels: {}\nconnectors: [nope]\nenabled: 1\n");
        assert_eq!(
            many,
            "3:1 unknown-key unknown key \"connector\"\n4:9 no-value labels names none\n\
             5:14 unknown-connector unknown connector \"nope\"\n6:10 wrong-type enabled has to be true or false, not a number"
        );
    }

    #[test]
    fn a_path_tells_the_window() {
        assert_eq!(window_name("windows/night.yaml"), Some("night"));
        for other in
            ["windows/Night.yaml", "windows/a/b.yaml", "windows/night.yml", "schedules/noop/a.yaml", "windowsa.yaml"]
        {
            assert_eq!(window_name(other), None, "{other}");
        }
    }
}
