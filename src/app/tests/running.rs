//! Runs and their rules: overlap, attempts, what stops them, what is made up for, a pause by itself.

mod clocks;
mod faults;
mod starting;

use std::collections::VecDeque;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::*;
use crate::adapters::connectors::{Connect, ErrorClass, ImportContext, ImportFailure, ImportOutcome};
use crate::core::model::{Connector, ImportStats};

/// What an import does; when there is nothing left to do, it succeeds.
pub(super) enum Act {
    Fail(ErrorClass, Option<u64>),
    /// Goes on until it is told to stop.
    Hang,
    Panic,
}

/// A connector that does as it is told, and counts.
#[derive(Default)]
pub(super) struct Script {
    acts: Mutex<VecDeque<Act>>,
    begun: AtomicI64,
    at_once: AtomicI64,
    most_at_once: AtomicI64,
}

impl Script {
    pub(super) fn of(acts: impl IntoIterator<Item = Act>) -> Arc<Script> {
        Arc::new(Script { acts: Mutex::new(acts.into_iter().collect()), ..Script::default() })
    }

    pub(super) fn begun(&self) -> i64 {
        self.begun.load(std::sync::atomic::Ordering::SeqCst)
    }
}

impl Connect for Script {
    fn import(&self, context: ImportContext) -> BoxFuture<'_, ImportOutcome> {
        use std::sync::atomic::Ordering::SeqCst;
        async move {
            self.begun.fetch_add(1, SeqCst);
            let now = self.at_once.fetch_add(1, SeqCst) + 1;
            self.most_at_once.fetch_max(now, SeqCst);
            let act = { self.acts.lock().unwrap().pop_front() };
            let error = match act {
                None => None,
                Some(Act::Fail(class, after)) => {
                    let retry_after = after.map(Duration::from_secs);
                    Some(ImportFailure { retry_after, ..ImportFailure::new(class, "no luck") })
                }
                Some(Act::Hang) => {
                    context.cancel.cancelled().await;
                    Some(ImportFailure::new(ErrorClass::Cancelled, "stopped"))
                }
                Some(Act::Panic) => {
                    self.at_once.fetch_sub(1, SeqCst);
                    panic!("a connector's fault")
                }
            };
            self.at_once.fetch_sub(1, SeqCst);
            ImportOutcome { stats: ImportStats { imported: 1, ..ImportStats::default() }, error, log: None }
        }
        .boxed()
    }
}

pub(super) async fn world(file: &str, script: &Arc<Script>) -> World {
    World::with(&[("noop/a", file)], script.clone()).await
}

/// Moves the clock to the schedule's next slot.
pub(super) fn to_next_slot(world: &World) {
    let due = world.app.fleet().get(Connector::Noop, "a").unwrap().next_due.unwrap();
    world.clock.advance(due - world.clock.now());
}

/// Claims and starts what is due, and does not wait for its end.
pub(super) async fn dispatch(world: &World) {
    let app = world.app.clone();
    let batch = tokio::task::spawn_blocking(move || app.wait_for_due()).await.unwrap();
    world.app.dispatch(batch).await;
}

/// Starts what is due without waiting for it, and waits until what it starts has ended.
async fn look(world: &World) {
    let batch = world.app.due_now(world.app.fleet());
    world.app.dispatch(batch).await;
    ended(world).await;
}

pub(super) async fn until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..2_000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("{what}: it never came to that");
}

/// `state ok trigger attempts class` of every run that the store has, by its slot.
pub(super) fn runs(world: &World) -> Vec<String> {
    let database = rusqlite::Connection::open(world.folder.path().join("data/store.db")).unwrap();
    let mut statement =
        database.prepare("SELECT state, ok, trigger, attempts, error_class FROM runs ORDER BY nominal_ms").unwrap();
    let rows = statement.query_map([], |row| {
        let (state, ok): (String, Option<bool>) = (row.get(0)?, row.get(1)?);
        let (trigger, attempts): (String, u32) = (row.get(2)?, row.get(3)?);
        let class: Option<String> = row.get(4)?;
        let ok = ok.map_or("-", |ok| if ok { "ok" } else { "failed" });
        Ok(format!("{state} {ok} {trigger} {attempts} {}", class.unwrap_or_default()).trim_end().to_owned())
    });
    rows.unwrap().map(Result::unwrap).collect()
}

