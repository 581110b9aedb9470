//! Runs under load: what admission costs by itself, tenants that hang, small tenants beside a large one,
//! and how fast records come in.

use std::sync::Arc;
use std::time::{Duration, Instant};

use command_center::adapters::clock::Clock;
use command_center::adapters::connectors::acculynx::{AccuLynx, Tuning};
use command_center::adapters::connectors::noop::Noop;
use command_center::adapters::connectors::{Connect, Connectors, ImportContext, ImportOutcome};
use command_center::adapters::store::{SharedStore, SqliteStore};
use command_center::app::{App, Backfill, RunNow};
use command_center::core::fair::{Bid, Credential, Fair, Limits, Urgency};
use command_center::core::model::{Caller, Connector, ScheduleId, Source};
use command_center::sandbox::{BASE_PATH, SandboxOptions};
use command_center::settings::Settings;
use command_center::telemetry::Metrics;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::fire::Firing;
use super::{Fleet, Table, ms, percentile, runtime};

pub fn measure(table: &mut Table) {
    if table.wants("admission") {
        admission(table, "admission alone: a run in and out, 10,000 waiting", None);
        admission(table, "admission alone: the same, 9,999 of them held up by one credential", Some(Credential(1)));
    }
    if table.wants("1 % hanging") {
        hanging_herd(table);
        hanging_lateness(table);
    }
    if table.wants("small tenants") {
        fairness(table);
    }
    if table.wants("records a second") {
        throughput(table);
    }
}

/// One run starts, ends and is replaced, over and over, while ten thousand wait.
fn admission(table: &mut Table, title: &str, held_by: Option<Credential>) {
    const WAITING: usize = 10_000;
    const ROUNDS: u32 = 100_000;
    let mut fair = Fair::new(Limits { per_credential: Some(1), ..Limits::default() });
    let bid = |tenant: usize, credential, nominal| Bid {
        tenant: format!("tenant-{tenant:06}").parse().expect("a tenant"),
        connector: Connector::Noop,
        credential,
        urgency: Urgency::Due,
        nominal,
    };
    for n in 0..WAITING {
        fair.push(bid(n, held_by, 0));
    }
    let mut going: std::collections::VecDeque<_> = std::iter::from_fn(|| fair.next(0)).collect();
    let start = Instant::now();
    for n in 0..ROUNDS {
        // Where one credential holds all others up, the run that comes and goes has none.
        fair.push(bid(WAITING + n as usize % WAITING, None, i64::from(n)));
        let ended = going.pop_back().expect("a run that goes on");
        fair.leave(ended);
        while let Some(started) = fair.next(0) {
            going.push_back(started);
        }
    }
    let each = start.elapsed() / ROUNDS;
    let figure = format!("{:.2} µs", each.as_secs_f64() * 1e6);
    table.row(title, figure, format!("{} wait at the end", fair.waiting()), "5 µs");
}

/// Every hundredth tenant's import never ends by itself.
struct HangingSome;

impl Connect for HangingSome {
    fn import(&self, context: ImportContext) -> BoxFuture<'_, ImportOutcome> {
        async move {
            if context.id.tenant.as_str().ends_with("00") {
                context.cancel.cancelled().await;
            }
            Noop.import(context).await
        }
        .boxed()
    }
}

/// Takes a few milliseconds.
struct Slow(Duration);

impl Connect for Slow {
    fn import(&self, context: ImportContext) -> BoxFuture<'_, ImportOutcome> {
        async move {
            tokio::time::sleep(self.0).await;
            Noop.import(context).await
        }
        .boxed()
    }
}

fn open(fleet: &Fleet, settings: Settings, noop: Arc<dyn Connect>) -> Arc<App> {
    let settings = Settings { desired_dir: fleet.desired(), ..settings };
    let store: SharedStore = Arc::new(SqliteStore::open(&fleet.database()).expect("the store"));
    let tuning = Tuning { key_rate: 0.0, host_rate: 0.0, ..Tuning::default() };
    let connectors = Connectors {
        acculynx: Arc::new(AccuLynx::with(tuning).expect("a client")),
        noop,
        exec: Arc::new(Noop),
        http: Arc::new(Noop),
    };
    App::new(settings, Clock::System, store, connectors, Arc::new(Metrics::new(1000).expect("metrics")))
}

