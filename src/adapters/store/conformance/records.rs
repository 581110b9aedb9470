//! Imported records: counted by what is new in them, a page and its bookmark as one.

use serde_json::{Value, json};

use super::*;
use crate::adapters::connectors::{Page, Record};
use crate::core::model::{ImportStats, Resource};

fn page(records: &[(&str, Value)], bookmark: Option<Value>) -> Page {
    let records = records.iter().map(|(key, payload)| Record { key: (*key).to_owned(), payload: payload.clone() });
    Page { resource: Resource::JOBS, records: records.collect(), bookmark }
}

fn counted(imported: u64, updated: u64, skipped: u64) -> ImportStats {
    ImportStats { imported, updated, skipped, failed: 0 }
}

async fn write(store: &SharedStore, name: &str, page: Page) -> ImportStats {
    store.write_page(id(name), page, NOW).await.unwrap()
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
    let later = store.write_page(id("noop/a"), page(&[("3", json!({}))], None), NOW + 7_200_000).await.unwrap();
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
    store.write_page(id("noop/a"), spoiled, NOW).await.unwrap_err();
    assert_eq!(store.bookmark(id("noop/a"), Resource::JOBS).await.unwrap(), Some(json!({"page": 1})));
    let again = page(&[("1", json!(1)), ("2", json!(2))], Some(json!({"page": 2})));
    assert_eq!(write(&store, "noop/a", again).await, counted(1, 0, 1), "nothing of the refused page stayed");
    assert_eq!(store.bookmark(id("noop/a"), Resource::JOBS).await.unwrap(), Some(json!({"page": 2})));
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
