//! The writer thread: who goes first, one commit for many, and failures that stay where they belong.

use std::sync::mpsc as blocking;
use std::time::Duration;

use super::super::writer::Work;
use super::*;

/// Keeps the writer busy, so that what is handed in meanwhile forms one group, until the sender is
/// dropped.
fn hold(store: &SqliteStore) -> blocking::Sender<()> {
    let (release, held) = blocking::channel::<()>();
    let (begun, begins) = blocking::channel();
    drop(store.writer.submit(Lane::Claim, "hold", move |_| {
        begun.send(()).unwrap();
        let _ = held.recv();
        Ok(())
    }));
    begins.recv().unwrap();
    release
}

fn fail<T>(_: &mut Work<'_>) -> rusqlite::Result<T> {
    Err(rusqlite::Error::InvalidQuery)
}

/// Sets something of the writer's own connection.
async fn set(store: &SqliteStore, pragma: &'static str) {
    store.writer.submit(Lane::Claim, "set", move |work| work.value::<i64>(pragma, &[]).map(|_| ())).await.unwrap();
}

/// Commits in the write-ahead log, which begins anew with each opening: the frames that name the
/// database's size.
fn commits(place: &Place) -> usize {
    let log = std::fs::read(with_suffix(&place.path(), "-wal")).unwrap();
    let number = |at: usize| u32::from_be_bytes(log[at..at + 4].try_into().unwrap());
    let frame = 24 + number(8) as usize;
    (32..log.len()).step_by(frame).filter(|at| number(at + 4) != 0).count()
}

#[tokio::test]
async fn claims_go_before_mutations_before_completions() {
    let place = Place::new();
    let store = SqliteStore::open(&place.path()).unwrap();
    let release = hold(&store);
    let (sender, order) = blocking::channel();
    let lanes = [Lane::Completion, Lane::Mutation, Lane::Claim, Lane::Completion, Lane::Mutation, Lane::Claim];
    let jobs = lanes.into_iter().enumerate().map(|(n, lane)| {
        let sender = sender.clone();
        store.writer.submit(lane, "tell", move |_| {
            sender.send(n).unwrap();
            Ok(())
        })
    });
    let jobs: Vec<_> = jobs.collect();
    drop((release, sender));
    for job in jobs {
        job.await.unwrap();
    }
    assert_eq!(order.iter().collect::<Vec<_>>(), [2, 5, 1, 4, 0, 3]);
}

#[tokio::test]
async fn many_share_one_commit() {
    let place = Place::new();
    let store = SqliteStore::open(&place.path()).unwrap();
    let before = commits(&place);
    let release = hold(&store);
    let appends: Vec<_> = (0..300).map(|_| store.append(vec![draft("a")], 1)).collect();
    drop(release);
    for append in appends {
        append.await.unwrap();
    }
    assert_eq!(commits(&place) - before, 1);
    assert_eq!(whole_log(&store).await.len(), 300);
}

#[tokio::test]
async fn a_failing_job_takes_its_entries_back_and_nobody_elses() {
    let place = Place::new();
    let store = SqliteStore::open(&place.path()).unwrap();
    let release = hold(&store);
    let first = store.append(vec![draft("first")], 1);
    let failing = store.writer.submit(Lane::Mutation, "fail late", |work| {
        work.append(vec![draft("never"), draft("never")], 1)?;
        fail::<()>(work)
    });
    let last = store.append(vec![draft("last")], 1);
    drop(release);
    assert_eq!(first.await.unwrap(), [1]);
    let error = failing.await.unwrap_err();
    assert!(matches!(error, StoreError::Failed { operation: "fail late", .. }), "{error}");
    assert_eq!(last.await.unwrap(), [2]);
    assert_eq!(whole_log(&store).await, ["first", "last"]);
}

