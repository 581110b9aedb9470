//! `connection` of programs: the command, what it reads, and the bounds it runs in.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value as Json};

use super::super::check::{Checker, kind};
use super::super::finding::{Finding, Mark, Path, nearest, shown};
use super::super::running::Whole;
use super::super::tree::{Entry, Node, Value};
use super::secret::secret;
use crate::core::mask::is_secret_name;
use crate::core::model::{Connection, EnvValue, IDLE_TIMEOUT_SEC, MAX_LINE_KB, MAX_OUTPUT_MB, Protocol, places};

const MOST_WORDS: usize = 256;
const MOST_WORD_CHARS: usize = 4096;
const MOST_VARIABLES: usize = 128;
/// What stands in a command for the path of a file.
const PLACES: [&str; 3] = ["config", "state", "catalog"];
const PROTOCOLS: [(&str, Protocol); 3] =
    [("auto", Protocol::Auto), ("singer", Protocol::Singer), ("stats", Protocol::Stats)];

const IDLE: Whole = Whole { bounds: 1..=86_400, about: "seconds, at most a day", example: 300 };
const OUTPUT: Whole = Whole { bounds: 1..=102_400, about: "MiB, at most 100 GiB", example: 512 };
const LINE: Whole = Whole { bounds: 1..=65_536, about: "KiB, at most 64 MiB", example: 4096 };

/// Variables that the server itself sets.
const OURS: [&str; 9] = ["PATH", "HOME", "LANG", "TZ", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT", "USERPROFILE"];
/// Variables by which a listed program would be made to load code that nobody listed.
const LOADERS: [&str; 24] = [
    "BASH_ENV",
    "ENV",
    "SHELLOPTS",
    "IFS",
    "GCONV_PATH",
    "LOCPATH",
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHONSTARTUP",
    "PYTHONUSERBASE",
    "PYTHONBREAKPOINT",
    "PYTHONPLATLIBDIR",
    "PERL5LIB",
    "PERL5OPT",
    "PERL5DB",
    "PERLLIB",
    "RUBYLIB",
    "RUBYOPT",
    "NODE_OPTIONS",
    "NODE_PATH",
    "CLASSPATH",
    "JAVA_TOOL_OPTIONS",
    "_JAVA_OPTIONS",
    "JDK_JAVA_OPTIONS",
];
const LOADER_PREFIXES: [&str; 3] = ["LD_", "DYLD_", "GLIBC_"];

pub(super) fn entry(checker: &mut Checker, entry: &Entry<'_>, path: &Path<'_>, connection: &mut Connection) {
    let node = &entry.value;
    match entry.key.as_ref() {
        "command" => connection.command = command(checker, node, path),
        "config" => connection.config = mapping(checker, node, path),
        "catalog" => connection.catalog = mapping(checker, node, path),
        "env" => connection.env = env(checker, node, path),
        "protocol" => connection.protocol = protocol(checker, node, path).filter(|p| *p != Protocol::default()),
        "idle_timeout_sec" => connection.idle_timeout_sec = usual(checker.whole(node, path, &IDLE), IDLE_TIMEOUT_SEC),
        "max_output_mb" => connection.max_output_mb = usual(checker.whole(node, path, &OUTPUT), MAX_OUTPUT_MB),
        "max_line_kb" => connection.max_line_kb = usual(checker.whole(node, path, &LINE), MAX_LINE_KB),
        _ => {}
    }
}

/// One way to say the usual: not at all.
fn usual(number: Option<u32>, usual: u32) -> Option<u32> {
    number.filter(|number| *number != usual)
}

/// The rules between keys; they hold for a whole schedule, not for a file of defaults.
pub(in super::super) fn agree(checker: &mut Checker, connection: Option<&Connection>, at: Mark) {
    if checker.out.iter().any(|finding| finding.field.starts_with("/connection")) {
        return;
    }
    let Some(connection) = connection.filter(|connection| !connection.command.is_empty()) else {
        let message = "a schedule of exec needs connection.command";
        let finding = Finding::error(at, "no-command", "/connection/command".to_owned(), message);
        checker.out.push(finding.hint("add e.g. \"command: [tap-example]\" below connection"));
        return;
    };
    let used: BTreeSet<&str> = connection.command.iter().flat_map(|word| places(word)).collect();
    let mut wrong = |place: &str, message: String, hint: &str| {
        let finding = Finding::error(at, "unused-place", "/connection/command".to_owned(), message);
        checker.out.push(finding.hint(format!("{hint} {{{{{place}}}}}")));
    };
    for (place, given) in [("config", !connection.config.is_empty()), ("catalog", !connection.catalog.is_empty())] {
        if used.contains(place) && !given {
            let message = format!("command says {{{{{place}}}}}, but there is no connection.{place}");
            wrong(place, message, &format!("add connection.{place}, or remove"));
        }
    }
    if used.contains("state") && connection.protocol == Some(Protocol::Stats) {
        let message = "command says {{state}}, but a program that writes stats has no state".to_owned();
        wrong("state", message, "set \"protocol: singer\", or remove");
    }
}

fn command(checker: &mut Checker, node: &Node<'_>, path: &Path<'_>) -> Vec<String> {
    let items = match &node.value {
        Value::List(items) if (1..=MOST_WORDS).contains(&items.len()) => items,
        Value::List(items) => {
            let message = format!("command has {} words; allowed are 1 to {MOST_WORDS}", items.len());
            let finding = Finding::error(node.at, "out-of-range", path.pointer(), message);
            checker.out.push(finding.hint("name the program first, then its arguments"));
            return Vec::new();
        }
        Value::Text { .. } => {
            let hint = "no shell reads it; write each word as an item, e.g. [tap-example, --verbose]".to_owned();
            checker.wrong_type(node, path, "a list of the program and its arguments", "a text", Some(hint));
            return Vec::new();
        }
        _ => {
            checker.mismatch(node, path, "a list", "write e.g. [tap-example, --config, \"{{config}}\"]");
            return Vec::new();
        }
    };
    let mut words = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let number = index.to_string();
        let path = path.key(&number);
        let Some(text) = checker.text(item, &path) else { continue };
        if let Some((message, hint)) = fault_of(text, index == 0) {
            checker.out.push(Finding::error(item.at, "bad-command", path.pointer(), message).hint(hint));
        } else {
            words.push(text.to_owned());
        }
    }
    words
}

