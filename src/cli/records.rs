//! `records`: what was imported, listed, downloaded, counted and deleted.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::client::{Request, route};
use super::download::{Received, download};
use super::{CliError, Exit, Global, Target, out};
use crate::app::views::{RecordView, RecordsDeleted, RecordsPage, RecordsSummary, ResourceSummary};
use crate::core::model::Resource;

/// What a large download may take.
const LONG: Duration = Duration::from_secs(3_540);

/// Records in one answer of the server at most.
const PAGE: u32 = 1000;

/// What can be done with imported records.
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  command-center records summary peakpro
  command-center records list peakpro --resource jobs --changed-since 2026-11-21T00:00:00Z
  command-center records export peakpro --out peakpro.jsonl
  command-center records delete peakpro --resource contacts --yes")]
pub(super) enum RecordsCommand {
    /// How many there are of each resource, how large, what is newest.
    #[command(after_help = "Example:\n  command-center records summary peakpro")]
    Summary {
        #[command(flatten)]
        target: Target,
    },
    /// A tenant's records, in order of resource and key.
    #[command(after_help = "Examples:
  command-center records list peakpro --resource jobs --limit 10
  command-center records list peakpro --resource jobs --key 1042 --output json")]
    List {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        filter: Filter,
        /// How many.
        #[arg(long, value_name = "COUNT", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// Download a tenant's records as JSON Lines, one record a line.
    #[command(after_help = "Example:\n  command-center records export peakpro --resource jobs --out jobs.jsonl")]
    Export {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        filter: Filter,
        /// Write to this file instead of stdout.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Delete a tenant's records and bookmarks: the next import reads everything again.
    #[command(after_help = "Examples:
  command-center records delete peakpro                             only counts: exit code 1
  command-center records delete peakpro --resource contacts --yes")]
    Delete {
        #[command(flatten)]
        target: Target,
        /// Only records of this resource.
        #[arg(long, value_name = "NAME")]
        resource: Option<Resource>,
        /// Do it; without, only what would be deleted is counted.
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
pub(super) struct Filter {
    /// Only records of this resource.
    #[arg(long, value_name = "NAME")]
    resource: Option<Resource>,
    /// Only records under this key.
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Only what changed at or after this time; RFC 3339 or epoch seconds.
    #[arg(long, value_name = "TIME")]
    changed_since: Option<String>,
}

impl Filter {
    fn request<'a>(&'a self, target: &'a Target, path: &str) -> Request<'a> {
        Request::get(route(target.connector.connector, path))
            .tenant(&target.tenant)
            .query("resource", self.resource.as_ref())
            .query("key", self.key.as_ref())
            .query("changed_since", self.changed_since.as_ref())
    }
}

pub(super) async fn records(command: RecordsCommand, global: &Global) -> Result<Exit, CliError> {
    match command {
        RecordsCommand::Summary { target } => summary(&target, global).await,
        RecordsCommand::List { target, filter, limit } => list(&target, &filter, limit, global).await,
        RecordsCommand::Export { target, filter, out: path } => {
            let request = filter.request(&target, "records/export");
            let Received { bytes, lines } = download(request, LONG, path.as_deref(), &global.client()?).await?;
            if let Some(path) = path {
                out::note(&format!("{lines} records ({}) written to {}", size(bytes), path.display()));
            }
            Ok(Exit::Done)
        }
        RecordsCommand::Delete { target, resource, yes } => delete(&target, resource.as_ref(), yes, global).await,
    }
}

async fn summary(target: &Target, global: &Global) -> Result<Exit, CliError> {
    let request = Request::get(route(target.connector.connector, "records/summary")).tenant(&target.tenant).wait(LONG);
    let (summary, raw): (RecordsSummary, Value) = global.client()?.ask(request).await?;
    if global.json() {
        out::json(&raw);
    } else if summary.resources.is_empty() {
        out::line(&format!("No records of {}.", target.id()));
    } else {
        counts(&summary.resources);
    }
    Ok(Exit::Done)
}

fn counts(resources: &[ResourceSummary]) {
    let none = || "-".to_owned();
    let row = |count: &ResourceSummary| {
        vec![
            count.resource.clone(),
            count.records.to_string(),
            size(count.bytes),
            count.newest_iso.clone().unwrap_or_else(none),
            count.changed_iso.clone().unwrap_or_else(none),
            if count.bookmark { "yes" } else { "no" }.to_owned(),
        ]
    };
    let rows = resources.iter().map(row).collect();
    out::table(&["RESOURCE", "RECORDS", "SIZE", "NEWEST", "LAST CHANGE", "BOOKMARK"], rows);
}

/// Bytes in the largest unit that leaves a whole number, such as `12 KiB`.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (bytes, 0);
    while value >= 10 * 1024 && unit + 1 < UNITS.len() {
        value /= 1024;
        unit += 1;
    }
    format!("{value} {}", UNITS[unit])
}

async fn list(target: &Target, filter: &Filter, limit: u32, global: &Global) -> Result<Exit, CliError> {
    let client = global.client()?;
    let (mut records, mut raw, mut cursor) = (Vec::new(), Vec::new(), None);
    let mut left = limit;
    while left > 0 {
        let request = filter
            .request(target, "records")
            .query("limit", Some(left.min(PAGE)))
            .query("payload", (!global.json()).then_some("0"))
            .query("cursor", cursor.take());
        let (page, answer): (RecordsPage, Value) = client.ask(request).await?;
        left = left.saturating_sub(u32::try_from(page.records.len()).unwrap_or(left));
        records.extend(page.records);
        raw.extend(answer.get("records").and_then(Value::as_array).cloned().unwrap_or_default());
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    if global.json() {
        out::json(&serde_json::json!({"ok": true, "records": raw, "next_cursor": cursor}));
    } else if records.is_empty() {
        out::line("No records.");
    } else {
        let row = |record: RecordView| {
            let hash = record.hash.get(..12).unwrap_or_default().to_owned();
            vec![record.resource, record.key, record.first_seen_iso, record.changed_iso, record.last_seen_iso, hash]
        };
        let rows = records.into_iter().map(row).collect();
        out::table(&["RESOURCE", "KEY", "FIRST SEEN", "LAST CHANGE", "LAST SEEN", "HASH"], rows);
        if cursor.is_some() {
            out::note(&format!("There are more: --limit {} shows them.", limit.saturating_mul(2)));
        }
    }
    Ok(Exit::Done)
}

async fn delete(target: &Target, resource: Option<&Resource>, yes: bool, global: &Global) -> Result<Exit, CliError> {
    let ask = |dry_run: bool| {
        Request::new(reqwest::Method::DELETE, route(target.connector.connector, "records"))
            .tenant(&target.tenant)
            .query("resource", resource)
            .query("dry_run", dry_run.then_some("1"))
            .wait(LONG)
    };
    let client = global.client()?;
    let (counted, raw): (RecordsDeleted, Value) = client.ask(ask(true)).await?;
    if counted.resources.is_empty() {
        show(global, &raw, "There is nothing to delete.");
        return Ok(Exit::Done);
    }
    if !global.json() {
        counts(&counted.resources);
    }
    if !yes {
        let what = format!("{} records of {} would be deleted; add --yes to do it.", counted.records, target.id());
        show(global, &raw, &what);
        return Ok(Exit::No);
    }
    let (deleted, raw): (RecordsDeleted, Value) = client.ask(ask(false)).await?;
    let what = format!(
        "{} records of {} deleted (action {}); the next import reads everything again.",
        deleted.records,
        target.id(),
        deleted.action_id
    );
    show(global, &raw, &what);
    Ok(Exit::Done)
}

fn show(global: &Global, raw: &Value, text: &str) {
    if global.json() { out::json(raw) } else { out::line(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_at_a_glance() {
        for (bytes, expect) in [(0, "0 B"), (10_239, "10239 B"), (10_240, "10 KiB"), (64 << 20, "64 MiB")] {
            assert_eq!(size(bytes), expect);
        }
    }
}
