//! Faults on request: what the practice server does wrong, for whom and how often, until it is used up.

use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

/// More waiting faults than this are refused: they are an operator's, not a program's.
const MOST_FAULTS: usize = 1_000;

/// One kind of wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// Answers with `status` and a problem body.
    Status,
    /// Waits `delay_ms`, then answers as usual.
    Slow,
    /// Answers 200 with a web page where JSON belongs.
    Garbage,
    /// Closes the connection without an answer.
    Reset,
    /// Breaks off in the middle of the body.
    Truncate,
    /// Ignores the offset and gives the first page.
    RepeatPage,
    /// Answers 429; `Retry-After` is `delay_ms` in whole seconds, rounded up.
    RateLimit,
    /// Sends a body that never ends.
    Endless,
    /// The first record of the page comes without its id.
    MissingId,
}

/// A fault to come, as `POST /sandbox/faults` takes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Whom it hits; every company when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub company: Option<String>,
    /// The resource it hits (`jobs`, `contacts`, `estimates`, `users`, `diagnostics`, `subscriptions`); each when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    pub kind: FaultKind,
    /// For `status`: 400 to 599.
    #[serde(default = "default_status")]
    pub status: u16,
    /// How many requests it hits.
    #[serde(default = "once")]
    pub times: u32,
    #[serde(default)]
    pub delay_ms: u64,
}

fn default_status() -> u16 {
    503
}

fn once() -> u32 {
    1
}

/// The faults that wait for a request.
#[derive(Default)]
pub(super) struct Faults(Mutex<Vec<Fault>>);

impl Faults {
    /// Takes a fault on, or says what is wrong with it.
    pub fn add(&self, fault: Fault) -> Result<(), String> {
        if !(400..=599).contains(&fault.status) {
            return Err(format!("status {} is not an error: choose 400 to 599", fault.status));
        }
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= MOST_FAULTS {
            return Err(format!("{MOST_FAULTS} faults are waiting: DELETE /sandbox/faults first"));
        }
        if fault.times > 0 {
            waiting.push(fault);
        }
        Ok(())
    }

    /// The first fault meant for this request; each call uses up one of its times.
    pub fn take(&self, company: &str, path: &str) -> Option<Fault> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let meant = |wanted: &Option<String>, got: &str| wanted.as_deref().is_none_or(|wanted| wanted == got);
        let at = waiting.iter().position(|fault| meant(&fault.company, company) && meant(&fault.path, path))?;
        let fault = waiting.get_mut(at)?;
        fault.times -= 1;
        let taken = fault.clone();
        if taken.times == 0 {
            waiting.remove(at);
        }
        Some(taken)
    }

    pub fn list(&self) -> Vec<Fault> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Forgets every waiting fault and says how many there were.
    pub fn clear(&self) -> usize {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner)).len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> Fault {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_fault_hits_those_it_is_meant_for_as_often_as_asked() {
        let faults = Faults::default();
        faults.add(fault(r#"{"company":"a","path":"jobs","kind":"status","times":2}"#)).unwrap();
        assert_eq!(faults.take("b", "jobs"), None);
        assert_eq!(faults.take("a", "contacts"), None);
        assert!(faults.take("a", "jobs").is_some() && faults.take("a", "jobs").is_some());
        assert_eq!(faults.take("a", "jobs"), None);
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(Faults::default().add(fault(r#"{"kind":"status","status":200}"#)).is_err());
        assert!(serde_json::from_str::<Fault>(r#"{"kind":"explode"}"#).is_err());
        assert!(serde_json::from_str::<Fault>(r#"{"kind":"slow","delay":5}"#).is_err());
    }
}
