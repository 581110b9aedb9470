//! The hash chain over the entries: how it grows, and the walk that shows where it was tampered with.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Draft, Entry, Metadata};
use crate::core::model::{Connector, Digest, Millis};
use crate::core::timing::iso;

/// The end of the chain: the last sequence number and hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub seq: i64,
    pub hash: Digest,
}

impl Default for Head {
    fn default() -> Self {
        Head { seq: 0, hash: Digest([0; 32]) }
    }
}

impl Head {
    /// Turns a draft into the chain's next entry and moves the head on to it. `at_iso` is `at` as
    /// [`iso`] writes it, made once for all entries of one moment.
    pub fn append(&mut self, draft: Draft, at: Millis, at_iso: &str) -> Entry {
        let Metadata(metadata) = draft.metadata;
        let mut entry = Entry {
            seq: self.seq + 1,
            at,
            tenant: draft.tenant,
            connector: draft.connector.map_or("", Connector::as_str).to_owned(),
            operation: draft.operation.to_owned(),
            source: draft.source.as_str().to_owned(),
            actor: draft.actor,
            action_id: draft.action_id,
            metadata,
            prev_hash: self.hash,
            hash: Digest([0; 32]),
        };
        entry.hash = entry.hash_at(at_iso);
        *self = Head { seq: entry.seq, hash: entry.hash };
        entry
    }
}

/// An entry that something outside the log vouches for: a signed checkpoint's sequence number and hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor {
    pub head: Head,
    /// Who says so, for a message: `the checkpoint of 2026-11-21T17:20:07Z`.
    pub says: String,
}

/// What a check of the chain found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Verdict {
    pub valid: bool,
    pub total_entries: u64,
    /// The first entry that does not fit, if any.
    pub first_bad_seq: Option<i64>,
    pub message: String,
    /// The hash of the last entry that fits.
    #[serde(default)]
    pub last_hash: String,
    /// How many signed checkpoints the log continues.
    #[serde(default)]
    pub checkpoints: u64,
    /// The newest entry that a signed checkpoint vouches for: up to here a rewriting of the whole log would show.
    #[serde(default)]
    pub anchored_seq: Option<i64>,
    /// What could not be held against the log, and why.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// Walks the chain from its first entry; hand it every entry in order of `seq`.
#[derive(Default)]
pub struct Verifier {
    head: Head,
    total: u64,
    bad: Option<(i64, String)>,
    /// The last first.
    anchors: Vec<Anchor>,
    held: u64,
    anchored: Option<i64>,
    /// The last entry's time as it is hashed: many entries share one.
    written: (Millis, String),
}

impl Verifier {
    /// Walks on behind an entry that is known to be good.
    pub fn from(head: Head) -> Verifier {
        Verifier { head, ..Verifier::default() }
    }

    /// A walk that also holds the log against `anchors`, in any order.
    pub fn against(mut anchors: Vec<Anchor>) -> Verifier {
        anchors.sort_by_key(|anchor| std::cmp::Reverse(anchor.head.seq));
        let mut verifier = Verifier { anchors, ..Verifier::default() };
        verifier.hold();
        verifier
    }

    /// A walk that begins behind `head`.
    pub fn after(head: Head) -> Verifier {
        Verifier { head, ..Verifier::default() }
    }

    /// Returns whether the chain is still whole.
    pub fn push(&mut self, entry: &Entry) -> bool {
        self.total += 1;
        if self.bad.is_some() {
            return false;
        }
        let problem = if entry.seq != self.head.seq + 1 {
            Some(format!("entry {} is missing: the log goes on with {}", self.head.seq + 1, entry.seq))
        } else if entry.prev_hash != self.head.hash {
            Some(format!("entry {} does not follow the entry before it", entry.seq))
        } else if entry.hash != self.computed_hash(entry) {
            Some(format!("entry {} was changed after it was written", entry.seq))
        } else {
            None
        };
        match problem {
            Some(problem) => self.bad = Some((self.head.seq + 1, problem)),
            None => {
                self.head = Head { seq: entry.seq, hash: entry.hash };
                self.hold();
            }
        }
        self.bad.is_none()
    }

    fn computed_hash(&mut self, entry: &Entry) -> Digest {
        if self.written.0 != entry.at || self.written.1.is_empty() {
            self.written = (entry.at, iso(entry.at));
        }
        entry.hash_at(&self.written.1)
    }

    /// Entries that are there but cannot be read any more.
    pub fn damaged(&mut self, first: i64, last: i64, reason: &str) {
        if self.bad.is_none() {
            self.bad = Some((first, format!("the sealed entries {first} to {last} are damaged: {reason}")));
        }
    }

    /// How far the walk has come.
    pub fn seq(&self) -> i64 {
        self.head.seq
    }

    /// Holds the head against what is said of its sequence number.
    fn hold(&mut self) {
        while let Some(anchor) = self.anchors.pop_if(|anchor| anchor.head.seq <= self.head.seq) {
            if anchor.head == self.head {
                self.held += 1;
                self.anchored = Some(anchor.head.seq);
            } else {
                let from = self.anchored.map_or(1, |seq| seq + 1);
                let seq = anchor.head.seq;
                let problem = format!(
                    "entry {seq} has another hash than {} says: the log was rewritten somewhere from entry {from} to {seq}",
                    anchor.says
                );
                self.bad = Some((seq, problem));
                return;
            }
        }
    }

    /// Ends the walk. `expected` is the head the store believes in, which shows a cut end.
    pub fn finish(mut self, expected: Option<Head>) -> Verdict {
        if self.bad.is_none()
            && let Some(expected) = expected.filter(|expected| *expected != self.head)
        {
            let message = format!("the log ends at entry {} but {} had been written", self.head.seq, expected.seq);
            self.bad = Some((self.head.seq + 1, message));
        }
        if self.bad.is_none()
            && let Some(anchor) = self.anchors.first()
        {
            let (end, signed) = (self.head.seq, anchor.head.seq);
            let message =
                format!("the log ends at entry {end} but {} is of entry {signed}: its end is gone", anchor.says);
            self.bad = Some((end + 1, message));
        }
        let anchored = match (self.held, self.anchored) {
            (0, _) | (_, None) => String::new(),
            (1, Some(seq)) => format!(", and continue the checkpoint of entry {seq}"),
            (held, Some(seq)) => format!(", and continue {held} checkpoints, the last of entry {seq}"),
        };
        let valid = self.bad.is_none();
        let (first_bad_seq, message) = match self.bad {
            None => (None, format!("all {} entries follow from one another{anchored}", self.total)),
            Some((seq, message)) => (Some(seq), message),
        };
        Verdict {
            valid,
            total_entries: self.total,
            first_bad_seq,
            message,
            last_hash: self.head.hash.to_hex(),
            checkpoints: self.held,
            anchored_seq: self.anchored,
            notes: Vec::new(),
        }
    }
}
