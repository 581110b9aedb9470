//! `validate`: every finding about the files, with the lines it is about. Needs no server.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::files::{DesiredFiles, id_of, read_dir, split, split_window};
use super::{CliError, DesiredDir, Exit, Global, out};
use crate::adapters::source::Source;
use crate::core::desired::{
    DefaultsFile, Diagnostic, Severity, code_frame, parse, parse_defaults, parse_window, window_name,
};
use crate::core::windows;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  command-center validate
  command-center validate desired/schedules/acculynx/peakpro.yaml
  command-center validate --output json | jq '.diagnostics[].message'")]
pub(super) struct ValidateArgs {
    /// Files, of defaults too, or directories with schedules in them; the desired directory when left out.
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    desired: DesiredDir,
}

pub(super) fn validate(args: &ValidateArgs, global: &Global) -> Result<Exit, CliError> {
    let default = [args.desired.path()];
    let paths = if args.paths.is_empty() { &default[..] } else { &args.paths };
    let read = paths.iter().map(|path| collect(path)).collect::<Result<Vec<_>, _>>()?;
    let mut report = Report::default();
    read.iter().for_each(|read| report.judge(read, !global.json()));
    if global.json() {
        out::json(&json!({
            "ok": report.errors == 0,
            "files": report.files,
            "invalid": report.invalid,
            "diagnostics": report.diagnostics,
        }));
    } else {
        out::line(&report.summary());
    }
    Ok(Exit::yes(report.errors == 0))
}

/// The schedules at a path: a file's, a desired directory's, or those below a folder within one.
fn collect(path: &Path) -> Result<DesiredFiles, CliError> {
    let whole = std::path::absolute(path).map_err(CliError::read(path))?;
    let kind = std::fs::metadata(path).map_err(CliError::read(path))?;
    if kind.is_dir() && whole.join("schedules").is_dir() {
        return read_dir(path);
    }
    let Some((root, inner)) = split(&whole).or_else(|| fleets_defaults(&whole)).or_else(|| split_window(&whole)) else {
        if kind.is_dir() {
            // A directory that has no schedule yet is a valid fleet of none.
            return read_dir(path);
        }
        let message = format!("{} lies in no desired directory", path.display());
        return Err(CliError::usage(message, "a schedule's file is schedules/CONNECTOR/TENANT.yaml"));
    };
    if kind.is_dir() {
        let below = |file: &str| file.strip_prefix(inner.as_str()).is_some_and(|rest| rest.starts_with('/'));
        let mut read = read_dir(&root)?;
        read.files.retain(|(id, _)| below(&id.file()));
        read.findings.retain(|finding| below(&finding.file) || DefaultsFile::at(&finding.file).is_some());
        if inner == windows::FOLDER {
            read.defaults.clear();
        } else {
            read.windows.clear();
        }
        return Ok(read);
    }
    let mut read = DesiredFiles::default();
    if inner.starts_with(windows::FOLDER) {
        match window_name(&inner) {
            Some(name) => read.windows.push((name.to_owned(), std::fs::read(path).map_err(CliError::read(path))?)),
            None => read.findings.push(Diagnostic::whole_file(
                inner.clone(),
                "misplaced",
                "a maintenance window's file is windows/NAME.yaml, NAME of a-z, 0-9, '.', '_' and '-'".to_owned(),
            )),
        }
        return Ok(read);
    }
    read.add_defaults(&Source::new(root));
    if let Some(file) = DefaultsFile::at(&inner) {
        read.defaults.retain(|(own, _)| *own == file);
        read.findings.retain(|finding| finding.file == inner);
        return Ok(read);
    }
    match id_of(&inner) {
        Ok(id) => {
            read.defaults.retain(|(file, _)| file.governs(id.connector));
            read.files.push((id, std::fs::read(path).map_err(CliError::read(path))?));
        }
        Err(problem) => read.findings.push(Diagnostic::whole_file(inner.clone(), "misplaced", problem)),
    }
    Ok(read)
}

/// `a/defaults.yaml` is the fleet's of the desired directory `a`.
fn fleets_defaults(path: &Path) -> Option<(PathBuf, String)> {
    let name = DefaultsFile::FLEETS_NAME;
    (path.file_name()? == name).then_some(())?;
    Some((path.parent()?.to_owned(), name.to_owned()))
}

#[derive(Default)]
struct Report {
    files: usize,
    invalid: usize,
    errors: usize,
    warnings: usize,
    diagnostics: Vec<Diagnostic>,
}

impl Report {
    /// Judges every file; prints each finding as it comes when `print`. The defaults below a file
    /// count as checked too: what it means depends on them.
    fn judge(&mut self, read: &DesiredFiles, print: bool) {
        self.files += read.files.len() + read.defaults.len() + read.windows.len() + read.findings.len();
        for finding in &read.findings {
            self.add(vec![finding.clone()], "", print);
        }
        for (file, bytes) in &read.defaults {
            self.add(parse_defaults(*file, bytes).diagnostics, &String::from_utf8_lossy(bytes), print);
        }
        for (name, bytes) in &read.windows {
            self.add(parse_window(name, bytes).diagnostics, &String::from_utf8_lossy(bytes), print);
        }
        let defaults = read.meaning_of_defaults();
        let bar = out::bar(read.files.len());
        let broken: Vec<DefaultsFile> = read.broken_defaults().collect();
        for (id, bytes) in &read.files {
            let mut found = parse(id, bytes, &defaults).diagnostics;
            if broken.iter().any(|file| file.governs(id.connector)) {
                // Whether the file lacks it shows once its defaults can be read.
                found.retain(|finding| finding.code != "no-cadence");
            }
            self.add(found, &String::from_utf8_lossy(bytes), print);
            bar.inc(1);
        }
        bar.finish_and_clear();
    }

    fn add(&mut self, diagnostics: Vec<Diagnostic>, text: &str, print: bool) {
        let errors = diagnostics.iter().filter(|found| found.severity == Severity::Error).count();
        self.errors += errors;
        self.warnings += diagnostics.len() - errors;
        self.invalid += usize::from(errors > 0);
        if print {
            diagnostics.iter().for_each(|found| show(found, text));
        }
        self.diagnostics.extend(diagnostics);
    }

    fn summary(&self) -> String {
        let s = |count: usize| if count == 1 { "" } else { "s" };
        let warnings = match self.warnings {
            0 => String::new(),
            count => format!(", {count} warning{}", s(count)),
        };
        if self.errors == 0 {
            let verdict = if self.files == 1 { "it is valid" } else { "all are valid" };
            return out::paint(
                out::GREEN,
                &format!("{} file{} checked: {verdict}{warnings}", self.files, s(self.files)),
            );
        }
        let text = format!(
            "{} file{} checked: {} invalid, {} error{}{warnings}",
            self.files,
            s(self.files),
            self.invalid,
            self.errors,
            s(self.errors)
        );
        out::paint(out::RED, &text)
    }
}

/// Prints a finding over the lines it is about, its head in the colour of its severity.
pub(super) fn show(diagnostic: &Diagnostic, text: &str) {
    show_frame(diagnostic.severity, &code_frame(diagnostic, text));
}

/// A finding that is drawn already.
pub(super) fn show_frame(severity: Severity, frame: &str) {
    let style = if severity == Severity::Error { out::RED } else { out::YELLOW };
    let frame = out::clean(frame.trim_end());
    let (head, rest) = frame.split_once('\n').unwrap_or((&frame, ""));
    out::line(&out::paint(style, head));
    out::line(rest);
    out::line("");
}
