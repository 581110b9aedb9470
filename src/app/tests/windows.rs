//! Maintenance windows: nothing starts in one, and at its end the catch-up rule decides.

use super::*;
use crate::app::Backfill;
use crate::core::audit::operation;
use crate::core::timing::iso;

const MINUTE: Millis = 60_000;
const HOUR: Millis = 3_600_000;

/// From 02:00 to 04:00 UTC; START is 08:00 UTC.
pub(super) const NIGHT: &str = "cron: 0 2 * * *\nduration_sec: 7200\nreason: upkeep\n";
const TO_NIGHT: Millis = 18 * HOUR;

impl World {
    fn put(&self, path: &str, text: &str) {
        put(self.folder.path().join("desired").join(path), text);
    }

    async fn runs(&self) -> u64 {
        self.app.store.facts().await.unwrap().rows["runs"]
    }

    /// When it runs next, for which window it waits, and why its state is as it is.
    async fn next(&self, name: &str) -> (Option<String>, Option<String>, Option<String>) {
        let status = self.status(name).await.unwrap();
        (status.next_run_iso, status.window, status.sync_reason)
    }

    async fn fire_all(&self) {
        for _ in 0..3 {
            fire(self).await;
        }
    }
}

fn waits(end: Millis, window: &str) -> (Option<String>, Option<String>, Option<String>) {
    (Some(iso(end)), Some(window.to_owned()), Some("window".to_owned()))
}

#[tokio::test]
async fn a_clock_set_back_by_a_moment_to_before_a_window_ends_the_wait_for_its_end() {
    let world = World::new(&[("noop/a", "cron: '59 1 * * *'\n")]).await;
    world.put("windows/night.yaml", NIGHT);
    world.pass().await;
    world.clock.advance(TO_NIGHT + 300);
    world.pass().await;
    world.fire_all().await;
    assert_eq!(world.next("noop/a").await, waits(START + TO_NIGHT + 2 * HOUR, "night"));
    world.clock.advance(-500);
    world.fire_all().await;
    assert_eq!(world.runs().await, 1);
}

#[tokio::test]
async fn nothing_starts_in_a_window_and_the_latest_slot_runs_at_its_end() {
    let world =
        World::new(&[("noop/a", "cron: '*/10 * * * *'\n"), ("noop/b", "cron: 30 2 * * *\ncatch_up: none\n")]).await;
    world.put("windows/night.yaml", NIGHT);
    world.pass().await;
    let end = START + TO_NIGHT + 2 * HOUR;
    // Its next slot lies in the window: what is shown is when it really starts.
    assert_eq!(world.next("noop/b").await, (Some(iso(end)), Some("night".into()), None));

    world.clock.advance(TO_NIGHT - MINUTE);
    world.pass().await;
    world.fire_all().await;
    let before = world.runs().await;
    world.clock.advance(MINUTE);
    world.fire_all().await;
    assert_eq!(world.next("noop/a").await, waits(end, "night"));
    assert_eq!(world.app.health().await.scheduler.overdue, 0);
    world.clock.advance(HOUR);
    world.fire_all().await;
    assert_eq!(world.pass().await.repaired, 0, "a timer that waits is as it should be");
    assert_eq!(world.runs().await, before);

    // A person may still start one.
    let caller = Caller { source: Origin::Ui, actor: "zoe".into() };
    world.app.run_now(&"noop/a".parse().unwrap(), &caller, Duration::from_secs(5)).await.unwrap();
    assert_eq!(world.runs().await, before + 1);

    world.clock.advance(HOUR - 1);
    world.fire_all().await;
    assert_eq!(world.runs().await, before + 1);
    world.clock.advance(1);
    world.fire_all().await;
    world.pass().await;
    assert_eq!(world.next("noop/a").await, (Some(iso(end + 10 * MINUTE)), None, None));
    let (next, ..) = world.next("noop/b").await;
    assert_eq!(next, Some(iso(end + 24 * HOUR)), "its next slot lies in the next window");
}

