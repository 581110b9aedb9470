//! Events of sources.

use super::{NOW, Site, id};
use crate::adapters::store::{SharedStore, WebhookEvent};
use crate::core::model::Resource;

fn event(name: &str, event_id: &str, key: &str) -> WebhookEvent {
    WebhookEvent {
        id: id(name),
        event_id: event_id.into(),
        topic: "job_updated".into(),
        resource: Resource::JOBS,
        key: key.into(),
        outcome: None,
    }
}

async fn waiting(store: &SharedStore, name: &str) -> Vec<String> {
    store.waiting_events(id(name), 10).await.unwrap().into_iter().map(|event| event.key).collect()
}

pub async fn an_event_is_new_once_for_each_schedule(site: &impl Site) {
    let store = site.open();
    assert!(store.take_event(event("acculynx/a", "1", "x"), NOW).await.unwrap());
    assert!(!store.take_event(event("acculynx/a", "1", "y"), NOW + 1).await.unwrap());
    assert!(store.take_event(event("acculynx/b", "1", "z"), NOW).await.unwrap());
    assert_eq!(
        (waiting(&store, "acculynx/a").await, waiting(&store, "acculynx/b").await),
        (vec!["x".into()], vec!["z".into()])
    );
    store.close();
}

pub async fn events_wait_in_order_until_settled_also_over_a_restart(site: &impl Site) {
    let store = site.open();
    for (event_id, key) in [("1", "x"), ("2", "y"), ("3", "z")] {
        store.take_event(event("acculynx/a", event_id, key), NOW).await.unwrap();
    }
    let dropped = WebhookEvent { outcome: Some("paused"), ..event("acculynx/b", "1", "q") };
    assert!(store.take_event(dropped, NOW).await.unwrap());
    let first = store.waiting_events(id("acculynx/a"), 1).await.unwrap();
    store.settle_events(first.iter().map(|event| event.row).collect(), "imported", NOW).await.unwrap();
    store.close();
    let store = site.open();
    assert_eq!(waiting(&store, "acculynx/a").await, ["y", "z"]);
    assert_eq!(store.schedules_with_events().await.unwrap(), [id("acculynx/a")], "what was dropped waits for nothing");
    assert!(!store.take_event(event("acculynx/a", "1", "x"), NOW).await.unwrap(), "settled is still known");
    store.close();
}

pub async fn old_events_are_forgotten(site: &impl Site) {
    let store = site.open();
    store.take_event(event("acculynx/a", "1", "x"), NOW).await.unwrap();
    store.take_event(event("acculynx/a", "2", "y"), NOW + 10).await.unwrap();
    assert_eq!(store.prune_events(NOW + 10).await.unwrap(), 1);
    assert_eq!(waiting(&store, "acculynx/a").await, ["y"]);
    assert!(store.take_event(event("acculynx/a", "1", "x"), NOW + 20).await.unwrap());
    store.close();
}
