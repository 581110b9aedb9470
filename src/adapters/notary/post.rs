//! Sends checkpoints elsewhere: to an address of the operator's, where whoever holds this machine cannot
//! take them back.

use std::time::Duration;

use reqwest::header::CONTENT_TYPE;

use crate::adapters::connectors::web;
use crate::core::audit::Signed;

const PATIENCE: Duration = Duration::from_secs(10);

/// Posts to one address. Redirects are not followed and no proxy is asked, as for every request here.
pub struct Post {
    client: reqwest::Client,
    url: String,
}

impl Post {
    pub fn new(url: String) -> Result<Post, web::SetUpClient> {
        Ok(Post { client: web::client(PATIENCE, PATIENCE)?, url })
    }

    /// Hands one over; any answer but 2xx is a failure, told without the address, which may hold a secret.
    pub async fn send(&self, signed: &Signed) -> Result<(), String> {
        let request = self.client.post(&self.url).timeout(PATIENCE);
        let request = request.header(CONTENT_TYPE, "text/plain; charset=utf-8").body(signed.note.to_string());
        match request.send().await {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => Err(format!("the receiver answered {}", answer.status())),
            Err(error) if error.is_timeout() => Err("the receiver did not answer in time".to_owned()),
            Err(error) if error.is_connect() => Err("the receiver cannot be reached".to_owned()),
            Err(error) => Err(error.without_url().to_string()),
        }
    }
}
