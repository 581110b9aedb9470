//! The history of runs: read by page and filter, and forgotten by count and age.

use super::*;
use crate::adapters::store::{Advance, Asked, Completion, Granted, PastRun, RunQuery, VolumeNote};
use crate::core::model::{Connector, ImportStats};
use crate::core::retention::Keep;
use crate::core::run::{RunState, Trigger};
use crate::core::volume::ShortImport;

const DAY_MS: Millis = 24 * 3600 * 1000;

fn end(run: i64, row: i64, ended: Millis, ok: bool) -> Completion {
    Completion {
        run,
        started: ended - 7,
        row,
        ended,
        state: RunState::Done,
        ok,
        message: "said".into(),
        error_class: (!ok).then_some("unavailable"),
        stats: ImportStats { imported: 3, ..ImportStats::default() },
        attempts: 2,
        log: Some("one\ntwo".into()),
        volume: None,
    }
}

fn query(tenant: Option<&str>) -> RunQuery {
    RunQuery {
        connector: Connector::Noop,
        tenant: tenant.map(|name| name.parse().unwrap()),
        state: None,
        ok: None,
        trigger: None,
        error_class: None,
        since: None,
        until: None,
        before: None,
        limit: 100,
        most_looked_at: u32::MAX,
    }
}

/// Runs `count` slots of a schedule, `step` apart, each ended as soon as it began.
async fn run_slots(store: &SharedStore, name: &str, row: i64, from: Millis, count: i64, step: Millis) {
    for n in 0..count {
        let nominal = from + n * step;
        let run = start(store, name, nominal).await;
        store.complete(end(run, row, nominal + 10, true)).await.unwrap();
    }
}

async fn slots(store: &SharedStore, query: RunQuery) -> Vec<Millis> {
    store.runs(query).await.unwrap().runs.into_iter().map(|run| run.nominal).collect()
}

pub async fn a_run_is_read_back_whole(site: &impl Site) {
    let store = site.open();
    let row = add(&store, "noop/a", None).await;
    let asked = Some(Asked { by: "zoe".into(), action_id: "0190".into() });
    let by_hand = Claim { trigger: Trigger::RunNow, asked, ..claim("noop/a", 5) };
    let run = store.claim(vec![by_hand], NOW).await.unwrap().remove(0).run().unwrap().run;
    let open = store.run(run).await.unwrap().unwrap();
    let expect = PastRun {
        run,
        id: id("noop/a"),
        nominal: 5,
        trigger: Trigger::RunNow,
        state: RunState::Running,
        started: NOW,
        ended: None,
        ok: None,
        message: None,
        error_class: None,
        stats: None,
        short: None,
        attempts: 0,
        retry_at: None,
        asked_by: Some("zoe".into()),
        action_id: Some("0190".into()),
        log: None,
    };
    assert_eq!(open, expect);
    store.complete(end(run, row, NOW + 9, false)).await.unwrap();
    let done = PastRun {
        state: RunState::Done,
        started: NOW + 2,
        ended: Some(NOW + 9),
        ok: Some(false),
        message: Some("said".into()),
        error_class: Some("unavailable".into()),
        stats: Some(ImportStats { imported: 3, ..ImportStats::default() }),
        attempts: 2,
        log: Some("one\ntwo".into()),
        ..expect
    };
    assert_eq!(store.run(run).await.unwrap(), Some(done.clone()));
    let listed = store.runs(query(Some("a"))).await.unwrap().runs;
    assert_eq!(listed, [PastRun { log: None, ..done }], "lists leave logs out");
    assert_eq!(store.run(run + 1).await.unwrap(), None);
}

