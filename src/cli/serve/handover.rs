//! What a program that restarts hands its successor: the listening socket, so that connections wait instead of being
//! refused, and the store's locked file, so that nobody slips in between. On Unix both go through `exec`; on Windows
//! each child has them from the parent that holds them (`parent`).

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::process::Command;

use crate::core::watch::Recoveries;

/// Tells a restarted program the address that it had.
const RESUMED: &str = "COMMAND_CENTER_RESUMED_ADDR";
/// `PID:SOCKET:GIVEN:LOCK`, file descriptors of the process with that number, which is its own; GIVEN is 1 for a
/// socket that no setting asked for.
#[cfg(unix)]
const HANDED: &str = "COMMAND_CENTER_HANDED_OVER";
/// How often, and when last, the program restarted itself to recover.
const RECOVERIES: &str = "COMMAND_CENTER_RECOVERIES";
/// Why it did so the last time; for its successor alone.
const RECOVERY: &str = "COMMAND_CENTER_RECOVERY";

/// What a predecessor left.
#[derive(Default)]
pub(super) struct Inheritance {
    /// The address it listened on; `None` when there was none before.
    pub addr: Option<SocketAddr>,
    pub listener: Option<TcpListener>,
    /// The socket is of whoever starts programs here, and stays whatever the settings say.
    pub is_given: bool,
    pub lock: Option<File>,
    pub recoveries: Recoveries,
    /// Why the predecessor had to be replaced, where it helped itself.
    pub recovery: Option<String>,
}

/// What is left to a successor.
#[derive(Default)]
pub(super) struct Legacy {
    pub addr: Option<SocketAddr>,
    pub listener: Option<TcpListener>,
    #[cfg_attr(windows, expect(dead_code, reason = "nobody but the parent gives a socket there"))]
    pub is_given: bool,
    pub lock: Option<File>,
    pub recoveries: Recoveries,
    /// The program helps itself, for this reason: what comes next is to be the same, and no upgrade.
    pub recovery: Option<String>,
}

impl Inheritance {
    /// Call it once, early: what was handed over is closed to programs that this one starts. `handed` says what it is.
    pub(super) fn take(handed: Option<&str>) -> Inheritance {
        let read = |name: &str| std::env::var(name).ok();
        let addr = read(RESUMED).and_then(|addr| addr.parse().ok());
        let recoveries = read(RECOVERIES).map(|text| Recoveries::parse(&text)).unwrap_or_default();
        let system::Adopted { listener, is_given, lock } = system::adopt(handed, addr);
        let recovery = read(RECOVERY).filter(|why| !why.is_empty());
        Inheritance { addr, listener, is_given, lock, recoveries, recovery }
    }
}

impl Legacy {
    /// Has `command` find it all.
    pub(super) fn leave_to(&self, command: &mut Command) {
        if let Some(addr) = self.addr {
            command.env(RESUMED, addr.to_string());
        }
        if self.recoveries.count > 0 {
            command.env(RECOVERIES, self.recoveries.to_text());
        }
        match &self.recovery {
            Some(why) => command.env(RECOVERY, why),
            None => command.env_remove(RECOVERY),
        };
        system::bequeath(self, command);
    }
}

/// What a predecessor in this process said of what it hands over.
#[cfg(unix)]
pub(super) fn handed() -> Option<String> {
    std::env::var(HANDED).ok()
}

#[cfg(unix)]
mod system {
    use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

