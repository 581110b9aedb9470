//! A log whose oldest part is sealed reads as one; what may be forgotten goes, and nothing else.

use super::history::{lines, query, set};
use super::records::{page, write};
use super::*;
use crate::adapters::store::{AuditQuery, RevisionQuery, Seal};
use crate::core::audit::Entry;
use crate::core::retention::KeepRevisions;

const MINUTE: Millis = 60_000;

/// Entries of several tenants, operations and sources over some hours.
async fn varied(store: &SharedStore, count: i64) {
    for n in 0..count {
        let name = ["noop/a", "noop/b", "acculynx/c"][usize::try_from(n).unwrap() % 3];
        let operation = [operation::UPDATED, operation::PAUSED][usize::from(n % 7 == 3)];
        let source = [Source::Api, Source::Ui][usize::from(n > count / 2)];
        let entry = Draft { operation, source, actor: format!("p{}", n % 4), ..draft(name) };
        store.append(vec![entry], NOW + n * 7 * MINUTE).await.unwrap();
    }
}

fn questions() -> Vec<AuditQuery> {
    let all = AuditQuery { limit: 1000, ..AuditQuery::default() };
    let text = |text: &str| Some(text.to_owned());
    vec![
        AuditQuery { tenant: text("b"), ..all.clone() },
        AuditQuery { tenant: text("nobody"), ..all.clone() },
        AuditQuery { operation: text("pause"), ..all.clone() },
        AuditQuery { source: text("ui"), tenant: text("a"), ..all.clone() },
        AuditQuery { connector: Some(crate::core::model::Connector::Noop), limit: 9, ..all.clone() },
        AuditQuery { since: Some(NOW + 30 * MINUTE), until: Some(NOW + 150 * MINUTE), ..all.clone() },
        AuditQuery { before: Some(17), limit: 8, ..all.clone() },
        all,
    ]
}

async fn seal_all(store: &SharedStore, keep: u64, block: u32) -> u64 {
    let mut blocks = 0;
    while let Seal::Done(_) = store.seal_audit(keep, block).await.unwrap() {
        blocks += 1;
    }
    blocks
}

pub async fn a_sealed_log_reads_as_it_did(site: &impl Site) {
    let store = site.open();
    varied(&store, 40).await;
    let ask = async |store: &SharedStore| {
        let mut answers: Vec<Vec<Entry>> = Vec::new();
        for question in questions() {
            answers.push(store.audit_page(question).await.unwrap());
        }
        let ranges =
            [(None, None), (Some(NOW + 40 * MINUTE), Some(NOW + 120 * MINUTE)), (Some(NOW + 200 * MINUTE), None)];
        let mut counts = Vec::new();
        for (since, until) in ranges {
            let mut all = store.audit_counts(since, until).await.unwrap();
            all.by_operation.sort_by(|a, b| a.name.cmp(&b.name));
            all.by_source.sort_by(|a, b| a.name.cmp(&b.name));
            all.by_actor.sort_by(|a, b| a.name.cmp(&b.name));
            counts.push(serde_json::to_value(all).unwrap());
        }
        (gather(store.audit_log()).await, answers, counts, store.fleet_counts().await.unwrap().audit_entries)
    };
    let before = ask(&store).await;
    assert_eq!((before.0.len(), before.3), (40, 40));
    assert_eq!(seal_all(&store, 9, 7).await, 4, "28 of 40: another block would leave 5");
    assert_eq!(ask(&store).await, before);
    let sealed = store.sealed().await.unwrap();
    assert_eq!((sealed.segments, sealed.entries, sealed.last_seq), (4, 28, 28));
    assert!(sealed.raw_bytes > 0 && sealed.packed_bytes > 0);
    for seq in [1, 7, 8, 28, 29, 40] {
        let found = store.audit_at(seq).await.unwrap().unwrap();
        assert_eq!(found.hash, before.0[usize::try_from(seq).unwrap() - 1].hash);
    }
    assert_eq!(store.audit_at(41).await.unwrap(), None);
    store.append(vec![draft("noop/a")], NOW).await.unwrap();
    assert_whole(&store, 41).await;
    store.close();
    assert_whole(&site.open(), 41).await;
}

