//! What is captured, applied to a snapshot, is the database itself, page by page: through commits of every
//! kind, logs that begin anew, others who write, and restarts.

use super::*;
use crate::adapters::store::{Capture, Pace};
use crate::core::replica::Point;
use crate::core::replica::segment::Section;

/// A copy kept by applying what was captured.
#[derive(Default)]
struct Mirror {
    bytes: Vec<u8>,
    seq: i64,
}

impl Mirror {
    fn apply(&mut self, sections: &[Section], page_size: u32) {
        for section in sections {
            self.bytes.resize(section.pages_in_db as usize * page_size as usize, 0);
            for (number, page) in &section.pages {
                let at = (*number as usize - 1) * page_size as usize;
                // A page past the end was written and cut off again within the section.
                if let Some(place) = self.bytes.get_mut(at..at + page.len()) {
                    place.copy_from_slice(page);
                }
            }
            assert!(section.point.head.seq >= self.seq);
            self.seq = section.point.head.seq;
        }
    }

    /// Takes all there is; false where a gap came after it.
    fn follow(&mut self, capture: &Capture) -> bool {
        loop {
            match capture.take() {
                Ok(taken) if taken.sections.is_empty() => return true,
                Ok(taken) => self.apply(&taken.sections, taken.page_size),
                Err(_) => return false,
            }
        }
    }

    async fn begin(&mut self, store: &SqliteStore) {
        let capture = store.capture();
        // A checkpoint of another program cannot be told from a write of its, and counts as a gap.
        store.freeze(1).await.unwrap();
        let is_followed = !self.bytes.is_empty() && self.follow(&capture);
        let (frozen, point) = store.begin_snapshot(1).await.unwrap();
        let taken = capture.take().unwrap();
        assert!(taken.snapshot_follows);
        if is_followed {
            // What was taken before leads to where the snapshot begins.
            self.apply(&taken.sections, taken.page_size);
            same(&self.bytes, &copied(&frozen));
        }
        (self.bytes, self.seq) = (copied(&frozen), point.head.seq);
    }

    async fn check(&mut self, store: &SqliteStore, capture: &Capture) {
        // The writer captures when its answers are out; a further job of its comes after that. It commits nothing.
        let frozen = store.freeze(1).await.unwrap();
        if !self.follow(capture) {
            self.begin(store).await;
            assert!(self.follow(capture));
        }
        same(&self.bytes, &copied(&frozen));
        assert_eq!(self.seq, frozen.head.seq);
    }
}

fn copied(frozen: &Frozen) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("copy.db");
    frozen.copy_to(&target, Pace::FULL, &mut |_| true).unwrap();
    std::fs::read(target).unwrap()
}

/// Equal but for the first page's counters, which the making of a copy moves.
#[track_caller]
fn same(mirror: &[u8], live: &[u8]) {
    assert_eq!(mirror.len(), live.len());
    let counters = [18..20, 24..28, 40..44, 92..100];
    let is_counter = |at: usize| counters.iter().any(|range| range.contains(&at));
    if mirror == live {
        return;
    }
    let first = mirror.iter().zip(live).enumerate().find(|(at, (a, b))| a != b && !is_counter(*at));
    if let Some((at, _)) = first {
        panic!("page {} differs at {}", at / 4096 + 1, at % 4096);
    }
}

async fn grow(store: &SqliteStore, rows: u64, bytes: u64, entry: bool) {
    let job = move |work: &mut crate::adapters::store::sqlite::writer::Work<'_>| {
        for _ in 0..rows {
            work.execute("INSERT INTO ballast (data) VALUES (randomblob(?1))", [bytes.cast_signed()])?;
        }
        if entry {
            work.append(vec![draft("t")], 7)?;
        }
        Ok(())
    };
    store.writer.submit(Lane::Mutation, "grow", job).await.unwrap();
}

async fn run(store: &SqliteStore, sql: &'static str) {
    store.writer.submit(Lane::Completion, "run", move |work| work.execute(sql, []).map(|_| ())).await.unwrap();
}

