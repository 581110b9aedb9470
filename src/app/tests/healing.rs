//! A store that is damaged heals at the next start, and says what is lost: bytes flipped on every page, files cut
//! at every length, gone, empty, or directories; snapshots torn or missing.
#![allow(clippy::cast_possible_wrap, reason = "counts of a test are small")]

use std::path::Path;

use super::*;
use crate::app::heal::{self, Replica, RestoreAsked, restore_file};
use crate::app::views::RestoredView;
use crate::core::audit::{Entry, Head};

/// A folder with a desired directory, a store and its snapshots, as a server left it.
pub(super) struct Site(pub(super) tempfile::TempDir);

const FILES: [(&str, &str); 4] = [
    ("noop/a", "interval_sec: 300\n"),
    ("noop/b", "interval_sec: 60\npaused: true\n"),
    ("exec/c", "interval_sec: 60\nconnection: { command: [/bin/true] }\n"),
    ("exec/d", "interval_sec: 60\nretries: 1\nconnection: { command: [/bin/true] }\n"),
];

impl Site {
    pub(super) fn settings(&self) -> Settings {
        Settings {
            desired_dir: self.0.path().join("desired"),
            data_dir: self.0.path().join("data"),
            dsn: self.database(),
            ..Settings::default()
        }
    }

    fn database(&self) -> PathBuf {
        self.0.path().join("data/store.db")
    }

    pub(super) async fn start(&self, now: Millis) -> anyhow::Result<Arc<App>> {
        self.start_with(self.settings(), now, None).await
    }

    pub(super) async fn start_with(
        &self,
        settings: Settings,
        now: Millis,
        replica: Option<Arc<dyn Replica>>,
    ) -> anyhow::Result<Arc<App>> {
        let clock = Clock::manual(now);
        let begin = async |store: Arc<SqliteStore>| {
            let noop = Arc::new(Noop);
            let connectors = Connectors { acculynx: noop.clone(), exec: noop.clone(), http: noop.clone(), noop };
            let metrics = Arc::new(Metrics::new(10)?);
            let app = App::new(settings.clone(), clock.clone(), store, connectors, metrics);
            app.bring_up().await?;
            Ok(app)
        };
        heal::start(&settings, &clock, None, replica, begin).await
    }

    /// Entries after the fleet came up, a snapshot after `before` of them, `after` more, and an end in order.
    pub(super) async fn filled(before: usize, after: usize) -> Site {
        let site = Site(tempfile::tempdir().unwrap());
        for (name, text) in FILES {
            super::put(site.0.path().join("desired").join(super::file_of(name)), text);
        }
        let app = site.start(START).await.unwrap();
        note(&app, before).await;
        app.snapshot("asked").await.unwrap();
        note(&app, after).await;
        app.store.close();
        site
    }

    /// The same again, to be damaged in another way.
    pub(super) fn again(&self) -> Site {
        let copy = Site(tempfile::tempdir().unwrap());
        copy_all(self.0.path(), copy.0.path());
        copy
    }

    fn aside(&self) -> Vec<String> {
        let names = std::fs::read_dir(self.0.path().join("data")).unwrap().flatten();
        let mut names: Vec<_> = names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.retain(|name| name.contains(".corrupt-") || name.contains(".before-restore-"));
        names.sort();
        names
    }
}

