//! Exchanges one file for another so that nobody's edit is lost: the new content goes in, the
//! displaced content is checked, and what was not expected goes back.
//!
//! With an atomic exchange (Linux `RENAME_EXCHANGE`, macOS `RENAME_SWAP`) the name is never without
//! a file. Elsewhere (Windows, file systems without it) the old file is moved aside, checked, and the
//! new one linked in, never over another: for that moment the name is missing, which only costs a
//! scan that comes then a retry, and a crash in it is mended by `sweep`.

use std::fs::{self, File, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use super::lease::{self, Writers};
use super::place::{found_link, open, open_to_write};
use super::read::read_settled;
use super::rename::{CAN_EXCHANGE, exchange, patiently, rename_at_once, rename_new};
use super::temp::{Role, Tag, Temp};
use super::{FileStat, SCHEDULES, Source, SourceError};
use crate::core::model::{Digest, ScheduleId};

/// How often content that turns up in the wrong place is exchanged again before giving up.
const ROUNDS: usize = 32;

/// How a swap ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Swap {
    /// The new content is in place under this stat, or with `None` the file is gone.
    Done(Option<FileStat>),
    /// Someone else's content is there, untouched; `None`: no file is there.
    Moved(Option<Digest>),
}

/// The points between two steps at which another program may come in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Moment {
    /// The base was found right; nothing has moved.
    Checked,
    /// The new content is under the name, the old is not yet checked; or the old is aside.
    Displaced,
}

/// How to go about it: tests take away the atomic exchange and come in between.
pub(super) struct Manner<'a> {
    pub atomic: bool,
    /// The stat under which the caller has just read the base.
    pub seen: Option<FileStat>,
    /// Writes also what is there already.
    pub again: bool,
    pub between: &'a dyn Fn(Moment),
}

pub(super) fn swap(
    source: &Source,
    id: &ScheduleId,
    base: Option<&Digest>,
    seen: Option<&FileStat>,
    new: Option<&[u8]>,
) -> Result<Swap, SourceError> {
    let manner = Manner { atomic: true, seen: seen.copied(), again: false, between: &|_| {} };
    swap_in(source, id, base, new, &manner)
}

/// Puts `bytes` in the place of `base` as `swap` does, into another file also where they are the same.
pub(super) fn write_again(source: &Source, id: &ScheduleId, base: &Digest, bytes: &[u8]) -> Result<Swap, SourceError> {
    let manner = Manner { atomic: true, seen: None, again: true, between: &|_| {} };
    swap_in(source, id, Some(base), Some(bytes), &manner)
}

pub(super) fn swap_in(
    source: &Source,
    id: &ScheduleId,
    base: Option<&Digest>,
    new: Option<&[u8]>,
    manner: &Manner<'_>,
) -> Result<Swap, SourceError> {
    let job = Job { source, manner, path: source.path(id)? };
    match (base, new) {
        (None, None) => Ok(match job.look(&job.path)? {
            None => Swap::Done(None),
            Some(seen) => Swap::Moved(Some(seen.digest)),
        }),
        (None, Some(bytes)) => job.create(id, bytes),
        (Some(base), Some(bytes)) => job.replace(base, bytes),
        (Some(base), None) => job.delete(base),
    }
}

/// A file as it was found.
struct Seen {
    digest: Digest,
    meta: Metadata,
    /// Where the bytes are: behind a link, its target.
    path: PathBuf,
}

/// What an exchange displaced, or was set aside.
#[derive(Default)]
struct Displaced {
    /// `None` when it is being written or cannot be read: it is not what it was.
    digest: Option<Digest>,
    /// While this is open, writers who come late wait.
    file: Option<File>,
}

impl Displaced {
    /// Whether it is exactly `expected` and no one is about to write it.
    fn is(&self, expected: Option<Digest>) -> bool {
        self.digest.is_some() && self.digest == expected && !self.file.as_ref().is_some_and(lease::is_awaited)
    }
}

