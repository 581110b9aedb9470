//! The edit of many files: all worked out first, then one transaction, then the files.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::StreamExt as _;

use super::super::App;
use super::super::apply::{draft, new_action_id};
use super::super::blocking::blocking;
use super::super::error::AppError;
use super::super::mutate::{Base, Committed, Edit, Mutation, Prepared};
use super::super::views::{BulkAnswer, BulkRefusal};
use super::{Consent, Order, refusal, undo_until};
use crate::adapters::source::{SourceError, Swap};
use crate::adapters::store::Applied;
use crate::core::audit::operation;
use crate::core::model::{Connector, ScheduleId};
use crate::core::plan::{Plan, Step};

/// Files that are read or given up on at the same time; they share the store's commits.
const AT_ONCE: usize = 32;
/// Files exchanged in one go.
const CHUNK: usize = 64;

/// One schedule's part.
struct Item {
    mutation: Mutation,
    base: Base,
    prepared: Prepared,
}

/// As `Item`, once it is durable.
struct Begun {
    mutation: Mutation,
    base: Base,
    steps: Vec<Step>,
    committed: Committed,
}

/// How the exchanges went.
#[derive(Default)]
struct Outcome {
    failed: Vec<BulkRefusal>,
    /// Entries of those that were made again on top of an editor's version.
    seqs: Vec<i64>,
}

impl App {
    /// Plans the edits as one, and unless they are only to be shown, makes them. The caller holds the gate
    /// alone.
    pub(super) async fn edit_many(
        &self,
        mut order: Order<'_>,
        mutations: Vec<Mutation>,
    ) -> Result<BulkAnswer, AppError> {
        let action_id = new_action_id();
        let mut items = self.prepare_all(&mut order, mutations, &action_id).await?;
        self.refuse_unwritable(&mut order, &mut items);
        if !order.refused.is_empty() && !order.partial && order.terms.consent != Consent::DryRun {
            return Err(order.refuse());
        }
        let steps = items.iter().flat_map(|item| item.prepared.planned.steps.iter().cloned());
        let mut plan = Plan::new(steps.collect());
        let confirmed = self.agree(&order, &mut plan).await?;
        let mut answer = self.shown(&order, &plan);
        if answer.dry_run {
            self.state().plans.remember(answer.digest.clone(), &plan);
            return Ok(answer);
        }
        answer.action_id = Some(action_id.clone());
        if items.is_empty() {
            return Ok(answer);
        }
        order.notes.push(("bulk", items.len().into()));
        order.notes.extend(confirmed.as_ref().map(|digest| ("confirmed", digest.clone().into())));
        for item in &mut items {
            item.mutation.notes.clone_from(&order.notes);
            item.prepared.planned.notes.extend(order.notes.iter().cloned());
        }
        if let Some(digest) = &confirmed {
            let detail = serde_json::json!({"digest": digest, "steps": plan.steps.len(), "bulk": order.action});
            let entry = draft(None, operation::PLAN_CONFIRMED, &order.terms.caller, &action_id, detail);
            self.store.append(vec![entry], self.clock.now()).await?;
        }
        let (begun, applied) = self.make_durable(items).await?;
        if confirmed.is_none() {
            self.note_destruction(plan.destructive().steps.len());
        }
        #[cfg(test)]
        self.before_exchange.run();
        let outcome = self.exchange_all(begun, &action_id).await;
        answer.audit = applied.seqs;
        answer.audit.extend(outcome.seqs);
        answer.ok = outcome.failed.is_empty();
        let is_any_done = (outcome.failed.len() as u64) < answer.changing;
        answer.undo_until_iso = is_any_done.then(|| undo_until(self.clock.now()));
        answer.failed = outcome.failed;
        Ok(answer)
    }

    /// Works every edit out and proves it; what cannot be edited is named in the order.
    async fn prepare_all(
        &self,
        order: &mut Order<'_>,
        mutations: Vec<Mutation>,
        action_id: &str,
    ) -> Result<Vec<Item>, AppError> {
        let work = mutations.into_iter().map(|mutation| self.prepare_one(mutation, action_id));
        let mut done = futures_util::stream::iter(work).buffered(AT_ONCE);
        let mut items = Vec::new();
        while let Some((id, prepared)) = done.next().await {
            match prepared {
                Ok(item) => items.extend(item),
                // What is wrong with the caller, the store or git is wrong with all of them.
                Err(
                    error @ (AppError::Forbidden(_) | AppError::Store(_) | AppError::Full(_) | AppError::Source(_)),
                ) => return Err(error),
                Err(error) => order.refused.push(refusal(&id, said(&error))),
            }
        }
        Ok(items)
    }

