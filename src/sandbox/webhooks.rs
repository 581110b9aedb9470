//! The vendor's webhooks: subscriptions as its API takes them, and the events sent to them, when
//! something changes in a company and when `POST /sandbox/events` asks for it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use reqwest::Url;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::world::World;
use super::{BASE_PATH, SandboxOptions};
use crate::adapters::connectors::is_loopback;
use crate::core::model::{Digest, Millis};

/// The topics the practice server knows: a few of the vendor's.
pub(super) const TOPICS: [&str; 5] = [JOB_CREATED, JOB_UPDATED, MILESTONE, CONTACT_ADDED, "contact_updated"];
const JOB_CREATED: &str = "job_created";
const JOB_UPDATED: &str = "job_updated";
const MILESTONE: &str = "job.milestone.current_changed";
const CONTACT_ADDED: &str = "contact_added";
/// What a test event carries.
const TEST: &str = "test_event";

/// How long the vendor waits for an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// More subscriptions than this are refused: they are an operator's, not a program's.
const MOST_SUBSCRIPTIONS: usize = 1_000;
const MOST_COPIES: u32 = 100;

/// A subscription as `POST /subscriptions` takes it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Subscription {
    pub consumer_url: String,
    #[serde(default)]
    pub tech_contact: Value,
    pub topic_names: Vec<String>,
    #[serde(default)]
    pub integration_type: Value,
}

/// What `PUT /subscriptions/{id}` may change.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Topics {
    pub topic_names: Vec<String>,
}

/// An event to send, as `POST /sandbox/events` takes it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    pub company: String,
    #[serde(default = "job_updated")]
    pub topic: String,
    /// The job or contact it is about; the job that changed last when left out.
    #[serde(default)]
    pub id: Option<String>,
    /// Sent before: the same `eventId` again.
    #[serde(default)]
    pub event_id: Option<String>,
    /// How many copies of it each subscriber gets.
    #[serde(default = "once")]
    pub times: u32,
}

fn job_updated() -> String {
    JOB_UPDATED.to_owned()
}

fn once() -> u32 {
    1
}

/// Who is told of what, and what has been told.
#[derive(Default)]
pub(super) struct Webhooks {
    subscriptions: Mutex<BTreeMap<(String, String), Subscription>>,
    made: AtomicU64,
    /// Up to when each company's changes were told.
    told: Mutex<BTreeMap<String, Millis>>,
}

/// Something that happened in a company.
struct Event {
    id: String,
    topic: String,
    at: Millis,
    resource: &'static str,
    key: String,
}

impl Webhooks {
    /// Takes a subscription on, or says what is wrong with it.
    pub fn subscribe(&self, company: &str, subscription: Subscription) -> Result<String, String> {
        known_topics(&subscription.topic_names)?;
        let url = Url::parse(&subscription.consumer_url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        // Whoever can reach the practice server must not be able to send requests through it.
        if !url.is_some_and(|url| is_loopback(&url)) {
            return Err("consumerUrl must be an http address on this machine (127.0.0.1): the practice server \
                        calls nobody else"
                .to_owned());
        }
        let mut subscriptions = self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner);
        if subscriptions.len() >= MOST_SUBSCRIPTIONS {
            return Err(format!("there are {MOST_SUBSCRIPTIONS} subscriptions: delete some first"));
        }
        let id = self.new_id("subscription", company);
        subscriptions.insert((company.to_owned(), id.clone()), subscription);
        Ok(id)
    }

    pub fn get(&self, company: &str, id: &str) -> Option<Subscription> {
        let key = (company.to_owned(), id.to_owned());
        self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned()
    }

