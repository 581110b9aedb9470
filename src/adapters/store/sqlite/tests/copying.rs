//! Copies made while others write, and damage that is called so.

use super::*;
use crate::adapters::store::{Depth, Pace, Soundness, verify_copy};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_holds_what_was_committed_before_it_and_nothing_after() {
    let (place, folder) = (Place::new(), tempfile::tempdir().unwrap());
    let store = Arc::new(SqliteStore::open(&place.path()).unwrap());
    let many: Vec<_> = (0..3000).map(|n| draft(&format!("t{n}"))).collect();
    store.append(many, 1).await.unwrap();
    let frozen = store.freeze(7).await.unwrap();
    assert_eq!((frozen.head.seq, frozen.at, frozen.schema_version), (3000, 7, newest_schema()));
    let copy = folder.path().join("copy.db");
    let (mut steps, mut last) = (0_i64, 0);
    let pace = Pace { pages: 8, pause: std::time::Duration::ZERO };
    frozen
        .copy_to(&copy, pace, &mut |copied| {
            // Another commit before every step: a copy that began anew would never end.
            futures_util::FutureExt::now_or_never(store.append(vec![draft("later")], 2));
            assert!(copied.done > last && copied.done <= copied.total && copied.total == frozen.pages);
            (steps, last) = (steps + 1, copied.done);
            true
        })
        .unwrap();
    assert!(steps > 10 && last == frozen.pages);
    let facts = verify_copy(&copy).unwrap();
    assert_eq!((facts.head, facts.schema_version), (frozen.head, frozen.schema_version));
    drop(frozen);
    // Behind all those that nobody waited for.
    let last = store.append(vec![draft("last")], 3).await.unwrap();
    assert_eq!(last, [3000 + steps + 1]);
    let files: Vec<_> = std::fs::read_dir(folder.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(files, ["copy.db"]);
    assert_eq!(whole_log(&SqliteStore::open(&copy).unwrap()).await.len(), 3000);
}

#[tokio::test]
async fn a_copy_that_is_given_up_or_has_no_room_says_so() {
    let (place, folder) = (Place::new(), tempfile::tempdir().unwrap());
    let store = SqliteStore::open(&place.path()).unwrap();
    let frozen = store.freeze(1).await.unwrap();
    let given_up = frozen.copy_to(&folder.path().join("a.db"), Pace::FULL, &mut |_| false);
    assert!(matches!(given_up, Err(StoreError::Stopped)));
    let nowhere = frozen.copy_to(&folder.path().join("none/a.db"), Pace::FULL, &mut |_| true).unwrap_err();
    assert!(nowhere.to_string().contains("none"), "{nowhere}");
}

#[tokio::test]
async fn damage_is_told_from_other_failures() {
    let (place, folder) = (Place::new(), tempfile::tempdir().unwrap());
    let store = SqliteStore::open(&place.path()).unwrap();
    store.append((0..500).map(|n| draft(&format!("t{n}"))).collect(), 1).await.unwrap();
    assert_eq!(store.check(Depth::Full, true).await.unwrap(), Soundness::Sound);
    assert_eq!(store.suspicion(), None);
    store.close();
    let good = std::fs::read(place.path()).unwrap();
    let path = folder.path().join("copy.db");
    for (name, bytes) in [
        ("cut off", good[..good.len() / 2].to_vec()),
        ("no database", b"interval_sec: 300\n".repeat(400)),
        ("no page in the middle", {
            let mut bytes = good.clone();
            bytes[good.len() / 8192 * 4096..][..4096].fill(0x55);
            bytes
        }),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let error = verify_copy(&path).unwrap_err();
        assert!(matches!(error, StoreError::Corrupt { .. }), "{name}: {error:?}");
    }
    std::fs::write(&path, &good).unwrap();
    assert_eq!(verify_copy(&path).unwrap().head.seq, 500);
    assert!(matches!(verify_copy(&folder.path().join("none.db")), Err(StoreError::Open { .. })));
}

#[tokio::test]
async fn a_reading_that_meets_damage_raises_suspicion_once() {
    let place = Place::new();
    let store = SqliteStore::open(&place.path()).unwrap();
    store.append((0..2000).map(|n| draft(&format!("t{n}"))).collect(), 1).await.unwrap();
    store.close();
    let mut bytes = std::fs::read(place.path()).unwrap();
    let middle = bytes.len() / 8192 * 4096;
    bytes[middle..middle + 8192].fill(0x55);
    std::fs::write(place.path(), bytes).unwrap();
    let store = SqliteStore::open(&place.path()).unwrap();
    assert!(matches!(store.check(Depth::Quick, false).await.unwrap(), Soundness::Damaged(_)));
    let mut batches = store.audit_log();
    let mut damaged = false;
    while let Some(batch) = batches.recv().await {
        damaged |= matches!(batch, Err(StoreError::Corrupt { .. }));
    }
    assert!(damaged && store.suspicion().is_some() && store.suspicion().is_none());
}
