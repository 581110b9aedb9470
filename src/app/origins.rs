//! Who stands behind an edited file: a commit's author where git brought it, else nobody known.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::App;
use super::apply::{Planned, file_edit};
use super::blocking::blocking;
use super::error::AppError;
use crate::adapters::source::{FileStat, GitError, Origins, Repo};
use crate::core::model::{Caller, ScheduleId, Source};

/// Whose edit it is, and in which commit it stands.
pub(super) struct Origin {
    pub caller: Caller,
    pub commit: Option<String>,
}

impl Origin {
    fn unknown() -> Origin {
        Origin { caller: file_edit(), commit: None }
    }
}

/// What is known of the work tree around the desired directory.
#[derive(Default)]
pub(super) struct WorkTree(Mutex<Known>);

#[derive(Default)]
struct Known {
    repo: Option<Arc<Repo>>,
    /// HEAD when a pass last saw everything.
    passed: Option<String>,
    /// What its last move brought; at the first look, what stands there.
    origins: Arc<Origins>,
    /// Whether that was a move: without one, nothing came by git, although its author is known.
    has_moved: bool,
}

impl WorkTree {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// HEAD when a pass last saw everything.
    pub fn passed(&self) -> Option<String> {
        self.known().passed.clone()
    }

    pub fn set_passed(&self, head: Option<String>) {
        self.known().passed = head;
    }
}

impl App {
    /// The work tree, opened when it is first needed and again when the directory leads elsewhere.
    pub(super) async fn repo(&self) -> Result<Arc<Repo>, GitError> {
        let known = self.work_tree.known().repo.clone();
        let root = self.source.root().to_owned();
        let opened = blocking(move || match known {
            Some(repo) if repo.is_of(&root) => Ok(repo),
            _ => Repo::open(&root).map(Arc::new),
        });
        let repo = opened.await.unwrap_or_else(|error| {
            Err(GitError::Run { command: "rev-parse".to_owned(), reason: error.to_string() })
        })?;
        self.work_tree.known().repo = Some(repo.clone());
        Ok(repo)
    }

    /// Does something with the work tree on a thread where it may block.
    pub(super) async fn with_repo<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Repo) -> Result<T, GitError> + Send + 'static,
    ) -> Result<T, GitError> {
        let repo = self.repo().await?;
        let done = blocking(move || work(&repo)).await;
        done.unwrap_or_else(|error| Err(GitError::Run { command: String::new(), reason: error.to_string() }))
    }

    /// Finds out what HEAD's move since the last pass brought, if it moved. Returns HEAD.
    pub(super) async fn look_for_commits(&self) -> Option<String> {
        let head = self.state().commit.clone();
        let passed = self.work_tree.passed();
        let Some(new) = head.clone().filter(|new| passed.as_ref() != Some(new)) else { return head };
        let has_moved = passed.is_some();
        let look = move |repo: &Repo| match passed {
            Some(old) => repo.origins(&old, &new),
            None => repo.origins_at(&new),
        };
        let found = self.with_repo(look).await.unwrap_or_else(|error| {
            tracing::warn!(component = "git", "cannot tell who committed the files that changed: {error}");
            Origins::default()
        });
        let mut known = self.work_tree.known();
        known.origins = Arc::new(found);
        known.has_moved = has_moved;
        drop(known);
        head
    }

    /// Whether HEAD is not where the last pass found it. Only as current as the last look.
    pub(super) fn head_has_moved(&self) -> bool {
        let head = self.state().commit.clone();
        head.is_some() && head != self.work_tree.passed()
    }

    /// A pass has seen everything at `head`.
    pub(super) async fn pass_at(&self, head: Option<String>) -> Result<(), AppError> {
        if let Some(head) = head.filter(|head| self.work_tree.passed().as_ref() != Some(head)) {
            self.store.note_commit(head.clone()).await?;
            self.work_tree.set_passed(Some(head));
        }
        Ok(())
    }

    /// Whose edit the file of a schedule is, as it lies there now.
    pub(super) fn origin(&self, id: &ScheduleId) -> Origin {
        if self.work_tree.known().origins.is_empty() {
            return Origin::unknown();
        }
        match self.source.stat(id) {
            Ok(stat) => self.origin_of(&id.file(), stat.as_ref()),
            Err(_) => Origin::unknown(),
        }
    }

    /// Whose edit a file is; `stat` is its own as it lies there now, `None` when it is gone.
    pub(super) fn origin_of(&self, path: &str, stat: Option<&FileStat>) -> Origin {
        let (origins, source) = {
            let known = self.work_tree.known();
            (known.origins.clone(), if known.has_moved { Source::Git } else { Source::File })
        };
        origins.commit_of(path, stat).map_or_else(Origin::unknown, |commit| Origin {
            caller: Caller { source, actor: commit.author.clone() },
            commit: Some(commit.id.clone()),
        })
    }
}

impl Planned {
    /// The plan in its author's name.
    pub(super) fn by(mut self, origin: Origin) -> Planned {
        self.caller = origin.caller;
        self.notes.extend(origin.commit.map(|commit| ("commit", commit.into())));
        self
    }
}
