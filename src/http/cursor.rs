//! Cursors: opaque to callers, and refused when they belong to another list.

use super::problem::{Answer, Problem};
use super::query::{Query, malformed};

/// The list a cursor goes on in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    Status,
    Audit,
    History,
    Records,
    Runs,
}

impl List {
    fn mark(self) -> &'static str {
        match self {
            List::Status => "s",
            List::Audit => "a",
            List::History => "h",
            List::Records => "r",
            List::Runs => "n",
        }
    }
}

/// The cursor that goes on from `key`.
pub fn encode(list: List, key: i64) -> String {
    hex::encode(format!("{}{key}", list.mark()))
}

/// The key from which the query's `cursor` goes on.
pub fn decode(query: &Query, list: List) -> Answer<Option<i64>> {
    let Some(text) = query.text("cursor") else { return Ok(None) };
    let key = hex::decode(text)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .and_then(|plain| plain.strip_prefix(list.mark())?.parse().ok());
    key.map(Some).ok_or_else(foreign)
}

/// The cursor that goes on behind a record, by its resource and key.
pub fn encode_record((resource, key): &(String, String)) -> String {
    hex::encode(format!("{}{resource}/{key}", List::Records.mark()))
}

/// The record behind which the query's `cursor` goes on.
pub fn decode_record(query: &Query) -> Answer<Option<(String, String)>> {
    let Some(text) = query.text("cursor") else { return Ok(None) };
    let place = hex::decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok()).and_then(|plain| {
        // A resource's name has no slash; a key may.
        let (resource, key) = plain.strip_prefix(List::Records.mark())?.split_once('/')?;
        Some((resource.to_owned(), key.to_owned()))
    });
    place.map(Some).ok_or_else(foreign)
}

fn foreign() -> Problem {
    malformed("cursor", "takes a next_cursor of this list, unchanged")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(list: List, cursor: &str) -> Option<Option<i64>> {
        let raw = format!("cursor={cursor}");
        decode(&Query::parse(Some(&raw), Some(&["cursor"])).unwrap(), list).ok()
    }

    #[test]
    fn a_cursor_comes_back_to_its_own_list_only() {
        for key in [0, 1, 1024, i64::MAX] {
            assert_eq!(check(List::Audit, &encode(List::Audit, key)), Some(Some(key)));
            assert_eq!(check(List::Status, &encode(List::Audit, key)), None);
        }
        assert_eq!(check(List::Status, "17"), None);
        assert_eq!(check(List::Status, "zz"), None);
        assert_eq!(check(List::Status, ""), Some(None));
    }

    #[test]
    fn a_records_cursor_keeps_any_key() {
        let check = |cursor: &str| {
            let raw = format!("cursor={cursor}");
            decode_record(&Query::parse(Some(&raw), Some(&["cursor"])).unwrap()).ok()
        };
        for key in ["1", "a/b", "", "ü\n"] {
            let place = ("jobs".to_owned(), key.to_owned());
            assert_eq!(check(&encode_record(&place)), Some(Some(place)));
        }
        assert_eq!(check(&encode(List::Audit, 3)), None);
        assert_eq!(check(""), Some(None));
    }
}
