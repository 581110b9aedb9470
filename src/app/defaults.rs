//! Defaults over time: what their files said when they were last good, which schedules a change of
//! theirs moves, and what is then said of why.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, MutexGuard, PoisonError};

use serde_json::{Value, json};

use super::App;
use super::apply::{Planned, diff_value, draft, file_edit, new_action_id};
use super::blocking::blocking;
use super::error::AppError;
use super::origins::Origin;
use super::pass::SECOND_SCAN_MS;
use super::views::{DefaultsChange, OriginView};
use crate::adapters::source::{FileStat, Files, Listing, ReadResult, SourceError};
use crate::adapters::store::ScheduleRow;
use crate::core::audit::{Draft, operation};
use crate::core::desired::{self, Defaults, DefaultsFile, Diagnostic, Layer, Origins, parse_defaults};
use crate::core::model::{Caller, Connector, Digest, Millis, ScheduleId, ScheduleSpec};
use crate::core::plan::{FieldChange, diff};

/// What is remembered of the defaults between passes.
#[derive(Default)]
pub(super) struct State {
    current: Arc<Defaults>,
    good: BTreeMap<DefaultsFile, Good>,
    /// The contents that the last pass saw, broken ones too.
    seen: BTreeMap<DefaultsFile, Option<Digest>>,
    /// Files that were gone in a complete scan, and since when.
    missing: BTreeMap<DefaultsFile, Millis>,
    /// Connectors whose schedules have not all been compared since their defaults changed.
    moved: BTreeSet<Connector>,
    causes: BTreeMap<Connector, Cause>,
}

/// A file's last good version.
#[derive(Clone)]
struct Good {
    digest: Digest,
    layer: Layer,
}

/// The change that last moved a connector's schedules.
#[derive(Clone)]
struct Cause {
    because: String,
    action_id: String,
    caller: Caller,
    commit: Option<String>,
}

/// What an audit entry's metadata calls the defaults that caused it.
pub(super) const BECAUSE: &str = "because";

/// A good version that is to be taken up, or `None` for a file that is gone.
struct News {
    file: DefaultsFile,
    version: Option<(Vec<u8>, Layer)>,
    origin: Origin,
}

impl App {
    /// What applies now.
    pub(super) fn defaults(&self) -> Arc<Defaults> {
        self.defaults_state().current.clone()
    }

    fn defaults_state(&self) -> MutexGuard<'_, State> {
        self.defaults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last good versions, as the store kept them.
    pub(super) async fn load_defaults(&self) -> Result<(), AppError> {
        let mut good = BTreeMap::new();
        for (path, content) in self.store.defaults().await? {
            let layer = DefaultsFile::at(&path).and_then(|file| parse_defaults(file, &content).layer);
            good.extend(layer.map(|layer| (layer.file, Good { digest: Digest::of(&content), layer })));
        }
        let mut state = self.defaults_state();
        state.current = Arc::new(combined(&good));
        state.good = good;
        Ok(())
    }

    /// Takes up what the files say now. Of a broken one the last good version goes on; one that is
    /// gone has to be gone from two complete scans. The caller holds the gate alone.
    pub(super) async fn take_up_defaults(&self, listing: &Listing) -> Result<(), AppError> {
        let is_told = |path: &str| listing.problems.iter().any(|(known, _)| path.starts_with(known));
        let read = self.read_defaults().await;
        let now = self.clock.now();
        let mut news: Vec<News> = Vec::new();
        for (file, read) in read {
            let content = read.as_ref().ok().and_then(|found| found.as_ref());
            let digest = content.map(|(_, content)| Digest::of(content));
            {
                let mut state = self.defaults_state();
                state.seen.insert(file, digest);
                if !matches!(read, Ok(None)) {
                    state.missing.remove(&file);
                }
            }
            match read {
                Ok(Some((stat, content))) => news.extend(self.judge_defaults(file, &stat, content).await?),
                Ok(None) if listing.complete && self.are_gone(file, now) => {
                    self.forget_defaults_problem(file).await?;
                    if self.defaults_state().good.contains_key(&file) {
                        news.push(News { file, version: None, origin: self.origin_of(&file.path(), None) });
                    }
                }
                Ok(None) | Err(SourceError::RootMissing { .. }) => {}
                // The folder around it cannot be read, and that is told.
                Err(_) if is_told(&file.path()) => {}
                Err(error) => {
                    let finding = Diagnostic::whole_file(file.path(), "unreadable", error.to_string());
                    self.record_problem(None, file.path(), None, vec![finding]).await?;
                }
            }
        }
        self.adopt(news).await
    }

    async fn read_defaults(&self) -> Vec<(DefaultsFile, ReadResult)> {
        let source = self.source.clone();
        blocking(move || read_each(&*source)).await.unwrap_or_default()
    }

    /// Whether a file of defaults says something else than the last pass saw: then a schedule's own
    /// file alone does not tell what is desired.
    pub(super) async fn has_new_defaults(&self) -> bool {
        let read = self.read_defaults().await;
        let state = self.defaults_state();
        read.into_iter().any(|(file, read)| {
            let digest = read.ok().flatten().map(|(_, content)| Digest::of(&content));
            state.seen.get(&file).copied().flatten() != digest
        })
    }

