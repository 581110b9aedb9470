//! `holds`: what waits for a person, and the decision against it.

use clap::{Args, Subcommand};
use serde_json::json;

use super::apply::{ask_by_digest, told_dismissed};
use super::client::Request;
use super::{CliError, Exit, Global, out};
use crate::app::views::{HoldView, HoldsAnswer};

#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  command-center holds
  command-center apply --confirm 3f1c…                       to agree
  command-center holds dismiss 3f1c… --reason \"mount lost\"   to decide against it

Exit codes of the list: 0 nothing waits for a decision; 1 something does."
)]
pub(super) struct HoldsArgs {
    /// The list when left out.
    #[command(subcommand)]
    command: Option<HoldsCommand>,
}

#[derive(Debug, Subcommand)]
enum HoldsCommand {
    /// What is held, and its digest.
    #[command(after_help = "Example:\n  command-center holds list --output json")]
    List,
    /// Decide against what is held: it stays unapplied until the files or the plan change.
    #[command(after_help = "Example:\n  command-center holds dismiss 3f1c… --reason \"mount lost\"")]
    Dismiss {
        /// The digest of what is held, as the list gives it.
        digest: String,
        /// Why, for the people who find it so.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

pub(super) async fn holds(args: HoldsArgs, global: &Global) -> Result<Exit, CliError> {
    let (request, decides) = match args.command {
        None | Some(HoldsCommand::List) => (Request::get("/ops/holds"), false),
        Some(HoldsCommand::Dismiss { digest, reason }) => {
            (Request::post("/ops/holds/dismiss", json!({"digest": digest, "reason": reason})), true)
        }
    };
    let Some(answer) = ask_by_digest(request, "deciding", show, global).await? else { return Ok(Exit::No) };
    Ok(Exit::yes(decides || answer.holds.is_empty() || answer.dismissed.is_some()))
}

fn show(answer: &HoldsAnswer) {
    if answer.holds.is_empty() {
        return out::line("Nothing is held.");
    }
    let row = |hold: &HoldView| {
        let change = &hold.change;
        let id = format!("{}/{}", change.connector, change.tenant);
        vec![change.action.clone(), id, change.held.clone().unwrap_or_default(), hold.since_iso.clone()]
    };
    out::table(&["HELD", "SCHEDULE", "WHY", "SINCE"], answer.holds.iter().map(row).collect());
    if let Some(dismissed) = &answer.dismissed {
        told_dismissed(dismissed);
    } else if let Some(digest) = &answer.digest {
        out::line(&format!("To agree: command-center apply --confirm {digest}"));
        out::line(&format!("Against it: command-center holds dismiss {digest} --reason \"…\""));
    }
}
