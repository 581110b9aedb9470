//! `schema`: writes the JSON Schemas that editors and CI use, or checks that they are current.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::{CliError, Exit, Global, out};
use crate::core::desired::schedule_schema;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  command-center schema
  command-center schema --check     exits 1 when a file is not what this version would write")]
pub(super) struct SchemaArgs {
    /// Change nothing; say whether the files are what this version would write.
    #[arg(long)]
    check: bool,
    /// Where the schemas lie.
    #[arg(long, value_name = "DIR", default_value = "schemas")]
    dir: PathBuf,
}

pub(super) fn schema(args: &SchemaArgs, global: &Global) -> Result<Exit, CliError> {
    let path = args.dir.join("schedule.schema.json");
    let mut text = serde_json::to_string_pretty(&schedule_schema()).map_err(anyhow::Error::from)?;
    text.push('\n');
    let found = match std::fs::read_to_string(&path) {
        Ok(found) => Some(found),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(CliError::read(&path)(error)),
    };
    // A checkout on Windows may have other line ends.
    let current = found.is_some_and(|found| found.replace("\r\n", "\n") == text);
    if !args.check && !current {
        std::fs::create_dir_all(&args.dir).map_err(CliError::write(&args.dir))?;
        std::fs::write(&path, &text).map_err(CliError::write(&path))?;
    }
    let state = match (current, args.check) {
        (true, _) => "current",
        (false, true) => "outdated",
        (false, false) => "written",
    };
    if global.json() {
        out::json(&json!({ "ok": current || !args.check, "files": { path.display().to_string(): state } }));
    } else if state == "outdated" {
        out::line(&format!("{}: outdated; write it anew with `command-center schema`", path.display()));
    } else {
        out::line(&format!("{}: {state}", path.display()));
    }
    Ok(Exit::yes(current || !args.check))
}
