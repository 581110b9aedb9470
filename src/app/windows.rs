//! Maintenance windows over time: what their files said when they were last good, whom they keep
//! from starting, and what is shown of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, MutexGuard, PoisonError};

use serde_json::{Map, Value, json};

use super::App;
use super::apply::{diff_value, draft, new_action_id};
use super::blocking::blocking;
use super::error::AppError;
use super::origins::Origin;
use super::pass::SECOND_SCAN_MS;
use super::views::{WindowChange, WindowStretch, WindowView, WindowsAnswer};
use crate::adapters::source::{FileStat, Files, Listing, ReadResult};
use crate::adapters::store::SpecQuery;
use crate::core::audit::{Draft, operation};
use crate::core::desired::{Diagnostic, parse_window, window_file, window_name};
use crate::core::fleet::{Fleet, Slot};
use crate::core::model::{Connector, Digest, Millis, ScheduleId};
use crate::core::plan::FieldChange;
use crate::core::timing::iso;
use crate::core::windows::{Open, Window, WindowSpec, Windows};

/// What is remembered of the windows between passes.
#[derive(Default)]
pub(super) struct State {
    current: Arc<Windows>,
    good: BTreeMap<String, Good>,
    /// The contents that the last pass saw, broken ones too.
    seen: BTreeMap<String, Digest>,
    /// Files that were gone in a complete scan, and since when.
    missing: BTreeMap<String, Millis>,
}

/// A file's last good version.
#[derive(Clone)]
struct Good {
    digest: Digest,
    spec: WindowSpec,
}

/// A good version that is to be taken up, or `None` for a file that is gone.
struct News {
    name: String,
    version: Option<(Vec<u8>, WindowSpec)>,
    origin: Origin,
}

/// How many of a window's next occurrences are shown.
const SHOWN: usize = 3;

impl App {
    /// Those in force.
    pub(super) fn windows(&self) -> Arc<Windows> {
        self.windows_state().current.clone()
    }

    fn windows_state(&self) -> MutexGuard<'_, State> {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last good versions, as the store kept them.
    pub(super) async fn load_windows(&self) -> Result<(), AppError> {
        let mut good = BTreeMap::new();
        for (path, content) in self.store.defaults().await? {
            let Some(name) = window_name(&path) else { continue };
            let spec = parse_window(name, &content).spec;
            good.extend(spec.map(|spec| (name.to_owned(), Good { digest: Digest::of(&content), spec })));
        }
        let mut state = self.windows_state();
        state.current = Arc::new(in_force(&good));
        state.good = good;
        Ok(())
    }

    /// Takes up what the files say now, as with defaults: of a broken one the last good version goes
    /// on, and one that is gone has to be gone from two complete scans. The caller holds the gate alone.
    pub(super) async fn take_up_windows(&self, listing: &Listing) -> Result<(), AppError> {
        let source = self.source.clone();
        let names = listing.windows.clone();
        let read: Vec<(String, ReadResult)> = blocking(move || read_all(&*source, names)).await.unwrap_or_default();
        let now = self.clock.now();
        let mut news: Vec<News> = Vec::new();
        let mut found = BTreeSet::new();
        for (name, read) in read {
            match read {
                // Removed since it was listed: as if the listing had come a moment later.
                Ok(None) => continue,
                Ok(Some((stat, content))) => {
                    self.windows_state().seen.insert(name.clone(), Digest::of(&content));
                    news.extend(self.judge_window(&name, &stat, content).await?);
                }
                Err(error) => {
                    let finding = Diagnostic::whole_file(window_file(&name), "unreadable", error.to_string());
                    self.record_problem(None, window_file(&name), None, vec![finding]).await?;
                }
            }
            found.insert(name);
        }
        for name in self.gone(listing, &found, now) {
            self.forget_window_problem(&name).await?;
            if self.windows_state().good.contains_key(&name) {
                let origin = self.origin_of(&window_file(&name), None);
                news.push(News { name, version: None, origin });
            }
        }
        self.adopt_windows(news).await
    }

