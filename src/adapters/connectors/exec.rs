//! Runs a program that the server's settings allow and takes in what it writes: Singer messages, or one
//! line of stats. `process` runs it and ends it, `intake` understands it, `files` keeps its secrets.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use serde_json::{Map, Value, json};

use super::{Connect, ErrorClass, ImportContext, ImportFailure, ImportOutcome};
use crate::core::model::{
    Connection, EnvValue, IDLE_TIMEOUT_SEC, ImportStats, MAX_LINE_KB, MAX_OUTPUT_MB, Protocol, Resource, filled, places,
};
use crate::core::timing::iso;

mod files;
mod group;
mod intake;
mod output;
mod process;
mod programs;

use files::{Resolved, Workspace};
use intake::{Intake, state_of};
use process::{Ended, Launch, Limits, Process, Stop, name_of};
pub use programs::Programs;

/// As much of the program's last words as a message repeats.
const LAST_WORDS_CHARS: usize = 300;
/// Exit codes by which a program says that trying again would not help (sysexits).
const NO_PERMISSION: i32 = 77;
const BAD_CONFIG: i32 = 78;

/// The connector. Keep one for the whole program.
pub struct Exec {
    programs: Programs,
    /// Where runs get their private directories.
    folder: PathBuf,
}

impl Exec {
    /// `folder` is this server's alone: what is or works in it was left by one that was killed, and goes.
    pub fn new(programs: Programs, folder: PathBuf) -> Self {
        group::end_those_at(&folder);
        files::sweep(&folder);
        Exec { programs, folder }
    }
}

impl Connect for Exec {
    fn import(&self, context: ImportContext) -> BoxFuture<'_, ImportOutcome> {
        async move {
            let workspace = match Workspace::open(&self.folder).await {
                Ok(workspace) => workspace,
                Err(error) => {
                    let message = format!("could not make a directory in {}: {error}", self.folder.display());
                    return failed(failure(ErrorClass::Store, message));
                }
            };
            let mut resolved = Resolved::default();
            let outcome = match self.prepare(&context, &workspace, &mut resolved).await {
                Ok(launch) => run(&context, &launch, &resolved).await,
                Err(error) => failed(error),
            };
            workspace.close().await;
            outcome
        }
        .boxed()
    }
}

impl Exec {
    /// The program with its arguments, files and environment.
    async fn prepare(
        &self,
        context: &ImportContext,
        workspace: &Workspace,
        resolved: &mut Resolved,
    ) -> Result<Launch, ImportFailure> {
        let configuration = |message: String| failure(ErrorClass::Configuration, message);
        let connection = &context.connection;
        let Some((asked, rest)) = connection.command.split_first() else {
            let message = format!("connection.command is missing: set it in {}", context.id.file());
            return Err(configuration(message));
        };
        let program = self.programs.find(asked).map_err(configuration)?;
        let mut arguments = Arguments { workspace, rest, files: Map::new(), behind: Vec::new() };
        if !connection.config.is_empty() {
            let config = resolved.mapping(&connection.config, &context.secrets).map_err(configuration)?;
            arguments.file("config", Some(&config)).await?;
        }
        if !connection.catalog.is_empty() {
            let catalog = resolved.mapping(&connection.catalog, &context.secrets).map_err(configuration)?;
            arguments.file("catalog", Some(&catalog)).await?;
        }
        if connection.protocol != Some(Protocol::Stats) {
            let bookmark = context.sink.bookmark(Resource::SINGER_STATE).await;
            let bookmark = bookmark.map_err(|error| failure(ErrorClass::Store, error.to_string()))?;
            arguments.file("state", state_of(bookmark, &name_of(asked)).as_ref()).await?;
        }
        let mut environment = self.environment(context, workspace);
        for (name, value) in &connection.env {
            let value = match value {
                EnvValue::Text(text) => text.clone(),
                EnvValue::Secret(reference) => resolved.secret(reference, &context.secrets).map_err(configuration)?,
            };
            environment.push((name.into(), value.into()));
        }
        let arguments = arguments.finish();
        Ok(Launch { program, arguments, environment, directory: workspace.path().to_owned() })
    }

