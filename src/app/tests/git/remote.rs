//! A bare remote and another clone of it: pushes, pulls, and what is in their way.

use super::*;

const TEXT: &str = "interval_sec: 1\nlabels:\n  a: x\n  b: y\n  c: z\n";

/// A world whose repository has a remote, and somebody else's clone.
struct Shared {
    world: World,
    other: PathBuf,
    _remote: tempfile::TempDir,
}

async fn shared(modes: GitSettings) -> Shared {
    let remote = tempfile::tempdir().unwrap();
    let bare = remote.path().join("fleet.git");
    git(remote.path(), &["init", "-q", "--bare", "-b", "main", bare.to_str().unwrap()]);
    let world = World::in_git(&[("noop/a", TEXT), ("noop/b", TEXT)]).await;
    world.git(&["remote", "add", "origin", bare.to_str().unwrap()]);
    world.git(&["push", "-q", "-u", "origin", "main"]);
    let other = remote.path().join("other");
    git(remote.path(), &["clone", "-q", bare.to_str().unwrap(), other.to_str().unwrap()]);
    world.app.store.close();
    let World { folder, clock, app } = world;
    drop(app);
    let app = open_in_git(&folder, &clock, modes).await;
    Shared { world: World { folder, clock, app }, other, _remote: remote }
}

fn all() -> GitSettings {
    GitSettings { commit: true, push: true, pull: true, ..GitSettings::default() }
}

impl Shared {
    /// Somebody else commits a file and pushes it.
    fn push_elsewhere(&self, name: &str, text: &str) -> String {
        put(self.other.join("desired").join(file_of(name)), text);
        git(&self.other, &["add", "."]);
        git(&self.other, &["commit", "-q", "--author", BOB, "-m", "elsewhere"]);
        git(&self.other, &["push", "-q"]);
        git(&self.other, &["rev-parse", "HEAD"])
    }

    fn remote_log(&self) -> Vec<String> {
        git(&self.other, &["fetch", "-q"]);
        git(&self.other, &["log", "--format=%s", "origin/main"]).lines().map(str::to_owned).collect()
    }

    async fn health(&self) -> views::GitHealth {
        self.world.app.health().await.desired.git.unwrap()
    }

    fn merges_none(&self) -> bool {
        !self.world.folder.path().join(".git/MERGE_HEAD").exists()
    }
}

fn caller() -> Caller {
    Caller { source: Origin::Ui, actor: "zoe".into() }
}

#[tokio::test]
async fn commits_are_pushed_and_counted() {
    let shared = shared(all()).await;
    let app = &shared.world.app;
    shared.world.mutate("noop/a", merge(json!({"interval_sec": 2}))).await.unwrap();
    app.commit_write_backs().await.unwrap();
    assert_eq!(app.count_ahead().await, Some(1));
    app.push_commits().await.unwrap();
    assert_eq!(shared.remote_log()[0], "update noop/a");
    let health = shared.health().await;
    assert_eq!((health.ahead, health.upstream.as_deref(), health.last_error), (Some(0), Some("origin/main"), None));
}

#[tokio::test]
async fn a_rejected_push_merges_what_others_pushed_and_tries_again() {
    let shared = shared(all()).await;
    let world = &shared.world;
    let theirs = shared.push_elsewhere("noop/b", "interval_sec: 9\n");
    // The same file on other lines, and a change of a person's that is in nobody's way.
    shared.push_elsewhere("noop/a", &TEXT.replace("c: z", "c: zz"));
    world.write("noop/mine", "interval_sec: 3\n");
    world.pass().await;
    let before = world.count().await;
    world.mutate("noop/a", merge(json!({"interval_sec": 2}))).await.unwrap();
    world.app.commit_write_backs().await.unwrap();
    let own = world.git(&["rev-parse", "HEAD"]);
    world.app.push_commits().await.unwrap();
    let log = shared.remote_log();
    assert!(log.contains(&"update noop/a".to_owned()) && log.contains(&"elsewhere".to_owned()), "{log:?}");
    world.git(&["merge-base", "--is-ancestor", &own, "HEAD"]);
    assert_eq!(world.text("noop/a"), TEXT.replace("c: z", "c: zz").replace("sec: 1", "sec: 2"));
    assert_eq!(world.text("noop/mine"), "interval_sec: 3\n");
    world.pass().await;
    let entries = world.whose(before).await;
    assert!(entries.contains(&format!("updated b git {BOB} {theirs}")), "{entries:?}");
    assert_eq!(shared.health().await.ahead, Some(0));
}

