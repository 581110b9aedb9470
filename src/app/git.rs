//! Write-backs as commits: noted with their change, committed in order soon after, never lost and
//! never in a mutation's way. What git refuses is tried again and shown in the health.

mod remote;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::App;
use super::apply::Planned;
use super::error::AppError;
use super::views::GitHealth;
use crate::adapters::source::{Displaced, GitError, WriteBack};
use crate::adapters::store::{CommitDue, CommitNote, StoreError};
use crate::core::model::{Digest, Millis};
use crate::core::timing::iso;

pub use remote::Pulled;

/// Write-backs of one round: as many commits are made by one run of git.
const MAX_COMMITS: u32 = 256;

/// What is known of the work with the repository.
#[derive(Default)]
pub(super) struct GitWork {
    /// One operation at a time.
    turn: tokio::sync::Mutex<()>,
    /// This program's own commands hold git's locks at the moment.
    ours: AtomicBool,
    /// Rung when there is something to commit.
    wanted: Notify,
    pending: AtomicU64,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    /// Commits that the remote branch lacks.
    ahead: Option<u64>,
    /// `REMOTE/BRANCH`
    upstream: Option<String>,
    /// What failed last, by what failed; gone when it works again.
    errors: BTreeMap<&'static str, (String, Millis)>,
    last_pull: Option<Millis>,
}

impl GitWork {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Marks the time in which git's locks are held by this program itself.
struct Ours<'a>(&'a AtomicBool);

impl<'a> Ours<'a> {
    fn new(flag: &'a AtomicBool) -> Self {
        flag.store(true, Ordering::Release);
        Ours(flag)
    }
}

impl Drop for Ours<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl From<StoreError> for GitError {
    fn from(error: StoreError) -> Self {
        GitError::Refused(error.to_string())
    }
}

impl App {
    /// What git is doing that has to be waited for. Making a commit touches no file of the desired
    /// directory, so that its short locks are none to wait for.
    pub(super) fn git_at_work(&self) -> Option<String> {
        let busy = self.source.git_busy()?;
        let own = self.git.ours.load(Ordering::Acquire) && matches!(busy.as_str(), "index.lock" | "HEAD.lock");
        (!own).then_some(busy)
    }

    /// Whether git has gone to work, or moved HEAD, since it was last found at rest.
    pub(super) fn git_has_begun(&self) -> bool {
        if self.git_at_work().is_some() {
            return true;
        }
        let head = self.source.git_head();
        head.is_some() && head != self.state().commit && head != self.work_tree.passed()
    }

    /// Finds out at the start whether what is asked of git can be done at all.
    pub async fn check_git(&self) -> Result<(), GitError> {
        if !self.settings.git.is_on() {
            return Ok(());
        }
        if self.settings.git.needs_remote() {
            let remote = self.settings.git.remote.clone();
            self.with_repo(move |repo| repo.check_remote(&remote)).await?;
        } else {
            self.repo().await?;
        }
        let due = u64::try_from(self.store.commits_due(u32::MAX).await?.len()).unwrap_or(0);
        self.git.pending.store(due, Ordering::Release);
        Ok(())
    }

