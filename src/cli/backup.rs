//! `backup`: one zip with everything, made by the server, or of the store itself when none runs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde::Deserialize;
use serde_json::{Value, json};

use super::client::{Client, Request};
use super::download::download;
use super::{CliError, DesiredDir, Exit, Global, data_dir, out, store_path};
use crate::adapters::clock::Clock;
use crate::app::backup_offline;
use crate::app::views::{BackupState, BackupView, BackupsView};

/// What a large backup's download may take.
const LONG: Duration = Duration::from_secs(3600);

/// How often the server is asked how far it has come.
const LOOK: Duration = Duration::from_millis(150);

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  command-center backup                       kept by the server in DATA_DIR/backups
  command-center backup --to /mnt/backups     and written there
  command-center backup --schedule 02:30      one every day at this hour (UTC) from now on
  command-center backup --schedule off

Without a server the store is backed up as it lies, into --to or DATA_DIR/backups.
`command-center restore FILE` puts a backup back.")]
pub(super) struct BackupArgs {
    /// Write the backup into this folder.
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    /// Set the hour of the daily backup, in UTC, or off; makes none now.
    #[arg(long, value_name = "HH:MM", conflicts_with = "to")]
    schedule: Option<String>,
    #[command(flatten)]
    desired: DesiredDir,
}

#[derive(Deserialize)]
struct Answer {
    backup: BackupView,
}

pub(super) async fn backup(args: &BackupArgs, global: &Global) -> Result<Exit, CliError> {
    let client = global.client()?;
    if let Some(hour) = &args.schedule {
        return schedule(hour, &client, global).await;
    }
    match client.ask::<Answer>(Request::post("/ops/backup", json!({}))).await {
        Ok((begun, _)) => online(begun.backup, args, &client, global).await,
        Err(error) if error.is_unreachable() && store_path().exists() => {
            out::note(&format!("{error}; backing up the store {}", store_path().display()));
            offline(args, global)
        }
        Err(error) => Err(error.into()),
    }
}

async fn schedule(hour: &str, client: &Client, global: &Global) -> Result<Exit, CliError> {
    let at = if hour == "off" { Value::Null } else { hour.into() };
    let request = Request::post("/ops/backup/schedule", json!({ "at": at }));
    let (answer, raw): (BackupsView, Value) = client.ask(request).await?;
    if global.json() {
        out::json(&raw);
    } else {
        out::line(&match answer.daily_at {
            Some(at) => format!("A backup is made every day at {at} UTC; those over 7 days old are removed."),
            None => "No daily backup is made any more.".to_owned(),
        });
    }
    Ok(Exit::Done)
}

async fn online(begun: BackupView, args: &BackupArgs, client: &Client, global: &Global) -> Result<Exit, CliError> {
    let bar = out::stages();
    let mut job = begun;
    while job.state == BackupState::Running {
        bar.set_message(job.doing.clone());
        bar.set_length(job.total);
        bar.set_position(job.done);
        tokio::time::sleep(LOOK).await;
        job = client.ask::<Answer>(Request::get(format!("/ops/backup/{}", job.id))).await?.0.backup;
    }
    bar.finish_and_clear();
    let Some(file) = job.file.clone().filter(|_| job.state == BackupState::Done) else {
        let reason = job.error.unwrap_or_else(|| "the server does not say why".to_owned());
        return Err(CliError::Other(anyhow::anyhow!("the server could not make the backup: {reason}")));
    };
    let written = match &args.to {
        Some(folder) => {
            std::fs::create_dir_all(folder).map_err(CliError::write(folder))?;
            let path = folder.join(&file);
            download(Request::get(format!("/ops/backup/{}/file", job.id)), LONG, Some(&path), client).await?;
            Some(path)
        }
        None => None,
    };
    show(&file, job.bytes.unwrap_or(0), written.as_deref(), global);
    Ok(Exit::Done)
}

fn offline(args: &BackupArgs, global: &Global) -> Result<Exit, CliError> {
    let folder = args.to.clone().unwrap_or_else(|| data_dir().join("backups"));
    let bar = out::stages();
    let mut tell = |stage: crate::adapters::snapshots::bundle::Stage| {
        bar.set_message(stage.doing);
        bar.set_length(stage.total);
        bar.set_position(stage.done);
    };
    let made = backup_offline(&store_path(), &args.desired.path(), &folder, Clock::System.now(), &mut tell);
    bar.finish_and_clear();
    let made = made.map_err(anyhow::Error::from)?;
    let name = made.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    show(&name, made.bytes, Some(&made.path), global);
    Ok(Exit::Done)
}

fn show(name: &str, bytes: u64, path: Option<&Path>, global: &Global) {
    if global.json() {
        let path = path.map(|path| path.display().to_string());
        out::json(&json!({"ok": true, "file": name, "bytes": bytes, "path": path}));
        return;
    }
    out::line(&match path {
        Some(path) => format!("{} ({}), checked", path.display(), out::size(bytes)),
        None => format!("{name} ({}), checked, in the server's folder of backups", out::size(bytes)),
    });
}