/// What is wrong with a word of a command. The word is not repeated: somebody may have put a key there.
fn fault_of(word: &str, is_program: bool) -> Option<(String, String)> {
    let say = |message: &str, hint: &str| Some((message.to_owned(), hint.to_owned()));
    if word.len() > MOST_WORD_CHARS || word.contains('\0') {
        return say("this word is too long, or holds a zero character", "write at most 4096 characters");
    }
    if let Some(unknown) = places(word).find(|place| !PLACES.contains(place)) {
        let message = format!("there is no place {{{{{}}}}}", shown(unknown));
        let hint = match nearest(unknown, PLACES) {
            Some(place) => format!("did you mean {{{{{place}}}}}?"),
            None => "there are: {{config}}, {{state}}, {{catalog}}".to_owned(),
        };
        return Some((message, hint));
    }
    if !is_program {
        return None;
    }
    let is_absolute = word.starts_with('/') || word.starts_with("\\\\") || word.get(1..3) == Some(":\\");
    if word.trim().is_empty() || word.contains("{{") {
        return say("the program has no name", "name it first, e.g. tap-example or /opt/taps/bin/tap-example");
    }
    if !is_absolute && word.contains(['/', '\\']) {
        let hint = "write its absolute path, or its name alone to look it up on the server's PATH";
        return say("the program's path is relative, and there is no directory that it could start from", hint);
    }
    None
}

/// A mapping as JSON, with its references checked. A key without a value is as if it were not there.
fn mapping(checker: &mut Checker, node: &Node<'_>, path: &Path<'_>) -> Map<String, Json> {
    match &node.value {
        Value::Map(entries) => entries_of(checker, entries, path),
        Value::Null => Map::new(),
        _ => {
            checker.mismatch(node, path, "a mapping", "put what the program reads from its file below it");
            Map::new()
        }
    }
}

