//! The rules of cron expressions and time zones.

use chrono::{TimeZone, Utc};
use chrono_tz::{TZ_VARIANTS, Tz};
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};

use super::finding::{Finding, Path, nearest, shown};
use super::tree::Node;

/// Longest expression that is looked at.
const MAX_CRON_CHARS: usize = 200;

/// Checks a cron expression and gives it back with single blanks.
pub(super) fn cron(text: &str, node: &Node<'_>, path: &Path<'_>, out: &mut Vec<Finding>) -> Option<String> {
    let finding = |message: String| Finding::error(node.at, "bad-cron", path.pointer(), message);
    const SHAPE: &str = "five fields: minute, hour, day of month, month, day of week, e.g. \"*/15 7-18 * * 1-5\"";
    let expression = text.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
    if let Some(nickname) = expression.strip_prefix('@') {
        let hint = match nickname.to_ascii_lowercase().as_str() {
            "hourly" => "write \"0 * * * *\"",
            "daily" | "midnight" => "write \"0 0 * * *\"",
            "weekly" => "write \"0 0 * * 0\"",
            "monthly" => "write \"0 0 1 * *\"",
            "yearly" | "annually" => "write \"0 0 1 1 *\"",
            _ => SHAPE,
        };
        out.push(finding(format!("cron does not take the nickname \"{}\"", shown(&expression))).hint(hint));
        return None;
    }
    let fields = if expression.is_empty() { 0 } else { expression.split(' ').count() };
    if fields != 5 || expression.len() > MAX_CRON_CHARS {
        let message =
            if fields == 5 { "cron is too long".to_owned() } else { format!("cron has {fields} fields, not five") };
        let hint = if fields == 6 { "leave out the seconds (or the year)" } else { SHAPE };
        out.push(finding(message).hint(hint));
        return None;
    }
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    match parser.parse(&expression) {
        Err(error) => {
            out.push(finding(format!("cron \"{}\" is not valid: {error}", shown(&expression))).hint(SHAPE));
            None
        }
        Ok(cron) if !can_fire(&cron, &expression) => {
            out.push(
                finding(format!("cron \"{}\" names a date that never comes", shown(&expression)))
                    .hint("check day of month against month"),
            );
            None
        }
        Ok(_) => Some(expression),
    }
}

/// Whether the expression ever comes true. Only a restricted day can keep it from doing so.
fn can_fire(cron: &Cron, expression: &str) -> bool {
    let mut fields = expression.split(' ').skip(2);
    let (day, month, weekday) = (fields.next(), fields.next(), fields.next());
    let special = |field: Option<&str>| field.is_some_and(|f| f.contains(['L', 'l', '#', 'W', 'w', '+', '?']));
    if !special(day) && !special(weekday) && (day == Some("*") || month == Some("*")) {
        return true;
    }
    // Any fixed moment serves: every date that exists comes within a search from it.
    Utc.with_ymd_and_hms(2024, 1, 1, 0, 0, 0)
        .single()
        .is_some_and(|start| cron.find_next_occurrence(&start, true).is_ok())
}

/// Checks the name of a time zone.
pub(super) fn timezone(name: &str, node: &Node<'_>, path: &Path<'_>, out: &mut Vec<Finding>) -> Option<String> {
    if name.parse::<Tz>().is_ok() {
        return Some(name.to_owned());
    }
    let message = format!("there is no time zone \"{}\"", shown(name));
    let finding = Finding::error(node.at, "unknown-timezone", path.pointer(), message);
    out.push(match nearest_zone(name) {
        Some(zone) => finding.hint(format!("did you mean \"{zone}\"?")),
        None => finding.hint("use a name of the IANA database, e.g. \"America/Denver\" or \"UTC\""),
    });
    None
}

/// The zone that a misspelt or shortened name most likely stands for.
fn nearest_zone(name: &str) -> Option<&'static str> {
    if name.len() > 64 {
        return None;
    }
    let plain = |s: &str| s.trim().to_ascii_lowercase().replace([' ', '-'], "_");
    let wanted = plain(name);
    let city = |zone: &'static str| zone.rsplit('/').next().unwrap_or(zone);
    let names = || TZ_VARIANTS.iter().map(|zone| zone.name());
    names()
        .find(|zone| plain(zone) == wanted)
        .or_else(|| names().find(|zone| plain(city(zone)) == wanted))
        .or_else(|| {
            let last = wanted.rsplit('/').next().unwrap_or(&wanted).to_owned();
            names().find(|zone| last.len() > 3 && plain(city(zone)) == last)
        })
        .or_else(|| nearest(name, names()))
}
