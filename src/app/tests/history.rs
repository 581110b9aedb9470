//! History and going back, on a real directory and a real store.

use super::*;
use crate::app::views::{HistoryPage, RollbackAnswer};
use crate::core::model::{Digest, ScheduleId};

fn zoe() -> Caller {
    Caller { source: Origin::Ui, actor: "zoe".into() }
}

impl World {
    async fn history(&self, name: &str) -> HistoryPage {
        let query = HistoryQuery { before: None, limit: 100, with_content: true };
        self.app.history(&name.parse().unwrap(), query).await.unwrap().0
    }

    /// `number change by source/actor [field: from->to]`, newest first.
    async fn revisions(&self, name: &str) -> Vec<String> {
        let page = self.history(name).await;
        let line = |revision: &views::RevisionView| {
            let diff: Vec<String> = revision.diff.iter().map(|c| format!("{} {}->{}", c.field, c.from, c.to)).collect();
            let (number, change) = (revision.revision, &revision.change);
            format!("{number} {change} by {}/{} [{}]", revision.source, revision.actor, diff.join(", "))
        };
        page.revisions.iter().map(line).collect()
    }

    async fn roll_back(&self, name: &str, to: &str) -> Result<views::MutationAnswer, AppError> {
        self.app.rollback(rollback(name, to)).await
    }

    async fn directory(&self, to: Millis, confirm: Option<&str>) -> Result<RollbackAnswer, AppError> {
        let (confirm, reason) = (confirm.map(str::to_owned), Some("a bad day".to_owned()));
        let asked = DirectoryRollback { to, confirm, reason, caller: zoe(), may_change_connection: false };
        self.app.roll_back_directory(asked).await
    }
}

fn rollback(name: &str, to: &str) -> Rollback {
    let (id, to) = (name.parse().unwrap(), to.parse().unwrap());
    Rollback { id, to, reason: None, caller: zoe(), may_change_connection: false, if_match: None }
}

#[tokio::test]
async fn history_tells_of_files_and_callers_alike() {
    let world = World::new(&[("noop/a", "interval_sec: 300\n")]).await;
    world.write("noop/a", "# a comment alone\ninterval_sec: 300\n");
    world.pass().await;
    world.mutate("noop/a", Edit::Pause { reason: Some("roof".into()), until: None }).await.unwrap();
    world.sql("UPDATE schedules SET paused = 0");
    world.pass().await;
    world.mutate("noop/a", Edit::Resume { reason: None }).await.unwrap();
    world.mutate("noop/a", Edit::Delete).await.unwrap();
    let page = world.history("noop/a").await;
    assert!(!page.exists);
    assert_eq!(
        world.revisions("noop/a").await,
        [
            "5 deleted by ui/zoe [interval_sec 300->null, paused false->null]",
            "4 resumed by ui/zoe [pause_reason \"roof\"->null, paused true->false]",
            "3 paused by ui/zoe [pause_reason null->\"roof\", paused null->true]",
            "2 updated by file/unknown []",
            "1 created by file/unknown [interval_sec null->300]",
        ],
        "a repaired row is no revision"
    );
    assert_eq!(page.revisions[3].content.as_deref(), Some("# a comment alone\ninterval_sec: 300\n"));
    let entries = world.app.store.audit_page(AuditQuery { limit: 1, ..AuditQuery::default() }).await.unwrap();
    assert_eq!(page.revisions[0].action_id, entries[0].action_id);
    let none: ScheduleId = "noop/none".parse().unwrap();
    let query = HistoryQuery { before: None, limit: 9, with_content: false };
    assert!(matches!(world.app.history(&none, query).await, Err(AppError::NoHistory(_))));
}

