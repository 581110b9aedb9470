//! A source that fails, refuses, lies or is not there; and keys that stay where they belong.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

#[tokio::test]
async fn a_passing_fault_is_survived() {
    let bench = Bench::new(unlimited(60, 0), quick()).await;
    for fault in [
        json!({"kind": "status", "status": 503, "times": 3}),
        json!({"kind": "status", "status": 500}),
        json!({"kind": "reset", "times": 2}),
        json!({"kind": "truncate", "times": 2}),
        json!({"kind": "slow", "delay_ms": 700}),
        json!({"kind": "rate_limit", "times": 3}),
    ] {
        bench.fault(fault.clone()).await;
        let sink = Arc::new(Kept::default());
        let outcome = bench.import(JOBS, &sink).await;
        assert!(outcome.error.is_none(), "{fault}: {:?}", outcome.error);
        assert_eq!(outcome.stats.imported, 60, "{fault}");
    }
}

#[tokio::test]
async fn a_refusal_is_waited_out_as_long_as_asked() {
    let (bench, started) = (Bench::new(unlimited(10, 0), quick()).await, Instant::now());
    bench.fault(json!({"kind": "rate_limit", "delay_ms": 1000})).await;
    assert_eq!(succeeded(bench.import(JOBS, &Arc::new(Kept::default())).await).imported, 10);
    assert!(started.elapsed() >= Duration::from_secs(1));
    let sent = bench.requests().await["companies"]["peak"]["requests"].as_u64().unwrap();
    assert!(sent <= 5, "{sent} requests: it kept asking");
}

#[tokio::test]
async fn a_lasting_fault_fails_with_its_class_and_the_remedy() {
    let bench = Bench::new(unlimited(60, 0), quick()).await;
    let file = "schedules/acculynx/peak.yaml";
    for (fault, class, words) in [
        (json!({"kind": "status", "status": 401}), ErrorClass::Unauthorized, file),
        (json!({"kind": "status", "status": 403}), ErrorClass::Unauthorized, "(403)"),
        (json!({"kind": "status", "status": 404}), ErrorClass::Configuration, "base_url"),
        (json!({"kind": "status", "status": 400}), ErrorClass::Configuration, "(400): A fault"),
        (json!({"kind": "status", "status": 502, "times": 4}), ErrorClass::Unavailable, "(502)"),
        (json!({"kind": "reset", "times": 4}), ErrorClass::Unavailable, "AccuLynx"),
        (json!({"kind": "truncate", "times": 4}), ErrorClass::Unavailable, "broke off"),
        (json!({"kind": "slow", "delay_ms": 900, "times": 4}), ErrorClass::Unavailable, "within"),
        (json!({"kind": "garbage"}), ErrorClass::BadResponse, "not its list"),
        (json!({"kind": "rate_limit", "delay_ms": 9000}), ErrorClass::RateLimited, "wait 9 s"),
    ] {
        let sink = Arc::new(Kept::default());
        bench.fault(fault.clone()).await;
        let tenant = bench.context(
            "peak",
            &format!("sandbox-{}", fault["kind"].as_str().unwrap().replace('_', "")),
            JOBS,
            &sink,
        );
        let (got, message) = failed(bench.connector.import(tenant).await);
        assert_eq!(got, class, "{fault}: {message}");
        assert!(message.contains(words), "{fault}: {message}");
        assert!(!sink.has_read_jobs());
    }
}

#[tokio::test]
async fn a_source_that_is_not_there_is_unavailable() {
    let bench = Bench::new(unlimited(1, 0), quick()).await;
    let sink = Arc::new(Kept::default());
    let mut context = bench.context("peak", "sandbox-peak", JOBS, &sink);
    // A port that was just free.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    context.base_url = format!("http://127.0.0.1:{port}");
    assert_eq!(failed(bench.connector.import(context).await).0, ErrorClass::Unavailable);
}

#[tokio::test]
async fn the_key_goes_nowhere_it_should_not() {
    let bench = Bench::new(unlimited(1, 0), quick()).await;
    let sink = Arc::new(Kept::default());
    let check = async |base_url: &str, key: &str| {
        let context = ImportContext { base_url: base_url.to_owned(), ..bench.context("peak", key, JOBS, &sink) };
        let (class, message) = failed(bench.connector.import(context).await);
        assert!(!message.contains("hunter2"), "{message}");
        class
    };
    assert_eq!(check("http://example.invalid/api/v2", "hunter2").await, ErrorClass::Configuration);
    assert_eq!(check("https://user:hunter2@example.invalid", "k").await, ErrorClass::Configuration);
    assert_eq!(check("https://example.invalid/?a=b", "k").await, ErrorClass::Configuration);
    assert_eq!(check("ftp://example.invalid", "k").await, ErrorClass::Configuration);
    assert_eq!(check("not an address", "k").await, ErrorClass::Configuration);
    assert_eq!(check("https://example.invalid", " ").await, ErrorClass::Unauthorized);
    assert_eq!(check("https://example.invalid", "hunter2\u{7}").await, ErrorClass::Unauthorized);
    let own = format!("{}{}", bench.base, sandbox::BASE_PATH);
    assert_eq!(check(&own, "hunter2").await, ErrorClass::Unauthorized);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let bench = Bench::new(unlimited(1, 0), quick()).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let answer = "HTTP/1.1 307 Away\r\nLocation: https://elsewhere.invalid/\r\nContent-Length: 0\r\n\r\n";
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 2048];
        let _ = stream.read(&mut request).await;
        let _ = stream.write_all(answer.as_bytes()).await;
    });
    let sink = Arc::new(Kept::default());
    let context = ImportContext { base_url, ..bench.context("peak", "sandbox-peak", JOBS, &sink) };
    let (class, message) = failed(bench.connector.import(context).await);
    assert_eq!(class, ErrorClass::Configuration);
    assert!(message.contains("elsewhere.invalid"), "{message}");
}

