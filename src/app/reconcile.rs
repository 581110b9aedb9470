//! Makes some schedules equal to their files: read, plan, carry out. The full pass and the watcher's
//! hints both come here; a mutation comes here for a file that was edited before it.

use std::collections::HashSet;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use serde_json::json;

use super::App;
use super::apply::{Effect, Planned, command_center, draft, file_edit, new_action_id};
use super::defaults::BECAUSE;
use super::error::AppError;
use super::loops::came_round;
use super::reading::{Found, Reading, Valid, is_same_file, read_all};
use crate::adapters::store::{Problem, ScheduleRow, Stamp};
use crate::core::audit::operation;
use crate::core::desired::{Defaults, Diagnostic, parse};
use crate::core::fleet::{Glance, Sync};
use crate::core::model::{Digest, Millis, ScheduleId};
use crate::core::plan::{self, Action, Blast, Desired, Observed, Step};
use crate::core::row::fingerprint;

/// What a batch did, counted.
#[derive(Default)]
pub(super) struct Tally {
    pub changes: u64,
    pub repaired: u64,
    /// Pauses that files ask for and that the guard has to judge over the whole pass.
    pub pauses: Vec<Planned>,
    /// Schedules whose file is not there: only a complete scan may believe it.
    pub absent: Vec<ScheduleId>,
    /// Files read and found to be what is applied, to be remembered as such.
    stamps: Vec<Stamp>,
    /// Git went to work meanwhile: what was read after that is of no one commit and was not applied.
    pub is_cut_off: bool,
}

/// A chunk of files, read and planned.
#[derive(Default)]
struct Chunk {
    planned: Vec<Planned>,
    /// When the files that change something were saved.
    changed_at: Vec<Millis>,
    /// Schedules whose file cannot be used.
    broken: Vec<ScheduleId>,
}

/// Chunks that may wait for the store while the next is planned.
const MAX_UNDER_WAY: usize = 3;

impl App {
    /// Reconciles the schedules that a hint named. Deletions are left to the full pass.
    /// Returns whether a full pass is wanted soon.
    pub async fn reconcile_hinted(&self, ids: Vec<ScheduleId>) -> Result<bool, AppError> {
        let ids = self.really_changed(ids);
        if ids.is_empty() {
            return Ok(false);
        }
        // A switch of branches is one change: it is planned as a whole.
        if self.git_busy().await.is_some() || self.head_has_moved() {
            return Ok(true);
        }
        let _alone = self.gate.write().await;
        if self.has_new_defaults().await {
            return Ok(true);
        }
        let mut tally = Tally::default();
        self.reconcile(ids, &mut tally).await?;
        let wants_pass = tally.is_cut_off || !tally.absent.is_empty();
        let held = self.settle_pauses(tally.pauses).await?;
        Ok(wants_pass || held)
    }

    /// Leaves out files that are as this program wrote or read them last, its own edits above all.
    fn really_changed(&self, mut ids: Vec<ScheduleId>) -> Vec<ScheduleId> {
        ids.retain(|id| {
            let glance = self.fleet().get(id.connector, id.tenant.as_str());
            let known = glance.filter(|glance| glance.sync == Sync::Synced);
            match (known, self.source.stat(id)) {
                (Some(glance), Ok(Some(stat))) => !is_same_file(glance.stamp, &stat),
                _ => true,
            }
        });
        ids
    }

    /// Reads and applies; what is destructive is handed back in the tally. The caller holds the gate.
    pub(super) async fn reconcile(&self, ids: Vec<ScheduleId>, tally: &mut Tally) -> Result<(), AppError> {
        let mut chunks = read_all(self.source.clone(), ids, self.defaults(), self.clock.now());
        // While one chunk is being committed the next ones are planned.
        let mut under_way = FuturesUnordered::new();
        loop {
            tokio::select! {
                biased;
                Some(done) = under_way.next() => done?,
                readings = chunks.recv(), if under_way.len() < MAX_UNDER_WAY => match readings {
                    Some(_) if self.git_has_begun() => {
                        tally.is_cut_off = true;
                        break;
                    }
                    Some(readings) => {
                        came_round();
                        let chunk = self.plan_chunk(readings, tally).await?;
                        under_way.push(self.carry_out_chunk(chunk));
                    }
                    None => break,
                },
            }
        }
        while let Some(done) = under_way.next().await {
            came_round();
            done?;
        }
        if !tally.stamps.is_empty() {
            self.store.set_stamps(std::mem::take(&mut tally.stamps)).await?;
        }
        Ok(())
    }

