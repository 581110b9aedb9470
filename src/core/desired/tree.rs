//! YAML text to located nodes, within fixed bounds of depth and size whatever the text.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use granit_parser::{ErrorKind, Event, Marker, Options, Parser, ScalarStyle, ScanError, Span};
use serde_json::Number;

use super::finding::{Finding, Mark, escape, shown};
use super::scalar;

/// Deeper nesting than this is refused; a schedule needs three levels.
const MAX_DEPTH: usize = 32;
/// More nodes and bytes than this, after aliases are followed, are refused.
const MAX_NODES: usize = 40_000;
const MAX_ALIASED_BYTES: usize = 1 << 20;
/// A mapping with more keys than this looks for duplicates in a set.
const FEW: usize = 16;
/// Below these keys a misplaced secret may be a key itself, so nothing below it is named.
const SECRETS: [&str; 2] = ["/api_key", "/webhook_token"];

#[derive(Clone, Debug)]
pub(super) struct Node<'t> {
    pub at: Mark,
    /// The bytes of the value as written; of a block collection, from its first to past its last child.
    pub span: Range<usize>,
    pub value: Value<'t>,
}

#[derive(Clone, Debug)]
pub(super) enum Value<'t> {
    Null,
    Bool(bool),
    Number { number: Number, raw: Cow<'t, str> },
    Text { text: Cow<'t, str>, plain: bool },
    List(Vec<Node<'t>>),
    Map(Vec<Entry<'t>>),
}

#[derive(Clone, Debug)]
pub(super) struct Entry<'t> {
    pub key: Cow<'t, str>,
    pub at: Mark,
    pub span: Range<usize>,
    pub value: Node<'t>,
}

/// What reading gave: the root if there is one, and everything that is wrong with the text as YAML.
pub(super) struct Loaded<'t> {
    pub root: Option<Node<'t>>,
    pub findings: Vec<Finding>,
    /// Where the first anchor or alias stands.
    pub shared_at: Option<Mark>,
}

/// Reads one document. Stops at the first syntax error; collects what does not keep it from going on.
pub(super) fn load(text: &str) -> Loaded<'_> {
    let mut options = Options::default();
    options.set_emit_comments(false);
    options.flow_nesting_limit = MAX_DEPTH;
    options.block_nesting_limit = MAX_DEPTH;
    let mut builder = Builder::default();
    for next in Parser::new_from_str_with_options(text, options) {
        let step = match next {
            Ok((event, span)) => builder.take(event, &span),
            Err(error) => Err(syntax_error(&error, text)),
        };
        if let Err(finding) = step {
            builder.findings.push(finding);
            builder.root = None;
            break;
        }
    }
    Loaded { root: builder.root, findings: builder.findings, shared_at: builder.shared_at }
}

pub(super) fn mark(at: &Marker) -> Mark {
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Mark { line: number(at.line()), column: number(at.col()).saturating_add(1) }
}

fn bytes(span: &Span) -> Range<usize> {
    span.byte_range().unwrap_or_default()
}

/// A collection whose end has not come yet.
struct Open<'t> {
    at: Mark,
    span: Range<usize>,
    anchor: usize,
    content: Content<'t>,
}

enum Content<'t> {
    List(Vec<Node<'t>>),
    Map { entries: Vec<Entry<'t>>, seen: BTreeSet<Cow<'t, str>>, key: Option<Key<'t>> },
}

struct Key<'t> {
    text: Cow<'t, str>,
    at: Mark,
    span: Range<usize>,
    /// Duplicates, merge keys and keys that are no text: read past, kept out of the tree.
    dropped: bool,
}

struct Anchored<'t> {
    node: Node<'t>,
    depth: usize,
    nodes: usize,
    bytes: usize,
}

#[derive(Default)]
struct Builder<'t> {
    root: Option<Node<'t>>,
    open: Vec<Open<'t>>,
    anchors: HashMap<usize, Anchored<'t>>,
    findings: Vec<Finding>,
    shared_at: Option<Mark>,
    documents: usize,
    nodes: usize,
    aliased_bytes: usize,
}

