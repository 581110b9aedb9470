//! What comes before the first request: the socket, the data directory, the sandbox, signals.
//! Each failure is one clear line that says what to do.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::adapters::clock::Clock;
use crate::adapters::connectors::exec::Programs;
use crate::adapters::source::Source;
use crate::adapters::store::StoreError;
use crate::adapters::store::network_path;
use crate::app::{App, Pulse};
use crate::core::model::{Connector, ScheduleId};
use crate::sandbox::{BASE_PATH, SandboxOptions};
use crate::settings::Settings;
use crate::tasks::{Ended, GitKeeper};

/// How often a restarted program tries for its address while its predecessor lets go of it.
const RETRIES: u32 = 50;
const RETRY_EVERY: Duration = Duration::from_millis(100);

/// Uses the socket that was handed over, unless the settings ask for another address by now.
pub(super) async fn listen(
    addr: SocketAddr,
    resumed: Option<SocketAddr>,
    (handed, is_given): (Option<std::net::TcpListener>, bool),
) -> anyhow::Result<TcpListener> {
    let is_wanted = |listener: &std::net::TcpListener| {
        is_given || addr.port() == 0 || listener.local_addr().is_ok_and(|bound| bound == addr)
    };
    match handed.filter(is_wanted).and_then(|listener| TcpListener::from_std(listener).ok()) {
        Some(listener) => Ok(listener),
        None => bind(addr, resumed).await,
    }
}

/// Listens on `addr`, or after a restart on the address it had before.
async fn bind(addr: SocketAddr, resumed: Option<SocketAddr>) -> anyhow::Result<TcpListener> {
    // Port 0 asks for any free port; a restart keeps the one it was given.
    let addr = match resumed {
        Some(before) if addr.port() == 0 => before,
        _ => addr,
    };
    let mut left = if resumed.is_some() { RETRIES } else { 0 };
    loop {
        match TcpListener::bind(addr).await {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && left > 0 => {
                left -= 1;
                tokio::time::sleep(RETRY_EVERY).await;
            }
            Err(error) => return Err(bind_error(addr, &error)),
        }
    }
}

fn bind_error(addr: SocketAddr, error: &io::Error) -> anyhow::Error {
    let remedy = "choose another with --addr or COMMAND_CENTER_ADDR";
    match error.kind() {
        io::ErrorKind::AddrInUse => anyhow!("{addr} is in use by another program; stop that one, or {remedy}"),
        io::ErrorKind::PermissionDenied => {
            anyhow!("this user may not listen on {addr}; {remedy} (1024 and up are free)")
        }
        io::ErrorKind::AddrNotAvailable => anyhow!("{addr} is no address of this machine; {remedy}"),
        _ => anyhow!("cannot listen on {addr}: {error}; {remedy}"),
    }
}

/// The programs that `exec` may run. One that is not there is no reason not to start.
pub(super) fn programs(settings: &Settings) -> Programs {
    let programs = Programs::new(&settings.exec_allow, std::env::var_os("PATH").unwrap_or_default());
    for name in programs.missing() {
        tracing::warn!(component = "exec", "COMMAND_CENTER_EXEC_ALLOW lists {name}, which is not a program here");
    }
    programs
}

/// Where programs' runs have their directories: beside the database, whose lock keeps other servers away.
pub(super) fn exec_folder(database: &Path) -> PathBuf {
    let mut folder = database.as_os_str().to_owned();
    folder.push(".exec");
    folder.into()
}

/// Makes the data directory and tries to write in it.
pub(super) fn check_data_dir(dir: &Path, database: &Path) -> anyhow::Result<()> {
    if let Some(kind) = network_path(database) {
        return Err(anyhow!(
            "the database {} lies on {kind}, where SQLite loses data; keep it on a disk of this machine (--dsn, --data-dir) and have it replicated there (COMMAND_CENTER_REPLICATION_URL)",
            database.display()
        ));
    }
    let tried = std::fs::create_dir_all(dir).and_then(|()| tempfile::tempfile_in(dir));
    tried.map(|_| ()).map_err(|error| {
        anyhow!(
            "cannot write in the data directory {}: {error}; make it writable, or choose another with --data-dir or COMMAND_CENTER_DATA_DIR",
            dir.display()
        )
    })
}

