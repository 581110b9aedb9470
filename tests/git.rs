//! The real program in a real work tree: what it commits, pushes and pulls by itself, and that a kill
//! loses none of it.

mod common;

use std::path::Path;
use std::process::Command;

use common::{Options, Server, at, eventually, hold, text};
use serde_json::{Value, json};

/// Runs git as a person would, untouched by this machine's settings.
fn git(folder: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=Ann", "-c", "user.email=ann@example.com"])
        .args(args)
        .current_dir(folder)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output()
        .expect("git runs");
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A home whose desired directory is committed and pushed to a bare remote beside it.
fn prepared(modes: &str) -> Server {
    let options = Options::default().noop("a", "interval_sec: 300\n").noop("b", "interval_sec: 300\n");
    let server =
        Server::prepare(options.env("COMMAND_CENTER_GIT", modes).env("COMMAND_CENTER_GIT_PULL_INTERVAL", "0.2"));
    let home = server.path("");
    git(&home, &["init", "-q", "-b", "main"]);
    git(&home, &["add", "desired"]);
    git(&home, &["commit", "-q", "-m", "first"]);
    git(&home, &["init", "-q", "--bare", "-b", "main", "remote.git"]);
    git(&home, &["remote", "add", "origin", "./remote.git"]);
    git(&home, &["push", "-q", "-u", "origin", "main"]);
    server
}

fn subjects(server: &Server, repository: &str) -> Vec<String> {
    git(&server.path(repository), &["log", "--format=%s", "main"]).lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn a_pause_is_committed_pushed_and_nobody_waits_for_it() {
    let mut server = prepared("push");
    server.launch().await;
    let pause = server.act("pause", "a").header("X-User-Name", "Zoe Archer").json(&json!({"reason": "CRM outage"}));
    let answer = pause.send().await.expect(200);
    eventually("the commit is at the remote", async || {
        let found = subjects(&server, "remote.git");
        hold(found[0] == "pause noop/a: CRM outage", &format!("{found:?}"))
    })
    .await;
    let shown = git(&server.path(""), &["log", "-1", "--format=%an|%(trailers:key=Command-Center-Action,valueonly)"]);
    assert_eq!(shown, format!("Zoe Archer|{}", text(&answer, "/action_id")));
    assert_eq!(git(&server.path(""), &["status", "--porcelain", "--", "desired"]), "");
    let well = |health: &Value| {
        let git = at(health, "/desired/git");
        git["ahead"] == 0 && git["pending"] == 0 && git["last_error"].is_null()
    };
    server.until_health("nothing is left to push", well).await;
    server.passes(2).await;
    assert_eq!(server.audit("tenant=a").await.len(), 2, "created and paused: its own commit is no change");
    server.stop().await;
}

#[tokio::test]
async fn a_kill_loses_no_commit() {
    let mut server = prepared("commit");
    server.launch().await;
    for round in 0..4 {
        let interval = 400 + round;
        for tenant in ["a", "b"] {
            server.put(tenant, &json!({"interval_sec": interval})).await;
        }
        server.kill9();
        // A lock that a killed git command left would be a person's to remove.
        let _ = std::fs::remove_file(server.path(".git/index.lock"));
        server.launch().await;
    }
    eventually("all are committed", async || {
        let found = subjects(&server, "");
        hold(found.len() == 9, &format!("{found:?}"))
    })
    .await;
    assert_eq!(git(&server.path(""), &["status", "--porcelain", "--", "desired"]), "");
    server.stop().await;
}

#[tokio::test]
async fn what_others_push_is_followed_and_can_be_asked_for() {
    let mut server = prepared("pull");
    server.launch().await;
    let other = server.path("other");
    git(&server.path(""), &["clone", "-q", "remote.git", "other"]);
    std::fs::write(other.join("desired/schedules/noop/b.yaml"), "interval_sec: 77\n").expect("an edit");
    git(&other, &["commit", "-q", "--author", "Bob <bob@example.com>", "-am", "faster"]);
    git(&other, &["push", "-q"]);
    server.until("the pulled interval", "b", |status| status["interval_sec"] == 77).await;
    let entry = server.until_audit("tenant=b&operation=scheduler.schedule.updated", |_| true).await;
    assert_eq!((text(&entry, "/source"), text(&entry, "/actor")), ("git", "Bob <bob@example.com>"));
    assert_eq!(text(&entry, "/metadata/commit"), git(&other, &["rev-parse", "HEAD"]));
    let answer = server.post("/ops/git/pull").ops().send().await.expect(200);
    assert_eq!((&answer["files"], &answer["old_head"]), (&json!(0), &answer["new_head"]));

    std::fs::write(other.join("desired/schedules/noop/b.yaml"), "interval_sec: 78\n").expect("an edit");
    git(&other, &["commit", "-q", "-am", "slower"]);
    server.write("schedules/noop/b.yaml", "interval_sec: 79\n");
    git(&other, &["push", "-q"]);
    let refused = server.post("/ops/git/pull").ops().send().await.problem(409);
    assert!(text(&refused, "/detail").contains("noop/b.yaml"), "{refused}");
    assert_eq!(server.read("schedules/noop/b.yaml"), "interval_sec: 79\n");
    server.stop().await;
}

#[tokio::test]
async fn without_a_repository_to_work_with_git_is_degraded_and_the_rest_goes_on() {
    let goes_on = async |mut server: Server, expect: &str| {
        server.launch().await;
        let is_told = |health: &Value| {
            let loops = at(health, "/loops/loops").as_array().cloned().unwrap_or_default();
            let keeper = loops.into_iter().find(|known| known["name"] == "git-keeper").unwrap_or_default();
            keeper["state"] == "degraded" && text(&keeper, "/last_error").contains(expect)
        };
        server.until_health(expect, is_told).await;
        server.act("pause", "a").send().await.expect(200);
        assert!(server.read("schedules/noop/a.yaml").contains("paused: true"));
        server.stop().await;
    };
    let options = || Options::default().noop("a", "interval_sec: 300\n").env("COMMAND_CENTER_GIT", "commit");
    goes_on(Server::prepare(options()), "does not lie in a git work tree").await;
    let server = prepared("push");
    git(&server.path(""), &["remote", "remove", "origin"]);
    goes_on(server, "has no remote").await;
    goes_on(Server::prepare(options().env("PATH", "")), "git program was not found").await;
}
