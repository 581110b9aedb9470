//! Sealing and forgetting in memory: a log is sealed by saying so, and history is pruned all at once.

use std::collections::BTreeSet;

use futures_util::FutureExt as _;

use super::super::{AuditStore, Pruned, Seal, Sealed, SealedFacts, StoreFuture};
use super::MemoryStore;
use super::tables::Tables;
use crate::core::audit::{Head, encode};
use crate::core::model::{Digest, Millis};
use crate::core::retention::KeepRevisions;

impl Tables {
    fn seal(&mut self, keep: u64, block: u32) -> Seal {
        let sealed = self.sealed.last_seq;
        let unsealed: Vec<_> = self.audit.iter().filter(|entry| entry.seq > sealed).collect();
        if (unsealed.len() as u64) < keep + u64::from(block) || block == 0 {
            return Seal::Nothing;
        }
        let oldest: Vec<_> = unsealed.into_iter().take(block as usize).cloned().collect();
        let before = Head { seq: sealed, hash: self.sealed_hash };
        let (segment, raw) = match encode(before, &oldest) {
            Ok(sealed) => sealed,
            Err(bad) => return Seal::Refused(bad.to_string()),
        };
        let bytes = raw.len() as u64;
        self.sealed_hash = segment.last_hash;
        self.sealed = SealedFacts {
            segments: self.sealed.segments + 1,
            entries: self.sealed.entries + u64::from(block),
            last_seq: segment.last_seq,
            raw_bytes: self.sealed.raw_bytes + bytes,
            packed_bytes: self.sealed.packed_bytes + bytes,
        };
        let (first_seq, last_seq) = (segment.first_seq, segment.last_seq);
        Seal::Done(Sealed { first_seq, last_seq, raw_bytes: bytes, packed_bytes: bytes })
    }

    fn prune_revisions(&mut self, keep: KeepRevisions, now: Millis) -> u64 {
        let mut removed = 0;
        for all in self.revisions.values_mut() {
            let beyond = all.len().saturating_sub(keep.at_least.max(1) as usize);
            let gone = all.iter().take(beyond).rposition(|revision| revision.at < keep.oldest(now));
            removed += all.drain(..gone.map_or(0, |last| last + 1)).count();
        }
        let used: BTreeSet<Digest> = self.revisions.values().flatten().filter_map(|revision| revision.digest).collect();
        self.contents.retain(|digest, _| used.contains(digest));
        removed as u64
    }
}

impl AuditStore for MemoryStore {
    fn store_id(&self) -> StoreFuture<'_, String> {
        std::future::ready(Ok("memory".to_owned())).boxed()
    }

    fn audit_at(&self, seq: i64) -> StoreFuture<'_, Option<Head>> {
        self.read("read an audit entry", move |tables| {
            let found = tables.audit.iter().find(|entry| entry.seq == seq);
            found.map(|entry| Head { seq, hash: entry.hash })
        })
    }

    fn seal_audit(&self, live: u64, block: u32) -> StoreFuture<'_, Seal> {
        self.write("seal audit entries", move |tables| Ok(tables.seal(live, block)))
    }

    fn sealed(&self) -> StoreFuture<'_, SealedFacts> {
        self.read("read what is sealed", |tables| tables.sealed.clone())
    }

    fn prune_revisions(&self, _: Option<String>, keep: KeepRevisions, now: Millis) -> StoreFuture<'_, Pruned> {
        self.write("forget old revisions", move |tables| {
            Ok(Pruned { removed: tables.prune_revisions(keep, now), next: None })
        })
    }

    fn prune_records(&self, _: Option<String>, before: Millis) -> StoreFuture<'_, Pruned> {
        self.write("forget records unseen for long", move |tables| {
            Ok(Pruned { removed: tables.forget_unseen(before), next: None })
        })
    }
}
