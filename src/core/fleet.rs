//! The fleet in memory: what must be at hand to notice a change, fire on time and answer a count.
//! Everything else of a schedule stands in the store. A hundred thousand schedules take some 15 MiB:
//! names lie in one arena, entries are plain and small, cron texts are shared.

mod waits;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use hashbrown::HashTable;

use crate::core::model::{Connector, Digest, Millis, ScheduleId};
use crate::core::policy::RunPolicy;
use crate::core::row::{Fingerprint, fingerprint};
use crate::core::timing::{BadRhythm, DueQueue, Rhythm, RhythmCache};
use waits::Waits;

/// A schedule's place in the fleet; stays the same while the schedule exists.
pub type Slot = u32;

/// How a schedule stands to its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Sync {
    #[default]
    Synced,
    /// A change is known and not yet applied.
    Pending,
    /// What runs was changed beside the files and is not yet repaired.
    Drifted,
    /// The file cannot be used; its last good version runs on.
    Invalid,
    /// A deletion or pause that waits for a person.
    Held,
}

impl Sync {
    pub const ALL: [Sync; 5] = [Sync::Synced, Sync::Pending, Sync::Drifted, Sync::Invalid, Sync::Held];

    pub fn as_str(self) -> &'static str {
        match self {
            Sync::Synced => "synced",
            Sync::Pending => "pending",
            Sync::Drifted => "drifted",
            Sync::Invalid => "invalid",
            Sync::Held => "held",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cadence {
    IntervalSec(u32),
    /// Index into the shared texts.
    Cron(u32),
}

#[derive(Clone, Debug)]
struct Entry {
    /// The row's key in the store; 0 marks a free slot.
    row: i64,
    /// Condensed stat of the file as last read; 0 where it must be read again.
    stamp: u64,
    /// When the timer fires, or lifts a pause that has an end; `NEVER` while paused without one.
    due: Millis,
    name_at: u32,
    cadence: Cadence,
    /// Index into the shared policies.
    policy: u32,
    content: Fingerprint,
    applied: Fingerprint,
    name_len: u8,
    connector: Connector,
    sync: Sync,
    paused: bool,
    running: bool,
    seen: bool,
}

const NEVER: Millis = Millis::MAX;

/// What the fleet learns of a schedule when it is loaded or applied.
#[derive(Clone, Debug)]
pub struct Member<'a> {
    pub row: i64,
    pub stamp: u64,
    /// Digest of the file's bytes as applied.
    pub content: Digest,
    /// Fingerprint of the stored row as it ought to be.
    pub applied: Fingerprint,
    pub interval_sec: Option<u32>,
    pub cron: Option<&'a str>,
    pub timezone: Option<&'a str>,
    /// The row's rules for its runs, as `core::policy::policy_text` has them.
    pub policy: &'a str,
    /// Asleep. With a due time, that is when its pause ends.
    pub paused: bool,
    pub next_due: Option<Millis>,
}

/// One schedule's state in memory, by value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Glance {
    pub slot: Slot,
    pub row: i64,
    pub stamp: u64,
    pub content: Fingerprint,
    pub applied: Fingerprint,
    pub paused: bool,
    pub running: bool,
    /// `None` where a cron expression says when.
    pub interval_sec: Option<u32>,
    pub next_due: Option<Millis>,
    /// When a start that has to wait though it is due is looked at again.
    pub wake: Option<Millis>,
    pub sync: Sync,
}

/// The rules for runs that schedules have, each once: a fleet has few, and most schedules the usual ones.
struct Policies {
    all: Vec<Arc<RunPolicy>>,
    index: HashMap<Box<str>, u32>,
}

impl Default for Policies {
    fn default() -> Self {
        Policies { all: vec![Arc::default()], index: HashMap::from([("".into(), 0)]) }
    }
}

impl Policies {
    fn index(&mut self, text: &str) -> u32 {
        if let Some(index) = self.index.get(text) {
            return *index;
        }
        let index = u32::try_from(self.all.len()).unwrap_or(0);
        self.all.push(Arc::new(RunPolicy::parse(text)));
        self.index.insert(text.into(), index);
        index
    }

    fn get(&self, index: u32) -> Arc<RunPolicy> {
        self.all.get(index as usize).cloned().unwrap_or_default()
    }
}