    /// A content that is there: nothing new, something to take up, or a problem.
    async fn judge_window(&self, name: &str, stat: &FileStat, content: Vec<u8>) -> Result<Option<News>, AppError> {
        let digest = Digest::of(&content);
        let is_known = self.windows_state().good.get(name).is_some_and(|good| good.digest == digest);
        let parsed = parse_window(name, &content);
        let Some(spec) = parsed.spec else {
            self.record_problem(None, window_file(name), Some(digest), parsed.diagnostics).await?;
            return Ok(None);
        };
        self.forget_window_problem(name).await?;
        if is_known {
            return Ok(None);
        }
        let origin = self.origin_of(&window_file(name), Some(stat));
        Ok(Some(News { name: name.to_owned(), version: Some((content, spec)), origin }))
    }

    async fn forget_window_problem(&self, name: &str) -> Result<(), AppError> {
        let path = window_file(name);
        let is_known = self.state().problems.contains_key(&path);
        if is_known { self.forget_problem(None, path).await } else { Ok(()) }
    }

    /// Windows whose file may be believed to be gone, among those that were good or broken.
    fn gone(&self, listing: &Listing, found: &BTreeSet<String>, now: Millis) -> Vec<String> {
        let broken: Vec<String> =
            self.state().problems.keys().filter_map(|path| window_name(path)).map(str::to_owned).collect();
        let mut state = self.windows_state();
        let State { good, missing, seen, .. } = &mut *state;
        missing.retain(|name, _| !found.contains(name));
        if !listing.complete {
            return Vec::new();
        }
        seen.retain(|name, _| found.contains(name));
        let known: BTreeSet<String> = good.keys().cloned().chain(broken).collect();
        known
            .into_iter()
            .filter(|name| !found.contains(name))
            .filter(|name| {
                // One that never was good takes nothing from anyone by going.
                !good.contains_key(name) || now - *missing.entry(name.clone()).or_insert(now) >= SECOND_SCAN_MS
            })
            .collect()
    }

    /// Whether the end of a window waits only for the second scan.
    pub(super) fn misses_windows(&self) -> bool {
        !self.windows_state().missing.is_empty()
    }

    /// Names the contents that the last pass saw; nothing where there are none.
    pub(super) fn seen_windows(&self) -> String {
        let state = self.windows_state();
        state.seen.iter().map(|(name, digest)| format!(":{}={}", window_file(name), digest.to_hex())).collect()
    }

    /// Makes the new versions durable, then those in force, and has all that waits looked at again.
    async fn adopt_windows(&self, news: Vec<News>) -> Result<(), AppError> {
        if news.is_empty() {
            return Ok(());
        }
        let mut good = self.windows_state().good.clone();
        let action_id = new_action_id();
        for News { name, version, origin } in news {
            let was = good.get(&name).map(|good| &good.spec);
            let drafts = entry_of(&name, was, version.as_ref().map(|(_, spec)| spec), &origin, &action_id);
            for _ in &drafts {
                self.metrics.event(operation::WINDOW_CHANGED, "info");
            }
            let content = version.as_ref().map(|(content, _)| content.clone());
            self.store.put_defaults(window_file(&name), content, drafts, self.clock.now()).await?;
            match version {
                Some((content, spec)) => drop(good.insert(name, Good { digest: Digest::of(&content), spec })),
                None => drop(good.remove(&name)),
            }
        }
        {
            let mut state = self.windows_state();
            state.missing.retain(|name, _| good.contains_key(name));
            state.current = Arc::new(in_force(&good));
            state.good = good;
        }
        self.choose_windows().await
    }

    /// Works out which windows the labels of each schedule choose; reads them only where one asks.
    pub(super) async fn choose_windows(&self) -> Result<(), AppError> {
        let windows = self.windows();
        let mut choices: Vec<(ScheduleId, Box<[u16]>)> = Vec::new();
        if windows.ask_for_labels() {
            let mut rows = self.store.specs(SpecQuery::default());
            while let Some(batch) = rows.recv().await {
                for row in batch? {
                    let labels = row.spec.spec().unwrap_or_default().labels;
                    let chosen = windows.chosen(row.id.connector, &labels);
                    if !chosen.is_empty() {
                        choices.push((row.id, chosen));
                    }
                }
            }
        }
        let mut fleet = self.fleet();
        fleet.unchoose();
        for (id, chosen) in choices {
            if let Some(glance) = fleet.get(id.connector, id.tenant.as_str()) {
                fleet.choose(glance.slot, &chosen);
            }
        }
        fleet.wake_all();
        let earliest = fleet.next_due();
        drop(fleet);
        self.ring_for(earliest);
        Ok(())
    }

