//! What is read: paging of each kind, proofs of each kind, bookmarks, templates.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use super::*;

#[tokio::test]
async fn one_page_is_read_with_its_keys() {
    let server = Server::start(|_| {
        Answer::json(&json!({ "data": { "rows": [
            { "account": "a/b", "id": 1 }, { "account": "a", "id": 2 }, { "id": 3 }, "no record",
        ] } }))
    })
    .await;
    let bench = Bench::new();
    let file = "base_url: URL\nheaders: { X-Tenant: '{{tenant}}' }\nrequests:\n  orders:\n    path: /v1/{{tenant}}/orders\n    \
                records: /data/rows\n    key: [account, id]\n    query: { q: 'a b&c', run: '{{run_id}}', full: true, n: 5 }";
    let stats = succeeded(bench.import(&server, file).await);
    assert_eq!(stats, ImportStats { imported: 2, failed: 2, ..ImportStats::default() });
    assert_eq!(bench.sink.keys(), ["a/2", "a~1b/1"]);
    let asked = server.asked().remove(0);
    assert_eq!((asked.method.as_str(), asked.path.split('?').next()), ("GET", Some("/v1/peak/orders")));
    for (name, value) in [("q", "a b&c"), ("run", "7"), ("full", "true"), ("n", "5")] {
        assert_eq!(asked.parameter(name).as_deref(), Some(value));
    }
    assert_eq!((asked.header("accept"), asked.header("x-tenant")), ("application/json", "peak"));
}

#[tokio::test]
async fn every_kind_of_paging_comes_to_its_end() {
    // Five orders, two a page, however they are asked for.
    let server = Server::start(|asked| {
        let number = |name: &str| asked.parameter(name).and_then(|text| text.parse::<u64>().ok());
        let from = number("offset").or(number("page").map(|page| (page - 1) * 2)).or(number("cursor")).unwrap_or(0);
        let to = (from + 2).min(5);
        let next = (to < 5).then(|| format!("/api/orders?cursor={to}&keep=1"));
        let answer = Answer::json(&json!({ "items": items(from.min(5), to), "next": (to < 5).then_some(to),
            "url": next, "total": 5, "has_more": to < 5 }));
        match next {
            Some(next) => {
                answer.header("link", format!("</api/orders?cursor=0>; rel=\"first\", <{next}>; rel=\"next\""))
            }
            None => answer,
        }
    })
    .await;
    for (paging, requests) in [
        ("cursor: { at: next, param: cursor }", 3),
        ("cursor: { at: next, param: cursor, more: has_more }", 3),
        ("offset: { param: offset }", 4),
        ("offset: { param: offset, limit_param: n, limit: 2, total: total }", 3),
        ("page: { param: page, size_param: n, size: 2 }", 4),
        ("page: { param: page, more: /has_more }", 3),
        ("link: true", 3),
        ("next_url: url", 3),
    ] {
        let (bench, before) = (Bench::new(), server.asked().len());
        let stats = succeeded(bench.import(&server, &orders(&format!("records: items\npaging: {{ {paging} }}"))).await);
        assert_eq!(stats.imported, 5, "{paging}");
        assert_eq!(server.asked().len() - before, requests, "{paging}: {:?}", &server.paths()[before..]);
    }
}

#[tokio::test]
async fn a_source_may_be_asked_by_a_body() {
    let server = Server::start(|asked| {
        let body: Value = serde_json::from_str(&asked.body).unwrap();
        let from = body["variables"]["after"].as_u64().unwrap_or(0);
        Answer::json(&json!({ "data": { "orders": items(from, from + 2), "end": from + 2, "more": from < 4 } }))
    })
    .await;
    let bench = Bench::new();
    let more = "method: POST\nbody: { query: 'query($after: Int) { orders(after: $after) { id } }', variables: { after: '{{cursor}}', tenant: '{{tenant}}' } }\n\
                records: /data/orders\npaging: { cursor: { at: /data/end, more: /data/more } }";
    assert_eq!(succeeded(bench.import(&server, &orders(more)).await).imported, 6);
    let asked = server.asked();
    assert_eq!((asked[0].method.as_str(), asked[0].header("content-type")), ("POST", "application/json"));
    let bodies: Vec<Value> = asked.iter().map(|asked| serde_json::from_str(&asked.body).unwrap()).collect();
    assert_eq!(bodies[0]["variables"], json!({ "tenant": "peak" }), "a member without a value yet is left out");
    assert_eq!(bodies[1]["variables"], json!({ "tenant": "peak", "after": 2 }), "a lone placeholder keeps its type");
}

