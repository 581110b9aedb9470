//! `brake`: the emergency stop, for the fleet or one tenant.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;

use super::client::Request;
use super::{CliError, Exit, Global, out};
use crate::app::views::BrakeView;
use crate::core::model::{Connector, Tenant};

#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  command-center brake pull --reason \"CRM outage\"      the whole fleet
  command-center brake pull peakpro --reason \"bad data\"
  command-center brake release
  command-center brake list"
)]
pub(super) struct BrakeArgs {
    /// `list` when left out.
    #[command(subcommand)]
    command: Option<BrakeCommand>,
}

#[derive(Debug, Subcommand)]
enum BrakeCommand {
    /// Stop starting runs, at once.
    #[command(after_help = "Example:\n  command-center brake pull --reason \"CRM outage\"")]
    Pull {
        #[command(flatten)]
        scope: Scope,
        /// Why, for the people who find it pulled.
        #[arg(long, value_name = "TEXT", default_value = "pulled by hand")]
        reason: String,
    },
    /// Let runs start again.
    #[command(after_help = "Example:\n  command-center brake release peakpro")]
    Release(Scope),
    /// The brakes that are pulled.
    #[command(after_help = "Example:\n  command-center brake list --output json")]
    List,
}

#[derive(Debug, Args)]
struct Scope {
    /// The tenant; the whole fleet when left out.
    tenant: Option<Tenant>,
    /// The connector: acculynx, exec, http or noop.
    #[arg(long, value_name = "NAME", default_value_t = Connector::Acculynx, requires = "tenant")]
    connector: Connector,
}

impl Scope {
    /// Says in a request which schedule is meant; without one it is the fleet.
    fn of<'a>(&'a self, request: Request<'a>) -> Request<'a> {
        match &self.tenant {
            Some(tenant) => request.tenant(tenant).query("connector", Some(self.connector)),
            None => request,
        }
    }
}

#[derive(Deserialize)]
struct BrakeAnswer {
    brakes: Vec<BrakeView>,
}

pub(super) async fn brake(args: BrakeArgs, global: &Global) -> Result<Exit, CliError> {
    let request = match &args.command {
        None | Some(BrakeCommand::List) => Request::get("/ops/brake"),
        Some(BrakeCommand::Pull { scope, reason }) => {
            scope.of(Request::post("/ops/brake", json!({ "reason": reason })))
        }
        Some(BrakeCommand::Release(scope)) => scope.of(Request::new(Method::DELETE, "/ops/brake")),
    };
    let (answer, raw): (BrakeAnswer, _) = global.client()?.ask(request).await?;
    if global.json() {
        out::json(&raw);
    } else if answer.brakes.is_empty() {
        out::line("No brake is pulled.");
    } else {
        let row = |brake: BrakeView| vec![brake.scope, brake.reason, brake.actor, brake.since_iso];
        out::table(&["BRAKE", "WHY", "WHO", "SINCE"], answer.brakes.into_iter().map(row).collect());
    }
    Ok(Exit::Done)
}
