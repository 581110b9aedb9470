//! `restore`: brings a store back.

mod drill;
mod replica;

use std::path::PathBuf;

use clap::Args;

use super::{CliError, Exit, Global};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  command-center restore --from file:///mnt/backup/command-center
  command-center restore --from 's3://bucket/prefix?region=eu-central-1' --to-time 2026-05-01T12:00:00Z
  command-center restore --drill

The server must not run on the data directory that is restored into. A drill leaves everything as it is.")]
pub(super) struct RestoreArgs {
    /// The replica to restore from: file:///FOLDER or s3://BUCKET/PREFIX?region=REGION&endpoint=URL.
    #[arg(long, value_name = "URL", required_unless_present = "drill")]
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
    /// Also write the schedules and defaults that the store holds into the desired directory, which must be missing or empty.
    #[arg(long)]
    write_desired: bool,
    #[command(flatten)]
    desired_dir: super::DesiredDir,
}

pub(super) async fn restore(args: RestoreArgs, global: &Global) -> Result<Exit, CliError> {
    if args.drill { drill::drill(&args, global).await } else { replica::replica(&args, global).await }
}