pub async fn what_was_recent_stays_unsealed(site: &impl Site) {
    let store = site.open();
    assert_eq!(store.seal_audit(0, 5).await.unwrap(), Seal::Nothing);
    varied(&store, 14).await;
    assert_eq!(store.seal_audit(10, 5).await.unwrap(), Seal::Nothing);
    assert!(matches!(store.seal_audit(9, 5).await.unwrap(), Seal::Done(sealed) if sealed.last_seq == 5));
    assert_eq!(store.store_id().await.unwrap(), store.store_id().await.unwrap());
}

pub async fn old_revisions_are_forgotten_and_young_ones_stay(site: &impl Site) {
    let store = site.open();
    let day = 24 * 60 * MINUTE;
    for n in 0..6 {
        set(&store, "noop/a", 60 + u32::try_from(n).unwrap(), &format!("act{n}"), n * day).await;
    }
    set(&store, "noop/b", 60, "other", 0).await;
    let prune = async |keep, now| {
        let (mut after, mut removed) = (None, 0);
        loop {
            let step = store.prune_revisions(after, keep, now).await.unwrap();
            removed += step.removed;
            after = step.next;
            if after.is_none() {
                return removed;
            }
        }
    };
    assert_eq!(prune(KeepRevisions { at_least: 2, days: 30 }, NOW + 6 * day).await, 0, "all are young");
    assert_eq!(prune(KeepRevisions { at_least: 2, days: 3 }, NOW + 6 * day).await, 3);
    let left = lines(&store, query("noop/a")).await;
    assert_eq!(left.iter().map(|line| line.split(' ').next().unwrap()).collect::<Vec<_>>(), ["6", "5", "4"]);
    assert!(left.iter().all(|line| line.contains("interval_sec")), "contents stay: {left:?}");
    assert_eq!(lines(&store, RevisionQuery { limit: 9, ..query("noop/b") }).await.len(), 1, "the newest stays");
    // What was before is not known any more, which is not the same as nothing.
    let fleet = gather(store.fleet_at(NOW + day)).await;
    let past = fleet.iter().find(|past| past.id == id("noop/a")).unwrap();
    assert!(past.is_begun_late && past.number.is_none());
    let deed = store.deeds("act3".into()).await.unwrap().remove(0);
    assert!(deed.before.is_some_and(|before| before.content.is_none()));
    // A content that is forgotten and comes again is kept again.
    set(&store, "noop/a", 60, "again", 7 * day).await;
    set(&store, "noop/a", 90, "last", 8 * day).await;
    assert_eq!(prune(KeepRevisions { at_least: 1, days: 1 }, NOW + 20 * day).await, 4);
    let left = lines(&store, query("noop/a")).await;
    assert!(left.len() == 1 && left[0].starts_with("8 "), "{left:?}");
    assert_eq!(lines(&store, query("noop/b")).await.len(), 1);
}

pub async fn records_unseen_for_long_are_forgotten(site: &impl Site) {
    let store = site.open();
    let json = serde_json::json!({"a": 1});
    write(&store, "noop/a", page(&[("1", json.clone()), ("2", json.clone())], None)).await;
    let later = NOW + 100 * 60 * MINUTE;
    let seen = vec![page(&[("2", json.clone()), ("3", json)], None)];
    store.write_pages(id("noop/a"), 0, seen, later).await.unwrap();
    let (mut after, mut removed) = (None, 0);
    loop {
        let step = store.prune_records(after, later - 60 * MINUTE).await.unwrap();
        removed += step.removed;
        after = step.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(removed, 1);
    assert_eq!(store.fleet_counts().await.unwrap().records, 2);
}
