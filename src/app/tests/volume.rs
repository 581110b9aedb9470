//! Imports that end well and bring far less than they usually do.

use std::collections::VecDeque;

use futures_util::future::BoxFuture;

use super::*;
use crate::adapters::connectors::{Connect, ImportContext, ImportOutcome, Page, Record, Secret};
use crate::adapters::store::RunQuery;
use crate::core::model::{Connector, Resource, ScheduleId};
use crate::core::volume::ShortImport;

/// What an import does.
#[derive(Clone, Copy)]
enum Import {
    /// Brings so many records, without a bookmark.
    Whole(u32),
    /// As many, behind a bookmark.
    Incremental(u32),
    /// Reads contacts from end to end, behind a bookmark.
    Sweep(u32),
}

/// Does as told, one import after the other.
struct Scripted(Mutex<VecDeque<Import>>);

impl Connect for Scripted {
    fn import(&self, context: ImportContext) -> BoxFuture<'_, ImportOutcome> {
        Box::pin(async move {
            let next = { self.0.lock().unwrap().pop_front() };
            let (count, bookmark) = match next.unwrap() {
                Import::Whole(count) => (count, None),
                Import::Incremental(count) | Import::Sweep(count) => (count, Some(json!(1))),
            };
            let record = |n| Record { key: format!("{n}"), payload: json!(n) };
            let page = Page { resource: Resource::CONTACTS, records: (0..count).map(record).collect(), bookmark };
            let stats = context.sink.write_page(page).await.unwrap();
            if let Some(Import::Sweep(count)) = next {
                context.sink.swept(&Resource::CONTACTS, count.into());
            }
            ImportOutcome { stats, error: None, log: None }
        })
    }
}

fn id() -> ScheduleId {
    "acculynx/a".parse().unwrap()
}

/// A world whose AccuLynx imports go like this, all of them carried out.
async fn after(imports: &[Import]) -> World {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path().join("desired/schedules/acculynx/a.yaml"), "interval_sec: 86400\n");
    let clock = Clock::manual(START);
    let mut settings = Settings { desired_dir: folder.path().join("desired"), ..Settings::default() };
    settings.acculynx.api_key = Some(Secret("key".to_owned()));
    let store = Arc::new(SqliteStore::open(&folder.path().join("data/store.db")).unwrap());
    let acculynx = Arc::new(Scripted(Mutex::new(imports.iter().copied().collect())));
    let connectors = Connectors { acculynx, exec: Arc::new(Noop), http: Arc::new(Noop), noop: Arc::new(Noop) };
    let app = App::new(settings, clock.clone(), store, connectors, Arc::new(Metrics::new(10).unwrap()));
    app.bring_up().await.unwrap();
    let world = World { folder, clock, app };
    let caller = Caller { source: Origin::Cli, actor: "zoe".into() };
    for _ in imports {
        world.clock.advance(1000);
        let ran = world.app.run_now(&id(), &caller, Duration::from_secs(30)).await.unwrap();
        assert!(matches!(ran, RunNow::Done(answer) if answer.ok));
    }
    world
}

impl World {
    /// Which of all runs were called short, the first run first.
    async fn shorts(&self) -> Vec<Option<ShortImport>> {
        let query = RunQuery {
            connector: Connector::Acculynx,
            tenant: None,
            state: None,
            ok: None,
            trigger: None,
            error_class: None,
            since: None,
            until: None,
            before: None,
            limit: 100,
            most_looked_at: 100,
        };
        let mut runs = self.app.past_runs(query).await.unwrap().0;
        runs.reverse();
        runs.into_iter().map(|run| run.short_import).collect()
    }
}

#[tokio::test]
async fn an_import_that_brings_too_little_is_flagged_and_told_of() {
    use Import::Whole;
    let world = after(&[Whole(40), Whole(42), Whole(40), Whole(39), Whole(41), Whole(3)]).await;
    let expect = ShortImport { resource: None, expected: 40, got: 3 };
    assert_eq!(world.shorts().await[4..], [None, Some(expect.clone())]);
    let status = world.status("acculynx/a").await.unwrap();
    assert_eq!((status.short, status.last_status.unwrap().short_import), (true, Some(expect)));
    let audit = world.audit().await;
    assert_eq!(audit.last().unwrap(), "import.volume.short a [] by scheduler", "{audit:#?}");
    assert!(world.app.metrics.render().contains("command_center_imports_short_total{connector=\"acculynx\"} 1"));
    let again = after(&[Whole(40), Whole(40), Whole(40), Whole(40), Whole(40), Whole(0), Whole(40)]).await;
    assert_eq!(again.shorts().await.iter().flatten().count(), 1);
    assert!(!again.status("acculynx/a").await.unwrap().short, "the next run is as usual");
}

#[tokio::test]
async fn incremental_imports_vary_by_nature() {
    use Import::{Incremental, Sweep};
    let runs = [[Incremental(100); 6].as_slice(), &[Incremental(0); 3]].concat();
    assert!(after(&runs).await.shorts().await.iter().all(Option::is_none));
    let mixed = [Sweep(50), Incremental(1), Sweep(50), Sweep(50), Sweep(50), Incremental(0), Sweep(50), Sweep(0)];
    let shorts = after(&mixed).await.shorts().await;
    let short = ShortImport { resource: Some("contacts".into()), expected: 50, got: 0 };
    assert_eq!(shorts.iter().flatten().collect::<Vec<_>>(), [&short], "complete readings compare all the same");
    assert_eq!(shorts.last().unwrap().as_ref(), Some(&short));
}