#[tokio::test]
async fn history_comes_in_pages_that_join() {
    let world = World::new(&[]).await;
    for n in 1..=5 {
        world.mutate("noop/a", merge(json!({"interval_sec": n}))).await.unwrap();
    }
    let id = "noop/a".parse().unwrap();
    let (mut before, mut seen) = (None, Vec::new());
    loop {
        let (page, next) =
            world.app.history(&id, HistoryQuery { before, limit: 2, with_content: false }).await.unwrap();
        assert!(page.revisions.iter().all(|r| r.diff.len() == 1 && r.content.is_none()), "{page:?}");
        seen.extend(page.revisions.iter().map(|revision| revision.revision));
        before = next;
        if next.is_none() {
            break;
        }
    }
    assert_eq!(seen, [5, 4, 3, 2, 1]);
}

#[tokio::test]
async fn pausing_for_ever_keeps_two_contents() {
    let world = World::new(&[("noop/a", "interval_sec: 300\npaused: false\n")]).await;
    for _ in 0..5 {
        world.mutate("noop/a", Edit::Pause { reason: None, until: None }).await.unwrap();
        world.mutate("noop/a", Edit::Resume { reason: None }).await.unwrap();
    }
    let facts = world.app.store.facts().await.unwrap();
    assert_eq!((facts.rows["revisions"], facts.rows["contents"]), (11, 2));
}

#[tokio::test]
async fn a_rollback_restores_every_byte() {
    let old = "\u{feff}# ours\r\ninterval_sec: 300   # five minutes\r\n\r\nlabels: {region: \"west\"}";
    let world = World::new(&[("noop/a", old)]).await;
    world.write("noop/a", "interval_sec: 60\n");
    world.pass().await;
    let answer = world.app.rollback(Rollback { reason: Some("too often".into()), ..rollback("noop/a", "1") }).await;
    assert_eq!(answer.unwrap().schedules["a"].interval_sec, Some(300));
    assert_eq!(world.text("noop/a"), old);
    assert_eq!(world.pass().await.changes, 0, "an own write causes nothing");
    let last = world.app.store.audit_page(AuditQuery { limit: 1, ..AuditQuery::default() }).await.unwrap().remove(0);
    let metadata = last.view().metadata;
    assert_eq!((&metadata["rollback_to"], &metadata["reason"]), (&json!(1), &json!("too often")));
    assert_eq!(metadata["diff"].as_array().unwrap().len(), 2, "{metadata}");
    let digest = Digest::of(b"interval_sec: 60\n").to_hex();
    world.roll_back("noop/a", &digest[..10]).await.unwrap();
    assert_eq!(world.text("noop/a"), "interval_sec: 60\n");
    world.roll_back("noop/a", "2027-01-15T08:00:00Z").await.unwrap();
    assert_eq!(world.revisions("noop/a").await.len(), 4, "what is there already is no edit");
    assert_eq!(world.app.store.facts().await.unwrap().rows["contents"], 2);
}

#[tokio::test]
async fn a_deleted_schedule_comes_back() {
    let world = World::new(&[("noop/a", "# ours\ninterval_sec: 300\n")]).await;
    world.mutate("noop/a", Edit::Delete).await.unwrap();
    let answer = world.roll_back("noop/a", "1").await.unwrap();
    assert_eq!(answer.schedules["a"].interval_sec, Some(300));
    assert_eq!(world.text("noop/a"), "# ours\ninterval_sec: 300\n");
    assert_eq!(world.revisions("noop/a").await[0], "3 created by ui/zoe [interval_sec null->300]");
    let refused = world.roll_back("noop/a", "2").await.unwrap_err();
    assert!(refused.to_string().contains("not be valid"), "{refused}");
    assert_eq!(world.app.drift().await.unwrap().items.len(), 0);
}

