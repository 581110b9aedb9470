//! `schedule` for many at once: the choice, the plan that is shown first, and the word that carries it out;
//! undo, and the presets.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::client::{ClientError, Request};
use super::schedule::read_stdin;
use super::{CliError, Exit, Global, Target, apply, out};
use crate::app::views::{BulkAnswer, BulkRefusal, BulkRun};
use crate::core::model::{Connector, ScheduleId};
use crate::core::plan::{ChangeView, FieldChange};
use crate::core::presets::presets as all_presets;
use crate::core::selection::{Condition, Named};

/// Rows of a plan on a terminal; the rest is counted.
const MAX_ROWS: usize = 40;
/// What many files take at most.
const PATIENCE: Duration = Duration::from_secs(240);

/// Which schedules a command is about: one tenant, or a choice of many.
#[derive(Clone, Debug, Args)]
pub(super) struct Choice {
    /// The connector [default: acculynx for tenants that are named, else every connector].
    #[arg(long, value_name = "NAME")]
    connector: Option<Connector>,
    /// Every schedule that has this label; repeated, that has them all.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Those that are paused, active (not paused) or failing (the last import failed).
    #[arg(long, value_name = "STATE", value_parser = Condition::NAMES)]
    state: Option<String>,
    /// The tenants that a file lists, one a line; - reads them from stdin.
    #[arg(long, value_name = "LIST")]
    from_file: Option<PathBuf>,
    /// Every schedule.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    word: Word,
}

/// Whether a plan for many is carried out.
#[derive(Clone, Debug, Args)]
pub(super) struct Word {
    /// Only show the plan.
    #[arg(long)]
    dry_run: bool,
    /// Carry out the plan for more than one schedule.
    #[arg(long, conflicts_with = "dry_run")]
    yes: bool,
    /// Carry out the plan of this digest, also where it takes away a large part of the fleet.
    #[arg(long, value_name = "DIGEST", conflicts_with = "dry_run")]
    confirm: Option<String>,
}

/// What a choice comes to.
pub(super) enum Chosen {
    One(Target),
    Many(Many),
}

/// A choice as the API takes it.
pub(super) struct Many {
    select: Value,
    word: Word,
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("is not KEY=VALUE, like region=west")?;
    if key.is_empty() { Err("has no key, like region=west".into()) } else { Ok((key.into(), value.into())) }
}

impl Choice {
    /// One tenant that is named is changed as ever; everything else is a plan first.
    pub fn of(self, mut names: Vec<Named>) -> Result<Chosen, CliError> {
        let Choice { connector, labels, state, from_file, all, word } = self;
        let listed = from_file.as_deref().map(list).transpose()?;
        names.extend(listed.iter().flatten().cloned());
        let names: Vec<ScheduleId> = names.into_iter().map(|name| whose(name, connector)).collect();
        let is_choice = listed.is_some() || !labels.is_empty() || state.is_some() || all;
        if let ([id], false, false, None) = (names.as_slice(), is_choice, word.dry_run, &word.confirm) {
            return Ok(Chosen::One(Target::of(id)));
        }
        if listed.is_some() && names.is_empty() {
            return Err(CliError::usage("the list names nobody", "write a tenant on each line"));
        }
        if names.is_empty() && !is_choice && connector.is_none() {
            let hint = "name a tenant, or choose many by --label, --state, --connector, --from-file or --all";
            return Err(CliError::usage("no schedule is named", hint));
        }
        let mut select = json!({ "all": all });
        if !names.is_empty() {
            select["tenants"] = names.iter().map(ToString::to_string).collect();
        } else if let Some(connector) = connector {
            select["connector"] = connector.as_str().into();
        }
        if !labels.is_empty() {
            select["labels"] = json!(labels.into_iter().collect::<BTreeMap<_, _>>());
        }
        if let Some(state) = state {
            select["state"] = state.into();
        }
        Ok(Chosen::Many(Many { select, word }))
    }
}

/// A name as it stands on the command line or in a list.
pub(super) fn name(text: &str) -> Result<Named, CliError> {
    let hint = "a tenant is named like peakpro, or with its connector: noop/peakpro";
    text.parse().map_err(|why: String| CliError::usage(why, hint))
}

