//! The write-ahead log as a file. SQLite reads it up to the first frame that is not as it was written and takes what
//! comes behind for never committed. Here it is told whether that is so, and what can be read behind the damage.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use super::with_suffix;

const LOG_HEAD: usize = 32;
const FRAME_HEAD: usize = 24;

/// The log of a database that nobody has open.
pub(super) struct Log {
    file: File,
    page_bytes: usize,
    frames: Vec<Frame>,
    /// Frames that SQLite will read: up to the last whole commit.
    whole: usize,
    /// The first frame that is not as it was written.
    broken: usize,
    is_head_whole: bool,
}

struct Frame {
    page: u32,
    /// Pages of the database after it, where it ends a commit.
    size: u32,
    /// Follows from the frame before it, as far as that says of itself.
    is_whole: bool,
    /// Bears the marks of this log, and not those of one before it in the same file.
    is_ours: bool,
}

/// SQLite's running checksum.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Sum(u32, u32);

impl Sum {
    fn stored(bytes: &[u8]) -> Sum {
        Sum(big_endian(bytes.get(..4)), big_endian(bytes.get(4..8)))
    }

    fn over(self, bytes: &[u8], is_big_endian: bool) -> Sum {
        let Sum(mut a, mut b) = self;
        let word = |bytes: &[u8]| {
            let word = bytes.try_into().unwrap_or_default();
            if is_big_endian { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) }
        };
        for pair in bytes.chunks_exact(8) {
            let (first, second) = pair.split_at(4);
            a = a.wrapping_add(word(first)).wrapping_add(b);
            b = b.wrapping_add(word(second)).wrapping_add(a);
        }
        Sum(a, b)
    }
}

fn big_endian(bytes: Option<&[u8]>) -> u32 {
    bytes.and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_be_bytes)
}

