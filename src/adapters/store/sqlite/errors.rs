//! What SQLite's errors mean for whoever asked.

use std::path::Path;

use crate::adapters::store::{Damage, StoreError};

pub(super) fn open_error(path: &Path, reason: &dyn std::fmt::Display) -> StoreError {
    StoreError::Open { path: path.display().to_string(), reason: reason.to_string() }
}

pub(super) fn open_failed(path: &Path, error: &rusqlite::Error) -> StoreError {
    match is_damage(error) {
        true => StoreError::Corrupt { operation: format!("open {}", path.display()), reason: error.to_string() },
        false => open_error(path, error),
    }
}

/// Whether an error says that the file is not as it was written. A disk that cannot be read at the moment is no
/// such sign: it may well be read later.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::ffi;
    match error {
        rusqlite::Error::SqliteFailure(ffi::Error { code, extended_code }, _) => {
            matches!(code, rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase)
                || matches!(*extended_code, ffi::SQLITE_IOERR_SHORT_READ | ffi::SQLITE_IOERR_CORRUPTFS)
                || *extended_code == ffi::SQLITE_FORMAT
        }
        // Rows that hold another kind of value than was written.
        rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::Utf8Error(..) => true,
        _ => false,
    }
}

pub(super) fn failed(operation: &'static str, error: &rusqlite::Error) -> StoreError {
    if let rusqlite::Error::UserFunctionError(inner) = error
        && let Some(damage) = inner.downcast_ref::<Damage>()
    {
        return damage.clone().into();
    }
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => StoreError::Full,
        _ if is_damage(error) => StoreError::Corrupt { operation: operation.to_owned(), reason: error.to_string() },
        _ => StoreError::Failed { operation, reason: error.to_string() },
    }
}
