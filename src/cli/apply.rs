//! `apply`: asks the server to reconcile once, now.

use std::time::Duration;

use clap::Args;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::client::{ClientError, Problem, Request};
use super::{CliError, Exit, Global, out, validate};
use crate::app::views::{ApplyAnswer, DismissalView, HeldChange, InvalidFile, MovedStep};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  command-center apply
  command-center apply --confirm 3f1c…     also what was held back, when it is still exactly that

Exit codes: 0 done; 1 something is held or invalid, or the plan is no longer that one; 2 an error.")]
pub(super) struct ApplyArgs {
    /// Agree to the plan of this digest, as diff gave it, or to the held changes of this digest.
    #[arg(long, value_name = "DIGEST")]
    confirm: Option<String>,
}

pub(super) async fn apply(args: ApplyArgs, global: &Global) -> Result<Exit, CliError> {
    let body = match args.confirm {
        Some(digest) => json!({ "confirm": digest }),
        None => json!({}),
    };
    let request = Request::post("/ops/apply", body).wait(Duration::from_secs(240));
    let Some(answer) = ask_by_digest(request, "applying", show, global).await? else { return Ok(Exit::No) };
    let decided = answer.held.is_empty() || answer.dismissed.is_some();
    Ok(Exit::yes(decided && answer.invalid.is_empty() && answer.pass.waiting.is_none()))
}

/// Sends what names a plan by its digest and prints the answer. `None` when the plan has moved on: a
/// refusal that is an answer, no failure, and says what moved.
pub(super) async fn ask_by_digest<T: DeserializeOwned>(
    request: Request<'_>,
    message: &'static str,
    show: impl FnOnce(&T),
    global: &Global,
) -> Result<Option<T>, CliError> {
    let client = global.client()?;
    let spinner = out::spinner(message);
    let answered = client.ask::<T>(request).await;
    spinner.finish_and_clear();
    match answered {
        Ok((answer, raw)) => {
            if global.json() {
                out::json(&raw);
            } else {
                show(&answer);
            }
            Ok(Some(answer))
        }
        Err(ClientError::Refused(problem)) if problem.is("plan-moved") => {
            show_moved(&problem, global);
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

fn show_moved(problem: &Problem, global: &Global) {
    if global.json() {
        return out::json(&problem.body);
    }
    let text = |name: &str| problem.body.get(name).and_then(Value::as_str);
    let hint =
        text("digest").or(text("held_digest")).map(|digest| format!("what would be done now has the digest {digest}"));
    out::error(&problem.detail, hint.as_deref());
    let moved: Vec<MovedStep> =
        problem.body.get("moved").and_then(|moved| serde_json::from_value(moved.clone()).ok()).unwrap_or_default();
    if !moved.is_empty() {
        let row = |step: MovedStep| vec![step.how, step.action, format!("{}/{}", step.connector, step.tenant)];
        out::table(&["MOVED", "STEP", "SCHEDULE"], moved.into_iter().map(row).collect());
    }
}

pub(super) fn told_dismissed(dismissed: &DismissalView) {
    let text = format!("Dismissed by {} at {}: {}", dismissed.actor, dismissed.at_iso, dismissed.reason);
    out::line(&out::clean(&text));
}

/// Each finding with its lines, which only the server has.
fn show_invalid(file: &InvalidFile) {
    if file.frames.is_empty() {
        return file.diagnostics.iter().for_each(|found| validate::show(found, ""));
    }
    for (found, frame) in file.diagnostics.iter().zip(&file.frames) {
        validate::show_frame(found.severity, frame);
    }
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
        show_invalid(file);
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
    if let Some(dismissed) = &answer.dismissed {
        told_dismissed(dismissed);
    } else if let Some(digest) = &answer.held_digest {
        out::line(&format!("To agree: command-center apply --confirm {digest}"));
    }
}