    async fn plan_chunk(&self, readings: Vec<Reading>, tally: &mut Tally) -> Result<Chunk, AppError> {
        let mut chunk = Chunk { planned: Vec::with_capacity(readings.len()), ..Chunk::default() };
        let Chunk { planned, changed_at, broken } = &mut chunk;
        for Reading { id, found } in readings {
            if self.promises.is_owed(&id) {
                self.show_pending(&id);
                continue;
            }
            match found {
                Found::Valid(valid) => {
                    let changed = valid.changed;
                    let Some(plan) = self.plan_file(&id, *valid, tally).await? else { continue };
                    if plan.steps.iter().any(|step| step.action == Action::Pause) {
                        tally.pauses.push(plan);
                    } else {
                        let own = plan.notes.iter().all(|(name, _)| *name != BECAUSE);
                        if own && plan.steps.iter().any(|step| !matches!(step.action, Action::Repair(_))) {
                            changed_at.push(changed);
                        }
                        planned.push(plan);
                    }
                }
                Found::Invalid { digest, diagnostics } => {
                    planned.extend(self.mend_from_last_good(&id).await?);
                    self.record_problem(Some(&id), id.file(), digest, diagnostics).await?;
                    broken.push(id);
                }
                Found::Absent => tally.absent.push(id),
            }
        }
        tally.count(planned);
        Ok(chunk)
    }

    async fn carry_out_chunk(&self, chunk: Chunk) -> Result<(), AppError> {
        self.carry_out(chunk.planned, None).await?;
        self.show_problems(&chunk.broken);
        self.note_convergence(&chunk.changed_at);
        Ok(())
    }

    /// Plans one valid file; `None` when there is nothing to do.
    async fn plan_file(&self, id: &ScheduleId, valid: Valid, tally: &mut Tally) -> Result<Option<Planned>, AppError> {
        if !self.state().problems.is_empty() {
            self.clear_problem(id).await?;
        }
        let glance = self.fleet().get(id.connector, id.tenant.as_str());
        let row = match glance {
            Some(glance) => {
                if self.is_as_applied(&glance, &valid) {
                    self.fleet().set_stamp(glance.slot, valid.stamp);
                    if valid.stamp != glance.stamp {
                        tally.stamps.push(Stamp { row: glance.row, digest: valid.digest, stamp: valid.stamp });
                    }
                    return Ok(None);
                }
                self.store.schedule(id.clone()).await?
            }
            None => None,
        };
        let moved = row.as_ref().is_some_and(|row| row.digest == valid.digest && row.basis != valid.basis);
        let planned = plan_valid(id, valid, glance.as_ref(), row.as_ref(), self.clock.now());
        if let (None, Some(glance)) = (&planned, glance) {
            // A false alarm, or a hold that is over.
            self.fleet().set_sync(glance.slot, Sync::Synced);
        }
        Ok(planned.map(|plan| if moved { self.by_defaults(plan) } else { plan.by(self.origin(id)) }))
    }

    /// A row that drifted while its file is broken is put back to the last good version. Where that
    /// is lost too, the drift is written down and waits for the file.
    async fn mend_from_last_good(&self, id: &ScheduleId) -> Result<Option<Planned>, AppError> {
        let glance = self.fleet().get(id.connector, id.tenant.as_str());
        let Some(glance) = glance.filter(|glance| glance.sync == Sync::Drifted) else { return Ok(None) };
        let row = self.store.schedule(id.clone()).await?;
        let last_good = row.as_ref().and_then(|row| last_good(id, row, &self.defaults()));
        match last_good {
            Some(valid) => Ok(plan_valid(id, valid, Some(&glance), row.as_ref(), self.clock.now())),
            None => {
                let detail = json!({"facet": "row", "file": id.file()});
                let entry = draft(Some(id), operation::DRIFT_DETECTED, &command_center(), &new_action_id(), detail);
                self.store.append(vec![entry], self.clock.now()).await?;
                self.metrics.event(operation::DRIFT_DETECTED, "warning");
                Ok(None)
            }
        }
    }

