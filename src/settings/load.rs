//! Puts the settings together: a flag wins over the environment, that over the file, that over
//! the default. Finds everything that is wrong before it gives up.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use serde::Serialize;
use serde_json::{Map, Value};

use super::{KEYS, Key, Settings};

/// Where settings may come from.
pub struct Inputs<'a> {
    /// Texts of the flags that were given, by the settings' names.
    pub flags: BTreeMap<&'static str, String>,
    pub env: &'a dyn Fn(&str) -> Option<OsString>,
    /// The names of all variables there are, in which misspelt ones are looked for.
    pub env_names: Vec<String>,
    /// Path and text of the file given with `--config`.
    pub file: Option<(PathBuf, String)>,
}

/// Where a setting's value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Flag(&'static str),
    Environment(&'static str),
    File(PathBuf),
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Flag(flag) => write!(f, "flag --{flag}"),
            Origin::Environment(name) => write!(f, "environment {name}"),
            Origin::File(path) => write!(f, "file {}", path.display()),
            Origin::Default => f.write_str("default"),
        }
    }
}

/// One setting as `--print-config` shows it, secrets masked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shown {
    pub name: &'static str,
    pub value: String,
    pub from: String,
}

/// The settings that hold.
#[derive(Debug)]
pub struct Loaded {
    pub settings: Settings,
    pub shown: Vec<Shown>,
    /// What is odd, though not wrong.
    pub warnings: Vec<String>,
}

/// One value that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadSetting {
    /// The flag, the variable, or the file with the key.
    pub place: String,
    /// As it was given; `None` where it must not be shown or there is none.
    pub value: Option<String>,
    /// What is wrong, or what is allowed.
    pub problem: String,
}

impl fmt::Display for BadSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{} is {value:?}: {}", self.place, self.problem),
            None => write!(f, "{}: {}", self.place, self.problem),
        }
    }
}

/// Everything that is wrong with the settings, one finding a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadSettings(pub Vec<BadSetting>);

impl std::error::Error for BadSettings {}

