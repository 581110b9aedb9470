//! Replication with the real binary: to a folder, and to a server that speaks S3 (moto, from PyPI) behind a proxy that
//! fails, lies, is slow and cuts off. The server is killed, and what comes back is compared.
//!
//! moto is installed once; where that cannot be done the test fails and says why, unless it is left out by
//! REPLICATION_S3=off.

mod common;

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use common::pypi::installed;
use common::{Options, Server, at, eventually, free_addr, hold, text};
use serde_json::{Value, json};

const MOTO: &str = "5.2.5";
const INSTALL: Duration = Duration::from_secs(170);
const BUCKET: &str = "replica";

async fn replication(server: &Server) -> Value {
    server.get("/ops/replication").ops().send().await.expect(200)
}

/// Waits until all that was answered can be restored.
async fn whole(server: &Server) -> Value {
    eventually("the replica is whole", async || {
        let view = replication(server).await;
        hold(view["state"] == "streaming" && view["lag_entries"] == 0 && view["lag_sec"] == 0.0, &view)?;
        Ok(view)
    })
    .await
}

async fn set(server: &Server, tenant: &str, interval: u32) {
    server.put(tenant, &json!({"interval_sec": interval})).await;
}

/// The etags by tenant, of all that is there.
async fn etags(server: &Server) -> Vec<(String, String)> {
    let all = server.statuses("noop").await;
    assert!(!all.is_empty(), "there are some");
    all.into_iter().map(|(tenant, status)| (tenant, text(&status, "/etag").to_owned())).collect()
}

/// Restores from `url` into a new home, serves from it and holds it against what had been.
async fn comes_back(url: &str, env: &[(&str, &str)], before: &[(String, String)], seq: i64) {
    let mut options = Options::default();
    for (name, value) in env {
        options = options.env(name, value);
    }
    let mut home = Server::prepare(options);
    let data = home.path("data");
    std::fs::remove_dir_all(home.path("desired")).expect("removed");
    let data = data.to_string_lossy();
    let ended = home.cli(&["restore", "--from", url, "--data-dir", &data, "--write-desired", "--output", "json"]);
    let told = ended.expect(0).json();
    assert_eq!(at(&told, "/last_seq"), seq, "{told}");
    assert_eq!(at(&told, "/notes"), &json!([]), "{told}");
    // A second time it is refused.
    home.cli(&["restore", "--from", url, "--data-dir", &data]).expect(1).says("there is a store");
    home.launch().await;
    assert_eq!(etags(&home).await, before);
    let verdict = home.get("/ops/audit/verify").ops().send().await.expect(200);
    assert_eq!(verdict["valid"], true, "{verdict}");
    home.stop().await;
}

#[tokio::test]
async fn a_killed_server_comes_back_from_a_folder() {
    let place = tempfile::tempdir().expect("a folder");
    let url = format!("file://{}/replica", place.path().display());
    let options =
        || Options::default().env("COMMAND_CENTER_REPLICATION", "on").env("COMMAND_CENTER_REPLICATION_URL", &url);
    let mut server = options().start().await;
    whole(&server).await;
    for round in 0..3 {
        for tenant in ["a", "b", "c"] {
            set(&server, tenant, 60 + round).await;
        }
        let view = whole(&server).await;
        let (before, seq) = (etags(&server).await, view["last_seq"].as_i64().expect("a number"));
        server.cli(&["restore", "--drill"]).expect(0).says("all of them equal");
        server.kill9();
        comes_back(&url, &[], &before, seq).await;
        server.launch().await;
        // The entry that tells that it began anew.
        whole(&server).await;
    }
    // A second one on the same place, with a store of its own.
    let other = options().start().await;
    let told =
        other.until_health("the second is refused", |health| at(health, "/replication/state") == "refused").await;
    assert_eq!(at(&told, "/replication/status"), 0);
    assert!(text(&replication(&other).await, "/last_error").contains("another store"));
    other.until_audit("operation=ops.replication.refused", |_| true).await;
    set(&server, "d", 99).await;
    whole(&server).await;
    // Away, and back.
    let (from, aside) = (place.path().join("replica"), place.path().join("aside"));
    std::fs::rename(&from, &aside).expect("moved away");
    std::fs::write(&from, "in the way").expect("written");
    set(&server, "d", 100).await;
    server.until_health("it is away", |health| at(health, "/replication/state") == "away").await;
    std::fs::remove_file(&from).expect("removed");
    std::fs::rename(&aside, &from).expect("moved back");
    whole(&server).await;
}

