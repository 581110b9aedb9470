//! What an import reads from its source, by name: a connector's own names, or those that a file gives.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A resource's name, checked: 1 to 64 of `a-z A-Z 0-9 . _ -`, starting with a letter or digit. Cheap to clone.
#[derive(Clone)]
pub struct Resource(Name);

/// Names that the program knows need no memory of their own.
#[derive(Clone)]
enum Name {
    Known(&'static str),
    Given(Arc<str>),
}

impl Resource {
    pub const JOBS: Resource = Resource(Name::Known("jobs"));
    pub const CONTACTS: Resource = Resource(Name::Known("contacts"));

    pub const ESTIMATES: Resource = Resource(Name::Known("estimates"));
    pub const USERS: Resource = Resource(Name::Known("users"));
    pub const MILESTONE_HISTORY: Resource = Resource(Name::Known("milestone_history"));
    /// The state that a Singer tap leaves for its next run.
    pub const SINGER_STATE: Resource = Resource(Name::Known("singer-state"));
    /// For what has no name that could be one.
    pub const UNNAMED: Resource = Resource(Name::Known("unnamed"));

    pub const PATTERN: &'static str = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$";

    /// The name of one of the above, which lives as long as the program.
    pub fn known(&self) -> Option<&'static str> {
        match self.0 {
            Name::Known(name) => Some(name),
            Name::Given(_) => None,
        }
    }

    pub fn as_str(&self) -> &str {
        match &self.0 {
            Name::Known(name) => name,
            Name::Given(name) => name,
        }
    }
}

/// Why a text is not a resource's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a resource's name is 1 to 64 of a-z, A-Z, 0-9, '.', '_' and '-', and starts with a letter or digit")]
pub struct BadResource;

impl FromStr for Resource {
    type Err = BadResource;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let starts_well = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        if starts_well && text.len() <= 64 && text.bytes().all(allowed) {
            Ok(Resource(Name::Given(text.into())))
        } else {
            Err(BadResource)
        }
    }
}

impl PartialEq for Resource {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Resource {}

impl PartialOrd for Resource {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Resource {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Hash for Resource {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Resource {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Resource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Resource {
    fn schema_name() -> Cow<'static, str> {
        "Resource".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "What an import reads from its source, by name: a connector's own names, or those of connection.requests.",
            "pattern": Self::PATTERN,
            "examples": ["jobs", "contacts", "orders"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for good in ["jobs", "Orders", "0", "a.b_c-d", &"x".repeat(64)] {
            assert_eq!(good.parse::<Resource>().unwrap().as_str(), good);
        }
        for bad in ["", "-a", ".a", "a b", "a/b", "é", &"x".repeat(65)] {
            assert_eq!(bad.parse::<Resource>(), Err(BadResource), "{bad}");
            assert!(serde_json::from_value::<Resource>(bad.into()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_known_name_is_the_same_however_it_came() {
        let given: Resource = "jobs".parse().unwrap();
        assert_eq!(given, Resource::JOBS);
        let set: std::collections::HashSet<Resource> = [given, Resource::JOBS].into();
        assert_eq!(set.len(), 1);
        assert_eq!(serde_json::to_value(Resource::JOBS).unwrap(), "jobs");
    }
}