    use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};

    use super::*;

    pub(super) struct Adopted {
        pub listener: Option<TcpListener>,
        pub is_given: bool,
        pub lock: Option<File>,
    }

    /// Leaves the descriptors open for what is executed in this process's place.
    pub(super) fn bequeath(legacy: &Legacy, command: &mut Command) {
        let keep = |fd: Option<BorrowedFd<'_>>| {
            let fd = fd.filter(|fd| fcntl_setfd(fd, FdFlags::empty()).is_ok());
            fd.map_or(-1, |fd| fd.as_raw_fd())
        };
        let listener = keep(legacy.listener.as_ref().map(|listener| listener.as_fd()));
        let lock = keep(legacy.lock.as_ref().map(|lock| lock.as_fd()));
        command.env(HANDED, format!("{}:{listener}:{}:{lock}", std::process::id(), i32::from(legacy.is_given)));
    }

    /// The socket and the lock that were handed over, each if it is what it should be.
    pub(super) fn adopt(handed: Option<&str>, addr: Option<SocketAddr>) -> Adopted {
        let Some((socket, given, lock)) = handed.and_then(descriptors) else {
            return Adopted { listener: activated(), is_given: true, lock: None };
        };
        let listener = own(socket).and_then(|fd| listening(fd, addr));
        Adopted { listener, is_given: given == 1, lock: own(lock).map(File::from) }
    }

    fn descriptors(text: &str) -> Option<(RawFd, i32, RawFd)> {
        let mut parts = text.split(':');
        let mut next = || parts.next()?.parse::<RawFd>().ok();
        let (pid, socket, given, lock) = (next()?, next()?, next()?, next()?);
        // What a grandchild finds in its environment was not meant for it.
        (u32::try_from(pid) == Ok(std::process::id())).then_some((socket, given, lock))
    }

    /// The first socket of systemd's, when it started this program by socket activation.
    fn activated() -> Option<TcpListener> {
        let number = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
        let is_ours = number("LISTEN_PID")? == std::process::id() && number("LISTEN_FDS")? >= 1;
        is_ours.then(|| own(3)).flatten().and_then(|fd| listening(fd, None))
    }

    /// A listening socket, on that address if one is given.
    fn listening(fd: OwnedFd, addr: Option<SocketAddr>) -> Option<TcpListener> {
        if !is_listening(&fd) {
            return None;
        }
        let listener = TcpListener::from(fd);
        let bound = listener.local_addr().ok()?;
        (addr.is_none_or(|addr| addr == bound) && listener.set_nonblocking(true).is_ok()).then_some(listener)
    }

    #[cfg(not(target_vendor = "apple"))]
    fn is_listening(fd: &OwnedFd) -> bool {
        rustix::net::sockopt::socket_acceptconn(fd).unwrap_or(false)
    }

    /// Nothing tells there; but what has an address and no peer can only be that.
    #[cfg(target_vendor = "apple")]
    fn is_listening(fd: &OwnedFd) -> bool {
        let is_stream = rustix::net::sockopt::socket_type(fd).is_ok_and(|kind| kind == rustix::net::SocketType::STREAM);
        is_stream && rustix::net::getpeername(fd).is_err()
    }

    /// Takes an open descriptor over, closed to programs that this one starts.
    #[expect(unsafe_code, reason = "a number from the predecessor is the only name a descriptor has")]
    fn own(fd: RawFd) -> Option<OwnedFd> {
        if fd < 3 {
            return None;
        }
        // SAFETY: borrowed for one call, which only asks whether it is open.
        fcntl_getfd(unsafe { BorrowedFd::borrow_raw(fd) }).ok()?;
        // SAFETY: open, and nobody else's: this runs before the program opens anything that it keeps, and the
        // predecessor, which named it for this very process, is gone.
        let owned = unsafe { OwnedFd::from_raw_fd(fd) };
        fcntl_setfd(&owned, FdFlags::CLOEXEC).ok()?;
        Some(owned)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn only_a_listening_socket_on_the_address_is_taken() {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let addr = listener.local_addr().unwrap();
            let copy = || OwnedFd::from(listener.try_clone().unwrap());
            assert_eq!(listening(copy(), Some(addr)).unwrap().local_addr().unwrap(), addr);
            assert!(listening(copy(), Some("127.0.0.1:1".parse().unwrap())).is_none());
            let client = std::net::TcpStream::connect(addr).unwrap();
            assert!(listening(OwnedFd::from(client), None).is_none());
            assert!(listening(OwnedFd::from(tempfile::tempfile().unwrap()), None).is_none());
            assert!(own(-1).is_none() && own(1_000_000).is_none());
        }

        #[test]
        fn what_was_left_to_another_process_is_not_taken() {
            let pid = std::process::id();
            assert_eq!(descriptors(&format!("{pid}:5:0:-1")), Some((5, 0, -1)));
            assert_eq!(descriptors(&format!("{}:5:0:6", pid + 1)), None);
            assert_eq!(descriptors("x"), None);
        }
    }
}

#[cfg(windows)]
mod system {
    use std::os::windows::io::{AsHandle as _, AsRawHandle as _, AsRawSocket};

    use super::super::windows;
    use super::*;

    pub(super) struct Adopted {
        pub listener: Option<TcpListener>,
        pub is_given: bool,
        pub lock: Option<File>,
    }

    /// Leaves the handles open for the child, which finds their numbers as `SOCKET:LOCK`. An argument, since that
    /// goes to the child alone: an environment goes on to the programs that it starts.
    pub(super) fn bequeath(legacy: &Legacy, command: &mut Command) {
        let listener = legacy.listener.as_ref().filter(|listener| windows::let_socket_pass(listener, true).is_ok());
        let lock = legacy.lock.as_ref().filter(|lock| windows::let_pass(lock.as_handle(), true).is_ok());
        let listener = listener.map_or(0, AsRawSocket::as_raw_socket);
        let lock = lock.map_or(0, |lock| lock.as_raw_handle() as usize);
        command.arg("--handed").arg(format!("{listener}:{lock}"));
    }

    /// The socket and the lock's file that the parent holds, each if it is what it should be.
    pub(super) fn adopt(handed: Option<&str>, addr: Option<SocketAddr>) -> Adopted {
        let numbers = handed.and_then(|text| text.split_once(':'));
        let (socket, lock) = numbers.map_or((None, None), |(socket, lock)| (socket.parse().ok(), lock.parse().ok()));
        let listener = socket.filter(|number| *number != 0).and_then(windows::own_listener).filter(|listener| {
            let bound = listener.local_addr();
            bound.is_ok_and(|bound| addr.is_none_or(|addr| addr == bound)) && listener.set_nonblocking(true).is_ok()
        });
        let lock = lock.filter(|number| *number != 0).and_then(windows::own_file);
        Adopted { listener, is_given: false, lock }
    }
}
