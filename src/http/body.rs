//! Bodies: read within a limit and a time, and as JSON in which every key stands once.

use std::fmt;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::problem::{Answer, FieldProblem, Problem};

/// How long a caller may take to send a body.
const BODY_TIME: Duration = Duration::from_secs(60);

/// Reads the whole body; 413 above `limit` bytes, 408 when it does not arrive.
pub async fn read(headers: &HeaderMap, body: Body, limit: usize) -> Answer<Bytes> {
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| usize::try_from(length).map_or(true, |length| length > limit)) {
        drain(body).await;
        return Err(too_large(limit));
    }
    let mut body = body;
    match tokio::time::timeout(BODY_TIME, Limited::new(&mut body, limit).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            drain(body).await;
            Err(too_large(limit))
        }
        Ok(Err(_)) => Err(Problem::bad_request("body-cut-off", "The body broke off before its end")),
        Err(_) => Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "body-too-slow",
            "The body did not arrive",
            format!("The body was not complete after {} seconds", BODY_TIME.as_secs()),
        )),
    }
}

/// More than this is not read only to be thrown away: the connection ends instead.
const DRAIN_BYTES: usize = 16 << 20;
const DRAIN_TIME: Duration = Duration::from_secs(5);

/// Takes in the rest of a refused body, so that the caller, who is still sending, gets to read why.
async fn drain(mut body: Body) {
    let mut left = DRAIN_BYTES;
    let rest = async {
        while let Some(Ok(frame)) = body.frame().await {
            match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
                Some(less) => left = less,
                None => return,
            }
        }
    };
    // Whether it all came or not, the answer is the same.
    let _ = tokio::time::timeout(DRAIN_TIME, rest).await;
}

fn too_large(limit: usize) -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "body-too-large",
        "The body is too large",
        format!("The body may have {limit} bytes at most"),
    )
    .with("limit_bytes", limit)
    .header(CONNECTION, "close")
}

/// The body as a JSON object; an empty body is an empty object where `required` is false.
pub fn object(headers: &HeaderMap, bytes: &Bytes, required: bool) -> Answer<Map<String, Value>> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return if required {
            Err(Problem::bad_request(
                "body-missing",
                "A JSON object is needed as the body, such as {\"interval_sec\":300}",
            ))
        } else {
            Ok(Map::new())
        };
    }
    if !is_json(headers) {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "media-type",
            "The body's type is not supported",
            "Send the body as JSON, with the header Content-Type: application/json",
        )
        .header(HeaderName::from_static("accept-post"), "application/json"));
    }
    match serde_json::from_slice::<Unique>(bytes) {
        Ok(Unique(Value::Object(map))) => Ok(map),
        Ok(Unique(other)) => Err(Problem::invalid(vec![FieldProblem {
            pointer: String::new(),
            detail: format!("The body must be a JSON object, not {}", kind(&other)),
        }])),
        Err(error) => Err(Problem::bad_request("json", format!("The body is not valid JSON: {error}"))
            .with("line", error.line())
            .with("column", error.column())),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()) else { return false };
    let media = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media == "application/json" || media == "application/merge-patch+json"
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// Takes known fields out of a small object and collects what is wrong with them.
pub struct Fields {
    map: Map<String, Value>,
    errors: Vec<FieldProblem>,
    known: Vec<&'static str>,
}

impl Fields {
    pub fn of(map: Map<String, Value>) -> Self {
        Fields { map, errors: Vec::new(), known: Vec::new() }
    }

    /// A text of 1 to `max` characters; `null` counts as absent.
    pub fn text(&mut self, name: &'static str, max: usize) -> Option<String> {
        let wrong = match self.take(name) {
            None | Some(Value::Null) => return None,
            Some(Value::String(text)) if (1..=max).contains(&text.chars().count()) => return Some(text),
            Some(Value::String(_)) => format!("must have 1 to {max} characters"),
            Some(other) => format!("must be a string, not {}", kind(&other)),
        };
        self.wrong(name, wrong);
        None
    }

    pub fn take(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        self.map.remove(name)
    }

