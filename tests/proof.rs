//! The audit log's proof with the real binary: checkpoints that lie elsewhere, a log that was cut, rewritten
//! or put back, a key that is lost, and the script that needs none of this program.

mod common;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use common::{Options, Server, text};
use serde_json::{Value, json};

async fn busy(rounds: usize) -> Server {
    let server = Options::default()
        .env("COMMAND_CENTER_CHECKPOINT_INTERVAL_SEC", "1")
        .noop("a", "interval_sec: 300\n")
        .start()
        .await;
    act(&server, rounds).await;
    server
}

async fn act(server: &Server, rounds: usize) {
    for _ in 0..rounds {
        server.act("pause", "a").send().await.expect(200);
        server.act("resume", "a").send().await.expect(200);
    }
}

/// Has the newest checkpoint and the key written to files outside the data directory.
async fn keep(server: &Server, at_least: i64) -> (PathBuf, String) {
    let is_signed = |health: &Value| health["db"]["audit"]["checkpoint"]["seq"].as_i64() >= Some(at_least);
    server.until_health("a checkpoint", is_signed).await;
    let file = server.path("kept.txt");
    server.cli(&["audit", "checkpoint", "--out", file.to_str().expect("a path")]).expect(0);
    let key = server.cli(&["audit", "key"]).expect(0).out.trim().to_owned();
    (file, key)
}

fn script(server: &Server, args: &[&str]) -> (i32, String) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/verify_audit.py");
    let ended = Command::new("python3").arg("-B").arg(script).args(args).current_dir(server.path("")).output();
    let ended = ended.expect("python3 runs");
    let said = [ended.stdout, ended.stderr].concat();
    (ended.status.code().unwrap_or(-1), String::from_utf8_lossy(&said).into_owned())
}