impl<'t> Builder<'t> {
    fn take(&mut self, event: Event<'t>, span: &Span) -> Result<(), Finding> {
        let at = mark(&span.start);
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(Finding::error(
                        at,
                        "multi-document",
                        String::new(),
                        "the file holds more than one document",
                    )
                    .hint("one file is one schedule: remove everything from this \"---\" on"));
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_tag(tag.is_some(), span, at);
                let value = if style == ScalarStyle::Plain {
                    scalar::resolve(text)
                } else {
                    Value::Text { text, plain: false }
                };
                return self.place(Node { at, span: bytes(span), value }, anchor);
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.refuse_tag(tag.is_some(), span, at);
                return self.descend(at, span, anchor, Content::List(Vec::new()));
            }
            Event::MappingStart(_, anchor, tag) => {
                self.refuse_tag(tag.is_some(), span, at);
                let content = Content::Map { entries: Vec::with_capacity(4), seen: BTreeSet::new(), key: None };
                return self.descend(at, span, anchor, content);
            }
            Event::SequenceEnd | Event::MappingEnd => return self.ascend(span),
            Event::Alias(anchor) => return self.follow(anchor, at, span),
            _ => {}
        }
        Ok(())
    }

    fn refuse_tag(&mut self, tagged: bool, span: &Span, at: Mark) {
        if tagged {
            let at = span.tag_start().map_or(at, |start| mark(&start));
            let field = self.pointer();
            self.findings.push(
                Finding::error(at, "unsupported-tag", field, "YAML tags (\"!…\") are not supported here")
                    .hint("remove the tag; quote the value if it is to be text"),
            );
        }
    }

    fn descend(&mut self, at: Mark, span: &Span, anchor: usize, content: Content<'t>) -> Result<(), Finding> {
        if self.open.len() >= MAX_DEPTH {
            return Err(Finding::error(
                at,
                "too-deep",
                String::new(),
                format!("nested deeper than {MAX_DEPTH} levels"),
            )
            .hint("a schedule needs three levels at most"));
        }
        if self.at_key() {
            self.complex_key(at);
        }
        self.open.push(Open { at, span: bytes(span), anchor, content });
        Ok(())
    }

    fn ascend(&mut self, end: &Span) -> Result<(), Finding> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        let last = match &open.content {
            Content::List(items) => items.last().map(|item| item.span.end),
            Content::Map { entries, .. } => entries.last().map(|entry| entry.value.span.end.max(entry.span.end)),
        };
        // A block collection's end is reported where the next thing begins; its last child's end is meant.
        let flow_end = bytes(end);
        let stop = if flow_end.is_empty() { last.unwrap_or(open.span.end) } else { flow_end.end };
        let value = match open.content {
            Content::List(items) => Value::List(items),
            Content::Map { entries, .. } => Value::Map(entries),
        };
        self.place(Node { at: open.at, span: open.span.start..stop.max(open.span.start), value }, open.anchor)
    }

    fn follow(&mut self, anchor: usize, at: Mark, span: &Span) -> Result<(), Finding> {
        self.shared_at.get_or_insert(at);
        let Some(found) = self.anchors.get(&anchor) else {
            return Err(Finding::error(
                at,
                "recursive-alias",
                self.pointer(),
                "this alias refers to what it is part of",
            )
            .hint("write the value out"));
        };
        self.nodes += found.nodes;
        self.aliased_bytes += found.bytes;
        if self.nodes > MAX_NODES || self.aliased_bytes > MAX_ALIASED_BYTES || self.open.len() + found.depth > MAX_DEPTH
        {
            return Err(Finding::error(
                at,
                "alias-bomb",
                self.pointer(),
                "following this alias makes the document too large",
            )
            .hint("write the value out"));
        }
        let node = Node { at, span: bytes(span), value: found.node.value.clone() };
        self.place(node, 0)
    }

    /// Whether the next node of the innermost collection is a mapping's key.
    fn at_key(&self) -> bool {
        matches!(self.open.last(), Some(Open { content: Content::Map { key: None, .. }, .. }))
    }

    fn complex_key(&mut self, at: Mark) {
        let field = self.pointer();
        self.findings.push(
            Finding::error(at, "complex-key", field, "a key has to be plain text").hint("write the key as a word"),
        );
    }

    fn place(&mut self, node: Node<'t>, anchor: usize) -> Result<(), Finding> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(Finding::error(node.at, "too-large", String::new(), "the document has too many values"));
        }
        if anchor != 0 {
            self.remember(&node, anchor);
        }
        if self.at_key() {
            let key = self.key(node);
            if let Some(Open { content: Content::Map { key: slot, .. }, .. }) = self.open.last_mut() {
                *slot = Some(key);
            }
            return Ok(());
        }
        match self.open.last_mut().map(|open| &mut open.content) {
            None => self.root = Some(node),
            Some(Content::List(items)) => items.push(node),
            Some(Content::Map { entries, key, .. }) => {
                if let Some(key) = key.take().filter(|key| !key.dropped) {
                    entries.push(Entry { key: key.text, at: key.at, span: key.span, value: node });
                }
            }
        }
        Ok(())
    }

    fn remember(&mut self, node: &Node<'t>, anchor: usize) {
        self.shared_at.get_or_insert(node.at);
        let (mut nodes, mut bytes, mut depth) = (0, 0, 0);
        measure(node, 1, &mut nodes, &mut bytes, &mut depth);
        self.nodes += nodes;
        self.anchors.insert(anchor, Anchored { node: node.clone(), depth, nodes, bytes });
    }

    /// Takes a node as a key, and reports it when it cannot be one.
    fn key(&mut self, node: Node<'t>) -> Key<'t> {
        let (text, plain) = match node.value {
            Value::Text { text, plain } => (text, plain),
            Value::Number { raw, .. } => (raw, true),
            Value::Bool(yes) => (Cow::Borrowed(if yes { "true" } else { "false" }), true),
            Value::Null => (Cow::Borrowed("null"), true),
            // Already reported when the collection began.
            Value::List(_) | Value::Map(_) => {
                return Key { text: Cow::Borrowed(""), at: node.at, span: node.span, dropped: true };
            }
        };
        let mut key = Key { text, at: node.at, span: node.span, dropped: false };
        if plain && key.text == "<<" {
            key.dropped = true;
            self.findings.push(
                Finding::error(key.at, "merge-key", self.pointer(), "merge keys (\"<<\") are not supported")
                    .hint("write the merged keys out"),
            );
        } else if let Some(first) = self.first_with(&key.text) {
            key.dropped = true;
            let place = self.pointer();
            let secret = SECRETS.iter().any(|secret| place.ends_with(secret));
            let name = if secret { "a key".to_owned() } else { format!("\"{}\"", shown(&key.text)) };
            let field = if secret { place } else { format!("{place}/{}", escape(&key.text)) };
            self.findings.push(
                Finding::error(key.at, "duplicate-key", field, format!("{name} is given twice"))
                    .hint(format!("line {} has it first; keep one of the two", first.line)),
            );
        }
        key
    }

    /// Where the innermost mapping already has this key.
    fn first_with(&mut self, text: &str) -> Option<Mark> {
        let Some(Open { content: Content::Map { entries, seen, .. }, .. }) = self.open.last_mut() else { return None };
        if entries.len() > FEW {
            if seen.is_empty() {
                seen.extend(entries.iter().map(|entry| entry.key.clone()));
            }
            if seen.insert(Cow::Owned(text.to_owned())) {
                return None;
            }
        }
        entries.iter().find(|entry| entry.key == text).map(|entry| entry.at)
    }

    /// The JSON pointer of the place where the next node goes.
    fn pointer(&self) -> String {
        let mut pointer = String::new();
        for open in &self.open {
            match &open.content {
                Content::List(items) => pointer = format!("{pointer}/{}", items.len()),
                Content::Map { key: Some(key), .. } => pointer = format!("{pointer}/{}", escape(&key.text)),
                Content::Map { .. } => {}
            }
            if SECRETS.iter().any(|secret| pointer.ends_with(secret)) {
                break;
            }
        }
        pointer
    }
}