fn whose(name: Named, connector: Option<Connector>) -> ScheduleId {
    match name {
        Named::Schedule(id) => id,
        Named::Tenant(tenant) => ScheduleId::new(connector.unwrap_or(Connector::Acculynx), tenant),
    }
}

/// Names, one a line; blank lines and comments count for nothing.
fn list(path: &Path) -> Result<Vec<Named>, CliError> {
    let text = if path == Path::new("-") {
        read_stdin()?
    } else {
        std::fs::read_to_string(path).map_err(CliError::read(path))?
    };
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    lines.filter(|line| !line.is_empty()).map(name).collect()
}

impl Many {
    /// Shows the plan of an action, and carries it out when that is wanted.
    pub async fn act(self, action: &str, fields: Value, global: &Global) -> Result<Exit, CliError> {
        let mut body = json!({ "action": action, "select": self.select });
        if let (Value::Object(body), Value::Object(fields)) = (&mut body, fields) {
            body.extend(fields);
        }
        plan_and_do("/ops/bulk", body, &self.word, global).await
    }
}

/// Asks for the plan; with the word for it, asks for the deed by the plan's digest.
async fn plan_and_do(path: &str, body: Value, word: &Word, global: &Global) -> Result<Exit, CliError> {
    let with = |consent: Value| {
        let mut body = body.clone();
        if let (Value::Object(body), Value::Object(consent)) = (&mut body, consent) {
            body.extend(consent);
        }
        Request::post(path, body).wait(PATIENCE)
    };
    let consent = match &word.confirm {
        Some(digest) => json!({ "dry_run": false, "confirm": digest }),
        None => {
            let (plan, raw): (BulkAnswer, _) = global.client()?.ask(with(json!({ "dry_run": true }))).await?;
            let is_wanted = word.yes || plan.changing <= 1;
            if word.dry_run || !is_wanted || plan.changing == 0 || !plan.ok {
                return Ok(show_plan(&plan, &raw, word, global));
            }
            json!({ "dry_run": false, "digest": plan.digest })
        }
    };
    match apply::ask_by_digest(with(consent), "carrying it out", show_done, global).await {
        Ok(done) => Ok(Exit::yes(done.is_some_and(|done| done.ok))),
        Err(CliError::Client(ClientError::Refused(problem))) if problem.is("bulk-held") => {
            if global.json() {
                out::json(&problem.body);
                return Ok(Exit::No);
            }
            out::error(&problem.detail, None);
            let digest = problem.body.get("digest").and_then(Value::as_str).unwrap_or_default();
            out::note(&format!("If it is meant, repeat the command with --confirm {digest} instead of --yes"));
            Ok(Exit::No)
        }
        Err(error) => Err(error),
    }
}

fn show_plan(plan: &BulkAnswer, raw: &Value, word: &Word, global: &Global) -> Exit {
    let exit = Exit::yes(plan.ok && plan.selected > 0 && (word.dry_run || plan.changing == 0));
    if global.json() {
        out::json(raw);
        return exit;
    }
    show_changes(plan);
    show_refusals("IN THE WAY", &plan.refused);
    if plan.selected == 0 {
        out::line("No schedule is chosen.");
        return exit;
    }
    let refused = plan.refused.len() as u64;
    let same = plan.selected.saturating_sub(plan.changing + refused);
    let cannot = if refused > 0 { format!(", {refused} cannot") } else { String::new() };
    out::line(&format!(
        "{}: {} of {} schedules change, {same} are so already{cannot}",
        plan.action, plan.changing, plan.selected
    ));
    if !plan.ok {
        let remedy = if plan.action == "undo" { "--partial leaves them out" } else { "choose without them" };
        out::note(&format!("Nothing was changed, since it is all or none. Mend what is in the way, or {remedy}"));
        return exit;
    }
    if plan.held > 0 {
        out::line(&format!("{} steps take away a large part of the fleet: --confirm {}", plan.held, plan.digest));
    } else if plan.ok && plan.changing > 0 && !word.dry_run {
        out::note("Nothing was changed. To carry it out, repeat the command with --yes");
    }
    exit
}

