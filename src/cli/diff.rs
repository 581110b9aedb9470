//! `diff`: what the caller's files would change, asked of the server, or of the store when no
//! server runs. Changes nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::client::Request;
use super::files::{DesiredFiles, read_dir};
use super::{CliError, DesiredDir, Exit, Global, Output, out, store_path, validate};
use crate::app::views::DiffAnswer;
use crate::core::desired::{Diagnostic, Severity, parse, window_file};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  command-center diff
  command-center diff --output markdown > comment.md
  command-center diff --dsn ./data/command_center.db     without asking a server

Exit codes: 0 no difference; 1 differences; 2 an error or an invalid file.")]
pub(super) struct DiffArgs {
    #[command(flatten)]
    desired: DesiredDir,
    /// Compare with this database instead of asking a server; read from a private copy.
    #[arg(long, value_name = "FILE")]
    dsn: Option<PathBuf>,
}

pub(super) async fn diff(args: &DiffArgs, global: &Global) -> Result<Exit, CliError> {
    let desired = args.desired.path();
    let read = read_dir(&desired)?;
    let (mut answer, raw) = match &args.dsn {
        Some(dsn) => offline(&desired, dsn).await?,
        None => match online(&read, global).await {
            Ok(found) => found,
            Err(CliError::Client(error)) if error.is_unreachable() => {
                let dsn = store_path();
                if !dsn.exists() {
                    return Err(error.into());
                }
                out::note(&format!("{error}; comparing with the store {}", dsn.display()));
                offline(&desired, &dsn).await?
            }
            Err(error) => return Err(error),
        },
    };
    let defaults = read.meaning_of_defaults();
    // A file that could not be sent as it is is no less invalid than one that could.
    let broken = read.files.iter().filter(|(_, bytes)| std::str::from_utf8(bytes).is_err());
    let unsaid: Vec<_> = broken
        .flat_map(|(id, bytes)| parse(id, bytes, &defaults).diagnostics)
        .chain(read.findings.iter().cloned())
        .filter(|found| !mentions(&answer.invalid, &found.file))
        .collect();
    answer.invalid.extend(unsaid);
    let exit = exit_of(&answer);
    match global.output {
        Output::Json => out::json(&with_invalid(raw, &answer)?),
        Output::Markdown => out::line(&markdown(&answer)),
        Output::Text => show(&answer, &read),
    }
    Ok(exit)
}

fn exit_of(answer: &DiffAnswer) -> Exit {
    if answer.invalid.iter().any(|found| found.severity == Severity::Error) {
        Exit::Failed
    } else {
        Exit::yes(answer.changes.is_empty() && answer.windows.is_empty())
    }
}

fn mentions(found: &[Diagnostic], file: &str) -> bool {
    found.iter().any(|diagnostic| diagnostic.file == file)
}

async fn online(read: &DesiredFiles, global: &Global) -> Result<(DiffAnswer, Value), CliError> {
    let files = texts_of(read);
    Ok(global.client()?.ask(Request::post("/ops/diff", json!({ "files": files }))).await?)
}

/// A directory's files as the server takes them: the text of each by its path.
pub(super) fn texts_of(read: &DesiredFiles) -> BTreeMap<String, std::borrow::Cow<'_, str>> {
    let schedules = read.files.iter().map(|(id, bytes)| (id.file(), bytes));
    let defaults = read.defaults.iter().map(|(file, bytes)| (file.path(), bytes));
    let windows = read.windows.iter().map(|(name, bytes)| (window_file(name), bytes));
    let files = schedules.chain(defaults).chain(windows);
    files.map(|(path, bytes)| (path, String::from_utf8_lossy(bytes))).collect()
}

async fn offline(desired: &Path, dsn: &Path) -> Result<(DiffAnswer, Value), CliError> {
    if !dsn.exists() {
        let message = format!("there is no database {}", dsn.display());
        return Err(CliError::usage(message, "name it with --dsn, or start a server with `command-center serve`"));
    }
    let answer = crate::app::offline_diff(desired, dsn).await?;
    let raw = serde_json::to_value(&answer).map_err(anyhow::Error::from)?;
    Ok((answer, raw))
}

/// The answer as it came, with what was found here.
fn with_invalid(mut raw: Value, answer: &DiffAnswer) -> Result<Value, CliError> {
    if let Value::Object(fields) = &mut raw {
        fields.insert("invalid".into(), serde_json::to_value(&answer.invalid).map_err(anyhow::Error::from)?);
    }
    Ok(raw)
}

fn show(answer: &DiffAnswer, read: &DesiredFiles) {
    for line in out::clean(answer.text.trim_end()).lines() {
        out::line(&coloured(line));
    }
    if answer.invalid.is_empty() {
        return;
    }
    out::line("");
    for found in &answer.invalid {
        let schedule = read.files.iter().find(|(id, _)| id.file() == found.file).map(|(_, bytes)| bytes);
        let defaults = || read.defaults.iter().find(|(file, _)| file.path() == found.file).map(|(_, bytes)| bytes);
        let windows = || read.windows.iter().find(|(name, _)| window_file(name) == found.file).map(|(_, bytes)| bytes);
        let text = schedule.or_else(defaults).or_else(windows).map(Vec::as_slice);
        validate::show(found, &String::from_utf8_lossy(text.unwrap_or_default()));
    }
    let count = answer.invalid.iter().filter(|found| found.severity == Severity::Error).count();
    if count > 0 {
        let text = format!(
            "{count} error{} in the files: what they would change is not known.",
            if count == 1 { "" } else { "s" }
        );
        out::line(&out::paint(out::RED, &text));
    }
}

/// A line in the colour of its first sign.
pub(super) fn coloured(line: &str) -> String {
    match line.trim_start().chars().next() {
        Some('+') => out::paint(out::GREEN, line),
        Some('-') => out::paint(out::RED, line),
        Some('~' | '!') => out::paint(out::YELLOW, line),
        _ => line.to_owned(),
    }
}

fn markdown(answer: &DiffAnswer) -> String {
    let mut text = out::clean(answer.markdown.trim_end());
    if !answer.invalid.is_empty() && !text.contains("#### Invalid files") {
        text.push_str("\n\n#### Invalid files\n");
        for found in &answer.invalid {
            let message = found.message.replace('\n', " ");
            text.push_str(&format!("\n- `{}:{}:{}` {message}", found.file, found.line, found.column));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::plan::ChangeView;

    fn check(changes: usize, severities: &[Severity]) -> u8 {
        let change = ChangeView {
            connector: "noop".into(),
            tenant: "a".into(),
            action: "create".into(),
            facet: None,
            diff: Vec::new(),
            held: None,
            because: None,
        };
        let found = |severity: &Severity| Diagnostic {
            severity: *severity,
            ..Diagnostic::whole_file("schedules/noop/a.yaml".into(), "x", "y".into())
        };
        let answer = DiffAnswer {
            ok: true,
            windows: Vec::new(),
            warnings: Vec::new(),
            digest: String::new(),
            changes: vec![change; changes],
            invalid: severities.iter().map(found).collect(),
            text: String::new(),
            markdown: String::new(),
            defaults: Vec::new(),
        };
        exit_of(&answer).code()
    }

    #[test]
    fn an_invalid_file_is_an_error_and_never_no_difference() {
        assert_eq!(check(0, &[]), 0);
        assert_eq!(check(2, &[]), 1);
        assert_eq!(check(0, &[Severity::Error]), 2);
        assert_eq!(check(2, &[Severity::Warning, Severity::Error]), 2);
        assert_eq!((check(0, &[Severity::Warning]), check(1, &[Severity::Warning])), (0, 1));
    }
}