/// Counts a node's nodes and text bytes and its depth. The depth is bounded by `MAX_DEPTH`.
fn measure(node: &Node<'_>, level: usize, nodes: &mut usize, bytes: &mut usize, depth: &mut usize) {
    *nodes += 1;
    match &node.value {
        Value::List(items) => {
            *depth = (*depth).max(level);
            items.iter().for_each(|item| measure(item, level + 1, nodes, bytes, depth));
        }
        Value::Map(entries) => {
            *depth = (*depth).max(level);
            for entry in entries {
                *bytes += entry.key.len();
                measure(&entry.value, level + 1, nodes, bytes, depth);
            }
        }
        Value::Text { text, .. } | Value::Number { raw: text, .. } => *bytes += text.len(),
        Value::Null | Value::Bool(_) => {}
    }
}

fn syntax_error(error: &ScanError, text: &str) -> Finding {
    let at = mark(error.marker());
    let line = text.lines().nth(at.line.saturating_sub(1) as usize).unwrap_or_default();
    let tab = line.chars().take_while(|c| c.is_whitespace()).any(|c| c == '\t');
    let (code, hint) = match error.kind() {
        ErrorKind::RecursionLimitExceeded => ("too-deep", Some("a schedule needs three levels at most")),
        ErrorKind::UnknownAnchor => {
            ("unknown-anchor", Some("define the anchor before its use, or write the value out"))
        }
        _ if tab => ("tab", Some("indent with spaces; YAML does not allow tabs there")),
        ErrorKind::MappingValueNotAllowed => {
            ("syntax", Some("put a value that contains \": \" in quotes, and check the indentation"))
        }
        ErrorKind::UnclosedFlowCollection { .. } => ("syntax", Some("close the bracket")),
        _ => ("syntax", Some("check quotes, brackets and indentation on this line and the one before")),
    };
    let mut finding = Finding::error(at, code, String::new(), format!("not valid YAML: {}", error.info()));
    finding.hint = hint.map(str::to_owned);
    finding
}