struct Job<'a> {
    source: &'a Source,
    manner: &'a Manner<'a>,
    /// The schedule's own path.
    path: PathBuf,
}

impl Job<'_> {
    /// Reads what is at `path`; a missing file is believed only while the root is there.
    fn look(&self, path: &Path) -> Result<Option<Seen>, SourceError> {
        let (mut file, path) = match open(path) {
            Ok(file) => (file, path.to_owned()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return self.source.prove_root().map(|()| None),
            Err(e) if found_link(&e) => {
                let target = self.source.resolve(path)?;
                (open(&target).map_err(|e| SourceError::read(&target, e))?, target)
            }
            Err(e) => return Err(SourceError::read(path, e)),
        };
        let (meta, bytes) = read_settled(&mut file, &path)?;
        Ok(Some(Seen { digest: Digest::of(&bytes), meta, path }))
    }

    /// Reads what was displaced to `path`. Someone who opened it under its old name may be about to write.
    fn look_displaced(&self, path: &Path) -> Result<Displaced, SourceError> {
        let mut file = match open(path) {
            Ok(file) => file,
            Err(e) if found_link(&e) => {
                let digest = self.look(path)?.map(|seen| seen.digest);
                return Ok(Displaced { digest, file: None });
            }
            Err(e) => return Err(SourceError::read(path, e)),
        };
        let writers = lease::hold_off(&file);
        if writers == Writers::Some {
            return Ok(Displaced::default());
        }
        let (_, bytes) = read_settled(&mut file, path)?;
        let file = (writers == Writers::None).then_some(file);
        Ok(Displaced { digest: Some(Digest::of(&bytes)), file })
    }

    fn moved(&self) -> Result<Swap, SourceError> {
        Ok(Swap::Moved(self.look(&self.path)?.map(|seen| seen.digest)))
    }

    fn create(&self, id: &ScheduleId, bytes: &[u8]) -> Result<Swap, SourceError> {
        if let Some(seen) = self.look(&self.path)? {
            return Ok(Swap::Moved(Some(seen.digest)));
        }
        (self.manner.between)(Moment::Checked);
        let tag = Tag::new(Role::Exchange, None, Some(&Digest::of(bytes)));
        let write = || Temp::write(&self.path, &tag, &self.source.serial, None, bytes);
        let (mut temp, meta) = match write() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.make_folders(id)?;
                write()
            }
            other => other,
        }
        .map_err(|e| SourceError::write(&self.path, e))?;
        match rename_new(&temp.path, &self.path) {
            Ok(()) => {
                temp.keep();
                Ok(Swap::Done(Some(stat_after(&self.path, &meta))))
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => self.moved(),
            Err(e) => Err(SourceError::exchange(&self.path, e)),
        }
    }

    /// Makes the folders a first schedule needs, but never the root: a missing one is not ours to make.
    fn make_folders(&self, id: &ScheduleId) -> Result<(), SourceError> {
        self.source.prove_root()?;
        let schedules = self.source.root.join(SCHEDULES);
        let folder = schedules.join(id.connector.as_str());
        for path in [schedules, folder] {
            match fs::create_dir(&path) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(SourceError::write(&path, e)),
                _ => {}
            }
        }
        Ok(())
    }

    /// The base as the caller has just read it, if its stat still stands and it is no link. Should
    /// it have changed all the same, the check of what is displaced finds out.
    fn as_seen(&self, base: &Digest) -> Option<Seen> {
        let expected = self.manner.seen?;
        let meta = fs::symlink_metadata(&self.path).ok()?;
        let same = meta.is_file() && FileStat::of(&meta) == expected;
        same.then(|| Seen { digest: *base, meta, path: self.path.clone() })
    }

    fn replace(&self, base: &Digest, bytes: &[u8]) -> Result<Swap, SourceError> {
        let seen = match self.as_seen(base) {
            Some(seen) => seen,
            None => match self.look(&self.path)? {
                Some(seen) if seen.digest == *base => seen,
                other => return Ok(Swap::Moved(other.map(|seen| seen.digest))),
            },
        };
        let new = Digest::of(bytes);
        if new == *base && !self.manner.again {
            return Ok(Swap::Done(Some(FileStat::of(&seen.meta))));
        }
        (self.manner.between)(Moment::Checked);
        let tag = Tag::new(Role::Exchange, Some(base), Some(&new));
        // Behind a link, on a mount of its own or without a staging folder: beside the file.
        let stageable = CAN_EXCHANGE && self.manner.atomic && seen.path == self.path;
        let staged = stageable.then(|| self.source.stage(&seen.path, &tag, &seen.meta, bytes)).and_then(Result::ok);
        if let Some((temp, meta)) = staged
            && exchange(&temp.path, &seen.path).is_ok()
        {
            return self.settle(temp, &meta, &seen.path, base, new);
        }
        let (temp, meta) = Temp::write(&seen.path, &tag, &self.source.serial, Some(&seen.meta), bytes)
            .map_err(|e| SourceError::write(&seen.path, e))?;
        let exchanged =
            if self.manner.atomic { exchange(&temp.path, &seen.path) } else { Err(io::ErrorKind::Unsupported.into()) };
        match exchanged {
            Ok(()) => self.settle(temp, &meta, &seen.path, base, new),
            Err(e) if e.kind() == io::ErrorKind::NotFound => self.moved(),
            Err(e) if e.kind() == io::ErrorKind::Unsupported => {
                self.replace_in_steps(temp, &meta, &seen.path, base, new)
            }
            Err(e) => Err(SourceError::exchange(&self.path, e)),
        }
    }

    /// Checks what an exchange displaced. The displaced content should be what was seen there last;
    /// anything else is newer than what took its place, so it goes back in, and what *that* displaces
    /// is looked at in turn.
    fn settle(
        &self,
        mut temp: Temp,
        meta: &Metadata,
        target: &Path,
        base: &Digest,
        new: Digest,
    ) -> Result<Swap, SourceError> {
        let (mut expected, mut placed) = (Some(*base), Some(new));
        let mut trouble = None;
        for round in 0..ROUNDS {
            (self.manner.between)(Moment::Displaced);
            if round == 0
                && let Some(file) = displaced_alone(&temp.path, base)
            {
                self.source.recycle(temp, &file);
                return Ok(Swap::Done(Some(stat_after(target, meta))));
            }
            let displaced = self.look_displaced(&temp.path).unwrap_or_else(|e| {
                trouble = Some(e);
                Displaced::default()
            });
            if displaced.is(expected) {
                // Removed before `displaced` lets writers go on.
                drop(temp);
                return match (round, trouble) {
                    (0, _) => Ok(Swap::Done(Some(stat_after(target, meta)))),
                    (_, Some(error)) => Err(error),
                    // What is still being written has no digest yet.
                    _ if placed.is_none() => self.moved(),
                    _ => Ok(Swap::Moved(placed)),
                };
            }
            let back = match exchange(&temp.path, target) {
                // The name was taken away meanwhile; the edit we hold still goes where it was saved.
                Err(e) if e.kind() == io::ErrorKind::NotFound => match rename_new(&temp.path, target) {
                    Ok(()) => {
                        temp.keep();
                        drop(displaced);
                        return trouble.map_or_else(|| self.moved(), Err);
                    }
                    Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
                    Err(e) => Err(e),
                },
                other => other,
            };
            if let Err(e) = back {
                temp.keep();
                return Err(SourceError::exchange(target, e));
            }
            (expected, placed) = (placed, displaced.digest);
        }
        temp.keep();
        Err(SourceError::Restless { path: target.to_owned() })
    }

    /// The way without an exchange: aside, check, link in.
    fn replace_in_steps(
        &self,
        mut temp: Temp,
        meta: &Metadata,
        target: &Path,
        base: &Digest,
        new: Digest,
    ) -> Result<Swap, SourceError> {
        let tag = Tag::new(Role::Replace, Some(base), Some(&new));
        let Some((aside, displaced)) = self.set_aside(target, &tag)? else { return self.moved() };
        if !displaced.is(Some(*base)) {
            return self.put_back(aside, target);
        }
        match rename_new(&temp.path, target) {
            Ok(()) => {
                temp.keep();
                Ok(Swap::Done(Some(stat_after(target, meta))))
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => self.moved(),
            Err(e) => {
                self.put_back(aside, target)?;
                Err(SourceError::exchange(target, e))
            }
        }
    }

    /// Deletes the file; of a linked one the link, since its target may serve others.
    fn delete(&self, base: &Digest) -> Result<Swap, SourceError> {
        match self.look(&self.path)? {
            Some(seen) if seen.digest == *base => {}
            other => return Ok(Swap::Moved(other.map(|seen| seen.digest))),
        }
        (self.manner.between)(Moment::Checked);
        let tag = Tag::new(Role::Delete, Some(base), None);
        let Some((aside, displaced)) = self.set_aside(&self.path, &tag)? else { return Ok(Swap::Moved(None)) };
        if !displaced.is(Some(*base)) {
            return self.put_back(aside, &self.path);
        }
        // Removed before `displaced` lets writers go on.
        drop(aside);
        Ok(Swap::Done(None))
    }

    /// Moves `target` aside and says what it held; `None` when it is gone already. A file that
    /// cannot be read goes back.
    fn set_aside(&self, target: &Path, tag: &Tag) -> Result<Option<(Temp, Displaced)>, SourceError> {
        let aside = match self.take(target, tag) {
            Ok(aside) => aside,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(SourceError::exchange(target, e)),
        };
        (self.manner.between)(Moment::Displaced);
        match self.look_displaced(&aside.path) {
            Ok(displaced) => Ok(Some((aside, displaced))),
            Err(e) => {
                self.put_back(aside, target)?;
                Err(e)
            }
        }
    }

    fn take(&self, target: &Path, tag: &Tag) -> io::Result<Temp> {
        let serial = &self.source.serial;
        if self.manner.atomic {
            match Temp::take(target, target, tag, serial, rename_at_once) {
                Err(e) if e.kind() == io::ErrorKind::Unsupported => {}
                taken => return taken,
            }
        }
        // A file of our own reserves the name, and is replaced.
        let (aside, _) = Temp::create(target, tag, serial, None)?;
        patiently(|| fs::rename(target, &aside.path))?;
        Ok(aside)
    }

    /// Gives a file that was set aside its name again, unless a newer one has taken it.
    fn put_back(&self, mut aside: Temp, target: &Path) -> Result<Swap, SourceError> {
        match rename_new(&aside.path, target) {
            Ok(()) => aside.keep(),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => {
                aside.keep();
                return Err(SourceError::exchange(target, e));
            }
        }
        self.moved()
    }
}

/// The common case at one stroke: what was displaced is `base`, and nobody else has it open.
fn displaced_alone(path: &Path, base: &Digest) -> Option<File> {
    let mut file = open_to_write(path).ok().filter(lease::hold_off_everyone)?;
    let (_, bytes) = read_settled(&mut file, path).ok()?;
    (Digest::of(&bytes) == *base && !lease::is_awaited(&file)).then_some(file)
}

/// The stat of what we put in place. Renaming moves the change time; if anything else moved, someone
/// has written there since, and the stat from before says so to whoever compares.
fn stat_after(path: &Path, before: &Metadata) -> FileStat {
    let before = FileStat::of(before);
    match fs::symlink_metadata(path).map(|meta| FileStat::of(&meta)) {
        Ok(after) if (FileStat { ctime_ns: before.ctime_ns, ..after }) == before => after,
        _ => before,
    }
}

#[cfg(test)]
mod tests;
