//! What is wrong with a document, where, and what to do about it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How bad it is: an error keeps the file from being applied, a warning does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Error,
    Warning,
}

/// One finding about one place of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Diagnostic {
    /// Relative to the desired directory, forward slashes.
    pub file: String,
    /// From 1; 0 when the finding is about the file as a whole.
    pub line: u32,
    /// In characters, from 1; 0 when the finding is about the file as a whole.
    pub column: u32,
    pub severity: Severity,
    /// A short stable name, e.g. `unknown-key`.
    pub code: String,
    /// The field as a JSON pointer (`/connection/base_url`), empty for the whole document.
    pub field: String,
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// An error about a file as a whole.
    pub fn whole_file(file: String, code: &str, message: String) -> Diagnostic {
        Diagnostic {
            file,
            line: 0,
            column: 0,
            severity: Severity::Error,
            code: code.to_owned(),
            field: String::new(),
            message,
            hint: None,
        }
    }

    /// Where and of which kind, without a value out of the file: what anyone may see.
    pub fn without_values(&self) -> Diagnostic {
        let kind = self.code.replace('-', " ");
        let message = if self.field.is_empty() { kind } else { format!("{kind} at {}", self.field) };
        Diagnostic { message, hint: None, ..self.clone() }
    }
}
