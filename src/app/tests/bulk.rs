//! Many schedules at once: all or nothing, over crashes and editors; too much waits for a person; undone again.

use super::*;
use crate::app::views::BulkAnswer;
use crate::app::{Bulk, Consent, Deed, Terms, Undo};
use crate::core::selection::Selection;

const WEST: &str = "interval_sec: 300 # ours\nlabels: { region: west }\n";
const EAST: &str = "interval_sec: 60\nlabels: { region: east }\n";

fn terms(consent: Consent) -> Terms {
    let caller = Caller { source: Origin::Ui, actor: "zoe".into() };
    Terms { reason: Some("storm".into()), caller, may_change_connection: false, consent }
}

fn west() -> Selection {
    Selection { labels: [("region".to_owned(), "west".to_owned())].into(), ..Selection::default() }
}

fn named(names: &[&str]) -> Selection {
    Selection { named: names.iter().map(|name| name.parse().unwrap()).collect(), ..Selection::default() }
}

fn pause() -> Deed {
    Deed::Pause { until: None }
}

fn set(patch: Value) -> Deed {
    Deed::Set(patch.as_object().unwrap().clone())
}

impl World {
    async fn bulk(&self, deed: Deed, select: Selection, consent: Consent) -> Result<BulkAnswer, AppError> {
        self.app.bulk(Bulk { deed, select, terms: terms(consent) }).await
    }

    async fn undo(&self, action_id: &str, partial: bool, consent: Consent) -> Result<BulkAnswer, AppError> {
        let undo = Undo { action_id: action_id.to_owned(), partial, only: None, terms: terms(consent) };
        self.app.undo(undo).await
    }

    fn texts(&self, names: &[&str]) -> Vec<String> {
        names.iter().map(|name| self.text(name)).collect()
    }

    async fn nothing_is_promised(&self) {
        self.app.sync_files().await;
        assert_eq!(self.app.store.intents().await.unwrap(), vec![]);
        let pass = self.pass().await;
        assert_eq!((pass.changes, pass.repaired), (0, 0));
    }
}

async fn world() -> World {
    World::new(&[("noop/a", WEST), ("noop/b", WEST), ("acculynx/c", WEST), ("noop/d", EAST)]).await
}

const PAUSED: &str = "interval_sec: 300 # ours\nlabels: { region: west }\npaused: true\npause_reason: storm\n";

#[tokio::test]
async fn a_plan_is_shown_and_then_carried_out_under_one_action() {
    let world = world().await;
    let plan = world.bulk(pause(), west(), Consent::DryRun).await.unwrap();
    assert_eq!((plan.ok, plan.dry_run, plan.selected, plan.changing, plan.held), (true, true, 3, 3, 0));
    let shown: Vec<String> =
        plan.changes.iter().map(|change| format!("{} {}/{}", change.action, change.connector, change.tenant)).collect();
    assert_eq!(shown, ["pause acculynx/c", "pause noop/a", "pause noop/b"]);
    assert_eq!(world.text("noop/a"), WEST);

    let done = world.bulk(pause(), west(), Consent::Digest(plan.digest.clone())).await.unwrap();
    assert!(done.ok && !done.dry_run && done.failed.is_empty(), "{done:?}");
    assert_eq!(world.texts(&["noop/a", "noop/b", "acculynx/c", "noop/d"]), [PAUSED, PAUSED, PAUSED, EAST]);
    assert_eq!(done.audit.len(), 3);
    let entries = world.app.store.audit_page(AuditQuery { limit: 9, ..AuditQuery::default() }).await.unwrap();
    let ours: Vec<_> = entries.iter().filter(|entry| Some(&entry.action_id) == done.action_id.as_ref()).collect();
    assert_eq!(ours.len(), 3);
    for entry in ours {
        let view = entry.view();
        assert_eq!((view.operation.as_str(), view.actor.as_str()), ("scheduler.schedule.paused", "zoe"));
        assert_eq!((&view.metadata["bulk"], &view.metadata["reason"]), (&json!(3), &json!("storm")));
    }
    assert!(world.status("noop/b").await.unwrap().paused);
    world.nothing_is_promised().await;

    let again = world.bulk(pause(), west(), Consent::Any).await.unwrap();
    assert_eq!((again.ok, again.selected, again.changing, again.audit.len()), (true, 3, 0, 0));
}

