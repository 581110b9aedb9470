//! What a mutation makes of the file it finds: its precondition, the edit worked out, and whether it
//! goes together with what somebody else did to the file meanwhile.

use serde_json::{Map, Value, json};

use super::App;
use super::error::{AppError, Stale};
use super::mutate::{Base, Edit, IfMatch, Mutation, Outcome};
use crate::adapters::store::RevisionQuery;
use crate::core::desired::{self, Defaults, EditError, FieldConflict, FieldError, conflicts};
use crate::core::model::{Digest, Millis, ScheduleId, ScheduleSpec};
use crate::core::timing::iso;

/// A caller that names more has no one version in mind.
const MAX_TAGS: usize = 4;

impl App {
    /// A tag that is out of date is refused with all that the caller needs to decide anew.
    pub(super) async fn check_precondition(&self, mutation: &Mutation, base: &Base) -> Result<(), AppError> {
        let current = base.digest.map(Digest::to_hex);
        let (holds, tags) = match &mutation.if_match {
            None => return Ok(()),
            Some(IfMatch::Any) => (current.is_some(), &[][..]),
            Some(IfMatch::Etags(tags)) => (current.as_ref().is_some_and(|current| tags.contains(current)), &tags[..]),
        };
        if holds {
            return Ok(());
        }
        let known = self.version(&mutation.id, tags).await?;
        Err(AppError::PreconditionFailed(Box::new(stale(mutation, base, known.as_deref(), &self.defaults()))))
    }

    /// The content that one of the tags stands for, where the history still has it.
    async fn version(&self, id: &ScheduleId, tags: &[String]) -> Result<Option<Vec<u8>>, AppError> {
        for tag in tags.iter().take(MAX_TAGS) {
            let query = RevisionQuery {
                id: id.clone(),
                before: None,
                until: None,
                digest_prefix: Some(tag.clone()),
                limit: 1,
                with_content: true,
            };
            let found = self.store.revisions(query).await?.pop();
            if let Some(content) = found.filter(|_| tag.len() == 64).and_then(|revision| revision.content) {
                return Ok(Some(content));
            }
        }
        Ok(None)
    }
}

fn stale(mutation: &Mutation, base: &Base, known: Option<&[u8]>, defaults: &Defaults) -> Stale {
    let id = &mutation.id;
    let written =
        |content: Option<&[u8]>| content.map_or(Value::Null, |content| desired::shown_value(id, content, defaults));
    let (before, current) = (written(known), written(base.content.as_deref()));
    let outcome = work_out(mutation, base, defaults).ok();
    // A change that is not valid may hold a secret; it is not repeated.
    let yours = match (&outcome, &mutation.edit) {
        (None, _) => Value::Null,
        (Some(outcome), Edit::Replace(_)) => written(outcome.content.as_deref()),
        (Some(_), edit) => applied(&before, edit),
    };
    let all_known = ![&before, &yours, &current].into_iter().any(Value::is_null);
    Stale {
        conflicts: if all_known { conflicts(&before, &yours, &current) } else { Vec::new() },
        proposal: outcome.and_then(|outcome| outcome.content).map_or(Value::Null, |content| written(Some(&content))),
        current_etag: base.digest.map(Digest::to_hex).unwrap_or_default(),
        base: before,
        yours,
        current,
    }
}

/// What the caller's change makes of a document; of an unknown one, the change itself.
fn applied(document: &Value, edit: &Edit) -> Value {
    match patch_of(edit) {
        None => Value::Null,
        Some(patch) if document.is_null() => Value::Object(patch),
        Some(patch) => desired::merged(document, &patch),
    }
}

/// Whether the change may be made on `theirs` although it was first made on `base`: not when both
/// changed the same field, each to another value.
pub(super) fn check_together(
    mutation: &Mutation,
    base: &Base,
    theirs: &Base,
    defaults: &Defaults,
) -> Result<(), AppError> {
    let id = &mutation.id;
    let refuse = |what: &str, conflicts: Vec<FieldConflict>| {
        let detail = format!("{} {what} by somebody else at the same moment; their version stays", id.file());
        Err(AppError::Contested { detail, conflicts })
    };
    match (&base.content, &theirs.content) {
        (before, now) if before == now => Ok(()),
        (Some(_), None) if matches!(mutation.edit, Edit::Delete) => Err(AppError::NotFound(id.clone())),
        (Some(_), None) => refuse("was deleted", Vec::new()),
        _ if matches!(mutation.edit, Edit::Delete | Edit::Replace(_)) => refuse("was changed", Vec::new()),
        (None, _) => together(mutation, &json!({}), theirs, defaults, refuse),
        (Some(before), Some(_)) => match desired::document_value(id, before) {
            Ok(before) => together(mutation, &before, theirs, defaults, refuse),
            Err(found) => Err(unreadable(id, &found.message)),
        },
    }
}

