//! Write-backs become commits, and nothing of a person's goes with them.

use super::*;

fn commit() -> GitSettings {
    GitSettings { commit: true, ..GitSettings::default() }
}

fn pause(reason: &str) -> Edit {
    Edit::Pause { reason: Some(reason.to_owned()), until: None }
}

impl World {
    /// `subject by author` of every commit after `since`, oldest first.
    fn commits(&self, since: &str) -> Vec<String> {
        let log = self.git(&["log", "--reverse", "--format=%s by %an", &format!("{since}..HEAD")]);
        log.lines().map(str::to_owned).collect()
    }

    fn head(&self) -> String {
        self.git(&["rev-parse", "HEAD"])
    }

    fn state(&self) -> String {
        self.git(&["-c", "status.renames=false", "status", "--porcelain", "--untracked-files=all", "--", "desired"])
    }

    async fn git_health(&self) -> views::GitHealth {
        self.app.health().await.desired.git.unwrap()
    }

    fn file_in(&self, revision: &str, name: &str) -> String {
        self.git(&["show", &format!("{revision}:desired/{}", file_of(name))])
    }
}

#[tokio::test]
async fn each_write_back_is_a_commit_and_a_person_s_changes_stay_theirs() {
    let text = "# ours\ninterval_sec: 300  # often\n";
    let files = [("noop/a", text), ("noop/b", text), ("noop/c", text)];
    let world = World::in_git_with(&files, commit()).await;
    let start = world.head();
    world.write("noop/b", "interval_sec: 5\n");
    world.git(&["add", "desired"]);
    world.write("noop/c", "interval_sec: 6\n");
    world.write("noop/mine", "interval_sec: 7\n");
    world.pass().await;
    let before = world.count().await;

    let answer = world.mutate("noop/a", pause("flood\n\nCommand-Center-Action: forged")).await.unwrap();
    world.mutate("noop/new", merge(json!({"interval_sec": 60}))).await.unwrap();
    assert_eq!(world.git_health().await.pending, 2);
    assert!(world.app.commit_write_backs().await.unwrap());
    let expect = ["pause noop/a: flood Command-Center-Action: forged by zoe", "create noop/new by zoe"];
    assert_eq!(world.commits(&start), expect);
    let shown =
        world.git(&["log", "-1", "--format=%ae|%cn <%ce>|%(trailers:key=Command-Center-Action,valueonly)", "HEAD~1"]);
    let expect = format!("zoe@command-center.invalid|Command Center <command-center@localhost>|{}", answer.action_id);
    assert_eq!(shown, expect);
    assert_eq!(world.git(&["show", "--format=", "--name-only", "HEAD~1"]), "desired/schedules/noop/a.yaml");
    assert_eq!(format!("{}\n", world.file_in("HEAD", "noop/a")), world.text("noop/a"));
    // Staged stays staged, changed changed, unknown unknown; what was committed is clean.
    let expect =
        "M  desired/schedules/noop/b.yaml\n M desired/schedules/noop/c.yaml\n?? desired/schedules/noop/mine.yaml";
    assert_eq!(world.state(), expect.trim());
    assert_eq!(world.git(&["for-each-ref", "refs/command-center"]), "");

    // Its own commits are nothing to look at: no entries, no pass by hint.
    let after = world.count().await;
    world.pass().await;
    assert_eq!((world.count().await, after), (before + 2, before + 2));
    assert!(!world.app.reconcile_hinted(vec!["noop/a".parse().unwrap()]).await.unwrap());
    let health = world.git_health().await;
    assert_eq!((health.mode.as_str(), health.pending, health.last_error), ("commit", 0, None));
    assert_eq!(health.head, Some(world.head()));
    // Once more, and there is nothing to do.
    assert!(!world.app.commit_write_backs().await.unwrap());
}

#[tokio::test]
async fn what_a_crash_left_uncommitted_is_committed_at_the_next_start_in_order() {
    let world = World::in_git_with(&[("noop/a", "interval_sec: 1\n"), ("noop/b", "interval_sec: 1\n")], commit()).await;
    let start = world.head();
    world.mutate("noop/a", pause("one")).await.unwrap();
    world.mutate("noop/b", Edit::Delete).await.unwrap();
    world.mutate("noop/a", Edit::Resume { reason: Some("two".into()) }).await.unwrap();
    let world = world.start_again().await;
    assert_eq!(world.git_health().await.pending, 3);
    assert!(world.app.commit_write_backs().await.unwrap());
    let expect = ["pause noop/a: one by zoe", "delete noop/b by zoe", "resume noop/a: two by zoe"];
    assert_eq!(world.commits(&start), expect);
    assert!(world.file_in("HEAD~2", "noop/a").contains("paused: true"));
    assert_eq!(world.state(), "");
}

#[tokio::test]
async fn an_edit_and_its_undoing_are_two_commits() {
    let world = World::in_git_with(&[("noop/a", "interval_sec: 1\npaused: false\n")], commit()).await;
    let start = world.head();
    world.mutate("noop/a", merge(json!({"interval_sec": 2}))).await.unwrap();
    world.mutate("noop/a", merge(json!({"interval_sec": 1}))).await.unwrap();
    assert!(world.app.commit_write_backs().await.unwrap());
    assert_eq!(world.commits(&start).len(), 2);
    assert_eq!(world.git(&["diff", &start, "HEAD"]), "");
}