#[tokio::test]
async fn a_choice_says_what_it_means() {
    let world = world().await;
    let plan = async |select: Selection| world.bulk(pause(), select, Consent::DryRun).await.map(|plan| plan.changing);
    assert!(matches!(plan(Selection::default()).await, Err(AppError::Invalid(_))));
    assert_eq!(plan(Selection { all: true, ..Selection::default() }).await.unwrap(), 4);
    assert_eq!(plan(named(&["a", "acculynx/c"])).await.unwrap(), 2);
    let shown = world.bulk(pause(), named(&["a", "nobody"]), Consent::DryRun).await.unwrap();
    assert_eq!((shown.ok, shown.refused[0].tenant.as_str()), (false, "nobody"));
    let refused = world.bulk(pause(), named(&["a", "nobody"]), Consent::Any).await;
    assert!(matches!(refused, Err(AppError::Refused(_))), "{refused:?}");
    assert_eq!(world.text("noop/a"), WEST);
}

#[tokio::test]
async fn one_file_that_cannot_be_edited_keeps_all_as_they_are() {
    let world = world().await;
    let alias = "labels: &l { region: west }\ninterval_sec: 300\n";
    world.write("noop/b", alias);
    world.pass().await;
    world.write("acculynx/c", "interval_sec: [\n");
    let refused = world.bulk(set(json!({"labels": {"tier": "gold"}})), west(), Consent::Any).await;
    let Err(AppError::Refused(found)) = refused else { panic!("{refused:?}") };
    let names: Vec<&str> = found.refused.iter().map(|one| one.tenant.as_str()).collect();
    assert!(names.contains(&"c"), "{found:?}");
    assert_eq!(world.texts(&["noop/a", "noop/b", "noop/d"]), [WEST, alias, EAST]);
    let audit = world.audit().await;
    assert!(!audit.iter().any(|line| line.contains("gold")), "{audit:?}");
    assert_eq!(world.app.store.intents().await.unwrap(), vec![]);

    let wrong = world.bulk(set(json!({"interval_sec": 0})), named(&["a", "d"]), Consent::Any).await;
    let Err(AppError::Refused(found)) = wrong else { panic!("{wrong:?}") };
    assert!(found.refused.len() == 2 && found.refused[0].detail.contains("/interval_sec"), "{found:?}");
    let wrong = world.bulk(set(json!({"connection": {"api_key": {"env": "X"}}})), named(&["c"]), Consent::Any).await;
    assert!(wrong.is_err());
}

#[tokio::test]
async fn what_was_committed_before_a_crash_reaches_every_file() {
    let world = world().await;
    world.app.before_exchange.set(vec![Box::new(|| panic!("killed"))]);
    let app = world.app.clone();
    let bulk = Bulk { deed: set(json!({"interval_sec": 900})), select: west(), terms: terms(Consent::Any) };
    tokio::spawn(async move { app.bulk(bulk).await }).await.unwrap_err();
    assert_eq!(world.texts(&["noop/a", "acculynx/c"]), [WEST, WEST], "not one file was written yet");
    let world = world.restart().await;
    let expect = WEST.replace("300", "900");
    assert_eq!(world.texts(&["noop/a", "noop/b", "acculynx/c", "noop/d"]), [&*expect, &*expect, &*expect, EAST]);
    let by_zoe = world.audit().await.iter().filter(|line| line.contains("interval_sec 300->900")).count();
    assert_eq!(by_zoe, 3);
    world.nothing_is_promised().await;
}

#[tokio::test]
async fn an_editor_who_is_quicker_on_one_file_changes_nothing_for_the_others() {
    let world = world().await;
    let theirs = "interval_sec: 42\nlabels: { region: west }\n";
    let other = "interval_sec: 300 # ours\nlabels: { region: west, tier: gold }\n";
    let (a, b) = (world.path("noop/a"), world.path("noop/b"));
    world.app.before_exchange.set(vec![Box::new(move || {
        std::fs::write(a, theirs).unwrap();
        std::fs::write(b, other).unwrap();
    })]);
    let done = world.bulk(set(json!({"interval_sec": 900})), west(), Consent::Any).await.unwrap();
    assert!(!done.ok && done.failed.len() == 1, "{done:?}");
    assert_eq!((done.failed[0].connector.as_str(), done.failed[0].tenant.as_str()), ("noop", "a"));
    assert!(done.failed[0].detail.contains("yours 900, theirs 42"), "{done:?}");
    let merged = other.replace("300", "900");
    let expect = [theirs, &*merged, &*WEST.replace("300", "900")];
    assert_eq!(world.texts(&["noop/a", "noop/b", "acculynx/c"]), expect, "what goes together is merged");
    let displaced = world.audit().await.iter().filter(|line| line.starts_with("reconcile.write.displaced")).count();
    assert_eq!(displaced, 2);
    world.pass().await;
    assert_eq!(world.status("noop/a").await.unwrap().interval_sec, Some(42));
    world.nothing_is_promised().await;
}

