//! Defaults: a change of theirs moves all they govern, once; a broken one freezes it.

use super::*;
use crate::core::audit::operation;

const FLEET: &str = "defaults.yaml";
const NOOPS: &str = "schedules/noop/_defaults.yaml";

impl World {
    fn desired(&self, path: &str) -> PathBuf {
        self.folder.path().join("desired").join(path)
    }

    /// Of entries with this operation, oldest first: tenant, action and metadata.
    async fn entries(&self, operation: &str) -> Vec<(String, String, Value)> {
        let query = AuditQuery { limit: 1000, operation: Some(operation.to_owned()), ..AuditQuery::default() };
        let mut entries = self.app.store.audit_page(query).await.unwrap();
        entries.reverse();
        entries
            .iter()
            .map(|entry| {
                let view = entry.view();
                (view.tenant, view.action_id, view.metadata)
            })
            .collect()
    }

    async fn interval(&self, name: &str) -> Option<u32> {
        self.status(name).await.unwrap().interval_sec
    }
}

/// Files, each by its path below the desired directory.
async fn world(files: &[(&str, &str)]) -> World {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("desired/schedules")).unwrap();
    for (path, text) in files {
        put(folder.path().join("desired").join(path), text);
    }
    let clock = Clock::manual(START);
    let app = open(&folder, &clock).await;
    World { folder, clock, app }
}

#[tokio::test]
async fn all_that_defaults_govern_follows_in_one_action() {
    let world = world(&[
        (FLEET, "interval_sec: 900\nlabels: { region: west }\n"),
        (NOOPS, "interval_sec: 600\n"),
        ("schedules/noop/a.yaml", "labels: {}\n"),
        ("schedules/noop/b.yaml", "labels: { tier: gold }\n"),
        ("schedules/noop/c.yaml", "interval_sec: 60\n"),
        ("schedules/acculynx/d.yaml", "{}\n"),
    ])
    .await;
    assert_eq!((world.interval("noop/a").await, world.interval("acculynx/d").await), (Some(600), Some(900)));
    let before = world.status("noop/a").await.unwrap();

    put(world.desired(NOOPS), "# slower\ninterval_sec: 1200\n");
    assert_eq!(world.pass().await.changes, 2);
    assert_eq!((world.interval("noop/a").await, world.interval("noop/b").await), (Some(1200), Some(1200)));
    assert_eq!((world.interval("noop/c").await, world.interval("acculynx/d").await), (Some(60), Some(900)));
    assert_eq!(world.status("noop/a").await.unwrap().etag, before.etag, "the tag is that of its own file");
    let updated = world.entries(operation::UPDATED).await;
    let changed = world.entries(operation::DEFAULTS_CHANGED).await;
    assert_eq!(updated.iter().map(|(tenant, ..)| tenant.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    for (_, action, metadata) in &updated {
        assert_eq!(metadata["because"], NOOPS);
        assert_eq!(metadata["diff"], json!([{"field": "interval_sec", "from": 600, "to": 1200}]));
        assert_eq!(*action, changed.last().unwrap().1, "one action for all");
    }
    assert_eq!(changed.last().unwrap().2["file"], NOOPS);

    assert_eq!(world.pass().await.changes, 0, "planning twice is empty");
    put(world.desired(NOOPS), "interval_sec: 1200 # as before\n");
    assert_eq!(world.pass().await.changes, 0);
    assert_eq!(world.entries(operation::DEFAULTS_CHANGED).await.len(), changed.len(), "a comment is no change");

    put(world.desired(FLEET), "interval_sec: 900\nlabels: { region: east }\n");
    assert_eq!(world.pass().await.changes, 4);
    let view = world.app.schedule_view(&"noop/b".parse().unwrap()).await.unwrap();
    let origin: Vec<String> = view
        .origin
        .iter()
        .map(|(field, origin)| format!("{field}={} {}:{}", origin.value, origin.from, origin.line.unwrap_or(0)))
        .collect();
    assert_eq!(
        origin,
        [
            format!("interval_sec=1200 {NOOPS}:1"),
            format!("labels.region=\"east\" {FLEET}:2"),
            "labels.tier=\"gold\" file:1".to_owned(),
            "paused=false built-in:0".to_owned(),
        ]
    );
}

#[tokio::test]
async fn broken_defaults_freeze_what_they_govern() {
    let world = world(&[
        (NOOPS, "interval_sec: 600\n"),
        ("schedules/noop/a.yaml", "{}\n"),
        ("schedules/noop/b.yaml", "interval_sec: 5\n"),
    ])
    .await;
    put(world.desired(NOOPS), "interval_sec: 300\npaused: ja\n");
    for _ in 0..2 {
        assert_eq!(world.pass().await.changes, 0);
    }
    let world = world.restart().await;
    assert_eq!(world.interval("noop/a").await, Some(600));
    assert_eq!(world.status("noop/a").await.unwrap().sync, "synced");
    let health = world.app.health().await;
    let found = &health.drift.invalid_files;
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].file.as_str(), found[0].diagnostics[0].line, found[0].diagnostics[0].column), (NOOPS, 2, 9));
    assert_eq!(world.entries(operation::FILE_INVALID).await.len(), 1, "told once");
    // Its own file still counts, over the last good defaults.
    world.write("noop/a", "paused: true\n");
    world.write("noop/new", "labels: {}\n");
    world.pass().await;
    let a = world.status("noop/a").await.unwrap();
    assert_eq!((a.interval_sec, a.paused, world.interval("noop/new").await), (Some(600), true, Some(600)));
    // A truncated file means nothing either.
    put(world.desired(NOOPS), "");
    world.pass().await;
    assert_eq!(world.interval("noop/a").await, Some(600));
    put(world.desired(NOOPS), "interval_sec: 300\n");
    world.pass().await;
    assert_eq!((world.interval("noop/a").await, world.app.health().await.ok), (Some(300), true));
    assert_eq!(world.entries(operation::FILE_RECOVERED).await.len(), 1);
}

