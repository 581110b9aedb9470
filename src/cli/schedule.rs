//! `schedule`: everything the API does to schedules, by the API.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::{Value, json};

use super::bulk::{self, Choice, Chosen, UndoArgs};
use super::client::{Request, route};
use super::running::{self, BackfillArgs, CancelArgs};
use super::standing::{cadence, state, table};
use super::{CliError, ConnectorArg, Exit, Global, Target, out, pairs, runs, standing};
use crate::adapters::clock::Clock;
use crate::app::views::{MutationAnswer, OriginView, RunNowAnswer, ScheduleStatus, ScheduleView};
use crate::core::model::{MAX_MOMENT, Millis};
use crate::core::selection::Named;
use crate::core::timing::iso;

/// What can be done to schedules.
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  command-center schedule list
  command-center schedule set peakpro interval_sec=300 labels.region=west
  command-center schedule pause peakpro --reason \"key is being rotated\"
  command-center schedule run-now peakpro --wait 60
  command-center schedule pause --label region=west --reason storm --yes

With more than one schedule the plan is shown first; --yes carries it out, all or nothing.")]
pub(super) enum ScheduleCommand {
    /// Every schedule and how it is.
    #[command(after_help = "Example:\n  command-center schedule list --connector noop --output json")]
    List {
        #[command(flatten)]
        connector: ConnectorArg,
    },
    /// One schedule as written, as it is meant, and how it is.
    #[command(after_help = "Examples:
  command-center schedule show peakpro
  command-center schedule show peakpro --origin     which file and line each value comes from")]
    Show {
        #[command(flatten)]
        target: Target,
        /// Show each effective value with where it comes from: its file, defaults, or the program.
        #[arg(long)]
        origin: bool,
    },
    /// Change a schedule's file, or make one; keys that are not named stay as they are.
    Set(SetArgs),
    /// Keep a schedule from running until it is resumed.
    #[command(after_help = "Examples:
  command-center schedule pause peakpro --reason \"key is being rotated\" --for 2h
  command-center schedule pause peakpro --until 2026-12-01T08:00:00Z
  command-center schedule pause --label region=west --reason storm --yes
  command-center schedule pause --from-file tenants.txt --dry-run")]
    Pause {
        #[command(flatten)]
        args: ReasonArgs,
        /// When the pause lifts by itself: with its offset, or in the schedule's time zone.
        #[arg(long, value_name = "TIME", conflicts_with = "length")]
        until: Option<String>,
        /// How long the pause lasts, such as 90m, 2h or 3days.
        #[arg(long = "for", value_name = "DURATION", value_parser = humantime::parse_duration)]
        length: Option<Duration>,
    },
    /// Let a paused schedule run again.
    #[command(after_help = "Examples:
  command-center schedule resume peakpro
  command-center schedule resume --state paused --connector noop --yes")]
    Resume(ReasonArgs),
    /// Import at once, also while paused; exits 1 when the import fails.
    #[command(after_help = "Examples:
  command-center schedule run-now peakpro --wait 60
  command-center schedule run-now --state failing --yes")]
    RunNow {
        #[command(flatten)]
        whom: Whom,
        /// Why, for the audit; of many at once.
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        /// Seconds to wait for the import to end; 0 only starts it, as many at once always do.
        #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(0..=300))]
        wait: u32,
    },
    /// What ran, newest first: when, why, how long, how it ended.
    Runs(runs::RunsArgs),
    /// One run, with its log.
    Run(runs::RunArgs),
    /// Stop a run that is in flight; what it imported stays.
    Cancel(CancelArgs),
    /// Run slots of the past that have had no run.
    Backfill(BackfillArgs),
    /// Remove a schedule and its file; its history and audit stay.
    #[command(after_help = "Examples:
  command-center schedule delete peakpro
  command-center schedule delete acme birch --reason \"left us\" --yes")]
    Delete {
        #[command(flatten)]
        whom: Whom,
        /// Why, for the audit; of many at once.
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        /// Only when the schedule still has this ETag; of one alone.
        #[arg(long, value_name = "ETAG")]
        if_match: Option<String>,
    },
    /// Take an action back: every file it changed gets the content it had before.
    Undo(UndoArgs),
    /// The cadences that are defined once, for `set --preset`.
    #[command(after_help = "Example:\n  command-center schedule presets")]
    Presets,
}