/// All schedules of this node, indexed by name, with their timers.
#[derive(Default)]
pub struct Fleet {
    entries: Vec<Entry>,
    free: Vec<Slot>,
    names: String,
    index: HashTable<Slot>,
    hasher: RandomState,
    crons: Vec<(Box<str>, Box<str>)>,
    cron_index: HashMap<(Box<str>, Box<str>), u32>,
    rhythms: RhythmCache,
    policies: Policies,
    timers: DueQueue,
    waits: Waits,
}

impl Fleet {
    pub fn len(&self) -> usize {
        self.index.len()
    }

    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Makes room for `count` schedules at once, so that growing leaves nothing behind.
    pub fn reserve(&mut self, count: usize) {
        self.entries.reserve_exact(count);
        self.names.reserve(count * 12);
        let (entries, names, hasher) = (&self.entries, &self.names, &self.hasher);
        self.index.reserve(count, |slot| hash_of_slot(entries, names, hasher, *slot));
    }

    pub fn get(&self, connector: Connector, tenant: &str) -> Option<Glance> {
        self.find(connector, tenant).and_then(|slot| self.glance(slot))
    }

    pub fn glance(&self, slot: Slot) -> Option<Glance> {
        let entry = self.entries.get(slot as usize).filter(|entry| entry.row != 0)?;
        Some(Glance {
            slot,
            row: entry.row,
            stamp: entry.stamp,
            content: entry.content,
            applied: entry.applied,
            paused: entry.paused,
            running: entry.running,
            interval_sec: match entry.cadence {
                Cadence::IntervalSec(sec) => Some(sec),
                Cadence::Cron(_) => None,
            },
            next_due: (entry.due != NEVER).then_some(entry.due),
            wake: self.waits.wake(slot),
            sync: entry.sync,
        })
    }

    /// The schedule's name, rebuilt from the arena.
    pub fn id(&self, slot: Slot) -> Option<ScheduleId> {
        let entry = self.entries.get(slot as usize).filter(|entry| entry.row != 0)?;
        let tenant = name(entry, &self.names).parse().ok()?;
        Some(ScheduleId::new(entry.connector, tenant))
    }

    /// Adds or renews a schedule and arms its timer.
    pub fn put(&mut self, connector: Connector, tenant: &str, member: &Member<'_>) -> Slot {
        let cadence = self.cadence(member);
        let policy = self.policies.index(member.policy);
        let slot = self.find(connector, tenant).unwrap_or_else(|| self.insert(connector, tenant));
        let due = member.next_due.unwrap_or(NEVER);
        if let Some(entry) = self.entries.get_mut(slot as usize) {
            let rearm = entry.due != due && due != NEVER;
            if entry.due != due {
                self.waits.end(slot);
            }
            entry.row = member.row;
            entry.stamp = member.stamp;
            entry.due = due;
            entry.cadence = cadence;
            entry.policy = policy;
            entry.content = fingerprint(member.content);
            entry.applied = member.applied;
            entry.paused = member.paused;
            entry.sync = Sync::Synced;
            if rearm {
                self.timers.push(due, slot);
            }
        }
        slot
    }

    pub fn remove(&mut self, connector: Connector, tenant: &str) {
        let hash = self.hasher.hash_one((connector, tenant));
        let (entries, names) = (&self.entries, &self.names);
        let same = |slot: &Slot| {
            entries.get(*slot as usize).is_some_and(|e| e.connector == connector && name(e, names) == tenant)
        };
        let Ok(found) = self.index.find_entry(hash, same) else { return };
        let (slot, _) = found.remove();
        if let Some(entry) = self.entries.get_mut(slot as usize) {
            entry.row = 0;
            entry.due = NEVER;
        }
        self.waits.forget(slot);
        self.free.push(slot);
    }

    pub fn set_sync(&mut self, slot: Slot, sync: Sync) {
        if let Some(entry) = self.entries.get_mut(slot as usize) {
            entry.sync = sync;
        }
    }

    /// Remembers the file's stat and digest as read, without a change of the schedule.
    pub fn set_stamp(&mut self, slot: Slot, stamp: u64) {
        if let Some(entry) = self.entries.get_mut(slot as usize) {
            entry.stamp = stamp;
        }
    }