/// From each run's slot to its start in milliseconds, sorted, of those whose schedule's name is like this.
fn waits(fleet: &Fleet, like: &str) -> Vec<f64> {
    let database = rusqlite::Connection::open(fleet.database()).expect("the database");
    let mut waits: Vec<f64> = database
        .prepare(
            "SELECT started_ms - nominal_ms FROM runs
             WHERE trigger = 'schedule' AND ended_ms IS NOT NULL AND schedule LIKE ?1",
        )
        .and_then(|mut runs| runs.query_map([like], |row| row.get::<_, i64>(0))?.collect::<Result<Vec<_>, _>>())
        .expect("the runs")
        .into_iter()
        .map(|wait| wait as f64)
        .collect();
    waits.sort_by(f64::total_cmp);
    waits
}

const TIMEOUT_SEC: u32 = 2;

/// All on one minute, 100 of 10,000 hanging until their timeout: from the minute until the last other one ended.
fn hanging_herd(table: &mut Table) {
    let fleet = Fleet::new(10_000, |_| format!("cron: \"* * * * *\"\ntimeout_sec: {TIMEOUT_SEC}\n"));
    let firing = Firing::over(open(&fleet, Settings::default(), Arc::new(HangingSome)));
    let due = firing.next_due();
    std::thread::sleep(firing.app.clock.until(due));
    let database = rusqlite::Connection::open(fleet.database()).expect("the database");
    let start = Instant::now();
    let mut ended = 0;
    while ended < 9_900 && start.elapsed() < Duration::from_secs(40) {
        std::thread::sleep(Duration::from_millis(10));
        ended = database
            .query_row("SELECT count(*) FROM runs WHERE ok = 1 AND nominal_ms = ?1", [due], |row| row.get::<_, i64>(0))
            .expect("a count");
    }
    let took = start.elapsed();
    table.row(
        "10,000 due at one instant, 1 % hanging until their timeout: last of the others done and durable",
        format!("{:.3} s", took.as_secs_f64()),
        format!("timeout {TIMEOUT_SEC} s, 64 at once: 100 that hang fill the room twice"),
        "2 timeouts and 0.15 s",
    );
}

/// Spread over a minute, 1 % hanging: how long the others wait for their start.
fn hanging_lateness(table: &mut Table) {
    let fleet = Fleet::new(10_000, |_| format!("interval_sec: 60\ntimeout_sec: {TIMEOUT_SEC}\n"));
    let firing = Firing::over(open(&fleet, Settings::default(), Arc::new(HangingSome)));
    std::thread::sleep(Duration::from_secs(20));
    let waits = waits(&fleet, "%");
    drop(firing);
    table.row(
        "lateness, 10,000 at 60 s spread, 1 % hanging until their timeout",
        format!("p50 {:.0} ms, p99 {:.0} ms", percentile(&waits, 50.0), percentile(&waits, 99.0)),
        format!("{} runs in 20 s, slot to start in whole milliseconds", waits.len()),
        "p99 5 ms",
    );
}

/// A hundred small tenants, busy for a third of the room; then the same beside one that has 1,000 slots
/// of the past to run.
fn fairness(table: &mut Table) {
    let small = |beside_large: bool| {
        let fleet = Fleet::new(101, |n| format!("interval_sec: {}\n", if n == 100 { 60 } else { 1 }));
        let limits = Limits { global: 4, ..Limits::default() };
        let settings = Settings { limits, ..Settings::default() };
        let firing = Firing::over(open(&fleet, settings, Arc::new(Slow(Duration::from_millis(12)))));
        if beside_large {
            let id: ScheduleId = "noop/tenant-000100".parse().expect("a name");
            let now = firing.app.clock.now();
            let asked = Backfill { from: now - 999 * 60_000, to: now, dry_run: false };
            let caller = Caller { source: Source::Ui, actor: "bench".to_owned() };
            let begun = firing.block_on(firing.app.backfill(&id, asked, &caller)).expect("a backfill");
            assert!(begun.slots.len() > 900, "{} slots", begun.slots.len());
        }
        std::thread::sleep(Duration::from_secs(10));
        let waits = waits(&fleet, "noop/tenant-0000%");
        drop(firing);
        waits
    };
    let (alone, beside) = (small(false), small(true));
    let p99 = |waits: &[f64]| percentile(waits, 99.0);
    table.row(
        "small tenants' wait while one has 1,000 queued",
        format!("p99 {:.0} ms", p99(&beside)),
        format!("p99 {:.0} ms without it, {} and {} runs in 10 s", p99(&alone), beside.len(), alone.len()),
        "1.5 x",
    );
}

