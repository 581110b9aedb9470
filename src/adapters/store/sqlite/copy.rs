//! Copies made while the store is at work: a reading that stands still, and a file made from it page by page.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags, OptionalExtension as _};

use super::{Depth, Soundness, failed, open_error, open_reader, read};
use crate::adapters::store::{Copied, Pace, Progress, StoreError, StoreResult};
use crate::core::audit::{Entry, Head};
use crate::core::model::Millis;

/// How much of a copy may wait to be written to disk: what the system gathers and then writes at once would
/// make a commit beside it wait.
const UNSYNCED_BYTES: u64 = 8 << 20;

/// How long a copy waits for another process that holds the database.
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// A reading of the database that stands still: it sees what was committed before it began and nothing after.
/// While it is held the write-ahead log cannot begin anew, so it should not be held longer than needed.
pub struct Frozen {
    connection: Connection,
    /// Where the audit log ends in this reading.
    pub head: Head,
    /// When it was asked for.
    pub at: Millis,
    pub schema_version: i64,
    /// Which store it is, where it has a name.
    pub store: Option<String>,
    pub pages: u64,
    pub page_bytes: u64,
    path: PathBuf,
}

impl Frozen {
    /// Begins the reading. Within the writer's thread nothing can be committed meanwhile.
    pub(super) fn begin(path: &Path, at: Millis) -> rusqlite::Result<Frozen> {
        let connection = open_reader(path)?;
        Frozen::over(connection, path, at)
    }

    fn over(connection: Connection, path: &Path, at: Millis) -> rusqlite::Result<Frozen> {
        connection.execute_batch("BEGIN")?;
        // The transaction begins with its first reading.
        let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
        let schema_version = number("user_version")?;
        let unsigned = |number: i64| u64::try_from(number).unwrap_or(0);
        let (pages, page_bytes) = (unsigned(number("page_count")?), unsigned(number("page_size")?));
        let head = read::chain_end(&connection)?;
        let store =
            connection.query_row("SELECT value FROM facts WHERE name = 'store_id'", [], |row| row.get(0)).optional()?;
        Ok(Frozen { head, at, schema_version, store, pages, page_bytes, path: path.to_owned(), connection })
    }

    /// A reading of a database that no server has open; fails while somebody writes to it.
    pub fn of_file(path: &Path, at: Millis) -> StoreResult<Frozen> {
        open_reader(path)
            .and_then(|connection| Frozen::over(connection, path, at))
            .map_err(|error| failed("read the database", &error))
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The whole audit log, oldest entry first, in batches; false ends it.
    pub fn audit(&self, hand_over: &mut dyn FnMut(Vec<Entry>) -> bool) -> StoreResult<()> {
        super::audit::log(&self.connection, hand_over).map_err(|error| failed("read the audit log", &error))
    }

    /// Where the database lies that is read.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the reading into a new file, which is on disk and closed when this returns, and has no file beside
    /// it. Whatever is written meanwhile, the copy never begins anew.
    pub fn copy_to(&self, target: &Path, pace: Pace, progress: Progress<'_>) -> StoreResult<()> {
        let file = File::options()
            .write(true)
            .create_new(true)
            .open(target)
            .map_err(|e| broken("copy the database", target, &e))?;
        self.copy_pages(target, &file, pace, progress)?;
        file.sync_all().map_err(|e| broken("bring the copy to disk", target, &e))
    }

    fn copy_pages(&self, target: &Path, file: &File, pace: Pace, progress: Progress<'_>) -> StoreResult<()> {
        let fail = |error: rusqlite::Error| failed("copy the database", &error);
        let mut copy = Connection::open(target).map_err(fail)?;
        // Brought to disk by hand: a copy that was cut off is thrown away.
        for (pragma, value) in [("journal_mode", "OFF"), ("synchronous", "OFF")] {
            copy.pragma_update(None, pragma, value).map_err(fail)?;
        }
        let backup = Backup::new(&self.connection, &mut copy).map_err(fail)?;
        let mut unsynced = 0;
        loop {
            let step = backup.step(i32::from(pace.pages)).map_err(fail)?;
            let at = backup.progress();
            let total = u64::try_from(at.pagecount).unwrap_or(0);
            let done = total.saturating_sub(u64::try_from(at.remaining).unwrap_or(0));
            if !progress(Copied { done, total }) {
                return Err(StoreError::Stopped);
            }
            match step {
                StepResult::Done => break,
                StepResult::More => {
                    unsynced += u64::from(pace.pages) * self.page_bytes;
                    if unsynced >= UNSYNCED_BYTES {
                        unsynced = 0;
                        file.sync_data().map_err(|e| broken("bring the copy to disk", target, &e))?;
                    }
                    if !pace.pause.is_zero() {
                        std::thread::sleep(pace.pause);
                    }
                }
                _ => std::thread::sleep(BUSY_PAUSE),
            }
        }
        drop(backup);
        // The copy says of itself that it has a log beside it, as the original does; on its own it has none.
        copy.pragma_update(None, "journal_mode", "DELETE").map_err(fail)?;
        copy.close().map_err(|(_, error)| fail(error))
    }
}

/// Writes what an open connection sees into a new file, wherever the files lie that it has open.
pub(super) fn copy_open(connection: &Connection, target: &Path) -> StoreResult<()> {
    let fail = |error: rusqlite::Error| failed("copy the open database", &error);
    let mut copy = Connection::open(target).map_err(fail)?;
    for (pragma, value) in [("journal_mode", "OFF"), ("synchronous", "OFF")] {
        copy.pragma_update(None, pragma, value).map_err(fail)?;
    }
    let backup = Backup::new(connection, &mut copy).map_err(fail)?;
    while backup.step(i32::from(Pace::FULL.pages)).map_err(fail)? != StepResult::Done {}
    drop(backup);
    copy.pragma_update(None, "journal_mode", "DELETE").map_err(fail)?;
    copy.close().map_err(|(_, error)| fail(error))?;
    let synced = File::options().write(true).open(target).and_then(|file| file.sync_all());
    synced.map_err(|error| broken("bring the copy to disk", target, &error))
}

/// What a verified database file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyFacts {
    pub head: Head,
    pub schema_version: i64,
}

