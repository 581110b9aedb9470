//! History over an upgrade, and contents that somebody damaged.

use super::opening::put;
use super::*;
use crate::core::model::{ScheduleSpec, Source};
use crate::core::row::RowSpec;

/// A database of the first schema, as an upgrade finds it.
#[tokio::test]
async fn history_begins_with_what_runs_when_the_store_is_upgraded() {
    let place = Place::new();
    std::fs::create_dir_all(place.path().parent().unwrap()).unwrap();
    let shell = place.shell();
    shell.execute_batch(include_str!("../../../../../migrations/sqlite/001_initial.sql")).unwrap();
    let (old, new) = (b"interval_sec: 300\n", b"interval_sec: 60\n");
    shell
        .execute(
            "INSERT INTO schedules (id, connector, tenant, interval_sec, paused, spec, fingerprint, digest, stamp,
                                    created_ms, updated_ms, content)
             VALUES (1, 'noop', 'a', 300, 0, '{}', zeroblob(16), ?1, 0, 5, 7, ?2)",
            (Digest::of(old).0, old.to_vec()),
        )
        .unwrap();
    shell.pragma_update(None, "user_version", 1).unwrap();
    drop(shell);
    let store = SqliteStore::open(&place.path()).unwrap();
    let spec = RowSpec::of(&ScheduleSpec::default());
    let fingerprint = spec.fingerprint();
    let digest = Digest::of(new);
    let put = Put {
        row: Some(1),
        spec,
        fingerprint,
        digest,
        basis: digest,
        content: new.to_vec(),
        stamp: 0,
        next_due: None,
        keeps_due: false,
    };
    let id: ScheduleId = "noop/a".parse().unwrap();
    let by = Author { source: Source::Ui, actor: "zoe".into(), action_id: "0190".into() };
    let change = Change { id: id.clone(), kind: ChangeKind::Put(Box::new(put)), by, audit: Vec::new() };
    store.apply(vec![change], Vec::new(), 9).await.unwrap();
    let query = RevisionQuery { id, before: None, until: None, digest_prefix: None, limit: 9, with_content: true };
    let found = store.revisions(query).await.unwrap();
    assert_eq!((found[1].number, found[1].at, found[1].action_id.as_str()), (1, 7, ""));
    assert_eq!(found[1].content.as_deref(), Some(&old[..]), "the first change after the upgrade can be taken back");
    assert_eq!(found[0].content.as_deref(), Some(&new[..]));
    let past = store.fleet_at(6).recv().await.unwrap().unwrap().remove(0);
    assert!(past.is_begun_late && past.number.is_none());
}

#[tokio::test]
async fn a_content_damaged_by_hand_is_not_given_out() {
    let place = Place::new();
    let store = SqliteStore::open(&place.path()).unwrap();
    store.apply(vec![put("noop/a")], Vec::new(), 1).await.unwrap();
    place.shell().execute_batch("UPDATE schedules SET content = x'00'").unwrap();
    let id: ScheduleId = "noop/a".parse().unwrap();
    let query = RevisionQuery { id, before: None, until: None, digest_prefix: None, limit: 9, with_content: true };
    let found = store.revisions(query).await.unwrap().remove(0);
    assert!(found.digest.is_some() && found.content.is_none());
}
