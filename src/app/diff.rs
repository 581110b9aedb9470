//! What would change: the same planner over a directory's files and the stored rows, changing nothing.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;

use super::App;
use super::blocking::blocking;
use super::defaults::{self, Compared, read_each};
use super::error::AppError;
use super::forecast::{Change, warn};
use super::reading::{Found, Reading, read_all};
use super::reconcile::plan_valid;
use super::views::{DefaultsChange, DiffAnswer, WindowChange};
use super::windows::{self, WindowFound};
use crate::adapters::clock::Clock;
use crate::adapters::source::{Files, Listing, ReadResult, Root, Source};
use crate::adapters::store::{FleetRow, SharedStore, SqliteStore, StoreResult};
use crate::core::desired::{DefaultsFile, Diagnostic, Severity, parse, window_name};
use crate::core::fleet::{Glance, Sync};
use crate::core::forecast::fire_alike;
use crate::core::model::{Connector, Digest, Millis, ScheduleId};
use crate::core::plan::{
    self, Action, Blast, ChangeView, Facet, FieldChange, GuardPolicy, Plan, Step, diff, render_markdown, render_text,
};
use crate::core::row::{fingerprint, is_asleep};

/// A directory's files, read as a whole.
#[derive(Default)]
struct Snapshot {
    readings: Vec<Reading>,
    defaults: Compared,
    windows: windows::Compared,
    /// Whether what is not there is known to be absent.
    complete: bool,
    invalid: Vec<Diagnostic>,
}

impl App {
    /// Plans `files` (path relative to the desired directory, to text) against what runs here;
    /// without files, the server's own directory.
    pub async fn diff(&self, files: Option<BTreeMap<String, String>>) -> Result<DiffAnswer, AppError> {
        let now = self.clock.now();
        let kept = self.store.defaults().await?;
        let snapshot = match files {
            Some(files) => snapshot_of(files, &kept),
            None => snapshot_from(self.source.clone(), &kept, now).await,
        };
        let mut outlook = self.compare_here(snapshot, now).await?;
        outlook.look_ahead(&self.store, now).await?;
        self.state().plans.remember(outlook.plan.digest(), &outlook.plan);
        Ok(outlook.answer())
    }

    /// What the server's own directory would change now.
    pub(super) async fn plan_now(&self) -> Result<Plan, AppError> {
        let now = self.clock.now();
        let kept = self.store.defaults().await?;
        let snapshot = snapshot_from(self.source.clone(), &kept, now).await;
        if !snapshot.complete {
            let detail = "the desired directory cannot be read as a whole; nothing can be confirmed meanwhile";
            return Err(AppError::Conflict { detail: detail.to_owned(), suggestion: None });
        }
        Ok(self.compare_here(snapshot, now).await?.plan)
    }

    async fn compare_here(&self, snapshot: Snapshot, now: Millis) -> StoreResult<Outlook> {
        let (recent, foreign) = {
            let mut state = self.state();
            (state.recent_blasts(now), state.foreign.clone())
        };
        let mut outlook = compare(&self.store, snapshot, &foreign, recent, self.settings.guard, now).await?;
        self.keep_holding(&mut outlook.plan.steps);
        Ok(outlook)
    }
}

/// What a directory's files would change of that which fires, and which of them cannot be used.
pub(super) async fn foreseen(
    app: &App,
    files: BTreeMap<String, String>,
    now: Millis,
) -> Result<(Change, Vec<Diagnostic>), AppError> {
    let snapshot = snapshot_of(files, &app.store.defaults().await?);
    let outlook = app.compare_here(snapshot, now).await?;
    Ok((outlook.change, outlook.invalid))
}

/// Plans a directory against a store that no server has open, on a private copy of it.
///
/// # Errors
/// When the directory or the store cannot be read.
pub async fn offline_diff(desired: &Path, dsn: &Path) -> anyhow::Result<DiffAnswer> {
    let clock = Clock::System;
    let source = Arc::new(Source::new(desired.to_owned()));
    let folder = tempfile::tempdir().context("could not make a temporary folder for a copy of the store")?;
    let copy = if dsn.exists() {
        SqliteStore::open_copy(dsn, folder.path())?
    } else {
        SqliteStore::open(&folder.path().join("empty.db"))?
    };
    let store: SharedStore = Arc::new(copy);
    let snapshot = snapshot_from(source, &store.defaults().await?, clock.now()).await;
    anyhow::ensure!(snapshot.complete || !snapshot.invalid.is_empty(), "{} cannot be read", desired.display());
    let mut outlook = compare(&store, snapshot, &HashSet::new(), 0, GuardPolicy::default(), clock.now()).await?;
    outlook.look_ahead(&store, clock.now()).await?;
    store.close();
    Ok(outlook.answer())
}

