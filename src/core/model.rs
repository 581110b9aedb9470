//! The nouns: schedules and their names, what a run counted, who asked.
//! Plain values; every other room speaks in these.

mod connection;
mod exec;
mod resource;
mod rest;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::policy::{CatchUp, Overlap};
use super::volume::ShortImport;
pub use connection::{Connection, EnvSecret, FileSecret, SecretRef};
pub use exec::{EnvValue, IDLE_TIMEOUT_SEC, MAX_LINE_KB, MAX_OUTPUT_MB, Protocol, filled, places};
pub use resource::{BadResource, Resource};
pub use rest::{
    BasicAuth, CursorPaging, HeaderAuth, HttpAuth, HttpBookmark, HttpMethod, HttpPaging, HttpRequest, OauthAuth,
    OffsetPaging, PagePaging, QueryAuth,
};

/// Milliseconds since the Unix epoch, UTC. Signed, so that differences are plain arithmetic.
pub type Millis = i64;

/// The kinds of source an import can pull from. Each is a folder below `desired/schedules/`
/// and a segment of the outer API's paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Connector {
    /// AccuLynx, a roofing CRM, over its API V2.
    Acculynx,
    /// A program on the server's machine: a Singer tap, or anything that counts what it did.
    Exec,
    /// Any JSON API, as the schedule's file describes it.
    Http,
    /// Does nothing and succeeds: for rehearsals and benchmarks.
    Noop,
}

impl Connector {
    pub const ALL: [Connector; 4] = [Connector::Acculynx, Connector::Exec, Connector::Http, Connector::Noop];

    pub fn as_str(self) -> &'static str {
        match self {
            Connector::Acculynx => "acculynx",
            Connector::Exec => "exec",
            Connector::Http => "http",
            Connector::Noop => "noop",
        }
    }

    /// The resources there are, in the order in which they are imported; `None` where a schedule's file names
    /// its own.
    pub fn resources(self) -> Option<&'static [Resource]> {
        static ACCULYNX: [Resource; 5] =
            [Resource::JOBS, Resource::CONTACTS, Resource::ESTIMATES, Resource::USERS, Resource::MILESTONE_HISTORY];
        match self {
            Connector::Acculynx => Some(&ACCULYNX),
            // A program decides what it brings.
            Connector::Exec | Connector::Noop => Some(&[]),
            Connector::Http => None,
        }
    }

    /// The name under which a connector's one bookmark stands that speaks of all its resources.
    pub fn shared_bookmark(self) -> Option<Resource> {
        (self == Connector::Exec).then_some(Resource::SINGER_STATE)
    }

    /// Whether an import may be run again at once though nobody knows how far it came. Nothing is known
    /// of what a program does besides.
    pub fn imports_idempotently(self) -> bool {
        self != Connector::Exec
    }

    /// The resources a schedule imports when its file names none.
    pub fn default_resources(self) -> &'static [Resource] {
        static ACCULYNX: [Resource; 2] = [Resource::JOBS, Resource::CONTACTS];
        match self {
            Connector::Acculynx => &ACCULYNX,
            Connector::Exec | Connector::Http | Connector::Noop => &[],
        }
    }
}

impl fmt::Display for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Connector {
    type Err = UnknownConnector;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|c| c.as_str() == text).ok_or_else(|| UnknownConnector(text.to_owned()))
    }
}

/// A connector's name that this program does not know; the message lists those it does.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown connector \"{0}\"; there are: acculynx, exec, http, noop")]
pub struct UnknownConnector(pub String);

/// A tenant's name, checked: 1–64 of `a-z 0-9 . _ -`, starting with a letter or digit,
/// and no name that Windows reserves, since it becomes a file name there too.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct Tenant(Box<str>);

impl Tenant {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is not a tenant's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTenant {
    #[error("a tenant's name is 1 to 64 characters long; this one has {0}")]
    Length(usize),
    #[error("a tenant's name is made of a-z, 0-9, '.', '_' and '-'; '{0}' is not allowed")]
    Character(char),
    #[error("a tenant's name starts with a letter or a digit, not with '{0}'")]
    Start(char),
    #[error("\"{0}\" is a name that Windows reserves; choose another")]
    Reserved(String),
    #[error("a tenant's name cannot end in '.'")]
    TrailingDot,
}

/// Device names that Windows keeps for itself, with any extension.
const WINDOWS_RESERVED: [&str; 22] = [
    "con", "prn", "aux", "nul", "com1", "com2", "com3", "com4", "com5", "com6", "com7", "com8", "com9", "lpt1", "lpt2",
    "lpt3", "lpt4", "lpt5", "lpt6", "lpt7", "lpt8", "lpt9",
];

