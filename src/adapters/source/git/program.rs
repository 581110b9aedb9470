//! Runs the `git` program: an argument list and never a shell, an environment of few names, a time
//! limit, no question to anybody, and no credentials in what it says.

use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a command on this machine may take.
pub(super) const LOCAL: Duration = Duration::from_secs(120);

/// How long a command that talks to another machine may take.
pub(super) const NETWORK: Duration = Duration::from_secs(60);

/// What git gets of this program's environment.
const KEPT: [&str; 11] = [
    "PATH",
    "HOME",
    "XDG_CONFIG_HOME",
    "SSH_AUTH_SOCK",
    "GIT_SSH_COMMAND",
    "TMPDIR",
    // Windows: without these neither programs nor the user's settings are found.
    "SystemRoot",
    "USERPROFILE",
    "APPDATA",
    "TEMP",
    "PATHEXT",
];

/// Nothing of the repository's own settings may start other programs, take a lock behind our back
/// or change the form of what is read here.
const SETTINGS: [&str; 10] = [
    if cfg!(windows) { "core.hooksPath=NUL" } else { "core.hooksPath=/dev/null" },
    "core.fsmonitor=false",
    "core.quotePath=false",
    "commit.gpgSign=false",
    "merge.autoStash=false",
    "submodule.recurse=false",
    "protocol.ext.allow=never",
    "log.showSignature=false",
    "diff.relative=false",
    "diff.renames=false",
];

/// Bytes of an error message that are kept.
const MAX_COMPLAINT: usize = 16 * 1024;

/// What git could not do.
#[derive(Clone, Debug, thiserror::Error)]
pub enum GitError {
    #[error("the git program was not found in PATH; install git, or set COMMAND_CENTER_GIT to off")]
    NoProgram,
    #[error("{path} does not lie in a git work tree ({reason}); make it one with git init, or set COMMAND_CENTER_GIT to off", path = .path.display())]
    NoWorkTree { path: PathBuf, reason: String },
    #[error("git {command} did not end within {limit_sec} s and was stopped")]
    TimedOut { command: String, limit_sec: u64 },
    #[error("git {command} was stopped because the server stops")]
    Stopped { command: String },
    #[error("could not run git {command}: {reason}")]
    Run { command: String, reason: String },
    #[error("git {command} failed: {complaint}")]
    Failed { command: String, code: Option<i32>, complaint: String },
    #[error("git {command} answered what is not understood: {answer}")]
    Strange { command: String, answer: String },
    /// The state of the work tree or the remote does not allow it; says what to do.
    #[error("{0}")]
    Refused(String),
}

impl GitError {
    /// The error without what git or a remote said, for those who may not see everything.
    pub fn class(&self) -> String {
        match self {
            GitError::NoWorkTree { reason: _, .. } => {
                "the desired directory does not lie in a git work tree that can be used".to_owned()
            }
            GitError::Run { command, .. } | GitError::Strange { command, .. } => {
                format!("git {command} could not be used; the log says more")
            }
            GitError::Failed { command, .. } => format!("git {command} failed; the log says why"),
            other => other.to_string(),
        }
    }
}

/// The program in one folder.
#[derive(Clone, Debug)]
pub(super) struct Program {
    folder: PathBuf,
    /// Set when the server stops: commands under way are ended.
    stop: Arc<AtomicBool>,
}

/// One command.
pub(super) struct Call<'a> {
    args: Vec<OsString>,
    input: Option<Vec<u8>>,
    env: Vec<(&'a str, OsString)>,
    limit: Duration,
}

#[allow(dead_code, reason = "what writes to the repository needs all of it")]
impl<'a> Call<'a> {
    pub fn new<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Self {
        let args = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        Call { args, input: None, env: Vec::new(), limit: LOCAL }
    }

    /// Paths, after the mark that ends the options.
    pub fn paths<A: AsRef<OsStr>>(mut self, paths: impl IntoIterator<Item = A>) -> Self {
        self.args.push("--".into());
        self.args.extend(paths.into_iter().map(|path| path.as_ref().to_owned()));
        self
    }

    pub fn input(mut self, input: Vec<u8>) -> Self {
        self.input = Some(input);
        self
    }

    pub fn env(mut self, name: &'a str, value: impl Into<OsString>) -> Self {
        self.env.push((name, value.into()));
        self
    }

