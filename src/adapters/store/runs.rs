//! What the store keeps of runs: slots claimed, attempts, ends.

use super::{Draft, ImportStats, Millis, ScheduleId};
use crate::core::missed::Missed;
use crate::core::policy::Overlap;
use crate::core::row::Fingerprint;
use crate::core::run::{ErrorClass, RunState, Trigger};
use crate::core::volume::ShortImport;

/// A timer's move from one due time to the next. It takes place only while the timer still stands
/// at `from`, and the schedule is as whoever moves it knows it: by other rules it would move elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advance {
    pub row: i64,
    pub from: Millis,
    pub to: Option<Millis>,
    /// What is known to be applied; with `None`, whatever is.
    pub applied: Option<Fingerprint>,
    /// Slots that pass with this move and get no run.
    pub missed: Missed,
}

/// Who asked for a run, and in which action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub by: String,
    pub action_id: String,
}

/// A slot to be taken before its run starts.
#[derive(Clone, Debug)]
pub struct Claim {
    pub id: ScheduleId,
    pub nominal: Millis,
    pub trigger: Trigger,
    /// What it does about a run of the schedule that is not done; `None` lines up behind any.
    pub overlap: Option<Overlap>,
    /// `None` where the schedule's own rhythm did.
    pub asked: Option<Asked>,
    /// Attempts that were made under other runs: of one that repeats an interrupted run.
    pub attempts: u32,
    /// How the timer moves with the claim, whatever comes of it; `None` leaves it. Of several slots of a
    /// schedule in a row the first moves it, and the others are outrun where that is.
    pub advance: Option<Advance>,
    /// Entries to write with the claim, such as who asked for it.
    pub audit: Vec<Draft>,
}

impl Claim {
    /// Whether its run is lined up though nothing is in its way. One that must not be repeated blindly is said
    /// to run only once it does: a crash while it waits for room then costs nothing.
    pub fn begins_later(&self) -> bool {
        !self.id.connector.imports_idempotently()
    }

    /// Whether a slot whose run was forgotten is refused: what the rhythm took once it does not take
    /// again, a person may.
    pub fn is_of_rhythm(&self) -> bool {
        matches!(self.trigger, Trigger::Schedule | Trigger::CatchUp)
    }
}

/// What came of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Granted {
    Run(Claimed),
    /// Another run of the schedule is not done, and its rule lets the slot pass; it counts as missed.
    Overlap,
    /// The slot had been taken before.
    Taken,
    /// The schedule is not what the claim's move knows it to be; nothing was done.
    Outrun,
}

impl Granted {
    pub fn run(self) -> Option<Claimed> {
        match self {
            Granted::Run(claimed) => Some(claimed),
            Granted::Overlap | Granted::Taken | Granted::Outrun => None,
        }
    }
}

/// A claim that was granted: the run's id and its audit entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    pub run: i64,
    /// Waits for another run of its schedule.
    pub is_queued: bool,
    pub seqs: Vec<i64>,
}

/// A run between two attempts.
#[derive(Clone, Debug)]
pub struct Parked {
    pub run: i64,
    /// Attempts made so far.
    pub attempts: u32,
    /// When the next one is due.
    pub retry_at: Millis,
    /// How the last one failed.
    pub message: String,
    pub error_class: &'static str,
    pub log: Option<String>,
}

/// A run's end.
#[derive(Clone, Debug)]
pub struct Completion {
    pub run: i64,
    /// When the import began: later than the claim where it had to wait for another.
    pub started: Millis,
    pub row: i64,
    pub ended: Millis,
    /// Done, interrupted or cancelled.
    pub state: RunState,
    pub ok: bool,
    pub message: String,
    pub error_class: Option<&'static str>,
    pub stats: ImportStats,
    pub attempts: u32,
    /// What the attempts had to say, bounded.
    pub log: Option<String>,
    /// `None` where it was no complete reading of its source.
    pub volume: Option<Box<VolumeNote>>,
}

/// What a run's volume is beside those before it.
#[derive(Clone, Debug)]
pub struct VolumeNote {
    /// The volumes to remember, as `core::volume` writes them.
    pub recent: String,
    /// Set when it fell short, with the entry that tells of it.
    pub short: Option<(ShortImport, Draft)>,
}

impl Completion {
    /// The counts as they are kept: with what the run lacks, if it fell short.
    pub fn stats_text(&self) -> String {
        let short = self.volume.as_ref().and_then(|volume| volume.short.as_ref());
        let Some((short, _)) = short else { return serde_json::to_string(&self.stats).unwrap_or_default() };
        let mut kept = serde_json::to_value(self.stats).unwrap_or_default();
        kept[SHORT] = serde_json::to_value(short).unwrap_or_default();
        kept.to_string()
    }
}

const SHORT: &str = "short_import";

/// Reads what `stats_text` wrote.
pub(super) fn read_stats(text: &str) -> (Option<ImportStats>, Option<ShortImport>) {
    let stats = serde_json::from_str(text).ok();
    if !text.contains(SHORT) {
        return (stats, None);
    }
    let kept: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    (stats, kept.get(SHORT).and_then(|short| serde_json::from_value(short.clone()).ok()))
}

impl Completion {
    /// Whether its slot passed because it could not start in time.
    pub(super) fn is_deadline_missed(&self) -> bool {
        self.error_class == Some(ErrorClass::Deadline.as_str())
    }
}

/// A run without an end: one that waits, or one that a crash cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenRun {
    pub run: i64,
    pub id: ScheduleId,
    pub nominal: Millis,
    pub trigger: Trigger,
    pub state: RunState,
    pub started: Millis,
    pub attempts: u32,
    pub retry_at: Option<Millis>,
    pub log: Option<String>,
    /// What the pages brought that it has stored so far.
    pub stats: ImportStats,
}
