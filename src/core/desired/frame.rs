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
        let line = |n: usize| text.lines().nth(n.checked_sub(1)?);
        if let Some(before) = line(number - 1).filter(|before| may_be_shown(before)) {
            out.push_str(&format!("{:>gutter$} | {}\n", number - 1, cut(&masked(before), 0).0));
        }
        let column = diagnostic.column.saturating_sub(1) as usize;
        let shown = line(number).map(|line| if hides(&diagnostic.code) { hidden(line, column) } else { masked(line) });
        let (shown, caret) = cut(&shown.unwrap_or_default(), column);
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

fn hidden(line: &str, column: usize) -> String {
    line.trim_start_matches('\u{feff}').chars().take(column).chain("***".chars()).collect()
}

/// A line without a colon may be the middle of a text, even of a secret written over several lines.
fn may_be_shown(line: &str) -> bool {
    line.contains(':') || line.trim_start().starts_with(['#', '-']) || line.trim().is_empty()
}

/// The line with a literal `api_key` and a URL's credentials replaced, and tabs as blanks.
fn masked(line: &str) -> String {
    let mut line = line.trim_start_matches('\u{feff}').replace(|c: char| c.is_control(), " ");
    if let Some(at) = line.find("api_key") {
        let rest = line.get(at..).unwrap_or_default();
        let value = rest.split_once(':').map_or("", |(_, value)| value.trim_start());
        let reference = value.trim_start_matches('{').trim_start();
        let by_reference = value.starts_with('{') && (reference.starts_with("env:") || reference.starts_with("file:"));
        if !value.is_empty() && !by_reference && !value.starts_with('#') {
            let keep = line.len() - value.len();
            line.truncate(keep);
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
