//! The audit log: in the transaction of its change, a chain however many write, found by its filters.

use super::*;
use crate::adapters::store::AuditQuery;
use crate::core::model::Connector;

pub async fn entries_stand_and_fall_with_their_change(site: &impl Site) {
    let store = site.open();
    let taken = add(&store, "noop/taken", None).await;
    let group = |name| vec![Change { audit: vec![draft(name), draft(name)], ..put(name, 300, None) }];
    assert_eq!(store.apply(group("noop/a"), Vec::new(), NOW).await.unwrap().seqs, [1, 2]);
    let mut bad = group("noop/b");
    bad.push(impossible("noop/c", taken));
    store.apply(bad, Vec::new(), NOW).await.unwrap_err();
    assert_eq!(store.apply(group("noop/d"), Vec::new(), NOW).await.unwrap().seqs, [3, 4], "what failed leaves no gap");
    assert_eq!(store.append(vec![draft("noop/e")], NOW + 1).await.unwrap(), [5]);
    assert_whole(&store, 5).await;
    let log = gather(store.audit_log()).await;
    assert_eq!((log[4].seq, log[4].at, log[4].tenant.as_str()), (5, NOW + 1, "e"));
    assert_eq!(
        (log[4].connector.as_str(), log[4].source.as_str(), log[4].actor.as_str()),
        ("noop", "api", "Zoë \"Z\"")
    );
    assert_eq!((log[4].metadata.as_str(), log[4].action_id.as_str()), ("{\"diff\":[]}", "0190"));
}

pub async fn the_chain_holds_under_concurrency(site: &impl Site) {
    let store = site.open();
    let tasks = (0..40).map(|task| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut seqs = Vec::new();
            for _ in 0..5 {
                seqs.extend(store.append(vec![draft(&format!("noop/t{task}")); 2], NOW).await.unwrap());
            }
            seqs
        })
    });
    let mut seqs = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        let own = task.await.unwrap();
        assert!(own.is_sorted());
        assert!(own.chunks(2).all(|pair| pair[1] == pair[0] + 1), "one call's entries stand together");
        seqs.extend(own);
    }
    seqs.sort_unstable();
    assert!(seqs.iter().copied().eq(1..=400));
    assert_whole(&store, 400).await;
}

pub async fn the_head_outlives_the_store(site: &impl Site) {
    let store = site.open();
    assert_eq!(store.audit_head().await.unwrap().seq, 0);
    store.append(vec![draft("noop/a"); 3], NOW).await.unwrap();
    let head = store.audit_head().await.unwrap();
    assert_eq!(head.seq, 3);
    store.close();
    let store = site.open();
    assert_eq!(store.audit_head().await.unwrap(), head);
    store.append(vec![draft("noop/a")], NOW).await.unwrap();
    assert_whole(&store, 4).await;
}

pub async fn filters_narrow_the_page(site: &impl Site) {
    let store = site.open();
    let none = Draft { connector: None, tenant: String::new(), source: Source::Ops, ..draft("noop/a") };
    let paused = Draft { operation: operation::PAUSED, source: Source::Ui, ..draft("acculynx/b") };
    let forced = Draft { operation: operation::FORCE_RUN, ..draft("noop/b") };
    for (n, draft) in [draft("noop/a"), none, paused, forced, draft("acculynx/a")].into_iter().enumerate() {
        store.append(vec![draft], NOW + Millis::try_from(n).unwrap()).await.unwrap();
    }
    let all = AuditQuery { limit: 100, ..AuditQuery::default() };
    let check = async |query: AuditQuery, expect: &[i64]| {
        let found = store.audit_page(query.clone()).await.unwrap();
        assert_eq!(found.iter().map(|entry| entry.seq).collect::<Vec<_>>(), expect, "{query:?}");
    };
    let text = |text: &str| Some(text.to_owned());
    check(all.clone(), &[5, 4, 3, 2, 1]).await;
    check(AuditQuery { limit: 2, ..all.clone() }, &[5, 4]).await;
    check(AuditQuery { before: Some(3), ..all.clone() }, &[2, 1]).await;
    check(AuditQuery { tenant: text("b"), ..all.clone() }, &[4, 3]).await;
    check(AuditQuery { connector: Some(Connector::Noop), ..all.clone() }, &[4, 2, 1]).await;
    check(AuditQuery { connector: Some(Connector::Acculynx), ..all.clone() }, &[5, 3, 2]).await;
    check(AuditQuery { connector: Some(Connector::Noop), tenant: text("a"), ..all.clone() }, &[1]).await;
    check(AuditQuery { operation: text(operation::PAUSED), ..all.clone() }, &[3]).await;
    check(AuditQuery { operation: text("pause"), ..all.clone() }, &[3]).await;
    check(AuditQuery { operation: text("run-now"), ..all.clone() }, &[4]).await;
    check(AuditQuery { operation: text("scheduler"), ..all.clone() }, &[]).await;
    check(AuditQuery { source: text("ui"), ..all.clone() }, &[3]).await;
    check(AuditQuery { since: Some(NOW + 1), until: Some(NOW + 3), ..all.clone() }, &[3, 2]).await;
    let narrow = AuditQuery { tenant: text("b"), before: Some(4), source: text("ui"), ..all.clone() };
    check(AuditQuery { since: Some(NOW), until: Some(NOW + 9), operation: text("pause"), ..narrow }, &[3]).await;
    check(AuditQuery { tenant: text("' OR 1 --"), ..all }, &[]).await;
}

pub async fn pages_join_without_gap_or_repeat(site: &impl Site) {
    let store = site.open();
    store.append((0..50).map(|n| draft(["noop/a", "noop/b"][n % 2])).collect(), NOW).await.unwrap();
    let (mut seen, mut before) = (Vec::new(), None);
    loop {
        let query = AuditQuery { tenant: Some("a".into()), before, limit: 7, ..AuditQuery::default() };
        let page = store.audit_page(query).await.unwrap();
        let Some(last) = page.last() else { break };
        before = Some(last.seq);
        seen.extend(page.iter().map(|entry| entry.seq));
    }
    assert!(seen.iter().copied().eq((1..=50).rev().filter(|seq| seq % 2 == 1)), "{seen:?}");
}

pub async fn counts_add_up(site: &impl Site) {
    let store = site.open();
    let hour = 3_600_000;
    let paused = Draft { operation: operation::PAUSED, source: Source::Ui, ..draft("noop/a") };
    store.append(vec![draft("noop/a"), paused], NOW).await.unwrap();
    store.append(vec![draft("noop/a")], NOW + hour).await.unwrap();
    let pairs = |counted: &[crate::adapters::store::Counted]| {
        counted.iter().map(|counted| (counted.name.clone(), counted.count)).collect::<Vec<_>>()
    };
    let counts = store.audit_counts(None, None).await.unwrap();
    assert_eq!(counts.total, 3);
    assert_eq!(pairs(&counts.by_operation), [(operation::UPDATED.into(), 2), (operation::PAUSED.into(), 1)]);
    assert_eq!(pairs(&counts.by_source), [("api".into(), 2), ("ui".into(), 1)]);
    assert_eq!(counts.by_bucket.iter().map(|bucket| bucket.count).collect::<Vec<_>>(), [2, 1]);
    assert!(counts.by_bucket.is_sorted_by(|a, b| a.name < b.name));
    let late = store.audit_counts(Some(NOW + 1), Some(NOW + hour + 1)).await.unwrap();
    assert_eq!((late.total, late.by_bucket.len()), (1, 1));
}
