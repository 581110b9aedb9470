//! The history of runs: shown, and forgotten in time.

use super::App;
use super::error::AppError;
use super::runs::Stage;
use super::views::RunView;
use crate::adapters::store::{PastRun, RunQuery};
use crate::core::model::Connector;
use crate::core::run::RunState;
use crate::core::timing::iso;

impl App {
    /// A page of runs, newest first, and where the next one goes on.
    pub async fn past_runs(&self, query: RunQuery) -> Result<(Vec<RunView>, Option<i64>), AppError> {
        let page = self.store.runs(query).await?;
        Ok((page.runs.into_iter().map(|run| self.run_view(run)).collect(), page.next))
    }

    /// One run with its log; `None` where the connector has no such run, or it was forgotten.
    pub async fn past_run(&self, connector: Connector, run: i64) -> Result<Option<RunView>, AppError> {
        let found = self.store.run(run).await?.filter(|found| found.id.connector == connector);
        Ok(found.map(|found| {
            let log = found.log.as_deref().unwrap_or_default().lines().map(str::to_owned).collect();
            RunView { log: Some(log), ..self.run_view(found) }
        }))
    }

    /// A run as it stands. The store is told of a run's start before it waits for room, so that of one in
    /// flight memory knows better.
    fn run_view(&self, mut run: PastRun) -> RunView {
        if run.state == RunState::Running {
            match self.runs.stage_of(&run.id, run.run) {
                Some(Stage::Running { began }) => run.started = began,
                Some(Stage::Entering | Stage::Held { .. }) => run.state = RunState::Queued,
                None => {}
            }
        }
        view(run)
    }

    /// Forgets runs beyond what is kept, of some schedules behind `after`. Returns how many went, and
    /// where to go on; `None` when all schedules were visited.
    pub async fn prune_runs(&self, after: Option<String>) -> Result<(u64, Option<String>), AppError> {
        let pruned = self.store.prune_runs(after, self.settings.keep, self.clock.now()).await?;
        Ok((pruned.removed, pruned.next))
    }
}

/// As the store has it.
fn view(run: PastRun) -> RunView {
    let start = (run.state != RunState::Queued).then_some(run.started);
    RunView {
        id: run.run,
        connector: run.id.connector.to_string(),
        tenant: run.id.tenant.to_string(),
        nominal_iso: iso(run.nominal),
        start_iso: start.map(iso),
        end_iso: run.ended.map(iso),
        duration_ms: run.ended.map(|ended| (ended - run.started).max(0)),
        late_ms: start.map(|start| (start - run.nominal).max(0)),
        trigger: run.trigger,
        state: run.state,
        attempts: run.attempts,
        retry_at_iso: run.retry_at.map(iso),
        ok: run.ok,
        message: run.message,
        error_class: run.error_class,
        stats: run.stats,
        short_import: run.short,
        asked_by: run.asked_by,
        action_id: run.action_id,
        log: None,
    }
}
