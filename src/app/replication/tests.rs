//! Replication over a destination in memory that fails, lies and forgets: each ends with a whole replica, or says
//! truthfully that it is none.

mod ending;
mod keeping;

use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::adapters::replica::memory::MemoryPlace;
use crate::adapters::replica::{RestoreError, Restored, restore};
use crate::adapters::store::Upkeep as _;
use crate::core::model::{Caller, Source};
use crate::core::replica::choose::Target;

struct Site {
    home: TempDir,
    place: Arc<MemoryPlace>,
    store: Arc<SqliteStore>,
    replication: Arc<Replication>,
}

const SPOOL_MB: u64 = 2;
const LITTLE: u64 = 100_000;

impl Site {
    fn new() -> Site {
        Site::at(tempfile::tempdir().unwrap(), Arc::default())
    }

    fn at(home: TempDir, place: Arc<MemoryPlace>) -> Site {
        let store = Arc::new(SqliteStore::open(&home.path().join("store.db")).unwrap());
        let metrics = Arc::new(Metrics::new(10).unwrap());
        let terms = Terms {
            shown: "memory".into(),
            spool: home.path().join("spool"),
            spool_bytes: SPOOL_MB << 20,
            keep: Duration::from_secs(86_400),
            little: LITTLE,
        };
        let replication = Replication::new(place.clone(), store.clone(), Clock::System, metrics, terms).unwrap();
        Site { home, place, store, replication }
    }

    /// As after a crash: what was in memory is gone.
    fn restart(self) -> Site {
        self.store.close();
        Site::at(self.home, self.place)
    }

    async fn write(&self, count: usize) {
        let caller = Caller { source: Source::Api, actor: "test".into() };
        let entry = || draft(None, operation::REPLICATION_GAP, &caller, "a", json!({"x": 1}));
        self.store.append((0..count).map(|_| entry()).collect(), 1_000).await.unwrap();
        self.settle().await;
    }

    /// Changes without an entry, which compress badly.
    async fn make_noise(&self, count: usize) {
        let seed = uuid::Uuid::now_v7();
        let noise = |n: usize| hex::encode(crate::core::model::Digest::of(format!("{seed} {n}").as_bytes()).0);
        let noise: String = (0..count).map(noise).collect();
        self.store.put_fact("noise", Some(noise), Vec::new(), 1).await.unwrap();
        self.settle().await;
    }

    /// A further job of the writer's comes after it has captured the one before. On a full disk it is refused.
    async fn settle(&self) {
        let _ = self.store.freeze(0).await;
    }

    /// A round of each loop, until nothing is left to do or `rounds` are over.
    async fn rounds(&self, rounds: usize) {
        for _ in 0..rounds {
            self.replication.cut_round().await;
            self.replication.send_round().await;
            // A snapshot is tried again and again inside; the test's troubles end by themselves.
            let _ = tokio::time::timeout(Duration::from_secs(20), self.replication.tend()).await;
            self.settle().await;
        }
    }

    async fn view(&self) -> ReplicationView {
        self.replication.view().await
    }

    async fn head(&self) -> i64 {
        self.store.audit_head().await.unwrap().seq
    }

    async fn restored(&self, target: Target) -> Result<Restored, RestoreError> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("restored.db");
        let restored = restore(&*self.place, target, &file, &|_| {}).await?;
        let facts = crate::adapters::store::verify_copy(&file).unwrap();
        assert_eq!(facts.head, restored.point.head);
        Ok(restored)
    }

    /// The replica is whole and says so.
    async fn whole(&self) {
        self.rounds(3).await;
        let (view, head) = (self.view().await, self.head().await);
        assert_eq!((view.state.as_str(), view.lag_entries, view.last_seq), ("streaming", 0, Some(head)), "{view:?}");
        assert!(view.ok);
        let restored = self.restored(Target::Newest).await.unwrap();
        assert_eq!(restored.point.head, self.store.audit_head().await.unwrap());
        assert_eq!(restored.notes, Vec::<String>::new());
    }
}

