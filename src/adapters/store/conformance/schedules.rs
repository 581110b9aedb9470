//! Schedules' rows and timers: put, renewed, deleted, all together or not at all.

use super::*;
use crate::adapters::store::{Completion, Intent, Stamp, StoreError};
use crate::core::model::ImportStats;

pub async fn what_is_put_is_read_back(site: &impl Site) {
    let store = site.open();
    let spec = RowSpec {
        interval_sec: None,
        cron: Some("*/15 7-18 * * 1-5".into()),
        timezone: Some("America/Denver".into()),
        paused: true,
        pause_reason: Some("Umzug – \"später\"".into()),
        pause_until: Some(NOW + 5),
        rest: r#"{"labels":{"region":"west"}}"#.into(),
    };
    let content = b"cron: x\r\n\0\xff".to_vec();
    let digest = Digest::of(&content);
    let fingerprint = spec.fingerprint();
    let put = Put {
        row: None,
        spec: spec.clone(),
        fingerprint,
        digest,
        basis: Digest([7; 32]),
        content: content.clone(),
        stamp: u64::MAX,
        next_due: None,
        keeps_due: false,
    };
    let applied = apply(&store, vec![change("acculynx/peak", ChangeKind::Put(Box::new(put)))]).await;
    let found = store.schedule(id("acculynx/peak")).await.unwrap().unwrap();
    assert_eq!(applied.rows, [found.row]);
    assert!(found.row > 0);
    assert_eq!((&found.spec, found.digest, &found.content), (&spec, digest, &content));
    assert_eq!(found.basis, Digest([7; 32]));
    assert_eq!((found.stamp, found.next_due, found.last.failures), (u64::MAX, None, 0));
    assert_eq!((found.last.ok, found.last.ended), (None, None));

    let fleet = gather(store.fleet()).await;
    assert_eq!((fleet.len(), fleet[0].row, fleet[0].tenant.as_str()), (1, found.row, "peak"));
    assert_eq!((fleet[0].actual, fleet[0].applied), (spec.fingerprint(), spec.fingerprint()));
    assert_eq!(fleet[0].basis, Digest([7; 32]));
    assert_eq!((fleet[0].digest, fleet[0].stamp, fleet[0].paused), (digest, u64::MAX, true));
    assert!(store.schedule(id("noop/peak")).await.unwrap().is_none(), "another connector's tenant is another schedule");
}

pub async fn a_put_renews_the_row_and_keeps_its_history(site: &impl Site) {
    let store = site.open();
    let row = add(&store, "noop/a", Some(NOW)).await;
    let run = start(&store, "noop/a", NOW).await;
    let stats = ImportStats { imported: 3, ..ImportStats::default() };
    let end = Completion { ok: false, message: "m".into(), error_class: Some("timeout"), stats, ..end(run, row) };
    store.complete(end).await.unwrap();
    let applied = apply(&store, vec![put("noop/a", 60, Some(NOW + 60))]).await;
    assert_eq!(applied.rows, [row]);
    let found = store.schedule(id("noop/a")).await.unwrap().unwrap();
    assert_eq!((found.spec.interval_sec, found.next_due), (Some(60), Some(NOW + 60)));
    assert_eq!(found.content, b"interval_sec: 60\n");
    assert_eq!((found.last.ok, found.last.failures, found.last.stats), (Some(false), 1, stats));
}

pub async fn a_timer_that_stood_still_counts_failures_anew(site: &impl Site) {
    let store = site.open();
    let row = add(&store, "noop/a", Some(NOW)).await;
    let run = start(&store, "noop/a", NOW).await;
    store.complete(Completion { ok: false, error_class: Some("timeout"), ..end(run, row) }).await.unwrap();
    for (next_due, failures) in [(Some(NOW + 60), 1), (None, 1), (None, 1), (Some(NOW + 60), 0)] {
        apply(&store, vec![put("noop/a", 60, next_due)]).await;
        let found = store.schedule(id("noop/a")).await.unwrap().unwrap();
        assert_eq!((found.last.ok, found.last.failures), (Some(false), failures), "{next_due:?}");
    }
}

pub async fn a_put_that_keeps_the_due_time_leaves_a_timer_that_moved_on(site: &impl Site) {
    let store = site.open();
    let row_key = add(&store, "noop/a", Some(NOW)).await;
    let advance = crate::adapters::store::Advance {
        row: row_key,
        from: NOW,
        to: Some(NOW + 60),
        applied: None,
        missed: Missed::NONE,
    };
    store.advance(vec![advance]).await.unwrap();
    let late = Put { row: Some(row_key), keeps_due: true, ..row(30, Some(NOW)) };
    apply(&store, vec![change("noop/a", ChangeKind::Put(Box::new(late)))]).await;
    let found = store.schedule(id("noop/a")).await.unwrap().unwrap();
    assert_eq!((found.spec.interval_sec, found.next_due), (Some(30), Some(NOW + 60)));
    let fresh = Put { keeps_due: true, ..row(30, Some(NOW)) };
    apply(&store, vec![change("noop/b", ChangeKind::Put(Box::new(fresh)))]).await;
    assert_eq!(store.schedule(id("noop/b")).await.unwrap().unwrap().next_due, Some(NOW));
}

