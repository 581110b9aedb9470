//! `apply`: asks the server to reconcile once, now.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::client::Request;
use super::{CliError, Exit, Global, out, validate};
use crate::app::views::{ApplyAnswer, HeldChange};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  command-center apply
  command-center apply --confirm 3f1c…     also what was held back, when it is still exactly that

Exit codes: 0 done; 1 something is held or invalid; 2 an error.")]
pub(super) struct ApplyArgs {
    /// Agree to the held changes that have this digest, as the last apply or /ops/drift gave it.
    #[arg(long, value_name = "DIGEST")]
    confirm: Option<String>,
}

pub(super) async fn apply(args: ApplyArgs, global: &Global) -> Result<Exit, CliError> {
    let body = match args.confirm {
        Some(digest) => json!({ "confirm": digest }),
        None => json!({}),
    };
    let request = Request::post("/ops/apply", body).wait(Duration::from_secs(240));
    let (answer, raw): (ApplyAnswer, _) = global.client()?.ask(request).await?;
    if global.json() {
        out::json(&raw);
    } else {
        show(&answer);
    }
    Ok(Exit::yes(answer.held.is_empty() && answer.invalid.is_empty() && answer.pass.waiting.is_none()))
}

fn show(answer: &ApplyAnswer) {
    let pass = &answer.pass;
    out::line(&format!(
        "{} files looked at in {:.1} ms: {} changed, {} repaired, {} invalid, {} held",
        pass.files, pass.duration_ms, pass.changes, pass.repaired, pass.invalid, pass.held
    ));
    if let Some(waiting) = &pass.waiting {
        out::warning(&format!("not everything was looked at: {waiting}"));
    }
    for file in &answer.invalid {
        file.diagnostics.iter().for_each(|found| validate::show(found, ""));
    }
    if answer.held.is_empty() {
        return;
    }
    let row = |held: &HeldChange| {
        vec![
            held.action.clone(),
            format!("{}/{}", held.connector, held.tenant),
            held.reason.clone(),
            held.since_iso.clone(),
        ]
    };
    out::table(&["HELD", "SCHEDULE", "WHY", "SINCE"], answer.held.iter().map(row).collect());
    if let Some(digest) = &answer.held_digest {
        out::line(&format!("To agree: command-center apply --confirm {digest}"));
    }
}
