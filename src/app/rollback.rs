//! Going back: one schedule to a revision, or the whole directory to a moment. Both are new edits by
//! the normal way of writing; nothing is unmade.

use std::collections::{BTreeMap, HashSet};

use futures_util::StreamExt as _;
use serde_json::{Value, json};

use super::App;
use super::apply::{draft, new_action_id};
use super::error::AppError;
use super::mutate::{Edit, IfMatch, Mutation};
use super::replace::{Expect, Replacement};
use super::views::{LeftFile, MutationAnswer, RollbackAnswer, RollbackResult};
use crate::adapters::store::{AuditQuery, PastState};
use crate::core::audit::operation;
use crate::core::desired::{self, Defaults, FieldError, document_value};
use crate::core::history::{RevisionRef, shown_diff};
use crate::core::model::{Caller, Digest, Millis, ScheduleId};
use crate::core::plan::{Action, Plan, Step, render_text};
use crate::core::timing::iso;

/// One schedule back to a revision.
#[derive(Clone, Debug)]
pub struct Rollback {
    pub id: ScheduleId,
    pub to: RevisionRef,
    pub reason: Option<String>,
    pub caller: Caller,
    pub may_change_connection: bool,
    pub if_match: Option<IfMatch>,
}

/// The whole directory back to a moment.
#[derive(Clone, Debug)]
pub struct DirectoryRollback {
    pub to: Millis,
    /// The plan's digest; `None` only shows the plan.
    pub confirm: Option<String>,
    pub reason: Option<String>,
    pub caller: Caller,
    pub may_change_connection: bool,
}

/// One schedule's part of a plan.
struct Item {
    step: Step,
    /// The file as it is; `None` where there is none.
    from: Option<Digest>,
    /// The file as it is to be; `None` deletes it.
    to: Option<Vec<u8>>,
    changes_connection: bool,
}

struct RollbackPlan {
    items: Vec<Item>,
    left: Vec<LeftFile>,
    digest: String,
}

/// A plan that was shown, to say later what has moved since.
pub(super) struct Shown {
    digest: String,
    files: BTreeMap<ScheduleId, (Option<Digest>, Option<Digest>)>,
}

/// Plans that are remembered; a person looks at one or two.
const SHOWN: usize = 4;
/// Of a larger plan only the digest is compared.
const MAX_SHOWN_ITEMS: usize = 20_000;
/// Schedules written at the same time; they share the store's commits.
const AT_ONCE: usize = 32;
/// Names in a message; the rest is counted.
const MAX_NAMED: usize = 20;

impl App {
    /// Writes a revision's bytes back as a new edit; a deleted schedule comes back.
    pub async fn rollback(&self, rollback: Rollback) -> Result<MutationAnswer, AppError> {
        let Rollback { id, to, reason, caller, may_change_connection, if_match } = rollback;
        let revision = self.revision(&id, &to).await?;
        if revision.digest.is_none() {
            let message = format!("revision {} is a deletion; to delete the schedule, delete it", revision.number);
            return Err(AppError::Invalid(vec![FieldError { pointer: "/to".to_owned(), message }]));
        }
        let Some(content) = revision.content else {
            let detail = format!("the content of revision {} was lost or damaged in the store", revision.number);
            return Err(AppError::Conflict { detail, suggestion: None });
        };
        let to = revision.number.into();
        let edit = Edit::Replace(Replacement { content: Some(content), expect: Expect::Anything, to, reason });
        let mutation = Mutation { id, edit, caller, may_change_connection, if_match, notes: Vec::new() };
        self.put_back(mutation, new_action_id()).await
    }

    /// A replacement also mends a file that could not be used.
    async fn put_back(&self, mutation: Mutation, action_id: String) -> Result<MutationAnswer, AppError> {
        let id = mutation.id.clone();
        let answer = self.mutate_as(mutation, action_id).await?;
        if self.state().problems.contains_key(&id.file()) {
            self.forget_problem(Some(&id), id.file()).await?;
        }
        Ok(answer)
    }

