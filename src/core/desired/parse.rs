//! The ways in: a file's bytes or an API body to a schedule, or to everything that is wrong with it.

use super::check::{check, empty};
use super::finding::{Finding, Mark};
use super::tree::{self, Loaded, Node};
use super::{Defaults, Diagnostic, Severity};
use crate::core::model::{ScheduleId, ScheduleSpec};

/// Larger files are refused unread.
pub const MAX_FILE_BYTES: usize = 256 * 1024;

const MAX_FINDINGS: usize = 100;

/// What a file says, and what is to be said about it.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// The effective schedule; `None` exactly when a diagnostic is an error.
    pub spec: Option<ScheduleSpec>,
    /// Everything found, in the order of the text.
    pub diagnostics: Vec<Diagnostic>,
}

/// What is wrong with one field of an API body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// The field as a JSON pointer, empty for the whole body.
    pub pointer: String,
    /// What is wrong and what to do about it; never contains a secret.
    pub message: String,
}

/// Reads a schedule's file over the defaults for what it leaves out. Time and memory are bounded
/// whatever the bytes.
pub fn parse(id: &ScheduleId, bytes: &[u8], defaults: &Defaults) -> Parsed {
    let mut findings = Vec::new();
    let spec = read(id, bytes, defaults, &mut findings);
    if findings.is_empty() {
        return Parsed { spec, diagnostics: Vec::new() };
    }
    let failed = findings.iter().any(|finding| finding.severity == Severity::Error);
    Parsed { spec: spec.filter(|_| !failed), diagnostics: diagnostics(findings, &id.file()) }
}

/// The findings of one file, in the order of its text.
pub(super) fn diagnostics(mut findings: Vec<Finding>, file: &str) -> Vec<Diagnostic> {
    findings.sort_by_key(|finding| finding.at);
    abridge(&mut findings);
    findings.into_iter().map(|finding| finding.into_diagnostic(file)).collect()
}

/// Nobody reads more; and a file made for it could have one for each of its lines.
fn abridge(findings: &mut Vec<Finding>) {
    if let Some(more) = findings.len().checked_sub(MAX_FINDINGS).filter(|more| *more > 0) {
        findings.truncate(MAX_FINDINGS);
        let message = format!("{more} more findings are left out");
        findings.push(Finding::error(Mark::NONE, "more", String::new(), message).hint("mend these first"));
    }
}

fn read(id: &ScheduleId, bytes: &[u8], defaults: &Defaults, findings: &mut Vec<Finding>) -> Option<ScheduleSpec> {
    match text(bytes) {
        Err(finding) => {
            findings.push(finding);
            None
        }
        Ok(text) => {
            let Loaded { root, findings: found, .. } = tree::load(text);
            *findings = found;
            match root {
                Some(root) => Some(check(id, &defaults.under(id.connector, root), findings)),
                None => {
                    if findings.is_empty() {
                        findings.push(empty());
                    }
                    None
                }
            }
        }
    }
}

/// Judges a JSON value by the rules of files, e.g. what a merge of an API body gave, over the
/// defaults for what it leaves out.
///
/// # Errors
/// Every field that is wrong; warnings are left out.
pub fn check_value(
    id: &ScheduleId,
    value: &serde_json::Value,
    defaults: &Defaults,
) -> Result<ScheduleSpec, Vec<FieldError>> {
    let mut findings = Vec::new();
    let spec = check(id, &defaults.under(id.connector, Node::from_json(value)), &mut findings);
    findings.retain(|finding| finding.severity == Severity::Error);
    if findings.is_empty() {
        return Ok(spec);
    }
    let error = |finding: Finding| FieldError {
        message: match finding.hint {
            Some(hint) => format!("{}; {hint}", finding.message),
            None => finding.message,
        },
        pointer: finding.field,
    };
    Err(findings.into_iter().map(error).collect())
}

/// The document as written, aliases followed, nothing defaulted; an empty document is `{}`.
/// It is not checked against the rules of schedules, so it may hold a secret by mistake.
///
/// # Errors
/// The first reason why the text is no YAML document of this program's.
pub fn document_value(id: &ScheduleId, bytes: &[u8]) -> Result<serde_json::Value, Box<Diagnostic>> {
    let root = text(bytes).and_then(document).map_err(|finding| Box::new(finding.into_diagnostic(&id.file())))?;
    Ok(root.map_or_else(|| serde_json::json!({}), |root| root.to_json()))
}

/// The document as written, for showing: null where it is not valid, since it may then hold a
/// secret by mistake.
pub fn shown_value(id: &ScheduleId, bytes: &[u8], defaults: &Defaults) -> serde_json::Value {
    match document_value(id, bytes) {
        Ok(value) if parse(id, bytes, defaults).spec.is_some() => value,
        _ => serde_json::Value::Null,
    }
}

/// The one document of a text, or what is in the way of reading it.
pub(super) fn document(text: &str) -> Result<Option<Node<'_>>, Finding> {
    let Loaded { root, mut findings, .. } = tree::load(text);
    match findings.is_empty() {
        true => Ok(root),
        false => Err(findings.swap_remove(0)),
    }
}

/// Bytes as text, when they are UTF-8 and not too many.
pub(super) fn text(bytes: &[u8]) -> Result<&str, Finding> {
    if bytes.len() > MAX_FILE_BYTES {
        let message = format!("the file has {} bytes; the most is {MAX_FILE_BYTES}", bytes.len());
        return Err(Finding::error(Mark::NONE, "too-large", String::new(), message)
            .hint("a schedule takes less than a kilobyte; is this the right file?"));
    }
    std::str::from_utf8(bytes).map_err(|error| {
        let good = bytes.get(..error.valid_up_to()).and_then(|b| std::str::from_utf8(b).ok()).unwrap_or_default();
        let line = good.matches('\n').count() + 1;
        let column = good.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let at = Mark { line: number(line), column: number(column) };
        let message = format!("not UTF-8: the byte at offset {} does not belong there", error.valid_up_to());
        Finding::error(at, "not-utf8", String::new(), message).hint("save the file as UTF-8")
    })
}