/// Every hash made anew, as somebody would who can write the database: the script's own chain is turned round.
fn rewrite(server: &Server) {
    let sql = server.sql();
    sql.execute("UPDATE audit SET actor = 'mallory' WHERE seq = 2", []).expect("by hand");
    let program = r#"
import hashlib, json, sqlite3, sys
from datetime import datetime, timezone
db = sqlite3.connect(sys.argv[1])
prev = bytes(32)
for row in db.execute("SELECT seq, at_ms, tenant, connector, operation, source, actor, action_id, metadata FROM audit ORDER BY seq").fetchall():
    seq, at, tenant, connector, operation, source, actor, action, metadata = row
    iso = datetime.fromtimestamp(at // 1000, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S") + ".%03dZ" % (at % 1000)
    entry = dict(action_id=action, actor=actor, connector=connector, metadata=json.loads(metadata), operation=operation,
                 prev_hash=prev.hex(), seq=seq, source=source, tenant=tenant, ts_iso=iso)
    text = json.dumps(entry, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    digest = hashlib.sha256(text.encode()).digest()
    db.execute("UPDATE audit SET prev_hash = ?, hash = ? WHERE seq = ?", (prev, digest, seq))
    prev = digest
db.execute("UPDATE facts SET value = ? WHERE name = 'audit_head'", ("%d:%s" % (seq, prev.hex()),))
db.commit()
"#;
    let ended = Command::new("python3").args(["-c", program]).arg(server.database()).status().expect("python3 runs");
    assert!(ended.success());
}

/// Everything that the server wrote since its last start.
fn log(server: &Server) -> String {
    format!("{}{}", server.log("stdout"), server.log("stderr"))
}

fn verdict(server: &Server, args: &[&str], code: i32) -> Value {
    let args: Vec<&str> = ["audit", "verify", "--output", "json"].iter().chain(args).copied().collect();
    server.offline(&args).expect(code).json()
}

#[tokio::test]
async fn a_whole_new_chain_and_a_cut_end_show_against_what_was_signed() {
    let mut server = busy(4).await;
    let (kept, key) = keep(&server, 9).await;
    let kept = kept.to_str().expect("a path").to_owned();
    act(&server, 2).await;
    server.cli(&["audit", "verify"]).expect(0).says("checkpoint");
    server.cli(&["audit", "verify", "--checkpoint", &kept, "--key", &key]).expect(0).says("continue");
    server.stop().await;
    let whole = verdict(&server, &["--checkpoint", &kept, "--key", &key], 0);
    assert_eq!((&whole["valid"], &whole["total_entries"]), (&json!(true), &json!(13)), "{whole}");
    assert_eq!(whole["anchored_seq"], 13, "the orderly stop signed the end: {whole}");

    let before = fs::read(server.database()).expect("the database");
    rewrite(&server);
    let found = verdict(&server, &[], 1);
    assert!(found["message"].as_str().expect("text").contains("was rewritten"), "{found}");
    // Whoever takes the kept checkpoints away as well is caught by the one that lies elsewhere.
    fs::rename(server.path("data/checkpoints"), server.path("gone")).expect("renamed");
    verdict(&server, &[], 0);
    let found = verdict(&server, &["--checkpoint", &kept, "--key", &key], 1);
    assert!(found["message"].as_str().expect("text").contains("was rewritten"), "{found}");

    fs::write(server.database(), before).expect("put back");
    let sql = server.sql();
    sql.execute("DELETE FROM audit WHERE seq > 5", []).expect("by hand");
    let hash: String =
        sql.query_row("SELECT lower(hex(hash)) FROM audit WHERE seq = 5", [], |row| row.get(0)).expect("an entry");
    sql.execute("UPDATE facts SET value = ?1 WHERE name = 'audit_head'", [format!("5:{hash}")]).expect("by hand");
    drop(sql);
    verdict(&server, &[], 0);
    let found = verdict(&server, &["--checkpoint", &kept, "--key", &key], 1);
    assert!(found["message"].as_str().expect("text").contains("its end is gone"), "{found}");

    // With the kept ones back, the next start sees it without being asked, and says so.
    fs::rename(server.path("gone"), server.path("data/checkpoints")).expect("renamed");
    server.launch().await;
    let health = server.health().await;
    assert_eq!((&health["db"]["status"], &health["db"]["audit"]["valid"]), (&json!(0), &json!(false)), "{health}");
    server.cli(&["audit", "verify"]).expect(1).says("its end is gone");
    let broken = server.get("/api/crm/import/noop/audit?operation=audit.chain.broken").ops().send().await.expect(200);
    assert_eq!(broken["entries"].as_array().map(Vec::len), Some(1), "{broken}");
    let accept = json!({"after": 5, "reason": "put back from a copy"});
    server.post("/ops/audit/set-aside").role("operator").json(&accept).send().await.problem(403);
    let answer = server.post("/ops/audit/set-aside").role("admin").json(&accept).send().await.expect(200);
    assert!(answer["checkpoints"].as_u64().is_some_and(|moved| moved > 0), "{answer}");
    server.cli(&["audit", "verify"]).expect(0);
}

#[tokio::test]
async fn what_proves_nothing_is_told_from_tampering() {
    let server = busy(2).await;
    let (kept, key) = keep(&server, 5).await;
    let text = fs::read_to_string(&kept).expect("the checkpoint");
    let post = async |checkpoint: &str, key: Option<&str>| {
        server.post("/ops/audit/verify").ops().json(&json!({"checkpoint": checkpoint, "key": key})).send().await
    };
    assert_eq!(post(&text, None).await.expect(200)["valid"], true);
    assert_eq!(post(&text, Some(&key)).await.expect(200)["valid"], true);
    let forged = text.replacen("\ntime 2", "\ntime 1", 1);
    let found = post(&forged, None).await.expect(200);
    assert!(
        found["valid"] == false && found["message"].as_str().expect("text").contains("signature is wrong"),
        "{found}"
    );
    post("hello", None).await.problem(409);
    post(&text, Some("hello")).await.problem(409);

    let other = busy(1).await;
    let (foreign, foreign_key) = keep(&other, 3).await;
    let foreign = foreign.to_str().expect("a path");
    server.cli(&["audit", "verify", "--checkpoint", foreign]).expect(2).says("no key is known here");
    server.cli(&["audit", "verify", "--checkpoint", foreign, "--key", &foreign_key]).expect(2).says("another store");
    let database = server.database();
    let offline = ["audit", "verify", "--dsn", database.to_str().expect("a path"), "--checkpoint", foreign];
    server.offline(&offline).expect(2).says("no key is known here");
    server.offline(&["audit", "verify", "--checkpoint", "no-such-file"]).expect(2);
}

#[tokio::test]
async fn a_lost_key_is_replaced_and_the_audit_says_so() {
    let mut server = busy(1).await;
    let (kept, old) = keep(&server, 3).await;
    server.stop().await;
    fs::remove_file(server.path("data/audit.key")).expect("removed");
    server.launch().await;
    let new = server.cli(&["audit", "key"]).expect(0).out.trim().to_owned();
    assert_ne!(new, old);
    let page = server.get("/api/crm/import/noop/audit?operation=audit.key.replaced").ops().send().await.expect(200);
    let metadata = &page["entries"][0]["metadata"];
    assert_eq!(
        (metadata["from"].as_str(), metadata["to"].as_str()),
        (Some(old.as_str()), Some(new.as_str())),
        "{page}"
    );
    let kept = kept.to_str().expect("a path");
    server.cli(&["audit", "verify", "--checkpoint", kept]).expect(0);
    let secret = fs::read_to_string(server.path("data/audit.key")).expect("the key");
    let seed = secret.trim().rsplit('+').next().expect("a seed");
    assert!(!log(&server).contains(seed), "the key is in the log");

    server.stop().await;
    fs::write(server.path("data/audit.key"), "spoiled").expect("written");
    server.launch().await;
    let health = server.health().await;
    let message = health["db"]["audit"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("holds no audit key"), "{health}");
    server.act("pause", "a").send().await.expect(200);
    server.get("/ops/audit/checkpoint").ops().send().await.problem(404);
}

#[tokio::test]
async fn the_script_checks_an_export_by_itself() {
    let server = busy(3).await;
    let (kept, key) = keep(&server, 7).await;
    act(&server, 1).await;
    let export = server.path("audit.jsonl");
    let out = export.to_str().expect("a path");
    server.cli(&["audit", "export", "--all", "--format", "jsonl", "--out", out]).expect(0);
    let kept = kept.to_str().expect("a path");
    let (code, said) = script(&server, &[out]);
    assert!(code == 0 && said.contains("valid: 9 entries"), "{said}");
    let (code, said) = script(&server, &[out, "--checkpoint", kept, "--key", &key]);
    assert!(code == 0 && said.contains("continues the checkpoint of entry 7"), "{said}");

    let text = fs::read_to_string(&export).expect("the export");
    let bad = server.path("bad.jsonl");
    let check = |text: &str, code: i32, says: &str| {
        fs::write(&bad, text).expect("written");
        let (ended, said) = script(&server, &["bad.jsonl", "--checkpoint", kept, "--key", &key]);
        assert!(ended == code && said.contains(says), "{ended}: {said}");
    };
    check(&text.replacen("scheduler.schedule.paused", "scheduler.schedule.resumed", 1), 1, "was changed");
    let newest_six = text.lines().skip(3).map(|line| format!("{line}\n")).collect::<String>();
    check(&newest_six, 1, "its end is gone");
    check("{}", 2, "no audit entry");
    let note = fs::read_to_string(kept).expect("the checkpoint");
    fs::write(server.path("forged.txt"), note.replacen("\n7\n", "\n6\n", 1)).expect("written");
    let (code, said) = script(&server, &[out, "--checkpoint", "forged.txt", "--key", &key]);
    assert!(code == 1 && said.contains("signature is wrong"), "{said}");
}

#[tokio::test]
async fn checkpoints_are_posted_until_they_are_taken() {
    use std::io::{Read as _, Write as _};
    let receiver = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/notes?token=hush", receiver.local_addr().expect("an address"));
    let server = Options::default()
        .env("COMMAND_CENTER_CHECKPOINT_INTERVAL_SEC", "1")
        .env("COMMAND_CENTER_CHECKPOINT_URL", &url)
        .noop("a", "interval_sec: 300\n")
        .start()
        .await;
    let taken = tokio::task::spawn_blocking(move || {
        let mut bodies = Vec::new();
        for answer in ["503 Busy", "200 OK"] {
            let (mut stream, _) = receiver.accept().expect("a sender");
            let mut received = Vec::new();
            let mut piece = [0; 4096];
            while !received.ends_with(b"=\n") {
                let count = stream.read(&mut piece).expect("a body");
                received.extend_from_slice(&piece[..count]);
                if count == 0 {
                    break;
                }
            }
            let reply = format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(reply.as_bytes()).expect("an answer");
            bodies.push(String::from_utf8_lossy(&received).into_owned());
        }
        bodies
    });
    let bodies = taken.await.expect("two posts");
    assert!(
        bodies.iter().all(|body| body.starts_with("POST /notes?token=hush") && body.contains("command-center/")),
        "{bodies:?}"
    );
    server.until_health("a posted checkpoint", |health| health["db"]["audit"]["checkpoint"]["posted"] == true).await;
    let metrics = server.get("/metrics").send().await.text();
    assert!(metrics.contains("command_center_audit_checkpoint_posts_total{outcome=\"failed\"} 1"), "{metrics}");
    assert!(!log(&server).contains("hush"), "the address is in the log");
}

#[tokio::test]
async fn old_entries_are_sealed_and_read_on_whatever_kills_the_program() {
    let mut options = Options::default()
        .env("COMMAND_CENTER_AUDIT_LIVE", "1000")
        .env("COMMAND_CENTER_CHECKPOINT_INTERVAL_SEC", "1")
        .env("COMMAND_CENTER_AUDIT_VERIFY_INTERVAL_SEC", "1");
    for n in 0..3300 {
        options = options.noop(&format!("t{n:04}"), "interval_sec: 86400\n");
    }
    let mut server = options.start().await;
    let entries = 3300;
    for round in 0..6u64 {
        tokio::time::sleep(std::time::Duration::from_millis(300 * round)).await;
        server.kill9();
        let found = verdict(&server, &[], 0);
        assert!(found["total_entries"].as_u64() >= Some(entries), "{found}");
        server.launch().await;
    }
    server.until_health("a verification", |health| health["db"]["audit"]["valid"] == true).await;
    let sealed = |facts: &Value| facts["audit_sealed"]["entries"].as_u64();
    let facts = common::eventually("a sealed block", async || {
        let facts = server.get("/ops/db").ops().send().await.expect(200);
        common::hold(sealed(&facts) >= Some(2000), &facts).map(|()| facts)
    })
    .await;
    assert!(
        facts["rows"]["audit"].as_u64() < Some(2000) && facts["limits"]["audit"]["live_entries"] == 1000,
        "{facts}"
    );
    assert!(facts["table_bytes"]["audit_segments"].as_u64() > Some(0), "{facts}");
    let export = server.cli(&["audit", "export", "--all", "--format", "jsonl"]).expect(0);
    // Files are read side by side: whose entry stands in the first block differs from run to run.
    let entries = export.out.lines().map(|line| serde_json::from_str::<Value>(line).expect("an entry"));
    let created = entries.filter(|entry| entry["operation"] == "scheduler.schedule.created");
    let oldest = created.min_by_key(|entry| entry["seq"].as_u64()).expect("a schedule");
    let of_oldest = format!("/api/crm/import/noop/audit?tenant={}", text(&oldest, "/tenant"));
    let first = server.get(&of_oldest).ops().send().await.expect(200);
    assert!(first["entries"].as_array().expect("entries").contains(&oldest), "{first}");
    fs::write(server.path("all.jsonl"), &export.out).expect("written");
    let (code, said) = script(&server, &["all.jsonl"]);
    assert!(code == 0 && said.starts_with("valid: "), "{said}");
    server.kill9();
    let sql = server.sql();
    let packed: Vec<u8> =
        sql.query_row("SELECT packed FROM audit_segments WHERE first_seq = 1", [], |row| row.get(0)).expect("a block");
    let mut spoiled = packed;
    spoiled[100] ^= 1;
    sql.execute("UPDATE audit_segments SET packed = ?1 WHERE first_seq = 1", [spoiled]).expect("by hand");
    drop(sql);
    let found = verdict(&server, &[], 1);
    assert!(found["message"].as_str().expect("text").contains("entries 1 to 500 are damaged"), "{found}");
    server.launch().await;
    server.until_health("the damage to be noticed", |health| health["db"]["audit"]["valid"] == false).await;
    assert!(server.get("/readyz").send().await.code() == 200, "a damaged log keeps nobody from working");
    server.get(&of_oldest).ops().send().await.problem(500);
}

#[tokio::test]
async fn a_store_that_was_healed_says_how_far_the_log_had_come_and_is_vouched_for_anew() {
    let mut server = busy(1).await;
    keep(&server, 3).await;
    // A stop makes a snapshot.
    server.stop().await;
    server.launch().await;
    act(&server, 2).await;
    server.until_health("a checkpoint", |health| health["db"]["audit"]["checkpoint"]["seq"] == 7).await;
    server.kill9();
    let mut bytes = fs::read(server.database()).expect("the database");
    let spoiled = bytes.len().min(4096);
    bytes[..spoiled].fill(0x5a);
    fs::write(server.database(), bytes).expect("spoiled");
    server.launch().await;
    let entries = server.audit("scope=all").await;
    let of = |operation: &str| entries.iter().filter(|entry| entry["operation"] == operation).collect::<Vec<_>>();
    let restored = of("ops.store.restored");
    assert!(restored.len() == 1 && restored[0]["metadata"]["last_lost_seq"] == 7, "{entries:?}");
    assert_eq!((of("audit.checkpoints.set_aside").len(), of("audit.chain.broken").len()), (1, 0), "{entries:?}");
    server.cli(&["audit", "verify"]).expect(0);
}

#[tokio::test]
async fn checkpoints_lie_beside_the_replica() {
    let place = tempfile::tempdir().expect("a folder");
    let server = Options::default()
        .env("COMMAND_CENTER_CHECKPOINT_INTERVAL_SEC", "1")
        .env("COMMAND_CENTER_REPLICATION", "on")
        .env("COMMAND_CENTER_REPLICATION_URL", &format!("file://{}", place.path().display()))
        .noop("a", "interval_sec: 300\n")
        .start()
        .await;
    act(&server, 1).await;
    server.until_health("an anchored one", |health| health["db"]["audit"]["checkpoint"]["in_replica"] == true).await;
    let folder = fs::read_dir(place.path().join("checkpoints")).expect("a folder of checkpoints");
    let file = folder.flatten().next().expect("a checkpoint").path();
    server.cli(&["audit", "verify", "--checkpoint", file.to_str().expect("a path")]).expect(0).says("continue");
}
