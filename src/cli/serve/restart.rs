//! Starts the same program anew with the same arguments: in place on Unix, through the parent on Windows. Also
//! when it is the watchdog that asks for it. A program that would not start is found out before this one ends for it.

use std::ffi::OsString;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::handover::Legacy;
use crate::app::App;

/// How much longer than the drain an orderly end may take before the program is replaced as it stands.
const ORDERLY: Duration = Duration::from_secs(15);

/// How long a successor may take to say whether it would start.
const TRIAL: Duration = Duration::from_secs(20);
const TRIAL_LOOK: Duration = Duration::from_millis(5);

/// How much of what it says is repeated.
const LAST_WORDS_CHARS: usize = 400;

/// How this program was started.
pub(super) struct Program {
    path: Option<PathBuf>,
    arguments: Vec<OsString>,
}

impl Program {
    pub(super) fn current() -> Program {
        let arguments: Vec<OsString> = std::env::args_os().collect();
        let runs = std::env::current_exe().ok();
        // The name that was asked for, where that is a whole path: a link that an upgrade sets anew is followed anew.
        // What runs may have been started when its file was gone already.
        let is_name = |path: &PathBuf| {
            path.is_absolute() && (path.is_file() || !runs.as_ref().is_some_and(|runs| runs.is_file()))
        };
        let asked = arguments.first().map(PathBuf::from).filter(is_name);
        Program { path: asked.or(runs), arguments }
    }

    pub(super) fn path(&self) -> Option<PathBuf> {
        self.path.clone().or_else(|| self.arguments.first().map(PathBuf::from))
    }

    /// What starts it, with what it is left.
    pub(super) fn command(&self, path: &Path, legacy: &Legacy) -> Command {
        let mut command = Command::new(path);
        command.args(self.arguments.iter().skip(1));
        legacy.leave_to(&mut command);
        command
    }

    /// Asks the program that lies at the path by now whether it would start with these arguments, on this store.
    ///
    /// # Errors
    /// Its own last words, or why it could not be asked.
    pub(super) fn try_out(&self) -> Result<(), String> {
        let path = self.path().ok_or("the program's own name is not known")?;
        let mut command = Command::new(&path);
        command.args(self.arguments.iter().skip(1)).arg("--check");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let told = |what: String| format!("{}: {what}", path.display());
        let mut child = command.spawn().map_err(|error| told(error.to_string()))?;
        let Some(ended) = wait(&mut child, TRIAL) else {
            return Err(told(format!("it did not say within {} s whether it would", TRIAL.as_secs())));
        };
        if ended.success() {
            return Ok(());
        }
        let mut words = Vec::new();
        if let Some(said) = child.stderr.take() {
            let _ = said.take(64 * 1024).read_to_end(&mut words);
        }
        let words = String::from_utf8_lossy(&words).split_whitespace().collect::<Vec<_>>().join(" ");
        let words = words.char_indices().nth(LAST_WORDS_CHARS).map_or(&*words, |(end, _)| &words[..end]);
        Err(told(format!("{ended}: {words}")))
    }

    /// Replaces this process. Returns only when that failed, with the reason.
    #[cfg(unix)]
    pub(super) fn restart(&self, legacy: &Legacy) -> anyhow::Error {
        use std::os::unix::process::CommandExt as _;
        ignore_hangups();
        let Some(path) = self.path() else {
            return anyhow::anyhow!("cannot restart: the program's own name is not known");
        };
        let mut last = None;
        for image in images(&path, legacy.recovery.is_some()) {
            if let Some(error) = &last {
                tracing::error!(component = "command-center", "{error:#}; the program that ran is started again");
            }
            let error = self.command(&image, legacy).arg0(&path).exec();
            last =
                Some(anyhow::Error::new(error).context(format!("cannot restart: {} does not start", image.display())));
        }
        last.unwrap_or_else(|| anyhow::anyhow!("cannot restart"))
    }

    /// Ends this process with the code at which its parent starts another.
    #[cfg(windows)]
    pub(super) fn restart(&self, legacy: &Legacy) -> anyhow::Error {
        std::process::exit(super::parent::code_of_restart(legacy.recovery.is_some()))
    }
}

/// Waits for a child that is to end soon; one that does not is ended. `None` where it had to be.
fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let until = Instant::now() + limit;
    while Instant::now() < until {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) => std::thread::sleep(TRIAL_LOOK),
            Err(_) => break,
        }
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}

/// What to execute, in this order. What runs can always be started again, also when its file is gone; a program
/// that helps itself starts that before anything else.
#[cfg(unix)]
fn images(path: &Path, is_recovery: bool) -> Vec<PathBuf> {
    let mut images = vec![path.to_owned()];
    if cfg!(target_os = "linux") {
        images.insert(usize::from(!is_recovery), PathBuf::from("/proc/self/exe"));
    }
    images
}

/// A hangup while the successor comes up must not end it: what is ignored stays so until it asks for its own.
#[cfg(unix)]
#[expect(unsafe_code, reason = "nothing else has a door to this")]
fn ignore_hangups() {
    // SAFETY: the handler is none of ours, and nothing of this program's is touched.
    unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
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
                {
                    let mut legacy = locked(&self.legacy);
                    (legacy.recoveries, legacy.recovery) = (next, Some(why.clone()));
                }
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
        let program = Program { path: Some("/opt/cc".into()), arguments };
        let command = program.command(&program.path().unwrap(), &legacy);
        assert_eq!(command.get_program(), "/opt/cc");
        let given: Vec<_> = command.get_args().collect();
        assert_eq!(given.get(..3).unwrap(), ["serve", "--addr", "127.0.0.1:0"]);
        // On Windows an argument says what is handed over.
        assert_eq!(given.len(), if cfg!(windows) { 5 } else { 3 });
        let told = |name: &str| command.get_envs().find(|(known, _)| *known == name).and_then(|(_, value)| value);
        assert_eq!(told("COMMAND_CENTER_RESUMED_ADDR").unwrap(), "127.0.0.1:8123");
        assert_eq!(told("COMMAND_CENTER_RECOVERIES"), None);
    }

    #[cfg(unix)]
    #[test]
    fn a_successor_that_would_not_start_says_why() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cc");
        let program = Program { path: Some(path.clone()), arguments: vec!["cc".into(), "serve".into()] };
        let tried = |script: Option<&str>, mode: u32| {
            let _ = std::fs::remove_file(&path);
            if let Some(script) = script {
                std::fs::write(&path, script).unwrap();
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            }
            program.try_out()
        };
        assert_eq!(tried(Some("#!/bin/sh\n[ \"$*\" = 'serve --check' ]\n"), 0o755), Ok(()));
        let why = tried(Some("#!/bin/sh\necho 'a newer  store' >&2\nexit 2\n"), 0o755).unwrap_err();
        assert!(why.contains("a newer store") && why.contains("cc: exit status: 2"), "{why}");
        assert!(tried(Some("#!/bin/sh\n"), 0o644).unwrap_err().contains("denied"));
        assert!(tried(None, 0).unwrap_err().contains("No such file"));
    }

    #[cfg(unix)]
    #[test]
    fn what_runs_is_what_is_left_when_its_file_is_gone() {
        let named = Path::new("/opt/cc");
        assert_eq!(images(named, false)[0], named);
        if cfg!(target_os = "linux") {
            assert_eq!(images(named, false)[1], Path::new("/proc/self/exe"));
            assert_eq!(images(named, true)[0], Path::new("/proc/self/exe"), "a recovery is no upgrade");
        }
    }
}
