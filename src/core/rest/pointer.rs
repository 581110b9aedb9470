//! Places in an answer by JSON pointer (RFC 6901), and what is said when nothing is there.

use serde_json::Value;

/// Why a text names no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadPointer {
    /// A `~` that is neither `~0` nor `~1`.
    Escape,
    /// A name with dots: most likely meant as a path.
    Dotted,
}

/// The one way to write a place: pointers as they are, a plain name as a pointer to that member.
///
/// # Errors
/// When it is neither.
pub fn normal(text: &str) -> Result<String, BadPointer> {
    if text.is_empty() {
        return Ok(String::new());
    }
    let Some(_) = text.strip_prefix('/') else {
        if text.contains('.') {
            return Err(BadPointer::Dotted);
        }
        return Ok(format!("/{}", text.replace('~', "~0").replace('/', "~1")));
    };
    let well_escaped = text.split('~').skip(1).all(|after| after.starts_with(['0', '1']));
    if well_escaped { Ok(text.to_owned()) } else { Err(BadPointer::Escape) }
}

/// The value at a place, or in words what is there instead: kinds and names, never values.
///
/// # Errors
/// Where the way ends.
pub fn find<'v>(value: &'v Value, pointer: &str) -> Result<&'v Value, String> {
    let mut here = value;
    let mut way = String::new();
    for part in pointer.split('/').skip(1) {
        let name = part.replace("~1", "/").replace("~0", "~");
        let next = match here {
            Value::Object(map) => map.get(&name),
            Value::Array(items) => name.parse::<usize>().ok().and_then(|index| items.get(index)),
            _ => None,
        };
        here = next.ok_or_else(|| match here {
            Value::Object(_) => format!("the object {} has no \"{}\"", place(&way), short(&name)),
            Value::Array(_) => format!("the list {} has no item {}", place(&way), short(&name)),
            other => format!("{} there is {}, not an object", place(&way), kind(other)),
        })?;
        way.push('/');
        way.push_str(part);
    }
    Ok(here)
}

/// How a message says where.
pub fn place(pointer: &str) -> String {
    if pointer.is_empty() { "at the top".to_owned() } else { format!("at {}", short(pointer)) }
}

/// How a message calls a value.
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// The longest key that names a record, in bytes.
const LONGEST_KEY: usize = 1024;

/// What names a record: its fields joined, escaped so that no two records are taken for one. `None` when
/// one is missing, or is no text or number.
pub fn record_key(record: &Value, fields: &[String]) -> Option<String> {
    let part = |field: &String| match record.pointer(field)? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let key = match fields {
        [only] => part(only)?,
        _ => {
            let parts: Option<Vec<String>> =
                fields.iter().map(|field| Some(part(field)?.replace('~', "~0").replace('/', "~1"))).collect();
            parts?.join("/")
        }
    };
    (!key.is_empty() && key.len() <= LONGEST_KEY).then_some(key)
}

fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn places_are_written_in_one_way() {
        assert_eq!(normal(""), Ok(String::new()));
        assert_eq!(normal("items"), Ok("/items".into()));
        assert_eq!(normal("/a~1b/0"), Ok("/a~1b/0".into()));
        assert_eq!(normal("a~b"), Ok("/a~0b".into()));
        assert_eq!(normal("/a~2"), Err(BadPointer::Escape));
        assert_eq!(normal("data.items"), Err(BadPointer::Dotted));
    }

    #[test]
    fn what_is_not_there_is_told_by_kind_and_name() {
        let value = json!({ "data": { "items": [1], "n": "secret" } });
        assert_eq!(find(&value, "/data/items/0"), Ok(&json!(1)));
        assert_eq!(find(&value, ""), Ok(&value));
        assert_eq!(find(&value, "/data/rows").unwrap_err(), "the object at /data has no \"rows\"");
        assert_eq!(find(&value, "/data/items/1").unwrap_err(), "the list at /data/items has no item 1");
        assert_eq!(find(&value, "/data/n/x").unwrap_err(), "at /data/n there is a text, not an object");
        assert_eq!(find(&json!(5), "/x").unwrap_err(), "at the top there is a number, not an object");
    }

    #[test]
    fn keys_join_without_collision() {
        let key = |record: Value, fields: &[&str]| {
            record_key(&record, &fields.iter().map(|field| (*field).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(key(json!({"id": 7}), &["/id"]), Some("7".into()));
        assert_eq!(key(json!({"id": "a/b"}), &["/id"]), Some("a/b".into()));
        assert_eq!(key(json!({"a": "x/", "b": "y"}), &["/a", "/b"]), Some("x~1/y".into()));
        assert_eq!(key(json!({"a": "x", "b": "/y"}), &["/a", "/b"]), Some("x/~1y".into()));
        for bad in [json!({}), json!({"id": ""}), json!({"id": null}), json!({"id": [1]}), json!(5), json!(null)] {
            assert_eq!(key(bad, &["/id"]), None);
        }
        assert_eq!(key(json!({"id": "x".repeat(2000)}), &["/id"]), None);
    }

    proptest! {
        #[test]
        fn a_plain_name_finds_its_member(name in "[^./][^.]{0,10}", other in "\\PC{0,10}") {
            let pointer = normal(&name).unwrap();
            let value = json!({ &name: 1, "other": { &other: 2 } });
            prop_assert_eq!(find(&value, &pointer).ok(), value.pointer(&pointer));
            prop_assert_eq!(find(&value, &pointer), Ok(&value[&name]));
        }

        #[test]
        fn it_finds_what_the_library_finds(pointer in "(/[ab01~]{0,2}){0,3}") {
            let value = json!({ "a": { "b": [1, { "a": 2 }], "": 3 }, "b": "x", "~": [[0]] });
            if normal(&pointer).is_ok() && !pointer.contains("/00") && !pointer.contains("/01") {
                prop_assert_eq!(find(&value, &pointer).ok(), value.pointer(&pointer));
            }
        }

        #[test]
        fn different_pairs_have_different_keys(a in "[a~/0]{1,4}", b in "[a~/0]{1,4}", c in "[a~/0]{1,4}", d in "[a~/0]{1,4}") {
            let fields = ["/x".to_owned(), "/y".to_owned()];
            let one = record_key(&json!({"x": a, "y": b}), &fields);
            let other = record_key(&json!({"x": c, "y": d}), &fields);
            prop_assert_eq!(one == other, (a, b) == (c, d));
        }
    }
}
