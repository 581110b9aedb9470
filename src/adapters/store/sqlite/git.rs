//! What is remembered for git: the commit that was last seen whole.

use rusqlite::{Connection, OptionalExtension as _, Result};

use super::writer::Work;

pub(super) fn note_commit(work: &mut Work<'_>, commit: &str) -> Result<()> {
    work.execute("INSERT OR REPLACE INTO facts (name, value) VALUES ('git_commit', ?1)", [commit]).map(|_| ())
}

pub(super) fn noted_commit(connection: &Connection) -> Result<Option<String>> {
    connection.query_row("SELECT value FROM facts WHERE name = 'git_commit'", [], |row| row.get(0)).optional()
}