#[tokio::test]
async fn defaults_that_are_gone_are_gone_after_two_scans() {
    let world = world(&[
        (FLEET, "interval_sec: 600\nlabels: { region: west }\n"),
        ("schedules/noop/a.yaml", "interval_sec: 5\n"),
        ("schedules/noop/b.yaml", "{}\n"),
    ])
    .await;
    std::fs::remove_file(world.desired(FLEET)).unwrap();
    assert_eq!(world.pass().await.changes, 0);
    assert!(world.app.awaits_second_scan());
    // A directory that cannot be seen proves nothing.
    let (root, away) = (world.desired(""), world.folder.path().join("away"));
    std::fs::rename(&root, &away).unwrap();
    world.clock.advance(3000);
    world.pass().await;
    std::fs::rename(&away, &root).unwrap();
    put(world.desired(FLEET), "interval_sec: 600\nlabels: { region: west }\n");
    world.pass().await;
    assert!(!world.app.awaits_second_scan(), "it was back in time");

    std::fs::remove_file(world.desired(FLEET)).unwrap();
    world.pass().await;
    world.clock.advance(3000);
    assert_eq!(world.pass().await.changes, 1);
    let removed = world.entries(operation::UPDATED).await.pop().unwrap();
    assert_eq!((removed.0.as_str(), &removed.2["because"]), ("a", &json!(FLEET)));
    assert_eq!(removed.2["diff"], json!([{"field": "labels.region", "from": "west", "to": null}]));
    // What has no cadence any more is broken, and runs on as it was.
    let b = world.status("noop/b").await.unwrap();
    assert_eq!((b.interval_sec, b.sync.as_str()), (Some(600), "invalid"));
    assert!(!world.app.awaits_second_scan());
    let world = world.restart().await;
    assert_eq!(world.interval("noop/b").await, Some(600));
    assert!(world.app.store.defaults().await.unwrap().is_empty());
}

