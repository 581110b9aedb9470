//! Revisions: every content a file had, who brought it, and the fleet as it was at some moment.

use super::*;
use crate::adapters::store::{PastState, Revision, RevisionQuery};

pub(super) fn query(name: &str) -> RevisionQuery {
    RevisionQuery { id: id(name), before: None, until: None, digest_prefix: None, limit: 100, with_content: true }
}

fn text(content: Option<&Vec<u8>>) -> String {
    content.map_or("-".into(), |content| String::from_utf8_lossy(content).trim().to_owned())
}

fn line(revision: &Revision) -> String {
    let at = revision.at - NOW;
    let gone = if revision.digest.is_none() { " gone" } else { "" };
    format!("{} +{at} {} {}{gone}", revision.number, revision.action_id, text(revision.content.as_ref()))
}

pub(super) async fn lines(store: &SharedStore, query: RevisionQuery) -> Vec<String> {
    store.revisions(query).await.unwrap().iter().map(line).collect()
}

pub(super) async fn set(store: &SharedStore, name: &str, interval_sec: u32, action_id: &str, after: Millis) {
    let change = Change { by: author(action_id), ..put(name, interval_sec, None) };
    store.apply(vec![change], Vec::new(), NOW + after).await.unwrap();
}

async fn delete(store: &SharedStore, name: &str, action_id: &str, after: Millis) {
    let change = Change { by: author(action_id), ..change(name, ChangeKind::Delete) };
    store.apply(vec![change], Vec::new(), NOW + after).await.unwrap();
}

pub async fn every_content_is_a_revision_once(site: &impl Site) {
    let store = site.open();
    for (n, interval_sec) in [(0, 300), (1, 60), (2, 60), (3, 300), (4, 60)] {
        set(&store, "noop/a", interval_sec, &format!("act{n}"), n).await;
    }
    set(&store, "acculynx/a", 5, "other", 9).await;
    let expect = [
        "4 +4 act4 interval_sec: 60",
        "3 +3 act3 interval_sec: 300",
        "2 +1 act1 interval_sec: 60",
        "1 +0 act0 interval_sec: 300",
    ];
    assert_eq!(lines(&store, query("noop/a")).await, expect, "a repair of the row is no revision");
    let first = store.revisions(query("acculynx/a")).await.unwrap().remove(0);
    assert_eq!((first.number, first.source.as_str(), first.actor.as_str()), (1, "api", "zoe"));
    assert_eq!(first.digest, Some(Digest::of(b"interval_sec: 5\n")));
    store.close();
    assert_eq!(lines(&site.open(), query("noop/a")).await, expect);
}

pub async fn revisions_are_filtered_and_paged(site: &impl Site) {
    let store = site.open();
    for n in 1..=6 {
        set(&store, "noop/a", u32::try_from(n).unwrap(), "act", n * 10).await;
    }
    let numbers = |query: RevisionQuery| {
        let store = store.clone();
        async move { store.revisions(query).await.unwrap().iter().map(|found| found.number).collect::<Vec<_>>() }
    };
    assert_eq!(numbers(RevisionQuery { limit: 2, ..query("noop/a") }).await, [6, 5]);
    assert_eq!(numbers(RevisionQuery { limit: 2, before: Some(5), ..query("noop/a") }).await, [4, 3]);
    assert_eq!(numbers(RevisionQuery { until: Some(NOW + 39), ..query("noop/a") }).await, [3, 2, 1]);
    assert_eq!(numbers(RevisionQuery { until: Some(NOW), ..query("noop/a") }).await, Vec::<i64>::new());
    let prefix = Digest::of(b"interval_sec: 4\n").to_hex()[..9].to_owned();
    assert_eq!(numbers(RevisionQuery { digest_prefix: Some(prefix), ..query("noop/a") }).await, [4]);
    let bare = store.revisions(RevisionQuery { with_content: false, limit: 1, ..query("noop/a") }).await.unwrap();
    assert_eq!((bare[0].digest.is_some(), &bare[0].content), (true, &None));
    assert_eq!(numbers(query("noop/none")).await, Vec::<i64>::new());
}

pub async fn a_deletion_is_a_revision_and_its_content_stays(site: &impl Site) {
    let store = site.open();
    delete(&store, "noop/a", "never was", 0).await;
    set(&store, "noop/a", 300, "made", 1).await;
    delete(&store, "noop/a", "gone", 2).await;
    delete(&store, "noop/a", "again", 3).await;
    let expect = ["2 +2 gone - gone", "1 +1 made interval_sec: 300"];
    assert_eq!(lines(&store, query("noop/a")).await, expect);
    set(&store, "noop/a", 300, "back", 4).await;
    assert_eq!(lines(&store, query("noop/a")).await[0], "3 +4 back interval_sec: 300");
}

pub async fn a_refused_change_leaves_no_revision(site: &impl Site) {
    let store = site.open();
    let taken = add(&store, "noop/taken", None).await;
    let group = vec![put("noop/a", 5, None), impossible("noop/b", taken)];
    store.apply(group, Vec::new(), NOW).await.unwrap_err();
    assert!(lines(&store, query("noop/a")).await.is_empty());
    assert_eq!(lines(&store, query("noop/taken")).await.len(), 1);
}

pub async fn the_fleet_as_it_was_then(site: &impl Site) {
    let store = site.open();
    set(&store, "noop/stays", 1, "act", 0).await;
    set(&store, "noop/changes", 2, "act", 0).await;
    set(&store, "acculynx/goes", 3, "act", 0).await;
    set(&store, "noop/changes", 20, "act", 10).await;
    delete(&store, "acculynx/goes", "act", 10).await;
    set(&store, "noop/comes", 4, "act", 10).await;
    let shown = |state: &PastState| {
        let side = |version: &Option<crate::adapters::store::Version>| match version {
            Some(version) => text(version.content.as_ref()),
            None => "none".into(),
        };
        assert!(!state.is_begun_late);
        format!("{} {:?}: {} -> {}", state.id, state.number, side(&state.then), side(&state.now))
    };
    let at = |after: Millis| {
        let store = store.clone();
        async move { gather(store.fleet_at(NOW + after)).await.iter().map(shown).collect::<Vec<_>>() }
    };
    assert_eq!(
        at(9).await,
        [
            "acculynx/goes Some(1): interval_sec: 3 -> none",
            "noop/changes Some(1): interval_sec: 2 -> interval_sec: 20",
            "noop/comes None: none -> interval_sec: 4",
            "noop/stays Some(1): interval_sec: 1 -> interval_sec: 1",
        ]
    );
    let now = at(10).await;
    assert_eq!(now[0], "acculynx/goes Some(2): none -> none");
    assert_eq!(now[2], "noop/comes Some(1): interval_sec: 4 -> interval_sec: 4");
    let since: Vec<_> = gather(store.fleet_at(NOW)).await.iter().map(|state| state.known_since - NOW).collect();
    assert_eq!(since, [0, 0, 10, 0]);
}
