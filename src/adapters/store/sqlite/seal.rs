//! Sealing: the oldest audit entries become a block. What takes long happens on a reader; the writer
//! only exchanges rows for their block.

use rusqlite::{Connection, Result};

use super::audit::{live, sealed_head, standing_still};
use super::writer::Work;
use crate::adapters::store::Sealed;
use crate::core::audit::{BadSegment, Entry, Segment, encode};
use crate::core::model::Digest;

/// Between speed and size; a block of audit entries comes to about a sixth.
const LEVEL: i32 = 6;

/// Entries with very long metadata make a block of fewer.
const BLOCK_BYTES: usize = 8 << 20;

/// A block that is ready to be exchanged for its rows.
pub(super) struct Block {
    segment: Segment,
    raw_bytes: u64,
    packed: Vec<u8>,
    packed_hash: Digest,
}

/// Prepares the oldest entries, if more than `keep` stay behind; `Err` within says why they cannot be sealed.
pub(super) fn prepare(
    connection: &Connection,
    keep: u64,
    block: u32,
) -> Result<Option<std::result::Result<Block, BadSegment>>> {
    let look = standing_still(connection)?;
    let before = sealed_head(connection)?;
    let last: i64 = connection.query_row("SELECT ifnull(max(seq), 0) FROM audit", [], |row| row.get(0))?;
    let unsealed = u64::try_from(last.saturating_sub(before.seq)).unwrap_or(0);
    if unsealed < keep.saturating_add(block.into()) || block == 0 {
        return Ok(None);
    }
    let mut entries = live(connection, before.seq, block)?;
    drop(look);
    let mut bytes = 0;
    let mut fits = |entry: &Entry| {
        bytes += entry.metadata.len();
        bytes <= BLOCK_BYTES
    };
    let fitting = entries.iter().map_while(|entry| Some(entry).filter(|entry| fits(entry))).count();
    entries.truncate(fitting.max(1));
    Ok(Some(encode(before, &entries).and_then(|(segment, raw)| {
        let packed = pack(&raw).map_err(|error| BadSegment::Broken(format!("they cannot be compressed: {error}")))?;
        let packed_hash = Digest::of(&packed);
        Ok(Block { segment, raw_bytes: raw.len() as u64, packed, packed_hash })
    })))
}

/// With a checksum, so that what rots is noticed before it is read.
fn pack(raw: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), LEVEL)?;
    encoder.include_checksum(true)?;
    std::io::Write::write_all(&mut encoder, raw)?;
    encoder.finish()
}

/// Exchanges the rows for their block, unless somebody has touched either meanwhile.
pub(super) fn exchange(work: &mut Work<'_>, block: &Block) -> Result<Option<Sealed>> {
    let Block { segment, raw_bytes, packed, packed_hash } = block;
    let (first, last) = (segment.first_seq, segment.last_seq);
    let is_next: bool = work.value(
        "SELECT ifnull((SELECT last_hash FROM audit_segments ORDER BY first_seq DESC LIMIT 1), zeroblob(32)) = ?1
                AND ifnull((SELECT hash FROM audit WHERE seq = ?2), x'') = ?3",
        &[&segment.prev_hash.0, &last, &segment.last_hash.0],
    )?;
    if !is_next {
        return Ok(None);
    }
    let summary = serde_json::to_string(&segment.summary).unwrap_or_default();
    work.execute(
        "INSERT INTO audit_segments (first_seq, last_seq, from_ms, to_ms, prev_hash, last_hash, raw_bytes,
                                     packed_bytes, summary, tenants, packed_hash, packed)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        rusqlite::params![
            first,
            last,
            segment.from,
            segment.to,
            segment.prev_hash.0,
            segment.last_hash.0,
            i64::try_from(*raw_bytes).unwrap_or(i64::MAX),
            i64::try_from(packed.len()).unwrap_or(i64::MAX),
            summary,
            segment.tenants,
            packed_hash.0,
            packed,
        ],
    )?;
    work.execute("DELETE FROM audit WHERE seq >= ?1 AND seq <= ?2", (first, last))?;
    Ok(Some(Sealed { first_seq: first, last_seq: last, raw_bytes: *raw_bytes, packed_bytes: packed.len() as u64 }))
}