/// One tenant, or many.
#[derive(Debug, Args)]
pub(super) struct Whom {
    /// The tenant; several, or the options below, choose many.
    #[arg(value_name = "TENANT", required_unless_present_any = ["labels", "state", "from_file", "all", "connector"])]
    tenants: Vec<Named>,
    #[command(flatten)]
    choice: Choice,
}

impl Whom {
    fn chosen(self) -> Result<Chosen, CliError> {
        self.choice.of(self.tenants)
    }
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  command-center schedule set peakpro interval_sec=300
  command-center schedule set peakpro 'cron=*/15 7-18 * * 1-5' timezone=America/Denver
  command-center schedule set peakpro labels.region=west pause_reason=null
  command-center schedule set peakpro --preset nightly
  command-center schedule set --label region=west interval_sec=900 --yes
  command-center schedule set peakpro --json '{\"connection\": {\"api_key\": {\"env\": \"CC_SECRET_PEAKPRO\"}}}'

VALUE has the type YAML gives it; null removes the key, dots reach into mappings.")]
pub(super) struct SetArgs {
    /// The tenant, then keys to set; several tenants, or the options below, choose many.
    #[arg(value_name = "TENANT|KEY=VALUE")]
    words: Vec<String>,
    #[command(flatten)]
    choice: Choice,
    /// A cadence by its name, see `schedule presets`; keys are laid over it.
    #[arg(long, value_name = "NAME")]
    preset: Option<String>,
    /// Why, for the audit; of many at once.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// A JSON object to merge in; - reads it from stdin.
    #[arg(long, value_name = "BODY")]
    json: Option<String>,
    /// Only when the schedule still has this ETag; of one alone.
    #[arg(long, value_name = "ETAG")]
    if_match: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct ReasonArgs {
    #[command(flatten)]
    whom: Whom,
    /// Why, for the people who find it so.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

fn reason_body(reason: Option<String>) -> Value {
    reason.map_or(json!({}), |reason| json!({ "reason": reason }))
}

/// One schedule alone has no reason but of a pause or a resume.
fn without_reason(reason: Option<&String>) -> Result<(), CliError> {
    match reason {
        None => Ok(()),
        Some(_) => Err(CliError::usage("--reason is for many at once here", "leave it out for a single tenant")),
    }
}

/// A tag is one schedule's.
fn without_tag(if_match: Option<&String>) -> Result<(), CliError> {
    match if_match {
        None => Ok(()),
        Some(_) => Err(CliError::usage("--if-match is about one schedule", "leave it out; --confirm binds a plan")),
    }
}

pub(super) async fn schedule(command: ScheduleCommand, global: &Global) -> Result<Exit, CliError> {
    match command {
        ScheduleCommand::List { connector } => list(&connector, global).await,
        ScheduleCommand::Show { target, origin } => show(&target, origin, global).await,
        ScheduleCommand::Set(args) => set(args, global).await,
        ScheduleCommand::Pause { args, until, length } => {
            let mut body = reason_body(args.reason);
            if let Some(until) = until.or_else(|| length.map(|length| iso(end_of(length)))) {
                body["pause_until"] = until.into();
            }
            act("pause", args.whom, body, global).await
        }
        ScheduleCommand::Resume(args) => act("resume", args.whom, reason_body(args.reason), global).await,
        ScheduleCommand::RunNow { whom, reason, wait } => match whom.chosen()? {
            Chosen::One(target) => {
                without_reason(reason.as_ref())?;
                run_now(&target, wait, global).await
            }
            Chosen::Many(many) => many.act("run-now", reason_body(reason), global).await,
        },
        ScheduleCommand::Runs(args) => runs::list(args, global).await,
        ScheduleCommand::Run(args) => runs::one(args, global).await,
        ScheduleCommand::Cancel(args) => running::cancel(args, global).await,
        ScheduleCommand::Backfill(args) => running::backfill(args, global).await,
        ScheduleCommand::Delete { whom, reason, if_match } => match whom.chosen()? {
            Chosen::One(target) => {
                without_reason(reason.as_ref())?;
                let path = route(target.connector.connector, "schedule");
                let request = Request::new(reqwest::Method::DELETE, path).if_match(if_match.as_deref());
                mutate(request, &target, global).await
            }
            Chosen::Many(many) => {
                without_tag(if_match.as_ref())?;
                many.act("delete", reason_body(reason), global).await
            }
        },
        ScheduleCommand::Undo(args) => bulk::undo(args, global).await,
        ScheduleCommand::Presets => Ok(bulk::presets(global)),
    }
}

/// Does to one or to many what is asked for.
async fn act(action: &str, whom: Whom, body: Value, global: &Global) -> Result<Exit, CliError> {
    match whom.chosen()? {
        Chosen::One(target) => {
            mutate(Request::post(route(target.connector.connector, action), body), &target, global).await
        }
        Chosen::Many(many) => many.act(action, body, global).await,
    }
}

async fn set(args: SetArgs, global: &Global) -> Result<Exit, CliError> {
    let stdin = args.json.as_deref() == Some("-");
    let json = if stdin { Some(read_stdin()?) } else { args.json };
    let (pairs, tenants): (Vec<String>, Vec<String>) = args.words.into_iter().partition(|word| word.contains('='));
    let body = if args.preset.is_some() && json.is_none() && pairs.is_empty() {
        serde_json::Map::new()
    } else {
        pairs::body(json.as_deref(), &pairs)
            .map_err(|problem| CliError::usage(problem, "see `command-center schedule set --help`"))?
    };
    let tenants = tenants.iter().map(|name| bulk::name(name)).collect::<Result<Vec<_>, _>>()?;
    match args.choice.of(tenants)? {
        Chosen::One(target) => {
            without_reason(args.reason.as_ref())?;
            let request = Request::post(route(target.connector.connector, "schedule"), Value::Object(body))
                .query("preset", args.preset)
                .if_match(args.if_match.as_deref());
            mutate(request, &target, global).await
        }
        Chosen::Many(many) => {
            without_tag(args.if_match.as_ref())?;
            let mut fields = reason_body(args.reason);
            if let Some(preset) = args.preset {
                fields["preset"] = preset.into();
            }
            if !body.is_empty() {
                fields["set"] = Value::Object(body);
            }
            many.act("set", fields, global).await
        }
    }
}

/// The moment that lies `length` from now.
fn end_of(length: Duration) -> Millis {
    Clock::System.now().saturating_add(Millis::try_from(length.as_millis()).unwrap_or(Millis::MAX)).min(MAX_MOMENT)
}

pub(super) fn read_stdin() -> Result<String, CliError> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(CliError::read(std::path::Path::new("stdin")))?;
    Ok(text)
}

#[derive(Deserialize)]
struct StatusAnswer {
    schedules: BTreeMap<String, ScheduleStatus>,
}

async fn list(connector: &ConnectorArg, global: &Global) -> Result<Exit, CliError> {
    let request = Request::get(route(connector.connector, "schedule/status"));
    let (answer, raw): (StatusAnswer, _) = global.client()?.ask(request).await?;
    if global.json() {
        out::json(&raw);
    } else if answer.schedules.is_empty() {
        out::line(&format!("No schedules of {}.", connector.connector));
    } else {
        table(&answer.schedules);
    }
    Ok(Exit::Done)
}

async fn show(target: &Target, origin: bool, global: &Global) -> Result<Exit, CliError> {
    let request = Request::get(route(target.connector.connector, "schedule")).tenant(&target.tenant);
    let (view, raw): (ScheduleView, _) = global.client()?.ask(request).await?;
    if global.json() {
        out::json(&raw);
        return Ok(Exit::Done);
    }
    if origin {
        show_origins(&view);
        return Ok(Exit::Done);
    }
    let pretty = |value: &Value| serde_json::to_string_pretty(value).unwrap_or_default();
    let status = &view.status;
    let next = status.next_run_iso.as_deref().unwrap_or("none");
    let now = standing::what_goes_on(status).map(|what| ("now", what));
    let rows = [
        ("schedule", target.id().to_string()),
        ("file", view.file.clone()),
        ("etag", view.etag.clone()),
        ("state", state(status)),
        ("every", cadence(status)),
        ("next run", next.to_owned()),
        ("last run", status.last_run_iso.clone().unwrap_or_else(|| "none".to_owned())),
        ("lateness", status.last_late_ms.map_or_else(|| "none".to_owned(), runs::length)),
        ("missed", missed(status)),
    ];
    for (name, value) in rows.into_iter().chain(now) {
        out::line(&format!("{name:9} {}", out::clean(&value)));
    }
    if let Some(last) = &status.last_status {
        out::line(&format!("{:9} {}", if last.ok { "result" } else { "failure" }, out::clean(&last.message)));
    }
    out::line(&format!("written   {}", out::clean(&pretty(&view.written))));
    let effective = serde_json::to_value(&view.effective).unwrap_or_default();
    if effective != view.written {
        out::line(&format!("effective {}", out::clean(&pretty(&effective))));
    }
    Ok(Exit::Done)
}

/// How many slots passed without a run, and why.
fn missed(status: &ScheduleStatus) -> String {
    let by: Vec<String> = status.missed_by.iter().map(|(why, count)| format!("{count} {why}")).collect();
    if by.is_empty() { "none".to_owned() } else { format!("{} ({})", status.missed, by.join(", ")) }
}

/// Each effective value with the file and line it comes from.
fn show_origins(view: &ScheduleView) {
    let row = |(field, origin): (&String, &OriginView)| {
        let value = match &origin.value {
            Value::String(text) => text.clone(),
            value => value.to_string(),
        };
        let from = if origin.from == "file" { &view.file } else { &origin.from };
        let line = origin.line.map_or(String::new(), |line| format!(":{line}"));
        vec![field.clone(), value, format!("{from}{line}")]
    };
    out::table(&["FIELD", "VALUE", "FROM"], view.origin.iter().map(row).collect());
}

/// Sends a change of one schedule and shows the tenant it touched.
pub(super) async fn mutate(request: Request<'_>, target: &Target, global: &Global) -> Result<Exit, CliError> {
    let (answer, raw): (MutationAnswer, _) = global.client()?.ask(request.tenant(&target.tenant)).await?;
    if global.json() {
        out::json(&raw);
        return Ok(Exit::Done);
    }
    if answer.schedules.is_empty() {
        out::line(&format!("{} is gone", target.id()));
    } else {
        table(&answer.schedules);
    }
    let seqs: Vec<String> = answer.audit.iter().map(i64::to_string).collect();
    match seqs.as_slice() {
        [] => out::note("It was so before: nothing was changed."),
        seqs => out::note(&format!("audit {} (action {})", seqs.join(", "), answer.action_id)),
    }
    Ok(Exit::Done)
}

async fn run_now(target: &Target, wait: u32, global: &Global) -> Result<Exit, CliError> {
    let spinner = out::spinner("importing");
    let request = Request::post(route(target.connector.connector, "run-now"), json!({}))
        .tenant(&target.tenant)
        .query("wait", Some(wait))
        .wait(Duration::from_secs(wait.into()));
    let answered = global.client()?.ask::<RunNowAnswer>(request).await;
    spinner.finish_and_clear();
    let (answer, raw) = answered?;
    if global.json() {
        out::json(&raw);
    } else {
        out::line(&format!(
            "run {} of {}: {}: {}",
            answer.run_id,
            target.id(),
            if answer.ok { answer.state.as_str() } else { "failed" },
            out::clean(&answer.message)
        ));
        table(&answer.schedules);
    }
    Ok(Exit::yes(answer.ok))
}
