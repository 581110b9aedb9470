//! How late runs start when spread, with a quiet and a busy disk, and how fast a herd drains.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use command_center::app::App;
use command_center::app::Pulse;
use command_center::core::model::Millis;
use command_center::tasks::Dispatcher;

use super::{Fleet, Table, open, runtime};

pub fn measure(table: &mut Table) {
    if table.wants("lateness") {
        let fleet = Fleet::new(10_000, |_| "interval_sec: 60\n".to_owned());
        lateness(table, &fleet, "lateness, 10,000 at 60 s spread, quiet disk", "p50 0.5 ms, p99 1.5 ms");
        let busy = BusyDisk::start(&fleet);
        lateness(table, &fleet, "lateness, 10,000 at 60 s spread, busy disk", "p99 5 ms");
        drop(busy);
    }
    let title = "lateness, 10,000 at 60 s spread, while snapshots are made";
    if table.wants(title) {
        let fleet = Fleet::new(10_000, |_| "interval_sec: 60\n".to_owned());
        let firing = Firing::start(&fleet);
        let snapshots = Snapshots::start(&firing);
        lateness_of(table, &firing, title, "p99 5 ms", || format!(", {} snapshots", snapshots.made()));
    }
    if table.wants("lateness, 100,000") {
        let fleet = Fleet::new(100_000, |_| "interval_sec: 600\n".to_owned());
        lateness(table, &fleet, "lateness, 100,000 at 600 s spread, quiet disk", "p50 0.5 ms, p99 1.5 ms");
        let busy = BusyDisk::start(&fleet);
        lateness(table, &fleet, "lateness, 100,000 at 600 s spread, busy disk", "p99 5 ms");
        drop(busy);
    }
    if table.wants("10,000 due at one instant") {
        herd(table, 10_000, "0.15 s");
    }
    if table.wants("100,000 due at one instant") {
        herd(table, 100_000, "1.5 s");
    }
}

/// An application that fires, until it is stopped.
pub struct Firing {
    pub app: Arc<App>,
    runtime: tokio::runtime::Runtime,
    dispatcher: Option<std::thread::JoinHandle<()>>,
}

impl Firing {
    fn start(fleet: &Fleet) -> Firing {
        Firing::over(open(fleet))
    }

    pub fn over(app: Arc<App>) -> Firing {
        let runtime = runtime();
        runtime.block_on(app.bring_up()).expect("a start");
        let (dispatcher, handle, pulse) =
            (Dispatcher::new(app.clone()), runtime.handle().clone(), Pulse::unwatched(&app));
        let dispatcher = Some(std::thread::spawn(move || dispatcher.run(&handle, &pulse).expect("a loop")));
        Firing { app, runtime, dispatcher }
    }

    pub fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// The earliest due time.
    pub fn next_due(&self) -> Millis {
        let due = self.runtime.block_on(self.app.health()).scheduler.next_due_iso.expect("a due time");
        command_center::core::timing::parse_time(&due).expect("a time")
    }
}

impl Drop for Firing {
    fn drop(&mut self) {
        self.app.shutdown.cancel();
        self.runtime.block_on(self.app.drain_runs(Duration::from_secs(5)));
        if let Some(dispatcher) = self.dispatcher.take() {
            dispatcher.join().expect("the dispatcher");
        }
        self.app.store.close();
    }
}

fn lateness(table: &mut Table, fleet: &Fleet, title: &str, goal: &str) {
    lateness_of(table, &Firing::start(fleet), title, goal, String::new);
}

/// `beside` tells what went on meanwhile.
fn lateness_of(table: &mut Table, firing: &Firing, title: &str, goal: &str, beside: impl FnOnce() -> String) {
    let fires = || buckets(&firing.app.metrics.render(), "command_center_fire_lateness_seconds_bucket");
    // What came due while the program started is late for that reason.
    std::thread::sleep(Duration::from_secs(2));
    let before = fires();
    std::thread::sleep(Duration::from_secs(30));
    let since = |((bound, count), (_, before)): ((f64, f64), (f64, f64))| (bound, count - before);
    let buckets: Vec<(f64, f64)> = fires().into_iter().zip(before).map(since).collect();
    let figure =
        format!("p50 {:.2} ms, p99 {:.2} ms", quantile(&buckets, 0.50) * 1000.0, quantile(&buckets, 0.99) * 1000.0);
    let fired = buckets.last().map_or(0.0, |(_, count)| *count);
    table.row(title, figure, format!("{fired:.0} fires in 30 s{}", beside()), goal);
}

