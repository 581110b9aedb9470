//! What goes wrong: sources that are down, slow, garbled or without end, and secrets that stay at home.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Instant;

use super::*;

/// The class and the words of what an import from such a source fails with.
async fn check(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static, more: &str, class: ErrorClass, words: &str) {
    let server = Server::start(answer).await;
    let bench = Bench::new();
    let (found, message) = failed(bench.import(&server, &orders(more)).await);
    assert_eq!(found, class, "{message}");
    assert!(message.contains(words), "{message}");
    assert_eq!(bench.sink.standing("orders"), None);
}

fn text(body: &'static str) -> impl Fn(&Asked) -> Answer {
    move |_| Answer { body: Body::Text(body.to_owned()), ..Answer::status(200) }.header("content-type", "text/html")
}

#[tokio::test]
async fn garbage_is_told_by_what_and_where() {
    use ErrorClass::BadResponse;
    check(text("<html>"), "", BadResponse, "orders (page 1) with something that is no JSON (text/html)").await;
    check(text("[{\"id\": 1},"), "", BadResponse, "no JSON").await;
    check(text("{\"data\": {\"rows\": 5}}"), "records: /data/rows", BadResponse, "at /data/rows there is a number")
        .await;
    check(text("{\"data\": {}}"), "records: /data/rows", BadResponse, "the object at /data has no \"rows\"").await;
    check(text("{\"hunter2+x\": 1}"), "", BadResponse, "at the top there is an object, not a list").await;
    let mixed = "[{\"id\": 1, \"n\": 5}, {\"id\": 2, \"n\": \"x\"}]";
    check(text(mixed), "bookmark: { field: n }", BadResponse, "a number in one record of orders and a text").await;
}

#[tokio::test]
async fn an_answer_without_content_is_an_empty_list() {
    for body in ["", "null", "{\"rows\": null}", "{\"rows\": []}"] {
        let server = Server::start(text(body)).await;
        let records = if body.contains("rows") { "records: rows" } else { "" };
        assert_eq!(succeeded(Bench::new().import(&server, &orders(records)).await), ImportStats::default(), "{body}");
    }
}

#[tokio::test]
async fn lists_without_end_are_left() {
    use ErrorClass::BadResponse;
    let same = |_: &Asked| Answer::json(&json!({ "items": items(0, 2), "next": "a" }));
    let words = "orders (page 2): it gives the same records again";
    check(same, "records: items\npaging: { cursor: { at: next, param: c } }", BadResponse, words).await;
    check(same, "records: items\npaging: { page: { param: p } }", BadResponse, words).await;
    let counter = AtomicU32::new(0);
    let fresh = move |_: &Asked| {
        let n = u64::from(counter.fetch_add(1, SeqCst));
        Answer::json(&json!({ "items": items(n * 2, n * 2 + 2), "next": "a" }))
    };
    let words = "leads back to a page that was read already";
    check(fresh, "records: items\npaging: { cursor: { at: next, param: c } }", BadResponse, words).await;
    let counter = AtomicU32::new(0);
    let fresh = move |_: &Asked| {
        let n = u64::from(counter.fetch_add(1, SeqCst));
        Answer::json(&items(n, n + 1))
    };
    check(fresh, "paging: { page: { param: p } }\nmax_pages: 3", BadResponse, "has more than 3 pages").await;
}

#[tokio::test]
async fn an_endless_body_is_left_at_its_limit() {
    let server = Server::start(|_| Answer { body: Body::Endless("[".into()), ..Answer::status(200) }).await;
    let (class, message) = failed(Bench::new().import(&server, &format!("max_body_mb: 1\n{}", orders(""))).await);
    assert_eq!(class, ErrorClass::BadResponse);
    assert!(message.contains("more than 1 MiB (max_body_mb)"), "{message}");
    assert_eq!(server.asked().len(), 1, "it is not asked for again");
}

#[tokio::test]
async fn what_passes_is_survived() {
    for fault in [500, 502, 503, 408, 1, 2] {
        let left = AtomicU32::new(2);
        let server = Server::start(move |_| {
            let fails = left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok();
            match fault {
                _ if !fails => Answer::json(&items(0, 2)),
                1 => Answer { body: Body::Cut("[{".into()), ..Answer::status(200) },
                2 => Answer { body: Body::Hang, ..Answer::status(200) },
                status => Answer::status(status),
            }
        })
        .await;
        let outcome = Bench::new().import(&server, &orders("")).await;
        assert!(outcome.error.is_none(), "{fault}: {:?}", outcome.error);
        assert_eq!((outcome.stats.imported, server.asked().len()), (2, 3), "{fault}");
    }
}

