//! The JSON Schemas of the files, for editors that have no copy of them.

use std::sync::{Arc, OnceLock};

use axum::extract::RawPathParams;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::problem::{Answer, Problem};
use super::status::none_match;
use super::table::{Param, Place, Route};
use crate::core::desired::{schema_text, schemas};
use crate::core::model::Digest;

/// Name, text and tag of each.
type Texts = Vec<(&'static str, String, String)>;

pub fn routes() -> Vec<Route> {
    // Written when one is first asked for: they never change while the program runs.
    let written: Arc<OnceLock<Texts>> = Arc::default();
    let names: Vec<&str> = schemas().iter().map(|(name, _)| *name).collect();
    vec![
        Route::get("/schemas/{name}", move |params: RawPathParams, headers: HeaderMap| async move {
            serve(written.get_or_init(texts), &params, &headers)
        })
        .under("System", "http")
        .loose()
        .says(
            "JSON Schema of a file",
            "What `# yaml-language-server: $schema=URL` in a file's first line may name, so that an editor checks and \
             completes it. The same as the files in schemas/.",
        )
        .param(Param {
            name: "name",
            place: Place::Path,
            about: "The schema's file name.",
            required: true,
            schema: json!({"type": "string", "enum": names, "example": "schedule.schema.json"}),
        })
        .answers_media(200, "application/schema+json", "The schema (2020-12), with its ETag.")
        .answers_media(304, "application/schema+json", "If-None-Match names its ETag.")
        .fails(404, "No such schema; `schemas` lists those there are."),
    ]
}

fn texts() -> Texts {
    let text = |(name, schema): (&'static str, Value)| {
        let text = schema_text(&schema);
        let tag = Digest::of(text.as_bytes()).to_hex();
        (name, text, tag)
    };
    schemas().into_iter().map(text).collect()
}

fn serve(texts: &Texts, params: &RawPathParams, headers: &HeaderMap) -> Answer {
    let wanted = params.iter().find(|(name, _)| *name == "name").map_or("", |(_, value)| value);
    let Some((_, text, tag)) = texts.iter().find(|(name, ..)| *name == wanted) else {
        let known: Vec<&str> = texts.iter().map(|(name, ..)| *name).collect();
        return Err(Problem::not_found(format!("There is no schema \"{wanted}\"; there are: {}", known.join(", ")))
            .with("schemas", known));
    };
    let quoted = HeaderValue::from_str(&format!("\"{tag}\"")).map_err(|_| Problem::internal())?;
    if none_match(headers, tag) {
        return Ok((StatusCode::NOT_MODIFIED, [(ETAG, quoted)]).into_response());
    }
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("application/schema+json")),
        (CACHE_CONTROL, HeaderValue::from_static("public, max-age=300")),
        (ETAG, quoted),
    ];
    let response: Response = (headers, text.clone()).into_response();
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_served_is_what_is_committed() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
        let mut committed: Vec<String> = std::fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        committed.sort();
        let texts = texts();
        let mut served: Vec<&str> = texts.iter().map(|(name, ..)| *name).collect();
        served.sort_unstable();
        assert_eq!(served, committed);
        for (name, text, _) in texts {
            let file = std::fs::read_to_string(folder.join(name)).unwrap().replace("\r\n", "\n");
            assert!(file == text, "{name} is not current: run `cargo run -- schema`");
        }
    }
}
