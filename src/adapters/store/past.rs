//! Runs as history: read back, and forgotten in time.

use super::{Millis, StoreFuture};
use crate::core::model::{Connector, ImportStats, ScheduleId, Tenant};
use crate::core::retention::Keep;
use crate::core::run::{RunState, Trigger};
use crate::core::volume::ShortImport;

/// A run as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastRun {
    pub run: i64,
    pub id: ScheduleId,
    pub nominal: Millis,
    pub trigger: Trigger,
    pub state: RunState,
    /// When the import began; of a run that has not ended, when it was claimed.
    pub started: Millis,
    pub ended: Option<Millis>,
    pub ok: Option<bool>,
    pub message: Option<String>,
    pub error_class: Option<String>,
    pub stats: Option<ImportStats>,
    pub short: Option<ShortImport>,
    pub attempts: u32,
    pub retry_at: Option<Millis>,
    pub asked_by: Option<String>,
    pub action_id: Option<String>,
    /// Only where one run is asked for.
    pub log: Option<String>,
}

/// Which runs to read, newest first: of one tenant by their slots, of all in the order in which they
/// were claimed.
#[derive(Clone, Debug)]
pub struct RunQuery {
    pub connector: Connector,
    pub tenant: Option<Tenant>,
    pub state: Option<RunState>,
    pub ok: Option<bool>,
    pub trigger: Option<Trigger>,
    pub error_class: Option<String>,
    /// Of the slot.
    pub since: Option<Millis>,
    pub until: Option<Millis>,
    /// Only runs behind this one: its slot where one tenant is asked for, else its key.
    pub before: Option<i64>,
    pub limit: u32,
    /// Runs looked at for one page, so that a filter that lets few through cannot take for ever.
    pub most_looked_at: u32,
}

impl RunQuery {
    /// Where a page goes on behind `run`.
    pub fn place(&self, run: &PastRun) -> i64 {
        if self.tenant.is_some() { run.nominal } else { run.run }
    }
}

#[derive(Clone, Debug, Default)]
pub struct RunPage {
    pub runs: Vec<PastRun>,
    /// Where the next page goes on; `None` at the end.
    pub next: Option<i64>,
}

/// What a step of forgetting did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    pub removed: u64,
    /// The schedule behind which the next step begins; `None` when all were visited.
    pub next: Option<String>,
}

/// The history of runs.
pub trait RunHistory {
    fn runs(&self, query: RunQuery) -> StoreFuture<'_, RunPage>;
    /// One run, with its log.
    fn run(&self, run: i64) -> StoreFuture<'_, Option<PastRun>>;
    /// The volumes of a schedule's last complete readings, by its row; empty when there are none.
    fn volumes(&self, row: i64) -> StoreFuture<'_, String>;
    /// Forgets runs beyond what is to be kept, of some schedules behind `after` (`connector/tenant`). The
    /// slot of a run that is forgotten is not given to the rhythm again.
    fn prune_runs(&self, after: Option<String>, keep: Keep, now: Millis) -> StoreFuture<'_, Pruned>;
}
