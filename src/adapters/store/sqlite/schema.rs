//! The schema, and how an older one is brought up to date: in one transaction, so that an upgrade that is cut off
//! has not begun.

use std::path::Path;

use rusqlite::Connection;
use rusqlite_migration::{M, Migrations};

use super::{StoreError, StoreResult, open_error, open_failed};

pub(super) const MIGRATIONS: [M<'static>; 12] = [
    M::up(include_str!("../../../../migrations/sqlite/001_initial.sql")),
    M::up(include_str!("../../../../migrations/sqlite/002_revisions.sql")),
    M::up(include_str!("../../../../migrations/sqlite/003_holds.sql")),
    M::up(include_str!("../../../../migrations/sqlite/004_commits.sql")),
    M::up(include_str!("../../../../migrations/sqlite/005_defaults.sql")),
    M::up(include_str!("../../../../migrations/sqlite/006_attempts.sql")),
    M::up(include_str!("../../../../migrations/sqlite/007_records.sql")),
    M::up(include_str!("../../../../migrations/sqlite/008_inbox.sql")),
    M::up(include_str!("../../../../migrations/sqlite/009_retention.sql")),
    M::up(include_str!("../../../../migrations/sqlite/010_volumes.sql")),
    M::up(include_str!("../../../../migrations/sqlite/011_missed.sql")),
    M::up(include_str!("../../../../migrations/sqlite/012_segments.sql")),
];

/// The schema that this program works with.
pub(super) fn newest_schema() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

pub(super) fn migrate(connection: &mut Connection, path: &Path) -> StoreResult<()> {
    let found: i64 =
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(|e| open_failed(path, &e))?;
    let known = newest_schema();
    if found > known {
        return Err(StoreError::Newer { path: path.display().to_string(), found, known });
    }
    Migrations::from_slice(&MIGRATIONS).to_latest(connection).map_err(|error| match error {
        rusqlite_migration::Error::RusqliteError { err, .. } => open_failed(path, &err),
        error => open_error(path, &error),
    })
}
