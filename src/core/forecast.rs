//! Which minute brings how many fires: the load that schedules and windows will make, without
//! walking through every slot. Intervals are counted by arithmetic, equal cron expressions once.

mod fires;
mod load;
mod warn;

use std::collections::{BTreeMap, HashMap};

pub use fires::{Fire, fires};
pub use load::{Hour, JUMP_FIRES, Jump, Load, jumps};
pub use warn::warnings;

use crate::core::model::{Connector, Millis, ScheduleId, ScheduleSpec};
use crate::core::policy::{CatchUp, RunPolicy};
use crate::core::timing::{ON_TIME_MS, Rhythm, RhythmCache, jitter_ms};
use crate::core::windows::{Chosen, Windows};

const MINUTE: Millis = 60_000;

/// The longest that is looked ahead: a week.
pub const MAX_MINUTES: usize = 7 * 24 * 60;

/// The largest jitter, in milliseconds and a minute for its rounding.
const MAX_SHIFT: Millis = 86_460_000;

/// Slots of distinct cron expressions that one forecast looks at; what is beyond is left out, and said.
const MAX_SLOTS: usize = 2_000_000;

/// Gathers schedules and works out their load from one moment on.
pub struct Forecast {
    from: Millis,
    minutes: usize,
    windows: Windows,
    lanes: Vec<Lane>,
    /// Which lane a schedule belongs to, by connector and the windows its labels choose.
    lane_of: HashMap<(Connector, Chosen), usize>,
    /// Cron schedules that fire alike, counted.
    alike: BTreeMap<(String, String), HashMap<Alike, u32>>,
    schedules: u64,
}

/// Whether both fire at the same times: they may differ in what they import, what a pause is for, and, where
/// no windows could choose by them, in their labels.
pub fn fire_alike(one: &ScheduleSpec, other: &ScheduleSpec, has_windows: bool) -> bool {
    let cadence = |spec: &ScheduleSpec| (spec.interval_sec, spec.paused, spec.pause_end());
    cadence(one) == cadence(other)
        && (&one.cron, &one.timezone) == (&other.cron, &other.timezone)
        && RunPolicy::of(one) == RunPolicy::of(other)
        && (!has_windows || one.labels == other.labels)
}

/// Schedules that the same windows keep back.
struct Lane {
    /// In order and apart from each other.
    stretches: Vec<(Millis, Millis)>,
    /// Fires by minute, as if no window stood.
    base: Vec<u32>,
    /// What starts when a window ends.
    bursts: Vec<u32>,
    /// Intervals by the number of minutes after which their pattern comes again.
    cycles: HashMap<usize, Vec<u32>>,
}

/// What distinguishes schedules of one cron expression.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Alike {
    shift_minutes: Millis,
    /// Its slots begin with the minute.
    is_even: bool,
    lane: usize,
    span: (Millis, Millis),
    after_windows: AfterWindows,
}

/// What a schedule's rules start at the end of a window of the slots that lay in it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct AfterWindows {
    /// Older slots are not made up for.
    reach_ms: Millis,
    most: u32,
    /// A slot at the very end of the window stands for them too.
    folds: bool,
}

impl AfterWindows {
    fn of(policy: &RunPolicy) -> Self {
        let sec = |sec: Option<u32>| sec.map_or(Millis::MAX, |sec| Millis::from(sec) * 1000);
        let reach_ms = match policy.catch_up {
            CatchUp::None => ON_TIME_MS,
            CatchUp::Latest | CatchUp::All => sec(policy.catch_up_window_sec).max(ON_TIME_MS),
        };
        let most = if policy.catch_up == CatchUp::All { policy.catch_up_max } else { 1 };
        let folds = policy.catch_up != CatchUp::All;
        AfterWindows { reach_ms: reach_ms.min(sec(policy.start_deadline_sec)), most, folds }
    }
}

impl Forecast {
    /// For `minutes` full minutes, the first of which is the one that `now` lies in.
    pub fn new(windows: Windows, now: Millis, minutes: usize) -> Self {
        let minutes = minutes.min(MAX_MINUTES);
        Forecast {
            from: now - now.rem_euclid(MINUTE),
            minutes,
            windows,
            lanes: vec![Lane::new(Vec::new(), minutes)],
            lane_of: HashMap::new(),
            alike: BTreeMap::new(),
            schedules: 0,
        }
    }

    fn until(&self) -> Millis {
        self.from + Millis::try_from(self.minutes).unwrap_or(0) * MINUTE
    }

