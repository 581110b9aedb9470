//! Bookmarks: the highest value of a field, whether times, numbers or texts.

use std::cmp::Ordering;

use chrono::{DateTime, FixedOffset, SecondsFormat, TimeDelta, Utc};
use serde_json::Value;

use crate::core::model::Millis;

/// A value that can be compared with others of its kind. It is given back as it came.
#[derive(Clone, Debug, PartialEq)]
pub enum Mark {
    Time(DateTime<FixedOffset>, String),
    /// A number, or a text of digits only.
    Number(Value),
    Text(String),
}

impl Mark {
    /// Reads a field; `None` when it holds nothing that has an order.
    pub fn of(value: &Value) -> Option<Mark> {
        match value {
            Value::Number(_) => Some(Mark::Number(value.clone())),
            Value::String(text) if text.is_empty() => None,
            Value::String(text) => Some(match DateTime::parse_from_rfc3339(text) {
                Ok(at) => Mark::Time(at, text.clone()),
                Err(_) if digits(text).is_some() => Mark::Number(value.clone()),
                Err(_) => Mark::Text(text.clone()),
            }),
            _ => None,
        }
    }

    /// As it came, for the store and for requests.
    pub fn to_value(&self) -> Value {
        match self {
            Mark::Time(_, text) | Mark::Text(text) => text.as_str().into(),
            Mark::Number(value) => value.clone(),
        }
    }

    /// The day of a time, in UTC.
    pub fn date(&self) -> Option<String> {
        match self {
            Mark::Time(at, _) => Some(at.to_utc().format("%Y-%m-%d").to_string()),
            _ => None,
        }
    }

    /// How a message calls its kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Mark::Time(..) => "a time",
            Mark::Number(_) => "a number",
            Mark::Text(_) => "a text",
        }
    }

    /// Compares two of a kind; `None` for others.
    pub fn compare(&self, other: &Mark) -> Option<Ordering> {
        match (self, other) {
            (Mark::Time(a, _), Mark::Time(b, _)) => Some(a.cmp(b)),
            (Mark::Text(a), Mark::Text(b)) => Some(a.cmp(b)),
            (Mark::Number(a), Mark::Number(b)) => match (whole(a), whole(b)) {
                (Some(a), Some(b)) => Some(a.cmp(&b)),
                _ => float(a).partial_cmp(&float(b)),
            },
            _ => None,
        }
    }

    /// The higher of two.
    ///
    /// # Errors
    /// Both, when they are not of one kind.
    pub fn higher(self, other: Mark) -> Result<Mark, (Mark, Mark)> {
        match self.compare(&other) {
            Some(Ordering::Less) => Ok(other),
            Some(_) => Ok(self),
            None => Err((self, other)),
        }
    }

    /// A time after `now` becomes `now`: what changes while a list is read may slip in behind the reading.
    pub fn at_most(self, now: Millis) -> Mark {
        match (&self, DateTime::<Utc>::from_timestamp_millis(now)) {
            (Mark::Time(at, _), Some(now)) if *at > now => {
                Mark::Time(now.fixed_offset(), now.to_rfc3339_opts(SecondsFormat::Millis, true))
            }
            _ => self,
        }
    }

    /// So many seconds before: of times, and of numbers, which then count seconds.
    pub fn minus(self, seconds: u32) -> Mark {
        match &self {
            _ if seconds == 0 => self,
            Mark::Time(at, text) => {
                let zulu = text.ends_with(['Z', 'z']);
                let Some(at) = at.checked_sub_signed(TimeDelta::seconds(i64::from(seconds))) else { return self };
                Mark::Time(at, at.to_rfc3339_opts(SecondsFormat::AutoSi, zulu))
            }
            Mark::Number(value) => match (whole(value), value) {
                (Some(number), Value::String(_)) => Mark::Number((number - i128::from(seconds)).to_string().into()),
                (Some(number), _) => Mark::Number(
                    i64::try_from(number - i128::from(seconds)).map_or_else(|_| value.clone(), Value::from),
                ),
                (None, _) => Mark::Number((float(value) - f64::from(seconds)).into()),
            },
            Mark::Text(_) => self,
        }
    }
}