    /// What the commit of a change is to say, where changes are committed.
    pub(super) fn commit_note(&self, planned: &Planned) -> Option<CommitNote> {
        if !self.settings.git.commit {
            return None;
        }
        let note = |wanted: &str| planned.notes.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value);
        let mut verbs: Vec<&str> = planned.steps.iter().map(|step| step.action.as_str()).collect();
        if note("rollback_to").is_some() {
            verbs = vec!["roll back"];
        }
        let verb = if verbs.is_empty() { "edit".to_owned() } else { verbs.join(" and ") };
        let reason = note("reason").and_then(|reason| reason.as_str()).map(str::trim);
        let message = match reason.filter(|reason| !reason.is_empty()) {
            Some(reason) => format!("{verb} {}: {reason}", planned.id),
            None => format!("{verb} {}", planned.id),
        };
        let actor = planned.caller.actor.clone();
        Some(CommitNote { actor, action_id: planned.action_id.clone(), message })
    }

    /// A change whose commit was noted is in its file.
    pub(super) fn commit_is_due(&self, commit: Option<i64>) {
        if commit.is_some() {
            self.git.pending.fetch_add(1, Ordering::AcqRel);
            self.git.wanted.notify_one();
        }
    }

    /// Waits until there is something to commit.
    pub async fn commit_wanted(&self) {
        self.git.wanted.notified().await;
    }

    /// Commits what is due, in its order; returns whether commits were made.
    pub async fn commit_write_backs(&self) -> Result<bool, GitError> {
        let _turn = self.git.turn.lock().await;
        let made = self.commit_all().await;
        self.tell("commit", made.as_ref().err());
        made
    }

    async fn commit_all(&self) -> Result<bool, GitError> {
        let mut made = false;
        loop {
            let (due, displaced) = self.take_due().await?;
            if due.is_empty() {
                self.git.pending.store(0, Ordering::Release);
                return Ok(made);
            }
            if let Some(busy) = self.source.git_busy() {
                return Err(GitError::Refused(format!("git is at work in the desired directory ({busy})")));
            }
            let keys: Vec<i64> = due.iter().map(|due| due.key).collect();
            let edits: Vec<WriteBack> = due.into_iter().filter_map(write_back).collect();
            let done = {
                let _ours = Ours::new(&self.git.ours);
                self.with_repo(move |repo| repo.commit(&edits, &displaced)).await?
            };
            for path in &done.discarded {
                tracing::warn!(component = "git", "{path} was put back before its change could be committed");
            }
            // Nothing moved that a pass would have to look at.
            if done.before.is_some() && self.work_tree.passed() == done.before {
                self.pass_at(done.after.clone()).await.map_err(|error| GitError::Refused(error.to_string()))?;
            }
            made |= done.commits > 0;
            let count = u64::try_from(keys.len()).unwrap_or(0);
            self.store.forget_commits(keys).await?;
            let less = |pending: u64| Some(pending.saturating_sub(count));
            // The closure never refuses.
            let _ = self.git.pending.fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
        }
    }

    /// Write-backs whose files are in place, and those of the files that are something else by now.
    /// Nobody writes in between: what looks displaced was displaced by somebody else.
    async fn take_due(&self) -> Result<(Vec<CommitDue>, Vec<Displaced>), GitError> {
        let _alone = self.gate.write().await;
        let mut due = self.store.commits_due(MAX_COMMITS).await?;
        // What a crash left and the disk refuses to take is not in its file yet.
        due.retain(|due| !self.promises.is_owed(&due.intent.id));
        let last: BTreeMap<String, &CommitDue> = due.iter().map(|due| (due.intent.id.file(), due)).collect();
        let mut displaced = Vec::new();
        for (path, due) in last {
            let found = self.source.read(&due.intent.id).map_err(|error| GitError::Refused(error.to_string()))?;
            let content = found.map(|(_, content)| content);
            if content.as_deref().map(Digest::of) != due.intent.content.as_deref().map(Digest::of) {
                displaced.push(Displaced { path, content });
            }
        }
        Ok((due, displaced))
    }

    /// Remembers how something went, for the health and the log.
    fn tell(&self, what: &'static str, error: Option<&GitError>) {
        let mut told = self.git.told();
        match error {
            Some(GitError::Stopped { .. }) => {}
            Some(error) => {
                let class = error.class();
                if told.errors.get(what).is_none_or(|(known, _)| *known != class) {
                    tracing::warn!(component = "git", "could not {what}: {error}");
                }
                let since = told.errors.get(what).map_or(self.clock.now(), |(_, since)| *since);
                told.errors.insert(what, (class, since));
            }
            None => {
                if told.errors.remove(what).is_some() {
                    tracing::info!(component = "git", "could {what} again");
                }
            }
        }
    }

    /// How the work with the repository goes; `None` where none is asked for.
    pub(super) fn git_health(&self, head: Option<String>) -> Option<GitHealth> {
        if !self.settings.git.is_on() {
            return None;
        }
        let told = self.git.told();
        let error = told.errors.iter().min_by_key(|(_, (_, since))| *since);
        Some(GitHealth {
            mode: self.settings.git.to_string(),
            head,
            upstream: told.upstream.clone(),
            ahead: told.ahead,
            pending: self.git.pending.load(Ordering::Acquire),
            last_pull_iso: told.last_pull.map(iso),
            last_error: error.map(|(what, (class, _))| format!("could not {what}: {class}")),
            failing_since_iso: error.map(|(_, (_, since))| iso(*since)),
        })
    }

    /// Ends what waits for the remote.
    pub async fn stop_git(&self) {
        if self.settings.git.is_on()
            && let Ok(repo) = self.repo().await
        {
            repo.stop();
        }
    }
}

fn write_back(due: CommitDue) -> Option<WriteBack> {
    let CommitNote { actor, action_id, message } = due.intent.commit?;
    Some(WriteBack {
        path: due.intent.id.file(),
        base: due.intent.base,
        content: due.intent.content,
        actor,
        action_id,
        message,
        at: due.at,
    })
}

impl From<GitError> for AppError {
    fn from(error: GitError) -> Self {
        AppError::Conflict { detail: error.class(), suggestion: None }
    }
}
