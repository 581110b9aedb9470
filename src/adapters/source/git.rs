//! What git is doing in the work tree around the desired directory, read from its files: no
//! subprocess, and a few stats a call.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::Source;

/// Files and folders in the git directory that stand for an operation under way.
const BUSY: [&str; 9] = [
    "index.lock",
    "HEAD.lock",
    "MERGE_HEAD",
    "rebase-merge",
    "rebase-apply",
    "CHERRY_PICK_HEAD",
    "REVERT_HEAD",
    "sequencer",
    "BISECT_LOG",
];

/// How many symbolic references are followed to a commit.
const MAX_REFS: usize = 5;

impl Source {
    /// What git has under way (`MERGE_HEAD`, `index.lock`, …); `None` when nothing, or no work tree.
    pub fn git_busy(&self) -> Option<String> {
        let git = self.git_dir()?;
        BUSY.into_iter().find(|name| fs::symlink_metadata(git.join(name)).is_ok()).map(str::to_owned)
    }

    /// The commit the work tree has checked out, in hex; `None` when there is none or it cannot be told.
    pub fn git_head(&self) -> Option<String> {
        let git = self.git_dir()?;
        let mut content = fs::read_to_string(git.join("HEAD")).ok()?;
        for _ in 0..MAX_REFS {
            let text = content.trim();
            let Some(name) = text.strip_prefix("ref:") else { return commit(text) };
            content = reference(&git, name.trim())?;
        }
        None
    }

    /// The git directory of the work tree around the root. A find is remembered while it holds good,
    /// that there is none for a second: every edit asks.
    fn git_dir(&self) -> Option<PathBuf> {
        let mut known = self.git_dir.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let holds = match &*known {
            GitDir::At(git) => fs::symlink_metadata(git.join("HEAD")).is_ok(),
            GitDir::NoneSince(looked) => looked.elapsed() < LOOK_AGAIN,
            GitDir::Unknown => false,
        };
        if !holds {
            *known = discover(&self.root).map_or_else(|| GitDir::NoneSince(Instant::now()), GitDir::At);
        }
        if let GitDir::At(git) = &*known { Some(git.clone()) } else { None }
    }
}

/// What is known of the work tree around the root.
#[derive(Debug, Default)]
pub(super) enum GitDir {
    #[default]
    Unknown,
    At(PathBuf),
    NoneSince(Instant),
}

/// How long it is believed that there is no work tree.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

fn discover(root: &Path) -> Option<PathBuf> {
    let root = fs::canonicalize(root).ok()?;
    root.ancestors().find_map(|folder| {
        let dot_git = folder.join(".git");
        let meta = fs::metadata(&dot_git).ok()?;
        let git = if meta.is_dir() {
            dot_git
        } else {
            // Work trees and submodules have a file that names the directory.
            let text = fs::read_to_string(&dot_git).ok()?;
            folder.join(text.strip_prefix("gitdir:")?.trim())
        };
        git.join("HEAD").exists().then_some(git)
    })
}

/// What a reference holds: its own file, in the work tree's or the common directory, or a packed line.
fn reference(git: &Path, name: &str) -> Option<String> {
    // A name comes from a file; it must not lead out of the git directory.
    if !name.starts_with("refs/") || name.split('/').any(|part| part == "..") {
        return None;
    }
    let common = match fs::read_to_string(git.join("commondir")) {
        Ok(text) => git.join(text.trim()),
        Err(_) => git.to_owned(),
    };
    let loose = fs::read_to_string(git.join(name)).or_else(|_| fs::read_to_string(common.join(name)));
    loose.ok().or_else(|| {
        let packed = fs::read_to_string(common.join("packed-refs")).ok()?;
        packed.lines().find_map(|line| {
            let (id, packed_name) = line.split_once(' ')?;
            (packed_name == name).then(|| id.to_owned())
        })
    })
}

/// `text` if it is a commit's id, SHA-1 or SHA-256.
fn commit(text: &str) -> Option<String> {
    let is_id = matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_hexdigit());
    is_id.then(|| text.to_owned())
}

#[cfg(test)]
mod tests;
