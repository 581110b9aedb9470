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
    if is_plainly_good(&expression) {
        return Some(expression);
    }
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    match parser.parse(&expression) {
        Err(error) => {
            out.push(match bad_field(&expression, &parser) {
                Some((field, name, about)) => {
                    let message =
                        format!("cron \"{}\": the {name} \"{}\" is not valid", shown(&expression), shown(field));
                    finding(message).hint(format!("the {name} is {about}, a range, a list, or steps such as */5"))
                }
                None => finding(format!("cron \"{}\" is not valid: {error}", shown(&expression))).hint(SHAPE),
            });
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

/// The first field that is not valid even by itself: what it says, its name, and what it may say.
fn bad_field<'e>(expression: &'e str, parser: &CronParser) -> Option<(&'e str, &'static str, &'static str)> {
    const FIELDS: [(&str, &str); 5] = [
        ("minute", "0 to 59"),
        ("hour", "0 to 23"),
        ("day of month", "1 to 31 or L"),
        ("month", "1 to 12 or JAN to DEC"),
        ("day of week", "0 to 7 or SUN to SAT"),
    ];
    expression.split(' ').zip(FIELDS).enumerate().find_map(|(index, (field, (name, about)))| {
        let alone: Vec<&str> = (0..FIELDS.len()).map(|other| if other == index { field } else { "*" }).collect();
        parser.parse(&alone.join(" ")).is_err().then_some((field, name, about))
    })
}

/// Whether the expression is of the ordinary kind, which needs no full parse (that takes longer
/// than the whole rest of a file): numbers, ranges, lists and steps within bounds, and any day or
/// any month, so that it comes true. Anything else is judged by the parser.
fn is_plainly_good(expression: &str) -> bool {
    const BOUNDS: [(u8, u8); 5] = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 7)];
    let number =
        |text: &str| if text.len() <= 2 { text.parse::<u8>().ok().filter(|_| !text.starts_with('+')) } else { None };
    let is_good = |part: &str, alone: bool, (least, most): (u8, u8)| {
        let bounds = least..=most;
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(step)),
            None => (part, None),
        };
        let step_is_good = step.is_none_or(|step| number(step).is_some_and(|n| (1..=most).contains(&n)));
        step_is_good
            && match range.split_once('-') {
                _ if range == "*" => alone,
                None => step.is_none() && number(range).is_some_and(|n| bounds.contains(&n)),
                Some((from, to)) => match (number(from), number(to)) {
                    (Some(from), Some(to)) => from < to && bounds.contains(&from) && bounds.contains(&to),
                    _ => false,
                },
            }
    };
    let mut fields = expression.split(' ');
    let anytime = [2, 3].into_iter().any(|index| expression.split(' ').nth(index) == Some("*"));
    let field_is_good =
        |field: &str, bounds| field.split(',').all(|part| is_good(part, part.len() == field.len(), bounds));
    anytime && BOUNDS.into_iter().all(|bounds| fields.next().is_some_and(|field| field_is_good(field, bounds)))
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One field of numbers about its bounds, some of them outside.
    fn field(most: u8) -> impl Strategy<Value = String> {
        let number = 0..=most + 1;
        let part = (0..6u8, number.clone(), number.clone(), number).prop_map(|(kind, a, b, step)| match kind {
            0 => "*".to_owned(),
            1 => format!("*/{step}"),
            2 => format!("{a}-{b}"),
            3 => format!("{a}-{b}/{step}"),
            4 => format!("{a:02}"),
            _ => a.to_string(),
        });
        prop::collection::vec(part, 1..3).prop_map(|parts| parts.join(","))
    }

    fn day_and_month() -> impl Strategy<Value = String> {
        prop_oneof![field(31).prop_map(|day| format!("{day} *")), field(12).prop_map(|month| format!("* {month}"))]
    }

    proptest! {
        /// The short way accepts nothing that the parser would not, and nothing that never fires.
        #[test]
        fn what_is_plainly_good_is_good(minute in field(59), hour in field(23), date in day_and_month(), weekday in field(7)) {
            let expression = format!("{minute} {hour} {date} {weekday}");
            if !is_plainly_good(&expression) {
                return Ok(());
            }
            let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
            let cron = parser.parse(&expression);
            prop_assert!(cron.is_ok(), "{expression}: {cron:?}");
            let start = Utc.with_ymd_and_hms(2024, 1, 1, 0, 0, 0).unwrap();
            prop_assert!(cron.unwrap().find_next_occurrence(&start, true).is_ok(), "{expression}");
        }
    }

    #[test]
    fn ordinary_expressions_take_the_short_way() {
        for good in ["* * * * *", "*/15 7-18 * * 1-5", "0 5 1,15 * *", "5 4 * * 0", "0 0 * 2 7"] {
            assert!(is_plainly_good(good), "{good}");
        }
        for other in [
            "0 0 30 2 *",
            "60 * * * *",
            "5/10 * * * *",
            "0 0 * * MON",
            "0 0 L * *",
            "* * * *",
            "5-1 * * * *",
            "*/0 * * * *",
        ] {
            assert!(!is_plainly_good(other), "{other}");
        }
    }
}
