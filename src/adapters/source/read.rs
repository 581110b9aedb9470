//! Reads one schedule's file so that stat and bytes belong together, and syncs what was written.

use std::collections::BTreeSet;
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};

use super::place::{found_link, in_folder, open};
use super::{FileStat, Source, SourceError};
use crate::core::desired::DefaultsFile;
use crate::core::model::ScheduleId;

/// The largest file that is read; a schedule has a few hundred bytes.
pub const MAX_FILE_BYTES: usize = 1024 * 1024;

/// How often a file that changes while it is read is read again.
const TRIES: usize = 5;

/// From this many files on, one sync of the whole file system is cheaper than one a file.
#[cfg(any(target_os = "linux", target_os = "android"))]
const SYNC_ALL_FROM: usize = 32;

/// What reading a file gives; see [`Source::read`].
pub type ReadResult = Result<Option<(FileStat, Vec<u8>)>, SourceError>;

impl Source {
    /// The file's stat; `Ok(None)` is proven absence: the root is there and readable, the file is not.
    pub fn stat(&self, id: &ScheduleId) -> Result<Option<FileStat>, SourceError> {
        let path = self.path(id)?;
        let mut meta = match fs::symlink_metadata(&path) {
            Ok(meta) => meta,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return self.prove_root().map(|()| None),
            Err(e) => return Err(SourceError::stat(&path, e)),
        };
        if meta.is_symlink() {
            let target = self.resolve(&path)?;
            meta = fs::metadata(&target).map_err(|e| SourceError::stat(&path, e))?;
        }
        if meta.is_file() { Ok(Some(FileStat::of(&meta))) } else { Err(SourceError::NotRegular { path }) }
    }

    /// The file's bytes and the stat they were read under; `Ok(None)` is proven absence, as in `stat`.
    pub fn read(&self, id: &ScheduleId) -> ReadResult {
        self.read_in(self.folder(id.connector)?, id)
    }

    /// Reads many files as `read` does, which proves where a connector's folder lies once for all of them.
    pub fn read_each(&self, ids: &[ScheduleId], mut each: impl FnMut(&ScheduleId, ReadResult)) {
        let mut proven = None;
        for id in ids {
            let folder = match &proven {
                Some((connector, folder)) if *connector == id.connector => Ok(PathBuf::clone(folder)),
                _ => self.folder(id.connector),
            };
            each(
                id,
                folder.and_then(|folder| {
                    let found = self.read_in(folder.clone(), id);
                    proven = Some((id.connector, folder));
                    found
                }),
            );
        }
    }

    /// A file of defaults, read as a schedule's is.
    pub fn read_defaults(&self, file: DefaultsFile) -> ReadResult {
        match file {
            DefaultsFile::Fleet => self.read_at(self.root.join(file.name())),
            DefaultsFile::Of(connector) => self.read_at(self.folder(connector)?.join(file.name())),
        }
    }

    fn read_in(&self, folder: PathBuf, id: &ScheduleId) -> ReadResult {
        self.read_at(in_folder(folder, id))
    }

    pub(super) fn read_at(&self, path: PathBuf) -> ReadResult {
        let mut file = match open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return self.prove_root().map(|()| None),
            Err(e) if found_link(&e) => {
                let target = self.resolve(&path)?;
                open(&target).map_err(|e| SourceError::read(&path, e))?
            }
            Err(e) => return Err(SourceError::read(&path, e)),
        };
        let (meta, bytes) = read_settled(&mut file, &path)?;
        Ok(Some((FileStat::of(&meta), bytes)))
    }

    /// Removes temporary files that no edit has needed for a while.
    pub fn trim(&self) {
        self.spares.trim();
    }

    /// Makes the files' present content, or their absence, survive a power cut. Blocks on the disk.
    pub fn sync(&self, ids: &[ScheduleId]) -> io::Result<()> {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if ids.len() >= SYNC_ALL_FROM {
            return self.sync_file_systems(ids);
        }
        let mut folders = BTreeSet::new();
        for id in ids {
            let path = self.sync_path(id)?;
            match sync_file(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
            folders.extend(path.parent().map(Path::to_owned));
        }
        folders.iter().try_for_each(|folder| sync_folder(folder))
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn sync_file_systems(&self, ids: &[ScheduleId]) -> io::Result<()> {
        let connectors: BTreeSet<_> = ids.iter().map(|id| id.connector).collect();
        for connector in connectors {
            let folder = self.folder(connector).map_err(io::Error::other)?;
            match File::open(folder) {
                Ok(folder) => rustix::fs::syncfs(folder)?,
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn sync_path(&self, id: &ScheduleId) -> io::Result<PathBuf> {
        let path = self.path(id).map_err(io::Error::other)?;
        // A link's target is what was written, and its folder what the name was exchanged in.
        match fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_symlink() => self.resolve(&path).map_err(io::Error::other),
            _ => Ok(path),
        }
    }
}

/// Reads until two stats around the bytes agree.
pub(super) fn read_settled(file: &mut File, path: &Path) -> Result<(Metadata, Vec<u8>), SourceError> {
    let fail = |e| SourceError::read(path, e);
    let mut before = regular(file, path)?;
    for _ in 0..TRIES {
        let bytes = read_capped(file, before.len(), path)?;
        let after = regular(file, path)?;
        if FileStat::of(&after) == FileStat::of(&before) && bytes.len() as u64 == before.len() {
            return Ok((after, bytes));
        }
        before = after;
        file.rewind().map_err(fail)?;
    }
    Err(SourceError::Restless { path: path.to_owned() })
}

fn read_capped(file: &mut File, size: u64, path: &Path) -> Result<Vec<u8>, SourceError> {
    let too_large = || SourceError::TooLarge { path: path.to_owned(), limit: MAX_FILE_BYTES };
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    if size > MAX_FILE_BYTES {
        return Err(too_large());
    }
    // With a spare byte, one call reads the whole file and shows that it is no longer than was said;
    // what came of a shorter one, the stat after it shows.
    let mut bytes = vec![0; size + 1];
    let mut length = 0;
    while length < size {
        match file.read(&mut bytes[length..]) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(SourceError::read(path, e)),
        }
    }
    bytes.truncate(length);
    Ok(bytes)
}

fn regular(file: &File, path: &Path) -> Result<Metadata, SourceError> {
    let meta = file.metadata().map_err(|e| SourceError::stat(path, e))?;
    if meta.is_file() { Ok(meta) } else { Err(SourceError::NotRegular { path: path.to_owned() }) }
}

#[cfg(unix)]
fn sync_file(path: &Path) -> io::Result<()> {
    open(path)?.sync_all()
}

/// Flushing needs a handle that may write.
#[cfg(not(unix))]
fn sync_file(path: &Path) -> io::Result<()> {
    fs::OpenOptions::new().write(true).open(path)?.sync_all()
}

#[cfg(unix)]
fn sync_folder(path: &Path) -> io::Result<()> {
    match File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        folder => folder?.sync_all(),
    }
}

/// Directories cannot be flushed here; the file system's journal keeps names with their files.
#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "the counterpart can fail")]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}