fn copy_all(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_all(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

pub(super) async fn note(app: &App, count: usize) {
    let caller = Caller { source: Origin::Api, actor: "zoe".into() };
    for n in 0..count {
        let draft = crate::app::apply::draft(None, "test.note.made", &caller, "0190", json!({ "n": n }));
        app.store.append(vec![draft], START).await.unwrap();
    }
}

pub(super) async fn entries_of(app: &App) -> Vec<Entry> {
    let (mut batches, mut all) = (app.store.audit_log(), Vec::new());
    // What cannot be read ends it; then no check calls the log valid.
    while let Some(Ok(batch)) = batches.recv().await {
        all.extend(batch);
    }
    all
}

pub(super) fn restored(app: &App) -> Option<RestoredView> {
    app.keeping.told().restored.clone()
}

/// After a start everything is either as it was or said to be lost.
async fn check(site: &Site, app: &App, before: &[Entry], what: &str) -> bool {
    let verdict = app.verify_audit(Vec::new()).await;
    let log = entries_of(app).await;
    let told = restored(app);
    let kept = log.iter().zip(before).take_while(|(now, then)| now == then).count();
    match &told {
        Some(told) => {
            let verdict = verdict.unwrap();
            assert!(verdict.valid, "{what}: {verdict:?}");
            assert!(told.settled, "{what}");
            assert_eq!(told.kept_seq, kept as i64, "{what}: {told:?}");
            let entry = &log[kept];
            assert_eq!(entry.operation, "ops.store.restored", "{what}");
            if kept < before.len() {
                assert_eq!(told.first_lost_seq, Some(kept as i64 + 1), "{what}: {told:?}");
                let last = told.last_lost_seq.as_i64();
                assert!(
                    told.last_lost_seq == "unknown"
                        || last == Some(before.len() as i64)
                        || told.lost.contains("at least"),
                    "{what}: {told:?}"
                );
            } else {
                assert!(told.first_lost_seq.is_none() || told.last_lost_seq == "unknown", "{what}: {told:?}");
            }
            assert!(!site.aside().is_empty() || told.set_aside.is_none(), "{what}");
        }
        // A changed entry is never called valid.
        None => assert!(kept == before.len() || !verdict.is_ok_and(|verdict| verdict.valid), "{what}"),
    }
    for (name, text) in FILES {
        let id: ScheduleId = name.parse().unwrap();
        let row = app.store.schedule(id).await.unwrap().unwrap_or_else(|| panic!("{what}: {name} is gone"));
        assert_eq!(String::from_utf8(row.content).unwrap(), text, "{what}: {name}");
    }
    told.is_some()
}

async fn entries(site: &Site) -> Vec<Entry> {
    let app = site.again();
    let app = app.start(START).await.unwrap();
    let all = entries_of(&app).await;
    app.store.close();
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_flipped_on_any_page_are_healed_or_harmless() {
    let site = Site::filled(40, 30).await;
    let before = entries(&site).await;
    let good = std::fs::read(site.database()).unwrap();
    let (mut healed, mut total) = (0, 0);
    for page in 0..good.len() / 4096 {
        // The page's head, its middle and its end; a bit, a byte, a stretch.
        for (at, length, mask) in [(3, 1, 0x01), (9, 4, 0xff), (2048, 1, 0x40), (4000, 64, 0xa5)] {
            let copy = site.again();
            let mut bytes = good.clone();
            for byte in &mut bytes[page * 4096 + at..][..length] {
                *byte ^= mask;
            }
            std::fs::write(copy.database(), bytes).unwrap();
            let what = format!("page {} at {at}", page + 1);
            let app = copy.start(START + 1000).await.unwrap_or_else(|error| panic!("{what}: {error:#}"));
            total += 1;
            healed += usize::from(check(&copy, &app, &before, &what).await);
            app.store.close();
        }
    }
    assert!(healed > total / 4, "of {total} only {healed} were healed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_cut_at_any_page_is_healed() {
    let site = Site::filled(40, 30).await;
    let before = entries(&site).await;
    let good = std::fs::read(site.database()).unwrap();
    for length in (0..good.len()).step_by(4096).chain([100, good.len() - 1]) {
        let copy = site.again();
        std::fs::write(copy.database(), &good[..length]).unwrap();
        let what = format!("cut at {length}");
        let app = copy.start(START + 1000).await.unwrap_or_else(|error| panic!("{what}: {error:#}"));
        // The pages that are cut off may be free ones; then nothing is lost.
        let healed = check(&copy, &app, &before, &what).await;
        assert!(healed || length % 4096 != 0 || length + 8192 > good.len(), "{what}");
        app.store.close();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_file_any_more_is_restored() {
    let site = Site::filled(5, 3).await;
    let before = entries(&site).await;
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 4] = [
        ("gone", |path| std::fs::remove_file(path).unwrap()),
        ("empty", |path| std::fs::write(path, "").unwrap()),
        ("text", |path| std::fs::write(path, "interval_sec: 300\n".repeat(900)).unwrap()),
        ("directory", |path| {
            std::fs::remove_file(path).unwrap();
            std::fs::create_dir(path).unwrap();
        }),
    ];
    for (what, damage) in damages {
        let copy = site.again();
        damage(&copy.database());
        let app = copy.start(START + 1000).await.unwrap();
        assert!(check(&copy, &app, &before, what).await, "{what}");
        let told = restored(&app).unwrap();
        assert!(told.from.starts_with("snapshot ") && told.kept_seq == before.len() as i64 - 3, "{what}: {told:?}");
        let health = app.health().await;
        assert_eq!(health.db.status, 1);
        assert!(health.db.message.unwrap().contains("restored from snapshot"), "{what}");
        assert!(app.dismiss_restored(&Caller { source: Origin::Api, actor: "zoe".into() }).await.unwrap());
        assert!(app.health().await.db.upkeep.restored.is_none());
        app.store.close();
        // It heals once.
        let app = copy.start(START + 2000).await.unwrap();
        assert!(restored(&app).is_none());
        app.store.close();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_snapshot_leads_to_the_one_before_and_none_to_a_fresh_store() {
    let site = Site::filled(5, 3).await;
    let app = site.start(START + 500).await.unwrap();
    note(&app, 4).await;
    app.snapshot("asked").await.unwrap();
    app.store.close();
    let before = entries(&site).await;
    let snapshots = app.snapshots().await.unwrap();
    let newest = site.settings().data_dir.join("snapshots").join(&snapshots[0].name);
    std::fs::write(newest.join("database.db.zst"), "torn").unwrap();
    std::fs::write(site.database(), "").unwrap();
    let copy = site.again();
    let app = copy.start(START + 1000).await.unwrap();
    assert!(check(&copy, &app, &before, "one before").await);
    assert!(restored(&app).unwrap().from.contains(&snapshots[1].name));
    app.store.close();

    std::fs::remove_dir_all(site.settings().data_dir.join("snapshots")).unwrap();
    let app = site.start(START + 1000).await.unwrap();
    assert!(check(&site, &app, &before, "fresh").await);
    let told = restored(&app).unwrap();
    assert_eq!((told.from.as_str(), told.kept_seq, told.first_lost_seq), ("nothing", 0, Some(1)));
    app.store.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_after_the_snapshot_are_taken_over_where_they_can_be_read() {
    let site = Site::filled(5, 60).await;
    let before = entries(&site).await;
    let mut bytes = std::fs::read(site.database()).unwrap();
    // A page of another table: the one that holds the schedules' contents.
    let at = bytes.windows(17).position(|window| window == b"interval_sec: 300").unwrap();
    let page = at / 4096 * 4096;
    bytes[page..page + 12].fill(0xff);
    std::fs::write(site.database(), bytes).unwrap();
    let app = site.start(START + 1000).await.unwrap();
    assert!(check(&site, &app, &before, "salvage").await);
    let told = restored(&app).unwrap();
    assert_eq!((told.kept_seq, told.first_lost_seq), (before.len() as i64, None), "{told:?}");
    assert_eq!(told.from_seq, before.len() as i64 - 60);
    app.store.close();
}

/// Has a copy of a database, and says that it goes as far as `seq`.
struct Copy(PathBuf, Head);

impl Replica for Copy {
    fn name(&self) -> String {
        "file:///elsewhere".into()
    }

    fn head(&self) -> Result<Option<(Head, Millis)>, String> {
        Ok(Some((self.1, START)))
    }

    fn restore(&self, target: &Path) -> Result<(), String> {
        std::fs::copy(&self.0, target).map(|_| ()).map_err(|error| error.to_string())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_better_of_snapshot_and_replica_is_taken() {
    let site = Site::filled(5, 3).await;
    let before = entries(&site).await;
    let elsewhere = site.again();
    let head = Head { seq: before.len() as i64, hash: before.last().unwrap().hash };
    std::fs::write(site.database(), "").unwrap();
    for (replica, from) in [
        (Copy(elsewhere.database(), head), "replica file:///elsewhere"),
        (Copy(elsewhere.database(), Head { seq: 2, ..head }), "snapshot"),
        (Copy("nowhere".into(), head), "snapshot"),
    ] {
        let copy = site.again();
        let app = copy.start_with(copy.settings(), START + 1000, Some(Arc::new(replica))).await.unwrap();
        check(&copy, &app, &before, from).await;
        assert!(restored(&app).unwrap().from.starts_with(from), "{:?}", restored(&app));
        app.store.close();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_leave_to_recover_nothing_is_touched() {
    let site = Site::filled(2, 1).await;
    std::fs::write(site.database(), "not a database, ".repeat(512)).unwrap();
    let settings = Settings { auto_recover: false, ..site.settings() };
    let error = site.start_with(settings, START, None).await.err().unwrap().to_string();
    assert!(error.contains("command-center restore") && error.contains("COMMAND_CENTER_AUTO_RECOVER"), "{error}");
    assert!(site.aside().is_empty());
    assert_eq!(std::fs::metadata(site.database()).unwrap().len(), 8192);
    // Where there never was a store, somebody else's file is left alone.
    let other = Site(tempfile::tempdir().unwrap());
    std::fs::create_dir_all(other.0.path().join("data")).unwrap();
    std::fs::write(other.database(), "my notes, ".repeat(512)).unwrap();
    for _ in 0..2 {
        let error = other.start(START).await.err().unwrap().to_string();
        assert!(error.contains("left alone"), "{error}");
    }
    assert!(other.aside().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn programs_that_may_not_be_repeated_pass_the_lost_time_over() {
    let site = Site::filled(1, 1).await;
    std::fs::write(site.database(), "").unwrap();
    let now = START + 600_000;
    let app = site.start(now).await.unwrap();
    let due = |name: &str| {
        let id: ScheduleId = name.parse().unwrap();
        let glance = app.fleet().get(id.connector, id.tenant.as_str()).unwrap();
        glance.next_due.unwrap()
    };
    assert!(due("noop/a") <= now, "caught up on");
    assert!(due("exec/d") <= now, "asks to be tried again");
    assert!(due("exec/c") > now, "passed over");
    let row = app.store.schedule("exec/c".parse().unwrap()).await.unwrap().unwrap();
    assert!(row.last.missed.total() >= 9, "{:?}", row.last.missed);
    app.store.close();
    // Later starts treat it like any other.
    let app = site.start(now + 600_000).await.unwrap();
    let id: ScheduleId = "exec/c".parse().unwrap();
    assert!(app.fleet().get(id.connector, "c").unwrap().next_due.unwrap() <= now + 600_000);
    app.store.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restoring_that_is_cut_off_anywhere_is_finished() {
    let site = Site::filled(5, 3).await;
    let before = entries(&site).await;
    let data = site.settings().data_dir;
    let aside = data.join("store.db.corrupt-x");
    let journal = |prepared: bool| {
        let text = json!({"aside": aside, "reason": "flipped", "at_ms": START, "is_prepared": prepared});
        std::fs::write(data.join("store.db.healing"), text.to_string()).unwrap();
    };
    // Cut off after the journal, and after the first renaming.
    journal(false);
    std::fs::rename(site.database(), &aside).unwrap();
    let app = site.start(START + 1000).await.unwrap();
    assert!(check(&site, &app, &before, "after the renaming").await);
    assert_eq!(restored(&app).unwrap().first_lost_seq, None, "all of it is taken over");
    app.store.close();
    assert!(!data.join("store.db.healing").exists() && !data.join("store.db.restoring").exists());
    // Cut off when the new database was ready, and after it was put in place.
    std::fs::rename(site.database(), data.join("store.db.restoring")).unwrap();
    journal(true);
    let app = site.start(START + 2000).await.unwrap();
    assert!(app.verify_audit(Vec::new()).await.unwrap().valid);
    app.store.close();
    journal(true);
    let app = site.start(START + 3000).await.unwrap();
    assert!(entries_of(&app).await.len() > before.len());
    app.store.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_is_restored_only_where_nothing_is_overwritten_unasked() {
    let site = Site::filled(5, 3).await;
    let app = site.start(START + 10).await.unwrap();
    let job = app.ask_for_backup(&Caller { source: Origin::Api, actor: "zoe".into() });
    app.make_backups().await;
    let file = app.backup_file(job.id).unwrap();
    let then = entries_of(&app).await.len();
    let mut tell = |_| {};
    let (database, desired) = (site.database(), site.settings().desired_dir);
    let asked = RestoreAsked {
        file: &file,
        database: &database,
        desired_dir: &desired,
        force: false,
        desired: false,
        caller: Caller { source: Origin::Cli, actor: "zoe".into() },
        now: START + 20,
    };
    assert!(restore_file(&asked, &mut tell).unwrap_err().is_locked());
    note(&app, 7).await;
    app.store.close();
    let error = restore_file(&asked, &mut tell).unwrap_err().to_string();
    assert!(error.contains("--force"), "{error}");
    std::fs::write(site.0.path().join("desired").join(super::file_of("noop/a")), "interval_sec: 900\n").unwrap();
    let done = restore_file(&RestoreAsked { force: true, ..asked.clone() }, &mut tell).unwrap();
    assert_eq!(done.desired, heal::DesiredWritten::Left { in_copy: 4 });
    assert!(done.set_aside.unwrap().exists());
    let again = RestoreAsked { force: true, desired: true, now: START + 30, ..asked };
    let done = restore_file(&again, &mut tell).unwrap();
    let heal::DesiredWritten::Written { files: 4, displaced: Some(displaced) } = done.desired else { panic!() };
    assert_eq!(std::fs::read_to_string(displaced.join(super::file_of("noop/a"))).unwrap(), "interval_sec: 900\n");
    let app = site.start(START + 40).await.unwrap();
    // The backup's own entry came after its reading.
    assert_eq!(restored(&app).unwrap().kept_seq, then as i64 - 1);
    assert!(app.verify_audit(Vec::new()).await.unwrap().valid);
    app.store.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_that_finds_damage_asks_for_a_restart_that_heals() {
    let site = Site::filled(40, 30).await;
    let before = entries(&site).await;
    let app = site.start(START).await.unwrap();
    // Past the cache of every connection: a page of the audit log on the disk.
    let mut bytes = std::fs::read(site.database()).unwrap();
    let at = bytes.windows(14).position(|window| window == b"test.note.made").unwrap();
    let page = at / 4096 * 4096;
    bytes[page..page + 64].fill(0x5a);
    std::fs::write(site.database(), bytes).unwrap();
    app.clock.advance(25 * 3_600_000);
    app.check_if_due().await;
    assert!(app.is_restarting() && app.shutdown.is_cancelled());
    assert_eq!(app.health().await.db.status, 0);
    app.store.close();
    let app = site.start(START + 1000).await.unwrap();
    assert!(check(&site, &app, &before, "found by a check").await);
    app.store.close();
}
