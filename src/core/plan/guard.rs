//! The blast radius: how much may be deleted or paused before a person has to agree.

use std::fmt;

use super::{Action, Step};

/// Why a step waits instead of being taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HoldReason {
    /// The deletion has been seen in one scan only; the next one decides.
    Unconfirmed,
    /// Too large a part of the fleet would be deleted or paused within the window.
    BlastRadius,
    /// The directory holds no schedule at all.
    EmptyDirectory,
    /// A person has decided against it.
    Dismissed,
}

impl HoldReason {
    /// Whether it waits for a person, rather than for a second scan.
    pub fn needs_person(self) -> bool {
        self != HoldReason::Unconfirmed
    }

    /// As the store keeps it.
    pub fn code(self) -> &'static str {
        match self {
            HoldReason::Unconfirmed => "unconfirmed",
            HoldReason::BlastRadius => "blast-radius",
            HoldReason::EmptyDirectory => "empty-directory",
            HoldReason::Dismissed => "dismissed",
        }
    }

    pub fn of_code(code: &str) -> Option<HoldReason> {
        [HoldReason::Unconfirmed, HoldReason::BlastRadius, HoldReason::EmptyDirectory, HoldReason::Dismissed]
            .into_iter()
            .find(|reason| reason.code() == code)
    }
}

impl fmt::Display for HoldReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HoldReason::Unconfirmed => "waiting for a second scan to find the file gone too",
            HoldReason::BlastRadius => "too large a part of the fleet at once; confirm it by its digest",
            HoldReason::EmptyDirectory => "the desired directory holds no schedule at all; confirm it by its digest",
            HoldReason::Dismissed => "dismissed; it stays so until the files or the plan change",
        })
    }
}

/// How much may be deleted or paused without asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuardPolicy {
    /// Part of the fleet, in percent, that may go within the window.
    pub max_percent: u32,
    /// Fleets smaller than this are not judged by percent.
    pub min_fleet: usize,
}

impl Default for GuardPolicy {
    fn default() -> Self {
        GuardPolicy { max_percent: 30, min_fleet: 10 }
    }
}

/// What the guard judges by besides the steps.
#[derive(Clone, Copy, Debug, Default)]
pub struct Blast {
    /// Schedules that exist, before the plan.
    pub fleet: usize,
    /// Files found in the desired directory.
    pub files: usize,
    /// Schedules deleted or paused by files within the window already.
    pub recent: usize,
    /// A person has agreed to exactly these steps.
    pub confirmed: bool,
}

/// Marks the destructive steps that must wait for a person. Creates, edits, resumes and repairs
/// always go on.
pub fn guard(steps: &mut [Step], blast: Blast, policy: GuardPolicy) {
    if blast.confirmed {
        return;
    }
    let destructive = steps.iter().filter(|step| step.action.is_destructive()).count();
    let fleet = blast.fleet + blast.recent;
    let share = (destructive + blast.recent) * 100;
    let too_many = fleet >= policy.min_fleet && share > fleet * policy.max_percent as usize;
    for step in steps.iter_mut().filter(|step| step.action.is_destructive()) {
        if too_many {
            step.held = Some(HoldReason::BlastRadius);
        } else if step.action == Action::Delete && blast.files == 0 {
            step.held = Some(HoldReason::EmptyDirectory);
        }
    }
}
