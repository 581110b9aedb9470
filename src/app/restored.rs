//! After a restoring: what may not be repeated is passed over, and what is lost is shown until somebody has seen it.

use serde_json::json;

use super::App;
use super::apply::{command_center, draft, new_action_id};
use super::error::AppError;
use super::start::TimerCheck;
use super::views::RestoredView;
use crate::adapters::store::rescue::RESTORED;
use crate::adapters::store::{Advance, FleetRow, OpenRun};
use crate::core::audit::operation;
use crate::core::missed::{Miss, Missed};
use crate::core::model::{Caller, Connector, Millis};
use crate::core::policy::RunPolicy;

/// How long a restoring is shown in health to those who do not dismiss it.
const SHOWN_MS: Millis = 7 * 86_400_000;

pub(super) fn is_shown(restored: &RestoredView, now: Millis) -> bool {
    now - restored.at_ms < SHOWN_MS
}

/// Whether a slot may be run a second time when nobody knows whether it was run: what imports idempotently may,
/// and a program whose schedule asks for repetition.
fn may_repeat(connector: Connector, policy: &RunPolicy) -> bool {
    connector.imports_idempotently() || policy.retries > 0
}

impl App {
    /// Before the fleet is loaded. A restored store does not know what ran between its copy and its end: slots of
    /// that time are caught up on by each schedule's rule, but programs that may not be repeated pass them over.
    pub(super) async fn take_note_of_restoring(&self) -> Result<(), AppError> {
        let restored = self.store.fact(RESTORED).await?;
        let restored: Option<RestoredView> = restored.and_then(|text| serde_json::from_str(&text).ok());
        self.keeping.told().restored.clone_from(&restored);
        let Some(restored) = restored.filter(|restored| !restored.settled) else { return Ok(()) };
        self.metrics.store_restored();
        self.metrics.event(operation::STORE_RESTORED, "error");
        let mut timers = TimerCheck::at(self.clock.now());
        let mut advances = Vec::new();
        let mut rows = self.store.fleet();
        while let Some(batch) = rows.recv().await {
            advances.extend(batch?.iter().filter_map(|row| passed_over(row, restored.at_ms, &mut timers)));
        }
        if !advances.is_empty() {
            tracing::warn!(
                component = "acculynx-scheduler",
                "{} programs that may have run before the store was restored are not run again for those slots",
                advances.len()
            );
            self.store.advance(advances).await?;
        }
        Ok(())
    }

    /// Whether a run that the restored store takes for waiting may have been through since.
    pub(super) fn is_in_doubt(&self, run: &OpenRun, policy: &RunPolicy) -> bool {
        let restored = self.keeping.told().restored.clone();
        let unsettled = restored.is_some_and(|restored| !restored.settled);
        unsettled && !may_repeat(run.id.connector, policy)
    }

    /// Everything that follows from a restoring has been done.
    pub(super) async fn settle_restoring(&self) -> Result<(), AppError> {
        let restored = self.keeping.told().restored.clone();
        let Some(restored) = restored.filter(|restored| !restored.settled) else { return Ok(()) };
        let settled = RestoredView { settled: true, ..restored };
        let text = serde_json::to_string(&settled).unwrap_or_default();
        self.store.put_fact(RESTORED, Some(text), Vec::new(), self.clock.now()).await?;
        self.keeping.told().restored = Some(settled);
        Ok(())
    }

    /// Whether the store was restored, and what was signed of entries that are gone still counts.
    pub(super) fn is_restored_anew(&self) -> bool {
        self.keeping.told().restored.as_ref().is_some_and(|restored| !restored.signed)
    }

    /// Once the notary is at work: what it signed of entries that are gone can vouch for nothing any more.
    pub async fn sign_restoring(&self) {
        let restored = self.keeping.told().restored.clone();
        let Some(restored) = restored.filter(|restored| !restored.signed) else { return };
        let reason = format!("the store was restored from {}", restored.from);
        if let Err(error) = self.set_checkpoints_aside(restored.kept_seq, Some(reason), &command_center()).await {
            tracing::warn!(component = "notary", %error, "could not set checkpoints of lost entries aside");
            return;
        }
        let signed = RestoredView { signed: true, ..restored };
        let text = serde_json::to_string(&signed).unwrap_or_default();
        if self.store.put_fact(RESTORED, Some(text), Vec::new(), self.clock.now()).await.is_ok() {
            self.keeping.told().restored = Some(signed);
        }
    }

    /// A person has seen what is lost. Answers whether there was anything to see.
    pub async fn dismiss_restored(&self, caller: &Caller) -> Result<bool, AppError> {
        let Some(restored) = self.keeping.told().restored.clone() else { return Ok(false) };
        let detail = json!({"at_iso": restored.at_iso, "from": restored.from, "lost": restored.lost});
        let entry = draft(None, operation::RESTORATION_DISMISSED, caller, &new_action_id(), detail);
        self.store.put_fact(RESTORED, None, vec![entry], self.clock.now()).await?;
        self.keeping.told().restored = None;
        Ok(true)
    }
}

fn passed_over(row: &FleetRow, until: Millis, timers: &mut TimerCheck) -> Option<Advance> {
    let due = row.next_due.filter(|due| *due <= until)?;
    // A sleeper's timer lifts its pause.
    let lifts = row.paused && row.pause_until == Some(due);
    if lifts || may_repeat(row.connector, &RunPolicy::parse(&row.policy)) {
        return None;
    }
    let turn = timers.turn(row, due)?;
    let slots = turn.missed.saturating_add(u32::try_from(turn.slots.len()).unwrap_or(u32::MAX));
    Some(Advance {
        row: row.row,
        from: due,
        to: turn.next,
        applied: Some(row.applied),
        missed: Missed::of(Miss::Folded, slots),
    })
}
