//! What a connection says of a program to run.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SecretRef;

/// The bounds of a program whose schedule names none.
pub const IDLE_TIMEOUT_SEC: u32 = 300;
pub const MAX_OUTPUT_MB: u32 = 512;
pub const MAX_LINE_KB: u32 = 4096;

/// What a program writes on its standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Either of the other two: Singer from the first line that is one of its messages on.
    #[default]
    Auto,
    /// Singer messages and nothing else.
    Singer,
    /// Anything, and at last one line of JSON: `{"imported": 3, "updated": 1, "skipped": 0, "failed": 0}`.
    Stats,
}

/// An environment variable's value: a text, or a reference to a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum EnvValue {
    Text(String),
    Secret(SecretRef),
}

/// The names of the places in a word of a command: what stands in double braces.
pub fn places(word: &str) -> impl Iterator<Item = &str> {
    word.split("{{").skip(1).filter_map(|rest| rest.split_once("}}")).map(|(name, _)| name.trim())
}

/// A word of a command with its places filled in; one that `fill` does not know stays as it is.
pub fn filled(word: &str, mut fill: impl FnMut(&str) -> Option<String>) -> String {
    let mut pieces = word.split("{{");
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        match piece.split_once("}}").and_then(|(name, rest)| Some((fill(name.trim())?, rest))) {
            Some((value, rest)) => out.extend([value.as_str(), rest]),
            None => out.extend(["{{", piece]),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_found_and_filled() {
        let check = |word: &str, names: &[&str], expect: &str| {
            assert_eq!(places(word).collect::<Vec<_>>(), names, "{word}");
            let fill = |name: &str| (name != "odd").then(|| format!("<{name}>"));
            assert_eq!(filled(word, fill), expect, "{word}");
        };
        check("--config={{config}}", &["config"], "--config=<config>");
        check("{{ state }}:{{catalog}}.", &["state", "catalog"], "<state>:<catalog>.");
        check("{{odd}} {{a", &["odd"], "{{odd}} {{a");
        check("{a} }} plain", &[], "{a} }} plain");
        check("", &[], "");
    }
}
