//! Segments that wait to be sent, as files in a folder of the data directory, until the destination has shown
//! that it holds them.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use bytes::Bytes;

use crate::core::replica::Point;
use crate::core::replica::segment::Segment;

/// A segment that waits.
#[derive(Clone, Debug)]
pub struct Spooled {
    pub generation: String,
    pub index: u64,
    pub size: u64,
    /// Where the store stands at its end.
    pub end: Point,
    /// When its oldest change was made, or it was found where an earlier start left it.
    pub since: Option<Instant>,
}

pub struct Spool {
    folder: PathBuf,
    waiting: VecDeque<Spooled>,
    bytes: u64,
    scratches: u32,
}

const LEFT: &str = "left";

/// Names of a snapshot's files on their way begin so; what a crash left of them is removed at the next opening.
const SCRATCH: &str = "snapshot.";

/// A snapshot's files on their way, removed with this.
pub struct Scratch {
    pub copy: PathBuf,
    pub packed: PathBuf,
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.copy);
        let _ = fs::remove_file(&self.packed);
    }
}

impl Spool {
    /// Opens the folder and takes up what an earlier start left in it, where that is whole.
    pub fn open(folder: PathBuf) -> io::Result<Spool> {
        fs::create_dir_all(&folder)?;
        let mut left = Vec::new();
        for entry in fs::read_dir(&folder)?.flatten() {
            let path = entry.path();
            let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
            let Some(stem) = name.strip_suffix(".seg") else {
                if name.starts_with(SCRATCH) {
                    let _ = fs::remove_file(&path);
                }
                continue;
            };
            let whole = fs::read(&path).ok().and_then(|bytes| {
                let (segment, _) = Segment::decode(&bytes).ok()?;
                let end = segment.end()?;
                let is_named = stem == file_stem(&segment.generation, segment.index);
                let (generation, index) = (segment.generation, segment.index);
                is_named.then_some(Spooled {
                    generation,
                    index,
                    size: bytes.len() as u64,
                    end,
                    since: Some(Instant::now()),
                })
            });
            match whole {
                Some(spooled) => left.push(spooled),
                // Torn by the crash that ended its writer; nothing after it was made.
                None => drop(fs::remove_file(&path)),
            }
        }
        left.sort_by(|a, b| (&a.generation, a.index).cmp(&(&b.generation, b.index)));
        let bytes = left.iter().map(|spooled| spooled.size).sum();
        Ok(Spool { folder, waiting: left.into(), bytes, scratches: 0 })
    }

    /// For a snapshot on its way, as it is and compressed. Each has names of its own: the work on one that was given
    /// up may still go on beside the next.
    pub fn scratch(&mut self) -> Scratch {
        self.scratches += 1;
        let name = |kind| self.folder.join(format!("{SCRATCH}{}.{kind}", self.scratches));
        Scratch { copy: name("db"), packed: name("zst") }
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn waiting(&self) -> impl Iterator<Item = &Spooled> {
        self.waiting.iter()
    }

    pub fn add(&mut self, spooled: Spooled, content: &[u8]) -> io::Result<()> {
        let path = self.path(&spooled);
        if let Err(error) = fs::write(&path, content) {
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        self.bytes += spooled.size;
        self.waiting.push_back(spooled);
        Ok(())
    }

    pub fn read(&self, spooled: &Spooled) -> io::Result<Bytes> {
        fs::read(self.path(spooled)).map(Bytes::from)
    }

    /// The destination holds it.
    pub fn sent(&mut self, generation: &str, index: u64) -> Option<Spooled> {
        let at = self.waiting.iter().position(|s| s.index == index && s.generation == generation)?;
        let spooled = self.waiting.remove(at)?;
        self.bytes -= spooled.size;
        let _ = fs::remove_file(self.path(&spooled));
        Some(spooled)
    }

    /// Gives up what waits of one generation.
    pub fn drop_generation(&mut self, generation: &str) {
        let of = |spooled: &&Spooled| spooled.generation == generation;
        let gone: Vec<Spooled> = self.waiting.iter().filter(of).cloned().collect();
        for spooled in gone {
            self.sent(&spooled.generation, spooled.index);
        }
    }

    /// Gives up all that waits.
    pub fn drop_all(&mut self) {
        while let Some(spooled) = self.waiting.pop_front() {
            let _ = fs::remove_file(self.path(&spooled));
        }
        self.bytes = 0;
    }

    fn path(&self, spooled: &Spooled) -> PathBuf {
        self.folder.join(format!("{}.seg", file_stem(&spooled.generation, spooled.index)))
    }

    /// How the copy was left by a stop, for the next start.
    pub fn leave(&self, bytes: &[u8]) -> io::Result<()> {
        fs::write(self.folder.join(LEFT), bytes)
    }

    /// It is good for one start.
    pub fn take_left(&self) -> Option<Vec<u8>> {
        let path = self.folder.join(LEFT);
        let bytes = fs::read(&path).ok()?;
        fs::remove_file(&path).ok().map(|()| bytes)
    }

    /// What the last start on this data directory called itself at the destination.
    pub fn instance(&self) -> Option<String> {
        fs::read_to_string(self.instance_file()).ok().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    pub fn set_instance(&self, instance: &str) -> io::Result<()> {
        fs::write(self.instance_file(), instance)
    }

    fn instance_file(&self) -> PathBuf {
        self.folder.join("instance")
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

fn file_stem(generation: &str, index: u64) -> String {
    format!("{generation}@{index:010}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::audit::Head;
    use crate::core::model::Digest;
    use crate::core::replica::segment::Section;

    #[test]
    fn what_was_left_is_taken_up_where_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let point = |seq| Point { head: Head { seq, hash: Digest::of(b"h") }, at: 5 };
        let mut spool = Spool::open(folder.path().join("spool")).unwrap();
        for index in 1..=3 {
            let sections = vec![Section { point: point(7), pages_in_db: 1, pages: vec![(1, vec![0; 512])] }];
            let previous = Digest([0; 32]);
            let segment = Segment { generation: "g".into(), index, previous, page_size: 512, sections };
            let (bytes, _) = segment.encode().unwrap();
            let size = bytes.len() as u64;
            let since = Some(Instant::now());
            spool.add(Spooled { generation: "g".into(), index, size, end: point(7), since }, &bytes).unwrap();
        }
        let bytes = spool.bytes();
        let scratch = [spool.scratch(), spool.scratch()];
        assert_ne!(scratch[0].packed, scratch[1].packed);
        for file in [&scratch[0].copy, &scratch[1].packed] {
            fs::write(file, "half").unwrap();
        }
        let [one, left] = scratch;
        let left = std::mem::ManuallyDrop::new(left);
        drop(one);
        assert!(left.packed.exists());
        let torn = folder.path().join("spool/g@0000000003.seg");
        let content = fs::read(&torn).unwrap();
        fs::write(&torn, &content[..content.len() - 1]).unwrap();
        let mut again = Spool::open(folder.path().join("spool")).unwrap();
        assert_eq!(again.waiting().map(|s| (s.index, s.end)).collect::<Vec<_>>(), [(1, point(7)), (2, point(7))]);
        assert_eq!(again.bytes(), bytes / 3 * 2);
        assert!(!left.packed.exists());
        assert_eq!(again.sent("g", 1).map(|s| s.index), Some(1));
        again.drop_all();
        assert_eq!((again.bytes(), again.waiting().count()), (0, 0));
        assert_eq!(Spool::open(folder.path().join("spool")).unwrap().waiting().count(), 0);
    }
}
