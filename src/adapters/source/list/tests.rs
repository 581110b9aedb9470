//! Listings of real folders, with every odd name a folder may hold.

use std::collections::BTreeSet;

use super::*;
use crate::adapters::source::tests::{Fixture, id};

fn ids(listing: &Listing) -> BTreeSet<String> {
    listing.files.iter().map(|file| file.id.to_string()).collect()
}

fn misplaced(listing: &Listing) -> Vec<(String, MisplacedReason)> {
    let mut found: Vec<_> = listing.misplaced.iter().map(|m| (m.path.clone(), m.reason.clone())).collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

#[test]
fn names_are_sorted_into_schedules_noise_and_oddities() {
    for ignored in [
        ".hidden.yaml",
        ".a.yaml.swp",
        "a.yaml~",
        "4913",
        "4914",
        "#a.yaml#",
        ".#a.yaml",
        "a.tmp",
        ".gitkeep",
        "..data",
        "..2026_01_01",
        "README.md",
        ".DS_Store",
        "a.yaml.orig",
        "a.yaml.bak",
        "a.yaml___jb_tmp___",
    ] {
        assert_eq!(sort(ignored), Name::Ignored, "{ignored}");
    }
    for schedule in ["a.yaml", "4913.yaml", "a.tmp.yaml", "a.b_c-d.yaml"] {
        assert_eq!(sort(schedule), Name::Schedule(schedule.strip_suffix(".yaml").unwrap()));
    }
    assert_eq!(sort("_defaults.yaml"), Name::Defaults);
    for (odd, says) in [
        ("_defaults.yml", "the fleet's defaults are"),
        ("A.yaml", "'A' is not allowed"),
        ("-a.yaml", "starts with"),
        ("con.yaml", "Windows"),
        ("a b.yaml", "' ' is not allowed"),
        ("a.yml", "rename it"),
        ("a.YAML", "rename it"),
        ("a.json", "TENANT.yaml"),
        ("a", "TENANT.yaml"),
    ] {
        let Name::Odd(reason) = sort(odd) else { panic!("{odd}") };
        assert!(reason.to_string().contains(says), "{odd}: {reason}");
    }
}

#[test]
fn defaults_where_nobody_reads_them_are_told() {
    let f = Fixture::new();
    fs::create_dir_all(f.path("schedules/noop")).unwrap();
    for good in ["defaults.yaml", "schedules/noop/_defaults.yaml"] {
        fs::write(f.path(good), "{}\n").unwrap();
    }
    assert_eq!(f.source.list().misplaced, []);
    let odd = ["_defaults.yaml", "defaults.yml", "schedules/_defaults.yaml", "schedules/noop/_defaults.yml"];
    for odd in odd {
        fs::write(f.path(odd), "{}\n").unwrap();
    }
    let mut found = f.source.list().misplaced;
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert_eq!(found.iter().map(|found| found.path.as_str()).collect::<Vec<_>>(), odd);
    assert!(found.iter().all(|found| found.reason == MisplacedReason::OddDefaults), "{found:?}");
}

#[test]
fn a_listing_tells_schedules_from_what_is_misplaced() {
    let f = Fixture::new();
    for name in ["a.yaml", "b.yaml", "c.yml", "Bad.yaml", "a.yaml~", ".a.yaml.cc-x-1-2-3.tmp", "notes.txt"] {
        f.write(name, "interval_sec: 300\n");
    }
    for folder in
        ["schedules/acculynx", "schedules/salesforce", "schedules/noop/deep", "schedules/noop/d.yaml", "webhooks"]
    {
        fs::create_dir_all(f.path(folder)).unwrap();
    }
    fs::write(f.path("schedules/acculynx/a.yaml"), "paused: true\n").unwrap();
    fs::write(f.path("schedules/stray.yaml"), "").unwrap();
    fs::write(f.path("schedules/README.md"), "").unwrap();

    let listing = f.source.list();
    assert_eq!(listing.root, Root::Present);
    assert!(listing.complete, "{:?}", listing.problems);
    assert_eq!(ids(&listing), ["acculynx/a", "noop/a", "noop/b"].map(String::from).into());
    let found = misplaced(&listing);
    let paths: Vec<_> = found.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "schedules/noop/Bad.yaml",
            "schedules/noop/c.yml",
            "schedules/noop/d.yaml",
            "schedules/noop/deep",
            "schedules/noop/notes.txt",
            "schedules/salesforce",
            "schedules/stray.yaml"
        ]
    );
    assert_eq!(found[2].1, MisplacedReason::NestedDirectory);
    assert_eq!(found[6].1, MisplacedReason::OutsideConnector);
    // The folder `d.yaml` takes a schedule's name, whose absence is therefore not proven.
    let taken: Vec<_> = listing.misplaced.iter().filter_map(|m| m.id.clone()).collect();
    assert_eq!(taken, [id("noop/d")]);
}