async fn snapshot_from(source: Arc<dyn Files>, kept: &[(String, Vec<u8>)], now: Millis) -> Snapshot {
    let lister = source.clone();
    let Ok(listing) = blocking(move || lister.list()).await else { return Snapshot::default() };
    let reader = source.clone();
    let Ok(read) = blocking(move || read_each(&*reader)).await else { return Snapshot::default() };
    let content = |read: ReadResult| match read {
        Ok(found) => Ok(found.map(|(_, content)| content)),
        Err(error) => Err(error.to_string()),
    };
    let found = read.into_iter().map(|(file, read)| (file, content(read)));
    let is_there = matches!(listing.root, Root::Present);
    let defaults = defaults::compare(found.filter(|_| is_there).collect(), kept);
    let windows = windows::compare(windows_from(source.clone(), &listing).await, kept, listing.complete);
    let mut snapshot = Snapshot { complete: listing.complete, defaults, windows, ..Snapshot::default() };
    if !matches!(listing.root, Root::Present) {
        snapshot.complete = false;
        let message = format!("the desired directory {} is missing or cannot be read", source.root().display());
        snapshot.invalid.push(Diagnostic::whole_file(String::new(), "unreadable", message));
    }
    for misplaced in &listing.misplaced {
        snapshot.invalid.push(Diagnostic::whole_file(
            misplaced.path.clone(),
            "misplaced",
            misplaced.reason.to_string(),
        ));
    }
    for (path, message) in &listing.problems {
        snapshot.invalid.push(Diagnostic::whole_file(path.clone(), "unreadable", message.clone()));
    }
    let ids = listing.files.into_iter().map(|listed| listed.id).collect();
    let mut chunks = read_all(source, ids, snapshot.defaults.defaults.clone(), now);
    while let Some(readings) = chunks.recv().await {
        snapshot.readings.extend(readings);
    }
    snapshot
}

async fn windows_from(source: Arc<dyn Files>, listing: &Listing) -> Vec<WindowFound> {
    let names = listing.windows.clone();
    let read = move || {
        let content = |name: String| match source.read_window(&name) {
            Ok(found) => found.map(|(_, content)| (name, Ok(content))),
            Err(error) => Some((name, Err(error.to_string()))),
        };
        names.into_iter().filter_map(content).collect()
    };
    blocking(read).await.unwrap_or_default()
}

fn snapshot_of(mut files: BTreeMap<String, String>, kept: &[(String, Vec<u8>)]) -> Snapshot {
    let found = DefaultsFile::all().map(|file| (file, Ok(files.remove(&file.path()).map(String::into_bytes))));
    let defaults = defaults::compare(found.collect(), kept);
    let (of_windows, files): (BTreeMap<_, _>, _) =
        files.into_iter().partition(|(path, _)| path.starts_with("windows/") && window_name(path).is_some());
    let name = |(path, text): (String, String)| Some((window_name(&path)?.to_owned(), Ok(text.into_bytes())));
    let windows = windows::compare(of_windows.into_iter().filter_map(name).collect(), kept, true);
    let mut snapshot = Snapshot { complete: true, defaults, windows, ..Snapshot::default() };
    let defaults = snapshot.defaults.defaults.clone();
    for (path, text) in files {
        let name = path.strip_prefix("schedules/").and_then(|rest| rest.strip_suffix(".yaml"));
        let id: Result<ScheduleId, String> = match name {
            Some(name) => name.parse(),
            None => {
                Err("a schedule's path is schedules/CONNECTOR/TENANT.yaml, a window's windows/NAME.yaml".to_owned())
            }
        };
        match id {
            Err(message) => snapshot.invalid.push(Diagnostic::whole_file(path, "misplaced", message)),
            Ok(id) => {
                let parsed = parse(&id, text.as_bytes(), &defaults);
                let digest = Digest::of(text.as_bytes());
                let found = match parsed.spec {
                    Some(spec) => Found::Valid(Box::new(super::reading::Valid {
                        spec,
                        digest,
                        basis: defaults.basis(id.connector, digest),
                        content: text.into_bytes(),
                        stamp: 0,
                        changed: 0,
                    })),
                    None => Found::Invalid { digest: None, diagnostics: parsed.diagnostics },
                };
                snapshot.readings.push(Reading { id, found });
            }
        }
    }
    snapshot
}

