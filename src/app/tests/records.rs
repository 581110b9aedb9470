//! Records on their way into the store and out of it.

use super::*;
use crate::adapters::connectors::{Page, Record, RecordSink};
use crate::app::sink::StoreSink;
use crate::core::model::{Resource, ScheduleId};

fn id() -> ScheduleId {
    "noop/a".parse().unwrap()
}

fn jobs(keys: std::ops::Range<u32>, bookmark: Option<Value>) -> Page {
    let record = |key: u32| Record { key: format!("{key:05}"), payload: json!({"name": "Roof", "n": key}) };
    Page { resource: Resource::JOBS, records: keys.map(record).collect(), bookmark }
}

impl World {
    /// A run's sink.
    fn sink(&self) -> StoreSink {
        StoreSink::new(self.app.store.clone(), id(), 0, self.clock.clone(), self.app.deletions.clone())
    }

    async fn delete_records(&self, dry_run: bool) -> views::RecordsDeleted {
        let caller = Caller { source: Origin::Cli, actor: "zoe".into() };
        self.app.delete_records(&id(), None, dry_run, &caller).await.unwrap()
    }

    async fn kept(&self) -> u64 {
        self.app.records_summary(&id(), None).await.unwrap().records
    }
}

#[tokio::test]
async fn a_deletion_is_counted_first_and_audited_once() {
    let world = World::new(&[("noop/a", "interval_sec: 300\n")]).await;
    let before = world.audit().await.len();
    assert_eq!(world.delete_records(false).await.audit, [0; 0], "there is nothing to delete");
    world.sink().write_page(jobs(0..3, Some(json!(1)))).await.unwrap();
    let counted = world.delete_records(true).await;
    assert_eq!((counted.records, counted.action_id.as_str(), world.kept().await), (3, "", 3));
    let deleted = world.delete_records(false).await;
    assert_eq!((deleted.records, deleted.audit.len(), world.kept().await), (3, 1, 0));
    assert_eq!(world.audit().await[before..], ["import.records.deleted a [] by cli"]);
    let metadata = world.app.store.audit_page(AuditQuery { limit: 1, ..AuditQuery::default() }).await.unwrap();
    assert_eq!(metadata[0].metadata, r#"{"records":3,"resources":{"jobs":3}}"#);
    while world.app.purge_records().await.unwrap() {}
    assert_eq!(world.app.store.fleet_counts().await.unwrap().records, 0);
}

#[tokio::test]
async fn a_run_that_began_before_a_deletion_leaves_no_bookmark_after_it() {
    let world = World::new(&[("noop/a", "interval_sec: 300\n")]).await;
    let bookmark = || world.app.store.bookmark(id(), Resource::JOBS);
    let running = world.sink();
    running.write_page(jobs(0..2, None)).await.unwrap();
    running.write_page(jobs(2..4, Some(json!("half")))).await.unwrap();
    world.delete_records(false).await;
    running.write_page(jobs(4..6, Some(json!("all")))).await.unwrap();
    assert_eq!(bookmark().await.unwrap(), None, "it would say that 0 to 3 are known");
    assert_eq!(world.kept().await, 2, "what came after the deletion is kept");
    world.sink().write_page(jobs(0..6, Some(json!("again")))).await.unwrap();
    assert_eq!((bookmark().await.unwrap(), world.kept().await), (Some(json!("again")), 6));
}

#[tokio::test]
async fn a_page_of_any_size_is_written_in_pieces() {
    let world = World::new(&[("noop/a", "interval_sec: 300\n")]).await;
    let stats = world.sink().write_page(jobs(0..1_234, Some(json!(1)))).await.unwrap();
    assert_eq!((stats.imported, stats.failed, world.kept().await), (1_234, 0, 1_234));
    let large = |key: &str, bytes: usize| Record { key: key.into(), payload: json!({"text": "x".repeat(bytes)}) };
    let records = vec![large("a", 17 << 20), large("b", 3 << 20), large("c", 3 << 20), large(&"k".repeat(2_000), 1)];
    let page = Page { resource: Resource::CONTACTS, records, bookmark: Some(json!(2)) };
    let stats = world.sink().write_page(page).await.unwrap();
    assert_eq!((stats.imported, stats.failed), (2, 2), "what is too large counts as failed, the others come");
    assert_eq!(world.app.store.bookmark(id(), Resource::CONTACTS).await.unwrap(), Some(json!(2)));
    let wanted = RecordsWanted { resource: Some(Resource::CONTACTS), with_payload: true, ..RecordsWanted::default() };
    let (page, next) = world.app.records(&id(), wanted, None, 10).await.unwrap();
    assert_eq!((page.len(), next), (2, None), "a page ends behind the record that fills it");
}
