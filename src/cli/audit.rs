//! `audit`: reads, checks and exports the log of what was changed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use serde::Deserialize;
use serde_json::Value;

use super::client::{Request, route};
use super::download::download;
use super::{CliError, ConnectorArg, Exit, Global, out, store_path};
use crate::adapters::store::{SqliteStore, Store as _, StoreResult};
use crate::core::audit::{EntryView, Verdict, Verifier};
use crate::core::model::Tenant;

/// What a long log may take.
const LONG: Duration = Duration::from_secs(540);

/// What can be done with the audit log.
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  command-center audit list --tenant peakpro --limit 20
  command-center audit verify
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
#[command(after_help = "Examples:
  command-center audit verify                                     by the server, or the store when none runs
  command-center audit verify --dsn ./data/command_center.db      without asking a server")]
pub(super) struct VerifyArgs {
    /// Check this database instead of asking a server; read from a private copy.
    #[arg(long, value_name = "FILE")]
    dsn: Option<PathBuf>,
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

async fn verify(args: VerifyArgs, global: &Global) -> Result<Exit, CliError> {
    let spinner = out::spinner("checking the audit log");
    let found = match &args.dsn {
        Some(dsn) => verify_store(dsn).await,
        None => match global.client()?.ask::<Verdict>(Request::get("/ops/audit/verify").wait(LONG)).await {
            Ok((verdict, _)) => Ok(verdict),
            Err(error) if error.is_unreachable() && store_path().exists() => {
                let dsn = store_path();
                spinner.suspend(|| out::note(&format!("{error}; checking the store {}", dsn.display())));
                verify_store(&dsn).await
            }
            Err(error) => Err(error.into()),
        },
    };
    spinner.finish_and_clear();
    let verdict = found?;
    if global.json() {
        out::json(&verdict);
    } else if verdict.valid {
        out::line(&out::paint(out::GREEN, &format!("valid: {}", out::clean(&verdict.message))));
    } else {
        let at = verdict.first_bad_seq.map(|seq| format!(" from entry {seq} on")).unwrap_or_default();
        out::line(&out::paint(out::RED, &format!("tampered{at}: {}", out::clean(&verdict.message))));
    }
    Ok(Exit::yes(verdict.valid))
}

/// Checks a private copy. One that was taken while someone wrote may be torn, so that a bad
/// verdict counts only when a second copy gives it too.
async fn verify_store(dsn: &Path) -> Result<Verdict, CliError> {
    if !dsn.exists() {
        let message = format!("there is no database {}", dsn.display());
        return Err(CliError::usage(message, "name it with --dsn"));
    }
    let first = verify_copy(dsn).await?;
    if first.valid { Ok(first) } else { verify_copy(dsn).await }
}

async fn verify_copy(dsn: &Path) -> Result<Verdict, CliError> {
    let folder = tempfile::tempdir().map_err(CliError::write(&std::env::temp_dir()))?;
    let store = SqliteStore::open_copy(dsn, folder.path()).map_err(anyhow::Error::from)?;
    let verdict = walk(&store).await.map_err(anyhow::Error::from);
    store.close();
    drop(store);
    Ok(verdict?)
}

async fn walk(store: &SqliteStore) -> StoreResult<Verdict> {
    let mut verifier = Verifier::default();
    let mut log = store.audit_log();
    while let Some(batch) = log.recv().await {
        for entry in batch? {
            verifier.push(&entry);
        }
    }
    Ok(verifier.finish(Some(store.audit_head().await?)))
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
