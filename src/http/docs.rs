//! The API's pages: the document itself, and one page that shows it and needs no other server.

use std::sync::{Arc, OnceLock};

use axum::http::HeaderValue;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;

use super::openapi;
use super::table::Route;

const PAGE: &str = include_str!("docs/index.html");
const STYLE: &str = include_str!("docs/docs.css");
const SCRIPT: &str = include_str!("docs/docs.js");

/// Everything from here, nothing inline, framed by nobody.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub fn routes() -> Vec<Route> {
    let public = |route: Route| route.under("Pages", "http").loose();
    // Written when it is first asked for: it never changes while the program runs.
    let written = Arc::new(OnceLock::new());
    vec![
        public(Route::get("/openapi.json", move || document(written.clone())))
            .says("This document", "OpenAPI 3.1.")
            .answers_media(200, "application/json", "The document."),
        public(Route::get("/docs", || page("text/html; charset=utf-8", PAGE)))
            .says("The API's pages", "Reads this document and lets you try each route.")
            .answers_media(200, "text/html", "The page."),
        public(Route::get("/docs/docs.css", || page("text/css; charset=utf-8", STYLE)))
            .says("The pages' style", "Part of /docs.")
            .answers_media(200, "text/css", "The style."),
        public(Route::get("/docs/docs.js", || page("text/javascript; charset=utf-8", SCRIPT)))
            .says("The pages' script", "Part of /docs.")
            .answers_media(200, "text/javascript", "The script."),
    ]
}

async fn document(written: Arc<OnceLock<Bytes>>) -> Response {
    let text = written.get_or_init(|| openapi::document(&super::routes()).to_string().into()).clone();
    ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], text).into_response()
}

async fn page(media: &'static str, text: &'static str) -> Response {
    let headers =
        [(CONTENT_TYPE, HeaderValue::from_static(media)), (CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY))];
    (headers, text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_needs_nothing_inline_and_no_other_server() {
        for (at, _) in PAGE.match_indices("<script") {
            assert!(PAGE[at..].starts_with("<script src=\"/docs/"), "scripts are files of ours");
        }
        for inline in ["<style", " style=", " onclick=", "javascript:"] {
            assert!(!PAGE.contains(inline), "{inline}");
        }
        for text in [PAGE, STYLE, SCRIPT] {
            assert!(!text.contains("http://") && !text.contains("https://"));
        }
        assert!(!SCRIPT.contains("innerHTML"), "texts are set as texts");
    }
}
