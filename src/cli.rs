//! The command line: one file a command, each a thin layer over the API or the core.
//! Exit codes: 0 done, 1 the answer is no (invalid, different, tampered, failed), 2 could not do it.

mod apply;
mod audit;
mod backup;
mod brake;
mod bulk;
mod client;
mod diff;
mod download;
mod error;
mod files;
mod forecast;
mod history;
mod holds;
mod import;
mod out;
mod pairs;
mod records;
mod restore;
mod restored;
mod running;
mod runs;
mod sandbox;
mod schedule;
mod schema;
mod serve;
mod settings_args;
mod standing;
mod validate;
mod windows;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};

use crate::core::model::{Connector, ScheduleId, Tenant};
use crate::settings::Settings;
use client::Client;
use error::CliError;

/// Keeps a fleet of recurring CRM imports equal to a directory of YAML files, and audits every difference.
#[derive(Debug, Parser)]
#[command(name = "command-center", version, max_term_width = 100, after_help = EXAMPLES)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  command-center serve --sandbox        run the sample fleet against a practice AccuLynx
  command-center validate               check every file below ./desired
  command-center diff                   what the files would change
  command-center schedule list          how the fleet is

Exit codes: 0 done; 1 the answer is no (invalid, different, tampered, failed); 2 it could not be done.";

/// What every command takes.
#[derive(Clone, Debug, Args)]
struct Global {
    /// The server to talk to [env: COMMAND_CENTER_URL, else COMMAND_CENTER_ADDR] [default: http://127.0.0.1:8000].
    #[arg(long, global = true, value_name = "URL")]
    server: Option<String>,
    /// How answers are printed; markdown is for diff only.
    #[arg(long, global = true, value_enum, value_name = "FORMAT", default_value_t = Output::Text)]
    output: Output,
}

impl Global {
    fn client(&self) -> Result<Client, CliError> {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        // A server started in this environment listens there, not at the default.
        let local =
            || set("COMMAND_CENTER_ADDR").map(|addr| format!("http://{addr}").replace("//0.0.0.0:", "//127.0.0.1:"));
        let server = self.server.clone().or_else(|| set("COMMAND_CENTER_URL")).or_else(local);
        Ok(Client::new(server.as_deref().unwrap_or("http://127.0.0.1:8000"))?)
    }

    fn json(&self) -> bool {
        self.output == Output::Json
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
    Markdown,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run everything: reconciler, scheduler and API.
    Serve(Box<serve::ServeArgs>),
    /// Run the practice AccuLynx alone.
    Sandbox(sandbox::SandboxArgs),
    /// Check schedule files without a server: 0 valid, 1 invalid.
    Validate(validate::ValidateArgs),
    /// Show what the files would change: 0 nothing, 1 something, 2 an error or an invalid file.
    Diff(diff::DiffArgs),
    /// Reconcile once: 0 done, 1 something is held or invalid.
    Apply(apply::ApplyArgs),
    /// Write what runs, or the former system's schedules file, into YAML files: 0 done, 1 something left out.
    Import(import::ImportArgs),
    /// What waits for a person; decide against it.
    Holds(holds::HoldsArgs),
    /// See and change schedules through the API.
    #[command(subcommand)]
    Schedule(schedule::ScheduleCommand),
    /// Show what a schedule's file said, change by change; of a deleted schedule too.
    History(history::HistoryArgs),
    /// Write a revision back as a new edit, or the whole directory as it was at a moment.
    Rollback(history::RollbackArgs),
    /// Read, check and export the audit log.
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Imported records: counted, listed, downloaded, deleted.
    #[command(subcommand)]
    Records(records::RecordsCommand),
    /// When runs start, and how many in which minute; of what runs, or of files that would change it.
    Forecast(forecast::ForecastArgs),
    /// Maintenance windows: times in which no run starts.
    #[command(subcommand)]
    Windows(windows::WindowsCommand),
    /// The emergency stop: keeps runs from starting, whatever the files say.
    Brake(brake::BrakeArgs),
    /// Make a backup: one zip with the database, its state, the desired files and the audit log.
    Backup(backup::BackupArgs),
    /// Bring the store back from a backup, a snapshot or a replica, or rehearse that: 0 well, 1 refused, damaged or
    /// different, 2 it could not be done.
    Restore(Box<restore::RestoreArgs>),
    /// What a restored store lacks; say that it has been seen.
    Restored(restored::RestoredArgs),
    /// Write the JSON Schemas of the files, or check that they are current.
    Schema(schema::SchemaArgs),
    /// Print the completion script of a shell.
    #[command(
        after_help = "Example:\n  command-center completions bash > ~/.local/share/bash-completion/completions/command-center"
    )]
    Completions {
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
}

