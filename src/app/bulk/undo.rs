//! An action taken back: every file it changed gets the content that it had before.

use std::collections::BTreeSet;

use super::super::App;
use super::super::error::AppError;
use super::super::mutate::{Edit, Mutation};
use super::super::replace::{Expect, Replacement};
use super::super::views::BulkAnswer;
use super::{Order, Terms, refusal};
use crate::adapters::store::Deed as Trace;
use crate::core::model::{Millis, Tenant};
use crate::core::timing::iso;

/// How long an action can be taken back as a whole; after that its schedules go back one by one.
pub(super) const WINDOW_MS: Millis = 24 * 3_600_000;

/// A request to take an action back.
#[derive(Clone, Debug)]
pub struct Undo {
    pub action_id: String,
    /// Schedules that have changed since stay as they are; otherwise nothing is undone then.
    pub partial: bool,
    /// The one tenant whose schedules the caller may change.
    pub only: Option<Tenant>,
    pub terms: Terms,
}

impl App {
    /// Takes an action back: shows the plan, or carries it out as an action of its own.
    pub async fn undo(&self, undo: Undo) -> Result<BulkAnswer, AppError> {
        let Undo { action_id, partial, only, terms } = undo;
        self.wait_for_git().await?;
        let _alone = self.gate.write().await;
        let traces = self.store.deeds(action_id.clone()).await?;
        let Some(at) = traces.iter().map(|trace| trace.at).max() else { return Err(AppError::NoAction(action_id)) };
        if only.is_some_and(|only| traces.iter().any(|trace| trace.id.tenant != only)) {
            let detail = "that action changed schedules of other tenants; only an operator of all may undo it";
            return Err(AppError::Forbidden(detail.to_owned()));
        }
        if at < self.clock.now() - WINDOW_MS {
            let detail = format!(
                "that action took place at {} and can be undone as a whole for 24 hours; go back schedule by \
                 schedule, or with the directory to a moment before it (rollback)",
                iso(at)
            );
            return Err(AppError::Conflict { detail, suggestion: None });
        }
        let mut order = Order {
            action: "undo",
            about: action_id.clone(),
            terms: &terms,
            selected: traces.len(),
            refused: Vec::new(),
            partial,
            notes: vec![("undoes", action_id.clone().into())],
        };
        let mut mutations = Vec::new();
        let mut seen = BTreeSet::new();
        for trace in traces.into_iter().filter(|trace| seen.insert(trace.id.clone())) {
            let id = trace.id.clone();
            match back(trace, &action_id, &terms) {
                Ok(mutation) => mutations.extend(mutation),
                Err(why) => order.refused.push(refusal(&id, why)),
            }
        }
        self.edit_many(order, mutations).await
    }
}

/// The edit that puts back what was before; `None` where that is what there is.
fn back(trace: Trace, action_id: &str, terms: &Terms) -> Result<Option<Mutation>, String> {
    let Trace { id, before, after, now, .. } = trace;
    if now == before.as_ref().map(|before| before.digest) {
        return Ok(None);
    }
    if now != after {
        return Err("has changed since that action".to_owned());
    }
    let content = match before {
        None => None,
        Some(before) => Some(before.content.ok_or("its content of before was lost or damaged in the store")?),
    };
    let to = format!("before {action_id}").into();
    let reason = terms.reason.clone();
    Ok(Some(Mutation {
        id,
        edit: Edit::Replace(Replacement { content, expect: Expect::Exactly(after), to, reason }),
        caller: terms.caller.clone(),
        may_change_connection: terms.may_change_connection,
        if_match: None,
        notes: Vec::new(),
    }))
}
