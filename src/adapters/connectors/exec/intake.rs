//! Makes records, states and counts of a program's lines.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::failure;
use crate::adapters::connectors::{ErrorClass, ImportContext, ImportFailure, Page, Record};
use crate::core::model::{ImportStats, Protocol, Resource};
use crate::core::singer::{Batch, Fault, Reader, is_message, resource_of};

/// A state is not held back longer than this for more records to go with it.
const STATE_AT_LEAST_EVERY: Duration = Duration::from_secs(5);

/// The counts that a program gives of itself.
#[derive(Deserialize)]
struct Counts {
    imported: Option<u64>,
    updated: Option<u64>,
    skipped: Option<u64>,
    failed: Option<u64>,
}

pub(super) struct Intake<'a> {
    context: &'a ImportContext,
    /// The program's name: a state is for the tap that wrote it.
    tap: &'a str,
    protocol: Protocol,
    reader: Reader,
    resources: HashMap<String, Resource>,
    /// The last line that was not blank, where it may be one of counts.
    last: Option<Vec<u8>>,
    stats: ImportStats,
    written: Instant,
}

impl<'a> Intake<'a> {
    pub fn new(context: &'a ImportContext, tap: &'a str, protocol: Protocol) -> Self {
        Intake {
            context,
            tap,
            protocol,
            reader: Reader::default(),
            resources: HashMap::new(),
            last: None,
            stats: ImportStats::default(),
            written: Instant::now(),
        }
    }

    /// What was stored, whether or not the import ended well.
    pub fn stats(&self) -> ImportStats {
        self.stats
    }

    pub async fn take(&mut self, line: Vec<u8>) -> Result<(), ImportFailure> {
        if self.protocol == Protocol::Auto && is_message(&line) {
            self.protocol = Protocol::Singer;
        }
        if self.protocol != Protocol::Singer {
            self.reader.pass_over();
            if !line.iter().all(u8::is_ascii_whitespace) {
                self.last = Some(line);
            }
            return Ok(());
        }
        self.reader.read(&line).map_err(|fault| bad_response(&fault))?;
        let waited = self.reader.has_state() && self.written.elapsed() >= STATE_AT_LEAST_EVERY;
        if self.reader.is_full() || waited {
            self.write().await?;
        }
        Ok(())
    }

    /// Stores what is left of a Singer tap's records, however it ended: each state among them speaks only
    /// for records before it.
    pub async fn write(&mut self) -> Result<(), ImportFailure> {
        let batch = self.reader.take();
        self.written = Instant::now();
        if batch.is_empty() {
            return Ok(());
        }
        let pages = self.pages(batch)?;
        let stats = self.context.sink.write_pages(pages).await;
        self.stats += stats.map_err(|error| failure(ErrorClass::Store, error.to_string()))?;
        Ok(())
    }

    /// Takes the counts that a program of the other kind ended with.
    pub fn count(&mut self) -> Result<(), ImportFailure> {
        if self.protocol == Protocol::Singer {
            return Ok(());
        }
        let counts = self.last.as_deref().and_then(|line| serde_json::from_slice::<Counts>(line).ok());
        let given = counts.filter(|c| [c.imported, c.updated, c.skipped, c.failed].iter().any(Option::is_some));
        let Some(counts) = given else {
            let kinds = if self.protocol == Protocol::Stats { "no" } else { "neither Singer messages nor" };
            let message = format!(
                "{} wrote {kinds} stats: its last line has to be like {{\"imported\": 3, \"updated\": 1}}, in whole numbers",
                self.tap
            );
            return Err(failure(ErrorClass::BadResponse, message));
        };
        self.stats = ImportStats {
            imported: counts.imported.unwrap_or_default(),
            updated: counts.updated.unwrap_or_default(),
            skipped: counts.skipped.unwrap_or_default(),
            failed: counts.failed.unwrap_or_default(),
        };
        Ok(())
    }

    /// A page for each stream, and the state behind them all.
    fn pages(&mut self, batch: Batch) -> Result<Vec<Page>, ImportFailure> {
        let mut streams: BTreeMap<String, Vec<Record>> = BTreeMap::new();
        for record in batch.records {
            let record_of = Record { key: record.key, payload: record.payload };
            streams.entry(record.stream).or_default().push(record_of);
        }
        let mut pages = Vec::with_capacity(streams.len() + 1);
        for (stream, records) in streams {
            pages.push(Page { resource: self.resource(stream)?, records, bookmark: None });
        }
        pages.extend(batch.state.map(|state| Page {
            resource: Resource::SINGER_STATE,
            records: Vec::new(),
            bookmark: Some(kept(self.tap, state)),
        }));
        Ok(pages)
    }

    fn resource(&mut self, stream: String) -> Result<Resource, ImportFailure> {
        if let Some(resource) = self.resources.get(&stream) {
            return Ok(resource.clone());
        }
        let resource = resource_of(&stream);
        if let Some((other, _)) = self.resources.iter().find(|(_, taken)| **taken == resource) {
            let message =
                format!("the streams {other:?} and {stream:?} would both be stored as {resource}: rename one");
            return Err(failure(ErrorClass::BadResponse, message));
        }
        self.resources.insert(stream, resource.clone());
        Ok(resource)
    }
}

fn bad_response(fault: &Fault) -> ImportFailure {
    failure(ErrorClass::BadResponse, fault.to_string())
}

fn kept(tap: &str, state: Value) -> Value {
    json!({ "tap": tap, "state": state })
}

/// The state that this tap has left, if it has.
pub(super) fn state_of(bookmark: Option<Value>, tap: &str) -> Option<Value> {
    let mut kept = bookmark?;
    let same = kept.get("tap").and_then(Value::as_str) == Some(tap);
    let state = kept.get_mut("state").map(Value::take);
    state.filter(|_| same)
}
