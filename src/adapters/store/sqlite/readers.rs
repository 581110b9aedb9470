//! Connections that read, lent out one at a time.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OpenFlags};

use super::{StoreError, StoreResult, Suspicion, failed};

/// Readers kept open when idle; more are opened under load.
const IDLE_READERS: usize = 4;

/// Read connections, lent out one at a time.
pub(super) struct Readers {
    pub(super) path: PathBuf,
    /// `None` once the store is closed.
    pub(super) idle: Mutex<Option<Vec<Connection>>>,
    pub(super) suspicion: Arc<Suspicion>,
}

impl Readers {
    pub(super) fn with<T>(
        &self,
        operation: &'static str,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> StoreResult<T> {
        let idle = self.lock().as_mut().ok_or(StoreError::Stopped)?.pop();
        let connection = match idle {
            Some(connection) => connection,
            None => open_reader(&self.path).map_err(|e| self.suspicion.note(failed("open a reader", &e)))?,
        };
        let result = query(&connection).map_err(|e| self.suspicion.note(failed(operation, &e)));
        if let Some(idle) = self.lock().as_mut().filter(|idle| idle.len() < IDLE_READERS) {
            idle.push(connection);
        }
        result
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Option<Vec<Connection>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(32);
    connection.pragma_update(None, "cache_size", -1024)?;
    Ok(connection)
}
