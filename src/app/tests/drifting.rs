//! Drift as people read it: fields, causes, since when, how often; and who cannot compare says so.

use super::*;

impl World {
    /// `facet cause field: desired/actual/last-applied …` of each item.
    async fn drift(&self) -> Vec<String> {
        let report = self.app.drift().await.unwrap();
        let field = |field: &views::FieldDrift| {
            format!(" {} {}/{}/{}", field.field, field.desired, field.actual, field.last_applied)
        };
        let line = |item: &views::DriftItem| {
            let fields: String = item.fields.iter().map(field).collect();
            format!("{} {} {}{fields}", item.tenant, item.facet.as_str(), item.cause.as_str())
        };
        report.items.iter().map(line).collect()
    }

    async fn last_repair(&self) -> Value {
        let query =
            AuditQuery { limit: 1, operation: Some("reconcile.drift.repaired".into()), ..AuditQuery::default() };
        self.app.store.audit_page(query).await.unwrap()[0].view().metadata
    }
}

#[tokio::test]
async fn each_cause_is_told_apart() {
    let world = World::new(&[("noop/a", "interval_sec: 300\n")]).await;
    world.sql("UPDATE schedules SET interval_sec = 7");
    assert_eq!(world.drift().await, ["a spec row-changed-by-hand interval_sec 300/7/300"]);
    world.pass().await;
    assert_eq!(world.last_repair().await["cause"], "row-changed-by-hand");
    world.sql("UPDATE schedules SET paused = 1");
    assert_eq!(world.drift().await, ["a pause flag-flipped paused false/true/false"]);
    world.pass().await;
    world.sql("UPDATE timers SET next_due_ms = NULL");
    let drift = world.drift().await;
    assert!(drift[0].starts_with("a timer timer-lost next_run_iso \"2027-"), "{drift:?}");
    world.pass().await;
    assert_eq!(world.last_repair().await["cause"], "timer-lost");
    world.sql("DELETE FROM schedules");
    assert_eq!(world.drift().await, ["a row row-lost interval_sec 300/null/null paused false/null/null"]);
    world.pass().await;
    assert_eq!(world.last_repair().await["cause"], "row-lost");
    assert_eq!(world.drift().await, Vec::<String>::new());
    world.sql(
        "INSERT INTO schedules (id, connector, tenant, interval_sec, paused, spec, fingerprint, digest, stamp, created_ms, updated_ms)
         VALUES (99, 'noop', 'x', 5, 0, '{}', zeroblob(16), zeroblob(32), 0, 0, 0)",
    );
    assert_eq!(world.drift().await, ["x row row-changed-by-hand interval_sec null/5/null paused null/false/null"]);
}

#[tokio::test]
async fn drift_that_keeps_coming_back_is_counted() {
    let world = World::new(&[("noop/a", "interval_sec: 300\n")]).await;
    let first = crate::core::timing::iso(START);
    for times in 1..4 {
        world.sql("UPDATE schedules SET paused = 1");
        let item = world.app.drift().await.unwrap().items.remove(0);
        assert_eq!((item.times_seen, &item.first_seen_iso), (times, &first));
        assert!(item.next_try_iso.is_some() && item.actor.is_none());
        world.pass().await;
        let repair = world.last_repair().await;
        assert_eq!((&repair["times_seen"], &repair["first_seen_iso"]), (&json!(times), &json!(first)));
        world.clock.advance(60_000);
    }
    let recurring = world.app.drift().await.unwrap().recurring;
    assert_eq!((recurring.len(), recurring[0].times_seen, recurring[0].facet.as_str()), (1, 3, "pause"));
}

#[tokio::test]
async fn paused_and_braked_schedules_show_their_drift() {
    let world = World::new(&[("noop/a", "interval_sec: 300\npaused: true\n")]).await;
    let caller = Caller { source: Origin::Ui, actor: "zoe".into() };
    world.app.pull_brake(Some("noop/a".parse().unwrap()), "fire".into(), &caller).await.unwrap();
    world.sql("UPDATE schedules SET interval_sec = 7");
    let report = world.app.drift().await.unwrap();
    assert_eq!(report.items[0].fields[0].actual, json!(7));
    assert_eq!((report.items[1].actor.as_deref(), &report.items[1].actual), (Some("zoe"), &json!({"brake": "fire"})));
    assert_eq!(world.status("noop/a").await.unwrap().sync, "drifted");
    world.pass().await;
    assert_eq!(world.status("noop/a").await.unwrap().interval_sec, Some(300));
}

#[tokio::test]
async fn a_broken_file_keeps_its_time_and_hides_no_drift() {
    let world = World::new(&[("noop/a", "interval_sec: 300\n")]).await;
    world.write("noop/a", "# ours\nintervall_sec: 5\n");
    world.pass().await;
    world.clock.advance(60_000);
    let world = world.restart().await;
    let report = world.app.drift().await.unwrap();
    let item = &report.items[0];
    assert_eq!((item.sync.as_str(), &item.first_seen_iso), ("invalid", &crate::core::timing::iso(START)));
    assert!(report.totals.invalid_files[0].frames[0].contains("2 | intervall_sec: 5"), "{report:?}");
    assert!(world.app.health().await.drift.invalid_files[0].frames.is_empty(), "values are for operators");
    world.sql("UPDATE schedules SET interval_sec = 7");
    let report = world.app.drift().await.unwrap();
    assert_eq!(report.items.len(), 2);
    assert_eq!(report.items[1].fields[0].last_applied, json!(300));
}

#[tokio::test]
async fn nothing_is_called_synced_when_the_loop_has_stopped() {
    let world = World::new(&[("noop/a", "interval_sec: 300\n")]).await;
    let interval = Millis::try_from(world.app.settings.health_interval.as_millis()).unwrap();
    world.clock.advance(3 * interval);
    assert_eq!(world.status("noop/a").await.unwrap().sync, "synced");
    world.clock.advance(11_000);
    let status = world.status("noop/a").await.unwrap();
    assert_eq!((status.sync.as_str(), status.sync_reason.as_deref()), ("pending", Some("stale")));
    assert_eq!(world.app.drift().await.unwrap().totals.sync["synced"], 0);
    world.pass().await;
    assert_eq!(world.status("noop/a").await.unwrap().sync, "synced");
}
