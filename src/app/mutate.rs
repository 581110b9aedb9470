//! A mutation is an edit of one file followed by a reconcile of that one schedule, answered when it
//! has converged. The promise is durable before the file moves; an editor who was quicker wins.

use serde_json::{Map, Value, json};

use super::App;
use super::apply::{Effect, Planned, command_center, draft, new_action_id};
use super::blocking::rest;
use super::error::AppError;
use super::merge::{check_end, check_together, work_out};
use super::reading::stamp;
use super::reconcile::Tally;
use super::replace::Replacement;
use super::views::{MutationAnswer, ScheduleStatus};
use crate::adapters::source::{FileStat, Files, SourceError, Swap};
use crate::adapters::store::{Intent, Promised, ScheduleRow, StoreError, StoreFuture, StoreResult};
use crate::core::audit::operation;
use crate::core::desired::{self, Defaults};
use crate::core::fleet::Sync;
use crate::core::model::{Caller, Digest, ScheduleId, ScheduleSpec};
use crate::core::plan::{self, Action, Desired, Observed, Step, diff};
use crate::core::row::fingerprint;

/// What a caller wants done to a schedule.
#[derive(Clone, Debug)]
pub enum Edit {
    /// An RFC 7396 patch on the file as written; creates the schedule when there is none.
    Merge(Map<String, Value>),
    Pause {
        reason: Option<String>,
        /// When the pause lifts by itself, as the file is to say it.
        until: Option<String>,
    },
    Resume {
        reason: Option<String>,
    },
    Delete,
    /// The file's bytes, whole: a rollback.
    Replace(Replacement),
}

/// The precondition of a mutation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IfMatch {
    /// `*`: there must be a schedule.
    Any,
    /// The schedule's tag must be one of these.
    Etags(Vec<String>),
}

#[derive(Clone, Debug)]
pub struct Mutation {
    pub id: ScheduleId,
    pub edit: Edit,
    pub caller: Caller,
    /// Only an admin may change `connection`.
    pub may_change_connection: bool,
    pub if_match: Option<IfMatch>,
    /// Said in the audit besides.
    pub notes: Vec<(&'static str, Value)>,
}

/// A schedule's file as the mutation found it.
pub(super) struct Base {
    pub content: Option<Vec<u8>>,
    pub digest: Option<Digest>,
    /// The stat it was read under.
    stat: Option<FileStat>,
}

impl Base {
    /// Puts `content` in the place of what was read, if that is still there.
    pub fn exchange(&self, files: &dyn Files, id: &ScheduleId, content: Option<&[u8]>) -> Result<Swap, SourceError> {
        files.swap_seen(id, self.digest.as_ref(), self.stat.as_ref(), content)
    }
}

/// The edit worked out: the file's new bytes and what they mean; `None` deletes.
pub(super) struct Outcome {
    pub content: Option<Vec<u8>>,
    pub spec: Option<ScheduleSpec>,
}

/// An edit that is worked out, allowed and planned; nothing is changed yet.
pub(super) struct Prepared {
    /// The file's new bytes.
    pub content: Option<Vec<u8>>,
    pub row: Option<ScheduleRow>,
    pub planned: Planned,
}

/// A change that is durable and whose file is to follow.
pub(super) struct Committed {
    pub content: Option<Vec<u8>>,
    /// The row as it was before.
    pub row: Option<ScheduleRow>,
    /// Of its audit entries.
    pub seqs: Vec<i64>,
    pub promised: Option<Promised>,
}

/// How often a change is made again on top of what an editor saved at the same moment.
const TRIES: usize = 4;

pub(super) fn outrun(id: &ScheduleId) -> String {
    format!("{} was changed by somebody else at the same moment; their version stays", id.file())
}

impl App {
    /// Carries out one mutation. An `Ok` survives a crash; with an error nothing has changed.
    ///
    /// An editor who saves between the reading and the exchange wins, and the change is tried again on
    /// top of theirs, unless both changed the same field.
    pub async fn mutate(&self, mutation: Mutation) -> Result<MutationAnswer, AppError> {
        self.mutate_as(mutation, new_action_id()).await
    }

