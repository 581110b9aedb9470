//! Who may write at a destination: one server at a time, of one store.

use serde::{Deserialize, Serialize};

use crate::core::model::Millis;

/// A writer that has not been heard of for so long is taken to be gone.
pub const STALE_MS: Millis = 60_000;

/// What `writer.json` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Writer {
    /// Which store's copy lies there.
    pub store: String,
    /// Which start of which server writes it.
    pub instance: String,
    /// Grows with each claim.
    pub epoch: u64,
    /// Written again and again while the writer lives; by its own clock, for people.
    pub beat: String,
    /// It stopped in order: the next need not wait.
    pub released: bool,
    /// The last audit entry known to be there.
    pub last_seq: Option<i64>,
    /// Where it runs, for people.
    #[serde(default)]
    pub host: String,
}

/// Who asks.
#[derive(Clone, Debug)]
pub struct Asker<'a> {
    pub store: &'a str,
    /// What the last start on this data directory called itself. Its lock is ours now, so that one is gone.
    pub before: Option<&'a str>,
    /// Whether the writer found there may be taken over when it is stale: not after it displaced us.
    pub may_take_over: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Write with this epoch. `took_over` names the instance whose place it is.
    Claim {
        epoch: u64,
        took_over: Option<String>,
    },
    Refused(String),
}

/// Decides over what was found. `age` is how long ago the file was written by the destination's own clock,
/// so that no two machines' clocks are compared; `None` where that cannot be told.
pub fn decide(found: Option<&Writer>, age: Option<Millis>, asker: &Asker<'_>) -> Decision {
    let Some(found) = found else { return Decision::Claim { epoch: 1, took_over: None } };
    if found.store != asker.store {
        return Decision::Refused(format!(
            "the destination holds the copy of another store ({}, this one is {}); choose another destination, or \
             remove what lies there",
            found.store, asker.store
        ));
    }
    let epoch = found.epoch.saturating_add(1);
    if asker.before == Some(found.instance.as_str()) || (found.released && asker.may_take_over) {
        return Decision::Claim { epoch, took_over: None };
    }
    let who = if found.host.is_empty() { String::new() } else { format!(" on {}", found.host) };
    if !asker.may_take_over {
        return Decision::Refused(format!(
            "another server{who} has taken this destination over from this one, with a copy of the same store; stop one \
             of the two, then restart this one if it is to go on"
        ));
    }
    if age.is_some_and(|age| age >= STALE_MS) {
        return Decision::Claim { epoch, took_over: Some(found.instance.clone()) };
    }
    Decision::Refused(format!(
        "another server{who} with a copy of the same store writes to this destination (last seen {}); stop it, or choose \
         another destination; one that has been silent for {} s is taken over",
        found.beat,
        STALE_MS / 1000
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writer() -> Writer {
        Writer {
            store: "s1".into(),
            instance: "i1".into(),
            epoch: 4,
            beat: "2026-01-01T00:00:00Z".into(),
            released: false,
            last_seq: Some(9),
            host: "h".into(),
        }
    }

    #[test]
    fn one_writer_of_one_store() {
        let asker = Asker { store: "s1", before: None, may_take_over: true };
        let claim = |epoch, took_over: Option<&str>| Decision::Claim { epoch, took_over: took_over.map(str::to_owned) };
        assert_eq!(decide(None, None, &asker), claim(1, None));
        // Alive, or nobody can tell.
        assert!(matches!(decide(Some(&writer()), Some(STALE_MS - 1), &asker), Decision::Refused(_)));
        assert!(matches!(decide(Some(&writer()), None, &asker), Decision::Refused(_)));
        // A destination whose clock seems to run backwards is no sign of silence.
        assert!(matches!(decide(Some(&writer()), Some(-5), &asker), Decision::Refused(_)));
        assert_eq!(decide(Some(&writer()), Some(STALE_MS), &asker), claim(5, Some("i1")));
        assert_eq!(decide(Some(&Writer { released: true, ..writer() }), Some(0), &asker), claim(5, None));
        // The one before on this data directory cannot be alive.
        let again = Asker { before: Some("i1"), ..asker.clone() };
        assert_eq!(decide(Some(&writer()), Some(0), &again), claim(5, None));
        // Who was displaced does not push back in by itself.
        let displaced = Asker { may_take_over: false, ..asker.clone() };
        for found in [writer(), Writer { released: true, ..writer() }] {
            // Also not while the other one restarts.
            assert!(matches!(decide(Some(&found), Some(STALE_MS * 9), &displaced), Decision::Refused(_)));
        }
        // Another store's copy is never touched, however old it is.
        let other = Asker { store: "s2", ..asker };
        for found in [writer(), Writer { released: true, ..writer() }] {
            assert!(matches!(decide(Some(&found), Some(STALE_MS * 9), &other), Decision::Refused(_)));
        }
    }
}
