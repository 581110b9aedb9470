//! Imported records: counted by what is new in them, a page and its bookmark as one.

use serde_json::{Value, json};

use super::*;
use crate::adapters::connectors::{Page, Record};
use crate::adapters::store::{RecordQuery, ResourceCount, StoredRecord};
use crate::core::model::{ImportStats, Resource};

pub(super) fn page(records: &[(&str, Value)], bookmark: Option<Value>) -> Page {
    let records = records.iter().map(|(key, payload)| Record { key: (*key).to_owned(), payload: payload.clone() });
    Page { resource: Resource::JOBS, records: records.collect(), bookmark }
}

fn counted(imported: u64, updated: u64, skipped: u64) -> ImportStats {
    ImportStats { imported, updated, skipped, failed: 0 }
}

pub(super) async fn write(store: &SharedStore, name: &str, page: Page) -> ImportStats {
    store.write_pages(id(name), 0, vec![page], NOW).await.unwrap()
}

pub async fn a_page_counts_new_changed_and_unchanged(site: &impl Site) {
    let store = site.open();
    let first = page(&[("1", json!({"a": 1, "b": [2, "ü"]})), ("2", json!({"a": 1}))], None);
    assert_eq!(write(&store, "noop/a", first.clone()).await, counted(2, 0, 0));
    assert_eq!(write(&store, "noop/a", first).await, counted(0, 0, 2));
    let reordered: Value = serde_json::from_str(r#"{"b": [2, "ü"], "a": 1}"#).unwrap();
    let second = page(&[("1", reordered), ("2", json!({"a": 2})), ("3", json!({}))], None);
    assert_eq!(write(&store, "noop/a", second).await, counted(1, 1, 1), "the order of keys is no change");
    let back = page(&[("2", json!({"a": 1})), ("2", json!({"a": 1}))], None);
    assert_eq!(write(&store, "noop/a", back).await, counted(0, 1, 1), "a return is a change, its repeat is none");
    assert_eq!(write(&store, "noop/a", page(&[], None)).await, counted(0, 0, 0));
    let later =
        store.write_pages(id("noop/a"), 0, vec![page(&[("3", json!({}))], None)], NOW + 7_200_000).await.unwrap();
    assert_eq!(later, counted(0, 0, 1), "having been seen again is no change");
    assert_eq!(store.fleet_counts().await.unwrap().records, 3);
}

pub async fn records_of_others_are_not_touched(site: &impl Site) {
    let store = site.open();
    let one = || page(&[("1", json!(1))], Some(json!("mine")));
    for name in ["noop/a", "noop/b", "acculynx/a"] {
        assert_eq!(write(&store, name, one()).await, counted(1, 0, 0), "{name}");
    }
    let contacts = Page { resource: Resource::CONTACTS, bookmark: None, ..one() };
    assert_eq!(write(&store, "noop/a", contacts).await, counted(1, 0, 0));
    assert_eq!(store.bookmark(id("noop/a"), Resource::CONTACTS).await.unwrap(), None);
    let counts = store.tenant_counts("a".into()).await.unwrap();
    let records: Vec<_> = counts.iter().map(|counts| (counts.connector.as_str(), counts.records)).collect();
    assert_eq!(records, [("acculynx", 1), ("noop", 2)]);
}

pub async fn a_page_and_its_bookmark_are_one(site: &impl Site) {
    let store = site.open();
    write(&store, "noop/a", page(&[("1", json!(1))], Some(json!({"page": 1})))).await;
    site.refuse_record("poison");
    let spoiled = page(&[("1", json!(2)), ("2", json!(2)), ("poison", json!(0))], Some(json!({"page": 2})));
    let sound = Page { resource: Resource::CONTACTS, ..page(&[("1", json!(1))], Some(json!("contacts"))) };
    store.write_pages(id("noop/a"), 0, vec![sound.clone(), spoiled], NOW).await.unwrap_err();
    assert_eq!(store.bookmark(id("noop/a"), Resource::JOBS).await.unwrap(), Some(json!({"page": 1})));
    assert_eq!(store.bookmark(id("noop/a"), Resource::CONTACTS).await.unwrap(), None, "nor of the page beside it");
    assert_eq!(write(&store, "noop/a", sound).await, counted(1, 0, 0));
    let again = page(&[("1", json!(1)), ("2", json!(2))], Some(json!({"page": 2})));
    assert_eq!(write(&store, "noop/a", again).await, counted(1, 0, 1), "nothing of the refused page stayed");
    assert_eq!(store.bookmark(id("noop/a"), Resource::JOBS).await.unwrap(), Some(json!({"page": 2})));
}

pub async fn a_page_counts_for_its_run(site: &impl Site) {
    let store = site.open();
    let row = add(&store, "noop/a", None).await;
    let (run, other) = (start(&store, "noop/a", 1).await, start(&store, "noop/a", 2).await);
    let bring = async |keys: &[&str]| {
        let records: Vec<_> = keys.iter().map(|key| (*key, json!(1))).collect();
        store.write_pages(id("noop/a"), run, vec![page(&records, Some(json!(keys)))], NOW).await
    };
    bring(&["1", "2"]).await.unwrap();
    bring(&["2", "3"]).await.unwrap();
    site.refuse_record("poison");
    bring(&["4", "poison"]).await.unwrap_err();
    store.close();
    let store = site.open();
    let open: Vec<_> = store.open_runs().await.unwrap().iter().map(|open| (open.run, open.stats)).collect();
    assert_eq!(open, [(run, counted(3, 0, 1)), (other, counted(0, 0, 0))], "as much as is stored, without an end");
    let shown = async |run| store.run(run).await.unwrap().unwrap().stats;
    assert_eq!((shown(run).await, shown(other).await), (Some(counted(3, 0, 1)), None));
    store.complete(end(run, row)).await.unwrap();
    let last = shown(run).await;
    store.write_pages(id("noop/a"), run, vec![page(&[("9", json!(1))], None)], NOW).await.unwrap();
    assert_eq!(shown(run).await, last, "what comes after its end is not its own");
}

pub async fn no_bookmark_keeps_the_last(site: &impl Site) {
    let store = site.open();
    let bookmark = || store.bookmark(id("noop/a"), Resource::JOBS);
    assert_eq!(bookmark().await.unwrap(), None);
    write(&store, "noop/a", page(&[], Some(json!(["x", 1.5])))).await;
    write(&store, "noop/a", page(&[("1", json!(1))], None)).await;
    assert_eq!(bookmark().await.unwrap(), Some(json!(["x", 1.5])));
    write(&store, "noop/a", page(&[], Some(Value::Null))).await;
    assert_eq!(bookmark().await.unwrap(), Some(Value::Null), "null is a bookmark like any other");
}

fn query(name: &str) -> RecordQuery {
    RecordQuery {
        id: id(name),
        resource: None,
        key: None,
        changed_since: None,
        after: None,
        limit: 100,
        max_bytes: usize::MAX,
        with_payload: true,
    }
}

async fn keys(store: &SharedStore, query: RecordQuery) -> Vec<String> {
    let page = store.records(query).await.unwrap();
    assert!(!page.has_more);
    page.records.into_iter().map(|record| format!("{}/{}", record.resource, record.key)).collect()
}

/// Jobs 1, 2 and 3, contacts 1, all of `noop/a`; a job of `noop/b`.
async fn fill(store: &SharedStore) {
    let jobs = page(&[("1", json!({"a": "ü"})), ("2", json!(2)), ("3", json!(3))], Some(json!(1)));
    write(store, "noop/a", jobs).await;
    write(store, "noop/a", Page { resource: Resource::CONTACTS, ..page(&[("1", json!({}))], Some(json!(2))) }).await;
    write(store, "noop/b", page(&[("1", json!(1))], Some(json!(3)))).await;
}

pub async fn records_are_read_back_in_order(site: &impl Site) {
    let store = site.open();
    fill(&store).await;
    let all = store.records(query("noop/a")).await.unwrap().records;
    let text = json!({"a": "ü"}).to_string();
    let expect = StoredRecord {
        resource: "jobs".into(),
        key: "1".into(),
        hash: Digest::of(text.as_bytes()),
        first_seen: NOW,
        last_seen: NOW,
        changed: NOW,
        payload: Some(text),
    };
    assert_eq!(all[1], expect);
    assert_eq!(keys(&store, query("noop/a")).await, ["contacts/1", "jobs/1", "jobs/2", "jobs/3"]);
    let jobs = RecordQuery { resource: Some(Resource::JOBS), ..query("noop/a") };
    assert_eq!(keys(&store, jobs.clone()).await, ["jobs/1", "jobs/2", "jobs/3"]);
    assert_eq!(keys(&store, RecordQuery { key: Some("1".into()), ..query("noop/a") }).await, ["contacts/1", "jobs/1"]);
    assert!(keys(&store, query("acculynx/a")).await.is_empty());
    let without = store.records(RecordQuery { with_payload: false, ..jobs }).await.unwrap();
    assert!(without.records.iter().all(|record| record.payload.is_none()));
    store
        .write_pages(id("noop/a"), 0, vec![page(&[("2", json!("new")), ("3", json!(3))], None)], NOW + 5)
        .await
        .unwrap();
    let recent = |since| RecordQuery { changed_since: Some(since), ..query("noop/a") };
    assert_eq!(keys(&store, recent(NOW + 5)).await, ["jobs/2"], "seen again is not changed");
    assert_eq!(keys(&store, recent(NOW)).await.len(), 4);
    let second = store.records(recent(NOW + 5)).await.unwrap().records.remove(0);
    assert_eq!((second.first_seen, second.changed, second.payload.as_deref()), (NOW, NOW + 5, Some("\"new\"")));
}

pub async fn pages_of_records_join(site: &impl Site) {
    let store = site.open();
    fill(&store).await;
    for (limit, max_bytes) in [(1, usize::MAX), (3, usize::MAX), (4, usize::MAX), (100, 1), (100, 3)] {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let asked = RecordQuery { limit, max_bytes, after: after.take(), ..query("noop/a") };
            let page = store.records(asked).await.unwrap();
            assert!(!page.records.is_empty() && page.records.len() <= limit as usize);
            after = page.records.last().map(|last| (last.resource.clone(), last.key.clone()));
            found.extend(page.records.into_iter().map(|record| format!("{}/{}", record.resource, record.key)));
            if !page.has_more {
                break;
            }
        }
        assert_eq!(found, ["contacts/1", "jobs/1", "jobs/2", "jobs/3"], "{limit} records, {max_bytes} bytes a page");
    }
}