pub async fn a_lost_row_gets_its_key_again(site: &impl Site) {
    let store = site.open();
    let lost = Put { row: Some(41), ..row(300, None) };
    let applied = apply(&store, vec![change("noop/a", ChangeKind::Put(Box::new(lost.clone())))]).await;
    assert_eq!(applied.rows, [41]);
    assert!(add(&store, "noop/b", None).await > 41, "a given key is not given to another");
    let applied = apply(&store, vec![change("noop/a", ChangeKind::Put(Box::new(lost)))]).await;
    assert_eq!(applied.rows, [41]);
}

pub async fn a_key_is_never_given_twice(site: &impl Site) {
    let store = site.open();
    let mut last = 0;
    for _ in 0..3 {
        let row = add(&store, "noop/a", None).await;
        assert!(row > last);
        last = row;
        apply(&store, vec![change("noop/a", ChangeKind::Delete)]).await;
    }
    store.close();
    assert!(add(&site.open(), "noop/a", None).await > last, "nor after a restart");
}

pub async fn a_delete_leaves_nothing(site: &impl Site) {
    let store = site.open();
    let row = add(&store, "noop/a", Some(NOW)).await;
    let kept = add(&store, "noop/b", Some(NOW)).await;
    assert_eq!(apply(&store, vec![change("noop/a", ChangeKind::Delete)]).await.rows, [row]);
    assert!(store.schedule(id("noop/a")).await.unwrap().is_none());
    assert_eq!(gather(store.fleet()).await.iter().map(|row| row.row).collect::<Vec<_>>(), [kept]);
    assert_eq!(apply(&store, vec![change("noop/a", ChangeKind::Delete)]).await.rows, [0]);
    add(&store, "noop/a", None).await;
    assert_eq!(due(&store, "noop/a").await, None, "the old timer is gone");
}

pub async fn changes_apply_together_or_not_at_all(site: &impl Site) {
    let store = site.open();
    let taken = add(&store, "noop/taken", None).await;
    let good = Change { audit: vec![draft("noop/a")], ..put("noop/a", 300, None) };
    let intent = |name: &str| Intent { id: id(name), base: None, content: Some(b"x".to_vec()), commit: None };
    let intents = vec![intent("noop/a"), intent("noop/b")];
    let delete = change("noop/taken", ChangeKind::Delete);
    let group = vec![good.clone(), delete, put("noop/c", 1, None), impossible("noop/d", taken + 2)];
    let refused = store.apply(group, intents.clone(), NOW).await;
    assert!(matches!(refused, Err(StoreError::Failed { .. })), "{refused:?}");
    let names: Vec<_> = gather(store.fleet()).await.into_iter().map(|row| row.tenant).collect();
    assert_eq!(names, ["taken"]);
    assert!(store.intents().await.unwrap().is_empty());
    assert_whole(&store, 0).await;

    let applied = store.apply(vec![good, change("noop/b", ChangeKind::Note)], intents.clone(), NOW).await.unwrap();
    assert_eq!((applied.rows.len(), applied.rows[1], &*applied.seqs), (2, 0, &[1][..]));
    let promised = applied.promised.iter().map(|promised| promised.intent).zip(intents).collect::<Vec<_>>();
    assert_eq!((promised.len(), store.intents().await.unwrap()), (2, promised));
}

/// Groups that commit together still fail alone.
pub async fn a_failure_undoes_only_itself(site: &impl Site) {
    let store = site.open();
    let taken = add(&store, "noop/taken", None).await;
    let all = (0..60).map(|n| {
        let name = format!("noop/t{n}");
        let mut group = vec![Change { audit: vec![draft(&name)], ..put(&name, 300, None) }];
        if n % 3 == 0 {
            group.push(impossible("noop/x", taken));
        }
        let store = store.clone();
        tokio::spawn(async move { store.apply(group, Vec::new(), NOW).await })
    });
    for (n, task) in all.collect::<Vec<_>>().into_iter().enumerate() {
        assert_eq!(task.await.unwrap().is_err(), n % 3 == 0, "{n}");
    }
    assert_eq!(gather(store.fleet()).await.len(), 41);
    assert_whole(&store, 40).await;
}

pub async fn stamps_are_remembered(site: &impl Site) {
    let store = site.open();
    let (a, b) = (add(&store, "noop/a", None).await, add(&store, "noop/b", None).await);
    let digest = gather(store.fleet()).await[0].digest;
    let stamp = |row, stamp| Stamp { row, digest, stamp };
    store.set_stamps(vec![stamp(a, 7), stamp(b, u64::MAX), stamp(b + 1000, 1)]).await.unwrap();
    let stamps: Vec<_> = gather(store.fleet()).await.into_iter().map(|row| (row.row, row.stamp)).collect();
    assert_eq!(stamps, [(a, 7), (b, u64::MAX)]);
    let other = Digest::of(b"another content");
    store.set_stamps(vec![Stamp { row: a, digest: other, stamp: 8 }]).await.unwrap();
    assert_eq!(gather(store.fleet()).await[0].stamp, 7, "the file that was looked at is not what is applied");
}
