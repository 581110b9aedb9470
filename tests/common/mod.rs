//! Runs the real binary in a directory of its own: start, ask, edit files and rows by hand, kill.
//! Nothing here waits a fixed time for a fact; `eventually` asks until it holds or a deadline passes.
#![allow(clippy::panic, reason = "a helper of tests fails by panicking")]
#![allow(dead_code, unused_imports, reason = "each test file is a crate of its own and uses a part of this")]

pub mod chance;
pub mod cli;
pub mod http;
pub mod pypi;

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

pub use http::Call;

/// How long a fact may take to come true. Generous: machines are noisy, and only failures pay it.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What a server is started with.
#[derive(Clone)]
pub struct Options {
    /// Starts with `--sandbox`.
    pub sandbox: bool,
    /// Seconds between full passes.
    pub health_interval_sec: u32,
    /// Overrides and additions to the environment.
    pub env: Vec<(String, String)>,
    /// Files below the desired directory that exist before the first start.
    pub files: Vec<(String, String)>,
}

impl Default for Options {
    fn default() -> Self {
        Options { sandbox: false, health_interval_sec: 1, env: Vec::new(), files: Vec::new() }
    }
}

impl Options {
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// A file of the `noop` connector.
    pub fn noop(self, tenant: &str, content: &str) -> Self {
        self.file(&noop_file(tenant), content)
    }

    pub fn file(mut self, path: &str, content: &str) -> Self {
        self.files.push((path.into(), content.into()));
        self
    }

    pub fn interval(mut self, seconds: u32) -> Self {
        self.health_interval_sec = seconds;
        self
    }

    pub async fn start(self) -> Server {
        Server::start(self).await
    }
}

/// A tenant's file below the desired directory.
pub fn noop_file(tenant: &str) -> String {
    format!("schedules/noop/{tenant}.yaml")
}

/// One home directory and, while it runs, the server on it.
pub struct Server {
    child: Option<Child>,
    home: TempDir,
    addr: SocketAddr,
    options: Options,
    client: reqwest::Client,
    starts: u32,
    /// Another copy of the binary, where a test wants one.
    program: Option<PathBuf>,
}

impl Server {
    pub async fn start(options: Options) -> Server {
        let mut server = Server::prepare(options);
        server.launch().await;
        server
    }

    /// With the practice AccuLynx.
    pub async fn start_sandboxed(options: Options) -> Server {
        Server::start(Options { sandbox: true, ..options }).await
    }

    /// For the next start.
    pub fn set_env(&mut self, name: &str, value: &str) {
        self.options.env.push((name.into(), value.into()));
    }

    /// The home alone, nothing running in it.
    pub fn prepare(options: Options) -> Server {
        let home = tempfile::Builder::new().prefix("cc-test-").tempdir().expect("a temporary directory");
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(PATIENCE * 2)
            .build()
            .expect("an HTTP client");
        let server = Server { child: None, home, addr: free_addr(), options, client, starts: 0, program: None };
        fs::create_dir_all(server.desired("schedules")).expect("the desired directory");
        fs::create_dir_all(server.path("data")).expect("the data directory");
        for (path, content) in &server.options.files {
            server.write(path, content);
        }
        server
    }

    /// Starts the server and waits until it says that it is ready. Another process may take the
    /// port between choosing and binding it: then the next one is tried.
    pub async fn launch(&mut self) {
        for _ in 0..5 {
            self.spawn();
            if self.ready().await {
                return;
            }
            self.kill9();
            self.addr = free_addr();
        }
        panic!("the server does not start:\n{}", self.log_tail());
    }

    /// Runs this copy of the binary from the next start on.
    pub fn use_program(&mut self, program: &Path) {
        self.program = Some(program.to_owned());
    }

    /// Starts the server and kills it before or while it gets ready.
    pub async fn launch_and_kill(&mut self, after: Duration) {
        self.spawn();
        tokio::time::sleep(after).await;
        self.kill9();
    }

    /// Starts the server and waits for nothing.
    pub fn spawn(&mut self) {
        assert!(self.child.is_none(), "already running");
        self.starts += 1;
        let log = |kind: &str| File::create(self.path(&format!("{kind}-{}.log", self.starts))).expect("a log file");
        let mut command = self.command();
        command.arg("serve");
        if self.options.sandbox {
            command.arg("--sandbox");
        }
        command.stdin(Stdio::null()).stdout(log("stdout")).stderr(log("stderr"));
        self.child = Some(command.spawn().expect("the binary starts"));
    }

    /// The binary with this home's environment and nothing of the caller's settings.
    pub fn command(&self) -> Command {
        let mut command = match &self.program {
            Some(program) => command_of(program, self.home.path()),
            None => bare_command(self.home.path()),
        };
        command
            .env("COMMAND_CENTER_ADDR", self.addr.to_string())
            .env("COMMAND_CENTER_DESIRED_DIR", self.path("desired"))
            .env("COMMAND_CENTER_DATA_DIR", self.path("data"))
            .env("COMMAND_CENTER_DSN", self.database())
            .env("COMMAND_CENTER_HEALTH_INTERVAL", self.options.health_interval_sec.to_string())
            .env("LOG_LEVEL", "info");
        for (name, value) in &self.options.env {
            command.env(name, value);
        }
        command
    }

