//! The rules of the keys that say how a schedule's runs behave: overlap, catch-up, repetition, limits.

use std::ops::RangeInclusive;

use super::check::{Checker, kind};
use super::finding::{Finding, Path, nearest, shown};
use super::moment::{Written, moment};
use super::scalar;
use super::tree::{Entry, Node, Value};
use crate::core::desired::finding::Mark;
use crate::core::model::{MAX_INTERVAL_SEC, ScheduleSpec};
use crate::core::policy::{CATCH_UP_MAX, CatchUp, Overlap, RETRY_BACKOFF_SEC};

/// A key that takes a whole number: its bounds, what they mean, and a value to write.
pub(super) struct Whole {
    pub bounds: RangeInclusive<u32>,
    pub about: &'static str,
    pub example: u32,
}

const fn whole(bounds: RangeInclusive<u32>, about: &'static str, example: u32) -> Whole {
    Whole { bounds, about, example }
}

fn field_of<'s>(spec: &'s mut ScheduleSpec, key: &str) -> Option<(&'s mut Option<u32>, Whole)> {
    Some(match key {
        "jitter_sec" => (&mut spec.jitter_sec, whole(0..=86_400, "seconds, at most a day", 60)),
        "catch_up_window_sec" => {
            (&mut spec.catch_up_window_sec, whole(1..=MAX_INTERVAL_SEC, "seconds, at most 366 days", 86_400))
        }
        "catch_up_max" => (&mut spec.catch_up_max, whole(1..=1_000, "a number of slots", 10)),
        "retries" => (&mut spec.retries, whole(0..=20, "repetitions of a failed run", 3)),
        "retry_backoff_sec" => (&mut spec.retry_backoff_sec, whole(1..=3_600, "seconds, at most an hour", 30)),
        "timeout_sec" => (&mut spec.timeout_sec, whole(1..=86_400, "seconds, at most a day", 600)),
        "start_deadline_sec" => {
            (&mut spec.start_deadline_sec, whole(1..=MAX_INTERVAL_SEC, "seconds, at most 366 days", 900))
        }
        "auto_pause_after" => (&mut spec.auto_pause_after, whole(1..=1_000, "failed runs in a row", 5)),
        "keep_runs" => (&mut spec.keep_runs, whole(1..=100_000, "runs", 500)),
        "keep_runs_days" => (&mut spec.keep_runs_days, whole(1..=3_660, "days", 90)),
        _ => return None,
    })
}

/// Where the bounds of a schedule's life stand, until its time zone is known.
#[derive(Default)]
pub(super) struct Life {
    start_at: Option<Written>,
    end_at: Option<Written>,
}

impl Checker {
    /// Reads the key if it is one of these.
    pub fn run_rule(&mut self, entry: &Entry<'_>, path: &Path<'_>, spec: &mut ScheduleSpec) -> bool {
        let node = &entry.value;
        self.places.note(&entry.key, entry.at);
        match entry.key.as_ref() {
            "overlap" => spec.overlap = self.one_of(node, path, &Overlap::ALL, Overlap::as_str),
            "catch_up" => spec.catch_up = self.one_of(node, path, &CatchUp::ALL, CatchUp::as_str),
            "start_at" => self.life.start_at = self.written(node, path),
            "end_at" => self.life.end_at = self.written(node, path),
            key => {
                let Some((field, rule)) = field_of(spec, key) else { return false };
                *field = self.whole(node, path, &rule);
            }
        }
        true
    }

    fn written(&mut self, node: &Node<'_>, path: &Path<'_>) -> Option<Written> {
        self.text(node, path).map(|text| Written { text: text.to_owned(), at: node.at })
    }

