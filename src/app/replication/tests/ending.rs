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
    assert_eq!(site.view().await.state, "away");
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