#[tokio::test]
async fn too_much_at_once_waits_for_a_person() {
    let names: Vec<String> = (0..10).map(|n| format!("noop/t{n}")).collect();
    let files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), EAST)).collect();
    let world = World::new(&files).await;
    let some = |range: std::ops::Range<usize>| named(&names[range].iter().map(String::as_str).collect::<Vec<_>>());
    let held = world.bulk(Deed::Delete, some(0..4), Consent::Any).await;
    let Err(AppError::Held(plan)) = held else { panic!("{held:?}") };
    assert_eq!((plan.held, plan.changing), (4, 4));
    assert!(plan.changes[0].held.as_ref().unwrap().contains("too large a part"));
    let held = world.bulk(Deed::Delete, some(0..4), Consent::Digest(plan.digest.clone())).await;
    assert!(matches!(held, Err(AppError::Held(_))), "having seen it is not to agree: {held:?}");
    assert_eq!(world.audit().await.iter().filter(|line| line.starts_with("scheduler.bulk.held")).count(), 2);
    assert!(world.path("noop/t3").exists());

    // In slices it is as much.
    assert!(world.bulk(pause(), some(0..3), Consent::Any).await.unwrap().ok);
    let held = world.bulk(pause(), some(3..4), Consent::Any).await;
    assert!(matches!(held, Err(AppError::Held(_))), "{held:?}");
    let world = world.restart().await;
    let held = world.bulk(pause(), some(3..4), Consent::Any).await;
    assert!(matches!(held, Err(AppError::Held(_))), "a restart does not begin to count anew: {held:?}");
    assert!(world.bulk(Deed::Resume, some(0..3), Consent::Any).await.unwrap().ok, "resuming takes nothing away");

    let stale = world.bulk(Deed::Delete, some(0..5), Consent::Confirm(plan.digest.clone())).await;
    assert!(matches!(&stale, Err(AppError::PlanMoved(_))), "{stale:?}");
    let done = world.bulk(Deed::Delete, some(0..4), Consent::Confirm(plan.digest)).await.unwrap();
    assert!(done.ok && !world.path("noop/t3").exists() && world.path("noop/t4").exists());
    let audit = world.audit().await;
    assert!(audit.iter().any(|line| line.starts_with("reconcile.plan.confirmed")));
    world.nothing_is_promised().await;
}

#[tokio::test]
async fn a_plan_that_has_moved_on_is_refused_with_what_moved() {
    let world = world().await;
    let plan = world.bulk(pause(), west(), Consent::DryRun).await.unwrap();
    world.mutate("noop/a", Edit::Delete).await.unwrap();
    let refused = world.bulk(pause(), west(), Consent::Digest(plan.digest)).await;
    let Err(AppError::PlanMoved(moved)) = refused else { panic!("{refused:?}") };
    assert!(moved.detail.contains("pause noop/a is gone"), "{}", moved.detail);
    assert_eq!(world.text("noop/b"), WEST);
}

#[tokio::test]
async fn an_action_is_undone_to_the_byte_and_redone() {
    let world = World::new(&[("noop/a", WEST), ("noop/b", EAST), ("noop/c", EAST)]).await;
    let names = named(&["a", "b"]);
    let done = world.bulk(Deed::Delete, names.clone(), Consent::Any).await.unwrap();
    assert!(!world.path("noop/a").exists());
    let action = done.action_id.unwrap();
    let plan = world.undo(&action, false, Consent::DryRun).await.unwrap();
    assert_eq!((plan.action.as_str(), plan.changing), ("undo", 2));
    assert!(!world.path("noop/a").exists());
    let undone = world.undo(&action, false, Consent::Digest(plan.digest)).await.unwrap();
    assert!(undone.ok, "{undone:?}");
    assert_eq!(world.texts(&["noop/a", "noop/b"]), [WEST, EAST]);
    let entries = world.app.store.audit_page(AuditQuery { limit: 2, ..AuditQuery::default() }).await.unwrap();
    assert!(entries.iter().all(|entry| entry.view().metadata["undoes"] == json!(action)));
    assert_eq!(world.undo(&action, false, Consent::Any).await.unwrap().changing, 0, "it is undone already");

    let redone = world.undo(&undone.action_id.unwrap(), false, Consent::Any).await.unwrap();
    assert!(redone.ok && !world.path("noop/b").exists());
    world.nothing_is_promised().await;
    let none = world.undo("0190", false, Consent::Any).await;
    assert!(matches!(none, Err(AppError::NoAction(_))), "{none:?}");
}

