//! The audit log beyond its newest entries: sealed blocks, and what may be forgotten beside it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{AuditQuery, Pruned, StoreFuture};
use crate::core::audit::{Entry, Head, operation};
use crate::core::model::Millis;
use crate::core::retention::KeepRevisions;

/// A block that was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    pub first_seq: i64,
    pub last_seq: i64,
    pub raw_bytes: u64,
    pub packed_bytes: u64,
}

/// What came of sealing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seal {
    Done(Sealed),
    /// There are not so many entries.
    Nothing,
    /// The oldest entries do not follow from one another: they stay as they are, to be seen.
    Refused(String),
}

/// What is sealed so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SealedFacts {
    pub segments: u64,
    pub entries: u64,
    /// The newest sealed entry; 0 while there is none.
    pub last_seq: i64,
    /// Before and after compression.
    pub raw_bytes: u64,
    pub packed_bytes: u64,
}

/// A part of the log that is there but cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the sealed audit entries {first} to {last} are damaged: {reason}; `command-center audit verify` says more")]
pub struct Damage {
    pub first: i64,
    pub last: i64,
    pub reason: String,
}

/// Keeps the log's old part small and the rest of the store bounded.
pub trait AuditStore {
    /// Which store this is; copies of it say the same.
    fn store_id(&self) -> StoreFuture<'_, String>;
    /// The entry's hash, while its sequence number is in the log.
    fn audit_at(&self, seq: i64) -> StoreFuture<'_, Option<Head>>;
    /// Seals the oldest `block` entries in one transaction, as long as more than `live` stay behind.
    fn seal_audit(&self, live: u64, block: u32) -> StoreFuture<'_, Seal>;
    fn sealed(&self) -> StoreFuture<'_, SealedFacts>;
    /// Forgets revisions beyond what is to be kept, of some schedules behind `after` (`connector/tenant`),
    /// and contents that no revision has any more. The newest revision of each schedule stays.
    fn prune_revisions(&self, after: Option<String>, keep: KeepRevisions, now: Millis) -> StoreFuture<'_, Pruned>;
    /// Forgets imported records that no run has seen since `before`, of one schedule behind `after`.
    fn prune_records(&self, after: Option<String>, before: Millis) -> StoreFuture<'_, Pruned>;
}

impl AuditQuery {
    /// Whether the query lets the entry through.
    pub fn lets_through(&self, entry: &Entry) -> bool {
        let operation = self.operation.as_deref().map(operation::canonical);
        self.connector.is_none_or(|connector| entry.connector.is_empty() || entry.connector == connector.as_str())
            && self.tenant.as_ref().is_none_or(|tenant| entry.tenant == *tenant)
            && operation.is_none_or(|operation| entry.operation == operation)
            && self.source.as_ref().is_none_or(|source| entry.source == *source)
            && self.since.is_none_or(|since| entry.at >= since)
            && self.until.is_none_or(|until| entry.at < until)
            && self.before.is_none_or(|before| entry.seq < before)
    }
}
