//! `restore`: brings a store back.

mod drill;
mod file;
mod replica;

use std::path::PathBuf;

use clap::Args;

use super::{CliError, Exit, Global};
use crate::core::model::{Caller, Source};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  command-center restore backup_20260509_023000.zip
  command-center restore ./data/snapshots/20260509T023000.000Z-4711 --force
  command-center restore --from file:///mnt/backup/command-center
  command-center restore --from 's3://bucket/prefix?region=eu-central-1' --to-time 2026-05-01T12:00:00Z
  command-center restore --drill

The server must not run on the data directory that is restored into. A drill leaves everything as it is.
A FILE is checked through first: manifest, checksums, database and audit log.

Exit codes: 0 done; 1 refused, damaged or different; 2 it could not be done.")]
pub(super) struct RestoreArgs {
    /// A backup's zip, or a snapshot's folder.
    #[arg(value_name = "FILE", conflicts_with_all = ["from", "drill", "to_seq", "to_time", "write_desired"])]
    file: Option<PathBuf>,
    /// With FILE: write the backup's desired files also where there are some; those that differ are set aside.
    #[arg(long, requires = "file")]
    desired: bool,
    /// The replica to restore from: file:///FOLDER or s3://BUCKET/PREFIX?region=REGION&endpoint=URL.
    #[arg(long, value_name = "URL", required_unless_present_any = ["drill", "file"])]
    from: Option<String>,
    /// End at this audit entry, or the last commit before it.
    #[arg(long, value_name = "SEQ", conflicts_with = "to_time", value_parser = clap::value_parser!(i64).range(0..))]
    to_seq: Option<i64>,
    /// End at this moment: RFC 3339, or epoch seconds.
    #[arg(long, value_name = "TIME")]
    to_time: Option<String>,
    /// Restore beside the running server, compare with it, and leave everything as it is.
    #[arg(long, conflicts_with_all = ["to_seq", "to_time", "force", "write_desired"])]
    drill: bool,
    /// Where the store goes [env: COMMAND_CENTER_DATA_DIR] [default: ./data].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Set a store that is there aside, and replace it.
    #[arg(long)]
    force: bool,
    /// Also write the schedules and defaults that the store holds into the desired directory, which must be missing or have no files.
    #[arg(long)]
    write_desired: bool,
    #[command(flatten)]
    desired_dir: super::DesiredDir,
}

pub(super) async fn restore(args: RestoreArgs, global: &Global) -> Result<Exit, CliError> {
    if let Some(path) = &args.file {
        return file::file(path, &args, global).await;
    }
    if args.drill { drill::drill(&args, global).await } else { replica::replica(&args, global).await }
}

/// Who restores, as the audit names them.
fn caller() -> Caller {
    let named = std::env::var("USER").or_else(|_| std::env::var("USERNAME")).unwrap_or_default();
    let named = named.trim();
    Caller { source: Source::Cli, actor: if named.is_empty() { "unknown".to_owned() } else { named.to_owned() } }
}
