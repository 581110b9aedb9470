//! Walks `schedules/CONNECTOR/TENANT.yaml` with one stat a file, and sorts every other name found.

use std::fs::{self, DirEntry, FileType};
use std::io;
use std::path::Path;

use super::{FileStat, SCHEDULES, Source, SourceError};
use crate::core::desired::DefaultsFile;
use crate::core::model::{Connector, ScheduleId, Tenant};

/// A schedule's file and what stat says of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    pub id: ScheduleId,
    pub stat: FileStat,
}

/// Something that lies where schedules lie and is none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Misplaced {
    /// Relative to the root, with forward slashes.
    pub path: String,
    pub reason: MisplacedReason,
    /// The schedule whose name it takes. That schedule's content is unknown; it is not absent.
    pub id: Option<ScheduleId>,
}

/// Why something is not taken for a schedule; the text says what to do.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MisplacedReason {
    #[error("{0}")]
    UnknownConnector(String),
    #[error("the name is no tenant's: {0}")]
    BadTenant(String),
    #[error("schedules end in .yaml; rename it")]
    YmlExtension,
    #[error("only files named TENANT.yaml belong here; move or remove it")]
    UnexpectedName,
    #[error("schedules lie in a connector's folder, as in schedules/noop/TENANT.yaml; move it there")]
    OutsideConnector,
    #[error(
        "the fleet's defaults are defaults.yaml beside schedules/, a connector's schedules/CONNECTOR/_defaults.yaml; \
         rename or move it"
    )]
    OddDefaults,
    #[error("a maintenance window's file is windows/NAME.yaml, NAME of a-z, 0-9, '.', '_' and '-'; rename or move it")]
    NoWindow,
    #[error("folders below a connector's are not read; move its files up")]
    NestedDirectory,
    #[error("the link leads out of the desired directory; replace it by a regular file")]
    EscapingLink,
    #[error("the link leads nowhere; mend it, or remove it to delete the schedule")]
    BrokenLink,
    #[error("not a regular file; replace it by one")]
    NotRegular,
}

/// What became of the root.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Root {
    Present,
    #[default]
    Missing,
    /// The error's text.
    Unreadable(String),
}

/// One pass over the directory.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Listing {
    pub root: Root,
    /// No error anywhere: only then may absence be believed, save for what `misplaced` names.
    pub complete: bool,
    /// Path (relative, forward slashes) and message of what could not be looked at.
    pub problems: Vec<(String, String)>,
    pub misplaced: Vec<Misplaced>,
    /// The names of the maintenance windows' files, in order.
    pub windows: Vec<String>,
    /// In no particular order; empty after `visit`.
    pub files: Vec<Listed>,
}

impl Source {
    /// As `list`, but hands each file to `each` instead of collecting them: nothing is allocated to keep.
    pub fn visit(&self, each: &mut dyn FnMut(Connector, &str, FileStat)) -> Listing {
        let mut listing = Listing::default();
        match fs::read_dir(&self.root) {
            Ok(entries) => {
                listing.root = Root::Present;
                listing.misplaced.extend(odd_defaults(entries));
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => return listing,
            Err(e) => {
                listing.root = Root::Unreadable(e.to_string());
                return listing;
            }
        }
        self.list_windows(&mut listing);
        Walk { source: self, listing: &mut listing, each }.schedules();
        // A root taken away under the walk looks like a tree without files.
        if let Err(e) = self.prove_root() {
            listing.root = match e {
                SourceError::RootMissing { .. } => Root::Missing,
                other => Root::Unreadable(other.to_string()),
            };
        }
        listing.complete = listing.root == Root::Present && listing.problems.is_empty();
        listing
    }
}

struct Walk<'a> {
    source: &'a Source,
    listing: &'a mut Listing,
    each: &'a mut dyn FnMut(Connector, &str, FileStat),
}

