//! Milestone histories, job by job: only what changed, going on where a run stopped.

use super::*;

const HISTORY: &[Resource] = &[Resource::MILESTONE_HISTORY];

/// Keys and payloads of all histories there are now.
fn histories(bench: &Bench, options: &SandboxOptions) -> BTreeMap<(String, String), Value> {
    let (now, world) = (bench.clock.now(), sandbox::world::World::new(options, "peak", NOON));
    let mut all = BTreeMap::new();
    for job in world.jobs(now) {
        let id = world.job_id(&job);
        for mut entry in world.milestone_history(&job) {
            let key = format!("{id}:{}@{}", entry["name"].as_str().unwrap(), entry["date"].as_str().unwrap());
            entry["jobId"] = json!(id);
            all.insert(("milestone_history".to_owned(), key), entry);
        }
    }
    all
}

#[tokio::test]
async fn histories_are_read_for_the_jobs_that_changed() {
    let options = unlimited(60, 0);
    let (bench, sink) = (Bench::new(options.clone(), quick()).await, Arc::new(Kept::default()));
    succeeded(bench.import(HISTORY, &sink).await);
    assert_eq!(*sink.records.lock().unwrap(), histories(&bench, &options));
    assert!(bench.sent().await >= 60, "one request a job");

    let before = bench.sent().await;
    assert_eq!(succeeded(bench.import(HISTORY, &sink).await), ImportStats::default(), "nothing has changed");
    assert!(bench.sent().await - before <= 4, "only the lists are read");

    bench.clock.advance(30 * MINUTE);
    let before = bench.sent().await;
    assert!(succeeded(bench.import(HISTORY, &sink).await).imported > 5);
    let records = sink.records.lock().unwrap().clone();
    let missing = histories(&bench, &options).into_iter().find(|(key, entry)| records.get(key) != Some(entry));
    assert_eq!(missing, None);
    let sent = bench.sent().await - before;
    assert!(sent < 30, "{sent} requests: more than the changed jobs need");
}

#[tokio::test]
async fn a_backlog_is_worked_off_over_several_runs() {
    let options = unlimited(60, 0);
    let (bench, sink) =
        (Bench::new(options.clone(), Tuning { histories_a_run: 25, ..quick() }).await, Arc::new(Kept::default()));
    for run in 1..=3 {
        let before = bench.sent().await;
        succeeded(bench.import(HISTORY, &sink).await);
        let sent = bench.sent().await - before;
        assert!(sent <= 25 + 8, "run {run}: {sent} requests are more than its share");
    }
    succeeded(bench.import(HISTORY, &sink).await);
    assert_eq!(*sink.records.lock().unwrap(), histories(&bench, &options));
}

#[tokio::test]
async fn a_cut_off_reading_goes_on_where_it_stopped() {
    let options = unlimited(60, 0);
    let (bench, sink) = (Bench::new(options.clone(), quick()).await, Arc::new(Kept::default()));
    bench.fault(json!({"kind": "slow", "times": 40})).await;
    bench.fault(json!({"kind": "status", "status": 400})).await;
    failed(bench.import(HISTORY, &sink).await);
    assert!(sink.count(&Resource::MILESTONE_HISTORY) >= 35, "what came before is kept");
    let before = bench.sent().await;
    succeeded(bench.import(HISTORY, &sink).await);
    assert_eq!(*sink.records.lock().unwrap(), histories(&bench, &options));
    let sent = bench.sent().await - before;
    assert!(sent < 40, "{sent} requests: it began again");
}