#[tokio::test]
async fn a_conflict_keeps_both_sides_and_is_shown() {
    let shared = shared(all()).await;
    let world = &shared.world;
    shared.push_elsewhere("noop/a", &TEXT.replace("sec: 1", "sec: 9"));
    world.mutate("noop/a", merge(json!({"interval_sec": 2}))).await.unwrap();
    world.app.commit_write_backs().await.unwrap();
    let (head, text) = (world.git(&["rev-parse", "HEAD"]), world.text("noop/a"));
    let error = world.app.push_commits().await.unwrap_err().to_string();
    assert!(error.contains("desired/schedules/noop/a.yaml") && error.contains("git merge origin/main"), "{error}");
    assert_eq!((world.git(&["rev-parse", "HEAD"]), world.text("noop/a")), (head, text));
    assert!(shared.merges_none());
    assert_eq!(shared.remote_log()[0], "elsewhere");
    let health = shared.health().await;
    assert_eq!(health.ahead, Some(1));
    assert!(health.last_error.unwrap().starts_with("could not push: the commits here and those of origin/main"));
    // Changes through the API go on.
    world.mutate("noop/a", Edit::Pause { reason: None, until: None }).await.unwrap();
}

#[tokio::test]
async fn a_pull_brings_the_work_tree_forward_in_its_authors_names() {
    let shared = shared(all()).await;
    let world = &shared.world;
    let old = world.git(&["rev-parse", "HEAD"]);
    let before = world.count().await;
    let (nothing, _) = world.app.pull_now(&caller()).await.unwrap();
    assert_eq!((nothing.old_head, nothing.files), (Some(old.clone()), 0));
    let new = shared.push_elsewhere("noop/b", "interval_sec: 9\n");
    // Work that is not in the way stays as it is.
    world.write("noop/a", "interval_sec: 4\n");
    let (pulled, pass) = world.app.pull_now(&caller()).await.unwrap();
    assert_eq!((pulled.old_head, pulled.new_head, pulled.files), (Some(old), Some(new.clone()), 1));
    assert_eq!(pass.changes, 2);
    let expect =
        ["pulled  ui zoe -".to_owned(), "updated a file unknown -".to_owned(), format!("updated b git {BOB} {new}")];
    assert_eq!(world.whose(before).await, expect);
    assert_eq!(world.git(&["status", "--porcelain", "--", "desired"]), "M desired/schedules/noop/a.yaml");
}

#[tokio::test]
async fn uncommitted_work_in_the_way_of_a_pull_is_named_and_left() {
    let shared = shared(GitSettings { pull: true, ..GitSettings::default() }).await;
    let world = &shared.world;
    shared.push_elsewhere("noop/b", "interval_sec: 9\n");
    world.write("noop/b", "interval_sec: 4\n");
    let head = world.git(&["rev-parse", "HEAD"]);
    let Err(AppError::Conflict { detail, .. }) = world.app.pull_now(&caller()).await else {
        panic!("it is in the way")
    };
    assert!(detail.contains("desired/schedules/noop/b.yaml") && detail.contains("commit or stash"), "{detail}");
    assert_eq!((world.git(&["rev-parse", "HEAD"]), world.text("noop/b")), (head, "interval_sec: 4\n".to_owned()));
    assert!(shared.health().await.last_error.unwrap().contains("uncommitted changes are in the way"));
    world.git(&["checkout", "-q", "--", "desired"]);
    world.app.pull_now(&caller()).await.unwrap();
    assert_eq!(shared.health().await.last_error, None);
}

#[tokio::test]
async fn an_open_merge_is_finished_by_nobody_but_its_owner() {
    let shared = shared(all()).await;
    let world = &shared.world;
    shared.push_elsewhere("noop/b", "interval_sec: 9\n");
    std::fs::write(world.folder.path().join(".git/MERGE_HEAD"), world.git(&["rev-parse", "HEAD"])).unwrap();
    let Err(AppError::Conflict { detail, .. }) = world.app.pull_now(&caller()).await else { panic!("a merge is open") };
    assert!(detail.contains("MERGE_HEAD"), "{detail}");
    assert!(world.pass().await.waiting.unwrap().contains("MERGE_HEAD"));
    assert!(!shared.merges_none());
}

#[tokio::test]
async fn a_missing_remote_branch_or_mode_is_said() {
    let shared = shared(GitSettings { pull: true, branch: Some("nope".into()), ..GitSettings::default() }).await;
    let Err(AppError::Conflict { detail, .. }) = shared.world.app.pull_now(&caller()).await else {
        panic!("no branch")
    };
    assert!(detail.contains("origin has no branch nope"), "{detail}");
    let off = World::in_git(&[("noop/a", TEXT)]).await;
    let Err(AppError::Conflict { detail, .. }) = off.app.pull_now(&caller()).await else { panic!("it is off") };
    assert!(detail.contains("COMMAND_CENTER_GIT=pull"), "{detail}");
}
