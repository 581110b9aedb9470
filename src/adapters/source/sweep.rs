//! Clears up after a crash in the middle of a swap: removes what is of no use, and gives back what
//! an editor saved at that moment.

use std::fs;
use std::io;
use std::path::Path;

use super::place::open;
use super::read::read_settled;
use super::rename::{exchange, rename_new};
use super::staging::STAGING;
use super::temp::{Role, Tag, short};
use super::{SCHEDULES, Source};
use crate::core::model::{Connector, Digest};

/// What a sweep did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Swept {
    /// Temporary files removed.
    pub removed: usize,
    /// Files (relative, forward slashes) that got back what a swap cut short had displaced.
    pub restored: Vec<String>,
    /// Path and message of what could not be cleared up.
    pub problems: Vec<(String, String)>,
}

impl Source {
    /// Clears up what swaps left when the program was killed. Call it at start, before the intents are
    /// replayed, and only while no other process swaps in this directory.
    pub fn sweep(&self) -> Swept {
        let mut swept = Swept::default();
        self.sweep_folder(&self.root, None, &mut swept);
        for connector in Connector::ALL {
            let name = connector.as_str();
            let (staged, targets) = (self.root.join(STAGING).join(name), self.root.join(SCHEDULES).join(name));
            self.sweep_folder(&staged, Some(&targets), &mut swept);
        }
        swept
    }

    /// Sweeps `folder`, whose temporary files belong to those in `targets`, or beside them.
    fn sweep_folder(&self, folder: &Path, targets: Option<&Path>, swept: &mut Swept) {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return,
            Err(e) => return swept.problems.push((self.relative(folder), e.to_string())),
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() && !name.starts_with('.') {
                self.sweep_folder(&entry.path(), None, swept);
            } else if let Some((file, tag)) = Tag::parse(&name) {
                let (temp, target) = (entry.path(), targets.unwrap_or(folder).join(file));
                match mend(&temp, &target, &tag) {
                    Ok(restored) => {
                        swept.removed += 1;
                        swept.restored.extend(restored.then(|| self.relative(&target)));
                    }
                    Err(e) => swept.problems.push((self.relative(&temp), e.to_string())),
                }
            }
        }
    }

    fn relative(&self, path: &Path) -> String {
        let path = path.strip_prefix(&self.root).unwrap_or(path);
        path.to_string_lossy().replace('\\', "/")
    }
}

/// Removes one temporary file, after giving its content back if it was displaced and is no one's else.
fn mend(temp: &Path, target: &Path, tag: &Tag) -> io::Result<bool> {
    let held = digest(temp)?;
    let there = digest(target)?;
    let is = |digest: &Option<Digest>, tagged: &str| digest.as_ref().is_some_and(|d| short(Some(d)) == tagged);
    let is_empty = |digest: &Option<Digest>| *digest == Some(Digest::of(b""));
    let restored = match (tag.role, &there) {
        // The exchange took place, and what it displaced is neither version we knew.
        (Role::Exchange, Some(_)) if is(&there, &tag.new) || is_empty(&there) => {
            let surprise = !is(&held, &tag.base) && !is(&held, &tag.new) && !is_empty(&held);
            if surprise {
                exchange(temp, target)?;
            }
            surprise
        }
        // Moved aside and nothing put in its place; a delete of the expected content was meant.
        (Role::Replace | Role::Delete, None) if !is_empty(&held) || is(&held, &tag.base) => {
            let wanted = tag.role == Role::Replace || !is(&held, &tag.base);
            if wanted {
                rename_new(temp, target)?;
            }
            wanted
        }
        _ => false,
    };
    match fs::remove_file(temp) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(restored),
    }
}

fn digest(path: &Path) -> io::Result<Option<Digest>> {
    let mut file = match open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let (_, bytes) = read_settled(&mut file, path).map_err(io::Error::other)?;
    Ok(Some(Digest::of(&bytes)))
}
