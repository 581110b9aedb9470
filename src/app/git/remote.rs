//! The remote branch: pushed to after commits, followed by pulls. Diverged histories are merged,
//! never rewritten and never forced.

use std::sync::atomic::Ordering;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{App, AppError, GitError};
use crate::adapters::source::{PushOutcome, Upstream};
use crate::app::apply::{draft, new_action_id};
use crate::app::views::PassReport;
use crate::core::audit::operation;
use crate::core::model::Caller;

/// How often a push is tried anew after the remote's commits were merged.
const PUSH_TRIES: usize = 3;

/// What a pull brought.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pulled {
    pub old_head: Option<String>,
    pub new_head: Option<String>,
    /// Files of the desired directory that differ between the two.
    pub files: u64,
}

impl App {
    /// Pushes what the remote branch lacks; merges what it has more, and tries again.
    pub async fn push_commits(&self) -> Result<(), GitError> {
        let _turn = self.git.turn.lock().await;
        let pushed = self.push_all().await;
        self.tell("push", pushed.as_ref().err());
        self.count_ahead().await;
        pushed
    }

    async fn push_all(&self) -> Result<(), GitError> {
        for _ in 0..PUSH_TRIES {
            let upstream = self.upstream().await?;
            let pushed = self.with_repo(move |repo| repo.push(&upstream)).await?;
            match pushed {
                PushOutcome::Done => return Ok(()),
                PushOutcome::Behind => {
                    let upstream = self.upstream().await?;
                    self.with_repo(move |repo| repo.fetch(&upstream)).await?;
                    self.merge_upstream().await?;
                    self.pass_wanted.notify_one();
                }
            }
        }
        Err(GitError::Refused("others push faster than this server can merge what they push".to_owned()))
    }

    /// Fetches the remote branch and brings the work tree up to it.
    pub async fn pull(&self) -> Result<Pulled, GitError> {
        // What is ours goes first: an edit that is not committed would be in a merge's way.
        if self.settings.git.commit {
            self.commit_write_backs().await?;
        }
        let _turn = self.git.turn.lock().await;
        let pulled = self.pull_upstream().await;
        self.tell("pull", pulled.as_ref().err());
        if pulled.is_ok() {
            self.git.told().last_pull = Some(self.clock.now());
        }
        self.count_ahead().await;
        pulled
    }

    async fn pull_upstream(&self) -> Result<Pulled, GitError> {
        let upstream = self.upstream().await?;
        self.with_repo(move |repo| repo.fetch(&upstream)).await?;
        let pulled = self.merge_upstream().await?;
        if pulled.old_head != pulled.new_head {
            self.pass_wanted.notify_one();
        }
        Ok(pulled)
    }

    /// Merges what was fetched while nobody reads or writes the directory: all of it is one change.
    async fn merge_upstream(&self) -> Result<Pulled, GitError> {
        let upstream = self.upstream().await?;
        let _alone = self.gate.write().await;
        if let Some(busy) = self.source.git_busy() {
            return Err(GitError::Refused(format!("git is at work in the desired directory ({busy})")));
        }
        let merged = self.with_repo(move |repo| repo.merge(&upstream)).await?;
        Ok(Pulled { old_head: merged.before, new_head: merged.after, files: merged.files })
    }

    /// A pull that somebody asked for, with the pass over what it brought.
    pub async fn pull_now(&self, caller: &Caller) -> Result<(Pulled, PassReport), AppError> {
        if !self.settings.git.pull {
            let detail = "pulling is switched off; start the server with COMMAND_CENTER_GIT=pull".to_owned();
            return Err(AppError::Conflict { detail, suggestion: None });
        }
        let pulled = self.pull().await?;
        if pulled.old_head != pulled.new_head {
            let detail = json!({"old_head": pulled.old_head, "new_head": pulled.new_head, "files": pulled.files});
            let entry = draft(None, operation::GIT_PULLED, caller, &new_action_id(), detail);
            self.store.append(vec![entry], self.clock.now()).await?;
            self.metrics.event(operation::GIT_PULLED, "info");
        }
        let pass = self.full_pass(None).await?;
        Ok((pulled, pass))
    }

    async fn upstream(&self) -> Result<Upstream, GitError> {
        let (remote, branch) = (self.settings.git.remote.clone(), self.settings.git.branch.clone());
        let upstream = self.with_repo(move |repo| repo.upstream(&remote, branch.as_deref())).await?;
        self.git.told().upstream = Some(upstream.to_string());
        Ok(upstream)
    }

    /// Counts the commits that the remote branch lacks, for the health.
    pub async fn count_ahead(&self) -> Option<u64> {
        if !self.settings.git.needs_remote() {
            return None;
        }
        let upstream = self.upstream().await.ok()?;
        let ahead = self.with_repo(move |repo| repo.ahead(&upstream)).await.ok();
        self.git.told().ahead = ahead;
        ahead
    }

    /// Edits that wait to be committed.
    pub fn commits_pending(&self) -> u64 {
        self.git.pending.load(Ordering::Acquire)
    }
}