    /// Names the contents that the last pass saw; nothing where there are none.
    pub(super) fn seen_defaults(&self) -> String {
        let state = self.defaults_state();
        let seen = state.seen.iter().filter_map(|(file, digest)| Some((file, (*digest)?)));
        seen.map(|(file, digest)| format!(":{}={}", file.path(), digest.to_hex())).collect()
    }

    /// A content that is there: nothing new, something to take up, or a problem.
    async fn judge_defaults(
        &self,
        file: DefaultsFile,
        stat: &FileStat,
        content: Vec<u8>,
    ) -> Result<Option<News>, AppError> {
        let digest = Digest::of(&content);
        let is_known = self.defaults_state().good.get(&file).is_some_and(|good| good.digest == digest);
        if is_known {
            self.forget_defaults_problem(file).await?;
            return Ok(None);
        }
        let parsed = parse_defaults(file, &content);
        let Some(layer) = parsed.layer else {
            self.record_problem(None, file.path(), Some(digest), parsed.diagnostics).await?;
            return Ok(None);
        };
        self.forget_defaults_problem(file).await?;
        let origin = self.origin_of(&file.path(), Some(stat));
        Ok(Some(News { file, version: Some((content, layer)), origin }))
    }

    async fn forget_defaults_problem(&self, file: DefaultsFile) -> Result<(), AppError> {
        let is_known = self.state().problems.contains_key(&file.path());
        if is_known { self.forget_problem(None, file.path()).await } else { Ok(()) }
    }

    /// Whether a file that was not found may be believed to be gone. One that was never good is.
    fn are_gone(&self, file: DefaultsFile, now: Millis) -> bool {
        let mut state = self.defaults_state();
        if !state.good.contains_key(&file) {
            return true;
        }
        let since = *state.missing.entry(file).or_insert(now);
        now - since >= SECOND_SCAN_MS
    }

    /// Whether the end of some defaults waits only for the second scan.
    pub(super) fn misses_defaults(&self) -> bool {
        !self.defaults_state().missing.is_empty()
    }

    /// Makes the new versions durable, then those that apply.
    async fn adopt(&self, news: Vec<News>) -> Result<(), AppError> {
        if news.is_empty() {
            return Ok(());
        }
        let before = self.defaults_state().good.clone();
        let action_id = new_action_id();
        let mut good = before.clone();
        for News { file, version, origin } in &news {
            let was = before.get(file).map(|good| &good.layer);
            let drafts = entry_of(*file, was, version.as_ref().map(|(_, layer)| layer), origin, &action_id);
            let content = version.as_ref().map(|(content, _)| content.clone());
            for _ in &drafts {
                self.metrics.event(operation::DEFAULTS_CHANGED, "info");
            }
            self.store.put_defaults(file.path(), content, drafts, self.clock.now()).await?;
            match version {
                Some((content, layer)) => {
                    let version = Good { digest: Digest::of(content), layer: layer.clone() };
                    good.insert(*file, version);
                }
                None => drop(good.remove(file)),
            }
        }
        let next = combined(&good);
        let mut state = self.defaults_state();
        let current = state.current.clone();
        for connector in Connector::ALL.into_iter().filter(|c| next.digest(*c) != current.digest(*c)) {
            let governing = || news.iter().filter(|news| news.file.governs(connector));
            let because = paths(governing().map(|news| news.file));
            let origin = governing().next_back().map(|news| &news.origin);
            let caller = origin.map_or_else(file_edit, |origin| origin.caller.clone());
            let commit = origin.and_then(|origin| origin.commit.clone());
            state.moved.insert(connector);
            state.causes.insert(connector, Cause { because, action_id: action_id.clone(), caller, commit });
        }
        state.missing.retain(|file, _| good.contains_key(file));
        state.good = good;
        state.current = Arc::new(next);
        Ok(())
    }

    /// Connectors whose schedules all have to be compared, whatever their files' stats.
    pub(super) fn moved_by_defaults(&self) -> BTreeSet<Connector> {
        self.defaults_state().moved.clone()
    }

    /// All of them have been compared: what is not as it should be is marked so itself.
    pub(super) fn defaults_are_settled(&self) {
        self.defaults_state().moved.clear();
    }

    /// The plan for a schedule whose own file stays, in the name of who changed its defaults.
    pub(super) fn by_defaults(&self, mut planned: Planned) -> Planned {
        let connector = planned.id.connector;
        let state = self.defaults_state();
        let because = match state.causes.get(&connector) {
            Some(cause) => {
                planned.action_id.clone_from(&cause.action_id);
                planned.caller = cause.caller.clone();
                planned.notes.extend(cause.commit.clone().map(|commit| ("commit", commit.into())));
                cause.because.clone()
            }
            // The change itself was seen by an earlier process.
            None => {
                let governing = DefaultsFile::all().filter(|file| file.governs(connector));
                paths(governing.filter(|file| state.good.contains_key(file)))
            }
        };
        planned.notes.push((BECAUSE, because.into()));
        planned
    }

