//! Claims, timers and completions: one grant a slot, and an edit wins over a timer's move.

use std::collections::BTreeSet;

use super::*;
use crate::adapters::store::{Advance, Granted, Parked};

fn ended(run: i64, row: i64, ok: bool) -> Completion {
    let stats = ImportStats { imported: 2, updated: 1, ..ImportStats::default() };
    let error_class = (!ok).then_some("unavailable");
    Completion { ended: NOW + 50, ok, message: "done".into(), error_class, stats, ..end(run, row) }
}

pub async fn one_slot_is_granted_once(site: &impl Site) {
    let store = site.open();
    let tasks = (0..64).map(|_| {
        let store = store.clone();
        tokio::spawn(async move { store.claim(vec![claim("noop/a", NOW)], NOW).await.unwrap().remove(0) })
    });
    let mut granted = 0;
    for task in tasks.collect::<Vec<_>>() {
        granted += usize::from(task.await.unwrap().run().is_some());
    }
    assert_eq!(granted, 1);
    store.close();
    let store = site.open();
    assert_eq!(
        store.claim(vec![claim("noop/a", NOW)], NOW).await.unwrap(),
        [Granted::Taken],
        "nor again after a restart"
    );
}

pub async fn different_slots_are_all_granted(site: &impl Site) {
    let store = site.open();
    let tasks = (0..64).map(|n| {
        let (store, name) = (store.clone(), ["noop/a", "noop/b", "acculynx/a"][n % 3]);
        let slot = NOW + Millis::try_from(n / 3).unwrap();
        tokio::spawn(async move { store.claim(vec![claim(name, slot)], NOW).await.unwrap().remove(0) })
    });
    let mut runs = BTreeSet::new();
    for task in tasks.collect::<Vec<_>>() {
        assert!(runs.insert(task.await.unwrap().run().unwrap().run), "each run has its own id");
    }
    assert_eq!(store.open_runs().await.unwrap().len(), 64);
}

pub async fn one_batch_grants_a_slot_once(site: &impl Site) {
    let store = site.open();
    let batch = vec![claim("noop/a", NOW), claim("noop/a", NOW), claim("noop/b", NOW)];
    let granted = store.claim(batch, NOW).await.unwrap();
    assert_eq!(granted.into_iter().map(|granted| granted.run().is_some()).collect::<Vec<_>>(), [true, false, true]);
}

pub async fn a_timer_moves_only_from_where_it_stands(site: &impl Site) {
    let store = site.open();
    let row = add(&store, "noop/a", Some(100)).await;
    let advance = |from, to| store.advance(vec![Advance { row, from, to, applied: None, missed: Missed::NONE }]);
    advance(99, Some(1)).await.unwrap();
    assert_eq!(due(&store, "noop/a").await, Some(100));
    advance(100, Some(200)).await.unwrap();
    assert_eq!(due(&store, "noop/a").await, Some(200));
    advance(200, None).await.unwrap();
    assert_eq!(due(&store, "noop/a").await, None);
    advance(200, Some(300)).await.unwrap();
    assert_eq!(due(&store, "noop/a").await, None, "a timer that rests is not moved");
}

pub async fn a_claim_moves_its_timer_unless_an_edit_came_between(site: &impl Site) {
    let store = site.open();
    let row = add(&store, "noop/a", Some(100)).await;
    let moving = |nominal, to| Claim {
        advance: Some(Advance { row, from: nominal, to: Some(to), applied: None, missed: Missed::of(Miss::Folded, 2) }),
        ..claim("noop/a", nominal)
    };
    assert!(store.claim(vec![moving(100, 200)], NOW).await.unwrap().remove(0).run().is_some());
    assert_eq!(due(&store, "noop/a").await, Some(200));
    apply(&store, vec![put("noop/a", 60, Some(250))]).await;
    assert!(store.claim(vec![moving(200, 300)], NOW).await.unwrap().remove(0).run().is_some());
    assert_eq!(due(&store, "noop/a").await, Some(250), "the edit set it anew");
}

