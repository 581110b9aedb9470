//! Due times in order.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::core::model::Millis;

/// Due times in order, each with the slot number of its schedule. Entries are never removed, only
/// outlived: whoever pops one checks that the schedule is still due then.
#[derive(Default)]
pub struct DueQueue {
    heap: BinaryHeap<Reverse<(Millis, u32)>>,
}

impl DueQueue {
    pub fn push(&mut self, due: Millis, slot: u32) {
        self.heap.push(Reverse((due, slot)));
    }

    /// The earliest due time in the queue.
    pub fn next(&self) -> Option<Millis> {
        self.heap.peek().map(|Reverse((due, _))| *due)
    }

    /// Takes the earliest entry if it is due at `now`.
    pub fn pop_due(&mut self, now: Millis) -> Option<(Millis, u32)> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }

    pub fn len(&self) -> usize {
        self.heap.len()
    }

    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// Replaces the whole queue, which is cheaper than pushing one by one and drops outlived entries.
    pub fn rebuild(&mut self, entries: impl Iterator<Item = (Millis, u32)>) {
        let mut all = std::mem::take(&mut self.heap).into_vec();
        all.clear();
        all.extend(entries.map(Reverse));
        self.heap = BinaryHeap::from(all);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_queue_hands_out_in_order(dues in proptest::collection::vec(0i64..1000, 0..50), now in 0i64..1000) {
            let mut queue = DueQueue::default();
            queue.rebuild(dues.iter().enumerate().map(|(n, due)| (*due, u32::try_from(n).unwrap())));
            let mut last = 0;
            let mut taken = 0;
            while let Some((due, _)) = queue.pop_due(now) {
                prop_assert!(due >= last && due <= now);
                last = due;
                taken += 1;
            }
            prop_assert_eq!(taken, dues.iter().filter(|due| **due <= now).count());
        }
    }
}