    /// Nothing differs as far as memory can tell, and nothing was found to be drifting.
    fn is_as_applied(&self, glance: &Glance, valid: &Valid) -> bool {
        glance.content == fingerprint(valid.basis) && glance.sync == Sync::Synced
    }

    /// Carries out the pauses that the guard lets pass and holds the others. Returns whether any is held.
    pub(super) async fn settle_pauses(&self, mut pauses: Vec<Planned>) -> Result<bool, AppError> {
        if pauses.is_empty() {
            return Ok(false);
        }
        let blast = self.blast(usize::MAX, false);
        let mut steps: Vec<Step> = pauses.iter().flat_map(|plan| plan.steps.iter().cloned()).collect();
        plan::guard(&mut steps, blast, self.settings.guard);
        self.keep_holding(&mut steps);
        let held: HashSet<&ScheduleId> = steps.iter().filter(|step| step.held.is_some()).map(|step| &step.id).collect();
        pauses.retain(|plan| !held.contains(&plan.id));
        self.note_destruction(pauses.len());
        self.carry_out(pauses, None).await?;
        Ok(!held.is_empty())
    }

    /// What the guard judges by. `files` is the number of files found; the largest when unknown.
    pub(super) fn blast(&self, files: usize, confirmed: bool) -> Blast {
        let now = self.clock.now();
        Blast { fleet: self.fleet().len(), files, recent: self.state().recent_blasts(now), confirmed }
    }

    pub(super) fn note_destruction(&self, count: usize) {
        let now = self.clock.now();
        self.state().note_blasts(now, count);
    }

    fn note_convergence(&self, changed_at: &[Millis]) {
        let now = self.clock.now();
        let mut state = self.state();
        // A file saved before this program began says nothing of it.
        for took in changed_at.iter().filter(|at| **at >= self.started).map(|at| now - at) {
            state.convergence.push(took);
            #[expect(clippy::cast_precision_loss, reason = "under a minute")]
            self.metrics.convergence(took as f64 / 1000.0);
        }
    }

    /// What was promised of it and is not in its file yet goes before what the file says.
    fn show_pending(&self, id: &ScheduleId) {
        let mut fleet = self.fleet();
        if let Some(glance) = fleet.get(id.connector, id.tenant.as_str()) {
            fleet.set_sync(glance.slot, Sync::Pending);
        }
    }

    /// Marks schedules whose file cannot be used; they run on.
    pub(super) fn show_problems(&self, broken: &[ScheduleId]) {
        let mut fleet = self.fleet();
        for id in broken {
            if let Some(glance) = fleet.get(id.connector, id.tenant.as_str()) {
                fleet.set_sync(glance.slot, Sync::Invalid);
            }
        }
    }

    /// Records a file that cannot be used, once for each content.
    pub(super) async fn record_problem(
        &self,
        id: Option<&ScheduleId>,
        path: String,
        digest: Option<Digest>,
        diagnostics: Vec<Diagnostic>,
    ) -> Result<(), AppError> {
        let now = self.clock.now();
        let known = self.state().problems.get(&path).cloned();
        if known.as_ref().is_some_and(|known| known.digest == digest && known.diagnostics == diagnostics) {
            return Ok(());
        }
        let problem =
            Problem { path: path.clone(), digest, since: known.map_or(now, |known| known.since), diagnostics };
        for diagnostic in &problem.diagnostics {
            tracing::warn!(
                component = "reconciler",
                tenant_id = id.map(|id| id.tenant.as_str()),
                "{}:{}:{} {}",
                diagnostic.file,
                diagnostic.line,
                diagnostic.column,
                diagnostic.message
            );
        }
        let mut detail = json!({"file": path, "diagnostics": problem.diagnostics});
        let origin = id.map(|id| self.origin(id));
        if let Some(commit) = origin.as_ref().and_then(|origin| origin.commit.as_ref()) {
            detail["commit"] = commit.as_str().into();
        }
        let caller = origin.map_or_else(file_edit, |origin| origin.caller);
        let entry = draft(id, operation::FILE_INVALID, &caller, &new_action_id(), detail);
        self.store.put_problem(problem.clone(), vec![entry], now).await?;
        self.metrics.event(operation::FILE_INVALID, "warning");
        self.state().problems.insert(path, problem);
        Ok(())
    }

