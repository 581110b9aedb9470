//! The table of settings: each one's name in the file, its variable, its flag, how its text is
//! read and shown. The command line, the loader and the documentation are made from it.

use std::path::Path;
use std::time::Duration;

use super::git::ref_name;
use super::replication;
use super::values::{
    count, database_path, dir, flag, host_list, list, masked_url, origin_list, peer_list, percent, program_list,
    seconds, socket_address, web_url, words,
};
use super::{AuthMode, Settings};
use super::{copies, limits, proof, upkeep};
use crate::adapters::connectors::Secret;

/// One setting.
pub struct Key {
    /// Its key in the file given with `--config`.
    pub name: &'static str,
    /// Its flag on the command line, without the leading dashes.
    pub flag: &'static str,
    /// Its environment variable.
    pub env: &'static str,
    /// The word for its value in the help.
    pub value: &'static str,
    pub help: &'static str,
    /// Read from the environment alone and shown as `***`: files and command lines are seen by others.
    pub secret: bool,
    /// An empty text means something: the empty list.
    pub list: bool,
    /// Reads a text into the settings; the error says what is allowed.
    pub set: fn(&mut Settings, &str) -> Result<(), String>,
    pub show: fn(&Settings) -> String,
}

impl Key {
    pub(super) const fn new(
        name: &'static str,
        flag: &'static str,
        env: &'static str,
        value: &'static str,
        help: &'static str,
        set: fn(&mut Settings, &str) -> Result<(), String>,
        show: fn(&Settings) -> String,
    ) -> Key {
        Key { name, flag, env, value, help, secret: false, list: false, set, show }
    }

    const fn of_list(self) -> Key {
        Key { list: true, ..self }
    }

    const fn of_secret(self) -> Key {
        Key { secret: true, ..self }
    }
}

const SHORT: Duration = Duration::from_millis(10);
const YEAR: Duration = Duration::from_secs(366 * 24 * 3600);

