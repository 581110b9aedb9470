//! Imports of single records.

use super::*;

async fn import(bench: &Bench, resources: &[Resource], targets: &[(Resource, &str)], sink: &Arc<Kept>) -> ImportStats {
    let mut context = bench.context("peak", "sandbox-peak", resources, sink);
    context.targets = targets.iter().map(|(resource, key)| (resource.clone(), (*key).to_owned())).collect();
    succeeded(bench.connector.import(context).await)
}

#[tokio::test]
async fn only_what_was_told_of_is_read() {
    let options = unlimited(60, 40);
    let (bench, sink) = (Bench::new(options.clone(), quick()).await, Arc::new(Kept::default()));
    let (jobs, contacts) = (bench.truth(&options, &Resource::JOBS), bench.truth(&options, &Resource::CONTACTS));
    let (job, contact) = (jobs.first_key_value().unwrap(), contacts.first_key_value().unwrap());
    let targets = [(Resource::JOBS, job.0.1.as_str()), (Resource::CONTACTS, contact.0.1.as_str())];
    assert_eq!(import(&bench, BOTH, &targets, &sink).await.imported, 2);
    assert_eq!(bench.sent().await, 2);
    let wanted = [job, contact].map(|(key, record)| (key.clone(), record.clone()));
    assert_eq!(*sink.records.lock().unwrap(), BTreeMap::from(wanted));
    assert_eq!(
        (sink.bookmark_of(Resource::JOBS.as_str()), sink.bookmark_of(Resource::CONTACTS.as_str())),
        (None, None)
    );

    let with_history = [Resource::JOBS, Resource::MILESTONE_HISTORY];
    assert!(import(&bench, &with_history, &targets, &sink).await.imported >= 1, "the job's milestones");
    assert_eq!(bench.sent().await, 4, "and not the contact, which this schedule does not import");
}

#[tokio::test]
async fn what_is_gone_or_makes_no_sense_is_passed_over() {
    let (bench, sink) = (Bench::new(unlimited(1, 0), quick()).await, Arc::new(Kept::default()));
    let gone = [(Resource::JOBS, "gone")];
    assert_eq!(
        import(&bench, &[Resource::JOBS, Resource::MILESTONE_HISTORY], &gone, &sink).await,
        ImportStats::default()
    );
    let before = bench.sent().await;
    let odd = [(Resource::JOBS, "../users"), (Resource::CONTACTS, "")];
    assert_eq!(import(&bench, BOTH, &odd, &sink).await.failed, 2);
    assert_eq!(bench.sent().await, before, "nothing was asked");
}
