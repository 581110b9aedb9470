//! `.command-center/` in the desired directory: where an edit's new content is written before it is
//! exchanged in, out of the watcher's sight, and where emptied files wait to be filled again.
//!
//! A file made and deleted for each edit is dear on ext4: the inodes deleted within the last minute
//! are not given away again, and all of them are looked at whenever a file is made, up to a
//! millisecond long. So what an edit displaced, once proven to be nobody's any more, is emptied and
//! serves a later edit.

use std::collections::VecDeque;
use std::fs::{self, File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Source;
use super::lease;
use super::temp::{Tag, Temp};

/// The folder's name; hidden, so that neither listing nor watch looks into it.
pub(super) const STAGING: &str = ".command-center";

/// How long an emptied file rests before it is filled: whoever found it under its old name and was
/// held up on the way to opening it comes in meanwhile, and is noticed.
const REST: Duration = Duration::from_millis(250);

/// How long one that nobody needs is kept.
const KEEP: Duration = Duration::from_secs(60);

/// How many are kept at most.
const MOST: usize = 2048;

/// Emptied files and since when each rests, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Spares(Mutex<VecDeque<(Instant, PathBuf)>>);

impl Spares {
    fn take(&self) -> Option<PathBuf> {
        let mut spares = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        spares.pop_front_if(|(since, _)| since.elapsed() >= REST).map(|(_, path)| path)
    }

    /// Whether there is room for one more.
    fn put(&self, path: PathBuf) -> bool {
        let mut spares = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = spares.len() < MOST;
        if room {
            spares.push_back((Instant::now(), path));
        }
        room
    }

    /// Removes what has not been needed for long.
    pub fn trim(&self) {
        loop {
            let old = {
                let mut spares = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                spares.pop_front_if(|(since, _)| since.elapsed() >= KEEP)
            };
            let Some((_, path)) = old else { return };
            // What cannot be removed now is swept at the next start.
            let _ = fs::remove_file(path);
        }
    }
}

impl Source {
    /// Writes `bytes` to a temporary file in the staging folder, with mode and owner of `like`.
    /// Gives its stat.
    pub(super) fn stage(
        &self,
        target: &Path,
        tag: &Tag,
        like: &Metadata,
        bytes: &[u8],
    ) -> io::Result<(Temp, Metadata)> {
        let connector = target.parent().and_then(Path::file_name).ok_or(io::ErrorKind::InvalidInput)?;
        let staged = self.root.join(STAGING).join(connector).join(target.file_name().unwrap_or_default());
        if let Some((temp, mut file)) = self.spares.take().and_then(|spare| self.reuse(&spare, &staged, tag)) {
            let meta = temp.fill(&mut file, Some(like), bytes)?;
            return Ok((temp, meta));
        }
        match Temp::write(&staged, tag, &self.serial, Some(like), bytes) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.make_staging(staged.parent().unwrap_or(&self.root))?;
                Temp::write(&staged, tag, &self.serial, Some(like), bytes)
            }
            written => written,
        }
    }

    /// Opens a spare under a name of its own, unless somebody has come to it after all.
    fn reuse(&self, spare: &Path, staged: &Path, tag: &Tag) -> Option<(Temp, File)> {
        let temp = Temp::take(spare, staged, tag, &self.serial, super::rename::rename_at_once).ok()?;
        let file = fs::OpenOptions::new().write(true).open(&temp.path).ok()?;
        let untouched = lease::hold_off_everyone(&file) && file.metadata().is_ok_and(|meta| meta.len() == 0);
        untouched.then_some((temp, file))
    }

    /// Keeps a displaced file, emptied, for a later edit if it is `file` that nobody else has open or
    /// another name for, and nothing clings to it. If not, it is removed.
    pub(super) fn recycle(&self, mut temp: Temp, file: &File) {
        let sole = lease::is_held_from_everyone(file) && has_one_name(file) && is_plain(file);
        if sole && temp.is_staged() && file.set_len(0).is_ok() && self.spares.put(temp.path.clone()) {
            temp.keep();
        }
    }

    /// Git is told to leave the folder out, and so leaves a clean work tree clean.
    fn make_staging(&self, folder: &Path) -> io::Result<()> {
        // Never the root: a missing one is not ours to make.
        let staging = self.root.join(STAGING);
        match fs::create_dir(&staging) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
        fs::write(staging.join(".gitignore"), "*\n")?;
        match fs::create_dir(folder) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
            _ => Ok(()),
        }
    }
}

#[cfg(unix)]
fn has_one_name(file: &File) -> bool {
    use std::os::unix::fs::MetadataExt;
    file.metadata().is_ok_and(|meta| meta.nlink() == 1)
}

#[cfg(not(unix))]
fn has_one_name(_: &File) -> bool {
    false
}

/// Whether the file has no access list or other attribute that would go over to the next content.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn is_plain(file: &File) -> bool {
    let mut names = [0u8; 64];
    match rustix::fs::flistxattr(file, &mut names[..]) {
        Ok(length) => {
            names[..length].split(|byte| *byte == 0).all(|name| name.is_empty() || name == b"security.selinux")
        }
        Err(error) => error == rustix::io::Errno::NOTSUP,
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn is_plain(_: &File) -> bool {
    false
}