    pub fn set_running(&mut self, slot: Slot, running: bool) {
        if let Some(entry) = self.entries.get_mut(slot as usize) {
            entry.running = running;
        }
    }

    /// Arms the timer anew; `None` disarms it.
    pub fn set_due(&mut self, slot: Slot, next_due: Option<Millis>) {
        let due = next_due.unwrap_or(NEVER);
        if let Some(entry) = self.entries.get_mut(slot as usize).filter(|entry| entry.due != due) {
            entry.due = due;
            self.waits.end(slot);
            if due != NEVER {
                self.timers.push(due, slot);
            }
        }
    }

    /// Moves the timer on from `from`, unless an edit has set it anew meanwhile.
    pub fn advance(&mut self, slot: Slot, from: Millis, to: Option<Millis>) {
        if self.entries.get(slot as usize).is_some_and(|entry| entry.due == from) {
            self.set_due(slot, to);
        }
    }

    /// Lifts a pause whose end has come, unless an edit has set it anew meanwhile.
    pub fn lift(&mut self, slot: Slot, from: Millis, to: Option<Millis>) {
        if let Some(entry) = self.entries.get_mut(slot as usize).filter(|entry| entry.due == from) {
            entry.paused = false;
        }
        self.advance(slot, from, to);
    }

    /// The earliest due time; may be one that a schedule has outlived, which costs one idle wake-up.
    pub fn next_due(&self) -> Option<Millis> {
        self.timers.next()
    }

    /// Takes up to `limit` schedules that are due at `now` out of the queue, each with its due time,
    /// at which it stays until `set_due` moves it on.
    pub fn take_due(&mut self, now: Millis, limit: usize) -> Vec<(Slot, Millis)> {
        let mut taken = Vec::new();
        while taken.len() < limit {
            let Some((at, slot)) = self.timers.pop_due(now) else { break };
            let Some(entry) = self.entries.get(slot as usize).filter(|entry| entry.row != 0) else { continue };
            let is_current = self.waits.wake(slot).unwrap_or(entry.due) == at;
            if is_current && taken.last() != Some(&(slot, entry.due)) {
                self.waits.end(slot);
                taken.push((slot, entry.due));
            }
        }
        taken
    }

    /// Has a schedule that was taken looked at again at `wake`; it stays due all the while.
    pub fn delay(&mut self, slot: Slot, wake: Millis) {
        if self.entries.get(slot as usize).is_some_and(|entry| entry.row != 0 && entry.due != NEVER) {
            self.waits.delay(slot, wake);
            self.timers.push(wake, slot);
        }
    }

    /// Has every schedule that waits looked at now.
    pub fn wake_all(&mut self) {
        for slot in self.waits.end_all() {
            self.put_back(slot);
        }
    }

    /// Remembers which windows the schedule's labels choose.
    pub fn choose(&mut self, slot: Slot, chosen: &[u16]) {
        self.waits.choose(slot, chosen);
    }

    /// The windows that the schedule's labels choose.
    pub fn chosen(&self, slot: Slot) -> Arc<[u16]> {
        self.waits.chosen(slot)
    }

    /// Forgets what labels choose: the windows are others now.
    pub fn unchoose(&mut self) {
        self.waits.unchoose();
    }

    /// Puts a schedule that was taken and not claimed back into the queue.
    pub fn put_back(&mut self, slot: Slot) {
        if let Some(entry) = self.entries.get(slot as usize).filter(|entry| entry.due != NEVER) {
            self.timers.push(entry.due, slot);
        }
    }

    /// Rebuilds the queue from the entries: repairs lost timers and drops outlived ones.
    pub fn rearm(&mut self) {
        let armed = self.entries.iter().zip(0..).filter(|(entry, _)| entry.row != 0 && entry.due != NEVER);
        let waits = &self.waits;
        self.timers.rebuild(armed.map(|(entry, slot)| (waits.wake(slot).unwrap_or(entry.due), slot)));
    }

    /// How many entries the timer queue holds, outlived ones included.
    pub fn queued(&self) -> usize {
        self.timers.len()
    }

