//! A damaged database and its replacement: what the one still tells, and what of it the other takes over. Both
//! are files that nobody else has open.

use std::fs::File;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::lock::StoreLock;
use super::wal::Log;
use super::writer::{INSERT_ENTRY, insert_entry};
use super::{StoreError, StoreResult, audit, copy, failed, migrate, open_error, open_failed, read, with_suffix};
use crate::adapters::store::{CopyFacts, Depth, Soundness};
use crate::core::audit::{Draft, Head, Verifier};
use crate::core::heal::Known;
use crate::core::model::Millis;
use crate::core::timing::iso;

/// The database belongs to whoever holds this, open or not.
pub struct Hold(pub(super) StoreLock);

impl Hold {
    /// Says whether there has been a store here before: it has left its lock.
    /// `handed` is the locked file of a predecessor in this process.
    pub fn take(database: &Path, handed: Option<File>) -> StoreResult<(Hold, bool)> {
        if let Some(folder) = database.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder)
                .map_err(|e| open_error(database, &format!("its folder cannot be made: {e}")))?;
        }
        let had_been = StoreLock::is_marked(database);
        Ok((Hold(StoreLock::take(database, handed)?), had_been))
    }
}

/// A database and the files that belong to it.
pub fn files_of(database: &Path) -> [PathBuf; 3] {
    [database.to_owned(), with_suffix(database, "-wal"), with_suffix(database, "-shm")]
}

/// A schema that is older than this program's, if the database says so.
pub fn older_schema(database: &Path) -> Option<i64> {
    let connection = open_quietly(database).ok()?;
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).ok()?;
    (0 < found && found < super::newest_schema()).then_some(found)
}

/// The schema of a database beside the one that this program works with.
#[derive(Clone, Copy, Debug)]
pub struct SchemaFound {
    /// `None` where there is no database yet, or none that can be read: the start deals with that.
    pub found: Option<i64>,
    pub known: i64,
}

impl SchemaFound {
    pub fn tell(self) -> String {
        let SchemaFound { found, known } = self;
        match found {
            None | Some(0) => "A server would start like this, with an empty store or one that it restores.".to_owned(),
            Some(found) if found < known => {
                format!("A server would start like this, and bring the store from schema {found} to {known}.")
            }
            Some(_) => format!("A server would start like this, on the store as it is (schema {known})."),
        }
    }
}

/// Looks whether this program could work with a database, which a server may have open.
///
/// # Errors
/// When a newer program has written it.
pub fn check_schema(database: &Path) -> StoreResult<SchemaFound> {
    let known = super::newest_schema();
    let version = |connection: Connection| connection.pragma_query_value(None, "user_version", |row| row.get(0));
    let found = database.is_file().then(|| open_quietly(database).and_then(version).ok()).flatten();
    match found {
        Some(found) if found > known => Err(StoreError::Newer { path: database.display().to_string(), found, known }),
        found => Ok(SchemaFound { found, known }),
    }
}

/// Looks at a database that nobody has open, its write-ahead log included.
pub fn examine(database: &Path, depth: Depth) -> StoreResult<Soundness> {
    match open_quietly(database).and_then(|connection| copy::check(&connection, depth)) {
        Err(error) if super::is_damage(&error) => Ok(Soundness::Damaged(error.to_string())),
        found => found.map_err(|error| failed("check the database", &error)),
    }
}

/// Why commits that were answered are missing from what SQLite will read of the write-ahead log, if that is so.
pub fn log_damage(database: &Path) -> Option<String> {
    match Log::beside(database) {
        Ok(log) => log?.damage(),
        Err(error) => {
            tracing::warn!(component = "store", %error, "could not look through the write-ahead log");
            None
        }
    }
}

/// Writes into `target` what can be read of a database whose log is damaged, from behind the damage too. It is for
/// finding out what there was and for taking over what proves itself; nobody may work with it.
pub fn read_around(damaged: &Path, target: &Path) -> bool {
    let written = || -> std::io::Result<bool> {
        let Some(log) = Log::beside(damaged)?.filter(|log| log.damage().is_some()) else { return Ok(false) };
        std::fs::copy(damaged, target)?;
        log.write_into(target)
    };
    let written = written().unwrap_or(false);
    // It says of itself that it has a log beside it.
    written && open_around(target).is_ok()
}

fn open_around(target: &Path) -> rusqlite::Result<()> {
    let connection = Connection::open(target)?;
    connection.pragma_update(None, "journal_mode", "DELETE")
}

/// Writes a database as it was before the damage in its log into `target`, checked: where its audit log ended, and
/// when. `None` where it cannot be had.
pub fn up_to_damage(damaged: &Path, target: &Path) -> StoreResult<Option<(Head, Millis)>> {
    let written = || -> std::io::Result<bool> {
        let Some(log) = Log::beside(damaged)?.filter(|log| log.damage().is_some()) else { return Ok(false) };
        if log.is_ahead(damaged)? {
            return Ok(false);
        }
        std::fs::copy(damaged, target)?;
        log.write_whole(&with_suffix(target, "-wal"))?;
        Ok(true)
    };
    let is_written = written().map_err(|error| match error.kind() {
        std::io::ErrorKind::StorageFull => StoreError::Full,
        _ => StoreError::Failed { operation: "copy the damaged database", reason: error.to_string() },
    })?;
    if !is_written {
        return Ok(None);
    }
    let looked = || {
        let connection = Connection::open(target)?;
        connection.pragma_update(None, "journal_mode", "DELETE")?;
        if copy::check(&connection, Depth::Full)? != Soundness::Sound {
            return Ok(None);
        }
        let last = "SELECT ifnull((SELECT at_ms FROM audit ORDER BY seq DESC LIMIT 1), 0)";
        let at = connection.query_row(last, [], |row| row.get(0))?;
        Ok(Some((read::chain_end(&connection)?, at)))
    };
    match looked() {
        Err(error) if super::is_damage(&error) => Ok(None),
        found => found.map_err(|error: rusqlite::Error| failed("look at what the log left", &error)),
    }
}

