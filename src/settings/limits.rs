//! The settings that bound how many runs go on at once and how fast they start.

use std::collections::BTreeMap;
use std::fmt::Display;

use super::Settings;
use super::keys::Key;
use super::values::{count, words};
use crate::core::fair::{Limits, StartsPerSec};
use crate::core::model::Connector;

const MOST: u32 = 100_000;

pub(super) const MAX_CONCURRENT_RUNS: Key = Key::new(
    "max_concurrent_runs",
    "max-concurrent-runs",
    "COMMAND_CENTER_MAX_CONCURRENT_RUNS",
    "COUNT",
    "Imports that run at the same time",
    |s, text| count(text, 1, MOST).map(|v| s.limits.global = v as usize),
    |s| s.limits.global.to_string(),
);

pub(super) const MAX_RUNS_PER_CONNECTOR: Key = Key::new(
    "max_runs_per_connector",
    "max-runs-per-connector",
    "COMMAND_CENTER_MAX_RUNS_PER_CONNECTOR",
    "COUNTS",
    "Of these, how many for one connector: a number for each, connector=number for one, as a comma list; off for no limit",
    set_per_connector,
    |s| shown(s.limits.per_connector.each, &s.limits.per_connector.of),
);

pub(super) const MAX_RUNS_PER_TENANT: Key = Key::new(
    "max_runs_per_tenant",
    "max-runs-per-tenant",
    "COMMAND_CENTER_MAX_RUNS_PER_TENANT",
    "COUNT",
    "Of these, how many for one tenant, over all its connectors; off for no limit",
    |s, text| count_or_off(text).map(|v| s.limits.per_tenant = v),
    |s| or_off(s.limits.per_tenant),
);

pub(super) const MAX_RUNS_PER_CREDENTIAL: Key = Key::new(
    "max_runs_per_credential",
    "max-runs-per-credential",
    "COMMAND_CENTER_MAX_RUNS_PER_CREDENTIAL",
    "COUNT",
    "Of these, how many with one API key at one address; off for no limit",
    |s, text| count_or_off(text).map(|v| s.limits.per_credential = v),
    |s| or_off(s.limits.per_credential),
);

pub(super) const STARTS_PER_SEC: Key = Key::new(
    "starts_per_sec",
    "starts-per-sec",
    "COMMAND_CENTER_STARTS_PER_SEC",
    "RATES",
    "Imports that may start within a second: a number for all together, connector=number for one, as a comma list; off for no limit",
    set_starts,
    |s| {
        let of = s.limits.starts_of.iter().map(|(connector, rate)| (*connector, rate.0)).collect();
        shown(s.limits.starts.map(|rate| rate.0), &of)
    },
);

fn count_or_off(text: &str) -> Result<Option<usize>, String> {
    if text == "off" {
        return Ok(None);
    }
    count(text, 1, MOST).map(|v| Some(v as usize)).map_err(|allowed| format!("{allowed}, or off"))
}

fn or_off(count: Option<usize>) -> String {
    count.map_or_else(|| "off".to_owned(), |count| count.to_string())
}

fn set_per_connector(settings: &mut Settings, text: &str) -> Result<(), String> {
    let (each, of) = pairs(text, |word| count(word, 1, MOST).map(|v| v as usize))?;
    let limits: &mut Limits = &mut settings.limits;
    (limits.per_connector.each, limits.per_connector.of) = (each, of);
    Ok(())
}

fn set_starts(settings: &mut Settings, text: &str) -> Result<(), String> {
    let range = StartsPerSec::LEAST..=StartsPerSec::MOST;
    let (all, of) = pairs(text, |word| {
        let rate = word.parse::<f64>().ok().filter(|rate| range.contains(rate)).map(StartsPerSec);
        rate.ok_or_else(|| format!("allowed are numbers from {} to {}", StartsPerSec::LEAST, StartsPerSec::MOST))
    })?;
    (settings.limits.starts, settings.limits.starts_of) = (all, of);
    Ok(())
}

/// A number for all and numbers for some.
type Pairs<T> = (Option<T>, BTreeMap<Connector, T>);

/// Reads `16,acculynx=32`; `off` alone, or as the number for all, is none.
fn pairs<T>(text: &str, value: impl Fn(&str) -> Result<T, String>) -> Result<Pairs<T>, String> {
    let value = |word: &str| value(word).map_err(|allowed| format!("\"{word}\" is out of range; {allowed}, or off"));
    let (mut all, mut has_all, mut of) = (None, false, BTreeMap::new());
    for word in words(text) {
        let Some((name, number)) = word.split_once('=') else {
            if std::mem::replace(&mut has_all, true) {
                return Err(format!("\"{word}\" is a second number for all; allowed is one"));
            }
            all = if word == "off" { None } else { Some(value(word)?) };
            continue;
        };
        let connector = name.trim().parse::<Connector>().map_err(|unknown| unknown.to_string())?;
        if of.insert(connector, value(number.trim())?).is_some() {
            return Err(format!("{connector} is named twice"));
        }
    }
    Ok((all, of))
}

fn shown<T: Display>(all: Option<T>, of: &BTreeMap<Connector, T>) -> String {
    let all = all.map(|all| all.to_string()).or_else(|| of.is_empty().then(|| "off".to_owned()));
    let of = of.iter().map(|(connector, value)| format!("{connector}={value}"));
    all.into_iter().chain(of).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_as_they_are_shown() {
        let mut settings = Settings::default();
        for (text, expect) in [
            ("off", "off"),
            ("", "off"),
            ("32", "32"),
            (" noop=4 , acculynx=32", "acculynx=32,noop=4"),
            ("16,acculynx=32", "16,acculynx=32"),
        ] {
            (MAX_RUNS_PER_CONNECTOR.set)(&mut settings, text).unwrap();
            assert_eq!((MAX_RUNS_PER_CONNECTOR.show)(&settings), expect);
        }
        (STARTS_PER_SEC.set)(&mut settings, "20,acculynx=0.5").unwrap();
        assert_eq!((STARTS_PER_SEC.show)(&settings), "20,acculynx=0.5");
        (MAX_RUNS_PER_TENANT.set)(&mut settings, "off").unwrap();
        assert_eq!((MAX_RUNS_PER_TENANT.show)(&settings), "off");
        assert_eq!(settings.limits.per_tenant, None);
    }

    #[test]
    fn what_cannot_be_a_limit_is_refused_with_what_can() {
        let mut settings = Settings::default();
        for (key, text, says) in [
            (&MAX_RUNS_PER_CONNECTOR, "sales=3", "there are: acculynx"),
            (&MAX_RUNS_PER_CONNECTOR, "acculynx=0", "\"0\" is out of range; allowed are whole numbers from 1"),
            (&MAX_RUNS_PER_CONNECTOR, "1,2", "a second number for all"),
            (&MAX_RUNS_PER_CONNECTOR, "noop=1,noop=2", "noop is named twice"),
            (&STARTS_PER_SEC, "NaN", "allowed are numbers from 0.001 to 100000, or off"),
            (&STARTS_PER_SEC, "-1", "allowed are numbers"),
            (&MAX_RUNS_PER_TENANT, "0", "from 1 to 100000, or off"),
        ] {
            let error = (key.set)(&mut settings, text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
        assert_eq!(settings.limits, Limits::default());
    }
}