/// Cumulative counts by upper bound, as Prometheus writes them.
fn buckets(text: &str, name: &str) -> Vec<(f64, f64)> {
    text.lines()
        .filter(|line| line.starts_with(name))
        .filter_map(|line| {
            let bound = line.split("le=\"").nth(1)?.split('"').next()?;
            let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().ok()? };
            Some((bound, line.rsplit(' ').next()?.parse().ok()?))
        })
        .collect()
}

/// Interpolated within its bucket, as Prometheus does it.
fn quantile(buckets: &[(f64, f64)], q: f64) -> f64 {
    let total = buckets.last().map_or(0.0, |(_, count)| *count);
    let (mut low, mut below) = (0.0, 0.0);
    for (bound, count) in buckets {
        if *count >= total * q {
            let part = if count > &below { (total * q - below) / (count - below) } else { 1.0 };
            return if bound.is_finite() { low + (bound - low) * part } else { low };
        }
        (low, below) = (*bound, *count);
    }
    f64::NAN
}

/// All on one minute: from the minute until the last run is claimed, done and durable.
fn herd(table: &mut Table, count: u32, goal: &str) {
    let fleet = Fleet::new(count as usize, |_| "cron: \"* * * * *\"\n".to_owned());
    let firing = Firing::start(&fleet);
    let due = firing.next_due();
    let database = rusqlite::Connection::open(fleet.database()).expect("the database");
    let wait = firing.app.clock.until(due);
    std::thread::sleep(wait);
    let start = Instant::now();
    let mut done: i64 = 0;
    while done < i64::from(count) && start.elapsed() < Duration::from_secs(50) {
        std::thread::sleep(Duration::from_millis(2));
        // Runs in flight end in the same order; the count of open ones is what an index answers at once.
        let runs: i64 = database
            .query_row("SELECT max(id) FROM runs", [], |row| row.get::<_, Option<i64>>(0))
            .map(|n| n.unwrap_or(0))
            .expect("a count");
        if runs >= i64::from(count) {
            done = database
                .query_row("SELECT ?1 - count(*) FROM runs WHERE ended_ms IS NULL", [count], |row| row.get(0))
                .expect("a count");
        }
    }
    let took = start.elapsed();
    table.row(
        &format!("{} due at one instant: last claimed, done and durable", thousands(count)),
        format!("{:.3} s", took.as_secs_f64()),
        format!("{:.0} runs/s", f64::from(count) / took.as_secs_f64()),
        goal,
    );
}

/// A multiple of a thousand as people write it.
fn thousands(count: u32) -> String {
    format!("{},000", count / 1000)
}

/// Snapshots of the store, one after the other until the application stops.
struct Snapshots(Arc<AtomicU64>);

impl Snapshots {
    fn start(firing: &Firing) -> Snapshots {
        let (made, app) = (Arc::new(AtomicU64::new(0)), firing.app.clone());
        let count = made.clone();
        firing.runtime.spawn(async move {
            while !app.shutdown.is_cancelled() {
                if app.snapshot("asked").await.is_ok() {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Snapshots(made)
    }

    /// How many were made since the start; a row that counts none says nothing.
    fn made(&self) -> u64 {
        let made = self.0.load(Ordering::Relaxed);
        assert!(made > 0, "no snapshot was made");
        made
    }
}

/// Another process's writing and syncing, done by a thread with files of its own.
struct BusyDisk {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl BusyDisk {
    fn start(fleet: &Fleet) -> BusyDisk {
        let stop = Arc::new(AtomicBool::new(false));
        let (flag, path) = (stop.clone(), fleet.folder.path().join("busy"));
        let thread = std::thread::spawn(move || {
            while !flag.load(Ordering::Relaxed) {
                let mut file = std::fs::File::create(&path).expect("a file");
                for _ in 0..8 {
                    file.write_all(&[3; 256 * 1024]).expect("a write");
                    file.sync_all().expect("a sync");
                }
            }
        });
        BusyDisk { stop, thread: Some(thread) }
    }
}

impl Drop for BusyDisk {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the busy disk");
        }
    }
}
