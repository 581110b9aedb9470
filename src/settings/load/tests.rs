//! Settings in, settings or findings out.

use std::time::Duration;

use super::*;

/// Loads from flags, variables and a file's text.
fn check(flags: &[(&'static str, &str)], env: &[(&str, &str)], file: Option<&str>) -> Result<Loaded, Vec<String>> {
    let lookup = |name: &str| env.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value));
    let inputs = Inputs {
        flags: flags.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(),
        env: &lookup,
        env_names: env.iter().map(|(name, _)| (*name).to_owned()).collect(),
        file: file.map(|text| ("cc.yaml".into(), text.to_owned())),
    };
    load(&inputs).map_err(|bad| bad.0.iter().map(BadSetting::to_string).collect())
}

fn shown(loaded: &Loaded, name: &str) -> (String, String) {
    let shown = loaded.shown.iter().find(|shown| shown.name == name).unwrap();
    (shown.value.clone(), shown.from.clone())
}

#[test]
fn a_flag_wins_over_the_environment_over_the_file_over_the_default() {
    let variable = ("COMMAND_CENTER_MAX_SNAPSHOTS", "3");
    let table: [(&[_], &[_], Option<&str>, &str, &str); 5] = [
        (&[("max_snapshots", "2")], &[variable], Some("max_snapshots: 4"), "2", "flag --max-snapshots"),
        (&[], &[variable], Some("max_snapshots: 4"), "3", "environment COMMAND_CENTER_MAX_SNAPSHOTS"),
        (&[], &[("COMMAND_CENTER_MAX_SNAPSHOTS", "")], Some("max_snapshots: 4"), "4", "file cc.yaml"),
        (&[], &[], Some("# nothing\n"), "5", "default"),
        (&[], &[], None, "5", "default"),
    ];
    for (flags, env, file, value, from) in table {
        let loaded = check(flags, env, file).unwrap();
        assert_eq!(shown(&loaded, "max_snapshots"), (value.into(), from.into()));
        assert_eq!(loaded.settings.max_snapshots.to_string(), value);
    }
}

#[test]
fn every_setting_shows_a_default_that_it_would_take_itself() {
    let loaded = check(&[], &[], None).unwrap();
    for (key, shown) in KEYS.iter().zip(&loaded.shown) {
        assert_eq!((key.name, shown.from.as_str()), (shown.name, "default"));
        if shown.value.is_empty() {
            continue;
        }
        let again = check(&[(key.name, &shown.value)], &[], None);
        let again = again.unwrap_or_else(|bad| panic!("{}: {bad:?}", key.name));
        assert_eq!(super::super::keys::KEYS.len(), again.shown.len());
        assert_eq!(self::shown(&again, key.name).0, shown.value);
    }
}

#[test]
fn every_variable_of_the_contract_is_known_under_its_name() {
    for name in [
        "ADDR",
        "AUTH",
        "TRUSTED_PROXIES",
        "ALLOWED_HOSTS",
        "CORS_ORIGINS",
        "SECRETS_DIR",
        "GIT",
        "DESIRED_DIR",
        "STORE",
        "DSN",
        "DATA_DIR",
        "MAX_SNAPSHOTS",
        "HEALTH_INTERVAL",
        "AUTO_RECOVER",
        "SCHEDULER_STALL_SEC",
        "REPLICATION",
        "REPLICATION_URL",
        "ALLOW_RESTART",
        "RESTART_DELAY_SEC",
    ] {
        assert!(KEYS.iter().any(|key| key.env == format!("COMMAND_CENTER_{name}")), "{name}");
    }
    assert!(KEYS.iter().any(|key| key.env == "LOG_LEVEL"));
    for key in KEYS {
        assert_eq!(key.flag, key.name.replace('_', "-"));
    }
}

