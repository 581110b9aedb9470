//! Reading many: statuses page by page, the fleet whole, and readers that leave midway.

use super::*;
use crate::adapters::store::{StatusQuery, StatusRow};
use crate::core::model::Connector;

fn noops() -> StatusQuery {
    StatusQuery { connector: Connector::Noop, tenant: None, after: 0, limit: u32::MAX }
}

/// `count` schedules of two connectors by turns.
async fn fill(store: &SharedStore, count: usize) {
    let name = |n: usize| format!("{}/t{n}", ["noop", "acculynx"][n % 2]);
    apply(store, (0..count).map(|n| put(&name(n), 300, Some(NOW))).collect()).await;
}

async fn statuses(store: &SharedStore, query: StatusQuery) -> Vec<StatusRow> {
    gather(store.statuses(query)).await
}

pub async fn statuses_page_through_everything_once(site: &impl Site) {
    let store = site.open();
    fill(&store, 101).await;
    let whole: Vec<_> = statuses(&store, noops()).await.into_iter().map(|row| row.row).collect();
    assert_eq!(whole.len(), 51);
    assert!(whole.is_sorted_by(|a, b| a < b));
    for limit in [1, 7, 50, 51, 52] {
        let (mut seen, mut after) = (Vec::new(), 0);
        loop {
            let page = statuses(&store, StatusQuery { after, limit, ..noops() }).await;
            assert!(page.len() <= limit as usize);
            let Some(last) = page.last() else { break };
            after = last.row;
            seen.extend(page.iter().map(|row| row.row));
        }
        assert_eq!(seen, whole, "{limit}");
    }
}

pub async fn one_tenants_status(site: &impl Site) {
    let store = site.open();
    fill(&store, 10).await;
    let one = |tenant: &str| StatusQuery { tenant: Some(tenant.to_owned()), ..noops() };
    let found = statuses(&store, one("t4")).await;
    assert_eq!((found.len(), found[0].tenant.as_str(), found[0].interval_sec), (1, "t4", Some(300)));
    assert_eq!((found[0].next_due, found[0].paused, found[0].last.ok), (Some(NOW), false, None));
    assert!(statuses(&store, one("t5")).await.is_empty(), "another connector's");
    let past = StatusQuery { after: found[0].row, ..one("t4") };
    assert!(statuses(&store, past).await.is_empty(), "the cursor counts for one tenant too");
}

/// More than any batch holds.
pub async fn the_fleet_comes_in_order(site: &impl Site) {
    let store = site.open();
    assert!(gather(store.fleet()).await.is_empty());
    fill(&store, 2500).await;
    let fleet = gather(store.fleet()).await;
    assert_eq!(fleet.len(), 2500);
    assert!(fleet.is_sorted_by(|a, b| a.row < b.row));
    let counts = store.fleet_counts().await.unwrap();
    assert_eq!((counts.schedules, counts.paused, counts.failing), (2500, 0, 0));
    assert_eq!(store.facts().await.unwrap().rows["schedules"], 2500);
}

/// A scan that nobody takes on holds up neither writers nor other readers.
pub async fn a_reader_that_leaves_harms_nobody(site: &impl Site) {
    let store = site.open();
    fill(&store, 2500).await;
    let mut slow = Vec::new();
    for _ in 0..12 {
        let mut fleet = store.fleet();
        assert!(!fleet.recv().await.unwrap().unwrap().is_empty());
        slow.push(fleet);
    }
    add(&store, "noop/new", None).await;
    assert_eq!(gather(store.fleet()).await.len(), 2501);
    let late = gather(slow.remove(0)).await;
    assert!(late.iter().all(|row| row.tenant != "new"), "a scan sees the store as it began");
    drop(slow);
    assert_eq!(gather(store.fleet()).await.len(), 2501);
}
