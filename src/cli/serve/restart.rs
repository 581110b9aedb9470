//! Starts the same program anew with the same arguments: in place where the system can, as a
//! child otherwise.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

/// Tells a restarted program the address that it had.
const RESUMED: &str = "COMMAND_CENTER_RESUMED_ADDR";

/// The address this program had before it was restarted; `None` when it was not.
pub(super) fn resumed() -> Option<SocketAddr> {
    std::env::var(RESUMED).ok()?.parse().ok()
}

/// How this program was started.
pub(super) struct Program {
    path: Option<PathBuf>,
    arguments: Vec<OsString>,
}

impl Program {
    pub(super) fn current() -> Program {
        Program { path: std::env::current_exe().ok(), arguments: std::env::args_os().collect() }
    }

    fn command(&self, addr: SocketAddr) -> Option<Command> {
        let (name, arguments) = self.arguments.split_first()?;
        let path = self.path.clone().unwrap_or_else(|| name.into());
        let mut command = Command::new(path);
        command.args(arguments).env(RESUMED, addr.to_string());
        Some(command)
    }

    /// Replaces this process. Returns only when that failed, with the reason.
    #[cfg(unix)]
    pub(super) fn restart(&self, addr: SocketAddr) -> anyhow::Error {
        use std::os::unix::process::CommandExt as _;
        match self.command(addr) {
            Some(mut command) => anyhow::Error::new(command.exec()).context("cannot restart"),
            None => anyhow::anyhow!("cannot restart: the program's own name is not known"),
        }
    }

    /// Runs the successor as a child and ends with its code. Returns only when it cannot be
    /// started, with the reason.
    #[cfg(not(unix))]
    pub(super) fn restart(&self, addr: SocketAddr) -> anyhow::Error {
        let Some(mut command) = self.command(addr) else {
            return anyhow::anyhow!("cannot restart: the program's own name is not known");
        };
        match command.status() {
            Ok(status) => std::process::exit(status.code().unwrap_or(2)),
            Err(error) => anyhow::Error::new(error).context("cannot restart"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_successor_gets_the_same_arguments_and_the_old_address() {
        let addr = SocketAddr::from(([127, 0, 0, 1], 8123));
        let arguments = ["command-center", "serve", "--addr", "127.0.0.1:0"].map(OsString::from).to_vec();
        let command = Program { path: Some("/opt/cc".into()), arguments }.command(addr).unwrap();
        assert_eq!(command.get_program(), "/opt/cc");
        assert_eq!(command.get_args().collect::<Vec<_>>(), ["serve", "--addr", "127.0.0.1:0"]);
        let told = command.get_envs().find(|(name, _)| *name == RESUMED).and_then(|(_, value)| value);
        assert_eq!(told.unwrap(), "127.0.0.1:8123");
    }
}
