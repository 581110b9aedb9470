//! The folder of maintenance windows: which files lie in it, and what one holds.

use std::fs::{self, DirEntry};
use std::io;

use super::list::ignored;
use super::{Listing, Misplaced, MisplacedReason, ReadResult, Source};
use crate::core::desired::{window_file, window_name};
use crate::core::windows::FOLDER;

impl Source {
    /// Adds the names of the windows' files, and whatever else lies between them. Without the folder
    /// there are none.
    pub(super) fn list_windows(&self, listing: &mut Listing) {
        let folder = self.root.join(FOLDER);
        let found = match fs::symlink_metadata(&folder) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return,
            Ok(meta) if meta.is_symlink() => self.resolve(&folder).map_err(|error| error.to_string()),
            _ => Ok(folder),
        };
        let entries = found.and_then(|folder| fs::read_dir(folder).map_err(|error| error.to_string()));
        let entries = entries.and_then(|entries| entries.collect::<Result<Vec<_>, _>>().map_err(|e| e.to_string()));
        match entries {
            Ok(entries) => entries.iter().for_each(|entry| sort(entry, listing)),
            Err(message) => listing.problems.push((FOLDER.to_owned(), message)),
        }
        listing.windows.sort();
    }

    /// A window's file, read as a schedule's is.
    pub fn read_window(&self, name: &str) -> ReadResult {
        self.read_at(self.root.join(window_file(name)))
    }
}

fn sort(entry: &DirEntry, listing: &mut Listing) {
    let name = entry.file_name();
    let name = name.to_string_lossy();
    if ignored(&name) {
        return;
    }
    let path = format!("{FOLDER}/{name}");
    let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
    match window_name(&path).filter(|_| !is_folder) {
        Some(name) => listing.windows.push(name.to_owned()),
        None => listing.misplaced.push(Misplaced { path, reason: MisplacedReason::NoWindow, id: None }),
    }
}
