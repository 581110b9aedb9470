//! `schema`: writes the JSON Schemas that editors and CI use, or checks that they are current.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::{CliError, Exit, Global, out};
use crate::core::desired::{schema_text, schemas};

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
    let mut states = serde_json::Map::new();
    let mut ok = true;
    for (name, schema) in schemas() {
        let path = args.dir.join(name);
        let state = bring_up_to_date(&path, &schema, args)?;
        ok &= state != "outdated";
        if !global.json() && state == "outdated" {
            out::line(&format!("{}: outdated; write it anew with `command-center schema`", path.display()));
        } else if !global.json() {
            out::line(&format!("{}: {state}", path.display()));
        }
        states.insert(path.display().to_string(), state.into());
    }
    if global.json() {
        out::json(&json!({ "ok": ok, "files": states }));
    }
    Ok(Exit::yes(ok))
}

/// Writes the schema if that is asked for and necessary; says how its file stands.
fn bring_up_to_date(path: &Path, schema: &Value, args: &SchemaArgs) -> Result<&'static str, CliError> {
    let text = schema_text(schema);
    let found = match std::fs::read_to_string(path) {
        Ok(found) => Some(found),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(CliError::read(path)(error)),
    };
    // A checkout on Windows may have other line ends.
    if found.is_some_and(|found| found.replace("\r\n", "\n") == text) {
        return Ok("current");
    }
    if args.check {
        return Ok("outdated");
    }
    std::fs::create_dir_all(&args.dir).map_err(CliError::write(&args.dir))?;
    std::fs::write(path, &text).map_err(CliError::write(path))?;
    Ok("written")
}
