//! What is held, and what a person decided against.

use rusqlite::{Connection, OptionalExtension as _, Result};

use super::writer::Work;
use crate::adapters::store::{Dismissal, Hold};
use crate::core::plan::{Action, HoldReason};

pub(super) fn put(work: &mut Work<'_>, holds: &[Hold], dismissal: Option<&Dismissal>) -> Result<()> {
    work.execute("DELETE FROM holds", [])?;
    for hold in holds {
        work.execute(
            "INSERT OR REPLACE INTO holds (schedule, action, reason, since_ms) VALUES (?1, ?2, ?3, ?4)",
            (hold.id.to_string(), hold.action.as_str(), hold.reason.code(), hold.since),
        )?;
    }
    work.execute("DELETE FROM dismissals", [])?;
    if let Some(dismissal) = dismissal {
        work.execute(
            "INSERT INTO dismissals (digest, reason, actor, at_ms) VALUES (?1, ?2, ?3, ?4)",
            (&dismissal.digest, &dismissal.reason, &dismissal.actor, dismissal.at),
        )?;
    }
    Ok(())
}

/// What somebody put there by hand and makes no sense is left out.
pub(super) fn all(connection: &Connection) -> Result<(Vec<Hold>, Option<Dismissal>)> {
    let mut statement =
        connection.prepare("SELECT schedule, action, reason, since_ms FROM holds ORDER BY schedule, action")?;
    let holds = statement.query_map([], |row| {
        let id = row.get_ref(0)?.as_str()?.parse().ok();
        let action = Action::destructive(row.get_ref(1)?.as_str()?);
        let reason = HoldReason::of_code(row.get_ref(2)?.as_str()?);
        let since = row.get(3)?;
        Ok(id.zip(action).zip(reason).map(|((id, action), reason)| Hold { id, action, reason, since }))
    })?;
    let holds = holds.filter_map(Result::transpose).collect::<Result<_>>()?;
    let dismissal = connection
        .query_row("SELECT digest, reason, actor, at_ms FROM dismissals LIMIT 1", [], |row| {
            Ok(Dismissal { digest: row.get(0)?, reason: row.get(1)?, actor: row.get(2)?, at: row.get(3)? })
        })
        .optional()?;
    Ok((holds, dismissal))
}