async fn compare(
    store: &SharedStore,
    snapshot: Snapshot,
    foreign: &HashSet<ScheduleId>,
    recent: usize,
    policy: GuardPolicy,
    now: Millis,
) -> StoreResult<Outlook> {
    let rows = rows_of(store).await?;
    let fleet = rows.len();
    let files = snapshot.readings.len();
    let Compared { invalid: mut broken, changes: defaults_changes, .. } = snapshot.defaults;
    let mut invalid = snapshot.invalid;
    invalid.append(&mut broken);
    let windows::Compared { invalid: mut broken, changes: windows_changes, before, after } = snapshot.windows;
    let windows_move = !windows_changes.is_empty();
    let has_windows = !(before.is_empty() && after.is_empty());
    let mut change = Change { windows_before: before, windows_after: after, windows_move, ..Change::default() };
    invalid.append(&mut broken);
    let mut moved = HashSet::new();
    let mut steps: Vec<Step> = Vec::new();
    let mut found_ids = HashSet::new();
    for Reading { id, found } in snapshot.readings {
        found_ids.insert(id.clone());
        match found {
            Found::Valid(valid) => {
                let row = rows.get(&id);
                let Some(fleet_row) = row else {
                    change.moves.insert(id.clone(), (None, Some(valid.spec.clone())));
                    steps.extend(plan_valid(&id, *valid, None, None, now).into_iter().flat_map(|p| p.steps));
                    continue;
                };
                if is_settled(fleet_row, &valid.basis) {
                    continue;
                }
                if fleet_row.digest == valid.digest && fleet_row.basis != valid.basis {
                    moved.insert(id.clone());
                }
                let whole = store.schedule(id.clone()).await?;
                let was = whole.as_ref().and_then(|row| row.spec.spec());
                if !was.as_ref().is_some_and(|was| fire_alike(was, &valid.spec, has_windows)) {
                    change.moves.insert(id.clone(), (was, Some(valid.spec.clone())));
                }
                let plan = plan_valid(&id, *valid, Some(&glance(fleet_row)), whole.as_ref(), now);
                steps.extend(plan.into_iter().flat_map(|plan| plan.steps));
            }
            Found::Invalid { diagnostics, .. } => {
                invalid.extend(diagnostics.into_iter().filter(|found| found.severity == Severity::Error));
            }
            Found::Absent => {}
        }
    }
    if snapshot.complete {
        for id in rows.keys().filter(|id| !found_ids.contains(*id)) {
            let spec = store.schedule(id.clone()).await?.and_then(|row| row.spec.spec());
            let action = if foreign.contains(id) { Action::Repair(Facet::Row) } else { Action::Delete };
            steps.push(Step { id: id.clone(), action, diff: diff(spec.as_ref(), None), held: None });
            change.moves.insert(id.clone(), (spec, None));
        }
    }
    plan::guard(&mut steps, Blast { fleet, files, recent, confirmed: false }, policy);
    Ok(Outlook {
        plan: Plan::new(steps),
        invalid,
        defaults: defaults_changes,
        windows: windows_changes,
        moved,
        change,
        fleet,
        warnings: Vec::new(),
    })
}

/// What a directory would change, and what is to be said with it.
struct Outlook {
    plan: Plan,
    invalid: Vec<Diagnostic>,
    defaults: Vec<DefaultsChange>,
    windows: Vec<WindowChange>,
    /// Schedules that change because defaults do.
    moved: HashSet<ScheduleId>,
    change: Change,
    fleet: usize,
    warnings: Vec<String>,
}

impl Outlook {
    /// Finds out whether the change makes any minute much busier.
    async fn look_ahead(&mut self, store: &SharedStore, now: Millis) -> StoreResult<()> {
        self.warnings = warn(store, std::mem::take(&mut self.change), self.fleet, now).await?;
        Ok(())
    }