#[tokio::test]
async fn what_lasts_fails_with_its_class() {
    use ErrorClass::{Configuration, Unauthorized, Unavailable};
    for (status, class, words) in [
        (401, Unauthorized, "connection.auth in schedules/http/peak.yaml"),
        (403, Unauthorized, "(403): we do not like ***"),
        (404, Configuration, "knows no /api/orders (404)"),
        (422, Configuration, "(422): we do not like ***"),
        (500, Unavailable, "failed on orders (page 1) (500)"),
        (304, Configuration, "(304)"),
    ] {
        let said = json!({ "errors": 5, "error": { "message": format!("we do not like {SECRET}") } });
        let server = Server::start(move |_| Answer { status, ..Answer::json(&said) }).await;
        let bench = Bench::new();
        let file = format!("auth: {{ bearer: {{ file: shop }} }}\n{}", orders(""));
        let (found, message) = failed(bench.import(&server, &file).await);
        assert_eq!(found, class, "{status}: {message}");
        assert!(message.contains(words), "{status}: {message}");
        let tries = if class == Unavailable { 4 } else { 1 };
        assert_eq!(server.asked().len(), tries, "{status}");
    }
}

#[tokio::test]
async fn a_source_that_is_not_there_is_unavailable() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let bench = Bench::new();
    let file = format!(
        "interval_sec: 5\nconnection: {{ base_url: 'http://127.0.0.1:{port}', requests: {{ a: {{ path: /a, key: id }} }} }}"
    );
    assert_eq!(failed(bench.connector.import(bench.context(&file)).await).0, ErrorClass::Unavailable);
}

#[tokio::test]
async fn a_refusal_is_waited_out_as_long_as_asked_and_patience_lasts() {
    for status in [429, 503] {
        let left = AtomicU32::new(1);
        let server = Server::start(move |_| match left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)) {
            Ok(_) => Answer::status(status).header("retry-after", "1"),
            Err(_) => Answer::json(&items(0, 1)),
        })
        .await;
        let started = Instant::now();
        assert_eq!(succeeded(Bench::new().import(&server, &orders("")).await).imported, 1);
        assert!(started.elapsed() >= Duration::from_secs(1), "{status}");
        assert_eq!(server.asked().len(), 2, "{status}");

        let server = Server::start(move |_| Answer::status(status).header("retry-after", "9")).await;
        let outcome = Bench::new().import(&server, &orders("")).await;
        assert_eq!(outcome.error.as_ref().unwrap().retry_after, Some(Duration::from_secs(9)));
        let (class, message) = failed(outcome);
        assert_eq!(class, ErrorClass::RateLimited);
        assert!(message.contains("wait 9 s"), "{message}");
        assert_eq!(server.asked().len(), 1, "{status}");
    }
}

#[tokio::test]
async fn a_redirect_is_followed_within_its_host_only() {
    let stranger = Server::start(|_| Answer::json(&items(0, 9))).await;
    let elsewhere = format!("{}/orders?key={SECRET}", stranger.url);
    let server = Server::start(move |asked| match asked.path.split('?').next() {
        Some("/api/orders") => Answer::status(301).header("location", "/v2/orders"),
        Some("/v2/orders") => Answer::json(&items(0, 2)),
        Some("/api/loop") => Answer::status(302).header("location", "/api/loop"),
        _ => Answer::status(302).header("location", elsewhere.clone()),
    })
    .await;
    let file = |path: &str| {
        format!("auth: {{ query: {{ name: key, secret: {{ file: shop }} }} }}\n{}", orders("").replace("/orders", path))
    };
    assert_eq!(succeeded(Bench::new().import(&server, &file("/orders")).await).imported, 2);
    assert_eq!(server.asked().pop().unwrap().parameter("key").as_deref(), Some(SECRET));
    let (class, message) = failed(Bench::new().import(&server, &file("/away")).await);
    assert_eq!(class, ErrorClass::Configuration);
    assert!(message.contains(&stranger.url) && message.contains("where nothing is sent"), "{message}");
    assert_eq!(failed(Bench::new().import(&server, &file("/loop")).await).0, ErrorClass::BadResponse);
    assert_eq!(stranger.asked().len(), 0);
}

