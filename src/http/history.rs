//! History, and going back: one schedule to a revision, the whole directory to a moment.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::access::is_admin;
use super::body::Fields;
use super::cursor::{self, List};
use super::extract::{Target, Visit, for_target, takes_if_match};
use super::problem::Answer;
use super::schedule::{MAX_REASON, changed};
use super::table::Route;
use crate::app::views::{HistoryPage, MutationAnswer, RollbackAnswer};
use crate::app::{App, DirectoryRollback, HistoryQuery, Rollback};
use crate::core::access::Role;
use crate::core::history::{BadRevision, RevisionRef};
use crate::core::model::Millis;
use crate::core::timing::parse_time;

const HISTORY: &str = "/api/crm/import/{connector}/schedule/history";
const ROLLBACK: &str = "/api/crm/import/{connector}/schedule/rollback";

const DEFAULT_LIMIT: u32 = 50;
/// Each revision is read with its content, to compare it with the one before.
const MAX_LIMIT: u32 = 200;

/// Where to go back to.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct RollbackRequest {
    pub to: RevisionName,
    /// Why, for the audit; 1 to 500 characters.
    #[serde(default)]
    pub reason: Option<String>,
}

/// A revision: its number, at least 7 characters of its digest, or a time (RFC 3339) at which it was
/// in force.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum RevisionName {
    Number(i64),
    Text(String),
}

/// The moment to go back to, and whether to do it.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct DirectoryRequest {
    /// RFC 3339, or epoch seconds.
    pub to_time: String,
    /// Only show the plan; the default.
    #[serde(default = "yes")]
    pub dry_run: bool,
    /// The digest of the plan that was shown; needed to carry it out.
    #[serde(default)]
    pub confirm: Option<String>,
    /// Why, for the audit; 1 to 500 characters.
    #[serde(default)]
    pub reason: Option<String>,
}

fn yes() -> bool {
    true
}

pub fn routes() -> Vec<Route> {
    let operator = |route: Route| for_target(route.under("Schedules", "scheduler").needs(Role::Operator));
    vec![
        operator(Route::get(HISTORY, history))
            .says(
                "Show a schedule's history",
                "Every content its file had, newest first: who, when, from where, and what differed from the one \
                 before, as written. Of a deleted schedule too. What looks like a secret is masked.",
            )
            .query(
                "limit",
                "Revisions on a page.",
                json!({"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT}),
            )
            .query("cursor", "The next_cursor of the page before.", json!({"type": "string"}))
            .query("content", "With 1, also each revision's text.", json!({"type": "string", "enum": ["0", "1"]}))
            .answers::<HistoryPage>(200, "A page of revisions."),
        takes_if_match(operator(Route::post(ROLLBACK, rollback).mutation()))
            .says(
                "Go back to a revision",
                "Writes its bytes back, comments included, as a new edit; a deleted schedule comes back. What changes \
                 `connection` needs the role admin.",
            )
            .body::<RollbackRequest>(true, json!({"to": 3, "reason": "the new interval was too short"}))
            .answers::<MutationAnswer>(200, "The schedule as it is now.")
            .fails(404, "No such revision; `revisions` lists the newest there are.")
            .fails(409, "An editor was quicker, or the revision's content is lost; nothing was changed.")
            .fails(422, "The revision is not valid by today's rules, or a deletion; nothing was changed.")
            .fails(503, "Git or the disk is busy; try again after Retry-After seconds.")
            .fails(507, "The disk is full; nothing was changed."),
        Route::post("/ops/rollback", directory)
            .under("Operations", "ops")
            .needs(Role::Operator)
            .mutation()
            .says(
                "Go back to a moment",
                "The whole directory as it was then: schedules created since are deleted, deleted ones come back. \
                 Answers with the plan; carries it out with `dry_run` false and `confirm` the plan's digest, each \
                 schedule by the normal way of writing and all under one action_id. What changes `connection` needs \
                 the role admin.",
            )
            .body::<DirectoryRequest>(true, json!({"to_time": "2026-11-21T08:00:00Z"}))
            .answers::<RollbackAnswer>(200, "The plan, or with `results` what was done.")
            .fails(409, "The plan is another now: says which schedules have changed since.")
            .fails(422, "The moment lies in the future or before history begins."),
    ]
}

async fn history(State(app): State<Arc<App>>, target: Target) -> Answer<Json<HistoryPage>> {
    let query = target.visit.query();
    let query = HistoryQuery {
        before: cursor::decode(query, List::History)?,
        limit: query.number("limit", 1..=MAX_LIMIT)?.unwrap_or(DEFAULT_LIMIT),
        with_content: query.flag("content")?,
    };
    let (mut page, next) = app.history(&target.id, query).await?;
    page.next_cursor = next.map(|number| cursor::encode(List::History, number));
    Ok(Json(page))
}

async fn rollback(State(app): State<Arc<App>>, target: Target) -> Answer {
    let mut fields = Fields::of(target.visit.object(true)?);
    let to = revision(&mut fields);
    let reason = fields.text("reason", MAX_REASON);
    fields.finish()?;
    // Without a revision, `finish` has refused.
    let Some(to) = to else { return Err(super::problem::Problem::internal()) };
    let rollback = Rollback {
        to,
        reason,
        caller: target.visit.caller()?,
        may_change_connection: is_admin(&target.visit),
        if_match: target.if_match,
        id: target.id,
    };
    Ok(changed(app.rollback(rollback).await?))
}

fn revision(fields: &mut Fields) -> Option<RevisionRef> {
    let text = match fields.take("to") {
        Some(Value::String(text)) => text,
        Some(Value::Number(number)) => number.to_string(),
        _ => {
            fields.wrong("to", "is needed: a revision's number, the beginning of its digest, or a time");
            return None;
        }
    };
    text.parse().map_err(|bad: BadRevision| fields.wrong("to", bad.to_string())).ok()
}

async fn directory(State(app): State<Arc<App>>, visit: Visit) -> Answer<Json<RollbackAnswer>> {
    visit.whole_fleet()?;
    let mut fields = Fields::of(visit.object(true)?);
    let to = moment(&mut fields);
    let dry_run = match fields.take("dry_run") {
        None | Some(Value::Null) => true,
        Some(Value::Bool(dry_run)) => dry_run,
        Some(_) => {
            fields.wrong("dry_run", "must be true or false");
            true
        }
    };
    let confirm = fields.text("confirm", 64);
    let reason = fields.text("reason", MAX_REASON);
    if !dry_run && confirm.is_none() {
        fields.wrong("confirm", "is needed to carry it out: the digest of the plan, as a dry run shows it");
    }
    fields.finish()?;
    let Some(to) = to else { return Err(super::problem::Problem::internal()) };
    let rollback = DirectoryRollback {
        to,
        confirm: confirm.filter(|_| !dry_run),
        reason,
        caller: visit.caller()?,
        may_change_connection: is_admin(&visit),
    };
    Ok(Json(app.roll_back_directory(rollback).await?))
}

fn moment(fields: &mut Fields) -> Option<Millis> {
    let found = match fields.take("to_time") {
        Some(Value::String(text)) => parse_time(&text),
        Some(Value::Number(number)) => parse_time(&number.to_string()),
        _ => None,
    };
    if found.is_none() {
        fields.wrong("to_time", "is needed: a time in RFC 3339 (2026-11-21T08:00:00Z) or epoch seconds");
    }
    found
}