/// The caller's desired directory.
#[derive(Clone, Debug, Args)]
struct DesiredDir {
    /// The desired directory [env: COMMAND_CENTER_DESIRED_DIR] [default: ./desired].
    #[arg(long, value_name = "DIR")]
    desired_dir: Option<PathBuf>,
}

impl DesiredDir {
    fn path(&self) -> PathBuf {
        let given = self.desired_dir.clone().or_else(|| path_variable("COMMAND_CENTER_DESIRED_DIR"));
        given.unwrap_or_else(|| Settings::default().desired_dir)
    }
}

/// Where the store lies by the environment, as `serve` would take it.
fn store_path() -> PathBuf {
    path_variable("COMMAND_CENTER_DSN")
        .or_else(|| path_variable("COMMAND_CENTER_DATA_DIR").map(|dir| dir.join("command_center.db")))
        .unwrap_or_else(|| Settings::default().dsn)
}

/// Where the program keeps what it writes by the environment.
fn data_dir() -> PathBuf {
    path_variable("COMMAND_CENTER_DATA_DIR").unwrap_or_else(|| Settings::default().data_dir)
}

/// A variable's path; an empty one counts as not set, as it does for `serve`.
fn path_variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// One tenant's schedule.
#[derive(Clone, Debug, Args)]
struct Target {
    tenant: Tenant,
    #[command(flatten)]
    connector: ConnectorArg,
}

#[derive(Clone, Debug, Args)]
struct ConnectorArg {
    /// The connector: acculynx, exec, http or noop.
    #[arg(long, value_name = "NAME", default_value_t = Connector::Acculynx)]
    connector: Connector,
}

impl Target {
    fn of(id: &ScheduleId) -> Target {
        Target { tenant: id.tenant.clone(), connector: ConnectorArg { connector: id.connector } }
    }

    fn id(&self) -> ScheduleId {
        ScheduleId::new(self.connector.connector, self.tenant.clone())
    }
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    Done,
    /// The answer is no.
    No,
    /// It could not be done.
    Failed,
}

impl Exit {
    fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::No => 1,
            Exit::Failed => 2,
        }
    }

    /// `Done` when it is as asked, `No` when not.
    fn yes(answer: bool) -> Exit {
        if answer { Exit::Done } else { Exit::No }
    }
}

/// Reads the arguments, does what they ask and says how it ended.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    if cli.global.output == Output::Markdown && !matches!(cli.command, Command::Diff(_)) {
        let message = "markdown is a form of diff's answer only; others take --output text or json";
        Cli::command().error(clap::error::ErrorKind::InvalidValue, message).exit();
    }
    let exit = dispatch(cli).unwrap_or_else(|error| {
        complain(&error);
        Exit::Failed
    });
    ExitCode::from(exit.code())
}

fn complain(error: &CliError) {
    let hint = error.hint();
    let mut messages = match error {
        CliError::Settings(bad) => bad.0.iter().map(ToString::to_string).collect(),
        error => vec![error.to_string()],
    };
    // The hint is about all of them, so that it stands after the last.
    let last = messages.pop().unwrap_or_default();
    messages.iter().for_each(|message| out::error(message, None));
    out::error(&last, hint.as_deref());
}

fn dispatch(cli: Cli) -> Result<Exit, CliError> {
    let global = cli.global;
    match cli.command {
        Command::Serve(args) => serve::serve(*args, &global),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "command-center", &mut script);
            out::bytes(&script);
            Ok(Exit::Done)
        }
        Command::Validate(args) => validate::validate(&args, &global),
        Command::Schema(args) => schema::schema(&args, &global),
        Command::Sandbox(args) => block_on(sandbox::sandbox(args)),
        Command::Diff(args) => block_on(diff::diff(&args, &global)),
        Command::Apply(args) => block_on(apply::apply(args, &global)),
        Command::Import(args) => block_on(import::import(&args, &global)),
        Command::Forecast(args) => block_on(forecast::forecast(&args, &global)),
        Command::Windows(command) => block_on(windows::windows(command, &global)),
        Command::Holds(args) => block_on(holds::holds(args, &global)),
        Command::Schedule(command) => block_on(schedule::schedule(command, &global)),
        Command::History(args) => block_on(history::history(&args, &global)),
        Command::Rollback(args) => block_on(history::rollback(args, &global)),
        Command::Audit(command) => block_on(audit::audit(command, &global)),
        Command::Records(command) => block_on(records::records(command, &global)),
        Command::Backup(args) => block_on(backup::backup(&args, &global)),
        Command::Restore(args) => block_on(restore::restore(*args, &global)),
        Command::Restored(args) => block_on(restored::restored(&args, &global)),
        Command::Brake(args) => block_on(brake::brake(args, &global)),
    }
}

fn block_on(command: impl Future<Output = Result<Exit, CliError>>) -> Result<Exit, CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(|error| CliError::Other(anyhow::anyhow!("cannot start the runtime: {error}")))?.block_on(command)
}

#[cfg(test)]
mod tests;
