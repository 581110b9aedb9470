//! A file put back whole: the edit behind every rollback.

use serde_json::Value;

use super::error::AppError;
use super::mutate::{Base, Outcome};
use crate::core::desired::{self, Defaults, FieldError, Severity};
use crate::core::model::{Digest, ScheduleId};
use crate::core::plan::{Action, Step};

/// The bytes a file is to have, and what the audit says of them.
#[derive(Clone, Debug)]
pub struct Replacement {
    /// `None` deletes the schedule.
    pub content: Option<Vec<u8>>,
    pub expect: Expect,
    /// The revision or moment that this goes back to.
    pub to: Value,
    pub reason: Option<String>,
}

/// What the file must hold for the replacement to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    Anything,
    /// This content; with `None` there must be no file.
    Exactly(Option<Digest>),
}

impl Replacement {
    /// What the bytes mean by today's rules, over today's defaults.
    pub(super) fn outcome(&self, id: &ScheduleId, base: &Base, defaults: &Defaults) -> Result<Outcome, AppError> {
        if let Expect::Exactly(expected) = self.expect
            && expected != base.digest
        {
            let detail = format!("{} has changed since the plan was made; it was left as it is", id.file());
            return Err(AppError::Conflict { detail, suggestion: None });
        }
        let Some(content) = &self.content else { return Ok(Outcome { content: None, spec: None }) };
        let parsed = desired::parse(id, content, defaults);
        match parsed.spec {
            Some(spec) => Ok(Outcome { content: Some(content.clone()), spec: Some(spec) }),
            None => {
                let errors = parsed.diagnostics.into_iter().filter(|found| found.severity == Severity::Error);
                let error = |found: desired::Diagnostic| FieldError {
                    pointer: found.field,
                    message: format!("line {}: {}", found.line, found.message),
                };
                Err(AppError::UnfitRevision { to: self.to.clone(), errors: errors.map(error).collect() })
            }
        }
    }

    pub(super) fn notes(&self) -> Vec<(&'static str, Value)> {
        let reason = self.reason.clone().map(|reason| ("reason", reason.into()));
        std::iter::once(("rollback_to", self.to.clone())).chain(reason).collect()
    }

    /// What a person did shows in the audit also where only comments differ, or where a broken file
    /// got back what runs anyway.
    pub(super) fn steps(id: &ScheduleId, planned: Vec<Step>) -> Vec<Step> {
        if planned.is_empty() {
            return vec![Step { id: id.clone(), action: Action::Update, diff: Vec::new(), held: None }];
        }
        planned
    }
}
