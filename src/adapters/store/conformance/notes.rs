//! What the store keeps beside the schedules: problems, brakes, promised edits, given answers.

use super::*;
use crate::adapters::store::{Brake, CommitDue, CommitNote, Dismissal, Hold, Intent, Problem, Remembered};
use crate::core::desired::{Diagnostic, Severity};
use crate::core::plan::{Action, HoldReason};

pub async fn a_problem_keeps_its_since(site: &impl Site) {
    let store = site.open();
    let finding = Diagnostic {
        file: "schedules/noop/a.yaml".into(),
        line: 3,
        column: 1,
        severity: Severity::Error,
        code: "unknown-key".into(),
        field: "/x".into(),
        message: "no \"x\"".into(),
        hint: None,
    };
    let path = finding.file.clone();
    let first = Problem { path: path.clone(), digest: None, since: NOW, diagnostics: vec![finding.clone()] };
    let other = Problem { path: "a.yaml".into(), digest: Some(Digest::of(b"z")), since: NOW, diagnostics: Vec::new() };
    store.put_problem(first, vec![draft("noop/a")], NOW).await.unwrap();
    store.put_problem(other.clone(), Vec::new(), NOW).await.unwrap();
    let later =
        Problem { path: path.clone(), digest: Some(Digest::of(b"y")), since: NOW + 9, diagnostics: vec![finding] };
    store.put_problem(later.clone(), Vec::new(), NOW + 9).await.unwrap();
    let kept = Problem { since: NOW, ..later.clone() };
    assert_eq!(store.problems().await.unwrap(), [other.clone(), kept]);
    store.clear_problem(path.clone(), vec![draft("noop/a")], NOW).await.unwrap();
    store.clear_problem("never.yaml".into(), Vec::new(), NOW).await.unwrap();
    assert_eq!(store.problems().await.unwrap(), [other]);
    assert_whole(&store, 2).await;
    store.put_problem(later, Vec::new(), NOW + 9).await.unwrap();
    let back = store.problems().await.unwrap().into_iter().find(|problem| problem.path == path).unwrap();
    assert_eq!(back.since, NOW + 9, "a file that breaks again is broken since then");
}

pub async fn brakes_hold_until_released(site: &impl Site) {
    let store = site.open();
    let brake = |scope: &str, reason: &str| Brake {
        scope: scope.to_owned(),
        reason: reason.to_owned(),
        actor: "op".into(),
        since: NOW,
    };
    assert_eq!(store.put_brake(brake("noop/a", "flood"), draft("noop/a")).await.unwrap(), [1]);
    assert_eq!(store.put_brake(brake("", "all"), draft("noop/a")).await.unwrap(), [2]);
    assert_eq!(store.put_brake(brake("noop/a", "still"), draft("noop/a")).await.unwrap(), [3]);
    assert_eq!(store.brakes().await.unwrap(), [brake("", "all"), brake("noop/a", "still")]);
    store.close();
    let store = site.open();
    assert_eq!(store.release_brake(String::new(), draft("noop/a"), NOW).await.unwrap(), [4]);
    assert_eq!(store.brakes().await.unwrap(), [brake("noop/a", "still")], "the fleet's release frees no schedule");
    assert_whole(&store, 4).await;
}

pub async fn intents_stand_in_order_until_forgotten(site: &impl Site) {
    let store = site.open();
    let intents = [
        Intent { id: id("noop/b"), base: None, content: Some(b"interval_sec: 1\n".to_vec()), commit: None },
        Intent { id: id("noop/a"), base: Some(Digest::of(b"")), content: Some(Vec::new()), commit: None },
        Intent { id: id("noop/b"), base: Some(Digest::of(b"x")), content: None, commit: None },
    ];
    let mut keys = Vec::new();
    for intent in &intents {
        keys.push(store.apply(Vec::new(), vec![intent.clone()], NOW).await.unwrap().promised[0].intent);
    }
    assert!(keys.is_sorted_by(|a, b| a < b));
    store.close();
    let store = site.open();
    let expect: Vec<_> = keys.iter().copied().zip(intents.iter().cloned()).collect();
    assert_eq!(store.intents().await.unwrap(), expect);
    store.forget_intents(vec![keys[0], keys[2], keys[2] + 100]).await.unwrap();
    assert_eq!(store.intents().await.unwrap(), expect[1..2]);
    let next = store.apply(Vec::new(), vec![intents[0].clone()], NOW).await.unwrap().promised[0].intent;
    assert!(next > keys[2], "a forgotten intent's key is not given again");
}

