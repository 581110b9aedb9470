//! The connector against the practice server over loopback, with a sink in memory.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::adapters::clock::Clock;
use crate::adapters::connectors::{Page, RecordSink, Secret, SinkError};
use crate::core::model::{Connector, ImportStats, Millis, Resource, ScheduleId};
use crate::sandbox::{self, SandboxOptions};

/// 2026-06-01T12:00:00Z
const NOON: Millis = 1_780_315_200_000;
const MINUTE: Millis = 60_000;
const JOBS: &[Resource] = &[Resource::JOBS];
const CONTACTS: &[Resource] = &[Resource::CONTACTS];
const BOTH: &[Resource] = &[Resource::JOBS, Resource::CONTACTS];

type OnWrite = Box<dyn Fn(&Page) + Send + std::marker::Sync>;

/// Keeps records and bookmarks, counts like the real store, and lets a test act between pages.
#[derive(Default)]
struct Memory {
    records: Mutex<BTreeMap<(String, String), Value>>,
    bookmarks: Mutex<BTreeMap<String, Value>>,
    pages: Mutex<Vec<(usize, bool)>>,
    on_write: Option<OnWrite>,
    broken: bool,
}

impl RecordSink for Memory {
    fn bookmark(&self, resource: Resource) -> BoxFuture<'_, Result<Option<Value>, SinkError>> {
        let bookmark = self.bookmarks.lock().unwrap().get(resource.as_str()).cloned();
        std::future::ready(Ok(bookmark)).boxed()
    }

    fn write_page(&self, page: Page) -> BoxFuture<'_, Result<ImportStats, SinkError>> {
        if self.broken {
            return std::future::ready(Err(SinkError("disk full".to_owned()))).boxed();
        }
        self.pages.lock().unwrap().push((page.records.len(), page.bookmark.is_some()));
        if let Some(on_write) = &self.on_write {
            on_write(&page);
        }
        let mut stats = ImportStats::default();
        let mut records = self.records.lock().unwrap();
        for record in page.records {
            match records.insert((page.resource.to_string(), record.key), record.payload.clone()) {
                None => stats.imported += 1,
                Some(old) if old == record.payload => stats.skipped += 1,
                Some(_) => stats.updated += 1,
            }
        }
        if let Some(bookmark) = page.bookmark {
            self.bookmarks.lock().unwrap().insert(page.resource.to_string(), bookmark);
        }
        std::future::ready(Ok(stats)).boxed()
    }
}

impl Memory {
    fn count(&self, resource: &Resource) -> usize {
        self.records.lock().unwrap().keys().filter(|(of, _)| *of == resource.as_str()).count()
    }

    fn bookmark_of(&self, resource: &Resource) -> Option<Value> {
        self.bookmarks.lock().unwrap().get(resource.as_str()).cloned()
    }
}

fn http() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

/// A practice server and a connector that is quick to give up.
struct Bench {
    base: String,
    clock: Clock,
    connector: AccuLynx,
    cancel: CancellationToken,
    _stop: tokio_util::sync::DropGuard,
}

/// Fast, and with the sandbox's limits lifted: pace has its own test.
fn quick() -> Tuning {
    Tuning {
        key_rate: 1000.0,
        host_rate: 1000.0,
        backoff: Duration::from_millis(5),
        request_timeout: Duration::from_millis(500),
        rate_limit_patience: Duration::from_secs(5),
        ..Tuning::default()
    }
}

fn unlimited(jobs: u32, contacts: u32) -> SandboxOptions {
    SandboxOptions { jobs, contacts, key_limit: 100_000, ip_limit: 100_000, ..SandboxOptions::default() }
}