#[tokio::test]
async fn what_cannot_be_gone_back_to_is_said() {
    let world = World::new(&[("noop/a", "interval_sec: 300\n"), ("acculynx/c", "interval_sec: 300\n")]).await;
    let Err(AppError::NoRevision { known, detail }) = world.roll_back("noop/a", "7").await else { panic!("found") };
    assert_eq!((known, detail.as_str()), (vec![1], "noop/a has no revision 7; the newest are 1 to 1"));
    assert!(matches!(world.roll_back("noop/a", "2020-01-01T00:00:00Z").await, Err(AppError::NoRevision { .. })));
    assert!(matches!(world.roll_back("noop/none", "1").await, Err(AppError::NoHistory(_))));

    world.write("acculynx/c", "interval_sec: 300\nconnection:\n  base_url: http://127.0.0.1:1\n");
    world.pass().await;
    let refused = world.roll_back("acculynx/c", "1").await;
    assert!(matches!(refused, Err(AppError::Forbidden(_))), "{refused:?}");
    let admin = Rollback { may_change_connection: true, ..rollback("acculynx/c", "1") };
    world.app.rollback(admin).await.unwrap();

    // As if an earlier version had let this pass.
    world.write("noop/a", "interval_sec: 60\n");
    world.pass().await;
    let bad = b"interval_sec: 0\n";
    let (digest, hex) = (hex::encode(Digest::of(bad).0), hex::encode(bad));
    world.sql(&format!(
        "INSERT INTO contents (digest, content) VALUES (x'{digest}', x'{hex}');
         UPDATE revisions SET digest = x'{digest}' WHERE tenant = 'a' AND number = 1"
    ));
    let Err(AppError::UnfitRevision { errors, .. }) = world.roll_back("noop/a", "1").await else { panic!("done") };
    assert_eq!(errors[0].pointer, "/interval_sec");
    assert_eq!(world.text("noop/a"), "interval_sec: 60\n");
    world.sql("UPDATE contents SET content = x'00'");
    assert!(matches!(world.roll_back("noop/a", "1").await, Err(AppError::Conflict { .. })));
    assert!(!world.history("noop/a").await.revisions[1].available);
}

#[tokio::test]
async fn a_broken_file_gets_its_last_good_content_back() {
    let world = World::new(&[("noop/a", "interval_sec: 300\n")]).await;
    world.write("noop/a", "interval_sec: [\n");
    world.pass().await;
    world.roll_back("noop/a", "1").await.unwrap();
    assert_eq!(world.text("noop/a"), "interval_sec: 300\n");
    assert_eq!(world.status("noop/a").await.unwrap().sync, "synced");
    assert!(world.app.health().await.ok);
    let audit = world.audit().await;
    assert_eq!(audit[2], "scheduler.schedule.updated a [] by ui", "{audit:#?}");
    assert!(audit[3].starts_with("reconcile.file.recovered"), "{audit:#?}");
}

#[tokio::test]
async fn a_rollback_keeps_its_promise_over_a_crash() {
    let old = "# ours\ninterval_sec: 300\n";
    let world = World::new(&[("noop/a", old), ("noop/b", old)]).await;
    world.mutate("noop/a", merge(json!({"interval_sec": 60}))).await.unwrap();
    let between = world.text("noop/a");
    world.mutate("noop/b", Edit::Delete).await.unwrap();
    world.roll_back("noop/a", "1").await.unwrap();
    world.roll_back("noop/b", "1").await.unwrap();
    // As after a crash between the commit and the exchange.
    world.write("noop/a", &between);
    std::fs::remove_file(world.path("noop/b")).unwrap();
    let world = world.restart().await;
    assert_eq!((world.text("noop/a").as_str(), world.text("noop/b").as_str()), (old, old));
    assert_eq!(world.status("noop/a").await.unwrap().interval_sec, Some(300));
    assert_eq!(world.revisions("noop/a").await.len(), 3, "a promise kept late is no other revision");
}

#[tokio::test]
async fn secrets_written_by_mistake_are_masked_but_kept() {
    let text = "# old api_key: hunter2hunter2\ninterval_sec: 300\nlabels: { see: 'https://u:hunter2@h' }\n";
    let world = World::new(&[("noop/a", text)]).await;
    world.write("noop/a", "interval_sec: 300\n");
    world.pass().await;
    let shown = serde_json::to_string(&world.history("noop/a").await).unwrap();
    assert!(!shown.contains("hunter2") && shown.contains("# old api_key: ***"), "{shown}");
    let plan = world.directory(START, None).await.unwrap();
    assert!(!serde_json::to_string(&plan).unwrap().contains("hunter2"));
    world.roll_back("noop/a", "1").await.unwrap();
    assert_eq!(world.text("noop/a"), text);
}

