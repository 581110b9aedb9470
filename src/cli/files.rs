//! Reads the caller's desired directory: what is in it, and what is wrong with it.

use std::path::{Path, PathBuf};

use super::CliError;
use crate::adapters::source::Source;
use crate::core::desired::{Defaults, DefaultsFile, Diagnostic, parse_defaults, window_file};
use crate::core::model::ScheduleId;
use crate::core::windows;

/// The folder below the desired directory that holds the schedules.
const SCHEDULES: &str = "schedules";

/// What was read.
#[derive(Default)]
pub(super) struct DesiredFiles {
    /// In order of their paths.
    pub files: Vec<(ScheduleId, Vec<u8>)>,
    /// Files of defaults, the farthest first.
    pub defaults: Vec<(DefaultsFile, Vec<u8>)>,
    /// Maintenance windows by their names.
    pub windows: Vec<(String, Vec<u8>)>,
    /// Files that cannot be read or are no schedules.
    pub findings: Vec<Diagnostic>,
}

impl DesiredFiles {
    /// Reads the files of defaults in a desired directory.
    pub fn add_defaults(&mut self, source: &Source) {
        for file in DefaultsFile::all() {
            match source.read_defaults(file) {
                Ok(Some((_, bytes))) => self.defaults.push((file, bytes)),
                Ok(None) => {}
                Err(error) => self.findings.push(Diagnostic::whole_file(file.path(), "unreadable", error.to_string())),
            }
        }
    }

    fn add_window(&mut self, source: &Source, name: String) {
        match source.read_window(&name) {
            Ok(Some((_, bytes))) => self.windows.push((name, bytes)),
            Ok(None) => {}
            Err(error) => {
                self.findings.push(Diagnostic::whole_file(window_file(&name), "unreadable", error.to_string()));
            }
        }
    }

    /// Its files of defaults that cannot be used.
    pub fn broken_defaults(&self) -> impl Iterator<Item = DefaultsFile> {
        let is_unread = |file: &DefaultsFile| self.findings.iter().any(|finding| finding.file == file.path());
        let is_invalid = |file: &DefaultsFile| {
            let bytes = self.defaults.iter().find(|(known, _)| known == file).map(|(_, bytes)| bytes);
            bytes.is_some_and(|bytes| parse_defaults(*file, bytes).layer.is_none())
        };
        DefaultsFile::all().filter(move |file| is_unread(file) || is_invalid(file))
    }

    /// What the valid ones of its defaults come to.
    pub fn meaning_of_defaults(&self) -> Defaults {
        Defaults::new(self.defaults.iter().filter_map(|(file, bytes)| parse_defaults(*file, bytes).layer).collect())
    }
}

/// Reads a whole desired directory.
///
/// # Errors
/// When there is no such directory.
pub(super) fn read_dir(root: &Path) -> Result<DesiredFiles, CliError> {
    std::fs::read_dir(root).map_err(CliError::read(root))?;
    let source = Source::new(root.to_owned());
    let listing = source.list();
    let mut read = DesiredFiles::default();
    read.findings.extend(
        listing
            .problems
            .iter()
            .map(|(path, problem)| Diagnostic::whole_file(path.clone(), "unreadable", problem.clone())),
    );
    read.findings.extend(
        listing
            .misplaced
            .iter()
            .map(|found| Diagnostic::whole_file(found.path.clone(), "misplaced", found.reason.to_string())),
    );
    for listed in listing.files {
        match source.read(&listed.id) {
            Ok(Some((_, bytes))) => read.files.push((listed.id, bytes)),
            // Deleted since it was listed: as if it had never been there.
            Ok(None) => {}
            Err(error) => read.findings.push(Diagnostic::whole_file(listed.id.file(), "unreadable", error.to_string())),
        }
    }
    read.add_defaults(&source);
    listing.windows.into_iter().for_each(|name| read.add_window(&source, name));
    read.files.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(read)
}

/// A path split at the desired directory it lies in: `a/schedules/noop/x.yaml` is `a` and
/// `schedules/noop/x.yaml`. `None` when no part of it is the schedules' folder.
pub(super) fn split(path: &Path) -> Option<(PathBuf, String)> {
    let parts: Vec<_> = path.components().collect();
    let at = parts.iter().rposition(|part| part.as_os_str() == SCHEDULES)?;
    let inner: Option<Vec<&str>> = parts.get(at..)?.iter().map(|part| part.as_os_str().to_str()).collect();
    Some((parts.get(..at)?.iter().collect(), inner?.join("/")))
}

/// `a/windows/night.yaml` is a maintenance window of the desired directory `a`, and `a/windows` the
/// folder of them.
pub(super) fn split_window(path: &Path) -> Option<(PathBuf, String)> {
    let name = path.file_name()?.to_str()?;
    if name == windows::FOLDER {
        return Some((path.parent()?.to_owned(), name.to_owned()));
    }
    let folder = path.parent().filter(|folder| folder.file_name().is_some_and(|name| name == windows::FOLDER))?;
    Some((folder.parent()?.to_owned(), format!("{}/{name}", windows::FOLDER)))
}

/// The schedule that a path below the desired directory names.
pub(super) fn id_of(relative: &str) -> Result<ScheduleId, String> {
    let name = relative.strip_prefix("schedules/").unwrap_or(relative);
    let stem = name.strip_suffix(".yaml").ok_or("a schedule's file is schedules/CONNECTOR/TENANT.yaml")?;
    stem.parse()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_tells_the_schedule() {
        let check = |path: &str| split(Path::new(path));
        assert_eq!(check("d/schedules/noop/a.yaml"), Some(("d".into(), "schedules/noop/a.yaml".into())));
        assert_eq!(check("/schedules/d/schedules"), Some(("/schedules/d".into(), "schedules".into())));
        assert_eq!(check("d/other/a.yaml"), None);
        assert_eq!(id_of("schedules/noop/a.yaml").unwrap().to_string(), "noop/a");
        for bad in ["schedules/noop/a.yml", "schedules/nope/a.yaml", "schedules/a.yaml", "schedules/noop/A.yaml"] {
            assert!(id_of(bad).is_err(), "{bad}");
        }
    }
}