#[tokio::test]
async fn a_repeated_page_and_an_endless_body_are_not_believed() {
    let bench = Bench::new(unlimited(60, 0), Tuning { request_timeout: Duration::from_secs(20), ..quick() }).await;
    let sink = Arc::new(Kept::default());
    bench.fault(json!({"kind": "repeat_page", "times": 1000})).await;
    let (class, message) = failed(bench.import(JOBS, &sink).await);
    assert_eq!(class, ErrorClass::BadResponse);
    assert!(message.contains("same page"), "{message}");
    assert_eq!((sink.count(&Resource::JOBS), sink.has_read_jobs()), (25, false));
    http().delete(format!("{}/sandbox/faults", bench.base)).send().await.unwrap();

    bench.fault(json!({"kind": "endless"})).await;
    let (class, message) = failed(bench.import(JOBS, &Arc::new(Kept::default())).await);
    assert_eq!(class, ErrorClass::BadResponse);
    assert!(message.contains("more than 8 MiB"), "{message}");
}

#[tokio::test]
async fn a_store_that_fails_is_told_from_a_source_that_fails() {
    let bench = Bench::new(unlimited(60, 0), quick()).await;
    let sink = Arc::new(Kept { broken: true, ..Kept::default() });
    let (class, message) = failed(bench.import(JOBS, &sink).await);
    assert_eq!((class, message.contains("disk full")), (ErrorClass::Store, true));
}

#[tokio::test]
async fn cancelling_ends_an_import_at_once() {
    let bench = Bench::new(unlimited(60, 0), Tuning { request_timeout: Duration::from_secs(20), ..quick() }).await;
    bench.fault(json!({"kind": "slow", "delay_ms": 10_000})).await;
    let (started, cancel) = (Instant::now(), bench.cancel.clone());
    let stop = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        cancel.cancel();
    };
    let sink = Arc::new(Kept::default());
    let (outcome, ()) = tokio::join!(bench.import(JOBS, &sink), stop);
    assert_eq!(failed(outcome).0, ErrorClass::Cancelled);
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn the_vendors_limits_are_kept_over_all_tenants() {
    // The sandbox's own limits, and a ban that would fail any import that meets it.
    let options = SandboxOptions { jobs: 60, contacts: 0, ban: Duration::from_secs(60), ..SandboxOptions::default() };
    let tuning = Tuning { rate_limit_patience: Duration::ZERO, ..Tuning::default() };
    let bench = Bench::new(options, tuning).await;
    let started = Instant::now();
    let tenants = (0..8).map(|n| {
        let (tenant, sink) = (format!("t{n}"), Arc::new(Kept::default()));
        bench.connector.import(bench.context(&tenant, &format!("sandbox-{tenant}"), JOBS, &sink))
    });
    for outcome in futures_util::future::join_all(tenants).await {
        assert_eq!(succeeded(outcome).imported, 60);
    }
    let requests = bench.requests().await;
    assert_eq!(requests["refused_addresses"], 0, "{requests}");
    let sent: u64 = requests["companies"].as_object().unwrap().values().map(|c| c["requests"].as_u64().unwrap()).sum();
    assert!(
        started.elapsed().as_secs_f64() >= (f64::from(u32::try_from(sent).unwrap()) - 4.0) / 25.0,
        "{sent} requests came too fast"
    );
}

#[tokio::test]
async fn a_source_that_gives_its_first_page_for_ever_is_found_out_in_every_list() {
    let bench = Bench::new(unlimited(60, 60), quick()).await;
    bench.fault(json!({"kind": "repeat_page", "times": 100_000})).await;
    for (resource, kept) in [
        (Resource::JOBS, 25),
        (Resource::CONTACTS, 50),
        (Resource::ESTIMATES, 50),
        (Resource::USERS, 8),
        (Resource::MILESTONE_HISTORY, 25),
    ] {
        let sink = Arc::new(Kept::default());
        let (class, message) = failed(bench.import(std::slice::from_ref(&resource), &sink).await);
        assert_eq!(class, ErrorClass::BadResponse, "{resource}");
        assert!(message.contains("same page"), "{message}");
        assert!(sink.count(&resource) >= kept, "{resource}: what came is kept");
        let goes_on = [Resource::JOBS, Resource::MILESTONE_HISTORY].contains(&resource);
        let marked = sink.bookmark_of(resource.as_str()).filter(|_| !goes_on);
        assert!(marked.is_none() && !sink.has_read_jobs(), "{resource}");
    }
    // Also where there is but one record to repeat.
    let bench = Bench::new(unlimited(0, 1), quick()).await;
    bench.fault(json!({"kind": "repeat_page", "times": 100_000})).await;
    let (class, _) = failed(bench.import(CONTACTS, &Arc::new(Kept::default())).await);
    let sent = bench.sent().await;
    assert!(class == ErrorClass::BadResponse && sent < 6, "{sent} requests");
}

#[tokio::test]
async fn a_refusal_beyond_patience_says_when_to_come_back() {
    let bench = Bench::new(unlimited(10, 0), quick()).await;
    bench.fault(json!({"kind": "rate_limit", "delay_ms": 40_000})).await;
    let failure = bench.import(JOBS, &Arc::new(Kept::default())).await.error.unwrap();
    assert_eq!((failure.class, failure.retry_after), (ErrorClass::RateLimited, Some(Duration::from_secs(40))));
}
