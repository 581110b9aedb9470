//! What a damaged store is replaced by, and what is lost with it.

use crate::core::audit::Head;

/// Something that a store can be restored from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate<T> {
    pub what: T,
    pub head: Head,
}

/// In which order to try them: the one that holds more of the audit log first; of two that hold as much the one
/// that was named first.
pub fn in_order<T>(mut candidates: Vec<Candidate<T>>) -> Vec<Candidate<T>> {
    candidates.sort_by_key(|candidate| std::cmp::Reverse(candidate.head.seq));
    candidates
}

/// What a damaged store still tells of the end of its audit log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// It ended there.
    End(Head),
    /// There was this entry; whether there were more nobody can say.
    AtLeast(i64),
    Nothing,
}

impl Known {
    /// With what was signed outside the store: there was an entry `seq`.
    pub fn and_signed(self, seq: i64) -> Known {
        match self {
            Known::End(end) if end.seq >= seq => self,
            Known::AtLeast(known) => Known::AtLeast(known.max(seq)),
            Known::End(_) | Known::Nothing if seq > 0 => Known::AtLeast(seq),
            Known::End(_) | Known::Nothing => self,
        }
    }
}

/// Audit entries that are gone: the first, and the last as far as that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    pub first: i64,
    pub last: Last,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Last {
    Exactly(i64),
    AtLeast(i64),
    Unknown,
}

/// What is gone when everything up to `kept` is there again.
pub fn lost(kept: Head, known: Known) -> Option<Lost> {
    let first = kept.seq + 1;
    match known {
        Known::End(end) if end == kept => None,
        Known::End(end) if end.seq > kept.seq => Some(Lost { first, last: Last::Exactly(end.seq) }),
        Known::AtLeast(seq) if seq > kept.seq => Some(Lost { first, last: Last::AtLeast(seq) }),
        _ => Some(Lost { first, last: Last::Unknown }),
    }
}

/// In words.
pub fn told(lost: Option<Lost>) -> String {
    match lost {
        None => "no audit entry is lost; runs, records and timers are as they were then".to_owned(),
        Some(Lost { first, last: Last::Exactly(last) }) if first == last => format!("audit entry {first} is lost"),
        Some(Lost { first, last: Last::Exactly(last) }) => format!("audit entries {first} to {last} are lost"),
        Some(Lost { first, last: Last::AtLeast(last) }) => {
            format!("audit entries from {first} on are lost, up to {last} at least")
        }
        Some(Lost { first, last: Last::Unknown }) => {
            format!("audit entries from {first} on are lost, if there were any; nothing here tells")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::Digest;

    fn head(seq: i64) -> Head {
        Head { seq, hash: Digest([1; 32]) }
    }

    #[test]
    fn the_higher_head_goes_first_and_snapshots_before_a_replica_as_good() {
        let candidate = |what, seq| Candidate { what, head: head(seq) };
        let order = |all| in_order(all).into_iter().map(|candidate| candidate.what).collect::<Vec<_>>();
        assert_eq!(order(vec![candidate("snapshot", 5), candidate("replica", 9)]), ["replica", "snapshot"]);
        assert_eq!(order(vec![candidate("snapshot", 9), candidate("replica", 9)]), ["snapshot", "replica"]);
    }

    #[test]
    fn what_is_lost_is_never_told_smaller_than_it_may_be() {
        let check = |kept, known, text: &str| {
            let told = told(lost(head(kept), known));
            assert!(told.starts_with(text), "{told}");
        };
        check(5, Known::End(head(5)), "no audit entry is lost");
        check(5, Known::End(head(6)), "audit entry 6 is lost");
        check(5, Known::End(head(9)), "audit entries 6 to 9 are lost");
        check(5, Known::AtLeast(9), "audit entries from 6 on are lost, up to 9 at least");
        check(5, Known::AtLeast(5), "audit entries from 6 on are lost, if");
        check(5, Known::Nothing, "audit entries from 6 on are lost, if");
        // Another log altogether, or one that was cut: nothing is known.
        check(5, Known::End(head(3)), "audit entries from 6 on are lost, if");
        check(5, Known::End(Head { seq: 5, hash: Digest([2; 32]) }), "audit entries from 6 on are lost, if");
    }
}
