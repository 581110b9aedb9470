//! What the rules want of a schedule at the moment when the dispatcher takes it: read anew from the
//! manual, slot by slot, without the arithmetic of the program.

use crate::core::model::{Millis, ScheduleId};
use crate::core::policy::{CatchUp, Overlap, RunPolicy};
use crate::core::timing::Rhythm;

/// Slots further back than these are not looked at one by one.
const MOST: usize = 20_000;

/// A schedule that was due when the dispatcher came round.
#[derive(Clone, Debug)]
pub(super) struct Take {
    pub id: ScheduleId,
    pub from: Millis,
    /// Where its timer goes from here.
    pub next: Option<Millis>,
    /// How many slots are due.
    pub due: usize,
    /// The slots that its rules ask for.
    pub wanted: Vec<Millis>,
    pub is_braked: bool,
    pub overlap: Overlap,
    /// It was due in a window; nobody knows where windows are just being changed.
    pub was_kept: Option<bool>,
}

/// The slots of a rhythm from one moment on and before another.
pub(super) fn slots(rhythm: &Rhythm, from: Millis, before: Option<Millis>) -> Vec<Millis> {
    let first = rhythm.next_after(from - 1);
    let all = std::iter::successors(first, |slot| rhythm.next_after(*slot));
    all.take_while(|slot| before.is_none_or(|before| *slot < before)).take(MOST).collect()
}

impl Take {
    pub fn of(id: &ScheduleId, rhythm: &Rhythm, policy: &RunPolicy, from: Millis, now: Millis) -> Take {
        let due = slots(rhythm, from, Some(now + 1));
        let is_younger = |slot: Millis, sec: u32| now - slot <= i64::from(sec) * 1000;
        let is_late = |slot: Millis| !is_younger(slot, 60);
        let may_run = |slot: Millis| {
            let in_window = policy.catch_up_window_sec.is_none_or(|sec| is_younger(slot, sec));
            let in_time = policy.start_deadline_sec.is_none_or(|sec| is_younger(slot, sec));
            in_time && (in_window || !is_late(slot))
        };
        let latest = due.last().copied().filter(|slot| may_run(*slot));
        let wanted = match policy.catch_up {
            CatchUp::None => latest.filter(|slot| !is_late(*slot)).into_iter().collect(),
            CatchUp::Latest => latest.into_iter().collect(),
            CatchUp::All => {
                let all: Vec<Millis> = due.iter().copied().filter(|slot| may_run(*slot)).collect();
                let most = usize::try_from(policy.catch_up_max).unwrap();
                all[all.len().saturating_sub(most)..].to_vec()
            }
        };
        let next = rhythm.next_after(now);
        let (due, overlap) = (due.len(), policy.overlap);
        Take { id: id.clone(), from, next, due, wanted, is_braked: false, overlap, was_kept: Some(false) }
    }
}