impl fmt::Display for BadSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(BadSetting::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

/// Reads all settings.
///
/// # Errors
/// Every bad value and every unknown key of the file, with what is allowed.
pub fn load(inputs: &Inputs<'_>) -> Result<Loaded, BadSettings> {
    let mut bad = Vec::new();
    let file = inputs.file.as_ref().map(|(path, text)| (path, read_file(path, text, &mut bad)));
    let mut settings = Settings::default();
    let mut origins = Vec::with_capacity(KEYS.len());
    for key in KEYS {
        let given = given(key, inputs, file.as_ref().map(|(path, values)| (*path, values)), &mut bad);
        if let Some((text, origin)) = &given
            && let Err(problem) = (key.set)(&mut settings, text)
        {
            let value = (!key.secret).then(|| shown_value(key, text));
            bad.push(BadSetting { place: place(key, origin), value, problem });
        }
        origins.push(given.map_or(Origin::Default, |(_, origin)| origin));
    }
    if !bad.is_empty() {
        return Err(BadSettings(bad));
    }
    if let Some(problem) = super::replication::missing(&settings) {
        let place = "COMMAND_CENTER_REPLICATION".to_owned();
        return Err(BadSettings(vec![BadSetting { place, value: Some("on".to_owned()), problem }]));
    }
    let shown = KEYS
        .iter()
        .zip(&origins)
        .map(|(key, origin)| Shown { name: key.name, value: (key.show)(&settings), from: origin.to_string() })
        .collect();
    let mut warnings = misspelt(&inputs.env_names);
    if !settings.replication.on && settings.replication.url.is_some() {
        warnings.push("COMMAND_CENTER_REPLICATION_URL has no effect while replication is off".into());
    }
    Ok(Loaded { settings, shown, warnings })
}

/// A setting's text from the first place that has one.
fn given(
    key: &Key,
    inputs: &Inputs<'_>,
    file: Option<(&PathBuf, &BTreeMap<String, String>)>,
    bad: &mut Vec<BadSetting>,
) -> Option<(String, Origin)> {
    if let Some(text) = inputs.flags.get(key.name) {
        return Some((text.clone(), Origin::Flag(key.flag)));
    }
    match (inputs.env)(key.env).map(OsString::into_string) {
        // An empty variable is how compose files and shells say "not set".
        Some(Ok(text)) if !text.trim().is_empty() || key.list => {
            return Some((text.trim().to_owned(), Origin::Environment(key.env)));
        }
        Some(Err(raw)) => {
            let value = (!key.secret).then(|| raw.to_string_lossy().into_owned());
            bad.push(BadSetting { place: key.env.into(), value, problem: "allowed is Unicode text".into() });
            return None;
        }
        _ => {}
    }
    let (path, values) = file?;
    Some((values.get(key.name)?.clone(), Origin::File(path.clone())))
}

fn place(key: &Key, origin: &Origin) -> String {
    match origin {
        Origin::Flag(flag) => format!("--{flag}"),
        Origin::Environment(name) => (*name).to_owned(),
        Origin::File(path) => format!("{} in {}", key.name, path.display()),
        Origin::Default => key.name.to_owned(),
    }
}

/// A bad URL may still hold a password.
fn shown_value(key: &Key, text: &str) -> String {
    if key.name.ends_with("_url") || text.contains("://") { super::values::masked_url(text) } else { text.to_owned() }
}

/// The file's keys and their values as texts.
fn read_file(path: &std::path::Path, text: &str, bad: &mut Vec<BadSetting>) -> BTreeMap<String, String> {
    let in_file = |line: Option<usize>| match line {
        Some(line) => format!("{}:{line}", path.display()),
        None => path.display().to_string(),
    };
    let mut values = BTreeMap::new();
    // A file of comments only sets nothing.
    let document: Option<Map<String, Value>> = match serde_yaml::from_str(text) {
        Ok(document) => document,
        Err(error) => {
            let error = error.without_snippet().to_string();
            bad.push(BadSetting { place: in_file(None), value: None, problem: format!("is no YAML mapping: {error}") });
            return values;
        }
    };
    for (name, value) in document.unwrap_or_default() {
        let line = text.lines().position(|line| line.split(':').next().is_some_and(|head| head.trim() == name));
        let place = in_file(line.map(|index| index + 1));
        let mut refuse = |problem| bad.push(BadSetting { place: place.clone(), value: None, problem });
        match KEYS.iter().find(|key| key.name == name) {
            None => refuse(unknown_key(&name)),
            Some(key) if key.secret => {
                refuse(format!("{name} is a secret; set {} in the environment instead", key.env));
            }
            Some(key) => match as_text(key, &value) {
                Ok(Some(text)) => {
                    values.insert(name, text);
                }
                Ok(None) => {}
                Err(problem) => refuse(format!("{name} {problem}")),
            },
        }
    }
    values
}

fn as_text(key: &Key, value: &Value) -> Result<Option<String>, String> {
    let scalar = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        _ => None,
    };
    match value {
        Value::Null => Ok(None),
        Value::Array(items) if key.list || key.name == "auth" => {
            let items: Option<Vec<String>> = items.iter().map(scalar).collect();
            items.map(|items| Some(items.join(","))).ok_or_else(|| "has to be a list of plain values".into())
        }
        value => scalar(value).map(Some).ok_or_else(|| "has to be a plain value".into()),
    }
}

fn unknown_key(name: &str) -> String {
    let dashed = name.replace('-', "_").to_ascii_lowercase();
    match closest(&dashed, KEYS.iter().map(|key| key.name)) {
        Some(known) => format!("unknown key {name:?}; did you mean {known}?"),
        None => {
            let known: Vec<_> = KEYS.iter().filter(|key| !key.secret).map(|key| key.name).collect();
            format!("unknown key {name:?}; there are {}", known.join(", "))
        }
    }
}

/// The known name that `name` is most likely to mean.
fn closest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let reach = if name.len() < 6 { 1 } else { 2 + name.len() / 10 };
    let ranked = known.map(|known| (strsim::damerau_levenshtein(name, known), known));
    ranked.filter(|(distance, _)| *distance <= reach).min().map(|(_, known)| known)
}

/// Variables that are almost, but not quite, one of ours. Others with the prefix are left alone:
/// orchestrators invent some from a service's name.
fn misspelt(names: &[String]) -> Vec<String> {
    let known = || KEYS.iter().map(|key| key.env).chain(["COMMAND_CENTER_URL", "COMMAND_CENTER_EXEC_ALLOW"]);
    let ours = |name: &&String| name.starts_with("COMMAND_CENTER_") && known().all(|known| known != name.as_str());
    let mut warnings: Vec<String> = names
        .iter()
        .filter(ours)
        .filter_map(|name| {
            let meant = known()
                .map(|known| (strsim::damerau_levenshtein(name, known), known))
                .filter(|(distance, _)| *distance <= 2)
                .min()?;
            Some(format!("the environment has {name}, which means nothing here; did you mean {}?", meant.1))
        })
        .collect();
    warnings.sort();
    warnings
}

#[cfg(test)]
mod tests;