/// The names of the generations at the destination.
fn generations(replica: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(replica.join("generations")).expect("generations");
    let mut names: Vec<String> = entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Makes all that lies there three days older.
fn age(folder: &Path) {
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            age(&path);
            continue;
        }
        let file = std::fs::File::options().write(true).open(&path).expect("opened");
        let modified = file.metadata().and_then(|meta| meta.modified()).expect("its time");
        file.set_modified(modified - Duration::from_secs(3 * 86_400)).expect("set back");
    }
}

#[tokio::test]
async fn old_generations_go_and_an_orderly_restart_begins_none() {
    let place = tempfile::tempdir().expect("a folder");
    let replica = place.path().join("replica");
    let url = format!("file://{}", replica.display());
    let options = Options::default()
        .env("COMMAND_CENTER_REPLICATION", "on")
        .env("COMMAND_CENTER_REPLICATION_KEEP_DAYS", "1")
        .env("COMMAND_CENTER_REPLICATION_URL", &url);
    let mut server = options.start().await;
    whole(&server).await;
    let first = generations(&replica);
    assert_eq!(first.len(), 1);
    for tenant in ["a", "b"] {
        set(&server, tenant, 60).await;
        server.stop().await;
        server.launch().await;
        let view = whole(&server).await;
        assert_eq!((generations(&replica), text(&view, "/generation")), (first.clone(), &*first[0]));
    }
    server.cli(&["restore", "--drill"]).expect(0).says("all of them equal");
    for tenant in ["c", "d", "e"] {
        set(&server, tenant, 60).await;
        whole(&server).await;
        server.kill9();
        age(&replica);
        server.launch().await;
        whole(&server).await;
    }
    // The newest of those that are older than a day stays, to begin from.
    eventually("the old ones are gone", async || {
        let left = generations(&replica);
        hold(left.len() == 2 && !left.contains(&first[0]), &json!(left))
    })
    .await;
    // Killed and stopped before anything is copied: what the killed life had not sent is there all the same.
    set(&server, "f", 60).await;
    server.kill9();
    server.launch().await;
    let before = etags(&server).await;
    assert_eq!(before.len(), 6);
    server.stop().await;
    let mut home = Server::prepare(Options::default());
    let data = home.path("data");
    std::fs::remove_dir_all(home.path("desired")).expect("removed");
    home.cli(&["restore", "--from", &url, "--data-dir", &data.to_string_lossy(), "--write-desired"]).expect(0);
    home.launch().await;
    assert_eq!(etags(&home).await, before);
}

#[tokio::test]
async fn on_without_a_place_is_told_at_the_start() {
    let server = Server::prepare(Options::default().env("COMMAND_CENTER_REPLICATION", "on"));
    let mut command = server.command();
    let ended = command.arg("serve").output().expect("it ran");
    assert_eq!(ended.status.code(), Some(2));
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(said.contains("COMMAND_CENTER_REPLICATION_URL"), "{said}");
}

/// What the proxy does to requests.
const PASS: u8 = 0;
const FAIL: u8 = 1;
const SLOW_DOWN: u8 = 2;
const LIE: u8 = 3;
const SLOW: u8 = 4;
const CUT: u8 = 5;

struct Proxy {
    mode: AtomicU8,
    to: SocketAddr,
    client: reqwest::Client,
}

