//! The copy of the store at another place: its names, what its files say, who may write it, and which
//! state of it to restore.

pub mod choose;
pub mod claim;
pub mod segment;
pub mod stamped;

use serde::{Deserialize, Serialize};

use super::audit::Head;
use super::model::{Digest, Millis};

/// Where in the store's history a copy stands: its last audit entry, and when that was made, or later where something
/// else has changed since.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Point {
    pub head: Head,
    pub at: Millis,
}

/// How much earlier than when it was noticed a change that made no audit entry is taken to have been made: an entry
/// bears the time at which it was asked for, and one that was committed after such a change may bear an earlier one.
pub const SLACK_MS: Millis = 1_000;

impl Point {
    /// The same entries, but something else has changed up to `now`.
    pub fn and_more(self, now: Millis) -> Point {
        Point { at: self.at.max(now - SLACK_MS), ..self }
    }
}

/// The file at the destination that names who writes there.
pub const WRITER: &str = "writer.json";

/// Below it lies a folder for each generation.
pub const GENERATIONS: &str = "generations";

/// The name of a generation: they sort in the order in which they began. The epoch is taken by one
/// writer alone; the tag keeps names apart even where a destination did not hold to that.
pub fn generation_name(epoch: u64, count: u32, tag: &str) -> String {
    format!("{epoch:08}-{count:04}-{tag}")
}

pub fn segment_name(generation: &str, index: u64) -> String {
    format!("{GENERATIONS}/{generation}/{index:010}.seg")
}

/// The database's bytes, compressed. `index` is that of the first segment to be applied to it.
pub fn snapshot_name(generation: &str, index: u64) -> String {
    format!("{GENERATIONS}/{generation}/{index:010}.db.zst")
}

/// Says what the snapshot holds. Written after it: a snapshot without one is not complete.
pub fn manifest_name(generation: &str, index: u64) -> String {
    format!("{GENERATIONS}/{generation}/{index:010}.manifest")
}

/// What a file of a generation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Segment,
    Snapshot,
    Manifest,
}

/// A name at the destination taken apart; `None` for what is not ours.
pub fn parse_name(name: &str) -> Option<(&str, u64, Part)> {
    let (generation, file) = name.strip_prefix(GENERATIONS)?.strip_prefix('/')?.split_once('/')?;
    let (index, kind) = file.split_once('.')?;
    let part = match kind {
        "seg" => Part::Segment,
        "db.zst" => Part::Snapshot,
        "manifest" => Part::Manifest,
        _ => return None,
    };
    let is_number = index.len() == 10 && index.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| index.parse().ok()).flatten().map(|index| (generation, index, part))
}

/// What a snapshot holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    pub store: String,
    pub generation: String,
    /// The first segment that comes after the snapshot.
    pub first_segment: u64,
    /// The digest of the segment before that, in hex; zeros where there is none.
    pub previous: String,
    pub page_size: u32,
    /// Of the database, bytes and digest, before compression.
    pub size: u64,
    pub sha256: String,
    /// Of the compressed file.
    pub stored_size: u64,
    pub stored_sha256: String,
    pub audit_seq: i64,
    pub audit_hash: String,
    /// When the last audit entry was made, and when the snapshot.
    pub audit_at: Millis,
    pub taken_at: Millis,
    pub schema_version: i64,
    pub program: String,
}

/// The manifest's present form.
pub const FORMAT: u32 = 1;

impl Manifest {
    pub fn encode(&self) -> Vec<u8> {
        stamped::encode(self)
    }

    /// # Errors
    /// Says what is wrong with the bytes.
    pub fn decode(bytes: &[u8]) -> Result<Manifest, String> {
        let manifest: Manifest = stamped::decode(bytes)?;
        if manifest.format != FORMAT {
            return Err(format!("is of format {}, this program reads {FORMAT}", manifest.format));
        }
        let is_power = (512..=65_536).contains(&manifest.page_size) && manifest.page_size.is_power_of_two();
        if !is_power || !manifest.size.is_multiple_of(u64::from(manifest.page_size)) {
            return Err("names a page size that does not fit the database's size".to_owned());
        }
        Ok(manifest)
    }

    pub fn point(&self) -> Option<Point> {
        let hash = Digest::from_hex(&self.audit_hash)?;
        let point = Point { head: Head { seq: self.audit_seq, hash }, at: self.audit_at };
        Some(point.and_more(self.taken_at))
    }
}

/// The wait before the next attempt at a destination that failed `failures` times in a row: from half a second
/// on doubling to ten seconds, so that the copy is on its way again soon after an outage.
pub fn pause_ms(failures: u32) -> u64 {
    (500_u64 << failures.saturating_sub(1).min(10)).min(10_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_by_age_and_read_back() {
        let generation = generation_name(7, 1, "ab12");
        assert!(generation < generation_name(7, 2, "0000") && generation_name(7, 9, "z") < generation_name(10, 1, "a"));
        assert_eq!(parse_name(&segment_name(&generation, 42)), Some((&*generation, 42, Part::Segment)));
        assert_eq!(parse_name(&snapshot_name(&generation, 1)), Some((&*generation, 1, Part::Snapshot)));
        assert_eq!(parse_name(&manifest_name(&generation, 1)), Some((&*generation, 1, Part::Manifest)));
        for other in
            ["writer.json", "generations/x/1.seg", "generations/x/000000000a.seg", "generations/0000000001.seg"]
        {
            assert_eq!(parse_name(other), None, "{other}");
        }
    }

    #[test]
    fn pauses_grow_and_have_an_end() {
        let pauses: Vec<u64> = (1..9).map(pause_ms).collect();
        assert_eq!(pauses, [500, 1000, 2000, 4000, 8000, 10_000, 10_000, 10_000]);
        assert_eq!(pause_ms(u32::MAX), 10_000);
    }

    #[test]
    fn a_flipped_byte_of_a_manifest_is_noticed() {
        let manifest = Manifest {
            format: FORMAT,
            store: "s".into(),
            generation: generation_name(1, 1, "t"),
            first_segment: 1,
            previous: Digest([0; 32]).to_hex(),
            page_size: 4096,
            size: 8192,
            sha256: Digest::of(b"x").to_hex(),
            stored_size: 10,
            stored_sha256: Digest::of(b"y").to_hex(),
            audit_seq: 5,
            audit_hash: Digest::of(b"h").to_hex(),
            audit_at: 1,
            taken_at: 2,
            schema_version: 11,
            program: "0".into(),
        };
        let bytes = manifest.encode();
        assert_eq!(Manifest::decode(&bytes), Ok(manifest));
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                assert!(Manifest::decode(&flipped).is_err(), "byte {at}, bit {bit}");
            }
            assert!(Manifest::decode(&bytes[..at]).is_err(), "cut at {at}");
        }
    }
}
