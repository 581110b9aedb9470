//! Who stands behind what a move of HEAD brought: the last commit that touched each file, and which
//! files hold something that is in no commit.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::program::{Call, GitError};
use super::repo::Repo;
use crate::adapters::clock::Clock;
use crate::adapters::source::FileStat;

/// A commit and who made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    pub id: String,
    /// `Name <email>`
    pub author: String,
}

/// What a move of HEAD brought. Paths are relative to the desired directory.
#[derive(Clone, Debug, Default)]
pub struct Origins {
    touched: HashMap<String, Touch>,
    /// Files that differ from the commit, or that it does not know.
    uncommitted: HashSet<String>,
    /// When the files were compared with the commit.
    as_of_ms: i64,
}

#[derive(Clone, Debug)]
struct Touch {
    commit: Arc<Commit>,
    removed: bool,
}

/// Commits that are looked through for the last one that touched a file which a switch to an older
/// branch put back.
const MAX_HISTORY: &str = "5000";

/// Bytes of an author that are kept.
const MAX_AUTHOR: usize = 200;

impl Origins {
    /// The commit whose content the file at `path` is; `stat` is that of the file now, `None` when it
    /// is not there.
    pub fn commit_of(&self, path: &str, stat: Option<&FileStat>) -> Option<&Commit> {
        let touch = self.touched.get(path)?;
        let untouched_since = match stat {
            Some(stat) => !touch.removed && stat.changed_ns() / 1_000_000 <= self.as_of_ms,
            None => touch.removed,
        };
        (untouched_since && !self.uncommitted.contains(path)).then_some(&*touch.commit)
    }

    pub fn is_empty(&self) -> bool {
        self.touched.is_empty()
    }
}

impl Repo {
    /// What the move of HEAD from `old` to `new` brought, in three or four commands however many files
    /// there are.
    pub fn origins(&self, old: &str, new: &str) -> Result<Origins, GitError> {
        let mut touched = HashMap::new();
        let range = format!("{old}..{new}");
        self.read_log(&["--end-of-options", &range], &mut touched)?;
        // A switch to a branch that lacks commits puts files back whose last commit is older.
        let call = Call::new(["diff", "--name-only", "-z", "--no-renames", "--end-of-options", old, new]);
        let out = self.program.run(call.paths([self.directory()]))?;
        let moved: HashSet<String> = texts(&out).filter_map(|path| self.inner(&path).map(str::to_owned)).collect();
        if moved.iter().any(|path| !touched.contains_key(path)) {
            let mut older = HashMap::new();
            self.read_log(&["--max-count", MAX_HISTORY, "--end-of-options", new], &mut older)?;
            for (path, touch) in older {
                if moved.contains(&path) {
                    touched.entry(path).or_insert(touch);
                }
            }
        }
        let as_of_ms = Clock::System.now();
        let uncommitted = self.uncommitted()?;
        Ok(Origins { touched, uncommitted, as_of_ms })
    }

    /// What stands at `head`, for a program that has seen no commit before: who committed each file last.
    pub fn origins_at(&self, head: &str) -> Result<Origins, GitError> {
        let mut touched = HashMap::new();
        self.read_log(&["--max-count", MAX_HISTORY, "--end-of-options", head], &mut touched)?;
        let as_of_ms = Clock::System.now();
        let uncommitted = self.uncommitted()?;
        Ok(Origins { touched, uncommitted, as_of_ms })
    }

    /// Adds the newest commit of each path in a part of the history.
    fn read_log(&self, range: &[&str], touched: &mut HashMap<String, Touch>) -> Result<(), GitError> {
        let form = ["log", "-z", "--no-renames", "--name-status", "--format=tformat:%x02%H%x1f%aN <%aE>"];
        let out = self.program.run(Call::new(form.iter().chain(range)).paths([self.directory()]))?;
        let mut commit = None;
        let mut fields = texts(&out);
        while let Some(field) = fields.next() {
            let field = field.trim_start_matches('\n');
            if let Some((id, author)) = field.strip_prefix('\u{2}').and_then(|head| head.split_once('\u{1f}')) {
                commit = Some(Arc::new(Commit { id: id.to_owned(), author: named(author) }));
            } else if !field.is_empty()
                && let (Some(commit), Some(path)) = (&commit, fields.next())
                && let Some(path) = self.inner(&path)
            {
                let touch = Touch { commit: commit.clone(), removed: field == "D" };
                touched.entry(path.to_owned()).or_insert(touch);
            }
        }
        Ok(())
    }

    /// Files that are not as HEAD has them, staged, changed or unknown to it.
    fn uncommitted(&self) -> Result<HashSet<String>, GitError> {
        let form = ["status", "--porcelain=v1", "-z", "--untracked-files=all", "--no-renames", "--ignore-submodules"];
        let out = self.program.run(Call::new(form).paths([self.directory()]))?;
        // Two letters and a space stand before each path.
        Ok(texts(&out).filter_map(|line| Some(self.inner(line.get(3..)?)?.to_owned())).collect())
    }
}

/// The parts of an answer that end with a zero byte.
pub(super) fn texts(out: &[u8]) -> impl Iterator<Item = String> + '_ {
    out.split(|byte| *byte == 0).filter(|part| !part.is_empty()).map(|part| String::from_utf8_lossy(part).into_owned())
}

/// An author as the audit records them: one line of printable text.
fn named(author: &str) -> String {
    let plain: String = author.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mut end = plain.len().min(MAX_AUTHOR);
    while !plain.is_char_boundary(end) {
        end -= 1;
    }
    let name = plain.get(..end).unwrap_or_default().trim();
    if name.is_empty() { "unknown".to_owned() } else { name.to_owned() }
}
