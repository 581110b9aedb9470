//! Texts with placeholders, `{{tenant}}` and the like, and the values that go into them.

use serde_json::{Map, Value};

use super::bookmark::Mark;
use crate::core::model::Millis;
use crate::core::timing::iso;

/// What a placeholder stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Placeholder {
    Tenant,
    RunId,
    Now,
    NowDate,
    Bookmark,
    BookmarkDate,
    Cursor,
    Page,
    Offset,
    Limit,
}

impl Placeholder {
    pub const ALL: [Placeholder; 10] = [
        Placeholder::Tenant,
        Placeholder::RunId,
        Placeholder::Now,
        Placeholder::NowDate,
        Placeholder::Bookmark,
        Placeholder::BookmarkDate,
        Placeholder::Cursor,
        Placeholder::Page,
        Placeholder::Offset,
        Placeholder::Limit,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Placeholder::Tenant => "tenant",
            Placeholder::RunId => "run_id",
            Placeholder::Now => "now",
            Placeholder::NowDate => "now_date",
            Placeholder::Bookmark => "bookmark",
            Placeholder::BookmarkDate => "bookmark_date",
            Placeholder::Cursor => "cursor",
            Placeholder::Page => "page",
            Placeholder::Offset => "offset",
            Placeholder::Limit => "limit",
        }
    }
}

/// A text in pieces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Place(Placeholder),
}

/// Why a text is no template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadTemplate {
    /// `{{` without its `}}`.
    Unclosed,
    /// A name that stands for nothing.
    Unknown(String),
}

/// What the placeholders stand for in one request.
#[derive(Clone, Debug, Default)]
pub struct Values {
    pub tenant: String,
    pub run_id: i64,
    pub now: Millis,
    /// Already moved back by the overlap.
    pub bookmark: Option<Mark>,
    pub cursor: Option<Value>,
    pub page: Option<u64>,
    pub offset: Option<u64>,
    pub limit: Option<u32>,
}

impl Values {
    /// What a placeholder stands for now, if for anything.
    pub fn get(&self, placeholder: Placeholder) -> Option<Value> {
        match placeholder {
            Placeholder::Tenant => Some(self.tenant.as_str().into()),
            Placeholder::RunId => Some(self.run_id.into()),
            Placeholder::Now => Some(iso(self.now).into()),
            Placeholder::NowDate => iso(self.now).get(..10).map(Value::from),
            Placeholder::Bookmark => self.bookmark.as_ref().map(Mark::to_value),
            Placeholder::BookmarkDate => self.bookmark.as_ref().and_then(Mark::date).map(Value::from),
            Placeholder::Cursor => self.cursor.clone(),
            Placeholder::Page => self.page.map(Value::from),
            Placeholder::Offset => self.offset.map(Value::from),
            Placeholder::Limit => self.limit.map(Value::from),
        }
    }
}

impl Template {
    /// Reads a text; blanks around a placeholder's name are allowed.
    ///
    /// # Errors
    /// The first place that is no placeholder of ours.
    pub fn parse(text: &str) -> Result<Template, BadTemplate> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, tail)) = rest.split_once("{{") {
            let (name, after) = tail.split_once("}}").ok_or(BadTemplate::Unclosed)?;
            let known = Placeholder::ALL.into_iter().find(|placeholder| placeholder.as_str() == name.trim());
            let placeholder = known.ok_or_else(|| BadTemplate::Unknown(name.trim().to_owned()))?;
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            }
            pieces.push(Piece::Place(placeholder));
            rest = after;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        Ok(Template(pieces))
    }

    /// The placeholders in it, in their order.
    pub fn placeholders(&self) -> impl Iterator<Item = Placeholder> + '_ {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Place(placeholder) => Some(*placeholder),
            Piece::Text(_) => None,
        })
    }

    /// The text with its values, each passed through `encode`; `None` when one has no value.
    pub fn fill(&self, values: &Values, encode: impl Fn(&str) -> String) -> Option<String> {
        let mut text = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(own) => text.push_str(own),
                Piece::Place(placeholder) => text.push_str(&encode(&plain(&values.get(*placeholder)?))),
            }
        }
        Some(text)
    }

    /// As a JSON value: of a lone placeholder its value as it is.
    fn fill_json(&self, values: &Values) -> Option<Value> {
        match self.0.as_slice() {
            [Piece::Place(placeholder)] => values.get(*placeholder),
            _ => self.fill(values, str::to_owned).map(Value::String),
        }
    }
}

