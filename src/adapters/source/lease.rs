//! Tells whether someone has a file open for writing, and holds off who comes next: Linux's read
//! lease. Elsewhere, and where the file is another user's, nothing can be told. One gap is left: an
//! `open` that has found the file but not yet counted itself in is not seen, should it be held up
//! for longer than a swap takes.

use std::fs::File;

/// What could be told about a file's writers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Writers {
    /// None; one that comes now waits until the file is closed here.
    None,
    /// Someone has it open for writing.
    Some,
    /// Neither platform nor file system, or not for this user, can tell.
    Unknown,
}

#[cfg(all(any(target_os = "linux", target_os = "android"), any(target_arch = "x86_64", target_arch = "aarch64")))]
#[expect(unsafe_code, reason = "no crate offers leases; two calls of fcntl without a pointer")]
mod imp {
    use super::{File, Writers};
    use std::os::fd::AsRawFd;

    /// Missing in `libc`; this number on the architectures above.
    const F_SETSIG: libc::c_int = 10;

    pub fn hold_off(file: &File) -> Writers {
        let fd = file.as_raw_fd();
        // The signal that a writer waits must be one that is ignored unless asked for; the usual one kills.
        // SAFETY: plain calls on a descriptor that `file` keeps open; no memory is handed over.
        let taken = unsafe {
            libc::fcntl(fd, F_SETSIG, libc::SIGURG) == 0 && libc::fcntl(fd, libc::F_SETLEASE, libc::F_RDLCK) == 0
        };
        if taken {
            return Writers::None;
        }
        match std::io::Error::last_os_error().kind() {
            std::io::ErrorKind::WouldBlock => Writers::Some,
            _ => Writers::Unknown,
        }
    }

    pub fn hold_off_everyone(file: &File) -> bool {
        let fd = file.as_raw_fd();
        // SAFETY: as above.
        unsafe { libc::fcntl(fd, F_SETSIG, libc::SIGURG) == 0 && libc::fcntl(fd, libc::F_SETLEASE, libc::F_WRLCK) == 0 }
    }

    pub fn is_held_from_everyone(file: &File) -> bool {
        // SAFETY: as above. Anything else says that somebody waits.
        (unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETLEASE) }) == libc::F_WRLCK
    }

    pub fn is_awaited(file: &File) -> bool {
        // SAFETY: as above.
        (unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETLEASE) }) == libc::F_UNLCK
    }
}

#[cfg(not(all(
    any(target_os = "linux", target_os = "android"),
    any(target_arch = "x86_64", target_arch = "aarch64")
)))]
mod imp {
    use super::{File, Writers};

    pub fn hold_off(_: &File) -> Writers {
        Writers::Unknown
    }

    pub fn hold_off_everyone(_: &File) -> bool {
        false
    }

    pub fn is_held_from_everyone(_: &File) -> bool {
        false
    }

    pub fn is_awaited(_: &File) -> bool {
        false
    }
}

/// Looks for writers of `file`, which is open for reading only; if there are none, none gets in
/// before it is closed.
pub(super) fn hold_off(file: &File) -> Writers {
    imp::hold_off(file)
}

/// Looks for anyone at all who has `file` open, which is open for writing; true if there is none, and
/// then none gets in before it is closed.
pub(super) fn hold_off_everyone(file: &File) -> bool {
    imp::hold_off_everyone(file)
}

/// Whether everyone is held off from `file` and nobody waits for it.
pub(super) fn is_held_from_everyone(file: &File) -> bool {
    imp::is_held_from_everyone(file)
}

/// Whether a writer waits for a file from which writers are held off.
pub(super) fn is_awaited(file: &File) -> bool {
    // One that found the file under its old name may have been put off the processor by our own
    // coming in; it gets the turn back before it is looked for.
    std::thread::yield_now();
    imp::is_awaited(file)
}
