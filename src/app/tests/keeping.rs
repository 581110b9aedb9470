//! Copies by time: snapshots when something has changed, the backup once a day.

use super::healing::{Site, note};
use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_come_by_time_and_only_when_something_has_changed() {
    let site = Site::filled(1, 1).await;
    let app = site.start(START + 60_000).await.unwrap();
    let count = async || app.snapshots().await.unwrap().len();
    app.snapshot_if_due().await;
    assert_eq!(count().await, 1, "the one before is young");
    app.clock.advance(3_600_000);
    note(&app, 1).await;
    app.snapshot_if_due().await;
    assert_eq!(count().await, 2);
    app.clock.advance(7_200_000);
    app.snapshot_if_due().await;
    assert_eq!(count().await, 2, "nothing has changed");
    for _ in 0..8 {
        note(&app, 1).await;
        app.clock.advance(3_600_000);
        app.snapshot_if_due().await;
    }
    assert!((5..=6).contains(&count().await));
    // A place where none can be made: told, and the rest goes on.
    std::fs::rename(app.snapshot_folder(), site.0.path().join("elsewhere")).unwrap();
    std::fs::write(app.snapshot_folder(), "in the way").unwrap();
    note(&app, 1).await;
    app.clock.advance(3_600_000);
    app.snapshot_if_due().await;
    let health = app.health().await;
    assert!(health.db.status == 0 && health.db.message.unwrap().contains("snapshot"));
    std::fs::remove_file(app.snapshot_folder()).unwrap();
    app.clock.advance(61_000);
    app.snapshot_if_due().await;
    assert_eq!(app.health().await.db.status, 1);
    app.store.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_daily_backup_comes_once_a_day() {
    let site = Site::filled(1, 0).await;
    // Friday, 08:00.
    let app = site.start(START).await.unwrap();
    let caller = Caller { source: Origin::Api, actor: "zoe".into() };
    let count = async || app.backups_view().await.unwrap().count;
    app.backup_if_due().await.unwrap();
    app.schedule_backup(Some(9 * 60), &caller).await.unwrap();
    app.backup_if_due().await.unwrap();
    assert_eq!(count().await, 0, "its hour has not come");
    app.clock.advance(3_600_000);
    for _ in 0..3 {
        app.backup_if_due().await.unwrap();
        app.clock.advance(-600_000);
    }
    assert_eq!(count().await, 1);
    app.clock.advance(86_400_000 * 9);
    app.backup_if_due().await.unwrap();
    app.backup_if_due().await.unwrap();
    assert_eq!(count().await, 1, "another, and the old one is gone");
    assert_eq!(app.backups_view().await.unwrap().daily_at.as_deref(), Some("09:00"));
    app.schedule_backup(None, &caller).await.unwrap();
    app.clock.advance(86_400_000 * 2);
    app.backup_if_due().await.unwrap();
    assert_eq!(count().await, 1);
    app.store.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_full_disk_copies_and_sealing_wait_and_say_why() {
    let site = Site::filled(1, 0).await;
    let mut settings = site.settings();
    settings.proof.audit_live = 0;
    let app = site.start_with(settings, START, None).await.unwrap();
    note(&app, 500).await;
    app.schedule_backup(Some(9 * 60), &Caller { source: Origin::Api, actor: "zoe".into() }).await.unwrap();
    let space = app.store.space().unwrap();
    space.met_full();
    app.clock.advance(3_600_000);
    app.snapshot_if_due().await;
    assert!(matches!(app.snapshot("asked").await, Err(crate::app::AppError::Full(_))));
    assert!(app.backup_if_due().await.is_err());
    assert!(!app.seal_some().await.unwrap());
    assert_eq!(app.snapshots().await.unwrap().len(), 1);
    assert_eq!((app.backups_view().await.unwrap().count, app.store.sealed().await.unwrap().entries), (0, 0));
    let told = app.health().await.db.upkeep.snapshot_error.unwrap();
    assert!(told.contains("could not make a snapshot: the disk that holds the store is full"), "{told}");
    assert!(app.copy_trouble().is_some());
    // Room again: all of it is made up for.
    space.tend().unwrap();
    app.clock.advance(300_000);
    app.snapshot_if_due().await;
    app.backup_if_due().await.unwrap();
    assert!(app.seal_some().await.unwrap());
    assert_eq!(app.snapshots().await.unwrap().len(), 2);
    assert_eq!((app.backups_view().await.unwrap().count, app.store.sealed().await.unwrap().entries), (1, 500));
    assert_eq!(app.copy_trouble(), None);
    app.store.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_store_is_copied_before_it_is_brought_up_to_date() {
    let site = Site(tempfile::tempdir().unwrap());
    let database = site.0.path().join("data/store.db");
    std::fs::create_dir_all(database.parent().unwrap()).unwrap();
    let older = rusqlite::Connection::open(&database).unwrap();
    older.execute_batch(include_str!("../../../migrations/sqlite/001_initial.sql")).unwrap();
    older.pragma_update(None, "user_version", 1).unwrap();
    older.close().unwrap();
    // Cut off behind the copy, twice: of the same state one copy is kept.
    let before = std::fs::read(&database).unwrap();
    for moment in [START - 2000, START - 1000] {
        site.start(moment).await.unwrap().store.close();
        std::fs::write(&database, &before).unwrap();
    }
    let app = site.start(START).await.unwrap();
    let snapshots = app.snapshots().await.unwrap();
    assert_eq!(snapshots.len(), 1);
    assert_eq!((snapshots[0].reason.as_deref(), snapshots[0].schema_version), (Some("upgrade"), Some(1)));
    // It outlives the newest ones for a week, and can be read.
    for hour in 1..=30 {
        note(&app, 1).await;
        app.clock.advance(if hour > 28 { 86_400_000 * 4 } else { 3_600_000 });
        app.snapshot_if_due().await;
        let kept = app.snapshots().await.unwrap().iter().any(|kept| kept.reason.as_deref() == Some("upgrade"));
        assert_eq!(kept, hour < 30, "{hour}");
    }
    app.store.close();
    let app = site.start(START + 1000).await.unwrap();
    assert!(app.snapshots().await.unwrap().iter().all(|kept| kept.reason.as_deref() != Some("upgrade")));
    app.store.close();
}
