//! The shapes of maintenance windows.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::core::plan::FieldChange;
use crate::core::windows::WindowSpec;

/// `GET /ops/windows`' answer.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct WindowsAnswer {
    pub ok: bool,
    /// In order of their names.
    pub windows: Vec<WindowView>,
}

/// A maintenance window as last good, and when it is next.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct WindowView {
    pub name: String,
    /// Relative to the desired directory.
    pub file: String,
    #[serde(flatten)]
    pub spec: WindowSpec,
    /// It stands now: the first of `next`.
    pub open: bool,
    /// The file cannot be used; what is shown is its last good version.
    pub invalid: bool,
    pub next: Vec<WindowStretch>,
}

/// One time in which no run starts; the end is not part of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WindowStretch {
    pub begin_iso: String,
    pub end_iso: String,
}

/// What changes in a maintenance window's file.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct WindowChange {
    pub file: String,
    /// create, update or delete.
    pub action: String,
    pub diff: Vec<FieldChange>,
}
