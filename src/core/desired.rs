//! Desired state: YAML text to values, values back into YAML text, and the published schema.
//! `tree` reads text into located nodes, `check` judges them, `edit` writes changes back.

pub mod diagnostic;

mod cadence;
mod check;
mod conflict;
mod connection;
mod defaults;
mod edit;
mod effect;
mod finding;
mod frame;
mod merge;
mod moment;
mod parse;
mod render;
mod resources;
mod running;
mod scalar;
mod schema;
mod tree;
mod verify;
mod window;

pub use check::KEYS;
pub use conflict::{FieldConflict, conflicts};
pub use defaults::{Defaults, DefaultsFile, Layer, Origin, Origins, ParsedDefaults, parse_defaults};
pub use diagnostic::{Diagnostic, Severity};
pub use edit::{EditError, Obstacle, edit};
pub use frame::code_frame;
pub use merge::merged;
pub use parse::{FieldError, MAX_FILE_BYTES, Parsed, check_value, document_value, parse, shown_value};
pub use render::new_document;
pub use schema::{defaults_schema, schedule_schema, schema_text, schemas, window_schema};
pub use window::{ParsedWindow, parse_window, window_file, window_name};

#[cfg(test)]
mod tests;