impl Log {
    /// Reads the log beside a database; `None` where there is none.
    pub(super) fn beside(database: &Path) -> io::Result<Option<Log>> {
        let file = match File::open(with_suffix(database, "-wal")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let mut input = BufReader::with_capacity(1 << 17, file);
        let mut head = [0; LOG_HEAD];
        if input.read_exact(&mut head).is_err() {
            return Ok(None);
        }
        let (magic, sum) = (big_endian(head.get(..4)), Sum::stored(&head[24..]));
        let is_big_endian = magic & 1 == 1;
        let is_head_whole = magic & !1 == 0x377f_0682 && Sum(0, 0).over(&head[..24], is_big_endian) == sum;
        // Of a damaged head nothing is believed; every program that writes this database has the same byte order.
        let is_big_endian = if is_head_whole { is_big_endian } else { cfg!(target_endian = "big") };
        let page_bytes = if is_head_whole { big_endian(head.get(8..12)) as usize } else { page_bytes_of(database) };
        let salts = if is_head_whole { head[16..24].to_vec() } else { salts_in(input.get_ref(), page_bytes)? };
        let before = [is_head_whole.then_some(sum), None];
        let frames = Frames { input, page_bytes, is_big_endian, salts, before, bytes: Vec::new() };
        let frames: Vec<Frame> = frames.collect();
        let broken = frames.iter().position(|frame| !frame.is_whole).unwrap_or(frames.len());
        let broken = if is_head_whole { broken } else { 0 };
        let whole = frames.iter().take(broken).rposition(|frame| frame.size > 0).map_or(0, |last| last + 1);
        let file = File::open(with_suffix(database, "-wal"))?;
        Ok(Some(Log { file, page_bytes, frames, whole, broken, is_head_whole }))
    }

    /// What is wrong with it, if it is certain that a commit was answered that SQLite will not read.
    ///
    /// The last transaction may be torn: nobody was told that it was made. A frame that follows a commit was
    /// written after that commit was on disk; so a commit behind the damage with such a frame is one that counts.
    pub(super) fn damage(&self) -> Option<String> {
        let is_commit = |frame: &Frame| frame.is_ours && frame.size > 0;
        let behind = self.frames.get(self.broken..).unwrap_or_default();
        let is_sure = |pair: &[Frame]| {
            pair.first().is_some_and(|frame| frame.size > 0) && pair.last().is_some_and(|frame| frame.is_whole)
        };
        let is_certain = match self.is_head_whole {
            true => behind.windows(2).any(is_sure),
            // The head is on disk before any frame is.
            false => behind.iter().any(|frame| is_commit(frame) && frame.is_whole),
        };
        let commits = behind.iter().filter(|frame| is_commit(frame)).count();
        let what = match self.is_head_whole {
            true => format!("frame {} of {}", self.broken + 1, self.frames.len()),
            false => "its head".to_owned(),
        };
        is_certain.then(|| {
            format!(
                "the write-ahead log is damaged: {what} is not as it was written, and {commits} commits stand behind"
            )
        })
    }

    /// The newest content of each page in these frames that is as it was written, up to the last commit among them.
    fn pages(&self, frames: std::ops::Range<usize>) -> Option<(BTreeMap<u32, usize>, u32)> {
        let of = |frames: std::ops::Range<usize>| {
            let all = self.frames.iter().enumerate().take(frames.end).skip(frames.start);
            all.filter(|(_, frame)| frame.is_whole && frame.is_ours)
        };
        let (last, size) = of(frames.clone()).rfind(|(_, frame)| frame.size > 0).map(|(at, frame)| (at, frame.size))?;
        let pages = of(frames.start..last + 1).map(|(at, frame)| (frame.page, at));
        Some((pages.filter(|(page, _)| (1..=size).contains(page)).collect(), size))
    }

    fn content(&self, frame: usize) -> io::Result<Vec<u8>> {
        let start = LOG_HEAD + frame * (FRAME_HEAD + self.page_bytes) + FRAME_HEAD;
        read_at(&self.file, start, self.page_bytes)
    }

    /// Writes what can be read of the log into a copy of its database, around the damage: not a state that ever was, but
    /// every audit entry that is left is in it.
    pub(super) fn write_into(&self, copy: &Path) -> io::Result<bool> {
        let Some((pages, size)) = self.pages(0..self.frames.len()) else { return Ok(false) };
        let mut file = File::options().write(true).open(copy)?;
        for (page, frame) in pages {
            file.seek(SeekFrom::Start(u64::from(page - 1) * self.page_bytes as u64))?;
            file.write_all(&self.content(frame)?)?;
        }
        file.set_len(u64::from(size) * self.page_bytes as u64)?;
        Ok(true)
    }

    /// Whether pages from behind the damage are in the database already. Then it is as it was at no moment: with the
    /// log up to the damage some of its pages would be older than others.
    pub(super) fn is_ahead(&self, database: &Path) -> io::Result<bool> {
        let file = File::open(database)?;
        let (before, _) = self.pages(0..self.whole).unwrap_or_default();
        for (at, frame) in self.frames.iter().enumerate().skip(self.whole).filter(|(_, f)| f.is_whole && f.is_ours) {
            let start = frame.page.saturating_sub(1) as usize * self.page_bytes;
            let Ok(there) = read_at(&file, start, self.page_bytes) else { continue };
            let is_from_behind = there == self.content(at)?;
            let is_from_before = || {
                Ok::<_, io::Error>(match before.get(&frame.page) {
                    Some(frame) => self.content(*frame)? == there,
                    None => false,
                })
            };
            if is_from_behind && !is_from_before()? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Writes the log up to the damage into a new file.
    pub(super) fn write_whole(&self, target: &Path) -> io::Result<()> {
        if self.whole == 0 {
            return Ok(());
        }
        let bytes = (LOG_HEAD + self.whole * (FRAME_HEAD + self.page_bytes)) as u64;
        let mut input = &self.file;
        input.seek(SeekFrom::Start(0))?;
        io::copy(&mut input.take(bytes), &mut File::create(target)?).map(|_| ())
    }
}

fn read_at(mut file: &File, start: usize, bytes: usize) -> io::Result<Vec<u8>> {
    let mut content = vec![0; bytes];
    file.seek(SeekFrom::Start(start as u64))?;
    file.read_exact(&mut content)?;
    Ok(content)
}

/// Whose the log is where its head does not tell: the first two frames in a row that say the same. Leaves the file
/// where it was.
fn salts_in(mut file: &File, page_bytes: usize) -> io::Result<Vec<u8>> {
    let back = file.stream_position()?;
    let mut last = Vec::new();
    for start in (LOG_HEAD..).step_by(FRAME_HEAD + page_bytes) {
        let Ok(salts) = read_at(file, start + 8, 8) else { break };
        if salts == last {
            break;
        }
        last = salts;
    }
    file.seek(SeekFrom::Start(back))?;
    Ok(last)
}

/// What the database says of its pages.
fn page_bytes_of(database: &Path) -> usize {
    let said = File::open(database).and_then(|file| read_at(&file, 16, 2)).unwrap_or_default();
    match said.as_slice() {
        [0, 1] => 65_536,
        [high, low] if u16::from_be_bytes([*high, *low]).is_power_of_two() => u16::from_be_bytes([*high, *low]).into(),
        _ => 4096,
    }
}

/// Reads frame by frame.
struct Frames {
    input: BufReader<File>,
    page_bytes: usize,
    is_big_endian: bool,
    salts: Vec<u8>,
    /// What the frame before says of the log up to it, and what it should have said.
    before: [Option<Sum>; 2],
    /// The frame at hand.
    bytes: Vec<u8>,
}

impl Iterator for Frames {
    type Item = Frame;

    fn next(&mut self) -> Option<Frame> {
        self.bytes.resize(FRAME_HEAD + self.page_bytes, 0);
        self.input.read_exact(&mut self.bytes).ok()?;
        let (head, content) = self.bytes.split_at(FRAME_HEAD);
        let (is_ours, stored) = (head[8..16] == *self.salts, Sum::stored(&head[16..]));
        let over = |sum: Sum| sum.over(&head[..8], self.is_big_endian).over(content, self.is_big_endian);
        let sums = self.before.map(|sum| sum.map(over));
        let is_whole = is_ours && sums.contains(&Some(stored));
        self.before = [Some(stored), if is_whole { None } else { sums[0] }];
        Some(Frame { page: big_endian(head.get(..4)), size: big_endian(head.get(4..8)), is_whole, is_ours })
    }
}