impl Walk<'_> {
    fn schedules(&mut self) {
        let path = self.source.root.join(SCHEDULES);
        let kind = match fs::symlink_metadata(&path) {
            Ok(meta) => meta.file_type(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return,
            Err(e) => return self.problem(SCHEDULES.to_owned(), &e),
        };
        if kind.is_symlink() && !self.inside(&path, SCHEDULES) {
            return;
        }
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(e) => return self.problem(SCHEDULES.to_owned(), &e),
        };
        for entry in entries {
            match entry {
                Ok(entry) => self.connector(&entry),
                Err(e) => self.problem(SCHEDULES.to_owned(), &e),
            }
        }
    }

    /// One entry of `schedules/`, which should be a connector's folder.
    fn connector(&mut self, entry: &DirEntry) {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if ignored(&name) {
            return;
        }
        let relative = format!("{SCHEDULES}/{name}");
        let path = entry.path();
        let is_folder = match entry.file_type() {
            Ok(kind) if kind.is_symlink() => match fs::metadata(&path) {
                Ok(meta) => meta.is_dir(),
                Err(e) => return self.problem(relative, &e),
            },
            Ok(kind) => kind.is_dir(),
            Err(e) => return self.problem(relative, &e),
        };
        if !is_folder {
            let reason = if looks_like_defaults(&name) {
                MisplacedReason::OddDefaults
            } else {
                MisplacedReason::OutsideConnector
            };
            return self.misplaced(relative, reason, None);
        }
        let connector = match name.parse::<Connector>() {
            Ok(connector) => connector,
            Err(e) => return self.misplaced(relative, MisplacedReason::UnknownConnector(e.to_string()), None),
        };
        let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
        if !is_link || self.inside(&path, &relative) {
            self.tenants(connector, &path);
        }
    }

    fn tenants(&mut self, connector: Connector, folder: &Path) {
        let relative = |name: &str| format!("{SCHEDULES}/{connector}/{name}");
        let here = || format!("{SCHEDULES}/{connector}");
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(e) => return self.problem(here(), &e),
        };
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                Err(e) => {
                    self.problem(here(), &e);
                    continue;
                }
            };
            let name = entry.file_name();
            let name = name.to_string_lossy();
            match sort(&name) {
                Name::Ignored | Name::Defaults => {}
                Name::Schedule(tenant) => self.file(connector, tenant, &entry, &name),
                Name::Odd(reason) => {
                    let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
                    let reason = if is_folder { MisplacedReason::NestedDirectory } else { reason };
                    self.misplaced(relative(&name), reason, None);
                }
            }
        }
    }

    /// One entry that has a schedule's name: it is stat'ed, through a link if it leads inside.
    fn file(&mut self, connector: Connector, tenant: &str, entry: &DirEntry, name: &str) {
        let relative = || format!("{SCHEDULES}/{connector}/{name}");
        let meta = match entry.metadata() {
            Ok(meta) if meta.is_symlink() => match self.source.resolve(&entry.path()) {
                Ok(target) => fs::metadata(target),
                Err(SourceError::Escapes { .. }) => {
                    let id = id_of(connector, tenant);
                    return self.misplaced(relative(), MisplacedReason::EscapingLink, id);
                }
                // Its schedule is unknown, and only its: `stat` says so too, so that nothing is deleted.
                Err(_) => {
                    return self.misplaced(relative(), MisplacedReason::BrokenLink, id_of(connector, tenant));
                }
            },
            // Removed since its name was read: as if the walk had come a moment later.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return,
            other => other,
        };
        match meta {
            Ok(meta) if meta.is_file() => (self.each)(connector, tenant, FileStat::of(&meta)),
            Ok(meta) => self.misplaced(relative(), irregular(meta.file_type()), id_of(connector, tenant)),
            Err(e) => self.problem(relative(), &e),
        }
    }

    /// Whether a linked folder lies within the root; if not, its schedules are unknown.
    fn inside(&mut self, path: &Path, relative: &str) -> bool {
        match self.source.resolve(path) {
            Ok(_) => true,
            Err(e) => {
                if matches!(e, SourceError::Escapes { .. }) {
                    self.misplaced(relative.to_owned(), MisplacedReason::EscapingLink, None);
                }
                self.problem(relative.to_owned(), &e);
                false
            }
        }
    }

    fn problem(&mut self, path: String, error: &dyn std::fmt::Display) {
        self.listing.problems.push((path, error.to_string()));
    }

    fn misplaced(&mut self, path: String, reason: MisplacedReason, id: Option<ScheduleId>) {
        self.listing.misplaced.push(Misplaced { path, reason, id });
    }
}

