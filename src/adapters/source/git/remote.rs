//! Fetch, merge and push. Nothing here is ever forced, reset or rewritten: what cannot be merged
//! stays as it was and is said.

use std::fmt;

use super::origins::texts;
use super::program::{Call, GitError};
use super::repo::Repo;

/// A remote's branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    remote: String,
    branch: String,
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.remote, self.branch)
    }
}

impl Upstream {
    /// Where git keeps what it knows of it.
    fn tracking(&self) -> String {
        format!("refs/remotes/{}/{}", self.remote, self.branch)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushOutcome {
    Done,
    /// The remote branch has commits that are missing here.
    Behind,
}

/// What a merge did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    pub before: Option<String>,
    pub after: Option<String>,
    /// Files of the desired directory that differ between the two.
    pub files: u64,
}

/// Files named in a message at most.
const MAX_NAMED: usize = 5;

impl Repo {
    /// Whether the remote is configured.
    pub fn check_remote(&self, remote: &str) -> Result<(), GitError> {
        let known = self.program.end(Call::new(["remote", "get-url", "--", remote]))?;
        if known.code == Some(0) {
            return Ok(());
        }
        Err(GitError::Refused(format!(
            "the repository has no remote {remote:?}; add it with git remote add, or name another with COMMAND_CENTER_GIT_REMOTE"
        )))
    }

    /// The remote's branch: the one that was set, the upstream of the branch that is checked out, or
    /// the branch of its name.
    pub fn upstream(&self, remote: &str, branch: Option<&str>) -> Result<Upstream, GitError> {
        let upstream = |branch: &str| Upstream { remote: remote.to_owned(), branch: branch.to_owned() };
        if let Some(branch) = branch {
            return Ok(upstream(branch));
        }
        let local = self.branch()?;
        let setting = |name: &str| -> Result<Option<String>, GitError> {
            let ended = self.program.end(Call::new(["config", "--get", &format!("branch.{local}.{name}")]))?;
            let value = String::from_utf8_lossy(&ended.out).trim().to_owned();
            Ok(Some(value).filter(|value| ended.code == Some(0) && !value.is_empty()))
        };
        let merges = setting("merge")?;
        if setting("remote")?.as_deref() == Some(remote)
            && let Some(branch) = merges.as_deref().and_then(|merges| merges.strip_prefix("refs/heads/"))
        {
            return Ok(upstream(branch));
        }
        Ok(upstream(&local))
    }

    /// Brings what the remote branch has into the repository; the work tree stays as it is.
    pub fn fetch(&self, from: &Upstream) -> Result<(), GitError> {
        // The plus is for our record of the remote branch alone, which may have been rewritten there.
        let refspec = format!("+refs/heads/{}:{}", from.branch, from.tracking());
        let args = ["fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head", "--"];
        let call = Call::new(args.into_iter().chain([from.remote.as_str(), &refspec])).over_the_network();
        match self.program.run(call) {
            Err(GitError::Failed { complaint, .. }) if complaint.contains("couldn't find remote ref") => {
                Err(GitError::Refused(format!(
                    "the remote {} has no branch {}; push it, or name another with COMMAND_CENTER_GIT_BRANCH",
                    from.remote, from.branch
                )))
            }
            other => other.map(|_| ()),
        }
    }

    /// Sends the branch's commits; never forced.
    pub fn push(&self, to: &Upstream) -> Result<PushOutcome, GitError> {
        let local = self.branch()?;
        let refspec = format!("refs/heads/{local}:refs/heads/{}", to.branch);
        let args = ["push", "--porcelain", "--no-recurse-submodules", "--", &to.remote, &refspec];
        let ended = self.program.end(Call::new(args).over_the_network())?;
        if ended.code == Some(0) {
            return Ok(PushOutcome::Done);
        }
        // FLAG<tab>FROM:TO<tab>SUMMARY; a ! is a refusal.
        let out = String::from_utf8_lossy(&ended.out).into_owned();
        let refusal = out.lines().find_map(|line| line.strip_prefix('!')?.rsplit('\t').next());
        match refusal {
            Some(why) if why.contains("fetch first") || why.contains("non-fast-forward") => Ok(PushOutcome::Behind),
            // The branch moved between the remote's answer and the update.
            Some(why) if why.contains("cannot lock ref") || why.contains("failed to update ref") => {
                Ok(PushOutcome::Behind)
            }
            Some(_) if ended.complaint.contains("pre-receive") || ended.complaint.contains("protected") => {
                tracing::warn!(component = "git", "the remote refused the push: {}", ended.complaint);
                Err(GitError::Refused(format!("the rules of {to} refuse the push; the log says what the remote said")))
            }
            _ => Err(GitError::Failed { command: "push".to_owned(), code: ended.code, complaint: ended.complaint }),
        }
    }

