//! How the loops are, and the disk.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The program's loops, as the watchdog last saw them.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct LoopsHealth {
    /// 1 well, 0 not.
    pub status: u8,
    pub loops: Vec<LoopHealth>,
    /// Why the program ought to be restarted and is not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub message: Option<String>,
}

impl LoopsHealth {
    /// What a server says of its loops that is too old to say anything.
    pub(super) fn unknown() -> LoopsHealth {
        LoopsHealth { status: 1, loops: Vec::new(), message: None }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LoopState {
    Running,
    /// It goes on, and something that it does fails.
    Degraded,
    /// It has not come round for longer than it announced.
    Stalled,
    /// It has ended, and is started again soon.
    Failed,
}

/// One loop.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct LoopHealth {
    pub name: String,
    pub state: LoopState,
    /// What it does or waits for.
    pub doing: String,
    /// When it last came round.
    pub last_progress_iso: String,
    /// How long that was ago when the watchdog last looked, the machine's sleep left out.
    pub last_progress_sec: f64,
    /// How often it was started anew since the program started.
    pub restarts: u64,
    /// What fails, or what ended it last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_error: Option<String>,
}

impl LoopHealth {
    pub fn is_well(&self) -> bool {
        self.state == LoopState::Running
    }

    /// Its trouble in one line.
    pub fn tell(&self) -> String {
        let LoopHealth { name, doing, .. } = self;
        let because = self.last_error.as_deref().map(|error| format!(": {error}")).unwrap_or_default();
        match self.state {
            LoopState::Running => format!("the {name} runs"),
            LoopState::Degraded => format!("the {name} has trouble{because}"),
            LoopState::Stalled => {
                format!("the {name} has not come round for {:.0} s ({doing}){because}", self.last_progress_sec)
            }
            LoopState::Failed => format!("the {name} has ended and is started again{because}"),
        }
    }
}

/// The disk that the store lies on.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct DiskHealth {
    /// It is full: only what must be written is.
    pub short: bool,
    /// What was set aside for that is used up too: nothing is written, and due runs wait.
    #[serde(default)]
    pub spent: bool,
    /// Free for this program; null where the system does not tell.
    pub free_bytes: Option<u64>,
    /// Set aside, so that runs go on for a while when the disk is full.
    pub reserve_bytes: u64,
}