impl FromStr for Tenant {
    type Err = BadTenant;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let length = text.chars().count();
        if !(1..=64).contains(&length) {
            return Err(BadTenant::Length(length));
        }
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-');
        if let Some(bad) = text.chars().find(|&c| !allowed(c)) {
            return Err(BadTenant::Character(bad));
        }
        if let Some(first) = text.chars().next().filter(|c| !c.is_ascii_alphanumeric()) {
            return Err(BadTenant::Start(first));
        }
        if text.ends_with('.') {
            return Err(BadTenant::TrailingDot);
        }
        let stem = text.split('.').next().unwrap_or(text);
        if WINDOWS_RESERVED.contains(&stem) {
            return Err(BadTenant::Reserved(text.to_owned()));
        }
        Ok(Tenant(text.into()))
    }
}

/// A schedule's identity: connector and tenant, which are its file's path and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ScheduleId {
    pub connector: Connector,
    pub tenant: Tenant,
}

impl ScheduleId {
    pub fn new(connector: Connector, tenant: Tenant) -> Self {
        ScheduleId { connector, tenant }
    }

    /// The schedule's file relative to the desired directory, with forward slashes on every platform.
    pub fn file(&self) -> String {
        format!("schedules/{}/{}.yaml", self.connector, self.tenant)
    }
}

impl fmt::Display for ScheduleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.connector, self.tenant)
    }
}

impl FromStr for ScheduleId {
    type Err = String;

    /// Reads `connector/tenant`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (connector, tenant) =
            text.split_once('/').ok_or_else(|| format!("\"{text}\" is not of the form connector/tenant"))?;
        Ok(ScheduleId {
            connector: connector.parse().map_err(|e: UnknownConnector| e.to_string())?,
            tenant: tenant.parse().map_err(|e: BadTenant| e.to_string())?,
        })
    }
}

/// One tenant's schedule, as its YAML file and an API body have it.
///
/// A value that came out of `core::desired` is *effective*: defaults filled in, aliases
/// normalised, exactly one of `interval_sec` and `cron` present. Two effective values are equal
/// exactly when they mean the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Command Center schedule")]
pub struct ScheduleSpec {
    /// Seconds between two runs, 1 to 31622400 (366 days). Either this or `cron`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 31_622_400), example = 300, example = 900, example = 3600)]
    pub interval_sec: Option<u32>,
    /// A cron expression of five fields (minute, hour, day of month, month, day of week). Either this or `interval_sec`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = "*/15 7-18 * * 1-5", example = "0 6 * * *", example = "30 2 1 * *")]
    pub cron: Option<String>,
    /// The IANA time zone in which `cron` is read; UTC when left out. Only with `cron`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        example = "America/Denver",
        example = "America/New_York",
        example = "America/Chicago",
        example = "America/Los_Angeles",
        example = "Europe/Berlin",
        example = &"UTC"
    )]
    pub timezone: Option<String>,
    /// With `true`, no scheduled run starts; run-now still works.
    #[serde(default, skip_serializing_if = "is_false")]
    pub paused: bool,
    /// Why it is paused, for the people who find it so. Only with `paused: true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 500), example = "The API key is being replaced")]
    pub pause_reason: Option<String>,
    /// When the pause lifts by itself: a time with its offset (RFC 3339), or in the schedule's `timezone`. The file
    /// stays as it is. Only with `paused: true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), example = "2026-12-01T08:00:00Z")]
    pub pause_until: Option<String>,
    /// No run before this moment: a time with its offset (RFC 3339), or in the schedule's `timezone`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), example = "2026-12-01T08:00:00Z")]
    pub start_at: Option<String>,
    /// No run after this moment, written like `start_at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), example = "2027-06-30T23:59:59Z")]
    pub end_at: Option<String>,
    /// Spreads equal times: each run comes later by a number of seconds between 0 and this that is always the same
    /// for one schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 86_400), example = 60, example = 3600)]
    pub jitter_sec: Option<u32>,
    /// What becomes of a slot that comes while the last run is not done: `skip` (when left out) lets it pass,
    /// `queue_one` lines one run up, `cancel` stops the old run, `allow` runs both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = Overlap::Skip, example = Overlap::QueueOne)]
    pub overlap: Option<Overlap>,
    /// What becomes of slots missed while nothing could run: `none` runs none of them, `latest` (when left out) the
    /// latest, `all` each of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = CatchUp::Latest, example = CatchUp::All)]
    pub catch_up: Option<CatchUp>,
    /// Missed slots older than this many seconds are not made up for; no limit when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 31_622_400), example = 86_400)]
    pub catch_up_window_sec: Option<u32>,
    /// With `catch_up: all`, at most so many missed slots run, the latest ones; 100 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000), example = 10)]
    pub catch_up_max: Option<u32>,
    /// How often a failed run is tried again where that may help; 0 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 20), example = 3)]
    pub retries: Option<u32>,
    /// Seconds before the first repetition; each further one waits twice as long, an hour at most. 30 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3_600), example = 30)]
    pub retry_backoff_sec: Option<u32>,
    /// A run that takes longer is stopped and counts as failed; the server's limit when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86_400), example = 600)]
    pub timeout_sec: Option<u32>,
    /// A run that could not start within so many seconds of its time does not start; no limit when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 31_622_400), example = 900)]
    pub start_deadline_sec: Option<u32>,
    /// Pauses the schedule after so many failed runs in a row; never when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000), example = 5)]
    pub auto_pause_after: Option<u32>,
    /// How many ended runs the history keeps; the server's number when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000), example = 500)]
    pub keep_runs: Option<u32>,
    /// How many days the history keeps ended runs; the server's number when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3_660), example = 90)]
    pub keep_runs_days: Option<u32>,
    /// How to reach the source; the connector's defaults when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<Connection>,
    /// What to import; the connector's usual resources when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<Resource>,
    /// Free names and values for filtering and grouping.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl ScheduleSpec {
    /// When the pause lifts by itself, if it is paused and does.
    pub fn pause_end(&self) -> Option<Millis> {
        let text = self.pause_until.as_deref().filter(|_| self.paused)?;
        chrono::DateTime::parse_from_rfc3339(text).ok().map(|at| at.timestamp_millis())
    }

    /// Whether it is paused at `now`: a pause whose end has come counts as lifted.
    pub fn is_paused_at(&self, now: Millis) -> bool {
        self.paused && self.pause_end().is_none_or(|end| now < end)
    }
}

