//! Slots of the past, run because somebody asks for them.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::json;

use super::Job;
use crate::adapters::store::{Asked, Claim, Granted, RunQuery};
use crate::app::App;
use crate::app::apply::{draft, new_action_id};
use crate::app::error::AppError;
use crate::app::views::{BackfillAnswer, BackfillSlot};
use crate::core::audit::operation;
use crate::core::model::{Caller, Millis, ScheduleId};
use crate::core::run::Trigger;
use crate::core::timing::iso;

/// Slots of one backfill at most.
pub const MOST_SLOTS: usize = 1_000;

/// The slots asked for: from one moment to another, both counted.
#[derive(Clone, Copy, Debug)]
pub struct Backfill {
    pub from: Millis,
    pub to: Millis,
    pub dry_run: bool,
}

impl App {
    /// Claims the slots between two moments that have had no run, and runs them one after the other,
    /// the oldest first, behind whatever else the schedule has to run. A dry run only counts them.
    pub async fn backfill(
        self: &Arc<Self>,
        id: &ScheduleId,
        asked: Backfill,
        caller: &Caller,
    ) -> Result<BackfillAnswer, AppError> {
        let _lane = self.lanes.enter(id).await;
        let glance = self.fleet().get(id.connector, id.tenant.as_str());
        let slot = glance.ok_or_else(|| AppError::NotFound(id.clone()))?.slot;
        let now = self.clock.now();
        let slots = self.slots_between(id, slot, asked.from, asked.to.min(now))?;
        if asked.dry_run {
            let had = self.slots_that_ran(id, &slots).await?;
            let wanted: Vec<Millis> = slots.iter().copied().filter(|at| !had.contains(at)).collect();
            return Ok(BackfillAnswer {
                ok: true,
                dry_run: true,
                skipped: (slots.len() - wanted.len()) as u64,
                slots: wanted.into_iter().map(|at| BackfillSlot { nominal_iso: iso(at), run_id: None }).collect(),
                action_id: None,
                audit: Vec::new(),
            });
        }
        self.check_not_braked(id)?;
        let action_id = new_action_id();
        let by = Asked { by: caller.actor.clone(), action_id: action_id.clone() };
        let claim = |nominal: &Millis| Claim {
            id: id.clone(),
            nominal: *nominal,
            trigger: Trigger::Backfill,
            overlap: None,
            asked: Some(by.clone()),
            attempts: 0,
            advance: None,
            audit: vec![draft(
                Some(id),
                operation::BACKFILLED,
                caller,
                &action_id,
                json!({"nominal_iso": iso(*nominal), "from": iso(asked.from), "to": iso(asked.to)}),
            )],
        };
        let granted = self.store.claim(slots.iter().map(claim).collect(), now).await?;
        let (mut begun, mut audit) = (Vec::new(), Vec::new());
        for (nominal, granted) in slots.iter().zip(granted) {
            let Granted::Run(claimed) = granted else { continue };
            let job = Job::new(id.clone(), Some(slot), claimed.run, *nominal, Trigger::Backfill);
            self.launch(job.queued(claimed.is_queued));
            self.metrics.event(operation::BACKFILLED, "info");
            audit.extend(claimed.seqs);
            begun.push(BackfillSlot { nominal_iso: iso(*nominal), run_id: Some(claimed.run) });
        }
        let skipped = slots.len() - begun.len();
        self.metrics.local_action(id.tenant.as_str(), "backfill");
        Ok(BackfillAnswer {
            ok: true,
            dry_run: false,
            slots: begun,
            skipped: skipped as u64,
            action_id: Some(action_id),
            audit,
        })
    }

    /// Those of the slots, which are in order, that have had a run.
    async fn slots_that_ran(&self, id: &ScheduleId, slots: &[Millis]) -> Result<BTreeSet<Millis>, AppError> {
        const PAGE: u32 = 1_000;
        let mut had = BTreeSet::new();
        let (Some(first), Some(last)) = (slots.first(), slots.last()) else { return Ok(had) };
        let mut query = RunQuery {
            connector: id.connector,
            tenant: Some(id.tenant.clone()),
            state: None,
            ok: None,
            trigger: None,
            error_class: None,
            since: Some(*first),
            until: Some(last + 1),
            before: None,
            limit: PAGE,
            most_looked_at: PAGE,
        };
        loop {
            let page = self.store.runs(query.clone()).await?;
            had.extend(page.runs.into_iter().map(|run| run.nominal));
            match page.next {
                Some(next) => query.before = Some(next),
                None => return Ok(had),
            }
        }
    }

    fn slots_between(&self, id: &ScheduleId, slot: u32, from: Millis, to: Millis) -> Result<Vec<Millis>, AppError> {
        let rhythm = self.fleet().rhythm(slot).and_then(Result::ok).ok_or_else(|| AppError::NotFound(id.clone()))?;
        let first = rhythm.next_after(from - 1);
        let slots = std::iter::successors(first, |at| rhythm.next_after(*at)).take_while(|at| *at <= to);
        let slots: Vec<Millis> = slots.take(MOST_SLOTS + 1).collect();
        if slots.len() > MOST_SLOTS {
            let detail = format!("more than {MOST_SLOTS} slots of {id} lie in that time; ask for a shorter one");
            return Err(AppError::Conflict { detail, suggestion: None });
        }
        Ok(slots)
    }
}