#[tokio::test]
async fn every_kind_of_proof_reaches_the_source() {
    let server = Server::start(|_| Answer::json(&items(0, 1))).await;
    for (auth, proven) in [
        ("bearer: { file: shop }", ("authorization", "Bearer hunter2+x")),
        ("header: { name: X-Api-Key, secret: { file: shop }, prefix: 'Token ' }", ("x-api-key", "Token hunter2+x")),
        ("basic: { user: zoë, password: { file: shop } }", ("authorization", "Basic em/DqzpodW50ZXIyK3g=")),
        ("query: { name: key, secret: { file: shop } }", ("", "")),
    ] {
        let bench = Bench::new();
        succeeded(bench.import(&server, &format!("auth: {{ {auth} }}\n{}", orders(""))).await);
        let asked = server.asked().pop().unwrap();
        match proven {
            ("", _) => assert_eq!(asked.parameter("key").as_deref(), Some(SECRET), "{auth}"),
            (name, value) => assert_eq!(asked.header(name), value, "{auth}"),
        }
    }
}

/// A source that wants tokens and gives them out: every `life`th request refuses the one at hand.
async fn with_tokens(in_form: bool, expires_in: u64) -> (Server, Arc<AtomicU64>) {
    let given = Arc::new(AtomicU64::new(0));
    let counted = given.clone();
    let server = Server::start(move |asked| {
        if asked.path == "/token" {
            let by_form = asked.parameter("client_secret").as_deref() == Some(SECRET);
            let by_header = asked.header("authorization") == "Basic Y2xpZW50Omh1bnRlcjIlMkJ4";
            assert_eq!(asked.parameter("grant_type").as_deref(), Some("client_credentials"));
            assert_eq!(asked.parameter("scope").as_deref(), Some("orders:read"));
            if if in_form { !by_form } else { !by_header } {
                return Answer { status: 401, ..Answer::json(&json!({ "error": "invalid_client" })) };
            }
            let token = format!("token-{}", counted.fetch_add(1, SeqCst) + 1);
            return Answer::json(
                &json!({ "access_token": token, "token_type": "Bearer", "expires_in": expires_in.to_string() }),
            );
        }
        // Only the latest token opens anything.
        let latest = format!("Bearer token-{}", counted.load(SeqCst));
        if asked.header("authorization") == latest { Answer::json(&items(0, 2)) } else { Answer::status(401) }
    })
    .await;
    (server, given)
}

const OAUTH: &str = "auth:\n  oauth: { token_url: URL/token, client_id: client, client_secret: { file: shop }, scope: 'orders:read' }\n";

#[tokio::test]
async fn a_token_is_kept_until_shortly_before_it_expires() {
    for in_form in [true, false] {
        let (server, given) = with_tokens(in_form, 3600).await;
        let bench = Bench::new();
        let file = format!("{OAUTH}{}", orders(""));
        succeeded(bench.import(&server, &file).await);
        bench.clock.advance(58 * 60_000);
        succeeded(bench.import(&server, &file).await);
        assert_eq!(given.load(SeqCst), 1);
        bench.clock.advance(90_000);
        succeeded(bench.import(&server, &file).await);
        assert_eq!(given.load(SeqCst), 2, "half a minute before its end a new one was fetched");
    }
}

#[tokio::test]
async fn a_refused_token_is_fetched_anew_once() {
    let (server, given) = with_tokens(true, 3600).await;
    let (bench, file) = (Bench::new(), format!("{OAUTH}{}", orders("")));
    succeeded(bench.import(&server, &file).await);
    given.fetch_add(1, SeqCst);
    succeeded(bench.import(&server, &file).await);
    assert_eq!(given.load(SeqCst), 3);

    let refusing = Server::start(|asked| match asked.path.as_str() {
        "/token" => Answer::json(&json!({ "access_token": "t" })),
        _ => Answer::status(401),
    })
    .await;
    let (class, message) = failed(Bench::new().import(&refusing, &file).await);
    assert_eq!(class, ErrorClass::Unauthorized, "{message}");
    assert_eq!(refusing.paths(), ["/token", "/api/orders", "/token", "/api/orders"]);
}

#[tokio::test]
async fn a_client_that_is_refused_is_unauthorized() {
    let server = Server::start(|asked| {
        let words = format!("no client with {}", asked.parameter("client_secret").unwrap_or_default());
        Answer { status: 400, ..Answer::json(&json!({ "error": "invalid_client", "error_description": words })) }
    })
    .await;
    let (class, message) = failed(Bench::new().import(&server, &format!("{OAUTH}{}", orders(""))).await);
    assert_eq!(class, ErrorClass::Unauthorized);
    assert!(message.contains("client_secret") && message.contains("schedules/http/peak.yaml"), "{message}");
}

