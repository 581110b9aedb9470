//! `schedule runs` and `schedule run`: what ran, when, how long and how it ended.

use std::io::IsTerminal as _;

use anstyle::Style;
use clap::Args;
use serde_json::{Value, json};

use super::client::{Request, route};
use super::{CliError, Exit, Global, Target, out};
use crate::app::views::{RunAnswer, RunView, RunsPage};
use crate::core::model::ImportStats;
use crate::core::run::{RunState, Trigger};
use crate::core::volume::ShortImport;

/// Runs in one answer of the server at most.
const PAGE: u32 = 1000;

/// Cells of the longest bar.
const BAR: i64 = 8;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  command-center schedule runs peakpro
  command-center schedule runs peakpro --failed --limit 5
  command-center schedule runs peakpro --since 2026-11-21T00:00:00Z --output json
  command-center schedule runs peakpro --id 1042")]
pub(super) struct RunsArgs {
    #[command(flatten)]
    target: Target,
    /// Only runs that failed.
    #[arg(long)]
    failed: bool,
    /// Only runs that stand so: queued, running, waiting, done, interrupted, cancelled.
    #[arg(long, value_name = "STATE")]
    state: Option<String>,
    /// Only runs that began for this reason: schedule, run-now, catch-up, backfill, retry, webhook.
    #[arg(long, value_name = "REASON")]
    trigger: Option<String>,
    /// Only runs that failed so: unauthorized, rate_limited, unavailable, bad_response, configuration, store,
    /// timeout, deadline, cancelled, interrupted.
    #[arg(long, value_name = "CLASS")]
    class: Option<String>,
    /// Only runs of slots from this time on; RFC 3339 or epoch seconds.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only runs of slots before this time; RFC 3339 or epoch seconds.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// How many, newest first.
    #[arg(long, value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// One run, with its log.
    #[arg(long, value_name = "ID")]
    id: Option<i64>,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  command-center schedule run peakpro 1042")]
pub(super) struct RunArgs {
    #[command(flatten)]
    target: Target,
    /// The run's number, as `schedule runs` shows it.
    id: i64,
}

pub(super) async fn one(args: RunArgs, global: &Global) -> Result<Exit, CliError> {
    show(&args.target, args.id, global).await
}

pub(super) async fn list(args: RunsArgs, global: &Global) -> Result<Exit, CliError> {
    if let Some(id) = args.id {
        return show(&args.target, id, global).await;
    }
    let client = global.client()?;
    let (mut runs, mut raw, mut cursor) = (Vec::new(), Vec::new(), None);
    let mut left = args.limit;
    while left > 0 {
        let request = Request::get(route(args.target.connector.connector, "runs"))
            .tenant(&args.target.tenant)
            .query("ok", args.failed.then_some("0"))
            .query("state", args.state.as_ref())
            .query("trigger", args.trigger.as_ref())
            .query("error_class", args.class.as_ref())
            .query("since", args.since.as_ref())
            .query("until", args.until.as_ref())
            .query("limit", Some(left.min(PAGE)))
            .query("cursor", cursor.take());
        let (page, answer): (RunsPage, Value) = client.ask(request).await?;
        left = left.saturating_sub(u32::try_from(page.runs.len()).unwrap_or(left));
        runs.extend(page.runs);
        raw.extend(answer.get("runs").and_then(Value::as_array).cloned().unwrap_or_default());
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    if global.json() {
        out::json(&json!({"ok": true, "runs": raw, "next_cursor": cursor}));
    } else if runs.is_empty() {
        out::line(&format!("No runs of {}.", args.target.id()));
    } else {
        table(&runs);
        if cursor.is_some() {
            out::note(&format!("There are older ones: --limit {} shows more.", args.limit.saturating_mul(2)));
        }
    }
    Ok(Exit::Done)
}

fn table(runs: &[RunView]) {
    let longest = runs.iter().filter_map(|run| run.duration_ms).max().unwrap_or(0);
    let with_bars = std::io::stdout().is_terminal();
    let row = |run: &RunView| {
        let mut took = run.duration_ms.map_or("-".to_owned(), length);
        if with_bars {
            took = format!("{took:>7} {}", bar(run.duration_ms.unwrap_or(0), longest));
        }
        let late = run.late_ms.filter(|_| run.trigger == Trigger::Schedule).map_or("-".to_owned(), length);
        let cells = vec![run.id.to_string(), run.nominal_iso.clone(), name(run.trigger), late, took, result(run)];
        (style(run), cells)
    };
    out::lines(&["RUN", "SLOT", "TRIGGER", "LATE", "TOOK", "RESULT"], runs.iter().map(row).collect());
}

fn name(trigger: Trigger) -> String {
    trigger.as_str().to_owned()
}

fn style(run: &RunView) -> Option<Style> {
    match (run.state, run.ok) {
        (RunState::Done, Some(true)) => run.short_import.as_ref().map(|_| out::YELLOW),
        (RunState::Queued | RunState::Running, _) => Some(out::GREEN),
        (RunState::Waiting | RunState::Cancelled, _) => Some(out::YELLOW),
        (RunState::Done | RunState::Interrupted, _) => Some(out::RED),
    }
}

/// How it ended, in a line.
fn result(run: &RunView) -> String {
    let message = run.message.as_deref().unwrap_or_default();
    let class = run.error_class.as_deref().unwrap_or("failed");
    match (run.state, run.ok, run.stats) {
        (RunState::Done, Some(true), Some(stats)) => {
            format!("ok: {}{}", counts(stats), shortfall(run.short_import.as_ref()))
        }
        (RunState::Running, _, Some(stats)) => format!("running: {} so far", counts(stats)),
        (RunState::Done, _, _) => format!("{class}: {message}"),
        (RunState::Waiting, ..) => {
            format!("tries again at {}: {message}", run.retry_at_iso.as_deref().unwrap_or("once it may"))
        }
        (state, ..) if message.is_empty() => state.as_str().to_owned(),
        (state, ..) if message.starts_with(state.as_str()) => message.to_owned(),
        (state, ..) => format!("{}: {message}", state.as_str()),
    }
}

/// The counts as every list shows them.
pub(super) fn counts(stats: ImportStats) -> String {
    let ImportStats { imported, updated, skipped, failed } = stats;
    format!("{imported} new, {updated} changed, {skipped} same, {failed} failed")
}

/// What a run lacks, to be put behind its counts; nothing where it is as usual.
pub(super) fn shortfall(short: Option<&ShortImport>) -> String {
    let Some(ShortImport { resource, expected, got }) = short else { return String::new() };
    let of = resource.as_ref().map(|resource| format!(" of {resource}")).unwrap_or_default();
    format!("; short: {got}{of} where {expected} are usual")
}

/// A length of time in two digits or three, such as `840ms`, `12.4s` or `3m05s`.
pub(super) fn length(ms: i64) -> String {
    match ms {
        ..1_000 => format!("{ms}ms"),
        1_000..60_000 => format!("{}.{}s", ms / 1_000, ms % 1_000 / 100),
        60_000..3_600_000 => format!("{}m{:02}s", ms / 60_000, ms / 1_000 % 60),
        3_600_000..86_400_000 => format!("{}h{:02}m", ms / 3_600_000, ms / 60_000 % 60),
        _ => format!("{}d{:02}h", ms / 86_400_000, ms / 3_600_000 % 24),
    }
}

/// A bar whose length is that of the run beside the longest shown.
fn bar(ms: i64, longest: i64) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = usize::try_from(ms * BAR * 8 / longest.max(1)).unwrap_or(0);
    format!("{}{}", "█".repeat(eighths / 8), EIGHTHS[eighths % 8])
}

async fn show(target: &Target, id: i64, global: &Global) -> Result<Exit, CliError> {
    let request = Request::get(route(target.connector.connector, &format!("runs/{id}"))).tenant(&target.tenant);
    let (answer, raw): (RunAnswer, Value) = global.client()?.ask(request).await?;
    let run = answer.run;
    if run.tenant != target.tenant.as_str() {
        let message = format!("run {id} is one of {}/{}, not of {}", run.connector, run.tenant, target.id());
        return Err(CliError::usage(message, "`command-center schedule runs TENANT` lists a tenant's runs"));
    }
    if global.json() {
        out::json(&raw);
        return Ok(Exit::Done);
    }
    let none = || "-".to_owned();
    let took = run.duration_ms.map_or_else(none, length);
    let rows = [
        ("run", format!("{} of {}", run.id, target.id())),
        ("slot", run.nominal_iso.clone()),
        ("trigger", run.trigger.as_str().to_owned()),
        ("asked by", run.asked_by.clone().unwrap_or_else(none)),
        ("action", run.action_id.clone().unwrap_or_else(none)),
        ("start", run.start_iso.clone().unwrap_or_else(none)),
        ("end", run.end_iso.clone().unwrap_or_else(none)),
        ("took", format!("{took}, {} attempt{}", run.attempts, if run.attempts == 1 { "" } else { "s" })),
    ];
    for (name, value) in rows {
        out::line(&format!("{name:9} {}", out::clean(&value)));
    }
    let state = if run.ok == Some(false) && run.state == RunState::Done { "failed" } else { run.state.as_str() };
    let text = format!("{state:9} {}", out::clean(&result(&run)));
    out::line(&style(&run).map_or(text.clone(), |style| out::paint(style, &text)));
    for line in run.log.unwrap_or_default() {
        out::line(&format!("  | {}", out::clean(&line)));
    }
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_short() {
        let check = |ms, expect: &str| assert_eq!(length(ms), expect);
        check(0, "0ms");
        check(999, "999ms");
        check(12_450, "12.4s");
        check(185_000, "3m05s");
        check(7_260_000, "2h01m");
        check(90_000_000, "1d01h");
    }

    #[test]
    fn bars_are_in_proportion() {
        assert_eq!(bar(100, 100), "████████");
        assert_eq!(bar(50, 100), "████");
        assert_eq!(bar(1, 100), "");
        assert_eq!(bar(2, 100), "▏");
        assert_eq!(bar(0, 0), "");
    }
}
