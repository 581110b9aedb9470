//! `windows`: the maintenance windows in force, and when they are next.

use clap::Subcommand;
use serde_json::Value;

use super::client::Request;
use super::{CliError, Exit, Global, out};
use crate::app::views::{WindowView, WindowsAnswer};

#[derive(Debug, Subcommand)]
#[command(after_help = "Example:\n  command-center windows list")]
pub(super) enum WindowsCommand {
    /// Every maintenance window with its next times.
    #[command(after_help = "Example:\n  command-center windows list --output json")]
    List,
}

pub(super) async fn windows(command: WindowsCommand, global: &Global) -> Result<Exit, CliError> {
    let WindowsCommand::List = command;
    let (answer, raw): (WindowsAnswer, Value) = global.client()?.ask(Request::get("/ops/windows")).await?;
    if global.json() {
        out::json(&raw);
    } else if answer.windows.is_empty() {
        out::line("No maintenance windows.");
    } else {
        let rows = answer.windows.iter().map(row).collect();
        out::table(&["WINDOW", "STATE", "FROM", "TO", "FOR", "WHY"], rows);
    }
    Ok(Exit::Done)
}

fn row(window: &WindowView) -> Vec<String> {
    let state = match window {
        _ if window.invalid => "invalid file",
        _ if !window.spec.enabled => "off",
        _ if window.open => "open",
        _ => "waiting",
    };
    let next = window.next.first();
    let connectors = window.spec.connectors.iter().map(|connector| connector.as_str().to_owned());
    let labels = window.spec.labels.iter().map(|(name, value)| format!("{name}={value}"));
    let chosen: Vec<String> = connectors.chain(labels).collect();
    vec![
        window.name.clone(),
        state.to_owned(),
        next.map(|next| next.begin_iso.clone()).unwrap_or_default(),
        next.map(|next| next.end_iso.clone()).unwrap_or_default(),
        if chosen.is_empty() { "the fleet".to_owned() } else { chosen.join(" ") },
        window.spec.reason.clone().unwrap_or_default(),
    ]
}