fn together(
    mutation: &Mutation,
    before: &Value,
    theirs: &Base,
    defaults: &Defaults,
    refuse: impl Fn(&str, Vec<FieldConflict>) -> Result<(), AppError>,
) -> Result<(), AppError> {
    let content = theirs.content.as_deref().unwrap_or_default();
    let now = match desired::shown_value(&mutation.id, content, defaults) {
        Value::Null => return Err(unreadable(&mutation.id, "somebody is changing it, and it is not valid now")),
        now => now,
    };
    let found = conflicts(before, &applied(before, &mutation.edit), &now);
    if found.is_empty() {
        return Ok(());
    }
    let said = |conflict: &FieldConflict| {
        format!("{} (yours {}, theirs {})", conflict.field, conflict.yours, conflict.current)
    };
    let fields: Vec<String> = found.iter().map(said).collect();
    refuse(&format!("was changed in the same field, {},", fields.join(", ")), found)
}

/// Nobody asks for a pause that is over already.
pub(super) fn check_end(mutation: &Mutation, outcome: &Outcome, now: Millis) -> Result<(), AppError> {
    let end = outcome.spec.as_ref().and_then(ScheduleSpec::pause_end);
    match (&mutation.edit, end) {
        (Edit::Pause { until: Some(_), .. }, Some(end)) if end <= now => {
            let message = format!("{} has passed; it is {} now", iso(end), iso(now));
            Err(AppError::Invalid(vec![FieldError { pointer: "/pause_until".to_owned(), message }]))
        }
        _ => Ok(()),
    }
}

/// The change as a merge patch; `None` where it is none but deletes the file or puts it back whole.
fn patch_of(edit: &Edit) -> Option<Map<String, Value>> {
    match edit {
        Edit::Merge(patch) => Some(patch.clone()),
        Edit::Pause { reason, until } => {
            Some(object(json!({"paused": true, "pause_reason": reason, "pause_until": until})))
        }
        Edit::Resume { .. } => Some(object(json!({"paused": false, "pause_reason": null, "pause_until": null}))),
        Edit::Delete | Edit::Replace(_) => None,
    }
}

/// The file's new bytes: a minimal edit of what is there, or a new document.
pub(super) fn work_out(mutation: &Mutation, base: &Base, defaults: &Defaults) -> Result<Outcome, AppError> {
    let id = &mutation.id;
    if let Edit::Replace(replacement) = &mutation.edit {
        return replacement.outcome(id, base, defaults);
    }
    let Some(patch) = patch_of(&mutation.edit) else { return Ok(Outcome { content: None, spec: None }) };
    let content = match &base.content {
        Some(content) => {
            let before = desired::document_value(id, content).map_err(|found| unreadable(id, &found.message))?;
            let patch = without_idle_resume(&before, patch, mutation, defaults);
            let merged = desired::merged(&before, &patch);
            let spec = desired::check_value(id, &merged, defaults).map_err(|wrong| {
                // What is wrong with the file already is not the caller's to be blamed for.
                match desired::check_value(id, &before, defaults) {
                    Ok(_) => AppError::Invalid(wrong),
                    Err(_) => unreadable(id, "it is not valid"),
                }
            })?;
            // The edit has been read again and found to say exactly `merged`.
            let content = desired::edit(id, content, &patch).map_err(refused)?;
            return Ok(Outcome { content: Some(content), spec: Some(spec) });
        }
        None if matches!(mutation.edit, Edit::Merge(_)) => {
            let merged = desired::merged(&json!({}), &patch);
            desired::check_value(id, &merged, defaults).map_err(AppError::Invalid)?;
            desired::new_document(&object(merged))
        }
        None => return Err(AppError::NotFound(id.clone())),
    };
    let parsed = desired::parse(id, &content, defaults);
    let spec = parsed.spec.ok_or_else(|| {
        let error = |found: desired::Diagnostic| FieldError { pointer: found.field, message: found.message };
        AppError::Invalid(parsed.diagnostics.into_iter().map(error).collect())
    })?;
    Ok(Outcome { content: Some(content), spec: Some(spec) })
}

fn object(value: Value) -> Map<String, Value> {
    if let Value::Object(fields) = value { fields } else { Map::new() }
}

/// Resuming what is not paused writes no `paused: false` into a file that had no such key.
/// What is paused by the defaults alone is resumed by saying so in its own file.
fn without_idle_resume(
    before: &Value,
    mut patch: Map<String, Value>,
    mutation: &Mutation,
    defaults: &Defaults,
) -> Map<String, Value> {
    let by_default = defaults.value(mutation.id.connector, "paused") == Some(&Value::Bool(true));
    if matches!(mutation.edit, Edit::Resume { .. }) && before.get("paused").is_none() && !by_default {
        patch.remove("paused");
    }
    patch
}

fn unreadable(id: &ScheduleId, message: &str) -> AppError {
    let detail = format!("{} cannot be edited as it is: {message}; mend the file first", id.file());
    AppError::Conflict { detail, suggestion: None }
}

fn refused(error: EditError) -> AppError {
    AppError::Conflict { detail: error.to_string(), suggestion: Some(error.suggestion) }
}