pub async fn records_are_counted_by_resource(site: &impl Site) {
    let store = site.open();
    fill(&store).await;
    store.write_pages(id("noop/a"), 0, vec![page(&[("2", json!(20))], None)], NOW + 5).await.unwrap();
    let counts = store.record_counts(id("noop/a"), None).await.unwrap();
    let bytes = (json!({"a": "ü"}).to_string() + "20" + "3").len() as u64;
    let jobs = ResourceCount {
        resource: "jobs".into(),
        records: 3,
        bytes,
        newest: Some(NOW),
        changed: Some(NOW + 5),
        has_bookmark: true,
    };
    assert_eq!((counts[0].resource.as_str(), counts[0].records, counts[0].bytes), ("contacts", 1, 2));
    assert_eq!(counts[1], jobs);
    assert_eq!(store.record_counts(id("noop/a"), Some(Resource::JOBS)).await.unwrap(), [jobs]);
    assert!(store.record_counts(id("noop/c"), None).await.unwrap().is_empty());
    write(&store, "noop/c", page(&[], Some(json!(1)))).await;
    let marked = store.record_counts(id("noop/c"), None).await.unwrap().remove(0);
    assert_eq!((marked.records, marked.newest, marked.has_bookmark), (0, None, true));
}

/// Purges to the end, and says how many steps that took.
async fn purge(store: &SharedStore, limit: u32) -> u32 {
    let mut steps = 1;
    while store.purge_records(limit).await.unwrap() {
        steps += 1;
    }
    steps
}

