//! Sealed entries: some thousand of the oldest as one block of bytes, to be compressed and kept, with
//! what a search needs to know of them without opening the block.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Entry;
use super::chain::{Head, Verifier};
use crate::core::model::{Digest, Millis};

/// The first byte of a block; another one is of a version that this one does not know.
const VERSION: u8 = 1;

/// What is known of a block without opening it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    pub first_seq: i64,
    pub last_seq: i64,
    pub from: Millis,
    pub to: Millis,
    /// What the first entry follows.
    pub prev_hash: Digest,
    pub last_hash: Digest,
    pub summary: Summary,
    /// Marks of the tenants that occur, each four bytes, in order.
    pub tenants: Vec<u8>,
}

/// How many entries of each kind there are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    pub operations: BTreeMap<String, u64>,
    pub sources: BTreeMap<String, u64>,
    pub actors: BTreeMap<String, u64>,
    /// By the hours since 1970.
    pub hours: BTreeMap<i64, u64>,
}

impl Summary {
    pub fn count(&mut self, entry: &Entry) {
        let one_more = |counts: &mut BTreeMap<String, u64>, name: &String| match counts.get_mut(name) {
            Some(count) => *count += 1,
            None => drop(counts.insert(name.clone(), 1)),
        };
        one_more(&mut self.operations, &entry.operation);
        one_more(&mut self.sources, &entry.source);
        one_more(&mut self.actors, &entry.actor);
        *self.hours.entry(entry.at.div_euclid(3_600_000)).or_default() += 1;
    }

    pub fn add(&mut self, other: Summary) {
        fn merge<K: Ord>(into: &mut BTreeMap<K, u64>, from: BTreeMap<K, u64>) {
            from.into_iter().for_each(|(name, count)| *into.entry(name).or_default() += count);
        }
        merge(&mut self.operations, other.operations);
        merge(&mut self.sources, other.sources);
        merge(&mut self.actors, other.actors);
        merge(&mut self.hours, other.hours);
    }
}

/// Why entries cannot be sealed, or a block not be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSegment {
    #[error("there is no entry")]
    Empty,
    #[error("{0}")]
    Broken(String),
    #[error("the block was sealed by a newer version of this program")]
    Version,
    #[error("the block's bytes make no sense at {0}")]
    Bytes(usize),
}

/// By what a block remembers a tenant; two tenants may share one.
pub fn tenant_mark(tenant: &str) -> [u8; 4] {
    let Digest([a, b, c, d, ..]) = Digest::of(tenant.as_bytes());
    [a, b, c, d]
}

impl Segment {
    /// Whether an entry of this tenant may be in the block; certain only when it says no.
    pub fn may_hold_tenant(&self, tenant: &str) -> bool {
        let mark = tenant_mark(tenant);
        let (marks, _) = self.tenants.as_chunks::<4>();
        marks.binary_search(&mark).is_ok()
    }
}

/// Seals entries that follow one another and `before`; refuses any that do not, so that no tampering
/// is sealed away.
pub fn encode(before: Head, entries: &[Entry]) -> Result<(Segment, Vec<u8>), BadSegment> {
    let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return Err(BadSegment::Empty) };
    let mut chain = Verifier::after(before);
    let (mut summary, mut tenants) = (Summary::default(), BTreeSet::new());
    let mut bytes = vec![VERSION];
    let mut at = 0;
    for entry in entries {
        if !chain.push(entry) {
            return Err(BadSegment::Broken(chain.finish(None).message));
        }
        summary.count(entry);
        tenants.insert(tenant_mark(&entry.tenant));
        put_number(&mut bytes, zigzag(entry.at.wrapping_sub(at)));
        at = entry.at;
        for text in texts(entry) {
            put_number(&mut bytes, text.len() as u64);
            bytes.extend_from_slice(text.as_bytes());
        }
    }
    // Apart from the texts, since hashes do not compress and texts do.
    entries.iter().for_each(|entry| bytes.extend_from_slice(&entry.hash.0));
    let times = entries.iter().map(|entry| entry.at);
    let segment = Segment {
        first_seq: first.seq,
        last_seq: last.seq,
        from: times.clone().min().unwrap_or_default(),
        to: times.max().unwrap_or_default(),
        prev_hash: before.hash,
        last_hash: last.hash,
        summary,
        tenants: tenants.into_iter().flatten().collect(),
    };
    Ok((segment, bytes))
}

fn texts(entry: &Entry) -> [&str; 7] {
    let Entry { tenant, connector, operation, source, actor, action_id, metadata, .. } = entry;
    [tenant, connector, operation, source, actor, action_id, metadata]
}

/// Opens a block: the entries as they were, `count` from `first_seq` on. Whether their hashes are right is
/// not looked at here; that is the walk's.
pub fn decode(first_seq: i64, count: u64, prev_hash: Digest, bytes: &[u8]) -> Result<Vec<Entry>, BadSegment> {
    let mut rest = Bytes { bytes, at: 0 };
    if rest.take(1)? != [VERSION] {
        return Err(BadSegment::Version);
    }
    // A count that the bytes cannot hold would only cost memory.
    let count = usize::try_from(count).ok().filter(|count| *count <= bytes.len() / 32).ok_or(BadSegment::Bytes(0))?;
    let mut entries = Vec::with_capacity(count);
    let mut at: Millis = 0;
    for seq in (0..).map(|behind| first_seq.saturating_add(behind)).take(count) {
        at = at.wrapping_add(unzigzag(rest.number()?));
        let mut text = || rest.text();
        entries.push(Entry {
            seq,
            at,
            tenant: text()?,
            connector: text()?,
            operation: text()?,
            source: text()?,
            actor: text()?,
            action_id: text()?,
            metadata: text()?,
            prev_hash,
            hash: prev_hash,
        });
    }
    let mut prev_hash = prev_hash;
    for entry in &mut entries {
        entry.prev_hash = prev_hash;
        prev_hash = Digest(rest.take(32)?.try_into().map_err(|_| BadSegment::Bytes(rest.at))?);
        entry.hash = prev_hash;
    }
    if rest.at < bytes.len() || entries.len() < count {
        return Err(BadSegment::Bytes(rest.at));
    }
    Ok(entries)
}

struct Bytes<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], BadSegment> {
        let end = self.at.checked_add(count).ok_or(BadSegment::Bytes(self.at))?;
        let taken = self.bytes.get(self.at..end).ok_or(BadSegment::Bytes(self.at))?;
        self.at = end;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u64, BadSegment> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?.first().copied().unwrap_or_default();
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(BadSegment::Bytes(self.at))
    }

    fn text(&mut self) -> Result<String, BadSegment> {
        let length = usize::try_from(self.number()?).map_err(|_| BadSegment::Bytes(self.at))?;
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| BadSegment::Bytes(self.at))
    }
}

/// Seven bits a byte, the lowest first.
fn put_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
}

/// Small numbers of either sign become small numbers.
#[expect(clippy::cast_sign_loss, reason = "the bits are what counts")]
fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

#[expect(clippy::cast_possible_wrap, reason = "the bits are what counts")]
fn unzigzag(number: u64) -> i64 {
    ((number >> 1) as i64) ^ -((number & 1) as i64)
}
