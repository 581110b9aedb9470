//! A schedule that fails and fails is paused, where its file says after how often.

use crate::app::App;
use crate::app::mutate::{Edit, Mutation};
use crate::core::model::{Caller, ScheduleId, Source};
use crate::core::policy::RunPolicy;

/// Characters of the failure that a pause quotes.
const QUOTED: usize = 300;

impl App {
    /// Pauses the schedule when so many runs in a row have failed as its rules say: in its file, or
    /// where that cannot be written, by its brake.
    pub(super) async fn pause_if_failing(&self, id: &ScheduleId, policy: &RunPolicy, failures: u32, message: &str) {
        if policy.auto_pause_after.is_none_or(|most| failures < most) {
            return;
        }
        let glance = self.fleet().get(id.connector, id.tenant.as_str());
        if glance.is_none_or(|glance| glance.paused) || self.is_braked(id) {
            return;
        }
        let quoted: String = message.chars().filter(|c| !c.is_control()).take(QUOTED).collect();
        let reason = format!("paused by itself: {failures} runs in a row failed, the last with: {quoted}");
        let caller = Caller { source: Source::Scheduler, actor: "scheduler".to_owned() };
        let mutation = Mutation {
            id: id.clone(),
            edit: Edit::Pause { reason: Some(reason.clone()), until: None },
            caller: caller.clone(),
            may_change_connection: false,
            if_match: None,
            notes: Vec::new(),
        };
        let Err(error) = self.mutate(mutation).await else {
            tracing::warn!(component = "acculynx-scheduler", tenant_id = %id.tenant, failures, "{id} was {reason}");
            return;
        };
        tracing::warn!(component = "acculynx-scheduler", tenant_id = %id.tenant, failures, %error,
            "{id} fails and its file cannot be paused; its brake is pulled");
        if let Err(error) = self.pull_brake(Some(id.clone()), reason, &caller).await {
            tracing::error!(component = "acculynx-scheduler", tenant_id = %id.tenant, %error,
                "could not record the brake; it holds until the program stops");
        }
    }
}
