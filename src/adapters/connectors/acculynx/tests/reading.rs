//! Lists read to their end: what is taken, what is asked for again, and when.

use super::*;

#[tokio::test]
async fn the_first_import_gets_everything_and_the_next_only_what_changed() {
    let options = unlimited(130, 110);
    let (bench, sink) = (Bench::new(options.clone(), quick()).await, Arc::new(Kept::default()));
    let stats = succeeded(bench.import(BOTH, &sink).await);
    assert_eq!(stats, ImportStats { imported: 240, ..ImportStats::default() });
    let truth = || [bench.truth(&options, &Resource::JOBS), bench.truth(&options, &Resource::CONTACTS)];
    assert_eq!(*sink.records.lock().unwrap(), truth().into_iter().flatten().collect());

    bench.clock.advance(30 * MINUTE);
    let before = bench.requests().await["companies"]["peak"]["requests"].as_u64().unwrap();
    let stats = succeeded(bench.import(BOTH, &sink).await);
    assert_eq!((stats.imported, stats.failed), (9, 0), "six jobs and three contacts are new");
    assert!(stats.updated > 20, "{stats:?}");
    assert_eq!(*sink.records.lock().unwrap(), truth().into_iter().flatten().collect());
    let requests = bench.requests().await["companies"]["peak"]["requests"].as_u64().unwrap() - before;
    assert!(requests <= 9, "{requests} requests: more than the changed jobs and the contacts need");
}

#[tokio::test]
async fn jobs_are_marked_as_read_only_with_the_last_page_of_their_list() {
    let (bench, sink) = (Bench::new(unlimited(130, 0), quick()).await, Arc::new(Kept::default()));
    succeeded(bench.import(JOBS, &sink).await);
    let pages = sink.writes.lock().unwrap().clone();
    assert!(pages.len() >= 6, "{pages:?}");
    assert!(pages.last().is_some_and(|(records, bookmark)| *records > 0 && *bookmark));
    let bookmark = sink.bookmark_of(Resource::JOBS.as_str()).unwrap();
    assert!(bookmark["modified_date"].as_str().unwrap().starts_with("2026-06-01T"), "{bookmark}");
    assert!(bookmark["unassigned_modified_date"].is_string() && bookmark.get("under_way").is_none(), "{bookmark}");

    let sink = Arc::new(Kept::default());
    bench.fault(json!({"kind": "status", "status": 400, "path": "contacts"})).await;
    let fourth = json!({"kind": "slow"});
    for _ in 0..3 {
        bench.fault(fourth.clone()).await;
    }
    bench.fault(json!({"kind": "status", "status": 400, "path": "jobs"})).await;
    let (class, _) = failed(bench.import(JOBS, &sink).await);
    assert_eq!(class, ErrorClass::Configuration);
    assert_eq!(sink.count(&Resource::JOBS), 73, "three pages overlapping by one are kept");
    assert!(!sink.has_read_jobs(), "but not marked as read");
}

#[tokio::test]
async fn a_reading_of_jobs_that_is_cut_off_goes_on_where_it_stopped() {
    let options = unlimited(1_000, 0);
    let bench = Bench::new(options.clone(), quick()).await;
    let whole = Arc::new(Kept::default());
    succeeded(bench.import(JOBS, &whole).await);
    let all = bench.sent().await;

    // Cut off again and again, as a time limit would: the vendor filters by days, of which a run has to get past one.
    let sink = Arc::new(Kept::default());
    let mut rounds = 0;
    loop {
        let before = bench.sent().await;
        bench.fault(json!({"kind": "slow", "path": "jobs", "times": 14})).await;
        bench.fault(json!({"kind": "status", "status": 400, "path": "jobs"})).await;
        let outcome = bench.import(JOBS, &sink).await;
        http().delete(format!("{}/sandbox/faults", bench.base)).send().await.unwrap();
        if outcome.error.is_none() {
            break;
        }
        rounds += 1;
        assert!(
            rounds < all && bench.sent().await - before == 15,
            "it comes to no end: {:?}",
            sink.bookmark_of(JOBS[0].as_str())
        );
    }
    assert!(rounds > 2, "{rounds}");
    assert_eq!(*sink.records.lock().unwrap(), *whole.records.lock().unwrap(), "nothing is left out");
    assert_eq!(sink.bookmark_of(Resource::JOBS.as_str()), whole.bookmark_of(Resource::JOBS.as_str()));
}

#[tokio::test]
async fn a_list_in_no_order_is_read_from_its_beginning() {
    let bench = Bench::new(unlimited(60, 0), quick()).await;
    let sink = Arc::new(Kept::default());
    bench.fault(json!({"kind": "repeat_page", "times": 1000})).await;
    failed(bench.import(JOBS, &sink).await);
    let bookmark = sink.bookmark_of(Resource::JOBS.as_str()).unwrap_or_default();
    assert!(bookmark.get("under_way").is_none() && !sink.has_read_jobs(), "{bookmark}");
}