fn id_of(connector: Connector, tenant: &str) -> Option<ScheduleId> {
    tenant.parse().ok().map(|tenant| ScheduleId::new(connector, tenant))
}

/// Files at the root whose names are nearly those of the fleet's defaults: whoever wrote them means them.
fn odd_defaults(entries: fs::ReadDir) -> impl Iterator<Item = Misplaced> {
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let odd = names.filter(|name| name != DefaultsFile::FLEETS_NAME && looks_like_defaults(name));
    odd.map(|path| Misplaced { path, reason: MisplacedReason::OddDefaults, id: None })
}

/// `defaults` with or without the underscore, in either of YAML's endings.
fn looks_like_defaults(name: &str) -> bool {
    let stem = name.strip_suffix(".yaml").or_else(|| name.strip_suffix(".yml"));
    stem.is_some_and(|stem| stem.strip_prefix('_').unwrap_or(stem) == "defaults")
}

fn irregular(kind: FileType) -> MisplacedReason {
    if kind.is_dir() { MisplacedReason::NestedDirectory } else { MisplacedReason::NotRegular }
}

/// What a file's name in a connector's folder says about it.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Name<'a> {
    /// The tenant's name, checked.
    Schedule(&'a str),
    /// The connector's defaults, which are read for themselves.
    Defaults,
    /// Left by an editor, git, a mount or this program; of no interest to anyone.
    Ignored,
    Odd(MisplacedReason),
}

pub(super) fn sort(name: &str) -> Name<'_> {
    if name == DefaultsFile::CONNECTORS_NAME {
        return Name::Defaults;
    }
    if ignored(name) {
        return Name::Ignored;
    }
    if let Some(tenant) = name.strip_suffix(".yaml") {
        return match tenant.parse::<Tenant>() {
            Ok(_) => Name::Schedule(tenant),
            Err(e) => Name::Odd(MisplacedReason::BadTenant(e.to_string())),
        };
    }
    let is_yml =
        name.rsplit_once('.').is_some_and(|(_, ext)| ["yml", "yaml"].iter().any(|e| ext.eq_ignore_ascii_case(e)));
    if is_yml && looks_like_defaults(name) {
        return Name::Odd(MisplacedReason::OddDefaults);
    }
    Name::Odd(if is_yml { MisplacedReason::YmlExtension } else { MisplacedReason::UnexpectedName })
}

/// Hidden files (git's, ConfigMaps' `..data`, our own temporary ones), editors' temporary and
/// backup files, and files that are there for people.
pub(super) fn ignored(name: &str) -> bool {
    const ENDINGS: [&str; 9] = ["~", ".tmp", ".temp", ".swp", ".bak", ".orig", "___jb_tmp___", "___jb_old___", ".part"];
    const NAMES: [&str; 4] = ["README.md", "README", "desktop.ini", "Thumbs.db"];
    name.starts_with('.')
        || (name.len() > 1 && name.starts_with('#') && name.ends_with('#'))
        // vim tries whether a directory can be written with a file 4913, or higher if that is taken.
        || name.bytes().all(|b| b.is_ascii_digit())
        || ENDINGS.iter().any(|ending| name.ends_with(ending))
        || NAMES.contains(&name)
}

#[cfg(test)]
mod tests;