    /// Where each effective value of a schedule comes from. What the defaults at hand do not account
    /// for is of an earlier version of them.
    pub(super) fn origins_of(&self, id: &ScheduleId, row: &ScheduleRow) -> BTreeMap<String, OriginView> {
        let defaults = self.defaults();
        let spec = row.spec.spec().unwrap_or_default();
        let origins = Origins::of(id, &row.content, &defaults);
        let explained = desired::parse(id, &row.content, &defaults).spec;
        let explained = fields_of(explained.as_ref());
        fields_of(Some(&spec))
            .into_iter()
            .map(|(field, value)| {
                let is_explained = explained.get(&field) == Some(&value);
                let (from, line) = match origins.origin(&field) {
                    _ if !is_explained => ("last applied".to_owned(), None),
                    desired::Origin::File(line) => ("file".to_owned(), Some(line)),
                    desired::Origin::Defaults(file, line) => (file.path(), Some(line)),
                    desired::Origin::BuiltIn => ("built-in".to_owned(), None),
                };
                (field, OriginView { value, from, line })
            })
            .collect()
    }
}

/// Every file of defaults as it is read now.
pub(super) fn read_each(source: &dyn Files) -> Vec<(DefaultsFile, ReadResult)> {
    DefaultsFile::all().map(|file| (file, source.read_defaults(file))).collect()
}

fn combined(good: &BTreeMap<DefaultsFile, Good>) -> Defaults {
    Defaults::new(good.values().map(|good| good.layer.clone()).collect())
}

fn paths(files: impl Iterator<Item = DefaultsFile>) -> String {
    files.map(DefaultsFile::path).collect::<Vec<_>>().join(", ")
}

/// The audit's entry for a change of a file's values; none for one of its comments.
fn entry_of(
    file: DefaultsFile,
    from: Option<&Layer>,
    to: Option<&Layer>,
    origin: &Origin,
    action_id: &str,
) -> Vec<Draft> {
    let diff = layer_diff(from, to);
    if diff.is_empty() && from.is_some() == to.is_some() {
        return Vec::new();
    }
    let mut detail = json!({"file": file.path(), "diff": diff_value(&diff)});
    if let Some(commit) = &origin.commit {
        detail["commit"] = commit.as_str().into();
    }
    vec![draft(None, operation::DEFAULTS_CHANGED, &origin.caller, action_id, detail)]
}

/// The difference of two versions of one file, field by field.
fn layer_diff(from: Option<&Layer>, to: Option<&Layer>) -> Vec<FieldChange> {
    let fields = |layer: Option<&Layer>| layer.map(Layer::fields).unwrap_or_default();
    let (before, after) = (fields(from), fields(to));
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let value = |side: &BTreeMap<String, Value>, name: &str| side.get(name).cloned().unwrap_or(Value::Null);
    names
        .into_iter()
        .filter(|name| before.get(*name) != after.get(*name))
        .map(|name| FieldChange { field: name.clone(), from: value(&before, name), to: value(&after, name) })
        .collect()
}

/// An effective value's fields by dotted name.
fn fields_of(spec: Option<&ScheduleSpec>) -> BTreeMap<String, Value> {
    diff(None, spec).into_iter().map(|change| (change.field, change.to)).collect()
}

/// Another directory's files of defaults beside those that apply: what they come to, what is wrong
/// with them, and what they change. Of a broken one the last good version is used.
#[derive(Default)]
pub(super) struct Compared {
    pub defaults: Arc<Defaults>,
    pub invalid: Vec<Diagnostic>,
    pub changes: Vec<DefaultsChange>,
}

/// What a file of defaults holds, `None` where there is none, or why it cannot be read.
pub(super) type DefaultsFound = (DefaultsFile, Result<Option<Vec<u8>>, String>);

/// `kept` are the last good contents by path.
pub(super) fn compare(found: Vec<DefaultsFound>, kept: &[(String, Vec<u8>)]) -> Compared {
    let mut compared = Compared::default();
    let mut layers = Vec::new();
    for (file, content) in found {
        let path = file.path();
        let last = kept.iter().find(|(known, _)| *known == path);
        let last = last.and_then(|(_, content)| parse_defaults(file, content).layer);
        let layer = match content {
            Ok(None) => None,
            Ok(Some(content)) => {
                let parsed = parse_defaults(file, &content);
                let is_broken = parsed.layer.is_none();
                compared.invalid.extend(parsed.diagnostics.into_iter().filter(|_| is_broken));
                if is_broken { last.clone() } else { parsed.layer }
            }
            Err(message) => {
                compared.invalid.push(Diagnostic::whole_file(path.clone(), "unreadable", message));
                last.clone()
            }
        };
        let diff = layer_diff(last.as_ref(), layer.as_ref());
        let action = match (&last, &layer) {
            (None, Some(_)) => Some("create"),
            (Some(_), None) => Some("delete"),
            _ => (!diff.is_empty()).then_some("update"),
        };
        compared.changes.extend(action.map(|action| DefaultsChange { file: path, action: action.to_owned(), diff }));
        layers.extend(layer);
    }
    compared.defaults = Arc::new(Defaults::new(layers));
    compared
}
