//! Addresses of sources. Nothing here repeats a value: it may carry a secret.

use url::Url;

use super::super::check::Checker;
use super::super::finding::{Finding, Path};
use super::super::tree::Node;

const MAX_URL_CHARS: usize = 2048;

/// What a connector says about its addresses.
pub(super) struct Advice {
    pub example: &'static str,
    /// Where credentials belong.
    pub credentials: &'static str,
}

/// An address to which paths are added: without a slash at its end.
pub(super) fn base_url(checker: &mut Checker, node: &Node<'_>, path: &Path<'_>, advice: &Advice) -> Option<String> {
    address(checker, node, path, advice).map(|text| text.trim_end_matches('/').to_owned())
}

/// An address as it is.
pub(super) fn address(checker: &mut Checker, node: &Node<'_>, path: &Path<'_>, advice: &Advice) -> Option<String> {
    let text = checker.text(node, path)?;
    let example = format!("e.g. {}", advice.example);
    let example = example.as_str();
    let (code, message, hint) = match Url::parse(text) {
        _ if text.len() > MAX_URL_CHARS => ("bad-url", "is too long", "at most 2048 characters"),
        _ if text.chars().any(|c| c.is_whitespace() || c.is_control()) => {
            ("bad-url", "contains a blank", "write blanks as %20, or remove them")
        }
        Err(_) => ("bad-url", "is not a URL", example),
        Ok(url) if !matches!(url.scheme(), "http" | "https") || !has_http_prefix(text) => {
            ("bad-url", "has to begin with http:// or https://", example)
        }
        Ok(url) if !url.username().is_empty() || url.password().is_some() || authority(text).contains('@') => {
            ("url-credentials", "carries credentials", advice.credentials)
        }
        Ok(url) if url.query().is_some() || url.fragment().is_some() => {
            ("bad-url", "has a query or a fragment", "remove everything from \"?\" or \"#\" on")
        }
        Ok(_) => return Some(text.to_owned()),
    };
    let message = format!("{} {message}", path.name());
    checker.out.push(Finding::error(node.at, code, path.pointer(), message).hint(hint));
    None
}

/// The URL parser forgives `https:host` and backslashes; a file should say what it means.
fn has_http_prefix(text: &str) -> bool {
    (text.starts_with("https://") || text.starts_with("http://")) && !text.contains('\\')
}

fn authority(text: &str) -> &str {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or(rest)
}