/// Reading only: neither the file nor its log is changed.
fn open_quietly(database: &Path) -> rusqlite::Result<Connection> {
    let connection =
        Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    Ok(connection)
}

/// What a damaged database still tells of the end of its audit log.
pub fn last_known(damaged: &Path) -> Known {
    let Ok(connection) = open_quietly(damaged) else { return Known::Nothing };
    let last = connection.query_row("SELECT max(seq) FROM audit", [], |row| row.get::<_, Option<i64>>(0));
    let last = last.ok().flatten();
    match read::audit_head(&connection) {
        // The head is written with each commit; an entry beyond it shows that the page is an old one.
        Ok(head) if head.seq > 0 && last.is_none_or(|last| last <= head.seq) => Known::End(head),
        Ok(head) => last.map_or(Known::Nothing, |last| Known::AtLeast(last.max(head.seq))),
        Err(_) => last.map_or(Known::Nothing, Known::AtLeast),
    }
}

/// What a new database is made of.
#[derive(Clone, Copy, Debug)]
pub enum Origin<'a> {
    /// A copy from before, and the damaged database with what it still yields, if there is one.
    Copy(Option<&'a Path>),
    /// All that was committed.
    Current,
}

/// What a replacement came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// Where the audit log ended as it was restored.
    pub restored: Head,
    /// Where it ends with the entries taken over.
    pub kept: Head,
}

/// What a prepared database is to say of itself, once it is known what it holds: a fact and an entry.
pub type Tell<'a> = &'a mut dyn FnMut(Prepared) -> (String, Draft);

/// Makes a restored database fit to take the damaged one's place: brings its schema up to date, takes over audit
/// entries that go on from its own and the brakes as they stood, forgets promised edits (files win: what was
/// promised then has long been kept or overwritten), and writes down what happened. Afterwards it is one file, on
/// disk and checked. A file that is not there yet becomes an empty store.
pub fn prepare(new: &Path, origin: Origin<'_>, now: Millis, tell: Tell<'_>) -> StoreResult<CopyFacts> {
    let mut connection = Connection::open(new).map_err(|e| open_failed(new, &e))?;
    migrate(&mut connection, new)?;
    let fail = |error: rusqlite::Error| failed("prepare the restored database", &error);
    let transaction = connection.transaction().map_err(fail)?;
    take_over(&transaction, origin, now, tell).map_err(fail)?;
    transaction.commit().map_err(fail)?;
    connection.pragma_update(None, "journal_mode", "DELETE").map_err(fail)?;
    connection.close().map_err(|(_, error)| fail(error))?;
    let synced = File::options().write(true).open(new).and_then(|file| file.sync_all());
    synced.map_err(|error| StoreError::Failed {
        operation: "bring the restored database to disk",
        reason: error.to_string(),
    })?;
    copy::verify_copy(new)
}

fn take_over(new: &Connection, origin: Origin<'_>, now: Millis, tell: Tell<'_>) -> rusqlite::Result<()> {
    let restored = read::chain_end(new)?;
    let mut head = restored;
    if let Origin::Copy(Some(damaged)) = origin
        && let Ok(source) = open_quietly(damaged)
    {
        head = salvage(&source, new, restored)?;
        if let Ok(brakes) = read::brakes(&source) {
            new.execute("DELETE FROM brakes", [])?;
            for brake in brakes {
                new.execute(
                    "INSERT INTO brakes (scope, reason, actor, since_ms) VALUES (?1, ?2, ?3, ?4)",
                    (brake.scope, brake.reason, brake.actor, brake.since),
                )?;
            }
        }
    }
    if matches!(origin, Origin::Copy(_)) {
        new.execute("DELETE FROM intents", [])?;
    }
    let (fact, draft) = tell(Prepared { restored, kept: head });
    let entry = head.append(draft, now, &iso(now));
    insert_entry(&mut *new.prepare_cached(INSERT_ENTRY)?, &entry)?;
    let end = format!("{}:{}", head.seq, head.hash.to_hex());
    for (name, value) in [("audit_head", end), (RESTORED, fact)] {
        new.execute("INSERT OR REPLACE INTO facts (name, value) VALUES (?1, ?2)", (name, value))?;
    }
    Ok(())
}

/// The fact that tells of a restored store.
pub const RESTORED: &str = "restored";

/// Copies audit entries beyond `from` as far as they can be read and each follows from the one before.
fn salvage(source: &Connection, new: &Connection, from: Head) -> rusqlite::Result<Head> {
    // What stands at the joint has to be the same log.
    let joint = audit::at(source, from.seq).ok().flatten();
    let is_same = from.seq == 0 || joint.is_none_or(|joint| joint == from);
    let mut verifier = Verifier::from(from);
    let mut head = from;
    while is_same && let Ok(entries) = audit::next(source, head.seq) {
        let before = head;
        for entry in entries {
            if !verifier.push(&entry) {
                return Ok(head);
            }
            insert_entry(&mut *new.prepare_cached(INSERT_ENTRY)?, &entry)?;
            head = Head { seq: entry.seq, hash: entry.hash };
        }
        if head == before {
            break;
        }
    }
    Ok(head)
}