#[tokio::test]
async fn what_was_written_can_be_restored_to_every_entry() {
    let site = Site::new();
    site.write(3).await;
    site.rounds(2).await;
    let began = site.head().await;
    assert_eq!(began, 4, "three of ours, and the one that tells that it began");
    for _ in 0..5 {
        site.write(2).await;
        site.rounds(1).await;
    }
    site.whole().await;
    for seq in began..=site.head().await {
        let restored = site.restored(Target::Seq(seq)).await.unwrap();
        // Entries that were committed together come back together.
        assert!(restored.point.head.seq == seq || restored.point.head.seq + 1 == seq, "{seq}: {:?}", restored.point);
        assert_eq!(restored.is_cut, seq < site.head().await);
    }
    assert!(matches!(site.restored(Target::Seq(1)).await, Err(RestoreError::TooOld { seq: 3, .. })));
}

#[tokio::test]
async fn a_crash_begins_a_new_generation_and_loses_nothing() {
    let mut site = Site::new();
    site.write(1).await;
    site.whole().await;
    let first = site.view().await.generation.unwrap();
    for _ in 0..3 {
        site.write(4).await;
        site = site.restart();
        assert_eq!(site.view().await.state, "catching_up");
        site.whole().await;
    }
    assert!(site.view().await.generation.unwrap() > first);
}

#[tokio::test]
async fn on_a_full_disk_nothing_is_spooled_and_nothing_is_lost() {
    let site = Site::new();
    site.write(1).await;
    site.whole().await;
    let before = site.view().await;
    let space = site.store.space().unwrap();
    site.write(3).await;
    space.met_full();
    site.rounds(2).await;
    let view = site.view().await;
    assert_eq!((view.spool_bytes, view.lag_entries, view.last_seq), (0, 3, before.last_seq), "{view:?}");
    assert!(view.last_error.unwrap().contains("full"));
    space.tend().unwrap();
    site.whole().await;
    let view = site.view().await;
    assert_eq!((view.last_error, view.generation), (None, before.generation.clone()), "no gap came");
    // What is left at the end is sent all the same, and no snapshot begins.
    site.write(2).await;
    space.met_full();
    site.replication.finish(Duration::from_secs(20)).await;
    assert_eq!(site.restored(Target::Newest).await.unwrap().point.head.seq, site.head().await);
    let site = site.restart();
    assert!(site.store.space().unwrap().is_short(), "a successor knows");
    site.rounds(2).await;
    let view = site.view().await;
    assert_eq!((view.state.as_str(), view.generation), ("catching_up", None));
    site.store.space().unwrap().tend().unwrap();
    site.whole().await;
    assert_ne!(site.view().await.generation, before.generation);
}

#[tokio::test]
async fn a_lie_about_success_is_noticed() {
    let site = Site::new();
    site.place.inner().lies = 2;
    site.write(1).await;
    site.rounds(2).await;
    site.whole().await;
    site.write(2).await;
    site.place.inner().lies = 1;
    site.replication.cut_round().await;
    site.replication.send_round().await;
    let view = site.view().await;
    assert_eq!((view.state.as_str(), view.lag_entries), ("away", 2), "{view:?}");
    assert!(view.last_error.unwrap().contains("does not show it"));
    site.whole().await;
}

#[tokio::test]
async fn an_answer_that_is_cut_off_is_no_harm() {
    let site = Site::new();
    site.place.inner().cut_off = 1;
    site.write(1).await;
    site.whole().await;
    site.place.inner().cut_off = 2;
    site.write(1).await;
    site.rounds(1).await;
    assert_eq!(site.view().await.state, "away");
    site.whole().await;
}

#[tokio::test]
async fn while_the_destination_is_away_the_spool_holds_what_it_may() {
    let site = Site::new();
    site.write(1).await;
    site.whole().await;
    site.place.inner().away = true;
    site.write(2).await;
    site.rounds(2).await;
    let view = site.view().await;
    assert_eq!((view.state.as_str(), view.lag_entries), ("away", 2));
    assert!(view.spool_bytes > 0 && view.lag_sec > 0.0 && view.last_error.is_some() && view.next_try_iso.is_some());
    // More than fits: it is dropped, and told.
    let generation = view.generation;
    for _ in 0..60 {
        site.make_noise(12_000).await;
        site.replication.cut_round().await;
        assert!(site.view().await.spool_bytes <= SPOOL_MB << 20);
    }
    let gaps =
        site.store.audit_page(crate::adapters::store::AuditQuery { limit: 1, ..Default::default() }).await.unwrap();
    assert_eq!(gaps[0].operation, operation::REPLICATION_GAP);
    assert!(gaps[0].metadata.contains("SPOOL_MB"), "{}", gaps[0].metadata);
    site.place.inner().away = false;
    site.whole().await;
    assert_ne!(site.view().await.generation, generation);
}

