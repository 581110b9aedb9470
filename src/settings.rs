//! What the operator can set, with its defaults. Read once at start; passed explicitly after that.

mod copies;
mod git;
mod keys;
mod limits;
mod load;
mod proof;
mod replication;
mod upkeep;
pub(crate) mod values;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::adapters::secrets::ConnectorDefaults;
use crate::core::fair::Limits;
use crate::core::plan::GuardPolicy;
use crate::core::retention::Keep;
use crate::telemetry::{LogFormat, LogLevel};

pub use copies::Upkeep;
pub use git::GitSettings;
pub use keys::{KEYS, Key};
pub use load::{BadSetting, BadSettings, Inputs, Loaded, Origin, Shown, load};
pub use proof::ProofSettings;
pub use replication::ReplicationSettings;

/// How the settings of one server stand. Contract part 7 names the variables.
#[derive(Clone, Debug)]
pub struct Settings {
    pub addr: SocketAddr,
    /// The ways in that are open.
    pub auth: Vec<AuthMode>,
    pub desired_dir: PathBuf,
    pub data_dir: PathBuf,
    /// The database file.
    pub dsn: PathBuf,
    pub secrets_dir: Option<PathBuf>,
    /// Programs that `exec` may run: absolute paths, and names on the PATH.
    pub exec_allow: Vec<String>,
    /// Time between full reconciles and self-checks.
    pub health_interval: Duration,
    pub scheduler_stall: Duration,
    pub auto_recover: bool,
    pub max_snapshots: u32,
    pub upkeep: Upkeep,
    pub allow_restart: bool,
    pub restart_delay: Duration,
    /// How long imports in flight may go on once the program is to end.
    pub drain: Duration,
    /// Set aside for a full disk; 0 for nothing.
    pub disk_reserve_mb: u32,
    /// Peers whose role headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// `Host` header values that are ours, besides loopback names and the bound address.
    pub allowed_hosts: Vec<String>,
    pub cors_origins: Vec<String>,
    pub git: GitSettings,
    pub guard: GuardPolicy,
    /// How much of the history of runs is kept, where a schedule says nothing.
    pub keep: Keep,
    /// Imports that run at the same time, and how fast they start.
    pub limits: Limits,
    /// How long a run may take whose file does not say; `None` is as long as it likes.
    pub run_timeout: Option<Duration>,
    /// Tenants that get metric labels of their own; the rest count under `other`.
    pub metric_tenants: usize,
    /// How long an edit waits for more before it is applied.
    pub debounce: Duration,
    /// Watch by polling instead of the system's events, for network file systems.
    pub poll_interval: Option<Duration>,
    /// What a schedule without `connection` uses.
    pub acculynx: ConnectorDefaults,
    /// How the audit log is vouched for, and what of the past stays.
    pub proof: ProofSettings,
    pub replication: ReplicationSettings,
    pub log_level: LogLevel,
    /// `None`: text on a terminal, JSON otherwise.
    pub log_format: Option<LogFormat>,
}

/// A way to show who one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMode {
    /// Role headers, believed from trusted peers only.
    Headers,
    /// API keys. None can be made yet, so that this lets nobody in.
    Keys,
}

impl AuthMode {
    pub fn as_str(self) -> &'static str {
        match self {
            AuthMode::Headers => "headers",
            AuthMode::Keys => "keys",
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        let loopback = ["127.0.0.0/8", "::1/128"];
        Settings {
            addr: SocketAddr::from(([127, 0, 0, 1], 8000)),
            auth: vec![AuthMode::Headers, AuthMode::Keys],
            desired_dir: "./desired".into(),
            data_dir: "./data".into(),
            dsn: "./data/command_center.db".into(),
            secrets_dir: None,
            exec_allow: Vec::new(),
            health_interval: Duration::from_secs(30),
            scheduler_stall: Duration::from_secs(30),
            auto_recover: true,
            max_snapshots: 5,
            upkeep: Upkeep::default(),
            allow_restart: true,
            restart_delay: Duration::from_secs(3),
            drain: Duration::from_secs(10),
            disk_reserve_mb: 32,
            trusted_proxies: loopback.iter().filter_map(|net| net.parse().ok()).collect(),
            allowed_hosts: Vec::new(),
            cors_origins: Vec::new(),
            git: GitSettings::default(),
            guard: GuardPolicy::default(),
            keep: Keep::default(),
            limits: Limits::default(),
            run_timeout: Some(Duration::from_secs(3600)),
            metric_tenants: 1000,
            debounce: Duration::from_millis(50),
            poll_interval: None,
            acculynx: ConnectorDefaults { base_url: Some("https://api.acculynx.com/api/v2".into()), api_key: None },
            proof: ProofSettings::default(),
            replication: ReplicationSettings::default(),
            log_level: LogLevel::default(),
            log_format: None,
        }
    }
}