    /// The schedule's rhythm, from what memory holds.
    pub fn rhythm(&mut self, slot: Slot) -> Option<Result<Rhythm, BadRhythm>> {
        let id = self.id(slot)?;
        let policy = self.policy(slot)?;
        let rhythm = match self.entries.get(slot as usize)?.cadence {
            Cadence::IntervalSec(sec) => Ok(Rhythm::interval(&id, sec)),
            Cadence::Cron(text) => {
                let (expression, zone) = self.crons.get(text as usize)?;
                self.rhythms.cron(expression, zone).cloned()
            }
        };
        Some(rhythm.map(|rhythm| rhythm.under(&id, &policy)))
    }

    /// The schedule's rules for its runs.
    pub fn policy(&self, slot: Slot) -> Option<Arc<RunPolicy>> {
        let entry = self.entries.get(slot as usize).filter(|entry| entry.row != 0)?;
        Some(self.policies.get(entry.policy))
    }

    /// Marks no schedule as seen; a listing then marks those it finds.
    pub fn unsee(&mut self) {
        for entry in &mut self.entries {
            entry.seen = false;
        }
    }

    pub fn see(&mut self, slot: Slot) {
        if let Some(entry) = self.entries.get_mut(slot as usize) {
            entry.seen = true;
        }
    }

    /// Schedules that no listing has found since `unsee`.
    pub fn unseen(&self) -> Vec<Slot> {
        let gone = |(entry, slot): (&Entry, Slot)| (entry.row != 0 && !entry.seen).then_some(slot);
        self.entries.iter().zip(0..).filter_map(gone).collect()
    }

    /// Every schedule's glance.
    pub fn iter(&self) -> impl Iterator<Item = Glance> + '_ {
        (0..u32::try_from(self.entries.len()).unwrap_or(u32::MAX)).filter_map(|slot| self.glance(slot))
    }

    fn cadence(&mut self, member: &Member<'_>) -> Cadence {
        match (member.interval_sec, member.cron) {
            (None, Some(cron)) => {
                let key: (Box<str>, Box<str>) = (cron.into(), member.timezone.unwrap_or("UTC").into());
                let next = u32::try_from(self.crons.len()).unwrap_or(u32::MAX);
                let index = *self.cron_index.entry(key.clone()).or_insert(next);
                if index == next {
                    self.crons.push(key);
                }
                Cadence::Cron(index)
            }
            (interval_sec, _) => Cadence::IntervalSec(interval_sec.unwrap_or(1)),
        }
    }

    fn find(&self, connector: Connector, tenant: &str) -> Option<Slot> {
        let hash = self.hasher.hash_one((connector, tenant));
        let same = |slot: &Slot| {
            self.entries.get(*slot as usize).is_some_and(|e| e.connector == connector && name(e, &self.names) == tenant)
        };
        self.index.find(hash, same).copied()
    }

    fn insert(&mut self, connector: Connector, tenant: &str) -> Slot {
        let name_at = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        self.names.push_str(tenant);
        let entry = Entry {
            row: 0,
            stamp: 0,
            due: NEVER,
            name_at,
            cadence: Cadence::IntervalSec(1),
            policy: 0,
            content: [0; 16],
            applied: [0; 16],
            name_len: u8::try_from(tenant.len()).unwrap_or(u8::MAX),
            connector,
            sync: Sync::Synced,
            paused: false,
            running: false,
            seen: true,
        };
        let slot = if let Some(slot) = self.free.pop() {
            if let Some(place) = self.entries.get_mut(slot as usize) {
                *place = entry;
            }
            slot
        } else {
            self.entries.push(entry);
            u32::try_from(self.entries.len() - 1).unwrap_or(u32::MAX)
        };
        let (entries, names, hasher) = (&self.entries, &self.names, &self.hasher);
        let hash = hasher.hash_one((connector, tenant));
        self.index.insert_unique(hash, slot, |slot| hash_of_slot(entries, names, hasher, *slot));
        slot
    }
}

fn name<'a>(entry: &Entry, names: &'a str) -> &'a str {
    let start = entry.name_at as usize;
    names.get(start..start + usize::from(entry.name_len)).unwrap_or("")
}

fn hash_of_slot(entries: &[Entry], names: &str, hasher: &RandomState, slot: Slot) -> u64 {
    entries.get(slot as usize).map_or(0, |entry| hasher.hash_one((entry.connector, name(entry, names))))
}

#[cfg(test)]
mod tests;
