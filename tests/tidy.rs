//! Holds what ARCHITECTURE.md promises of the source: rooms, one direction, where the world is
//! touched, how long a file may be.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Which rooms each room may name. `main` may name all.
const MAY_USE: [(&str, &[&str]); 9] = [
    ("core", &["core"]),
    ("adapters", &["core", "adapters"]),
    ("settings", &["core", "adapters", "settings", "telemetry"]),
    ("telemetry", &["core", "adapters", "telemetry"]),
    ("sandbox", &["core", "adapters", "telemetry", "sandbox"]),
    ("app", &["core", "adapters", "settings", "telemetry", "app"]),
    ("tasks", &["core", "adapters", "settings", "telemetry", "app", "tasks"]),
    ("http", &["core", "adapters", "settings", "telemetry", "app", "tasks", "http"]),
    ("cli", &["core", "adapters", "settings", "telemetry", "app", "tasks", "cli"]),
];

/// What only some rooms may name: the text, who may, and why.
const ONLY: [(&str, &[&str], &str); 9] = [
    ("rusqlite", &["src/adapters/store"], "only the store knows its engine"),
    ("axum", &["src/http", "src/sandbox"], "only what serves HTTP knows axum"),
    ("notify::", &["src/adapters/source"], "only the source watches files"),
    ("use notify", &["src/adapters/source"], "only the source watches files"),
    ("yaml_edit", &["src/core/desired"], "only desired state edits YAML"),
    ("serde_yaml", &["src/core/desired", "src/settings", "src/cli/pairs.rs"], "YAML is read by few"),
    ("croner", &["src/core/timing", "src/core/desired"], "cron is read in one place"),
    ("clap", &["src/cli", "src/main.rs"], "only the command line knows clap"),
    ("prometheus", &["src/telemetry"], "metrics are registered in one place"),
];

/// Where a task or thread may be started: wiring, and what owns its threads.
const SPAWNS: [&str; 10] = [
    "src/cli/serve",
    // Starts every loop for it.
    "src/tasks/supervisor",
    "src/adapters/store/",
    "src/adapters/source/",
    "src/app/runs",
    // The delay between the answer to a restart and the restart.
    "src/app/restarting.rs",
    // A mutation goes on when its caller hangs up.
    "src/http/access",
    // A long list is written while its beginning is being sent.
    "src/http/status",
    "src/sandbox",
    "src/main.rs",
];

/// A story told in order may be longer than 500 lines: the file and its own bound.
const LONGER: [(&str, usize); 0] = [];

/// What `core` never says: it decides, from its arguments alone.
const NOT_IN_CORE: [&str; 20] = [
    "tokio",
    "reqwest",
    "std::fs",
    "std::env",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "ToSocketAddrs",
    "std::process",
    "std::thread",
    "File::",
    "SystemTime",
    "Instant::now",
    "Utc::now",
    "Local::now",
    "now_v7",
    "new_v4",
    "rand::",
    "async ",
    ".await",
];

struct Source {
    /// From the repository's root, forward slashes.
    path: String,
    text: String,
    /// Without comments, strings and the tests at the end.
    code: String,
}

impl Source {
    fn is_test(&self) -> bool {
        self.path.ends_with("tests.rs") || self.path.contains("/tests/") || self.path.ends_with("conformance.rs")
    }

    fn room(&self) -> &str {
        let rest = self.path.trim_start_matches("src/");
        rest.split(['/', '.']).next().unwrap_or(rest)
    }

    /// The first line of code with `needle`, for a message.
    fn line_of(&self, needle: &str) -> String {
        let line = self.code.lines().position(|line| line.contains(needle)).map_or(0, |line| line + 1);
        format!("{}:{line}", self.path)
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<PathBuf> = Vec::new();
    let mut open = vec![root.join("src")];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).expect("a directory").flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("a source file");
        let relative = path.strip_prefix(root).expect("below the root").to_string_lossy().replace('\\', "/");
        Source { path: relative, code: code_only(&text), text }
    };
    files.into_iter().map(read).collect()
}

/// Drops comments, the insides of strings, and a test module that ends the file. Lines keep their numbers.
fn code_only(text: &str) -> String {
    let product = text.split("#[cfg(test)]\nmod ").next().unwrap_or(text);
    let mut code = String::with_capacity(product.len());
    let mut chars = product.chars().peekable();
    let mut before = ' ';
    while let Some(c) = chars.next() {
        match c {
            '/' if chars.peek() == Some(&'/') => while chars.next_if(|c| *c != '\n').is_some() {},
            '"' => skip_string(&mut chars, before, &mut code),
            // A quote as a character would open a string that never ends.
            '\'' if chars.peek() == Some(&'"') => {
                chars.next();
                chars.next();
            }
            c => code.push(c),
        }
        before = c;
    }
    code
}

fn skip_string(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, before: char, code: &mut String) {
    let hashes = if before == '#' { code.chars().rev().take_while(|c| *c == '#').count() } else { 0 };
    let raw = before == 'r' || (before == '#' && code.trim_end_matches('#').ends_with('r'));
    code.push('"');
    while let Some(c) = chars.next() {
        match c {
            '\n' => code.push('\n'),
            '\\' if !raw && chars.next() == Some('\n') => code.push('\n'),
            '"' if (0..hashes).all(|_| chars.next_if_eq(&'#').is_some()) => break,
            _ => {}
        }
    }
    code.push('"');
}

#[track_caller]
fn none(found: &[String], rule: &str) {
    assert!(found.is_empty(), "{rule}:\n  {}", found.join("\n  "));
}