pub(super) async fn ended(world: &World) {
    until("runs end", || world.app.runs.count() == (0, 0)).await;
}

pub(super) fn caller() -> Caller {
    Caller { source: Origin::Cli, actor: "zoe".into() }
}

pub(super) fn id() -> ScheduleId {
    "noop/a".parse().unwrap()
}

#[tokio::test]
async fn a_failed_run_is_tried_again_after_a_growing_wait() {
    let down = || Act::Fail(ErrorClass::Unavailable, None);
    let script = Script::of([down(), down()]);
    let world = world("interval_sec: 3600\nretries: 2\nretry_backoff_sec: 100\n", &script).await;
    to_next_slot(&world);
    dispatch(&world).await;
    until("it waits", || runs(&world) == ["waiting - schedule 1 unavailable"]).await;
    world.clock.advance(79_000);
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert_eq!(script.begun(), 1, "not before its time");
    world.clock.advance(41_000);
    until("the second attempt fails", || runs(&world) == ["waiting - schedule 2 unavailable"]).await;
    world.clock.advance(240_000);
    ended(&world).await;
    assert_eq!(runs(&world), ["done ok schedule 3"]);
    let status = world.status("noop/a").await.unwrap();
    assert_eq!((status.consecutive_failures, status.last_status.unwrap().result.stats.imported), (0, 3));
}

#[tokio::test]
async fn what_would_fail_again_is_not_tried_again_and_a_source_is_not_asked_too_early() {
    let script = Script::of([Act::Fail(ErrorClass::Unauthorized, None), Act::Fail(ErrorClass::RateLimited, Some(600))]);
    let world = world("interval_sec: 3600\nretries: 5\nretry_backoff_sec: 1\n", &script).await;
    to_next_slot(&world);
    fire(&world).await;
    assert_eq!(runs(&world), ["done failed schedule 1 unauthorized"]);
    to_next_slot(&world);
    dispatch(&world).await;
    until("it waits", || world.app.runs.count().0 == 1 && runs(&world)[1].starts_with("waiting")).await;
    world.clock.advance(590_000);
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert_eq!(script.begun(), 2);
    world.clock.advance(11_000);
    ended(&world).await;
    assert_eq!(runs(&world)[1], "done ok schedule 2");
}

#[tokio::test]
async fn a_run_between_two_attempts_goes_on_after_a_restart_and_gives_way_to_the_next_slot() {
    let script = Script::of([Act::Fail(ErrorClass::Unavailable, None), Act::Fail(ErrorClass::Timeout, None)]);
    let file = "interval_sec: 600\nretries: 9\nretry_backoff_sec: 300\n";
    let before = world(file, &script).await;
    to_next_slot(&before);
    dispatch(&before).await;
    until("it waits", || runs(&before) == ["waiting - schedule 1 unavailable"]).await;
    before.app.shutdown.cancel();
    before.app.drain_runs(Duration::from_secs(5)).await;
    let world = before.restart_with(script.clone()).await;
    assert_eq!(world.app.runs.count().0, 1, "it is found again");
    world.clock.advance(365_000);
    until("the second attempt fails", || runs(&world) == ["waiting - schedule 2 timeout"]).await;
    // Its third attempt is due after the next slot.
    to_next_slot(&world);
    dispatch(&world).await;
    ended(&world).await;
    assert_eq!(runs(&world), ["done failed schedule 2 timeout", "done ok schedule 1"]);
}