    /// Takes out what lies where nothing can be written: better known before anything is changed.
    fn refuse_unwritable(&self, order: &mut Order<'_>, items: &mut Vec<Item>) {
        let folders: BTreeSet<Connector> = items.iter().map(|item| item.mutation.id.connector).collect();
        for folder in folders {
            let Err(error) = self.source.check_writable(folder) else { continue };
            items.retain(|Item { mutation: Mutation { id, .. }, .. }| {
                let is_elsewhere = id.connector != folder;
                if !is_elsewhere {
                    order.refused.push(refusal(id, &error));
                }
                is_elsewhere
            });
        }
    }

    async fn prepare_one(&self, mutation: Mutation, action_id: &str) -> (ScheduleId, Result<Option<Item>, AppError>) {
        let id = mutation.id.clone();
        let prepared = async {
            self.check_not_owed(&mutation.id).await?;
            let base = self.read_base(&mutation.id)?;
            if base.content.is_none() && matches!(mutation.edit, Edit::Merge(_)) {
                let detail = "its file is gone; changing many creates none".to_owned();
                return Err(AppError::Conflict { detail, suggestion: None });
            }
            let prepared = self.prepare(&mutation, &base, action_id).await?;
            Ok(prepared.map(|prepared| Item { mutation, base, prepared }))
        };
        (id, prepared.await)
    }

    /// Makes everything durable in one transaction: rows, entries, and the promise of each file.
    async fn make_durable(&self, items: Vec<Item>) -> Result<(Vec<Begun>, Applied), AppError> {
        let (mut planned, mut intents, mut begun) = (Vec::new(), Vec::new(), Vec::new());
        for Item { mutation, base, prepared: Prepared { content, row, planned: plan } } in items {
            intents.push(self.intent(&plan, &base, content.clone()));
            let committed = Committed { content, row, seqs: Vec::new(), promised: None };
            begun.push(Begun { mutation, base, steps: plan.steps.clone(), committed });
            planned.push(plan);
        }
        let applied = self.carry_out(planned, intents).await?;
        // Each step has one entry, in the order of the changes.
        let mut seqs = applied.seqs.iter().copied();
        for (one, promised) in begun.iter_mut().zip(&applied.promised) {
            one.committed.seqs = seqs.by_ref().take(one.steps.len()).collect();
            one.committed.promised = Some(*promised);
        }
        Ok((begun, applied))
    }

    /// Exchanges the files. Where an editor was quicker, the change is taken back, and made again on top of
    /// theirs if the two go together.
    async fn exchange_all(&self, mut begun: Vec<Begun>, action_id: &str) -> Outcome {
        let mut outcome = Outcome::default();
        while !begun.is_empty() {
            let rest = begun.split_off(begun.len().min(CHUNK));
            let chunk = Arc::new(std::mem::replace(&mut begun, rest));
            let (source, work) = (self.source.clone(), chunk.clone());
            let swapped = blocking(move || {
                let exchange =
                    |one: &Begun| one.base.exchange(&*source, &one.mutation.id, one.committed.content.as_deref());
                work.iter().map(exchange).collect::<Vec<_>>()
            });
            let swapped = swapped.await.unwrap_or_default();
            let Some(chunk) = Arc::into_inner(chunk) else { continue };
            let settled = chunk.into_iter().zip(swapped.into_iter().map(Some).chain(std::iter::repeat_with(|| None)));
            let settled = settled.map(|(one, swapped)| self.settle_one(one, swapped, action_id));
            let results: Vec<_> = futures_util::stream::iter(settled).buffered(AT_ONCE).collect().await;
            for result in results {
                match result {
                    Ok(seqs) => outcome.seqs.extend(seqs),
                    Err(failed) => outcome.failed.push(failed),
                }
            }
        }
        outcome
    }

    /// What follows from one exchange, which the program's end may have kept from taking place; the entries of
    /// a second try.
    async fn settle_one(
        &self,
        one: Begun,
        swapped: Option<Result<Swap, SourceError>>,
        action_id: &str,
    ) -> Result<Vec<i64>, BulkRefusal> {
        let Begun { mutation, base, steps, committed } = one;
        let promised = committed.promised;
        let Some(swapped) = swapped else {
            let detail = "the program is stopping; the file is written at its next start";
            return Err(refusal(&mutation.id, detail));
        };
        let again = match self.after_exchange(&mutation.id, swapped, committed).await {
            Ok(true) => {
                self.is_done(&mutation.id, &steps, promised);
                return Ok(Vec::new());
            }
            Ok(false) => self.try_until_done(&mutation, Some(base), action_id).await,
            Err(error) => Err(error),
        };
        again.map(|answer| answer.audit).map_err(|error| refusal(&mutation.id, said(&error)))
    }
}

/// The error in one line, with the fields that are wrong.
fn said(error: &AppError) -> String {
    match error {
        AppError::Invalid(errors) => {
            let said = |error: &crate::core::desired::FieldError| format!("{}: {}", error.pointer, error.message);
            errors.iter().map(said).collect::<Vec<_>>().join("; ")
        }
        AppError::NotFound(_) => "has no schedule".to_owned(),
        error => error.to_string(),
    }
}
