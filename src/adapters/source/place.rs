//! Where a schedule's file really is: links are followed within the root and never out of it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
#[cfg(unix)]
use std::time::Duration;

#[cfg(not(unix))]
use super::rename::patiently;
use super::{SCHEDULES, Source, SourceError};
use crate::core::model::{Connector, ScheduleId};

/// Set on open so that a link put in the file's place is not followed, nor a FIFO waited for.
#[cfg(unix)]
const OPEN_FLAGS: i32 = {
    let flags = rustix::fs::OFlags::NOFOLLOW.union(rustix::fs::OFlags::NONBLOCK);
    flags.bits().cast_signed()
};

impl Source {
    /// The connector's folder, proven to lie within the root. It need not exist.
    pub(super) fn folder(&self, connector: Connector) -> Result<PathBuf, SourceError> {
        let schedules = self.root.join(SCHEDULES);
        let folder = schedules.join(connector.as_str());
        if is_link(&schedules)? || is_link(&folder)? {
            self.resolve(&folder)?;
        }
        Ok(folder)
    }

    /// The schedule's own path; it may be missing, or a link.
    pub(super) fn path(&self, id: &ScheduleId) -> Result<PathBuf, SourceError> {
        Ok(in_folder(self.folder(id.connector)?, id))
    }

    /// Whether files can be made and exchanged in the connector's folder, by its permissions and mount.
    #[cfg(unix)]
    pub fn check_writable(&self, connector: Connector) -> Result<(), SourceError> {
        use rustix::fs::{Access, AtFlags, CWD, accessat};
        let folder = self.folder(connector)?;
        let checked = accessat(CWD, &folder, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS);
        checked.map_err(|error| SourceError::write(&folder, error.into()))
    }

    /// Whether files can be made and exchanged in the connector's folder: here only trying tells.
    #[cfg(not(unix))]
    pub fn check_writable(&self, _: Connector) -> Result<(), SourceError> {
        Ok(())
    }

    /// What a link finally leads to, which must lie within the root.
    pub(super) fn resolve(&self, link: &Path) -> Result<PathBuf, SourceError> {
        let root = fs::canonicalize(&self.root).map_err(|e| self.root_error(e))?;
        let target = fs::canonicalize(link).map_err(|e| SourceError::stat(link, e))?;
        if target.starts_with(&root) { Ok(target) } else { Err(SourceError::Escapes { path: link.to_owned() }) }
    }

    /// Whether the root is there and is a directory: only then can a missing file be believed.
    pub(super) fn prove_root(&self) -> Result<(), SourceError> {
        match fs::metadata(&self.root) {
            Ok(meta) if meta.is_dir() => Ok(()),
            Ok(_) => Err(self.root_error(io::ErrorKind::NotADirectory.into())),
            Err(e) => Err(self.root_error(e)),
        }
    }

    fn root_error(&self, error: io::Error) -> SourceError {
        match error.kind() {
            io::ErrorKind::NotFound => SourceError::RootMissing { path: self.root.clone() },
            _ => SourceError::stat(&self.root, error),
        }
    }
}

/// The schedule's file in its connector's folder.
pub(super) fn in_folder(mut folder: PathBuf, id: &ScheduleId) -> PathBuf {
    let mut name = String::with_capacity(id.tenant.as_str().len() + 5);
    name.push_str(id.tenant.as_str());
    name.push_str(".yaml");
    folder.push(name);
    folder
}

/// How often an `open` that meets an edit of ours is tried again, a millisecond apart.
#[cfg(unix)]
const TRIES: usize = 20;

/// Opens a file for reading without following a link in its last component.
#[cfg(unix)]
pub(super) fn open(path: &Path) -> io::Result<fs::File> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = fs::OpenOptions::new();
    options.read(true).custom_flags(OPEN_FLAGS);
    for _ in 0..TRIES {
        match options.open(path) {
            // Displaced this moment, and held by the edit that did it.
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(Duration::from_millis(1)),
            opened => return opened,
        }
    }
    options.open(path)
}

/// Opens a file for reading and writing, if it can be had at once and is no link.
#[cfg(unix)]
pub(super) fn open_to_write(path: &Path) -> io::Result<fs::File> {
    use std::os::unix::fs::OpenOptionsExt;
    fs::OpenOptions::new().read(true).write(true).custom_flags(OPEN_FLAGS).open(path)
}

/// Opens a file for reading without following a link in its last component.
#[cfg(not(unix))]
pub(super) fn open(path: &Path) -> io::Result<fs::File> {
    if fs::symlink_metadata(path)?.is_symlink() {
        return Err(io::ErrorKind::Unsupported.into());
    }
    patiently(|| fs::File::open(path))
}

/// A file cannot be had for oneself alone here; see `lease`.
#[cfg(not(unix))]
pub(super) fn open_to_write(_: &Path) -> io::Result<fs::File> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Whether `open` failed because the path is a link.
#[cfg(unix)]
pub(super) fn found_link(error: &io::Error) -> bool {
    use rustix::io::Errno;
    // FreeBSD says MLINK.
    [Errno::LOOP, Errno::MLINK].iter().any(|e| error.raw_os_error() == Some(e.raw_os_error()))
}

/// Whether `open` failed because the path is a link.
#[cfg(not(unix))]
pub(super) fn found_link(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Unsupported
}

/// A path that is missing is no link.
fn is_link(path: &Path) -> Result<bool, SourceError> {
    match fs::symlink_metadata(path) {
        Ok(meta) => Ok(meta.is_symlink()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(SourceError::stat(path, e)),
    }
}
