//! A program and everything it started, ended as one: a process group on Unix, the tree of processes on
//! Windows.

use tokio::process::Command;

#[cfg(unix)]
pub(super) use unix::Group;
#[cfg(not(unix))]
pub(super) use windows::Group;

/// Ends what a killed server's programs still do in `folder`, where every run has a directory of its own.
/// Elsewhere than on Linux nothing tells whose they are.
#[cfg(target_os = "linux")]
pub(super) fn end_those_at(folder: &std::path::Path) {
    use rustix::process::{Pid, Signal, getpgid, getpgrp, kill_process, kill_process_group};

    let Ok(folder) = std::fs::canonicalize(folder) else { return };
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let id = entry.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
        let at = std::fs::read_link(entry.path().join("cwd"));
        let (Some(id), true) = (id, at.is_ok_and(|at| at.starts_with(&folder) && at != folder)) else { continue };
        tracing::warn!(component = "exec", "ending process {id:?}, which a server that was killed has left");
        // Gone already is as good.
        let _ = match getpgid(Some(id)) {
            Ok(group) if group != getpgrp() => kill_process_group(group, Signal::KILL),
            _ => kill_process(id, Signal::KILL),
        };
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn end_those_at(_folder: &std::path::Path) {}

#[cfg(unix)]
mod unix {
    use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};

    use super::Command;

    /// Kills what is left when dropped. While anyone of a group lives its number is given to nobody else.
    pub(in super::super) struct Group(Option<Pid>);

    impl Group {
        pub fn of_its_own(command: &mut Command) {
            command.process_group(0);
        }

        pub fn led_by(leader: Option<u32>) -> Self {
            Group(leader.and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw))
        }

        pub fn ask_to_end(&mut self) {
            self.signal(Signal::TERM);
        }

        pub fn kill(&mut self) {
            self.signal(Signal::KILL);
        }

        pub fn is_there(&self) -> bool {
            self.0.is_some_and(|group| test_kill_process_group(group).is_ok())
        }

        /// Nobody is left to be ended.
        pub fn let_go(&mut self) {
            self.0 = None;
        }

        fn signal(&mut self, signal: Signal) {
            if self.0.is_some_and(|group| kill_process_group(group, signal).is_err()) {
                // Nobody is there any more: from now on the number may be somebody else's.
                self.let_go();
            }
        }
    }

    impl Drop for Group {
        fn drop(&mut self) {
            self.kill();
        }
    }
}

#[cfg(not(unix))]
mod windows {
    use std::process::Stdio;

    use super::Command;

    /// Windows knows no request to end that a program without a window would hear, so that both ways are
    /// by force. The tree is found through its root: what outlives the root is out of reach.
    pub(in super::super) struct Group(Option<u32>);

    impl Group {
        pub fn of_its_own(_command: &mut Command) {}

        pub fn led_by(leader: Option<u32>) -> Self {
            Group(leader)
        }

        pub fn ask_to_end(&mut self) {
            self.kill();
        }

        pub fn kill(&mut self) {
            let Some(root) = self.0.take() else { return };
            let system = std::env::var_os("SystemRoot").unwrap_or_else(|| "C:\\Windows".into());
            let program = std::path::Path::new(&system).join("System32\\taskkill.exe");
            let _ = std::process::Command::new(program)
                .args(["/T", "/F", "/PID", &root.to_string()])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn();
        }

        pub fn is_there(&self) -> bool {
            false
        }

        pub fn let_go(&mut self) {
            self.0 = None;
        }
    }

    impl Drop for Group {
        fn drop(&mut self) {
            self.kill();
        }
    }
}
