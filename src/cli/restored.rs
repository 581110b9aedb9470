//! `restored`: what a store that was restored lacks, and that somebody has seen it.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde::Deserialize;
use serde_json::Value;

use super::client::Request;
use super::{CliError, Exit, Global, out};
use crate::app::views::RestoredView;

#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  command-center restored
  command-center restored dismiss            somebody has seen it; /ops/health says no more of it

Exit codes of the first: 0 the store was not restored, or that was dismissed; 1 it was."
)]
pub(super) struct RestoredArgs {
    /// What was restored and what is lost, when left out.
    #[command(subcommand)]
    command: Option<RestoredCommand>,
}

#[derive(Debug, Subcommand)]
enum RestoredCommand {
    /// What was restored, and which audit entries are lost.
    #[command(after_help = "Example:\n  command-center restored show --output json")]
    Show,
    /// Say that it has been seen; the audit log keeps it.
    #[command(after_help = "Example:\n  command-center restored dismiss")]
    Dismiss,
}

#[derive(Deserialize)]
struct Facts {
    restored: Option<RestoredView>,
}

#[derive(Deserialize)]
struct Dismissed {
    dismissed: bool,
}

pub(super) async fn restored(args: &RestoredArgs, global: &Global) -> Result<Exit, CliError> {
    let client = global.client()?;
    if let Some(RestoredCommand::Dismiss) = args.command {
        let (answer, raw): (Dismissed, Value) = client.ask(Request::new(Method::DELETE, "/ops/db/restored")).await?;
        let said =
            if answer.dismissed { "Dismissed; the audit log keeps it." } else { "There was nothing to dismiss." };
        if global.json() {
            out::json(&raw);
        } else {
            out::line(said);
        }
        return Ok(Exit::Done);
    }
    let (facts, _): (Facts, Value) = client.ask(Request::get("/ops/db")).await?;
    if global.json() {
        out::json(&serde_json::json!({"ok": true, "restored": facts.restored}));
    } else {
        show(facts.restored.as_ref());
    }
    Ok(Exit::yes(facts.restored.is_none()))
}

fn show(restored: Option<&RestoredView>) {
    let Some(restored) = restored else { return out::line("Nothing was restored that nobody has seen.") };
    let since = restored.from_iso.as_deref().map(|at| format!(", as it was at {at}")).unwrap_or_default();
    out::line(&format!("Restored at {} from {}{since}", restored.at_iso, restored.from));
    out::line(&format!("  because: {}", restored.cause));
    out::line(&format!("  {}", restored.lost));
    if let Some(aside) = &restored.set_aside {
        out::line(&format!("  what was there before lies in {aside}"));
    }
    out::line("Seen: command-center restored dismiss");
}
