//! From every earlier schema: what was there is there afterwards, and an upgrade that is cut off has not begun.
#![allow(clippy::cast_possible_wrap, reason = "counts of a test are small")]

use super::super::schema::MIGRATIONS;
use super::*;
use crate::adapters::store::{Depth, RunQuery, Soundness};
use crate::core::timing::iso;

const SQL: [&str; 12] = [
    include_str!("../../../../../migrations/sqlite/001_initial.sql"),
    include_str!("../../../../../migrations/sqlite/002_revisions.sql"),
    include_str!("../../../../../migrations/sqlite/003_holds.sql"),
    include_str!("../../../../../migrations/sqlite/004_commits.sql"),
    include_str!("../../../../../migrations/sqlite/005_defaults.sql"),
    include_str!("../../../../../migrations/sqlite/006_attempts.sql"),
    include_str!("../../../../../migrations/sqlite/007_records.sql"),
    include_str!("../../../../../migrations/sqlite/008_inbox.sql"),
    include_str!("../../../../../migrations/sqlite/009_retention.sql"),
    include_str!("../../../../../migrations/sqlite/010_volumes.sql"),
    include_str!("../../../../../migrations/sqlite/011_missed.sql"),
    include_str!("../../../../../migrations/sqlite/012_segments.sql"),
];

const NOW: Millis = 1_800_000_000_000;

/// A database as the program of schema `version` left it.
fn filled(path: &Path, version: usize) -> Connection {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut connection = Connection::open(path).unwrap();
    connection.pragma_update(None, "journal_mode", "WAL").unwrap();
    for sql in &SQL[..1] {
        connection.execute_batch(sql).unwrap();
    }
    // Rows that migrations find.
    rows(&connection);
    for sql in &SQL[1..version] {
        connection.execute_batch(sql).unwrap();
    }
    if version >= 2 {
        connection
            .execute_batch("INSERT OR IGNORE INTO contents (digest, content) VALUES (x'01', CAST('old' AS BLOB))")
            .unwrap();
    }
    if version >= 5 {
        connection
            .execute_batch("INSERT INTO defaults VALUES ('defaults.yaml', CAST('jitter_sec: 5' AS BLOB))")
            .unwrap();
    }
    connection.pragma_update(None, "user_version", version as i64).unwrap();
    let transaction = connection.transaction().unwrap();
    let mut head = Head::default();
    for tenant in ["a", "b", "c"] {
        let entry = head.append(draft(tenant), NOW, &iso(NOW));
        let mut insert = transaction.prepare_cached(super::super::writer::INSERT_ENTRY).unwrap();
        let texts = (&entry.tenant, &entry.connector, &entry.operation, &entry.source, &entry.actor);
        let (prev, hash) = (entry.prev_hash.0, entry.hash.0);
        insert
            .execute((
                entry.seq,
                entry.at,
                texts.0,
                texts.1,
                texts.2,
                texts.3,
                texts.4,
                &entry.action_id,
                &entry.metadata,
                prev,
                hash,
            ))
            .unwrap();
    }
    let end = format!("{}:{}", head.seq, head.hash.to_hex());
    transaction.execute("INSERT OR REPLACE INTO facts VALUES ('audit_head', ?1), ('term', '4')", [end]).unwrap();
    transaction.commit().unwrap();
    connection
}

fn rows(connection: &Connection) {
    let digest = Digest::of(b"interval_sec: 300\n").0;
    for (id, tenant, paused) in [(1, "a", false), (2, "b", true)] {
        connection
            .execute(
                "INSERT INTO schedules (id, connector, tenant, interval_sec, paused, pause_reason, spec, fingerprint,
                                        digest, stamp, created_ms, updated_ms, content)
                 VALUES (?1, 'noop', ?2, 300, ?3, NULL, '{}', ?4, ?5, 0, 1, 1, ?6)",
                (id, tenant, paused, [7_u8; 16], digest, b"interval_sec: 300\n"),
            )
            .unwrap();
    }
    connection
        .execute_batch(
            "INSERT INTO timers (id, next_due_ms, last_run_ms, last_ok, last_message, last_stats, failures)
             VALUES (1, 1800000300000, 1799999700000, 1, 'ok', '{\"imported\":3,\"updated\":0,\"skipped\":0,\"failed\":0}', 0), (2, NULL, NULL, NULL, NULL, NULL, 2);
             INSERT INTO runs (id, schedule, nominal_ms, trigger, state, term, started_ms, ended_ms, ok, message, stats)
             VALUES (1, 'noop/a', 1799999700000, 'schedule', 'done', 3, 1799999700000, 1799999701000, 1, 'ok', '{}'),
                    (2, 'noop/a', 1800000000000, 'schedule', 'running', 4, 1800000000000, NULL, NULL, NULL, NULL);
             INSERT INTO records (connector, tenant, resource, key, hash, payload, first_seen_ms, last_seen_ms)
             VALUES ('noop', 'a', 'jobs', '1', x'00', '{}', 1, 1), ('noop', 'a', 'jobs', '2', x'00', '{}', 1, 1);
             INSERT INTO bookmarks VALUES ('noop', 'a', 'jobs', '{\"since\":5}');
             INSERT INTO brakes VALUES ('noop/b', 'roof', 'zoe', 1);
             INSERT INTO problems VALUES ('schedules/noop/x.yaml', NULL, 1, '[]');
             INSERT INTO intents VALUES (1, 'noop', 'a', NULL, x'78', 1);",
        )
        .unwrap();
}

