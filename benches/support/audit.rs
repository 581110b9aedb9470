//! What a verification of the whole audit log costs, live and sealed, beside what cannot be less: hashing
//! the same bytes and reading the same rows.

use command_center::adapters::store::{Seal, Store};
use command_center::core::audit::{Draft, operation};
use command_center::core::model::{Connector, Digest, Millis, Source};
use serde_json::json;

use super::{Fleet, Table, ms, open, runtime, timed};

const COUNT: usize = 1_000_000;
const BLOCK: u32 = 500;

pub fn measure(table: &mut Table) {
    if !table.wants("audit verify of 1,000,000") {
        return;
    }
    let fleet = Fleet::new(0, |_| String::new());
    let runtime = runtime();
    let app = open(&fleet);
    fill(&runtime, app.store.as_ref());
    let hashed = floor_of_hashing(&runtime, app.store.as_ref());
    let mut live = std::time::Duration::ZERO;
    for what in ["live", "sealed"] {
        let (entries, read) = timed(|| runtime.block_on(walk(app.store.as_ref(), |_| {})));
        assert_eq!(entries, COUNT);
        let (verdict, took) = timed(|| runtime.block_on(app.verify_audit(Vec::new())).expect("a verdict"));
        assert!(verdict.valid && verdict.total_entries == COUNT as u64, "{}", verdict.message);
        let beside = format!("hashing {}, reading {}", ms(hashed), ms(read));
        table.row(&format!("audit verify of 1,000,000, {what}"), ms(took), beside, "bounded by hashing and reading");
        if what == "live" {
            live = took;
            seal(table, &runtime, app.store.as_ref());
        }
    }
    let facts = runtime.block_on(app.store.sealed()).expect("facts");
    let part = facts.packed_bytes as f64 / facts.raw_bytes as f64;
    table.row("sealed entries: part of their size", format!("{part:.2}"), format!("live verify took {}", ms(live)), "");
    app.store.close();
}

fn draft(n: usize) -> Draft {
    Draft {
        tenant: format!("tenant-{:05}", n % 20_000),
        connector: Some(Connector::Acculynx),
        operation: [operation::UPDATED, operation::PAUSED, operation::RESUMED][n % 3],
        source: Source::Api,
        actor: format!("operator-{}", n % 50),
        action_id: format!("01a1fc2b-70d2-77e9-b72a-{n:012x}"),
        metadata: json!({"diff": [{"field": "interval_sec", "from": n, "to": n + 1}], "file": format!("schedules/acculynx/tenant-{:05}.yaml", n % 20_000)}).into(),
    }
}

fn fill(runtime: &tokio::runtime::Runtime, store: &dyn Store) {
    let mut at: Millis = 1_800_000_000_000;
    for first in (0..COUNT).step_by(10_000) {
        let drafts = (first..first + 10_000).map(draft).collect();
        at += 10_000;
        runtime.block_on(store.append(drafts, at)).expect("entries");
    }
}

async fn walk(store: &dyn Store, mut each: impl FnMut(&command_center::core::audit::Entry)) -> usize {
    let (mut log, mut count) = (store.audit_log(), 0);
    while let Some(batch) = log.recv().await {
        let batch = batch.expect("entries");
        count += batch.len();
        batch.iter().for_each(&mut each);
    }
    count
}

/// SHA-256 over as many bytes as the entries' canonical forms have, one thread.
fn floor_of_hashing(runtime: &tokio::runtime::Runtime, store: &dyn Store) -> std::time::Duration {
    let mut lengths = Vec::with_capacity(COUNT);
    runtime.block_on(walk(store, |entry| {
        let texts = entry.tenant.len() + entry.actor.len() + entry.action_id.len() + entry.operation.len();
        lengths.push(190 + texts + entry.metadata.len() + entry.connector.len());
    }));
    let bytes = vec![7u8; lengths.iter().copied().max().unwrap_or(1)];
    let (sum, took) = timed(|| lengths.iter().fold(0u8, |sum, length| sum ^ Digest::of(&bytes[..*length]).0[0]));
    std::hint::black_box(sum);
    took
}

fn seal(table: &mut Table, runtime: &tokio::runtime::Runtime, store: &dyn Store) {
    let mut worst = std::time::Duration::ZERO;
    let (blocks, took) = timed(|| {
        let mut blocks = 0u32;
        loop {
            let (sealed, took) = timed(|| runtime.block_on(store.seal_audit(0, BLOCK)).expect("a block"));
            if sealed == Seal::Nothing {
                return blocks;
            }
            worst = worst.max(took);
            blocks += 1;
        }
    });
    let each = took / blocks.max(1);
    table.row("seal a block of 500 entries", ms(each), format!("worst {}", ms(worst)), "");
}
