//! `history` and `rollback`: what a schedule's file said, and back to it.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::client::{Client, Request, route};
use super::diff::coloured;
use super::schedule::mutate;
use super::{CliError, ConnectorArg, Exit, Global, Target, out};
use crate::app::views::{HistoryPage, RevisionView, RollbackAnswer};
use crate::core::model::Tenant;
use crate::core::plan::render_diff;

/// Revisions in one answer of the server at most.
const PAGE: u32 = 200;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  command-center history peakpro
  command-center history peakpro --limit 3 --content
  command-center history peakpro --output json")]
pub(super) struct HistoryArgs {
    #[command(flatten)]
    target: Target,
    /// How many revisions, newest first.
    #[arg(long, value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Also show each revision's text; what looks like a secret is masked.
    #[arg(long)]
    content: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  command-center rollback peakpro --to 3 --reason \"the new interval was too short\"
  command-center rollback peakpro --to 2026-11-21T08:00:00Z
  command-center rollback --all --to 2026-11-21T08:00:00Z                     only shows the plan
  command-center rollback --all --to 2026-11-21T08:00:00Z --confirm 3f1c…     carries it out

Exit codes: 0 done, or nothing to do; 1 a plan that waits to be confirmed, or something was left; 2 an error.")]
pub(super) struct RollbackArgs {
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    tenant: Option<Tenant>,
    #[command(flatten)]
    connector: ConnectorArg,
    /// The revision's number, at least 7 characters of its digest, or a time; with --all a time.
    #[arg(long, value_name = "REVISION")]
    to: String,
    /// The whole directory.
    #[arg(long)]
    all: bool,
    /// Carry out the plan that has this digest.
    #[arg(long, value_name = "DIGEST", requires = "all")]
    confirm: Option<String>,
    /// Why, for the people who find it so.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Only when the schedule still has this ETag.
    #[arg(long, value_name = "ETAG", conflicts_with = "all")]
    if_match: Option<String>,
}

pub(super) async fn history(args: &HistoryArgs, global: &Global) -> Result<Exit, CliError> {
    let (page, raw) = read(args, &global.client()?).await?;
    if global.json() {
        out::json(&raw);
        return Ok(Exit::Done);
    }
    let gone = if page.exists { "" } else { ": deleted" };
    out::line(&format!("{} ({}){gone}", args.target.id(), out::clean(&page.file)));
    page.revisions.iter().for_each(show);
    if page.next_cursor.is_some() {
        out::note(&format!("There are older ones: --limit {} shows more.", args.limit.saturating_mul(2)));
    }
    Ok(Exit::Done)
}

/// As many pages as the limit takes, as one.
async fn read(args: &HistoryArgs, client: &Client) -> Result<(HistoryPage, Value), CliError> {
    let mut all: Option<(HistoryPage, Value)> = None;
    let mut left = args.limit;
    loop {
        let cursor = all.as_ref().and_then(|(page, _)| page.next_cursor.clone());
        let request = Request::get(route(args.target.connector.connector, "schedule/history"))
            .tenant(&args.target.tenant)
            .query("limit", Some(left.min(PAGE)))
            .query("content", args.content.then_some("1"))
            .query("cursor", cursor);
        let (page, raw): (HistoryPage, Value) = client.ask(request).await?;
        left = left.saturating_sub(PAGE);
        let ends = page.next_cursor.is_none() || left == 0;
        all = Some(match all {
            None => (page, raw),
            Some((before, raw_before)) => joined(before, raw_before, page, raw),
        });
        if let Some(all) = all.take_if(|_| ends) {
            return Ok(all);
        }
    }
}

fn joined(mut page: HistoryPage, mut raw: Value, next: HistoryPage, next_raw: Value) -> (HistoryPage, Value) {
    page.revisions.extend(next.revisions);
    page.next_cursor = next.next_cursor;
    if let (Some(Value::Array(known)), Some(Value::Array(more))) = (raw.get_mut("revisions"), next_raw.get("revisions"))
    {
        known.extend(more.iter().cloned());
    }
    raw["next_cursor"] = next_raw.get("next_cursor").cloned().unwrap_or_default();
    (page, raw)
}

fn show(revision: &RevisionView) {
    let RevisionView { revision: number, change, ts_iso, source, actor, digest, .. } = revision;
    let sign = match change.as_str() {
        "created" | "found" => '+',
        "deleted" => '-',
        _ => '~',
    };
    let digest = digest.as_deref().and_then(|digest| digest.get(..12)).unwrap_or("-");
    let line = format!("{sign} {number}  {ts_iso}  {change} by {actor} ({source})  {digest}");
    out::line(&coloured(&out::clean(&line)));
    for line in out::clean(&render_diff(&revision.diff)).lines() {
        out::line(&coloured(line));
    }
    let comment = match (revision.available, revision.digest.is_some(), change.as_str()) {
        (false, true, _) => Some("its content was lost or damaged in the store"),
        (true, _, "updated") if revision.diff.is_empty() => Some("comments or layout only"),
        _ => None,
    };
    if let Some(comment) = comment {
        out::line(&format!("    ({comment})"));
    }
    for line in out::clean(revision.content.as_deref().unwrap_or_default()).lines() {
        out::line(&format!("    | {line}"));
    }
}

pub(super) async fn rollback(args: RollbackArgs, global: &Global) -> Result<Exit, CliError> {
    let Some(tenant) = args.tenant else { return directory(args, global).await };
    let target = Target { tenant, connector: args.connector };
    let mut body = json!({ "to": args.to });
    if let Some(reason) = args.reason {
        body["reason"] = reason.into();
    }
    let path = route(target.connector.connector, "schedule/rollback");
    mutate(Request::post(path, body).if_match(args.if_match.as_deref()), &target, global).await
}

async fn directory(args: RollbackArgs, global: &Global) -> Result<Exit, CliError> {
    let mut body = json!({ "to_time": args.to, "dry_run": args.confirm.is_none() });
    for (name, value) in [("confirm", args.confirm), ("reason", args.reason)] {
        if let Some(value) = value {
            body[name] = value.into();
        }
    }
    let request = Request::post("/ops/rollback", body).wait(Duration::from_secs(540));
    let (answer, raw): (RollbackAnswer, _) = global.client()?.ask(request).await?;
    if global.json() {
        out::json(&raw);
    } else {
        show_plan(&answer, &args.to);
    }
    let waits = answer.dry_run && !answer.changes.is_empty();
    Ok(Exit::yes(answer.ok && !waits))
}

fn show_plan(answer: &RollbackAnswer, to: &str) {
    for line in out::clean(answer.text.trim_end()).lines() {
        out::line(&coloured(line));
    }
    for left in &answer.left {
        out::warning(&format!("{} stays as it is: {}", left.file, left.reason));
    }
    if answer.dry_run {
        if !answer.changes.is_empty() {
            out::line(&format!("To do this: command-center rollback --all --to {} --confirm {}", to, answer.digest));
        }
        return;
    }
    let done = answer.results.iter().filter(|result| result.ok).count();
    for result in answer.results.iter().filter(|result| !result.ok) {
        let detail = result.detail.as_deref().unwrap_or("it failed");
        out::warning(&format!("{}/{} was not changed: {detail}", result.connector, result.tenant));
    }
    out::line(&format!("{done} of {} changes made.", answer.results.len()));
}
