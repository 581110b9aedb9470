//! `serve`: starts the server, waits for its end, and starts it anew when that is asked. The only
//! place that spawns tasks.

mod handover;
#[cfg(any(windows, test))]
mod parent;
mod replicate;
mod restart;
mod startup;
#[cfg(windows)]
mod windows;

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use handover::{Inheritance, Legacy};
use restart::{Program, Rescue, SharedLegacy, locked};

use super::settings_args::SettingsArgs;
use super::{CliError, Exit, Global, out};
use crate::adapters::clock::Clock;
use crate::adapters::connectors::acculynx::AccuLynx;
use crate::adapters::connectors::exec::Exec;
use crate::adapters::connectors::http::Http;
use crate::adapters::connectors::noop::Noop;
use crate::adapters::connectors::{Connectors, Secret};
use crate::adapters::store::rescue;
use crate::adapters::store::{SqliteStore, Store as _};
use crate::app::{App, DISPATCHER, STORE, heal};
use crate::core::watch::Need;
use crate::http::Starting;
use crate::sandbox::{BASE_PATH, KEY_PREFIX, SandboxOptions};
use crate::settings::{Loaded, Settings};
use crate::tasks::{
    Auditor, Dispatcher, HintQueue, Janitor, Keeper, NotaryClerk, Reconciler, SpaceKeeper, Supervisor, Watchdog,
    Watcher,
};
use crate::telemetry::{Metrics, init_logging};

/// How long the store may take to finish what was handed in and to close.
const CLOSE_GRACE: Duration = Duration::from_secs(15);

/// For how long nobody is let in any more and who is in is still answered.
const LAST_CALL: Duration = Duration::from_millis(200);

/// How long the loops may take to end once they are told to.
const LOOP_GRACE: Duration = Duration::from_secs(15);

/// How often a task shows that tasks are carried out at all.
const TICK: Duration = Duration::from_secs(1);

/// How long the last segments for the replica may take. What they leave is sent by the next start.
const LAST_SHIPMENT: Duration = Duration::from_secs(10);
const RESTART_SHIPMENT: Duration = Duration::from_secs(1);

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
    /// Look whether a server would start like this, then end: the settings, the data directory, the store's schema.
    /// Touches nothing, and may be asked while a server runs.
    #[arg(long)]
    check: bool,
    /// What the parent hands over; never given by hand.
    #[cfg(windows)]
    #[arg(long, hide = true)]
    handed: Option<String>,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// Why the server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Stopped,
    /// To be started anew.
    Restart,
}

pub(super) fn serve(args: ServeArgs, global: &Global) -> Result<Exit, CliError> {
    let loaded = args.settings.load(args.config.clone())?;
    if args.print_config {
        print_config(&loaded, global);
        return Ok(Exit::Done);
    }
    if args.check {
        return check(&loaded.settings, global);
    }
    // Asked now: after an upgrade in place the running program's path no longer names it.
    let program = Arc::new(Program::current());
    #[cfg(unix)]
    let handed = handover::handed();
    #[cfg(windows)]
    let handed = match args.handed {
        None => return parent::keep(&program, || args.settings.load(args.config.clone()).ok()).map_err(Into::into),
        handed => handed,
    };
    let inheritance = Inheritance::take(handed.as_deref());
    let legacy = SharedLegacy::default();
    init_logging(loaded.settings.log_format, loaded.settings.log_level)?;
    for warning in &loaded.warnings {
        tracing::warn!(component = "settings", "{warning}");
    }
    let sandbox =
        args.sandbox.then(|| super::sandbox::options(args.sandbox_seed, args.sandbox_jobs, args.sandbox_contacts));
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    let ending = runtime.block_on(run(loaded.settings, sandbox, inheritance, &program, &legacy));
    runtime.shutdown_timeout(SHUTDOWN_GRACE);
    match ending? {
        Ending::Stopped => Ok(Exit::Done),
        Ending::Restart => Err(program.restart(&locked(&legacy)).into()),
    }
}

/// The application and its loops.
struct Running {
    app: Arc<App>,
    engine: Arc<SqliteStore>,
    loops: Arc<Supervisor>,
    watchdog: JoinHandle<()>,
    /// Ends the watchdog, after all that it watches.
    watched: CancellationToken,
}

impl Running {
    /// Opens the store, brings the fleet up and starts the loops. Damage that shows only when the store is read is
    /// mended like any other.
    async fn start(
        settings: Settings,
        clock: Clock,
        lock: Option<File>,
        program: &Arc<Program>,
        legacy: &SharedLegacy,
    ) -> anyhow::Result<Running> {
        let begin = |engine| Running::over(engine, settings.clone(), clock.clone(), program, legacy);
        let replica = replicate::candidate(&settings);
        heal::start(&settings, &clock, lock, replica, begin).await
    }