/// What must be as it was, whatever the schema before.
async fn same(store: &SqliteStore, version: usize) {
    assert_eq!(whole_log(store).await, ["a", "b", "c"], "{version}");
    let fleet = store.fleet().recv().await.unwrap().unwrap();
    let due: Vec<_> = fleet.iter().map(|row| (row.tenant.as_str(), row.paused, row.next_due)).collect();
    assert_eq!(due, [("a", false, Some(1_800_000_300_000)), ("b", true, None)], "{version}");
    let id: ScheduleId = "noop/a".parse().unwrap();
    let row = store.schedule(id.clone()).await.unwrap().unwrap();
    assert_eq!((row.content.as_slice(), row.last.stats.imported), (&b"interval_sec: 300\n"[..], 3), "{version}");
    assert_eq!(row.digest, Digest::of(&row.content), "{version}");
    assert_eq!(store.schedule("noop/b".parse().unwrap()).await.unwrap().unwrap().last.failures, 2);
    assert_eq!(store.open_runs().await.unwrap().len(), 1, "{version}");
    let query = RunQuery {
        connector: id.connector,
        tenant: Some(id.tenant.clone()),
        state: None,
        ok: None,
        trigger: None,
        error_class: None,
        since: None,
        until: None,
        before: None,
        limit: 9,
        most_looked_at: 100,
    };
    assert_eq!(store.runs(query).await.unwrap().runs.len(), 2, "{version}");
    let bookmark = store.bookmark(id.clone(), "jobs".parse().unwrap()).await.unwrap();
    assert_eq!(bookmark, Some(serde_json::json!({"since": 5})), "{version}");
    assert_eq!(store.brakes().await.unwrap().len(), 1, "{version}");
    assert_eq!(store.problems().await.unwrap().len(), 1, "{version}");
    assert_eq!(store.intents().await.unwrap().len(), 1, "{version}");
    assert_eq!(store.facts().await.unwrap().rows["records"], 2, "{version}");
    assert_eq!(store.defaults().await.unwrap().len(), usize::from(version >= 5), "{version}");
    let query = RevisionQuery { id, before: None, until: None, digest_prefix: None, limit: 9, with_content: true };
    assert_eq!(store.revisions(query).await.unwrap().len(), 1, "{version}");
    assert_eq!(store.check(Depth::Full, false).await.unwrap(), Soundness::Sound, "{version}");
}

#[tokio::test]
async fn every_earlier_schema_is_brought_up_to_date_with_all_it_holds() {
    assert_eq!(SQL.len(), MIGRATIONS.len(), "a new migration is tried as well");
    for version in 1..=MIGRATIONS.len() {
        let place = Place::new();
        drop(filled(&place.path(), version));
        let store = SqliteStore::open(&place.path()).unwrap();
        same(&store, version).await;
        assert_eq!(store.facts().await.unwrap().schema_version, newest_schema());
        // It goes on with what it has.
        store.append(vec![draft("d")], NOW).await.unwrap();
        assert_eq!(whole_log(&store).await.len(), 4, "{version}");
    }
}

#[tokio::test]
async fn an_upgrade_that_is_cut_off_has_not_begun() {
    for version in 1..MIGRATIONS.len() {
        let (place, killed) = (Place::new(), Place::new());
        let connection = filled(&place.path(), version);
        // Little memory, so that pages are written before the commit.
        connection.pragma_update(None, "cache_size", 1).unwrap();
        connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        for sql in &SQL[version..] {
            connection.execute_batch(sql).unwrap();
        }
        connection.pragma_update(None, "user_version", MIGRATIONS.len() as i64).unwrap();
        std::fs::create_dir_all(killed.path().parent().unwrap()).unwrap();
        std::fs::copy(place.path(), killed.path()).unwrap();
        std::fs::copy(with_suffix(&place.path(), "-wal"), with_suffix(&killed.path(), "-wal")).unwrap();
        let found: i64 = killed.shell().pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
        assert_eq!(found, version as i64);
        same(&SqliteStore::open(&killed.path()).unwrap(), version).await;
    }
}
