//! Keeps the desired directory's repository up to the API's changes and to its remote: commits soon
//! after a change, pushes after commits, pulls by time. What fails is tried again, ever less often.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::supervisor::Ended;
use crate::adapters::source::GitError;
use crate::app::{App, Pulse};

pub struct GitKeeper {
    app: Arc<App>,
}

/// How long more changes are gathered before they are committed.
const GATHER: Duration = Duration::from_millis(200);

/// The first pause after a failure; each further one doubles it.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// How long the last commit may take when the program stops. What it leaves is committed at the next start.
const LAST_COMMIT: Duration = Duration::from_secs(5);

/// How long all that is done in one go may take: git's programs have limits of their own, and some follow
/// one another.
const GIT_LIMIT: Duration = Duration::from_secs(600);

/// One kind of work: when it is due, and how often it failed in a row.
struct Duty {
    due: Option<Instant>,
    failures: u32,
}

impl Duty {
    fn is_due(&self) -> bool {
        self.due.is_some_and(|due| due <= Instant::now())
    }

    /// Sets when it is due next; after a failure that is the pause.
    fn done<T>(&mut self, result: &Result<T, GitError>, next: Option<Duration>) {
        let wait = if result.is_ok() {
            self.failures = 0;
            next
        } else {
            let pause = FIRST_RETRY * 2u32.saturating_pow(self.failures.min(10));
            self.failures += 1;
            Some(pause.min(LONGEST_RETRY))
        };
        self.due = wait.map(|wait| Instant::now() + wait);
    }
}

impl GitKeeper {
    pub fn new(app: Arc<App>) -> Self {
        GitKeeper { app }
    }

    pub async fn run(self, pulse: Pulse) -> Ended {
        let settings = &self.app.settings.git;
        let now = Instant::now();
        let duty = |on: bool| Duty { due: on.then_some(now), failures: 0 };
        let (mut commit, mut push, mut pull) = (duty(settings.commit), duty(settings.push), duty(settings.pull));
        loop {
            pulse.waits(GIT_LIMIT, "git");
            if commit.is_due() {
                let made = self.app.commit_write_backs().await;
                if matches!(made, Ok(true)) && settings.push {
                    push.due.get_or_insert_with(Instant::now);
                }
                commit.done(&made, None);
            }
            if push.is_due() {
                pulse.goes_on();
                push.done(&self.push().await, None);
            }
            if pull.is_due() {
                pulse.goes_on();
                let pulled = self.until_stopped(self.app.pull()).await;
                if settings.push && pulled.as_ref().is_ok_and(|pulled| pulled.old_head != pulled.new_head) {
                    // A merge is a commit, too.
                    push.due.get_or_insert_with(Instant::now);
                }
                pull.done(&pulled, Some(settings.pull_interval));
            }
            let next = [commit.due, push.due, pull.due].into_iter().flatten().min();
            let idle = Instant::now() + LONGEST_RETRY;
            pulse.waits(LONGEST_RETRY, "changes to commit, and the next pull");
            tokio::select! {
                () = pulse.stopped() => break,
                () = self.app.commit_wanted() => {
                    tokio::time::sleep(GATHER).await;
                    // A pause after a failure is kept: a busy repository is not asked for every change.
                    commit.due.get_or_insert_with(Instant::now);
                }
                () = tokio::time::sleep_until(next.unwrap_or(idle).min(idle).into()) => {}
            }
        }
        if settings.commit && self.app.commits_pending() > 0 {
            let last = tokio::time::timeout(LAST_COMMIT, self.app.commit_write_backs()).await;
            if !matches!(last, Ok(Ok(_))) {
                tracing::warn!(component = "git", "the last changes are committed at the next start");
            }
        }
        Ok(())
    }

    /// Pushes, unless the remote branch lacks nothing.
    async fn push(&self) -> Result<(), GitError> {
        if self.app.count_ahead().await == Some(0) {
            return Ok(());
        }
        self.until_stopped(self.app.push_commits()).await
    }

    /// Work that waits for another machine, ended when the program stops.
    async fn until_stopped<T>(&self, work: impl Future<Output = Result<T, GitError>>) -> Result<T, GitError> {
        tokio::pin!(work);
        tokio::select! {
            done = &mut work => return done,
            () = self.app.shutdown.cancelled() => self.app.stop_git().await,
        }
        work.await
    }
}
