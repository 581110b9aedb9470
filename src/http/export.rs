//! The audit log as a file: CSV, JSON or JSON lines, a page of it in memory at a time.

use std::sync::Arc;

use axum::body::Body;
use axum::http::HeaderValue;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::IntoResponse as _;
use bytes::Bytes;
use futures_util::stream;

use super::audit::MAX_LIMIT;
use super::problem::{Answer, Problem};
use crate::adapters::store::AuditQuery;
use crate::app::App;
use crate::core::audit::Entry;
use crate::core::timing::iso;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Csv,
    Json,
    Jsonl,
}

impl Format {
    pub const NAMES: [&'static str; 3] = ["csv", "json", "jsonl"];

    pub fn parse(name: &str) -> Option<Format> {
        [Format::Csv, Format::Json, Format::Jsonl].into_iter().find(|format| format.extension() == name)
    }

    fn extension(self) -> &'static str {
        match self {
            Format::Csv => "csv",
            Format::Json => "json",
            Format::Jsonl => "jsonl",
        }
    }

    fn media(self) -> &'static str {
        match self {
            Format::Csv => "text/csv; charset=utf-8",
            Format::Json => "application/json",
            Format::Jsonl => "application/x-ndjson",
        }
    }

    fn opening(self) -> &'static str {
        match self {
            Format::Csv => {
                "seq,ts,ts_iso,tenant,connector,operation,source,actor,action_id,metadata,prev_hash,hash\r\n"
            }
            Format::Json => "{\"ok\":true,\"entries\":[",
            Format::Jsonl => "",
        }
    }

    fn closing(self) -> &'static str {
        match self {
            Format::Json => "]}\n",
            Format::Csv | Format::Jsonl => "",
        }
    }

    fn write(self, text: &mut String, entry: &Entry, is_first: bool) {
        match self {
            Format::Csv => write_csv(text, entry),
            Format::Json => {
                text.push_str(if is_first { "\n" } else { ",\n" });
                text.push_str(&serde_json::to_string(&entry.view()).unwrap_or_default());
            }
            Format::Jsonl => {
                text.push_str(&serde_json::to_string(&entry.view()).unwrap_or_default());
                text.push('\n');
            }
        }
    }
}

/// How far a download has come.
struct Reader {
    app: Arc<App>,
    query: AuditQuery,
    /// Entries still wanted; `None` is all there are.
    left: Option<u32>,
    format: Format,
    /// The page that was read before the answer began.
    first: Option<Vec<Entry>>,
    is_first: bool,
    ended: bool,
}

/// Everything that `query` asks for, or `limit` entries of it, as a file.
pub async fn download(app: Arc<App>, query: AuditQuery, limit: Option<u32>, format: Format) -> Answer {
    let connector = query.connector.map_or("fleet", |connector| connector.as_str());
    let stamp: String = iso(app.clock.now()).chars().filter(char::is_ascii_alphanumeric).take(15).collect();
    let name = format!("attachment; filename=\"audit-{connector}-{stamp}Z.{}\"", format.extension());
    let mut reader = Reader { app, query, left: limit, format, first: None, is_first: true, ended: false };
    // Read before the answer begins, so that a store that fails answers as an error.
    reader.first = Some(reader.page().await?);
    let chunks = stream::try_unfold(reader, |mut reader| async move {
        Ok::<_, std::io::Error>(reader.chunk().await?.map(|chunk| (chunk, reader)))
    });
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(format.media())),
        (CONTENT_DISPOSITION, HeaderValue::from_str(&name).map_err(|_| Problem::internal())?),
    ];
    Ok((headers, Body::from_stream(chunks)).into_response())
}

impl Reader {
    /// The next page, empty at the end.
    async fn page(&mut self) -> Result<Vec<Entry>, crate::adapters::store::StoreError> {
        let limit = self.left.unwrap_or(MAX_LIMIT).min(MAX_LIMIT);
        if limit == 0 {
            return Ok(Vec::new());
        }
        let page = self.app.store.audit_page(AuditQuery { limit, ..self.query.clone() }).await?;
        if let Some(last) = page.last() {
            self.query.before = Some(last.seq);
        }
        let count = u32::try_from(page.len()).unwrap_or(limit);
        self.left = self.left.map(|left| left.saturating_sub(count));
        Ok(page)
    }