fn digits(text: &str) -> Option<i128> {
    (text.len() <= 30 && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

fn whole(value: &Value) -> Option<i128> {
    match value {
        Value::Number(number) => number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from)),
        Value::String(text) => text.strip_prefix('-').map_or_else(|| digits(text), |rest| digits(rest).map(|n| -n)),
        _ => None,
    }
}

fn float(value: &Value) -> f64 {
    match value {
        Value::String(text) => text.parse().unwrap_or(f64::NEG_INFINITY),
        other => other.as_f64().unwrap_or(f64::NEG_INFINITY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn mark(value: Value) -> Mark {
        Mark::of(&value).unwrap()
    }

    #[track_caller]
    fn check(low: Value, high: Value) {
        assert_eq!(mark(low.clone()).compare(&mark(high.clone())), Some(Ordering::Less));
        assert_eq!(mark(low).higher(mark(high.clone())).unwrap().to_value(), high);
    }

    #[test]
    fn each_kind_has_its_order() {
        check(json!("2026-01-01T12:00:00+02:00"), json!("2026-01-01T11:00:00Z"));
        check(json!(9), json!(10));
        check(json!("9"), json!("10"));
        check(json!(1.5), json!(2));
        check(json!(u64::MAX - 1), json!(u64::MAX));
        check(json!("a10"), json!("a9"));
        assert!(mark(json!(5)).higher(mark(json!("x"))).is_err());
        for nothing in [json!(null), json!(""), json!([]), json!(true)] {
            assert_eq!(Mark::of(&nothing), None);
        }
    }

    #[test]
    fn overlap_and_bound() {
        let back = |value: Value, seconds: u32| mark(value).minus(seconds).to_value();
        assert_eq!(back(json!("2026-01-01T00:00:30Z"), 60), json!("2025-12-31T23:59:30Z"));
        assert_eq!(back(json!("2026-01-01T00:00:30.250+02:00"), 0), json!("2026-01-01T00:00:30.250+02:00"));
        assert_eq!(back(json!("2026-01-01T00:00:30.250+02:00"), 10), json!("2026-01-01T00:00:20.250+02:00"));
        assert_eq!(back(json!(1000), 60), json!(940));
        assert_eq!(back(json!("1000"), 60), json!("940"));
        assert_eq!(back(json!(10.5), 60), json!(-49.5));
        assert_eq!(back(json!("abc"), 60), json!("abc"));
        let noon = 1_780_315_200_000;
        assert_eq!(mark(json!("2030-01-01T00:00:00Z")).at_most(noon).to_value(), json!("2026-06-01T12:00:00.000Z"));
        assert_eq!(mark(json!("2020-01-01T00:00:00Z")).at_most(noon).to_value(), json!("2020-01-01T00:00:00Z"));
        assert_eq!(mark(json!(5)).at_most(noon).to_value(), json!(5));
    }

    proptest! {
        #[test]
        fn the_highest_is_the_same_in_any_order(values in prop::collection::vec(any::<i64>(), 1..20)) {
            let fold = |values: &mut dyn Iterator<Item = i64>| {
                values.map(|n| mark(json!(n))).reduce(|a, b| a.higher(b).unwrap()).unwrap().to_value()
            };
            prop_assert_eq!(fold(&mut values.iter().copied()), json!(values.iter().max().unwrap()));
            prop_assert_eq!(fold(&mut values.iter().rev().copied()), json!(values.iter().max().unwrap()));
        }

        #[test]
        fn the_overlap_never_moves_forward(at in 0_i64..4_000_000_000, seconds in 0_u32..31_622_400) {
            let text = DateTime::<Utc>::from_timestamp(at, 0).unwrap().to_rfc3339();
            for value in [json!(text), json!(at), json!(at.to_string())] {
                let before = mark(value);
                let after = before.clone().minus(seconds);
                prop_assert_ne!(after.compare(&before), Some(Ordering::Greater));
            }
        }
    }
}