    /// As `mutate`, as a part of an action that has its name already.
    pub(super) async fn mutate_as(&self, mutation: Mutation, action_id: String) -> Result<MutationAnswer, AppError> {
        self.wait_for_git().await?;
        let _shared = self.gate.read().await;
        let _lane = self.lanes.enter(&mutation.id).await;
        self.check_not_owed(&mutation.id).await?;
        self.try_until_done(&mutation, None, &action_id).await
    }

    /// Makes a mutation on the file as it is, and again when an editor was quicker. `first` is what the
    /// file held when a try before this one was made. The caller holds the gate.
    pub(super) async fn try_until_done(
        &self,
        mutation: &Mutation,
        mut first: Option<Base>,
        action_id: &str,
    ) -> Result<MutationAnswer, AppError> {
        for _ in 0..TRIES {
            let base = self.read_base(&mutation.id)?;
            self.check_precondition(mutation, &base).await?;
            if let Some(first) = &first {
                check_together(mutation, first, &base, &self.defaults())?;
            }
            if let Some(answer) = self.attempt(mutation, &base, action_id).await? {
                return Ok(answer);
            }
            first.get_or_insert(base);
        }
        Err(AppError::Conflict { detail: outrun(&mutation.id), suggestion: None })
    }

    /// Works an edit out; `None` when everything is so already.
    pub(super) async fn prepare(
        &self,
        mutation: &Mutation,
        base: &Base,
        action_id: &str,
    ) -> Result<Option<Prepared>, AppError> {
        let row = self.settled_row(&mutation.id, base).await?;
        let defaults = self.defaults();
        let outcome = work_out(mutation, base, &defaults)?;
        check_end(mutation, &outcome, self.clock.now())?;
        check_access(mutation, base, row.as_ref(), outcome.spec.as_ref(), &defaults)?;
        if outcome.content == base.content && base.content.is_some() {
            return Ok(None);
        }
        let planned = self.plan_mutation(mutation, &outcome, row.as_ref(), action_id);
        Ok(Some(Prepared { content: outcome.content, row, planned }))
    }

    /// One try of a mutation on the file as it was read. `None` when somebody else was quicker; what
    /// was written in the store is then taken back.
    async fn attempt(
        &self,
        mutation: &Mutation,
        base: &Base,
        action_id: &str,
    ) -> Result<Option<MutationAnswer>, AppError> {
        let Some(Prepared { content, row, planned }) = self.prepare(mutation, base, action_id).await? else {
            let status = self.status_of(&mutation.id).await?;
            return Ok(Some(answer(&mutation.id, status, action_id.to_owned(), Vec::new())));
        };
        let steps = planned.steps.clone();
        let after = row_after(&planned.effect, row.as_ref());
        let intent = self.intent(&planned, base, content.clone());
        let applied = self.carry_out(vec![planned], Some(intent)).await?;
        #[cfg(test)]
        self.before_exchange.run();
        let promised = applied.promised.first().copied();
        let committed = Committed { content, row, seqs: applied.seqs.clone(), promised };
        if !self.put_file(&mutation.id, base, committed).await? {
            return Ok(None);
        }
        self.is_done(&mutation.id, &steps, promised);
        let status = after.and_then(|row| self.status_from(&mutation.id, row));
        Ok(Some(answer(&mutation.id, status, action_id.to_owned(), applied.seqs)))
    }

    /// What is promised of a planned edit.
    pub(super) fn intent(&self, planned: &Planned, base: &Base, content: Option<Vec<u8>>) -> Intent {
        Intent { id: planned.id.clone(), base: base.digest, content, commit: self.commit_note(planned) }
    }

