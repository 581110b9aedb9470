//! `restore --drill`: what a restore would bring back, held against the live server.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use serde::Deserialize;
use serde_json::{Value, json};

use super::RestoreArgs;
use super::replica::{bar, place};
use crate::adapters::replica::{RestoreError, Step};
use crate::app::{Copy, ReplicationView, is_refusal, rebuild};
use crate::cli::client::{Client, Request, route};
use crate::cli::{CliError, Exit, Global, out};
use crate::core::model::{Connector, ScheduleId};
use crate::core::replica::choose::Target;
use crate::core::timing::iso;

/// Entries of the audit log that a page holds at most.
const PAGE: i64 = 1000;

#[derive(Deserialize)]
struct Statuses {
    schedules: BTreeMap<String, Status>,
}

#[derive(Deserialize)]
struct Status {
    etag: String,
}

#[derive(Deserialize)]
struct Entries {
    entries: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    seq: i64,
    tenant: String,
    connector: String,
    hash: String,
}

pub(super) async fn drill(args: &RestoreArgs, global: &Global) -> Result<Exit, CliError> {
    let client = global.client()?;
    let (live, _): (ReplicationView, Value) = client.ask(Request::get("/ops/replication")).await?;
    let url = args.from.clone().or_else(|| live.destination.clone()).ok_or_else(|| {
        CliError::usage("the server replicates nowhere", "switch replication on, or name a replica with --from")
    })?;
    let (place, destination) = place(&url)?;
    let folder = tempfile::tempdir().map_err(|error| CliError::Other(error.into()))?;
    let (bar, began) = (bar("rehearsing"), Instant::now());
    let told = bar.clone();
    let progress = move |step: Step| {
        told.set_length(step.total);
        told.set_position(step.done);
    };
    let rebuilt = rebuild(&*place, Target::Newest, &folder.path().join("store.db"), &progress).await;
    bar.finish_and_clear();
    let copy = match rebuilt {
        Ok(copy) => copy,
        Err(error) if !is_refusal(&error) && error.is::<RestoreError>() => return Err(error.into()),
        Err(error) => {
            out::error(&format!("{} cannot be restored: {error:#}", destination.shown()), None);
            return Ok(Exit::No);
        }
    };
    let took = began.elapsed();
    let found = compare(&copy, &live, &client).await;
    copy.close();
    let found = found?;
    let point = copy.restored.point;
    let is_well = found.differences.is_empty() && copy.restored.notes.is_empty();
    if global.json() {
        out::json(&json!({
            "ok": is_well, "from": destination.shown(), "took_sec": took.as_secs_f64(), "last_seq": point.head.seq,
            "live_seq": found.live_seq, "lost_entries": found.lost, "lag_sec": live.lag_sec,
            "entries_verified": copy.entries, "schedules": copy.schedules.len(), "live_schedules": found.live_schedules,
            "differences": found.differences, "notes": copy.restored.notes,
        }));
        return Ok(Exit::yes(is_well));
    }
    copy.restored.notes.iter().for_each(|note| out::warning(note));
    found.differences.iter().for_each(|difference| out::error(difference, None));
    out::line(&format!(
        "rehearsed a restore from {}\n  time: {:.1} s for {} bytes\n  loss: {} audit entries (restored to {}, {}; the server is at {}), {:.1} s\n  {} entries verified, {} schedules restored, {} live, {}",
        destination.shown(),
        took.as_secs_f64(),
        copy.restored.bytes,
        found.lost,
        point.head.seq,
        iso(point.at),
        found.live_seq,
        live.lag_sec,
        copy.entries,
        copy.schedules.len(),
        found.live_schedules,
        if is_well { "all of them equal" } else { "with differences" }
    ));
    Ok(Exit::yes(is_well))
}

#[derive(Default)]
struct Found {
    live_seq: i64,
    live_schedules: usize,
    lost: i64,
    differences: Vec<String>,
}

/// Holds the copy against the server: what has changed there since the copy's last entry may differ.
async fn compare(copy: &Copy, live: &ReplicationView, client: &Client) -> Result<Found, CliError> {
    let head = copy.restored.point.head;
    let mut found = Found { live_seq: live.last_seq.unwrap_or(0), ..Found::default() };
    found.live_seq += i64::try_from(live.lag_entries).unwrap_or(0);
    let mut rows: BTreeMap<ScheduleId, String> = BTreeMap::new();
    for connector in Connector::ALL {
        let (answer, _): (Statuses, Value) = client.ask(Request::get(route(connector, "schedule/status"))).await?;
        let named =
            |(tenant, status): (String, Status)| Some((ScheduleId::new(connector, tenant.parse().ok()?), status.etag));
        rows.extend(answer.schedules.into_iter().filter_map(named));
    }
    let mut moved: BTreeSet<(String, String)> = BTreeSet::new();
    for connector in Connector::ALL {
        let request = Request::get(route(connector, "audit")).query("limit", Some(PAGE));
        let (page, _): (Entries, Value) = client.ask(request).await?;
        if let Some(entry) = page.entries.iter().find(|entry| entry.seq == head.seq)
            && entry.hash != head.hash.to_hex()
        {
            found.differences.push(format!("audit entry {} is another one in the copy", head.seq));
        }
        found.live_seq = page.entries.iter().map(|entry| entry.seq).max().unwrap_or(0).max(found.live_seq);
        let since = page.entries.into_iter().filter(|entry| entry.seq > head.seq);
        moved.extend(since.map(|entry| (entry.connector, entry.tenant)));
    }
    found.lost = (found.live_seq - head.seq).max(0);
    found.live_schedules = rows.len();
    let copied: BTreeMap<&ScheduleId, String> =
        copy.schedules.iter().map(|(id, digest)| (id, digest.to_hex())).collect();
    let all: BTreeSet<&ScheduleId> = rows.keys().chain(copied.keys().copied()).collect();
    for id in all {
        let has_moved = moved.contains(&(id.connector.to_string(), id.tenant.to_string()));
        let (is_live, is_copied) = (rows.get(id), copied.get(id));
        if has_moved || is_live == is_copied {
            continue;
        }
        found.differences.push(match (is_live, is_copied) {
            (Some(_), None) => format!("{} is missing in the copy", id.file()),
            (None, Some(_)) => format!("{} is in the copy and not on the server", id.file()),
            _ => format!("{} is another one in the copy", id.file()),
        });
    }
    Ok(found)
}
