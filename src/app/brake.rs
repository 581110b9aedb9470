//! The emergency stop: kept in the store only, so that it works whatever state files and git are in.

use std::sync::PoisonError;

use serde_json::json;

use super::App;
use super::apply::{draft, new_action_id};
use super::error::AppError;
use super::views::BrakeView;
use crate::adapters::store::{Brake, StoreError};
use crate::core::audit::operation;
use crate::core::model::{Caller, ScheduleId};
use crate::core::timing::iso;

/// How the whole fleet's scope is shown.
const FLEET: &str = "fleet";

impl App {
    /// Whether a brake keeps this schedule from starting runs.
    pub fn is_braked(&self, id: &ScheduleId) -> bool {
        let brakes = self.brakes.lock().unwrap_or_else(PoisonError::into_inner);
        !brakes.is_empty() && {
            let name = id.to_string();
            brakes.iter().any(|brake| brake.scope.is_empty() || brake.scope == name)
        }
    }

    pub async fn brakes(&self) -> Result<Vec<BrakeView>, AppError> {
        Ok(self.brakes.lock().unwrap_or_else(PoisonError::into_inner).iter().map(view).collect())
    }

    /// Stops starting runs at once; runs in flight end by themselves. `None` is the whole fleet.
    pub async fn pull_brake(
        &self,
        scope: Option<ScheduleId>,
        reason: String,
        caller: &Caller,
    ) -> Result<Vec<BrakeView>, AppError> {
        let now = self.clock.now();
        let brake = Brake { scope: name(scope.as_ref()), reason, actor: caller.actor.clone(), since: now };
        let detail = json!({"scope": shown(&brake.scope), "reason": brake.reason});
        let entry = draft(scope.as_ref(), operation::BRAKE_PULLED, caller, &new_action_id(), detail);
        // In force before it is durable: an emergency does not wait for a disk.
        self.set_brake(brake.clone());
        if let Err(error) = self.store.put_brake(brake, entry).await {
            const HOLDS: &str = "the brake holds, but could not be written down and ends with this program";
            return Err(match error {
                StoreError::Full => {
                    AppError::Full(format!("{HOLDS}: the store's disk is full; free some space and pull it again"))
                }
                other => other.into(),
            });
        }
        self.metrics.event(operation::BRAKE_PULLED, "warning");
        self.brakes().await
    }

    pub async fn release_brake(&self, scope: Option<ScheduleId>, caller: &Caller) -> Result<Vec<BrakeView>, AppError> {
        let name = name(scope.as_ref());
        let pulled = self.brakes.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|b| b.scope == name);
        if pulled {
            let detail = json!({"scope": shown(&name)});
            let entry = draft(scope.as_ref(), operation::BRAKE_RELEASED, caller, &new_action_id(), detail);
            self.store.release_brake(name.clone(), entry, self.clock.now()).await?;
            self.brakes.lock().unwrap_or_else(PoisonError::into_inner).retain(|brake| brake.scope != name);
            self.metrics.event(operation::BRAKE_RELEASED, "info");
        }
        self.brakes().await
    }

    fn set_brake(&self, brake: Brake) {
        let mut brakes = self.brakes.lock().unwrap_or_else(PoisonError::into_inner);
        brakes.retain(|other| other.scope != brake.scope);
        brakes.push(brake);
    }
}

fn name(scope: Option<&ScheduleId>) -> String {
    scope.map(ToString::to_string).unwrap_or_default()
}

fn shown(scope: &str) -> &str {
    if scope.is_empty() { FLEET } else { scope }
}

fn view(brake: &Brake) -> BrakeView {
    BrakeView {
        scope: shown(&brake.scope).to_owned(),
        reason: brake.reason.clone(),
        actor: brake.actor.clone(),
        since_iso: iso(brake.since),
    }
}
