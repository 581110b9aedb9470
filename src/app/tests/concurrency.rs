//! Two people at one schedule: stale tags, editors who save at the same moment, merges and conflicts.

use super::*;
use crate::core::model::Digest;

const TEXT: &str = "# ours\ninterval_sec: 300\nlabels: { region: west }\n";

async fn world() -> World {
    World::new(&[("noop/a", TEXT)]).await
}

fn etag(text: &str) -> String {
    Digest::of(text.as_bytes()).to_hex()
}

impl World {
    /// Saves the texts one after another, each between a mutation's commit and its exchange.
    fn editor_saves(&self, texts: &[&str]) {
        let deeds = texts.iter().rev().map(|text| {
            let (path, text) = (self.path("noop/a"), (*text).to_owned());
            Box::new(move || std::fs::write(path, text).unwrap()) as Box<dyn FnOnce() + Send>
        });
        self.app.before_exchange.set(deeds.collect());
    }

    async fn stale(&self, tag: &str, edit: Edit) -> Stale {
        let if_match = Some(IfMatch::Etags(vec![tag.to_owned()]));
        match self.app.mutate(Mutation { if_match, ..mutation("noop/a", edit) }).await {
            Err(AppError::PreconditionFailed(stale)) => *stale,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_stale_tag_is_answered_with_all_versions() {
    let world = world().await;
    let now = "interval_sec: 60\nlabels: { region: west, tier: gold }\n";
    world.write("noop/a", now);
    let edit = || merge(json!({"interval_sec": 30, "labels": {"region": "east"}}));
    let stale = world.stale(&etag(TEXT), edit()).await;
    assert_eq!(stale.base, json!({"interval_sec": 300, "labels": {"region": "west"}}));
    assert_eq!(stale.yours, json!({"interval_sec": 30, "labels": {"region": "east"}}));
    assert_eq!(stale.current, json!({"interval_sec": 60, "labels": {"region": "west", "tier": "gold"}}));
    assert_eq!(stale.proposal, json!({"interval_sec": 30, "labels": {"region": "east", "tier": "gold"}}));
    assert_eq!(stale.current_etag, etag(now));
    let [conflict] = stale.conflicts.as_slice() else { panic!("{:?}", stale.conflicts) };
    assert_eq!((conflict.field.as_str(), &conflict.yours, &conflict.current), ("interval_sec", &json!(30), &json!(60)));
    assert_eq!(world.text("noop/a"), now, "nothing was written");
    // A version that nobody knows any more: the change alone.
    let stale = world.stale("00", edit()).await;
    assert_eq!((stale.base, stale.yours["interval_sec"].clone()), (Value::Null, json!(30)));
    assert!(stale.conflicts.is_empty());
}

#[tokio::test]
async fn the_tag_shown_is_that_of_the_content_shown() {
    let world = world().await;
    let now = "interval_sec: 60\n";
    world.write("noop/a", now);
    let view = world.app.schedule_view(&"noop/a".parse().unwrap()).await.unwrap();
    assert_eq!((view.etag, view.written), (etag(now), json!({"interval_sec": 60})));
    world.write("noop/a", "interval_sec: 60\nconnection: { api_key: sesame }\n");
    let view = world.app.schedule_view(&"noop/a".parse().unwrap()).await.unwrap();
    assert_eq!(view.written, Value::Null, "what is not valid may hold a secret");
}

#[tokio::test]
async fn an_editor_of_other_fields_and_a_caller_both_get_their_way() {
    let world = world().await;
    let theirs = "# theirs\ninterval_sec: 300\nlabels: { region: west, tier: gold }\n";
    world.editor_saves(&[theirs]);
    let answer = world.mutate("noop/a", merge(json!({"interval_sec": 60}))).await.unwrap();
    assert_eq!(answer.schedules["a"].interval_sec, Some(60));
    assert_eq!(world.text("noop/a"), theirs.replace("300", "60"));
    let audit = world.audit().await;
    assert_eq!(
        audit[1..],
        [
            "scheduler.schedule.updated a [interval_sec 300->60] by ui",
            "reconcile.write.displaced a [] by command-center",
            "scheduler.schedule.updated a [labels.tier null->\"gold\"] by file",
            "scheduler.schedule.updated a [interval_sec 300->60] by ui",
        ]
    );
    assert_eq!(world.pass().await.changes, 0);
    world.app.sync_files().await;
    assert_eq!(world.app.store.intents().await.unwrap(), vec![]);
}

#[tokio::test]
async fn an_editor_of_the_same_field_wins_and_the_caller_is_told() {
    let world = world().await;
    let theirs = "interval_sec: 900\nlabels: { region: west }\n";
    world.editor_saves(&[theirs]);
    let refused = world.mutate("noop/a", merge(json!({"interval_sec": 60}))).await;
    let Err(AppError::Contested { detail, conflicts }) = refused else { panic!("{refused:?}") };
    assert!(detail.contains("interval_sec (yours 60, theirs 900)"), "{detail}");
    assert_eq!(
        (&conflicts[0].base, &conflicts[0].yours, &conflicts[0].current),
        (&json!(300), &json!(60), &json!(900))
    );
    assert_eq!(world.text("noop/a"), theirs);
    world.pass().await;
    assert_eq!(world.status("noop/a").await.unwrap().interval_sec, Some(900));
}

#[tokio::test]
async fn a_tag_holds_until_the_exchange() {
    let world = world().await;
    world.editor_saves(&["interval_sec: 300\n"]);
    let stale = world.stale(&etag(TEXT), Edit::Pause { reason: None, until: None }).await;
    assert_eq!(stale.base["labels"]["region"], "west");
    assert_eq!(stale.current, json!({"interval_sec": 300}));
    assert!(!world.status("noop/a").await.unwrap().paused);
}

#[tokio::test]
async fn a_deletion_and_an_edit_do_not_go_together() {
    let world = world().await;
    world.editor_saves(&["interval_sec: 900\n"]);
    let refused = world.mutate("noop/a", Edit::Delete).await;
    assert!(matches!(refused, Err(AppError::Contested { .. })), "{refused:?}");
    let path = world.path("noop/a");
    world.app.before_exchange.set(vec![Box::new(move || std::fs::remove_file(path).unwrap())]);
    let refused = world.mutate("noop/a", Edit::Pause { reason: None, until: None }).await;
    assert!(matches!(&refused, Err(AppError::Contested { detail, .. }) if detail.contains("deleted")), "{refused:?}");
    assert!(!world.path("noop/a").exists());
}

#[tokio::test]
async fn an_editor_who_never_stops_is_given_up_on() {
    let world = world().await;
    let texts: Vec<String> = (0..5).map(|n| format!("interval_sec: 300\nlabels: {{ n: '{n}' }}\n")).collect();
    world.editor_saves(&texts.iter().map(String::as_str).collect::<Vec<_>>());
    let refused = world.mutate("noop/a", Edit::Pause { reason: None, until: None }).await;
    assert!(matches!(refused, Err(AppError::Conflict { .. })), "{refused:?}");
    assert_eq!(world.text("noop/a"), texts[3]);
}

#[tokio::test]
async fn a_change_taken_back_does_not_bless_what_a_hand_made_of_the_row() {
    let world = world().await;
    world.sql("UPDATE schedules SET interval_sec = 7");
    let (path, aside) = (world.path("noop/a"), world.path("noop/a").with_extension("aside"));
    let (from, to) = (path.clone(), aside.clone());
    world.app.before_exchange.set(vec![Box::new(move || {
        std::fs::rename(&from, to).unwrap();
        std::fs::create_dir(from).unwrap();
    })]);
    let refused = world.mutate("noop/a", Edit::Pause { reason: None, until: None }).await;
    assert!(refused.is_err(), "{refused:?}");
    std::fs::remove_dir(&path).unwrap();
    std::fs::rename(aside, path).unwrap();
    world.app.full_pass(None).await.unwrap();
    assert_eq!(world.status("noop/a").await.unwrap().interval_sec, Some(300));
}
