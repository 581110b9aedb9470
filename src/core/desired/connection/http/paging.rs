//! `paging`: one way from a page to the next.

use super::super::super::check::Checker;
use super::super::super::finding::{Finding, Path};
use super::super::super::tree::{Node, Value};
use super::super::fields::{choice, entries, field, parameter, whole};
use crate::core::model::{CursorPaging, HttpPaging, OffsetPaging, PagePaging};
use crate::core::rest::template::Placeholder;

const WAYS: [&str; 5] = ["cursor", "offset", "page", "link", "next_url"];
const MOST: u32 = 1_000_000;

pub(super) fn paging(checker: &mut Checker, node: &Node<'_>, path: &Path<'_>) -> Option<HttpPaging> {
    let entry = choice(checker, node, path, &WAYS)?;
    let path = path.key(&entry.key);
    let node = &entry.value;
    match entry.key.as_ref() {
        "cursor" => cursor(checker, node, &path).map(HttpPaging::Cursor),
        "offset" => offset(checker, node, &path).map(HttpPaging::Offset),
        "page" => page(checker, node, &path).map(HttpPaging::Page),
        "next_url" => field(checker, node, &path).map(HttpPaging::NextUrl),
        _ if matches!(node.value, Value::Bool(true)) => Some(HttpPaging::Link(true)),
        _ => {
            checker.mismatch(node, &path, "true", "write link: true, or remove paging");
            None
        }
    }
}

/// The placeholders that a way of paging gives a value.
pub(super) fn placeholders(paging: &HttpPaging) -> Vec<Placeholder> {
    let limit = |size: Option<u32>| size.map(|_| Placeholder::Limit);
    match paging {
        HttpPaging::Cursor(_) => vec![Placeholder::Cursor],
        HttpPaging::Offset(paging) => [Placeholder::Offset].into_iter().chain(limit(paging.limit)).collect(),
        HttpPaging::Page(paging) => [Placeholder::Page].into_iter().chain(limit(paging.size)).collect(),
        HttpPaging::Link(_) | HttpPaging::NextUrl(_) => Vec::new(),
    }
}

/// What has to be sent for the next page to be another one: the placeholder, unless a parameter carries it.
pub(super) fn carried_by_placeholder(paging: &HttpPaging) -> Option<(&'static str, Placeholder)> {
    let (way, param, placeholder) = match paging {
        HttpPaging::Cursor(paging) => ("cursor", &paging.param, Placeholder::Cursor),
        HttpPaging::Offset(paging) => ("offset", &paging.param, Placeholder::Offset),
        HttpPaging::Page(paging) => ("page", &paging.param, Placeholder::Page),
        HttpPaging::Link(_) | HttpPaging::NextUrl(_) => return None,
    };
    param.is_none().then_some((way, placeholder))
}

fn cursor(checker: &mut Checker, node: &Node<'_>, path: &Path<'_>) -> Option<CursorPaging> {
    const KEYS: [&str; 4] = ["at", "last", "param", "more"];
    let mut paging = CursorPaging::default();
    let mut seen = 0;
    for entry in entries(checker, node, path, "write e.g. { at: /next, param: cursor }")? {
        let path = path.key(&entry.key);
        let value = &entry.value;
        seen += u32::from(matches!(entry.key.as_ref(), "at" | "last"));
        match entry.key.as_ref() {
            "at" => paging.at = field(checker, value, &path),
            "last" => paging.last = field(checker, value, &path),
            "param" => paging.param = parameter(checker, value, &path),
            "more" => paging.more = field(checker, value, &path),
            _ => checker.unknown_key(entry, &path, &KEYS),
        }
    }
    if seen != 1 {
        let message = "a cursor stands either at a place of the answer or in the last record";
        let finding = Finding::error(node.at, "missing-key", path.pointer(), message);
        checker.out.push(finding.hint("give one of at (e.g. at: /next) and last (e.g. last: id)"));
        return None;
    }
    Some(paging)
}

fn offset(checker: &mut Checker, node: &Node<'_>, path: &Path<'_>) -> Option<OffsetPaging> {
    const KEYS: [&str; 5] = ["param", "limit_param", "limit", "more", "total"];
    let mut paging = OffsetPaging::default();
    for entry in entries(checker, node, path, "write e.g. { param: offset, limit_param: limit, limit: 100 }")? {
        let path = path.key(&entry.key);
        let value = &entry.value;
        match entry.key.as_ref() {
            "param" => paging.param = parameter(checker, value, &path),
            "limit_param" => paging.limit_param = parameter(checker, value, &path),
            "limit" => paging.limit = whole(checker, value, &path, 1..=MOST, "records a page"),
            "more" => paging.more = field(checker, value, &path),
            "total" => paging.total = field(checker, value, &path),
            _ => checker.unknown_key(entry, &path, &KEYS),
        }
    }
    sized(checker, node, path, paging.limit_param.is_some() && paging.limit.is_none(), "limit")?;
    Some(paging)
}

fn page(checker: &mut Checker, node: &Node<'_>, path: &Path<'_>) -> Option<PagePaging> {
    const KEYS: [&str; 6] = ["param", "first", "size_param", "size", "more", "total"];
    let mut paging = PagePaging::default();
    for entry in entries(checker, node, path, "write e.g. { param: page, size_param: per_page, size: 100 }")? {
        let path = path.key(&entry.key);
        let value = &entry.value;
        match entry.key.as_ref() {
            "param" => paging.param = parameter(checker, value, &path),
            // The usual first page needs no saying, so that files which say it mean the same.
            "first" => {
                paging.first = whole(checker, value, &path, 0..=MOST, "a page's number").filter(|first| *first != 1);
            }
            "size_param" => paging.size_param = parameter(checker, value, &path),
            "size" => paging.size = whole(checker, value, &path, 1..=MOST, "records a page"),
            "more" => paging.more = field(checker, value, &path),
            "total" => paging.total = field(checker, value, &path),
            _ => checker.unknown_key(entry, &path, &KEYS),
        }
    }
    sized(checker, node, path, paging.size_param.is_some() && paging.size.is_none(), "size")?;
    Some(paging)
}

/// A parameter for a page's size needs the size.
fn sized(checker: &mut Checker, node: &Node<'_>, path: &Path<'_>, lacks: bool, key: &str) -> Option<()> {
    if !lacks {
        return Some(());
    }
    let message = format!("{key}_param has nothing to carry");
    let finding = Finding::error(node.at, "missing-key", path.pointer(), message);
    checker.out.push(finding.hint(format!("add {key}, e.g. {key}: 100")));
    None
}