fn entries_of(checker: &mut Checker, entries: &[Entry<'_>], path: &Path<'_>) -> Map<String, Json> {
    let mut map = Map::new();
    for entry in entries.iter().filter(|entry| !matches!(entry.value.value, Value::Null)) {
        let value = json(checker, &entry.value, &path.key(&entry.key));
        map.insert(entry.key.as_ref().to_owned(), value);
    }
    map
}

fn json(checker: &mut Checker, node: &Node<'_>, path: &Path<'_>) -> Json {
    match &node.value {
        Value::Map(entries) if is_reference(entries) => {
            let reference = secret(checker, node, path);
            reference.and_then(|reference| serde_json::to_value(reference).ok()).unwrap_or_default()
        }
        Value::Map(entries) => Json::Object(entries_of(checker, entries, path)),
        Value::List(items) => {
            let item = |(index, item): (usize, &Node<'_>)| json(checker, item, &path.key(&index.to_string()));
            items.iter().enumerate().map(item).collect()
        }
        Value::Text { text, .. } if is_secret_name(path.name()) && !text.is_empty() => {
            // Says that it is the secret itself, and what to write.
            secret(checker, node, path);
            Json::Null
        }
        _ => node.to_json(),
    }
}

/// `{ env: … }` or `{ file: … }`, and nothing beside.
fn is_reference(entries: &[Entry<'_>]) -> bool {
    matches!(entries, [only] if matches!(only.key.as_ref(), "env" | "file"))
}

fn env(checker: &mut Checker, node: &Node<'_>, path: &Path<'_>) -> BTreeMap<String, EnvValue> {
    let mut variables = BTreeMap::new();
    let entries = match &node.value {
        Value::Null => return variables,
        Value::Map(entries) if entries.len() <= MOST_VARIABLES => entries,
        Value::Map(entries) => {
            let message = format!("env has {} variables; the most is {MOST_VARIABLES}", entries.len());
            let finding = Finding::error(node.at, "out-of-range", path.pointer(), message);
            checker.out.push(finding.hint("move some into config"));
            return variables;
        }
        _ => {
            checker.mismatch(node, path, "a mapping", "write e.g. { TAP_TOKEN: { env: CC_SECRET_TAP } }");
            return variables;
        }
    };
    for entry in entries.iter().filter(|entry| !matches!(entry.value.value, Value::Null)) {
        let path = path.key(&entry.key);
        if let Some((message, hint)) = fault_of_name(&entry.key) {
            checker.out.push(Finding::error(entry.at, "bad-variable", path.pointer(), message).hint(hint));
            continue;
        }
        let value = match &entry.value.value {
            Value::Map(_) => secret(checker, &entry.value, &path).map(EnvValue::Secret),
            Value::Text { text, .. } if is_secret_name(&entry.key) && !text.is_empty() => {
                secret(checker, &entry.value, &path).map(EnvValue::Secret)
            }
            Value::List(_) => {
                let found = format!("a {}", kind(&entry.value));
                let hint = "write a text, or { env: CC_SECRET_NAME }".to_owned();
                checker.wrong_type(&entry.value, &path, "a text or a reference", &found, Some(hint));
                None
            }
            _ => variable(checker, &entry.value, &path),
        };
        variables.extend(value.map(|value| (entry.key.as_ref().to_owned(), value)));
    }
    variables
}

fn variable(checker: &mut Checker, node: &Node<'_>, path: &Path<'_>) -> Option<EnvValue> {
    let text = checker.text(node, path)?;
    if text.len() > MOST_WORD_CHARS || text.contains('\0') {
        let message = "this value is too long, or holds a zero character";
        let finding = Finding::error(node.at, "bad-variable", path.pointer(), message);
        checker.out.push(finding.hint("write at most 4096 characters, or put it into config"));
        return None;
    }
    Some(EnvValue::Text(text.to_owned()))
}

fn fault_of_name(name: &str) -> Option<(String, String)> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let good = (1..=128).contains(&name.len()) && name.bytes().all(word) && !name.as_bytes()[0].is_ascii_digit();
    if !good {
        let message = format!("\"{}\" is not a variable's name", shown(name));
        return Some((message, "write letters, digits and '_', and begin with a letter".to_owned()));
    }
    let upper = name.to_ascii_uppercase();
    if OURS.contains(&upper.as_str()) || upper.starts_with("COMMAND_CENTER_") {
        let message = format!("{} is set by the server", shown(name));
        return Some((message, "remove it".to_owned()));
    }
    if LOADERS.contains(&upper.as_str()) || LOADER_PREFIXES.iter().any(|prefix| upper.starts_with(prefix)) {
        let message = format!("{} would make the program load code that nobody allowed", shown(name));
        return Some((message, "remove it; wrap the program in a script and allow that".to_owned()));
    }
    None
}

fn protocol(checker: &mut Checker, node: &Node<'_>, path: &Path<'_>) -> Option<Protocol> {
    let text = checker.text(node, path)?;
    if let Some((_, protocol)) = PROTOCOLS.into_iter().find(|(name, _)| *name == text) {
        return Some(protocol);
    }
    let names = PROTOCOLS.map(|(name, _)| name);
    let hint = match nearest(text, names) {
        Some(name) => format!("did you mean \"{name}\"?"),
        None => format!("there are: {}", names.join(", ")),
    };
    let message = format!("there is no protocol \"{}\"", shown(text));
    checker.out.push(Finding::error(node.at, "unknown-protocol", path.pointer(), message).hint(hint));
    None
}