/// Looks at a database file that nobody writes to: every page, and where its audit log ends. Leaves no file behind.
pub fn verify_copy(path: &Path) -> StoreResult<CopyFacts> {
    let operation = "check the copy of the database";
    let connection = open_alone(path).map_err(|e| open_error(path, &e))?;
    check(&connection, Depth::Quick).map_err(|e| failed(operation, &e))?.or_corrupt(operation)?;
    let facts = || {
        let schema_version = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        Ok(CopyFacts { head: read::chain_end(&connection)?, schema_version })
    };
    facts().map_err(|e: rusqlite::Error| failed(operation, &e))
}

/// A database that lies alone, with nobody else at it: neither locked nor given files beside it.
pub(super) fn open_alone(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' | b':' | b'\\' => {
                uri.push(char::from(*byte));
            }
            byte => uri.push_str(&format!("%{byte:02x}")),
        }
    }
    Connection::open_with_flags(uri + "?immutable=1", flags)
}

/// Has long statements on this connection rest again and again, so that others get the disk and a processor.
pub(super) fn go_gently(connection: &Connection) -> rusqlite::Result<()> {
    const STEPS: i32 = 5_000;
    const REST: Duration = Duration::from_micros(500);
    connection.progress_handler(
        STEPS,
        Some(|| {
            std::thread::sleep(REST);
            false
        }),
    )
}

/// The first things that are wrong with a database, if any.
pub(super) fn check(connection: &Connection, depth: Depth) -> rusqlite::Result<Soundness> {
    let pragma = match depth {
        Depth::Quick => "PRAGMA quick_check(5)",
        Depth::Full => "PRAGMA integrity_check(5)",
    };
    let found = || {
        let mut statement = connection.prepare(pragma)?;
        let lines = statement.query_map([], |row| row.get::<_, String>(0))?;
        lines.collect::<rusqlite::Result<Vec<String>>>()
    };
    match found() {
        Ok(lines) if lines == ["ok"] => Ok(Soundness::Sound),
        Ok(lines) => Ok(Soundness::Damaged(lines.join("; ").replace('\n', " "))),
        // The check itself came to nothing.
        Err(error) if super::is_damage(&error) => Ok(Soundness::Damaged(error.to_string())),
        Err(error) => Err(error),
    }
}

fn broken(operation: &'static str, path: &Path, error: &std::io::Error) -> StoreError {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => StoreError::Full,
        _ => StoreError::Failed { operation, reason: format!("{}: {error}", path.display()) },
    }
}