async fn forward(
    State(proxy): State<Arc<Proxy>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mode = proxy.mode.load(Ordering::SeqCst);
    let is_segment = uri.path().contains("/generations/");
    match mode {
        FAIL => {
            return (StatusCode::INTERNAL_SERVER_ERROR, "<Error><Code>InternalError</Code></Error>").into_response();
        }
        SLOW_DOWN => return (StatusCode::SERVICE_UNAVAILABLE, "<Error><Code>SlowDown</Code></Error>").into_response(),
        LIE if method == Method::PUT && is_segment => return ([("etag", "\"lie\"")], "").into_response(),
        SLOW => tokio::time::sleep(Duration::from_secs(2)).await,
        _ => {}
    }
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut request = proxy.client.request(method.clone(), format!("http://{}{path}", proxy.to)).body(body);
    for (name, value) in &headers {
        if name != "host" && name != "content-length" {
            request = request.header(name, value);
        }
    }
    let Ok(answer) = request.send().await else { return StatusCode::BAD_GATEWAY.into_response() };
    let (status, headers) = (answer.status(), answer.headers().clone());
    let bytes = answer.bytes().await.unwrap_or_default();
    if mode == CUT {
        let half = bytes.slice(..bytes.len() / 2);
        let broken = futures_util::stream::iter([Ok(half), Err(std::io::Error::other("cut off"))]);
        return (status, Body::from_stream(broken)).into_response();
    }
    let mut response =
        if method == Method::HEAD { Body::empty().into_response() } else { Body::from(bytes).into_response() };
    *response.status_mut() = status;
    for (name, value) in &headers {
        if name != "transfer-encoding" && name != "connection" {
            response.headers_mut().insert(name, value.clone());
        }
    }
    response
}

/// A process that ends with the test.
struct Moto(Child);

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn s3() -> Option<(Moto, SocketAddr)> {
    if std::env::var("REPLICATION_S3").as_deref() == Ok("off") {
        return None;
    }
    let bin = tokio::task::spawn_blocking(|| installed("moto[server]", MOTO, INSTALL)).await.expect("it ends");
    let bin = bin.expect("moto is installed; REPLICATION_S3=off leaves this out");
    let addr = free_addr();
    let mut command = Command::new(bin.join("moto_server"));
    command.args(["-H", "127.0.0.1", "-p", &addr.port().to_string()]);
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("moto starts");
    let moto = Moto(child);
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    eventually("moto answers", async || {
        let made = client.put(format!("http://{addr}/{BUCKET}")).send().await.map_err(|error| error.to_string())?;
        hold(made.status().is_success(), &made.status())
    })
    .await;
    Some((moto, addr))
}

// The proxy answers while a command is waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_may_fail_lie_dawdle_and_cut_off() {
    let Some((_moto, to)) = s3().await else { return };
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let proxy = Arc::new(Proxy { mode: AtomicU8::new(PASS), to, client });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("its address");
    let router = axum::Router::new().fallback(forward).layer(axum::extract::DefaultBodyLimit::disable());
    tokio::spawn(axum::serve(listener, router.with_state(proxy.clone())).into_future());
    let url = format!("s3://{BUCKET}/cc?region=us-east-1&endpoint=http://{addr}");
    let keys = [("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "secret-of-the-test")];
    let mut options =
        Options::default().env("COMMAND_CENTER_REPLICATION", "on").env("COMMAND_CENTER_REPLICATION_URL", &url);
    for (name, value) in keys {
        options = options.env(name, value);
    }
    // It begins while nothing answers well: the rest runs.
    proxy.mode.store(FAIL, Ordering::SeqCst);
    let mut server = options.start().await;
    set(&server, "t0", 60).await;
    server.until_health("it is away", |health| at(health, "/replication/state") == "away").await;
    proxy.mode.store(PASS, Ordering::SeqCst);
    whole(&server).await;
    for (mode, name) in [(FAIL, "fail"), (SLOW_DOWN, "slow-down"), (LIE, "lie"), (SLOW, "slow"), (CUT, "cut")] {
        proxy.mode.store(mode, Ordering::SeqCst);
        for n in 0..5 {
            set(&server, &format!("{name}-{n}"), 60).await;
        }
        // Nothing is claimed to be there that is not.
        eventually(&format!("{name}: it is told"), async || {
            let view = replication(&server).await;
            let is_told = match mode {
                SLOW => view["lag_sec"].as_f64() > Some(1.0),
                _ => view["state"] == "away" && view["lag_entries"].as_i64() > Some(0) && !view["last_error"].is_null(),
            };
            hold(is_told, &view)
        })
        .await;
        proxy.mode.store(PASS, Ordering::SeqCst);
        whole(&server).await;
    }
    let view = whole(&server).await;
    assert!(!view.to_string().contains("secret-of-the-test"));
    let (before, seq) = (etags(&server).await, view["last_seq"].as_i64().expect("a number"));
    server.cli(&["restore", "--drill"]).expect(0).says("all of them equal");
    server.kill9();
    assert!(!server.log("stdout").contains("secret-of-the-test"));
    comes_back(&url, &keys, &before, seq).await;
}
