//! `import`: writes what runs, or the former system's schedules file, into YAML files. Never over a
//! file that says something else, unless told to.

mod candidates;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use serde_json::json;

use super::diff::coloured;
use super::{CliError, DesiredDir, Exit, Global, out};
use crate::adapters::source::{Files, Source, Swap};
use crate::core::desired::{Defaults, DefaultsFile, parse, parse_defaults};
use crate::core::model::{Connector, Digest, ScheduleId};
use candidates::{Candidate, Candidates};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  command-center import --dry-run                          what the server runs and no file stands for
  command-center import --from schedules.json --dry-run    what a file of the former system would become
  command-center import --from schedules.json --into desired

Exit codes: 0 done; 1 something was left out; 2 an error.")]
pub(super) struct ImportArgs {
    /// The former system's schedules file: a JSON object of tenants. Without it, what runs now.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// The connector of the tenants in --from [default: acculynx]; else only this connector's schedules.
    #[arg(long, value_name = "NAME")]
    connector: Option<Connector>,
    /// The desired directory to write into [env: COMMAND_CENTER_DESIRED_DIR] [default: ./desired].
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
    /// Read what runs from this database instead of asking a server; from a private copy.
    #[arg(long, value_name = "FILE", conflicts_with = "from")]
    dsn: Option<PathBuf>,
    /// Write nothing; say what would be written.
    #[arg(long)]
    dry_run: bool,
    /// Also replace files that say something else.
    #[arg(long)]
    overwrite: bool,
}

/// What becomes of one file.
#[derive(Debug, Serialize)]
struct Outcome {
    file: String,
    action: Action,
    /// Why, unless it is plainly created.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Fields that were left out or taken for something.
    warnings: Vec<Warning>,
    /// What is or would be written.
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Warning {
    field: String,
    message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    Create,
    Replace,
    /// The file is there and means the same.
    Keep,
    Skip,
}

pub(super) async fn import(args: &ImportArgs, global: &Global) -> Result<Exit, CliError> {
    let into = DesiredDir { desired_dir: args.into.clone() }.path();
    let candidates = candidates::collect(args, global).await?;
    let target = Target::open(&into, args)?;
    let outcomes = target.take(candidates)?;
    let skipped = outcomes.iter().filter(|outcome| outcome.action == Action::Skip).count();
    if global.json() {
        out::json(&json!({
            "ok": skipped == 0,
            "dry_run": args.dry_run,
            "into": into.display().to_string(),
            "files": outcomes,
        }));
    } else {
        show(&outcomes, args.dry_run);
    }
    Ok(Exit::yes(skipped == 0))
}

/// The directory that is written into.
struct Target<'a> {
    source: Source,
    args: &'a ImportArgs,
}

impl<'a> Target<'a> {
    fn open(into: &Path, args: &'a ImportArgs) -> Result<Self, CliError> {
        let source = Source::new(into.to_owned());
        if let Some(busy) = source.git_busy() {
            let message = format!("git is at work in {} ({busy})", into.display());
            return Err(CliError::usage(message, "try again when it is done"));
        }
        if !args.dry_run {
            Files::found(&source).map_err(CliError::write(into))?;
        }
        Ok(Target { source, args })
    }

    fn take(&self, candidates: Candidates) -> Result<Vec<Outcome>, CliError> {
        let mut outcomes = Vec::new();
        let mut layers = Vec::new();
        for file in DefaultsFile::all() {
            let own = match self.source.read_defaults(file) {
                Ok(found) => found.map(|(_, bytes)| bytes),
                // Nothing is there yet at all.
                Err(_) if !self.source.root().exists() => None,
                Err(error) => return Err(CliError::Other(error.into())),
            };
            let kept = candidates.defaults.iter().find(|(known, _)| *known == file).map(|(_, bytes)| bytes);
            if let (None, Some(bytes)) = (&own, kept) {
                outcomes.push(self.defaults(file, bytes)?);
            }
            let bytes = own.as_ref().or(kept);
            layers.extend(bytes.and_then(|bytes| parse_defaults(file, bytes).layer));
        }
        let defaults = Defaults::new(layers);
        let mut written = Vec::new();
        for candidate in candidates.schedules {
            let id = candidate.id.clone().ok();
            let outcome = self.schedule(candidate, &defaults);
            let is_new = matches!(outcome.action, Action::Create | Action::Replace);
            written.extend(id.filter(|_| is_new && !self.args.dry_run));
            outcomes.push(outcome);
        }
        self.source.sync(&written).map_err(CliError::write(self.source.root()))?;
        Ok(outcomes)
    }

