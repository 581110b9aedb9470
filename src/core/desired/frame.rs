//! A diagnostic drawn over the lines it is about, as plain text.

use super::{Diagnostic, Severity};

/// Longer lines are cut around the column.
const WIDTH: usize = 120;

/// The line before, the line, a caret under the column, and the hint. What stands in the place of
/// a secret is masked. A finding about the whole document gives its message and hint only.
pub fn code_frame(diagnostic: &Diagnostic, text: &str) -> String {
    let severity = match diagnostic.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let mut out = format!("{severity}[{}]: {}\n", diagnostic.code, diagnostic.message);
    let number = diagnostic.line as usize;
    let place = if number == 0 { String::new() } else { format!(":{number}:{}", diagnostic.column) };
    out.push_str(&format!("  --> {}{place}\n", diagnostic.file));
    if number > 0 {
        let gutter = number.to_string().len();
        let lines: Vec<&str> = text.lines().take(number).collect();
        let line = |n: usize| lines.get(n.checked_sub(1)?).map(|line| masked(line, below_secret(&lines, n - 1)));
        if let Some(before) = line(number - 1) {
            out.push_str(&format!("{:>gutter$} | {}\n", number - 1, cut(&before, 0).0));
        }
        let column = diagnostic.column.saturating_sub(1) as usize;
        let mut shown = line(number).unwrap_or_default();
        if hides(&diagnostic.code) {
            shown = shown.chars().take(column).chain("***".chars()).collect();
        }
        let (shown, caret) = cut(&shown, column);
        out.push_str(&format!("{number:>gutter$} | {shown}\n{:>gutter$} | {:caret$}^\n", "", ""));
    }
    if let Some(hint) = &diagnostic.hint {
        out.push_str(&format!("  hint: {hint}\n"));
    }
    out
}

/// Findings about values that may be secrets.
fn hides(code: &str) -> bool {
    matches!(code, "literal-secret" | "url-credentials" | "bad-secret-ref")
}

/// Whether the line of this index is indented below a key that names a secret.
fn below_secret(lines: &[&str], index: usize) -> bool {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let (Some(line), Some(above)) = (lines.get(index), lines.get(..index)) else { return false };
    // The items of a list, and comments, may stand as far left as the key.
    let mut least = indent(line) + usize::from(line.trim_start().starts_with(['-', '#']));
    for line in above.iter().rev().filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#')) {
        if indent(line) < least {
            least = indent(line);
            if SECRETS.iter().any(|secret| line.contains(secret)) {
                return true;
            }
            if least == 0 {
                return false;
            }
        }
    }
    false
}

/// The keys whose values are never shown.
const SECRETS: [&str; 2] = ["api_key", "webhook_token"];

/// The line with a secret's value and a URL's credentials replaced, and tabs as blanks.
fn masked(line: &str, below_secret: bool) -> String {
    let mut line = line.trim_start_matches('\u{feff}').replace(|c: char| c.is_control(), " ");
    if below_secret {
        line.truncate(line.len() - line.trim_start().len());
        line.push_str("***");
        return line;
    }
    if let Some(rest) = SECRETS.iter().filter_map(|secret| line.find(secret)).min().and_then(|at| line.get(at..)) {
        let value = rest.split_once(':').map_or("", |(_, value)| value.trim_start());
        if !value.is_empty() {
            line.truncate(line.len() - value.len());
            line.push_str("***");
        }
    }
    if let Some((before, rest)) = line.split_once("://") {
        let end = rest.find(['/', ' ', '"', '\'']).unwrap_or(rest.len());
        if let Some(at) = rest.get(..end).and_then(|authority| authority.rfind('@')) {
            line = format!("{before}://***{}", rest.get(at..).unwrap_or_default());
        }
    }
    line
}

/// At most `WIDTH` characters around the column, and where the column then is.
fn cut(line: &str, column: usize) -> (String, usize) {
    let length = line.chars().count();
    let column = column.min(length);
    if length <= WIDTH {
        return (line.to_owned(), column);
    }
    let start = column.saturating_sub(WIDTH / 2);
    (line.chars().skip(start).take(WIDTH).collect(), column - start)
}