/// Every setting, in the order of `--help` and `--print-config`.
pub static KEYS: &[Key] = &[
    Key::new(
        "addr",
        "addr",
        "COMMAND_CENTER_ADDR",
        "HOST:PORT",
        "Where the server listens",
        |s, text| socket_address(text).map(|v| s.addr = v),
        |s| s.addr.to_string(),
    ),
    Key::new(
        "desired_dir",
        "desired-dir",
        "COMMAND_CENTER_DESIRED_DIR",
        "DIR",
        "The directory of YAML files that says what is to run",
        |s, text| dir(text).map(|v| s.desired_dir = v),
        |s| shown(&s.desired_dir),
    ),
    Key::new(
        "data_dir",
        "data-dir",
        "COMMAND_CENTER_DATA_DIR",
        "DIR",
        "Where the program keeps what it writes",
        |s, text| {
            // The database lies in the data directory unless its own setting, read later, says otherwise.
            dir(text).map(|v| {
                s.dsn = v.join("command_center.db");
                s.data_dir = v;
            })
        },
        |s| shown(&s.data_dir),
    ),
    Key::new(
        "store",
        "store",
        "COMMAND_CENTER_STORE",
        "ENGINE",
        "The store's engine: sqlite",
        |_, text| match text {
            "sqlite" => Ok(()),
            "postgres" => Err("this build has sqlite only".into()),
            _ => Err("allowed is sqlite".into()),
        },
        |_| "sqlite".into(),
    ),
    Key::new(
        "dsn",
        "dsn",
        "COMMAND_CENTER_DSN",
        "FILE",
        "The database file; command_center.db in the data directory when left out",
        |s, text| database_path(text).map(|v| s.dsn = v),
        |s| shown(&s.dsn),
    ),
    Key::new(
        "auth",
        "auth",
        "COMMAND_CENTER_AUTH",
        "MODES",
        "The ways in, as a comma list: headers, keys",
        set_auth,
        |s| s.auth.iter().map(|mode| mode.as_str()).collect::<Vec<_>>().join(","),
    ),
    Key::new(
        "trusted_proxies",
        "trusted-proxies",
        "COMMAND_CENTER_TRUSTED_PROXIES",
        "NETS",
        "Peers whose role headers are believed, as a comma list of addresses and networks",
        |s, text| peer_list(text).map(|v| s.trusted_proxies = v),
        |s| list(&s.trusted_proxies),
    )
    .of_list(),
    Key::new(
        "allowed_hosts",
        "allowed-hosts",
        "COMMAND_CENTER_ALLOWED_HOSTS",
        "HOSTS",
        "Host headers to answer besides loopback names and the bound address, as a comma list",
        |s, text| host_list(text).map(|v| s.allowed_hosts = v),
        |s| list(&s.allowed_hosts),
    )
    .of_list(),
    Key::new(
        "cors_origins",
        "cors-origins",
        "COMMAND_CENTER_CORS_ORIGINS",
        "ORIGINS",
        "Other sites whose pages may call this server, as a comma list like https://ops.example.com",
        |s, text| origin_list(text).map(|v| s.cors_origins = v),
        |s| list(&s.cors_origins),
    )
    .of_list(),
    Key::new(
        "secrets_dir",
        "secrets-dir",
        "COMMAND_CENTER_SECRETS_DIR",
        "DIR",
        "Where `api_key: { file: NAME }` is looked up",
        |s, text| dir(text).map(|v| s.secrets_dir = Some(v)),
        |s| s.secrets_dir.as_deref().map(shown).unwrap_or_default(),
    ),
    Key::new(
        "exec_allow",
        "exec-allow",
        "COMMAND_CENTER_EXEC_ALLOW",
        "PROGRAMS",
        "Programs that exec schedules may run, as a comma list of absolute paths and names on the PATH",
        |s, text| program_list(text).map(|v| s.exec_allow = v),
        |s| list(&s.exec_allow),
    )
    .of_list(),
    Key::new(
        "git",
        "git",
        "COMMAND_CENTER_GIT",
        "MODES",
        "Work with the desired directory's git repository, as a comma list: off, commit, push, pull",
        |s, text| s.git.set_modes(text),
        |s| s.git.to_string(),
    )
    .of_list(),
    Key::new(
        "git_remote",
        "git-remote",
        "COMMAND_CENTER_GIT_REMOTE",
        "NAME",
        "The remote to push to and pull from",
        |s, text| ref_name(text).map(|v| s.git.remote = v),
        |s| s.git.remote.clone(),
    ),
    Key::new(
        "git_branch",
        "git-branch",
        "COMMAND_CENTER_GIT_BRANCH",
        "NAME",
        "The remote's branch; the upstream of the branch that is checked out when left out",
        |s, text| ref_name(text).map(|v| s.git.branch = Some(v)),
        |s| s.git.branch.clone().unwrap_or_default(),
    ),
    Key::new(
        "git_pull_interval",
        "git-pull-interval",
        "COMMAND_CENTER_GIT_PULL_INTERVAL",
        "SECONDS",
        "How often the remote branch is pulled",
        |s, text| seconds(text, SHORT, YEAR).map(|v| s.git.pull_interval = v),
        |s| in_seconds(s.git.pull_interval),
    ),
    Key::new(
        "health_interval",
        "health-interval",
        "COMMAND_CENTER_HEALTH_INTERVAL",
        "SECONDS",
        "Time between full reconciles and self-checks",
        |s, text| seconds(text, SHORT, YEAR).map(|v| s.health_interval = v),
        |s| in_seconds(s.health_interval),
    ),
    Key::new(
        "auto_recover",
        "auto-recover",
        "COMMAND_CENTER_AUTO_RECOVER",
        "BOOL",
        "Help itself: loops that stall are started anew, a damaged database is restored at the start",
        |s, text| flag(text).map(|v| s.auto_recover = v),
        |s| s.auto_recover.to_string(),
    ),
    Key::new(
        "scheduler_stall_sec",
        "scheduler-stall-sec",
        "COMMAND_CENTER_SCHEDULER_STALL_SEC",
        "SECONDS",
        "After how long without progress the scheduler counts as stalled",
        |s, text| seconds(text, SHORT, YEAR).map(|v| s.scheduler_stall = v),
        |s| in_seconds(s.scheduler_stall),
    ),
    Key::new(
        "max_snapshots",
        "max-snapshots",
        "COMMAND_CENTER_MAX_SNAPSHOTS",
        "COUNT",
        "Snapshots of the store to keep, besides the last of each of seven days",
        |s, text| count(text, 0, 10_000).map(|v| s.max_snapshots = v),
        |s| s.max_snapshots.to_string(),
    ),
    proof::AUDIT_KEY_FILE,
    proof::CHECKPOINT_INTERVAL,
    proof::CHECKPOINT_URL,
    proof::AUDIT_VERIFY_INTERVAL,
    proof::AUDIT_LIVE,
    proof::KEEP_REVISIONS,
    proof::KEEP_REVISIONS_DAYS,
    proof::RECORDS_UNSEEN_DAYS,
    copies::SNAPSHOT_INTERVAL,
    copies::CHECK_INTERVAL,
    replication::REPLICATION,
    replication::REPLICATION_URL,
    replication::REPLICATION_SPOOL_MB,
    replication::REPLICATION_KEEP_DAYS,
    Key::new(
        "allow_restart",
        "allow-restart",
        "COMMAND_CENTER_ALLOW_RESTART",
        "BOOL",
        "Whether POST /ops/restart may restart the program",
        |s, text| flag(text).map(|v| s.allow_restart = v),
        |s| s.allow_restart.to_string(),
    ),
    Key::new(
        "restart_delay_sec",
        "restart-delay-sec",
        "COMMAND_CENTER_RESTART_DELAY_SEC",
        "SECONDS",
        "Time between the answer to POST /ops/restart and the restart",
        |s, text| seconds(text, Duration::ZERO, Duration::from_secs(3600)).map(|v| s.restart_delay = v),
        |s| in_seconds(s.restart_delay),
    ),
    upkeep::DRAIN_SEC,
    upkeep::DISK_RESERVE_MB,
    limits::MAX_CONCURRENT_RUNS,
    limits::MAX_RUNS_PER_CONNECTOR,
    limits::MAX_RUNS_PER_TENANT,
    limits::MAX_RUNS_PER_CREDENTIAL,
    limits::STARTS_PER_SEC,
    Key::new(
        "run_timeout_sec",
        "run-timeout-sec",
        "COMMAND_CENTER_RUN_TIMEOUT_SEC",
        "SECONDS",
        "How long a run may take whose file sets no timeout_sec; 0 is no limit",
        |s, text| {
            let limit = seconds(text, Duration::ZERO, Duration::from_secs(86_400))?;
            s.run_timeout = Some(limit).filter(|limit| !limit.is_zero());
            Ok(())
        },
        |s| in_seconds(s.run_timeout.unwrap_or_default()),
    ),
    Key::new(
        "guard_percent",
        "guard-percent",
        "COMMAND_CENTER_GUARD_PERCENT",
        "PERCENT",
        "Part of the fleet that files may delete or pause within ten minutes without a confirmation",
        |s, text| percent(text).map(|v| s.guard.max_percent = v),
        |s| s.guard.max_percent.to_string(),
    ),
    Key::new(
        "guard_min_fleet",
        "guard-min-fleet",
        "COMMAND_CENTER_GUARD_MIN_FLEET",
        "COUNT",
        "Fleets smaller than this are not judged by percent",
        |s, text| count(text, 0, u32::MAX).map(|v| s.guard.min_fleet = v as usize),
        |s| s.guard.min_fleet.to_string(),
    ),
    Key::new(
        "keep_runs",
        "keep-runs",
        "COMMAND_CENTER_KEEP_RUNS",
        "COUNT",
        "Ended runs that the history keeps of each schedule; 0 for no limit",
        |s, text| count(text, 0, 1_000_000).map(|v| s.keep.runs = v),
        |s| s.keep.runs.to_string(),
    ),
    Key::new(
        "keep_runs_days",
        "keep-runs-days",
        "COMMAND_CENTER_KEEP_RUNS_DAYS",
        "DAYS",
        "Days for which the history keeps ended runs; 0 for no limit",
        |s, text| count(text, 0, 36_600).map(|v| s.keep.days = v),
        |s| s.keep.days.to_string(),
    ),
    Key::new(
        "debounce_ms",
        "debounce-ms",
        "COMMAND_CENTER_DEBOUNCE_MS",
        "MILLISECONDS",
        "How long an edit waits for more before it is applied",
        |s, text| count(text, 0, 60_000).map(|v| s.debounce = Duration::from_millis(v.into())),
        |s| s.debounce.as_millis().to_string(),
    ),
    Key::new(
        "poll_interval_sec",
        "poll-interval-sec",
        "COMMAND_CENTER_POLL_INTERVAL_SEC",
        "SECONDS",
        "Look for edits this often instead of waiting for the system's events, for network file systems; off for never",
        |s, text| match text {
            "off" => {
                s.poll_interval = None;
                Ok(())
            }
            _ => seconds(text, SHORT, YEAR)
                .map(|v| s.poll_interval = Some(v))
                .map_err(|allowed| format!("{allowed}, or off")),
        },
        |s| s.poll_interval.map_or_else(|| "off".into(), in_seconds),
    ),
    Key::new(
        "metric_tenants",
        "metric-tenants",
        "COMMAND_CENTER_METRIC_TENANTS",
        "COUNT",
        "Tenants that get metric labels of their own",
        |s, text| count(text, 0, 1_000_000).map(|v| s.metric_tenants = v as usize),
        |s| s.metric_tenants.to_string(),
    ),
    Key::new(
        "acculynx_base_url",
        "acculynx-base-url",
        "COMMAND_CENTER_ACCULYNX_BASE_URL",
        "URL",
        "The AccuLynx API of schedules that name none",
        |s, text| web_url(text).map(|v| s.acculynx.base_url = Some(v)),
        |s| s.acculynx.base_url.as_deref().map(masked_url).unwrap_or_default(),
    ),
    Key::new(
        "acculynx_api_key",
        "acculynx-api-key",
        "COMMAND_CENTER_ACCULYNX_API_KEY",
        "KEY",
        "The AccuLynx key of schedules that name none",
        |s, text| {
            s.acculynx.api_key = Some(Secret(text.to_owned()));
            Ok(())
        },
        |s| s.acculynx.api_key.as_ref().map(|_| "***".to_owned()).unwrap_or_default(),
    )
    .of_secret(),
    Key::new(
        "log_level",
        "log-level",
        "LOG_LEVEL",
        "LEVEL",
        "The least serious log lines to write: debug, info, warning, error",
        |s, text| text.parse().map(|v| s.log_level = v).map_err(|e: crate::telemetry::UnknownLogSetting| e.to_string()),
        |s| s.log_level.as_str().into(),
    ),
    Key::new(
        "log_format",
        "log-format",
        "COMMAND_CENTER_LOG_FORMAT",
        "FORMAT",
        "How log lines look: json or text; auto is text on a terminal and json otherwise",
        |s, text| match text {
            "auto" => {
                s.log_format = None;
                Ok(())
            }
            _ => text
                .parse()
                .map(|v| s.log_format = Some(v))
                .map_err(|e: crate::telemetry::UnknownLogSetting| format!("{e}, or auto")),
        },
        |s| s.log_format.map_or("auto", |format| format.as_str()).into(),
    ),
];

fn set_auth(settings: &mut Settings, text: &str) -> Result<(), String> {
    let mut modes = Vec::new();
    for word in words(text) {
        let mode = match word {
            "headers" => AuthMode::Headers,
            "keys" => AuthMode::Keys,
            "oidc" => return Err("this build cannot check oidc tokens yet; allowed are headers and keys".into()),
            _ => return Err(format!("\"{word}\" is no way in; allowed are headers and keys")),
        };
        if !modes.contains(&mode) {
            modes.push(mode);
        }
    }
    if !modes.contains(&AuthMode::Headers) {
        return Err("this build lets people in by headers only, so headers must be among them".into());
    }
    settings.auth = modes;
    Ok(())
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn in_seconds(duration: Duration) -> String {
    duration.as_secs_f64().to_string()
}