impl Bench {
    async fn new(options: SandboxOptions, tuning: Tuning) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let (clock, stop) = (Clock::manual(NOON), CancellationToken::new());
        tokio::spawn(sandbox::serve(listener, options, clock.clone(), stop.clone()));
        let connector = AccuLynx::with(tuning).unwrap();
        Bench { base, clock, connector, cancel: CancellationToken::new(), _stop: stop.drop_guard() }
    }

    fn context(&self, tenant: &str, key: &str, resources: &[Resource], sink: &Arc<Memory>) -> ImportContext {
        ImportContext {
            id: ScheduleId::new(Connector::Acculynx, tenant.parse().unwrap()),
            run_id: 1,
            nominal: NOON,
            base_url: format!("{}{}", self.base, sandbox::BASE_PATH),
            api_key: Secret(key.to_owned()),
            connection: Default::default(),
            secrets: Default::default(),
            resources: resources.to_vec(),
            targets: Vec::new(),
            sink: sink.clone(),
            clock: self.clock.clone(),
            cancel: self.cancel.clone(),
        }
    }

    async fn import(&self, resources: &[Resource], sink: &Arc<Memory>) -> ImportOutcome {
        self.connector.import(self.context("peak", "sandbox-peak", resources, sink)).await
    }

    async fn fault(&self, fault: Value) {
        let answer = http().post(format!("{}/sandbox/faults", self.base)).json(&fault).send().await;
        assert_eq!(answer.unwrap().status(), 201);
    }

    async fn requests(&self) -> Value {
        http().get(format!("{}/sandbox/requests", self.base)).send().await.unwrap().json().await.unwrap()
    }

    /// What the practice server holds now, straight from its world.
    fn truth(&self, options: &SandboxOptions, resource: &Resource) -> BTreeMap<(String, String), Value> {
        let (now, world) = (self.clock.now(), sandbox::world::World::new(options, "peak", NOON));
        let records: Vec<Value> = match resource.as_str() {
            "jobs" => world.jobs(now).iter().map(|job| world.job_json(job)).collect(),
            _ => world.contacts(now).iter().map(|contact| world.contact_json(contact)).collect(),
        };
        records.into_iter().map(|r| ((resource.to_string(), r["id"].as_str().unwrap().to_owned()), r)).collect()
    }
}

/// The class and the message of an import that must have failed.
fn failed(outcome: ImportOutcome) -> (ErrorClass, String) {
    let failure = outcome.error.expect("the import should have failed");
    (failure.class, failure.message)
}

fn succeeded(outcome: ImportOutcome) -> ImportStats {
    assert!(outcome.error.is_none(), "{:?}", outcome.error);
    outcome.stats
}

#[tokio::test]
async fn the_first_import_gets_everything_and_the_next_only_what_changed() {
    let options = unlimited(130, 110);
    let (bench, sink) = (Bench::new(options.clone(), quick()).await, Arc::new(Memory::default()));
    let stats = succeeded(bench.import(BOTH, &sink).await);
    assert_eq!(stats, ImportStats { imported: 240, ..ImportStats::default() });
    let truth = || [bench.truth(&options, &Resource::JOBS), bench.truth(&options, &Resource::CONTACTS)];
    assert_eq!(*sink.records.lock().unwrap(), truth().into_iter().flatten().collect());

    bench.clock.advance(30 * MINUTE);
    let before = bench.requests().await["companies"]["peak"]["requests"].as_u64().unwrap();
    let stats = succeeded(bench.import(BOTH, &sink).await);
    assert_eq!((stats.imported, stats.failed), (9, 0), "six jobs and three contacts are new");
    assert!(stats.updated > 20, "{stats:?}");
    assert_eq!(*sink.records.lock().unwrap(), truth().into_iter().flatten().collect());
    let requests = bench.requests().await["companies"]["peak"]["requests"].as_u64().unwrap() - before;
    assert!(requests <= 9, "{requests} requests: more than the changed jobs and the contacts need");
}