impl<'t> Node<'t> {
    /// The node as a JSON value. The depth is bounded by the reader's limit.
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match &self.value {
            Value::Null => Json::Null,
            Value::Bool(yes) => Json::Bool(*yes),
            Value::Number { number, .. } => Json::Number(number.clone()),
            Value::Text { text, .. } => Json::String(text.as_ref().to_owned()),
            Value::List(items) => Json::Array(items.iter().map(Node::to_json).collect()),
            Value::Map(entries) => {
                Json::Object(entries.iter().map(|e| (e.key.as_ref().to_owned(), e.value.to_json())).collect())
            }
        }
    }

    /// A JSON value as a node without a place, so that both are judged by the same rules.
    pub fn from_json(json: &'t serde_json::Value) -> Self {
        use serde_json::Value as Json;
        let value = match json {
            Json::Null => Value::Null,
            Json::Bool(yes) => Value::Bool(*yes),
            Json::Number(number) => Value::Number { number: number.clone(), raw: Cow::Owned(number.to_string()) },
            Json::String(text) => Value::Text { text: Cow::Borrowed(text), plain: false },
            Json::Array(items) => Value::List(items.iter().map(Node::from_json).collect()),
            Json::Object(map) => Value::Map(
                map.iter()
                    .map(|(key, value)| Entry {
                        key: Cow::Borrowed(key),
                        at: Mark::NONE,
                        span: 0..0,
                        value: Node::from_json(value),
                    })
                    .collect(),
            ),
        };
        Node { at: Mark::NONE, span: 0..0, value }
    }
}
