//! The proof that an edit did what was meant and nothing else.

use std::ops::Range;

use serde_json::{Map, Value as Json};

use super::parse::document;
use super::tree::{Node, Value};

const BYTE_ORDER_MARK: char = '\u{feff}';

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

/// A line of the text before.
struct Line<'t> {
    text: &'t str,
    bytes: Range<usize>,
    concern: Option<usize>,
}

fn untouched_lines_stay(before: &str, concerned: &[Concern], after: &str) -> bool {
    if before.starts_with(BYTE_ORDER_MARK) != after.starts_with(BYTE_ORDER_MARK) {
        return false;
    }
    let lines = lines(before, concerned);
    let spacing = spacing(&lines);
    let mut rest = after.split_inclusive('\n');
    let mut find = |matches: &dyn Fn(&str) -> bool| rest.any(matches);
    for (index, line) in lines.iter().enumerate() {
        // A line that may be the last on one side only has its end compared without the break.
        let last = index + 1 == lines.len();
        let bare = |text: &str| {
            let text = text.trim_start_matches(BYTE_ORDER_MARK);
            if last { text.trim_end_matches(['\r', '\n']).to_owned() } else { text.to_owned() }
        };
        let tail = line.concern.and_then(|concern| concerned.get(concern)?.tail);
        let kept = match tail.filter(|tail| line.bytes.contains(tail)) {
            Some(tail) => {
                let tail = before.get(tail..line.bytes.end).unwrap_or_default();
                // Nothing but the break behind the value: nothing to look for.
                tail.trim().is_empty() || find(&|other| bare(other).ends_with(&bare(tail)))
            }
            None if line.concern.is_some() || spacing.get(index) == Some(&true) => true,
            None => find(&|other| bare(other) == bare(line.text)),
        };
        if !kept {
            return false;
        }
    }
    true
}

fn lines<'t>(text: &'t str, concerned: &[Concern]) -> Vec<Line<'t>> {
    let ranges: Vec<Range<usize>> = concerned.iter().map(|concern| trimmed(text, &concern.bytes)).collect();
    let mut start = 0;
    let line = |line: &'t str| {
        let bytes = start..start + line.len();
        start = bytes.end;
        let touches = |range: &Range<usize>| range.start < bytes.end && range.end.max(range.start + 1) > bytes.start;
        Line { text: line, concern: ranges.iter().position(touches), bytes }
    };
    text.split_inclusive('\n').map(line).collect()
}

/// Which lines are empty and of a run of them that touches what changes: an entry's own spacing.
fn spacing(lines: &[Line<'_>]) -> Vec<bool> {
    let mut spacing = vec![false; lines.len()];
    let mut pass = |indices: &mut dyn Iterator<Item = usize>| {
        let mut beside = false;
        for index in indices {
            let (Some(line), Some(flag)) = (lines.get(index), spacing.get_mut(index)) else { return };
            let blank = line.concern.is_none() && line.text.trim().is_empty();
            beside = if blank { beside } else { line.concern.is_some() };
            *flag |= blank && beside;
        }
    };
    pass(&mut (0..lines.len()));
    pass(&mut (0..lines.len()).rev());
    spacing
}

/// The range without blanks at its end, which a block scalar's has.
fn trimmed(text: &str, range: &Range<usize>) -> Range<usize> {
    let slice = text.get(range.clone()).unwrap_or_default();
    range.start..range.start + slice.trim_end().len()
}
