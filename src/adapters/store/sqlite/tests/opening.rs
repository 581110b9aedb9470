//! Opening: alone, not over what is newer or no store at all, and copies that leave the original be.

use super::*;
use crate::core::model::{Connector, Digest, ScheduleSpec, Source};

fn refused(path: &Path) -> StoreError {
    SqliteStore::open(path).err().expect("this cannot be opened")
}

#[test]
fn a_second_opening_is_refused_until_the_first_has_ended() {
    let place = Place::new();
    let first = SqliteStore::open(&place.path()).unwrap();
    let error = refused(&place.path());
    assert!(matches!(&error, StoreError::Locked { path } if Path::new(path) == place.path()), "{error}");
    drop(first);
    SqliteStore::open(&place.path()).unwrap();
}

#[test]
fn a_newer_schema_is_refused_and_left_as_it_is() {
    let place = Place::new();
    drop(SqliteStore::open(&place.path()).unwrap());
    place.shell().pragma_update(None, "user_version", 99).unwrap();
    for _ in 0..2 {
        let error = refused(&place.path());
        assert!(matches!(error, StoreError::Newer { found: 99, .. }), "{error}");
    }
}

#[test]
fn what_is_no_store_is_named_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("text.db"), "interval_sec: 300\n".repeat(400)).unwrap();
    std::fs::create_dir(at("folder.db")).unwrap();
    std::fs::write(at("file"), "x").unwrap();
    for (name, reason) in [("text.db", "not a database"), ("folder.db", ""), ("file/store.db", "folder")] {
        let error = refused(&at(name));
        assert!(matches!(error, StoreError::Open { .. } | StoreError::Corrupt { .. }), "{error:?}");
        let message = error.to_string();
        assert!(message.contains(at(name).to_str().unwrap()) && message.contains(reason), "{message}");
    }
    assert_eq!(std::fs::read_to_string(at("text.db")).unwrap().len(), 7200);
}

#[cfg(unix)]
#[test]
fn a_folder_that_cannot_be_written_is_named() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let closed = folder.path().join("closed");
    std::fs::create_dir(&closed).unwrap();
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o555)).unwrap();
    if std::fs::write(closed.join("probe"), "").is_err() {
        for path in [closed.join("store.db"), closed.join("deeper/store.db")] {
            let error = refused(&path);
            assert!(matches!(error, StoreError::Open { .. }), "{error:?}");
            assert!(error.to_string().contains(closed.to_str().unwrap()), "{error}");
        }
    } // Else permissions do not bind this user.
}

#[tokio::test]
async fn a_copy_sees_all_and_leaves_the_original_as_it_is() {
    let (place, folder) = (Place::new(), tempfile::tempdir().unwrap());
    let store = SqliteStore::open(&place.path()).unwrap();
    store.append(vec![draft("a")], 1).await.unwrap();
    // Still open, as a crash would leave it: the entry stands in the log beside the database only.
    let log = with_suffix(&place.path(), "-wal");
    let bytes = || (std::fs::read(place.path()).unwrap(), std::fs::read(&log).unwrap());
    let before = bytes();
    let copy = SqliteStore::open_copy(&place.path(), folder.path()).unwrap();
    assert_eq!(whole_log(&copy).await, ["a"]);
    copy.append(vec![draft("b")], 2).await.unwrap();
    copy.close();
    assert_eq!(bytes(), before);
    assert_eq!(whole_log(&store).await, ["a"]);
    assert!(SqliteStore::open_copy(&place.path().with_file_name("none.db"), folder.path()).is_err());
}

#[tokio::test]
async fn a_closed_store_is_one_file() {
    let place = Place::new();
    let store = SqliteStore::open(&place.path()).unwrap();
    store.append(vec![draft("a")], 1).await.unwrap();
    assert_eq!(log(&store).await.len(), 1);
    store.close();
    assert!(!with_suffix(&place.path(), "-wal").exists(), "readers closed first, so the log was moved in");
}

#[tokio::test]
async fn a_log_cut_while_nothing_ran_does_not_heal_by_going_on() {
    let place = Place::new();
    let store = SqliteStore::open(&place.path()).unwrap();
    store.append(vec![draft("a"), draft("b"), draft("c")], 1).await.unwrap();
    store.close();
    place.shell().execute("DELETE FROM audit WHERE seq = 3", []).unwrap();
    let store = SqliteStore::open(&place.path()).unwrap();
    store.append(vec![draft("d")], 1).await.unwrap();
    let seqs: Vec<_> = log(&store).await.iter().map(|entry| entry.seq).collect();
    assert_eq!(seqs, [1, 2, 4], "the gap stays to be seen");
}

/// As `UPDATE schedules SET paused = 'yes'` in the sqlite3 shell would leave it.
#[tokio::test]
async fn a_row_damaged_by_hand_shows_as_changed_and_hides_no_other() {
    let damages = [
        "paused = 'yes'",
        "interval_sec = 'often'",
        "interval_sec = -1",
        "spec = x'ff'",
        "cron = x'00'",
        "fingerprint = 1",
        "digest = 'x', stamp = 'x'",
    ];
    for damage in damages {
        let place = Place::new();
        let store = SqliteStore::open(&place.path()).unwrap();
        store.apply(vec![put("noop/a"), put("noop/b")], Vec::new(), 1).await.unwrap();
        let damaging = format!("UPDATE schedules SET {damage} WHERE tenant = 'a'; UPDATE timers SET failures = 'x'");
        place.shell().execute_batch(&damaging).unwrap();
        let fleet = store.fleet().recv().await.unwrap().unwrap();
        let digest = store.schedule("noop/b".parse().unwrap()).await.unwrap().unwrap().digest;
        let changed: Vec<_> = fleet.iter().map(|row| row.actual != row.applied || row.digest != digest).collect();
        assert_eq!(changed, [true, false], "{damage}");
        assert!(store.schedule("noop/a".parse().unwrap()).await.unwrap().is_some(), "{damage}");
        let query = StatusQuery { connector: Connector::Noop, tenant: None, after: 0, limit: 9 };
        assert_eq!(store.statuses(query).recv().await.unwrap().unwrap().len(), 2, "{damage}");
    }
}

pub(super) fn put(name: &str) -> Change {
    let spec = RowSpec::of(&ScheduleSpec { interval_sec: Some(300), ..ScheduleSpec::default() });
    let content = b"interval_sec: 300\n".to_vec();
    let fingerprint = spec.fingerprint();
    let digest = Digest::of(&content);
    let put = Put {
        row: None,
        spec,
        fingerprint,
        digest,
        basis: digest,
        content,
        stamp: 0,
        next_due: Some(1),
        keeps_due: false,
    };
    let by = Author { source: Source::File, actor: "unknown".into(), action_id: "0190".into() };
    Change { id: name.parse().unwrap(), kind: ChangeKind::Put(Box::new(put)), by, audit: Vec::new() }
}