pub async fn whoever_knows_a_schedule_otherwise_neither_claims_nor_moves_it(site: &impl Site) {
    let store = site.open();
    let row = add(&store, "noop/a", Some(100)).await;
    let known = gather(store.fleet()).await[0].applied;
    apply(&store, vec![put("noop/a", 60, Some(100))]).await;
    let current = gather(store.fleet()).await[0].applied;
    assert_ne!(known, current);
    let advance = |applied| Advance { row, from: 100, to: Some(400), applied: Some(applied), missed: Missed::NONE };
    let claims = |applied| {
        let late = Claim { trigger: Trigger::CatchUp, overlap: None, ..claim("noop/a", 40) };
        vec![
            Claim { advance: Some(advance(applied)), audit: vec![draft("noop/a")], ..late.clone() },
            Claim { nominal: 100, ..late },
            claim("noop/b", 40),
        ]
    };
    let granted = store.claim(claims(known), NOW).await.unwrap();
    assert_eq!(granted[..2], [Granted::Outrun, Granted::Outrun]);
    assert!(matches!(granted[2], Granted::Run(_)), "another's claim in the same batch stands");
    assert_eq!(store.advance(vec![advance(known)]).await.unwrap(), [false]);
    assert_eq!(store.lift(vec![(advance(known), draft("noop/a"))], NOW).await.unwrap(), [false]);
    assert_eq!(due(&store, "noop/a").await, Some(100));
    assert_whole(&store, 0).await;

    let granted = store.claim(claims(current), NOW).await.unwrap();
    assert!(granted[..2].iter().all(|granted| matches!(granted, Granted::Run(_))), "{granted:?}");
    assert_eq!(due(&store, "noop/a").await, Some(400));
    assert_eq!(store.advance(vec![advance(current)]).await.unwrap(), [true], "as known, though it stands elsewhere");
    assert_eq!(due(&store, "noop/a").await, Some(400));
    assert_whole(&store, 1).await;
}

pub async fn a_claims_entries_come_only_with_its_grant(site: &impl Site) {
    let store = site.open();
    let told = || Claim { audit: vec![draft("noop/a")], trigger: Trigger::RunNow, ..claim("noop/a", NOW) };
    let granted = store.claim(vec![told(), told()], NOW).await.unwrap();
    assert_eq!(granted[0].clone().run().unwrap().seqs, [1]);
    assert_eq!(granted[1], Granted::Taken);
    assert_eq!(store.claim(vec![told()], NOW).await.unwrap(), [Granted::Taken]);
    assert_whole(&store, 1).await;
    assert_eq!(store.open_runs().await.unwrap()[0].trigger, Trigger::RunNow);
}

pub async fn terms_rise_with_each_opening(site: &impl Site) {
    for nominal in 0..3 {
        let store = site.open();
        start(&store, "noop/a", nominal).await;
        start(&store, "noop/b", nominal).await;
        store.close();
    }
    let terms = site.terms();
    assert_eq!(terms.len(), 6);
    assert!(terms.chunks(2).all(|pair| pair[0] == pair[1]), "{terms:?}");
    assert!(terms.chunks(2).is_sorted_by(|a, b| a[0] < b[0]), "{terms:?}");
}

pub async fn a_completion_shows_in_the_status(site: &impl Site) {
    let store = site.open();
    let row = add(&store, "noop/a", Some(NOW)).await;
    let run = start(&store, "noop/a", NOW).await;
    store.complete(ended(run, row, true)).await.unwrap();
    assert!(store.open_runs().await.unwrap().is_empty());
    let last = store.schedule(id("noop/a")).await.unwrap().unwrap().last;
    assert_eq!((last.ended, last.ok, last.message.as_deref()), (Some(NOW + 50), Some(true), Some("done")));
    assert_eq!((last.stats.imported, last.stats.updated, last.failures), (2, 1, 0));
    let counts = &store.tenant_counts("a".into()).await.unwrap()[0];
    assert_eq!((counts.connector.as_str(), counts.runs_total, counts.runs_ok), ("noop", 1, 1));
    assert_eq!((counts.stats.imported, counts.mean_duration_ms), (2, Some(50.0)));
    assert_eq!(due(&store, "noop/a").await, Some(NOW), "a run's end moves no timer");
}

