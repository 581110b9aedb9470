//! Holds: what takes too much away waits for a person, whatever time passes and however often the
//! program starts; a person agrees to exactly what was shown, or decides against it.

use super::*;
use crate::app::PlanMoved;

const ONE: &str = "interval_sec: 300\n";

fn zoe() -> Caller {
    Caller { source: Origin::Cli, actor: "zoe".into() }
}

async fn fleet(count: usize) -> World {
    let names: Vec<String> = (0..count).map(|n| format!("noop/t{n:02}")).collect();
    World::new(&names.iter().map(|name| (name.as_str(), ONE)).collect::<Vec<_>>()).await
}

impl World {
    fn remove_range(&self, range: std::ops::Range<usize>) {
        range.for_each(|n| std::fs::remove_file(self.path(&format!("noop/t{n:02}"))).unwrap());
    }

    fn put_back(&self, range: std::ops::Range<usize>) {
        range.for_each(|n| self.write(&format!("noop/t{n:02}"), ONE));
    }

    /// Two passes, far enough apart to believe in an absence.
    async fn passes(&self) -> views::PassReport {
        self.pass().await;
        self.clock.advance(3000);
        self.pass().await
    }

    fn size(&self) -> usize {
        self.app.fleet().len()
    }

    async fn moved(&self, digest: &str) -> PlanMoved {
        match self.app.apply(Some(digest.to_owned()), &zoe()).await {
            Err(AppError::PlanMoved(moved)) => *moved,
            other => panic!("{other:?}"),
        }
    }

    async fn told(&self, operation: &str) -> usize {
        self.audit().await.iter().filter(|line| line.starts_with(operation)).count()
    }
}

#[tokio::test]
async fn a_hold_does_not_pass_with_time_nor_with_a_restart() {
    let world = fleet(10).await;
    // Within the limit, then, in a second slice, beyond it.
    world.remove_range(0..3);
    world.passes().await;
    assert_eq!(world.size(), 7);
    world.remove_range(3..4);
    assert_eq!(world.passes().await.held, 1);
    let since = world.app.holds().holds[0].since_iso.clone();
    let world = world.restart().await;
    assert_eq!(world.passes().await.held, 1, "a restart does not begin to count anew");
    world.clock.advance(3_600_000);
    assert_eq!(world.passes().await.held, 1, "what waits for a person waits for a person");
    let world = world.restart().await;
    let holds = world.app.holds();
    assert_eq!((holds.holds.len(), &holds.holds[0].since_iso), (1, &since));
    assert_eq!(world.status("noop/t03").await.unwrap().sync, "held");
    assert_eq!(world.told("reconcile.prune.held").await, 1);
    let applied = world.app.apply(holds.digest, &zoe()).await.unwrap();
    assert!(applied.ok && world.size() == 6, "{applied:?}");
    assert_eq!(world.app.holds().digest, None);
    let world = world.restart().await;
    assert_eq!((world.pass().await.held, world.size()), (0, 6));
}

#[tokio::test]
async fn pauses_in_slices_are_held_too_and_later_edits_do_not_let_them_pass() {
    let world = fleet(10).await;
    let pause = |n: usize| world.write(&format!("noop/t{n:02}"), "interval_sec: 300\npaused: true\n");
    let hint =
        async |n: usize| world.app.reconcile_hinted(vec![format!("noop/t{n:02}").parse().unwrap()]).await.unwrap();
    for n in 0..3 {
        pause(n);
        assert!(!hint(n).await);
    }
    pause(3);
    assert!(hint(3).await, "a full pass is to judge it");
    assert_eq!(world.pass().await.held, 1);
    world.clock.advance(3_600_000);
    world.write("noop/t03", "interval_sec: 300\npaused: true # still\n");
    hint(3).await;
    assert!(!world.status("noop/t03").await.unwrap().paused);
    world.write("noop/t03", ONE);
    assert_eq!(world.pass().await.held, 0);
    assert_eq!(world.status("noop/t03").await.unwrap().sync, "synced");
}

#[tokio::test]
async fn a_dismissed_hold_stays_unapplied_and_is_no_trouble() {
    let world = fleet(10).await;
    world.remove_range(0..5);
    world.passes().await;
    assert_eq!(world.app.health().await.desired.status, 0);
    let digest = world.app.holds().digest.unwrap();
    let wrong = world.app.dismiss_hold("00", "x".into(), &zoe()).await;
    assert!(
        matches!(&wrong, Err(AppError::PlanMoved(moved)) if moved.held_digest.as_ref() == Some(&digest)),
        "{wrong:?}"
    );

    let answer = world.app.dismiss_hold(&digest, "the mount was lost".into(), &zoe()).await.unwrap();
    let dismissed = answer.dismissed.unwrap();
    assert_eq!((dismissed.actor.as_str(), dismissed.reason.as_str()), ("zoe", "the mount was lost"));
    assert_eq!(answer.digest.as_ref(), Some(&digest), "the digest names the same steps");
    let world = world.restart().await;
    world.clock.advance(3_600_000);
    world.passes().await;
    assert_eq!(world.size(), 10);
    let health = world.app.health().await;
    assert_eq!((health.desired.status, health.desired.held, health.desired.dismissed), (1, 5, 5));
    assert!(health.drift.dismissed.is_none(), "who and why are for operators");
    assert!(world.app.apply(None, &zoe()).await.unwrap().ok);
    let item = &world.app.drift().await.unwrap().items[0];
    assert_eq!(item.action, "delete: dismissed by zoe: the mount was lost");
    assert_eq!(
        (item.sync.as_str(), item.next_try_iso.is_none(), item.fields[0].actual.clone()),
        ("held", true, json!(300))
    );

    // Another deletion is another plan; the decision was not about that one.
    world.remove_range(5..6);
    world.passes().await;
    let health = world.app.health().await;
    assert_eq!((health.desired.status, health.desired.held, health.desired.dismissed), (0, 6, 0));
    world.put_back(0..6);
    assert_eq!(world.pass().await.held, 0);
    let audit = (world.told("reconcile.hold.dismissed").await, world.told("reconcile.hold.lapsed").await);
    assert_eq!(audit, (1, 1));
    assert!(world.restart().await.app.holds().dismissed.is_none());
}

