//! What git is doing in the work tree around the desired directory, read from its files: no
//! subprocess, and a few stats a call. What only git itself can tell or do is asked of the program.

mod commit;
mod origins;
mod program;
mod remote;
mod repo;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use commit::{Committed, Displaced, WriteBack};
pub use origins::{Commit, Origins};
pub use program::GitError;
pub use remote::{Merged, PushOutcome, Upstream};
pub use repo::Repo;

use super::Source;
use crate::adapters::clock::Clock;

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

/// A lock this old has probably lost its owner.
const STALE_MS: i64 = 60_000;

/// How long after its index git may take to move HEAD.
const SETTLING_MS: i64 = 50;

/// How many symbolic references are followed to a commit.
const MAX_REFS: usize = 5;

impl Source {
    /// What git has under way (`MERGE_HEAD`, `index.lock`, …); `None` when nothing, or no work tree.
    /// A lock that is older than any command lasts is named with its age and what to do about it.
    pub fn git_busy(&self) -> Option<String> {
        let git = self.git_dir()?;
        let (name, meta) =
            BUSY.into_iter().find_map(|name| Some((name, fs::symlink_metadata(git.join(name)).ok()?)))?;
        let age = age_ms(&meta).filter(|age| name.ends_with(".lock") && *age >= STALE_MS);
        Some(age.map_or_else(
            || name.to_owned(),
            |age| {
                let age = humantime::format_duration(Duration::from_secs(age.unsigned_abs() / 1000));
                format!("{name} since {age}; if no git command runs there any more, one that crashed left it: remove {name} from the git directory")
            },
        ))
    }

    /// Whether git wrote its index a moment ago. It moves HEAD only after that, so that whoever looks
    /// between the two takes the files of a commit for somebody's edits.
    pub fn git_settling(&self) -> bool {
        let index = self.git_dir().and_then(|git| fs::symlink_metadata(git.join("index")).ok());
        index.and_then(|meta| age_ms(&meta)).is_some_and(|age| (0..SETTLING_MS).contains(&age))
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

/// How long ago a file was last written; negative when that lies ahead.
fn age_ms(meta: &fs::Metadata) -> Option<i64> {
    let written = meta.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(Clock::System.now() - i64::try_from(written.as_millis()).ok()?)
}

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
