//! What single events mean, without a file system.

use notify::event::{CreateKind, Flag, RemoveKind, RenameMode};

use super::*;

fn meaning(kind: EventKind, paths: &[&str]) -> Meaning {
    let event = paths.iter().fold(Event::new(kind), |event, path| event.add_path(PathBuf::from(path)));
    meaning_of(Ok(event), Path::new("/srv/desired"), Some(Path::new("/real/desired")))
}

const CREATED: EventKind = EventKind::Create(CreateKind::File);
const WRITTEN: EventKind = EventKind::Access(AccessKind::Close(AccessMode::Write));

#[test]
fn one_file_is_one_schedule_under_either_name_of_the_root() {
    let a = Meaning::Schedule(id("noop/a"));
    for path in ["/srv/desired/schedules/noop/a.yaml", "/real/desired/schedules/noop/a.yaml"] {
        for kind in [CREATED, WRITTEN, EventKind::Remove(RemoveKind::File), EventKind::Any] {
            assert_eq!(meaning(kind, &[path]), a);
        }
    }
    let saved = ["/srv/desired/schedules/noop/.a.tmp", "/srv/desired/schedules/noop/a.yaml"];
    assert_eq!(meaning(EventKind::Modify(ModifyKind::Name(RenameMode::Both)), &saved), a);
}

#[test]
fn noise_means_nothing() {
    for path in [
        "/srv/desired/.git/index.lock",
        "/srv/desired/schedules/noop/.a.yaml.cc-x-1-2-3.tmp",
        "/srv/desired/schedules/noop/4913",
        "/srv/desired/schedules/noop/a.yaml~",
        "/srv/desired/README.md",
        "/srv/other/file",
        "/srv/other",
    ] {
        assert_eq!(meaning(CREATED, &[path]), Meaning::Nothing, "{path}");
    }
    let read = EventKind::Access(AccessKind::Open(AccessMode::Any));
    assert_eq!(meaning(read, &["/srv/desired/schedules/noop/a.yaml"]), Meaning::Nothing);
}

#[test]
fn anything_else_is_doubt() {
    for path in [
        "/srv/desired",
        "/srv",
        "/srv/desired/schedules",
        "/srv/desired/schedules/noop",
        "/srv/desired/schedules/salesforce/a.yaml",
        "/srv/desired/schedules/noop/..data",
        "/srv/desired/..2026_01/schedules",
        "/srv/desired/schedules/noop/Bad.yaml",
        "/srv/desired/schedules/noop/deep/a.yaml",
        "/srv/desired/webhooks/w.yaml",
        "/srv/desired/defaults.yaml",
        "/srv/desired/schedules/noop/_defaults.yaml",
        "/elsewhere",
    ] {
        assert_eq!(meaning(CREATED, &[path]), Meaning::Doubt, "{path}");
    }
    assert_eq!(meaning(CREATED, &[]), Meaning::Doubt);
    assert_eq!(meaning_of(Err(notify::Error::generic("lost")), Path::new("/d"), None), Meaning::Doubt);
    // An overflow names no path, and may come as any kind.
    let overflow = Event::new(EventKind::Other).set_flag(Flag::Rescan);
    assert_eq!(meaning_of(Ok(overflow), Path::new("/d"), None), Meaning::Doubt);
    let two = ["/srv/desired/schedules/noop/a.yaml", "/srv/desired/schedules/noop/b.yaml"];
    assert_eq!(meaning(EventKind::Modify(ModifyKind::Name(RenameMode::Both)), &two), Meaning::Doubt);
}
