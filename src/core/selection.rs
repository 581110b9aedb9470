//! Which schedules an action on many is about: every condition that is given narrows the choice.

use std::collections::{BTreeMap, BTreeSet};

use super::model::{Connector, ScheduleId, Tenant};

/// A schedule as a list of them names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Named {
    /// The tenant's schedules, with whichever connector.
    Tenant(Tenant),
    Schedule(ScheduleId),
}

impl Named {
    pub fn tenant(&self) -> &Tenant {
        match self {
            Named::Tenant(tenant) => tenant,
            Named::Schedule(id) => &id.tenant,
        }
    }
}

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Named::Tenant(tenant) => write!(f, "{tenant}"),
            Named::Schedule(id) => write!(f, "{id}"),
        }
    }
}

impl std::str::FromStr for Named {
    type Err = String;

    /// `TENANT` or `CONNECTOR/TENANT`
    fn from_str(text: &str) -> Result<Named, String> {
        if text.contains('/') {
            return text.parse().map(Named::Schedule).map_err(|bad| format!("\"{text}\": {bad}"));
        }
        text.parse().map(Named::Tenant).map_err(|bad| format!("\"{text}\": {bad}"))
    }
}

/// How a schedule is, as far as it can be selected by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    Paused,
    /// Not paused.
    Active,
    /// The last import failed.
    Failing,
}

impl Condition {
    pub const NAMES: [&str; 3] = ["paused", "active", "failing"];

    pub fn of_name(name: &str) -> Option<Condition> {
        [Condition::Paused, Condition::Active, Condition::Failing]
            .into_iter()
            .zip(Condition::NAMES)
            .find_map(|(condition, known)| (known == name).then_some(condition))
    }
}

/// A choice of schedules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Says that every schedule is meant.
    pub all: bool,
    pub connector: Option<Connector>,
    /// Each must be there with this value.
    pub labels: BTreeMap<String, String>,
    /// Only these, which must all be there.
    pub named: BTreeSet<Named>,
    pub condition: Option<Condition>,
}

/// What a schedule is chosen by.
pub struct Candidate<'a> {
    pub id: &'a ScheduleId,
    pub labels: &'a BTreeMap<String, String>,
    pub is_paused: bool,
    pub is_failing: bool,
}

impl Selection {
    /// Whether it chooses at all: what says nothing must not mean everything.
    pub fn is_empty(&self) -> bool {
        *self == Selection::default()
    }

    pub fn fits(&self, candidate: &Candidate<'_>) -> bool {
        let Candidate { id, labels, is_paused, is_failing } = candidate;
        let names = || {
            self.named.contains(&Named::Tenant(id.tenant.clone()))
                || self.named.contains(&Named::Schedule((*id).clone()))
        };
        self.connector.is_none_or(|connector| id.connector == connector)
            && (self.named.is_empty() || names())
            && self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && match self.condition {
                None => true,
                Some(Condition::Paused) => *is_paused,
                Some(Condition::Active) => !is_paused,
                Some(Condition::Failing) => *is_failing,
            }
    }

    /// Whether this name, which the choice lists, is that schedule's.
    pub fn means(&self, named: &Named, id: &ScheduleId) -> bool {
        match named {
            Named::Tenant(tenant) => *tenant == id.tenant && self.connector.is_none_or(|one| one == id.connector),
            Named::Schedule(named) => named == id,
        }
    }

    /// In a few words, for the audit.
    pub fn told(&self) -> String {
        let mut parts: Vec<String> = self.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        parts.extend(self.connector.map(|connector| format!("connector {connector}")));
        parts.extend(self.condition.map(|condition| format!("{condition:?}").to_lowercase()));
        match self.named.len() {
            0 => {}
            count @ 1..=5 => {
                let names: Vec<String> = self.named.iter().map(ToString::to_string).collect();
                parts.push(if count == 1 { names.concat() } else { names.join(" or ") });
            }
            count => parts.push(format!("a list of {count}")),
        }
        if parts.is_empty() { "all".to_owned() } else { parts.join(", ") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(selection: &Selection, expect: &str) {
        let west = BTreeMap::from([("region".to_owned(), "west".to_owned()), ("ring".to_owned(), "1".to_owned())]);
        let none = BTreeMap::new();
        let all = [("acculynx/a", &west, false), ("acculynx/b", &none, true), ("noop/a", &none, false)];
        let mut fitting = Vec::new();
        for (name, labels, is_paused) in all {
            let id = name.parse().unwrap();
            if selection.fits(&Candidate { id: &id, labels, is_paused, is_failing: is_paused }) {
                fitting.push(name);
            }
        }
        assert_eq!(fitting.join(" "), expect, "{}", selection.told());
    }

    #[test]
    fn conditions_narrow_the_choice() {
        let labels = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        let named = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
        let none = Selection::default;
        check(&Selection { all: true, ..none() }, "acculynx/a acculynx/b noop/a");
        check(&Selection { labels: labels(&[("region", "west")]), ..none() }, "acculynx/a");
        check(&Selection { labels: labels(&[("region", "west"), ("ring", "2")]), ..none() }, "");
        check(&Selection { named: named(&["a", "acculynx/b"]), ..none() }, "acculynx/a acculynx/b noop/a");
        check(&Selection { named: named(&["a"]), connector: Some(Connector::Noop), ..none() }, "noop/a");
        check(&Selection { condition: Some(Condition::Paused), ..none() }, "acculynx/b");
        check(&Selection { condition: Some(Condition::Active), all: true, ..none() }, "acculynx/a noop/a");
        check(&Selection { condition: Condition::of_name("failing"), ..none() }, "acculynx/b");
        assert!(none().is_empty() && !Selection { all: true, ..none() }.is_empty());
        for wrong in ["Upper", "noop/", "nowhere/a", ""] {
            assert!(wrong.parse::<Named>().is_err(), "{wrong}");
        }
    }
}