    /// When the windows end that keep this schedule from starting at `now`.
    pub(super) fn window_over(&self, id: &ScheduleId, now: Millis) -> Option<Millis> {
        let windows = self.windows();
        if windows.is_empty() {
            return None;
        }
        let chosen = {
            let fleet = self.fleet();
            fleet.get(id.connector, id.tenant.as_str()).map(|glance| fleet.chosen(glance.slot)).unwrap_or_default()
        };
        windows.wait_at(now, id.connector, &chosen).map(|open| open.end)
    }

    /// What `GET /ops/windows` and `windows list` show.
    pub fn windows_view(&self) -> WindowsAnswer {
        let now = self.clock.now();
        let good: Vec<(String, WindowSpec)> =
            self.windows_state().good.iter().map(|(name, good)| (name.clone(), good.spec.clone())).collect();
        let broken: BTreeSet<String> = self.state().problems.keys().cloned().collect();
        let view = |(name, spec): (String, WindowSpec)| {
            let file = window_file(&name);
            let stretches = if spec.enabled { next_stretches(&name, &spec, now) } else { Vec::new() };
            WindowView {
                open: stretches.first().is_some_and(|(begin, _)| *begin <= now),
                next: stretches.iter().map(|(b, e)| WindowStretch { begin_iso: iso(*b), end_iso: iso(*e) }).collect(),
                invalid: broken.contains(&file),
                name,
                file,
                spec,
            }
        };
        WindowsAnswer { ok: true, windows: good.into_iter().map(view).collect() }
    }
}

/// The windows that keep starts back at one moment, worked out once for many schedules.
pub(super) struct Gatekeeper {
    windows: Arc<Windows>,
    open: Vec<Open>,
    now: Millis,
    /// Most schedules share few answers.
    known: HashMap<(Connector, Arc<[u16]>), Option<Open>>,
}

impl Gatekeeper {
    pub fn at(windows: Arc<Windows>, now: Millis) -> Self {
        let open = windows.open_at(now);
        Gatekeeper { windows, open, now, known: HashMap::new() }
    }

    /// Until when the schedule has to wait, if it has to.
    pub fn wait(&mut self, fleet: &Fleet, slot: Slot, connector: Connector) -> Option<Millis> {
        if self.open.is_empty() {
            return None;
        }
        let chosen = fleet.chosen(slot);
        self.windows.longest(&self.open, connector, &chosen)?;
        let (windows, now) = (&self.windows, self.now);
        let known = self.known.entry((connector, chosen));
        known.or_insert_with_key(|(connector, chosen)| windows.wait_at(now, *connector, chosen)).map(|open| open.end)
    }

    /// Whether a window kept the schedule from starting at `at`, a moment that has passed.
    pub fn kept(&self, fleet: &Fleet, slot: Slot, connector: Connector, at: Millis) -> bool {
        let open = if self.windows.is_empty() { Vec::new() } else { self.windows.open_at(at) };
        !open.is_empty() && self.windows.longest(&open, connector, &fleet.chosen(slot)).is_some()
    }
}

fn read_all(source: &dyn Files, names: Vec<String>) -> Vec<(String, ReadResult)> {
    names
        .into_iter()
        .map(|name| {
            let read = source.read_window(&name);
            (name, read)
        })
        .collect()
}

fn in_force(good: &BTreeMap<String, Good>) -> Windows {
    Windows::new(good.iter().filter_map(|(name, good)| Window::new(name, good.spec.clone())))
}

/// The stretch that `now` lies in, if it does, and those that follow.
fn next_stretches(name: &str, spec: &WindowSpec, now: Millis) -> Vec<(Millis, Millis)> {
    let Some(window) = Window::new(name, spec.clone()) else { return Vec::new() };
    let first = window.stretch_at(now).or_else(|| window.next_after(now));
    std::iter::successors(first, |(_, end)| window.next_after(end - 1)).take(SHOWN).collect()
}

