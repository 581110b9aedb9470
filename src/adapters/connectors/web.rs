//! What all connectors that ask over HTTP share: the client, bodies within a limit, pauses between
//! attempts, and words for what went wrong that carry no secret.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use reqwest::Response;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use tokio_util::sync::CancellationToken;

use super::{ErrorClass, ImportFailure};
use crate::core::model::Millis;

/// Of a source's own words no more than this is passed on, in characters.
const DETAIL_CHARS: usize = 200;
const LONGEST_BACKOFF: Duration = Duration::from_secs(20);
/// Of an error's body no more than this is read, in bytes.
const ERROR_BODY_LIMIT: usize = 16 << 10;

/// The HTTP client could not be set up: no usable TLS on this machine.
#[derive(Debug, thiserror::Error)]
#[error("could not set up the HTTPS client (are the system's root certificates installed?): {0}")]
pub struct SetUpClient(#[from] reqwest::Error);

/// A client that goes only where it is sent: a redirect would carry secrets to wherever it points, a proxy
/// would see whom we ask.
pub fn client(connect_timeout: Duration, read_timeout: Duration) -> Result<reqwest::Client, SetUpClient> {
    let builder = reqwest::Client::builder()
        .user_agent(concat!("command-center/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .referer(false)
        .connect_timeout(connect_timeout)
        .read_timeout(read_timeout)
        .pool_max_idle_per_host(16);
    Ok(builder.build()?)
}

/// Why a body could not be taken in.
#[derive(Debug)]
pub enum BadBody {
    /// Larger than allowed; nothing of it is kept.
    TooLarge,
    /// The connection ended in the middle of it.
    BrokeOff(String),
}

/// The whole body, up to `limit` bytes after decompression.
pub async fn body(mut response: Response, limit: usize) -> Result<Vec<u8>, BadBody> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| BadBody::BrokeOff(cause(&error)))? {
        if body.len() + chunk.len() > limit {
            return Err(BadBody::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// What an error's body says in its own words, if it is JSON and says something.
pub async fn detail(response: Response) -> Option<String> {
    let body = body(response, ERROR_BODY_LIMIT).await.ok()?;
    let problem: serde_json::Value = serde_json::from_slice(&body).ok()?;
    let words = ["detail", "title", "message", "error_description", "error"].into_iter();
    words.filter_map(|name| problem.get(name)).find_map(|words| {
        let inner = words.get("message").unwrap_or(words);
        inner.as_str().map(str::to_owned)
    })
}

/// A text of the source's on one line and not too long, without the secrets it may repeat.
pub fn quote<'s>(text: &str, secrets: impl IntoIterator<Item = &'s str>) -> String {
    let mut text = text.to_owned();
    for secret in secrets.into_iter().filter(|secret| !secret.is_empty()) {
        text = text.replace(secret, "***");
    }
    let line: String = text.chars().filter(|c| !c.is_control()).collect();
    line.trim().chars().take(DETAIL_CHARS).collect()
}

/// The innermost reason: the outer ones only repeat that a request failed, and the address with it.
pub fn cause(error: &reqwest::Error) -> String {
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    if std::ptr::addr_eq(inner, error) { "no reason given".to_owned() } else { inner.to_string() }
}

/// How long the source asks to wait: seconds, or a date (RFC 9110, 10.2.3).
pub fn retry_after(headers: &HeaderMap, now: Millis) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = chrono::DateTime::parse_from_rfc2822(text).ok()?.timestamp_millis();
    Some(Duration::from_millis(u64::try_from(until.saturating_sub(now)).unwrap_or(0)))
}

/// The pause before repetition `attempt`: doubling, and up to half as long again, by `salt`.
pub fn backoff(base: Duration, attempt: u32, salt: u64) -> Duration {
    let pause = base.saturating_mul(1 << attempt.saturating_sub(1).min(16)).min(LONGEST_BACKOFF);
    let mut hasher = DefaultHasher::new();
    (salt, attempt).hash(&mut hasher);
    pause + pause.mul_f64(f64::from(u16::try_from(hasher.finish() % 1000).unwrap_or(0)) / 2000.0)
}

/// Makes pauses differ between tenants and runs.
pub fn salt(file: &str, run: i64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (file, run).hash(&mut hasher);
    hasher.finish()
}

/// Does the work, unless the run is to stop.
pub async fn unless_cancelled<T>(
    cancel: &CancellationToken,
    work: impl Future<Output = T>,
) -> Result<T, ImportFailure> {
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(cancelled()),
        done = work => Ok(done),
    }
}

pub fn cancelled() -> ImportFailure {
    let message = "stopped before it was done; the next run goes on from the last complete reading";
    ImportFailure::new(ErrorClass::Cancelled, message)
}

/// Base64 as the header `Authorization` wants it (RFC 4648, 4).
pub fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |bits: u32| DIGITS.get((bits & 63) as usize).copied().map_or('=', char::from);
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().enumerate().fold(0, |bits, (at, byte)| bits | u32::from(*byte) << (16 - 8 * at));
        for place in 0..4 {
            out.push(if place <= chunk.len() { digit(bits >> (18 - 6 * place)) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_said_in_seconds_or_as_a_date() {
        let noon = 1_780_315_200_000;
        let check = |text: &str, expect: Option<u64>| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
            assert_eq!(retry_after(&headers, noon), expect.map(Duration::from_secs), "{text}");
        };
        check(" 7 ", Some(7));
        check("Mon, 01 Jun 2026 12:00:30 GMT", Some(30));
        check("Mon, 01 Jun 2026 11:00:00 GMT", Some(0));
        check("soon", None);
        check("-1", None);
        assert_eq!(retry_after(&HeaderMap::new(), noon), None);
    }

    #[test]
    fn words_of_others_are_cut_and_cleaned() {
        assert_eq!(quote(" no\nhunter2 here\u{7} ", ["hunter2", ""]), "no*** here");
        assert_eq!(quote(&"x".repeat(500), []).len(), DETAIL_CHARS);
    }

    #[test]
    fn pauses_double_up_to_a_bound() {
        let base = Duration::from_millis(100);
        for attempt in 1..40 {
            let (least, pause) = (base * (1 << (attempt - 1).min(7)), backoff(base, attempt, 5));
            assert!(
                pause >= least.min(LONGEST_BACKOFF) && pause <= LONGEST_BACKOFF.mul_f64(1.5),
                "{attempt}: {pause:?}"
            );
        }
        assert_ne!(backoff(base, 1, 1), backoff(base, 1, 2));
    }
}
