//! What replication costs those who write: the same commits with and without what they change being captured,
//! cut twice a second and compressed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use command_center::adapters::store::{SqliteStore, Store as _};
use command_center::core::audit::{Draft, operation};
use command_center::core::model::{Connector, Digest, Source};
use command_center::core::replica::segment::Segment;
use serde_json::json;

use super::{Table, ms, runtime, timed};

const COMMITS: usize = 4_000;
const ROUNDS: usize = 3;

pub fn measure(table: &mut Table) {
    if !table.wants("replication on/off") {
        return;
    }
    let runtime = runtime();
    for callers in [1, 32] {
        let (mut off, mut on) = (Duration::ZERO, Duration::ZERO);
        // By turns, so that the disk's moods meet both.
        for _ in 0..ROUNDS {
            off += runtime.block_on(written(callers, false));
            on += runtime.block_on(written(callers, true));
        }
        let ratio = on.as_secs_f64() / off.as_secs_f64();
        let beside = format!("{} and {} for {} commits", ms(off), ms(on), COMMITS * ROUNDS);
        table.row(&format!("replication on/off, {callers} writing"), format!("{ratio:.2}"), beside, "about 1");
    }
}

/// How long the commits take.
async fn written(callers: usize, is_captured: bool) -> Duration {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Arc::new(SqliteStore::open(&folder.path().join("store.db")).expect("the store"));
    let done = Arc::new(AtomicBool::new(false));
    let mut cutting = None;
    if is_captured {
        let _ = store.begin_snapshot(0).await.expect("a reading");
        let (capture, done) = (store.capture(), done.clone());
        cutting = Some(std::thread::spawn(move || {
            let mut previous = Digest([0; 32]);
            for index in 1.. {
                let is_last = done.load(Ordering::Relaxed);
                let taken = capture.take().expect("no gap");
                if !taken.sections.is_empty() {
                    let (sections, page_size) = (taken.sections, taken.page_size);
                    let segment = Segment { generation: "bench".into(), index, previous, page_size, sections };
                    previous = segment.encode().expect("a segment").1;
                }
                if is_last {
                    return;
                }
                std::thread::sleep(Duration::from_millis(500));
            }
        }));
    }
    let (work, began) = (store.clone(), std::time::Instant::now());
    let each = COMMITS / callers;
    let tasks = (0..callers).map(|caller| {
        let store = work.clone();
        tokio::spawn(async move {
            for n in 0..each {
                store.append(vec![draft(caller * each + n)], 1_800_000_000_000).await.expect("an entry");
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.expect("it ends");
    }
    let took = began.elapsed();
    done.store(true, Ordering::Relaxed);
    if let Some(cutting) = cutting {
        let ((), _) = timed(|| cutting.join().expect("it ends"));
    }
    store.close();
    took
}

fn draft(n: usize) -> Draft {
    Draft {
        tenant: format!("tenant-{:05}", n % 2_000),
        connector: Some(Connector::Acculynx),
        operation: operation::UPDATED,
        source: Source::Api,
        actor: "bench".to_owned(),
        action_id: format!("01a1fc2b-70d2-77e9-b72a-{n:012x}"),
        metadata: json!({"diff": [{"field": "interval_sec", "from": n, "to": n + 1}]}).into(),
    }
}
