//! One program at work, in a process group of its own: its output line by line, and its end for certain,
//! together with everything that it started.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::group::Group;
use super::output::{Lines, Tail, TooLong};

/// From the request to end to the end by force. A stopping server waits five seconds for its runs.
const GRACE: Duration = Duration::from_secs(4);
/// How often a group that is asked to end is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// How long a killed program may take to be gone, and what it wrote to arrive.
const AFTER_KILL: Duration = Duration::from_secs(2);
const CHUNK: usize = 64 * 1024;

/// What to run.
pub(super) struct Launch {
    pub program: PathBuf,
    pub arguments: Vec<String>,
    /// The whole environment: nothing of the server's own is added.
    pub environment: Vec<(OsString, OsString)>,
    pub directory: PathBuf,
}

/// What a program may take.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    pub idle: Duration,
    pub output_bytes: u64,
    pub line_bytes: usize,
}

/// Why a program has to end before it is done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stop {
    Idle,
    Output,
    Line,
    Cancelled,
}

/// How a program ended.
pub(super) struct Ended {
    /// `None` when it had to be ended, and for one that even that could not end.
    pub status: Option<ExitStatus>,
    /// The end of what it wrote on its standard error.
    pub errors: String,
}

pub(super) struct Process {
    child: Child,
    group: Group,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    out: Box<[u8]>,
    err: Box<[u8]>,
    lines: Lines,
    tail: Tail,
    limits: Limits,
    written: u64,
    heard: Instant,
    /// How it ended by itself, and when what it left behind is ended by force.
    exited: Option<(ExitStatus, Instant)>,
    cancel: CancellationToken,
}

impl Process {
    pub fn start(launch: &Launch, limits: Limits, cancel: CancellationToken) -> std::io::Result<Self> {
        let mut command = Command::new(&launch.program);
        command
            .args(&launch.arguments)
            .env_clear()
            .envs(launch.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(&launch.directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        Group::of_its_own(&mut command);
        let mut child = command.spawn()?;
        Ok(Process {
            group: Group::led_by(child.id()),
            stdout: child.stdout.take(),
            stderr: child.stderr.take(),
            child,
            out: vec![0; CHUNK].into(),
            err: vec![0; CHUNK / 8].into(),
            lines: Lines::new(limits.line_bytes),
            tail: Tail::default(),
            limits,
            written: 0,
            heard: Instant::now(),
            exited: None,
            cancel,
        })
    }

    /// The next line of its standard output. `None` when the program has ended and everything it wrote
    /// was taken.
    pub async fn line(&mut self) -> Result<Option<Vec<u8>>, Stop> {
        // While the last line was dealt with, nobody listened.
        self.heard = Instant::now();
        loop {
            match self.lines.next() {
                Ok(None) => {}
                Ok(line) => return Ok(line),
                Err(TooLong) => return Err(Stop::Line),
            }
            if self.stdout.is_none() && self.exited.is_some() {
                return Ok(self.lines.rest());
            }
            self.step().await?;
        }
    }

    /// Waits for whatever comes first.
    async fn step(&mut self) -> Result<(), Stop> {
        let forced = self.exited.map_or_else(far, |(_, at)| at);
        let idle = if self.exited.is_some() { far() } else { self.heard + self.limits.idle };
        tokio::select! {
            () = self.cancel.cancelled() => return Err(Stop::Cancelled),
            read = read(&mut self.stdout, &mut self.out) => {
                match read {
                    Some(count) => {
                        self.written += count as u64;
                        self.lines.push(self.out.get(..count).unwrap_or_default());
                        self.heard = Instant::now();
                    }
                    None => self.stdout = None,
                }
                if self.written > self.limits.output_bytes {
                    return Err(Stop::Output);
                }
            }
            read = read(&mut self.stderr, &mut self.err) => {
                match read {
                    Some(count) => {
                        self.tail.push(self.err.get(..count).unwrap_or_default());
                        self.heard = Instant::now();
                    }
                    None => self.stderr = None,
                }
            }
            status = self.child.wait(), if self.exited.is_none() => {
                // What it started is not part of the run; what is in the pipe is.
                self.group.ask_to_end();
                self.exited = Some((status.unwrap_or_default(), Instant::now() + GRACE));
            }
            () = sleep_until(forced), if self.exited.is_some() => {
                self.group.kill();
                self.stdout = None;
            }
            () = sleep_until(idle) => return Err(Stop::Idle),
        }
        Ok(())
    }

    /// Ends it if it has not ended, with everything it started, and gives back what it said.
    pub async fn end(mut self) -> Ended {
        let status = self.exited.map(|(status, _)| status);
        self.group.ask_to_end();
        let _ = timeout(GRACE, self.gone()).await;
        self.group.kill();
        if self.exited.is_none() && timeout(AFTER_KILL, self.child.wait()).await.is_err() {
            tracing::error!(component = "exec", "a killed program does not end; the system holds it");
        }
        self.group.let_go();
        // A descendant that left the group may hold the pipe open; it is not waited for.
        let _ = timeout(AFTER_KILL / 4, self.hear_out()).await;
        Ended { status, errors: self.tail.text() }
    }

    /// Waits until nobody of the group is left, and lets nobody wait for a full pipe.
    async fn gone(&mut self) {
        while self.exited.is_none() || self.group.is_there() {
            tokio::select! {
                status = self.child.wait(), if self.exited.is_none() => {
                    self.exited = Some((status.unwrap_or_default(), Instant::now()));
                }
                read = read(&mut self.stdout, &mut self.out) => {
                    if read.is_none() {
                        self.stdout = None;
                    }
                }
                read = read(&mut self.stderr, &mut self.err) => match read {
                    Some(count) => self.tail.push(self.err.get(..count).unwrap_or_default()),
                    None => self.stderr = None,
                },
                () = sleep(LOOK) => {}
            }
        }
    }

    async fn hear_out(&mut self) {
        while let Some(count) = read(&mut self.stderr, &mut self.err).await {
            self.tail.push(self.err.get(..count).unwrap_or_default());
        }
    }
}

/// Reads some bytes; `None` at the end, and never from a stream that has ended before.
async fn read(stream: &mut Option<impl AsyncRead + Unpin>, buffer: &mut [u8]) -> Option<usize> {
    match stream {
        Some(stream) => stream.read(buffer).await.ok().filter(|count| *count > 0),
        None => std::future::pending().await,
    }
}

fn far() -> Instant {
    Instant::now() + Duration::from_secs(365 * 24 * 3600)
}

/// What a path is called, for messages.
pub(super) fn name_of(program: &str) -> String {
    Path::new(program).file_name().map_or_else(|| program.to_owned(), |name| name.to_string_lossy().into_owned())
}
