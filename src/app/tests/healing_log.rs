//! A write-ahead log that is damaged: what SQLite does not read of it is noticed, taken over where it proves itself, and
//! told of; a torn last transaction is no damage. A large database is looked at after the start; copies that fail.
#![allow(clippy::cast_possible_wrap, reason = "counts of a test are small")]

use std::path::Path;

use super::healing::{Site, entries_of, note, restored};
use super::*;
use crate::app::heal::Replica;
use crate::core::audit::{Entry, Head};

const LOG_HEAD: usize = 32;
const FRAME: usize = 24 + 4096;

/// A site as a kill leaves it: a snapshot, then changes that stand in the log alone.
async fn killed(entries: usize) -> (Site, Vec<Entry>) {
    let site = Site::filled(5, 3).await;
    let app = site.start(START + 500).await.unwrap();
    note(&app, entries).await;
    let copy = site.again();
    let before = entries_of(&app).await;
    app.store.close();
    (copy, before)
}

fn log_of(site: &Site) -> PathBuf {
    site.settings().data_dir.join("store.db-wal")
}

/// Starts over a damaged log, and says how many of the entries from before are there, and whether it was told of.
async fn comes_up(site: &Site, before: &[Entry], what: &str) -> (usize, bool) {
    let app = site.start(START + 1000).await.unwrap_or_else(|error| panic!("{what}: {error:#}"));
    let log = entries_of(&app).await;
    let kept = log.iter().zip(before).take_while(|(now, then)| now == then).count();
    assert!(app.verify_audit(Vec::new()).await.unwrap().valid, "{what}");
    let told = restored(&app);
    if let Some(told) = &told {
        assert!(told.cause.contains("write-ahead log"), "{what}: {told:?}");
        assert_eq!(told.kept_seq, kept as i64, "{what}: {told:?}");
        assert_eq!(told.first_lost_seq, (kept < before.len()).then_some(kept as i64 + 1), "{what}: {told:?}");
        assert!(Path::new(told.set_aside.as_ref().unwrap()).exists(), "{what}: {told:?}");
    }
    app.store.close();
    (kept, told.is_some())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bit_flipped_in_any_frame_of_the_log_loses_nothing_unseen() {
    let (site, before) = killed(25).await;
    let good = std::fs::read(log_of(&site)).unwrap();
    let frames = (good.len() - LOG_HEAD) / FRAME;
    let (mut told, mut all_kept) = (0, 0);
    for frame in (0..frames).step_by(3).chain([frames - 1]) {
        // Its number, its marks, its checksum, its content.
        for at in [2, 9, 17, 24 + 2000] {
            let copy = site.again();
            let mut bytes = good.clone();
            bytes[LOG_HEAD + frame * FRAME + at] ^= 0x10;
            std::fs::write(log_of(&copy), bytes).unwrap();
            let what = format!("frame {} of {frames}, byte {at}", frame + 1);
            let (kept, is_told) = comes_up(&copy, &before, &what).await;
            // Only the last transaction may be gone without a word: it may as well be torn.
            assert!(is_told || kept + 1 >= before.len(), "{what}: {kept} of {}", before.len());
            (told, all_kept) = (told + usize::from(is_told), all_kept + usize::from(is_told && kept == before.len()));
        }
    }
    assert!(told > frames && all_kept * 2 > told, "{told} told, {all_kept} of them kept all, of {frames} frames");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_head_or_a_stretch_of_the_log_is_noticed() {
    let (site, before) = killed(25).await;
    let good = std::fs::read(log_of(&site)).unwrap();
    for (at, length) in [(0, 4), (9, 1), (17, 1), (26, 1), (0, 512), (LOG_HEAD, 3 * FRAME), (8192, 8192)] {
        let copy = site.again();
        let mut bytes = good.clone();
        bytes[at..at + length].iter_mut().for_each(|byte| *byte ^= 0xa5);
        std::fs::write(log_of(&copy), bytes).unwrap();
        let what = format!("{length} bytes at {at}");
        let (_, is_told) = comes_up(&copy, &before, &what).await;
        assert!(is_told, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_cut_off_anywhere_ends_at_its_last_commit_and_is_no_damage() {
    let (site, before) = killed(12).await;
    let good = std::fs::read(log_of(&site)).unwrap();
    let mut most = 0;
    for length in (LOG_HEAD..good.len()).step_by(4096).chain([good.len() - 1, good.len()]) {
        let copy = site.again();
        std::fs::write(log_of(&copy), &good[..length]).unwrap();
        let (kept, is_told) = comes_up(&copy, &before, &format!("cut at {length}")).await;
        assert!(!is_told && kept >= most, "cut at {length}: {kept}");
        most = kept;
    }
    assert_eq!(most, before.len());
}

/// A replica that says what it holds, and then cannot give it, or cannot be asked.
struct Broken(Option<Head>);

impl Replica for Broken {
    fn name(&self) -> String {
        "s3://elsewhere".into()
    }

    fn head(&self) -> Result<Option<(Head, Millis)>, String> {
        self.0.map(|head| Some((head, START))).ok_or_else(|| "no answer".to_owned())
    }

    fn restore(&self, _: &Path) -> Result<(), String> {
        Err("no state of the replica is whole".to_owned())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_newest_snapshot_and_the_replica_damaged_the_one_before_is_taken() {
    let site = Site::filled(5, 3).await;
    let app = site.start(START + 500).await.unwrap();
    note(&app, 4).await;
    app.snapshot("asked").await.unwrap();
    let head = app.store.audit_head().await.unwrap();
    let snapshots = app.snapshots().await.unwrap();
    app.store.close();
    let folder = site.settings().data_dir.join("snapshots");
    std::fs::write(folder.join(&snapshots[0].name).join("state.json"), "{").unwrap();
    std::fs::write(site.settings().dsn, "").unwrap();
    let replica = Arc::new(Broken(Some(Head { seq: head.seq + 9, ..head })));
    let app = site.start_with(site.settings(), START + 1000, Some(replica)).await.unwrap();
    assert!(restored(&app).unwrap().from.contains(&snapshots[1].name), "{:?}", restored(&app));
    app.store.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_cannot_be_asked_is_waited_for_where_there_is_no_other_copy() {
    for damage in ["gone", "empty"] {
        let site = Site::filled(5, 3).await;
        std::fs::remove_dir_all(site.settings().data_dir.join("snapshots")).unwrap();
        match damage {
            "gone" => std::fs::remove_file(site.settings().dsn).unwrap(),
            _ => std::fs::write(site.settings().dsn, "").unwrap(),
        }
        for _ in 0..2 {
            let replica = Arc::new(Broken(None));
            let error = site.start_with(site.settings(), START + 1000, Some(replica)).await.err().unwrap().to_string();
            assert!(error.contains("cannot be asked (no answer)") && error.contains("REPLICATION=off"), "{error}");
        }
        // Told to do without, it begins with the files.
        let app = site.start(START + 1000).await.unwrap();
        assert_eq!(restored(&app).unwrap().from, "nothing");
        app.store.close();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_database_that_was_closed_in_order_is_looked_at_soon_after_the_start() {
    let site = Site::filled(5, 3).await;
    let connection = rusqlite::Connection::open(site.settings().dsn).unwrap();
    connection.execute_batch("CREATE TABLE filler (x); INSERT INTO filler VALUES (zeroblob(34 << 20))").unwrap();
    drop(connection);
    let app = site.start(START + 1000).await.unwrap();
    app.check_if_due().await;
    assert!(app.keeping.told().checked.is_none(), "the start comes first");
    // The head of a page of the log's table, which nobody has read yet.
    let mut bytes = std::fs::read(site.settings().dsn).unwrap();
    let at = bytes.windows(14).position(|window| window == b"test.note.made").unwrap();
    bytes[at / 4096 * 4096..][..64].fill(0x5a);
    std::fs::write(site.settings().dsn, bytes).unwrap();
    app.clock.advance(11_000);
    app.check_if_due().await;
    assert!(app.is_restarting() && app.shutdown.is_cancelled());
    app.store.close();
    let app = site.start(START + 20_000).await.unwrap();
    assert!(restored(&app).is_some());
    app.store.close();
}