    /// The last good defaults below the schedules, where the directory has none.
    fn defaults(&self, file: DefaultsFile, bytes: &[u8]) -> Result<Outcome, CliError> {
        if !self.args.dry_run {
            let path = self.source.root().join(file.path());
            write_new(&path, bytes).map_err(CliError::write(&path))?;
        }
        Ok(Outcome {
            file: file.path(),
            action: Action::Create,
            reason: None,
            warnings: Vec::new(),
            content: Some(String::from_utf8_lossy(bytes).into_owned()),
        })
    }

    fn schedule(&self, candidate: Candidate, defaults: &Defaults) -> Outcome {
        let Candidate { id, file, content, means, warnings } = candidate;
        let outcome = |action, reason: Option<String>, warnings, content: Option<&[u8]>| {
            let content = content.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
            Outcome { file: file.clone(), action, reason, warnings, content }
        };
        let (id, content) = match (id, content) {
            (Ok(id), Ok(content)) => (id, content),
            (Err(why), _) | (_, Err(why)) => return outcome(Action::Skip, Some(why), warnings, None),
        };
        let parsed = parse(&id, &content, defaults);
        let Some(spec) = parsed.spec else {
            let why = parsed.diagnostics.first().map(|found| match &found.hint {
                Some(hint) => format!("it would not be valid: {}; {hint}", found.message),
                None => format!("it would not be valid: {}", found.message),
            });
            return outcome(Action::Skip, why, warnings, None);
        };
        let differs = means.filter(|means| *means != spec);
        let note = differs.map(|_| "what runs differs: the defaults in this directory add to it".to_owned());
        let found = match self.source.read(&id) {
            Ok(found) => found.map(|(_, bytes)| bytes),
            Err(_) if !self.source.root().exists() => None,
            Err(error) => return outcome(Action::Skip, Some(error.to_string()), warnings, None),
        };
        let (action, base) = match &found {
            None => (Action::Create, None),
            Some(bytes) if *bytes == content || parse(&id, bytes, defaults).spec.as_ref() == Some(&spec) => {
                return outcome(Action::Keep, Some("is there and means the same".to_owned()), warnings, None);
            }
            Some(bytes) if self.args.overwrite => (Action::Replace, Some(Digest::of(bytes))),
            Some(_) => {
                let why = "is there and says something else; --overwrite replaces it".to_owned();
                return outcome(Action::Skip, Some(why), warnings, None);
            }
        };
        match self.write(&id, base, &content) {
            Ok(()) => outcome(action, note, warnings, Some(&content)),
            Err(why) => outcome(Action::Skip, Some(why), warnings, None),
        }
    }

    fn write(&self, id: &ScheduleId, base: Option<Digest>, content: &[u8]) -> Result<(), String> {
        if self.args.dry_run {
            return Ok(());
        }
        match self.source.swap(id, base.as_ref(), Some(content)) {
            Ok(Swap::Done(_)) => Ok(()),
            Ok(Swap::Moved(_)) => Err("was changed by somebody else at the same moment; theirs stays".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Writes a file whole or not at all, and never over another.
fn write_new(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(path);
    std::fs::create_dir_all(folder)?;
    let mut file = tempfile::Builder::new().prefix(".").suffix(".tmp").tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path)?;
    Ok(())
}

fn show(outcomes: &[Outcome], dry_run: bool) {
    let count = |action: Action| outcomes.iter().filter(|outcome| outcome.action == action).count();
    for outcome in outcomes {
        let sign = match outcome.action {
            Action::Create => '+',
            Action::Replace => '~',
            Action::Keep => '=',
            Action::Skip => '!',
        };
        let reason = outcome.reason.as_ref().map_or(String::new(), |reason| format!(": {reason}"));
        out::line(&coloured(&out::clean(&format!("{sign} {}{reason}", outcome.file))));
        let lines = outcome.content.iter().flat_map(|content| content.lines());
        for line in lines.filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
            out::line(&format!("    {}", out::clean(line)));
        }
        for warning in &outcome.warnings {
            out::line(&out::paint(out::YELLOW, &out::clean(&format!("    {}: {}", warning.field, warning.message))));
        }
    }
    let (verb, replace) = if dry_run { ("to write", "to replace") } else { ("written", "replaced") };
    out::line(&format!(
        "{} {verb}, {} {replace}, {} the same, {} left out.",
        count(Action::Create),
        count(Action::Replace),
        count(Action::Keep),
        count(Action::Skip)
    ));
}
