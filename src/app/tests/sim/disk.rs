//! A desired directory in memory, with a stat for each file, what a power cut may take back, and
//! the faults that chance asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use super::super::chance::Chance;
use crate::adapters::clock::Clock;
use crate::adapters::source::{FileStat, Files, Listed, Listing, ReadResult, Root, SourceError, Swap, Swept};
use crate::adapters::store::memory::Fates as _;
use crate::core::model::{Connector, Digest, ScheduleId};

#[derive(Clone)]
struct File {
    content: Vec<u8>,
    stat: FileStat,
}

#[derive(Default)]
struct Inner {
    /// The root is not mounted.
    away: bool,
    files: BTreeMap<ScheduleId, File>,
    /// Maintenance windows by name; to them nothing happens.
    windows: BTreeMap<String, Vec<u8>>,
    /// What a power cut may put in a file's place: not everything is on the platter yet.
    unsynced: BTreeMap<ScheduleId, Vec<Option<Vec<u8>>>>,
    /// Of these, what a sync that failed has dropped: it comes no nearer to the platter until it is written again.
    dropped: BTreeSet<ScheduleId>,
    /// Files that the program wrote last.
    ours: BTreeSet<ScheduleId>,
    /// How often anyone but the program has touched a file.
    touched: BTreeMap<ScheduleId, u64>,
    next_inode: u64,
    ticks: i64,
}

pub(in crate::app::tests) struct Disk {
    root: PathBuf,
    inner: Mutex<Inner>,
    chance: Arc<Chance>,
    clock: Clock,
}

/// How somebody writes a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::app::tests) enum Manner {
    InPlace,
    ByRename,
}

impl Disk {
    pub fn new(chance: Arc<Chance>, clock: Clock) -> Disk {
        Disk { root: PathBuf::from("/simulated"), inner: Mutex::default(), chance, clock }
    }

    /// The same files on another disk, where nothing goes wrong.
    pub fn copy(&self, chance: Arc<Chance>) -> Disk {
        let files = self.lock().files.clone();
        let copy = Disk::new(chance, self.clock.clone());
        copy.lock().files = files;
        copy
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    fn path(&self, id: &ScheduleId) -> PathBuf {
        self.root.join(id.file())
    }

    pub fn set_away(&self, away: bool) {
        self.lock().away = away;
    }

    pub fn content(&self, id: &ScheduleId) -> Option<Vec<u8>> {
        self.lock().files.get(id).map(|file| file.content.clone())
    }

    pub fn contents(&self) -> BTreeMap<ScheduleId, Vec<u8>> {
        self.lock().files.iter().map(|(id, file)| (id.clone(), file.content.clone())).collect()
    }

    /// Moves with every change that is not the program's own.
    pub fn touched(&self, id: &ScheduleId) -> u64 {
        self.lock().touched.get(id).copied().unwrap_or(0)
    }

    /// Somebody edits, creates or (with `None`) deletes a file.
    pub fn edit(&self, id: &ScheduleId, content: Option<Vec<u8>>, manner: Manner) {
        let mut inner = self.lock();
        let before = inner.files.get(id).map(|file| file.content.clone());
        if before == content {
            return;
        }
        inner.ours.remove(id);
        inner.dropped.remove(id);
        *inner.touched.entry(id.clone()).or_default() += 1;
        if self.chance.is(60) {
            inner.unsynced.remove(id);
        } else {
            inner.unsynced.entry(id.clone()).or_default().push(before);
        }
        self.place(&mut inner, id, content, manner);
    }

    /// Somebody writes all maintenance windows anew.
    pub fn write_windows(&self, windows: BTreeMap<String, Vec<u8>>) {
        self.lock().windows = windows;
    }

    /// Puts content under a name, as of now. Now and then two writes share a tick of the clock.
    fn place(&self, inner: &mut Inner, id: &ScheduleId, content: Option<Vec<u8>>, manner: Manner) -> Option<FileStat> {
        let Some(content) = content else {
            inner.files.remove(id);
            return None;
        };
        if self.chance.is(70) {
            inner.ticks += 1;
        }
        let now_ns = self.clock.now() * 1_000_000 + inner.ticks % 1_000_000;
        let inode = match inner.files.get(id) {
            Some(file) if manner == Manner::InPlace => file.stat.inode,
            _ => {
                inner.next_inode += 1;
                inner.next_inode
            }
        };
        let size = u32::try_from(content.len()).unwrap();
        let stat = FileStat { size, mtime_ns: now_ns, ctime_ns: now_ns, inode };
        inner.files.insert(id.clone(), File { content, stat });
        Some(stat)
    }

    /// The program ends. That a kill comes between a sync that failed and the writing that follows it is not played:
    /// the next start cannot know.
    pub fn forget_dropped(&self) {
        self.lock().dropped.clear();
    }

    /// The current goes: of each file that is not synced stays this or that version, or nothing in it.
    /// Returns which have changed.
    pub fn lose_power(&self) -> Vec<String> {
        let mut changed = Vec::new();
        let mut inner = self.lock();
        for (id, mut versions) in std::mem::take(&mut inner.unsynced) {
            let Some(file) = inner.files.get(&id) else {
                // A deletion that is not on the platter.
                if let Some(Some(content)) = versions.pop().filter(|_| self.chance.is(50)) {
                    changed.push(format!("{id} is back"));
                    self.place(&mut inner, &id, Some(content), Manner::ByRename);
                }
                continue;
            };
            versions.push(Some(Vec::new()));
            versions.push(Some(file.content.clone()));
            let version = self.chance.pick(&versions).clone();
            if version.as_ref() != Some(&file.content) {
                changed.push(format!("{id}: {:?}", version.as_deref().map(String::from_utf8_lossy)));
                self.place(&mut inner, &id, version, Manner::ByRename);
            }
        }
        changed
    }

    /// The error that a call ends with, if chance wants one.
    fn fault(&self, path: PathBuf) -> Result<(), SourceError> {
        if self.lock().away {
            return Err(SourceError::RootMissing { path: self.root.clone() });
        }
        if !self.chance.fails() {
            return Ok(());
        }
        Err(match self.chance.below(4) {
            0 => SourceError::Denied { path, source: io::ErrorKind::PermissionDenied.into() },
            1 => SourceError::Read { path, source: io::Error::other("input/output error") },
            2 => SourceError::Restless { path },
            _ => SourceError::Stat { path, source: io::Error::other("input/output error") },
        })
    }

    /// As the program writes: nothing of it is synced. What an editor wrote before counts as synced.
    fn put(&self, id: &ScheduleId, base: Option<Vec<u8>>, new: Option<Vec<u8>>) -> Option<FileStat> {
        let mut inner = self.lock();
        let was_ours = !inner.ours.insert(id.clone());
        inner.dropped.remove(id);
        let versions = inner.unsynced.entry(id.clone()).or_default();
        if !was_ours {
            versions.clear();
        }
        versions.push(base);
        self.place(&mut inner, id, new, Manner::ByRename)
    }
}

impl Files for Disk {
    fn root(&self) -> &Path {
        &self.root
    }

