//! git at work in real work trees, and the commit they stand at.

use super::*;
use crate::adapters::source::tests::Fixture;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A git directory at `path`, on branch main without a commit.
fn git_dir(path: &Path) {
    fs::create_dir_all(path.join("refs/heads")).unwrap();
    fs::write(path.join("HEAD"), "ref: refs/heads/main\n").unwrap();
}

#[test]
fn outside_a_work_tree_there_is_nothing_to_say() {
    let f = Fixture::new();
    assert_eq!((f.source.git_busy(), f.source.git_head()), (None, None));
}

#[test]
fn operations_under_way_are_named() {
    let f = Fixture::new();
    let git = f.folder.path().join(".git");
    git_dir(&git);
    assert_eq!(f.source.git_busy(), None);
    for file in ["index.lock", "MERGE_HEAD", "CHERRY_PICK_HEAD"] {
        fs::write(git.join(file), "").unwrap();
        assert_eq!(f.source.git_busy().as_deref(), Some(file));
        fs::remove_file(git.join(file)).unwrap();
    }
    fs::create_dir(git.join("rebase-merge")).unwrap();
    assert_eq!(f.source.git_busy().as_deref(), Some("rebase-merge"));
    // What was found is not believed for ever.
    fs::remove_dir_all(&git).unwrap();
    assert_eq!(f.source.git_busy(), None);
}

#[test]
fn the_head_is_found_detached_loose_and_packed() {
    let f = Fixture::new();
    let git = f.folder.path().join(".git");
    git_dir(&git);
    assert_eq!(f.source.git_head(), None);
    let packed = format!("# pack-refs with: peeled fully-peeled sorted\n{COMMIT} refs/heads/main\n^{COMMIT}\n");
    fs::write(git.join("packed-refs"), packed).unwrap();
    assert_eq!(f.source.git_head().as_deref(), Some(COMMIT));
    let loose = COMMIT.replace('0', "f");
    fs::write(git.join("refs/heads/main"), format!("{loose}\n")).unwrap();
    assert_eq!(f.source.git_head(), Some(loose));
    fs::write(git.join("HEAD"), COMMIT).unwrap();
    assert_eq!(f.source.git_head().as_deref(), Some(COMMIT));
    fs::write(git.join("HEAD"), "ref: refs/../../../secret").unwrap();
    assert_eq!(f.source.git_head(), None);
}

#[test]
fn a_linked_work_tree_has_its_own_state_and_common_refs() {
    let f = Fixture::new();
    let main = f.folder.path().join("main.git");
    git_dir(&main);
    fs::write(main.join("refs/heads/main"), COMMIT).unwrap();
    let own = main.join("worktrees/w");
    git_dir(&own);
    fs::write(own.join("commondir"), "../..\n").unwrap();
    fs::write(f.source.root().join(".git"), "gitdir: ../main.git/worktrees/w\n").unwrap();
    assert_eq!(f.source.git_head().as_deref(), Some(COMMIT));
    fs::write(main.join("index.lock"), "").unwrap();
    assert_eq!(f.source.git_busy(), None);
    fs::write(own.join("index.lock"), "").unwrap();
    assert_eq!(f.source.git_busy().as_deref(), Some("index.lock"));
}
