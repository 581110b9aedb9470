//! What one import may use: its schedule's row, resolved secrets, the way to the store.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::Job;
use crate::adapters::connectors::{ImportContext, ImportFailure, Secret};
use crate::adapters::secrets::{self, Secrets};
use crate::app::App;
use crate::app::sink::StoreSink;
use crate::core::model::{Connector, ScheduleSpec};
use crate::core::run::ErrorClass;

impl App {
    /// What the import may use, and where its records go; secrets are resolved here, at run time.
    pub(super) async fn import_context(
        &self,
        job: &Job,
        cancel: &CancellationToken,
    ) -> Result<(ImportContext, Arc<StoreSink>), ImportFailure> {
        let configuration = |message: String| ImportFailure::new(ErrorClass::Configuration, message);
        let secrets = Secrets { folder: self.settings.secrets_dir.clone() };
        let nowhere = || (String::new(), Secret(String::new()));
        let (spec, reach) = if job.id.connector == Connector::Noop {
            (ScheduleSpec::default(), nowhere())
        } else {
            let row = self.store.schedule(job.id.clone()).await;
            let row = row.map_err(|e| ImportFailure::new(ErrorClass::Store, e.to_string()))?;
            let spec = row.and_then(|row| row.spec.spec());
            let spec = spec.ok_or_else(|| configuration("the schedule was deleted before its run began".to_owned()))?;
            let reach = match job.id.connector {
                Connector::Acculynx => secrets::connection(&spec, &job.id, &self.settings.acculynx, &secrets),
                Connector::Exec | Connector::Http | Connector::Noop => Ok(nowhere()),
            };
            (spec, reach.map_err(configuration)?)
        };
        let (store, clock) = (self.store.clone(), self.clock.clone());
        let sink = Arc::new(StoreSink::new(store, job.id.clone(), job.run, clock, self.deletions.clone()));
        let context = ImportContext {
            id: job.id.clone(),
            run_id: job.run,
            nominal: job.nominal,
            base_url: reach.0,
            api_key: reach.1,
            connection: spec.connection.unwrap_or_default(),
            secrets,
            resources: spec.resources,
            targets: job.targets.clone(),
            sink: sink.clone(),
            clock: self.clock.clone(),
            cancel: cancel.clone(),
        };
        Ok((context, sink))
    }
}