#[tokio::test]
async fn a_second_writer_is_refused_and_overwrites_nothing() {
    let site = Site::new();
    site.write(1).await;
    site.whole().await;
    let files = site.place.inner().files.len();
    // Another store.
    let other = Site::at(tempfile::tempdir().unwrap(), site.place.clone());
    other.write(1).await;
    other.rounds(2).await;
    let view = other.view().await;
    assert_eq!((view.state.as_str(), view.ok), ("refused", false));
    assert!(view.last_error.unwrap().contains("another store"));
    assert_eq!(other.head().await, 2, "one entry tells of it");
    // A copy of the same store, while the first one lives.
    let copy = tempfile::tempdir().unwrap();
    site.store.freeze(0).await.unwrap();
    std::fs::copy(site.home.path().join("store.db"), copy.path().join("store.db")).unwrap();
    let _ = std::fs::copy(site.home.path().join("store.db-wal"), copy.path().join("store.db-wal"));
    let copy = Site::at(copy, site.place.clone());
    copy.rounds(2).await;
    assert!(copy.view().await.last_error.unwrap().contains("a copy of the same store"));
    assert_eq!(site.place.inner().files.len(), files);
    // The first falls silent: by the destination's clock, whatever others say.
    site.place.inner().now += 61_000;
    copy.write(1).await;
    copy.whole().await;
    // And finds that out when it is back.
    tokio::time::sleep(Duration::from_secs(6)).await;
    site.write(1).await;
    site.rounds(2).await;
    let view = site.view().await;
    assert_eq!(view.state, "refused", "{view:?}");
    copy.whole().await;
}

#[tokio::test]
async fn a_torn_replica_gives_what_is_whole_and_says_what_is_not() {
    let site = Site::new();
    for _ in 0..6 {
        site.write(1).await;
        site.rounds(1).await;
    }
    site.whole().await;
    let generation = site.view().await.generation.unwrap();
    let name = |index| crate::core::replica::segment_name(&generation, index);
    let full = site.place.inner().files.clone();
    let last = full.keys().filter(|name| name.ends_with(".seg")).count() as u64;
    // Missing in the middle.
    site.place.inner().files.remove(&name(2));
    let restored = site.restored(Target::Newest).await.unwrap();
    assert_eq!(restored.segments, 1);
    assert!(restored.notes[0].contains("0000000002.seg is missing"), "{:?}", restored.notes);
    // Damaged: every byte's flip is noticed, wherever it is.
    for (index, keep) in [(1, 0), (3, 2), (last, last - 1)] {
        let mut files = full.clone();
        let (bytes, at) = files[&name(index)].clone();
        let mut bytes = bytes.to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        files.insert(name(index), (bytes.into(), at));
        site.place.inner().files = files;
        let restored = site.restored(Target::Newest).await.unwrap();
        assert_eq!(restored.segments, keep);
        assert!(restored.notes[0].contains("damaged"), "{:?}", restored.notes);
    }
    // Another segment under a name, whole in itself.
    let mut files = full.clone();
    let two = files[&name(2)].clone();
    files.insert(name(3), two);
    site.place.inner().files = files;
    assert_eq!(site.restored(Target::Newest).await.unwrap().segments, 2);
    // The snapshot or its manifest damaged, and no other.
    for kind in [".db.zst", ".manifest"] {
        let mut files = full.clone();
        let key = files.keys().find(|name| name.ends_with(kind)).cloned().unwrap();
        let (bytes, at) = files[&key].clone();
        let mut bytes = bytes.to_vec();
        bytes[40] ^= 4;
        files.insert(key, (bytes.into(), at));
        site.place.inner().files = files;
        let error = site.restored(Target::Newest).await.unwrap_err();
        assert!(matches!(error, RestoreError::Damaged(_)), "{error}");
    }
}

#[tokio::test]
async fn an_emptied_destination_is_filled_anew() {
    let site = Site::new();
    site.write(1).await;
    site.whole().await;
    site.place.inner().files.clear();
    tokio::time::sleep(Duration::from_secs(6)).await;
    site.write(1).await;
    site.rounds(2).await;
    site.whole().await;
}
