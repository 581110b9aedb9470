//! How a server's end, a loop's end and another's coming leave the copy.

use super::*;

const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn an_orderly_end_sends_the_rest_and_gives_the_place_free() {
    let site = Site::new();
    site.write(1).await;
    site.whole().await;
    site.write(5).await;
    site.replication.finish(Duration::from_secs(10)).await;
    let head = site.head().await;
    assert_eq!(site.restored(Target::Newest).await.unwrap().point.head.seq, head);
    // Another data directory with the same store need not wait.
    let copy = tempfile::tempdir().unwrap();
    site.store.close();
    std::fs::copy(site.home.path().join("store.db"), copy.path().join("store.db")).unwrap();
    Site::at(copy, site.place.clone()).whole().await;
}

#[tokio::test]
async fn a_stop_before_the_first_copy_makes_it() {
    let mut site = Site::new();
    site.write(1).await;
    site.whole().await;
    // Killed with changes that were never cut, then stopped before anything came about.
    site.write(3).await;
    site = site.restart();
    site.write(2).await;
    site.replication.finish(PATIENCE).await;
    assert_eq!(site.restored(Target::Newest).await.unwrap().point.head, site.store.audit_head().await.unwrap());
    // Where the destination does not answer, patience has its end, and what is there goes on being right.
    site = site.restart();
    site.write(1).await;
    site.place.inner().away = true;
    site.replication.finish(Duration::from_millis(300)).await;
    site.place.inner().away = false;
    assert_eq!(site.restored(Target::Newest).await.unwrap().point.head.seq, site.head().await - 1);
    site.restart().whole().await;
}

#[tokio::test]
async fn a_loop_that_ended_within_a_snapshot_leaves_nothing_stuck() {
    let site = Site::new();
    site.write(1).await;
    site.replication.send_round().await;
    // The loop is given up while the snapshot cannot be sent, and started anew.
    site.place.inner().lies = u32::MAX;
    let run = tokio::time::timeout(Duration::from_secs(2), site.replication.run(|| {})).await;
    assert!(run.is_err(), "it never ends by itself");
    assert_ne!(site.view().await.state, "streaming");
    site.place.inner().lies = 0;
    let again = site.replication.clone();
    let running = tokio::spawn(async move { again.run(|| {}).await });
    let began = std::time::Instant::now();
    while site.view().await.state != "streaming" {
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", site.view().await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    running.abort();
    let left: Vec<_> = std::fs::read_dir(site.home.path().join("spool")).unwrap().flatten().collect();
    assert!(left.iter().all(|file| !file.file_name().to_string_lossy().starts_with("snapshot.")), "{left:?}");
}

impl Site {
    /// As after an orderly stop, in whose end something is still written.
    async fn stop_and_start(self) -> Site {
        self.replication.finish(PATIENCE).await;
        self.write(1).await;
        self.store.close();
        self.replication.leave().await;
        // As every start does first: it leaves an empty log.
        let database = self.home.path().join("store.db");
        assert_eq!(crate::adapters::store::rescue::older_schema(&database), None);
        Site::at(self.home, self.place)
    }

    fn snapshots(&self) -> usize {
        self.place.inner().files.keys().filter(|name| name.ends_with(".manifest")).count()
    }
}

#[tokio::test]
async fn an_orderly_restart_goes_on_without_a_new_snapshot() {
    let mut site = Site::new();
    site.write(1).await;
    site.whole().await;
    let generation = site.view().await.generation;
    for round in 0..3 {
        site = site.stop_and_start().await;
        assert_eq!(site.view().await.state, "catching_up", "nothing is claimed before the destination was asked");
        if round > 0 {
            site.write(2).await;
        }
        site.whole().await;
        let view = site.view().await;
        assert_eq!((&view.generation, site.snapshots()), (&generation, 1), "round {round}");
        assert_eq!(view.last_snapshot.map(|snapshot| snapshot.seq), Some(1));
    }
    for seq in 2..=site.head().await {
        assert!(site.restored(Target::Seq(seq)).await.unwrap().point.head.seq >= seq - 1);
    }
}

#[tokio::test]
async fn it_goes_on_over_an_outage_too() {
    let mut site = Site::new();
    site.write(1).await;
    site.whole().await;
    let generation = site.view().await.generation;
    site.place.inner().away = true;
    for _ in 0..2 {
        site.write(2).await;
        site.replication.finish(Duration::from_millis(100)).await;
        site.store.close();
        site.replication.leave().await;
        site = Site::at(site.home, site.place);
        site.rounds(1).await;
    }
    let view = site.view().await;
    assert_eq!((view.state.as_str(), view.last_seq), ("away", None));
    assert!(view.spool_bytes > 0);
    site.place.inner().away = false;
    site.whole().await;
    assert_eq!((site.view().await.generation, site.snapshots()), (generation, 1));
}

/// What happens between a stop and a start, after which only a fresh copy is right.
async fn is_begun_anew(what: &str, meanwhile: impl FnOnce(&Site, &str)) {
    let site = Site::new();
    site.write(1).await;
    site.whole().await;
    site.write(1).await;
    site.whole().await;
    let generation = site.view().await.generation.unwrap();
    site.replication.finish(PATIENCE).await;
    site.store.close();
    site.replication.leave().await;
    meanwhile(&site, &generation);
    let site = Site::at(site.home, site.place);
    site.write(1).await;
    site.whole().await;
    assert_ne!(site.view().await.generation.as_ref(), Some(&generation), "{what}");
}

#[tokio::test]
async fn where_anything_changed_meanwhile_the_copy_is_begun_anew() {
    is_begun_anew("the database was written to", |site, _| {
        let shell = rusqlite::Connection::open(site.home.path().join("store.db")).unwrap();
        shell.execute("INSERT INTO facts (name, value) VALUES ('x', 'y')", []).unwrap();
    })
    .await;
    is_begun_anew("it ran and was killed since", |site, _| {
        // What was left is good for one start.
        let spool = Spool::open(site.home.path().join("spool")).unwrap();
        assert!(spool.take_left().is_some() && spool.take_left().is_none());
    })
    .await;
    is_begun_anew("the destination lost its last segment", |site, generation| {
        let mut inner = site.place.inner();
        let last = inner.files.keys().filter(|name| name.starts_with(&format!("generations/{generation}")));
        let last = last.filter(|name| name.ends_with(".seg")).max().cloned().unwrap();
        inner.files.remove(&last);
    })
    .await;
    is_begun_anew("the destination holds more", |site, generation| {
        let name = crate::core::replica::segment_name(generation, 99);
        site.place.inner().files.insert(name, ("x".into(), 0));
    })
    .await;
    is_begun_anew("its snapshot is gone", |site, _| {
        site.place.inner().files.retain(|name, _| !name.ends_with(".manifest"));
    })
    .await;
    is_begun_anew("what was left is torn", |site, _| {
        let path = site.home.path().join("spool/left");
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 9]).unwrap();
    })
    .await;
    is_begun_anew("the destination was emptied", |site, _| site.place.inner().files.clear()).await;
}
