//! `forecast`: next starts, and how many runs start when, of what runs or of files that would change it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::client::Request;
use super::diff::texts_of;
use super::files::read_dir;
use super::{CliError, Exit, Global, out, validate};
use crate::app::views::{FireView, ForecastAnswer, HourView, LoadView};
use crate::core::model::{Connector, Tenant};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  command-center forecast                           the load of the coming day
  command-center forecast --for 7d --output json
  command-center forecast peakpro --count 20        when one tenant's schedules start
  command-center forecast --desired-dir ./desired   what these files would make of it

Exit codes: 0 done; 1 the files make a minute jump; 2 an error or an invalid file.")]
pub(super) struct ForecastArgs {
    /// Only this tenant, with its next starts.
    tenant: Option<Tenant>,
    /// Only this connector.
    #[arg(long, value_name = "NAME")]
    connector: Option<Connector>,
    /// How many next starts of the tenant.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    count: u32,
    /// How far to look ahead.
    #[arg(long = "for", value_name = "TIME", default_value = "1d", value_parser = ["1d", "7d"])]
    ahead: String,
    /// Compare what runs with what this directory would make of it.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["tenant", "connector", "count"])]
    desired_dir: Option<PathBuf>,
}

pub(super) async fn forecast(args: &ForecastArgs, global: &Global) -> Result<Exit, CliError> {
    let (request, found) = match &args.desired_dir {
        Some(dir) => {
            let read = read_dir(dir)?;
            let files: BTreeMap<_, _> = texts_of(&read);
            (Request::post("/ops/forecast", json!({"files": files, "for": args.ahead})), read.findings)
        }
        None => {
            let request = Request::get("/ops/forecast")
                .query("tenant", args.tenant.as_ref())
                .query("connector", args.connector)
                .query("for", Some(&args.ahead))
                .query("count", args.tenant.as_ref().map(|_| args.count));
            (request, Vec::new())
        }
    };
    let (mut answer, raw): (ForecastAnswer, Value) = global.client()?.ask(request).await?;
    answer.invalid.extend(found);
    if global.json() {
        out::json(&raw);
    } else if args.tenant.is_some() {
        starts(&answer);
    } else {
        show(&answer);
    }
    Ok(match (answer.invalid.is_empty(), answer.jumps.is_empty()) {
        (false, _) => Exit::Failed,
        (true, calm) => Exit::yes(calm),
    })
}

fn starts(answer: &ForecastAnswer) {
    let rows = answer.schedules.iter().flat_map(|schedule| {
        let id = format!("{}/{}", schedule.connector, schedule.tenant);
        let none = if schedule.fires.is_empty() {
            let why = if schedule.paused { "paused" } else { "ended" };
            Some(vec![id.clone(), "none".to_owned(), String::new(), why.to_owned()])
        } else {
            None
        };
        none.into_iter().chain(schedule.fires.iter().map(move |fire| {
            let slot = if fire.nominal_iso == fire.at_iso { String::new() } else { fire.nominal_iso.clone() };
            vec![id.clone(), fire.at_iso.clone(), slot, why(fire)]
        }))
    });
    let mut rows: Vec<Vec<String>> = rows.collect();
    let mut head = vec!["SCHEDULE", "STARTS", "SLOT", "WHY"];
    if rows.iter().all(|row| row.iter().skip(2).all(String::is_empty)) {
        // Nothing is held up by anything.
        head.truncate(2);
        rows.iter_mut().for_each(|row| row.truncate(2));
    }
    out::table(&head, rows);
}

fn why(fire: &FireView) -> String {
    match (&fire.window, fire.folded) {
        (None, _) => String::new(),
        (Some(window), 0) => format!("waits for {window}"),
        (Some(window), folded) => format!("waits for {window}; stands for {folded} earlier"),
    }
}

fn show(answer: &ForecastAnswer) {
    let load = &answer.load;
    out::line(&summary(load, &answer.from_iso, &answer.until_iso));
    if let Some(before) = &answer.before {
        out::line(&format!("As it runs now: {} starts of {} schedules.", before.fires, before.schedules));
    }
    if !load.complete {
        out::warning("too many different cron expressions: not all were counted");
    }
    out::line("");
    let busiest = load.hours.iter().map(|hour| hour.fires).max().unwrap_or(0);
    let before = |at: usize| answer.before.as_ref().and_then(|before| before.hours.get(at)).map(|hour| hour.fires);
    let rows = load.hours.iter().enumerate().map(|(at, hour)| hour_row(hour, before(at), busiest)).collect();
    match answer.before {
        Some(_) => out::table(&["HOUR (UTC)", "STARTS", "", "BUSIEST MINUTE", "NOW"], rows),
        None => out::table(&["HOUR (UTC)", "STARTS", "", "BUSIEST MINUTE"], rows),
    }
    if !answer.warnings.is_empty() {
        out::line("");
    }
    for warning in &answer.warnings {
        out::line(&out::paint(out::YELLOW, &format!("! {}", out::clean(warning))));
    }
    for found in &answer.invalid {
        validate::show(found, "");
    }
}

fn summary(load: &LoadView, from: &str, until: &str) -> String {
    let peak =
        load.busiest.first().map(|minute| format!("; the busiest minute is {}", at(&minute.minute_iso, minute.fires)));
    format!(
        "{} starts of {} schedules from {} to {}; {} in the median minute{}.",
        load.fires,
        load.schedules,
        clock(from),
        clock(until),
        load.median_minute,
        peak.unwrap_or_default()
    )
}

fn at(minute: &str, fires: u32) -> String {
    format!("{} with {fires}", clock(minute))
}

/// `2026-11-21 03:00`
fn clock(iso: &str) -> String {
    format!("{} {}", iso.get(..10).unwrap_or(iso), iso.get(11..16).unwrap_or_default())
}

fn hour_row(hour: &HourView, before: Option<u64>, busiest: u64) -> Vec<String> {
    let peak = match hour.peak {
        0 => String::new(),
        fires => format!("{} with {fires}", hour.peak_minute_iso.get(11..16).unwrap_or_default()),
    };
    let mut row = vec![clock(&hour.hour_iso), hour.fires.to_string(), bar(hour.fires, busiest), peak];
    row.extend(before.map(|fires| fires.to_string()));
    row
}

/// A bar of eighths: as long as the hour is busy.
fn bar(fires: u64, busiest: u64) -> String {
    const WIDTH: u64 = 32;
    const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (fires * WIDTH * 8).checked_div(busiest).unwrap_or(0);
    // What is there is seen.
    let eighths = usize::try_from(eighths.max(u64::from(fires > 0))).unwrap_or(0);
    "█".repeat(eighths / 8) + PARTS.get(eighths % 8).unwrap_or(&"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_hour_is_busy() {
        assert_eq!(bar(0, 0), "");
        assert_eq!(bar(0, 100), "");
        assert_eq!(bar(1, 1_000_000), "▏");
        assert_eq!(bar(100, 100), "█".repeat(32));
        assert_eq!(bar(50, 100), "█".repeat(16));
        assert_eq!(bar(51, 100), "█".repeat(16) + "▎");
    }
}
