//! The program's end, and its new start in its own place.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::Ordering;

use serde_json::json;

use super::App;
use super::apply::{command_center, draft, new_action_id};
use super::blocking::blocking;
use super::error::AppError;
use crate::core::audit::operation;
use crate::core::model::Caller;

/// What comes after this program, if it is to start again.
#[derive(Default)]
pub(super) struct Successor {
    /// Says why it would not start; unset where nobody can tell.
    check: OnceLock<Box<dyn Fn() -> Result<(), String> + Send + Sync>>,
    /// Who asks for a restart while another does waits for the other's answer.
    asking: tokio::sync::Mutex<()>,
}

impl App {
    /// Has each restart that is asked for depend on this: it says why what is to be started would not start.
    pub fn check_successor(&self, check: impl Fn() -> Result<(), String> + Send + Sync + 'static) {
        // Set once, by whoever starts the program.
        let _ = self.successor.check.set(Box::new(check));
    }

    /// A program that does not start must not take the place of one that runs.
    async fn try_successor(self: &Arc<Self>) -> Result<(), AppError> {
        let app = self.clone();
        let tried = blocking(move || app.successor.check.get().map_or(Ok(()), |check| check())).await;
        let Some(why) = tried.unwrap_or_else(|error| Err(error.to_string())).err() else { return Ok(()) };
        let detail = format!("this program goes on, since the one to be started in its place would not start: {why}");
        tracing::error!(component = "command-center", "no restart: {detail}");
        let suggestion = Some("mend that, then ask again; `serve --check` with the same arguments tries it".to_owned());
        Err(AppError::Conflict { detail, suggestion })
    }

    /// Audits, then has the program stop and start again. Who asks while that is under way gets the same
    /// answer, and no second restart.
    pub async fn restart(self: &Arc<Self>, caller: &Caller) -> Result<(), AppError> {
        if !self.settings.allow_restart {
            let detail = "restarting is switched off (COMMAND_CENTER_ALLOW_RESTART)".to_owned();
            return Err(AppError::Forbidden(detail));
        }
        let _asking = self.successor.asking.lock().await;
        if self.is_restarting() {
            return Ok(());
        }
        self.try_successor().await?;
        let delay = self.settings.restart_delay;
        let detail = json!({"delay_sec": delay.as_secs_f64()});
        let entry = draft(None, operation::RESTART_REQUESTED, caller, &new_action_id(), detail);
        self.store.append(vec![entry], self.clock.now()).await?;
        self.metrics.event(operation::RESTART_REQUESTED, "warning");
        if !self.restarting.swap(true, Ordering::AcqRel) {
            let leaving = self.leaving.clone();
            tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                leaving.cancel();
            });
        }
        Ok(())
    }

    /// Has the program end for good, also if it was about to start again.
    pub fn stop(&self) {
        self.restarting.store(false, Ordering::Release);
        self.leaving.cancel();
    }

    /// The predecessor replaced itself, and may not have been able to write that down.
    pub async fn tell_of_recovery(&self, why: &str) {
        tracing::warn!(component = "watchdog", "the program has restarted itself: {why}");
        self.metrics.event(operation::RECOVERED, "warning");
        let entry = draft(None, operation::RECOVERED, &command_center(), &new_action_id(), json!({"why": why}));
        if let Err(error) = self.store.append(vec![entry], self.clock.now()).await {
            tracing::warn!(component = "watchdog", %error, "could not write down that the program restarted itself");
        }
    }

    /// The program helps itself: it starts again, whether or not that can be written down.
    pub fn restart_to_recover(self: &Arc<Self>, why: &str) {
        self.metrics.event(operation::RESTART_REQUESTED, "warning");
        self.restarting.store(true, Ordering::Release);
        let detail = json!({"why": why});
        let entry = draft(None, operation::RESTART_REQUESTED, &command_center(), &new_action_id(), detail);
        // Dropping the answer leaves the entry with the store, which writes it if it writes at all.
        drop(self.store.append(vec![entry], self.clock.now()));
        self.leaving.cancel();
    }
}
