//! Small files that must be whole after a crash, and some of them nobody else's to read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::NotaryError;

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    ByOwner,
    ByAll,
}

pub(super) fn error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> NotaryError {
    move |reason| NotaryError::File { doing, path: path.display().to_string(), reason: reason.to_string() }
}

/// The text of a file; `None` where there is none.
pub(super) fn read(path: &Path) -> Result<Option<String>, NotaryError> {
    match fs::read(path) {
        // What is not UTF-8 will not be understood either, and the reader says so.
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(reason) => Err(error("read", path)(reason)),
    }
}

/// Puts a file in its place, whole or not at all, and on disk when this returns.
pub(super) fn replace(path: &Path, bytes: &[u8], seen: Seen) -> Result<(), NotaryError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(error("make", folder))?;
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    let write = || {
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = create(&new, seen)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        drop(file);
        fs::rename(&new, path)?;
        sync_folder(folder)
    };
    write().map_err(error("write", path))
}

#[cfg(unix)]
fn create(path: &Path, seen: Seen) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mode = if seen == Seen::ByOwner { 0o600 } else { 0o644 };
    OpenOptions::new().write(true).create_new(true).mode(mode).open(path)
}

/// The folder's own access rules hold for it.
#[cfg(not(unix))]
fn create(path: &Path, _: Seen) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path)
}

/// A new name is on disk once its folder is.
#[cfg(unix)]
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
pub(super) fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}
