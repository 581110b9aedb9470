//! From files to an armed and durable fleet: first start, start with nothing changed, full pass,
//! and what the settled program holds in memory.

use std::time::Duration;

use super::{Fleet, Server, Table, ms, open, runtime, six_lines, timed};

pub fn measure(table: &mut Table) {
    if table.wants("10,000 new files") {
        let fleet = Fleet::new(10_000, six_lines);
        let floor = table.floor_sec_per_file * 10_000.0;
        let took = first_start(&fleet);
        let beside = format!("{:.2} x (read + parse + one bulk insert)", took.as_secs_f64() / floor);
        table.row("10,000 new files: scan to armed and durable", ms(took), beside, "1.5 x");
    }
    if !table.wants("100,000 files") && !table.wants("memory") {
        return;
    }
    let fleet = Fleet::new(100_000, six_lines);
    let floor = table.floor_sec_per_file * 100_000.0;
    let took = first_start(&fleet);
    let beside = format!("{:.2} x the floors", took.as_secs_f64() / floor);
    table.row("100,000 files: first start, warm cache", ms(took), beside, "1.5 s");

    // The stats of files written a moment ago are not relied on; the first pass after that settles them.
    std::thread::sleep(Duration::from_millis(2100));
    let runtime = runtime();
    let app = open(&fleet);
    runtime.block_on(app.bring_up()).expect("a start");
    app.store.close();
    drop(app);

    let (app, took) = timed(|| {
        let app = open(&fleet);
        runtime.block_on(app.bring_up()).expect("a start");
        app
    });
    table.row("100,000 files: start with nothing changed", ms(took), String::new(), "0.4 s");
    let mut passes: Vec<Duration> = (0..5)
        .map(|_| {
            let (report, took) = timed(|| runtime.block_on(app.full_pass(None)).expect("a pass"));
            assert_eq!((report.changes, report.repaired), (0, 0));
            took
        })
        .collect();
    passes.sort();
    table.row("100,000 files: full pass with nothing changed", ms(passes[2]), "median of 5".to_owned(), "0.3 s");
    app.store.close();
    drop(app);
    memory(table, &fleet);
}

fn first_start(fleet: &Fleet) -> Duration {
    let runtime = runtime();
    let (app, took) = timed(|| {
        let app = open(fleet);
        runtime.block_on(app.bring_up()).expect("a start");
        app
    });
    let health = runtime.block_on(app.health());
    assert_eq!(health.scheduler.schedules, fleet.count as u64);
    app.store.close();
    took
}

fn memory(table: &mut Table, fleet: &Fleet) {
    let server = Server::start(fleet);
    std::thread::sleep(Duration::from_secs(5));
    let settled = server.resident_mib();
    let shown = settled.map_or_else(|| "not told by this system".to_owned(), |mib| format!("{mib:.1} MiB"));
    drop(server);
    std::fs::remove_dir_all(fleet.folder.path().join("data")).expect("the data folder");
    let server = Server::start(fleet);
    std::thread::sleep(Duration::from_secs(5));
    let first = server.resident_mib().map(|mib| format!("{mib:.1} MiB after a first start")).unwrap_or_default();
    table.row("100,000 schedules: settled resident memory", shown, first, "50 MiB");
}
