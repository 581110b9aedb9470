//! What a schedule's file said, change by change.

use serde_json::Value;

use super::App;
use super::error::AppError;
use super::views::{HistoryPage, RevisionView};
use crate::adapters::store::{Revision, RevisionQuery};
use crate::core::desired::document_value;
use crate::core::history::{RevisionRef, shown_diff, verb};
use crate::core::mask::masked;
use crate::core::model::{Digest, ScheduleId};
use crate::core::timing::{iso, seconds};

/// How many revisions a refusal lists.
const LISTED: u32 = 20;

/// What to show of a history.
#[derive(Clone, Copy, Debug)]
pub struct HistoryQuery {
    /// Only revisions with a smaller number.
    pub before: Option<i64>,
    pub limit: u32,
    pub with_content: bool,
}

impl App {
    /// A page of revisions, newest first, and the number from which the next page goes on.
    pub async fn history(&self, id: &ScheduleId, query: HistoryQuery) -> Result<(HistoryPage, Option<i64>), AppError> {
        let limit = query.limit as usize;
        // One more, which the last is compared with.
        let found = self
            .store
            .revisions(RevisionQuery {
                before: query.before,
                limit: query.limit.saturating_add(1),
                with_content: true,
                ..all_of(id)
            })
            .await?;
        let exists = self.store.schedule(id.clone()).await?.is_some();
        if found.is_empty() && query.before.is_none() && !exists {
            return Err(AppError::NoHistory(id.clone()));
        }
        let documents: Vec<Option<Value>> = found.iter().map(|revision| document(id, revision)).collect();
        let next = found.get(limit).and_then(|_| found.get(limit.checked_sub(1)?)).map(|revision| revision.number);
        let shown = found.iter().enumerate().take(limit);
        let revisions = shown
            .map(|(at, revision)| {
                let document = documents.get(at).and_then(Option::as_ref);
                let before = found.get(at + 1).map(|before| (before, documents.get(at + 1).and_then(Option::as_ref)));
                view(revision, document, before, query.with_content)
            })
            .collect();
        let page = HistoryPage {
            ok: true,
            connector: id.connector.to_string(),
            tenant: id.tenant.to_string(),
            file: id.file(),
            exists,
            revisions,
            next_cursor: None,
        };
        Ok((page, next))
    }

    /// The revision that a caller means, with its content.
    pub(super) async fn revision(&self, id: &ScheduleId, wanted: &RevisionRef) -> Result<Revision, AppError> {
        let query = RevisionQuery { limit: 1, with_content: true, ..all_of(id) };
        let query = match wanted {
            RevisionRef::Number(number) => RevisionQuery { before: number.checked_add(1), ..query },
            RevisionRef::Time(at) => RevisionQuery { until: Some(*at), ..query },
            RevisionRef::Digest(prefix) => {
                RevisionQuery { digest_prefix: Some(prefix.clone()), limit: LISTED, ..query }
            }
        };
        let found = self.store.revisions(query).await?;
        let fits = |revision: &&Revision| match wanted {
            RevisionRef::Number(number) => revision.number == *number,
            RevisionRef::Time(_) | RevisionRef::Digest(_) => true,
        };
        let Some(revision) = found.first().filter(fits) else { return Err(self.no_revision(id, wanted).await?) };
        if found.iter().any(|other| other.digest != revision.digest) {
            let numbers: Vec<String> = found.iter().map(|revision| revision.number.to_string()).collect();
            let detail =
                format!("that digest begins several contents (revisions {}); give more of it", numbers.join(", "));
            return Err(AppError::Conflict { detail, suggestion: None });
        }
        Ok(revision.clone())
    }

    /// Which revisions there are instead.
    async fn no_revision(&self, id: &ScheduleId, wanted: &RevisionRef) -> Result<AppError, AppError> {
        let query = RevisionQuery { limit: LISTED, ..all_of(id) };
        let known: Vec<i64> = self.store.revisions(query).await?.iter().map(|revision| revision.number).collect();
        let wanted = match wanted {
            RevisionRef::Number(number) => format!("revision {number}"),
            RevisionRef::Digest(prefix) => format!("revision whose digest begins with {prefix}"),
            RevisionRef::Time(at) => format!("revision at or before {}", iso(*at)),
        };
        Ok(match (known.first(), known.last()) {
            (Some(newest), Some(oldest)) => {
                let detail = format!("{id} has no {wanted}; the newest are {oldest} to {newest}");
                AppError::NoRevision { detail, known }
            }
            _ => AppError::NoHistory(id.clone()),
        })
    }
}

fn all_of(id: &ScheduleId) -> RevisionQuery {
    RevisionQuery { id: id.clone(), before: None, until: None, digest_prefix: None, limit: 0, with_content: false }
}

/// What the revision said, as a value.
fn document(id: &ScheduleId, revision: &Revision) -> Option<Value> {
    document_value(id, revision.content.as_deref()?).ok()
}

fn view(
    revision: &Revision,
    document: Option<&Value>,
    before: Option<(&Revision, Option<&Value>)>,
    with_content: bool,
) -> RevisionView {
    let existed = before.filter(|(before, _)| before.digest.is_some());
    let known = !revision.action_id.is_empty();
    // A content that is lost still was one.
    let (was, is) = (existed.map(|(_, value)| value.unwrap_or(&Value::Null)), document.unwrap_or(&Value::Null));
    let change = verb(was, revision.digest.map(|_| is), known);
    let unknown = revision.digest.is_some() && document.is_none() || existed.is_some_and(|(_, value)| value.is_none());
    RevisionView {
        revision: revision.number,
        change: change.to_owned(),
        ts: seconds(revision.at),
        ts_iso: iso(revision.at),
        source: revision.source.clone(),
        actor: revision.actor.clone(),
        action_id: revision.action_id.clone(),
        digest: revision.digest.map(Digest::to_hex),
        available: revision.content.is_some(),
        diff: if unknown { Vec::new() } else { shown_diff(was, document) },
        content: revision
            .content
            .as_deref()
            .filter(|_| with_content)
            .map(|bytes| masked(&String::from_utf8_lossy(bytes))),
    }
}