#[test]
fn values_arrive() {
    let env = [
        ("COMMAND_CENTER_ADDR", "localhost:9000"),
        ("COMMAND_CENTER_HEALTH_INTERVAL", "0.5"),
        ("COMMAND_CENTER_AUTO_RECOVER", "Off"),
        ("COMMAND_CENTER_TRUSTED_PROXIES", ""),
        ("COMMAND_CENTER_DATA_DIR", "/srv/cc"),
        ("COMMAND_CENTER_ACCULYNX_API_KEY", "k-1"),
        ("COMMAND_CENTER_GIT", "push,pull"),
        ("LOG_LEVEL", "warn"),
    ];
    let file = "allowed_hosts: [ops.example.com, 'a:80']\nauto_recover: true\ndebounce_ms: 20\npoll_interval_sec: 2\nallow_restart: no\n";
    let loaded = check(&[], &env, Some(file)).unwrap();
    let settings = &loaded.settings;
    assert_eq!(settings.addr.to_string(), "127.0.0.1:9000");
    assert_eq!(settings.health_interval, Duration::from_millis(500));
    assert!(!settings.auto_recover && !settings.allow_restart && settings.trusted_proxies.is_empty());
    assert_eq!(settings.dsn, std::path::Path::new("/srv/cc").join("command_center.db"));
    assert_eq!(settings.allowed_hosts, ["ops.example.com", "a:80"]);
    assert_eq!((settings.debounce, settings.poll_interval), (Duration::from_millis(20), Some(Duration::from_secs(2))));
    assert_eq!(shown(&loaded, "acculynx_api_key").0, "***");
    assert_eq!(shown(&loaded, "git").0, "commit,push,pull");
    assert_eq!(shown(&loaded, "log_level").0, "warning");
}

#[test]
fn all_that_is_wrong_is_said_at_once_with_its_place_and_what_is_allowed() {
    let bad = check(
        &[("addr", "8000"), ("store", "postgres"), ("max_concurrent_runs", "0")],
        &[
            ("COMMAND_CENTER_AUTH", "headers,oidc"),
            ("COMMAND_CENTER_REPLICATION", "maybe"),
            ("COMMAND_CENTER_GIT", "commit,merge"),
            ("COMMAND_CENTER_DSN", "postgres://u:hunter2@db/x"),
            ("COMMAND_CENTER_HEALTH_INTERVAL", "30s"),
            ("LOG_LEVEL", "loud"),
        ],
        Some("auto_recover: maybe\ndesird_dir: x\nacculynx_api_key: k\nguard: { percent: 3 }\n"),
    )
    .unwrap_err()
    .join("\n");
    for part in [
        "--addr is \"8000\": allowed is an IP address and a port",
        "--store is \"postgres\": this build has sqlite only",
        "--max-concurrent-runs is \"0\": allowed are whole numbers from 1",
        "COMMAND_CENTER_AUTH is \"headers,oidc\": this build cannot check oidc tokens",
        "COMMAND_CENTER_REPLICATION is \"maybe\": allowed are on, off",
        "COMMAND_CENTER_GIT is \"commit,merge\": \"merge\" is not known; allowed are off",
        "COMMAND_CENTER_DSN is \"postgres://db/x\": allowed is a file's path",
        "COMMAND_CENTER_HEALTH_INTERVAL is \"30s\": allowed are seconds from 0.01",
        "LOG_LEVEL is \"loud\": allowed are debug, info",
        "auto_recover in cc.yaml is \"maybe\": allowed are true, false",
        "cc.yaml:2: unknown key \"desird_dir\"; did you mean desired_dir?",
        "cc.yaml:3: acculynx_api_key is a secret; set COMMAND_CENTER_ACCULYNX_API_KEY",
        "cc.yaml:4: unknown key \"guard\"; there are addr,",
    ] {
        assert!(bad.contains(part), "{part}\nis not in\n{bad}");
    }
    assert!(!bad.contains("hunter2"));
}

#[test]
fn headers_must_be_a_way_in() {
    for good in ["headers,keys", "headers", " keys , headers "] {
        assert!(check(&[("auth", good)], &[], None).is_ok(), "{good}");
    }
    for bad in ["keys", "", "headers,password"] {
        assert!(check(&[("auth", bad)], &[], None).is_err(), "{bad}");
    }
}

#[test]
fn a_broken_file_and_a_misspelt_variable_are_noticed() {
    assert!(check(&[], &[], Some("addr: [1\n")).unwrap_err()[0].starts_with("cc.yaml: is no YAML mapping: "));
    assert!(check(&[], &[], Some("max_snapshots: 1\nmax_snapshots: 2\n")).is_err());
    let env = [("COMMAND_CENTER_DESIRD_DIR", "x"), ("COMMAND_CENTER_SERVICE_HOST", "10.0.0.1")];
    let warnings = check(&[], &env, None).unwrap().warnings;
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].ends_with("did you mean COMMAND_CENTER_DESIRED_DIR?"));
}
