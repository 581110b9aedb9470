//! The work tree around the desired directory, asked through the `git` program.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::program::{Call, GitError, Program};

/// A work tree and where in it the desired directory lies. Calls block; share it freely.
#[derive(Debug)]
pub struct Repo {
    pub(super) program: Program,
    /// The desired directory without links, as it was when this was opened.
    root: PathBuf,
    /// The desired directory relative to the work tree, with a slash at its end; empty when it is the
    /// work tree itself.
    pub(super) prefix: String,
    stop: Arc<AtomicBool>,
}

impl Repo {
    /// The work tree around `root`.
    ///
    /// # Errors
    /// There is none, it may not be used, or there is no `git` program.
    pub fn open(root: &Path) -> Result<Repo, GitError> {
        let stop = Arc::new(AtomicBool::new(false));
        let none = |reason: String| GitError::NoWorkTree { path: root.to_owned(), reason };
        let real = fs::canonicalize(root).map_err(|error| none(error.to_string()))?;
        let asked = Program::new(&real, stop.clone());
        let answer = asked.run(Call::new(["rev-parse", "--show-toplevel", "--show-prefix"]));
        let answer = answer.map_err(|error| match error {
            GitError::Failed { complaint, .. } => none(complaint),
            other => other,
        })?;
        let text = String::from_utf8(answer).map_err(|_| none("its path is not Unicode text".to_owned()))?;
        let mut lines = text.lines();
        let top = lines.next().filter(|top| !top.is_empty()).ok_or_else(|| none("it is bare".to_owned()))?;
        let prefix = lines.next().unwrap_or_default().to_owned();
        Ok(Repo { program: Program::new(Path::new(top), stop.clone()), root: real, prefix, stop })
    }

    /// Whether `root` still leads to the directory that this was opened for.
    pub fn is_of(&self, root: &Path) -> bool {
        fs::canonicalize(root).is_ok_and(|real| real == self.root)
    }

    /// Ends what waits for another machine, now and from now on.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    /// The desired directory as an argument.
    pub(super) fn directory(&self) -> OsString {
        if self.prefix.is_empty() { ".".into() } else { self.prefix.clone().into() }
    }

    /// A path of the work tree as one of the desired directory.
    pub(super) fn inner<'a>(&self, path: &'a str) -> Option<&'a str> {
        path.strip_prefix(self.prefix.as_str())
    }

    /// The commit that is checked out; `None` before the first.
    pub fn head(&self) -> Result<Option<String>, GitError> {
        let ended = self.program.end(Call::new(["rev-parse", "--verify", "--quiet", "HEAD^{commit}"]))?;
        let id = String::from_utf8_lossy(&ended.out).trim().to_owned();
        Ok(Some(id).filter(|id| ended.code == Some(0) && !id.is_empty()))
    }
}
