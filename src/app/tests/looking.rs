//! What a loop stored and did not live to remember.

use super::*;

/// Two applications over one store: what the second does, the first has not learnt, as if its own loop had been
/// ended between the commit and the memory of it.
#[tokio::test]
async fn memory_learns_what_a_loop_that_was_ended_had_stored() {
    let world = World::new(&[("noop/a", "interval_sec: 300\n"), ("noop/gone", "interval_sec: 300\n")]).await;
    let (settings, store) = (world.app.settings.clone(), world.app.store.clone());
    let connectors = Connectors::all(Arc::new(Noop));
    let other = App::new(settings, world.clock.clone(), store, connectors, Arc::new(Metrics::new(10).unwrap()));
    other.bring_up().await.unwrap();
    put(world.folder.path().join("desired").join(file_of("noop/a")), "interval_sec: 60\n");
    put(world.folder.path().join("desired").join(file_of("noop/new")), "interval_sec: 60\n");
    other.full_pass(None).await.unwrap();
    let due =
        |app: &App, name: &str| app.fleet().get(crate::core::model::Connector::Noop, name).and_then(|g| g.next_due);
    assert_ne!(due(&world.app, "a"), due(&other, "a"));

    world.app.doubt_everything();
    world.app.full_pass(None).await.unwrap();
    for name in ["a", "new", "gone"] {
        assert_eq!(due(&world.app, name), due(&other, name), "{name}");
    }
    let health = world.app.health().await;
    assert_eq!(health.drift.sync["synced"], 3, "{:?}", health.drift.sync);
    let repaired = Some("reconcile.drift.repaired".to_owned());
    let query = AuditQuery { operation: repaired, limit: 5, ..AuditQuery::default() };
    assert!(world.app.store.audit_page(query).await.unwrap().is_empty(), "it was no drift");
}
