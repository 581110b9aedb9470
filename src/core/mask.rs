//! Secrets that a person wrote where none belongs (a comment, a URL, a label), made unreadable in
//! what is shown. Rather a harmless word too many than a key too few.

use serde_json::Value;

const MASK: &str = "***";

/// What an identifier ends in that names a secret, without separators and in the singular.
const NAMES: [&str; 14] = [
    "apikey",
    "accesskey",
    "secretkey",
    "privatekey",
    "secret",
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "token",
    "authorization",
    "credential",
    "cookie",
    "bearer",
];

/// How keys of well-known services begin.
const PREFIXES: [&str; 14] = [
    "sk-",
    "sk_",
    "pk_",
    "rk_",
    "ghp_",
    "gho_",
    "ghs_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "AKIA",
    "AIza",
    "eyJ",
];

/// The text with what looks like a secret masked, line by line: credentials in URLs, what follows a
/// name such as `token`, and words that look like keys. References (`{ env: … }`) stay.
pub fn masked(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    // How far in the key stands whose secret is on the lines below it.
    let mut below: Option<usize> = None;
    for line in text.split_inclusive('\n') {
        let body = line.trim_end_matches(['\r', '\n']);
        let start = body.len() - body.trim_start_matches([' ', '\t', '#', '-']).len();
        let (margin, inner) = body.split_at(start);
        below = below.filter(|key| inner.is_empty() || start > *key);
        if below.is_some() && !inner.is_empty() && !inner.starts_with("env:") && !inner.starts_with("file:") {
            out.extend([margin, MASK, line.get(body.len()..).unwrap_or_default()]);
            continue;
        }
        below = below.or(opens_secret(inner).then_some(start));
        out.push_str(&words_masked(&named_masked(&urls_masked(body))));
        out.push_str(line.get(body.len()..).unwrap_or_default());
    }
    out
}

/// As [`masked`], of a field's value; a field that is named like a secret shows references only.
pub fn masked_value(field: &str, value: &Value) -> Value {
    match value {
        Value::String(_) if is_secret_name(field) => MASK.into(),
        Value::String(text) => masked(text).into(),
        Value::Array(items) => items.iter().map(|item| masked_value(field, item)).collect(),
        Value::Object(map) if is_reference(map) => value.clone(),
        Value::Object(map) => {
            Value::Object(map.iter().map(|(key, value)| (key.clone(), masked_value(key, value))).collect())
        }
        other => other.clone(),
    }
}

fn is_reference(map: &serde_json::Map<String, Value>) -> bool {
    map.len() == 1 && map.keys().all(|key| key == "env" || key == "file")
}

/// Whether what stands under this name is a secret.
pub fn is_secret_name(name: &str) -> bool {
    let name: String = name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    NAMES.iter().any(|secret| name.strip_suffix('s').unwrap_or(&name).ends_with(secret))
}

/// `password:` or `token: |`: the secret is on the lines below.
fn opens_secret(line: &str) -> bool {
    let Some((name, value)) = line.split_once(':') else { return false };
    let value = value.trim();
    is_secret_name(name) && !name.contains(' ') && (value.is_empty() || value.starts_with(['|', '>']))
}

/// `https://user:password@host` without what stands before the `@`.
fn urls_masked(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find("://") {
        let (head, tail) = rest.split_at(at + 3);
        out.push_str(head);
        let end = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '<' | '>' | ',' | ')' | '}' | ']');
        let url = tail.split(end).next().unwrap_or(tail);
        let authority = url.split(['/', '?', '#']).next().unwrap_or(url);
        // A password may hold a slash; a port is a number.
        let has_password = authority.split_once(':').is_some_and(|(_, port)| !port.bytes().all(|b| b.is_ascii_digit()));
        let credentials = if has_password { url.rfind('@') } else { authority.rfind('@') };
        match credentials {
            Some(at) => {
                out.push_str(MASK);
                rest = tail.get(at..).unwrap_or_default();
            }
            None => rest = tail,
        }
    }
    out.push_str(rest);
    out
}

/// `token: …`, `API_KEY=…`, `"password": "…"` and `Bearer …` without their values.
fn named_masked(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(start) = rest.find(is_name_char) {
        let (before, tail) = rest.split_at(start);
        let end = tail.find(|c: char| !is_name_char(c)).unwrap_or(tail.len());
        let (name, after) = tail.split_at(end);
        out.push_str(before);
        out.push_str(name);
        rest = after;
        let Some(value_at) = value_of(name, after) else { continue };
        let (between, value) = after.split_at(value_at);
        let length = value_length(value, line.contains('{'));
        if length > 0 {
            out.push_str(between);
            out.push_str(MASK);
            rest = value.get(length..).unwrap_or_default();
        }
    }
    out.push_str(rest);
    out
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')
}

/// Where in `after` the secret begins that `name` announces, if it does.
fn value_of(name: &str, after: &str) -> Option<usize> {
    if name.eq_ignore_ascii_case("bearer") || name.eq_ignore_ascii_case("basic") {
        let value = after.trim_start_matches(' ');
        let word = value.split_whitespace().next().unwrap_or_default();
        if value.len() < after.len() && word.len() >= 8 {
            return Some(after.len() - value.len());
        }
    }
    if !is_secret_name(name) {
        return None;
    }
    let separated = after.trim_start_matches(['"', '\'']).trim_start();
    let value = separated.strip_prefix([':', '='])?.trim_start();
    // A reference, a mapping below, or nothing.
    let shown = value.is_empty() || value.starts_with(['{', '#']);
    (!shown).then(|| after.len() - value.len())
}

