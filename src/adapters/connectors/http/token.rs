//! Tokens by OAuth client credentials: one for each client, kept until shortly before it expires.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, Url};
use serde::Deserialize;
use serde_json::Value;

use super::source::{Call, Failed, Source, host};
use crate::adapters::connectors::{ErrorClass, ImportFailure, Secret, web};
use crate::core::model::{Digest, Millis};

/// A token that says nothing of its life is kept this long, in seconds.
const UNSAID_LIFE_SEC: f64 = 300.0;
/// A token is not used in the last part of its life: at most this long, in milliseconds.
const LONGEST_MARGIN: f64 = 60_000.0;

/// A client as the token's address knows it.
pub(super) struct Client {
    pub token_url: Url,
    pub id: String,
    pub secret: Secret,
    pub scope: Option<String>,
    pub audience: Option<String>,
}

impl Client {
    fn digest(&self) -> Digest {
        let parts = [
            self.token_url.as_str(),
            &self.id,
            &self.secret.0,
            self.scope.as_deref().unwrap_or_default(),
            self.audience.as_deref().unwrap_or_default(),
        ];
        Digest::of(parts.join("\0").as_bytes())
    }
}

/// A token and until when it is used.
struct Token {
    secret: Secret,
    until: Millis,
}

/// One slot a client, locked while its token is fetched, so that tenants who share one fetch it once.
type Slot = Arc<tokio::sync::Mutex<Option<Token>>>;

#[derive(Default)]
pub(super) struct Tokens {
    slots: Mutex<HashMap<Digest, Slot>>,
}

impl Tokens {
    fn slot(&self, client: &Client) -> Slot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        // Clients that are gone leave nothing behind: a slot nobody holds is only kept for its token.
        if slots.len() >= 1024 {
            slots.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        slots.entry(client.digest()).or_default().clone()
    }

    /// The client's token, fetched if there is none that still lives. `refused` is one that the source did not take.
    pub async fn get(
        &self,
        source: &mut Source<'_>,
        client: &Client,
        refused: Option<&Secret>,
    ) -> Result<Secret, ImportFailure> {
        let slot = self.slot(client);
        let mut held = source.unless_cancelled(slot.lock_owned()).await?;
        let now = source.now();
        if let Some(token) = held.as_ref()
            && token.until > now
            && refused != Some(&token.secret)
        {
            return Ok(token.secret.clone());
        }
        let token = fetch(source, client, now).await?;
        let secret = token.secret.clone();
        *held = Some(token);
        Ok(secret)
    }
}

/// What the token's address answers.
#[derive(Deserialize)]
struct Answer {
    access_token: String,
    #[serde(default)]
    token_type: Option<String>,
    /// Seconds; some send it as a text.
    #[serde(default)]
    expires_in: Option<Value>,
}

async fn fetch(source: &mut Source<'_>, client: &Client, now: Millis) -> Result<Token, ImportFailure> {
    let reply = match source.reply(&call(client, true)).await {
        // Some know the client only by its header, which the standard prefers.
        Err(Failed { status: 400 | 401, .. }) => source.reply(&call(client, false)).await,
        other => other,
    };
    let reply = reply.map_err(|failed| failed.failure)?;
    let bad = |what: &str| {
        let message = format!("{} gave no token: {what}", host(&client.token_url));
        ImportFailure::new(ErrorClass::BadResponse, message)
    };
    let answer: Answer = serde_json::from_slice(&reply.body).map_err(|_| bad("its answer has no access_token"))?;
    if answer.token_type.is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer")) {
        return Err(bad("it is of another kind than bearer"));
    }
    if answer.access_token.is_empty() || HeaderValue::from_str(&answer.access_token).is_err() {
        return Err(bad("its access_token is empty or has characters no token has"));
    }
    let seconds = answer.expires_in.and_then(|value| value.as_f64().or_else(|| value.as_str()?.parse().ok()));
    let secret = Secret(answer.access_token);
    source.keep_secret(&secret);
    Ok(Token { secret, until: now.saturating_add(usable_ms(seconds)) })
}

/// How long a token is used, in milliseconds: not in the last tenth of its life, nor in its last minute.
#[expect(clippy::cast_possible_truncation, reason = "bounded to a year before it is rounded")]
fn usable_ms(seconds: Option<f64>) -> Millis {
    let life = seconds.filter(|s| s.is_finite()).unwrap_or(UNSAID_LIFE_SEC).clamp(0.0, 31_622_400.0) * 1000.0;
    (life - (life / 10.0).min(LONGEST_MARGIN)) as Millis
}

/// Asks for a token, with the client's secret in the form or in the header.
fn call(client: &Client, in_form: bool) -> Call {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "client_credentials");
    for (name, value) in [("scope", &client.scope), ("audience", &client.audience)] {
        if let Some(value) = value {
            form.append_pair(name, value);
        }
    }
    let mut headers = HeaderMap::from_iter([
        (CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded")),
        (ACCEPT, HeaderValue::from_static("application/json")),
    ]);
    if in_form {
        form.append_pair("client_id", &client.id).append_pair("client_secret", &client.secret.0);
    } else {
        let encoded = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let pair = format!("{}:{}", encoded(&client.id), encoded(&client.secret.0));
        if let Some(value) = super::source::sensitive(&format!("Basic {}", web::base64(pair.as_bytes()))) {
            headers.insert(AUTHORIZATION, value);
        }
    }
    Call {
        what: "the token".to_owned(),
        url: client.token_url.clone(),
        method: Method::POST,
        headers,
        body: Some(form.finish().into_bytes()),
        limit: 1 << 20,
        is_for_token: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_left_before_it_expires() {
        assert_eq!(usable_ms(Some(3600.0)), 3_540_000);
        assert_eq!(usable_ms(Some(10.0)), 9_000);
        assert_eq!(usable_ms(Some(-5.0)), 0);
        assert_eq!(usable_ms(Some(f64::NAN)), 270_000);
        assert_eq!(usable_ms(None), 270_000);
    }
}
