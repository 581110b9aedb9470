//! Printing: to a terminal in colours that respect `NO_COLOR`, never a control character of
//! someone else's making, and no complaint when the reader has gone.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use comfy_table::{ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

pub(super) const GREEN: Style = AnsiColor::Green.on_default();
pub(super) const RED: Style = AnsiColor::Red.on_default();
pub(super) const YELLOW: Style = AnsiColor::Yellow.on_default();
const BOLD_RED: Style = RED.bold();
const BOLD_CYAN: Style = AnsiColor::Cyan.on_default().bold();

/// Cells are not broken to fit fewer columns than this.
const NARROWEST: u16 = 40;

pub(super) fn line(text: &str) {
    // Whoever pipes into `head` has seen enough.
    let _ = writeln!(anstream::stdout(), "{text}");
}

pub(super) fn bytes(bytes: &[u8]) {
    let _ = std::io::stdout().write_all(bytes);
}

/// A line to the person, which is no part of the answer.
pub(super) fn note(text: &str) {
    let _ = writeln!(anstream::stderr(), "{text}");
}

pub(super) fn error(message: &str, hint: Option<&str>) {
    let _ = writeln!(anstream::stderr(), "{BOLD_RED}error{BOLD_RED:#}: {}", clean(message));
    if let Some(hint) = hint {
        let _ = writeln!(anstream::stderr(), "{BOLD_CYAN}hint{BOLD_CYAN:#}: {}", clean(hint));
    }
}

pub(super) fn warning(message: &str) {
    let _ = writeln!(anstream::stderr(), "{YELLOW}warning{YELLOW:#}: {}", clean(message));
}

pub(super) fn json<T: Serialize>(value: &T) {
    match serde_json::to_string_pretty(value) {
        Ok(text) => {
            let _ = writeln!(std::io::stdout(), "{text}");
        }
        Err(problem) => error(&format!("cannot print the answer as JSON: {problem}"), None),
    }
}

pub(super) fn paint(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// Text from elsewhere, with control characters but line ends made visible.
pub(super) fn clean(text: &str) -> String {
    let visible = |c: char| if c.is_control() && c != '\n' { c.escape_default().collect() } else { c.to_string() };
    text.chars().map(visible).collect()
}

pub(super) fn table(head: &[&str], rows: Vec<Vec<String>>) {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_header(head);
    if !std::io::stdout().is_terminal() || table.width().is_some_and(|width| width < NARROWEST) {
        // A file or another program wants whole lines; a terminal that does not know its width says 0.
        table.set_content_arrangement(ContentArrangement::Disabled);
    }
    for row in rows {
        table.add_row(row.iter().map(|cell| clean(cell).replace('\n', " ")));
    }
    for row in table.lines() {
        // Every cell is padded by a blank; the first needs none.
        line(row.strip_prefix(' ').unwrap_or(&row).trim_end());
    }
}

/// A table of one line a row, each in its colour.
pub(super) fn lines(head: &[&str], rows: Vec<(Option<Style>, Vec<String>)>) {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled).set_header(head);
    let mut styles = vec![None];
    for (style, row) in rows {
        styles.push(style);
        table.add_row(row.iter().map(|cell| clean(cell).replace('\n', " ")));
    }
    for (text, style) in table.lines().zip(styles) {
        let text = text.strip_prefix(' ').unwrap_or(&text).trim_end();
        line(&style.map_or_else(|| text.to_owned(), |style| paint(style, text)));
    }
}

/// A bar for work of known size; nothing is drawn unless a person is looking.
pub(super) fn bar(length: usize) -> ProgressBar {
    if length < 5_000 || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(length as u64);
    match ProgressStyle::with_template("{bar:32} {pos}/{len} {eta}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// A bar for bytes, whose number shows when they come; nothing is drawn unless a person is looking.
pub(super) fn bytes_bar(message: &'static str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    ProgressBar::new(0).with_message(message)
}

/// A bar for work in stages of so many bytes; nothing is drawn unless a person is looking.
pub(super) fn stages() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(0);
    match ProgressStyle::with_template("{msg:28} {bar:32} {percent:>3} %") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// A size as people read it.
pub(super) fn size(bytes: u64) -> String {
    indicatif::HumanBytes(bytes).to_string()
}

/// A sign of life for work of unknown size.
pub(super) fn spinner(message: &'static str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let spinner = ProgressBar::new_spinner().with_message(message);
    spinner.enable_steady_tick(Duration::from_millis(120));
    spinner
}