    /// Shows what going back to a moment would do; with the digest of exactly that, does it.
    pub async fn roll_back_directory(&self, rollback: DirectoryRollback) -> Result<RollbackAnswer, AppError> {
        let plan = self.plan_rollback(rollback.to).await?;
        let mut answer = shown(&plan, rollback.to);
        let Some(confirm) = &rollback.confirm else {
            self.remember_shown(&plan);
            return Ok(answer);
        };
        if *confirm != plan.digest {
            return Err(self.moved(confirm, &plan));
        }
        if !rollback.may_change_connection
            && let Some(item) = plan.items.iter().find(|item| item.changes_connection)
        {
            let detail = format!(
                "going back changes `connection` ({} and perhaps others); that takes the role admin",
                item.step.id
            );
            return Err(AppError::Forbidden(detail));
        }
        let action_id = new_action_id();
        if !plan.items.is_empty() {
            let detail = json!({"to_iso": iso(rollback.to), "digest": plan.digest, "changes": plan.items.len(),
                                "left": plan.left.len(), "reason": rollback.reason});
            let entry = draft(None, operation::DIRECTORY_ROLLED_BACK, &rollback.caller, &action_id, detail);
            self.store.append(vec![entry], self.clock.now()).await?;
            self.metrics.event(operation::DIRECTORY_ROLLED_BACK, "warning");
        }
        let work = plan.items.into_iter().map(|item| self.carry_back(item, &rollback, &action_id));
        // In the plan's order, though many are under way.
        answer.results = futures_util::stream::iter(work).buffered(AT_ONCE).collect().await;
        answer.ok = answer.left.is_empty() && answer.results.iter().all(|result| result.ok);
        answer.dry_run = false;
        answer.action_id = Some(action_id);
        Ok(answer)
    }

    async fn carry_back(&self, item: Item, rollback: &DirectoryRollback, action_id: &str) -> RollbackResult {
        let Item { step, from, to, .. } = item;
        let replacement = Replacement {
            content: to,
            expect: Expect::Exactly(from),
            to: iso(rollback.to).into(),
            reason: rollback.reason.clone(),
        };
        let mutation = Mutation {
            id: step.id.clone(),
            edit: Edit::Replace(replacement),
            caller: rollback.caller.clone(),
            may_change_connection: rollback.may_change_connection,
            if_match: None,
            notes: Vec::new(),
        };
        let outcome = self.put_back(mutation, action_id.to_owned()).await;
        RollbackResult {
            connector: step.id.connector.to_string(),
            tenant: step.id.tenant.to_string(),
            action: step.action.as_str().to_owned(),
            ok: outcome.is_ok(),
            detail: outcome.as_ref().err().map(ToString::to_string),
            audit: outcome.map(|answer| answer.audit).unwrap_or_default(),
        }
    }

    async fn plan_rollback(&self, to: Millis) -> Result<RollbackPlan, AppError> {
        let outside = |message: String| AppError::Invalid(vec![FieldError { pointer: "/to_time".to_owned(), message }]);
        if to > self.clock.now() {
            return Err(outside("lies in the future".to_owned()));
        }
        let doubtful = self.doubtful_files();
        let defaults = self.defaults();
        let (mut items, mut left, mut begins) = (Vec::new(), Vec::new(), Millis::MAX);
        let mut past = self.store.fleet_at(to);
        while let Some(batch) = past.recv().await {
            for state in batch? {
                begins = begins.min(state.known_since);
                let file = if doubtful.contains(&state.id) {
                    self.source.read(&state.id)?.map(|(_, content)| Digest::of(&content))
                } else {
                    state.now.as_ref().map(|version| version.digest)
                };
                match plan_one(state, file, &defaults) {
                    Ok(item) => items.extend(item),
                    Err(one) => left.push(one),
                }
            }
        }
        if begins == Millis::MAX {
            return Err(outside("there is no history yet".to_owned()));
        }
        if to < begins {
            return Err(outside(format!("lies before history begins, at {}", iso(begins))));
        }
        left.extend(self.changed_beside(to).await?);
        let files: Vec<Value> = items.iter().map(named).collect();
        let canonical = serde_json_canonicalizer::to_vec(&files).unwrap_or_default();
        Ok(RollbackPlan { items, left, digest: Digest::of(&canonical).to_hex() })
    }

    /// Files of defaults and of windows that have changed since: history holds schedules only.
    async fn changed_beside(&self, to: Millis) -> Result<Vec<LeftFile>, AppError> {
        let mut left = Vec::new();
        for (operation, what) in
            [(operation::DEFAULTS_CHANGED, "its defaults have"), (operation::WINDOW_CHANGED, "it has")]
        {
            let operation = Some(operation.to_owned());
            let since = Some(to.saturating_add(1));
            let entries =
                self.store.audit_page(AuditQuery { operation, since, limit: 1000, ..AuditQuery::default() }).await?;
            let mut files = BTreeMap::new();
            for entry in entries {
                if let Some(file) = entry.view().metadata["file"].as_str() {
                    files.entry(file.to_owned()).or_insert(entry.seq);
                }
            }
            left.extend(files.into_iter().map(|(file, seq)| LeftFile {
                connector: String::new(),
                tenant: String::new(),
                reason: format!("{what} changed since (audit entry {seq}), and history holds schedules only"),
                file,
            }));
        }
        Ok(left)
    }

    /// Files that are not what their rows say: broken, or gone for now.
    fn doubtful_files(&self) -> HashSet<ScheduleId> {
        let state = self.state();
        let broken = state
            .problems
            .keys()
            .filter_map(|path| path.strip_prefix("schedules/")?.strip_suffix(".yaml")?.parse::<ScheduleId>().ok());
        broken.chain(state.missing.keys().cloned()).collect()
    }