#[tokio::test]
async fn what_has_changed_since_is_not_undone() {
    let world = world().await;
    let done = world.bulk(set(json!({"interval_sec": 900})), west(), Consent::Any).await.unwrap();
    let action = done.action_id.unwrap();
    world.mutate("noop/a", merge(json!({"interval_sec": 5}))).await.unwrap();
    let on_disk = WEST.replace("300", "7");
    world.write("noop/b", &on_disk);
    let refused = world.undo(&action, false, Consent::Any).await;
    let Err(AppError::Refused(found)) = refused else { panic!("{refused:?}") };
    let names: Vec<&str> = found.refused.iter().map(|one| one.tenant.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(world.text("acculynx/c"), WEST.replace("300", "900"));

    let undone = world.undo(&action, true, Consent::Any).await.unwrap();
    assert_eq!((undone.ok, undone.changing, undone.refused.len()), (true, 1, 2));
    assert_eq!(world.texts(&["noop/b", "acculynx/c"]), [&*on_disk, WEST]);
    world.clock.advance(25 * 3_600_000);
    let late = world.undo(&action, true, Consent::Any).await;
    assert!(matches!(&late, Err(AppError::Conflict { detail, .. }) if detail.contains("24 hours")), "{late:?}");
}

#[tokio::test]
async fn single_changes_and_creations_are_undone_too() {
    let world = World::new(&[("noop/a", WEST)]).await;
    let made = world.mutate("noop/new", merge(json!({"interval_sec": 5}))).await.unwrap();
    assert!(world.undo(&made.action_id, false, Consent::Any).await.unwrap().ok);
    assert!(!world.path("noop/new").exists() && world.status("noop/new").await.is_none());
    let changed = world.mutate("noop/a", merge(json!({"interval_sec": 5}))).await.unwrap();
    assert!(world.undo(&changed.action_id, false, Consent::Any).await.unwrap().ok);
    assert_eq!(world.text("noop/a"), WEST);
    world.nothing_is_promised().await;
}

#[tokio::test]
async fn many_run_now_under_one_action_and_what_cannot_is_named() {
    let world = world().await;
    let caller = Caller { source: Origin::Ui, actor: "zoe".into() };
    world.app.pull_brake(Some("acculynx/c".parse().unwrap()), "roof".into(), &caller).await.unwrap();
    let plan = world.bulk(Deed::RunNow, west(), Consent::DryRun).await.unwrap();
    assert_eq!((plan.selected, plan.changes[1].action.as_str(), plan.runs.len()), (3, "run-now", 0));
    let moved = world.bulk(Deed::RunNow, named(&["d"]), Consent::Digest(plan.digest.clone())).await;
    assert!(matches!(moved, Err(AppError::PlanMoved(_))), "{moved:?}");

    let done = world.bulk(Deed::RunNow, west(), Consent::Digest(plan.digest)).await.unwrap();
    assert_eq!((done.ok, done.failed.len(), done.failed[0].tenant.as_str()), (false, 1, "c"));
    assert_eq!(done.runs.iter().map(|run| run.tenant.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    let entries = world.app.store.audit_page(AuditQuery { limit: 2, ..AuditQuery::default() }).await.unwrap();
    for entry in &entries {
        let view = entry.view();
        assert_eq!(
            (view.operation.as_str(), Some(&view.action_id)),
            ("scheduler.import.force_run", done.action_id.as_ref())
        );
        assert_eq!((&view.metadata["bulk"], &view.metadata["reason"]), (&json!(3), &json!("storm")));
    }
    let none = world.undo(&done.action_id.unwrap(), false, Consent::Any).await;
    assert!(matches!(none, Err(AppError::NoAction(_))), "runs are no change of a file: {none:?}");
}

#[cfg(unix)]
#[tokio::test]
async fn a_folder_that_cannot_be_written_is_known_before_anything_is_changed() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = world().await;
    let folder = world.folder.path().join("desired/schedules/acculynx");
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o555)).unwrap();
    if std::fs::write(folder.join("probe"), "").is_ok() {
        return; // Permissions do not bind this user.
    }
    let before = world.audit().await.len();
    let plan = world.bulk(pause(), west(), Consent::DryRun).await.unwrap();
    assert_eq!((plan.ok, plan.selected, plan.changing, plan.refused.len()), (false, 3, 2, 1));
    assert!(plan.refused[0].detail.contains("no permission for"), "{}", plan.refused[0].detail);
    let refused = world.bulk(pause(), west(), Consent::Any).await.unwrap_err();
    assert!(matches!(refused, AppError::Refused(_)), "{refused}");
    assert_eq!(world.texts(&["noop/a", "noop/b", "acculynx/c"]), [WEST; 3]);
    assert_eq!(world.audit().await.len(), before, "nothing was promised that had to be taken back");
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    assert!(world.bulk(pause(), west(), Consent::Any).await.unwrap().ok);
}
