//! What the measurements share: a fleet on disk, an application over it, the table.

pub mod api;
pub mod audit;
pub mod edit;
pub mod fire;
pub mod floors;
pub mod git;
pub mod plan;
pub mod recovery;
pub mod replication;
pub mod runs;
pub mod scan;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use command_center::adapters::clock::Clock;
use command_center::adapters::connectors::Connectors;
use command_center::adapters::connectors::noop::Noop;
use command_center::adapters::store::{SharedStore, SqliteStore};
use command_center::app::App;
use command_center::settings::Settings;
use command_center::telemetry::Metrics;

/// One figure, what it is held against, and the goal.
pub struct Row {
    title: String,
    figure: String,
    beside: String,
    goal: String,
}

pub struct Table {
    wanted: Vec<String>,
    rows: Vec<Row>,
    /// Seconds to read, parse and insert one file at best on this machine.
    pub floor_sec_per_file: f64,
}

impl Table {
    pub fn new(wanted: Vec<String>) -> Self {
        Table { wanted, rows: Vec::new(), floor_sec_per_file: 0.0 }
    }

    /// Whether a measurement of this name was asked for.
    pub fn wants(&self, name: &str) -> bool {
        self.wanted.is_empty() || self.wanted.iter().any(|wanted| name.contains(wanted.as_str()))
    }

    pub fn row(&mut self, title: &str, figure: String, beside: String, goal: &str) {
        println!("{title}: {figure} {}", if beside.is_empty() { String::new() } else { format!("({beside})") });
        self.rows.push(Row { title: title.to_owned(), figure, beside, goal: goal.to_owned() });
    }

    pub fn print(&self) {
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::ASCII_MARKDOWN);
        table.set_header(["figure", "measured", "beside it", "goal"]);
        for row in &self.rows {
            table.add_row([&row.title, &row.figure, &row.beside, &row.goal]);
        }
        println!("\n{table}");
    }
}

/// A directory with a fleet of `noop` schedules, every one different.
pub struct Fleet {
    pub folder: tempfile::TempDir,
    pub count: usize,
}

impl Fleet {
    /// `text` gives each file's content by its number.
    pub fn new(count: usize, text: impl Fn(usize) -> String) -> Fleet {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let schedules = folder.path().join("desired/schedules/noop");
        std::fs::create_dir_all(&schedules).expect("a folder for the fleet");
        for n in 0..count {
            std::fs::write(schedules.join(format!("tenant-{n:06}.yaml")), text(n)).expect("a schedule's file");
        }
        Fleet { folder, count }
    }

    pub fn desired(&self) -> PathBuf {
        self.folder.path().join("desired")
    }

    pub fn file(&self, n: usize) -> PathBuf {
        self.desired().join(format!("schedules/noop/tenant-{n:06}.yaml"))
    }

    pub fn database(&self) -> PathBuf {
        self.folder.path().join("data/command_center.db")
    }

    pub fn settings(&self) -> Settings {
        Settings {
            desired_dir: self.desired(),
            data_dir: self.folder.path().join("data"),
            dsn: self.database(),
            ..Settings::default()
        }
    }
}

/// Six lines, different for every schedule.
pub fn six_lines(n: usize) -> String {
    format!(
        "# schedule {n}\ninterval_sec: {}\npaused: false\nlabels:\n  region: r{}\n  account: \"{n}\"\n",
        3600 + n % 40_000,
        n % 50
    )
}

pub fn open(fleet: &Fleet) -> Arc<App> {
    over(fleet, Arc::new(SqliteStore::open(&fleet.database()).expect("the store")))
}

pub fn over(fleet: &Fleet, store: SharedStore) -> Arc<App> {
    let (connectors, metrics) = (Connectors::all(Arc::new(Noop)), Metrics::new(1000).expect("metrics"));
    App::new(fleet.settings(), Clock::System, store, connectors, Arc::new(metrics))
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime")
}

pub fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let value = work();
    (value, start.elapsed())
}

pub fn ms(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1000.0)
}

/// The value below which `percent` of the samples lie.
pub fn percentile(sorted: &[f64], percent: f64) -> f64 {
    let index = ((sorted.len() as f64 * percent / 100.0) as usize).min(sorted.len().saturating_sub(1));
    sorted.get(index).copied().unwrap_or(f64::NAN)
}

/// The real program, optimised, over a fleet; killed when dropped.
pub struct Server {
    child: std::process::Child,
    pub url: String,
}

impl Server {
    pub fn start(fleet: &Fleet) -> Server {
        let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
        let data = fleet.folder.path().join("data");
        let log = std::fs::File::create(fleet.folder.path().join("server.log")).expect("a log file");
        let child = std::process::Command::new(env!("CARGO_BIN_EXE_command-center"))
            .args(["serve", "--addr", &format!("127.0.0.1:{port}"), "--desired-dir"])
            .arg(fleet.desired())
            .arg("--data-dir")
            .arg(&data)
            .arg("--dsn")
            .arg(fleet.database())
            .env("LOG_LEVEL", "warning")
            .stdout(log.try_clone().expect("the log file"))
            .stderr(log)
            .spawn()
            .expect("the server");
        let server = Server { child, url: format!("http://127.0.0.1:{port}") };
        let start = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() && start.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(2));
        }
        server
    }

    /// Resident memory in MiB, where /proc tells.
    pub fn resident_mib(&self) -> Option<f64> {
        let status =
            std::fs::read_to_string(Path::new("/proc").join(self.child.id().to_string()).join("status")).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
        let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kib / 1024.0)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already gone is as good as killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
