//! One file edited among 100,000: from saved to effective, debounce included.

use std::time::{Duration, Instant};

use std::sync::Arc;

use command_center::app::Pulse;
use command_center::tasks::{HintQueue, Reconciler, Watcher};

use super::{Fleet, Table, open, percentile, runtime, six_lines};

const EDITS: usize = 200;

pub fn measure(table: &mut Table) {
    if !table.wants("one file edited") {
        return;
    }
    let fleet = Fleet::new(100_000, six_lines);
    let runtime = runtime();
    let app = open(&fleet);
    let hints = Arc::new(HintQueue::default());
    let watcher = Arc::new(Watcher::new(app.clone(), hints.clone()));
    watcher.begin();
    runtime.block_on(app.bring_up()).expect("a start");
    runtime.spawn(watcher.run(Pulse::unwatched(&app)));
    runtime.spawn(Reconciler::new(app.clone(), hints).run(Pulse::unwatched(&app)));
    let mut samples = Vec::with_capacity(EDITS);
    for edit in 0..EDITS {
        let n = (edit * 499) % fleet.count;
        let id = format!("noop/tenant-{n:06}").parse().expect("a name");
        let interval = 50 + edit as u32;
        let start = Instant::now();
        std::fs::write(fleet.file(n), format!("interval_sec: {interval}\n")).expect("an edit");
        loop {
            let status = runtime.block_on(app.status_of(&id)).expect("a status").expect("a schedule");
            if status.interval_sec == Some(interval) {
                break;
            }
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "the edit of {} never took effect",
                fleet.file(n).display()
            );
            std::thread::sleep(Duration::from_micros(500));
        }
        samples.push(start.elapsed().as_secs_f64() * 1000.0);
    }
    samples.sort_by(f64::total_cmp);
    let figure = format!("p50 {:.0} ms, p99 {:.0} ms", percentile(&samples, 50.0), percentile(&samples, 99.0));
    let beside = format!("debounce {} ms of it", app.settings.debounce.as_millis());
    table.row("one file edited among 100,000: saved to effective", figure, beside, "p99 150 ms");
    app.shutdown.cancel();
    app.store.close();
}
