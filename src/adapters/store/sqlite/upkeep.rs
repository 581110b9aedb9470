//! The store's own upkeep: readings to copy from, checks, facts.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use futures_util::FutureExt as _;
use rusqlite::OptionalExtension as _;

use super::{Lane, SqliteStore, copy};
use crate::adapters::store::{Depth, Frozen, Soundness, StoreError, StoreFuture, Upkeep};
use crate::core::audit::Draft;
use crate::core::model::Millis;

/// A database up to this size is looked at whenever it is opened: it takes some tens of milliseconds.
const SMALL_BYTES: u64 = 32 << 20;

/// What readings and writings came across, kept until somebody asks.
#[derive(Default)]
pub(super) struct Suspicion(Mutex<Option<String>>);

impl Suspicion {
    /// Keeps the first; the error goes on to whoever asked.
    pub(super) fn note(&self, error: StoreError) -> StoreError {
        if matches!(error, StoreError::Corrupt { .. }) {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| error.to_string());
        }
        error
    }

    fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Which files were opened, so that it is noticed when others lie in their place, or none.
#[derive(Default)]
pub(super) struct Identity {
    database: Option<FileId>,
    /// Known from the first look on: SQLite makes it when it is first needed, and keeps it while it is open.
    log: OnceLock<FileId>,
}

type FileId = (u64, u64);

impl Identity {
    pub(super) fn of(database: &Path) -> Identity {
        let identity = Identity { database: id_of(database), log: OnceLock::new() };
        identity.is_here(database);
        identity
    }

    fn is_here(&self, database: &Path) -> bool {
        let log = id_of(&super::with_suffix(database, "-wal"));
        if let (Some(log), None) = (log, self.log.get()) {
            let _ = self.log.set(log);
        }
        id_of(database) == self.database && log == self.log.get().copied()
    }
}

#[cfg(unix)]
fn id_of(path: &Path) -> Option<FileId> {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}

/// Elsewhere an open file can be neither removed nor replaced.
#[cfg(not(unix))]
fn id_of(_: &Path) -> Option<FileId> {
    None
}

impl Upkeep for SqliteStore {
    fn freeze(&self, now: Millis) -> StoreFuture<'_, Frozen> {
        let path = self.path.clone();
        self.writer.submit(Lane::Mutation, "begin a reading to copy from", move |_| Frozen::begin(&path, now))
    }

    fn check(&self, depth: Depth, gently: bool) -> StoreFuture<'_, Soundness> {
        // On a connection of its own: what others have in memory says nothing of the disk, and a check
        // would displace it.
        let path = self.path.clone();
        async move {
            let looked = tokio::task::spawn_blocking(move || {
                let connection = super::open_reader(&path)?;
                if gently {
                    copy::go_gently(&connection)?;
                }
                copy::check(&connection, depth)
            });
            match looked.await {
                Ok(Ok(found)) => Ok(found),
                Ok(Err(error)) => Err(super::failed("check the database", &error)),
                Err(_) => Err(StoreError::Stopped),
            }
        }
        .boxed()
    }

    fn wants_check(&self) -> bool {
        let small = std::fs::metadata(&self.path).is_ok_and(|meta| meta.len() <= SMALL_BYTES);
        small || !self.was_closed_in_order
    }

    fn is_in_place(&self) -> bool {
        self.identity.is_here(&self.path)
    }

    fn leave_to(&self, target: PathBuf) -> StoreFuture<'_, ()> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let asked = self.writer.submit(Lane::Claim, "copy the open database", move |work| {
            work.leave_to(target, sender);
            Ok(())
        });
        async move {
            asked.await?;
            receiver.await.unwrap_or(Err(StoreError::Stopped))
        }
        .boxed()
    }

    fn changes(&self) -> u64 {
        self.writer.changes()
    }

    fn suspicion(&self) -> Option<String> {
        self.suspicion.take()
    }

    fn fact(&self, name: &'static str) -> StoreFuture<'_, Option<String>> {
        self.answer_now("read a fact", move |connection| {
            connection
                .prepare_cached("SELECT value FROM facts WHERE name = ?1")?
                .query_row([name], |row| row.get(0))
                .optional()
        })
    }

    fn put_fact(
        &self,
        name: &'static str,
        value: Option<String>,
        drafts: Vec<Draft>,
        now: Millis,
    ) -> StoreFuture<'_, Vec<i64>> {
        // Without an entry it is the program's own, and a start may need it: a full disk keeps a person's waiting only.
        let lane = if drafts.is_empty() { Lane::Completion } else { Lane::Mutation };
        self.writer.submit(lane, "write down a fact", move |work| {
            match value {
                Some(value) => {
                    work.execute("INSERT OR REPLACE INTO facts (name, value) VALUES (?1, ?2)", (name, value))?
                }
                None => work.execute("DELETE FROM facts WHERE name = ?1", [name])?,
            };
            work.append(drafts, now)
        })
    }
}
