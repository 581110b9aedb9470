//! What a crash leaves behind, and what a sweep makes of it.

use std::fs;

use super::{EDITED, Fixture, NEW, OLD, digest};
use crate::adapters::source::temp::{Role, Tag, Temp};

/// Leaves a temporary file with `held` as a crash in a swap from OLD to NEW would.
fn leave(f: &Fixture, role: Role, held: &str) {
    let new = (role != Role::Delete).then(|| digest(NEW));
    let tag = Tag::new(role, Some(&digest(OLD)), new.as_ref());
    let target = f.path("schedules/noop/a.yaml");
    let (mut temp, _) = Temp::write(&target, &tag, &f.source.serial, None, held.as_bytes()).unwrap();
    temp.keep();
}

#[track_caller]
fn check(role: Role, held: &str, visible: Option<&str>, then: Option<&str>) {
    let f = Fixture::new();
    leave(&f, role, held);
    if let Some(content) = visible {
        f.write("a.yaml", content);
    }
    let swept = f.source.sweep();
    assert_eq!((swept.removed, swept.problems.len()), (1, 0), "{swept:?}");
    let there = fs::read_to_string(f.path("schedules/noop/a.yaml")).ok();
    assert_eq!(there.as_deref(), then);
    assert_eq!(f.names().len(), usize::from(then.is_some()), "{:?}", f.names());
    let restored = if visible == then { vec![] } else { vec!["schedules/noop/a.yaml".to_owned()] };
    assert_eq!(swept.restored, restored);
}

#[test]
fn what_is_of_no_use_is_removed() {
    check(Role::Exchange, "inter", Some(OLD), Some(OLD));
    check(Role::Exchange, NEW, Some(OLD), Some(OLD));
    check(Role::Exchange, OLD, Some(NEW), Some(NEW));
    check(Role::Exchange, OLD, Some(EDITED), Some(EDITED));
    check(Role::Exchange, OLD, None, None);
    check(Role::Delete, OLD, None, None);
    check(Role::Delete, "", Some(OLD), Some(OLD));
    check(Role::Replace, OLD, Some(NEW), Some(NEW));
    check(Role::Replace, "", None, None);
}

#[test]
fn what_an_editor_saved_in_that_moment_comes_back() {
    if crate::adapters::source::rename::CAN_EXCHANGE {
        check(Role::Exchange, EDITED, Some(NEW), Some(EDITED));
    }
    check(Role::Delete, EDITED, None, Some(EDITED));
    check(Role::Replace, EDITED, None, Some(EDITED));
    check(Role::Replace, OLD, None, Some(OLD));
}

#[test]
fn a_sweep_leaves_everything_else_alone() {
    let f = Fixture::new();
    for name in ["a.yaml", ".a.yaml.swp", ".a.yaml.cc-x-1-2-3.tmp", ".git", "b.tmp"] {
        f.write(name, OLD);
    }
    assert_eq!(f.source.sweep(), crate::adapters::source::Swept::default());
    assert_eq!(f.names().len(), 5);
}

#[test]
fn a_tag_survives_its_name() {
    let f = Fixture::new();
    for role in [Role::Exchange, Role::Replace, Role::Delete] {
        let tag = Tag::new(role, Some(&digest(OLD)), None);
        let (temp, _) = Temp::create(&f.path("schedules/noop/a.cc-b.yaml"), &tag, &f.source.serial, None).unwrap();
        let name = temp.path.file_name().unwrap().to_str().unwrap();
        assert_eq!(Tag::parse(name), Some(("a.cc-b.yaml", tag)));
    }
    assert!(f.names().is_empty());
}
