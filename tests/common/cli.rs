//! Runs the binary as a command and keeps what it said.

use std::fs::File;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{PATIENCE, Server};

/// The address of no server.
pub const NOWHERE: &str = "http://127.0.0.1:1";

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    pub line: String,
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ended {
    #[track_caller]
    pub fn expect(self, code: i32) -> Ended {
        assert_eq!(self.code, code, "{}\n--- stdout\n{}\n--- stderr\n{}", self.line, self.out, self.err);
        self
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{}: no JSON ({e}): {}", self.line, self.out))
    }

    /// Both streams, for searching.
    pub fn said(&self) -> String {
        format!("{}{}", self.out, self.err)
    }

    #[track_caller]
    pub fn says(&self, needle: &str) -> &Ended {
        assert!(self.said().contains(needle), "{}: no {needle:?} in:\n{}", self.line, self.said());
        self
    }
}

/// Runs to the end, killed and failed when it does not end by itself.
#[track_caller]
pub fn run(mut command: Command) -> Ended {
    let logs = tempfile::tempdir().expect("a temporary directory");
    let (out, err) = (logs.path().join("out"), logs.path().join("err"));
    command.stdout(File::create(&out).expect("a file")).stderr(File::create(&err).expect("a file"));
    let line = format!("{:?}", command.get_args().collect::<Vec<_>>());
    let mut child = command.spawn().expect("the binary starts");
    let deadline = Instant::now() + PATIENCE;
    let code = loop {
        if let Some(status) = child.try_wait().expect("a child's state") {
            break status.code().unwrap_or(-1);
        }
        if Instant::now() >= deadline {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{line} does not end: {}", std::fs::read_to_string(&err).unwrap_or_default());
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let read = |path| String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned();
    Ended { line, code, out: read(&out), err: read(&err) }
}

impl Server {
    /// A command in this home, aimed at this server.
    #[track_caller]
    pub fn cli(&self, arguments: &[&str]) -> Ended {
        let mut command = self.command();
        command.env("COMMAND_CENTER_URL", self.url("")).args(arguments);
        run(command)
    }

    /// A command in this home, aimed at a port where nothing ever listens. Without an address it
    /// would ask whatever serves at the default one on the developer's machine.
    #[track_caller]
    pub fn offline(&self, arguments: &[&str]) -> Ended {
        let mut command = self.command();
        command.env("COMMAND_CENTER_URL", NOWHERE).args(arguments);
        run(command)
    }
}
