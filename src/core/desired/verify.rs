//! The proof that an edit did what was meant and nothing else.

use std::ops::Range;

use serde_json::{Map, Value as Json};

use super::parse::document;
use super::tree::{Node, Value};

/// Whether `after` says exactly `target`, and has every line of `before` that the change does not
/// concern, byte by byte and in order, and what stands behind a replaced value.
pub(super) fn verify(before: &str, root: Option<&Node<'_>>, after: &str, target: &Json) -> bool {
    let says = |root: Node<'_>| root.to_json() == *target;
    if !document(after).is_ok_and(|root| root.is_some_and(says)) {
        return false;
    }
    let mut concerned = Vec::new();
    if let (Some(root), Json::Object(wanted)) = (root, target) {
        collect(before, root, wanted, &mut concerned);
    }
    untouched_lines_stay(before, &concerned, after)
}

/// A range of bytes whose lines may change.
struct Concern {
    bytes: Range<usize>,
    /// What follows on the last line stays: its start.
    tail: Option<usize>,
}

fn collect(text: &str, map: &Node<'_>, wanted: &Map<String, Json>, out: &mut Vec<Concern>) {
    let Value::Map(entries) = &map.value else { return };
    let same_keys =
        entries.len() == wanted.len() && entries.iter().all(|entry| wanted.contains_key(entry.key.as_ref()));
    let flow = text.as_bytes().get(map.span.start) == Some(&b'{');
    if flow && !same_keys {
        out.push(Concern { bytes: map.span.clone(), tail: Some(map.span.end) });
        return;
    }
    for entry in entries {
        let value = &entry.value;
        match (wanted.get(entry.key.as_ref()), &value.value) {
            (None, _) => {
                let tail = renamed(&entry.key, wanted).then_some(value.span.end);
                out.push(Concern { bytes: entry.span.start..value.span.end, tail });
            }
            (Some(same), _) if value.to_json() == *same => {}
            (Some(Json::Object(inner)), Value::Map(had)) if !had.is_empty() && !is_alias(text, value) => {
                if inner.is_empty() {
                    out.push(Concern { bytes: entry.span.start..value.span.end, tail: None });
                } else {
                    collect(text, value, inner, out);
                }
            }
            (Some(_), kind) => {
                let block = matches!(text.as_bytes().get(value.span.start), Some(b'|' | b'>'));
                let plain = !block && !matches!(kind, Value::Map(_) | Value::List(_));
                let tail = plain.then_some(value.span.end);
                out.push(Concern { bytes: entry.span.start..value.span.end, tail });
            }
        }
    }
}

/// Whether this key's line went over to the other cadence.
fn renamed(key: &str, wanted: &Map<String, Json>) -> bool {
    match key {
        "interval_sec" => wanted.contains_key("cron"),
        "cron" => wanted.contains_key("interval_sec"),
        _ => false,
    }
}

fn is_alias(text: &str, node: &Node<'_>) -> bool {
    text.as_bytes().get(node.span.start) == Some(&b'*')
}

fn untouched_lines_stay(before: &str, concerned: &[Concern], after: &str) -> bool {
    let after_lines: Vec<&str> = after.split_inclusive('\n').collect();
    let mut next = 0;
    let mut find = |matches: &dyn Fn(&str) -> bool| {
        let found = after_lines.iter().skip(next).position(|line| matches(line));
        next += found.map_or(0, |skipped| skipped + 1);
        found.is_some()
    };
    let mut ranges = concerned.iter().map(|c| (trimmed(before, &c.bytes), c.tail)).collect::<Vec<_>>();
    ranges.sort_by_key(|(range, _)| range.start);
    let mut start = 0;
    for line in before.split_inclusive('\n') {
        let end = start + line.len();
        let last = end == before.len();
        // A line that may be the last on one side only has its end compared without the break.
        let bare = |line: &str| if last { line.trim_end_matches(['\r', '\n']).to_owned() } else { line.to_owned() };
        let touching =
            |range: &Range<usize>| range.start < end && range.end > start || range.start == start && range.is_empty();
        let kept = match ranges.iter().find(|(range, _)| touching(range)) {
            None => find(&|other| bare(other) == bare(line)),
            Some((_, Some(tail))) if (start..end).contains(tail) => {
                let tail = before.get(*tail..end).unwrap_or_default();
                // Nothing but the break behind the value: nothing to look for.
                tail.trim().is_empty() || find(&|other| bare(other).ends_with(&bare(tail)))
            }
            Some(_) => true,
        };
        if !kept {
            return false;
        }
        start = end;
    }
    true
}

/// The range without blanks at its end, which a block scalar's has.
fn trimmed(text: &str, range: &Range<usize>) -> Range<usize> {
    let slice = text.get(range.clone()).unwrap_or_default();
    range.start..range.start + slice.trim_end().len()
}