/// Numbers from a seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

async fn story(seed: u64) {
    let place = Place::new();
    let mut store = SqliteStore::open(&place.path()).unwrap();
    place.shell().execute_batch("CREATE TABLE IF NOT EXISTS ballast (id INTEGER PRIMARY KEY, data BLOB)").unwrap();
    let mut capture = store.capture();
    let (mut mirror, mut dice) = (Mirror::default(), Dice(seed));
    mirror.begin(&store).await;
    for _ in 0..40 {
        match dice.roll(14) {
            0..=4 => grow(&store, 1 + dice.roll(4), 1 + dice.roll(9000), dice.roll(2) == 0).await,
            5 => grow(&store, 8, 60_000, true).await,
            6 => run(&store, "DELETE FROM ballast WHERE id % 3 = 1").await,
            7 => run(&store, "UPDATE ballast SET data = randomblob(300) WHERE id % 2 = 0").await,
            8 => place.shell().execute_batch("PRAGMA wal_checkpoint(PASSIVE)").unwrap(),
            9 => drop(place.shell().query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(()))),
            10 => drop(place.shell().query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))),
            11 => {
                let shell = place.shell();
                shell.execute("INSERT INTO ballast (data) VALUES (randomblob(5000))", []).unwrap();
                if dice.roll(2) == 0 {
                    // The log begins anew and the foreign commit is found in none.
                    let _ = shell.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
                }
                grow(&store, 1, 100, false).await;
            }
            12 => {
                mirror.check(&store, &capture).await;
                grow(&store, 2, 700, dice.roll(2) == 0).await;
                mirror.begin(&store).await;
            }
            _ => {
                mirror.check(&store, &capture).await;
                if dice.roll(2) == 0 {
                    grow(&store, 1, 900, true).await;
                }
                store.close();
                let is_followed = mirror.follow(&capture);
                let left = store.left_as();
                let others = dice.roll(3);
                if others == 0 {
                    place.shell().execute("INSERT INTO ballast (data) VALUES (randomblob(50))", []).unwrap();
                }
                // As every start does first.
                assert_eq!(crate::adapters::store::rescue::older_schema(&place.path()), None);
                store = SqliteStore::open(&place.path()).unwrap();
                let is_as_left = left.is_some() && left == store.found_as();
                assert_eq!(is_as_left, others > 0, "what others wrote is seen, and nothing else");
                if others == 1 {
                    // Before it is gone on: found in the log.
                    place.shell().execute("INSERT INTO ballast (data) VALUES (randomblob(50))", []).unwrap();
                    grow(&store, 1, 50, true).await;
                }
                capture = store.capture();
                if is_followed && is_as_left {
                    capture.resume(Point { head: Head { seq: mirror.seq, ..Head::default() }, at: 1 }, 1);
                    // With any group of jobs, also one that changes nothing.
                    store.captured().await;
                } else {
                    mirror = Mirror::default();
                    mirror.begin(&store).await;
                }
            }
        }
        if dice.roll(3) > 0 {
            mirror.check(&store, &capture).await;
        }
    }
    mirror.check(&store, &capture).await;
}

