//! The checkpoints kept beside the database: a file a day, appended to and synced. A day that is long
//! past keeps its last one, which vouches for all before it.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use super::NotaryError;
use super::files::{self, error, sync_folder};
use crate::core::audit::{Signed, read_kept};
use crate::core::model::Millis;
use crate::core::timing::iso;

const DAY_MS: Millis = 24 * 3600 * 1000;
/// Days of which every checkpoint is kept.
const WHOLE_DAYS: Millis = 7;

/// A folder of kept checkpoints.
pub struct Kept {
    folder: PathBuf,
}

impl Kept {
    pub fn at(data_dir: &Path) -> Kept {
        Kept { folder: data_dir.join("checkpoints") }
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The files, oldest first; none where there is no folder.
    pub(super) fn files(&self) -> Result<Vec<PathBuf>, NotaryError> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(reason) => return Err(error("read", &self.folder)(reason)),
        };
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let mut files: Vec<PathBuf> =
            paths.filter(|path| path.extension().is_some_and(|extension| extension == "log")).collect();
        files.sort();
        Ok(files)
    }

    /// Every checkpoint, in the order they were made, and how many places hold none that can be read.
    pub fn all(&self) -> Result<(Vec<Signed>, u32), NotaryError> {
        let (mut all, mut unreadable) = (Vec::new(), 0);
        for file in self.files()? {
            let (found, bad) = read_kept(&files::read(&file)?.unwrap_or_default());
            all.extend(found);
            unreadable += bad;
        }
        Ok((all, unreadable))
    }

    /// The store's checkpoint that came last.
    pub fn last(&self, origin: &str) -> Result<Option<Signed>, NotaryError> {
        self.newest(|signed| signed.checkpoint.origin == origin)
    }

    /// The last checkpoint of those that are asked for: also of a store that cannot be asked for its name.
    pub fn newest(&self, is_asked_for: impl Fn(&Signed) -> bool) -> Result<Option<Signed>, NotaryError> {
        for file in self.files()?.iter().rev() {
            let (found, _) = read_kept(&files::read(file)?.unwrap_or_default());
            if let Some(last) = found.into_iter().rfind(&is_asked_for) {
                return Ok(Some(last));
            }
        }
        Ok(None)
    }

    /// Adds one; on disk when this returns.
    pub(super) fn append(&self, signed: &Signed) -> Result<(), NotaryError> {
        self.make_folder().map_err(error("make", &self.folder))?;
        let path = self.folder.join(format!("{}.log", day(signed.checkpoint.at)));
        let is_new = !path.exists();
        let write = || {
            let mut file = OpenOptions::new().read(true).append(true).create(true).open(&path)?;
            // What a crash tore off must not run into this one.
            let text = if ends_clean(&mut file)? { String::new() } else { "\n\n".to_owned() };
            file.write_all(format!("{text}{}\n", signed.note).as_bytes())?;
            file.sync_all()?;
            if is_new { sync_folder(&self.folder) } else { Ok(()) }
        };
        write().map_err(error("write", &path))?;
        if is_new { self.thin(signed.checkpoint.at) } else { Ok(()) }
    }

    /// A new folder is there after a power cut once the one above it is on disk.
    fn make_folder(&self) -> io::Result<()> {
        if self.folder.is_dir() {
            return Ok(());
        }
        fs::create_dir_all(&self.folder)?;
        self.folder.parent().map_or(Ok(()), sync_folder)
    }

    /// Leaves of each day that is long past the last checkpoint.
    fn thin(&self, now: Millis) -> Result<(), NotaryError> {
        let bound = format!("{}.log", day(now - WHOLE_DAYS * DAY_MS));
        for file in self.files()? {
            if file.file_name().is_none_or(|name| name >= bound.as_str()) {
                break;
            }
            let (found, unreadable) = read_kept(&files::read(&file)?.unwrap_or_default());
            if let ([_, .., last], 0) = (found.as_slice(), unreadable)
                && found.iter().all(|one| one.checkpoint.origin == last.checkpoint.origin)
            {
                files::replace(&file, format!("{}\n", last.note).as_bytes(), files::Seen::ByAll)?;
            }
        }
        Ok(())
    }

    /// Moves checkpoints of entries after `seq`, of one store or of whichever lay here, to a file that is not
    /// read any more; returns how many. For whoever knows that these entries are lost.
    pub fn set_aside_after(&self, origin: Option<&str>, seq: i64, now: Millis) -> Result<u64, NotaryError> {
        let aside = self.folder.join(format!("set-aside-{}.txt", iso(now).replace(':', "")));
        let mut moved = Vec::new();
        let mut rest = Vec::new();
        for file in self.files()? {
            let (found, _) = read_kept(&files::read(&file)?.unwrap_or_default());
            let (gone, stays): (Vec<Signed>, Vec<Signed>) = found.into_iter().partition(|signed| {
                origin.is_none_or(|origin| signed.checkpoint.origin == origin) && signed.checkpoint.head.seq > seq
            });
            if !gone.is_empty() {
                moved.extend(gone);
                rest.push((file, stays));
            }
        }
        if moved.is_empty() {
            return Ok(0);
        }
        // First there, then gone here: a crash between the two leaves both.
        files::replace(&aside, texts(&moved).as_bytes(), files::Seen::ByAll)?;
        for (file, stays) in rest {
            files::replace(&file, texts(&stays).as_bytes(), files::Seen::ByAll)?;
        }
        Ok(moved.len() as u64)
    }
}

fn texts(all: &[Signed]) -> String {
    all.iter().map(|signed| format!("{}\n", signed.note)).collect()
}

/// The day in UTC, as files are named by it.
fn day(at: Millis) -> String {
    iso(at).chars().take(10).collect()
}

/// Whether the file is empty or ends with a blank line.
fn ends_clean(file: &mut fs::File) -> io::Result<bool> {
    let length = file.seek(SeekFrom::End(0))?;
    if length < 2 {
        return Ok(length == 0);
    }
    file.seek(SeekFrom::End(-2))?;
    let mut end = [0; 2];
    file.read_exact(&mut end)?;
    Ok(&end == b"\n\n")
}