/// The last moment that can be written: the end of the year 9999.
pub const MAX_MOMENT: Millis = 253_402_300_799_999;

/// The longest interval: a leap year.
pub const MAX_INTERVAL_SEC: u32 = 31_622_400;

fn is_false(value: &bool) -> bool {
    !value
}

/// What one import did, record by record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ImportStats {
    /// Records seen for the first time.
    pub imported: u64,
    /// Known records whose content had changed.
    pub updated: u64,
    /// Known records that came again unchanged.
    pub skipped: u64,
    /// Records that could not be taken in (no id, not an object).
    pub failed: u64,
}

impl ImportStats {
    /// Records that came, whatever became of them; those that could not be taken in left out.
    pub fn volume(&self) -> u64 {
        self.imported + self.updated + self.skipped
    }
}

impl std::ops::AddAssign for ImportStats {
    fn add_assign(&mut self, other: Self) {
        self.imported += other.imported;
        self.updated += other.updated;
        self.skipped += other.skipped;
        self.failed += other.failed;
    }
}

/// The result inside a status: `{"stats":{…}}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunResult {
    pub stats: ImportStats,
}

/// How the last run ended, as the status shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LastStatus {
    pub ok: bool,
    /// When the run ended, epoch seconds.
    pub ts: f64,
    pub message: String,
    pub result: RunResult,
    /// Set when it brought far less than its schedule usually does.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub short_import: Option<ShortImport>,
}

/// Where a change came from: the audit's `source`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    Ui,
    Api,
    Cli,
    Ops,
    File,
    Git,
    Scheduler,
    CommandCenter,
}

impl Source {
    pub fn as_str(self) -> &'static str {
        match self {
            Source::Ui => "ui",
            Source::Api => "api",
            Source::Cli => "cli",
            Source::Ops => "ops",
            Source::File => "file",
            Source::Git => "git",
            Source::Scheduler => "scheduler",
            Source::CommandCenter => "command-center",
        }
    }

    /// The sources a caller may claim in `x-source`; the others are the program's own.
    pub fn claimable(text: &str) -> Option<Source> {
        [Source::Ui, Source::Api, Source::Cli, Source::Ops].into_iter().find(|s| s.as_str() == text)
    }
}

/// Who stands behind a change, as the audit records it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub source: Source,
    pub actor: String,
}

/// A SHA-256 over bytes: of a file's content it is the schedule's `ETag`.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Digest(sha2::Sha256::digest(bytes).into())
    }

    pub fn to_hex(self) -> String {
        hex::encode(self.0)
    }

    pub fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Digest(bytes))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex()[..12])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenant_names_are_checked() {
        for good in ["a", "0", "peak-pro", "a.b_c-d", "connor", "com10", &"x".repeat(64)] {
            assert!(good.parse::<Tenant>().is_ok(), "{good}");
        }
        let check = |text: &str| text.parse::<Tenant>().unwrap_err();
        assert_eq!(check(""), BadTenant::Length(0));
        assert_eq!(check(&"x".repeat(65)), BadTenant::Length(65));
        assert_eq!(check("Acme"), BadTenant::Character('A'));
        assert_eq!(check("a/b"), BadTenant::Character('/'));
        assert_eq!(check("..a"), BadTenant::Start('.'));
        assert_eq!(check("a."), BadTenant::TrailingDot);
        assert_eq!(check("con"), BadTenant::Reserved("con".into()));
        assert_eq!(check("nul.x"), BadTenant::Reserved("nul.x".into()));
    }

    #[test]
    fn the_unknown_connector_message_lists_every_connector() {
        let message = "x".parse::<Connector>().unwrap_err().to_string();
        for connector in Connector::ALL {
            assert!(message.contains(connector.as_str()), "{message}");
        }
    }
}