#[tokio::test]
async fn the_whole_directory_goes_back_and_forth() {
    let old = "# ours\ninterval_sec: 300\n";
    let world =
        World::new(&[("noop/changes", old), ("noop/goes", old), ("noop/stays", old), ("noop/breaks", old)]).await;
    world.clock.advance(10_000);
    world.mutate("noop/changes", merge(json!({"interval_sec": 60}))).await.unwrap();
    world.mutate("noop/goes", Edit::Delete).await.unwrap();
    world.mutate("noop/comes", merge(json!({"interval_sec": 5}))).await.unwrap();
    world.write("noop/breaks", "interval_sec: [\n");
    world.pass().await;
    let later = world.clock.now();
    world.clock.advance(10_000);

    let plan = world.directory(START, None).await.unwrap();
    let expect = "~ noop/breaks (update)\n~ noop/changes (update)\n    ~ interval_sec = 60 -> 300\n- noop/comes (delete)\n    \
                  - interval_sec = 5\n+ noop/goes (create)\n    + interval_sec = 300\nPlan: 1 to create, 2 to change, 1 to delete.\n";
    assert_eq!(plan.text, expect);
    assert!(plan.dry_run && plan.results.is_empty());
    assert_eq!(world.text("noop/changes"), "# ours\ninterval_sec: 60\n", "a plan changes nothing");

    let done = world.directory(START, Some(&plan.digest)).await.unwrap();
    assert!(done.ok && done.results.len() == 4, "{done:?}");
    for name in ["noop/changes", "noop/goes", "noop/stays", "noop/breaks"] {
        assert_eq!(world.text(name), old, "{name}");
    }
    assert!(!world.path("noop/comes").exists() && world.status("noop/comes").await.is_none());
    assert_eq!(world.pass().await.held, 0, "what was confirmed is not held");
    let entries = world.app.store.audit_page(AuditQuery { limit: 6, ..AuditQuery::default() }).await.unwrap();
    let action_id = done.action_id.unwrap();
    let ours: Vec<_> = entries.iter().filter(|entry| entry.action_id == action_id).collect();
    assert_eq!(ours.len(), 5, "{entries:#?}");
    assert!(ours.iter().any(|entry| entry.operation == "ops.directory.rolled_back"));
    assert_eq!(ours[0].view().metadata["reason"], "a bad day");

    let forth = world.directory(later, None).await.unwrap();
    assert_eq!(forth.changes.len(), 3, "{}", forth.text);
    assert!(world.directory(later, Some(&forth.digest)).await.unwrap().ok);
    assert_eq!(world.text("noop/changes"), "# ours\ninterval_sec: 60\n");
    assert!(world.path("noop/comes").exists() && !world.path("noop/goes").exists());
    assert!(world.directory(later, None).await.unwrap().changes.is_empty());
}