#[tokio::test]
async fn defaults_changed_while_nothing_ran_are_taken_up_at_start() {
    let world = world(&[(NOOPS, "interval_sec: 600\n"), ("schedules/noop/a.yaml", "{}\n")]).await;
    // Settled: from here on a start reads no file that is as it was.
    world.clock.advance(10_000_000_000);
    world.pass().await;
    put(world.desired(NOOPS), "interval_sec: 60\n");
    let world = world.restart().await;
    assert_eq!(world.interval("noop/a").await, Some(60));
    // A stop between the new defaults and their schedules.
    put(world.desired(NOOPS), "interval_sec: 30\n");
    let content = Some(b"interval_sec: 30\n".to_vec());
    world.app.store.put_defaults(NOOPS.to_owned(), content, Vec::new(), START).await.unwrap();
    let world = world.restart().await;
    assert_eq!(world.interval("noop/a").await, Some(30));
    assert_eq!(world.entries(operation::UPDATED).await.pop().unwrap().2["because"], NOOPS);
}

#[tokio::test]
async fn pauses_by_default_are_held_like_any() {
    let mut files = vec![(NOOPS.to_owned(), "interval_sec: 600\n")];
    files.extend((0..10).map(|n| (format!("schedules/noop/t{n}.yaml"), "labels: {}\n")));
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), *text)).collect();
    let world = world(&files).await;
    put(world.desired(NOOPS), "interval_sec: 600\npaused: true\npause_reason: winter\n");
    assert_eq!(world.pass().await.held, 10);
    let t0 = world.status("noop/t0").await.unwrap();
    assert_eq!((t0.paused, t0.sync.as_str()), (false, "held"));
    let world = world.restart().await;
    assert_eq!(world.status("noop/t0").await.unwrap().sync, "held", "held over a restart");
    let caller = Caller { source: Origin::Cli, actor: "zoe".into() };
    let held = world.app.apply(None, &caller).await.unwrap();
    assert!(world.app.apply(held.held_digest, &caller).await.unwrap().ok);
    let t0 = world.status("noop/t0").await.unwrap();
    assert_eq!((t0.paused, t0.pause_reason.as_deref()), (true, Some("winter")));
    assert_eq!(world.entries(operation::PAUSED).await[0].2["because"], NOOPS);

    // Resuming says so in the schedule's own file; nothing else of it moves.
    world.mutate("noop/t0", Edit::Resume { reason: None }).await.unwrap();
    assert_eq!(world.text("noop/t0"), "labels: {}\npaused: false\n");
    assert!(!world.status("noop/t0").await.unwrap().paused);
    assert_eq!(world.pass().await.changes, 0);
}

#[tokio::test]
async fn a_mutation_is_judged_over_the_defaults_and_edits_its_own_file_alone() {
    let world = world(&[
        (FLEET, "interval_sec: 600\nconnection: { base_url: 'http://127.0.0.1:9' }\n"),
        ("schedules/acculynx/a.yaml", "labels: { region: west }\n"),
    ])
    .await;
    let fleet = std::fs::read_to_string(world.desired(FLEET)).unwrap();
    world.mutate("acculynx/a", merge(json!({"labels": {"tier": "gold"}}))).await.unwrap();
    assert_eq!(world.text("acculynx/a"), "labels: { region: west, tier: gold }\n");
    // An operator may make a schedule whose connection the defaults give, and may not bring another.
    world.mutate("acculynx/new", merge(json!({"labels": {"tier": "gold"}}))).await.unwrap();
    assert_eq!(world.interval("acculynx/new").await, Some(600));
    let own = json!({"connection": {"base_url": "http://127.0.0.1:1"}});
    assert!(matches!(world.mutate("acculynx/a", merge(own)).await, Err(AppError::Forbidden(_))));
    world.mutate("acculynx/a", merge(json!({"interval_sec": 5}))).await.unwrap();
    world.mutate("acculynx/a", merge(json!({"interval_sec": null}))).await.unwrap();
    assert_eq!(world.interval("acculynx/a").await, Some(600), "back to the default");
    assert!(matches!(world.mutate("noop/x", merge(json!({"resources": ["jobs"]}))).await, Err(AppError::Invalid(_))));
    assert_eq!(std::fs::read_to_string(world.desired(FLEET)).unwrap(), fleet);
    assert_eq!(world.pass().await.changes, 0);
}

