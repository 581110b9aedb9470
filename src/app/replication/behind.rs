//! Which schedules changed since what the replica holds: the drift report's facet `replica`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use crate::adapters::store::AuditQuery;
use crate::app::App;
use crate::app::error::AppError;
use crate::app::views::{DriftItem, DriftTotals};
use crate::core::fleet::Sync;
use crate::core::model::{Connector, Millis, ScheduleId};
use crate::core::plan::{Cause, Facet};
use crate::core::timing::iso;

/// What is on its way for less than this is no drift.
const GRACE: Duration = Duration::from_secs(30);
/// Entries that are read at a time, and how many times at most; what lies behind those is not looked for.
const PAGE: u32 = 1000;
const PAGES: u32 = 200;

/// A schedule whose last audit entry the replica lacks.
#[derive(Clone)]
pub(in crate::app) struct Behind {
    id: ScheduleId,
    seq: i64,
    /// When the first of the entries that it lacks was made; since then it has always lacked one.
    since: Millis,
}

/// What was found when it was looked last, and up to which entry: only newer ones are read then.
#[derive(Default)]
pub(super) struct Looked {
    known: i64,
    head: i64,
    found: BTreeMap<ScheduleId, Behind>,
}

impl App {
    /// The schedules whose last entries the replica lacks; none while it follows.
    pub(in crate::app) async fn behind_replica(&self) -> Result<Vec<Behind>, AppError> {
        let Some(replication) = self.replication().filter(|replication| replication.lag() > GRACE) else {
            return Ok(Vec::new());
        };
        let known = replication.view().await.last_seq.unwrap_or(0);
        let mut looked = replication.looked.lock().await;
        if known < looked.known {
            *looked = Looked::default();
        }
        looked.known = known;
        looked.found.retain(|_, behind| behind.seq > known);
        self.look_for_behind(&mut looked).await?;
        let fleet = self.fleet();
        let is_there = |id: &ScheduleId| fleet.get(id.connector, id.tenant.as_str()).is_some();
        Ok(looked.found.values().filter(|behind| is_there(&behind.id)).cloned().collect())
    }

    /// Reads the entries that were made since, newest first.
    async fn look_for_behind(&self, looked: &mut Looked) -> Result<(), AppError> {
        let until = looked.known.max(looked.head);
        let (mut before, mut newest) = (None, looked.head);
        for _ in 0..PAGES {
            let page = self.store.audit_page(AuditQuery { before, limit: PAGE, ..AuditQuery::default() }).await?;
            let (first, last) = (page.first().map_or(0, |entry| entry.seq), page.last().map_or(0, |entry| entry.seq));
            newest = newest.max(first);
            for entry in page.into_iter().take_while(|entry| entry.seq > until) {
                let named = entry.connector.parse::<Connector>().ok().zip(entry.tenant.parse().ok());
                let Some((connector, tenant)) = named else { continue };
                let id = ScheduleId::new(connector, tenant);
                let behind = looked.found.entry(id.clone()).or_insert(Behind { id, seq: entry.seq, since: entry.at });
                behind.seq = behind.seq.max(entry.seq);
                behind.since = behind.since.min(entry.at);
            }
            if last <= until + 1 {
                break;
            }
            before = Some(last);
        }
        looked.head = newest;
        Ok(())
    }

    /// Takes schedules that are synced but for the replica out of the synced ones.
    pub(in crate::app) fn count_behind(&self, behind: &[Behind], totals: &mut DriftTotals) {
        for found in behind {
            if self.sync_of(&found.id) == Sync::Synced
                && let Some(synced) = totals.sync.get_mut(Sync::Synced.as_str()).filter(|synced| **synced > 0)
            {
                *synced -= 1;
                *totals.sync.entry(Sync::Pending.as_str().to_owned()).or_default() += 1;
            }
        }
    }

    fn sync_of(&self, id: &ScheduleId) -> Sync {
        self.fleet().get(id.connector, id.tenant.as_str()).map_or(Sync::Pending, |glance| glance.sync)
    }

    /// As items of the report.
    pub(in crate::app) async fn behind_items(&self, behind: &[Behind]) -> Vec<DriftItem> {
        let Some(replication) = self.replication() else { return Vec::new() };
        let view = replication.view().await;
        let action = match view.state.as_str() {
            "refused" => "send nothing: this server may not write at the destination",
            "away" => "send it when the destination answers again",
            _ => "bring the replica up to date",
        };
        let item = |found: &Behind| {
            let sync = Some(self.sync_of(&found.id)).filter(|sync| *sync != Sync::Synced).unwrap_or(Sync::Pending);
            DriftItem {
                connector: found.id.connector.to_string(),
                tenant: found.id.tenant.to_string(),
                facet: Facet::Replica,
                desired: json!({"seq": found.seq}),
                actual: json!({"seq": view.last_seq}),
                fields: Vec::new(),
                cause: Cause::Unknown,
                actor: None,
                since_iso: iso(found.since),
                first_seen_iso: iso(found.since),
                times_seen: 1,
                sync: sync.as_str().to_owned(),
                action: action.to_owned(),
                next_try_iso: view.next_try_iso.clone(),
            }
        };
        behind.iter().map(item).collect()
    }
}
