//! `schedule cancel` and `schedule backfill`: runs stopped, slots of the past made up for.

use clap::Args;
use serde_json::json;

use super::client::{Request, route};
use super::{CliError, Exit, Global, Target, out};
use crate::app::views::{BackfillAnswer, CancelAnswer};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  command-center schedule cancel peakpro
  command-center schedule cancel peakpro --run 4711 --reason \"wrong key\"")]
pub(super) struct CancelArgs {
    #[command(flatten)]
    target: Target,
    /// The run to stop, in flight or waiting; all in flight when left out.
    #[arg(long, value_name = "ID")]
    run: Option<i64>,
    /// Why, for the run's record.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  command-center schedule backfill peakpro --from 2026-11-20T00:00:00Z --dry-run
  command-center schedule backfill peakpro --from 2026-11-20T00:00:00Z --to 2026-11-20T12:00:00Z")]
pub(super) struct BackfillArgs {
    #[command(flatten)]
    target: Target,
    /// The first moment, RFC 3339; at most 1000 slots lie between the two.
    #[arg(long, value_name = "TIME")]
    from: String,
    /// The last moment, RFC 3339; now when left out.
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// Only list the slots.
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn cancel(args: CancelArgs, global: &Global) -> Result<Exit, CliError> {
    let body = json!({"run": args.run, "reason": args.reason});
    let request = Request::post(route(args.target.connector.connector, "cancel"), body).tenant(&args.target.tenant);
    let (answer, raw) = global.client()?.ask::<CancelAnswer>(request).await?;
    if global.json() {
        out::json(&raw);
    } else {
        let runs: Vec<String> = answer.cancelled.iter().map(i64::to_string).collect();
        out::line(&format!("stopped: run {} of {}", runs.join(", "), args.target.id()));
    }
    Ok(Exit::Done)
}

pub(super) async fn backfill(args: BackfillArgs, global: &Global) -> Result<Exit, CliError> {
    let body = json!({"from": args.from, "to": args.to, "dry_run": args.dry_run});
    let request = Request::post(route(args.target.connector.connector, "backfill"), body).tenant(&args.target.tenant);
    let (answer, raw) = global.client()?.ask::<BackfillAnswer>(request).await?;
    if global.json() {
        out::json(&raw);
        return Ok(Exit::Done);
    }
    for slot in &answer.slots {
        let run = slot.run_id.map(|run| format!("  run {run}")).unwrap_or_default();
        out::line(&format!("{}{run}", slot.nominal_iso));
    }
    let count = answer.slots.len();
    let what = match (answer.dry_run, count) {
        (true, 1) => "1 slot would run".to_owned(),
        (true, _) => format!("{count} slots would run"),
        (false, 1) => "1 run lined up".to_owned(),
        (false, _) => format!("{count} runs lined up"),
    };
    let before = match answer.skipped {
        0 => String::new(),
        1 => "; 1 slot has had a run already".to_owned(),
        skipped => format!("; {skipped} slots have had a run already"),
    };
    out::line(&format!("{what}{before}"));
    Ok(Exit::Done)
}
