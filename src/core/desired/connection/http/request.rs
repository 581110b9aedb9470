//! `requests`: how each resource is asked for.

use std::collections::{BTreeMap, BTreeSet};

use super::super::super::check::{Checker, kind};
use super::super::super::finding::{Finding, Path, nearest, shown};
use super::super::super::tree::{Entry, Node, Value};
use super::super::fields::{entries, field, place, whole, words};
use super::{STEADY, no_literal_secret, paging, template};
use crate::core::model::{HttpBookmark, HttpMethod, HttpRequest, Resource};
use crate::core::rest::template::Placeholder;

const KEYS: [&str; 9] = ["method", "path", "query", "body", "records", "key", "paging", "bookmark", "max_pages"];
const MAX_PATH_CHARS: usize = 1024;
const MAX_VALUE_CHARS: usize = 2048;
const MAX_REQUESTS: usize = 100;
const MAX_KEY_FIELDS: usize = 8;

pub(super) fn requests(checker: &mut Checker, node: &Node<'_>, path: &Path<'_>) -> BTreeMap<Resource, HttpRequest> {
    let mut requests = BTreeMap::new();
    let hint = "name a resource, e.g. orders: { path: /orders, key: id }";
    let entries = entries(checker, node, path, hint).unwrap_or_default();
    if entries.len() > MAX_REQUESTS {
        let message = format!("there are {} requests; the most is {MAX_REQUESTS}", entries.len());
        let finding = Finding::error(node.at, "out-of-range", path.pointer(), message);
        checker.out.push(finding.hint("put some of them into a schedule of their own"));
        return requests;
    }
    for entry in entries {
        let path = path.key(&entry.key);
        let name = entry.key.parse::<Resource>().map_err(|error| {
            let message = format!("\"{}\" is not a resource's name", shown(&entry.key));
            let finding = Finding::error(entry.at, "unknown-resource", path.pointer(), message);
            checker.out.push(finding.hint(error.to_string()));
        });
        let request = Reading::new(checker).request(&entry.value, &path);
        if let (Ok(name), Some(request)) = (name, request) {
            requests.insert(name, request);
        }
    }
    requests
}

/// One request while it is read.
struct Reading<'c> {
    checker: &'c mut Checker,
    /// The placeholders that have a value in it.
    allowed: Vec<Placeholder>,
    used: BTreeSet<Placeholder>,
}

impl<'c> Reading<'c> {
    fn new(checker: &'c mut Checker) -> Self {
        Reading { checker, allowed: STEADY.to_vec(), used: BTreeSet::new() }
    }

    fn request(mut self, node: &Node<'_>, path: &Path<'_>) -> Option<HttpRequest> {
        let entries = entries(self.checker, node, path, "write e.g. { path: /orders, key: id }")?;
        let errors = self.checker.out.len();
        let find = |key: &str| entries.iter().find(|entry| entry.key == key);
        // These two give placeholders their values.
        let bookmark = find("bookmark").and_then(|entry| self.bookmark(&entry.value, &path.key("bookmark")));
        let has_start = bookmark.as_ref().is_some_and(|bookmark| bookmark.start.is_some());
        let paging = find("paging").and_then(|entry| paging::paging(self.checker, &entry.value, &path.key("paging")));
        self.allowed.extend(paging.iter().flat_map(paging::placeholders));
        let marks = [Placeholder::Bookmark, Placeholder::BookmarkDate];
        self.allowed.extend(marks.iter().filter(|_| find("bookmark").is_some()));
        let mut request = HttpRequest {
            method: HttpMethod::default(),
            path: String::new(),
            query: BTreeMap::new(),
            body: None,
            records: String::new(),
            key: Vec::new(),
            paging,
            bookmark,
            max_pages: None,
        };
        for entry in entries {
            self.entry(entry, &path.key(&entry.key), &mut request, has_start);
        }
        for (key, hint) in [("path", "add e.g. path: /orders"), ("key", "add the record's id, e.g. key: id")] {
            if find(key).is_none() {
                let message = format!("{} needs {key}", shown(path.name()));
                let finding = Finding::error(node.at, "missing-key", path.pointer(), message);
                self.checker.out.push(finding.hint(hint));
            }
        }
        if let (HttpMethod::Get, Some(body)) = (request.method, find("body")) {
            let message = "a body goes with POST only";
            let finding = Finding::error(body.at, "body-without-post", path.key("body").pointer(), message);
            self.checker.out.push(finding.hint("add method: POST, or move what is asked into query"));
        }
        self.pages_move_on(node, path, &request);
        (self.checker.out.len() == errors).then_some(request)
    }