    /// Changes the topics, the only thing that can be changed; `None` when there is no such subscription.
    pub fn set_topics(&self, company: &str, id: &str, topics: Topics) -> Option<Result<(), String>> {
        let mut subscriptions = self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner);
        let subscription = subscriptions.get_mut(&(company.to_owned(), id.to_owned()))?;
        Some(known_topics(&topics.topic_names).map(|()| subscription.topic_names = topics.topic_names))
    }

    pub fn unsubscribe(&self, company: &str, id: &str) -> bool {
        let key = (company.to_owned(), id.to_owned());
        self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner).remove(&key).is_some()
    }

    /// Sends what was asked for to all that wait for it and says what they answered.
    pub async fn send_asked(&self, world: &World, now: Millis, asked: Asked) -> Result<Value, String> {
        if !(1..=MOST_COPIES).contains(&asked.times) {
            return Err(format!("times must be between 1 and {MOST_COPIES}"));
        }
        let resource = if asked.topic.starts_with("contact") { "contact" } else { "job" };
        let newest = || world.jobs(now).iter().max_by_key(|job| job.modified).map(|job| world.job_id(job));
        let key = asked.id.or_else(newest).ok_or("the company has no job: give an id")?;
        let id = asked.event_id.unwrap_or_else(|| self.new_id("event", &asked.company));
        let event = Event { id, topic: asked.topic, at: now, resource, key };
        let mut deliveries = Vec::new();
        for _ in 0..asked.times {
            deliveries.extend(self.send(&asked.company, &event).await);
        }
        Ok(json!({"eventId": event.id, "deliveries": deliveries}))
    }

    /// Sends a test event to one subscription, whatever its topics.
    pub async fn send_test(&self, company: &str, id: &str, now: Millis) -> Option<Value> {
        let subscription = self.get(company, id)?;
        let event = Event {
            id: self.new_id("event", company),
            topic: TEST.to_owned(),
            at: now,
            resource: "job",
            key: "00000000-0000-0000-0000-000000000000".to_owned(),
        };
        Some(deliver(&subscription.consumer_url, id, &event).await)
    }

    /// Tells subscribers what changed in their companies since the last call.
    pub async fn tell_changes(&self, options: &SandboxOptions, since: Millis, now: Millis) {
        let companies: Vec<String> = {
            let subscriptions = self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner);
            let mut names: Vec<_> = subscriptions.keys().map(|(company, _)| company.clone()).collect();
            names.dedup();
            names
        };
        for company in companies {
            let before = self.told.lock().unwrap_or_else(PoisonError::into_inner).insert(company.clone(), now);
            // The first look at a company only notes where it stands.
            let Some(before) = before.filter(|before| *before < now) else { continue };
            let world = World::new(options, &company, since);
            for job in world.jobs(now).iter().filter(|job| job.modified > before) {
                let topic = if job.created > before { JOB_CREATED } else { JOB_UPDATED };
                let topics = [Some(topic), (job.milestone_at > before).then_some(MILESTONE)];
                for topic in topics.into_iter().flatten() {
                    let id = self.new_id("event", &company);
                    let (topic, key) = (topic.to_owned(), world.job_id(job));
                    self.send(&company, &Event { id, topic, at: job.modified, resource: "job", key }).await;
                }
            }
        }
    }

    async fn send(&self, company: &str, event: &Event) -> Vec<Value> {
        let waiting: Vec<_> = {
            let subscriptions = self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner);
            let own = subscriptions.iter().filter(|((of, _), _)| of == company);
            own.filter(|(_, subscription)| subscription.topic_names.contains(&event.topic))
                .map(|((_, id), subscription)| (id.clone(), subscription.consumer_url.clone()))
                .collect()
        };
        let mut answers = Vec::with_capacity(waiting.len());
        for (id, url) in waiting {
            answers.push(deliver(&url, &id, event).await);
        }
        answers
    }

    fn new_id(&self, kind: &str, company: &str) -> String {
        let n = self.made.fetch_add(1, Ordering::Relaxed);
        Digest::of(format!("{kind}/{company}/{n}/{}", std::process::id()).as_bytes()).to_hex()[..32].to_owned()
    }
}

fn known_topics(names: &[String]) -> Result<(), String> {
    if names.is_empty() {
        return Err("topicNames must name at least one topic".to_owned());
    }
    let unknown = names.iter().find(|name| !TOPICS.contains(&name.as_str()));
    unknown.map_or(Ok(()), |name| Err(format!("there is no topic \"{name}\"; GET /webhooks/v2/topics lists them")))
}

/// The envelope as it is really sent, and how it was received.
async fn deliver(url: &str, subscription: &str, event: &Event) -> Value {
    let date = chrono::DateTime::from_timestamp_millis(event.at).unwrap_or_default().to_rfc3339();
    let link = format!("{BASE_PATH}/{}s/{}", event.resource, event.key);
    let body = json!({
        "topicName": event.topic,
        "eventDateTime": date,
        "eventId": event.id,
        "subscriptionId": subscription,
        "event": {event.resource: {"id": event.key, "date": date, "_link": link}},
    });
    let started = Instant::now();
    let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build();
    let sent = match client {
        Ok(client) => client.post(url).json(&body).timeout(PATIENCE).send().await,
        Err(error) => Err(error),
    };
    let ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    match sent {
        Ok(answer) => json!({"subscriptionId": subscription, "status": answer.status().as_u16(), "ms": ms}),
        // Without its address: the token stands in it.
        Err(error) => json!({"subscriptionId": subscription, "error": error.without_url().to_string(), "ms": ms}),
    }
}
