//! `serve`: starts the server, waits for its end, and starts it anew when that is asked. The only
//! place that spawns tasks.

mod restart;
mod startup;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use serde_json::json;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::settings_args::SettingsArgs;
use super::{CliError, Exit, Global, out};
use crate::adapters::clock::Clock;
use crate::adapters::connectors::acculynx::AccuLynx;
use crate::adapters::connectors::exec::Exec;
use crate::adapters::connectors::http::Http;
use crate::adapters::connectors::noop::Noop;
use crate::adapters::connectors::{Connectors, Secret};
use crate::adapters::store::SqliteStore;
use crate::app::{App, DISPATCHER};
use crate::core::watch::Need;
use crate::sandbox::{BASE_PATH, KEY_PREFIX, SandboxOptions};
use crate::settings::{Loaded, Settings};
use crate::tasks::{
    Auditor, Dispatcher, GitKeeper, HintQueue, Janitor, NotaryClerk, Reconciler, Supervisor, Watchdog, Watcher,
};
use crate::telemetry::{Metrics, init_logging};

/// How long imports in flight may take to end by themselves.
const RUN_GRACE: Duration = Duration::from_secs(10);

/// How long the loops may take to end once they are told to.
const LOOP_GRACE: Duration = Duration::from_secs(15);

/// How often a task shows that tasks are carried out at all.
const TICK: Duration = Duration::from_secs(1);

/// How long tasks may take to notice the end of the runtime.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  command-center serve --sandbox
  command-center serve --addr 0.0.0.0:8000 --desired-dir /etc/command-center/desired
  command-center serve --config command-center.yaml --print-config

A flag wins over the environment, the environment over the file. COMMAND_CENTER_ACCULYNX_API_KEY
is read from the environment alone.")]
pub(super) struct ServeArgs {
    /// Also start a practice AccuLynx on loopback and use it where a schedule names no connection.
    #[arg(long)]
    sandbox: bool,
    /// The sandbox: same seed, same companies.
    #[arg(long, value_name = "N", requires = "sandbox")]
    sandbox_seed: Option<u64>,
    /// The sandbox: jobs each company starts with.
    #[arg(long, value_name = "N", requires = "sandbox")]
    sandbox_jobs: Option<u32>,
    /// The sandbox: contacts each company starts with.
    #[arg(long, value_name = "N", requires = "sandbox")]
    sandbox_contacts: Option<u32>,
    /// A YAML file with settings, by the names that --print-config shows.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print every setting and where it came from, then end.
    #[arg(long)]
    print_config: bool,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// Why the server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Stopped,
    /// To be started anew on the same address.
    Restart(SocketAddr),
}

pub(super) fn serve(args: ServeArgs, global: &Global) -> Result<Exit, CliError> {
    let loaded = args.settings.load(args.config.clone())?;
    if args.print_config {
        print_config(&loaded, global);
        return Ok(Exit::Done);
    }
    // Asked now: after an upgrade in place the running program's path no longer names it.
    let program = restart::Program::current();
    init_logging(loaded.settings.log_format, loaded.settings.log_level)?;
    for warning in &loaded.warnings {
        tracing::warn!(component = "settings", "{warning}");
    }
    let sandbox =
        args.sandbox.then(|| super::sandbox::options(args.sandbox_seed, args.sandbox_jobs, args.sandbox_contacts));
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    let ending = runtime.block_on(run(loaded.settings, sandbox));
    runtime.shutdown_timeout(SHUTDOWN_GRACE);
    match ending? {
        Ending::Stopped => Ok(Exit::Done),
        Ending::Restart(addr) => Err(program.restart(addr).into()),
    }
}

/// The application and its loops.
struct Running {
    app: Arc<App>,
    loops: Arc<Supervisor>,
    watchdog: JoinHandle<()>,
    /// Ends the watchdog, after all that it watches.
    watched: CancellationToken,
}

impl Running {
    /// Opens the store, brings the fleet up and starts the loops.
    async fn start(settings: Settings, clock: Clock) -> anyhow::Result<Running> {
        let store = Arc::new(SqliteStore::open(&settings.dsn)?);
        let metrics = Arc::new(Metrics::new(settings.metric_tenants)?);
        let exec = Arc::new(Exec::new(startup::programs(&settings), startup::exec_folder(&settings.dsn)));
        let (acculynx, http) = (Arc::new(AccuLynx::new()?), Arc::new(Http::new()?));
        let connectors = Connectors { acculynx, exec, http, noop: Arc::new(Noop) };
        let app = App::new(settings, clock, store, connectors, metrics);
        app.check_git().await?;
        let hints = Arc::new(HintQueue::default());
        let watcher = Arc::new(Watcher::new(app.clone(), hints.clone()));
        watcher.begin();
        app.bring_up().await?;
        app.open_notary().await;
        let loops = Arc::new(Supervisor::new(app.clone(), Handle::current()));
        start_loops(&loops, &app, &hints, &watcher);
        let watched = CancellationToken::new();
        let (watchdog, stop) = (Watchdog::new(app.clone(), loops.clone()), watched.clone());
        let watchdog = std::thread::Builder::new()
            .name("watchdog".to_owned())
            .spawn(move || watchdog.run(&stop))
            .context("cannot start the watchdog's thread")?;
        Ok(Running { app, loops, watchdog, watched })
    }

