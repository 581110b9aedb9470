//! Disks that a power cut could have left: what `disk.c` wrote down, cut at some moment, without what
//! was not synced by then. Writes that nobody had waited for are lost, kept or torn at random, each for
//! itself. Names and files' lengths keep their order, as every journal keeps it; they stand firm up to the
//! last sync that covers them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::common::chance::Random;

/// One thing that happened to the disk. Inodes are numbered anew, since systems give a number again.
#[derive(Debug)]
enum Op {
    Create {
        inode: usize,
        path: PathBuf,
    },
    Write {
        inode: usize,
        offset: usize,
        bytes: Vec<u8>,
    },
    Truncate {
        inode: usize,
        length: usize,
    },
    /// Covers what was logged before `from`; `inode` is `None` where it covers all.
    Sync {
        inode: Option<usize>,
        from: u64,
    },
    /// What was logged before `from` and had not been synced may never reach the disk, whatever a later sync says:
    /// the system tells of the failure once, and takes the pages for clean.
    Failed {
        inode: usize,
        from: u64,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Exchange {
        one: PathBuf,
        other: PathBuf,
    },
    Link {
        inode: usize,
        path: PathBuf,
    },
    Remove {
        path: PathBuf,
    },
    Folder {
        inode: usize,
        path: PathBuf,
    },
}

impl Op {
    fn paths(&self) -> Vec<&PathBuf> {
        match self {
            Op::Create { path, .. } | Op::Link { path, .. } | Op::Remove { path } | Op::Folder { path, .. } => {
                vec![path]
            }
            Op::Rename { from, to } => vec![from, to],
            Op::Exchange { one, other } => vec![one, other],
            Op::Write { .. } | Op::Truncate { .. } | Op::Sync { .. } | Op::Failed { .. } => vec![],
        }
    }
}

/// A disk at its beginning and all that was done to it.
pub struct Recording {
    /// What stood there: files with content, folders with none.
    base: BTreeMap<PathBuf, (usize, Option<Vec<u8>>)>,
    /// With the log's length after each.
    ops: Vec<(u64, Op)>,
}

/// The tree as it is before the program starts; the numbers are the system's.
pub fn photograph(roots: &[PathBuf]) -> BTreeMap<PathBuf, (u64, Option<Vec<u8>>)> {
    let mut found = BTreeMap::new();
    let mut folders = roots.to_vec();
    while let Some(folder) = folders.pop() {
        let inode = fs::metadata(&folder).expect("a folder").ino();
        for entry in fs::read_dir(&folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let content = fs::read(&path).expect("a file");
                found.insert(path, (entry.metadata().expect("a file").ino(), Some(content)));
            }
        }
        found.insert(folder, (inode, None));
    }
    found
}

/// Gives each life of a system's inode a number of its own.
#[derive(Default)]
struct Inodes {
    now: HashMap<u64, usize>,
    count: usize,
}

impl Inodes {
    fn fresh(&mut self, system: u64) -> usize {
        self.count += 1;
        self.now.insert(system, self.count);
        self.count
    }

    fn of(&mut self, system: u64) -> usize {
        match self.now.get(&system) {
            Some(known) => *known,
            None => self.fresh(system),
        }
    }
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + N].iter().rev().fold(0, |all, byte| all << 8 | u64::from(*byte))
}

fn size(number: u64) -> usize {
    usize::try_from(number).expect("a length")
}

