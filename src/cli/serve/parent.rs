//! Windows has no `exec`, so that `serve` is two processes there. A thin parent, without a runtime or a database, holds
//! the listening socket and the store's lock, and starts the server as its child, anew whenever that asks for it. What
//! it makes of a child's end is decided here for every system; the calls to Windows stand in `windows`.

use std::net::SocketAddr;

use crate::core::model::Millis;
use crate::core::watch::Recoveries;

/// With these codes a child asks to be started anew, with the second to recover. No program ends with them by itself.
/// An upgrade in place changes the child alone: they and `--handed` stay as they are.
const RESTART: i32 = 0x4343_0001;
const RECOVER: i32 = 0x4343_0002;

/// The code with which a child ends that is to be started anew.
pub(super) fn code_of_restart(is_recovery: bool) -> i32 {
    if is_recovery { RECOVER } else { RESTART }
}

/// What follows on a child's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// The parent ends too, with this code.
    End(i32),
    /// Another child, which is told of these recoveries, and whether the last one helped itself.
    Start(Recoveries, Asked),
}

/// Why a child asked for a successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    ByCaller,
    ToRecover,
}

/// `is_stopping`: a person or the system has asked for the end meanwhile.
fn after(code: i32, is_stopping: bool, recoveries: Recoveries, now: Millis) -> Next {
    match code {
        RESTART | RECOVER if is_stopping => Next::End(0),
        RESTART => Next::Start(recoveries, Asked::ByCaller),
        // The child asked itself whether it may; only the clock has gone on since.
        RECOVER => Next::Start(
            recoveries.one_more(now).unwrap_or(Recoveries { count: recoveries.count.saturating_add(1), last: now }),
            Asked::ToRecover,
        ),
        code => Next::End(code),
    }
}

/// Whether a socket on `bound` serves settings that ask for `addr`; port 0 asks for any.
fn serves(bound: Option<SocketAddr>, addr: SocketAddr) -> bool {
    bound.is_some_and(|bound| bound == addr || (addr.port() == 0 && bound.ip() == addr.ip()))
}

#[cfg(windows)]
pub(super) use keeping::keep;

#[cfg(windows)]
mod keeping {
    use std::path::PathBuf;

    use anyhow::Context as _;

    use super::super::handover::Legacy;
    use super::super::restart::Program;
    use super::super::{startup, windows};
    use super::*;
    use crate::adapters::clock::Clock;
    use crate::adapters::store::lock_path;
    use crate::cli::{Exit, out};
    use crate::settings::{Loaded, Settings};

    /// How many connections may wait for the next child.
    const BACKLOG: i32 = 1024;

    /// Keeps a server going until it ends for good, and ends with its code.
    pub(in super::super) fn keep(program: &Program, load: impl Fn() -> Option<Loaded>) -> anyhow::Result<Exit> {
        if let Err(error) = windows::take_children_along() {
            out::warning(&format!("the server would outlive this process, should that be killed: {error}"));
        }
        windows::outlive_interrupts().context("cannot wait for Ctrl-C")?;
        let mut held = Held::default();
        loop {
            // Settings that cannot be read the child complains about.
            if let Some(loaded) = load() {
                held.keep_up(&loaded.settings);
            }
            let path = program.path().context("the program's own name is not known")?;
            let mut command = program.command(&path, &held.legacy);
            let mut child = command.spawn().with_context(|| format!("cannot start {}", path.display()))?;
            let code = child.wait().context("cannot wait for the server")?.code().unwrap_or(2);
            match after(code, windows::is_interrupted(), held.legacy.recoveries, Clock::System.now()) {
                Next::End(code) => std::process::exit(code),
                Next::Start(recoveries, asked) => held.is_succeeded(recoveries, asked),
            }
        }
    }

    /// What is held for the children.
    #[derive(Default)]
    struct Held {
        legacy: Legacy,
        database: PathBuf,
    }

    impl Held {
        /// Holds what the settings ask for by now. What cannot be had the child tries for itself, and says why not.
        fn keep_up(&mut self, settings: &Settings) {
            let legacy = &mut self.legacy;
            if !serves(legacy.listener.as_ref().and_then(|held| held.local_addr().ok()), settings.addr) {
                // The old one first: the new address may be a part of it.
                legacy.listener = None;
                legacy.listener = listen(settings.addr).ok();
            }
            if self.database != settings.dsn || legacy.lock.is_none() {
                legacy.lock = None;
                self.database.clone_from(&settings.dsn);
                if startup::check_data_dir(&settings.data_dir, &settings.dsn).is_ok() {
                    legacy.lock = windows::lock(&lock_path(&settings.dsn)).ok();
                }
            }
        }

        /// The next child is a successor.
        fn is_succeeded(&mut self, recoveries: Recoveries, asked: Asked) {
            self.legacy.recoveries = recoveries;
            // A code says no more; the words stand in the child's log.
            self.legacy.recovery = (asked == Asked::ToRecover).then(|| "the watchdog; its log says why".to_owned());
            self.legacy.addr = self.legacy.listener.as_ref().and_then(|held| held.local_addr().ok());
        }
    }

    fn listen(addr: SocketAddr) -> std::io::Result<std::net::TcpListener> {
        let socket = socket2::Socket::new(socket2::Domain::for_address(addr), socket2::Type::STREAM, None)?;
        socket.bind(&addr.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONCE: Recoveries = Recoveries { count: 1, last: 1000 };

    #[test]
    fn a_child_that_asks_for_it_is_started_anew_and_any_other_end_is_passed_on() {
        let known = Recoveries::default();
        for recoveries in [known, ONCE] {
            assert_eq!(
                after(code_of_restart(false), false, recoveries, 5000),
                Next::Start(recoveries, Asked::ByCaller)
            );
        }
        // A panic, Ctrl-C twice, an access violation.
        for code in [0, 2, 101, 130, -1_073_741_819] {
            assert_eq!(after(code, false, known, 5000), Next::End(code));
            assert_eq!(after(code, true, known, 5000), Next::End(code));
        }
    }

    #[test]
    fn recoveries_are_counted_for_the_successor() {
        let code = code_of_restart(true);
        assert_eq!(
            after(code, false, Recoveries::default(), 5000),
            Next::Start(Recoveries { count: 1, last: 5000 }, Asked::ToRecover)
        );
        assert_eq!(
            after(code, false, ONCE, 700_001),
            Next::Start(Recoveries { count: 2, last: 700_001 }, Asked::ToRecover)
        );
        // Even where the parent's clock says that it is too soon: the child has decided.
        assert_eq!(after(code, false, ONCE, 2000), Next::Start(Recoveries { count: 2, last: 2000 }, Asked::ToRecover));
    }

    #[test]
    fn who_was_told_to_stop_is_not_started_anew() {
        assert_eq!(after(RESTART, true, ONCE, 5000), Next::End(0));
        assert_eq!(after(RECOVER, true, ONCE, 5000), Next::End(0));
    }

    #[test]
    fn a_socket_is_kept_while_the_settings_ask_for_it() {
        let [one, other, any, elsewhere] =
            ["127.0.0.1:8000", "127.0.0.1:8001", "127.0.0.1:0", "0.0.0.0:0"].map(|addr| addr.parse().unwrap());
        assert!(serves(Some(one), one) && serves(Some(one), any));
        assert!(!serves(Some(one), other) && !serves(Some(one), elsewhere) && !serves(None, any));
    }
}
