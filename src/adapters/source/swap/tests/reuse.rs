//! The files an edit displaced serve later edits, but only when they are nobody's any more.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Duration;

use super::*;

/// Inodes of the files at rest in the staging folder.
fn at_rest(f: &Fixture) -> Vec<u64> {
    let entries = fs::read_dir(f.path(".command-center/noop")).into_iter().flatten().flatten();
    entries.map(|entry| entry.metadata().unwrap().ino()).collect()
}

fn inode(f: &Fixture) -> u64 {
    fs::metadata(f.path("schedules/noop/a.yaml")).unwrap().ino()
}

fn rest() {
    std::thread::sleep(Duration::from_millis(260));
}

#[test]
fn what_was_displaced_is_filled_again_after_a_rest() {
    let f = Fixture::new();
    f.write("a.yaml", OLD);
    let first = inode(&f);
    assert_eq!(swap_alone(&f, true, Some(OLD), Some(NEW)), Swap::Done(f.source.stat(&id("noop/a")).unwrap()));
    assert_eq!(at_rest(&f), [first]);
    // Not at once: someone might still come in by its old name.
    swap_alone(&f, true, Some(NEW), Some(OLD));
    assert_eq!(at_rest(&f).len(), 2);
    rest();
    swap_alone(&f, true, Some(OLD), Some("interval_sec: 7\n"));
    assert_eq!((inode(&f), f.read("a.yaml").as_str()), (first, "interval_sec: 7\n"));
    assert_eq!(fs::read_to_string(f.path(".command-center/.gitignore")).unwrap(), "*\n");
    assert_eq!(f.names(), ["a.yaml"]);
}

#[test]
fn a_file_somebody_reads_or_has_another_name_for_is_left_alone() {
    let f = Fixture::new();
    let path = f.write("a.yaml", OLD);
    let mut reader = fs::File::open(&path).unwrap();
    swap_alone(&f, true, Some(OLD), Some(NEW));
    assert!(at_rest(&f).is_empty());
    assert_eq!(std::io::read_to_string(&mut reader).unwrap(), OLD);
    fs::hard_link(&path, f.path("kept")).unwrap();
    swap_alone(&f, true, Some(NEW), Some(OLD));
    assert!(at_rest(&f).is_empty());
    assert_eq!(fs::read_to_string(f.path("kept")).unwrap(), NEW);
}

#[test]
fn a_file_at_rest_that_somebody_came_to_is_not_filled() {
    let f = Fixture::new();
    f.write("a.yaml", OLD);
    swap_alone(&f, true, Some(OLD), Some(NEW));
    let name = fs::read_dir(f.path(".command-center/noop")).unwrap().next().unwrap().unwrap().path();
    let (taken, writer) = (at_rest(&f)[0], fs::OpenOptions::new().append(true).open(name).unwrap());
    rest();
    swap_alone(&f, true, Some(NEW), Some(OLD));
    assert_ne!(inode(&f), taken);
    drop(writer);
    assert_eq!(f.read("a.yaml"), OLD);
}

#[test]
fn mode_goes_with_the_schedule_not_with_the_file() {
    let f = Fixture::new();
    let (a, b) = (f.write("a.yaml", OLD), f.write("b.yaml", OLD));
    fs::set_permissions(&a, fs::Permissions::from_mode(0o640)).unwrap();
    fs::set_permissions(&b, fs::Permissions::from_mode(0o604)).unwrap();
    swap_alone(&f, true, Some(OLD), Some(NEW));
    rest();
    f.source.swap(&id("noop/b"), Some(&digest(OLD)), Some(NEW.as_bytes())).unwrap();
    let mode = |path| fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!((mode(&a), mode(&b)), (0o640, 0o604));
}

#[test]
fn a_sweep_judges_what_a_crash_left_in_the_staging_folder() {
    let f = Fixture::new();
    f.write("a.yaml", OLD);
    swap_alone(&f, true, Some(OLD), Some(NEW));
    assert_eq!(at_rest(&f).len(), 1);
    // A save that a swap had displaced when it was killed.
    let staged = fs::read_dir(f.path(".command-center/noop")).unwrap().next().unwrap().unwrap().path();
    fs::write(staged, EDITED).unwrap();
    let swept = f.source.sweep();
    assert_eq!((swept.removed, swept.restored), (1, vec!["schedules/noop/a.yaml".to_owned()]));
    assert_eq!((f.read("a.yaml").as_str(), at_rest(&f).len()), (EDITED, 0));
}