#[test]
fn rooms_depend_one_way() {
    let allowed: BTreeMap<&str, &[&str]> = MAY_USE.into_iter().collect();
    let mut found = Vec::new();
    for source in sources() {
        let room = source.room();
        if matches!(room, "lib" | "main") || source.is_test() {
            continue;
        }
        let Some(may) = allowed.get(room) else {
            found.push(format!("{}: room {room} is not in the map", source.path));
            continue;
        };
        for other in MAY_USE.iter().map(|(name, _)| *name) {
            let serves = source.path.starts_with("src/cli/serve") && matches!(other, "http" | "sandbox");
            let practises = source.path == "src/cli/sandbox.rs" && other == "sandbox";
            if may.contains(&other) || serves || practises {
                continue;
            }
            let grouped = uses_in_group(&source.code, other);
            for needle in [format!("crate::{other}::"), format!("crate::{other};"), format!("crate::{other},")] {
                if source.code.contains(&needle) {
                    found.push(format!("{}: {room} names {other}", source.line_of(&needle)));
                }
            }
            if grouped {
                found.push(format!("{}: {room} names {other} in a group", source.path));
            }
        }
    }
    none(&found, "core <- adapters <- app <- tasks <- {http, cli} <- main");
}

/// `use crate::{a::b, other::c}`
fn uses_in_group(code: &str, room: &str) -> bool {
    code.split("use crate::{").skip(1).any(|rest| {
        let group = rest.split(';').next().unwrap_or_default();
        group.split([',', '{', '}']).any(|item| item.trim().split("::").next() == Some(room))
    })
}

#[test]
fn each_tool_stays_in_its_room() {
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| !source.is_test()) {
        for (needle, rooms, why) in ONLY {
            let word = |at: usize| !source.code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
            let named =
                source.code.match_indices(needle).any(|(at, _)| word(at) && is_path(&source.code[at + needle.len()..]));
            if named && !rooms.iter().any(|room| source.path.starts_with(room)) {
                found.push(format!("{}: {needle} ({why})", source.line_of(needle)));
            }
        }
    }
    none(&found, "tools out of their rooms");
}

/// A crate's name is followed by the rest of a path.
fn is_path(rest: &str) -> bool {
    rest.starts_with("::") || rest.starts_with([' ', ';', ':']) || rest.starts_with(char::is_alphabetic)
}

#[test]
fn only_the_store_writes_sql() {
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| !source.is_test() && !source.path.starts_with("src/adapters/store"))
    {
        let product = source.text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        for (number, line) in product.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for needle in ["SELECT ", "INSERT INTO", "DELETE FROM", "CREATE TABLE", "PRAGMA "] {
                if code.contains(needle) {
                    found.push(format!("{}:{}: {needle}", source.path, number + 1));
                }
            }
        }
    }
    none(&found, "SQL outside the store");
}

#[test]
fn core_only_decides() {
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| source.room() == "core" && !source.is_test()) {
        for needle in NOT_IN_CORE {
            // `DefaultsFile::` is no file.
            let begins_a_word = |at: usize| !source.code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
            if source.code.match_indices(needle).any(|(at, _)| begins_a_word(at)) {
                found.push(format!("{}: {needle}", source.line_of(needle)));
            }
        }
    }
    none(&found, "core does no I/O, reads no clock, environment or randomness, and is never async");
}

#[test]
fn the_clock_is_read_in_one_place() {
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| source.path != "src/adapters/clock.rs" && !source.is_test()) {
        for needle in ["SystemTime::now", "Utc::now", "Local::now"] {
            if source.code.contains(needle) {
                found.push(format!("{}: {needle}", source.line_of(needle)));
            }
        }
    }
    none(&found, "the time comes from adapters::clock::Clock");
}

#[test]
fn tasks_are_started_where_they_are_wired() {
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| !source.is_test()) {
        for needle in ["tokio::spawn", "task::spawn(", "thread::spawn", "thread::Builder", ".spawn_local("] {
            if source.code.contains(needle) && !SPAWNS.iter().any(|place| source.path.starts_with(place)) {
                found.push(format!("{}: {needle}", source.line_of(needle)));
            }
        }
    }
    none(&found, "started outside the wiring");
}

#[test]
fn files_open_with_their_part_and_fit_a_reader() {
    let bounds: BTreeMap<&str, usize> = LONGER.into_iter().collect();
    let mut found = Vec::new();
    for source in sources() {
        if !source.text.starts_with("//!") {
            found.push(format!("{}: does not open with //!", source.path));
        }
        let opening = source.text.lines().take_while(|line| line.starts_with("//!")).count();
        if opening > 12 {
            found.push(format!("{}: opens with {opening} lines of //!", source.path));
        }
        let lines = source.text.lines().count();
        let bound = bounds.get(source.path.as_str()).copied().unwrap_or(500);
        if lines > bound {
            found.push(format!("{}: {lines} lines of {bound}", source.path));
        }
    }
    none(&found, "each file says its part and fits");
}

#[test]
fn nothing_half_done_is_left() {
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| !source.is_test()) {
        for needle in ["todo!(", "unimplemented!(", "dbg!(", "static mut"] {
            if source.code.contains(needle) {
                found.push(format!("{}: {needle}", source.line_of(needle)));
            }
        }
    }
    none(&found, "half-done code");
}

#[test]
fn the_checker_itself_sees_through_strings_and_comments() {
    let text = "//! part\nlet a = \"tokio \\\" x\"; // tokio\nlet b = '\"'; let c = r#\"tokio \"x\" \"#; axum::x\n#[cfg(test)]\nmod tests { tokio }\n";
    let code = code_only(text);
    assert!(!code.contains("tokio"), "{code}");
    assert!(code.contains("axum::x"), "{code}");
    assert_eq!(code.lines().count(), 3, "{code}");
}