    /// What every program gets; nothing else of the server's environment.
    fn environment(&self, context: &ImportContext, workspace: &Workspace) -> Vec<(OsString, OsString)> {
        let home: OsString = workspace.path().into();
        let mut environment: Vec<(OsString, OsString)> = vec![
            ("PATH".into(), self.programs.path().clone()),
            ("HOME".into(), home.clone()),
            ("LANG".into(), "C.UTF-8".into()),
            ("TZ".into(), "UTC".into()),
            ("COMMAND_CENTER_TENANT".into(), context.id.tenant.as_str().into()),
            ("COMMAND_CENTER_RUN_ID".into(), context.run_id.to_string().into()),
            ("COMMAND_CENTER_NOMINAL_TIME".into(), iso(context.nominal).into()),
        ];
        // What it writes for a while goes with the directory.
        let temporary: &[&str] = if cfg!(windows) { &["TEMP", "TMP", "USERPROFILE"] } else { &["TMPDIR"] };
        environment.extend(temporary.iter().map(|name| (OsString::from(name), home.clone())));
        if cfg!(windows) {
            environment.extend(std::env::var_os("SystemRoot").map(|root| ("SystemRoot".into(), root)));
        }
        environment
    }
}

/// The arguments of a command, and the files that they name.
struct Arguments<'a> {
    workspace: &'a Workspace,
    rest: &'a [String],
    files: Map<String, Value>,
    /// Options for files that the command does not place itself.
    behind: Vec<String>,
}

impl Arguments<'_> {
    /// Writes a file and passes its path where the command says so, else as the option that Singer has for
    /// it. Without content there is a file only where the command names one: an empty object.
    async fn file(&mut self, name: &str, content: Option<&Value>) -> Result<(), ImportFailure> {
        let placed = self.rest.iter().any(|word| places(word).any(|place| place == name));
        if content.is_none() && !placed {
            return Ok(());
        }
        let written = self.workspace.write(&format!("{name}.json"), content.unwrap_or(&json!({}))).await;
        let path = written.map_err(|error| {
            let message = format!("could not write {name}.json for the program: {error}");
            failure(ErrorClass::Store, message)
        })?;
        let path = path.to_string_lossy().into_owned();
        if !placed {
            self.behind.extend([format!("--{name}"), path.clone()]);
        }
        self.files.insert(name.to_owned(), path.into());
        Ok(())
    }

    fn finish(self) -> Vec<String> {
        let path = |name: &str| self.files.get(name).and_then(Value::as_str).map(str::to_owned);
        let words = self.rest.iter().map(|word| filled(word, path));
        words.chain(self.behind.iter().cloned()).collect()
    }
}

/// Runs the program to its end, whatever that is.
async fn run(context: &ImportContext, launch: &Launch, resolved: &Resolved) -> ImportOutcome {
    let connection = &context.connection;
    let name = name_of(connection.command.first().map_or("", String::as_str));
    let limits = limits(connection);
    let mut process = match Process::start(launch, limits, context.cancel.clone()) {
        Ok(process) => process,
        Err(error) => return failed(not_started(&launch.program.display().to_string(), &error)),
    };
    let mut intake = Intake::new(context, &name, connection.protocol.unwrap_or_default());
    let fault = loop {
        match process.line().await {
            Ok(Some(line)) => {
                if let Err(error) = intake.take(line).await {
                    break Some(error);
                }
            }
            Ok(None) => break None,
            Err(stop) => break Some(stopped(&stop, &name, connection)),
        }
    };
    let ended = process.end().await;
    // A program that failed is why its output is cut off, not the other way round.
    let fault = fault.filter(|fault| fault.class != ErrorClass::BadResponse || succeeded(&ended));
    let mut error = fault.or_else(|| exit_failure(&ended, &name));
    if error.as_ref().is_none_or(|error| error.class != ErrorClass::Store) {
        let written = intake.write().await;
        error = error.or(written.err());
    }
    if error.is_none() {
        error = intake.count().err();
    }
    let hidden = |error: ImportFailure| ImportFailure { message: resolved.masked(&error.message), ..error };
    let log = resolved.masked(&ended.errors);
    ImportOutcome { stats: intake.stats(), error: error.map(hidden), log: Some(log).filter(|log| !log.is_empty()) }
}

