//! What the reader and the rules find, before it is addressed to a file or an API field.

use super::{Diagnostic, Severity};

/// A place in the text, both numbers from 1. `Mark::NONE` stands for the whole document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mark {
    pub line: u32,
    pub column: u32,
}

impl Mark {
    pub const NONE: Mark = Mark { line: 0, column: 0 };
}

/// One finding; `field` is a JSON pointer.
#[derive(Clone, Debug)]
pub(super) struct Finding {
    pub at: Mark,
    pub severity: Severity,
    pub code: &'static str,
    pub field: String,
    pub message: String,
    pub hint: Option<String>,
}

impl Finding {
    pub fn error(at: Mark, code: &'static str, field: String, message: impl Into<String>) -> Self {
        Finding { at, severity: Severity::Error, code, field, message: message.into(), hint: None }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub fn warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }

    pub fn into_diagnostic(self, file: &str) -> Diagnostic {
        Diagnostic {
            file: file.to_owned(),
            line: self.at.line,
            column: self.at.column,
            severity: self.severity,
            code: self.code.to_owned(),
            field: self.field,
            message: self.message,
            hint: self.hint,
        }
    }
}

/// The way from the root to a field, linked backwards so that the good case allocates nothing.
#[derive(Clone, Copy)]
pub(super) struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    key: &'a str,
}

impl<'a> Path<'a> {
    pub const ROOT: Path<'static> = Path { parent: None, key: "" };

    pub fn key(&'a self, key: &'a str) -> Path<'a> {
        Path { parent: Some(self), key }
    }

    /// The JSON pointer (RFC 6901).
    pub fn pointer(&self) -> String {
        match self.parent {
            None => String::new(),
            Some(parent) => parent.pointer() + "/" + &escape(self.key),
        }
    }

    /// The pointer of what this is in.
    pub fn parent_pointer(&self) -> String {
        self.parent.map_or_else(String::new, |parent| parent.pointer())
    }

    /// How a message calls the field: its last name.
    pub fn name(&self) -> &'a str {
        self.key
    }
}

/// A key as it stands in a JSON pointer.
pub(super) fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// A text from outside as a message shows it: one line, not too long.
pub(super) fn shown(text: &str) -> String {
    const LONGEST: usize = 60;
    let mut short: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if text.chars().nth(LONGEST).is_some() {
        short.push('…');
    }
    short
}

/// The known name that `text` most likely stands for.
pub(super) fn nearest<'k>(text: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    if text.len() > 64 {
        return None;
    }
    let plain = |s: &str| s.to_ascii_lowercase().replace(['-', '_', ' '], "");
    let wanted = plain(text);
    known
        .into_iter()
        .map(|name| {
            let name_plain = plain(name);
            let prefix = wanted.len() >= 4 && (name_plain.starts_with(&wanted) || wanted.starts_with(&name_plain));
            (if prefix { 1 } else { strsim::damerau_levenshtein(&wanted, &name_plain) }, name)
        })
        .filter(|(distance, name)| *distance <= (name.len() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}
