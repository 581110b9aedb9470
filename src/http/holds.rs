//! Holds: deletions and pauses that wait for a person, confirmed by `/ops/apply` or dismissed here.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::body::Fields;
use super::extract::Visit;
use super::problem::Answer;
use super::table::Route;
use crate::app::App;
use crate::app::views::HoldsAnswer;
use crate::core::access::Role;

const MAX_REASON: usize = 500;

/// A decision against what is held.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct DismissRequest {
    /// The `digest` that `/ops/holds` gives.
    pub digest: String,
    /// Why, for the people who find it so; 1 to 500 characters.
    pub reason: String,
}

pub fn routes() -> Vec<Route> {
    let operator = |route: Route| route.under("Operations", "ops").needs(Role::Operator);
    vec![
        operator(Route::get("/ops/holds", list))
            .says(
                "List what waits for a person",
                "Deletions and pauses that would take away too much of the fleet at once. `digest` names exactly these: \
                 confirm it with POST /ops/apply, or dismiss it.",
            )
            .answers::<HoldsAnswer>(200, "What is held, and the decision against it, if there is one."),
        operator(Route::post("/ops/holds/dismiss", dismiss).mutation())
            .says(
                "Decide against what is held",
                "The steps stay unapplied and listed as dismissed, and no longer make the health section 0. That ends \
                 when the files come back or ask for something else.",
            )
            .body::<DismissRequest>(true, json!({"digest": "03d7e4f3…", "reason": "the mount was lost; being restored"}))
            .answers::<HoldsAnswer>(200, "What is held, with the decision.")
            .fails(409, "Nothing of this digest is held; `held_digest` is what is held, `moved` how it differs."),
    ]
}

/// The digest decides over everybody's schedules: a narrowed caller sees its own steps and no digest.
async fn list(State(app): State<Arc<App>>, visit: Visit) -> Answer<Json<HoldsAnswer>> {
    let mut answer = app.holds();
    if let Some(own) = &visit.identity()?.tenant {
        answer.holds.retain(|hold| hold.change.tenant == own.as_str());
        (answer.digest, answer.dismissed) = (None, None);
    }
    Ok(Json(answer))
}

async fn dismiss(State(app): State<Arc<App>>, visit: Visit) -> Answer<Json<HoldsAnswer>> {
    visit.whole_fleet()?;
    let mut fields = Fields::of(visit.object(true)?);
    let (digest, reason) = (fields.text("digest", 64), fields.text("reason", MAX_REASON));
    if digest.is_none() {
        fields.wrong("digest", "is needed: it names what is decided against");
    }
    if reason.is_none() {
        fields.wrong("reason", "is needed: it tells those who find it so why");
    }
    fields.finish()?;
    let caller = visit.caller()?;
    Ok(Json(app.dismiss_hold(&digest.unwrap_or_default(), reason.unwrap_or_default(), &caller).await?))
}