    /// Adds one schedule; one that is paused all the while adds nothing.
    pub fn add(&mut self, id: &ScheduleId, spec: &ScheduleSpec) {
        let policy = RunPolicy::of(spec);
        let resumes = if spec.is_paused_at(self.from) { spec.pause_end().unwrap_or(Millis::MAX) } else { Millis::MIN };
        let begin = self.from.max(resumes).max(policy.start_at.unwrap_or(Millis::MIN));
        let end = self.until().min(policy.end_at.map_or(Millis::MAX, |end| end.saturating_add(1)));
        if begin >= end {
            return;
        }
        self.schedules += 1;
        let lane = self.lane(id.connector, spec);
        match (spec.interval_sec, &spec.cron) {
            (Some(sec), _) => {
                let rhythm = Rhythm::interval(id, sec).jittered(id, policy.jitter_sec);
                let (from, until) = (self.from, self.until());
                if let Some(lane) = self.lanes.get_mut(lane) {
                    lane.add_interval(&rhythm, Millis::from(sec.max(1)), from, (begin, end), until);
                    let bounded = rhythm.bounded(Some(begin), Some(end - 1));
                    lane.add_bursts(&bounded, 0, AfterWindows::of(&policy), from, 1);
                }
            }
            (None, Some(expression)) => {
                let zone = spec.timezone.clone().unwrap_or_else(|| "UTC".to_owned());
                let shift_ms = jitter_ms(id, policy.jitter_sec);
                let alike = Alike {
                    shift_minutes: shift_ms / MINUTE,
                    is_even: shift_ms % MINUTE == 0,
                    lane,
                    span: (begin, end),
                    after_windows: AfterWindows::of(&policy),
                };
                *self.alike.entry((expression.clone(), zone)).or_default().entry(alike).or_default() += 1;
            }
            (None, None) => {}
        }
    }

    fn lane(&mut self, connector: Connector, spec: &ScheduleSpec) -> usize {
        if self.windows.is_empty() {
            return 0;
        }
        let chosen = self.windows.chosen(connector, &spec.labels);
        let key = (connector, chosen);
        if let Some(lane) = self.lane_of.get(&key) {
            return *lane;
        }
        let stretches = self.windows.stretches(self.from, self.until(), connector, &key.1);
        let lane = if stretches.is_empty() {
            0
        } else {
            self.lanes.push(Lane::new(merged(stretches), self.minutes));
            self.lanes.len() - 1
        };
        self.lane_of.insert(key, lane);
        lane
    }

    /// What it all comes to.
    pub fn finish(mut self) -> Load {
        let (from, until) = (self.from, self.until());
        let mut rhythms = RhythmCache::default();
        let mut slots_left = MAX_SLOTS;
        let mut complete = true;
        for ((expression, zone), alike) in std::mem::take(&mut self.alike) {
            let Ok(rhythm) = rhythms.cron(&expression, &zone) else { continue };
            let shifted = alike.keys().any(|alike| alike.shift_minutes > 0);
            let first = if shifted { from - MAX_SHIFT } else { from };
            let slots = std::iter::successors(rhythm.next_after(first - 1), |slot| rhythm.next_after(*slot));
            let slots: Vec<Millis> = slots.take_while(|slot| *slot < until).take(slots_left + 1).collect();
            if slots.len() > slots_left {
                complete = false;
                break;
            }
            slots_left -= slots.len();
            for (alike, count) in alike {
                if let Some(lane) = self.lanes.get_mut(alike.lane) {
                    lane.add_cron(rhythm, &slots, alike, from, count);
                }
            }
        }
        let mut load = Load::empty(from, self.minutes);
        (load.schedules, load.complete) = (self.schedules, complete);
        for lane in self.lanes {
            lane.finish(from, &mut load.per_minute);
        }
        load
    }
}

impl Lane {
    fn new(stretches: Vec<(Millis, Millis)>, minutes: usize) -> Self {
        Lane { stretches, base: vec![0; minutes], bursts: vec![0; minutes], cycles: HashMap::new() }
    }

