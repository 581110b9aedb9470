//! The schedules file of the former system: one JSON object of tenants, each with its interval, its
//! pause and how its last run went. What of it can be desired is; the rest is named.

use serde_json::{Map, Value};

use crate::core::desired::KEYS;

/// What the file says of one tenant, as a schedule's document.
#[derive(Clone, Debug, PartialEq)]
pub struct Legacy {
    /// As written there; it may be no valid name here.
    pub tenant: String,
    /// Why there is nothing to take over, or the document, not yet judged.
    pub document: Result<Map<String, Value>, String>,
    /// Fields that were left out or taken for something, and why. No value is repeated: it may be a secret.
    pub warnings: Vec<(String, String)>,
}

/// What the former system, or this one's status, tells of how a schedule went.
const HISTORY: [&str; 11] = [
    "last_run",
    "last_run_iso",
    "last_status",
    "next_run",
    "next_run_iso",
    "next_run_in_sec",
    "running",
    "consecutive_failures",
    "sync",
    "sync_reason",
    "created_at",
];

/// What this program's status derives from the file's place and content.
const DERIVED: [&str; 2] = ["file", "etag"];

/// Reads the file, or an answer of its status endpoint saved to one.
///
/// # Errors
/// Why the text is no such file.
pub fn read(text: &str) -> Result<Vec<Legacy>, String> {
    let value: Value = serde_json::from_str(text.trim_start_matches('\u{feff}')).map_err(|error| {
        format!("not JSON at line {}, column {}: is it the right file?", error.line(), error.column())
    })?;
    let Value::Object(mut tenants) = value else {
        return Err("it has to be a JSON object of tenants, e.g. {\"peakpro\": {\"interval_sec\": 300}}".to_owned());
    };
    let is_answer = tenants.keys().all(|key| matches!(key.as_str(), "ok" | "schedules" | "next_cursor"));
    if is_answer && let Some(Value::Object(inner)) = tenants.remove("schedules") {
        tenants = inner;
    }
    Ok(tenants.into_iter().map(|(tenant, value)| one(tenant, value)).collect())
}

fn one(tenant: String, value: Value) -> Legacy {
    let Value::Object(fields) = value else {
        return Legacy { tenant, document: Err("its entry is no object of fields".to_owned()), warnings: Vec::new() };
    };
    let mut document = Map::new();
    let mut warnings = Vec::new();
    for (field, value) in fields {
        match taken(&field, value) {
            Taken::As(value) => drop(document.insert(field, value)),
            Taken::But(value, why) => {
                document.insert(field.clone(), value);
                warnings.push((field, why));
            }
            Taken::Nothing => {}
            Taken::Not(why) => warnings.push((field, why.to_owned())),
        }
    }
    if document.get("paused") != Some(&Value::Bool(true)) {
        for key in ["pause_reason", "pause_until"] {
            if document.remove(key).is_some() {
                warnings.push((key.to_owned(), "left out: the schedule is not paused".to_owned()));
            }
        }
    }
    Legacy { tenant, document: Ok(document), warnings }
}

/// What becomes of a field.
enum Taken {
    As(Value),
    But(Value, String),
    /// It says what is so without it.
    Nothing,
    Not(&'static str),
}

fn taken(field: &str, value: Value) -> Taken {
    match (field, value) {
        (_, Value::Null) | ("paused", Value::Bool(false)) => Taken::Nothing,
        ("interval_sec", value) => interval(value),
        ("api_key" | "token" | "secret" | "password", _) => Taken::Not(
            "left out: a key is kept in the environment or in a file, and named by reference in connection.api_key",
        ),
        (field, value) if KEYS.contains(&field) => Taken::As(value),
        (field, _) if HISTORY.contains(&field) => Taken::Not("left out: how a schedule went is no part of its file"),
        (field, _) if DERIVED.contains(&field) => Taken::Nothing,
        _ => Taken::Not("left out: a schedule has no such key"),
    }
}

/// Whole seconds however they were written; anything else is left to the rules of schedules.
fn interval(value: Value) -> Taken {
    let digits = |text: &str| (1..=10).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    let whole = match &value {
        Value::Number(number) if number.is_f64() => {
            let text = number.to_string();
            text.strip_suffix(".0").filter(|text| digits(text)).map(str::to_owned)
        }
        Value::String(text) => Some(text.trim().to_owned()).filter(|text| digits(text)),
        _ => None,
    };
    match whole.and_then(|text| text.parse::<u64>().ok()) {
        Some(seconds) => Taken::But(seconds.into(), format!("taken as the number {seconds}")),
        None => Taken::As(value),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// `tenant document warned-fields` of each.
    fn check(text: &str, expect: &[&str]) {
        let found: Vec<String> = read(text)
            .unwrap()
            .into_iter()
            .map(|found| {
                let warned: Vec<&str> = found.warnings.iter().map(|(field, _)| field.as_str()).collect();
                let document = found.document.map_or_else(|why| why, |document| Value::Object(document).to_string());
                format!("{} {document} [{}]", found.tenant, warned.join(" ")).replace(" []", "")
            })
            .collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn what_can_be_desired_is_taken_and_the_rest_is_named() {
        let file = json!({
            "peak-pro": {
                "interval_sec": 300, "last_run": 1762639028.177, "paused": false,
                "last_status": {"ok": true, "ts": 1762639028.177, "message": "done", "result": {"stats": {"imported": 0}}},
            },
            "Lake Side": {"interval_sec": "180", "paused": true, "pause_reason": "roof", "api_key": "sk-live", "colour": 1},
            "odd": 5,
            "whole": {"interval_sec": 60.0, "pause_reason": "left over", "running": null},
        });
        check(
            &file.to_string(),
            &[
                "Lake Side {\"interval_sec\":180,\"pause_reason\":\"roof\",\"paused\":true} [api_key colour interval_sec]",
                "odd its entry is no object of fields",
                "peak-pro {\"interval_sec\":300} [last_run last_status]",
                "whole {\"interval_sec\":60} [interval_sec pause_reason]",
            ],
        );
    }

    #[test]
    fn a_saved_status_answer_will_do_and_no_value_is_repeated() {
        check("\u{feff}{\"ok\": true, \"schedules\": {\"a\": {\"interval_sec\": 5}}}", &["a {\"interval_sec\":5}"]);
        // A tenant may be called so.
        check("{\"schedules\": {\"interval_sec\": 5}, \"b\": {}}", &["b {}", "schedules {\"interval_sec\":5}"]);
        let secret = read("{\"a\": {\"api_key\": \"sk-live\", \"sk-live\": 1}}").unwrap();
        assert!(secret[0].warnings.iter().all(|(_, why)| !why.contains("sk-live")));
        for bad in ["", "[]", "{\"a\": ", "5"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_interval_that_is_none_is_left_to_the_rules() {
        check("{\"a\": {\"interval_sec\": \"5m\"}}", &["a {\"interval_sec\":\"5m\"}"]);
        check("{\"a\": {\"interval_sec\": 1.5}}", &["a {\"interval_sec\":1.5}"]);
        check("{\"a\": {\"interval_sec\": \"99999999999\"}}", &["a {\"interval_sec\":\"99999999999\"}"]);
    }
}
