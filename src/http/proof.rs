//! The audit log's proof over HTTP: verification, the newest signed end, and the key to check it with.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::body::Fields;
use super::extract::Visit;
use super::problem::{Answer, Problem};
use super::table::Route;
use crate::app::{App, Presented};
use crate::core::access::Role;
use crate::core::audit::Verdict;

/// No checkpoint is longer.
const LONGEST: usize = 64 * 1024;

/// A checkpoint that somebody kept, to hold the log against.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct VerifyRequest {
    /// A signed checkpoint of this store, as it was kept.
    pub checkpoint: Option<String>,
    /// The verifier key to believe instead of those that the server knows.
    pub key: Option<String>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
pub struct SetAsideRequest {
    /// The last entry that is left of what was signed.
    pub after: i64,
    pub reason: Option<String>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
pub struct SetAside {
    pub ok: bool,
    pub checkpoints: u64,
}

/// The key that signs checkpoints; the secret half never leaves the server.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct AuditKey {
    pub ok: bool,
    /// `NAME+HASH+KEY`, as the signed-note specification writes verifier keys.
    pub key: String,
    /// This key and those before it, oldest first.
    pub known: Vec<String>,
}

pub fn routes() -> Vec<Route> {
    let operator = |route: Route| route.under("Audit", "audit").needs(Role::Operator);
    vec![
        operator(Route::get("/ops/audit/verify", verify))
            .says(
                "Check the audit log's hash chain",
                "Walks every entry, sealed ones too, and holds the log against every signed checkpoint that is kept.",
            )
            .answers::<Verdict>(200, "What was found; `valid` is false when the log was tampered with."),
        operator(Route::post("/ops/audit/verify", verify_against))
            .says(
                "Check that the log continues a checkpoint",
                "As GET, and holds the log against a checkpoint that the caller kept: today's log must have exactly its \
                 hash at its entry. Changes nothing.",
            )
            .body::<VerifyRequest>(false, json!({"checkpoint": "command-center/…\n42\n…"}))
            .answers::<Verdict>(200, "What was found; `valid` is false when the log was tampered with.")
            .fails(409, "The checkpoint cannot be held against this log: it is of another store, or its key is not known here."),
        operator(Route::get("/ops/audit/checkpoint", checkpoint))
            .says(
                "Show the newest checkpoint",
                "The log's newest signed end as a signed note. Keep it somewhere else: with it, a log that was cut or \
                 rewritten as a whole shows.",
            )
            .answers_media(200, "text/plain", "The checkpoint.")
            .fails(404, "Nothing has been signed yet."),
        Route::post("/ops/audit/set-aside", set_aside)
            .under("Audit", "audit")
            .needs(Role::Admin)
            .mutation()
            .says(
                "Accept that entries were lost",
                "After a database was put back from a copy, the entries behind it are gone and kept checkpoints say so at \
                 every verification. This puts the checkpoints of entries after `after` aside, without deleting them, \
                 and writes that down.",
            )
            .body::<SetAsideRequest>(true, json!({"after": 1100, "reason": "put back from Tuesday's backup"}))
            .answers::<SetAside>(200, "How many checkpoints do not count any more."),
        operator(Route::get("/ops/audit/key", key))
            .says("Show the key that checkpoints are checked with", "The public half alone.")
            .answers::<AuditKey>(200, "The key.")
            .fails(404, "This server signs nothing."),
    ]
}

async fn verify(State(app): State<Arc<App>>) -> Answer<Json<Verdict>> {
    Ok(Json(app.verify_audit(Vec::new()).await?))
}

async fn verify_against(State(app): State<Arc<App>>, visit: Visit) -> Answer<Json<Verdict>> {
    let mut fields = Fields::of(visit.object(false)?);
    let (checkpoint, key) = (fields.text("checkpoint", LONGEST), fields.text("key", 1024));
    fields.finish()?;
    let Some(checkpoint) = checkpoint else { return verify(State(app)).await };
    match app.read_presented(&checkpoint, key.as_deref()).await {
        Ok(anchor) => Ok(Json(app.verify_audit(vec![anchor]).await?)),
        Err(Presented::Checkpoint(bad)) if bad.is_tampering() => {
            Ok(Json(Verdict { message: bad.to_string(), ..Verdict::default() }))
        }
        Err(bad) => Err(cannot_tell(&bad)),
    }
}

fn cannot_tell(bad: &Presented) -> Problem {
    use axum::http::StatusCode;
    Problem::new(StatusCode::CONFLICT, "checkpoint-unusable", "The checkpoint proves nothing here", bad.to_string())
}

async fn checkpoint(State(app): State<Arc<App>>) -> Answer<Response> {
    let newest = app.last_checkpoint().ok_or_else(|| Problem::not_found("nothing has been signed yet"))?;
    Ok(([(CONTENT_TYPE, "text/plain; charset=utf-8")], newest.note.to_string()).into_response())
}

async fn key(State(app): State<Arc<App>>) -> Answer<Json<AuditKey>> {
    let none = || Problem::not_found("this server signs nothing; /ops/health says why");
    let (key, known) = app.audit_keys().ok_or_else(none)?;
    Ok(Json(AuditKey { ok: true, key: key.to_string(), known: known.iter().map(ToString::to_string).collect() }))
}

async fn set_aside(State(app): State<Arc<App>>, visit: Visit) -> Answer<Json<SetAside>> {
    visit.whole_fleet()?;
    let mut fields = Fields::of(visit.object(true)?);
    let reason = fields.text("reason", 500);
    let after = match fields.take("after") {
        Some(Value::Number(number)) => number.as_i64().filter(|number| *number >= 0),
        _ => None,
    };
    if after.is_none() {
        fields.wrong("after", "must be the number of the last entry that is left, 0 or more");
    }
    fields.finish()?;
    let checkpoints = app.set_checkpoints_aside(after.unwrap_or_default(), reason, &visit.caller()?).await?;
    Ok(Json(SetAside { ok: true, checkpoints }))
}
