//! A confirmed plan is applied as it was seen, or not at all. The last plans shown are remembered, so
//! that a refusal can say what moved since.

use std::collections::{BTreeMap, VecDeque};

use super::App;
use super::blocking::{blocking, rest};
use super::error::{AppError, PlanMoved};
use super::holds::{dismissal_view, held_changes, held_digest};
use super::report::invalid_files;
use super::views::{ApplyAnswer, InvalidFile, MovedStep};
use crate::core::desired::{DefaultsFile, code_frame};
use crate::core::model::{Caller, Digest, ScheduleId};
use crate::core::plan::{Action, Plan, Step};
use crate::core::row::{Fingerprint, fingerprint};

/// Plans remembered, and the steps that all of them may have together.
const MAX_PLANS: usize = 16;
const MAX_STEPS: usize = 50_000;

/// Invalid files that are shown with their text.
const MAX_FRAMED: usize = 200;

/// Steps that a refusal lists.
const MAX_MOVED: usize = 100;

type Steps = BTreeMap<(ScheduleId, Action), Fingerprint>;

/// The last few plans that callers have seen, oldest first.
#[derive(Default)]
pub(super) struct PlanMemory(VecDeque<(String, Steps)>);

impl PlanMemory {
    pub fn remember(&mut self, digest: String, plan: &Plan) {
        self.0.retain(|(known, _)| *known != digest);
        if plan.steps.len() <= MAX_STEPS {
            self.0.push_back((digest, condensed(&plan.steps)));
        }
        let total = |plans: &VecDeque<(String, Steps)>| plans.iter().map(|(_, steps)| steps.len()).sum::<usize>();
        while self.0.len() > MAX_PLANS || total(&self.0) > MAX_STEPS {
            self.0.pop_front();
        }
    }

    fn get(&self, digest: &str) -> Option<&Steps> {
        self.0.iter().find(|(known, _)| known == digest).map(|(_, steps)| steps)
    }
}

fn condensed(steps: &[Step]) -> Steps {
    let content = |step: &Step| fingerprint(Digest::of(&serde_json::to_vec(&step.diff).unwrap_or_default()));
    steps.iter().map(|step| ((step.id.clone(), step.action), content(step))).collect()
}

/// Step by step, how `now` differs from what was shown.
fn moved(shown: &Steps, now: &Steps) -> Vec<MovedStep> {
    let step = |(id, action): &(ScheduleId, Action), how: &str| MovedStep {
        connector: id.connector.to_string(),
        tenant: id.tenant.to_string(),
        action: action.as_str().to_owned(),
        how: how.to_owned(),
    };
    let mut found: Vec<MovedStep> =
        shown.keys().filter(|key| !now.contains_key(key)).map(|key| step(key, "gone")).collect();
    found.extend(now.iter().filter_map(|(key, content)| match shown.get(key) {
        None => Some(step(key, "new")),
        Some(known) if known != content => Some(step(key, "different")),
        Some(_) => None,
    }));
    found
}

impl App {
    /// Reconciles once, waiting for the second scan that deletions need. `confirm` names a plan that
    /// somebody has seen and agrees to.
    pub async fn apply(&self, confirm: Option<String>, caller: &Caller) -> Result<ApplyAnswer, AppError> {
        let agreed = match &confirm {
            Some(digest) => Some(self.bind(digest).await?),
            None => None,
        };
        let confirm = agreed.as_deref().map(|digest| (digest, caller));
        let mut pass = self.full_pass(confirm).await?;
        if self.awaits_second_scan() {
            rest(super::SECOND_SCAN).await;
            let again = self.full_pass(confirm).await?;
            pass = super::views::PassReport { changes: pass.changes + again.changes, ..again };
        }
        let mut answer = {
            let state = self.state();
            let dismissed = dismissal_view(&state);
            ApplyAnswer {
                ok: (state.held.is_empty() || dismissed.is_some())
                    && state.problems.is_empty()
                    && pass.waiting.is_none(),
                pass,
                held: held_changes(&state),
                held_digest: held_digest(&state),
                dismissed,
                invalid: invalid_files(&state),
            }
        };
        self.add_frames(&mut answer.invalid).await;
        Ok(answer)
    }

    /// Draws each finding over the lines it is about, for callers who do not have the file.
    pub(super) async fn add_frames(&self, files: &mut Vec<InvalidFile>) {
        let (source, mut found) = (self.source.clone(), files.clone());
        let drawn = blocking(move || {
            for file in found.iter_mut().take(MAX_FRAMED) {
                let id = file.file.strip_prefix("schedules/").and_then(|rest| rest.strip_suffix(".yaml")?.parse().ok());
                let read = match (id, DefaultsFile::at(&file.file)) {
                    (Some(id), _) => source.read(&id),
                    (None, Some(defaults)) => source.read_defaults(defaults),
                    (None, None) => Ok(None),
                };
                let content = read.ok().flatten().map(|(_, content)| content);
                let text = String::from_utf8_lossy(content.as_deref().unwrap_or_default());
                file.frames = file.diagnostics.iter().map(|diagnostic| code_frame(diagnostic, &text)).collect();
            }
            found
        });
        if let Ok(drawn) = drawn.await {
            *files = drawn;
        }
    }

