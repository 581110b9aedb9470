//! Hints from real edits: saves, renames, new folders, a mount that is swapped.

use std::sync::Mutex;
use std::time::Instant;

use super::*;
use crate::adapters::source::tests::{Fixture, id};

mod meaning;

/// Hints may come late on a busy machine; a test only waits this long for one that never comes.
const DEADLINE: Duration = Duration::from_secs(30);

struct Watched {
    f: Fixture,
    hints: Arc<Mutex<Vec<Hint>>>,
    guard: WatchGuard,
}

impl Watched {
    fn start(f: Fixture, poll: Option<Duration>) -> Self {
        let hints = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&hints);
        let guard = watch(f.source.root(), poll, move |hint| sink.lock().unwrap().push(hint)).unwrap();
        Watched { f, hints, guard }
    }

    /// Does `change` and waits for a hint that covers `schedule`, repeating nothing.
    #[track_caller]
    fn expect(&self, schedule: &str, change: impl FnOnce(&Fixture)) -> Hint {
        self.hints.lock().unwrap().clear();
        change(&self.f);
        let wanted = Hint::Schedule(id(schedule));
        let since = Instant::now();
        loop {
            let found = self.hints.lock().unwrap().iter().find(|h| **h == wanted || **h == Hint::Everything).cloned();
            match found {
                Some(hint) => return hint,
                None => assert!(since.elapsed() < DEADLINE, "no hint for {schedule}"),
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Does `change`, waits for a hint that covers it, and checks that a listing from then on sees `files`
    /// in the end: a hint that came too early is followed by another.
    #[track_caller]
    fn expect_listed(&self, files: usize, change: impl FnOnce(&Fixture)) {
        self.hints.lock().unwrap().clear();
        change(&self.f);
        let mut seen = BTreeSet::new();
        let since = Instant::now();
        while seen.len() != files {
            assert!(since.elapsed() < DEADLINE, "{} of {files} files seen", seen.len());
            for hint in std::mem::take(&mut *self.hints.lock().unwrap()) {
                match hint {
                    Hint::Everything => seen = self.f.source.list().files.into_iter().map(|file| file.id).collect(),
                    Hint::Schedule(id) => match self.f.source.stat(&id) {
                        Ok(Some(_)) => drop(seen.insert(id)),
                        _ => drop(seen.remove(&id)),
                    },
                }
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}

#[test]
fn an_edit_a_save_by_rename_and_a_delete_name_their_schedule() {
    let f = Fixture::new();
    f.write("a.yaml", "interval_sec: 1\n");
    let w = Watched::start(f, None);
    assert_eq!(w.guard.mode(), WatchMode::Events);
    let path = w.f.path("schedules/noop/a.yaml");
    w.expect("noop/a", |f| drop(f.write("a.yaml", "interval_sec: 2\n")));
    w.expect("noop/a", |f| {
        // As vim does: the old file becomes the backup, a new one is written, the backup goes.
        fs::rename(&path, f.path("schedules/noop/a.yaml~")).unwrap();
        f.write("a.yaml", "interval_sec: 3\n");
        fs::remove_file(f.path("schedules/noop/a.yaml~")).unwrap();
    });
    w.expect("noop/a", |f| {
        fs::rename(f.write("x.tmp", "interval_sec: 4\n"), &path).unwrap();
    });
    w.expect("noop/a", |f| {
        f.source.swap(&id("noop/a"), Some(&super::super::tests::digest("interval_sec: 4\n")), Some(b"x")).unwrap();
    });
    w.expect("noop/a", |_| fs::remove_file(&path).unwrap());
    w.expect("noop/b", |f| drop(f.write("b.yaml", "")));
}

#[cfg(target_os = "linux")]
#[test]
fn an_edit_names_its_schedule_and_no_other_and_reading_names_none() {
    let f = Fixture::new();
    f.write("a.yaml", "1");
    let w = Watched::start(f, None);
    w.f.source.list();
    w.f.source.read(&id("noop/a")).unwrap();
    for noise in [".a.yaml.swp", "4913", "a.yaml~", "README.md"] {
        w.f.write(noise, "x");
    }
    w.expect("noop/b", |f| drop(f.write("b.yaml", "x")));
    let hints: BTreeSet<_> = w.hints.lock().unwrap().iter().cloned().collect();
    assert_eq!(hints, [Hint::Schedule(id("noop/b"))].into());
}

#[test]
fn a_new_folder_full_of_files_is_seen_whole() {
    let w = Watched::start(Fixture::new(), None);
    w.expect_listed(50, |f| {
        fs::create_dir(f.path("schedules/acculynx")).unwrap();
        for n in 0..50 {
            fs::write(f.path(&format!("schedules/acculynx/t{n}.yaml")), "").unwrap();
        }
    });
    // The new folder is watched by now.
    w.expect_listed(51, |f| {
        fs::write(f.path("schedules/acculynx/t50.yaml"), "").unwrap();
        f.write("nudge.json", "");
    });
}

#[test]
fn a_root_that_comes_goes_and_comes_again_is_watched() {
    let f = Fixture::new();
    fs::remove_dir_all(f.source.root()).unwrap();
    let w = Watched::start(f, None);
    for round in 0..3 {
        w.expect_listed(1, |f| {
            fs::create_dir_all(f.path("schedules/noop")).unwrap();
            f.write("a.yaml", "");
        });
        // The watch is on the new folders, not on those of the last round.
        w.expect("noop/b", |f| drop(f.write("b.yaml", "")));
        w.expect_listed(0, |f| {
            let away = f.folder.path().join(format!("away{round}"));
            if round == 0 { fs::rename(f.source.root(), away) } else { fs::remove_dir_all(f.source.root()) }.unwrap();
        });
    }
}

#[test]
fn a_root_whose_parent_comes_late_is_found() {
    let f = Fixture::new();
    let source = super::super::Source::new(f.folder.path().join("late/later/desired"));
    let w = Watched::start(Fixture { folder: f.folder, source }, None);
    w.expect_listed(1, |f| {
        fs::create_dir_all(f.path("schedules/noop")).unwrap();
        f.write("a.yaml", "");
    });
}

#[cfg(unix)]
#[test]
fn a_config_map_swap_is_seen() {
    use std::os::unix::fs::symlink;
    let f = Fixture::new();
    let folder = f.path("schedules/noop");
    let publish = |version: &str| {
        fs::create_dir(folder.join(version)).unwrap();
        fs::write(folder.join(version).join("a.yaml"), version).unwrap();
        symlink(version, folder.join("..data_tmp")).unwrap();
        fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    };
    publish("..v1");
    symlink("..data/a.yaml", folder.join("a.yaml")).unwrap();
    let w = Watched::start(f, None);
    let hint = w.expect("noop/a", |_| publish("..v2"));
    assert_eq!(hint, Hint::Everything);
}

#[test]
fn polling_sees_edits_deletes_and_a_missing_root_and_nothing_else() {
    let f = Fixture::new();
    f.write("a.yaml", "1");
    let w = Watched::start(f, Some(Duration::from_millis(10)));
    assert_eq!(w.guard.mode(), WatchMode::Polling);
    w.expect("noop/a", |f| drop(f.write("a.yaml", "2")));
    w.expect("noop/a", |f| fs::remove_file(f.path("schedules/noop/a.yaml")).unwrap());
    w.expect("noop/a", |f| fs::remove_dir_all(f.source.root()).unwrap());
    let print = print_of(w.f.source.root());
    assert_eq!(print, print_of(w.f.source.root()));
}

#[test]
fn a_dropped_guard_ends_the_watch() {
    let f = Fixture::new();
    let alive = Arc::new(());
    let held = Arc::clone(&alive);
    let guard = watch(f.source.root(), None, move |_| drop(Arc::clone(&held))).unwrap();
    drop(guard);
    let since = Instant::now();
    while Arc::strong_count(&alive) > 1 {
        assert!(since.elapsed() < DEADLINE, "the watch thread still runs");
        thread::sleep(Duration::from_millis(2));
    }
}
