//! What is asked of the audit log in memory, and what is counted.

use super::super::*;
use super::engine::due;
use super::tables::Tables;
use crate::core::row::is_asleep;

fn counted<'a>(names: impl Iterator<Item = &'a str>) -> Vec<Counted> {
    let mut counts: std::collections::BTreeMap<&str, u64> = std::collections::BTreeMap::new();
    names.for_each(|name| *counts.entry(name).or_default() += 1);
    let mut all: Vec<Counted> =
        counts.into_iter().map(|(name, count)| Counted { name: name.to_owned(), count }).collect();
    all.sort_by_key(|counted| std::cmp::Reverse(counted.count));
    all
}

pub(super) fn audit_counts(tables: &Tables, since: Option<Millis>, until: Option<Millis>) -> AuditCounts {
    let query = AuditQuery { since, until, ..AuditQuery::default() };
    let entries: Vec<&Entry> = tables.audit.iter().filter(|entry| query.lets_through(entry)).collect();
    let hours: Vec<String> =
        entries.iter().map(|entry| crate::core::timing::iso(entry.at - entry.at.rem_euclid(3_600_000))).collect();
    let hours: Vec<String> = hours.iter().map(|hour| hour.replace(".000Z", "Z")).collect();
    let mut by_bucket = counted(hours.iter().map(String::as_str));
    by_bucket.sort_by(|a, b| a.name.cmp(&b.name));
    AuditCounts {
        total: entries.len() as u64,
        by_operation: counted(entries.iter().map(|entry| entry.operation.as_str())),
        by_source: counted(entries.iter().map(|entry| entry.source.as_str())),
        by_actor: counted(entries.iter().map(|entry| entry.actor.as_str())),
        by_bucket,
    }
}

pub(super) fn fleet_counts(tables: &Tables) -> FleetCounts {
    let ended = |ok: bool| tables.runs.values().filter(|run| run.ok == Some(ok)).count() as u64;
    FleetCounts {
        schedules: tables.schedules.len() as u64,
        paused: tables
            .schedules
            .iter()
            .filter(|(key, row)| is_asleep(row.spec.paused, row.spec.pause_until, due(tables, **key)))
            .count() as u64,
        failing: tables.timers.values().filter(|timer| timer.last.failures > 0).count() as u64,
        runs_total: tables.runs.len() as u64,
        runs_ok: ended(true),
        runs_failed: ended(false),
        records: tables.records.len() as u64,
        audit_entries: tables.audit.len() as u64,
        missed: tables.timers.values().map(|timer| timer.last.missed.total()).sum(),
    }
}

pub(super) fn tenant_counts(tables: &Tables, tenant: &str) -> Vec<TenantCounts> {
    let mut all = Vec::new();
    for connector in Connector::ALL {
        let ours = |id: &ScheduleId| id.connector == connector && id.tenant.as_str() == tenant;
        let runs: Vec<_> = tables.runs.values().filter(|run| ours(&run.id)).collect();
        let mut counts = TenantCounts {
            connector: connector.to_string(),
            runs_total: runs.len() as u64,
            runs_ok: runs.iter().filter(|run| run.ok == Some(true)).count() as u64,
            runs_failed: runs.iter().filter(|run| run.ok == Some(false)).count() as u64,
            records: tables.records.keys().filter(|(id, ..)| ours(id)).count() as u64,
            ..TenantCounts::default()
        };
        runs.iter().for_each(|run| counts.stats += run.stats);
        let lengths: Vec<i64> = runs.iter().filter_map(|run| Some(run.ended? - run.started)).collect();
        if let Some(mean) = lengths.iter().sum::<i64>().checked_div(i64::try_from(lengths.len()).unwrap_or(1)) {
            counts.mean_duration_ms = i32::try_from(mean).ok().map(f64::from);
        }
        if counts.runs_total > 0 || counts.records > 0 {
            all.push(counts);
        }
    }
    all
}
