//! What must be true in the end, whatever has happened.

use std::collections::{BTreeMap, BTreeSet};

use super::super::chance::Chance;
use super::super::*;
use super::world::{Importer, Outcome, World};
use crate::adapters::store::memory::Platter;
use crate::core::desired::parse;
use crate::core::fleet::Sync;
use crate::core::model::{Digest, ScheduleId};
use crate::core::row::{RowSpec, fingerprint, is_asleep};

macro_rules! ensure {
    ($holds:expr, $($said:tt)*) => {
        if !$holds {
            return Err(format!($($said)*));
        }
    };
}

/// A schedule as the store keeps it.
#[derive(Clone, Debug, PartialEq)]
struct Stand {
    spec: RowSpec,
    digest: Digest,
    basis: Digest,
    content: Vec<u8>,
    due: Option<Millis>,
}

fn stands(platter: &Platter) -> BTreeMap<ScheduleId, Stand> {
    platter.look(|tables| {
        let stand = |key: &i64, row: &crate::adapters::store::memory::Row| Stand {
            spec: row.spec.clone(),
            digest: row.digest,
            basis: row.basis,
            content: row.content.clone(),
            due: tables.timers.get(key).and_then(|timer| timer.due),
        };
        tables.schedules.iter().map(|(key, row)| (row.id.clone(), stand(key, row))).collect()
    })
}

pub(super) async fn the_end(world: &World, app: &Arc<App>) -> Result<(), String> {
    let files = world.disk.contents();
    let rows = stands(&world.platter);
    let expected = reference(world).await?;
    let defaults = app.defaults();
    let mut broken = BTreeSet::new();
    for (id, content) in &files {
        let glance = app.fleet().get(id.connector, id.tenant.as_str());
        if parse(id, content, &defaults).spec.is_none() {
            broken.insert(id.file());
            if let Some(row) = rows.get(id).filter(|_| !world.handled.lock().unwrap().contains(id)) {
                let good = parse(id, &row.content, &defaults).spec;
                ensure!(
                    good.as_ref().map(RowSpec::of).as_ref() == Some(&row.spec),
                    "{id} has left its last good version"
                );
                ensure!(glance.is_some_and(|glance| glance.sync == Sync::Invalid), "{id} is not shown as invalid");
            }
            continue;
        }
        let row = rows.get(id);
        ensure!(row == expected.get(id), "{id} stands as {row:?}\n where its file says {:?}", expected.get(id));
        let Some((row, glance)) = row.zip(glance) else { return Err(format!("{id} is not in memory")) };
        ensure!(
            glance.content == fingerprint(row.basis)
                && glance.applied == row.spec.fingerprint()
                && glance.next_due == row.due
                && glance.paused == is_asleep(row.spec.paused, row.spec.pause_until, row.due)
                && glance.sync == Sync::Synced,
            "memory says of {id} {glance:?}, the store {row:?}"
        );
    }
    let stale: Vec<_> = rows.keys().filter(|id| !files.contains_key(id)).collect();
    ensure!(stale.is_empty(), "{stale:?} have no file any more");
    let problems: BTreeSet<String> = app.state().problems.keys().cloned().collect();
    let stored: BTreeSet<String> = world.platter.look(|tables| tables.problems.keys().cloned().collect());
    ensure!(problems == broken && stored == broken, "broken are {broken:?}, known {problems:?}, stored {stored:?}");
    in_order(world, app).await
}

async fn in_order(world: &World, app: &Arc<App>) -> Result<(), String> {
    let diff = app.diff(None).await.map_err(|error| error.to_string())?;
    ensure!(diff.changes.is_empty(), "planned twice, it is not empty: {}", diff.text);
    let entries = || world.platter.look(|tables| tables.audit.len());
    let before = entries();
    let again = app.full_pass(None).await.map_err(|error| error.to_string())?;
    ensure!(again.changes + again.repaired == 0 && entries() == before, "one more pass did something: {again:?}");
    let verdict = app.verify_audit(Vec::new()).await.map_err(|error| error.to_string())?;
    ensure!(verdict.valid, "{}", verdict.message);
    let unfinished = world.platter.look(|tables| tables.runs.values().filter(|run| run.ended.is_none()).count());
    ensure!(unfinished == 0, "{unfinished} runs have no end");
    Ok(())
}

/// A world where the files are the same and nothing ever went wrong.
async fn reference(world: &World) -> Result<BTreeMap<ScheduleId, Stand>, String> {
    let calm = Arc::new(Chance::calm());
    let (disk, platter) = (Arc::new(world.disk.copy(calm.clone())), Arc::new(Platter::default()));
    let app = world.app_over(disk, &platter, Arc::new(Importer::new(calm)));
    app.bring_up().await.map_err(|error| error.to_string())?;
    Ok(stands(&platter))
}

/// What callers were told came true, and stayed so until somebody else decided otherwise.
pub(super) fn promises(world: &World) -> Result<(), String> {
    let mutations = world.mutations.lock().unwrap();
    let intents = world.platter.look(|tables| tables.intents.len());
    ensure!(intents == 0, "{intents} intents are left over");
    let audit: BTreeMap<i64, String> =
        world.platter.look(|tables| tables.audit.iter().map(|entry| (entry.seq, entry.actor.clone())).collect());
    let mut last = BTreeMap::new();
    for told in mutations.iter() {
        match &told.outcome {
            Outcome::Done { seqs, .. } => {
                let known = seqs.iter().all(|seq| audit.get(seq).is_some_and(|actor| actor == "zoe"));
                ensure!(known, "{} of {}: its entries are not in the audit", told.mark, told.id);
                // What changed nothing promises nothing.
                if !seqs.is_empty() {
                    last.insert(told.id.clone(), told);
                }
            }
            Outcome::Unknown => drop(last.insert(told.id.clone(), told)),
            Outcome::Refused => {
                let content = world.disk.content(&told.id).unwrap_or_default();
                let visible = String::from_utf8_lossy(&content).contains(&told.mark);
                ensure!(!visible, "{} of {} was refused, and yet it is there", told.mark, told.id);
            }
        }
    }
    for (id, told) in last {
        let Outcome::Done { etag, .. } = &told.outcome else { continue };
        let there = world.disk.content(&id).map(|content| Digest::of(&content).to_hex());
        let untouched = world.disk.touched(&id) == told.touched;
        ensure!(!untouched || there == *etag, "{} of {id} was answered and is lost", told.mark);
    }
    Ok(())
}