impl Recording {
    /// Reads `log` as far as it is whole.
    pub fn read(before: BTreeMap<PathBuf, (u64, Option<Vec<u8>>)>, log: &[u8]) -> Recording {
        const HEAD: usize = 40;
        let mut inodes = Inodes::default();
        let base = before.into_iter().map(|(path, (inode, content))| (path, (inodes.fresh(inode), content))).collect();
        let (mut ops, mut at) = (Vec::new(), 0);
        while at + HEAD <= log.len() {
            let total = size(number::<4>(log, at));
            if at + total > log.len() {
                break;
            }
            let entry = &log[at..at + total];
            at += total;
            let (system, offset, length) =
                (number::<8>(entry, 8), number::<8>(entry, 16), size(number::<8>(entry, 24)));
            let second = HEAD + size(number::<4>(entry, 32));
            let data = second + size(number::<4>(entry, 36));
            let path = |from: usize, to: usize| PathBuf::from(String::from_utf8_lossy(&entry[from..to]).into_owned());
            let (one, other) = (path(HEAD, second), path(second, data));
            let op = match number::<4>(entry, 4) {
                1 => Op::Create { inode: inodes.fresh(system), path: one },
                2 => Op::Write { inode: inodes.of(system), offset: size(offset), bytes: entry[data..].to_vec() },
                3 => Op::Truncate { inode: inodes.of(system), length },
                4 => Op::Sync { inode: Some(inodes.of(system)), from: offset },
                5 => Op::Rename { from: one, to: other },
                6 => Op::Exchange { one, other },
                7 => Op::Link { inode: inodes.of(system), path: other },
                8 | 10 => Op::Remove { path: one },
                9 => Op::Folder { inode: inodes.fresh(system), path: one },
                11 => Op::Sync { inode: None, from: offset },
                12 => Op::Failed { inode: inodes.of(system), from: offset },
                unknown => panic!("an entry of kind {unknown}"),
            };
            ops.push((at as u64, op));
        }
        Recording { base, ops }
    }

    /// How often something was done, and how often waited for.
    pub fn counts(&self) -> (usize, usize) {
        let syncs = self.ops.iter().filter(|(_, op)| matches!(op, Op::Sync { .. })).count();
        (self.ops.len() - syncs, syncs)
    }

