//! Query parameters, read strictly: what is unknown, repeated or malformed is refused with the
//! parameter's name and what it takes.

use std::ops::RangeInclusive;

use super::problem::{Answer, Problem};
use crate::core::model::{Millis, Tenant};
use crate::core::timing::parse_time;

/// A request's query parameters, decoded.
#[derive(Clone, Debug, Default)]
pub struct Query {
    values: Vec<(String, String)>,
}

impl Query {
    /// Reads `raw`. With `known`, any other name is refused; without, the query is ignored.
    pub fn parse(raw: Option<&str>, known: Option<&[&str]>) -> Answer<Self> {
        let Some(known) = known else { return Ok(Query::default()) };
        let mut values: Vec<(String, String)> = Vec::new();
        for (name, value) in url::form_urlencoded::parse(raw.unwrap_or_default().as_bytes()) {
            if !known.contains(&name.as_ref()) {
                let takes = if known.is_empty() { "no parameters".into() } else { known.join(", ") };
                return Err(malformed(&name, format!("is not known here; this path takes {takes}")));
            }
            if values.iter().any(|(seen, _)| *seen == name) {
                return Err(malformed(&name, "is given more than once"));
            }
            values.push((name.into_owned(), value.into_owned()));
        }
        Ok(Query { values })
    }

    /// The value as written; an empty one counts as absent, as forms send it.
    pub fn text(&self, name: &str) -> Option<&str> {
        let (_, value) = self.values.iter().find(|(known, _)| known == name)?;
        Some(value.as_str()).filter(|value| !value.is_empty())
    }

    pub fn number(&self, name: &str, range: RangeInclusive<u32>) -> Answer<Option<u32>> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.map(Some).ok_or_else(|| {
            malformed(name, format!("takes a whole number from {} to {}, not \"{text}\"", range.start(), range.end()))
        })
    }

    pub fn flag(&self, name: &str) -> Answer<bool> {
        Ok(self.choice(name, &["0", "1", "false", "true"])?.is_some_and(|value| value == "1" || value == "true"))
    }

    pub fn choice<'a>(&self, name: &str, allowed: &'a [&'a str]) -> Answer<Option<&'a str>> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let found = allowed.iter().find(|choice| **choice == text).copied();
        found.map(Some).ok_or_else(|| malformed(name, format!("takes {}, not \"{text}\"", allowed.join(", "))))
    }

    pub fn tenant(&self, name: &str) -> Answer<Option<Tenant>> {
        let Some(text) = self.text(name) else { return Ok(None) };
        text.parse()
            .map(Some)
            .map_err(|why: crate::core::model::BadTenant| malformed(name, format!("names no tenant: {why}")))
    }

    /// An instant: RFC 3339 or epoch seconds.
    pub fn time(&self, name: &str) -> Answer<Option<Millis>> {
        let Some(text) = self.text(name) else { return Ok(None) };
        // A plus that was not escaped, as in +00:00, arrives as a space.
        let found = parse_time(text).or_else(|| parse_time(&text.replace(' ', "+")));
        found.map(Some).ok_or_else(|| {
            malformed(name, format!("takes RFC 3339 (2025-11-08T22:02:19Z) or epoch seconds, not \"{text}\""))
        })
    }
}

/// 400: the parameter and what is wrong with it.
pub fn malformed(name: &str, why: impl std::fmt::Display) -> Problem {
    Problem::bad_request("query-parameter", format!("The query parameter \"{name}\" {why}")).with("parameter", name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(raw: &str) -> Query {
        Query::parse(Some(raw), Some(&["limit", "since", "strict", "format", "tenant"])).unwrap()
    }

    #[test]
    fn strange_parameters_are_refused() {
        let known = ["limit", "tenant"];
        assert!(Query::parse(Some("limit=1"), Some(&known)).is_ok());
        assert!(Query::parse(Some("limits=1"), Some(&known)).is_err());
        assert!(Query::parse(Some("limit=1&limit=2"), Some(&known)).is_err());
        assert!(Query::parse(Some("x=1"), Some(&[])).is_err());
        assert!(Query::parse(Some("x=1"), None).is_ok());
    }

    #[test]
    fn values_are_read_by_kind() {
        assert_eq!(query("limit=50").number("limit", 1..=1000).unwrap(), Some(50));
        assert_eq!(query("").number("limit", 1..=1000).unwrap(), None);
        assert_eq!(query("limit=").number("limit", 1..=1000).unwrap(), None);
        for bad in ["limit=0", "limit=1001", "limit=-1", "limit=1.5", "limit=x"] {
            assert!(query(bad).number("limit", 1..=1000).is_err(), "{bad}");
        }
        assert!(query("strict=1").flag("strict").unwrap());
        assert!(!query("strict=false").flag("strict").unwrap());
        assert!(query("strict=yes").flag("strict").is_err());
        assert_eq!(query("format=csv").choice("format", &["csv", "json"]).unwrap(), Some("csv"));
        assert!(query("format=xml").choice("format", &["csv", "json"]).is_err());
        assert!(query("tenant=ACME").tenant("tenant").is_err());
    }

    #[test]
    fn times_may_be_iso_or_epoch_and_their_plus_unescaped() {
        let zero = Some(0);
        for text in ["since=0", "since=0.0", "since=1970-01-01T00:00:00Z", "since=1970-01-01T01:00:00+01:00"] {
            assert_eq!(query(text).time("since").unwrap(), zero, "{text}");
        }
        assert!(query("since=yesterday").time("since").is_err());
    }
}