#[test]
fn stats_agree_with_those_of_single_calls_and_visit_with_list() {
    let f = Fixture::new();
    for n in 0..20 {
        f.write(&format!("t{n}.yaml"), &"#".repeat(n));
    }
    let listing = f.source.list();
    let mut visited = BTreeSet::new();
    let bare = f.source.visit(&mut |connector, tenant, stat| {
        visited.insert((format!("{connector}/{tenant}"), stat.size, stat.inode));
    });
    assert!(bare.complete && bare.files.is_empty());
    assert_eq!(visited.len(), 20);
    for Listed { id, stat } in &listing.files {
        assert_eq!(f.source.stat(id).unwrap(), Some(*stat));
        assert!(visited.contains(&(id.to_string(), stat.size, stat.inode)));
    }
}

#[test]
fn a_missing_root_proves_nothing_but_missing_schedules_do() {
    let f = Fixture::new();
    fs::remove_dir_all(f.path("schedules")).unwrap();
    let listing = f.source.list();
    assert!(listing.complete && listing.files.is_empty());
    fs::remove_dir(f.source.root()).unwrap();
    let listing = f.source.list();
    assert_eq!((listing.root, listing.complete), (Root::Missing, false));
    fs::write(f.source.root(), "").unwrap();
    let listing = f.source.list();
    assert!(matches!(listing.root, Root::Unreadable(_)) && !listing.complete);
}

#[cfg(unix)]
#[test]
fn an_unreadable_folder_makes_the_listing_incomplete() {
    use crate::adapters::source::tests::permissions_bind;
    use std::os::unix::fs::PermissionsExt;
    if !permissions_bind() {
        return;
    }
    let f = Fixture::new();
    fs::create_dir(f.path("schedules/acculynx")).unwrap();
    f.write("a.yaml", "");
    let set = |mode| fs::set_permissions(f.path("schedules/acculynx"), fs::Permissions::from_mode(mode)).unwrap();
    set(0o000);
    let listing = f.source.list();
    set(0o755);
    assert!(!listing.complete);
    assert_eq!(listing.problems[0].0, "schedules/acculynx");
    assert_eq!(ids(&listing), ["noop/a".to_owned()].into());
}

#[cfg(unix)]
#[test]
fn links_inside_count_and_links_outside_leave_their_schedule_unknown() {
    use std::os::unix::fs::symlink;
    let f = Fixture::new();
    fs::create_dir(f.path("shared")).unwrap();
    fs::write(f.path("shared/s.yaml"), "abc").unwrap();
    symlink("../../shared/s.yaml", f.path("schedules/noop/in.yaml")).unwrap();
    symlink("/etc/hosts", f.path("schedules/noop/out.yaml")).unwrap();
    let listing = f.source.list();
    assert!(listing.complete);
    assert_eq!(ids(&listing), ["noop/in".to_owned()].into());
    assert_eq!(listing.files[0].stat.size, 3);
    assert_eq!(listing.misplaced[0].reason, MisplacedReason::EscapingLink);
    assert_eq!(listing.misplaced[0].id, Some(id("noop/out")));

    // A link to nowhere may be a mount in the middle of its change: its schedule alone is unknown.
    symlink("nowhere", f.path("schedules/noop/loose.yaml")).unwrap();
    let listing = f.source.list();
    assert!(listing.complete && f.source.stat(&id("noop/loose")).is_err());
    let loose = listing.misplaced.iter().find(|place| place.id == Some(id("noop/loose"))).unwrap();
    assert_eq!(loose.reason, MisplacedReason::BrokenLink);

    fs::remove_file(f.path("schedules/noop/loose.yaml")).unwrap();
    symlink(f.folder.path(), f.path("schedules/acculynx")).unwrap();
    let listing = f.source.list();
    assert!(!listing.complete, "a whole connector is unknown");
}

#[cfg(unix)]
#[test]
fn a_config_map_is_listed_through_its_links() {
    use std::os::unix::fs::symlink;
    let f = Fixture::new();
    let folder = f.path("schedules/noop");
    fs::create_dir(folder.join("..2026_01_01")).unwrap();
    fs::write(folder.join("..2026_01_01/a.yaml"), "interval_sec: 5\n").unwrap();
    symlink("..2026_01_01", folder.join("..data")).unwrap();
    symlink("..data/a.yaml", folder.join("a.yaml")).unwrap();
    let listing = f.source.list();
    assert!(listing.complete && listing.misplaced.is_empty());
    assert_eq!(ids(&listing), ["noop/a".to_owned()].into());
}

#[cfg(target_os = "linux")]
#[test]
fn a_name_that_is_no_text_is_misplaced() {
    use std::os::unix::ffi::OsStrExt;
    let f = Fixture::new();
    fs::write(f.path("schedules/noop").join(std::ffi::OsStr::from_bytes(b"\xff.yaml")), "").unwrap();
    let listing = f.source.list();
    assert!(matches!(listing.misplaced[0].reason, MisplacedReason::BadTenant(_)));
}