/// A first import from the practice AccuLynx, without its pace; beside it the bare insert of the same rows.
fn throughput(table: &mut Table) {
    let fleet = Fleet::new(0, |_| String::new());
    let runtime = runtime();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
    let address = listener.local_addr().expect("an address");
    let (jobs, contacts, every) = (10_000, 10_000, Duration::from_secs(1_000_000_000));
    let options = SandboxOptions {
        jobs,
        contacts,
        job_every: every,
        change_every: every,
        key_limit: u32::MAX,
        ip_limit: u32::MAX,
        ..SandboxOptions::default()
    };
    let stop = CancellationToken::new();
    let sandbox = runtime.spawn(command_center::sandbox::serve(listener, options, Clock::System, stop.clone()));
    let file = fleet.desired().join("schedules/acculynx/peak.yaml");
    std::fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
    let text = format!("interval_sec: 86400\nconnection:\n  base_url: http://{address}{BASE_PATH}\n");
    std::fs::write(file, text).expect("a schedule");
    let mut settings = Settings::default();
    settings.acculynx.api_key = Some(command_center::adapters::connectors::Secret(format!(
        "{}{{tenant}}",
        command_center::sandbox::KEY_PREFIX
    )));
    let app = open(&fleet, settings, Arc::new(Noop));
    let caller = Caller { source: Source::Ui, actor: "bench".to_owned() };
    let start = Instant::now();
    runtime.block_on(app.bring_up()).expect("a start");
    let brought_up = start.elapsed();
    let id: ScheduleId = "acculynx/peak".parse().expect("a name");
    let start = Instant::now();
    let run = runtime.block_on(app.run_now(&id, &caller, Duration::from_secs(300))).expect("a run");
    let took = start.elapsed();
    let answer = if let RunNow::Done(answer) = run { Some(answer) } else { None };
    let answer = answer.expect("an import that ends in time");
    assert!(answer.ok, "{}", answer.message);
    let rows = answer.result.expect("counts").stats.imported;
    app.store.close();
    let bare = bare_inserts(&fleet);
    stop.cancel();
    sandbox.abort();
    let ratio = took.as_secs_f64() / bare.as_secs_f64();
    table.row(
        "import from the practice AccuLynx: records a second",
        format!("{:.0}/s", rows as f64 / took.as_secs_f64()),
        format!(
            "{rows} records, {ratio:.1} x their bare insert a page at a time ({:.0}/s); start {}",
            rows as f64 / bare.as_secs_f64(),
            ms(brought_up)
        ),
        "",
    );
}

/// The same rows into an empty table, durable page by page.
fn bare_inserts(fleet: &Fleet) -> Duration {
    let source = rusqlite::Connection::open(fleet.database()).expect("the database");
    let sql: String = source
        .query_row("SELECT sql FROM sqlite_schema WHERE name = 'records'", [], |row| row.get(0))
        .expect("the table");
    let mut all = source.prepare("SELECT * FROM records").expect("the rows");
    let columns = all.column_count();
    let rows: Vec<Vec<rusqlite::types::Value>> = all
        .query_map([], |row| (0..columns).map(|column| row.get(column)).collect())
        .and_then(Iterator::collect)
        .expect("the rows");
    let mut target = rusqlite::Connection::open(fleet.folder.path().join("bare.db")).expect("a database");
    target
        .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")
        .and_then(|()| target.execute_batch(&sql))
        .expect("a table");
    let marks = vec!["?"; columns].join(",");
    let start = Instant::now();
    for page in rows.chunks(25) {
        let transaction = target.transaction().expect("a transaction");
        for row in page {
            transaction
                .prepare_cached(&format!("INSERT INTO records VALUES ({marks})"))
                .and_then(|mut insert| insert.execute(rusqlite::params_from_iter(row)))
                .expect("an insert");
        }
        transaction.commit().expect("a commit");
    }
    start.elapsed()
}