    /// What was done by `moment` to the file of that name and all that stood in its place, for a failure's
    /// message: a recording is not made twice.
    pub fn tale(&self, moment: u64, path: &Path) -> String {
        let done = &self.ops[..self.ops.partition_point(|(end, _)| *end <= moment)];
        let mut disk = Disk::of(&self.base);
        let mut names: BTreeMap<usize, Vec<PathBuf>> = BTreeMap::new();
        let mut theirs = HashMap::new();
        for (index, (_, op)) in done.iter().enumerate() {
            disk.apply(op, Kept::Whole, &mut Random(1));
            for touched in op.paths() {
                if let Some(inode) = disk.names.get(touched) {
                    names.entry(*inode).or_default().push(touched.to_owned());
                    if touched.as_path() == path {
                        theirs.insert(*inode, index);
                    }
                }
            }
        }
        let about = |op: &Op| match op {
            Op::Write { inode, .. }
            | Op::Truncate { inode, .. }
            | Op::Sync { inode: Some(inode), .. }
            | Op::Failed { inode, .. } => theirs.contains_key(inode),
            Op::Sync { inode: None, .. } => true,
            _ => op.paths().iter().any(|path| {
                theirs.keys().any(|inode| names.get(inode).is_some_and(|names| names.iter().any(|name| name == *path)))
            }),
        };
        let lines = done.iter().filter(|(_, op)| about(op)).map(|(end, op)| {
            let mut text = match op {
                Op::Write { inode, offset, bytes } => {
                    format!("write {inode} at {offset}: {}", String::from_utf8_lossy(bytes).replace('\n', " "))
                }
                other => format!("{other:?}"),
            };
            text.truncate(text.floor_char_boundary(200));
            format!("{end}: {text}")
        });
        let lines: Vec<String> = lines.collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    /// Writes below `to` what a power cut at `moment` (a length of the log) may have left of what stood
    /// below `from`. Returns how many things were done by then, and how many of them are lost.
    pub fn power_cut(&self, moment: u64, random: &mut Random, from: &Path, to: &Path) -> (usize, usize) {
        let done = &self.ops[..self.ops.partition_point(|(end, _)| *end <= moment)];
        let synced = Synced::by(done, &self.base, random.below(2) == 0);
        let names_kept = synced.names + size(random.below((done.len() - synced.names) as u64 + 1));
        let fate = Fate::any(random);
        let doomed = doomed(done);
        let mut disk = Disk::of(&self.base);
        let mut lost = 0;
        for (index, (end, op)) in done.iter().enumerate() {
            let kept = match op {
                Op::Write { .. } if doomed.contains(&index) => Kept::Not,
                Op::Write { inode, .. } if synced.covers(*inode, *end) => Kept::Whole,
                Op::Write { inode, offset, bytes } => {
                    // Blocks given after a length that is lost belong to nobody.
                    let grows = disk.length(*inode) < offset + bytes.len() || disk.cut_lost.contains(inode);
                    if grows && index >= names_kept { Kept::Not } else { fate.of(random) }
                }
                Op::Sync { .. } | Op::Failed { .. } => continue,
                _ if index < names_kept => Kept::Whole,
                _ => Kept::Not,
            };
            if let (Op::Truncate { inode, .. }, Kept::Not) = (op, kept) {
                disk.cut_lost.insert(*inode);
            }
            lost += usize::from(kept != Kept::Whole);
            disk.apply(op, kept, random);
        }
        disk.write(from, to);
        (done.len(), lost)
    }
}

/// Writes that a failed sync has lost for good: each other one of those that it should have covered.
fn doomed(done: &[(u64, Op)]) -> HashSet<usize> {
    let mut waiting: HashMap<usize, Vec<(usize, u64)>> = HashMap::new();
    let mut lost = HashSet::new();
    for (index, (end, op)) in done.iter().enumerate() {
        match op {
            Op::Write { inode, .. } => waiting.entry(*inode).or_default().push((index, *end)),
            Op::Sync { inode: Some(inode), from } => {
                waiting.entry(*inode).or_default().retain(|(_, end)| end > from);
            }
            Op::Sync { inode: None, from } => {
                waiting.values_mut().for_each(|writes| writes.retain(|(_, end)| end > from));
            }
            Op::Failed { inode, from } => {
                let due = waiting.get(inode).into_iter().flatten().filter(|(_, end)| end <= from);
                lost.extend(due.map(|(index, _)| *index).filter(|write| write % 2 == 0));
            }
            _ => {}
        }
    }
    lost
}

/// What syncs have made last.
struct Synced {
    /// Content of each inode that was written before.
    contents: HashMap<usize, u64>,
    all: u64,
    /// Names changed by operations before this one.
    names: usize,
}

impl Synced {
    /// With `journal`, any sync makes all names last that were changed before it, as ext4 does it; else only
    /// that of their folder, or of the file that bears them.
    fn by(done: &[(u64, Op)], base: &BTreeMap<PathBuf, (usize, Option<Vec<u8>>)>, journal: bool) -> Synced {
        let mut synced = Synced { contents: HashMap::new(), all: 0, names: 0 };
        let mut disk = Disk::of(base);
        let mut waiting: Vec<(usize, u64, Vec<usize>)> = Vec::new();
        for (index, (end, op)) in done.iter().enumerate() {
            match op {
                Op::Write { .. } | Op::Failed { .. } => {}
                Op::Sync { inode, from } => {
                    match inode {
                        Some(inode) => drop(synced.contents.insert(*inode, *from)),
                        None => synced.all = *from,
                    }
                    let lasts = |(_, end, by): &&(usize, u64, Vec<usize>)| {
                        end <= from && (journal || inode.is_none_or(|inode| by.contains(&inode)))
                    };
                    let last = waiting.iter().filter(lasts).map(|(index, ..)| index + 1).max();
                    synced.names = synced.names.max(last.unwrap_or(0));
                    waiting.retain(|(index, ..)| *index >= synced.names);
                }
                Op::Truncate { inode, .. } => waiting.push((index, *end, vec![*inode])),
                _ => {
                    disk.apply(op, Kept::Whole, &mut Random(1));
                    let by = op.paths().into_iter().flat_map(|path| [Some(path.as_path()), path.parent()]).flatten();
                    waiting.push((index, *end, by.filter_map(|path| disk.names.get(path).copied()).collect()));
                }
            }
        }
        synced
    }