    /// Finds the plan of this digest to be what would be done now: a whole plan as `diff` shows it, or
    /// its held steps alone. Returns the digest of what in it needs a person's word.
    pub(super) async fn bind(&self, digest: &str) -> Result<String, AppError> {
        if let Some(detail) = self.git_busy().await {
            return Err(AppError::Busy { detail, retry_after_sec: 5 });
        }
        self.look_for_foreign_changes().await?;
        let plan = self.plan_now().await?;
        let destructive = plan.destructive();
        let agreed = destructive.digest();
        if digest == plan.digest() || digest == agreed {
            return Ok(agreed);
        }
        Err(self.refusal(digest, &plan, &destructive))
    }

    fn refusal(&self, digest: &str, plan: &Plan, destructive: &Plan) -> AppError {
        let mut state = self.state();
        state.plans.remember(plan.digest(), plan);
        let shown = state.plans.get(digest);
        let moved = shown.map(|shown| {
            // A digest of held steps alone says nothing of the others.
            let only_held = shown.keys().all(|(_, action)| action.is_destructive());
            moved(shown, &condensed(if only_held { &destructive.steps } else { &plan.steps }))
        });
        let detail = match &moved {
            Some(moved) => format!("directory or fleet have moved on since that plan was shown: {}", told(moved)),
            None => "no plan of this digest is known here: it was shown before the last start, or long ago, or by \
                     another server; look at `diff` and confirm what it shows now"
                .to_owned(),
        };
        let digest = (!plan.is_empty()).then(|| plan.digest());
        let held_digest = (!destructive.is_empty()).then(|| destructive.digest());
        let total = moved.as_ref().map_or(0, Vec::len);
        let moved = moved.map(|moved| moved.into_iter().take(MAX_MOVED).collect());
        AppError::PlanMoved(Box::new(PlanMoved { detail, digest, held_digest, moved, total }))
    }

    /// An action on many that was agreed to under `digest` has become another: says what moved.
    pub(super) fn bulk_moved(&self, digest: &str, now: &Plan) -> AppError {
        let mut state = self.state();
        let now_digest = now.digest();
        let moved = state.plans.get(digest).map(|shown| moved(shown, &condensed(&now.steps)));
        state.plans.remember(now_digest.clone(), now);
        let detail = match &moved {
            Some(moved) => format!("what would be done has changed since that plan was shown: {}", told(moved)),
            None => {
                "no plan of this digest is known here; look at it again with dry_run and take its digest".to_owned()
            }
        };
        let total = moved.as_ref().map_or(0, Vec::len);
        let moved = moved.map(|moved| moved.into_iter().take(MAX_MOVED).collect());
        AppError::PlanMoved(Box::new(PlanMoved { detail, digest: Some(now_digest), held_digest: None, moved, total }))
    }

    /// Nothing of this digest is held.
    pub(super) fn not_held(&self, digest: &str) -> AppError {
        let state = self.state();
        let held = super::holds::held_plan(&state);
        let steps = held.as_ref().map(|plan| condensed(&plan.steps)).unwrap_or_default();
        let moved = state.plans.get(digest).map(|shown| moved(shown, &steps));
        let detail = match (&moved, &held) {
            (_, None) => "nothing is held".to_owned(),
            (Some(moved), _) => format!("what is held is not what it was: {}", told(moved)),
            (None, _) => "nothing that is held has this digest; see /ops/holds".to_owned(),
        };
        let total = moved.as_ref().map_or(0, Vec::len);
        let moved = moved.map(|moved| moved.into_iter().take(MAX_MOVED).collect());
        let held_digest = held.map(|plan| plan.digest());
        AppError::PlanMoved(Box::new(PlanMoved { detail, digest: None, held_digest, moved, total }))
    }
}

/// The first few steps in words.
fn told(moved: &[MovedStep]) -> String {
    const FEW: usize = 3;
    let one = |step: &MovedStep| format!("{} {}/{} is {}", step.action, step.connector, step.tenant, step.how);
    let mut text = moved.iter().take(FEW).map(one).collect::<Vec<_>>().join(", ");
    if let Some(more) = moved.len().checked_sub(FEW).filter(|more| *more > 0) {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(names: std::ops::Range<usize>) -> Plan {
        let id = |n: usize| format!("noop/t{n}").parse().unwrap();
        Plan::new(names.map(|n| Step { id: id(n), action: Action::Delete, diff: vec![], held: None }).collect())
    }

    #[test]
    fn what_moved_is_told_step_by_step() {
        let mut other = plan(1..3);
        other.steps[1].diff = crate::core::plan::diff(None, Some(&crate::core::model::ScheduleSpec::default()));
        let found = moved(&condensed(&plan(0..3).steps), &condensed(&other.steps));
        assert_eq!(told(&found), "delete noop/t0 is gone, delete noop/t2 is different");
        assert_eq!(told(&moved(&Steps::default(), &condensed(&plan(0..5).steps))).matches("is new").count(), 3);
    }

    #[test]
    fn only_the_last_plans_are_remembered_and_no_huge_one() {
        let mut memory = PlanMemory::default();
        for n in 0..MAX_PLANS + 3 {
            memory.remember(format!("{n}"), &plan(0..1));
        }
        memory.remember("huge".into(), &plan(0..MAX_STEPS + 1));
        assert!(memory.get("2").is_none() && memory.get("3").is_some() && memory.get("huge").is_none());
        memory.remember("large".into(), &plan(0..MAX_STEPS));
        assert!(memory.get("3").is_none() && memory.get("large").is_some());
    }
}