#[tokio::test]
async fn a_restart_within_a_window_goes_on_waiting() {
    let world = World::new(&[("noop/a", "interval_sec: 600\n")]).await;
    world.put("windows/night.yaml", NIGHT);
    world.pass().await;
    world.clock.advance(TO_NIGHT + HOUR);
    world.fire_all().await;
    assert_eq!(world.runs().await, 0);
    let world = world.restart().await;
    world.fire_all().await;
    assert_eq!((world.runs().await, world.next("noop/a").await), (0, waits(START + TO_NIGHT + 2 * HOUR, "night")));
    world.clock.advance(HOUR);
    world.fire_all().await;
    assert_eq!(world.runs().await, 1);
}

#[tokio::test]
async fn a_window_is_desired_state_told_of_and_proven_gone() {
    let world = World::new(&[("noop/a", "interval_sec: 600\n")]).await;
    world.put("windows/night.yaml", NIGHT);
    world.put("windows/off.yaml", "cron: 0 9 * * *\nduration_sec: 60\nenabled: false\n");
    world.pass().await;
    world.put("windows/night.yaml", &format!("# a comment\n{NIGHT}"));
    world.pass().await;
    assert_eq!(world.audit().await.iter().filter(|line| line.starts_with(operation::WINDOW_CHANGED)).count(), 2);
    world.put("windows/night.yaml", &NIGHT.replace("7200", "3600"));
    world.pass().await;
    let last = world.audit().await.pop().unwrap();
    assert_eq!(last, "desired.window.changed  [duration_sec 7200->3600] by file");

    // A broken file keeps its last good version, and is told of with its place.
    world.put("windows/night.yaml", "cron: 0 2 * * *\nduration_sec: -1\n");
    world.pass().await;
    let totals = world.app.drift_totals();
    assert_eq!(totals.invalid_files[0].file, "windows/night.yaml");
    assert_eq!(totals.invalid_files[0].diagnostics[0].line, 2);
    let world = world.restart().await;
    let shown = world.app.windows_view();
    let names: Vec<_> =
        shown.windows.iter().map(|w| (w.name.as_str(), w.invalid, w.spec.duration_sec, w.next.len())).collect();
    assert_eq!(names, [("night", true, 3600, 3), ("off", false, 60, 0)]);
    world.clock.advance(TO_NIGHT + MINUTE);
    world.fire_all().await;
    assert_eq!(world.runs().await, 0);

    // Gone only after two complete scans; then what waited starts.
    std::fs::remove_file(world.folder.path().join("desired/windows/night.yaml")).unwrap();
    world.pass().await;
    assert!(world.app.awaits_second_scan());
    assert_eq!(world.app.windows_view().windows.len(), 2);
    world.fire_all().await;
    assert_eq!(world.runs().await, 0);
    world.clock.advance(3000);
    world.pass().await;
    assert_eq!(world.app.windows_view().windows.len(), 1);
    assert!(!world.app.awaits_second_scan());
    assert!(world.app.drift_totals().invalid_files.is_empty());
    world.fire_all().await;
    assert_eq!(world.runs().await, 1);
    let told = world.audit().await;
    assert!(
        told.iter().any(|line| line.starts_with("desired.window.changed  [cron \"0 2 * * *\"->null, ")),
        "{told:?}"
    );
}

