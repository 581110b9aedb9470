//! The two renames the standard library lacks: exchange two names, and never replace.

use std::fs;
use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
mod imp {
    use super::{Path, io};
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use rustix::io::Errno;

    pub fn rename_with(from: &Path, to: &Path, flags: RenameFlags) -> io::Result<()> {
        // What file systems and kernels say that do not know the flag; some codes share a number.
        let unknown = [Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP, Errno::NOTSUP];
        renameat_with(CWD, from, CWD, to, flags)
            .map_err(|e| if unknown.contains(&e) { io::ErrorKind::Unsupported.into() } else { e.into() })
    }

    pub fn exchange(one: &Path, other: &Path) -> io::Result<()> {
        rename_with(one, other, RenameFlags::EXCHANGE)
    }

    pub fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
        rename_with(from, to, RenameFlags::NOREPLACE)
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
mod imp {
    use super::{Path, io};

    pub fn exchange(_: &Path, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub fn rename_new(_: &Path, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Whether the platform knows the exchange; the file system may still lack it.
pub(super) const CAN_EXCHANGE: bool = cfg!(any(target_os = "linux", target_os = "android", target_vendor = "apple"));

/// Exchanges what two names stand for, at once. `Unsupported` where platform or file system cannot.
pub(super) fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    imp::exchange(one, other)
}

/// Renames, at once, unless `to` exists, which is `AlreadyExists`. `Unsupported` as for `exchange`.
pub(super) fn rename_at_once(from: &Path, to: &Path) -> io::Result<()> {
    imp::rename_new(from, to)
}

/// Renames unless `to` exists, which is `AlreadyExists`. `from` must be ours alone: where the system
/// lacks this, it takes two steps.
pub(super) fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match imp::rename_new(from, to) {
        Err(e) if e.kind() == io::ErrorKind::Unsupported => patiently(|| link_new(from, to)),
        other => other,
    }
}

/// How often what another program forbids for the moment is tried again, and after how long.
const TRIES: usize = 20;
const PAUSE: Duration = Duration::from_millis(10);

/// On Windows who has a file open may forbid others to read, rename or remove it: a virus scanner, an editor while it
/// saves. That passes, so it is tried again for a moment.
pub(super) fn patiently<T>(mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for _ in 0..TRIES {
        match attempt() {
            Err(error) if is_in_use(&error) => thread::sleep(PAUSE),
            done => return done,
        }
    }
    attempt()
}

/// `ERROR_ACCESS_DENIED`, `ERROR_SHARING_VIOLATION`, `ERROR_LOCK_VIOLATION`.
fn is_in_use(error: &io::Error) -> bool {
    cfg!(windows) && matches!(error.raw_os_error(), Some(5 | 32 | 33))
}

/// The same by a second link; without links, by a copy under a name that must be new: a reader may
/// then see half of it, but never is anything replaced.
fn link_new(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists || e.kind() == io::ErrorKind::NotFound => return Err(e),
        Err(_) => copy_new(from, to)?,
    }
    fs::remove_file(from)
}

fn copy_new(from: &Path, to: &Path) -> io::Result<()> {
    let mut source = fs::File::open(from)?;
    let mut copy = fs::OpenOptions::new().write(true).create_new(true).open(to)?;
    let copied = io::copy(&mut source, &mut copy);
    if copied.is_err() {
        let _ = fs::remove_file(to);
    }
    copied.map(drop)
}