    /// `span` is when it may fire; `from` and `until` bound what is looked at.
    fn add_interval(&mut self, rhythm: &Rhythm, sec: Millis, from: Millis, span: (Millis, Millis), until: Millis) {
        let period_ms = sec * 1000;
        let Some(first) = rhythm.next_after(span.0 - 1).filter(|first| *first < span.1) else { return };
        let gcd = gcd(sec, 60);
        let cycle = usize::try_from(sec / gcd).unwrap_or(usize::MAX);
        if span == (from, until) && cycle <= self.base.len() {
            // The pattern of minutes comes again after so many: one round of it stands for all.
            let round = self.cycles.entry(cycle).or_insert_with(|| vec![0; cycle]);
            for n in 0..60 / gcd {
                if let Some(minute) = round.get_mut(minute_of(first + n * period_ms, from)) {
                    *minute = minute.saturating_add(1);
                }
            }
        } else if period_ms >= MINUTE {
            let mut slot = first;
            while slot < span.1 {
                count_at(&mut self.base, slot, from, 1);
                slot += period_ms;
            }
        } else {
            let mut minute = first - first.rem_euclid(MINUTE);
            let before = |at: Millis| (at - 1 - first).div_euclid(period_ms) + 1;
            while minute < span.1 {
                let fires = before(span.1.min(minute + MINUTE)) - before(first.max(minute));
                count_at(&mut self.base, minute, from, u32::try_from(fires).unwrap_or(0));
                minute += MINUTE;
            }
        }
    }

    fn add_cron(&mut self, rhythm: &Rhythm, slots: &[Millis], alike: Alike, from: Millis, count: u32) {
        let shift = alike.shift_minutes * MINUTE;
        for slot in slots.iter().map(|slot| slot + shift).filter(|slot| (alike.span.0..alike.span.1).contains(slot)) {
            count_at(&mut self.base, slot, from, count);
        }
        let moved = rhythm.clone().bounded(Some(alike.span.0 - shift), Some(alike.span.1 - 1 - shift));
        let folds = alike.after_windows.folds && alike.is_even;
        self.add_bursts(&moved, shift, AfterWindows { folds, ..alike.after_windows }, from, count);
    }

    /// What a window kept back starts at its end, by the rules; every slot comes later by `shift`.
    fn add_bursts(&mut self, rhythm: &Rhythm, shift: Millis, rules: AfterWindows, from: Millis, count: u32) {
        for (begin, end) in &self.stretches {
            if rules.folds && rhythm.next_after(end - shift - 1) == Some(end - shift) {
                continue;
            }
            let first = end.saturating_sub(rules.reach_ms).max(*begin);
            let slots = std::iter::successors(rhythm.next_after(first - shift - 1), |slot| rhythm.next_after(*slot));
            let kept = slots.take_while(|slot| slot + shift < *end).take(rules.most as usize).count();
            count_at(&mut self.bursts, *end, from, count.saturating_mul(u32::try_from(kept).unwrap_or(0)));
        }
    }

    fn finish(mut self, from: Millis, sum: &mut [u32]) {
        for (cycle, round) in &self.cycles {
            for (minute, fires) in self.base.iter_mut().zip(round.iter().cycle().take(*cycle * self.bursts.len())) {
                *minute = minute.saturating_add(*fires);
            }
        }
        for (begin, end) in &self.stretches {
            // To the minute: one belongs to a window that it begins in.
            let first = minute_of(begin + MINUTE - 1, from);
            let last = minute_of(end + MINUTE - 1, from).min(self.base.len());
            if let Some(kept) = self.base.get_mut(first.min(last)..last) {
                kept.fill(0);
            }
        }
        for ((sum, base), burst) in sum.iter_mut().zip(self.base).zip(self.bursts) {
            *sum = sum.saturating_add(base).saturating_add(burst);
        }
    }
}

/// The minute's number; what lies before `from` counts as the first.
fn minute_of(at: Millis, from: Millis) -> usize {
    usize::try_from((at - from).div_euclid(MINUTE)).unwrap_or(0)
}

fn count_at(minutes: &mut [u32], at: Millis, from: Millis, count: u32) {
    if at >= from
        && let Some(minute) = minutes.get_mut(minute_of(at, from))
    {
        *minute = minute.saturating_add(count);
    }
}

/// Overlapping and touching stretches joined.
fn merged(stretches: Vec<(Millis, Millis)>) -> Vec<(Millis, Millis)> {
    let mut apart: Vec<(Millis, Millis)> = Vec::new();
    for (begin, end) in stretches {
        match apart.last_mut() {
            Some(last) if begin <= last.1 => last.1 = last.1.max(end),
            _ => apart.push((begin, end)),
        }
    }
    apart
}

fn gcd(a: Millis, b: Millis) -> Millis {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests;