    fn visit(&self, each: &mut dyn FnMut(Connector, &str, FileStat)) -> Listing {
        let mut listing = Listing { root: Root::Present, complete: true, ..Listing::default() };
        if self.lock().away {
            return Listing::default();
        }
        if self.chance.fails() {
            listing.complete = false;
            if self.chance.is(30) {
                listing.root = Root::Unreadable("input/output error".to_owned());
                return listing;
            }
        }
        listing.windows = self.lock().windows.keys().cloned().collect();
        let files: Vec<_> = self.lock().files.iter().map(|(id, file)| (id.clone(), file.stat)).collect();
        for (id, stat) in files {
            if !listing.complete && self.chance.is(30) {
                listing.problems.push(("schedules/noop".to_owned(), "input/output error".to_owned()));
                break;
            }
            each(id.connector, id.tenant.as_str(), stat);
        }
        if !listing.complete && listing.problems.is_empty() {
            listing.problems.push(("schedules/noop".to_owned(), "input/output error".to_owned()));
        }
        listing
    }

    fn list(&self) -> Listing {
        let mut files = Vec::new();
        let mut listing = self.visit(&mut |connector, tenant, stat| {
            files.push(Listed { id: ScheduleId::new(connector, tenant.parse().unwrap()), stat });
        });
        listing.files = files;
        listing
    }

    fn stat(&self, id: &ScheduleId) -> Result<Option<FileStat>, SourceError> {
        self.fault(self.path(id))?;
        Ok(self.lock().files.get(id).map(|file| file.stat))
    }

    fn read(&self, id: &ScheduleId) -> ReadResult {
        self.fault(self.path(id))?;
        Ok(self.lock().files.get(id).map(|file| (file.stat, file.content.clone())))
    }

    fn read_each(&self, ids: &[ScheduleId], each: &mut dyn FnMut(&ScheduleId, ReadResult)) {
        for id in ids {
            each(id, self.read(id));
        }
    }

    fn read_window(&self, name: &str) -> ReadResult {
        let stat = FileStat { size: 1, mtime_ns: 1, ctime_ns: 1, inode: 1 };
        Ok(self.lock().windows.get(name).map(|content| (stat, content.clone())))
    }

    fn swap_seen(
        &self,
        id: &ScheduleId,
        base: Option<&Digest>,
        _: Option<&FileStat>,
        new: Option<&[u8]>,
    ) -> Result<Swap, SourceError> {
        self.fault(self.path(id))?;
        if self.chance.fails() {
            return Err(SourceError::NoSpace { path: self.path(id) });
        }
        if self.chance.is_dead() {
            return Err(SourceError::Restless { path: self.path(id) });
        }
        let there = self.content(id);
        let found = there.as_deref().map(Digest::of);
        if found.as_ref() != base {
            return Ok(Swap::Moved(found));
        }
        // Killed in the middle: before the exchange, or right after it.
        let killed = self.chance.fails();
        if killed {
            self.chance.set_dead(true);
            if self.chance.is(50) {
                return Err(SourceError::Restless { path: self.path(id) });
            }
        }
        Ok(Swap::Done(self.put(id, there, new.map(<[u8]>::to_vec))))
    }

    fn write_again(&self, id: &ScheduleId, base: &Digest, content: &[u8]) -> Result<Swap, SourceError> {
        self.swap(id, Some(base), Some(content))
    }

    fn sync(&self, ids: &[ScheduleId]) -> io::Result<()> {
        let fails = self.chance.fails_times(8);
        let mut inner = self.lock();
        if fails || inner.away {
            let inner = &mut *inner;
            // Names are the journal's, which does not go on after an error.
            let is_lost = |id: &&ScheduleId| inner.unsynced.contains_key(id) && inner.files.contains_key(id);
            inner.dropped.extend(ids.iter().filter(is_lost).cloned());
            return Err(io::Error::other("input/output error"));
        }
        for id in ids {
            if !inner.dropped.contains(id) {
                inner.unsynced.remove(id);
            }
        }
        Ok(())
    }

    fn trim(&self) {}

    fn sweep(&self) -> Swept {
        Swept::default()
    }

    fn found(&self) -> io::Result<()> {
        self.set_away(false);
        Ok(())
    }

    fn git_busy(&self) -> Option<String> {
        self.chance.fails().then(|| "index.lock".to_owned())
    }

    fn git_head(&self) -> Option<String> {
        None
    }
}