    /// How many commits the remote branch lacks, as far as is known here.
    pub fn ahead(&self, of: &Upstream) -> Result<u64, GitError> {
        if self.head()?.is_none() {
            return Ok(0);
        }
        let known = self.program.end(Call::new(["rev-parse", "--verify", "--quiet", &of.tracking()]))?;
        let mut args = vec!["rev-list".to_owned(), "--count".to_owned(), "HEAD".to_owned()];
        if known.code == Some(0) {
            args.push(format!("^{}", of.tracking()));
        }
        let count = self.program.line(Call::new(args))?;
        count.parse().map_err(|_| GitError::Strange { command: "rev-list".to_owned(), answer: count })
    }

    /// Brings the branch and the work tree up to what was fetched: forward where nothing is ahead,
    /// else by a merge. Files that a person changed are never touched; where they are in the way, or
    /// both sides changed the same lines, nothing happens and the error says so.
    pub fn merge(&self, from: &Upstream) -> Result<Merged, GitError> {
        self.branch()?;
        let before = self.head()?;
        let tip = self.program.line(Call::new([
            "rev-parse",
            "--verify",
            "--quiet",
            &format!("{}^{{commit}}", from.tracking()),
        ]))?;
        if let Some(head) = &before {
            if self.is_within(&tip, head)? {
                return Ok(Merged { after: before.clone(), before, files: 0 });
            }
            if !self.is_within(head, &tip)? {
                self.refuse_conflicts(head, &tip, from)?;
            }
        }
        let args = [
            "-c",
            "user.name=Command Center",
            "-c",
            "user.email=command-center@localhost",
            "merge",
            "--quiet",
            "--ff",
            "--no-edit",
            "--no-stat",
            "--no-verify",
            "--no-rerere-autoupdate",
            "-m",
            &format!("merge {from}"),
            "--",
            &tip,
        ];
        let ended = self.program.end(Call::new(args))?;
        if ended.code != Some(0) {
            return Err(self.give_up_merge(&ended.complaint, from));
        }
        let after = self.head()?;
        let files = match (&before, &after) {
            (Some(before), Some(after)) => self.files_between(before, after)?,
            _ => 0,
        };
        Ok(Merged { before, after, files })
    }

    /// Whether `commit` is in the history of `tip`.
    fn is_within(&self, commit: &str, tip: &str) -> Result<bool, GitError> {
        let ended = self.program.end(Call::new(["merge-base", "--is-ancestor", commit, tip]))?;
        match ended.code {
            Some(0) => Ok(true),
            Some(1) => Ok(false),
            code => Err(GitError::Failed { command: "merge-base".to_owned(), code, complaint: ended.complaint }),
        }
    }

    /// Tries the merge beside the work tree, so that a conflict never shows in it. An older git cannot;
    /// there the merge itself finds out.
    fn refuse_conflicts(&self, head: &str, tip: &str, from: &Upstream) -> Result<(), GitError> {
        let args = ["merge-tree", "--write-tree", "--name-only", "--no-messages", "-z", head, tip];
        let ended = self.program.end(Call::new(args))?;
        if ended.code != Some(1) {
            return Ok(());
        }
        // The tree comes first, then the files.
        Err(conflict(from, texts(&ended.out).skip(1)))
    }

    /// Leaves a merge that did not succeed, if it was begun, and says why it did not.
    fn give_up_merge(&self, complaint: &str, from: &Upstream) -> GitError {
        let unmerged = self.program.run(Call::new(["diff", "--name-only", "-z", "--diff-filter=U"]));
        let files: Vec<String> = unmerged.map(|out| texts(&out).collect()).unwrap_or_default();
        if !files.is_empty() {
            if let Err(error) = self.program.run(Call::new(["merge", "--abort"])) {
                tracing::error!(component = "git", "could not leave the merge of {from}; finish it by hand: {error}");
            }
            return conflict(from, files.into_iter());
        }
        // The files stand one a line behind a tab.
        let in_the_way: Vec<&str> = complaint.lines().filter_map(|line| line.strip_prefix('\t')).collect();
        if in_the_way.is_empty() {
            return GitError::Failed { command: "merge".to_owned(), code: Some(1), complaint: complaint.to_owned() };
        }
        GitError::Refused(format!(
            "uncommitted changes are in the way of {from}: {}; commit or stash them",
            named(in_the_way.iter().map(|path| (*path).to_owned()))
        ))
    }

    fn files_between(&self, before: &str, after: &str) -> Result<u64, GitError> {
        let call = Call::new(["diff", "--name-only", "-z", "--no-renames", "--end-of-options", before, after]);
        let out = self.program.run(call.paths([self.directory()]))?;
        Ok(u64::try_from(texts(&out).count()).unwrap_or(u64::MAX))
    }
}

fn conflict(from: &Upstream, files: impl Iterator<Item = String>) -> GitError {
    let files = named(files);
    GitError::Refused(format!(
        "the commits here and those of {from} change the same lines of {files}; merge them by hand (git merge {from}), nothing was changed"
    ))
}

fn named(files: impl Iterator<Item = String>) -> String {
    let mut files: Vec<String> = files.collect();
    let more = files.len().saturating_sub(MAX_NAMED);
    files.truncate(MAX_NAMED);
    let names = files.join(", ");
    if more > 0 { format!("{names} and {more} more") } else { names }
}
