//! A program and everything it started, ended as one: a process group on Unix, the tree of processes on
//! Windows.

use tokio::process::Command;

#[cfg(unix)]
pub(super) use unix::Group;
#[cfg(not(unix))]
pub(super) use windows::Group;

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