#[tokio::test]
async fn a_bookmark_comes_only_with_the_last_page_of_a_list() {
    let (bench, sink) = (Bench::new(unlimited(130, 0), quick()).await, Arc::new(Memory::default()));
    succeeded(bench.import(JOBS, &sink).await);
    let pages = sink.pages.lock().unwrap().clone();
    assert!(pages.len() >= 6, "{pages:?}");
    assert_eq!(pages.iter().filter(|(_, bookmark)| *bookmark).count(), 2, "one for each list of jobs: {pages:?}");
    assert!(pages.last().is_some_and(|(records, bookmark)| *records > 0 && *bookmark));
    let bookmark = sink.bookmark_of(&Resource::JOBS).unwrap();
    assert!(bookmark["modified_date"].as_str().unwrap().starts_with("2026-06-01T"), "{bookmark}");
    assert!(bookmark["unassigned_modified_date"].is_string(), "{bookmark}");

    let sink = Arc::new(Memory::default());
    bench.fault(json!({"kind": "status", "status": 400, "path": "contacts"})).await;
    let fourth = json!({"kind": "slow"});
    for _ in 0..3 {
        bench.fault(fourth.clone()).await;
    }
    bench.fault(json!({"kind": "status", "status": 400, "path": "jobs"})).await;
    let (class, _) = failed(bench.import(JOBS, &sink).await);
    assert_eq!(class, ErrorClass::Configuration);
    assert_eq!(sink.count(&Resource::JOBS), 73, "three pages overlapping by one are kept");
    assert_eq!(sink.bookmark_of(&Resource::JOBS), None, "but not marked as read");
}

#[tokio::test]
async fn contacts_are_read_again_only_after_a_while() {
    let (bench, sink) = (Bench::new(unlimited(0, 60), quick()).await, Arc::new(Memory::default()));
    assert_eq!(succeeded(bench.import(CONTACTS, &sink).await).imported, 60);
    bench.clock.advance(9 * MINUTE);
    assert_eq!(succeeded(bench.import(CONTACTS, &sink).await), ImportStats::default());
    bench.clock.advance(2 * MINUTE);
    assert!(succeeded(bench.import(CONTACTS, &sink).await).skipped > 40);
}

#[tokio::test]
async fn nothing_is_lost_when_the_lists_move_between_pages() {
    let options = SandboxOptions {
        change_every: Duration::from_secs(10),
        job_every: Duration::from_secs(60),
        ..unlimited(200, 120)
    };
    let bench = Bench::new(options.clone(), quick()).await;
    let clock = bench.clock.clone();
    // Six changes and a new job with each of the first pages. For ever, no reading would catch up.
    let left = std::sync::atomic::AtomicU32::new(12);
    let on_write: OnWrite = Box::new(move |_| {
        let some = left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok();
        clock.advance(if some { MINUTE } else { 0 });
    });
    let sink = Arc::new(Memory { on_write: Some(on_write), ..Memory::default() });
    let start = [bench.truth(&options, &Resource::JOBS), bench.truth(&options, &Resource::CONTACTS)];
    succeeded(bench.import(BOTH, &sink).await);
    let records = sink.records.lock().unwrap().clone();
    for key in start.iter().flat_map(BTreeMap::keys) {
        assert!(records.contains_key(key), "{key:?} was there from the start and is missing");
    }
    assert!(bench.clock.now() > NOON + 5 * MINUTE, "the lists have moved");

    bench.clock.advance(20 * MINUTE);
    let quiet = Arc::new(Memory {
        records: Mutex::new(records),
        bookmarks: Mutex::new(sink.bookmarks.lock().unwrap().clone()),
        ..Memory::default()
    });
    succeeded(bench.import(BOTH, &quiet).await);
    let truth = [bench.truth(&options, &Resource::JOBS), bench.truth(&options, &Resource::CONTACTS)];
    assert_eq!(*quiet.records.lock().unwrap(), truth.into_iter().flatten().collect());
}

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
        let sink = Arc::new(Memory::default());
        let outcome = bench.import(JOBS, &sink).await;
        assert!(outcome.error.is_none(), "{fault}: {:?}", outcome.error);
        assert_eq!(outcome.stats.imported, 60, "{fault}");
    }
}

