//! Whether a folder lies on another machine. A database there is one that two machines can open at once, whose
//! locks and memory are not shared: SQLite loses data on such file systems.

use std::path::Path;

/// Types of file systems, as Linux' table of mounts names them, whose files are elsewhere.
const ELSEWHERE: [&str; 27] = [
    "nfs",
    "nfs4",
    "cifs",
    "smb2",
    "smb3",
    "smbfs",
    "ncpfs",
    "9p",
    "afs",
    "ceph",
    "glusterfs",
    "lustre",
    "beegfs",
    "gpfs",
    "davfs",
    "fuse.sshfs",
    "fuse.s3fs",
    "fuse.rclone",
    "fuse.glusterfs",
    "fuse.ceph",
    "fuse.ceph-fuse",
    "fuse.juicefs",
    "fuse.mount-s3",
    "fuse.gcsfuse",
    "fuse.goofys",
    "fuse.curlftpfs",
    "fuse.smbnetfs",
];

/// What kind of network path it is; `None` for what is of this machine, or cannot be told.
pub fn network_path(path: &Path) -> Option<String> {
    if is_unc(&path.to_string_lossy()) {
        return Some("a UNC path".to_owned());
    }
    // The nearest folder that is there: the path itself may be yet to be made.
    let there = path.ancestors().find_map(|path| {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        path.canonicalize().ok()
    })?;
    // What a drive's letter stands for, on Windows.
    if is_unc(&there.to_string_lossy()) {
        return Some("a network drive".to_owned());
    }
    kind_at(&there)
}

/// `\\server\share\…` in its spellings; `\\?\C:\…` and `\\.\…` are paths of this machine.
fn is_unc(path: &str) -> bool {
    let path = if cfg!(windows) { path.replace('/', r"\") } else { path.to_owned() };
    if path.get(..8).is_some_and(|start| start.eq_ignore_ascii_case(r"\\?\UNC\")) {
        return true;
    }
    path.starts_with(r"\\") && !path.starts_with(r"\\?\") && !path.starts_with(r"\\.\")
}

#[cfg(not(target_vendor = "apple"))]
fn kind_at(path: &Path) -> Option<String> {
    kind_of(path, &std::fs::read_to_string("/proc/self/mounts").ok()?)
}

/// The system says itself whether the files are of this machine.
#[cfg(target_vendor = "apple")]
fn kind_at(path: &Path) -> Option<String> {
    /// `MNT_LOCAL` of its headers.
    const LOCAL: u32 = 0x1000;
    let found = rustix::fs::statfs(path).ok()?;
    (found.f_flags & LOCAL == 0).then(|| "a network file system".to_owned())
}

/// Looks a path up in a table of mounts: the last of the longest that it lies below.
#[cfg_attr(target_vendor = "apple", allow(dead_code))]
fn kind_of(path: &Path, mounts: &str) -> Option<String> {
    let mut best: Option<(usize, &str)> = None;
    for line in mounts.lines() {
        let mut words = line.split(' ').skip(1);
        let (Some(point), Some(kind)) = (words.next(), words.next()) else { continue };
        let point = point.replace(r"\040", " ").replace(r"\011", "\t").replace(r"\134", r"\");
        if path.starts_with(&point) && best.is_none_or(|(length, _)| point.len() >= length) {
            best = Some((point.len(), kind));
        }
    }
    let (_, kind) = best?;
    ELSEWHERE.contains(&kind).then(|| format!("a network file system ({kind})"))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_where_the_longest_mount_is() {
        let mounts = "/dev/a / ext4 rw 0 0\nhost:/x /mnt/nfs nfs4 rw 0 0\n/dev/b /mnt/nfs/local xfs rw 0 0\n\
                      u@h: /mnt/my\\040files fuse.sshfs rw 0 0\nportal /run/user/1/doc fuse.portal rw 0 0\n";
        let kind = |path: &str| kind_of(Path::new(path), mounts);
        assert_eq!(kind("/var/lib/data"), None);
        assert_eq!(kind("/mnt/nfs/data").as_deref(), Some("a network file system (nfs4)"));
        assert_eq!(kind("/mnt/nfs/local/data"), None);
        assert_eq!(kind("/mnt/nfsx"), None);
        for kind in ["nfs", "cifs", "smb3", "9p"] {
            assert!(
                kind_of(Path::new("/m/d"), &format!("/dev/a / ext4 rw 0 0\nx /m {kind} rw 0 0\n")).is_some(),
                "{kind}"
            );
        }
        assert!(kind("/mnt/my files/data").is_some());
        // FUSE alone says nothing of where the files are.
        assert_eq!(kind("/run/user/1/doc"), None);
    }

    #[test]
    fn unc_paths_are_elsewhere_and_this_machine_is_not() {
        assert!(network_path(Path::new(r"\\server\share\data")).is_some());
        assert!(
            network_path(Path::new(r"\\?\unc\server\share\data")).is_some(),
            "what a drive's letter is resolved to"
        );
        assert_eq!(network_path(Path::new(r"\\?\C:\data")), None);
        assert_eq!(network_path(&std::env::temp_dir().join("not/there/yet")), None);
    }
}