    async fn over(
        engine: Arc<SqliteStore>,
        settings: Settings,
        clock: Clock,
        program: &Arc<Program>,
        legacy: &SharedLegacy,
    ) -> anyhow::Result<Running> {
        let metrics = Arc::new(Metrics::new(settings.metric_tenants)?);
        let exec = Arc::new(Exec::new(startup::programs(&settings), startup::exec_folder(&settings.dsn)));
        let (acculynx, http) = (Arc::new(AccuLynx::new()?), Arc::new(Http::new()?));
        let connectors = Connectors { acculynx, exec, http, noop: Arc::new(Noop) };
        let app = App::new(settings, clock, engine.clone(), connectors, metrics);
        let next = program.clone();
        app.check_successor(move || next.try_out());
        // What is optional keeps nothing from starting: its loop tries again, and the health shows it.
        if let Err(error) = replicate::replicate(&app, engine.clone()) {
            tracing::error!(component = "replication", "going on without replication: {error:#}; trying again");
        }
        if let Err(error) = app.check_git().await {
            tracing::error!(component = "git", %error, "going on without git; trying again");
        }
        let hints = Arc::new(HintQueue::default());
        let watcher = Arc::new(Watcher::new(app.clone(), hints.clone()));
        watcher.begin();
        app.bring_up().await?;
        app.open_notary().await;
        app.sign_restoring().await;
        let loops = Arc::new(Supervisor::new(app.clone(), Handle::current()));
        start_loops(&loops, &app, &engine, &hints, &watcher);
        let watched = CancellationToken::new();
        let (watchdog, stop) = (Watchdog::new(app.clone(), loops.clone()), watched.clone());
        let mut rescue = Rescue { app: app.clone(), program: program.clone(), legacy: legacy.clone(), asked: None };
        let watchdog = std::thread::Builder::new()
            .name("watchdog".to_owned())
            .spawn(move || watchdog.run(&stop, move |why| rescue.see_to(why)))
            .context("cannot start the watchdog's thread")?;
        Ok(Running { app, engine, loops, watchdog, watched })
    }

    /// Lets the loops end, then closes the store; nothing is claimed any more, and what ended is recorded.
    /// Returns the store's lock, still held, where a successor is to have it.
    async fn stop(self) -> Option<File> {
        let Running { app, engine, loops, watchdog, watched } = self;
        let left = loops.stopped(LOOP_GRACE).await;
        if !left.is_empty() {
            tracing::warn!(component = "command-center", "did not end in time: {}", left.join(", "));
        }
        // Nothing writes any more: this end is the one that the next start finds.
        if !matches!(tokio::time::timeout(CLOSE_GRACE, app.checkpoint_now()).await, Ok(Ok(_))) {
            tracing::warn!(component = "notary", "the audit log's end was not signed");
        }
        if let Some(replication) = app.replication() {
            // A restart has its clients waiting.
            replication.finish(if app.is_restarting() { RESTART_SHIPMENT } else { LAST_SHIPMENT }).await;
        }
        // A restart has its clients waiting.
        if !app.is_restarting() {
            app.snapshot_at_stop().await;
        }
        let lock = if app.is_restarting() { engine.keep_lock() } else { None };
        let closing = tokio::task::spawn_blocking(move || engine.close());
        if tokio::time::timeout(CLOSE_GRACE, closing).await.is_err() {
            tracing::error!(
                component = "command-center",
                "the store does not close; what was answered is on disk all the same"
            );
        } else if let Some(replication) = app.replication() {
            replication.leave().await;
        }
        watched.cancel();
        watchdog.thread().unpark();
        // A thread that panicked has nothing left to wait for.
        let _ = tokio::task::spawn_blocking(move || watchdog.join()).await;
        lock
    }
}

/// Every loop there is, one line each: a name, whether the program can do without it, and its body, which
/// is made anew for each start.
fn start_loops(
    loops: &Supervisor,
    app: &Arc<App>,
    engine: &Arc<SqliteStore>,
    hints: &Arc<HintQueue>,
    watcher: &Arc<Watcher>,
) {
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
    let a = app.clone();
    loops.start("keeper", Need::Optional, move |pulse| Keeper::new(a.clone()).run(pulse));
    if app.settings.git.is_on() {
        let a = app.clone();
        loops.start("git-keeper", Need::Optional, move |pulse| startup::keep_git(a.clone(), pulse));
    }
    let a = app.clone();
    loops.start("space-keeper", Need::Optional, move |pulse| SpaceKeeper::new(a.clone()).run(pulse));
    let a = app.clone();
    loops.start(STORE, Need::Vital, move |pulse| startup::probe_store(a.clone(), pulse));
    let a = app.clone();
    loops.start("checkpointer", Need::Vital, move |pulse| startup::follow_checkpoints(a.clone(), pulse));
    if app.settings.replication.on {
        let (a, e) = (app.clone(), engine.clone());
        loops.start("replicator", Need::Optional, move |pulse| replicate::keep(a.clone(), e.clone(), pulse));
    }
    loops.start("runtime", Need::Vital, |pulse| async move {
        while pulse.sleep(TICK, "the next tick").await {}
        Ok(())
    });
}

