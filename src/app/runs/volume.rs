//! What a run brought, beside what its schedule usually brings.

use std::sync::PoisonError;

use serde_json::json;

use super::{Flight, Job};
use crate::adapters::connectors::ImportOutcome;
use crate::adapters::store::VolumeNote;
use crate::app::App;
use crate::app::apply::{draft, new_action_id};
use crate::app::sink::StoreSink;
use crate::core::audit::operation;
use crate::core::model::{Caller, Connector, Source};
use crate::core::volume::Volumes;

impl Flight {
    /// Keeps what an attempt read from end to end, if it ended well. A run for some records only reads
    /// nothing whole, and `noop` nothing at all.
    pub(super) fn note_readings(&self, job: &Job, sink: &StoreSink, outcome: &ImportOutcome) {
        let compares = outcome.error.is_none() && job.targets.is_empty() && job.id.connector != Connector::Noop;
        let readings = if compares { sink.readings(outcome.stats) } else { Vec::new() };
        *self.readings.lock().unwrap_or_else(PoisonError::into_inner) = readings;
    }
}

impl App {
    /// What there is to remember of a run's volume; says so where it fell short.
    pub(super) async fn volume_of(&self, job: &Job, flight: &Flight, row: i64) -> Option<Box<VolumeNote>> {
        let readings = std::mem::take(&mut *flight.readings.lock().unwrap_or_else(PoisonError::into_inner));
        if readings.is_empty() {
            return None;
        }
        // A store that cannot be read leaves the run uncompared; its end is what counts.
        let mut volumes = Volumes::parse(&self.store.volumes(row).await.ok()?);
        let short = volumes.note(&readings).map(|short| {
            let mut detail = json!({"run": job.run, "expected": short.expected, "got": short.got});
            if let Some(resource) = &short.resource {
                detail["resource"] = resource.clone().into();
            }
            let scheduler = Caller { source: Source::Scheduler, actor: "scheduler".to_owned() };
            let entry = draft(Some(&job.id), operation::VOLUME_SHORT, &scheduler, &new_action_id(), detail);
            self.metrics.import_short(job.id.connector.as_str());
            self.metrics.event(operation::VOLUME_SHORT, "warning");
            tracing::warn!(component = "acculynx-scheduler", tenant_id = %job.id.tenant, run = job.run,
                "the import of {} ended well but brought {} records{} where it usually brings {}", job.id, short.got,
                short.resource.as_ref().map(|resource| format!(" of {resource}")).unwrap_or_default(), short.expected);
            (short, entry)
        });
        Some(Box::new(VolumeNote { recent: volumes.text(), short }))
    }
}
