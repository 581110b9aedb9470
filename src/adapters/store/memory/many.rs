//! What is read over many schedules, from the tables in memory.

use super::super::*;
use super::engine::{due, last};
use super::tables::Tables;

pub(super) fn specs(tables: &Tables, query: SpecQuery) -> Vec<SpecRow> {
    let asked = |id: &ScheduleId| query.connector.is_none_or(|connector| id.connector == connector);
    let rows = tables.schedules.iter().filter(|(_, row)| asked(&row.id));
    let mut found: Vec<SpecRow> = rows
        .map(|(key, row)| SpecRow {
            id: row.id.clone(),
            spec: row.spec.clone(),
            next_due: due(tables, *key),
            failures: last(tables, *key).failures,
        })
        .collect();
    found.sort_by(|a, b| name(&a.id).cmp(&name(&b.id)));
    found
}

/// As the other engine orders them: by text.
fn name(id: &ScheduleId) -> (&str, &str) {
    (id.connector.as_str(), id.tenant.as_str())
}

pub(super) fn deeds(tables: &Tables, action_id: &str) -> Vec<Deed> {
    let version = |digest: Digest| Version { digest, content: tables.contents.get(&digest).cloned() };
    let deed = |(id, all): (&ScheduleId, &Vec<Revision>)| {
        let at = all.iter().rposition(|revision| revision.action_id == action_id)?;
        let before = at.checked_sub(1).and_then(|before| all.get(before));
        let made = all.get(at)?;
        Some(Deed {
            id: id.clone(),
            at: made.at,
            // A revision that was forgotten is not one that never was.
            before: match before {
                Some(before) => before.digest.map(version),
                None => (made.number > 1).then_some(Version { digest: Digest([0; 32]), content: None }),
            },
            after: made.digest,
            now: all.last()?.digest,
        })
    };
    let mut found: Vec<Deed> = tables.revisions.iter().filter_map(deed).collect();
    found.sort_by(|a, b| name(&a.id).cmp(&name(&b.id)));
    found
}
