//! Why something differs from what is desired, as far as a plan's step tells.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Action, Facet, Step};

/// What brought a difference about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The file was edited, added or removed, and that is not applied yet.
    FileEdited,
    /// The stored row, or its due time, was changed beside the files; or a row was put there.
    RowChangedByHand,
    RowLost,
    /// The schedule had no due time any more.
    TimerLost,
    /// The pause was set or lifted beside the files.
    FlagFlipped,
    Unknown,
}

impl Cause {
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::FileEdited => "file-edited",
            Cause::RowChangedByHand => "row-changed-by-hand",
            Cause::RowLost => "row-lost",
            Cause::TimerLost => "timer-lost",
            Cause::FlagFlipped => "flag-flipped",
            Cause::Unknown => "unknown",
        }
    }
}

impl Step {
    /// Only a repair is drift; every other step answers an edit of the file.
    pub fn cause(&self) -> Cause {
        let had_value = self.diff.iter().any(|change| !change.from.is_null());
        match self.action {
            Action::Repair(Facet::Spec) => Cause::RowChangedByHand,
            Action::Repair(Facet::Pause) => Cause::FlagFlipped,
            Action::Repair(Facet::Timer) => {
                if had_value {
                    Cause::RowChangedByHand
                } else {
                    Cause::TimerLost
                }
            }
            Action::Repair(Facet::Row) => {
                if had_value {
                    Cause::RowChangedByHand
                } else {
                    Cause::RowLost
                }
            }
            Action::Repair(Facet::Replica) => Cause::Unknown,
            Action::Create | Action::Update | Action::Pause | Action::Resume | Action::Delete => Cause::FileEdited,
        }
    }
}
