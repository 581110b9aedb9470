//! Many schedules at once: chosen, planned as one, carried out as one. The plan is shown first and named by
//! its digest; on the files it is all or nothing.

mod files;
mod runs;
mod undo;

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::App;
use super::apply::{draft, new_action_id};
use super::error::{AppError, Refused};
use super::mutate::{Edit, Mutation};
use super::views::{BulkAnswer, BulkRefusal};
use crate::adapters::store::SpecQuery;
use crate::core::audit::operation;
use crate::core::desired::FieldError;
use crate::core::model::{Caller, Millis, ScheduleId};
use crate::core::plan::{self, ChangeView, Plan, Step};
use crate::core::selection::{Candidate, Named, Selection};

pub use undo::Undo;

/// More are not changed at once: one transaction holds them, and nobody else is served meanwhile.
pub const MAX_AT_ONCE: usize = 10_000;

/// Changes that an answer lists.
const MAX_LISTED: usize = 1000;

/// What is done to each of many schedules.
#[derive(Clone, Debug)]
pub enum Deed {
    Pause {
        /// When the pause lifts by itself, as the files are to say it.
        until: Option<String>,
    },
    Resume,
    /// An RFC 7396 patch on each file as written.
    Set(Map<String, Value>),
    Delete,
    /// Imports at once; no file changes.
    RunNow,
}

impl Deed {
    pub fn name(&self) -> &'static str {
        match self {
            Deed::Pause { .. } => "pause",
            Deed::Resume => "resume",
            Deed::Set(_) => "set",
            Deed::Delete => "delete",
            Deed::RunNow => "run-now",
        }
    }

    /// The edit of each file; `None` where no file changes.
    fn edit(&self, reason: Option<&String>) -> Option<Edit> {
        let reason = reason.cloned();
        Some(match self {
            Deed::Pause { until } => Edit::Pause { reason, until: until.clone() },
            Deed::Resume => Edit::Resume { reason },
            Deed::Set(patch) => Edit::Merge(patch.clone()),
            Deed::Delete => Edit::Delete,
            Deed::RunNow => return None,
        })
    }
}

/// An action on many schedules.
#[derive(Clone, Debug)]
pub struct Bulk {
    pub deed: Deed,
    pub select: Selection,
    pub terms: Terms,
}

/// Who asks for an action on many, and on which terms.
#[derive(Clone, Debug)]
pub struct Terms {
    pub reason: Option<String>,
    pub caller: Caller,
    pub may_change_connection: bool,
    pub consent: Consent,
}

/// What of a plan somebody has seen and agreed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Consent {
    /// Nothing yet: the plan is only shown.
    DryRun,
    /// To whatever it comes to, within the blast radius.
    Any,
    /// To the plan of this digest, within the blast radius.
    Digest(String),
    /// To the plan of this digest, however much it takes away.
    Confirm(String),
}

/// What is about to be done: the name of the action, whom it is about, what stands in the way.
struct Order<'a> {
    action: &'static str,
    /// In a few words.
    about: String,
    terms: &'a Terms,
    selected: usize,
    refused: Vec<BulkRefusal>,
    /// What stands in the way is left out instead of stopping all.
    partial: bool,
    /// Said in the audit besides.
    notes: Vec<(&'static str, Value)>,
}

pub(super) fn refusal(id: &ScheduleId, detail: impl ToString) -> BulkRefusal {
    BulkRefusal { connector: id.connector.to_string(), tenant: id.tenant.to_string(), detail: detail.to_string() }
}

impl App {
    /// Does the same to many schedules: shows the plan, or carries it out. On the files it is all or nothing,
    /// but for those that an editor saves at the same moment; these are named in `failed`.
    pub async fn bulk(self: &Arc<Self>, bulk: Bulk) -> Result<BulkAnswer, AppError> {
        let Bulk { deed, select, terms } = bulk;
        let order = |ids: &[ScheduleId], refused: Vec<BulkRefusal>| Order {
            action: deed.name(),
            about: select.told(),
            terms: &terms,
            selected: ids.len() + refused.len(),
            refused,
            partial: false,
            notes: Vec::new(),
        };
        let Some(edit) = deed.edit(terms.reason.as_ref()) else {
            let (ids, refused) = self.selected(&select).await?;
            return self.run_many(order(&ids, refused), ids).await;
        };
        self.wait_for_git().await?;
        // Alone: no order of locks to keep, and no file is looked at while half of them are changed.
        let _alone = self.gate.write().await;
        let (ids, refused) = self.selected(&select).await?;
        let mut order = order(&ids, refused);
        // Those of a pause or a resume say so themselves.
        if matches!(edit, Edit::Merge(_) | Edit::Delete) {
            order.notes.extend(terms.reason.clone().map(|reason| ("reason", reason.into())));
        }
        let mutation = |id: ScheduleId| Mutation {
            id,
            edit: edit.clone(),
            caller: terms.caller.clone(),
            may_change_connection: terms.may_change_connection,
            if_match: None,
            notes: Vec::new(),
        };
        self.edit_many(order, ids.into_iter().map(mutation).collect()).await
    }

