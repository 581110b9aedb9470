//! The desired directory's git repository: pull now, as a hook or by hand.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::body::Fields;
use super::extract::Visit;
use super::problem::Answer;
use super::table::Route;
use crate::app::views::PassReport;
use crate::app::{App, Pulled};
use crate::core::access::Role;

/// What a pull brought, and what the pass over it did.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct PullAnswer {
    pub ok: bool,
    #[serde(flatten)]
    pub pulled: Pulled,
    pub pass: PassReport,
}

pub fn routes() -> Vec<Route> {
    vec![
        Route::post("/ops/git/pull", pull)
            .mutation()
            .under("Operations", "ops")
            .needs(Role::Operator)
            .says(
                "Pull the remote branch now",
                "Fetches, brings the work tree forward or merges, and reconciles. For a hook of the git server.",
            )
            .answers::<PullAnswer>(200, "HEAD before and after, how many files differ, and what the pass did.")
            .fails(409, "It cannot be pulled: the reason stands in `detail`, nothing was changed."),
    ]
}

async fn pull(State(app): State<Arc<App>>, visit: Visit) -> Answer<Json<PullAnswer>> {
    visit.whole_fleet()?;
    Fields::of(visit.object(false)?).finish()?;
    let (pulled, pass) = app.pull_now(&visit.caller()?).await?;
    Ok(Json(PullAnswer { ok: true, pulled, pass }))
}
