//! `connection` of AccuLynx: where the API is, the key to it, and the token of its webhooks.

use super::super::check::Checker;
use super::super::finding::Path;
use super::super::tree::Entry;
use super::address::{Advice, base_url};
use super::secret::secret;
use crate::core::model::Connection;

const ADDRESS: Advice = Advice {
    example: "https://api.acculynx.com/api/v2",
    credentials: "remove them, and give the key as api_key by reference",
};

pub(super) fn entry(checker: &mut Checker, entry: &Entry<'_>, path: &Path<'_>, connection: &mut Connection) {
    match entry.key.as_ref() {
        "base_url" => connection.base_url = base_url(checker, &entry.value, path, &ADDRESS),
        "api_key" => connection.api_key = secret(checker, &entry.value, path),
        "webhook_token" => connection.webhook_token = secret(checker, &entry.value, path),
        _ => {}
    }
}