pub async fn missed_slots_and_lateness_are_kept(site: &impl Site) {
    let store = site.open();
    let row = add(&store, "noop/a", Some(100)).await;
    let last = async |store: &SharedStore| store.schedule(id("noop/a")).await.unwrap().unwrap().last;
    assert_eq!((last(&store).await.missed, last(&store).await.late_ms), (Missed::NONE, None));
    let moving = |from, to, missed| Advance { row, from, to: Some(to), applied: None, missed };
    store.advance(vec![moving(100, 200, Missed::of(Miss::Brake, 3).and(Miss::Window, 1))]).await.unwrap();
    store.advance(vec![moving(100, 200, Missed::of(Miss::Brake, 3))]).await.unwrap();
    let claimed = |from, to| Claim {
        advance: Some(moving(from, to, Missed::of(Miss::Folded, 2))),
        overlap: Some(Overlap::Skip),
        ..claim("noop/a", from)
    };
    let run = store.claim(vec![claimed(200, 300)], NOW).await.unwrap().remove(0).run().unwrap().run;
    assert_eq!(store.claim(vec![claimed(300, 400)], NOW).await.unwrap(), [Granted::Overlap]);
    store.complete(Completion { started: 230, ..ended(run, row, true) }).await.unwrap();
    let too_late = store.claim(vec![claimed(400, 500)], NOW).await.unwrap().remove(0).run().unwrap().run;
    let deadline = Completion { started: 9_999, error_class: Some("deadline"), ..ended(too_late, row, false) };
    store.complete(deadline).await.unwrap();
    let asked = Claim { trigger: Trigger::RunNow, ..claim("noop/a", 450) };
    let asked = store.claim(vec![asked], NOW).await.unwrap().remove(0).run().unwrap().run;
    store.complete(Completion { started: 8_888, ..ended(asked, row, true) }).await.unwrap();
    store.close();

    let store = site.open();
    let missed = last(&store).await.missed;
    let counts: Vec<(&str, u32)> = missed.iter().map(|(why, count)| (why.as_str(), count)).collect();
    assert_eq!(counts, [("folded", 6), ("overlap", 1), ("brake", 3), ("window", 1), ("deadline", 1)]);
    assert_eq!(last(&store).await.late_ms, Some(30), "neither what was asked for nor what never started is late");
    assert_eq!(store.fleet_counts().await.unwrap().missed, missed.total());
}

pub async fn failures_add_up_until_a_success(site: &impl Site) {
    let store = site.open();
    let row = add(&store, "noop/a", None).await;
    for (slot, (ok, failures)) in [(false, 1), (false, 2), (true, 0), (false, 1)].into_iter().enumerate() {
        let run = start(&store, "noop/a", Millis::try_from(slot).unwrap()).await;
        store.complete(ended(run, row, ok)).await.unwrap();
        let last = store.schedule(id("noop/a")).await.unwrap().unwrap().last;
        assert_eq!((last.ok, last.failures), (Some(ok), failures));
    }
    let counts = store.fleet_counts().await.unwrap();
    assert_eq!((counts.runs_total, counts.runs_ok, counts.runs_failed, counts.failing), (4, 1, 3, 1));
}

pub async fn a_completion_after_the_delete_touches_no_other_schedule(site: &impl Site) {
    let store = site.open();
    let row = add(&store, "noop/a", None).await;
    let run = start(&store, "noop/a", NOW).await;
    apply(&store, vec![change("noop/a", ChangeKind::Delete)]).await;
    add(&store, "noop/b", None).await;
    add(&store, "noop/a", None).await;
    store.complete(ended(run, row, false)).await.unwrap();
    for name in ["noop/a", "noop/b"] {
        let last = store.schedule(id(name)).await.unwrap().unwrap().last;
        assert_eq!((last.ok, last.failures), (None, 0), "{name}");
    }
    assert!(store.open_runs().await.unwrap().is_empty(), "the run itself has ended");
}

pub async fn open_runs_survive_a_restart(site: &impl Site) {
    let store = site.open();
    let row = add(&store, "noop/a", None).await;
    let (done, cut) = (start(&store, "noop/a", 1).await, start(&store, "noop/a", 2).await);
    store.complete(ended(done, row, true)).await.unwrap();
    store.close();
    let open = site.open().open_runs().await.unwrap();
    assert_eq!(open.len(), 1);
    assert_eq!(
        (open[0].run, &open[0].id, open[0].nominal, open[0].trigger),
        (cut, &id("noop/a"), 2, Trigger::Schedule)
    );
}

pub async fn a_lift_is_told_of_once(site: &impl Site) {
    let store = site.open();
    let row = add(&store, "noop/a", Some(NOW)).await;
    let lift = |from| (Advance { row, from, to: Some(NOW + 60), applied: None, missed: Missed::NONE }, draft("noop/a"));
    store.lift(vec![lift(NOW - 1)], NOW).await.unwrap();
    assert_eq!((store.audit_head().await.unwrap().seq, due(&store, "noop/a").await), (0, Some(NOW)));
    for _ in 0..2 {
        store.lift(vec![lift(NOW)], NOW).await.unwrap();
        assert_eq!((store.audit_head().await.unwrap().seq, due(&store, "noop/a").await), (1, Some(NOW + 60)));
    }
}

