//! Runs that read only what a source told of.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::Job;
use crate::adapters::connectors::{ImportContext, ImportFailure, ImportOutcome};
use crate::adapters::store::{Asked, Claim, Granted};
use crate::app::App;
use crate::app::apply::new_action_id;
use crate::app::error::AppError;
use crate::core::model::{ImportStats, ScheduleId};
use crate::core::run::{ErrorClass, Trigger};

/// Who is said to have asked for such a run.
const ASKED_BY: &str = "webhook";

impl App {
    /// Claims a run for the events that wait and starts it, or lines it up.
    pub(in crate::app) async fn start_told(self: &Arc<Self>, id: &ScheduleId) -> Result<(), AppError> {
        let slot = self.fleet().get(id.connector, id.tenant.as_str()).map(|glance| glance.slot);
        let now = self.clock.now();
        for nominal in now..now + 50 {
            let asked = Some(Asked { by: ASKED_BY.to_owned(), action_id: new_action_id() });
            let (id, trigger) = (id.clone(), Trigger::Webhook);
            let claim = Claim {
                id: id.clone(),
                nominal,
                trigger,
                overlap: None,
                asked,
                attempts: 0,
                advance: None,
                audit: Vec::new(),
            };
            if let Some(claimed) = self.store.claim(vec![claim], now).await?.into_iter().find_map(Granted::run) {
                self.launch(Job::new(id, slot, claimed.run, nominal, trigger).queued(claimed.is_queued));
                return Ok(());
            }
        }
        let detail = "too many runs of this schedule were asked for at once".to_owned();
        Err(AppError::Busy { detail, retry_after_sec: 1 })
    }

    /// Does something that the program's end waits for.
    pub(in crate::app) fn track<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.runs.tasks.spawn(work)
    }

    /// Whether a run for events is lined up.
    pub(in crate::app) fn is_told_in_line(&self, id: &ScheduleId) -> bool {
        let lines = self.runs.lines();
        lines.get(id).is_some_and(|line| line.waiting.iter().any(|next| next.job.trigger == Trigger::Webhook))
    }

    /// The row whose last run such a run's end is; 0 where it is none's.
    pub(in crate::app) fn row_told_of(&self, id: &ScheduleId, trigger: Trigger) -> i64 {
        let glance = self.fleet().get(id.connector, id.tenant.as_str());
        glance.filter(|_| trigger.is_of_the_whole()).map_or(0, |glance| glance.row)
    }

    /// Reads what was told of and is still to be read.
    pub(super) async fn import_told(&self, job: &Job, cancel: &CancellationToken) -> ImportOutcome {
        let nothing = |error| ImportOutcome { stats: ImportStats::default(), error, log: None };
        let targets = match self.told(&job.id, job.run).await {
            Ok(targets) => targets,
            Err(error) => return nothing(Some(ImportFailure::new(ErrorClass::Store, error.to_string()))),
        };
        if targets.is_empty() {
            return nothing(None);
        }
        match self.import_context(job, cancel).await {
            Ok((context, _)) => {
                let told = format!("read what webhooks told of: {} records", targets.len());
                let context = ImportContext { targets, ..context };
                let outcome = self.connectors.get(job.id.connector).import(context).await;
                ImportOutcome { log: outcome.log.or(Some(told)), ..outcome }
            }
            Err(error) => nothing(Some(error)),
        }
    }
}
