//! Stat, read and sync.

use std::fs;

use super::{Fixture, id};
use crate::adapters::source::{MAX_FILE_BYTES, SourceError};

#[test]
fn reads_the_exact_bytes_under_their_stat() {
    let f = Fixture::new();
    f.write("a.yaml", "# note\r\ninterval_sec: 300\r\n");
    let (stat, bytes) = f.source.read(&id("noop/a")).unwrap().unwrap();
    assert_eq!(bytes, b"# note\r\ninterval_sec: 300\r\n");
    assert_eq!(stat.size as usize, bytes.len());
    assert_eq!(f.source.stat(&id("noop/a")).unwrap(), Some(stat));
    assert!(stat.changed_ns() > 1_600_000_000_000_000_000);
}

#[test]
fn absence_is_proven_only_below_a_root_that_is_there() {
    let f = Fixture::new();
    // The file, the connector's folder, all of `schedules`: each may be missing.
    assert_eq!(f.source.stat(&id("noop/a")).unwrap(), None);
    assert_eq!(f.source.stat(&id("acculynx/a")).unwrap(), None);
    fs::remove_dir_all(f.path("schedules")).unwrap();
    assert_eq!(f.source.read(&id("noop/a")).unwrap(), None);
    fs::remove_dir(f.source.root()).unwrap();
    assert!(matches!(f.source.stat(&id("noop/a")), Err(SourceError::RootMissing { .. })));
    assert!(matches!(f.source.read(&id("noop/a")), Err(SourceError::RootMissing { .. })));
    fs::write(f.source.root(), "a file").unwrap();
    assert!(f.source.stat(&id("noop/a")).is_err());
}

#[test]
fn a_file_too_large_or_of_another_kind_is_an_error() {
    let f = Fixture::new();
    f.write("most.yaml", &"#".repeat(MAX_FILE_BYTES));
    f.write("more.yaml", &"#".repeat(MAX_FILE_BYTES + 1));
    fs::create_dir(f.path("schedules/noop/folder.yaml")).unwrap();
    assert_eq!(f.source.read(&id("noop/most")).unwrap().unwrap().1.len(), MAX_FILE_BYTES);
    assert!(matches!(f.source.read(&id("noop/more")), Err(SourceError::TooLarge { .. })));
    assert!(f.source.read(&id("noop/folder")).is_err());
    assert!(matches!(f.source.stat(&id("noop/folder")), Err(SourceError::NotRegular { .. })));
}

#[test]
fn syncs_what_is_there_and_what_is_gone() {
    let f = Fixture::new();
    f.write("a.yaml", "paused: true\n");
    f.source.sync(&[id("noop/a"), id("noop/gone"), id("acculynx/never")]).unwrap();
    let many: Vec<_> = (0..100).map(|n| id(&format!("noop/t{n}"))).collect();
    f.source.sync(&many).unwrap();
}

#[cfg(unix)]
#[test]
fn a_link_is_followed_inside_the_root_only() {
    use std::os::unix::fs::symlink;
    let f = Fixture::new();
    fs::create_dir(f.path("shared")).unwrap();
    fs::write(f.path("shared/all.yaml"), "interval_sec: 5\n").unwrap();
    fs::write(f.folder.path().join("secret.yaml"), "x").unwrap();
    symlink("../../shared/all.yaml", f.path("schedules/noop/in.yaml")).unwrap();
    symlink("../../../secret.yaml", f.path("schedules/noop/out.yaml")).unwrap();
    symlink("nowhere.yaml", f.path("schedules/noop/loose.yaml")).unwrap();
    symlink(f.folder.path(), f.path("schedules/acculynx")).unwrap();

    let (stat, bytes) = f.source.read(&id("noop/in")).unwrap().unwrap();
    assert_eq!(bytes, b"interval_sec: 5\n");
    assert_eq!(f.source.stat(&id("noop/in")).unwrap(), Some(stat));
    for escaping in ["noop/out", "acculynx/secret"] {
        assert!(matches!(f.source.read(&id(escaping)), Err(SourceError::Escapes { .. })), "{escaping}");
        assert!(matches!(f.source.stat(&id(escaping)), Err(SourceError::Escapes { .. })), "{escaping}");
    }
    // A link to nowhere is not an absent schedule.
    assert!(f.source.stat(&id("noop/loose")).is_err());
    assert!(f.source.read(&id("noop/loose")).is_err());
}

#[cfg(all(unix, not(target_vendor = "apple")))]
#[test]
fn a_fifo_is_refused_and_not_waited_for() {
    let f = Fixture::new();
    let path = f.path("schedules/noop/pipe.yaml");
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    assert!(matches!(f.source.read(&id("noop/pipe")), Err(SourceError::NotRegular { .. })));
}

#[cfg(unix)]
#[test]
fn a_linked_root_is_the_root() {
    let f = Fixture::new();
    f.write("a.yaml", "x");
    let link = f.folder.path().join("link");
    std::os::unix::fs::symlink(f.source.root(), &link).unwrap();
    let source = crate::adapters::source::Source::new(link);
    assert!(source.read(&id("noop/a")).unwrap().is_some());
    assert!(source.list().complete);
}