    /// Once all keys are read: moments in the schedule's time zone, and one way to say the usual.
    pub fn agree_on_runs(&mut self, spec: &mut ScheduleSpec) {
        let zone = spec.timezone.clone();
        let read = |key, written: &Option<Written>, out: &mut Vec<Finding>| {
            written.as_ref().and_then(|written| moment(key, written, zone.as_deref(), out))
        };
        spec.start_at = read("start_at", &self.life.start_at, &mut self.out);
        spec.end_at = read("end_at", &self.life.end_at, &mut self.out);
        if let (Some(start), Some(end), Some(written)) = (&spec.start_at, &spec.end_at, &self.life.end_at)
            && end <= start
        {
            let message = "end_at is not after start_at: the schedule would never run";
            self.out.push(
                Finding::error(written.at, "out-of-range", "/end_at".to_owned(), message)
                    .hint("set a later end_at, or remove one of them"),
            );
        }
        spec.overlap = spec.overlap.filter(|rule| *rule != Overlap::default());
        spec.catch_up = spec.catch_up.filter(|rule| *rule != CatchUp::default());
        spec.jitter_sec = spec.jitter_sec.filter(|sec| *sec != 0);
        spec.retries = spec.retries.filter(|retries| *retries != 0);
        spec.retry_backoff_sec = spec.retry_backoff_sec.filter(|sec| *sec != RETRY_BACKOFF_SEC);
        spec.catch_up_max = spec.catch_up_max.filter(|max| *max != CATCH_UP_MAX);
    }

    fn one_of<T: Copy>(
        &mut self,
        node: &Node<'_>,
        path: &Path<'_>,
        all: &[T],
        name: impl Fn(T) -> &'static str,
    ) -> Option<T> {
        let text = match &node.value {
            // `catch_up: none` is a text, but YAML has words of its own for nothing.
            Value::Text { text, .. } => text,
            Value::Null => {
                self.no_value(node, path);
                return None;
            }
            _ => {
                let names: Vec<&str> = all.iter().map(|rule| name(*rule)).collect();
                let wanted = format!("one of {}", names.join(", "));
                self.wrong_type(node, path, &wanted, &format!("a {}", kind(node)), None);
                return None;
            }
        };
        let found = all.iter().copied().find(|rule| name(*rule) == text.as_ref());
        if found.is_none() {
            let names = || all.iter().map(|rule| name(*rule));
            let message = format!("{} has no rule \"{}\"", shown(path.name()), shown(text));
            let hint = match nearest(text, names()) {
                Some(rule) => format!("did you mean \"{rule}\"?"),
                None => format!("there are: {}", names().collect::<Vec<_>>().join(", ")),
            };
            self.out.push(Finding::error(node.at, "unknown-rule", path.pointer(), message).hint(hint));
        }
        found
    }

    /// A whole number within its bounds.
    pub fn whole(&mut self, node: &Node<'_>, path: &Path<'_>, rule: &Whole) -> Option<u32> {
        const WANTED: &str = "a whole number";
        let example = format!("write a whole number, e.g. {}", rule.example);
        match &node.value {
            Value::Number { number, raw } if number.is_f64() && (raw.contains(['.', 'e', 'E'])) => {
                self.wrong_type(node, path, WANTED, &shown(raw), Some(example));
            }
            Value::Number { number, raw } => {
                let in_range = number.as_u64().and_then(|n| u32::try_from(n).ok());
                match in_range.filter(|n| rule.bounds.contains(n)) {
                    None => {
                        let (least, most) = (rule.bounds.start(), rule.bounds.end());
                        let message = format!("{} is {}, outside {least} to {most}", shown(path.name()), shown(raw));
                        let finding = Finding::error(node.at, "out-of-range", path.pointer(), message);
                        self.out.push(finding.hint(rule.about));
                    }
                    Some(n) if !scalar::is_ordinary_integer(raw) => {
                        let found = format!("\"{}\"", shown(raw));
                        self.wrong_type(node, path, "a plain decimal number", &found, Some(format!("write {n}")));
                    }
                    Some(n) => return Some(n),
                }
            }
            Value::Text { text, plain } => {
                let digits: String = text.chars().filter(|c| !matches!(c, '_' | ',' | '\'' | ' ')).collect();
                let hint = if scalar::is_ordinary_integer(&digits) && digits.len() < 12 {
                    let quoted = if *plain || node.at == Mark::NONE { "" } else { ", without quotes" };
                    format!("write {digits}{quoted}")
                } else {
                    example
                };
                self.wrong_type(node, path, WANTED, &format!("the text \"{}\"", shown(text)), Some(hint));
            }
            _ => self.mismatch(node, path, WANTED, &example),
        }
        None
    }
}