pub async fn deleted_records_are_gone_at_once_with_their_bookmarks(site: &impl Site) {
    let store = site.open();
    fill(&store).await;
    let seqs = store.delete_records(id("noop/a"), Some(Resource::JOBS), draft("noop/a"), NOW).await.unwrap();
    assert_eq!(seqs, [1]);
    assert_eq!(keys(&store, query("noop/a")).await, ["contacts/1"]);
    assert_eq!(store.bookmark(id("noop/a"), Resource::JOBS).await.unwrap(), None);
    assert_eq!(store.bookmark(id("noop/a"), Resource::CONTACTS).await.unwrap(), Some(json!(2)));
    assert_eq!(store.record_counts(id("noop/a"), None).await.unwrap().len(), 1);
    assert_eq!(keys(&store, query("noop/b")).await, ["jobs/1"], "another's stay");
    store.delete_records(id("noop/a"), None, draft("noop/a"), NOW).await.unwrap();
    assert!(keys(&store, query("noop/a")).await.is_empty());
    assert!(store.record_counts(id("noop/a"), None).await.unwrap().is_empty());
    // A tap's state speaks of all it brought.
    let state = Page { resource: Resource::SINGER_STATE, records: vec![], bookmark: Some(json!(1)) };
    store.write_pages(id("exec/a"), 0, vec![state.clone()], NOW).await.unwrap();
    store.write_pages(id("exec/b"), 0, vec![state], NOW).await.unwrap();
    store.delete_records(id("exec/a"), Some(Resource::JOBS), draft("exec/a"), NOW).await.unwrap();
    assert_eq!(store.bookmark(id("exec/a"), Resource::SINGER_STATE).await.unwrap(), None);
    assert_eq!(store.bookmark(id("exec/b"), Resource::SINGER_STATE).await.unwrap(), Some(json!(1)));
    purge(&store, 2).await;
    assert_eq!(store.fleet_counts().await.unwrap().records, 1);
    assert_whole(&store, 3).await;
}