    pub fn over_the_network(mut self) -> Self {
        self.limit = NETWORK;
        self
    }

    /// The command's name, for messages.
    fn name(&self) -> String {
        self.args
            .iter()
            .find(|arg| !arg.to_string_lossy().starts_with('-'))
            .map_or_else(String::new, |arg| arg.to_string_lossy().into_owned())
    }
}

/// How a command ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub code: Option<i32>,
    pub out: Vec<u8>,
    /// What it complained of, without credentials.
    pub complaint: String,
}

#[allow(dead_code, reason = "what writes to the repository needs all of it")]
impl Program {
    pub fn new(folder: &Path, stop: Arc<AtomicBool>) -> Self {
        Program { folder: folder.to_owned(), stop }
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Runs a command that has to succeed; its output.
    pub fn run(&self, call: Call<'_>) -> Result<Vec<u8>, GitError> {
        let command = call.name();
        let ended = self.end(call)?;
        if ended.code == Some(0) {
            return Ok(ended.out);
        }
        Err(GitError::Failed { command, code: ended.code, complaint: ended.complaint })
    }

    /// As `run`, for output that is one line of text.
    pub fn line(&self, call: Call<'_>) -> Result<String, GitError> {
        let out = self.run(call)?;
        Ok(String::from_utf8_lossy(&out).trim_end().to_owned())
    }

    /// Runs a command whose failure means something.
    pub fn end(&self, call: Call<'_>) -> Result<Ended, GitError> {
        let command = call.name();
        let not_run = |reason: std::io::Error| GitError::Run { command: command.clone(), reason: reason.to_string() };
        let mut child = match self.command(&call).spawn() {
            Ok(child) => child,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && self.folder.is_dir() => {
                return Err(GitError::NoProgram);
            }
            Err(error) => return Err(not_run(error)),
        };
        let (out, complaint) = (Pipe::default(), Pipe::default());
        if let Some(mut stdin) = child.stdin.take() {
            let input = call.input.unwrap_or_default();
            // A command that ends before it has read everything says so by its exit code.
            std::thread::spawn(move || drop(stdin.write_all(&input)));
        }
        if let Some(stdout) = child.stdout.take() {
            out.read(stdout, usize::MAX);
        }
        if let Some(stderr) = child.stderr.take() {
            complaint.read(stderr, MAX_COMPLAINT);
        }
        let status = self.wait(&mut child, &command, call.limit)?;
        let complaint = masked(String::from_utf8_lossy(&complaint.content()).trim());
        Ok(Ended { code: status.code(), out: out.content(), complaint })
    }

    fn command(&self, call: &Call<'_>) -> Command {
        let mut command = Command::new("git");
        command.arg("--no-pager").arg("--literal-pathspecs");
        for setting in SETTINGS {
            command.arg("-c").arg(setting);
        }
        command.args(&call.args).current_dir(&self.folder).env_clear();
        for name in KEPT {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        // Nobody is there to be asked, and messages are read here.
        command.env("GIT_TERMINAL_PROMPT", "0").env("GIT_OPTIONAL_LOCKS", "0").env("LC_ALL", "C");
        command.envs(call.env.iter().map(|(name, value)| (name, value)));
        command.stdin(if call.input.is_some() { Stdio::piped() } else { Stdio::null() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        #[cfg(unix)]
        {
            use std::os::unix::process::CommandExt as _;
            // Ctrl-C is this program's to handle, and whatever git starts can be ended with it.
            command.process_group(0);
        }
        command
    }

    fn wait(&self, child: &mut Child, command: &str, limit: Duration) -> Result<ExitStatus, GitError> {
        let start = Instant::now();
        let mut nap = Duration::from_millis(1);
        loop {
            match child.try_wait() {
                Ok(Some(status)) => return Ok(status),
                Ok(None) => {}
                Err(error) => {
                    kill(child);
                    return Err(GitError::Run { command: command.to_owned(), reason: error.to_string() });
                }
            }
            if start.elapsed() > limit {
                kill(child);
                return Err(GitError::TimedOut { command: command.to_owned(), limit_sec: limit.as_secs() });
            }
            // Only what waits for another machine is cut off; the rest ends by itself and soon.
            if limit == NETWORK && self.stop.load(Ordering::Acquire) {
                kill(child);
                return Err(GitError::Stopped { command: command.to_owned() });
            }
            std::thread::sleep(nap);
            nap = (nap * 5 / 4).min(Duration::from_millis(25));
        }
    }
}

/// Ends a command and what it started.
fn kill(child: &mut Child) {
    #[cfg(unix)]
    if let Some(group) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
        // Gone already is as good.
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// What a command writes, gathered by a thread. A program that it left behind may hold the pipe open
/// for ever, so that the end is not waited for long.
#[derive(Clone, Default)]
struct Pipe {
    gathered: Arc<Mutex<Vec<u8>>>,
    done: Arc<AtomicBool>,
}

/// How long the end of a pipe is waited for once its command has ended.
const LAST_WORDS: Duration = Duration::from_millis(500);

impl Pipe {
    fn read(&self, mut from: impl std::io::Read + Send + 'static, most: usize) {
        let pipe = self.clone();
        std::thread::spawn(move || {
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(read @ 1..) = from.by_ref().read(&mut buffer) {
                let mut gathered = pipe.gathered.lock().unwrap_or_else(PoisonError::into_inner);
                let room = most.saturating_sub(gathered.len());
                gathered.extend(buffer.iter().take(read.min(room)));
            }
            pipe.done.store(true, Ordering::Release);
        });
    }

    fn content(&self) -> Vec<u8> {
        let start = Instant::now();
        while !self.done.load(Ordering::Acquire) && start.elapsed() < LAST_WORDS {
            std::thread::sleep(Duration::from_micros(200));
        }
        std::mem::take(&mut *self.gathered.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// `text` with the credentials taken out of every URL in it.
pub(super) fn masked(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        shown.push_str(before);
        let end =
            after.find(|c: char| c.is_whitespace() || matches!(c, '\'' | '"' | '`' | '<' | '>')).unwrap_or(after.len());
        let (url, behind) = after.split_at(end);
        // A password may hold a slash that nobody escaped, so that the last @ counts.
        let kept = url.rsplit_once('@').map_or(url, |(_, kept)| kept);
        if kept.len() < url.len() {
            shown.push_str("***@");
        }
        let bare = kept.split('?').next().unwrap_or_default();
        shown.push_str(bare);
        if bare.len() < kept.len() {
            shown.push_str("?***");
        }
        rest = behind;
    }
    shown.push_str(rest);
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(folder: &Path) -> Program {
        Program::new(folder, Arc::default())
    }

    #[test]
    fn credentials_are_taken_out_of_every_url() {
        for (text, expect) in [
            (
                "fatal: unable to access 'https://zoe:s3cret@git.example.com/x.git/': no",
                "fatal: unable to access 'https://***@git.example.com/x.git/': no",
            ),
            ("https://token@h/a and ssh://u:p@h2/b\nx", "https://***@h/a and ssh://***@h2/b\nx"),
            ("https://u:pa/ss@h/a", "https://***@h/a"),
            ("https://h/a?private_token=abc end", "https://h/a?*** end"),
            ("https://h/a nothing", "https://h/a nothing"),
            ("no url", "no url"),
        ] {
            assert_eq!(masked(text), expect);
        }
    }

    #[test]
    fn a_failure_says_which_command_and_why() {
        let folder = tempfile::tempdir().unwrap();
        let error = program(folder.path()).run(Call::new(["rev-parse", "HEAD"])).unwrap_err();
        assert!(matches!(&error, GitError::Failed { command, .. } if command == "rev-parse"), "{error}");
        assert!(error.to_string().contains("not a git repository"), "{error}");
        assert!(!error.class().contains("repository"), "{}", error.class());
        let error = program(&folder.path().join("gone")).run(Call::new(["version"])).unwrap_err();
        assert!(matches!(error, GitError::Run { .. }), "{error}");
    }

    #[test]
    fn a_command_that_waits_is_stopped_with_the_server() {
        let folder = tempfile::tempdir().unwrap();
        let stop = Arc::new(AtomicBool::new(true));
        let program = Program::new(folder.path(), stop);
        let error = program.end(Call::new(["-c", "alias.nap=!sleep 30", "nap"]).over_the_network()).unwrap_err();
        assert!(matches!(error, GitError::Stopped { .. }), "{error}");
    }
}
