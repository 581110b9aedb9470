//! Lines in, batches or faults out.

use serde_json::json;

use super::*;

fn read(lines: &[&str]) -> Result<Reader, Fault> {
    let mut reader = Reader::default();
    lines.iter().try_for_each(|line| reader.read(line.as_bytes()))?;
    Ok(reader)
}

const SCHEMA: &str = r#"{"type":"SCHEMA","stream":"jobs","schema":{},"key_properties":["id"]}"#;

fn keys(key_properties: &str, records: &[&str]) -> Vec<String> {
    let schema = format!(r#"{{"type":"SCHEMA","stream":"s","schema":{{}},"key_properties":{key_properties}}}"#);
    let mut reader = read(&[&schema]).unwrap();
    for record in records {
        reader.read(format!(r#"{{"type":"RECORD","stream":"s","record":{record}}}"#).as_bytes()).unwrap();
    }
    reader.take().records.into_iter().map(|record| record.key).collect()
}

fn fault(lines: &[&str]) -> String {
    read(lines).unwrap_err().to_string()
}

#[test]
fn a_state_goes_with_the_records_before_it() {
    let record = |id: u32| format!(r#"{{"type":"RECORD","stream":"jobs","record":{{"id":{id}}}}}"#);
    let state = |n: u32| format!(r#"{{"type":"STATE","value":{{"at":{n}}}}}"#);
    let mut reader = read(&[SCHEMA, &state(0), &record(1), &state(1), &record(2)]).unwrap();
    let batch = reader.take();
    assert_eq!(batch.records.iter().map(|r| r.key.as_str()).collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!(batch.state, Some(json!({"at": 1})));
    // The second record is written, and no state speaks for it yet.
    assert!(reader.take().is_empty());
    reader.read(record(3).as_bytes()).unwrap();
    assert_eq!(reader.take().state, None);
    reader.read(state(3).as_bytes()).unwrap();
    assert!(reader.has_state());
    assert_eq!(reader.take(), Batch { records: vec![], state: Some(json!({"at": 3})) });
}

#[test]
fn a_batch_is_full_by_records_and_by_bytes() {
    let mut reader = read(&[SCHEMA]).unwrap();
    for id in 0..500 {
        assert!(!reader.is_full(), "{id}");
        reader.read(format!(r#"{{"type":"RECORD","stream":"jobs","record":{{"id":{id}}}}}"#).as_bytes()).unwrap();
    }
    assert!(reader.is_full());
    reader.take();
    assert!(!reader.is_full());
    let long = format!(r#"{{"type":"RECORD","stream":"jobs","record":{{"id":1,"x":"{}"}}}}"#, "x".repeat(1 << 20));
    reader.read(long.as_bytes()).unwrap();
    assert!(reader.is_full());
}

#[test]
fn keys_tell_records_apart() {
    assert_eq!(keys(r#"["id"]"#, &[r#"{"id":"a|b"}"#, r#"{"id":7}"#, r#"{"id":true}"#]), ["a|b", "7", "true"]);
    let joined = keys(r#"["a","b"]"#, &[r#"{"a":"x|y","b":1}"#, r#"{"a":"x","b":"y|1"}"#, r#"{"a":"x\\","b":1}"#]);
    assert_eq!(joined, [r"x\|y|1", r"x|y\|1", r"x\\|1"]);
}

#[test]
fn a_record_without_its_key_stands_under_its_content() {
    for (properties, record) in [
        ("[]", r#"{"a":1,"b":2}"#),
        ("null", r#"{"a":1,"b":2}"#),
        (r#"["id"]"#, r#"{"id":null,"a":1}"#),
        (r#"["id","a"]"#, r#"{"id":7,"x":1}"#),
        (r#"["id"]"#, r#"{"id":{"x":1}}"#),
        (r#"["id"]"#, r#"{"id":""}"#),
    ] {
        let twice = keys(properties, &[record, record]);
        assert!(twice[0].starts_with("sha256:") && twice[0] == twice[1], "{properties} {record}: {twice:?}");
    }
    assert_eq!(keys("[]", &[r#"{"a":1,"b":2}"#]), keys("[]", &[r#"{"b":2,"a":1}"#]));
    assert_ne!(keys("[]", &[r#"{"a":1}"#]), keys("[]", &[r#"{"a":2}"#]));
    assert!(keys(r#"["id"]"#, &[&format!(r#"{{"id":"{}"}}"#, "x".repeat(513))])[0].starts_with("sha256:"));
}

#[test]
fn what_the_format_does_not_know_is_passed_over() {
    let reader = read(&[
        "",
        "  \r",
        SCHEMA,
        r#"{"type":"ACTIVATE_VERSION","stream":"jobs","version":3}"#,
        r#"{"type":"LOG","message":"hello"}"#,
        r#"{"type":"RECORD","stream":"jobs","record":{"id":1},"time_extracted":"2026-11-21T08:00:00Z","version":3}"#,
    ]);
    assert_eq!(reader.unwrap().take().records.len(), 1);
}

#[test]
fn faults_name_the_line_and_what_is_wrong_with_it() {
    let check = |line: &str, expect: &str| {
        let found = fault(&[SCHEMA, line]);
        assert!(found.starts_with("line 2 of the output ") && found.contains(expect), "{found}");
    };
    check("Collecting jobs", "is not a Singer message: \"Collecting jobs\"");
    check(r#"{"type":"RECORD","stream":"jobs","rec"#, "is not a Singer message: it is cut off");
    check("[1]", "is not a Singer message");
    check("{}", "has no type");
    check(r#"{"type":"RECORD","record":{}}"#, "RECORD that names no stream");
    check(r#"{"type":"RECORD","stream":"users","record":{}}"#, "no SCHEMA before it");
    check(r#"{"type":"RECORD","stream":"jobs","record":[1]}"#, "record is not an object");
    check(r#"{"type":"SCHEMA","stream":"jobs","key_properties":"id"}"#, "not a list of names");
    check(r#"{"type":"STATE"}"#, "STATE without a value");
    check(r#"{"type":"BATCH","stream":"jobs","manifest":[]}"#, "turn batches off");
    check(&"[".repeat(100_000), "is not a Singer message");
    check(&"x".repeat(1000), &format!("\"{}…\"", "x".repeat(80)));
    assert!(read(&[]).unwrap().read(b"\xff\xfe").is_err());
}

#[test]
fn messages_are_told_from_other_json() {
    assert!(is_message(SCHEMA.as_bytes()));
    assert!(is_message(br#"{"value":{},"type":"STATE"}"#));
    for line in [&br#"{"imported":3}"#[..], br#"{"type":"progress"}"#, b"STATE", b"", br#"{"type":"STATE""#, b"\xff"] {
        assert!(!is_message(line), "{}", String::from_utf8_lossy(line));
    }
}

#[test]
fn streams_become_names_of_resources() {
    for (stream, expect) in [
        ("jobs", "jobs"),
        ("Sales Order", "Sales_Order"),
        ("public-users", "public-users"),
        ("a.b/c", "a.b_c"),
        ("_sdc_errors", "sdc_errors"),
        ("ünï", "n_"),
        ("…", "unnamed"),
        (&"x".repeat(100), &"x".repeat(64)),
    ] {
        assert_eq!(resource_of(stream).as_str(), expect, "{stream}");
    }
}

proptest::proptest! {
    #[test]
    fn no_line_can_do_worse_than_fault(line in proptest::collection::vec(0u8..=255, 0..200)) {
        let mut reader = Reader::default();
        let _ = reader.read(&line);
        proptest::prop_assert!(reader.take().is_empty());
    }
}
