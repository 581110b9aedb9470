//! Starts that wait beside their due time, and which windows the labels of schedules choose: kept
//! only for the schedules concerned, so that the others take no room.

use std::collections::HashMap;
use std::sync::Arc;

use super::Slot;
use crate::core::model::Millis;

/// What schedules' labels choose, each choice once.
#[derive(Default)]
pub(super) struct Waits {
    /// When a schedule that is due and may not start is looked at again.
    wakes: HashMap<Slot, Millis>,
    choices: HashMap<Slot, u32>,
    sets: Vec<Arc<[u16]>>,
    index: HashMap<Arc<[u16]>, u32>,
}

impl Waits {
    /// When the schedule is looked at, whose timer stands at `due`.
    pub fn wake(&self, slot: Slot) -> Option<Millis> {
        self.wakes.get(&slot).copied()
    }

    pub fn delay(&mut self, slot: Slot, wake: Millis) {
        self.wakes.insert(slot, wake);
    }

    pub fn end(&mut self, slot: Slot) {
        self.wakes.remove(&slot);
    }

    /// Nobody waits any more; gives those who did.
    pub fn end_all(&mut self) -> Vec<Slot> {
        std::mem::take(&mut self.wakes).into_keys().collect()
    }

    pub fn choose(&mut self, slot: Slot, chosen: &[u16]) {
        if chosen.is_empty() {
            self.choices.remove(&slot);
            return;
        }
        let index = match self.index.get(chosen) {
            Some(index) => *index,
            None => {
                let index = u32::try_from(self.sets.len()).unwrap_or(u32::MAX);
                let set: Arc<[u16]> = chosen.into();
                self.sets.push(set.clone());
                self.index.insert(set, index);
                index
            }
        };
        self.choices.insert(slot, index);
    }

    /// The windows that the schedule's labels choose.
    pub fn chosen(&self, slot: Slot) -> Arc<[u16]> {
        let set = self.choices.get(&slot).and_then(|index| self.sets.get(*index as usize));
        set.cloned().unwrap_or_default()
    }

    /// Forgets all choices: the windows are others now.
    pub fn unchoose(&mut self) {
        self.choices = HashMap::new();
        self.sets.clear();
        self.index.clear();
    }

    pub fn forget(&mut self, slot: Slot) {
        self.wakes.remove(&slot);
        self.choices.remove(&slot);
    }
}
