//! A mutation: an edit of one file, proven, promised and converged, or nothing at all.

use super::*;

#[tokio::test]
async fn a_mutation_edits_the_file_and_keeps_its_comments() {
    let text = "# ours\ninterval_sec: 300 # five minutes\n";
    let world = World::new(&[("noop/a", text)]).await;
    let answer = world.mutate("noop/a", Edit::Pause { reason: Some("roof".into()), until: None }).await.unwrap();
    assert!(answer.schedules["a"].paused);
    assert_eq!(world.text("noop/a"), "# ours\ninterval_sec: 300 # five minutes\npaused: true\npause_reason: roof\n");
    world.mutate("noop/a", Edit::Resume { reason: None }).await.unwrap();
    world.mutate("noop/a", merge(json!({"interval_sec": 60}))).await.unwrap();
    assert_eq!(world.text("noop/a"), "# ours\ninterval_sec: 60 # five minutes\npaused: false\n");
    world.mutate("noop/new", merge(json!({"interval_sec": 120}))).await.unwrap();
    assert!(world.text("noop/new").ends_with("interval_sec: 120\n"));
    assert_eq!(world.pass().await.changes, 0, "own writes cause nothing");
    world.mutate("noop/new", Edit::Delete).await.unwrap();
    assert!(!world.path("noop/new").exists());
    assert_eq!(world.pass().await.held, 0);
    assert!(matches!(world.mutate("noop/new", Edit::Delete).await, Err(AppError::NotFound(_))));
    world.app.sync_files().await;
    assert_eq!(world.app.store.intents().await.unwrap(), vec![]);
    let last = world.audit().await;
    assert_eq!(
        last.last().unwrap(),
        "scheduler.schedule.deleted new [interval_sec 120->null, paused false->null] by ui"
    );
}

#[tokio::test]
async fn a_mutation_that_cannot_be_made_changes_nothing() {
    let text = "interval_sec: 300\n";
    let world = World::new(&[("noop/a", text), ("acculynx/c", text)]).await;
    let before = world.audit().await;
    assert!(matches!(world.mutate("noop/a", merge(json!({"interval_sec": 0}))).await, Err(AppError::Invalid(_))));
    assert!(matches!(world.mutate("noop/a", merge(json!({"nope": 0}))).await, Err(AppError::Invalid(_))));
    let connection = json!({"connection": {"base_url": "http://127.0.0.1:1"}});
    assert!(matches!(world.mutate("acculynx/c", merge(connection)).await, Err(AppError::Forbidden(_))));
    let stale = Mutation { if_match: Some(IfMatch::Etags(vec!["00".into()])), ..mutation("noop/a", Edit::Delete) };
    assert!(matches!(world.app.mutate(stale).await, Err(AppError::PreconditionFailed(_))));
    world.write("noop/a", "interval_sec: [\n");
    let refused = world.mutate("noop/a", Edit::Pause { reason: None, until: None }).await;
    assert!(matches!(refused, Err(AppError::Conflict { .. })), "{refused:?}");
    assert_eq!(world.text("noop/a"), "interval_sec: [\n");
    assert_eq!(world.status("noop/a").await.unwrap().interval_sec, Some(300));
    let new: Vec<_> = world.audit().await.split_off(before.len());
    assert!(new.iter().all(|line| line.starts_with("reconcile.file.invalid")), "{new:#?}");
}

#[tokio::test]
async fn an_edit_before_a_mutation_is_its_editors() {
    let world = World::new(&[("noop/a", "interval_sec: 300\n")]).await;
    world.write("noop/a", "interval_sec: 60\n");
    world.mutate("noop/a", Edit::Pause { reason: None, until: None }).await.unwrap();
    assert_eq!(
        world.audit().await[1..],
        [
            "scheduler.schedule.updated a [interval_sec 300->60] by file",
            "scheduler.schedule.paused a [paused false->true] by ui",
        ]
    );
}

#[tokio::test]
async fn a_promised_edit_reaches_its_file_after_a_crash() {
    let world = World::new(&[("noop/a", "interval_sec: 300\n")]).await;
    world.mutate("noop/a", Edit::Pause { reason: None, until: None }).await.unwrap();
    world.mutate("noop/b", merge(json!({"interval_sec": 5}))).await.unwrap();
    // As after a crash between the commit and the exchange, and after a power cut.
    world.write("noop/a", "interval_sec: 300\n");
    world.write("noop/b", "");
    let world = world.restart().await;
    assert_eq!(world.text("noop/a"), "interval_sec: 300\npaused: true\n");
    assert!(world.text("noop/b").contains("interval_sec: 5"));
    assert!(world.status("noop/a").await.unwrap().paused);
    // Somebody's later edit wins over a promise.
    world.mutate("noop/a", Edit::Resume { reason: None }).await.unwrap();
    world.write("noop/a", "interval_sec: 900\n");
    let world = world.restart().await;
    assert_eq!(world.text("noop/a"), "interval_sec: 900\n");
    assert_eq!(world.status("noop/a").await.unwrap().interval_sec, Some(900));
}