#[tokio::test]
async fn the_next_page_is_not_fetched_from_another_host() {
    let stranger = Server::start(|_| Answer::json(&items(0, 9))).await;
    let elsewhere = stranger.url.clone();
    let server = Server::start(move |_| {
        Answer::json(&json!({ "items": items(0, 2), "next": elsewhere }))
            .header("link", format!("<{elsewhere}>; rel=next"))
    })
    .await;
    for paging in ["link: true", "next_url: next"] {
        let bench = Bench::new();
        let more = format!("records: items\npaging: {{ {paging} }}\nbookmark: {{ field: updated_at }}");
        let (class, message) = failed(bench.import(&server, &orders(&more)).await);
        assert_eq!(class, ErrorClass::BadResponse, "{message}");
        assert_eq!((bench.sink.keys().len(), bench.sink.standing("orders")), (2, None));
    }
    assert_eq!(stranger.asked().len(), 0);
}

#[tokio::test]
async fn secrets_go_unencrypted_to_this_machine_only() {
    let bench = Bench::new();
    let requests = "requests: { a: { path: /a, key: id } }";
    for connection in [
        format!("base_url: http://api.example.com\nauth: {{ bearer: {{ file: shop }} }}\n{requests}"),
        format!(
            "base_url: https://api.example.com\nauth: {{ oauth: {{ token_url: 'http://a.example', client_id: c, client_secret: {{ file: shop }} }} }}\n{requests}"
        ),
    ] {
        let file = format!("interval_sec: 5\nconnection:\n{}", indented(&connection, 2));
        let (class, message) = failed(bench.connector.import(bench.context(&file)).await);
        assert_eq!(class, ErrorClass::Configuration);
        assert!(message.contains("unencrypted"), "{message}");
    }
}

#[tokio::test]
async fn what_is_missing_is_named() {
    let bench = Bench::new();
    for (file, words) in [
        ("interval_sec: 5", "connection.base_url is missing"),
        ("interval_sec: 5\nconnection: { base_url: 'http://127.0.0.1:1' }", "connection.requests is missing"),
        (
            "interval_sec: 5\nconnection: { base_url: 'http://127.0.0.1:1', auth: { bearer: { file: gone } }, requests: { a: { path: /a, key: id } } }",
            "gone cannot be read",
        ),
    ] {
        let (class, message) = failed(bench.connector.import(bench.context(file)).await);
        assert_eq!(class, ErrorClass::Configuration);
        assert!(message.contains(words), "{message}");
    }
}

#[tokio::test]
async fn a_run_that_is_cancelled_stops_at_once_and_keeps_what_it_has() {
    // In the middle of an answer.
    let server = Server::start(|asked| match asked.parameter("page").as_deref() {
        Some("1") => Answer::json(&items(0, 2)),
        _ => Answer { body: Body::Hang, ..Answer::status(200) },
    })
    .await;
    let bench = Bench::new();
    let file = orders("paging: { page: { param: page } }\nbookmark: { field: updated_at }");
    let stop = async {
        while server.asked().len() < 2 {
            tokio::task::yield_now().await;
        }
        bench.cancel.cancel();
    };
    let (outcome, ()) = tokio::join!(bench.import(&server, &file), stop);
    assert_eq!((outcome.stats.imported, failed(outcome).0), (2, ErrorClass::Cancelled));
    assert_eq!(bench.sink.standing("orders"), None);

    // In the middle of waiting to be let in again.
    let server = Server::start(|_| Answer::status(429).header("retry-after", "1")).await;
    let bench = Bench::new();
    let stop = async {
        while server.asked().is_empty() {
            tokio::task::yield_now().await;
        }
        bench.cancel.cancel();
    };
    let file = orders("");
    let (outcome, ()) = tokio::join!(bench.import(&server, &file), stop);
    assert_eq!(failed(outcome).0, ErrorClass::Cancelled);
    assert_eq!(server.asked().len(), 1);

    // Between two pages.
    let cancel = CancellationToken::new();
    let stopping = cancel.clone();
    let sink = Kept { on_write: Some(Box::new(move |_| stopping.cancel())), ..Kept::default() };
    let bench = Bench { cancel, ..Bench::with(sink) };
    let counter = AtomicU32::new(0);
    let server = Server::start(move |_| {
        let n = u64::from(counter.fetch_add(1, SeqCst));
        Answer::json(&items(n, n + 1))
    })
    .await;
    let outcome = bench.import(&server, &orders("paging: { page: { param: page } }")).await;
    assert_eq!((outcome.stats.imported, server.asked().len()), (2, 2));
    assert_eq!(failed(outcome).0, ErrorClass::Cancelled);
}