pub async fn what_came_again_survives_the_purge(site: &impl Site) {
    let store = site.open();
    fill(&store).await;
    store.delete_records(id("noop/a"), None, draft("noop/a"), NOW).await.unwrap();
    let again = page(&[("2", json!(2)), ("4", json!(4))], Some(json!(9)));
    let written = store.write_pages(id("noop/a"), 0, vec![again.clone()], NOW + 7).await.unwrap();
    assert_eq!(written, counted(2, 0, 0), "what was deleted is new again");
    assert_eq!(write(&store, "noop/a", again).await, counted(0, 0, 2));
    purge(&store, 1).await;
    assert_eq!(keys(&store, query("noop/a")).await, ["jobs/2", "jobs/4"]);
    assert_eq!(store.records(query("noop/a")).await.unwrap().records[0].first_seen, NOW + 7);
    assert_eq!(store.fleet_counts().await.unwrap().records, 3);
    store.delete_records(id("noop/a"), None, draft("noop/a"), NOW).await.unwrap();
    store.close();
    let store = site.open();
    assert!(keys(&store, query("noop/a")).await.is_empty(), "a second deletion, over a restart");
    purge(&store, 1).await;
    assert_eq!(store.fleet_counts().await.unwrap().records, 1);
    assert_eq!(purge(&store, 1).await, 1, "nothing is left to do");
}
