//! What sources tell by themselves. Its own door: the token in the path is the key to it.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{Extensions, StatusCode};
use axum::response::{IntoResponse as _, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::access::peer;
use super::extract::{Visit, tenant_schema};
use super::problem::{Answer, Problem};
use super::table::{Param, Place, Route};
use crate::app::{App, NotTaken, Taken};

/// Whatever lies below is not repeated in an answer: it holds a secret.
pub const FOLDER: &str = "/webhooks/";
const PATH: &str = "/webhooks/acculynx/{tenant}/{token}";
/// An event is a few hundred bytes.
const BODY_LIMIT: usize = 64 << 10;

/// What became of an event.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct Received {
    pub ok: bool,
    /// `accepted`: what it is about is read soon. `duplicate`: it had come before. `ignored`: nothing is to be read.
    pub status: String,
}

pub fn routes() -> Vec<Route> {
    let about = "Kept before it is answered, once for each `eventId`. What it is about is read again within seconds; \
                 events that come together share one run. The token is the secret that the schedule's \
                 `connection.webhook_token` names: an unknown tenant and a wrong token are answered alike.";
    let token = json!({"type": "string", "minLength": 32});
    let example = json!({
        "topicName": "job_updated", "eventDateTime": "2026-06-01T12:00:00Z",
        "eventId": "0d2b1f5e-5d4c-4b6e-9a51-2f2f6f0a7c11", "subscriptionId": "5c7f0b9a-3e21-4a86-8d53-1c1d2f0e9b77",
        "event": {"job": {"id": "8a1e6c0d-90f4-4f0b-b0a5-7d1f3a2c4e55"}}
    });
    let in_path = |name, about, schema| Param { name, place: Place::Path, about, required: true, schema };
    vec![
        Route::post(PATH, receive)
            .under("Webhooks", "webhooks")
            .loose()
            .limit(BODY_LIMIT)
            .says("Take an event from AccuLynx", about)
            .param(in_path("tenant", "The tenant.", tenant_schema()))
            .param(in_path("token", "The webhook's secret.", token))
            .body::<serde_json::Value>(true, example)
            .answers::<Received>(202, "Taken.")
            .answers::<Received>(200, "Taken before.")
            .fails(404, "No such webhook."),
    ]
}

async fn receive(
    State(app): State<Arc<App>>,
    extensions: Extensions,
    Path((tenant, token)): Path<(String, String)>,
    visit: Visit,
) -> Answer<Response> {
    let taken = match app.take_webhook(tenant, token, visit.0.body.clone()).await {
        Ok(taken) => taken,
        Err(NotTaken::Unknown) => {
            app.note_refusal(peer(&extensions), PATH, "webhook_token");
            return Err(Problem::not_found("There is no such webhook"));
        }
        Err(NotTaken::Malformed(reason)) => return Err(Problem::bad_request("event", reason)),
        Err(NotTaken::Store(error)) => return Err(error.into()),
    };
    let status = if taken == Taken::Duplicate { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, Json(Received { ok: true, status: taken.as_str().to_owned() })).into_response())
}