pub async fn commits_stand_in_order_until_forgotten(site: &impl Site) {
    let store = site.open();
    let note = |n: i64| CommitNote { actor: "zoe".into(), action_id: format!("0190-{n}"), message: format!("m{n}") };
    let intent = |n: i64| Intent {
        id: id("noop/a"),
        base: (n > 1).then(|| Digest::of(&[1])),
        content: (n < 3).then(|| b"interval_sec: 1\n".to_vec()),
        commit: Some(note(n)),
    };
    let mut keys = Vec::new();
    for n in 1..=3 {
        keys.extend(store.apply(Vec::new(), vec![intent(n)], NOW + n).await.unwrap().promised[0].commit);
    }
    let plain = Intent { commit: None, ..intent(1) };
    assert_eq!(store.apply(Vec::new(), vec![plain], NOW).await.unwrap().promised[0].commit, None);
    assert_eq!(store.noted_commit().await.unwrap(), None);
    store.note_commit("c1".into()).await.unwrap();
    store.note_commit("c2".into()).await.unwrap();
    store.close();
    let store = site.open();
    assert_eq!(store.noted_commit().await.unwrap().as_deref(), Some("c2"));
    let due: Vec<_> =
        (1..).zip(&keys).map(|(n, key)| CommitDue { key: *key, at: NOW + n, intent: intent(n) }).collect();
    assert_eq!(due.len(), 3);
    assert_eq!(store.commits_due(2).await.unwrap(), due[..2]);
    let intents: Vec<i64> = store.intents().await.unwrap().into_iter().map(|(key, _)| key).collect();
    store.forget_intents(intents).await.unwrap();
    store.forget_commits(vec![keys[1]]).await.unwrap();
    assert_eq!(store.commits_due(9).await.unwrap(), [due[0].clone(), due[2].clone()]);
}

pub async fn holds_and_their_dismissal_are_kept_together(site: &impl Site) {
    let store = site.open();
    let hold = |name: &str, action| Hold { id: id(name), action, reason: HoldReason::BlastRadius, since: NOW };
    let held = vec![hold("noop/a", Action::Delete), hold("noop/a", Action::Pause), hold("noop/b", Action::Delete)];
    let dismissal = Dismissal { digest: "d".into(), reason: "r".into(), actor: "zoe".into(), at: NOW };
    let seqs = store.put_holds(held.clone(), Some(dismissal.clone()), vec![draft("noop/a")], NOW).await.unwrap();
    assert_eq!(seqs, [1]);
    assert_eq!(store.holds().await.unwrap(), (held, Some(dismissal)));
    drop(store);
    let store = site.open();
    assert_eq!(store.holds().await.unwrap().0.len(), 3);
    let next = vec![hold("noop/c", Action::Pause)];
    store.put_holds(next.clone(), None, Vec::new(), NOW).await.unwrap();
    assert_eq!(store.holds().await.unwrap(), (next, None));
}

pub async fn answers_are_remembered_and_expire(site: &impl Site) {
    let store = site.open();
    let remembered = |answer: &str| Remembered { request: Digest::of(b"request"), answer: answer.to_owned() };
    let found = |found: Remembered| (found.request, found.answer);
    let answer = async |key: &str, now| store.answer(key.into(), now).await.unwrap().map(found);
    assert_eq!(answer("k", NOW).await, None);
    store.remember_answer("k".into(), remembered("{}"), NOW).await.unwrap();
    assert_eq!(answer("k", NOW).await, Some((Digest::of(b"request"), "{}".to_owned())));
    let hour = 3_600_000;
    store.remember_answer("l".into(), remembered("l"), NOW + 23 * hour).await.unwrap();
    assert!(answer("k", NOW + 24 * hour).await.is_some(), "a retry a day later at most still finds it");
    assert_eq!(answer("k", NOW + 24 * hour + 1).await, None, "also when nobody has cleared it away");
    store.remember_answer("m".into(), remembered("m"), NOW + 25 * hour).await.unwrap();
    assert_eq!(answer("k", NOW).await, None);
    assert!(answer("l", NOW + 25 * hour).await.is_some() && answer("m", NOW + 25 * hour).await.is_some());
}

pub async fn the_last_good_defaults_are_kept(site: &impl Site) {
    let store = site.open();
    let (fleet, noop) = ("defaults.yaml".to_owned(), "schedules/noop/_defaults.yaml".to_owned());
    let put = |path: &str, content: Option<&[u8]>, drafts| {
        store.put_defaults(path.to_owned(), content.map(<[u8]>::to_vec), drafts, NOW)
    };
    put(&fleet, Some(b"interval_sec: 5\n"), vec![draft("noop/a")]).await.unwrap();
    put(&noop, Some(b"\xff\0"), Vec::new()).await.unwrap();
    put(&fleet, Some(b"interval_sec: 6\n"), Vec::new()).await.unwrap();
    put("never.yaml", None, Vec::new()).await.unwrap();
    store.close();
    let store = site.open();
    let kept = store.defaults().await.unwrap();
    assert_eq!(kept, [(fleet, b"interval_sec: 6\n".to_vec()), (noop.clone(), b"\xff\0".to_vec())]);
    store.put_defaults(noop, None, vec![draft("noop/a")], NOW).await.unwrap();
    assert_eq!(store.defaults().await.unwrap().len(), 1);
    assert_whole(&store, 2).await;
}