#[tokio::test]
async fn labels_choose_also_after_edits_and_restarts() {
    let hourly = "cron: 0 * * * *\n";
    let world = World::new(&[
        ("noop/west", "cron: 0 * * * *\nlabels: { region: west }\n"),
        ("noop/east", "cron: 0 * * * *\nlabels: { region: east }\n"),
        ("acculynx/west", "cron: 0 * * * *\nlabels: { region: west }\n"),
        ("noop/plain", hourly),
    ])
    .await;
    world.put(
        "windows/west.yaml",
        "cron: 30 8 * * *\nduration_sec: 7200\nconnectors: [noop]\nlabels: { region: west }\n",
    );
    world.pass().await;
    let end = START + 2 * HOUR + 30 * MINUTE;
    let window = |name| {
        let world = &world;
        async move { world.status(name).await.unwrap().window }
    };
    assert_eq!(window("noop/west").await.as_deref(), Some("west"));
    for other in ["noop/east", "acculynx/west", "noop/plain"] {
        assert_eq!(window(other).await, None, "{other}");
    }
    world.write("noop/plain", "cron: 0 * * * *\nlabels: { region: west, tier: gold }\n");
    world.pass().await;
    assert_eq!(window("noop/plain").await.as_deref(), Some("west"));
    world.write("noop/plain", hourly);
    world.pass().await;
    assert_eq!(window("noop/plain").await, None);

    let world = world.restart().await;
    world.clock.advance(HOUR);
    world.pass().await;
    world.fire_all().await;
    assert_eq!(world.runs().await, 3);
    assert_eq!(world.next("noop/west").await, waits(end, "west"));
    // The window goes to others: who waited starts.
    world.put("windows/west.yaml", "cron: 30 8 * * *\nduration_sec: 7200\nlabels: { region: north }\n");
    world.pass().await;
    world.fire_all().await;
    assert_eq!(world.runs().await, 4);
}

#[tokio::test]
async fn what_lies_oddly_among_windows_is_told_of() {
    let world = World::new(&[]).await;
    world.put("windows/Night.yaml", NIGHT);
    world.put("windows/a.yml", NIGHT);
    world.put("windows/deep/a.yaml", NIGHT);
    world.put("windows/README.md", "hello");
    world.pass().await;
    let files: Vec<String> = world.app.drift_totals().invalid_files.into_iter().map(|file| file.file).collect();
    assert_eq!(files, ["windows/Night.yaml", "windows/a.yml", "windows/deep"]);
    std::fs::remove_dir_all(world.folder.path().join("desired/windows")).unwrap();
    world.pass().await;
    assert!(world.app.drift_totals().invalid_files.is_empty());
}

#[tokio::test]
async fn a_diff_tells_of_windows() {
    let world = World::new(&[("noop/a", "interval_sec: 600\n")]).await;
    world.put("windows/night.yaml", NIGHT);
    let answer = world.app.diff(None).await.unwrap();
    assert_eq!((answer.windows.len(), answer.changes.len()), (1, 0));
    assert!(answer.text.starts_with("+ windows/night.yaml (create window)\n"), "{}", answer.text);
    world.pass().await;
    assert!(world.app.diff(None).await.unwrap().windows.is_empty());
    let files = std::collections::BTreeMap::from([
        ("schedules/noop/a.yaml".to_owned(), "interval_sec: 600\n".to_owned()),
        ("windows/night.yaml".to_owned(), "cron: 0 2 * * *\n".to_owned()),
    ]);
    let answer = world.app.diff(Some(files.clone())).await.unwrap();
    assert_eq!((answer.ok, answer.invalid[0].file.as_str()), (false, "windows/night.yaml"));
    let files = std::collections::BTreeMap::from_iter(files.into_iter().take(1));
    let answer = world.app.diff(Some(files)).await.unwrap();
    assert_eq!((answer.ok, answer.windows[0].action.as_str()), (true, "delete"));
}

#[tokio::test]
async fn what_is_lined_up_waits_too() {
    let world = World::new(&[("noop/a", "cron: 0 * * * *\n")]).await;
    world.put("windows/night.yaml", NIGHT);
    world.pass().await;
    world.clock.advance(TO_NIGHT + HOUR);
    let caller = Caller { source: Origin::Ui, actor: "zoe".into() };
    let asked = Backfill { from: START, to: START + 2 * HOUR, dry_run: false };
    let id = "noop/a".parse().unwrap();
    let answer = world.app.backfill(&id, asked, &caller).await.unwrap();
    assert_eq!(answer.slots.len(), 3);
    let ended = async || {
        let database = rusqlite::Connection::open(world.folder.path().join("data/store.db")).unwrap();
        database
            .query_row("SELECT count(*) FROM runs WHERE ended_ms IS NOT NULL", [], |row| row.get::<_, i64>(0))
            .unwrap()
    };
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(ended().await, 0, "claimed, and kept back");
    world.clock.advance(HOUR);
    while world.app.runs.count().0 > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(ended().await, 3);
}