#[tokio::test]
async fn contacts_are_read_again_only_after_a_while() {
    let (bench, sink) = (Bench::new(unlimited(0, 60), quick()).await, Arc::new(Kept::default()));
    assert_eq!(succeeded(bench.import(CONTACTS, &sink).await).imported, 60);
    bench.clock.advance(9 * MINUTE);
    assert_eq!(succeeded(bench.import(CONTACTS, &sink).await), ImportStats::default());
    bench.clock.advance(2 * MINUTE);
    assert!(succeeded(bench.import(CONTACTS, &sink).await).skipped > 40);
}

#[tokio::test]
async fn nothing_is_lost_when_the_lists_move_between_pages() {
    let options = SandboxOptions {
        change_every: Duration::from_secs(10),
        job_every: Duration::from_secs(60),
        ..unlimited(200, 120)
    };
    let bench = Bench::new(options.clone(), quick()).await;
    let clock = bench.clock.clone();
    // Six changes and a new job with each of the first pages. For ever, no reading would catch up.
    let left = std::sync::atomic::AtomicU32::new(12);
    let on_write = Box::new(move |_: &[Page]| {
        let some = left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok();
        clock.advance(if some { MINUTE } else { 0 });
    });
    let sink = Arc::new(Kept { on_write: Some(on_write), ..Kept::default() });
    let start = [bench.truth(&options, &Resource::JOBS), bench.truth(&options, &Resource::CONTACTS)];
    succeeded(bench.import(BOTH, &sink).await);
    let records = sink.records.lock().unwrap().clone();
    for key in start.iter().flat_map(BTreeMap::keys) {
        assert!(records.contains_key(key), "{key:?} was there from the start and is missing");
    }
    assert!(bench.clock.now() > NOON + 5 * MINUTE, "the lists have moved");

    bench.clock.advance(20 * MINUTE);
    let quiet = Arc::new(Kept {
        records: Mutex::new(records),
        bookmarks: Mutex::new(sink.bookmarks.lock().unwrap().clone()),
        ..Kept::default()
    });
    succeeded(bench.import(BOTH, &quiet).await);
    let truth = [bench.truth(&options, &Resource::JOBS), bench.truth(&options, &Resource::CONTACTS)];
    assert_eq!(*quiet.records.lock().unwrap(), truth.into_iter().flatten().collect());
}

#[tokio::test]
async fn a_record_without_an_id_counts_as_failed() {
    let bench = Bench::new(unlimited(60, 0), quick()).await;
    bench.fault(json!({"kind": "missing_id"})).await;
    let stats = succeeded(bench.import(JOBS, &Arc::new(Kept::default())).await);
    assert_eq!((stats.imported, stats.failed), (59, 1));
}

#[tokio::test]
async fn another_source_starts_from_the_beginning() {
    let (bench, sink) = (Bench::new(unlimited(60, 30), quick()).await, Arc::new(Kept::default()));
    succeeded(bench.import(BOTH, &sink).await);
    let other = Bench::new(unlimited(60, 30), quick()).await;
    assert_eq!(succeeded(other.import(BOTH, &sink).await).skipped, 90, "all of it, not only the recent changes");
}

#[tokio::test]
async fn lists_without_dates_are_read_whole_each_at_its_own_pace() {
    let options = unlimited(130, 0);
    let (bench, sink) = (Bench::new(options.clone(), quick()).await, Arc::new(Kept::default()));
    let lists = &[Resource::ESTIMATES, Resource::USERS];
    succeeded(bench.import(lists, &sink).await);
    let truth = || lists.iter().flat_map(|list| bench.truth(&options, list)).collect::<BTreeMap<_, _>>();
    assert!(sink.count(&Resource::ESTIMATES) > 100 && sink.count(&Resource::USERS) == 8);
    assert_eq!(*sink.records.lock().unwrap(), truth());
    let steps = [(9, 0, 0), (2, 100, 0), (40, 100, 0), (10, 100, 8)];
    for (minutes, estimates, users) in steps {
        bench.clock.advance(minutes * MINUTE);
        let stats = succeeded(bench.import(&[Resource::ESTIMATES], &sink).await);
        assert!(stats.imported + stats.skipped >= estimates, "{minutes}: {stats:?}");
        assert_eq!(estimates == 0, stats == ImportStats::default(), "{minutes}: {stats:?}");
        let stats = succeeded(bench.import(&[Resource::USERS], &sink).await);
        assert_eq!(stats.skipped, users, "{minutes}: {stats:?}");
    }
}