    pub fn wrong(&mut self, name: &str, detail: impl Into<String>) {
        self.wrong_at(&[name], detail);
    }

    /// As `wrong`, of a field further inside.
    pub fn wrong_at(&mut self, path: &[&str], detail: impl Into<String>) {
        let escaped = path.iter().map(|name| format!("/{}", name.replace('~', "~0").replace('/', "~1")));
        self.errors.push(FieldProblem { pointer: escaped.collect(), detail: detail.into() });
    }

    /// Refuses what is left over, and everything that was found wrong.
    pub fn finish(mut self) -> Answer<()> {
        let left: Vec<String> = self.map.keys().cloned().collect();
        for name in left {
            let detail = format!("is not known here; this body takes {}", self.known.join(", "));
            self.wrong(&name, detail);
        }
        if self.errors.is_empty() { Ok(()) } else { Err(Problem::invalid(self.errors)) }
    }
}

/// A JSON value in which no object has a key twice: which of the two was meant nobody can tell.
struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueVisitor).map(Unique)
    }
}

struct UniqueVisitor;

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(Unique(item)) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            if map.contains_key(&key) {
                return Err(A::Error::custom(format_args!("the key \"{key}\" stands twice")));
            }
            let Unique(value) = access.next_value()?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::response::IntoResponse as _;

    fn headers(media: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if !media.is_empty() {
            headers.insert(CONTENT_TYPE, media.parse().unwrap());
        }
        headers
    }

    async fn check(media: &str, text: &'static str, required: bool, expect: &str) {
        let got = match object(&headers(media), &Bytes::from_static(text.as_bytes()), required) {
            Ok(map) => Value::Object(map).to_string(),
            Err(problem) => {
                let (parts, body) = problem.into_response().into_parts();
                let body: Value = serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap();
                let place = body.get("line").map_or(String::new(), |line| format!(" {line}:{}", body["column"]));
                format!("{}{place}", parts.status.as_u16())
            }
        };
        assert_eq!(got, expect, "{text}");
    }

    #[tokio::test]
    async fn bodies_are_objects_of_json() {
        let json = "application/json; charset=utf-8";
        check(json, r#"{"a":[1,{"b":null}]}"#, true, r#"{"a":[1,{"b":null}]}"#).await;
        check("", "", false, "{}").await;
        check(json, " \n", false, "{}").await;
        check(json, "", true, "400").await;
        check("", "{}", true, "415").await;
        check("text/plain", "{}", true, "415").await;
        check(json, "{\n \"a\": }", true, "400 2:7").await;
        check(json, r#"{"a":1,"a":2}"#, true, "400 1:10").await;
        check(json, r#"{"x":{"a":1,"a":2}}"#, true, "400 1:15").await;
        check(json, "[1]", true, "422").await;
        check(json, "{} {}", true, "400 1:4").await;
    }

    #[test]
    fn small_bodies_refuse_what_they_do_not_know() {
        let Value::Object(map) = serde_json::json!({"reason": "", "other/x": 1}) else { panic!() };
        let mut fields = Fields::of(map);
        assert_eq!(fields.text("reason", 500), None);
        assert!(fields.finish().is_err());
        let Value::Object(map) = serde_json::json!({"reason": "storm"}) else { panic!() };
        let mut fields = Fields::of(map);
        assert_eq!(fields.text("reason", 500).as_deref(), Some("storm"));
        assert!(fields.finish().is_ok());
    }

    #[tokio::test]
    async fn a_long_body_is_refused_announced_or_not() {
        let none = HeaderMap::new();
        assert_eq!(read(&none, Body::from("12345"), 5).await.unwrap(), "12345");
        assert_eq!(read(&none, Body::from("123456"), 5).await.unwrap_err().status(), 413);
        let mut announced = HeaderMap::new();
        announced.insert(CONTENT_LENGTH, "99999999999999999999".parse().unwrap());
        assert!(read(&announced, Body::from("x"), 5).await.is_ok(), "hyper refuses such a length itself");
        announced.insert(CONTENT_LENGTH, "6".parse().unwrap());
        assert_eq!(read(&announced, Body::empty(), 5).await.unwrap_err().status(), 413);
    }
}