#[tokio::test]
async fn drift_over_defaults_is_drift() {
    let world = world(&[(FLEET, "interval_sec: 600\n"), ("schedules/noop/a.yaml", "{}\n")]).await;
    world.sql("UPDATE schedules SET interval_sec = 7");
    assert_eq!(world.pass().await.repaired, 1);
    assert_eq!(world.interval("noop/a").await, Some(600));
    world.write("noop/a", "interval_sec: no\n");
    world.pass().await;
    world.sql("UPDATE schedules SET interval_sec = 7");
    world.pass().await;
    assert_eq!(world.interval("noop/a").await, Some(600), "the last good version, over its defaults");
}

#[tokio::test]
async fn a_hint_waits_for_defaults_that_came_with_it() {
    let world = world(&[("schedules/noop/a.yaml", "interval_sec: 5\n")]).await;
    world.write("noop/b", "labels: {}\n");
    put(world.desired(FLEET), "interval_sec: 600\n");
    assert!(world.app.reconcile_hinted(vec!["noop/b".parse().unwrap()]).await.unwrap(), "a pass is wanted");
    assert!(world.entries(operation::FILE_INVALID).await.is_empty());
    world.pass().await;
    assert_eq!(world.interval("noop/b").await, Some(600));
    world.write("noop/b", "labels: { a: b }\n");
    assert!(!world.app.reconcile_hinted(vec!["noop/b".parse().unwrap()]).await.unwrap());
}

#[tokio::test]
async fn diff_uses_and_shows_defaults() {
    let world = world(&[(NOOPS, "interval_sec: 600\n"), ("schedules/noop/a.yaml", "{}\n")]).await;
    put(world.desired(NOOPS), "interval_sec: 60\n");
    let answer = world.app.diff(None).await.unwrap();
    let expect = "~ schedules/noop/_defaults.yaml (update defaults)\n    ~ interval_sec = 600 -> 60\n\
                  ~ noop/a (update)\n    ~ interval_sec = 600 -> 60\nPlan: 0 to create, 1 to change, 0 to delete.\n";
    assert_eq!(answer.text, format!("{expect}Digest: {}\n", answer.digest));
    assert_eq!(answer.changes[0].because.as_deref(), Some(NOOPS));
    assert!(answer.markdown.starts_with("- `schedules/noop/_defaults.yaml`: update defaults\n"), "{}", answer.markdown);
    let upload = |files: &[(&str, &str)]| files.iter().map(|(p, t)| ((*p).to_owned(), (*t).to_owned())).collect();
    let files = upload(&[(NOOPS, "interval_sec: 60\n"), ("schedules/noop/a.yaml", "{}\n")]);
    assert_eq!(world.app.diff(Some(files)).await.unwrap().digest, answer.digest);
    let broken = upload(&[(NOOPS, "interval_sec: no\n"), ("schedules/noop/a.yaml", "{}\n")]);
    let broken = world.app.diff(Some(broken)).await.unwrap();
    assert_eq!((broken.ok, broken.invalid[0].file.as_str(), broken.changes.len()), (false, NOOPS, 0));
    world.app.store.close();
    let offline = offline_diff(&world.desired(""), &world.folder.path().join("data/store.db")).await.unwrap();
    assert_eq!((offline.digest, offline.defaults.len()), (answer.digest, 1));
}