pub async fn runs_are_filtered_and_paged(site: &impl Site) {
    let store = site.open();
    let (a, b) = (add(&store, "noop/a", None).await, add(&store, "noop/b", None).await);
    run_slots(&store, "noop/a", a, 100, 5, 10).await;
    run_slots(&store, "noop/b", b, 100, 2, 10).await;
    add(&store, "acculynx/a", None).await;
    start(&store, "acculynx/a", 1).await;
    let failed = start(&store, "noop/a", 95).await;
    store.complete(end(failed, a, 99, false)).await.unwrap();
    let open = start(&store, "noop/b", 300).await;
    assert_eq!(slots(&store, query(Some("a"))).await, [140, 130, 120, 110, 100, 95], "by slot");
    assert_eq!(slots(&store, query(None)).await, [300, 95, 110, 100, 140, 130, 120, 110, 100], "as they were claimed");
    let of_a = |change: fn(RunQuery) -> RunQuery| slots(&store, change(query(Some("a"))));
    assert_eq!(of_a(|query| RunQuery { ok: Some(false), ..query }).await, [95]);
    assert_eq!(of_a(|query| RunQuery { error_class: Some("unavailable".into()), ..query }).await, [95]);
    assert_eq!(of_a(|query| RunQuery { since: Some(110), until: Some(130), ..query }).await, [120, 110]);
    assert!(of_a(|query| RunQuery { trigger: Some(Trigger::Backfill), ..query }).await.is_empty());
    let running = store.runs(RunQuery { state: Some(RunState::Running), ..query(None) }).await.unwrap().runs;
    assert_eq!(running.iter().map(|run| run.run).collect::<Vec<_>>(), [open]);
    for tenant in [None, Some("a")] {
        for (limit, most_looked_at) in [(2, u32::MAX), (3, u32::MAX), (100, 2), (100, 1)] {
            let all = slots(&store, query(tenant)).await;
            let (mut found, mut before) = (Vec::new(), None);
            loop {
                let page = store.runs(RunQuery { limit, most_looked_at, before, ..query(tenant) }).await.unwrap();
                found.extend(page.runs.iter().map(|run| run.nominal));
                before = page.next;
                if before.is_none() {
                    break;
                }
            }
            assert_eq!(found, all, "{tenant:?}, {limit}, {most_looked_at}");
        }
    }
}

/// Prunes the whole fleet, and says how many runs went.
async fn prune(store: &SharedStore, keep: Keep, now: Millis) -> u64 {
    let (mut removed, mut next) = (0, None);
    loop {
        let step = store.prune_runs(next, keep, now).await.unwrap();
        removed += step.removed;
        next = step.next;
        if next.is_none() {
            return removed;
        }
    }
}

pub async fn history_is_kept_by_count(site: &impl Site) {
    let store = site.open();
    let (a, b) = (add(&store, "noop/a", None).await, add(&store, "noop/b", None).await);
    run_slots(&store, "noop/a", a, 0, 6, 10).await;
    run_slots(&store, "noop/b", b, 0, 2, 10).await;
    let keep = Keep { runs: 3, days: 0 };
    assert_eq!(prune(&store, Keep { runs: 0, days: 0 }, NOW).await, 0, "no limit");
    assert_eq!(prune(&store, keep, NOW).await, 3);
    assert_eq!(slots(&store, query(Some("a"))).await, [50, 40, 30]);
    assert_eq!(slots(&store, query(Some("b"))).await, [10, 0]);
    assert_eq!(prune(&store, keep, NOW).await, 0);
    let mut own = row(300, None);
    own.spec.rest = r#"{"keep_runs":1}"#.into();
    own.row = Some(a);
    apply(&store, vec![change("noop/a", ChangeKind::Put(Box::new(own)))]).await;
    prune(&store, keep, NOW).await;
    assert_eq!(slots(&store, query(Some("a"))).await, [50], "a schedule may say it itself");
    assert_eq!(slots(&store, query(Some("b"))).await, [10, 0]);
}

pub async fn open_runs_and_the_last_good_one_stay(site: &impl Site) {
    let store = site.open();
    let row = add(&store, "noop/a", None).await;
    start(&store, "noop/a", 1).await;
    run_slots(&store, "noop/a", row, 10, 2, 10).await;
    for nominal in [30, 40, 50] {
        let run = start(&store, "noop/a", nominal).await;
        store.complete(end(run, row, nominal, false)).await.unwrap();
    }
    let past = Claim { trigger: Trigger::Backfill, ..claim("noop/a", 5) };
    let past = store.claim(vec![past], NOW).await.unwrap().remove(0).run().unwrap().run;
    store.complete(end(past, row, NOW, false)).await.unwrap();
    assert_eq!(prune(&store, Keep { runs: 1, days: 0 }, NOW).await, 3);
    assert_eq!(slots(&store, query(Some("a"))).await, [50, 20, 5, 1], "newest, last good, asked for, open");
    assert_eq!(prune(&store, Keep { runs: 1, days: 1 }, NOW + 3 * DAY_MS).await, 0, "the highest key stays too");
    start(&store, "noop/b", 1).await;
    assert_eq!(prune(&store, Keep { runs: 1, days: 1 }, NOW + 3 * DAY_MS).await, 1);
    assert_eq!(slots(&store, query(Some("a"))).await, [50, 20, 1]);
}