    fn answer(self) -> DiffAnswer {
        let Outlook { plan, invalid, defaults, windows, moved, warnings, .. } = self;
        let text = match invalid.len() {
            unclear if unclear > 0 && plan.is_empty() => {
                format!("No changes among the valid files; {unclear} findings keep the others from being compared.\n")
            }
            _ => {
                let digest = if plan.is_empty() { String::new() } else { format!("Digest: {}\n", plan.digest()) };
                let only_windows = plan.is_empty() && !windows.is_empty();
                let steps = if only_windows { String::new() } else { render_text(&plan) };
                let warnings: String = warnings.iter().map(|warning| format!("! {warning}\n")).collect();
                told_of_files(&defaults, &windows) + &steps + &warnings + &digest
            }
        };
        let because = |step: &Step| moved.contains(&step.id).then(|| governing(&defaults, step.id.connector));
        DiffAnswer {
            ok: invalid.is_empty(),
            digest: plan.digest(),
            changes: plan.steps.iter().map(|step| ChangeView { because: because(step), ..step.view() }).collect(),
            text,
            markdown: listed_files(&defaults, &windows) + &render_markdown(&plan) + &quoted(&warnings),
            defaults,
            windows,
            warnings,
            invalid,
        }
    }
}

async fn rows_of(store: &SharedStore) -> StoreResult<BTreeMap<ScheduleId, FleetRow>> {
    let mut rows = BTreeMap::new();
    let mut batches = store.fleet();
    while let Some(batch) = batches.recv().await {
        for row in batch? {
            if let Ok(tenant) = row.tenant.parse() {
                rows.insert(ScheduleId::new(row.connector, tenant), row);
            }
        }
    }
    Ok(rows)
}

/// The changed files of defaults that speak for a connector.
fn governing(changes: &[DefaultsChange], connector: Connector) -> String {
    let files = changes.iter().map(|change| change.file.as_str());
    let governing = files.filter(|path| DefaultsFile::at(path).is_some_and(|file| file.governs(connector)));
    governing.collect::<Vec<_>>().join(", ")
}

/// Files beside the schedules' that change: path, action, kind and fields.
fn beside<'a>(
    defaults: &'a [DefaultsChange],
    windows: &'a [WindowChange],
) -> impl Iterator<Item = (&'a str, &'a str, &'static str, &'a [FieldChange])> {
    let defaults = defaults.iter().map(|c| (c.file.as_str(), c.action.as_str(), "defaults", c.diff.as_slice()));
    defaults.chain(windows.iter().map(|c| (c.file.as_str(), c.action.as_str(), "window", c.diff.as_slice())))
}

/// As a list for a review comment.
fn listed_files(defaults: &[DefaultsChange], windows: &[WindowChange]) -> String {
    let mut text = String::new();
    for (file, action, kind, diff) in beside(defaults, windows) {
        text.push_str(&format!("- `{file}`: {action} {kind}\n"));
        for field in diff {
            text.push_str(&format!("  - `{}`: `{}` → `{}`\n", field.field, field.from, field.to));
        }
    }
    if text.is_empty() { text } else { text + "\n" }
}

fn quoted(warnings: &[String]) -> String {
    warnings.iter().map(|warning| format!("\n> **Warning:** {warning}\n")).collect()
}

/// One line a value, before the plan they lead to.
fn told_of_files(defaults: &[DefaultsChange], windows: &[WindowChange]) -> String {
    let mut text = String::new();
    for (file, action, kind, diff) in beside(defaults, windows) {
        let sign = match action {
            "create" => '+',
            "delete" => '-',
            _ => '~',
        };
        text.push_str(&format!("{sign} {file} ({action} {kind})\n"));
        for field in diff {
            text.push_str(&format!("    {sign} {} = {} -> {}\n", field.field, field.from, field.to));
        }
    }
    text
}

/// The row is what was applied from exactly this file over these defaults.
fn is_settled(row: &FleetRow, basis: &Digest) -> bool {
    row.basis == *basis && row.actual == row.applied
}

/// A row as the fleet in memory would show it.
fn glance(row: &FleetRow) -> Glance {
    Glance {
        slot: 0,
        row: row.row,
        stamp: row.stamp,
        content: fingerprint(row.basis),
        applied: row.applied,
        paused: is_asleep(row.paused, row.pause_until, row.next_due),
        running: false,
        interval_sec: row.interval_sec,
        next_due: row.next_due,
        wake: None,
        sync: Sync::Synced,
    }
}
