//! The temporary files of a swap: beside the schedule's file, hidden, removed when let go,
//! and named so that a sweep after a crash can tell what became of them.

use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::staging::STAGING;
use crate::core::model::Digest;

/// What a temporary file is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Role {
    /// Holds the new content and, after the exchange, what was displaced.
    Exchange,
    /// Holds a file that is moved aside to be replaced.
    Replace,
    /// Holds a file that is moved aside to be deleted.
    Delete,
}

/// What a temporary file's name says: `.FILE.cc-ROLE-BASE-NEW-UNIQUE.tmp`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Tag {
    pub role: Role,
    /// The first digits of the digests; zeros stand for no file.
    pub base: String,
    pub new: String,
}

/// How many digits of a digest stand in a name.
const DIGITS: usize = 12;

impl Tag {
    pub fn new(role: Role, base: Option<&Digest>, new: Option<&Digest>) -> Self {
        Tag { role, base: short(base), new: short(new) }
    }

    /// The tag and the name of the file it belongs to, if `name` is one of ours.
    pub fn parse(name: &str) -> Option<(&str, Tag)> {
        let (file, tag) = name.strip_prefix('.')?.strip_suffix(".tmp")?.rsplit_once(".cc-")?;
        let mut parts = tag.split('-');
        let role = match parts.next()? {
            "x" => Role::Exchange,
            "r" => Role::Replace,
            "d" => Role::Delete,
            _ => return None,
        };
        let mut digits = || parts.next().filter(|part| part.len() == DIGITS).map(str::to_owned);
        Some((file, Tag { role, base: digits()?, new: digits()? }))
    }

    fn name(&self, file: &str, unique: u64) -> String {
        let role = match self.role {
            Role::Exchange => 'x',
            Role::Replace => 'r',
            Role::Delete => 'd',
        };
        let (base, new, pid) = (&self.base, &self.new, std::process::id());
        format!(".{file}.cc-{role}-{base}-{new}-{pid:x}.{unique:x}.tmp")
    }
}

/// A digest as a name shows it.
pub(super) fn short(digest: Option<&Digest>) -> String {
    let mut hex = digest.map_or_else(|| "0".repeat(DIGITS), |d| d.to_hex());
    hex.truncate(DIGITS);
    hex
}

/// A temporary file that is removed when this is dropped, unless it was `kept`.
#[derive(Debug)]
pub(super) struct Temp {
    pub path: PathBuf,
    keep: bool,
}

impl Temp {
    /// Moves `from` to a temporary name for `target` with `rename`, which never replaces: no file need
    /// be made first.
    pub fn take(
        from: &Path,
        target: &Path,
        tag: &Tag,
        serial: &AtomicU64,
        rename: fn(&Path, &Path) -> io::Result<()>,
    ) -> io::Result<Self> {
        let file = target.file_name().map(|n| n.to_string_lossy()).unwrap_or_default();
        loop {
            let path = target.with_file_name(tag.name(&file, serial.fetch_add(1, Ordering::Relaxed)));
            match rename(from, &path) {
                Ok(()) => return Ok(Temp { path, keep: false }),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Creates an empty file under a name of its own beside `target`, with the mode of `like`.
    pub fn create(target: &Path, tag: &Tag, serial: &AtomicU64, like: Option<&Metadata>) -> io::Result<(Self, File)> {
        let file = target.file_name().map(|n| n.to_string_lossy()).unwrap_or_default();
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        if let Some(like) = like {
            use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
            options.mode(like.mode() & 0o7777);
        }
        #[cfg(not(unix))]
        let _ = like;
        loop {
            let path = target.with_file_name(tag.name(&file, serial.fetch_add(1, Ordering::Relaxed)));
            match options.open(&path) {
                Ok(file) => return Ok((Temp { path, keep: false }, file)),
                // Left by an earlier process with our number: take the next name.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Creates and closes a file with `bytes`, mode and, where permitted, owner of `like`. Gives its stat.
    pub fn write(
        target: &Path,
        tag: &Tag,
        serial: &AtomicU64,
        like: Option<&Metadata>,
        bytes: &[u8],
    ) -> io::Result<(Self, Metadata)> {
        let (temp, mut file) = Temp::create(target, tag, serial, like)?;
        let meta = temp.fill(&mut file, like, bytes)?;
        Ok((temp, meta))
    }

    /// Writes `bytes` to this file, open and empty as `file`, and gives it mode and, where permitted,
    /// owner of `like`. Gives its stat.
    pub fn fill(&self, file: &mut File, like: Option<&Metadata>, bytes: &[u8]) -> io::Result<Metadata> {
        file.write_all(bytes)?;
        let meta = file.metadata()?;
        #[cfg(unix)]
        if let Some(like) = like
            && adopt(file, &meta, like)?
        {
            return file.metadata();
        }
        #[cfg(not(unix))]
        if let Some(like) = like
            && like.permissions().readonly()
        {
            file.set_permissions(like.permissions())?;
            return file.metadata();
        }
        Ok(meta)
    }

    /// Whether it lies in the staging folder.
    pub fn is_staged(&self) -> bool {
        self.path.ancestors().nth(2).is_some_and(|folder| folder.ends_with(STAGING))
    }

    /// Lets the file stay: its name is another's now, or its content must not be lost.
    pub fn keep(&mut self) {
        self.keep = true;
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        if !self.keep {
            // What cannot be removed now is swept at the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Gives `file` the owner and mode of `like` where they differ; says whether they did.
#[cfg(unix)]
fn adopt(file: &File, is: &Metadata, like: &Metadata) -> io::Result<bool> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
    let owner = (is.uid() != like.uid()).then(|| like.uid());
    let group = (is.gid() != like.gid()).then(|| like.gid());
    if owner.is_some() || group.is_some() {
        // Only root may give files away; a group of our own may still be set.
        let _ = fchown(file, owner, group).or_else(|_| fchown(file, None, group));
    }
    // Giving a file away can clear bits of its mode, so the mode comes last.
    let mode = like.mode() & 0o7777;
    let changed = owner.is_some() || group.is_some() || is.mode() & 0o7777 != mode;
    if changed {
        file.set_permissions(fs::Permissions::from_mode(mode))?;
    }
    Ok(changed)
}
