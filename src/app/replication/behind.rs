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
/// Entries that are looked through for the schedules they are about.
const PAGE: u32 = 1000;

/// A schedule whose last audit entry the replica lacks.
pub(in crate::app) struct Behind {
    id: ScheduleId,
    seq: i64,
    /// When the first of the entries that it lacks was made.
    since: Millis,
}

impl App {
    /// The schedules whose last entries the replica lacks; none while it follows.
    pub(in crate::app) async fn behind_replica(&self) -> Result<Vec<Behind>, AppError> {
        let Some(replication) = self.replication().filter(|replication| replication.lag() > GRACE) else {
            return Ok(Vec::new());
        };
        let known = replication.view().await.last_seq.unwrap_or(0);
        let page = self.store.audit_page(AuditQuery { limit: PAGE, ..AuditQuery::default() }).await?;
        let mut behind: BTreeMap<ScheduleId, Behind> = BTreeMap::new();
        for entry in page.into_iter().take_while(|entry| entry.seq > known) {
            let named = entry.connector.parse::<Connector>().ok().zip(entry.tenant.parse().ok());
            let Some((connector, tenant)) = named else { continue };
            let id = ScheduleId::new(connector, tenant);
            let found = behind.entry(id.clone()).or_insert(Behind { id, seq: entry.seq, since: entry.at });
            found.since = found.since.min(entry.at);
        }
        let fleet = self.fleet();
        Ok(behind
            .into_values()
            .filter(|found| fleet.get(found.id.connector, found.id.tenant.as_str()).is_some())
            .collect())
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
                next_try_iso: None,
            }
        };
        behind.iter().map(item).collect()
    }
}