    fn remember_shown(&self, plan: &RollbackPlan) {
        let mut state = self.state();
        state.shown_rollbacks.retain(|shown| shown.digest != plan.digest);
        while state.shown_rollbacks.len() >= SHOWN {
            state.shown_rollbacks.pop_front();
        }
        if plan.items.len() <= MAX_SHOWN_ITEMS {
            state.shown_rollbacks.push_back(Shown { digest: plan.digest.clone(), files: files(plan) });
        }
    }

    /// The confirmed plan is not today's: says which schedules make the difference.
    fn moved(&self, confirm: &str, plan: &RollbackPlan) -> AppError {
        let now = files(plan);
        let state = self.state();
        let what = match state.shown_rollbacks.iter().find(|shown| shown.digest == confirm) {
            Some(Shown { files: then, .. }) => {
                let ids: HashSet<&ScheduleId> = then.keys().chain(now.keys()).collect();
                let mut moved: Vec<String> =
                    ids.into_iter().filter(|id| then.get(*id) != now.get(*id)).map(ToString::to_string).collect();
                moved.sort_unstable();
                let more = moved.len().saturating_sub(MAX_NAMED);
                moved.truncate(MAX_NAMED);
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                format!("changed since: {}{more}", moved.join(", "))
            }
            None => "that digest names no plan shown lately".to_owned(),
        };
        let detail = format!("the plan is another now ({what}); look at it again and confirm {}", plan.digest);
        AppError::Conflict { detail, suggestion: None }
    }
}

/// What there is to do about one schedule, if anything; or why it has to stay as it is.
fn plan_one(state: PastState, file: Option<Digest>, defaults: &Defaults) -> Result<Option<Item>, LeftFile> {
    let PastState { id, known_since, is_begun_late, number, then, now } = state;
    if file == then.as_ref().map(|version| version.digest) && now.is_some() == then.is_some() {
        return Ok(None);
    }
    let left = |reason: String| LeftFile {
        file: id.file(),
        connector: id.connector.to_string(),
        tenant: id.tenant.to_string(),
        reason,
    };
    if number.is_none() && is_begun_late {
        return Err(left(format!("its history begins at {}; what it was before is not known", iso(known_since))));
    }
    let value = |content: Option<&Vec<u8>>| content.and_then(|bytes| document_value(&id, bytes).ok());
    let is = value(now.as_ref().and_then(|version| version.content.as_ref()));
    let (content, was) = match then {
        None => (None, None),
        Some(version) => {
            let Some(content) = version.content else {
                return Err(left("its content of then was lost or damaged in the store".to_owned()));
            };
            if let parsed = desired::parse(&id, &content, defaults)
                && parsed.spec.is_none()
            {
                let first = parsed.diagnostics.first().map_or("", |found| found.message.as_str());
                return Err(left(format!("its content of then is not valid by today's rules: {first}")));
            }
            let was = value(Some(&content));
            (Some(content), was)
        }
    };
    let action = match (&now, &content) {
        (None, _) => Action::Create,
        (Some(_), None) => Action::Delete,
        (Some(_), Some(_)) => Action::Update,
    };
    let connection = |side: &Option<Value>| side.as_ref().and_then(|value| value.get("connection").cloned());
    let changes_connection = content.is_some() && connection(&is) != connection(&was);
    let diff = shown_diff(is.as_ref(), was.as_ref());
    Ok(Some(Item { step: Step { id, action, diff, held: None }, from: file, to: content, changes_connection }))
}

fn target(item: &Item) -> Option<Digest> {
    item.to.as_deref().map(Digest::of)
}

fn named(item: &Item) -> Value {
    let hex = |digest: Option<Digest>| digest.map(Digest::to_hex);
    json!({"schedule": item.step.id.to_string(), "from": hex(item.from), "to": hex(target(item))})
}

fn files(plan: &RollbackPlan) -> BTreeMap<ScheduleId, (Option<Digest>, Option<Digest>)> {
    plan.items.iter().map(|item| (item.step.id.clone(), (item.from, target(item)))).collect()
}

fn shown(plan: &RollbackPlan, to: Millis) -> RollbackAnswer {
    let steps = Plan { steps: plan.items.iter().map(|item| item.step.clone()).collect() };
    let text = if steps.is_empty() {
        format!("No changes: everything is as it was at {}.\n", iso(to))
    } else {
        render_text(&steps)
    };
    RollbackAnswer {
        ok: plan.left.is_empty(),
        dry_run: true,
        to_iso: iso(to),
        digest: plan.digest.clone(),
        changes: steps.steps.iter().map(Step::view).collect(),
        left: plan.left.clone(),
        text,
        action_id: None,
        results: Vec::new(),
    }
}
