//! Reads over many schedules at once.

use super::*;
use crate::adapters::store::{Deed, SpecQuery};
use crate::core::model::Connector;

pub async fn specifications_come_in_the_order_of_names(site: &impl Site) {
    let store = site.open();
    for name in ["noop/b", "noop/a", "acculynx/z"] {
        add(&store, name, Some(7)).await;
    }
    let names = async |query: SpecQuery| -> Vec<String> {
        gather(store.specs(query)).await.iter().map(|row| row.id.to_string()).collect()
    };
    assert_eq!(names(SpecQuery::default()).await, ["acculynx/z", "noop/a", "noop/b"]);
    assert_eq!(names(SpecQuery { connector: Some(Connector::Noop) }).await, ["noop/a", "noop/b"]);
    let row = gather(store.specs(SpecQuery::default())).await.remove(0);
    assert_eq!((row.spec.spec().unwrap().interval_sec, row.next_due, row.failures), (Some(300), Some(7), 0));
}

pub async fn an_action_is_found_with_what_was_before_it(site: &impl Site) {
    let store = site.open();
    let set = |name: &str, interval_sec: u32, action_id: &str| Change {
        by: author(action_id),
        ..put(name, interval_sec, None)
    };
    let gone = |name: &str| Change { by: author("two"), ..change(name, ChangeKind::Delete) };
    apply(&store, vec![set("noop/a", 1, "one"), set("noop/b", 1, "one"), set("noop/d", 1, "one")]).await;
    apply(&store, vec![set("noop/a", 2, "two"), gone("noop/b"), set("noop/c", 2, "two"), set("noop/d", 2, "two")])
        .await;
    apply(&store, vec![set("noop/d", 3, "three")]).await;
    let told = |deed: &Deed| {
        let text = |digest: Option<Digest>| {
            let known = (1..=3).find(|n| digest == Some(Digest::of(format!("interval_sec: {n}\n").as_bytes())));
            known.map_or("-".to_owned(), |n| n.to_string())
        };
        let before = deed.before.as_ref();
        assert_eq!(before.is_some(), before.is_some_and(|before| before.content.is_some()));
        let before = text(before.map(|before| before.digest));
        format!("{} {before} -> {} now {}", deed.id, text(deed.after), text(deed.now))
    };
    let deeds = async |action: &str| -> Vec<String> {
        store.deeds(action.to_owned()).await.unwrap().iter().map(told).collect()
    };
    let expect = ["noop/a 1 -> 2 now 2", "noop/b 1 -> - now -", "noop/c - -> 2 now 2", "noop/d 1 -> 2 now 3"];
    assert_eq!(deeds("two").await, expect);
    assert_eq!(deeds("three").await, ["noop/d 2 -> 3 now 3"]);
    assert!(deeds("four").await.is_empty());
}