#[tokio::test]
async fn a_snapshot_and_what_was_captured_are_the_database() {
    let seeds = std::env::var("SIM_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(8).min(8);
    for seed in 0..seeds {
        println!("seed {seed}");
        story(seed).await;
    }
}

#[tokio::test]
async fn what_was_committed_before_a_recording_goes_on_belongs_to_it() {
    let place = Place::new();
    let store = SqliteStore::open(&place.path()).unwrap();
    store.append(vec![draft("t")], 5).await.unwrap();
    store.close();
    let mut mirror = Mirror { bytes: std::fs::read(place.path()).unwrap(), seq: 1 };
    let store = SqliteStore::open(&place.path()).unwrap();
    let capture = store.capture();
    store.append(vec![draft("t")], 6).await.unwrap();
    // The writer has told of that commit before anything is recorded.
    store.captured().await;
    capture.resume(Point { head: Head { seq: 1, ..Head::default() }, at: 5 }, 7);
    store.captured().await;
    let taken = capture.take().unwrap();
    assert_eq!(taken.sections.iter().map(|section| section.point.at).collect::<Vec<_>>(), [7]);
    mirror.apply(&taken.sections, taken.page_size);
    mirror.check(&store, &capture).await;
    assert_eq!(mirror.seq, 2);
}

#[tokio::test]
async fn a_section_ends_where_the_audit_moved() {
    let place = Place::new();
    let store = SqliteStore::open(&place.path()).unwrap();
    let capture = store.capture();
    store.append(vec![draft("before")], 5).await.unwrap();
    let (_, point) = store.begin_snapshot(9).await.unwrap();
    assert_eq!((point.head.seq, point.at), (1, 5));
    for at in 1..=3 {
        store.note_commit(format!("{at}")).await.unwrap();
        store.note_commit(format!("{at} again")).await.unwrap();
        store.append(vec![draft("t"), draft("t")], at * 10).await.unwrap();
    }
    store.note_commit("last".into()).await.unwrap();
    // The writer captures when its answers are out; a further job of its comes after that.
    store.freeze(9).await.unwrap();
    let follows = capture.take().unwrap();
    assert!(follows.snapshot_follows && follows.sections.is_empty());
    let taken = capture.take().unwrap();
    let ends: Vec<_> = taken.sections.iter().map(|section| (section.point.head.seq, section.point.at)).collect();
    assert_eq!(ends, [(3, 10), (5, 20), (7, 30), (7, 30)]);
    assert!(taken.since.is_some() && capture.since().is_none());
    assert_eq!(store.audit_head().await.unwrap(), taken.sections[3].point.head);
}

#[tokio::test]
async fn a_log_that_we_begin_anew_is_followed_and_no_foreign_write() {
    let place = Place::new();
    let store = SqliteStore::open(&place.path()).unwrap();
    let capture = store.capture();
    place.shell().execute_batch("CREATE TABLE ballast (id INTEGER PRIMARY KEY, data BLOB)").unwrap();
    let mut mirror = Mirror::default();
    mirror.begin(&store).await;
    for _ in 0..4 {
        grow(&store, 2, 3000, true).await;
        store.captured().await;
        // As the checkpointer does with a log that is too long.
        let copier = super::checkpoint::open(&place.path()).unwrap();
        let (busy, left): (i64, i64) = copier
            .query_row("PRAGMA wal_checkpoint(RESTART)", [], |row| {
                Ok((row.get(0)?, row.get::<_, i64>(1)? - row.get::<_, i64>(2)?))
            })
            .unwrap();
        assert_eq!((busy, left), (0, 0));
        grow(&store, 1, 100, true).await;
        store.captured().await;
        assert!(mirror.follow(&capture), "no gap");
    }
    mirror.check(&store, &capture).await;
}

#[tokio::test]
async fn too_much_that_waits_is_a_gap_and_a_snapshot_ends_it() {
    let place = Place::new();
    let store = SqliteStore::open(&place.path()).unwrap();
    place.shell().execute_batch("CREATE TABLE ballast (id INTEGER PRIMARY KEY, data BLOB)").unwrap();
    let capture = store.capture();
    store.begin_snapshot(1).await.unwrap();
    for _ in 0..18 {
        grow(&store, 4, 1 << 20, true).await;
    }
    // What was whole before the gap comes first.
    let mut taken = 0;
    let gap = loop {
        match capture.take() {
            Ok(part) => taken += part.sections.len(),
            Err(gap) => break gap,
        }
    };
    assert!(gap.contains("64 MiB") && taken > 10, "{gap}, {taken}");
    grow(&store, 1, 10, true).await;
    assert!(capture.take().is_err(), "nothing is captured within a gap");
    let mut mirror = Mirror::default();
    mirror.begin(&store).await;
    grow(&store, 1, 10, true).await;
    mirror.check(&store, &capture).await;
}
