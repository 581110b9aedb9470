//! `key=value` arguments as an API body: `interval_sec=60 labels.region=west pause_reason=null`.

use serde_json::{Map, Value};

/// Builds the body of a change from `--json` and pairs, which are laid over it.
///
/// # Errors
/// The first pair that cannot be read, with what was expected.
pub(super) fn body(json: Option<&str>, pairs: &[String]) -> Result<Map<String, Value>, String> {
    let mut body = match json.map(serde_json::from_str) {
        None => Map::new(),
        Some(Ok(Value::Object(body))) => body,
        Some(Ok(_)) => return Err("--json takes an object, like '{\"interval_sec\": 60}'".into()),
        Some(Err(error)) => return Err(format!("--json is not valid JSON: {error}")),
    };
    let mut seen: Vec<&str> = Vec::new();
    for pair in pairs {
        let (key, text) =
            pair.split_once('=').ok_or_else(|| format!("{pair:?} is not KEY=VALUE, like interval_sec=60"))?;
        let within = |outer: &str, inner: &str| inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('.'));
        if let Some(other) = seen.iter().find(|other| **other == key || within(other, key) || within(key, other)) {
            return Err(format!("{key} is set twice, by {other:?} and by {pair:?}"));
        }
        seen.push(key);
        let value = value(text).map_err(|problem| format!("{pair:?}: {problem}"))?;
        set(&mut body, key, value).map_err(|problem| format!("{pair:?}: {problem}"))?;
    }
    if body.is_empty() {
        return Err("nothing to set: give KEY=VALUE pairs, like interval_sec=60, or --json BODY".into());
    }
    Ok(body)
}

/// A plain word has the type that YAML gives it; quotes, lists and mappings are YAML's own. A
/// text with a colon or a leading asterisk (cron!) stays the text it is.
fn value(text: &str) -> Result<Value, String> {
    match text.as_bytes().first() {
        None => Err("has no value; write null to remove the key, \"\" for an empty text".into()),
        Some(b'{' | b'[' | b'"' | b'\'') => {
            let options = serde_yaml::options! { strict_booleans: true };
            serde_yaml::from_str_with_options(text, options)
                .map_err(|error| format!("is not valid YAML: {}", error.without_snippet()))
        }
        Some(_) if text == "~" => Ok(Value::Null),
        Some(_) => match serde_json::from_str(text) {
            Ok(value @ (Value::Null | Value::Bool(_) | Value::Number(_))) => Ok(value),
            _ => Ok(text.into()),
        },
    }
}

fn set(body: &mut Map<String, Value>, key: &str, value: Value) -> Result<(), String> {
    let (head, rest) = match key.split_once('.') {
        Some((head, rest)) => (head, Some(rest)),
        None => (key, None),
    };
    if head.is_empty() {
        return Err("the key has an empty part".into());
    }
    let Some(rest) = rest else {
        body.insert(head.to_owned(), value);
        return Ok(());
    };
    match body.entry(head).or_insert_with(|| Value::Object(Map::new())) {
        Value::Object(inner) => set(inner, rest, value),
        _ => Err(format!("{head} is no mapping in --json")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(json: Option<&str>, pairs: &[&str]) -> Result<Value, String> {
        let pairs: Vec<String> = pairs.iter().map(|pair| (*pair).to_owned()).collect();
        body(json, &pairs).map(Value::Object)
    }

    #[test]
    fn values_have_yamls_types() {
        let pairs = [
            "interval_sec=60",
            "paused=true",
            "pause_reason=roof: wet, no=1",
            "cron=*/15 7-18 * * 1-5",
            "timezone=null",
            "resources=[jobs, contacts]",
            "labels.region=west",
            "labels.ring='7'",
            "labels.old=~",
            "connection.api_key={env: CC_SECRET_X}",
        ];
        assert_eq!(
            check(None, &pairs).unwrap(),
            json!({
                "interval_sec": 60,
                "paused": true,
                "pause_reason": "roof: wet, no=1",
                "cron": "*/15 7-18 * * 1-5",
                "timezone": null,
                "resources": ["jobs", "contacts"],
                "labels": {"region": "west", "ring": "7", "old": null},
                "connection": {"api_key": {"env": "CC_SECRET_X"}},
            })
        );
    }

    #[test]
    fn pairs_are_laid_over_the_json() {
        let body = check(Some(r#"{"interval_sec": 5, "labels": {"a": "1"}}"#), &["interval_sec=6", "labels.b=x"]);
        assert_eq!(body.unwrap(), json!({"interval_sec": 6, "labels": {"a": "1", "b": "x"}}));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (json, pairs, part) in [
            (None, &[][..], "nothing to set"),
            (None, &["interval_sec"], "is not KEY=VALUE"),
            (None, &["paused="], "write null to remove"),
            (None, &["a=1", "a=2"], "set twice"),
            (None, &["labels={}", "labels.a=2"], "set twice"),
            (None, &[".a=1"], "empty part"),
            (None, &["labels.=1"], "empty part"),
            (None, &["resources=[jobs"], "is not valid YAML"),
            (Some("[]"), &[], "takes an object"),
            (Some("{"), &[], "not valid JSON"),
            (Some(r#"{"labels": 1}"#), &["labels.a=2"], "is no mapping"),
        ] {
            let problem = check(json, pairs).unwrap_err();
            assert!(problem.contains(part), "{problem} lacks {part}");
        }
    }
}
