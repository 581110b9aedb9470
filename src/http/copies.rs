//! Copies of the store: snapshots, backups and their hour; what a restored store lacks.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::stream;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;

use super::body::Fields;
use super::extract::Visit;
use super::problem::{Answer, Problem};
use super::table::{Param, Place, Route};
use crate::app::App;
use crate::app::views::{BackupView, BackupsView, SnapshotView};
use crate::core::access::Role;
use crate::core::copies::parse_hour;

const SNAPSHOTS: &str = "/ops/snapshots";
const BACKUP: &str = "/ops/backup";

#[derive(Serialize, Deserialize, JsonSchema)]
pub struct Snapshots {
    pub ok: bool,
    /// Newest first.
    pub snapshots: Vec<SnapshotView>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
pub struct SnapshotMade {
    pub ok: bool,
    pub snapshot: SnapshotView,
}

#[derive(Serialize, Deserialize, JsonSchema)]
pub struct BackupAnswer {
    pub ok: bool,
    pub backup: BackupView,
}

#[derive(Serialize, Deserialize, JsonSchema)]
pub struct BackupsAnswer {
    pub ok: bool,
    #[serde(flatten)]
    pub backups: BackupsView,
    /// Those asked for since the server started, newest first.
    pub jobs: Vec<BackupView>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
pub struct BackupHour {
    /// `HH:MM` in UTC; null for no daily backup.
    pub at: Option<String>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
pub struct Dismissed {
    pub ok: bool,
    /// Whether there was anything to dismiss.
    pub dismissed: bool,
}

pub fn routes() -> Vec<Route> {
    let operator = |route: Route| route.under("Copies", "copies").needs(Role::Operator);
    let numbered = |route: Route| {
        operator(route).param(Param {
            name: "id",
            place: Place::Path,
            about: "The backup's number.",
            required: true,
            schema: json!({"type": "integer", "minimum": 1}),
        })
    };
    vec![
        operator(Route::get(SNAPSHOTS, list))
            .says("List snapshots", "Newest first. Those that cannot be read say why in `problem`.")
            .answers::<Snapshots>(200, "The snapshots."),
        operator(Route::post(SNAPSHOTS, make).mutation())
            .says("Make a snapshot now", "Answers when it is whole and checked.")
            .answers::<SnapshotMade>(200, "The snapshot.")
            .fails(507, "There is no room for it; the rest goes on."),
        operator(Route::get(BACKUP, backups))
            .says("Show backups", "The daily backup's hour, the newest one, and those asked for.")
            .answers::<BackupsAnswer>(200, "The backups."),
        operator(Route::post(BACKUP, back_up).mutation())
            .says("Make a backup", "Begins one and answers; GET /ops/backup/{id} tells how far it has come.")
            .answers::<BackupAnswer>(202, "The backup, just begun."),
        operator(Route::post("/ops/backup/schedule", schedule).mutation())
            .says(
                "Set the daily backup's hour",
                "Kept in the store. The daily backup is made once a day, whatever happens.",
            )
            .body::<BackupHour>(true, json!({"at": "02:30"}))
            .answers::<BackupsAnswer>(200, "The backups."),
        numbered(Route::get("/ops/backup/{id}", show))
            .says("Show how far a backup has come", "The last 20 since the server started are remembered.")
            .answers::<BackupAnswer>(200, "The backup.")
            .fails(404, "There is no such backup."),
        numbered(Route::get("/ops/backup/{id}/file", file))
            .says("Download a finished backup", "The zip with database, state, desired files, audit log and manifest.")
            .answers_media(200, "application/zip", "The file.")
            .fails(404, "There is no such backup, or it is not finished."),
        operator(Route::delete("/ops/db/restored", dismiss).mutation())
            .says(
                "Dismiss what a restored store lacks",
                "/ops/health shows what was restored and what is lost until somebody has seen it, or for seven days.",
            )
            .answers::<Dismissed>(200, "Done."),
    ]
}

async fn list(State(app): State<Arc<App>>, visit: Visit) -> Answer<Json<Snapshots>> {
    visit.whole_fleet()?;
    Ok(Json(Snapshots { ok: true, snapshots: app.snapshots().await? }))
}

async fn make(State(app): State<Arc<App>>, visit: Visit) -> Answer<Json<SnapshotMade>> {
    visit.whole_fleet()?;
    Fields::of(visit.object(false)?).finish()?;
    Ok(Json(SnapshotMade { ok: true, snapshot: app.snapshot("asked").await? }))
}

async fn backups(State(app): State<Arc<App>>, visit: Visit) -> Answer<Json<BackupsAnswer>> {
    visit.whole_fleet()?;
    Ok(Json(BackupsAnswer { ok: true, backups: app.backups_view().await?, jobs: app.backup_jobs() }))
}

async fn back_up(State(app): State<Arc<App>>, visit: Visit) -> Answer<Response> {
    visit.whole_fleet()?;
    Fields::of(visit.object(false)?).finish()?;
    let backup = app.ask_for_backup(&visit.caller()?);
    Ok((StatusCode::ACCEPTED, Json(BackupAnswer { ok: true, backup })).into_response())
}

async fn schedule(State(app): State<Arc<App>>, visit: Visit) -> Answer<Json<BackupsAnswer>> {
    visit.whole_fleet()?;
    let mut fields = Fields::of(visit.object(true)?);
    let hour = match fields.take("at") {
        Some(Value::Null) => None,
        Some(Value::String(text)) => {
            let hour = parse_hour(&text);
            if hour.is_none() {
                fields.wrong("at", "must be an hour of the day in UTC like 02:30");
            }
            hour
        }
        _ => {
            fields.wrong("at", "must be an hour of the day in UTC like 02:30, or null");
            None
        }
    };
    fields.finish()?;
    app.schedule_backup(hour, &visit.caller()?).await?;
    backups(State(app), visit).await
}

fn numbered(named: &str) -> Answer<u64> {
    named.parse().map_err(|_| unknown(named))
}

fn unknown(named: impl std::fmt::Display) -> Problem {
    Problem::not_found(format!("there is no backup {named} among those asked for since the server started"))
}

async fn show(State(app): State<Arc<App>>, Path(id): Path<String>, visit: Visit) -> Answer<Json<BackupAnswer>> {
    visit.whole_fleet()?;
    let backup = app.backup(numbered(&id)?).ok_or_else(|| unknown(&id))?;
    Ok(Json(BackupAnswer { ok: true, backup }))
}

async fn file(State(app): State<Arc<App>>, Path(id): Path<String>, visit: Visit) -> Answer<Response> {
    visit.whole_fleet()?;
    let number = numbered(&id)?;
    app.backup(number).ok_or_else(|| unknown(&id))?;
    let path = app.backup_file(number).ok_or_else(|| Problem::not_found(format!("backup {id} is not finished")))?;
    let gone = |_| Problem::not_found(format!("the file of backup {id} is gone"));
    let file = tokio::fs::File::open(&path).await.map_err(gone)?;
    let length = file.metadata().await.map_err(gone)?.len();
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let chunks = stream::try_unfold(file, |mut file| async move {
        let mut buffer = vec![0; 1 << 18];
        let read = file.read(&mut buffer).await?;
        buffer.truncate(read);
        Ok::<_, std::io::Error>((read > 0).then(|| (Bytes::from(buffer), file)))
    });
    let mut response = Body::from_stream(chunks).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/zip"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    if let Ok(value) = HeaderValue::from_str(&format!("attachment; filename=\"{name}\"")) {
        headers.insert(CONTENT_DISPOSITION, value);
    }
    Ok(response)
}

async fn dismiss(State(app): State<Arc<App>>, visit: Visit) -> Answer<Json<Dismissed>> {
    visit.whole_fleet()?;
    Fields::of(visit.object(false)?).finish()?;
    let dismissed = app.dismiss_restored(&visit.caller()?).await?;
    Ok(Json(Dismissed { ok: true, dismissed }))
}
