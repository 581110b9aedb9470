//! The application in a git work tree: whose edits they are, and waiting while git is at work.

mod commits;
mod remote;

use std::path::Path;
use std::process::Command;

use super::*;
use crate::settings::GitSettings;

const ANN: &str = "Ann <ann@example.com>";
const BOB: &str = "Bob <bob@example.com>";

/// Runs git as a person would, untouched by this machine's settings.
fn git(folder: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=Ann", "-c", "user.email=ann@example.com"])
        .args(args)
        .current_dir(folder)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output()
        .unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {args:?}: {complaint}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

async fn open_in_git(folder: &tempfile::TempDir, clock: &Clock, git: GitSettings) -> Arc<App> {
    let settings = Settings { desired_dir: folder.path().join("desired"), git, ..Settings::default() };
    let store = Arc::new(SqliteStore::open(&folder.path().join("data/store.db")).unwrap());
    let connectors = Connectors::all(Arc::new(Noop));
    let metrics = Arc::new(Metrics::new(10).unwrap());
    let app = App::new(settings, clock.clone(), store, connectors, metrics);
    app.check_git().await.unwrap();
    app.bring_up().await.unwrap();
    app
}

impl World {
    /// A work tree around the desired directory with everything committed, seen by a pass.
    async fn in_git(files: &[(&str, &str)]) -> World {
        World::in_git_with(files, GitSettings::default()).await
    }

    async fn in_git_with(files: &[(&str, &str)], settings: GitSettings) -> World {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            put(folder.path().join("desired").join(file_of(name)), text);
        }
        git(folder.path(), &["init", "-q", "-b", "main"]);
        git(folder.path(), &["add", "desired"]);
        git(folder.path(), &["commit", "-q", "--author", ANN, "-m", "first"]);
        let clock = Clock::manual(START);
        let app = open_in_git(&folder, &clock, settings).await;
        World { folder, clock, app }
    }

    /// As `restart`, with the same settings.
    async fn start_again(self) -> World {
        self.app.store.close();
        let settings = self.app.settings.git.clone();
        let World { folder, clock, app } = self;
        drop(app);
        let app = open_in_git(&folder, &clock, settings).await;
        World { folder, clock, app }
    }

    fn git(&self, args: &[&str]) -> String {
        git(self.folder.path(), args)
    }

    /// Commits everything below the desired directory.
    fn commit(&self, author: &str, message: &str) -> String {
        self.git(&["add", "desired"]);
        self.git(&["commit", "-q", "--allow-empty", "--author", author, "-m", message]);
        self.git(&["rev-parse", "HEAD"])
    }

    fn remove(&self, name: &str) {
        std::fs::remove_file(self.path(name)).unwrap();
    }

    /// `operation tenant source actor commit` of the entries after the first `skip`, sorted.
    async fn whose(&self, skip: usize) -> Vec<String> {
        let query = AuditQuery { limit: 1000, ..AuditQuery::default() };
        let mut entries = self.app.store.audit_page(query).await.unwrap();
        entries.reverse();
        let mut lines: Vec<String> = entries[skip..]
            .iter()
            .map(|entry| {
                let entry = entry.view();
                let operation = entry.operation.rsplit('.').next().unwrap().to_owned();
                let commit = entry.metadata["commit"].as_str().unwrap_or("-").to_owned();
                format!("{operation} {} {} {} {commit}", entry.tenant, entry.source, entry.actor)
            })
            .collect();
        lines.sort();
        lines
    }

    async fn count(&self) -> usize {
        self.audit().await.len()
    }
}

#[tokio::test]
async fn a_commit_s_author_stands_behind_its_files_and_nobody_behind_what_is_not_committed() {
    let files = [("noop/a", "interval_sec: 1\n"), ("noop/b", "interval_sec: 1\n"), ("noop/c", "interval_sec: 1\n")];
    let world = World::in_git(&files).await;
    let before = world.count().await;
    world.write("noop/a", "interval_sec: 2\n");
    world.write("noop/b", "interval_sec: 2\n");
    world.commit(ANN, "both");
    world.write("noop/b", "interval_sec: 3\n");
    world.write("noop/new", "interval_sec: 3\n");
    let second = world.commit(BOB, "one of them and a new one");
    world.write("noop/c", "interval_sec: 4\n");
    world.write("noop/stray", "interval_sec: 4\n");
    world.pass().await;
    let first = world.git(&["rev-parse", "HEAD~1"]);
    let mut expect = vec![
        format!("updated a git {ANN} {first}"),
        format!("updated b git {BOB} {second}"),
        format!("created new git {BOB} {second}"),
        "updated c file unknown -".to_owned(),
        "created stray file unknown -".to_owned(),
    ];
    expect.sort();
    assert_eq!(world.whose(before).await, expect);
    // HEAD stands still: what is saved now is nobody's, and committing it afterwards changes nothing.
    let before = world.count().await;
    world.write("noop/a", "interval_sec: 5\n");
    world.pass().await;
    world.commit(BOB, "too late");
    world.pass().await;
    assert_eq!(world.whose(before).await, ["updated a file unknown -"]);
    assert_eq!(world.app.health().await.desired.commit, Some(world.git(&["rev-parse", "HEAD"])));
}

#[tokio::test]
async fn a_commit_edited_once_more_before_the_pass_is_nobody_s() {
    let world = World::in_git(&[("noop/a", "interval_sec: 1\n")]).await;
    let before = world.count().await;
    world.write("noop/a", "interval_sec: 2\n");
    world.commit(BOB, "two");
    world.write("noop/a", "interval_sec: 3\n");
    world.pass().await;
    assert_eq!(world.whose(before).await, ["updated a file unknown -"]);
}

