//! What could be written: out of the former system's file, a running server, or a store.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::super::client::{Client, Request, route};
use super::super::{CliError, Global, out, store_path};
use super::{ImportArgs, Warning};
use crate::app::stored_fleet;
use crate::app::views::ScheduleView;
use crate::core::desired::{DefaultsFile, new_document};
use crate::core::legacy;
use crate::core::model::{Connector, ScheduleId, ScheduleSpec, Tenant};

/// All that could be written.
#[derive(Default)]
pub(super) struct Candidates {
    pub schedules: Vec<Candidate>,
    /// Last good files of defaults below the schedules.
    pub defaults: Vec<(DefaultsFile, Vec<u8>)>,
}

/// One schedule that could become a file.
pub(super) struct Candidate {
    /// Why it can be no file, if so.
    pub id: Result<ScheduleId, String>,
    pub file: String,
    /// Why there is nothing to write, if so.
    pub content: Result<Vec<u8>, String>,
    /// What runs, where that is known.
    pub means: Option<ScheduleSpec>,
    pub warnings: Vec<Warning>,
}

pub(super) async fn collect(args: &ImportArgs, global: &Global) -> Result<Candidates, CliError> {
    if let Some(from) = &args.from {
        return from_file(from, args.connector.unwrap_or(Connector::Acculynx));
    }
    let wanted = |connector: Connector| args.connector.is_none_or(|only| only == connector);
    let connectors: Vec<Connector> = Connector::ALL.into_iter().filter(|connector| wanted(*connector)).collect();
    if let Some(dsn) = &args.dsn {
        return from_store(dsn, &connectors).await;
    }
    match from_server(&global.client()?, &connectors).await {
        Err(CliError::Client(error)) if error.is_unreachable() => {
            let dsn = store_path();
            if !dsn.exists() {
                return Err(error.into());
            }
            out::note(&format!("{error}; reading the store {}", dsn.display()));
            from_store(&dsn, &connectors).await
        }
        found => found,
    }
}

fn from_file(path: &Path, connector: Connector) -> Result<Candidates, CliError> {
    let text = std::fs::read_to_string(path).map_err(CliError::read(path))?;
    let found = legacy::read(&text).map_err(|why| {
        let hint = "see `command-center import --help`";
        CliError::usage(format!("{} is no schedules file of the former system: {why}", path.display()), hint)
    })?;
    let candidate = |found: legacy::Legacy| Candidate {
        file: format!("schedules/{connector}/{}.yaml", found.tenant),
        id: match found.tenant.parse::<Tenant>() {
            Ok(tenant) => Ok(ScheduleId::new(connector, tenant)),
            Err(rule) => Err(format!("{rule}; rename the tenant in {}", path.display())),
        },
        content: found.document.map(|document| new_document(&document)),
        means: None,
        warnings: found.warnings.into_iter().map(|(field, message)| Warning { field, message }).collect(),
    };
    Ok(Candidates { schedules: found.into_iter().map(candidate).collect(), defaults: Vec::new() })
}

async fn from_store(dsn: &Path, connectors: &[Connector]) -> Result<Candidates, CliError> {
    if !dsn.exists() {
        let message = format!("there is no database {}", dsn.display());
        return Err(CliError::usage(message, "name it with --dsn, or start a server with `command-center serve`"));
    }
    let fleet = stored_fleet(dsn).await?;
    let mut candidates = Candidates { defaults: fleet.defaults, ..Candidates::default() };
    candidates.defaults.retain(|(file, _)| connectors.iter().any(|connector| file.governs(*connector)));
    for stored in fleet.schedules.into_iter().filter(|stored| connectors.contains(&stored.id.connector)) {
        let fresh = || new_document(&document_of(&stored.spec, stored.id.connector));
        candidates.schedules.push(live(stored.id.clone(), stored.content.unwrap_or_else(fresh), stored.spec.clone()));
    }
    candidates.schedules.sort_by(|a, b| a.file.cmp(&b.file));
    Ok(candidates)
}

fn live(id: ScheduleId, content: Vec<u8>, means: ScheduleSpec) -> Candidate {
    Candidate { file: id.file(), id: Ok(id), content: Ok(content), means: Some(means), warnings: Vec::new() }
}

/// An effective value as a person would write it: without what is so anyway.
fn document_of(spec: &ScheduleSpec, connector: Connector) -> Map<String, Value> {
    let mut document = match serde_json::to_value(spec) {
        Ok(Value::Object(document)) => document,
        _ => Map::new(),
    };
    if spec.resources == connector.default_resources() {
        document.remove("resources");
    }
    if spec.timezone.as_deref() == Some("UTC") {
        document.remove("timezone");
    }
    document
}

#[derive(Deserialize)]
struct StatusAnswer {
    schedules: BTreeMap<String, Value>,
}

async fn from_server(client: &Client, connectors: &[Connector]) -> Result<Candidates, CliError> {
    let mut candidates = Candidates::default();
    for connector in connectors {
        let request = Request::get(route(*connector, "schedule/status"));
        let (answer, _): (StatusAnswer, _) = client.ask(request).await?;
        let bar = out::bar(answer.schedules.len());
        for tenant in answer.schedules.keys() {
            bar.inc(1);
            let Ok(tenant) = tenant.parse::<Tenant>() else { continue };
            let request = Request::get(route(*connector, "schedule")).tenant(&tenant);
            let (view, _): (ScheduleView, _) = client.ask(request).await?;
            let document = match &view.written {
                // What its defaults give may be nowhere else than there, so that it is written out.
                Value::Object(written) if view.origin.values().all(|origin| is_own(&origin.from)) => written.clone(),
                _ => document_of(&view.effective, *connector),
            };
            let id = ScheduleId::new(*connector, tenant);
            candidates.schedules.push(live(id, new_document(&document), view.effective));
        }
        bar.finish_and_clear();
    }
    Ok(candidates)
}

fn is_own(from: &str) -> bool {
    matches!(from, "file" | "built-in")
}