#[tokio::test]
async fn a_run_that_takes_too_long_is_stopped_and_one_that_panics_is_a_failure() {
    let script = Script::of([Act::Hang, Act::Panic]);
    let world = world("interval_sec: 60\ntimeout_sec: 1\n", &script).await;
    world.clock.advance(60_000);
    fire(&world).await;
    assert_eq!(runs(&world), ["done failed schedule 1 timeout"]);
    let last = world.status("noop/a").await.unwrap().last_status.unwrap();
    assert_eq!(last.message, "stopped: it took longer than 1 s");
    world.clock.advance(60_000);
    fire(&world).await;
    world.clock.advance(60_000);
    fire(&world).await;
    assert_eq!(runs(&world)[1..], ["done failed schedule 1 bad_response", "done ok schedule 1"]);
}

/// Two slots come while the first run hangs; then it is stopped.
async fn overlapping(rule: &str) -> (Vec<String>, i64) {
    let script = Script::of([Act::Hang]);
    let world = world(&format!("interval_sec: 60\noverlap: {rule}\n"), &script).await;
    for _ in 0..3 {
        world.clock.advance(60_000);
        dispatch(&world).await;
        until("it has begun", || script.begun() > 0).await;
    }
    if rule != "cancel" {
        world.app.cancel_runs(&id(), None, Some("enough".into()), &caller()).await.ok();
    }
    ended(&world).await;
    (runs(&world), script.most_at_once.load(std::sync::atomic::Ordering::SeqCst))
}

#[tokio::test]
async fn overlap_follows_its_rule() {
    let cut = "cancelled failed schedule 1 cancelled";
    let good = "done ok schedule 1";
    assert_eq!(overlapping("skip").await, (vec![cut.to_owned()], 1));
    assert_eq!(overlapping("queue_one").await, (vec![cut.to_owned(), good.to_owned()], 1));
    assert_eq!(overlapping("allow").await, (vec![cut.to_owned(), good.to_owned(), good.to_owned()], 2));
    let (runs, at_once) = overlapping("cancel").await;
    assert_eq!((runs[0].as_str(), runs.last().unwrap().as_str(), at_once), (cut, good, 1));
}

#[tokio::test]
async fn a_cancelled_run_says_by_whom_and_is_no_failure() {
    let script = Script::of([Act::Hang]);
    let world = world("interval_sec: 60\n", &script).await;
    assert!(matches!(world.app.cancel_runs(&id(), None, None, &caller()).await, Err(AppError::Conflict { .. })));
    world.clock.advance(60_000);
    dispatch(&world).await;
    until("it has begun", || script.begun() == 1).await;
    let RunNow::Accepted(lined_up) = world.app.run_now(&id(), &caller(), Duration::ZERO).await.unwrap() else {
        panic!("it waits behind the one in flight")
    };
    assert_eq!(lined_up.state, "queued");
    let stopped = world.app.cancel_runs(&id(), Some(lined_up.run_id), None, &caller()).await.unwrap();
    assert_eq!(stopped.cancelled, [lined_up.run_id]);
    world.app.cancel_runs(&id(), None, Some("wrong key".into()), &caller()).await.unwrap();
    ended(&world).await;
    assert_eq!(runs(&world), ["cancelled failed schedule 1 cancelled", "cancelled failed run-now 0 cancelled"]);
    let status = world.status("noop/a").await.unwrap();
    assert_eq!(status.consecutive_failures, 0);
    assert_eq!(status.last_status.unwrap().message, "cancelled by zoe: wrong key");
    let told = world.audit().await;
    assert_eq!(told.iter().filter(|line| line.starts_with("scheduler.import.cancelled a")).count(), 2);
}

/// Down for five slots: what runs when the program is back, and how many are counted as missed.
async fn after_downtime(rules: &str) -> (Vec<String>, u64) {
    let script = Script::of([]);
    let world = world(&format!("cron: '*/10 * * * *'\n{rules}"), &script).await;
    world.clock.advance(50 * 60_000 + 5 * 60_000);
    fire(&world).await;
    ended(&world).await;
    let missed = world.status("noop/a").await.unwrap().missed;
    (runs(&world), missed)
}