    async fn clear_problem(&self, id: &ScheduleId) -> Result<(), AppError> {
        let path = id.file();
        if !self.state().problems.contains_key(&path) {
            return Ok(());
        }
        {
            let mut fleet = self.fleet();
            if let Some(glance) = fleet.get(id.connector, id.tenant.as_str()) {
                // Not synced before its row has been looked at: it may have drifted meanwhile.
                fleet.set_sync(glance.slot, Sync::Drifted);
            }
        }
        self.forget_problem(Some(id), path).await
    }

    /// The file is usable again, or gone.
    pub(super) async fn forget_problem(&self, id: Option<&ScheduleId>, path: String) -> Result<(), AppError> {
        let detail = json!({"file": path});
        let entry = draft(id, operation::FILE_RECOVERED, &command_center(), &new_action_id(), detail);
        self.store.clear_problem(path.clone(), vec![entry], self.clock.now()).await?;
        self.metrics.event(operation::FILE_RECOVERED, "info");
        self.state().problems.remove(&path);
        Ok(())
    }
}

impl Tally {
    fn count(&mut self, planned: &[Planned]) {
        for step in planned.iter().flat_map(|plan| &plan.steps) {
            match step.action {
                Action::Repair(_) => self.repaired += 1,
                _ => self.changes += 1,
            }
        }
    }
}

/// What the store kept of the file's last good version, unless the defaults it stood on are others.
pub(super) fn last_good(id: &ScheduleId, row: &ScheduleRow, defaults: &Defaults) -> Option<Valid> {
    let ScheduleRow { digest, basis, stamp, .. } = *row;
    let spec = parse(id, &row.content, defaults).spec.filter(|_| defaults.basis(id.connector, digest) == basis)?;
    Some(Valid { spec, digest, basis, content: row.content.clone(), stamp, changed: 0 })
}

/// Plans a valid file against its row. `glance` is what this process applied before, if anything.
pub(super) fn plan_valid(
    id: &ScheduleId,
    valid: Valid,
    glance: Option<&Glance>,
    row: Option<&ScheduleRow>,
    now: Millis,
) -> Option<Planned> {
    let stored = row.map(|row| row.spec.spec().unwrap_or_default());
    let observed =
        row.zip(stored.as_ref()).map(|(row, spec)| Observed { spec, applied: row.basis, next_due: row.next_due });
    let known = glance.is_some_and(|glance| glance.content == fingerprint(valid.basis));
    let desired = Desired::Present { spec: &valid.spec, digest: valid.basis };
    let planned = plan::plan_schedule(id, desired, observed, known, now);
    let as_it_was = row
        .is_some_and(|row| row.digest == valid.digest && row.basis == valid.basis && row.next_due == planned.next_due);
    if planned.steps.is_empty() && as_it_was && glance.is_some_and(|glance| glance.next_due == planned.next_due) {
        return None;
    }
    let stands_right = glance.is_some_and(|glance| glance.next_due == planned.next_due)
        && row.is_some_and(|row| row.next_due == planned.next_due);
    let row_key = row.map(|row| row.row).or(glance.map(|glance| glance.row));
    let Valid { spec, digest, basis, content, stamp, .. } = valid;
    Some(Planned {
        id: id.clone(),
        steps: planned.steps,
        effect: Effect::put(row_key, &spec, content, digest, basis, stamp, planned.next_due).keeping_due(stands_right),
        caller: file_edit(),
        action_id: new_action_id(),
        notes: Vec::new(),
    })
}