    /// The schedules that a choice means, in order, and what it names that is not there.
    pub(super) async fn selected(&self, select: &Selection) -> Result<(Vec<ScheduleId>, Vec<BulkRefusal>), AppError> {
        let wrong = |message: String| AppError::Invalid(vec![FieldError { pointer: "/select".to_owned(), message }]);
        if select.is_empty() {
            let message = "chooses nothing; name labels, tenants, a connector or a state, or say all: true";
            return Err(wrong(message.to_owned()));
        }
        let now = self.clock.now();
        let (mut ids, mut known) = (Vec::new(), std::collections::BTreeSet::new());
        let mut rows = self.store.specs(SpecQuery { connector: select.connector });
        while let Some(batch) = rows.recv().await {
            for row in batch? {
                let wanted = |named: &&Named| select.means(named, &row.id);
                known.extend(select.named.iter().filter(wanted).cloned());
                let spec = if select.labels.is_empty() { None } else { row.spec.spec() };
                let candidate = Candidate {
                    id: &row.id,
                    labels: &spec.map(|spec| spec.labels).unwrap_or_default(),
                    is_paused: row.spec.is_paused_at(now),
                    is_failing: row.failures > 0,
                };
                if select.fits(&candidate) {
                    ids.push(row.id);
                }
            }
        }
        if ids.len() > MAX_AT_ONCE {
            return Err(wrong(format!("chooses {} schedules; {MAX_AT_ONCE} at once at most: choose fewer", ids.len())));
        }
        ids.sort();
        let missing = select.named.difference(&known).map(|named| {
            let connector = match (named, select.connector) {
                (Named::Schedule(id), _) => id.connector.to_string(),
                (Named::Tenant(_), connector) => connector.map_or(String::new(), |connector| connector.to_string()),
            };
            BulkRefusal { connector, tenant: named.tenant().to_string(), detail: "has no schedule".to_owned() }
        });
        Ok((ids, missing.collect()))
    }

    /// Compares the plan with what was agreed to. `Ok` may be carried out, with the digest by which a person
    /// agreed to what is beyond the blast radius.
    async fn agree(&self, order: &Order<'_>, plan: &mut Plan) -> Result<Option<String>, AppError> {
        let (agreed, confirmed) = match &order.terms.consent {
            Consent::DryRun | Consent::Any => (None, false),
            Consent::Digest(digest) => (Some(digest), false),
            Consent::Confirm(digest) => (Some(digest), true),
        };
        let digest = plan.digest();
        if let Some(agreed) = agreed.filter(|agreed| **agreed != digest) {
            return Err(self.bulk_moved(agreed, plan));
        }
        plan::guard(&mut plan.steps, self.blast(usize::MAX, false), self.settings.guard);
        let held = plan.held().count();
        if held == 0 || confirmed || order.terms.consent == Consent::DryRun {
            return Ok(Some(digest).filter(|_| held > 0 && confirmed));
        }
        self.state().plans.remember(digest.clone(), plan);
        let detail = json!({"action": order.action, "select": order.about, "digest": digest, "held": held,
                            "steps": plan.steps.len(), "reason": order.terms.reason});
        let entry = draft(None, operation::BULK_HELD, &order.terms.caller, &new_action_id(), detail);
        self.store.append(vec![entry], self.clock.now()).await?;
        self.metrics.event(operation::BULK_HELD, "warning");
        Err(AppError::Held(Box::new(self.shown(order, plan))))
    }

    /// The plan as an answer.
    fn shown(&self, order: &Order<'_>, plan: &Plan) -> BulkAnswer {
        let mut schedules: Vec<&ScheduleId> = plan.steps.iter().map(|step| &step.id).collect();
        schedules.dedup();
        let changes: Vec<ChangeView> = plan.steps.iter().take(MAX_LISTED).map(Step::view).collect();
        BulkAnswer {
            ok: order.refused.is_empty() || order.partial,
            dry_run: order.terms.consent == Consent::DryRun,
            action: order.action.to_owned(),
            selected: order.selected as u64,
            changing: schedules.len() as u64,
            digest: plan.digest(),
            changes_left_out: (plan.steps.len() - changes.len()) as u64,
            changes,
            held: plan.held().count() as u64,
            refused: order.refused.clone(),
            ..BulkAnswer::default()
        }
    }
}

impl Order<'_> {
    /// Refuses everything, naming each schedule that stands in the way.
    fn refuse(&self) -> AppError {
        let count = self.refused.len();
        let first = self.refused.first().map(|first| format!("{}: {}", first.tenant, first.detail)).unwrap_or_default();
        let more = if count > 1 { format!(" (and {} more)", count - 1) } else { String::new() };
        let detail = format!("nothing was changed, since {count} of the schedules cannot be: {first}{more}");
        AppError::Refused(Box::new(Refused { detail, refused: self.refused.clone() }))
    }
}

/// Until when what is done at `now` can be undone.
fn undo_until(now: Millis) -> String {
    crate::core::timing::iso(now.saturating_add(undo::WINDOW_MS))
}