    /// False when the process ended, which is what a taken port does to it.
    async fn ready(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        let url = self.url("/readyz");
        while Instant::now() < deadline {
            let exited = self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(Some(_)) | Err(_)));
            if exited {
                return false;
            }
            let answer = self.client.get(&url).timeout(Duration::from_secs(2)).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("the server runs but is not ready after {PATIENCE:?}:\n{}", self.log_tail());
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn client(&self) -> &reqwest::Client {
        &self.client
    }

    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// What a power cut does to the process: no handler runs.
    pub fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Asks the server to end and waits until it has.
    pub async fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        terminate(&mut child);
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Ok(Some(status)) = child.try_wait() {
                assert!(status.success(), "a clean stop, not {status}:\n{}", self.log_tail());
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let _ = child.kill();
        let _ = child.wait();
        panic!("still running {PATIENCE:?} after it was asked to stop:\n{}", self.log_tail());
    }

    pub async fn restart(&mut self) {
        self.stop().await;
        self.launch().await;
    }

    /// A path below the home.
    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// A path below the desired directory.
    pub fn desired(&self, name: &str) -> PathBuf {
        self.path("desired").join(name)
    }

    pub fn database(&self) -> PathBuf {
        self.path("data/command_center.db")
    }

    /// The store, opened beside the server as a person with a database tool would.
    pub fn sql(&self) -> rusqlite::Connection {
        let connection = rusqlite::Connection::open(self.database()).expect("the database opens");
        connection.busy_timeout(PATIENCE).expect("a busy timeout");
        connection
    }

    /// Saves a file as an editor does: written aside, then renamed into place.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.desired(path);
        let parent = path.parent().expect("a file has a directory");
        fs::create_dir_all(parent).expect("its directory");
        let aside = parent.join(format!(".{}.tmp~", path.file_name().unwrap_or_default().to_string_lossy()));
        fs::write(&aside, content).expect("written aside");
        fs::rename(&aside, &path).expect("renamed into place");
    }

    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.desired(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    pub fn remove(&self, path: &str) {
        fs::remove_file(self.desired(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    }

    /// The end of the logs, for a failure's message.
    pub fn log_tail(&self) -> String {
        let mut text = String::new();
        for kind in ["stdout", "stderr"] {
            let log = fs::read_to_string(self.path(&format!("{kind}-{}.log", self.starts))).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines.len().saturating_sub(25);
            text.push_str(&format!("--- {kind} ({} lines)\n{}\n", lines.len(), lines[tail..].join("\n")));
        }
        text
    }

    pub fn log(&self, kind: &str) -> String {
        fs::read_to_string(self.path(&format!("{kind}-{}.log", self.starts))).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() {
            eprintln!("{}", self.log_tail());
        }
    }
}

/// The binary in `directory`, without any setting of the caller's environment.
pub fn bare_command(directory: &Path) -> Command {
    command_of(Path::new(env!("CARGO_BIN_EXE_command-center")), directory)
}

fn command_of(program: &Path, directory: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("COMMAND_CENTER_") || text.starts_with("CC_SECRET_") {
            command.env_remove(&name);
        }
    }
    command.current_dir(directory).env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

/// Copies a folder with all that is in it.
pub fn copy_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a copy");
    for entry in fs::read_dir(from).expect("a copy").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_all(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("a copy");
        }
    }
}

/// An address that nobody listened on a moment ago.
pub fn free_addr() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address")
}

#[cfg(unix)]
fn terminate(child: &mut Child) {
    let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw).expect("a process id");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("a signal");
}

#[cfg(not(unix))]
fn terminate(child: &mut Child) {
    let _ = child.kill();
}

/// Asks until the answer is `Ok`, at most `PATIENCE`; then fails with the last answer.
pub async fn eventually<T>(what: &str, mut probe: impl AsyncFnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match probe().await {
            Ok(value) => return value,
            Err(last) if Instant::now() >= deadline => panic!("not within {PATIENCE:?}: {what}; last: {last}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(25)).await,
        }
    }
}

/// `Ok` when the condition holds, else the value it was judged by.
pub fn hold(condition: bool, shown: &impl std::fmt::Display) -> Result<(), String> {
    if condition { Ok(()) } else { Err(shown.to_string()) }
}

/// A value's field by JSON pointer, `null` where there is none.
pub fn at<'a>(value: &'a Value, pointer: &str) -> &'a Value {
    value.pointer(pointer).unwrap_or(&Value::Null)
}

/// A text field by JSON pointer, empty where there is none.
pub fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    at(value, pointer).as_str().unwrap_or_default()
}