#[tokio::test]
async fn a_refusal_is_waited_out_as_long_as_asked() {
    let (bench, started) = (Bench::new(unlimited(10, 0), quick()).await, Instant::now());
    bench.fault(json!({"kind": "rate_limit", "delay_ms": 1000})).await;
    assert_eq!(succeeded(bench.import(JOBS, &Arc::new(Memory::default())).await).imported, 10);
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
        let sink = Arc::new(Memory::default());
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
        assert_eq!(sink.bookmark_of(&Resource::JOBS), None);
    }
}

#[tokio::test]
async fn a_source_that_is_not_there_is_unavailable() {
    let bench = Bench::new(unlimited(1, 0), quick()).await;
    let sink = Arc::new(Memory::default());
    let mut context = bench.context("peak", "sandbox-peak", JOBS, &sink);
    // A port that was just free.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    context.base_url = format!("http://127.0.0.1:{port}");
    assert_eq!(failed(bench.connector.import(context).await).0, ErrorClass::Unavailable);
}

#[tokio::test]
async fn the_key_goes_nowhere_it_should_not() {
    let bench = Bench::new(unlimited(1, 0), quick()).await;
    let sink = Arc::new(Memory::default());
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
    let sink = Arc::new(Memory::default());
    let context = ImportContext { base_url, ..bench.context("peak", "sandbox-peak", JOBS, &sink) };
    let (class, message) = failed(bench.connector.import(context).await);
    assert_eq!(class, ErrorClass::Configuration);
    assert!(message.contains("elsewhere.invalid"), "{message}");
}

#[tokio::test]
async fn a_repeated_page_and_an_endless_body_are_not_believed() {
    let bench = Bench::new(unlimited(60, 0), Tuning { request_timeout: Duration::from_secs(20), ..quick() }).await;
    let sink = Arc::new(Memory::default());
    bench.fault(json!({"kind": "repeat_page", "times": 1000})).await;
    let (class, message) = failed(bench.import(JOBS, &sink).await);
    assert_eq!(class, ErrorClass::BadResponse);
    assert!(message.contains("same page"), "{message}");
    assert_eq!((sink.count(&Resource::JOBS), sink.bookmark_of(&Resource::JOBS)), (25, None));
    http().delete(format!("{}/sandbox/faults", bench.base)).send().await.unwrap();

    bench.fault(json!({"kind": "endless"})).await;
    let (class, message) = failed(bench.import(JOBS, &Arc::new(Memory::default())).await);
    assert_eq!(class, ErrorClass::BadResponse);
    assert!(message.contains("more than 8 MiB"), "{message}");
}

#[tokio::test]
async fn a_record_without_an_id_counts_as_failed() {
    let bench = Bench::new(unlimited(60, 0), quick()).await;
    bench.fault(json!({"kind": "missing_id"})).await;
    let stats = succeeded(bench.import(JOBS, &Arc::new(Memory::default())).await);
    assert_eq!((stats.imported, stats.failed), (59, 1));
}

#[tokio::test]
async fn a_store_that_fails_is_told_from_a_source_that_fails() {
    let bench = Bench::new(unlimited(60, 0), quick()).await;
    let sink = Arc::new(Memory { broken: true, ..Memory::default() });
    let (class, message) = failed(bench.import(JOBS, &sink).await);
    assert_eq!((class, message.contains("disk full")), (ErrorClass::Store, true));
}

#[tokio::test]
async fn another_source_starts_from_the_beginning() {
    let (bench, sink) = (Bench::new(unlimited(60, 30), quick()).await, Arc::new(Memory::default()));
    succeeded(bench.import(BOTH, &sink).await);
    let other = Bench::new(unlimited(60, 30), quick()).await;
    assert_eq!(succeeded(other.import(BOTH, &sink).await).skipped, 90, "all of it, not only the recent changes");
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
    let sink = Arc::new(Memory::default());
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
        let (tenant, sink) = (format!("t{n}"), Arc::new(Memory::default()));
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