    /// A change is in its file: counts it, and has it committed.
    pub(super) fn is_done(&self, id: &ScheduleId, steps: &[Step], promised: Option<Promised>) {
        self.commit_is_due(promised.and_then(|promised| promised.commit));
        for step in steps {
            self.metrics.local_action(id.tenant.as_str(), action_name(step.action));
        }
    }

    /// Gives git five seconds to finish what it is doing.
    pub(super) async fn wait_for_git(&self) -> Result<(), AppError> {
        for _ in 0..50 {
            if self.git_at_work().is_none() {
                return Ok(());
            }
            rest(std::time::Duration::from_millis(100)).await;
        }
        let what = self.git_at_work().unwrap_or_else(|| "a lock".to_owned());
        let detail = format!("git is at work in the desired directory ({what}); try again when it is done");
        Err(AppError::Busy { detail, retry_after_sec: 5 })
    }

    /// A file that still lacks an edit promised before cannot take another.
    pub(super) async fn check_not_owed(&self, id: &ScheduleId) -> Result<(), AppError> {
        if self.promises.is_owed(id) {
            self.keep_promises().await;
        }
        if !self.promises.is_owed(id) {
            return Ok(());
        }
        let detail =
            format!("an edit promised before the last start could not be written to {} yet; see the log", id.file());
        Err(AppError::Busy { detail, retry_after_sec: 5 })
    }

    pub(super) fn read_base(&self, id: &ScheduleId) -> Result<Base, AppError> {
        let (stat, content) = match self.source.read(id) {
            Ok(found) => found.unzip(),
            Err(error @ SourceError::TooLarge { .. }) => {
                return Err(AppError::Conflict { detail: error.to_string(), suggestion: None });
            }
            Err(error) => return Err(error.into()),
        };
        let digest = content.as_deref().map(Digest::of);
        Ok(Base { content, digest, stat })
    }

    /// The schedule's row, after what an editor did to the file before has been applied as theirs.
    async fn settled_row(&self, id: &ScheduleId, base: &Base) -> Result<Option<ScheduleRow>, AppError> {
        let row = self.store.schedule(id.clone()).await?;
        let known = row.as_ref().map(|row| row.digest);
        if base.digest.is_none() || base.digest == known {
            return Ok(row);
        }
        self.doubt_that_it_is_applied(id, base);
        self.git_busy().await;
        self.look_for_commits().await;
        let mut tally = Tally::default();
        self.reconcile(vec![id.clone()], &mut tally).await?;
        if tally.is_cut_off {
            let detail = "git is at work in the desired directory; try again when it is done".to_owned();
            return Err(AppError::Busy { detail, retry_after_sec: 1 });
        }
        self.settle_pauses(tally.pauses).await?;
        Ok(self.store.schedule(id.clone()).await?)
    }

    /// Memory's word that the file is applied is not taken where the row says otherwise.
    fn doubt_that_it_is_applied(&self, id: &ScheduleId, base: &Base) {
        let basis = base.digest.map(|digest| fingerprint(self.defaults().basis(id.connector, digest)));
        let mut fleet = self.fleet();
        let believed = fleet.get(id.connector, id.tenant.as_str()).filter(|glance| Some(glance.content) == basis);
        if let Some(glance) = believed {
            fleet.set_sync(glance.slot, Sync::Drifted);
        }
    }

