//! Desired state: YAML text to values, values back into YAML text, and the published schema.

pub mod diagnostic;

pub use diagnostic::{Diagnostic, Severity};
