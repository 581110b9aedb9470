//! What is remembered for git: the commit that was last seen whole, and edits still to be committed.

use rusqlite::{Connection, OptionalExtension as _, Result};

use super::writer::Work;
use crate::adapters::store::{CommitDue, CommitNote, Intent};
use crate::core::model::{Digest, Millis};

pub(super) fn note_commit(work: &mut Work<'_>, commit: &str) -> Result<()> {
    work.execute("INSERT OR REPLACE INTO facts (name, value) VALUES ('git_commit', ?1)", [commit]).map(|_| ())
}

pub(super) fn noted_commit(connection: &Connection) -> Result<Option<String>> {
    connection.query_row("SELECT value FROM facts WHERE name = 'git_commit'", [], |row| row.get(0)).optional()
}

/// Returns the row's key.
pub(super) fn add_commit(work: &mut Work<'_>, intent: &Intent, note: &CommitNote, now: Millis) -> Result<i64> {
    let key = work.row(
        "INSERT INTO commits (connector, tenant, base, content, actor, action_id, message, at_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) RETURNING id",
        (
            intent.id.connector.as_str(),
            intent.id.tenant.as_str(),
            intent.base.map(|digest| digest.0),
            &intent.content,
            &note.actor,
            &note.action_id,
            &note.message,
            now,
        ),
        |row| row.get(0),
    )?;
    Ok(key.unwrap_or(0))
}

pub(super) fn forget_commits(work: &mut Work<'_>, ids: &[i64]) -> Result<()> {
    for id in ids {
        work.execute("DELETE FROM commits WHERE id = ?1", [id])?;
    }
    Ok(())
}

pub(super) fn commits_due(connection: &Connection, limit: u32) -> Result<Vec<CommitDue>> {
    let mut statement = connection.prepare_cached(
        "SELECT id, connector, tenant, base, content, actor, action_id, message, at_ms FROM commits ORDER BY id LIMIT ?1",
    )?;
    let rows = statement.query_map([limit], |row| {
        let name = format!("{}/{}", row.get_ref(1)?.as_str()?, row.get_ref(2)?.as_str()?);
        let Ok(id) = name.parse() else { return Ok(None) };
        let base = row.get::<_, Option<[u8; 32]>>(3)?.map(Digest);
        let note = CommitNote { actor: row.get(5)?, action_id: row.get(6)?, message: row.get(7)? };
        let intent = Intent { id, base, content: row.get(4)?, commit: Some(note) };
        Ok(Some(CommitDue { key: row.get(0)?, at: row.get(8)?, intent }))
    })?;
    rows.filter_map(Result::transpose).collect()
}