    fn entry(&mut self, entry: &Entry<'_>, path: &Path<'_>, request: &mut HttpRequest, has_start: bool) {
        let node = &entry.value;
        match entry.key.as_ref() {
            "method" => request.method = self.method(node, path).unwrap_or_default(),
            "path" => request.path = self.path(node, path, has_start).unwrap_or_default(),
            "query" => request.query = self.query(node, path),
            "body" => request.body = self.body(node, path),
            "records" => request.records = place(self.checker, node, path).unwrap_or_default(),
            "key" => request.key = self.key(node, path),
            "max_pages" => {
                let pages = whole(self.checker, node, path, 1..=1_000_000, "pages");
                request.max_pages = pages.filter(|pages| *pages != HttpRequest::MOST_PAGES);
            }
            "paging" | "bookmark" => {}
            _ => self.checker.unknown_key(entry, path, &KEYS),
        }
    }

    fn method(&mut self, node: &Node<'_>, path: &Path<'_>) -> Option<HttpMethod> {
        let text = self.checker.text(node, path)?;
        match text {
            "GET" => return Some(HttpMethod::Get),
            "POST" => return Some(HttpMethod::Post),
            _ => {}
        }
        let message = format!("method is GET or POST, not {}", shown(text));
        let hint = nearest(text, ["GET", "POST"]).map_or("write GET or POST".into(), |near| format!("write {near}"));
        self.checker.out.push(Finding::error(node.at, "out-of-range", path.pointer(), message).hint(hint));
        None
    }

    fn path(&mut self, node: &Node<'_>, path: &Path<'_>, has_start: bool) -> Option<String> {
        let text = words(self.checker, node, path, MAX_PATH_CHARS)?;
        let fault = if !text.starts_with('/') {
            Some(("path begins with a slash", "write e.g. /orders; the host stands in base_url"))
        } else if text.contains(['?', '#']) {
            Some(("path has a query or a fragment", "put parameters into query"))
        } else if text.contains('\\') || text.replace("{{ ", "{{").replace(" }}", "}}").contains(char::is_whitespace) {
            Some(("path contains a blank or a backslash", "write a blank as %20"))
        } else if text.split('/').any(|step| matches!(step, "." | "..")) {
            Some(("path steps up with dots", "write it out, from base_url on"))
        } else {
            None
        };
        if let Some((message, hint)) = fault {
            self.checker.out.push(Finding::error(node.at, "bad-path", path.pointer(), message).hint(hint));
            return None;
        }
        let always = |placeholder: &Placeholder| match placeholder {
            Placeholder::Cursor | Placeholder::BookmarkDate => false,
            Placeholder::Bookmark => has_start,
            _ => true,
        };
        let allowed: Vec<Placeholder> = self.allowed.iter().copied().filter(always).collect();
        self.used.extend(template::check(self.checker, node, path, &text, &allowed)?);
        Some(text)
    }

    /// Parameters; numbers and booleans are taken for the texts that they are sent as.
    fn query(&mut self, node: &Node<'_>, path: &Path<'_>) -> BTreeMap<String, String> {
        let mut query = BTreeMap::new();
        let hint = "write e.g. { updated_since: \"{{bookmark}}\" }";
        for entry in entries(self.checker, node, path, hint).unwrap_or_default() {
            let path = path.key(&entry.key);
            let text = match &entry.value.value {
                Value::Number { raw, .. } => Some(raw.as_ref().to_owned()),
                Value::Bool(yes) => Some(yes.to_string()),
                Value::Text { text, .. } if text.is_empty() => Some(String::new()),
                _ => words(self.checker, &entry.value, &path, MAX_VALUE_CHARS),
            };
            if !(1..=64).contains(&entry.key.chars().count()) {
                let message = "a parameter's name has 1 to 64 characters";
                let finding = Finding::error(entry.at, "out-of-range", path.pointer(), message);
                self.checker.out.push(finding.hint("write the name that the source documents"));
            } else if let Some(text) = text
                && no_literal_secret(self.checker, entry, &path)
                && let Some(used) = template::check(self.checker, &entry.value, &path, &text, &self.allowed)
            {
                self.used.extend(used);
                query.insert(entry.key.as_ref().to_owned(), text);
            }
        }
        query
    }

