//! From a file to what it says: read, digest, parse. Done on threads of their own, since a fleet's
//! worth of files takes a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc;

use super::blocking::{hand_over, start_blocking};
use crate::adapters::source::{FileStat, Files, ReadResult};
use crate::core::desired::{Defaults, Diagnostic, parse};
use crate::core::model::{Digest, Millis, ScheduleId, ScheduleSpec};

/// One schedule's file as it was read.
pub(super) struct Reading {
    pub id: ScheduleId,
    pub found: Found,
}

pub(super) enum Found {
    Valid(Box<Valid>),
    /// There, and not to be used. The digest is missing when it could not even be read.
    Invalid {
        digest: Option<Digest>,
        diagnostics: Vec<Diagnostic>,
    },
    Absent,
}

pub(super) struct Valid {
    pub spec: ScheduleSpec,
    pub digest: Digest,
    /// The digest together with that of the defaults below the file.
    pub basis: Digest,
    pub content: Vec<u8>,
    pub stamp: u64,
    /// When the file was last changed on disk.
    pub changed: Millis,
}

/// A file touched this recently may change again without its stat moving; file systems differ,
/// two seconds is the coarsest.
const RACY_NS: i64 = 2_000_000_000;

/// The lowest bit of a stamp: set once the stat is old enough to be relied on.
const SETTLED: u64 = 1;

/// The stat condensed to 64 bits. While it is too young at `now` to be relied on, it differs from
/// what a listing compares with, so that the file is read again.
pub(super) fn stamp(stat: &FileStat, now: Millis) -> u64 {
    let age_ns = now.saturating_mul(1_000_000).saturating_sub(stat.changed_ns());
    if age_ns < RACY_NS { settled_stamp(stat) & !SETTLED } else { settled_stamp(stat) }
}

/// The stat condensed, whatever its age: what a listing compares.
pub(super) fn settled_stamp(stat: &FileStat) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    #[expect(clippy::cast_sign_loss, reason = "bits to be mixed")]
    for part in [u64::from(stat.size), stat.mtime_ns as u64, stat.ctime_ns as u64, stat.inode] {
        hash = (hash ^ part).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }
    hash | SETTLED
}

/// Whether a file that was hinted at is the one that was read or written last. Whoever changes it
/// again brings a hint of their own, so that its age does not matter here.
pub(super) fn is_same_file(stamp: u64, stat: &FileStat) -> bool {
    stamp | SETTLED == settled_stamp(stat)
}

/// Reads one schedule's file.
pub(super) fn read(source: &dyn Files, id: &ScheduleId, defaults: &Defaults, now: Millis) -> Reading {
    reading(id, source.read(id), defaults, now)
}

/// What a file says that was just read.
fn reading(id: &ScheduleId, read: ReadResult, defaults: &Defaults, now: Millis) -> Reading {
    let id = id.clone();
    let found = match read {
        Ok(Some((stat, content))) => understand(&id, &stat, content, defaults, now),
        Ok(None) => Found::Absent,
        Err(error) => Found::Invalid {
            digest: None,
            diagnostics: vec![Diagnostic::whole_file(id.file(), "unreadable", error.to_string())],
        },
    };
    Reading { id, found }
}

fn understand(id: &ScheduleId, stat: &FileStat, content: Vec<u8>, defaults: &Defaults, now: Millis) -> Found {
    let digest = Digest::of(&content);
    let parsed = parse(id, &content, defaults);
    match parsed.spec {
        Some(spec) => Found::Valid(Box::new(Valid {
            spec,
            digest,
            basis: defaults.basis(id.connector, digest),
            content,
            stamp: stamp(stat, now),
            changed: stat.changed_ns() / 1_000_000,
        })),
        None => Found::Invalid { digest: Some(digest), diagnostics: parsed.diagnostics },
    }
}

/// Schedules read together: small enough that a claim does not wait long behind the transaction
/// they make.
const CHUNK: usize = 512;

/// Reads many files on two threads; hands over chunks as they are ready, in no order.
pub(super) fn read_all(
    source: Arc<dyn Files>,
    ids: Vec<ScheduleId>,
    defaults: Arc<Defaults>,
    now: Millis,
) -> mpsc::Receiver<Vec<Reading>> {
    let (sender, receiver) = mpsc::channel(4);
    let threads = if ids.len() > CHUNK { 2 } else { 1 };
    let ids = Arc::new(ids);
    let next = Arc::new(AtomicUsize::new(0));
    for _ in 0..threads {
        let (source, ids, next, sender) = (source.clone(), ids.clone(), next.clone(), sender.clone());
        let defaults = defaults.clone();
        start_blocking(move || {
            loop {
                let start = next.fetch_add(CHUNK, Ordering::Relaxed);
                let Some(chunk) = ids.get(start..(start + CHUNK).min(ids.len())).filter(|chunk| !chunk.is_empty())
                else {
                    return;
                };
                let mut readings = Vec::with_capacity(chunk.len());
                source.read_each(chunk, &mut |id, read| readings.push(reading(id, read, &defaults, now)));
                if hand_over(&sender, readings).is_err() {
                    return;
                }
            }
        });
    }
    receiver
}