    fn covers(&self, inode: usize, end: u64) -> bool {
        end <= self.all || self.contents.get(&inode).is_some_and(|from| end <= *from)
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Kept {
    Whole,
    Torn,
    Not,
}

/// What becomes of writes that nobody has waited for: of a hundred so many are kept, and so many torn.
struct Fate {
    kept: u64,
    torn: u64,
}

impl Fate {
    fn any(random: &mut Random) -> Fate {
        match random.below(4) {
            0 => Fate { kept: 0, torn: 0 },
            1 => Fate { kept: 100, torn: 0 },
            2 => Fate { kept: 50, torn: 10 },
            _ => Fate { kept: random.below(100), torn: random.below(50) },
        }
    }

    fn of(&self, random: &mut Random) -> Kept {
        match random.below(100) {
            n if n < self.kept => Kept::Whole,
            n if n < self.kept + self.torn => Kept::Torn,
            _ => Kept::Not,
        }
    }
}

#[derive(Default)]
struct Disk {
    names: BTreeMap<PathBuf, usize>,
    contents: HashMap<usize, Vec<u8>>,
    /// Files that were cut to a length, which is lost.
    cut_lost: HashSet<usize>,
}

impl Disk {
    fn of(base: &BTreeMap<PathBuf, (usize, Option<Vec<u8>>)>) -> Disk {
        let mut disk = Disk::default();
        for (path, (inode, content)) in base {
            disk.names.insert(path.clone(), *inode);
            disk.contents.extend(content.clone().map(|content| (*inode, content)));
        }
        disk
    }

    fn apply(&mut self, op: &Op, kept: Kept, random: &mut Random) {
        match op {
            // Content can outlive a name that is lost, and be linked to another.
            Op::Create { inode, .. } => drop(self.contents.entry(*inode).or_default()),
            _ if kept == Kept::Not => return,
            _ => {}
        }
        match op {
            Op::Create { inode, path } if kept == Kept::Whole && path.is_absolute() => {
                self.names.insert(path.clone(), *inode);
            }
            Op::Create { .. } | Op::Sync { .. } | Op::Failed { .. } => {}
            Op::Write { inode, offset, bytes } => self.store(*inode, *offset, bytes, kept, random),
            Op::Truncate { inode, length } => self.contents.entry(*inode).or_default().resize(*length, 0),
            Op::Rename { from, to } => self.rename(from, to),
            Op::Exchange { one, other } => {
                if let (Some(a), Some(b)) = (self.names.get(one).copied(), self.names.get(other).copied()) {
                    self.names.insert(one.clone(), b);
                    self.names.insert(other.clone(), a);
                }
            }
            Op::Link { inode, path } | Op::Folder { inode, path } => {
                self.names.insert(path.clone(), *inode);
            }
            Op::Remove { path } => {
                self.names.remove(path);
            }
        }
    }

    fn length(&self, inode: usize) -> usize {
        self.contents.get(&inode).map_or(0, Vec::len)
    }

    /// A torn write leaves some of its sectors.
    fn store(&mut self, inode: usize, offset: usize, bytes: &[u8], kept: Kept, random: &mut Random) {
        const SECTOR: usize = 512;
        let content = self.contents.entry(inode).or_default();
        if content.len() < offset + bytes.len() {
            content.resize(offset + bytes.len(), 0);
        }
        for (number, part) in bytes.chunks(SECTOR).enumerate() {
            if kept == Kept::Whole || random.below(2) == 0 {
                let at = offset + number * SECTOR;
                content[at..at + part.len()].copy_from_slice(part);
            }
        }
    }

    fn rename(&mut self, from: &Path, to: &Path) {
        let below: Vec<PathBuf> = self.names.keys().filter(|path| path.starts_with(from)).cloned().collect();
        for path in below {
            let Some(inode) = self.names.remove(&path) else { continue };
            let rest = path.strip_prefix(from).expect("below it");
            let new = if rest.as_os_str().is_empty() { to.to_owned() } else { to.join(rest) };
            self.names.insert(new, inode);
        }
    }

    fn write(&self, from: &Path, to: &Path) {
        for (path, inode) in &self.names {
            // What was renamed in from elsewhere is not of this disk.
            let Ok(rest) = path.strip_prefix(from) else { continue };
            let path = to.join(rest);
            match self.contents.get(inode) {
                None => fs::create_dir_all(&path).expect("a folder"),
                Some(content) => {
                    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
                    fs::write(&path, content).expect("a file");
                }
            }
        }
    }
}