#[tokio::test]
async fn a_bookmark_comes_with_the_last_page_and_is_asked_for_next_time() {
    let server = Server::start(|asked| {
        let page: usize = asked.parameter("page").unwrap().parse().unwrap();
        let (from, to) =
            if asked.parameter("since").is_some_and(|since| since.starts_with("2026")) { (4, 5) } else { (0, 4) };
        let page_items: Vec<Value> =
            items(from, to).as_array().unwrap().chunks(2).nth(page - 1).unwrap_or_default().to_vec();
        Answer::json(&page_items.into())
    })
    .await;
    let bench = Bench::new();
    let file = orders(
        "query: { since: 'gte:{{bookmark}}', day: '{{bookmark_date}}' }\npaging: { page: { param: page } }\nbookmark: { field: updated_at, overlap_sec: 1 }",
    );
    assert_eq!(succeeded(bench.import(&server, &file.replace("gte:", "")).await).imported, 4);
    assert_eq!(*bench.sink.writes.lock().unwrap(), [(2, false), (2, true)]);
    assert_eq!(bench.sink.standing("orders"), Some(json!("2026-05-01T00:00:03Z")));
    let first = server.asked().remove(0);
    assert_eq!((first.parameter("since"), first.parameter("day")), (None, None), "no value, no parameter");

    assert_eq!(succeeded(bench.import(&server, &file.replace("gte:", "")).await).imported, 1);
    let last = server.asked().pop().unwrap();
    assert_eq!(last.parameter("since").as_deref(), Some("2026-05-01T00:00:02Z"), "a second before the highest");
    assert_eq!(last.parameter("day").as_deref(), Some("2026-05-01"));
    assert_eq!(bench.sink.standing("orders"), Some(json!("2026-05-01T00:00:04Z")));

    let start = file.replace("overlap_sec: 1", "start: '2020-01-01T00:00:00Z'");
    succeeded(bench.import(&server, &start).await);
    let asked = server.asked();
    let reading = asked.iter().rev().find(|asked| asked.parameter("page").as_deref() == Some("1")).unwrap();
    assert_eq!(reading.parameter("since").as_deref(), Some("gte:2020-01-01T00:00:00Z"), "another request is read anew");
}

#[tokio::test]
async fn a_bookmark_stays_where_it_was_when_a_reading_breaks() {
    let server = Server::start(|asked| match asked.parameter("offset").as_deref() {
        Some("0") => Answer::json(&items(0, 2)),
        Some("2") => Answer::json(&items(2, 4)),
        _ => Answer::status(400),
    })
    .await;
    let bench = Bench::new();
    let file = orders("paging: { offset: { param: offset } }\nbookmark: { field: updated_at }");
    let outcome = bench.import(&server, &file).await;
    assert_eq!(outcome.stats.imported, 4, "what came is kept");
    assert_eq!(failed(outcome).0, ErrorClass::Configuration);
    assert_eq!(*bench.sink.writes.lock().unwrap(), [(2, false), (2, false)]);
    assert_eq!(bench.sink.standing("orders"), None);
}

#[tokio::test]
async fn a_bookmark_does_not_pass_the_start_of_its_reading() {
    let server = Server::start(|_| Answer::json(&json!([{ "id": 1, "updated_at": "2026-06-01T12:30:00Z" }]))).await;
    let bench = Bench::new();
    succeeded(bench.import(&server, &orders("bookmark: { field: updated_at }")).await);
    assert_eq!(bench.sink.standing("orders"), Some(json!("2026-06-01T12:00:00.000Z")));
}

#[tokio::test]
async fn a_wrong_request_does_not_keep_the_others_from_being_read() {
    let server = Server::start(|asked| match asked.path.as_str() {
        "/api/a" => Answer::status(404),
        _ => Answer::json(&items(0, 3)),
    })
    .await;
    let bench = Bench::new();
    let file = "base_url: URL/api\nrequests: { a: { path: /a, key: id }, b: { path: /b, key: id } }";
    let outcome = bench.import(&server, file).await;
    assert_eq!(outcome.stats.imported, 3);
    let (class, message) = failed(outcome);
    assert_eq!(class, ErrorClass::Configuration);
    assert!(message.contains("/api/a (404)"), "{message}");
    assert_eq!(server.paths(), ["/api/a", "/api/b"]);
}