/// Runs the server until it is told to stop or to restart.
async fn run(
    mut settings: Settings,
    sandbox: Option<SandboxOptions>,
    inheritance: Inheritance,
    program: &Arc<Program>,
    legacy: &SharedLegacy,
) -> anyhow::Result<Ending> {
    // From here on a hangup asks for a restart, and ends nothing.
    let hangups = startup::hangups();
    startup::check_data_dir(&settings.data_dir, &settings.dsn)?;
    let Inheritance { addr: resumed, listener: handed, is_given, lock, recoveries, recovery } = inheritance;
    let (is_resumed, is_given) = (resumed.is_some(), is_given && handed.is_some());
    let listener = startup::listen(settings.addr, resumed, (handed, is_given)).await?;
    let addr = listener.local_addr().context("the listening socket has no address")?;
    let listener = listener.into_std().context("the listening socket cannot be shared")?;
    let kept = listener.try_clone().ok();
    let starting = answer_probes(&listener);
    *locked(legacy) = Legacy { addr: Some(addr), listener: kept, is_given, recoveries, ..Legacy::default() };
    let listener = TcpListener::from_std(listener).context("the listening socket cannot be used")?;
    let clock = Clock::System;
    let practice_stop = CancellationToken::new();
    let mut guide = None;
    if let Some(options) = sandbox {
        let practice = startup::start_sandbox(options, clock.clone(), practice_stop.clone()).await?;
        settings.acculynx.base_url = Some(format!("http://{practice}{BASE_PATH}"));
        settings.acculynx.api_key = Some(Secret(format!("{KEY_PREFIX}{{tenant}}")));
        guide = Some(startup::guide(addr, practice, &settings.desired_dir));
    }
    let running = Running::start(settings, clock, lock, program, legacy).await?;
    let app = running.app.clone();
    if let Some(why) = recovery {
        app.tell_of_recovery(&why).await;
    }
    let stopping = app.clone();
    stop_on_signals(move || stopping.stop());
    startup::restart_on_hangup(app.clone(), hangups);
    tracing::info!(component = "command-center", address = %addr, "listening on http://{addr}");
    // Who reads it has done so before a restart.
    if let Some(guide) = guide.filter(|_| !is_resumed) {
        out::note(&guide);
    }
    // Probes are told by the program itself from here on, and whoever has waited is served.
    let router = crate::http::router(app.clone());
    if let Some(starting) = starting {
        starting.over(router.clone());
    }
    let serving = async {
        let served = crate::http::serve(listener, router, app.clone()).await;
        // A server that failed by itself must take the rest down with it.
        app.leaving.cancel();
        served
    };
    let (served, ()) = tokio::join!(serving, leave(&app, legacy));
    let lock = running.stop().await;
    practice_stop.cancel();
    served.with_context(|| format!("the server on {addr} failed"))?;
    locked(legacy).lock = lock;
    Ok(if app.is_restarting() { Ending::Restart } else { Ending::Stopped })
}

/// Answers probes while the program comes up. Where that cannot be had, everybody waits.
fn answer_probes(listener: &std::net::TcpListener) -> Option<Starting> {
    let listener = TcpListener::from_std(listener.try_clone().ok()?).ok()?;
    let (starting, serving) = Starting::on(listener);
    tokio::spawn(serving);
    Some(starting)
}

/// Waits until the program is to end; then lets runs end, while requests are still answered, and closes up.
async fn leave(app: &App, legacy: &SharedLegacy) {
    app.leaving.cancelled().await;
    app.drain_runs(app.settings.drain).await;
    if !app.is_restarting() {
        // Nobody comes after; who connects now is to learn that at once.
        locked(legacy).listener = None;
    }
    // Connections that are kept get a last answer, which says that they are closed; new ones wait for the
    // successor.
    app.doors_closed.cancel();
    tokio::time::sleep(LAST_CALL).await;
    app.shutdown.cancel();
}

/// The first Ctrl-C or SIGTERM asks for an orderly end, the second ends at once.
pub(super) fn stop_on_signals(stop: impl FnOnce() + Send + 'static) {
    tokio::spawn(async move {
        startup::signal().await;
        tracing::info!(component = "command-center", "stopping; once more to stop at once");
        stop();
        startup::signal().await;
        // 128 + SIGINT, as shells count it.
        std::process::exit(130);
    });
}

/// What keeps a server from starting and can be known without starting one.
fn check(settings: &Settings, global: &Global) -> Result<Exit, CliError> {
    startup::check_data_dir(&settings.data_dir, &settings.dsn)?;
    let schema = rescue::check_schema(&settings.dsn).map_err(anyhow::Error::from)?;
    if global.json() {
        out::json(&json!({ "ok": true, "schema": schema.found, "known_schema": schema.known }));
    } else {
        out::line(&schema.tell());
    }
    Ok(Exit::Done)
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
