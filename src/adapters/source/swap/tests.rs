//! Swaps against editors that come in between, by rename and in place.

use std::cell::Cell;

use super::*;
use crate::adapters::source::tests::{Fixture, digest, id};

mod racing;
mod sweeping;

const OLD: &str = "interval_sec: 300\r\n# kept\r\n";
const NEW: &str = "interval_sec: 60\r\n# kept\r\n";
const EDITED: &str = "interval_sec: 900\n";

/// Swaps `noop/a` from `base` to `new`; `edit` comes in at `moment`, once.
fn swap_while(
    f: &Fixture,
    atomic: bool,
    (base, new): (Option<&str>, Option<&str>),
    moment: Moment,
    edit: &dyn Fn(),
) -> Result<Swap, SourceError> {
    let pending = Cell::new(true);
    let between = |now: Moment| {
        if now == moment && pending.replace(false) {
            edit();
        }
    };
    let base = base.map(digest);
    swap_in(
        &f.source,
        &id("noop/a"),
        base.as_ref(),
        new.map(str::as_bytes),
        &Manner { atomic, seen: None, again: false, between: &between },
    )
}

fn swap_alone(f: &Fixture, atomic: bool, base: Option<&str>, new: Option<&str>) -> Swap {
    swap_while(f, atomic, (base, new), Moment::Checked, &|| {}).unwrap()
}

/// As vim, git and most editors save: a new file renamed over the old.
fn save_by_rename(f: &Fixture, content: &str) {
    let path = f.write("editor.tmp", content);
    patiently(|| fs::rename(&path, f.path("schedules/noop/a.yaml"))).unwrap();
}

#[test]
fn creates_replaces_and_deletes_to_the_byte() {
    for atomic in [true, false] {
        let f = Fixture::new();
        for (base, new) in [(None, Some(OLD)), (Some(OLD), Some(NEW)), (Some(NEW), Some(NEW))] {
            let done = swap_alone(&f, atomic, base, new);
            let Swap::Done(Some(stat)) = done else { panic!("{done:?}") };
            assert_eq!(f.read("a.yaml"), new.unwrap());
            assert_eq!(f.source.stat(&id("noop/a")).unwrap(), Some(stat));
            assert_eq!(f.names(), ["a.yaml"]);
        }
        assert_eq!(swap_alone(&f, atomic, Some(NEW), None), Swap::Done(None));
        assert!(f.names().is_empty());
        assert_eq!(swap_alone(&f, atomic, None, None), Swap::Done(None));
    }
}

#[test]
fn another_base_changes_nothing() {
    for atomic in [true, false] {
        let f = Fixture::new();
        let moved = |base, new| swap_alone(&f, atomic, base, new);
        assert_eq!(moved(Some(OLD), Some(NEW)), Swap::Moved(None));
        assert_eq!(moved(Some(OLD), None), Swap::Moved(None));
        f.write("a.yaml", EDITED);
        let there = Swap::Moved(Some(digest(EDITED)));
        for (base, new) in [(Some(OLD), Some(NEW)), (Some(OLD), None), (None, Some(NEW)), (None, None)] {
            assert_eq!(moved(base, new), there);
        }
        assert_eq!((f.read("a.yaml").as_str(), f.names().len()), (EDITED, 1));
    }
}

#[test]
fn an_edit_that_comes_between_wins_whole() {
    for atomic in [true, false] {
        for moment in [Moment::Checked, Moment::Displaced] {
            for new in [Some(NEW), None] {
                for in_place in [true, false] {
                    let f = Fixture::new();
                    f.write("a.yaml", OLD);
                    let edit = || if in_place { drop(f.write("a.yaml", EDITED)) } else { save_by_rename(&f, EDITED) };
                    let ended = swap_while(&f, atomic, (Some(OLD), new), moment, &edit).unwrap();
                    let case = format!("atomic {atomic}, {moment:?}, new {new:?}, in place {in_place}: {ended:?}");
                    assert_eq!(f.read("a.yaml"), EDITED, "{case}");
                    assert_eq!(f.names(), ["a.yaml"], "{case}");
                    // Before the exchange the swap gives way; after it, it was done first and edited since.
                    if moment == Moment::Checked {
                        assert_eq!(ended, Swap::Moved(Some(digest(EDITED))), "{case}");
                    }
                }
            }
        }
    }
}

/// Reading what was displaced cannot show a write still to come; the lease can.
#[cfg(target_os = "linux")]
#[test]
fn an_editor_that_has_the_file_open_and_writes_after_the_swap_wins() {
    use std::io::Write;
    for (atomic, new) in [(true, Some(NEW)), (true, None), (false, Some(NEW)), (false, None)] {
        let f = Fixture::new();
        let path = f.write("a.yaml", OLD);
        let mut editor = fs::OpenOptions::new().write(true).open(path).unwrap();
        let ended = swap_alone(&f, atomic, Some(OLD), new);
        assert_eq!(ended, Swap::Moved(Some(digest(OLD))));
        editor.set_len(0).unwrap();
        editor.write_all(EDITED.as_bytes()).unwrap();
        assert_eq!((f.read("a.yaml").as_str(), f.names().len()), (EDITED, 1));
    }
}