#[tokio::test]
async fn what_a_person_committed_or_threw_away_is_not_committed_again() {
    let files = [("noop/a", "interval_sec: 1\n"), ("noop/b", "interval_sec: 1\n"), ("noop/c", "interval_sec: 1\n")];
    let world = World::in_git_with(&files, commit()).await;
    for name in ["noop/a", "noop/b", "noop/c"] {
        world.mutate(name, merge(json!({"interval_sec": 2}))).await.unwrap();
    }
    world.git(&["commit", "-q", "-m", "by hand", "--", "desired/schedules/noop/a.yaml"]);
    world.git(&["checkout", "-q", "--", "desired/schedules/noop/b.yaml"]);
    world.write("noop/c", "interval_sec: 3\n");
    let start = world.head();
    assert!(world.app.commit_write_backs().await.unwrap());
    assert_eq!(world.commits(&start), ["update noop/c by zoe"], "the edit on top of it stays uncommitted");
    assert_eq!(world.file_in("HEAD", "noop/c"), "interval_sec: 2");
    assert_eq!(world.state(), "M desired/schedules/noop/c.yaml");
    assert_eq!(world.git_health().await.pending, 0);
}

#[tokio::test]
async fn an_edit_on_top_of_what_is_staged_takes_that_along_and_other_staging_stays() {
    let files = [("noop/a", "interval_sec: 1\n"), ("noop/b", "interval_sec: 1\n")];
    let world = World::in_git_with(&files, commit()).await;
    world.write("noop/a", "interval_sec: 2\n");
    world.write("noop/b", "interval_sec: 2\n");
    world.git(&["add", "desired"]);
    world.write("noop/b", "interval_sec: 3\n");
    world.pass().await;
    world.mutate("noop/a", pause("x")).await.unwrap();
    world.mutate("noop/b", pause("x")).await.unwrap();
    world.app.commit_write_backs().await.unwrap();
    assert!(world.file_in("HEAD", "noop/a").contains("interval_sec: 2"));
    assert_eq!(world.state(), "MM desired/schedules/noop/b.yaml");
    assert_eq!(world.git(&["show", ":desired/schedules/noop/b.yaml"]), "interval_sec: 2");
}

#[tokio::test]
async fn what_git_refuses_waits_is_shown_and_fails_no_change() {
    let world = World::in_git_with(&[("noop/a", "interval_sec: 1\n")], commit()).await;
    world.git(&["checkout", "-q", "--detach"]);
    world.mutate("noop/a", pause("flood")).await.unwrap();
    world.app.commit_write_backs().await.unwrap_err();
    let health = world.git_health().await;
    assert_eq!(health.pending, 1);
    assert!(health.last_error.unwrap().contains("HEAD is detached"));
    world.git(&["checkout", "-q", "main"]);

    let lock = world.folder.path().join(".git/index.lock");
    std::fs::write(&lock, "").unwrap();
    world.app.commit_write_backs().await.unwrap_err();
    assert!(world.git_health().await.last_error.unwrap().contains("index.lock"));
    let start = world.head();
    std::fs::remove_file(&lock).unwrap();
    assert!(world.app.commit_write_backs().await.unwrap());
    assert_eq!(world.commits(&start), ["pause noop/a: flood by zoe"]);
    let health = world.git_health().await;
    assert_eq!((health.pending, health.last_error), (0, None));
}

#[tokio::test]
async fn a_change_that_was_taken_back_is_not_committed() {
    let world = World::in_git_with(&[("noop/a", "interval_sec: 1\n")], commit()).await;
    let start = world.head();
    let (path, other) = (world.path("noop/a"), "interval_sec: 9\n");
    world.app.before_exchange.set(vec![Box::new(move || put(path, other))]);
    let refused = world.mutate("noop/a", merge(json!({"interval_sec": 2}))).await;
    assert!(refused.is_err());
    assert!(!world.app.commit_write_backs().await.unwrap());
    assert_eq!(world.head(), start);
    assert_eq!(world.text("noop/a"), other);
}

#[tokio::test]
async fn the_first_commit_of_a_repository_can_be_ours() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("desired/schedules")).unwrap();
    git(folder.path(), &["init", "-q", "-b", "main"]);
    let clock = Clock::manual(START);
    let app = open_in_git(&folder, &clock, commit()).await;
    let world = World { folder, clock, app };
    world.mutate("noop/a", merge(json!({"interval_sec": 5}))).await.unwrap();
    assert!(world.app.commit_write_backs().await.unwrap());
    assert_eq!(world.git(&["log", "--format=%s by %an"]), "create noop/a by zoe");
    assert_eq!(world.state(), "");
}

#[tokio::test]
async fn without_a_work_tree_the_start_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("desired")).unwrap();
    let settings = Settings { desired_dir: folder.path().join("desired"), git: commit(), ..Settings::default() };
    let store = Arc::new(SqliteStore::open(&folder.path().join("data/store.db")).unwrap());
    let connectors = Connectors::all(Arc::new(Noop));
    let app = App::new(settings, Clock::System, store, connectors, Arc::new(Metrics::new(10).unwrap()));
    let error = app.check_git().await.unwrap_err().to_string();
    assert!(error.contains("not lie in a git work tree") && error.contains("COMMAND_CENTER_GIT"), "{error}");
}