#[tokio::test]
async fn catch_up_follows_its_rule() {
    let made_up_for = |count: usize| vec!["done ok catch-up 1".to_owned(); count];
    assert_eq!(after_downtime("").await, (made_up_for(1), 4));
    assert_eq!(after_downtime("catch_up: none\n").await, (vec![], 5));
    assert_eq!(after_downtime("catch_up: all\n").await, (made_up_for(5), 0));
    assert_eq!(after_downtime("catch_up: all\ncatch_up_max: 3\n").await, (made_up_for(3), 2));
    assert_eq!(after_downtime("catch_up: all\ncatch_up_window_sec: 1000\n").await, (made_up_for(2), 3));
    assert_eq!(after_downtime("start_deadline_sec: 60\n").await, (vec![], 5));
}

#[tokio::test]
async fn slots_of_the_past_run_once_in_their_order() {
    let script = Script::of([]);
    let world = world("cron: '*/10 * * * *'\n", &script).await;
    world.clock.advance(15 * 60_000);
    fire(&world).await;
    let asked = |dry_run| Backfill { from: START - 60 * 60_000, to: START + 15 * 60_000, dry_run };
    let dry = world.app.backfill(&id(), asked(true), &caller()).await.unwrap();
    assert_eq!((dry.slots.len(), dry.skipped, dry.action_id), (7, 1, None));
    let begun = world.app.backfill(&id(), asked(false), &caller()).await.unwrap();
    assert_eq!((begun.slots.len(), begun.skipped, begun.audit.len()), (7, 1, 7));
    let told = "command_center_events_total{event_type=\"scheduler.import.backfilled\",severity=\"info\"} 7";
    assert!(world.app.metrics.render().contains(told));
    assert!(begun.slots.is_sorted_by_key(|slot| slot.nominal_iso.clone()));
    ended(&world).await;
    assert_eq!(runs(&world).iter().filter(|run| *run == "done ok backfill 1").count(), 7);
    let again = world.app.backfill(&id(), asked(false), &caller()).await.unwrap();
    assert_eq!((again.slots.len(), again.skipped), (0, 8));
    let ages = Backfill { from: 0, to: START, dry_run: true };
    assert!(matches!(world.app.backfill(&id(), ages, &caller()).await, Err(AppError::Conflict { .. })));
}

#[tokio::test]
async fn a_schedule_that_fails_and_fails_is_paused_in_its_file() {
    let script = Script::of((0..3).map(|_| Act::Fail(ErrorClass::Unauthorized, None)));
    let world = world("interval_sec: 60 # ours\nauto_pause_after: 2\n", &script).await;
    for _ in 0..2 {
        assert!(!world.status("noop/a").await.unwrap().paused);
        world.clock.advance(60_000);
        fire(&world).await;
    }
    let status = world.status("noop/a").await.unwrap();
    let reason = "paused by itself: 2 runs in a row failed, the last with: no luck";
    assert_eq!((status.paused, status.pause_reason.as_deref(), status.consecutive_failures), (true, Some(reason), 2));
    assert!(world.text("noop/a").starts_with("interval_sec: 60 # ours\n"));
    assert!(world.text("noop/a").contains("paused: true"));
    assert_eq!(world.pass().await.changes, 0);
    let told = world.audit().await.pop().unwrap();
    assert!(told.starts_with("scheduler.schedule.paused a [") && told.ends_with("by scheduler"), "{told}");

    world.write("noop/a", "interval_sec: 60 # ours\nauto_pause_after: 2\n");
    world.pass().await;
    world.clock.advance(60_000);
    fire(&world).await;
    let status = world.status("noop/a").await.unwrap();
    assert_eq!((status.paused, status.consecutive_failures), (false, 1), "resumed, it counts anew");
}

#[tokio::test]
async fn where_the_file_cannot_be_paused_the_brake_is_pulled() {
    let script = Script::of([Act::Fail(ErrorClass::Unauthorized, None)]);
    let world = world("interval_sec: 60\nauto_pause_after: 1\n", &script).await;
    world.write("noop/a", "interval_sec: 60\nauto_pause_after: [broken\n");
    world.clock.advance(60_000);
    fire(&world).await;
    assert!(world.app.is_braked(&id()));
    assert!(world.text("noop/a").contains("[broken"), "the person's file stays as it is");
}