/// A claim under this rule, and what came of it in a word.
async fn under(store: &SharedStore, overlap: Option<Overlap>, nominal: Millis) -> (&'static str, i64) {
    let asked = Claim { overlap, ..claim("noop/a", nominal) };
    match store.claim(vec![asked], NOW).await.unwrap().remove(0) {
        Granted::Run(claimed) => (if claimed.is_queued { "queued" } else { "running" }, claimed.run),
        Granted::Overlap => ("overlap", 0),
        Granted::Taken => ("taken", 0),
        Granted::Outrun => ("outrun", 0),
    }
}

pub async fn overlap_is_decided_from_the_runs_that_are_not_done(site: &impl Site) {
    let store = site.open();
    let row = add(&store, "noop/a", Some(NOW)).await;
    let (skip, queue) = (Some(Overlap::Skip), Some(Overlap::QueueOne));
    let (state, first) = under(&store, skip, 1).await;
    assert_eq!(state, "running");
    assert_eq!(under(&store, skip, 2).await.0, "overlap");
    assert_eq!(under(&store, queue, 3).await.0, "queued");
    assert_eq!(under(&store, queue, 4).await.0, "overlap", "one is lined up");
    assert_eq!(under(&store, Some(Overlap::Cancel), 5).await.0, "overlap", "the one lined up comes next");
    assert_eq!(under(&store, Some(Overlap::Allow), 6).await.0, "running");
    assert_eq!(under(&store, None, 7).await.0, "queued", "what was asked for lines up");
    assert_eq!(under(&store, None, 7).await.0, "taken");
    store.complete(ended(first, row, true)).await.unwrap();
    assert_eq!(under(&store, skip, 8).await.0, "overlap", "others are still not done");
    for run in store.open_runs().await.unwrap() {
        store.complete(ended(run.run, row, true)).await.unwrap();
    }
    assert_eq!(under(&store, Some(Overlap::Cancel), 9).await.0, "running");
    for run in store.open_runs().await.unwrap() {
        store.complete(ended(run.run, row, true)).await.unwrap();
    }
    let past = Claim { trigger: Trigger::Backfill, overlap: None, ..claim("noop/a", 10) };
    store.claim(vec![past], NOW).await.unwrap();
    assert_eq!(
        under(&store, skip, 11).await.0,
        "queued",
        "a slot of the past holds none up, but goes first once begun"
    );
}

pub async fn a_run_between_two_attempts_makes_way_and_is_found_again(site: &impl Site) {
    let store = site.open();
    let row = add(&store, "noop/a", Some(NOW)).await;
    let run = start(&store, "noop/a", 1).await;
    let parked = Parked {
        run,
        attempts: 2,
        retry_at: NOW + 5,
        message: "down".into(),
        error_class: "unavailable",
        log: Some("x".into()),
    };
    store.park_run(parked).await.unwrap();
    store.close();
    let store = site.open();
    let open = store.open_runs().await.unwrap().remove(0);
    assert_eq!((open.state, open.attempts, open.retry_at), (RunState::Waiting, 2, Some(NOW + 5)));
    assert_eq!(open.log.as_deref(), Some("x"));
    assert_eq!(under(&store, Some(Overlap::Skip), 2).await.0, "running");
    assert!(store.begin_run(run).await.unwrap());
    assert_eq!(store.open_runs().await.unwrap()[0].state, RunState::Running);
    let failures = store.complete(ended(run, row, false)).await.unwrap();
    assert_eq!(failures, 1);
    assert!(!store.begin_run(run).await.unwrap(), "it has ended");
    let cancelled = start(&store, "noop/a", 3).await;
    let cancelled = Completion { state: RunState::Cancelled, ..ended(cancelled, row, false) };
    assert_eq!(store.complete(cancelled).await.unwrap(), 1, "a wanted end is no failure");
}

pub async fn a_run_for_events_keeps_no_slot_back(site: &impl Site) {
    let store = site.open();
    add(&store, "noop/a", None).await;
    let told = Claim { trigger: Trigger::Webhook, overlap: None, ..claim("noop/a", NOW) };
    let granted = store.claim(vec![told.clone()], NOW).await.unwrap().remove(0).run().unwrap();
    assert!(!granted.is_queued);
    let slot = Claim { overlap: Some(Overlap::Skip), ..claim("noop/a", NOW + 1) };
    let granted = store.claim(vec![slot], NOW).await.unwrap().remove(0).run();
    assert!(granted.is_some_and(|run| run.is_queued), "it waits the moment that takes");
    let later = Claim { nominal: NOW + 2, ..told };
    assert!(store.claim(vec![later], NOW).await.unwrap().remove(0).run().is_some_and(|run| run.is_queued));
    store.close();
}
