//! The queue between the watcher and the reconciler: names each schedule once however often it is
//! hinted at, and knows when a burst has ended or has gone on long enough.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::adapters::source::Hint;
use crate::core::model::ScheduleId;

/// More names than this are handled faster by looking at everything.
const MAX_NAMES: usize = 4096;

/// A burst is waited out this many debounces at most.
const MAX_DEBOUNCES: u32 = 2;

#[derive(Default)]
pub struct HintQueue {
    inner: Mutex<Inner>,
    filled: Notify,
}

#[derive(Default)]
struct Inner {
    names: HashSet<ScheduleId>,
    everything: bool,
    first: Option<Instant>,
    last: Option<Instant>,
}

/// What a burst of hints comes down to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Work {
    Schedules(Vec<ScheduleId>),
    Everything,
}

impl HintQueue {
    pub(super) fn push(&self, hint: Hint, now: Instant) {
        let mut inner = self.lock();
        match hint {
            Hint::Schedule(id) if !inner.everything => {
                inner.names.insert(id);
            }
            Hint::Schedule(_) => {}
            Hint::Everything => inner.everything = true,
        }
        if inner.names.len() > MAX_NAMES {
            inner.everything = true;
        }
        if inner.everything {
            inner.names.clear();
        }
        let begins = inner.first.is_none();
        inner.first.get_or_insert(now);
        inner.last = Some(now);
        drop(inner);
        // Whoever waits for a burst to end looks at the time itself; only the first hint wakes.
        if begins {
            self.filled.notify_one();
        }
    }

    /// Waits for a hint, then for the burst it belongs to.
    pub(super) async fn next(&self, debounce: Duration) -> Work {
        loop {
            let due = self.due(debounce);
            match due {
                None => self.filled.notified().await,
                Some(due) if due <= Instant::now() => {
                    if let Some(work) = self.take() {
                        return work;
                    }
                }
                Some(due) => tokio::time::sleep_until(due.into()).await,
            }
        }
    }

    /// When the burst may be handled: a debounce after its last hint, but not for ever.
    fn due(&self, debounce: Duration) -> Option<Instant> {
        let inner = self.lock();
        Some((inner.last? + debounce).min(inner.first? + debounce * MAX_DEBOUNCES))
    }

    fn take(&self) -> Option<Work> {
        let Inner { names, everything, first, .. } = std::mem::take(&mut *self.lock());
        first?;
        Some(if everything { Work::Everything } else { Work::Schedules(names.into_iter().collect()) })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(name: &str) -> Hint {
        Hint::Schedule(format!("noop/{name}").parse().unwrap())
    }

    #[test]
    fn a_burst_is_one_piece_of_work_and_does_not_wait_for_ever() {
        let queue = HintQueue::default();
        let (start, debounce) = (Instant::now(), Duration::from_millis(50));
        assert_eq!((queue.due(debounce), queue.take()), (None, None));
        queue.push(hint("a"), start);
        queue.push(hint("a"), start + debounce);
        assert_eq!(queue.due(debounce), Some(start + debounce * 2));
        queue.push(hint("a"), start + debounce * 2);
        assert_eq!(queue.due(debounce), Some(start + debounce * 2), "bounded");
        assert_eq!(queue.take(), Some(Work::Schedules(vec!["noop/a".parse().unwrap()])));
        assert_eq!(queue.take(), None);
    }

    #[test]
    fn doubt_swallows_names() {
        let queue = HintQueue::default();
        let now = Instant::now();
        queue.push(hint("a"), now);
        queue.push(Hint::Everything, now);
        queue.push(hint("b"), now);
        assert_eq!(queue.take(), Some(Work::Everything));
        for n in 0..=MAX_NAMES {
            queue.push(hint(&format!("t{n}")), now);
        }
        assert_eq!(queue.take(), Some(Work::Everything));
    }
}
