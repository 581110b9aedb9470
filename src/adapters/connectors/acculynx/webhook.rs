//! What AccuLynx sends to a webhook, read with patience: topics come and go, and what it sends is not
//! quite what it documents.

use serde_json::Value;

use super::client::is_plain_id;
use crate::core::model::{Digest, Resource};

/// An event, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub event_id: String,
    pub topic: String,
    /// The record it is about; `None` where it is about nothing that can be read again.
    pub about: Option<(Resource, String)>,
}

/// Longer names than this are no names.
const LONGEST_ID: usize = 200;
const LONGEST_TOPIC: usize = 100;
/// Where the record may stand, in the envelope as it is sent and as it is documented.
const INSIDE: [&str; 3] = ["event", "data", "payload"];

/// Reads an event; the message says what it is not.
pub fn read_event(body: &[u8]) -> Result<Told, String> {
    let event: Value = serde_json::from_slice(body).map_err(|error| format!("the body is not JSON: {error}"))?;
    if !event.is_object() {
        return Err("the body is not a JSON object".to_owned());
    }
    let topic = ["topicName", "topic", "eventType", "type"].iter().find_map(|name| text(&event, name));
    let topic: String = topic.unwrap_or_default().chars().take(LONGEST_TOPIC).collect();
    let given = ["eventId", "id"].iter().find_map(|name| text(&event, name)).filter(|id| id.len() <= LONGEST_ID);
    // One without a name is known by its content.
    let event_id = given.unwrap_or_else(|| format!("sha256:{}", Digest::of(body).to_hex()));
    let about = INSIDE.iter().filter_map(|name| event.get(name)).find_map(|inside| subject(inside, &topic, true));
    let about = about.or_else(|| subject(&event, &topic, false));
    Ok(Told { event_id, topic, about: about.filter(|(_, key)| is_plain_id(key)) })
}

/// The record that an object speaks of. A topic about contacts may name their job too, and the other way round.
fn subject(inside: &Value, topic: &str, is_inner: bool) -> Option<(Resource, String)> {
    let mut kinds = [(Resource::JOBS, "job", "jobId"), (Resource::CONTACTS, "contact", "contactId")];
    if topic.starts_with("contact") {
        kinds.reverse();
    }
    for (resource, name, id) in &kinds {
        if let Some(key) = inside.get(name).and_then(|named| text(named, "id")).or_else(|| text(inside, id)) {
            return Some((resource.clone(), key));
        }
    }
    let (resource, ..) = kinds.into_iter().find(|(_, name, _)| topic.starts_with(name)).filter(|_| is_inner)?;
    Some((resource, text(inside, "id")?))
}

fn text(value: &Value, name: &str) -> Option<String> {
    match value.get(name)? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(event: &Value, expect: &str) {
        let told = read_event(event.to_string().as_bytes()).unwrap();
        let about = told.about.map_or_else(|| "nothing".to_owned(), |(resource, key)| format!("{resource} {key}"));
        assert_eq!(format!("{} {}: {about}", told.topic, told.event_id), expect, "{event}");
    }

    #[test]
    fn an_event_names_what_it_is_about_in_more_than_one_way() {
        let envelope = |topic: &str, event: Value| json!({"topicName": topic, "eventDateTime": "x", "eventId": "e", "subscriptionId": "s", "event": event});
        check(
            &envelope("job_updated", json!({"job": {"id": "j", "date": "x", "_link": "y"}})),
            "job_updated e: jobs j",
        );
        check(
            &envelope("contact_added", json!({"contact": {"id": "c"}, "job": {"id": "j"}})),
            "contact_added e: contacts c",
        );
        check(&envelope("new_topic", json!({"contact": {"id": "c"}})), "new_topic e: contacts c");
        check(&envelope("estimate_added", json!({"estimate": {"id": "x"}})), "estimate_added e: nothing");
        check(&json!({"eventType": "job_updated", "id": 7, "data": {"id": "j"}}), "job_updated 7: jobs j");
        check(
            &json!({"topic": "job.milestone.current_changed", "eventId": "e", "jobId": "j"}),
            "job.milestone.current_changed e: jobs j",
        );
        check(&envelope("job_updated", json!({"job": {"id": "../users"}})), "job_updated e: nothing");
    }

    #[test]
    fn an_event_without_a_name_is_known_by_its_content() {
        let told = |text: &str| read_event(text.as_bytes()).unwrap().event_id;
        assert_eq!(told("{\"a\":1}"), told("{\"a\":1}"));
        assert_ne!(told("{\"a\":1}"), told("{\"a\":2}"));
        assert!(read_event(b"[]").is_err() && read_event(b"{").is_err() && read_event(b"").is_err());
    }
}