/// A text filled in; what is no template (it was checked before) stays as it is.
pub fn fill(text: &str, values: &Values) -> Option<String> {
    match Template::parse(text) {
        Ok(template) => template.fill(values, str::to_owned),
        Err(_) => Some(text.to_owned()),
    }
}

/// As [`fill`], for a path: values are percent-encoded, so that none of them adds a segment.
pub fn fill_path(text: &str, values: &Values) -> Option<String> {
    match Template::parse(text) {
        Ok(template) => template.fill(values, encoded),
        Err(_) => Some(text.to_owned()),
    }
}

/// Every text in a JSON value filled in; members and items without a value are left out.
pub fn fill_value(value: &Value, values: &Values) -> Option<Value> {
    match value {
        Value::String(text) => match Template::parse(text) {
            Ok(template) => template.fill_json(values),
            Err(_) => Some(value.clone()),
        },
        Value::Array(items) => Some(items.iter().filter_map(|item| fill_value(item, values)).collect()),
        Value::Object(map) => {
            let filled = map.iter().filter_map(|(key, value)| Some((key.clone(), fill_value(value, values)?)));
            Some(Value::Object(filled.collect::<Map<_, _>>()))
        }
        other => Some(other.clone()),
    }
}

/// A value as it stands in an address.
pub fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Percent-encodes all but what RFC 3986 calls unreserved.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~' | b'.') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn values() -> Values {
        Values {
            tenant: "peak".into(),
            run_id: 7,
            now: 1_780_315_200_123,
            bookmark: Mark::of(&json!("2026-05-01T10:00:00+02:00")),
            cursor: Some(json!("a/b c")),
            limit: Some(50),
            ..Values::default()
        }
    }

    #[track_caller]
    fn check(text: &str, expect: Option<&str>) {
        assert_eq!(fill(text, &values()).as_deref(), expect, "{text}");
    }

    #[test]
    fn placeholders_get_their_values() {
        check("x", Some("x"));
        check("", Some(""));
        check("{{tenant}}-{{ run_id }}", Some("peak-7"));
        check("{{now}}|{{now_date}}", Some("2026-06-01T12:00:00.123Z|2026-06-01"));
        check("gt:{{bookmark}}", Some("gt:2026-05-01T10:00:00+02:00"));
        check("{{bookmark_date}}", Some("2026-05-01"));
        check("{{page}}", None);
        check("a{b}c}}", Some("a{b}c}}"));
        assert_eq!(fill_path("/v/{{cursor}}/x", &values()).as_deref(), Some("/v/a%2Fb%20c/x"));
        assert_eq!(Template::parse("{{nope}}"), Err(BadTemplate::Unknown("nope".into())));
        assert_eq!(Template::parse("a {{ b"), Err(BadTemplate::Unclosed));
    }

    #[test]
    fn bodies_keep_numbers_and_leave_out_what_has_no_value() {
        let body =
            json!({ "first": "{{limit}}", "after": "{{offset}}", "q": ["{{page}}", "{{tenant}}", 5], "n": null });
        assert_eq!(fill_value(&body, &values()), Some(json!({ "first": 50, "q": ["peak", 5], "n": null })));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic_and_plain_text_stays(text in "\\PC{0,40}") {
            match Template::parse(&text) {
                Ok(template) if template.placeholders().next().is_none() => {
                    prop_assert_eq!(fill(&text, &values()), Some(text));
                }
                _ => prop_assert!(text.contains("{{")),
            }
        }

        #[test]
        fn what_was_put_in_comes_out(parts in prop::collection::vec(("[a-z{} ]{0,5}", 0..10_usize), 0..6)) {
            prop_assume!(parts.iter().all(|(text, _)| !text.contains("{{") && !text.ends_with('{')));
            let places: Vec<Placeholder> = parts.iter().map(|(_, n)| Placeholder::ALL[*n]).collect();
            let text: String = parts.iter().zip(&places).map(|((text, _), place)| format!("{text}{{{{{}}}}}", place.as_str())).collect();
            let template = Template::parse(&text).unwrap();
            prop_assert_eq!(template.placeholders().collect::<Vec<_>>(), places);
        }

        #[test]
        fn a_value_in_a_path_adds_no_segment(tenant in "\\PC{0,20}") {
            let values = Values { tenant, ..values() };
            let path = fill_path("/a/{{tenant}}", &values).unwrap();
            prop_assert_eq!(path.matches('/').count(), 2);
            prop_assert!(path.is_ascii() && !path.contains(['?', '#']));
        }
    }
}
