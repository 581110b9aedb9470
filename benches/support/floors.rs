//! What this machine can do at best: fsync, read, parse, insert.

use std::io::Write as _;
use std::time::Instant;

use command_center::core::desired::{Defaults, parse};
use command_center::core::model::ScheduleId;

use super::{Fleet, Table, ms, six_lines, timed};

const FILES: usize = 10_000;

pub fn measure(table: &mut Table) {
    fsync(table);
    let fleet = Fleet::new(FILES, six_lines);
    let (texts, read) = timed(|| (0..FILES).map(|n| std::fs::read(fleet.file(n)).expect("a file")).collect::<Vec<_>>());
    let ids: Vec<ScheduleId> = (0..FILES).map(|n| format!("noop/tenant-{n:06}").parse().expect("a name")).collect();
    let (parsed, parse_time) =
        timed(|| ids.iter().zip(&texts).filter(|(id, text)| parse(id, text, Defaults::NONE).spec.is_some()).count());
    assert_eq!(parsed, FILES);
    let insert = insert(&fleet, &texts);
    let total = read + parse_time + insert;
    table.floor_sec_per_file = total.as_secs_f64() / FILES as f64;
    table.row("floor: read 10,000 files, one thread", ms(read), String::new(), "");
    table.row("floor: parse 10,000 files, one thread", ms(parse_time), String::new(), "");
    table.row("floor: insert 10,000 rows, one transaction", ms(insert), String::new(), "");
}

fn fsync(table: &mut Table) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut file = std::fs::File::create(folder.path().join("log")).expect("a file");
    let start = Instant::now();
    let mut count = 0u32;
    while start.elapsed().as_secs_f64() < 1.0 {
        file.write_all(&[7; 4096]).expect("a write");
        file.sync_data().expect("a sync");
        count += 1;
    }
    let rate = f64::from(count) / start.elapsed().as_secs_f64();
    table.row("floor: append 4 KiB and fdatasync", format!("{rate:.0}/s"), String::new(), "");
}

/// One bulk insert of the same bytes into a table of the same kind, durable.
fn insert(fleet: &Fleet, texts: &[Vec<u8>]) -> std::time::Duration {
    let mut database = rusqlite::Connection::open(fleet.folder.path().join("floor.db")).expect("a database");
    database.pragma_update(None, "journal_mode", "WAL").expect("WAL");
    database.pragma_update(None, "synchronous", "FULL").expect("FULL");
    database
        .execute_batch(
            "CREATE TABLE s (id INTEGER PRIMARY KEY, name TEXT UNIQUE, spec TEXT, digest BLOB, content BLOB)",
        )
        .expect("a table");
    let (_, time) = timed(|| {
        let transaction = database.transaction().expect("a transaction");
        {
            let mut insert = transaction
                .prepare("INSERT INTO s (name, spec, digest, content) VALUES (?1, ?2, ?3, ?4)")
                .expect("a statement");
            for (n, text) in texts.iter().enumerate() {
                insert.execute((format!("tenant-{n:06}"), "{}", [0u8; 32], text)).expect("an insert");
            }
        }
        transaction.commit().expect("a commit");
    });
    time
}
