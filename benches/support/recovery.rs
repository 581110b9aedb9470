//! From a damaged database to an armed and durable fleet: noticed, set aside, restored from the newest snapshot, and
//! the files applied anew; beside a start of the same fleet with nothing damaged.

use std::io::{Seek as _, SeekFrom, Write as _};
use std::sync::Arc;
use std::time::Duration;

use command_center::adapters::clock::Clock;
use command_center::adapters::store::SqliteStore;
use command_center::app::{App, heal};

use super::{Fleet, Table, ms, open, over, runtime, six_lines, timed};

const PAGE: usize = 4096;

/// Every so many pages of the middle half one is damaged.
const EVERY: u64 = 16;

pub fn measure(table: &mut Table) {
    for (count, name) in [(10_000, "10,000"), (100_000, "100,000")] {
        let title = format!("recovery: {name} schedules, damaged database to ready");
        if table.wants(&title) {
            recovery(table, count, &title);
        }
    }
}

fn recovery(table: &mut Table, count: usize, title: &str) {
    let fleet = Fleet::new(count, six_lines);
    let runtime = runtime();
    first_start(&runtime, &fleet);
    // The stats of files written a moment ago are not relied on; the first start after that settles them.
    std::thread::sleep(Duration::from_millis(2100));
    let app = start(&runtime, &fleet);
    let snapshot = runtime.block_on(app.snapshot("asked")).expect("a snapshot");
    app.store.close();
    drop(app);

    let (app, undamaged) = timed(|| start(&runtime, &fleet));
    assert!(runtime.block_on(app.health()).db.upkeep.restored.is_none(), "nothing was damaged");
    app.store.close();
    drop(app);

    let (damaged, pages) = damage(&fleet);
    let (app, took) = timed(|| start(&runtime, &fleet));
    let health = runtime.block_on(app.health());
    let restored = health.db.upkeep.restored.expect("it was restored");
    assert_eq!(restored.from, format!("snapshot {}", snapshot.name));
    assert_eq!(health.scheduler.schedules, count as u64);
    app.store.close();
    let beside = format!("undamaged start {}; {damaged} of {pages} pages damaged", ms(undamaged));
    table.row(title, ms(took), beside, "");
}

fn first_start(runtime: &tokio::runtime::Runtime, fleet: &Fleet) {
    let app = open(fleet);
    runtime.block_on(app.bring_up()).expect("a start");
    app.store.close();
}

/// As the server starts: heals what has to be, and is ready when this returns.
fn start(runtime: &tokio::runtime::Runtime, fleet: &Fleet) -> Arc<App> {
    let settings = fleet.settings();
    let begin = async |store: Arc<SqliteStore>| {
        let app = over(fleet, store);
        app.bring_up().await?;
        Ok(app)
    };
    runtime.block_on(heal::start(&settings, &Clock::System, None, None, begin)).expect("a start")
}

/// Overwrites pages of the middle; how many, and of how many.
fn damage(fleet: &Fleet) -> (u64, u64) {
    let mut file = std::fs::File::options().write(true).open(fleet.database()).expect("the database");
    let pages = file.metadata().expect("its size").len() / PAGE as u64;
    let mut damaged = 0;
    for page in (pages / 4..pages * 3 / 4).step_by(EVERY as usize) {
        file.seek(SeekFrom::Start(page * PAGE as u64)).expect("its place");
        file.write_all(&[0xa5; PAGE]).expect("a write");
        damaged += 1;
    }
    file.sync_all().expect("a sync");
    (damaged, pages)
}
