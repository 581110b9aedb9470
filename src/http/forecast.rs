//! What is to come: maintenance windows with their next times, next starts, and the load by minutes.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::body::Fields;
use super::extract::{Visit, tenant_schema};
use super::ops::{DIFF_LIMIT, texts};
use super::problem::Answer;
use super::query::malformed;
use super::table::Route;
use crate::app::views::{ForecastAnswer, WindowsAnswer};
use crate::app::{App, ForecastQuery};
use crate::core::access::Role;
use crate::core::model::{Connector, UnknownConnector};

const DEFAULT_COUNT: u32 = 10;
const MAX_COUNT: u32 = 1000;
const LOOKS_AHEAD: [(&str, usize); 2] = [("1d", 1), ("7d", 7)];

/// A directory whose load is to be foretold.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct ForecastRequest {
    /// Text of each file by its path relative to the desired directory, as for `/ops/diff`.
    pub files: std::collections::BTreeMap<String, String>,
    /// How far to look ahead: 1d or 7d.
    #[serde(default, rename = "for")]
    pub ahead: Option<String>,
}

pub fn routes() -> Vec<Route> {
    let operator = |route: Route| route.under("Operations", "ops").needs(Role::Operator);
    let names: Vec<&str> = Connector::ALL.iter().map(|connector| connector.as_str()).collect();
    vec![
        operator(Route::get("/ops/windows", windows))
            .says(
                "List maintenance windows",
                "Times in which no run starts, from the files `windows/NAME.yaml`; each as last good, with its next times.",
            )
            .answers::<WindowsAnswer>(200, "The windows in order of their names."),
        operator(Route::get("/ops/forecast", forecast))
            .says(
                "Foretell the load",
                "How many runs start in each minute to come, by the schedules and windows that are in force; with \
                 `tenant` of that tenant only, together with its next starts. Retries, run-now and queues are left out.",
            )
            .query("tenant", "Only this tenant, and its next starts.", tenant_schema())
            .query("connector", "Only this connector.", json!({"type": "string", "enum": names}))
            .query("for", "How far to look ahead.", json!({"type": "string", "enum": ["1d", "7d"], "default": "1d"}))
            .query(
                "count",
                "With `tenant`: how many next starts.",
                json!({"type": "integer", "minimum": 1, "maximum": MAX_COUNT, "default": DEFAULT_COUNT}),
            )
            .answers::<ForecastAnswer>(200, "The load, and with `tenant` the next starts.")
            .fails(404, "The tenant has no schedule."),
        operator(Route::post("/ops/forecast", forecast_of))
            .limit(DIFF_LIMIT)
            .says(
                "Foretell the load of a directory",
                "As GET, of what the given files would make of the fleet, with the load as it is and the minutes that \
                 jump. Changes nothing.",
            )
            .body::<ForecastRequest>(true, json!({"files": {"schedules/noop/a.yaml": "cron: 0 3 * * *\n"}, "for": "1d"}))
            .answers::<ForecastAnswer>(200, "Both loads; files that cannot be used are in `invalid`."),
    ]
}

async fn windows(State(app): State<Arc<App>>) -> Answer<Json<WindowsAnswer>> {
    Ok(Json(app.windows_view()))
}

fn days(text: &str) -> Option<usize> {
    LOOKS_AHEAD.into_iter().find(|(name, _)| *name == text).map(|(_, days)| days)
}

async fn forecast(State(app): State<Arc<App>>, visit: Visit) -> Answer<Json<ForecastAnswer>> {
    let query = visit.query();
    let connector = query.text("connector").map(str::parse::<Connector>).transpose();
    let ahead = query.choice("for", &["1d", "7d"])?.unwrap_or("1d");
    let asked = ForecastQuery {
        connector: connector.map_err(|why: UnknownConnector| malformed("connector", format!("names none: {why}")))?,
        tenant: visit.tenant_filter()?,
        days: days(ahead).unwrap_or(1),
        count: query.number("count", 1..=MAX_COUNT)?.unwrap_or(DEFAULT_COUNT) as usize,
    };
    Ok(Json(app.forecast(asked).await?))
}

async fn forecast_of(State(app): State<Arc<App>>, visit: Visit) -> Answer<Json<ForecastAnswer>> {
    visit.whole_fleet()?;
    let mut fields = Fields::of(visit.object(true)?);
    let files = match fields.take("files") {
        Some(Value::Object(files)) => texts(files, &mut fields),
        _ => {
            fields.wrong("files", "must be an object of paths and texts");
            std::collections::BTreeMap::new()
        }
    };
    let ahead = fields.text("for", 2);
    let days = ahead.as_deref().map_or(Some(1), days);
    if days.is_none() {
        fields.wrong("for", "takes 1d or 7d");
    }
    fields.finish()?;
    Ok(Json(app.forecast_of(files, days.unwrap_or(1)).await?))
}