fn limits(connection: &Connection) -> Limits {
    let megabytes = u64::from(connection.max_output_mb.unwrap_or(MAX_OUTPUT_MB));
    let kilobytes = connection.max_line_kb.unwrap_or(MAX_LINE_KB) as usize;
    Limits {
        idle: Duration::from_secs(connection.idle_timeout_sec.unwrap_or(IDLE_TIMEOUT_SEC).into()),
        output_bytes: megabytes << 20,
        line_bytes: kilobytes << 10,
    }
}

fn stopped(stop: &Stop, name: &str, connection: &Connection) -> ImportFailure {
    match stop {
        Stop::Idle => {
            let seconds = connection.idle_timeout_sec.unwrap_or(IDLE_TIMEOUT_SEC);
            let message = format!("{name} wrote nothing for {seconds} s and was ended (connection.idle_timeout_sec)");
            failure(ErrorClass::Timeout, message)
        }
        Stop::Output => {
            let most = connection.max_output_mb.unwrap_or(MAX_OUTPUT_MB);
            let message = format!("{name} wrote more than {most} MiB and was ended (connection.max_output_mb)");
            failure(ErrorClass::BadResponse, message)
        }
        Stop::Line => {
            let most = connection.max_line_kb.unwrap_or(MAX_LINE_KB);
            let message = format!("{name} wrote a line of more than {most} KiB and was ended (connection.max_line_kb)");
            failure(ErrorClass::BadResponse, message)
        }
        Stop::Cancelled => {
            failure(ErrorClass::Cancelled, format!("{name} was ended before it was done; what it had brought is kept"))
        }
    }
}

fn not_started(program: &str, error: &std::io::Error) -> ImportFailure {
    use std::io::ErrorKind;
    let class = match error.kind() {
        ErrorKind::OutOfMemory | ErrorKind::WouldBlock | ErrorKind::Interrupted => ErrorClass::Unavailable,
        _ => ErrorClass::Configuration,
    };
    failure(class, format!("could not start {program}: {error}"))
}

/// Whether it ended by itself with success, or had to be ended.
fn succeeded(ended: &Ended) -> bool {
    ended.status.is_none_or(|status| status.success())
}

fn exit_failure(ended: &Ended, name: &str) -> Option<ImportFailure> {
    let status = ended.status.filter(|status| !status.success())?;
    let last = ended.errors.lines().rev().map(str::trim).find(|line| !line.is_empty());
    let words: String =
        last.unwrap_or("it wrote nothing on its standard error").chars().take(LAST_WORDS_CHARS).collect();
    let class = match status.code() {
        Some(NO_PERMISSION) => ErrorClass::Unauthorized,
        Some(BAD_CONFIG) => ErrorClass::Configuration,
        _ => ErrorClass::Unavailable,
    };
    Some(failure(class, format!("{name} failed with {status}: {words}")))
}

fn failure(class: ErrorClass, message: impl Into<String>) -> ImportFailure {
    ImportFailure::new(class, message)
}

fn failed(error: ImportFailure) -> ImportOutcome {
    ImportOutcome { stats: ImportStats::default(), error: Some(error), log: None }
}

#[cfg(test)]
#[cfg(unix)]
mod tests;
