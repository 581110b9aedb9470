//! Keeps the write-ahead log short and begins it anew again and again, so that commits overwrite
//! it: a log that only grows makes each fsync move the file's end as well, at twice the time.
//!
//! A thread of its own copies the log into the database; what has come in meanwhile, a few pages,
//! the writer copies between two groups. Then nothing is left to copy, and the next commit starts
//! at the log's beginning.

use std::cell::Cell;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use rusqlite::Connection;

/// From this many pages (4 MiB) on the log is copied.
const PAGES: u32 = 1000;

/// From this many (128 MiB) on the copying waits for slow readers, so that the log has an end.
const PAGES_MAX: u32 = 32_768;

/// How often the log's length is looked at.
pub(super) const ROUND: Duration = Duration::from_millis(100);

/// How long the writer waits at most for a slow reader when the log is to begin anew.
const READER_PATIENCE: Duration = Duration::from_millis(200);

thread_local! {
    /// Pages in the log after this thread's last commit. SQLite's hook is a plain function that runs
    /// on the committing thread; it has nowhere else to leave its number.
    static LOG_PAGES: Cell<u32> = const { Cell::new(0) };
    /// Whether a commit has written since somebody last asked; one that changes nothing does not.
    static HAS_WRITTEN: Cell<bool> = const { Cell::new(false) };
}

/// What the writer and the checkpointer tell each other.
#[derive(Default)]
pub(super) struct Log {
    pages: AtomicU32,
    /// All but the last pages are copied; the writer can do the rest.
    almost_copied: AtomicBool,
    /// The last copying failed, and was told of.
    is_failing: AtomicBool,
    /// How often the checkpointer has come round.
    rounds: AtomicU64,
    has_ended: AtomicBool,
}

/// However the checkpointer's thread ends, it is known that it did.
pub(super) struct Working<'a>(&'a Log);

impl Drop for Working<'_> {
    fn drop(&mut self) {
        self.0.has_ended.store(true, Ordering::Release);
    }
}

impl Log {
    /// Has SQLite count the log's pages for `after_group`.
    pub(super) fn watch(connection: &Connection) {
        connection.wal_hook(Some(|_, pages| {
            LOG_PAGES.set(u32::try_from(pages).unwrap_or(0));
            HAS_WRITTEN.set(true);
            Ok(())
        }));
    }

    /// The writer's part, between two groups.
    pub(super) fn after_group(&self, connection: &Connection) {
        self.pages.store(LOG_PAGES.get(), Ordering::Relaxed);
        if self.almost_copied.swap(false, Ordering::Relaxed) {
            self.copy(connection, "PRAGMA wal_checkpoint(PASSIVE)");
        }
    }

    pub(super) fn working(&self) -> Working<'_> {
        Working(self)
    }

    /// How often the checkpointer has come round; `None` once its thread is gone.
    pub(super) fn rounds(&self) -> Option<u64> {
        (!self.has_ended.load(Ordering::Acquire)).then(|| self.rounds.load(Ordering::Relaxed))
    }

    /// The checkpointer's part, once a round.
    pub(super) fn shorten(&self, connection: &Connection) {
        self.rounds.fetch_add(1, Ordering::Relaxed);
        let pages = self.pages.load(Ordering::Relaxed);
        if pages < PAGES {
            return;
        }
        let restart = pages >= PAGES_MAX;
        self.copy(
            connection,
            if restart { "PRAGMA wal_checkpoint(RESTART)" } else { "PRAGMA wal_checkpoint(PASSIVE)" },
        );
        self.almost_copied.store(true, Ordering::Relaxed);
    }

    fn copy(&self, connection: &Connection, pragma: &str) {
        let copied = connection.query_row(pragma, [], |_| Ok(()));
        let was_failing = self.is_failing.swap(copied.is_err(), Ordering::Relaxed);
        if let Err(error) = copied
            && !was_failing
        {
            tracing::warn!(component = "store", %error, "could not move the write-ahead log into the database; trying until it works");
        }
    }
}

/// Pages in the log after this thread's last commit, where there was one since this was last asked.
pub(super) fn log_grown() -> Option<u32> {
    HAS_WRITTEN.take().then(|| LOG_PAGES.get())
}

/// Pages in the log after this thread's last commit.
pub(super) fn log_pages() -> u32 {
    LOG_PAGES.get()
}

/// A connection that only ever copies.
pub(super) fn open(database: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(database)?;
    connection.busy_timeout(READER_PATIENCE)?;
    connection.pragma_update(None, "checkpoint_fullfsync", true)?;
    Ok(connection)
}
