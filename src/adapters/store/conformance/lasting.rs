//! What outlives a store, what its end means for its callers, and who else has written.

use std::time::Duration;

use super::*;
use crate::adapters::connectors::{Page, Record};
use crate::adapters::store::{Brake, Completion, Remembered, StoreError};
use crate::core::model::{ImportStats, Resource};

pub async fn everything_outlives_the_store(site: &impl Site) {
    let store = site.open();
    let row = add(&store, "noop/a", Some(NOW)).await;
    let run = start(&store, "noop/a", NOW).await;
    let stats = ImportStats { skipped: 4, ..ImportStats::default() };
    let end = Completion { stats, ..end(run, row) };
    store.complete(end).await.unwrap();
    let record = Record { key: "1".into(), payload: serde_json::json!({}) };
    let page = Page { resource: Resource::JOBS, records: vec![record], bookmark: Some(serde_json::json!(5)) };
    store.write_pages(id("noop/a"), 0, vec![page], NOW).await.unwrap();
    let remembered = Remembered { request: Digest::of(b"r"), answer: "a".into() };
    store.remember_answer("k".into(), remembered, NOW).await.unwrap();
    let brake = Brake { scope: String::new(), reason: "r".into(), actor: "a".into(), since: NOW };
    store.put_brake(brake.clone(), draft("noop/a")).await.unwrap();
    drop(store);

    let store = site.open();
    let found = store.schedule(id("noop/a")).await.unwrap().unwrap();
    assert_eq!((found.row, found.next_due, found.last.ok, found.last.stats), (row, Some(NOW), Some(true), stats));
    assert_eq!(store.bookmark(id("noop/a"), Resource::JOBS).await.unwrap(), Some(serde_json::json!(5)));
    assert_eq!(store.answer("k".into(), NOW).await.unwrap().unwrap().answer, "a");
    assert_eq!(store.brakes().await.unwrap(), [brake]);
    let counts = store.fleet_counts().await.unwrap();
    assert_eq!((counts.schedules, counts.runs_ok, counts.records, counts.audit_entries), (1, 1, 1, 1));
    assert_whole(&store, 1).await;
}

/// A caller whose client hung up must not take a promised change back half way.
pub async fn a_write_counts_though_nobody_waits(site: &impl Site) {
    let store = site.open();
    drop(store.append(vec![draft("noop/a")], NOW));
    store.append(vec![draft("noop/a")], NOW).await.unwrap();
    assert_whole(&store, 2).await;
}

pub async fn foreign_writes_are_noticed_once(site: &impl Site) {
    let store = site.open();
    store.changed_by_others().await.unwrap();
    for n in 0..20 {
        add(&store, &format!("noop/t{n}"), None).await;
        assert_eq!(gather(store.fleet()).await.len(), n + 1);
        assert!(!store.changed_by_others().await.unwrap(), "own writes are no one else's");
    }
    site.write_past();
    add(&store, "noop/late", None).await;
    assert!(store.changed_by_others().await.unwrap(), "an own write after it hides nothing");
    assert!(!store.changed_by_others().await.unwrap());
    add(&store, "noop/later", None).await;
    assert!(!store.changed_by_others().await.unwrap());
}

pub async fn a_closed_store_answers_stopped(site: &impl Site) {
    let store = site.open();
    add(&store, "noop/a", None).await;
    store.schedule(id("noop/a")).await.unwrap();
    store.close();
    store.close();
    let stopped = |error: StoreError| assert!(matches!(error, StoreError::Stopped), "{error}");
    stopped(store.append(vec![draft("noop/a")], NOW).await.unwrap_err());
    stopped(store.claim(vec![claim("noop/a", NOW)], NOW).await.unwrap_err());
    stopped(store.apply(vec![put("noop/a", 1, None)], Vec::new(), NOW).await.unwrap_err());
    stopped(store.changed_by_others().await.unwrap_err());
    stopped(store.schedule(id("noop/a")).await.unwrap_err());
    stopped(store.audit_head().await.unwrap_err());
    stopped(store.problems().await.unwrap_err());
    stopped(store.fleet().recv().await.unwrap().unwrap_err());
    let successor = site.open();
    assert_eq!(gather(successor.fleet()).await.len(), 1, "a successor need not wait for the last reference");
}

pub async fn what_was_handed_in_is_finished(site: &impl Site) {
    let store = site.open();
    let handed_in: Vec<_> = (0..200).map(|_| store.append(vec![draft("noop/a")], NOW)).collect();
    store.close();
    for append in handed_in {
        tokio::time::timeout(Duration::from_secs(10), append).await.unwrap().unwrap();
    }
    assert_whole(&site.open(), 200).await;
}