#[tokio::test]
async fn deletions_broken_files_and_restarts_keep_the_commit() {
    let world = World::in_git(&[("noop/a", "interval_sec: 1\n"), ("noop/b", "interval_sec: 1\n")]).await;
    let before = world.count().await;
    world.remove("noop/a");
    world.write("noop/b", "interval_sec: soon\n");
    let commit = world.commit(BOB, "one goes, one breaks");
    let world = world.restart().await;
    let Clock::Manual(now) = &world.clock else { unreachable!() };
    now.fetch_add(2_100, std::sync::atomic::Ordering::SeqCst);
    world.pass().await;
    let expect = [format!("deleted a git {BOB} {commit}"), format!("invalid b git {BOB} {commit}")];
    assert_eq!(world.whose(before).await, expect);
}

#[tokio::test]
async fn a_switch_of_branches_is_one_pass_and_knows_the_older_commits() {
    let names: Vec<String> = (0..60).map(|n| format!("noop/t{n}")).collect();
    let files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "interval_sec: 1\n")).collect();
    let world = World::in_git(&files).await;
    let old = world.git(&["rev-parse", "HEAD"]);
    world.git(&["checkout", "-q", "-b", "next"]);
    for name in &names {
        world.write(name, "interval_sec: 2\n");
    }
    let new = world.commit(BOB, "all of them");
    world.pass().await;
    for (branch, author, commit) in [("main", ANN, &old), ("next", BOB, &new)] {
        let before = world.count().await;
        world.git(&["checkout", "-q", branch]);
        let hinted = vec![names[3].parse().unwrap()];
        assert!(world.app.reconcile_hinted(hinted).await.unwrap(), "a full pass is wanted");
        assert_eq!(world.count().await, before, "nothing is applied by the piece");
        assert_eq!(world.pass().await.changes, 60);
        let mut expect: Vec<String> = (0..60).map(|n| format!("updated t{n} git {author} {commit}")).collect();
        expect.sort();
        assert_eq!(world.whose(before).await, expect);
    }
}

#[tokio::test]
async fn while_git_is_at_work_nothing_is_read_and_the_brake_holds() {
    let world = World::in_git(&[("noop/a", "interval_sec: 1\n")]).await;
    let lock = world.folder.path().join(".git/index.lock");
    std::fs::write(&lock, "").unwrap();
    world.write("noop/a", "interval_sec: 2\n");
    let report = world.pass().await;
    assert!(report.waiting.unwrap().contains("(index.lock)"));
    assert_eq!(world.status("noop/a").await.unwrap().interval_sec, Some(1));
    assert!(world.app.reconcile_hinted(vec!["noop/a".parse().unwrap()]).await.unwrap());

    let caller = Caller { source: Origin::Ui, actor: "zoe".into() };
    let id: ScheduleId = "noop/a".parse().unwrap();
    world.app.pull_brake(None, "flood".into(), &caller).await.unwrap();
    assert!(world.app.is_braked(&id));
    world.app.release_brake(None, &caller).await.unwrap();
    assert!(!world.app.is_braked(&id));

    // A lock that outlived its owner is named with its age and the remedy.
    let hour_ago = std::time::UNIX_EPOCH + Duration::from_millis(Clock::System.now().cast_unsigned() - 3_600_000);
    std::fs::File::options().write(true).open(&lock).unwrap().set_modified(hour_ago).unwrap();
    world.pass().await;
    let message = world.app.health().await.desired.message.unwrap();
    assert!(message.contains("index.lock since 1h") && message.contains("remove index.lock"), "{message}");
    let error = tokio::time::timeout(
        Duration::from_secs(20),
        world.mutate("noop/a", Edit::Pause { reason: None, until: None }),
    );
    assert!(matches!(error.await.unwrap(), Err(AppError::Busy { .. })));

    // A start does not read either; what ran before runs on.
    let world = world.restart().await;
    assert_eq!(world.status("noop/a").await.unwrap().interval_sec, Some(1));
    std::fs::remove_file(&lock).unwrap();
    assert_eq!(world.pass().await.changes, 1);
    assert_eq!(world.status("noop/a").await.unwrap().interval_sec, Some(2));
}

#[tokio::test]
async fn a_commit_of_defaults_stands_behind_all_it_moves() {
    let world = World::in_git(&[("noop/a", "labels: {}\n"), ("noop/_defaults", "interval_sec: 600\n")]).await;
    let before = world.count().await;
    world.write("noop/_defaults", "interval_sec: 60\n");
    let commit = world.commit(BOB, "all of them faster");
    world.pass().await;
    let expect = [format!("changed  git {BOB} {commit}"), format!("updated a git {BOB} {commit}")];
    assert_eq!(world.whose(before).await, expect);
    let revision = world.app.health().await.desired.revision;
    world.write("noop/_defaults", "interval_sec: 60 # enough\n");
    world.pass().await;
    assert_ne!(world.app.health().await.desired.revision, revision, "the listing is another");
}

#[tokio::test]
async fn at_the_first_look_the_author_is_known_though_nothing_came_by_git() {
    let world = World::in_git(&[("noop/a", "interval_sec: 1\n"), ("noop/b", "interval_sec: 1\n")]).await;
    let commit = world.git(&["rev-parse", "HEAD"]);
    assert_eq!(
        world.whose(0).await,
        [format!("created a file {ANN} {commit}"), format!("created b file {ANN} {commit}")]
    );
}