    /// The next piece of the file; `None` when it is complete.
    async fn chunk(&mut self) -> std::io::Result<Option<Bytes>> {
        if self.ended {
            return Ok(None);
        }
        let page = match self.first.take() {
            Some(page) => page,
            None => self.page().await.map_err(|error| {
                tracing::error!(component = "http", %error, "an audit download is cut off: the store failed");
                std::io::Error::other("the store failed")
            })?,
        };
        let mut text = String::with_capacity(page.len() * 512 + 128);
        if self.is_first {
            text.push_str(self.format.opening());
        }
        for entry in &page {
            self.format.write(&mut text, entry, self.is_first);
            self.is_first = false;
        }
        if page.is_empty() {
            self.ended = true;
            text.push_str(self.format.closing());
        }
        self.is_first &= page.is_empty();
        Ok(Some(Bytes::from(text)))
    }
}

fn write_csv(text: &mut String, entry: &Entry) {
    let view = entry.view();
    let (prev_hash, hash) = (&view.prev_hash, &view.hash);
    text.push_str(&format!("{},{:.3},{}", entry.seq, view.ts, view.ts_iso));
    let fields = [
        &entry.tenant,
        &entry.connector,
        &entry.operation,
        &entry.source,
        &entry.actor,
        &entry.action_id,
        &entry.metadata,
        prev_hash,
        hash,
    ];
    for field in fields {
        text.push(',');
        push_csv(text, field);
    }
    text.push_str("\r\n");
}

/// A field as RFC 4180 has it. One that a spreadsheet would take for a formula gets an apostrophe
/// in front: actors and reasons are other people's words.
fn push_csv(text: &mut String, field: &str) {
    let is_formula = field.starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '|', '%']);
    let is_plain = !is_formula && !field.contains([',', '"', '\r', '\n']) && field.trim() == field;
    if is_plain {
        text.push_str(field);
        return;
    }
    text.push('"');
    if is_formula {
        text.push('\'');
    }
    text.push_str(&field.replace('"', "\"\""));
    text.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::Digest;

    fn check(field: &str, expect: &str) {
        let mut text = String::new();
        push_csv(&mut text, field);
        assert_eq!(text, expect);
    }

    #[test]
    fn fields_are_quoted_where_needed_and_never_formulas() {
        check("plain", "plain");
        check("", "");
        check("a,b", "\"a,b\"");
        check("say \"hi\"", "\"say \"\"hi\"\"\"");
        check("two\nlines", "\"two\nlines\"");
        check(" padded", "\" padded\"");
        check("=1+1", "\"'=1+1\"");
        check("@SUM(A1)", "\"'@SUM(A1)\"");
        check("-2+3\",x", "\"'-2+3\"\",x\"");
        check("\tx", "\"'\tx\"");
        check("{\"a\":1}", "\"{\"\"a\"\":1}\"");
    }

    fn entry() -> Entry {
        Entry {
            seq: 7,
            at: 1_762_639_339_186,
            tenant: "acme".into(),
            connector: "acculynx".into(),
            operation: "scheduler.schedule.paused".into(),
            source: "ui".into(),
            actor: "=cmd|' /C calc'!A0".into(),
            action_id: "0190".into(),
            metadata: "{\"reason\":\"a, b\"}".into(),
            prev_hash: Digest([0; 32]),
            hash: Digest([1; 32]),
        }
    }

    #[test]
    fn a_csv_line_has_a_field_per_column() {
        let mut line = String::new();
        Format::Csv.write(&mut line, &entry(), true);
        assert!(
            line.starts_with("7,1762639339.186,2025-11-08T22:02:19.186Z,acme,acculynx,scheduler.schedule.paused,ui,")
        );
        assert!(line.contains(",\"'=cmd|' /C calc'!A0\",0190,\"{\"\"reason\"\":\"\"a, b\"\"}\","));
        assert!(line.ends_with("\r\n"));
        assert_eq!(Format::Csv.opening().matches(',').count(), 11);
    }

    #[test]
    fn json_files_are_json() {
        let mut text = Format::Json.opening().to_owned();
        Format::Json.write(&mut text, &entry(), true);
        Format::Json.write(&mut text, &entry(), false);
        text.push_str(Format::Json.closing());
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["entries"][1]["seq"], 7);
        let mut line = String::new();
        Format::Jsonl.write(&mut line, &entry(), true);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&line).unwrap()["tenant"], "acme");
    }
}
