//! Texts to values. Every error says what is allowed.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use url::Url;

pub(super) fn socket_address(text: &str) -> Result<SocketAddr, String> {
    let loopback = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    loopback
        .as_deref()
        .unwrap_or(text)
        .parse()
        .map_err(|_| "allowed is an IP address and a port, like 127.0.0.1:8000, 0.0.0.0:8000 or [::1]:8000".into())
}

pub(super) fn flag(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "on" | "yes" => Ok(true),
        "false" | "0" | "off" | "no" => Ok(false),
        _ => Err("allowed are true, false, 1, 0, on, off, yes and no".into()),
    }
}

pub(super) fn seconds(text: &str, least: Duration, most: Duration) -> Result<Duration, String> {
    let duration = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    duration.filter(|duration| (least..=most).contains(duration)).ok_or_else(|| {
        format!("allowed are seconds from {} to {}, fractions too", least.as_secs_f64(), most.as_secs_f64())
    })
}

pub(super) fn count(text: &str, least: u32, most: u32) -> Result<u32, String> {
    let number = text.parse().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("allowed are whole numbers from {least} to {most}"))
}

pub(super) fn percent(text: &str) -> Result<u32, String> {
    count(text.strip_suffix('%').unwrap_or(text), 0, 100)
}

pub(super) fn dir(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("allowed is a directory's path".into()) } else { Ok(text.into()) }
}

/// SQLite's locks do not hold on network drives, so that the file has to be on a disk of this machine.
pub(super) fn database_path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() || text == ":memory:" || text.contains("://") || text.starts_with("file:") {
        return Err("allowed is a file's path, like ./data/command_center.db".into());
    }
    if cfg!(windows) && is_network_path(text) {
        return Err("allowed is a path on a disk of this machine, not on a network share".into());
    }
    if text.ends_with('/') || (cfg!(windows) && text.ends_with('\\')) {
        return Err("allowed is a file's path, not a directory's".into());
    }
    Ok(text.into())
}

/// `\\server\share\…` in its spellings; `\\?\C:\…` and `\\.\…` are paths of this machine.
fn is_network_path(text: &str) -> bool {
    let text = text.replace('/', "\\");
    if text.to_ascii_lowercase().starts_with("\\\\?\\unc\\") {
        return true;
    }
    text.starts_with("\\\\") && !text.starts_with("\\\\?\\") && !text.starts_with("\\\\.\\")
}

/// The entries of a comma list, without the empty ones.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|word| !word.is_empty())
}

pub(super) fn peer_list(text: &str) -> Result<Vec<IpNet>, String> {
    let peer = |word: &str| word.parse::<IpNet>().ok().or_else(|| word.parse::<IpAddr>().ok().map(IpNet::from));
    words(text)
        .map(|word| {
            peer(word).ok_or_else(|| {
                format!(
                    "\"{word}\" is neither an address nor a network; allowed are entries like 10.0.0.7 and 10.0.0.0/8"
                )
            })
        })
        .collect()
}

pub(super) fn host_list(text: &str) -> Result<Vec<String>, String> {
    words(text)
        .map(|word| {
            let parsed = Url::parse(&format!("http://{word}/")).ok();
            let bare = parsed.filter(|url| {
                url.path() == "/" && url.query().is_none() && url.fragment().is_none() && !word.contains(['@', '*'])
            });
            bare.map(|_| word.to_ascii_lowercase()).ok_or_else(|| {
                format!("\"{word}\" is no host; allowed are names like ops.example.com, with or without :PORT")
            })
        })
        .collect()
}

pub(super) fn origin_list(text: &str) -> Result<Vec<String>, String> {
    words(text)
        .map(|word| {
            let origin = Url::parse(word).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
            origin
                .map(|url| url.origin().ascii_serialization())
                .filter(|origin| origin.eq_ignore_ascii_case(word.trim_end_matches('/')))
                .ok_or_else(|| format!("\"{word}\" is no origin; allowed are entries like https://ops.example.com"))
        })
        .collect()
}

/// Programs by absolute path or plain name: a relative path would mean another program elsewhere.
pub(super) fn program_list(text: &str) -> Result<Vec<String>, String> {
    let plain = |word: &str| !word.contains(['/', '\\', ':']) && !word.starts_with('.');
    words(text)
        .map(|word| {
            let good = std::path::Path::new(word).is_absolute() || plain(word);
            good.then(|| word.to_owned()).ok_or_else(|| {
                format!(
                    "\"{word}\" is neither an absolute path nor a name; \
                     allowed are entries like /opt/taps/bin/tap-example and tap-example"
                )
            })
        })
        .collect()
}

/// An address to send requests to, without a slash at its end.
pub(super) fn web_url(text: &str) -> Result<String, String> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    url.map(|_| text.trim_end_matches('/').to_owned())
        .ok_or_else(|| "allowed is a URL that starts with http:// or https://".into())
}

/// Any URL: what its scheme may be is the business of what will use it.
/// A URL as it may be shown: without the credentials in it.
pub(crate) fn masked_url(text: &str) -> String {
    let Ok(mut url) = Url::parse(text) else { return "***".into() };
    if url.username().is_empty() && url.password().is_none() && url.query().is_none() {
        return text.to_owned();
    }
    let kept = url.set_username("").and_then(|()| url.set_password(None));
    if kept.is_err() {
        return "***".into();
    }
    if url.query().is_some() {
        url.set_query(Some("***"));
    }
    url.to_string()
}

pub(super) fn list<T: Display>(values: &[T]) -> String {
    values.iter().map(T::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_drives_are_told_from_disks() {
        for network in [r"\\nas\share\cc.db", "//nas/share/cc.db", r"\\?\UNC\nas\share\cc.db"] {
            assert!(is_network_path(network), "{network}");
        }
        for disk in [r"C:\data\cc.db", r".\data\cc.db", r"\\?\C:\data\cc.db", "data/cc.db", "/data/cc.db"] {
            assert!(!is_network_path(disk), "{disk}");
        }
    }

    #[test]
    fn lists_take_what_their_words_say() {
        assert_eq!(list(&peer_list("10.0.0.7, 10.1.0.0/16,::1").unwrap()), "10.0.0.7/32,10.1.0.0/16,::1/128");
        assert!(peer_list("").unwrap().is_empty());
        assert!(peer_list("10.0.0.0/33").unwrap_err().contains("10.0.0.0/33"));
        let absolute = if cfg!(windows) { r"C:\taps\tap-a.exe" } else { "/opt/taps/tap-a" };
        assert_eq!(program_list(&format!("{absolute}, tap-b,")).unwrap(), [absolute, "tap-b"]);
        for bad in ["./tap", "taps/tap", "..", "a:b"] {
            assert!(program_list(bad).unwrap_err().contains(bad), "{bad}");
        }
        assert_eq!(host_list("Ops.Example.com,[::1]:8000,a:80").unwrap(), ["ops.example.com", "[::1]:8000", "a:80"]);
        for bad in ["*", "http://x", "a b", "u@h", "a/b", "h?x"] {
            assert!(host_list(bad).is_err(), "{bad}");
        }
        assert_eq!(origin_list("https://ops.example.com/").unwrap(), ["https://ops.example.com"]);
        for bad in ["*", "ops.example.com", "ftp://x", "https://x/path", "https://u:p@x"] {
            assert!(origin_list(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn urls_are_shown_without_credentials() {
        assert_eq!(masked_url("https://u:p@h/x?k=s"), "https://h/x?***");
        assert_eq!(masked_url("https://h/x"), "https://h/x");
        assert_eq!(masked_url("nonsense"), "***");
    }
}