#[tokio::test]
async fn a_directory_goes_back_only_by_the_plan_that_was_seen() {
    let old = "interval_sec: 300\n";
    let world = World::new(&[("noop/a", old), ("acculynx/c", old)]).await;
    world.clock.advance(10_000);
    world.mutate("noop/a", merge(json!({"interval_sec": 60}))).await.unwrap();
    let plan = world.directory(START, None).await.unwrap();
    world.mutate("noop/b", merge(json!({"interval_sec": 7}))).await.unwrap();
    let Err(AppError::Conflict { detail, .. }) = world.directory(START, Some(&plan.digest)).await else {
        panic!("done")
    };
    assert!(detail.contains("changed since: noop/b"), "{detail}");
    assert!(matches!(world.directory(START, Some("00")).await, Err(AppError::Conflict { .. })));
    for outside in [START - 1, world.clock.now() + 1] {
        assert!(matches!(world.directory(outside, None).await, Err(AppError::Invalid(_))));
    }
    world.write("acculynx/c", "interval_sec: 300\nconnection: { base_url: 'http://127.0.0.1:1' }\n");
    world.pass().await;
    let plan = world.directory(START, None).await.unwrap();
    assert!(matches!(world.directory(START, Some(&plan.digest)).await, Err(AppError::Forbidden(_))));
    assert_eq!(world.status("noop/a").await.unwrap().interval_sec, Some(60), "nothing was begun");

    // An editor who is quicker than the loop keeps what they wrote.
    world.mutate("acculynx/c", Edit::Delete).await.unwrap();
    let admin =
        |confirm| DirectoryRollback { to: START, confirm, reason: None, caller: zoe(), may_change_connection: true };
    let plan = world.app.roll_back_directory(admin(None)).await.unwrap();
    world.write("noop/a", "interval_sec: 61\n");
    let done = world.app.roll_back_directory(admin(Some(plan.digest))).await.unwrap();
    assert!(!done.ok, "{done:?}");
    let failed: Vec<_> = done.results.iter().filter(|result| !result.ok).map(|result| result.tenant.as_str()).collect();
    assert_eq!(failed, ["a"]);
    assert_eq!(world.text("noop/a"), "interval_sec: 61\n");
    assert_eq!(world.text("acculynx/c"), old);
}

#[tokio::test]
async fn what_history_does_not_know_stays_as_it_is() {
    let world = World::new(&[("noop/a", "interval_sec: 300\n"), ("noop/b", "interval_sec: 300\n")]).await;
    world.clock.advance(10_000);
    // As after an upgrade: b was there before its first revision.
    world.sql(&format!(
        "UPDATE revisions SET action_id = '', at_ms = {} WHERE tenant = 'b'; UPDATE contents SET content = x'00'",
        START + 5_000
    ));
    let plan = world.directory(START, None).await.unwrap();
    assert!(!plan.ok && plan.changes.is_empty(), "{plan:?}");
    assert!(plan.left[0].reason.contains("not known"), "{plan:?}");
    assert_eq!(world.revisions("noop/b").await, ["1 found by file/unknown [interval_sec null->300]"]);
}

#[tokio::test]
async fn defaults_that_changed_since_are_named_and_left() {
    let world = World::new(&[("noop/a", "interval_sec: 300\n")]).await;
    world.clock.advance(10_000);
    put(world.folder.path().join("desired/schedules/noop/_defaults.yaml"), "labels: { region: west }\n");
    world.pass().await;
    let plan = world.directory(START, None).await.unwrap();
    assert_eq!((plan.ok, plan.changes.len()), (false, 0), "{plan:?}");
    assert_eq!(plan.left[0].file, "schedules/noop/_defaults.yaml");
    assert!(world.directory(world.clock.now(), None).await.unwrap().ok);
}

#[tokio::test]
async fn an_editor_who_saves_while_a_rollback_is_written_keeps_what_they_wrote() {
    let world = World::new(&[("noop/a", "interval_sec: 300\n")]).await;
    world.mutate("noop/a", merge(json!({"interval_sec": 60}))).await.unwrap();
    let path = world.path("noop/a");
    world.app.before_exchange.set(vec![Box::new(move || put(path, "interval_sec: 61\n"))]);
    let refused = world.roll_back("noop/a", "1").await;
    assert!(matches!(refused, Err(AppError::Contested { .. })), "{refused:?}");
    assert_eq!(world.text("noop/a"), "interval_sec: 61\n");
    world.pass().await;
    assert_eq!(world.status("noop/a").await.unwrap().interval_sec, Some(61));
    let revisions = world.revisions("noop/a").await;
    assert_eq!(
        revisions[..3],
        [
            "5 updated by file/unknown [interval_sec 60->61]",
            "4 updated by command-center/command-center [interval_sec 300->60]",
            "3 updated by ui/zoe [interval_sec 60->300]",
        ],
        "what was taken back is no secret"
    );
}
