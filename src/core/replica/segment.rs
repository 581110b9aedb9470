//! A segment: the pages that changed over some time, in sections that end where a commit moved the audit's
//! head, compressed, chained to the segment before and with a digest at its end.

use serde::{Deserialize, Serialize};

use super::Point;
use crate::core::audit::Head;
use crate::core::model::{Digest, Millis};

const MAGIC: &[u8; 8] = b"CCSEG-1\n";
const LEVEL: i32 = 1;

/// A header is a line of names and numbers.
const MAX_HEADER: usize = 64 * 1024;
/// What a segment may unpack to; the capture holds less than this at a time.
const MAX_RAW: u64 = 512 << 20;
/// Sequence number, hash, time, pages in the database, pages in the section.
const SECTION_HEAD: usize = 8 + 32 + 8 + 4 + 4;

/// The database between two commits: applied whole, it is as it was at `point`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Section {
    pub point: Point,
    /// The database's size in pages at the end of the section.
    pub pages_in_db: u32,
    /// Page numbers, from 1, with their bytes; each once.
    pub pages: Vec<(u32, Vec<u8>)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    pub generation: String,
    /// Counted from 1 in each generation.
    pub index: u64,
    /// The digest of the segment before; zeros for the first.
    pub previous: Digest,
    pub page_size: u32,
    pub sections: Vec<Section>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    generation: String,
    index: u64,
    previous: String,
    page_size: u32,
    sections: u64,
    raw: u64,
    last_seq: i64,
    last_at: Millis,
}

impl Segment {
    /// Where the store stands when all of it is applied.
    pub fn end(&self) -> Option<Point> {
        self.sections.last().map(|section| section.point)
    }

    /// The file's bytes, and the digest that the next segment names.
    ///
    /// # Errors
    /// When memory for compressing it is short.
    pub fn encode(&self) -> Result<(Vec<u8>, Digest), String> {
        let mut raw = Vec::new();
        for section in &self.sections {
            raw.extend_from_slice(&section.point.head.seq.to_le_bytes());
            raw.extend_from_slice(&section.point.head.hash.0);
            raw.extend_from_slice(&section.point.at.to_le_bytes());
            raw.extend_from_slice(&section.pages_in_db.to_le_bytes());
            raw.extend_from_slice(&u32::try_from(section.pages.len()).unwrap_or(u32::MAX).to_le_bytes());
            for (number, bytes) in &section.pages {
                raw.extend_from_slice(&number.to_le_bytes());
                raw.extend_from_slice(bytes);
            }
        }
        let end = self.end().unwrap_or_default();
        let header = Header {
            generation: self.generation.clone(),
            index: self.index,
            previous: self.previous.to_hex(),
            page_size: self.page_size,
            sections: self.sections.len() as u64,
            raw: raw.len() as u64,
            last_seq: end.head.seq,
            last_at: end.at,
        };
        let header = serde_json::to_vec(&header).map_err(|error| error.to_string())?;
        let body = zstd::bulk::compress(&raw, LEVEL).map_err(|error| error.to_string())?;
        let mut file = Vec::with_capacity(MAGIC.len() + 4 + header.len() + body.len() + 32);
        file.extend_from_slice(MAGIC);
        file.extend_from_slice(&u32::try_from(header.len()).unwrap_or(u32::MAX).to_le_bytes());
        file.extend_from_slice(&header);
        file.extend_from_slice(&body);
        let digest = Digest::of(&file);
        file.extend_from_slice(&digest.0);
        Ok((file, digest))
    }

    /// Reads a file's bytes back, and its digest.
    ///
    /// # Errors
    /// Says what is wrong with the bytes.
    pub fn decode(file: &[u8]) -> Result<(Segment, Digest), String> {
        let cut = file.len().checked_sub(32).ok_or("is cut short")?;
        let (content, stamp) = file.split_at(cut);
        let digest = Digest::of(content);
        if digest.0 != stamp {
            return Err("does not have the digest that it names: it is damaged or cut short".to_owned());
        }
        let mut reader = Reader(content);
        if reader.take(MAGIC.len())? != MAGIC {
            return Err("is no segment of a replica, or of a later form".to_owned());
        }
        let length = reader.u32()? as usize;
        if length > MAX_HEADER {
            return Err("has a header that is too long".to_owned());
        }
        let header: Header =
            serde_json::from_slice(reader.take(length)?).map_err(|e| format!("has a header that is none: {e}"))?;
        let previous = Digest::from_hex(&header.previous).ok_or("names no digest of the segment before")?;
        if header.raw > MAX_RAW {
            return Err("says that it is larger than any segment is made".to_owned());
        }
        let capacity = usize::try_from(header.raw).map_err(|e| e.to_string())?;
        let raw = zstd::bulk::decompress(reader.0, capacity).map_err(|e| format!("cannot be unpacked: {e}"))?;
        let mut reader = Reader(&raw);
        let mut sections = Vec::new();
        for _ in 0..header.sections {
            sections.push(reader.section(header.page_size)?);
        }
        if !reader.0.is_empty() {
            return Err("holds more than its header says".to_owned());
        }
        let segment = Segment {
            generation: header.generation,
            index: header.index,
            previous,
            page_size: header.page_size,
            sections,
        };
        Ok((segment, digest))
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or("ends too early")?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        self.take(N)?.try_into().map_err(|_| "ends too early".to_owned())
    }

    fn u32(&mut self) -> Result<u32, String> {
        self.array().map(u32::from_le_bytes)
    }

    fn section(&mut self, page_size: u32) -> Result<Section, String> {
        let seq = i64::from_le_bytes(self.array()?);
        let hash = Digest(self.array()?);
        let at = i64::from_le_bytes(self.array()?);
        let pages_in_db = self.u32()?;
        let count = self.u32()? as usize;
        let page_bytes = page_size as usize;
        // Nothing is set aside for a number that the bytes at hand do not bear out.
        if self.0.len() / (page_bytes + 4) < count {
            return Err("ends too early".to_owned());
        }
        let mut pages = Vec::with_capacity(count);
        for _ in 0..count {
            let number = self.u32()?;
            if number == 0 {
                return Err("names a page 0".to_owned());
            }
            pages.push((number, self.take(page_bytes)?.to_vec()));
        }
        Ok(Section { point: Point { head: Head { seq, hash }, at }, pages_in_db, pages })
    }
}

/// What a section takes in memory and, unpacked, in its segment.
pub fn section_bytes(pages: usize, page_size: u32) -> u64 {
    (SECTION_HEAD + pages * (page_size as usize + 4)) as u64
}

#[cfg(test)]
mod tests;