    fn body(&mut self, node: &Node<'_>, path: &Path<'_>) -> Option<serde_json::Value> {
        match &node.value {
            Value::Map(_) | Value::List(_) => self.body_part(node, path),
            _ => self.checker.mismatch(node, path, "a mapping or a list", "write what is sent as JSON, in YAML"),
        }
        Some(node.to_json())
    }

    fn body_part(&mut self, node: &Node<'_>, path: &Path<'_>) {
        match &node.value {
            Value::Text { text, .. } => {
                let used = template::check(self.checker, node, path, text, &self.allowed);
                self.used.extend(used.unwrap_or_default());
            }
            Value::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.body_part(item, &path.key(&index.to_string()));
                }
            }
            Value::Map(entries) => {
                for entry in entries {
                    let path = path.key(&entry.key);
                    if no_literal_secret(self.checker, entry, &path) {
                        self.body_part(&entry.value, &path);
                    }
                }
            }
            _ => {}
        }
    }

    /// One field, or a list of them.
    fn key(&mut self, node: &Node<'_>, path: &Path<'_>) -> Vec<String> {
        match &node.value {
            Value::List(items) if (1..=MAX_KEY_FIELDS).contains(&items.len()) => {
                let fields = items.iter().enumerate();
                fields.filter_map(|(index, item)| field(self.checker, item, &path.key(&index.to_string()))).collect()
            }
            Value::Text { .. } => field(self.checker, node, path).into_iter().collect(),
            Value::List(items) => {
                let message = format!("key has {} fields; it takes 1 to {MAX_KEY_FIELDS}", items.len());
                let finding = Finding::error(node.at, "out-of-range", path.pointer(), message);
                self.checker.out.push(finding.hint("name what makes a record the only one, e.g. key: id"));
                Vec::new()
            }
            Value::Null => {
                self.checker.no_value(node, path);
                Vec::new()
            }
            _ => {
                let hint = Some("write e.g. key: id, or key: [account, id]".to_owned());
                self.checker.wrong_type(node, path, "a field or a list of fields", &format!("a {}", kind(node)), hint);
                Vec::new()
            }
        }
    }

    fn bookmark(&mut self, node: &Node<'_>, path: &Path<'_>) -> Option<HttpBookmark> {
        const KEYS: [&str; 3] = ["field", "start", "overlap_sec"];
        let mut bookmark = HttpBookmark::default();
        let entries = entries(self.checker, node, path, "write e.g. { field: updated_at }")?;
        for entry in entries {
            let path = path.key(&entry.key);
            match entry.key.as_ref() {
                "field" => bookmark.field = field(self.checker, &entry.value, &path)?,
                "start" => bookmark.start = self.start(&entry.value, &path),
                "overlap_sec" => {
                    bookmark.overlap_sec =
                        whole(self.checker, &entry.value, &path, 0..=31_622_400, "seconds, at most 366 days")
                            .unwrap_or_default();
                }
                _ => self.checker.unknown_key(entry, &path, &KEYS),
            }
        }
        if bookmark.field.is_empty() {
            let finding = Finding::error(node.at, "missing-key", path.pointer(), "bookmark needs field");
            self.checker.out.push(finding.hint("name the field that only grows, e.g. field: updated_at"));
            return None;
        }
        Some(bookmark)
    }

    /// A number is taken for its text.
    fn start(&mut self, node: &Node<'_>, path: &Path<'_>) -> Option<String> {
        match &node.value {
            Value::Number { raw, .. } => Some(raw.as_ref().to_owned()),
            _ => words(self.checker, node, path, 256),
        }
    }

    /// Without anything that changes from page to page, every page would be the first.
    fn pages_move_on(&mut self, node: &Node<'_>, path: &Path<'_>, request: &HttpRequest) {
        let carried = request.paging.as_ref().and_then(paging::carried_by_placeholder);
        let Some((way, placeholder)) = carried.filter(|(_, placeholder)| !self.used.contains(placeholder)) else {
            return;
        };
        let name = placeholder.as_str();
        let message = format!("nothing carries the {way} to the source");
        let finding = Finding::error(node.at, "missing-key", path.key("paging").pointer(), message);
        self.checker
            .out
            .push(finding.hint(format!("add param to paging.{way}, or put {{{{{name}}}}} into query or body")));
    }
}
