//! Run-now of many: each is claimed as by a single run-now, all under one action.

use std::sync::Arc;

use futures_util::StreamExt as _;
use serde_json::{Map, Value};

use super::super::App;
use super::super::apply::new_action_id;
use super::super::error::{AppError, PlanMoved};
use super::super::runs::Asking;
use super::super::views::{BulkAnswer, BulkRefusal, BulkRun};
use super::{Consent, MAX_LISTED, Order, refusal};
use crate::core::model::ScheduleId;
use crate::core::plan::{ChangeView, changes_digest};

/// Claims under way at the same time; they share the store's commits.
const AT_ONCE: usize = 32;

impl App {
    pub(super) async fn run_many(
        self: &Arc<Self>,
        order: Order<'_>,
        ids: Vec<ScheduleId>,
    ) -> Result<BulkAnswer, AppError> {
        let terms = order.terms;
        if !order.refused.is_empty() && terms.consent != Consent::DryRun {
            return Err(order.refuse());
        }
        let mut answer = planned(&order, &ids);
        match &terms.consent {
            Consent::DryRun => return Ok(answer),
            Consent::Digest(agreed) | Consent::Confirm(agreed) if *agreed != answer.digest => {
                let detail =
                    "the choice means other schedules than when that plan was shown; look at it again".to_owned();
                let digest = Some(answer.digest);
                let moved = PlanMoved { detail, digest, held_digest: None, moved: None, total: 0 };
                return Err(AppError::PlanMoved(Box::new(moved)));
            }
            _ => {}
        }
        let mut notes = Map::from_iter([("bulk".to_owned(), Value::from(ids.len()))]);
        notes.extend(terms.reason.iter().map(|reason| ("reason".to_owned(), reason.as_str().into())));
        let asking = Asking { caller: terms.caller.clone(), action_id: new_action_id(), notes };
        let begun = ids.into_iter().map(|id| self.begin_one(id, &asking));
        let begun: Vec<_> = futures_util::stream::iter(begun).buffered(AT_ONCE).collect().await;
        for one in begun {
            match one {
                Ok((run, seqs)) => {
                    answer.runs.push(run);
                    answer.audit.extend(seqs);
                }
                Err(failed) => answer.failed.push(failed),
            }
        }
        answer.ok = answer.failed.is_empty();
        answer.action_id = Some(asking.action_id);
        Ok(answer)
    }

    async fn begin_one(self: &Arc<Self>, id: ScheduleId, asking: &Asking) -> Result<(BulkRun, Vec<i64>), BulkRefusal> {
        let begun = self.begin_run(&id, asking).await.map_err(|error| refusal(&id, error))?;
        let state = if self.is_waiting(&id, begun.run) { "queued" } else { "running" };
        let (connector, tenant) = (id.connector.to_string(), id.tenant.to_string());
        Ok((BulkRun { connector, tenant, run_id: begun.run, state: state.to_owned() }, begun.seqs))
    }
}

/// The plan: who is to run.
fn planned(order: &Order<'_>, ids: &[ScheduleId]) -> BulkAnswer {
    let change = |id: &ScheduleId| ChangeView {
        connector: id.connector.to_string(),
        tenant: id.tenant.to_string(),
        action: order.action.to_owned(),
        facet: None,
        diff: Vec::new(),
        held: None,
        because: None,
    };
    let mut changes: Vec<ChangeView> = ids.iter().map(change).collect();
    let digest = changes_digest(&changes);
    let left_out = changes.len().saturating_sub(MAX_LISTED);
    changes.truncate(MAX_LISTED);
    BulkAnswer {
        ok: order.refused.is_empty(),
        dry_run: order.terms.consent == Consent::DryRun,
        action: order.action.to_owned(),
        selected: ids.len() as u64,
        changing: ids.len() as u64,
        digest,
        changes,
        changes_left_out: left_out as u64,
        refused: order.refused.clone(),
        ..BulkAnswer::default()
    }
}