/// How far the value reaches: its quotes, the flow mapping's next entry, else the line.
fn value_length(value: &str, in_flow: bool) -> usize {
    if let Some(quote) = value.chars().next().filter(|c| matches!(c, '"' | '\'')) {
        let inner = value.get(1..).unwrap_or_default();
        return inner.find(quote).map_or(value.len(), |end| end + 2);
    }
    if in_flow { value.find([',', '}']).unwrap_or(value.len()) } else { value.len() }
}

fn words_masked(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    while let Some(start) = rest.find(is_word) {
        let (before, tail) = rest.split_at(start);
        let end = tail.find(|c: char| !is_word(c)).unwrap_or(tail.len());
        let (word, after) = tail.split_at(end);
        out.push_str(before);
        out.push_str(if looks_like_key(word) { MASK } else { word });
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Long, and letters mixed with digits in a way that words, dates and names are not.
fn looks_like_key(word: &str) -> bool {
    let has_digit = |part: &str| part.bytes().any(|b| b.is_ascii_digit());
    let has_letter = |part: &str| part.bytes().any(|b| b.is_ascii_alphabetic());
    if word.len() >= 16 && has_digit(word) && PREFIXES.iter().any(|prefix| word.starts_with(prefix)) {
        return true;
    }
    if word.len() < 20 || word.starts_with("CC_SECRET_") {
        return false;
    }
    let parts: Vec<&str> = word.split(['-', '_']).collect();
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    if lengths == [8, 4, 4, 4, 12] && parts.iter().all(|part| part.bytes().all(|b| b.is_ascii_hexdigit())) {
        return true;
    }
    let mixed: Vec<usize> =
        parts.iter().filter(|part| has_digit(part) && has_letter(part)).map(|part| part.len()).collect();
    mixed.iter().any(|length| *length >= 12) || mixed.iter().sum::<usize>() >= 24
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(text: &str, expect: &str) {
        assert_eq!(masked(text), expect);
    }

    #[test]
    fn credentials_in_urls_go() {
        check("# see https://zoe:hunter2@vault.example/x?a=1\n", "# see https://***@vault.example/x?a=1\n");
        check("pg://u:p/w@db:5432, http://h:80/a@b", "pg://***@db:5432, http://h:80/a@b");
        check("base_url: 'https://tok@h'", "base_url: 'https://***@h'");
        check("https://api.acculynx.com/api/v2\r\n", "https://api.acculynx.com/api/v2\r\n");
    }

    #[test]
    fn values_after_a_secrets_name_go() {
        check("# old api_key: abc def\ninterval_sec: 5\n", "# old api_key: ***\ninterval_sec: 5\n");
        check("# ACCULYNX_API_KEY=x1 # was", "# ACCULYNX_API_KEY=***");
        check(r#"# {"password": "a,b", "user": "z"}"#, r#"# {"password": ***, "user": "z"}"#);
        check("labels: { token: gold, region: west }", "labels: { token: ***, region: west }");
        check("# Authorization: Bearer abcdefgh", "# Authorization: ***");
        check("# curl -H 'bearer abcdefgh'", "# curl -H 'bearer ***");
        check("?apikey=1&x=2", "?apikey=***");
        check("# Passwords:\n#   - hunter2\n# more\n", "# Passwords:\n#   - ***\n# more\n");
        check("token: |\n  hunter2\n\n  more\nx: 1", "token: ***\n  ***\n\n  ***\nx: 1");
    }

    #[test]
    fn words_that_look_like_keys_go() {
        check("# sk-live-4f9d8a7b6c5e\n", "# ***\n");
        check("# 3f9a1c77-0b1e-4c61-9f6e-0d2f5a7b8c9d", "# ***");
        check("# k: YjI3ZmQ0NTYtOTk4Mi00 ok", "# k: *** ok");
        check("pause_reason: was AKIAIOSFODNN7EXAMPLE", "pause_reason: was ***");
    }

    #[test]
    fn what_a_file_should_hold_stays() {
        for text in [
            "# yaml-language-server: $schema=../../../schemas/schedule.schema.json\n",
            "connection:\n  base_url: https://api.acculynx.com/api/v2\n  api_key: { env: CC_SECRET_PEAKPRO1A2B3C4D }\n",
            "  api_key:\n    env: CC_SECRET_X\n",
            "cron: \"*/15 7-18 * * 1-5\"  # as agreed on 2026-11-21T08:00:00Z with the secretary: Bob\n",
            "labels: { region: us-west-2, host: k8s-prod-eu1-node42 }\n",
            "pause_reason: the key is being rotated, see the token service\n",
            "# ümlaut – und 日本語 bleiben\r\n",
        ] {
            check(text, text);
        }
    }

    #[test]
    fn values_are_masked_by_field_and_by_looks() {
        let check = |field: &str, value: Value, expect: Value| assert_eq!(masked_value(field, &value), expect);
        check("labels.token", json!("gold"), json!("***"));
        check("pause_reason", json!("see http://a:b@h"), json!("see http://***@h"));
        check("connection.api_key", json!({"env": "CC_SECRET_A"}), json!({"env": "CC_SECRET_A"}));
        check(
            "connection.api_key",
            json!({"literal": "x", "password": "y"}),
            json!({"literal": "x", "password": "***"}),
        );
        check("resources", json!(["jobs"]), json!(["jobs"]));
        check("interval_sec", json!(5), json!(5));
    }

    proptest::proptest! {
        #[test]
        fn any_text_keeps_its_lines(text in "[a-z:@/{}'\" \\n\\r=é#-]{0,80}") {
            proptest::prop_assert_eq!(masked(&text).matches('\n').count(), text.matches('\n').count());
        }
    }
}