    fn plan_mutation(
        &self,
        mutation: &Mutation,
        outcome: &Outcome,
        row: Option<&ScheduleRow>,
        action_id: &str,
    ) -> Planned {
        let id = &mutation.id;
        let now = self.clock.now();
        let stored = row.and_then(|row| row.spec.spec());
        let digest = outcome.content.as_deref().map(Digest::of);
        let observed =
            row.zip(stored.as_ref()).map(|(row, spec)| Observed { spec, applied: row.digest, next_due: row.next_due });
        let (steps, effect) = match (&outcome.spec, &outcome.content, digest) {
            (Some(spec), Some(content), Some(digest)) => {
                let desired = Desired::Present { spec, digest };
                let planned = plan::plan_schedule(id, desired, observed, false, now);
                let row_key = row.map(|row| row.row);
                let steps = match &mutation.edit {
                    Edit::Replace(_) => Replacement::steps(id, planned.steps),
                    _ => planned.steps,
                };
                let basis = self.defaults().basis(id.connector, digest);
                // The stamp is known only once the file is written; it is filled in then.
                let effect = Effect::put(row_key, spec, content.clone(), digest, basis, 0, planned.next_due);
                (steps, effect.keeping_due(row.is_some_and(|row| row.next_due == planned.next_due)))
            }
            _ => {
                let step =
                    Step { id: id.clone(), action: Action::Delete, diff: diff(stored.as_ref(), None), held: None };
                (vec![step], Effect::Delete)
            }
        };
        let mut notes = match &mutation.edit {
            Edit::Pause { reason: Some(reason), .. } | Edit::Resume { reason: Some(reason) } => {
                vec![("reason", reason.clone().into())]
            }
            Edit::Replace(replacement) => replacement.notes(),
            _ => Vec::new(),
        };
        notes.extend(mutation.notes.iter().cloned());
        let caller = mutation.caller.clone();
        Planned { id: id.clone(), steps, effect, caller, action_id: action_id.to_owned(), notes }
    }

    /// Exchanges the file. When somebody else was quicker, theirs stays, the change is taken back and
    /// the answer is false.
    async fn put_file(&self, id: &ScheduleId, base: &Base, committed: Committed) -> Result<bool, AppError> {
        let swapped = base.exchange(&*self.source, id, committed.content.as_deref());
        self.after_exchange(id, swapped, committed).await
    }

    /// What follows from a file's exchange; see `put_file`.
    pub(super) async fn after_exchange(
        &self,
        id: &ScheduleId,
        swapped: Result<Swap, SourceError>,
        committed: Committed,
    ) -> Result<bool, AppError> {
        match swapped {
            Ok(Swap::Done(stat)) => {
                self.file_is_in_place(id, committed.promised.map(|promised| promised.intent), stat);
                Ok(true)
            }
            Ok(Swap::Moved(_)) => {
                self.take_back(id, committed, &outrun(id)).await?;
                Ok(false)
            }
            Err(error) => {
                self.take_back(id, committed, &error.to_string()).await?;
                Err(error.into())
            }
        }
    }

    fn file_is_in_place(&self, id: &ScheduleId, intent: Option<i64>, stat: Option<FileStat>) {
        if let Some(stat) = stat {
            let mut fleet = self.fleet();
            if let Some(glance) = fleet.get(id.connector, id.tenant.as_str()) {
                fleet.set_stamp(glance.slot, stamp(&stat, self.clock.now()));
            }
        }
        if let Some(intent) = intent {
            self.promises.note_written(intent, id.clone());
        }
    }

    /// What the row's content says, and not what a hand may have made of the row: put back as it stood, that
    /// would count as applied.
    fn spec_as_read(&self, id: &ScheduleId, row: &ScheduleRow) -> Option<ScheduleSpec> {
        let defaults = self.defaults();
        let is_current = defaults.basis(id.connector, row.digest) == row.basis;
        let read = is_current.then(|| desired::parse(id, &row.content, &defaults).spec).flatten();
        read.or_else(|| row.spec.spec())
    }

