//! A schedule's next starts, one by one, as windows and the catch-up rule will have them.

use super::AfterWindows;
use crate::core::model::{Millis, ScheduleId, ScheduleSpec};
use crate::core::policy::RunPolicy;
use crate::core::timing::Rhythm;
use crate::core::windows::Windows;

/// A start to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fire {
    /// When it starts.
    pub at: Millis,
    /// The slot it is for: earlier where a window keeps it back.
    pub nominal: Millis,
    pub window: Option<String>,
    /// Earlier slots that it stands for.
    pub folded: u32,
}

/// Slots that are looked at for one list at most, so that a window that lasts long ends the search.
const MAX_SLOTS: usize = 100_000;

/// The next `count` starts after `now`. Of a schedule that is paused, those after its pause.
pub fn fires(id: &ScheduleId, spec: &ScheduleSpec, windows: &Windows, now: Millis, count: usize) -> Vec<Fire> {
    let Ok(rhythm) = Rhythm::of(id, spec) else { return Vec::new() };
    let after = if spec.is_paused_at(now) { spec.pause_end() } else { Some(now) };
    let Some(after) = after else { return Vec::new() };
    let policy = RunPolicy::of(spec);
    let rules = AfterWindows::of(&policy);
    let chosen = windows.chosen(id.connector, &spec.labels);
    let mut fires: Vec<Fire> = Vec::new();
    let slots = std::iter::successors(rhythm.next_after(after), |slot| rhythm.next_after(*slot));
    for nominal in slots.take(MAX_SLOTS) {
        let Some(open) = windows.wait_at(nominal, id.connector, &chosen) else {
            // A slot at the very end of the window stands for those within it.
            if let Some(last) = fires.last_mut().filter(|last| rules.folds && last.at == nominal) {
                (last.nominal, last.folded, last.window) = (nominal, last.folded + 1, None);
                continue;
            }
            if fires.len() >= count {
                break;
            }
            fires.push(Fire { at: nominal, nominal, window: None, folded: 0 });
            continue;
        };
        let is_full = fires.len() >= count;
        if open.end - nominal > rules.reach_ms {
            continue;
        }
        match fires.last_mut().filter(|last| last.window.is_some() && last.at == open.end) {
            Some(last) if rules.folds => (last.nominal, last.folded) = (nominal, last.folded + 1),
            _ if is_full => break,
            _ => {
                let window = windows.get(open.window).map(|window| window.name.clone());
                fires.push(Fire { at: open.end, nominal, window, folded: 0 });
            }
        }
    }
    fires
}
