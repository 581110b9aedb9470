//! The few calls to Windows that the standard library does not make: what a child inherits, a lock that leaves the
//! file's beginning free, the job that ends a child with its parent, and Ctrl-C that a parent outlives.
#![expect(unsafe_code, reason = "the system's own functions, and handles that are known by their numbers alone")]

use std::fs::{File, OpenOptions};
use std::io;
use std::net::TcpListener;
use std::os::windows::io::{
    AsHandle as _, AsRawHandle as _, BorrowedHandle, FromRawHandle as _, FromRawSocket as _, OwnedHandle, OwnedSocket,
};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use windows_sys::Win32::Foundation::{FALSE, HANDLE, HANDLE_FLAG_INHERIT, SetHandleInformation, TRUE};
use windows_sys::Win32::Storage::FileSystem::LockFile;
use windows_sys::Win32::System::Console::{CTRL_BREAK_EVENT, CTRL_C_EVENT, CTRL_LOGOFF_EVENT, SetConsoleCtrlHandler};
use windows_sys::Win32::System::JobObjects::{
    AssignProcessToJobObject, CreateJobObjectW, JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE,
    JOBOBJECT_EXTENDED_LIMIT_INFORMATION, JobObjectExtendedLimitInformation, SetInformationJobObject,
};
use windows_sys::Win32::System::Threading::GetCurrentProcess;
use windows_sys::core::BOOL;

fn done(answer: BOOL) -> io::Result<()> {
    if answer == FALSE { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Whether programs that are started from now on inherit the handle.
pub(super) fn let_pass(handle: BorrowedHandle<'_>, is_let: bool) -> io::Result<()> {
    let flag = if is_let { HANDLE_FLAG_INHERIT } else { 0 };
    // SAFETY: the handle is borrowed, hence open; only a flag of it changes.
    done(unsafe { SetHandleInformation(handle.as_raw_handle(), HANDLE_FLAG_INHERIT, flag) })
}

pub(super) fn let_socket_pass(listener: &TcpListener, is_let: bool) -> io::Result<()> {
    // A borrowed `SockRef` has no such call of its own, and derefs to the `Socket` that has.
    socket2::SockRef::from(listener).set_no_inherit(!is_let)
}

/// The socket with this number, which the parent left open for this process; closed to programs that it starts.
pub(super) fn own_listener(number: u64) -> Option<TcpListener> {
    // SAFETY: the parent named it in an argument, which nobody else gets, and this runs once, before the program opens
    // anything that it keeps. Should it be no socket all the same, every call with it fails.
    let listener = TcpListener::from(unsafe { OwnedSocket::from_raw_socket(number) });
    let_socket_pass(&listener, false).ok().map(|()| listener)
}

/// The file with this number, likewise.
pub(super) fn own_file(number: usize) -> Option<File> {
    // SAFETY: as above.
    let file = File::from(unsafe { OwnedHandle::from_raw_handle(std::ptr::without_provenance_mut(number)) });
    let is_file = file.metadata().is_ok_and(|meta| meta.is_file());
    (is_file && let_pass(file.as_handle(), false).is_ok()).then_some(file)
}

/// Opens the file and locks it for this process, all but its beginning: nobody else can lock the whole of it, and a
/// child may still write there, to whom the lock of its parent is somebody else's.
pub(super) fn lock(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
    // SAFETY: the file is open; the call takes numbers only. From 4 GB on, far behind any end of the file.
    done(unsafe { LockFile(file.as_raw_handle(), 0, 1, u32::MAX, 0x7FFF_FFFE) })?;
    Ok(file)
}

/// Puts this process and all that it starts into a job that ends with it, however it ends.
pub(super) fn take_children_along() -> io::Result<()> {
    // SAFETY: without attributes and a name.
    let job: HANDLE = unsafe { CreateJobObjectW(std::ptr::null(), std::ptr::null()) };
    if job.is_null() {
        return Err(io::Error::last_os_error());
    }
    let mut limits = JOBOBJECT_EXTENDED_LIMIT_INFORMATION::default();
    limits.BasicLimitInformation.LimitFlags = JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE;
    let size = u32::try_from(size_of_val(&limits)).unwrap_or(0);
    // SAFETY: the job is open, and the structure is the one that belongs to this class, with its size.
    done(unsafe { SetInformationJobObject(job, JobObjectExtendedLimitInformation, (&raw const limits).cast(), size) })?;
    // SAFETY: both handles are valid. The job's is never closed by this process: its end does that.
    done(unsafe { AssignProcessToJobObject(job, GetCurrentProcess()) })
}

static IS_INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Whether Ctrl-C or the like has come.
pub(super) fn is_interrupted() -> bool {
    IS_INTERRUPTED.load(Ordering::Relaxed)
}

/// The console tells all its processes: the child ends by itself, and this one waits for it.
pub(super) fn outlive_interrupts() -> io::Result<()> {
    unsafe extern "system" fn heard(event: u32) -> BOOL {
        if event == CTRL_LOGOFF_EVENT {
            // Services hear of every user's; what of it concerns this program the system does by itself.
            return FALSE;
        }
        IS_INTERRUPTED.store(true, Ordering::Relaxed);
        if matches!(event, CTRL_C_EVENT | CTRL_BREAK_EVENT) {
            return TRUE;
        }
        // Once a handler returns from any other event, the process is ended at once.
        loop {
            std::thread::sleep(Duration::from_secs(1));
        }
    }
    // SAFETY: the handler stays as long as the process, and only touches an atomic of its own.
    done(unsafe { SetConsoleCtrlHandler(Some(heard), TRUE) })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn the_lock_keeps_others_off_and_leaves_the_beginning_free() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db.lock");
        let held = lock(&path).unwrap();
        let mut other = OpenOptions::new().write(true).open(&path).unwrap();
        assert!(other.try_lock().is_err() && lock(&path).is_err());
        other.write_all(b"a mark").unwrap();
        drop(held);
        other.try_lock().unwrap();
    }

    #[test]
    fn what_passed_is_owned_by_its_number() {
        use std::os::windows::io::{IntoRawHandle as _, IntoRawSocket as _};
        let (file, listener) = (tempfile::tempfile().unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let addr = listener.local_addr().unwrap();
        let_pass(file.as_handle(), true).unwrap();
        let_socket_pass(&listener, true).unwrap();
        assert!(own_file(file.into_raw_handle() as usize).is_some());
        assert_eq!(own_listener(listener.into_raw_socket()).unwrap().local_addr().unwrap(), addr);
    }
}