    /// Lets runs end, then the loops, then closes the store: nothing is claimed any more, and what
    /// ended is recorded.
    async fn stop(self) {
        let Running { app, loops, watchdog, watched } = self;
        app.drain_runs(RUN_GRACE).await;
        let left = loops.stopped(LOOP_GRACE).await;
        if !left.is_empty() {
            tracing::warn!(component = "command-center", "did not end in time: {}", left.join(", "));
        }
        watched.cancel();
        // It sleeps for a second at most; a thread that panicked has nothing left to wait for.
        let _ = tokio::task::spawn_blocking(move || watchdog.join()).await;
        // Nothing writes any more: this end is the one that the next start finds.
        if let Err(error) = app.checkpoint_now().await {
            tracing::warn!(component = "notary", %error, "the audit log's end was not signed");
        }
        let closing = app.store.clone();
        let _ = tokio::task::spawn_blocking(move || closing.close()).await;
    }
}

/// Every loop there is, one line each: a name, whether the program can do without it, and its body, which
/// is made anew for each start.
fn start_loops(loops: &Supervisor, app: &Arc<App>, hints: &Arc<HintQueue>, watcher: &Arc<Watcher>) {
    let (a, runtime, hints) = (app.clone(), Handle::current(), hints.clone());
    loops.start_thread(DISPATCHER, Need::Needed, move |pulse| Dispatcher::new(a.clone()).run(&runtime, &pulse));
    let a = app.clone();
    loops.start("reconciler", Need::Needed, move |pulse| Reconciler::new(a.clone(), hints.clone()).run(pulse));
    let w = watcher.clone();
    loops.start("watcher", Need::Optional, move |pulse| w.clone().run(pulse));
    let a = app.clone();
    loops.start("janitor", Need::Needed, move |pulse| Janitor::new(a.clone()).run(pulse));
    let a = app.clone();
    loops.start("notary", Need::Optional, move |pulse| NotaryClerk::new(a.clone()).run(pulse));
    let a = app.clone();
    loops.start("auditor", Need::Optional, move |pulse| Auditor::new(a.clone()).run(pulse));
    if app.settings.git.is_on() {
        let a = app.clone();
        loops.start("git-keeper", Need::Optional, move |pulse| GitKeeper::new(a.clone()).run(pulse));
    }
    loops.start("runtime", Need::Vital, |pulse| async move {
        while pulse.sleep(TICK, "the next tick").await {}
        Ok(())
    });
}

/// Runs the server until it is told to stop or to restart.
async fn run(mut settings: Settings, sandbox: Option<SandboxOptions>) -> anyhow::Result<Ending> {
    startup::check_data_dir(&settings.data_dir)?;
    let resumed = restart::resumed();
    let listener = startup::bind(settings.addr, resumed).await?;
    let addr = listener.local_addr().context("the listening socket has no address")?;
    let clock = Clock::System;
    let practice_stop = CancellationToken::new();
    let mut guide = None;
    if let Some(options) = sandbox {
        let practice = startup::start_sandbox(options, clock.clone(), practice_stop.clone()).await?;
        settings.acculynx.base_url = Some(format!("http://{practice}{BASE_PATH}"));
        settings.acculynx.api_key = Some(Secret(format!("{KEY_PREFIX}{{tenant}}")));
        guide = Some(startup::guide(addr, practice, &settings.desired_dir));
    }
    let running = Running::start(settings, clock).await?;
    let app = running.app.clone();
    stop_on_signals(app.shutdown.clone());
    tracing::info!(component = "command-center", address = %addr, "listening on http://{addr}");
    // Who reads it has done so before a restart.
    if let Some(guide) = guide.filter(|_| resumed.is_none()) {
        out::note(&guide);
    }
    let served = crate::http::serve(listener, app.clone()).await;
    // A server that failed by itself must take the rest down with it.
    app.shutdown.cancel();
    running.stop().await;
    practice_stop.cancel();
    served.with_context(|| format!("the server on {addr} failed"))?;
    Ok(if app.is_restarting() { Ending::Restart(addr) } else { Ending::Stopped })
}

/// The first Ctrl-C or SIGTERM asks for an orderly end, the second ends at once.
pub(super) fn stop_on_signals(stop: CancellationToken) {
    tokio::spawn(async move {
        startup::signal().await;
        tracing::info!(component = "command-center", "stopping; once more to stop at once");
        stop.cancel();
        startup::signal().await;
        // 128 + SIGINT, as shells count it.
        std::process::exit(130);
    });
}

fn print_config(loaded: &Loaded, global: &Global) {
    if global.json() {
        out::json(&json!({ "settings": loaded.shown, "warnings": loaded.warnings }));
        return;
    }
    let rows = loaded.shown.iter().map(|shown| vec![shown.name.to_owned(), shown.value.clone(), shown.from.clone()]);
    out::table(&["SETTING", "VALUE", "FROM"], rows.collect());
    loaded.warnings.iter().for_each(|warning| out::warning(warning));
}
