//! `audit`: reads, checks and exports the log of what was changed.

mod verify;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use serde::Deserialize;
use serde_json::Value;

use super::client::{Request, route};
use super::download::download;
use super::{CliError, ConnectorArg, Exit, Global, out};
use crate::core::audit::EntryView;
use crate::core::model::Tenant;
use verify::{VerifyArgs, verify};

/// What a long log may take.
const LONG: Duration = Duration::from_secs(540);
const SHORT: Duration = Duration::from_secs(30);

/// What can be done with the audit log.
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  command-center audit list --tenant peakpro --limit 20
  command-center audit verify
  command-center audit checkpoint --out today.txt
  command-center audit verify --checkpoint today.txt
  command-center audit export --format csv --out audit.csv")]
pub(super) enum AuditCommand {
    /// The newest entries.
    #[command(after_help = "Example:\n  command-center audit list --operation pause --since 2026-01-01T00:00:00Z")]
    List {
        #[command(flatten)]
        filter: Filter,
        /// How many, at most 1000.
        #[arg(long, value_name = "COUNT", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// Check the hash chain: 0 valid, 1 tampered, 2 could not check.
    Verify(VerifyArgs),
    /// The newest signed end of the log, to be kept elsewhere: `verify --checkpoint` proves that the log continues it.
    #[command(after_help = "Example:\n  command-center audit checkpoint --out /mnt/elsewhere/today.txt")]
    Checkpoint {
        /// Write to this file instead of stdout.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// The key that checkpoints are checked with; its secret half stays with the server.
    #[command(after_help = "Example:\n  command-center audit key > /mnt/elsewhere/audit.pub")]
    Key,
    /// Download the log.
    #[command(
        after_help = "Example:\n  command-center audit export --format jsonl --tenant peakpro --out peakpro.jsonl"
    )]
    Export {
        #[command(flatten)]
        filter: Filter,
        /// The form of the download.
        #[arg(long, value_enum)]
        format: Format,
        /// Write to this file instead of stdout.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub(super) struct Filter {
    #[command(flatten)]
    connector: ConnectorArg,
    /// Every connector's entries: the whole chain, as a check of it needs it.
    #[arg(long)]
    all: bool,
    /// Only this tenant's.
    #[arg(long, value_name = "TENANT")]
    tenant: Option<Tenant>,
    /// Only this operation's, such as scheduler.schedule.paused or pause.
    #[arg(long, value_name = "NAME")]
    operation: Option<String>,
    /// Only what came this way: ui, api, cli, ops, file, git, scheduler, command-center.
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Only from this time on; RFC 3339 or epoch seconds.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only up to this time; RFC 3339 or epoch seconds.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

impl Filter {
    fn request(&self) -> Request<'_> {
        Request::get(route(self.connector.connector, "audit"))
            .query("scope", self.all.then_some("all"))
            .query("tenant", self.tenant.as_ref())
            .query("operation", self.operation.as_ref())
            .query("source", self.source.as_ref())
            .query("since", self.since.as_ref())
            .query("until", self.until.as_ref())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Csv,
    Json,
    Jsonl,
}

pub(super) async fn audit(command: AuditCommand, global: &Global) -> Result<Exit, CliError> {
    match command {
        AuditCommand::List { filter, limit } => list(&filter, limit, global).await,
        AuditCommand::Verify(args) => verify(args, global).await,
        AuditCommand::Checkpoint { out: path } => {
            let request = Request::get("/ops/audit/checkpoint");
            download(request, SHORT, path.as_deref(), &global.client()?).await?;
            if let Some(path) = path {
                out::note(&format!("the newest checkpoint is in {}", path.display()));
            }
            Ok(Exit::Done)
        }
        AuditCommand::Key => {
            let (answer, raw): (KeyAnswer, Value) = global.client()?.ask(Request::get("/ops/audit/key")).await?;
            if global.json() {
                out::json(&raw);
            } else {
                out::line(&answer.key);
            }
            Ok(Exit::Done)
        }
        AuditCommand::Export { filter, format, out: path } => {
            let name = match format {
                Format::Csv => "csv",
                Format::Json => "json",
                Format::Jsonl => "jsonl",
            };
            let request = filter.request().query("format", Some(name));
            let received = download(request, LONG, path.as_deref(), &global.client()?).await?;
            if let Some(path) = path {
                out::note(&format!("{} bytes written to {}", received.bytes, path.display()));
            }
            Ok(Exit::Done)
        }
    }
}

#[derive(Deserialize)]
struct KeyAnswer {
    key: String,
}

#[derive(Deserialize)]
struct AuditAnswer {
    entries: Vec<EntryView>,
}

async fn list(filter: &Filter, limit: u32, global: &Global) -> Result<Exit, CliError> {
    let request = filter.request().query("limit", Some(limit));
    let (answer, raw): (AuditAnswer, Value) = global.client()?.ask(request).await?;
    if global.json() {
        out::json(&raw);
        return Ok(Exit::Done);
    }
    if answer.entries.is_empty() {
        out::line("No entries.");
        return Ok(Exit::Done);
    }
    let row = |entry: EntryView| {
        let what = changes(&entry.metadata);
        vec![entry.seq.to_string(), entry.ts_iso, entry.tenant, entry.operation, entry.source, entry.actor, what]
    };
    let rows = answer.entries.into_iter().map(row).collect();
    out::table(&["SEQ", "TIME", "TENANT", "OPERATION", "SOURCE", "ACTOR", "CHANGES"], rows);
    Ok(Exit::Done)
}

/// `metadata.diff` in a line: `interval_sec 300 -> 60, paused (none) -> true`.
fn changes(metadata: &Value) -> String {
    let diff = metadata.get("diff").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let show = |value: Option<&Value>| match value {
        None | Some(Value::Null) => "(none)".to_owned(),
        Some(value) => value.to_string(),
    };
    let change = |change: &Value| {
        let field = change.get("field").and_then(Value::as_str).unwrap_or_default();
        format!("{field} {} -> {}", show(change.get("from")), show(change.get("to")))
    };
    diff.iter().map(change).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_diff_reads_as_one_line() {
        let metadata = json!({"diff": [
            {"field": "interval_sec", "from": 300, "to": 60},
            {"field": "pause_reason", "from": null, "to": "roof"},
        ]});
        assert_eq!(changes(&metadata), "interval_sec 300 -> 60, pause_reason (none) -> \"roof\"");
        assert_eq!(changes(&json!({})), "");
    }
}