pub async fn history_is_kept_by_age(site: &impl Site) {
    let store = site.open();
    let (a, b) = (add(&store, "noop/a", None).await, add(&store, "noop/b", None).await);
    run_slots(&store, "noop/a", a, NOW, 4, DAY_MS).await;
    run_slots(&store, "noop/b", b, NOW, 2, DAY_MS).await;
    apply(&store, vec![change("noop/b", ChangeKind::Delete)]).await;
    run_slots(&store, "noop/a", a, NOW + 4 * DAY_MS, 1, DAY_MS).await;
    let keep = Keep { runs: 0, days: 2 };
    assert_eq!(prune(&store, keep, NOW + 4 * DAY_MS).await, 4, "two of each");
    assert_eq!(slots(&store, query(Some("a"))).await.len(), 3);
    assert!(slots(&store, query(Some("b"))).await.is_empty(), "of a deleted schedule nothing stays for ever");
    assert_eq!(prune(&store, keep, NOW + 100 * DAY_MS).await, 2);
    assert_eq!(slots(&store, query(Some("a"))).await, [NOW + 4 * DAY_MS], "the newest stays");
}

pub async fn a_forgotten_slot_is_not_taken_again(site: &impl Site) {
    let store = site.open();
    let row = add(&store, "noop/a", Some(10)).await;
    run_slots(&store, "noop/a", row, 10, 4, 10).await;
    assert_eq!(prune(&store, Keep { runs: 1, days: 0 }, NOW).await, 3);
    store.close();
    let store = site.open();
    let due = |nominal, trigger| Claim {
        trigger,
        advance: Some(Advance { row, from: nominal, to: Some(nominal + 10), applied: None, missed: Missed::NONE }),
        ..claim("noop/a", nominal)
    };
    for (nominal, trigger) in [(10, Trigger::Schedule), (30, Trigger::CatchUp), (40, Trigger::Schedule)] {
        let granted = store.claim(vec![due(nominal, trigger)], NOW).await.unwrap();
        assert_eq!(granted, [Granted::Taken], "{nominal}");
    }
    let made_up_for = Claim { advance: None, ..due(20, Trigger::CatchUp) };
    assert_eq!(store.claim(vec![made_up_for], NOW).await.unwrap(), [Granted::Taken]);
    let asked = Claim { trigger: Trigger::Backfill, ..claim("noop/a", 20) };
    let run = store.claim(vec![asked], NOW).await.unwrap().remove(0).run().unwrap().run;
    store.complete(end(run, row, NOW, true)).await.unwrap();
    assert!(matches!(store.claim(vec![due(50, Trigger::Schedule)], NOW).await.unwrap()[0], Granted::Run(_)));
}

pub async fn what_a_run_lacks_is_kept_with_it(site: &impl Site) {
    let store = site.open();
    let row = add(&store, "noop/a", None).await;
    let short = ShortImport { resource: Some("jobs".into()), expected: 100, got: 3 };
    let first = start(&store, "noop/a", 1).await;
    let note = VolumeNote { recent: "[1]".into(), short: Some((short.clone(), draft("noop/a"))) };
    let volume = Some(Box::new(note));
    store.complete(Completion { volume, ..end(first, row, NOW, true) }).await.unwrap();
    let run = store.run(first).await.unwrap().unwrap();
    assert_eq!((run.short, run.stats.map(|stats| stats.imported)), (Some(short.clone()), Some(3)));
    let last = store.schedule(id("noop/a")).await.unwrap().unwrap().last;
    assert_eq!((last.short, last.stats.imported), (Some(short), 3));
    assert_eq!(store.volumes(row).await.unwrap(), "[1]");
    assert_whole(&store, 1).await;
    assert_eq!(store.tenant_counts("a".into()).await.unwrap()[0].stats.imported, 3);
    let second = start(&store, "noop/a", 2).await;
    store.complete(end(second, row, NOW, true)).await.unwrap();
    store.close();
    let store = site.open();
    assert_eq!(store.schedule(id("noop/a")).await.unwrap().unwrap().last.short, None, "the next run says nothing");
    assert_eq!(store.volumes(row).await.unwrap(), "[1]", "what it did not read whole is remembered");
    assert_eq!(store.volumes(row + 1).await.unwrap(), "");
}