/// Starts the practice AccuLynx on a free port of loopback and says where it is.
pub(super) async fn start_sandbox(
    options: SandboxOptions,
    clock: Clock,
    stop: CancellationToken,
) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("no free port for the practice AccuLynx")?;
    let addr = listener.local_addr().context("the practice AccuLynx has no address")?;
    tokio::spawn(async move {
        if let Err(error) = crate::sandbox::serve(listener, options, clock, stop).await {
            tracing::error!(component = "sandbox", %error, "the practice AccuLynx failed");
        }
    });
    Ok(addr)
}

/// Resolves when the program is asked to end.
pub(super) async fn signal() {
    let interrupt = async {
        if tokio::signal::ctrl_c().await.is_err() {
            // Without a handler the system ends the program by itself.
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    let terminate = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut stream) => {
                stream.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    // A closed console and the machine's end: Windows grants a few seconds.
    #[cfg(windows)]
    let terminate = async {
        use tokio::signal::windows;
        let all = (windows::ctrl_break(), windows::ctrl_close(), windows::ctrl_shutdown());
        let (Ok(mut pause), Ok(mut close), Ok(mut shutdown)) = all else {
            return std::future::pending().await;
        };
        tokio::select! {
            _ = pause.recv() => {}
            _ = close.recv() => {}
            _ = shutdown.recv() => {}
        }
    };
    tokio::select! {
        () = interrupt => {}
        () = terminate => {}
    }
}

#[cfg(unix)]
pub(super) type Hangups = Option<tokio::signal::unix::Signal>;
#[cfg(not(unix))]
pub(super) struct Hangups;

/// Takes SIGHUP from now on; those that come before anybody listens wait.
#[cfg(unix)]
pub(super) fn hangups() -> Hangups {
    tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).ok()
}

#[cfg(not(unix))]
pub(super) fn hangups() -> Hangups {
    Hangups
}

/// SIGHUP restarts the program, as the API does. One that was started from a terminal ends with it.
#[cfg(unix)]
pub(super) fn restart_on_hangup(app: Arc<App>, hangups: Hangups) {
    use crate::core::model::{Caller, Source as Model};
    use std::io::IsTerminal as _;

    let has_terminal = io::stdin().is_terminal();
    tokio::spawn(async move {
        let Some(mut hangups) = hangups else { return };
        while hangups.recv().await.is_some() {
            if has_terminal {
                app.stop();
                continue;
            }
            let caller = Caller { source: Model::CommandCenter, actor: "SIGHUP".to_owned() };
            if let Err(error) = app.restart(&caller).await {
                tracing::warn!(component = "command-center", %error, "SIGHUP does not restart the program");
            }
        }
    });
}

#[cfg(not(unix))]
pub(super) fn restart_on_hangup(_: Arc<App>, _: Hangups) {}

/// Works with the repository, once that can be worked with.
pub(super) async fn keep_git(app: Arc<App>, pulse: Pulse) -> Ended {
    loop {
        pulse.waits(GIT_CHECK, "looking at the repository");
        let Err(error) = app.check_git().await else { break };
        pulse.failed(&error);
        if !pulse.sleep(GIT_AGAIN, "the next look at the repository").await {
            return Ok(());
        }
    }
    pulse.is_well();
    GitKeeper::new(app).run(pulse).await
}

/// How long git may take to say what repository there is.
const GIT_CHECK: Duration = Duration::from_secs(300);

const GIT_AGAIN: Duration = Duration::from_secs(20);

/// How long moving the write-ahead log into the database may take on a slow disk.
const LONGEST_CHECKPOINT: Duration = Duration::from_secs(300);

/// Follows the thread that keeps the write-ahead log short: nothing else would notice if it hung.
pub(super) async fn follow_checkpoints(app: Arc<App>, pulse: Pulse) -> Ended {
    let mut seen = None;
    while !pulse.is_stopping() {
        let rounds = app.store.checkpoint_rounds()?;
        if seen != Some(rounds) {
            seen = Some(rounds);
            pulse.waits(LONGEST_CHECKPOINT, "keeping the write-ahead log short");
        }
        tokio::select! {
            () = pulse.stopped() => {}
            () = tokio::time::sleep(PROBE_EVERY) => {}
        }
    }
    Ok(())
}

const PROBE_EVERY: Duration = Duration::from_secs(1);

/// Asks the store's writer again and again whether it still writes.
pub(super) async fn probe_store(app: Arc<App>, pulse: Pulse) -> Ended {
    loop {
        // It may be busy for as long with what was handed in before.
        pulse.waits(app.settings.scheduler_stall, "the store's writer");
        match app.store.probe().await {
            // The thread is gone, and does not come back.
            Err(error @ StoreError::Stopped) if !pulse.is_stopping() => return Err(error.into()),
            Err(error) => pulse.failed(&error),
            Ok(()) => match app.stay_in_place().await {
                Ok(()) => pulse.is_well(),
                Err(error) => pulse.failed(&error),
            },
        }
        if !pulse.sleep(PROBE_EVERY, "the next look").await {
            return Ok(());
        }
    }
}

/// Where to look and what to try.
pub(super) fn guide(addr: SocketAddr, practice: SocketAddr, desired: &Path) -> String {
    let mut reached = addr;
    if addr.ip().is_unspecified() {
        reached.set_ip(if addr.is_ipv6() { [0, 0, 0, 0, 0, 0, 0, 1].into() } else { [127, 0, 0, 1].into() });
    }
    let url = format!("http://{reached}");
    // By its path, as most will not have put the program in their PATH yet.
    let program = std::env::args().next().unwrap_or_else(|| "command-center".into());
    let sample = Source::new(desired.to_owned()).list().files.into_iter().map(|listed| listed.id);
    let sample = sample.filter(|id| id.connector == Connector::Acculynx).min();
    let file = sample.as_ref().map_or_else(|| "schedules/acculynx/TENANT.yaml".into(), ScheduleId::file);
    let tenant = sample.map_or_else(|| "TENANT".into(), |id| id.tenant.to_string());
    let file = desired.join(file);
    let file = file.display();
    let flags = if reached.port() == 8000 { String::new() } else { format!(" --server {url}") };
    format!(
        "
  Command Center is up, with a practice AccuLynx at http://{practice}{BASE_PATH}

  Look at
    {url}/api/crm/import/acculynx/schedule/status
    {url}/ops/health
    {url}/metrics
    {url}/docs

  Try
    edit {file}, save, and look at the status again
    {program} diff{flags}
    {program} schedule list{flags}
    curl -X POST {url}/api/crm/import/acculynx/pause -H 'x-ops: 1' -H 'x-tenant: {tenant}'
    {program} audit verify{flags}

  Ctrl-C stops it.
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_used_port_is_one_clear_line() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = taken.local_addr().unwrap();
        let error = bind(addr, None).await.unwrap_err().to_string();
        assert!(error.starts_with(&format!("{addr} is in use")) && !error.contains('\n'), "{error}");
        assert!(error.contains("--addr"));
    }

    #[tokio::test]
    async fn a_restart_waits_for_its_own_port() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = taken.local_addr().unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let waiting = tokio::spawn(async move { bind(any, Some(addr)).await });
        tokio::time::sleep(Duration::from_millis(150)).await;
        drop(taken);
        assert_eq!(waiting.await.unwrap().unwrap().local_addr().unwrap(), addr);
    }

    #[test]
    fn a_data_directory_that_cannot_be_is_named() {
        let folder = tempfile::tempdir().unwrap();
        check_data_dir(&folder.path().join("a/b"), Path::new("store.db")).unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = check_data_dir(&file, Path::new("store.db")).unwrap_err().to_string();
        assert!(error.contains("file") && error.contains("--data-dir"), "{error}");
    }

    #[test]
    fn the_guide_names_addresses_that_can_be_opened() {
        let practice = SocketAddr::from(([127, 0, 0, 1], 4000));
        let desired = tempfile::tempdir().unwrap();
        let folder = desired.path().join("schedules/acculynx");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("peakpro.yaml"), "interval_sec: 5\n").unwrap();
        let guide = guide(SocketAddr::from(([0, 0, 0, 0], 9000)), practice, desired.path());
        assert!(guide.contains("peakpro.yaml, save") && guide.contains("'x-tenant: peakpro'"), "{guide}");
        assert!(guide.contains("http://127.0.0.1:9000/ops/health") && guide.contains("--server http://127.0.0.1:9000"));
    }
}