/// A full disk undoes the whole transaction. Whoever was told `Ok` is in it all the same, whoever
/// was not is out, and the chain goes on.
#[tokio::test]
async fn a_full_disk_is_said_to_be_full_and_costs_nothing_else() {
    let place = Place::new();
    let store = SqliteStore::open(&place.path()).unwrap();
    store.append(vec![draft("before")], 1).await.unwrap();
    // Less than there is already means: not one page more.
    set(&store, "PRAGMA max_page_count = 1").await;
    let release = hold(&store);
    let small = |name: &str| store.append(vec![draft(name)], 1);
    let big = crate::core::audit::Draft { actor: "x".repeat(200_000), ..draft("big") };
    let mut jobs = vec![("early", small("early")), ("big", store.append(vec![big], 1))];
    jobs.extend(["late", "later"].map(|name| (name, small(name))));
    drop(release);
    let mut expect = vec!["before"];
    for (name, job) in jobs {
        match job.await {
            Ok(_) => expect.push(name),
            Err(error) => assert!(matches!(error, StoreError::Full), "{name}: {error}"),
        }
    }
    assert!(!expect.contains(&"big"));
    assert!(expect.contains(&"late"), "what had not begun was tried again");
    assert_eq!(whole_log(&store).await, expect);
    set(&store, "PRAGMA max_page_count = 1000000").await;
    small("after").await.unwrap();
    expect.push("after");
    assert_eq!(whole_log(&store).await, expect);
}

/// What was set aside is given up for claims and ends of runs; whoever can wait is refused until it stands again.
#[tokio::test]
async fn on_a_full_disk_only_what_must_be_written_is() {
    let place = Place::new();
    let store = SqliteStore::open(&place.path()).unwrap();
    let space = store.space().unwrap();
    space.want(1 << 20).unwrap();
    assert_eq!((space.is_short(), space.held()), (false, 1 << 20));
    let problem = || Problem { path: "x".into(), digest: None, since: 1, diagnostics: Vec::new() };
    let page = || Page { resource: "jobs".parse().unwrap(), records: Vec::new(), bookmark: Some("b".into()) };
    let id: ScheduleId = "noop/a".parse().unwrap();
    // A mutation that meets the full disk costs nobody the reserve.
    set(&store, "PRAGMA max_page_count = 1").await;
    let big = Problem { path: "x".repeat(200_000), ..problem() };
    assert!(matches!(store.put_problem(big, Vec::new(), 1).await, Err(StoreError::Full)));
    assert!(!space.is_short());
    let big = crate::core::audit::Draft { actor: "x".repeat(200_000), ..draft("big") };
    assert!(matches!(store.append(vec![big], 1).await, Err(StoreError::Full)));
    assert_eq!((space.is_short(), space.held()), (true, 0));
    set(&store, "PRAGMA max_page_count = 1000000").await;
    store.append(vec![draft("goes on")], 1).await.unwrap();
    assert!(matches!(store.put_problem(problem(), Vec::new(), 1).await, Err(StoreError::Full)));
    assert!(matches!(store.write_pages(id.clone(), 1, vec![page()], 1).await, Err(StoreError::Full)));
    assert_eq!(store.bookmark(id.clone(), "jobs".parse().unwrap()).await.unwrap(), None, "it stays where it was");
    space.tend().unwrap();
    assert_eq!((space.is_short(), space.held()), (false, 1 << 20));
    store.put_problem(problem(), Vec::new(), 1).await.unwrap();
    store.write_pages(id, 1, vec![page()], 1).await.unwrap();
}

#[tokio::test]
async fn a_database_held_by_another_program_is_said_to_be_locked() {
    let place = Place::new();
    let store = SqliteStore::open(&place.path()).unwrap();
    set(&store, "PRAGMA busy_timeout = 1").await;
    let shell = place.shell();
    shell.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = store.append(vec![draft("a")], 1).await.unwrap_err();
    assert!(error.to_string().contains("locked"), "{error}");
    shell.execute_batch("ROLLBACK").unwrap();
    assert_eq!(store.append(vec![draft("a")], 1).await.unwrap(), [1]);
}

#[tokio::test]
async fn after_a_panic_nobody_waits_for_ever() {
    let place = Place::new();
    let store = SqliteStore::open(&place.path()).unwrap();
    store.append(vec![draft("a")], 1).await.unwrap();
    let panicking = store.writer.submit::<()>(Lane::Claim, "panic", |_| panic!("a job that panics, for the test"));
    let waiting = store.append(vec![draft("b")], 1);
    for answer in [panicking.await.err(), waiting.await.err()] {
        assert!(matches!(answer, Some(StoreError::Stopped)), "{answer:?}");
    }
    let later = tokio::time::timeout(Duration::from_secs(10), store.append(vec![draft("c")], 1)).await.unwrap();
    assert!(matches!(later, Err(StoreError::Stopped)));
    drop(store);
    let store = SqliteStore::open(&place.path()).unwrap();
    assert_eq!(whole_log(&store).await, ["a"]);
}