    /// Undoes a change whose file could not be written: the row as it was, and an entry that says so.
    async fn take_back(&self, id: &ScheduleId, committed: Committed, why: &str) -> Result<(), AppError> {
        let Committed { row, seqs, promised, .. } = committed;
        let effect = match row.and_then(|row| Some((self.spec_as_read(id, &row)?, row))) {
            Some((spec, row)) => Effect::put(Some(row.row), &spec, row.content, row.digest, row.basis, 0, row.next_due),
            None => Effect::Delete,
        };
        let action_id = new_action_id();
        let detail = json!({"taken_back": seqs, "reason": why, "file": id.file()});
        let entry = draft(Some(id), operation::WRITE_DISPLACED, &command_center(), &action_id, detail);
        let undo = Planned {
            id: id.clone(),
            steps: Vec::new(),
            effect,
            caller: command_center(),
            action_id,
            notes: Vec::new(),
        };
        self.pass_wanted.notify_one();
        // First of all: what is taken back must not be replayed after a crash.
        let intents: Vec<i64> = promised.iter().map(|promised| promised.intent).collect();
        let commits: Vec<i64> = promised.iter().filter_map(|promised| promised.commit).collect();
        let forgotten = with_room(|| self.store.forget_intents(intents.clone())).await;
        let uncommitted = with_room(|| self.store.forget_commits(commits.clone())).await;
        let undone = self.carry_out_undo(undo).await;
        let told = with_room(|| self.store.append(vec![entry.clone()], self.clock.now())).await;
        forgotten.and(uncommitted).and(undone).and(told).map(|_| ()).map_err(|error| left_open(id, why, &error))
    }
}

/// Tries again what found the disk full: the first try has had made room for the second.
pub(super) async fn with_room<'a, T>(work: impl Fn() -> StoreFuture<'a, T>) -> StoreResult<T> {
    match work().await {
        Err(StoreError::Full) => work().await,
        done => done,
    }
}

/// Neither done nor undone: the next pass puts the row back to what the file says, and a start before
/// it may carry the change out.
fn left_open(id: &ScheduleId, why: &str, error: &StoreError) -> AppError {
    let reason = format!("{why}; {error}. Look at {} before trying again", id.file());
    AppError::Store(StoreError::Failed { operation: "take back a change whose file could not be written", reason })
}

/// The row as it is stored now, for the answer: it need not be read again.
fn row_after(effect: &Effect, before: Option<&ScheduleRow>) -> Option<ScheduleRow> {
    let Effect::Put(put) = effect else { return None };
    Some(ScheduleRow {
        row: put.row.unwrap_or(0),
        spec: put.spec.clone(),
        digest: put.digest,
        basis: put.basis,
        content: Vec::new(),
        stamp: put.stamp,
        next_due: put.next_due,
        last: before.map(|row| row.last.clone()).unwrap_or_default(),
    })
}

fn answer(id: &ScheduleId, status: Option<ScheduleStatus>, action_id: String, audit: Vec<i64>) -> MutationAnswer {
    let schedules = status.into_iter().map(|status| (id.tenant.to_string(), status)).collect();
    MutationAnswer { ok: true, schedules, action_id, audit }
}

fn action_name(action: Action) -> &'static str {
    match action {
        Action::Create | Action::Update => "schedule",
        other => other.as_str(),
    }
}

/// Who may not change connections may neither bring one nor take one away.
fn check_access(
    mutation: &Mutation,
    base: &Base,
    row: Option<&ScheduleRow>,
    spec: Option<&ScheduleSpec>,
    defaults: &Defaults,
) -> Result<(), AppError> {
    let Some(spec) = spec else {
        return if row.is_some() { Ok(()) } else { Err(AppError::NotFound(mutation.id.clone())) };
    };
    // What the defaults give is nobody's doing here, so that both sides are seen over the same ones.
    let own = base.content.as_deref().unwrap_or(b"interval_sec: 1");
    let before = match desired::parse(&mutation.id, own, defaults).spec {
        Some(spec) => spec.connection,
        None => row.and_then(|row| row.spec.spec()).and_then(|spec| spec.connection),
    };
    if before != spec.connection && !mutation.may_change_connection {
        return Err(AppError::Forbidden("changing `connection` takes the role admin".to_owned()));
    }
    Ok(())
}
