//! Whether a folder lies on another machine. A database there is one that two machines can open at once, whose
//! locks and memory are not shared: SQLite loses data on such file systems.

use std::path::Path;

/// Types of file systems, as Linux' table of mounts names them, whose files are elsewhere.
const ELSEWHERE: [&str; 18] = [
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "ncpfs",
    "afs",
    "ceph",
    "glusterfs",
    "lustre",
    "fuse.sshfs",
    "fuse.s3fs",
    "fuse.rclone",
    "fuse.glusterfs",
    "fuse.gcsfuse",
    "fuse.goofys",
    "fuse.curlftpfs",
    "davfs",
];

/// What kind of network path it is; `None` for what is of this machine, or cannot be told.
pub fn network_path(path: &Path) -> Option<String> {
    let shown = path.to_string_lossy();
    if shown.starts_with(r"\\") && !shown.starts_with(r"\\?\") && !shown.starts_with(r"\\.\") {
        return Some("a UNC path".to_owned());
    }
    // The nearest folder that is there: the path itself may be yet to be made.
    let there = path.ancestors().find_map(|path| {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        path.canonicalize().ok()
    })?;
    let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
    kind_of(&there, &mounts)
}

/// Looks a path up in a table of mounts: the last of the longest that it lies below.
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
        assert!(kind("/mnt/my files/data").is_some());
        // FUSE alone says nothing of where the files are.
        assert_eq!(kind("/run/user/1/doc"), None);
    }

    #[test]
    fn unc_paths_are_elsewhere_and_this_machine_is_not() {
        assert!(network_path(Path::new(r"\\server\share\data")).is_some());
        assert_eq!(network_path(Path::new(r"\\?\C:\data")), None);
        assert_eq!(network_path(&std::env::temp_dir().join("not/there/yet")), None);
    }
}
