//! Requests to a running server and what may be asked of their answers.

use std::collections::BTreeMap;

use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode};
use serde_json::Value;

use super::{Server, eventually, hold, text};

/// A request being put together.
#[must_use]
pub struct Call(reqwest::RequestBuilder, String);

impl Call {
    /// The operator, as the seeds' clients say it.
    pub fn ops(self) -> Self {
        self.header("x-ops", "1")
    }

    pub fn role(self, role: &str) -> Self {
        self.header("x-role", role)
    }

    pub fn tenant(self, tenant: &str) -> Self {
        self.header("x-tenant", tenant)
    }

    pub fn header(self, name: &str, value: &str) -> Self {
        let value = HeaderValue::from_bytes(value.as_bytes()).expect("a header's value");
        Call(self.0.header(name, value), self.1)
    }

    pub fn json(self, body: &Value) -> Self {
        Call(self.0.json(body), self.1)
    }

    pub fn body(self, content_type: &str, body: impl Into<reqwest::Body>) -> Self {
        Call(self.0.header("content-type", content_type).body(body), self.1)
    }

    pub async fn send(self) -> Reply {
        let name = self.1.clone();
        self.try_send().await.unwrap_or_else(|error| panic!("{name}: no answer: {error:?}"))
    }

    pub async fn try_send(self) -> Result<Reply, reqwest::Error> {
        let answer = self.0.send().await?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        Ok(Reply { request: self.1, status, headers, body: answer.bytes().await?.to_vec() })
    }
}

/// An answer, read whole.
#[derive(Debug)]
pub struct Reply {
    pub request: String,
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn code(&self) -> u16 {
        self.status.as_u16()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    #[track_caller]
    pub fn expect(&self, code: u16) -> Value {
        assert_eq!(self.code(), code, "{}: {}", self.request, self.text());
        self.json()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{}: no JSON ({e}): {}", self.request, self.text()))
    }

    /// An error must be this status as RFC 9457 has it, with the `detail` that clients read.
    #[track_caller]
    pub fn problem(&self, code: u16) -> Value {
        assert_eq!(self.code(), code, "{}: {}", self.request, self.text());
        assert!(
            self.header("content-type").starts_with("application/problem+json"),
            "{}: {code} came as {:?}: {}",
            self.request,
            self.header("content-type"),
            self.text()
        );
        let problem = self.json();
        assert_eq!(problem["status"], code, "{}: {problem}", self.request);
        assert!(!text(&problem, "/title").is_empty(), "{}: a title: {problem}", self.request);
        assert!(!text(&problem, "/type").is_empty(), "{}: a type: {problem}", self.request);
        assert!(!text(&problem, "/detail").is_empty(), "{}: a detail: {problem}", self.request);
        problem
    }
}

impl Server {
    pub fn call(&self, method: Method, path: &str) -> Call {
        let name = format!("{method} {path}");
        Call(self.client().request(method, self.url(path)), name)
    }

    pub fn get(&self, path: &str) -> Call {
        self.call(Method::GET, path)
    }

    pub fn post(&self, path: &str) -> Call {
        self.call(Method::POST, path)
    }

    pub fn delete(&self, path: &str) -> Call {
        self.call(Method::DELETE, path)
    }

    /// An operator's action on a tenant of the `noop` connector: `schedule`, `pause`, `resume`, `run-now`.
    pub fn act(&self, action: &str, tenant: &str) -> Call {
        self.post(&format!("/api/crm/import/noop/{action}")).ops().tenant(tenant)
    }

    /// Creates or changes a schedule of the `noop` connector.
    pub async fn put(&self, tenant: &str, body: &Value) -> Value {
        self.act("schedule", tenant).json(body).send().await.expect(200)
    }

    /// All statuses of a connector by tenant.
    pub async fn statuses(&self, connector: &str) -> BTreeMap<String, Value> {
        let answer = self.get(&format!("/api/crm/import/{connector}/schedule/status")).send().await.expect(200);
        assert_eq!(answer["ok"], true, "{answer}");
        let schedules = answer["schedules"].as_object().unwrap_or_else(|| panic!("schedules: {answer}"));
        schedules.iter().map(|(tenant, status)| (tenant.clone(), status.clone())).collect()
    }

    /// One status of the `noop` connector, `null` when there is no such schedule.
    pub async fn status(&self, tenant: &str) -> Value {
        let path = format!("/api/crm/import/noop/schedule/status?tenant={tenant}");
        let reply = self.get(&path).send().await;
        if reply.code() == 404 {
            return Value::Null;
        }
        reply.expect(200)["schedules"][tenant].clone()
    }

    /// Waits until one tenant's status is as `judge` wants it.
    pub async fn until(&self, what: &str, tenant: &str, judge: impl Fn(&Value) -> bool) -> Value {
        eventually(&format!("{tenant}: {what}"), async || {
            let status = self.status(tenant).await;
            hold(judge(&status), &status).map(|()| status)
        })
        .await
    }

    pub async fn health(&self) -> Value {
        self.get("/ops/health").send().await.expect(200)
    }

    /// Waits until the health is as `judge` wants it.
    pub async fn until_health(&self, what: &str, judge: impl Fn(&Value) -> bool) -> Value {
        eventually(what, async || {
            let health = self.health().await;
            hold(judge(&health), &health).map(|()| health)
        })
        .await
    }

    /// Waits for two full passes that began after this call.
    pub async fn passes(&self, count: usize) {
        for _ in 0..count {
            let before = text(&self.health().await, "/drift/last_full_reconcile/at_iso").to_owned();
            self.until_health("another full pass", |health| {
                let now = text(health, "/drift/last_full_reconcile/at_iso");
                !now.is_empty() && now != before
            })
            .await;
        }
    }

    /// The audit of the `noop` connector, newest first, with a filter such as `tenant=a`.
    pub async fn audit(&self, filter: &str) -> Vec<Value> {
        let path = format!("/api/crm/import/noop/audit?limit=1000&{filter}");
        let answer = self.get(&path).ops().send().await.expect(200);
        answer["entries"].as_array().unwrap_or_else(|| panic!("entries: {answer}")).clone()
    }

    /// Waits for an audit entry and returns it.
    pub async fn until_audit(&self, filter: &str, judge: impl Fn(&Value) -> bool) -> Value {
        eventually(&format!("an audit entry ({filter})"), async || {
            let entries = self.audit(filter).await;
            let found = entries.iter().find(|entry| judge(entry)).cloned();
            found.ok_or_else(|| format!("{entries:?}"))
        })
        .await
    }
}

/// An entry's change of one field.
pub fn change_of<'a>(entry: &'a Value, field: &str) -> Option<&'a Value> {
    entry.pointer("/metadata/diff")?.as_array()?.iter().find(|change| change["field"] == field)
}