#[tokio::test]
async fn a_dismissed_hold_can_be_confirmed_after_all() {
    let world = fleet(10).await;
    world.remove_range(0..5);
    world.passes().await;
    let digest = world.app.holds().digest.unwrap();
    world.app.dismiss_hold(&digest, "not yet".into(), &zoe()).await.unwrap();
    assert!(world.app.apply(Some(digest), &zoe()).await.unwrap().ok);
    assert_eq!(world.size(), 5);
    let deleted: Vec<String> =
        world.audit().await.into_iter().filter(|line| line.starts_with("scheduler.schedule.deleted")).collect();
    assert_eq!(deleted.len(), 5);
    // What a person agreed to does not count against what files do next.
    let world = world.restart().await;
    world.remove_range(5..6);
    world.passes().await;
    assert_eq!(world.size(), 4);
}

#[tokio::test]
async fn an_emptied_and_an_unmounted_directory_delete_nothing() {
    let world = fleet(4).await;
    world.remove_range(0..4);
    assert_eq!(world.passes().await.held, 4);
    world.clock.advance(3_600_000);
    let world = world.restart().await;
    assert_eq!((world.passes().await.held, world.size()), (4, 4));
    let (root, away) = (world.folder.path().join("desired"), world.folder.path().join("away"));
    std::fs::rename(&root, &away).unwrap();
    let pass = world.passes().await;
    assert!(pass.waiting.is_some() && pass.held == 4, "what is held is neither gone nor judged: {pass:?}");
    let digest = world.app.holds().digest.unwrap();
    let refused = world.app.apply(Some(digest.clone()), &zoe()).await;
    assert!(
        matches!(&refused, Err(AppError::Conflict { detail, .. }) if detail.contains("cannot be read")),
        "{refused:?}"
    );
    // The brake asks no file.
    world.app.pull_brake(None, "fire".into(), &zoe()).await.unwrap();
    assert_eq!(world.status("noop/t00").await.unwrap().sync_reason.as_deref(), Some("brake"));
    std::fs::rename(&away, &root).unwrap();
    assert!(world.app.apply(Some(digest), &zoe()).await.unwrap().ok);
    assert_eq!(world.size(), 0);
}

#[tokio::test]
async fn a_truncated_file_is_broken_and_not_gone() {
    let world = fleet(3).await;
    world.write("noop/t00", "");
    world.write("noop/t01", "interval_s");
    let pass = world.passes().await;
    assert_eq!((pass.invalid, pass.held, world.size()), (2, 0, 3));
}

#[cfg(unix)]
#[tokio::test]
async fn a_folder_that_cannot_be_read_any_more_deletes_nothing() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = fleet(3).await;
    world.write("acculynx/other", ONE);
    world.pass().await;
    let folder = world.folder.path().join("desired/schedules/noop");
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o000)).unwrap();
    let readable = std::fs::read_dir(&folder).is_ok();
    std::fs::remove_file(world.path("acculynx/other")).unwrap();
    let pass = world.passes().await;
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    if readable {
        return; // Permissions do not bind this user.
    }
    assert!(pass.waiting.unwrap().contains("nothing is deleted"));
    assert_eq!(world.size(), 4);
    world.passes().await;
    assert_eq!(world.size(), 3);
}

#[tokio::test]
async fn a_plan_is_applied_as_it_was_shown_or_not_at_all() {
    let world = fleet(10).await;
    world.remove_range(0..5);
    world.write("noop/t09", "interval_sec: 60\n");
    let shown = world.app.diff(None).await.unwrap();
    assert!(shown.text.contains(&format!("Digest: {}", shown.digest)), "{}", shown.text);
    // The directory moves on: one file comes back, another is edited otherwise, one is new.
    world.put_back(0..1);
    world.write("noop/t09", "interval_sec: 61\n");
    world.write("noop/t10", ONE);
    let moved = world.moved(&shown.digest).await;
    let steps = moved.moved.unwrap();
    let mut steps: Vec<String> =
        steps.iter().map(|step| format!("{} {} {}", step.action, step.tenant, step.how)).collect();
    steps.sort();
    assert_eq!(steps, ["create t10 new", "delete t00 gone", "update t09 different"]);
    assert_eq!((moved.total, world.size()), (3, 10), "nothing was applied");
    let applied = world.app.apply(moved.digest, &zoe()).await.unwrap();
    assert!(applied.ok, "{applied:?}");
    assert_eq!(world.size(), 7);
    // The fleet has moved on by that.
    let moved = world.moved(&shown.digest).await;
    assert_eq!((moved.total, moved.digest), (6, None));
    let moved = world.moved(&"0".repeat(64)).await;
    assert!(moved.moved.is_none() && moved.detail.contains("no plan of this digest is known"), "{}", moved.detail);
}
