//! Starts the same program anew with the same arguments: in place where the system can, as a
//! child otherwise. Also when it is the watchdog that asks for it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::handover::Legacy;
use crate::app::App;

/// How much longer than the drain an orderly end may take before the program is replaced as it stands.
const ORDERLY: Duration = Duration::from_secs(15);

/// How this program was started.
pub(super) struct Program {
    path: Option<PathBuf>,
    arguments: Vec<OsString>,
}

impl Program {
    pub(super) fn current() -> Program {
        Program { path: std::env::current_exe().ok(), arguments: std::env::args_os().collect() }
    }

    fn command(&self, legacy: &Legacy) -> Option<Command> {
        let (name, arguments) = self.arguments.split_first()?;
        let path = self.path.clone().unwrap_or_else(|| name.into());
        let mut command = Command::new(path);
        command.args(arguments);
        legacy.leave_to(&mut command);
        Some(command)
    }

    /// Replaces this process. Returns only when that failed, with the reason.
    #[cfg(unix)]
    pub(super) fn restart(&self, legacy: &Legacy) -> anyhow::Error {
        use std::os::unix::process::CommandExt as _;
        match self.command(legacy) {
            Some(mut command) => anyhow::Error::new(command.exec()).context("cannot restart"),
            None => anyhow::anyhow!("cannot restart: the program's own name is not known"),
        }
    }

    /// Runs the successor as a child and ends with its code. Returns only when it cannot be
    /// started, with the reason.
    #[cfg(not(unix))]
    pub(super) fn restart(&self, legacy: &Legacy) -> anyhow::Error {
        let Some(mut command) = self.command(legacy) else {
            return anyhow::anyhow!("cannot restart: the program's own name is not known");
        };
        match command.status() {
            Ok(status) => std::process::exit(status.code().unwrap_or(2)),
            Err(error) => anyhow::Error::new(error).context("cannot restart"),
        }
    }
}

/// What a successor is left, gathered while the program runs.
pub(super) type SharedLegacy = Arc<Mutex<Legacy>>;

pub(super) fn locked(legacy: &SharedLegacy) -> MutexGuard<'_, Legacy> {
    legacy.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Restarts the program where nothing less helps: in good order if that can be had, as it stands if not.
pub(super) struct Rescue {
    pub app: Arc<App>,
    pub program: Arc<Program>,
    pub legacy: SharedLegacy,
    /// When the restart was asked for.
    pub asked: Option<Instant>,
}

impl Rescue {
    /// Takes note that only a restart helps, if `why` says so; returns what is to be shown of it.
    pub(super) fn see_to(&mut self, why: Option<String>) -> Option<String> {
        if let Some(asked) = self.asked {
            if asked.elapsed() > self.app.settings.drain + ORDERLY {
                tracing::error!(
                    component = "watchdog",
                    "no orderly end can be had; the program is replaced as it stands"
                );
                let error = self.program.restart(&locked(&self.legacy));
                tracing::error!(component = "watchdog", "{error:#}");
                // Whoever keeps the program alive starts it.
                std::process::exit(70);
            }
            return Some("the program is being restarted".to_owned());
        }
        let why = why?;
        if !self.app.settings.allow_restart {
            return Some(format!(
                "{why}; only a restart of the program helps, which COMMAND_CENTER_ALLOW_RESTART forbids"
            ));
        }
        let now = self.app.clock.now();
        let next = locked(&self.legacy).recoveries.one_more(now);
        match next {
            Ok(next) => {
                tracing::error!(component = "watchdog", "{why}; the program restarts itself");
                locked(&self.legacy).recoveries = next;
                self.asked = Some(Instant::now());
                self.app.restart_to_recover(&why);
                Some(format!("{why}; the program restarts itself"))
            }
            Err(wait) => Some(format!(
                "{why}; the program restarted itself not long ago and does so again in {} min at the earliest",
                wait.as_secs().div_ceil(60)
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_successor_gets_the_same_arguments_and_the_old_address() {
        let addr = std::net::SocketAddr::from(([127, 0, 0, 1], 8123));
        let arguments = ["command-center", "serve", "--addr", "127.0.0.1:0"].map(OsString::from).to_vec();
        let legacy = Legacy { addr: Some(addr), ..Legacy::default() };
        let command = Program { path: Some("/opt/cc".into()), arguments }.command(&legacy).unwrap();
        assert_eq!(command.get_program(), "/opt/cc");
        assert_eq!(command.get_args().collect::<Vec<_>>(), ["serve", "--addr", "127.0.0.1:0"]);
        let told = |name: &str| command.get_envs().find(|(known, _)| *known == name).and_then(|(_, value)| value);
        assert_eq!(told("COMMAND_CENTER_RESUMED_ADDR").unwrap(), "127.0.0.1:8123");
        assert_eq!(told("COMMAND_CENTER_RECOVERIES"), None);
    }
}