/// The audit's entry for a change of a window; none for one of its comments.
fn entry_of(
    name: &str,
    from: Option<&WindowSpec>,
    to: Option<&WindowSpec>,
    origin: &Origin,
    action_id: &str,
) -> Vec<Draft> {
    let diff = window_diff(from, to);
    if diff.is_empty() {
        return Vec::new();
    }
    let mut detail = json!({"file": window_file(name), "window": name, "diff": diff_value(&diff)});
    if let Some(commit) = &origin.commit {
        detail["commit"] = commit.as_str().into();
    }
    vec![draft(None, operation::WINDOW_CHANGED, &origin.caller, action_id, detail)]
}

/// The difference of two versions of one window, field by field.
fn window_diff(from: Option<&WindowSpec>, to: Option<&WindowSpec>) -> Vec<FieldChange> {
    let (before, after) = (fields(from), fields(to));
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let value = |side: &Map<String, Value>, name: &str| side.get(name).cloned().unwrap_or(Value::Null);
    names
        .into_iter()
        .map(|name| FieldChange { field: name.clone(), from: value(&before, name), to: value(&after, name) })
        .filter(|change| change.from != change.to)
        .collect()
}

fn fields(spec: Option<&WindowSpec>) -> Map<String, Value> {
    let Some(Ok(Value::Object(mut fields))) = spec.map(serde_json::to_value) else { return Map::new() };
    fields.entry("enabled").or_insert(true.into());
    if let Some(Value::Object(labels)) = fields.remove("labels") {
        fields.extend(labels.into_iter().map(|(name, value)| (format!("labels.{name}"), value)));
    }
    fields
}

fn windows_of(specs: BTreeMap<String, WindowSpec>) -> Windows {
    Windows::new(specs.into_iter().filter_map(|(name, spec)| Window::new(&name, spec)))
}

/// What a window's file holds, or why it cannot be read; by name.
pub(super) type WindowFound = (String, Result<Vec<u8>, String>);

/// Another directory's windows beside those that were last good here.
#[derive(Default)]
pub(super) struct Compared {
    pub before: Windows,
    pub after: Windows,
    pub invalid: Vec<Diagnostic>,
    pub changes: Vec<WindowChange>,
}

/// `kept` are the last good contents by path; with `complete`, what is not found is gone.
pub(super) fn compare(found: Vec<WindowFound>, kept: &[(String, Vec<u8>)], complete: bool) -> Compared {
    let mut compared = Compared::default();
    let mut before: BTreeMap<String, WindowSpec> = BTreeMap::new();
    for (path, content) in kept {
        let parsed = window_name(path).and_then(|name| Some((name.to_owned(), parse_window(name, content).spec?)));
        before.extend(parsed);
    }
    let mut after = if complete { BTreeMap::new() } else { before.clone() };
    for (name, content) in found {
        let spec = match content {
            Ok(content) => {
                let parsed = parse_window(&name, &content);
                let is_broken = parsed.spec.is_none();
                compared.invalid.extend(parsed.diagnostics.into_iter().filter(|_| is_broken));
                parsed.spec
            }
            Err(message) => {
                compared.invalid.push(Diagnostic::whole_file(window_file(&name), "unreadable", message));
                None
            }
        };
        // Of a broken one the last good version goes on.
        after.extend(spec.or_else(|| before.get(&name).cloned()).map(|spec| (name, spec)));
    }
    for name in before.keys().chain(after.keys()).collect::<BTreeSet<_>>() {
        let (was, is) = (before.get(name), after.get(name));
        let diff = window_diff(was, is);
        let action = match (was, is) {
            (None, _) => "create",
            (_, None) => "delete",
            _ if diff.is_empty() => continue,
            _ => "update",
        };
        compared.changes.push(WindowChange { file: window_file(name), action: action.to_owned(), diff });
    }
    compared.before = windows_of(before);
    compared.after = windows_of(after);
    compared
}
