//! What is done with the desired directory's git repository.

use std::fmt;
use std::time::Duration;

use super::values::words;

/// How Command Center works with the work tree that the desired directory lies in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitSettings {
    /// Edits made through the API are committed.
    pub commit: bool,
    /// Commits are pushed.
    pub push: bool,
    /// The remote branch is followed.
    pub pull: bool,
    pub remote: String,
    /// `None`: the upstream of the branch that is checked out.
    pub branch: Option<String>,
    pub pull_interval: Duration,
}

impl Default for GitSettings {
    fn default() -> Self {
        GitSettings {
            commit: false,
            push: false,
            pull: false,
            remote: "origin".to_owned(),
            branch: None,
            pull_interval: Duration::from_secs(60),
        }
    }
}

impl GitSettings {
    /// Whether anything is asked of git but to say who committed what.
    pub fn is_on(&self) -> bool {
        self.commit || self.pull
    }

    pub fn needs_remote(&self) -> bool {
        self.push || self.pull
    }

    pub(super) fn set_modes(&mut self, text: &str) -> Result<(), String> {
        let (mut off, mut commit, mut push, mut pull) = (false, false, false, false);
        for word in words(text) {
            match word.to_ascii_lowercase().as_str() {
                "off" | "false" | "0" | "no" => off = true,
                "commit" => commit = true,
                "push" => push = true,
                "pull" => pull = true,
                _ => {
                    return Err(format!(
                        "\"{word}\" is not known; allowed are off, or of commit, push and pull those wanted"
                    ));
                }
            }
        }
        if off && (commit || push || pull) {
            return Err("off cannot go together with others".into());
        }
        // What is pushed has to be committed first.
        (self.commit, self.push, self.pull) = (commit || push, push, pull);
        Ok(())
    }
}

impl fmt::Display for GitSettings {
    /// The modes, as the setting takes them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let modes = [(self.commit, "commit"), (self.push, "push"), (self.pull, "pull")];
        let on: Vec<&str> = modes.iter().filter(|(on, _)| *on).map(|(_, name)| *name).collect();
        if on.is_empty() { f.write_str("off") } else { f.write_str(&on.join(",")) }
    }
}

/// A remote's or branch's name: nothing that git would take for an option, a URL or a pattern.
pub(super) fn ref_name(text: &str) -> Result<String, String> {
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/'));
    let odd = text.is_empty()
        || text.starts_with(['-', '/', '.'])
        || text.ends_with(['/', '.'])
        || text.contains("..")
        || text.contains("//");
    if plain && !odd { Ok(text.to_owned()) } else { Err("allowed is a name like origin, main or ops/live".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_a_list_in_which_push_brings_commit() {
        let modes = |text: &str| {
            let mut settings = GitSettings::default();
            settings.set_modes(text).map(|()| settings.to_string())
        };
        assert_eq!(modes("off").unwrap(), "off");
        assert_eq!(modes("").unwrap(), "off");
        assert_eq!(modes("commit").unwrap(), "commit");
        assert_eq!(modes("pull, push").unwrap(), "commit,push,pull");
        assert_eq!(modes("Pull").unwrap(), "pull");
        assert!(modes("off,pull").is_err());
        assert!(modes("merge").unwrap_err().contains("merge"));
    }

    #[test]
    fn names_cannot_be_options_or_urls() {
        for good in ["origin", "main", "ops/live", "v1.2_x"] {
            assert_eq!(ref_name(good).unwrap(), good);
        }
        for bad in ["", "-x", "--upload-pack=x", "https://h/x", "a:b", "a..b", "+main", "a b", "/a", "a/", "x~1"] {
            assert!(ref_name(bad).is_err(), "{bad}");
        }
    }
}
