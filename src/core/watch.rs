//! What to do about a loop that stands still or has ended: decided from what it says of itself and
//! from how much time this program has really had.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::core::model::Millis;

/// What the program is without a loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing: if it stands still, only a restart of the program helps.
    Vital,
    /// Not worth much: it is started anew, and the program if that does not help.
    Needed,
    /// As good as before but for one thing; it never takes the program down.
    Optional,
}

/// What a loop says of itself.
#[derive(Clone, Copy, Debug)]
pub struct Said {
    pub need: Need,
    /// How often it has come round.
    pub beats: u64,
    /// How long it announced to be away this time.
    pub away: Duration,
    pub has_ended: bool,
}

#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// How much longer than announced a loop may be away.
    pub stall: Duration,
    /// Whether a loop that stands still may be started anew.
    pub recovers: bool,
}

/// What is the matter with a loop, and what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Well,
    /// It stands still, and is left alone.
    Stalled,
    /// It stands still; start another.
    Replace,
    /// It has ended; that long until another is started.
    Resting(Duration),
    /// It has ended; start another.
    Again,
}

/// A verdict with what goes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    pub verdict: Verdict,
    /// How long it has not come round.
    pub stood: Duration,
    /// How often it was started anew so far.
    pub restarts: u64,
    /// Starting it anew does not help, or cannot.
    pub is_hopeless: bool,
}

/// This many starts within the window show that one more is no help.
const STARTS: usize = 3;
const WINDOW: Duration = Duration::from_secs(600);

/// The first pause before a loop that ended is started again; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A loop that went on for this long has its earlier ends forgiven.
const WENT_WELL: Duration = Duration::from_secs(300);

/// Time as this program had it: neither a suspended machine nor a stopped process nor a clock that was
/// set can make it look as if a loop had stood still.
#[derive(Clone, Copy, Debug, Default)]
pub struct Had {
    last: Option<(Duration, Millis)>,
    total: Duration,
}

impl Had {
    /// Goes on to a moment, by the clock that only goes forward and the one on the wall. Where nobody
    /// looked for longer than `longest`, all stood still together, and only that much counts. Returns how
    /// long the program slept or by how much the clock was set forward, if it was.
    pub fn pass(&mut self, steady: Duration, wall: Millis, longest: Duration) -> Option<Duration> {
        let (before, wall_before) = self.last.replace((steady, wall)).unwrap_or((steady, wall));
        let passed = steady.saturating_sub(before);
        let counted = passed.min(longest);
        self.total += counted;
        let on_the_wall = Duration::from_millis(u64::try_from(wall - wall_before).unwrap_or(0));
        let slept = passed.max(on_the_wall).saturating_sub(counted);
        (slept > longest).then_some(slept)
    }

    pub fn total(&self) -> Duration {
        self.total
    }
}

/// What is known of each loop from one look to the next.
#[derive(Default)]
pub struct Watch {
    loops: HashMap<&'static str, Known>,
}

struct Known {
    beats: u64,
    /// When it last came round, and when it was last started.
    progress: Duration,
    started: Duration,
    /// When it was started anew, as far as that still matters.
    starts: VecDeque<Duration>,
    restarts: u64,
    /// How often it ended in a row, and when it may be started again.
    ends: u32,
    again: Option<Duration>,
}

impl Watch {
    /// Judges one loop. `now` is the time that the program has had so far; a verdict to start another is
    /// taken as followed.
    pub fn look(&mut self, name: &'static str, said: Said, rules: Rules, now: Duration) -> Finding {
        let known = self.loops.entry(name).or_insert_with(|| Known {
            beats: said.beats,
            progress: now,
            started: now,
            starts: VecDeque::new(),
            restarts: 0,
            ends: 0,
            again: None,
        });
        if known.beats != said.beats {
            known.beats = said.beats;
            known.progress = now;
        }
        while known.starts.front().is_some_and(|start| *start + WINDOW <= now) {
            known.starts.pop_front();
        }
        let stood = now.saturating_sub(known.progress);
        let is_worn_out = known.starts.len() >= STARTS;
        let verdict = if said.has_ended {
            known.ended(now)
        } else if stood <= said.away.saturating_add(rules.stall) {
            Verdict::Well
        } else if rules.recovers && said.need != Need::Vital && !is_worn_out {
            Verdict::Replace
        } else {
            Verdict::Stalled
        };
        if matches!(verdict, Verdict::Replace | Verdict::Again) {
            known.start(now);
        }
        let is_hopeless = rules.recovers
            && match said.need {
                Need::Vital => verdict != Verdict::Well,
                Need::Needed => is_worn_out && verdict != Verdict::Well,
                Need::Optional => false,
            };
        Finding { verdict, stood, restarts: known.restarts, is_hopeless }
    }
}

impl Known {
    fn ended(&mut self, now: Duration) -> Verdict {
        let again = match self.again {
            Some(again) => again,
            None => {
                if now.saturating_sub(self.started) >= WENT_WELL {
                    self.ends = 0;
                }
                let pause = FIRST_PAUSE.saturating_mul(2u32.saturating_pow(self.ends)).min(LONGEST_PAUSE);
                self.ends = self.ends.saturating_add(1);
                *self.again.insert(now + pause)
            }
        };
        if again <= now { Verdict::Again } else { Verdict::Resting(again - now) }
    }

    fn start(&mut self, now: Duration) {
        self.starts.push_back(now);
        self.restarts += 1;
        self.again = None;
        self.started = now;
        self.progress = now;
    }
}

/// Earlier restarts of the whole program that it made to help itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recoveries {
    pub count: u32,
    pub last: Millis,
}

/// The least time between two, which doubles with each, and the time after which all is forgotten.
const APART_MS: Millis = 600_000;
const FORGOTTEN_MS: Millis = 24 * 3_600_000;

impl Recoveries {
    /// Whether one more may be made now: what is then to be remembered, or how long to wait.
    pub fn one_more(self, now: Millis) -> Result<Recoveries, Duration> {
        let passed = now - self.last;
        let first = Recoveries { count: 1, last: now };
        if self.count == 0 || passed >= FORGOTTEN_MS {
            return Ok(first);
        }
        let apart = APART_MS.saturating_mul(1 << (self.count - 1).min(7)).min(FORGOTTEN_MS);
        // A clock that was set back says nothing of how long ago it was.
        if passed < 0 || passed >= apart {
            return Ok(Recoveries { count: self.count.saturating_add(1), last: now });
        }
        Err(Duration::from_millis(u64::try_from(apart - passed).unwrap_or(0)))
    }

    /// As a successor is told of it.
    pub fn to_text(self) -> String {
        format!("{}:{}", self.count, self.last)
    }

    pub fn parse(text: &str) -> Recoveries {
        let read =
            |(count, last): (&str, &str)| Some(Recoveries { count: count.parse().ok()?, last: last.parse().ok()? });
        text.split_once(':').and_then(read).unwrap_or_default()
    }
}

/// The longest text of a failure that is shown.
const SHOWN: usize = 240;

/// A failure's text for everybody's eyes: its first line, without what stands in quotes, since that is
/// somebody's data.
pub fn shown(text: &str) -> String {
    let line = crate::core::mask::masked(text.lines().next().unwrap_or_default());
    let mut out = String::new();
    for (n, part) in line.split('"').enumerate() {
        out.push_str(if n % 2 == 0 { part } else { "\"…\"" });
    }
    if out.chars().count() > SHOWN {
        out = out.chars().take(SHOWN).chain(['…']).collect();
    }
    out
}
