//! The connector against the practice server over loopback, with a sink in memory.

mod milestones;
mod reading;
mod targets;
mod trouble;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::adapters::clock::Clock;
use crate::adapters::connectors::kept::Kept;
use crate::adapters::connectors::{Page, Secret};
use crate::core::model::{Connector, ImportStats, Millis, Resource, ScheduleId};
use crate::sandbox::{self, SandboxOptions};

/// 2026-06-01T12:00:00Z
const NOON: Millis = 1_780_315_200_000;
const MINUTE: Millis = 60_000;
const JOBS: &[Resource] = &[Resource::JOBS];
const CONTACTS: &[Resource] = &[Resource::CONTACTS];
const BOTH: &[Resource] = &[Resource::JOBS, Resource::CONTACTS];

impl Kept {
    fn count(&self, resource: &Resource) -> usize {
        self.records.lock().unwrap().keys().filter(|(of, _)| *of == resource.as_str()).count()
    }

    /// Whether a list of jobs is said to have been read to its end.
    fn has_read_jobs(&self) -> bool {
        self.bookmark_of(Resource::JOBS.as_str()).is_some_and(|bookmark| bookmark["modified_date"].is_string())
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

    fn context(&self, tenant: &str, key: &str, resources: &[Resource], sink: &Arc<Kept>) -> ImportContext {
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

    async fn import(&self, resources: &[Resource], sink: &Arc<Kept>) -> ImportOutcome {
        self.connector.import(self.context("peak", "sandbox-peak", resources, sink)).await
    }

    async fn fault(&self, fault: Value) {
        let answer = http().post(format!("{}/sandbox/faults", self.base)).json(&fault).send().await;
        assert_eq!(answer.unwrap().status(), 201);
    }

    async fn requests(&self) -> Value {
        http().get(format!("{}/sandbox/requests", self.base)).send().await.unwrap().json().await.unwrap()
    }

    /// How many requests came for the company so far.
    async fn sent(&self) -> u64 {
        self.requests().await["companies"]["peak"]["requests"].as_u64().unwrap_or(0)
    }

    /// What the practice server holds now, straight from its world.
    fn truth(&self, options: &SandboxOptions, resource: &Resource) -> BTreeMap<(String, String), Value> {
        let (now, world) = (self.clock.now(), sandbox::world::World::new(options, "peak", NOON));
        let records: Vec<Value> = match resource.as_str() {
            "jobs" => world.jobs(now).iter().map(|job| world.job_json(job)).collect(),
            "estimates" => world.estimates(now),
            "users" => world.users(),
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