#[test]
fn a_second_save_while_the_first_is_put_back_wins() {
    let f = Fixture::new();
    f.write("a.yaml", OLD);
    let saves = Cell::new(0);
    let between = |_: Moment| {
        // Before the exchange, and again before each look at what was displaced.
        if saves.get() < 5 {
            saves.set(saves.get() + 1);
            save_by_rename(&f, &format!("save {}", saves.get()));
        }
    };
    let manner = Manner { atomic: true, seen: None, again: false, between: &between };
    let ended = swap_in(&f.source, &id("noop/a"), Some(&digest(OLD)), Some(NEW.as_bytes()), &manner).unwrap();
    // Without an exchange there are two moments.
    let last = if CAN_EXCHANGE { "save 5" } else { "save 2" };
    assert_eq!(ended, Swap::Moved(Some(digest(last))));
    assert_eq!((f.read("a.yaml").as_str(), f.names().len()), (last, 1));
}

#[test]
fn a_delete_that_comes_between_is_seen() {
    for atomic in [true, false] {
        for new in [Some(NEW), None] {
            let f = Fixture::new();
            f.write("a.yaml", OLD);
            let delete = || fs::remove_file(f.path("schedules/noop/a.yaml")).unwrap();
            let ended = swap_while(&f, atomic, (Some(OLD), new), Moment::Checked, &delete).unwrap();
            assert_eq!((ended, f.names().len()), (Swap::Moved(None), 0));
        }
    }
}

#[test]
fn a_creation_never_overwrites() {
    let f = Fixture::new();
    let edit = || drop(f.write("a.yaml", EDITED));
    let ended = swap_while(&f, true, (None, Some(NEW)), Moment::Checked, &edit).unwrap();
    assert_eq!(ended, Swap::Moved(Some(digest(EDITED))));
    assert_eq!((f.read("a.yaml").as_str(), f.names().len()), (EDITED, 1));
}

#[test]
fn a_first_schedule_gets_its_folders_but_a_missing_root_stays_missing() {
    let f = Fixture::new();
    fs::remove_dir_all(f.path("schedules")).unwrap();
    let made = f.source.swap(&id("acculynx/a"), None, Some(NEW.as_bytes())).unwrap();
    assert!(matches!(made, Swap::Done(Some(_))));
    assert!(f.source.read(&id("acculynx/a")).unwrap().is_some());
    fs::remove_dir_all(f.source.root()).unwrap();
    for base in [None, Some(digest(OLD))] {
        let error = f.source.swap(&id("acculynx/a"), base.as_ref(), Some(NEW.as_bytes())).unwrap_err();
        assert!(matches!(error, SourceError::RootMissing { .. }), "{error}");
    }
    assert!(!f.source.root().exists());
}

#[cfg(unix)]
#[test]
fn the_mode_is_kept() {
    use std::os::unix::fs::PermissionsExt;
    for mode in [0o640, 0o664, 0o600] {
        let f = Fixture::new();
        let path = f.write("a.yaml", OLD);
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        swap_alone(&f, true, Some(OLD), Some(NEW));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, mode);
    }
}

#[cfg(unix)]
#[test]
fn a_linked_file_is_edited_where_it_is_and_its_link_deleted() {
    use std::os::unix::fs::symlink;
    let f = Fixture::new();
    fs::create_dir(f.path("shared")).unwrap();
    fs::write(f.path("shared/all.yaml"), OLD).unwrap();
    let link = f.path("schedules/noop/a.yaml");
    symlink("../../shared/all.yaml", &link).unwrap();
    assert!(matches!(swap_alone(&f, true, Some(OLD), Some(NEW)), Swap::Done(Some(_))));
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(f.path("shared/all.yaml")).unwrap(), NEW);
    assert_eq!(fs::read_dir(f.path("shared")).unwrap().count(), 1);
    assert_eq!(swap_alone(&f, true, Some(NEW), None), Swap::Done(None));
    assert!(f.path("shared/all.yaml").exists() && f.names().is_empty());

    fs::write(f.folder.path().join("secret"), OLD).unwrap();
    symlink("../../../secret", &link).unwrap();
    for new in [Some(NEW.as_bytes()), None] {
        let refused = f.source.swap(&id("noop/a"), Some(&digest(OLD)), new);
        assert!(matches!(refused, Err(SourceError::Escapes { .. })));
    }
    assert_eq!(fs::read_to_string(f.folder.path().join("secret")).unwrap(), OLD);
}

#[cfg(unix)]
#[test]
fn a_folder_that_cannot_be_written_is_told_apart() {
    use crate::adapters::source::tests::permissions_bind;
    use std::os::unix::fs::PermissionsExt;
    if !permissions_bind() {
        return;
    }
    let f = Fixture::new();
    f.write("a.yaml", OLD);
    let set = |mode| fs::set_permissions(f.path("schedules/noop"), fs::Permissions::from_mode(mode)).unwrap();
    set(0o555);
    let refused = f.source.swap(&id("noop/a"), Some(&digest(OLD)), Some(NEW.as_bytes()));
    set(0o755);
    assert!(matches!(refused, Err(SourceError::Denied { .. })));
    assert_eq!((f.read("a.yaml").as_str(), f.names().len()), (OLD, 1));
}

#[test]
fn errors_are_sorted_by_what_helps() {
    let of = |kind: io::ErrorKind| SourceError::write(Path::new("a.yaml"), kind.into());
    assert!(matches!(of(io::ErrorKind::StorageFull), SourceError::NoSpace { .. }));
    assert!(matches!(of(io::ErrorKind::ReadOnlyFilesystem), SourceError::ReadOnly { .. }));
    assert!(matches!(of(io::ErrorKind::PermissionDenied), SourceError::Denied { .. }));
    assert!(matches!(of(io::ErrorKind::Other), SourceError::Write { .. }));
}

#[cfg(target_os = "linux")]
mod reuse;