fn show_changes(plan: &BulkAnswer) {
    if plan.changes.is_empty() {
        return;
    }
    let row = |change: &ChangeView| {
        let fields = change.diff.iter().map(field).collect::<Vec<_>>().join(", ");
        vec![change.action.clone(), format!("{}/{}", change.connector, change.tenant), fields]
    };
    out::table(&["STEP", "SCHEDULE", "CHANGES"], plan.changes.iter().take(MAX_ROWS).map(row).collect());
    and_more(plan.changes.len() as u64 + plan.changes_left_out);
}

/// Says how many rows there are besides those shown.
fn and_more(count: u64) {
    let more = count.saturating_sub(MAX_ROWS as u64);
    if more > 0 {
        out::line(&format!("… and {more} more"));
    }
}

fn field(change: &FieldChange) -> String {
    format!("{}: {} → {}", change.field, change.from, change.to)
}

fn show_refusals(head: &str, refused: &[BulkRefusal]) {
    if refused.is_empty() {
        return;
    }
    let row = |one: &BulkRefusal| {
        let connector = if one.connector.is_empty() { String::new() } else { format!("{}/", one.connector) };
        vec![format!("{connector}{}", one.tenant), one.detail.clone()]
    };
    out::table(&[head, "WHY"], refused.iter().take(MAX_ROWS).map(row).collect());
    and_more(refused.len() as u64);
}

fn show_done(done: &BulkAnswer) {
    show_refusals("LEFT AS IT IS", &done.refused);
    show_refusals("NOT DONE", &done.failed);
    if !done.runs.is_empty() {
        let row = |run: &BulkRun| {
            vec![run.run_id.to_string(), format!("{}/{}", run.connector, run.tenant), run.state.clone()]
        };
        out::table(&["RUN", "SCHEDULE", "STATE"], done.runs.iter().take(MAX_ROWS).map(row).collect());
        and_more(done.runs.len() as u64);
    }
    let count = done.changing.saturating_sub(done.failed.len() as u64);
    out::line(&format!("{}: {count} of {} schedules", done.action, done.selected));
    match (&done.action_id, &done.undo_until_iso) {
        (Some(action), Some(until)) => {
            out::note(&format!("action {action}; until {until}: command-center schedule undo {action}"));
        }
        (Some(action), None) if count > 0 => out::note(&format!("action {action}")),
        _ if !done.ok => out::note("Nothing was changed."),
        _ => out::note("It was so before: nothing was changed."),
    }
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  command-center schedule undo 0197a3c2-5b1e-7c44-a5d0-3c1f7a9e2b10
  command-center schedule undo 0197a3c2-5b1e-7c44-a5d0-3c1f7a9e2b10 --partial --yes

An action is named by its answer and by its audit entries; it can be undone for 24 hours.")]
pub(super) struct UndoArgs {
    #[arg(value_name = "ACTION_ID")]
    action_id: String,
    /// Leave out what has changed since, instead of undoing nothing.
    #[arg(long)]
    partial: bool,
    /// Why, for the audit.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    word: Word,
}

pub(super) async fn undo(args: UndoArgs, global: &Global) -> Result<Exit, CliError> {
    if args.action_id.is_empty() || !args.action_id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-') {
        let hint = "it looks like 0197a3c2-5b1e-7c44-a5d0-3c1f7a9e2b10; `audit list` shows them";
        return Err(CliError::usage(format!("{:?} names no action", args.action_id), hint));
    }
    let path = format!("/ops/bulk/{}/undo", args.action_id);
    let mut body = json!({ "partial": args.partial });
    if let Some(reason) = args.reason {
        body["reason"] = reason.into();
    }
    plan_and_do(&path, body, &args.word, global).await
}

pub(super) fn presets(global: &Global) -> Exit {
    let all = all_presets();
    if global.json() {
        out::json(&all);
        return Exit::Done;
    }
    let set = |set: &serde_json::Map<String, Value>| {
        let kept = set.iter().filter(|(_, value)| !value.is_null());
        kept.map(|(key, value)| format!("{key}={}", value.as_str().map_or(value.to_string(), str::to_owned)))
            .collect::<Vec<_>>()
            .join(" ")
    };
    let rows = all.iter().map(|preset| vec![preset.name.clone(), preset.description.clone(), set(&preset.set)]);
    out::table(&["PRESET", "MEANS", "SETS"], rows.collect());
    Exit::Done
}
