//! Where the store is copied to, set up before anything starts.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};

use crate::adapters::clock::Clock;
use crate::adapters::replica::{Destination, SharedPlace};
use crate::adapters::secrets::Secrets;
use crate::adapters::store::SqliteStore;
use crate::app::heal::Replica;
use crate::app::{App, ReplicaCopy, Replication, ReplicationTerms, spool_folder};
use crate::settings::Settings;

/// Where the store is to be copied to, with what reaches it; what is wrong with it is told before anything starts.
pub(super) fn destination(settings: &Settings) -> anyhow::Result<Option<(SharedPlace, Destination)>> {
    let Some(url) = settings.replication.url.as_ref().filter(|_| settings.replication.on) else { return Ok(None) };
    let wrong = |problem: String| anyhow!("COMMAND_CENTER_REPLICATION_URL: {problem}");
    let destination = Destination::parse(&url.0).map_err(wrong)?;
    let secrets = Secrets { folder: settings.secrets_dir.clone() };
    let place = destination.open(&secrets).map_err(|error| wrong(error.to_string()))?;
    Ok(Some((place, destination)))
}

/// Sets the copying up. A destination that cannot be reached now keeps nothing from starting.
pub(super) fn replicate(
    app: &App,
    to: Option<(SharedPlace, Destination)>,
    store: Arc<SqliteStore>,
    clock: Clock,
) -> anyhow::Result<()> {
    let Some((place, destination)) = to else { return Ok(()) };
    let settings = &app.settings;
    let terms = ReplicationTerms {
        shown: destination.shown().to_owned(),
        spool: spool_folder(&settings.data_dir),
        spool_bytes: u64::from(settings.replication.spool_mb) << 20,
        keep: Duration::from_secs(u64::from(settings.replication.keep_days) * 86_400),
    };
    let folder = terms.spool.clone();
    let replication = Replication::new(place, store, clock, app.metrics.clone(), terms)
        .with_context(|| format!("cannot use {} for what waits to be replicated", folder.display()))?;
    app.replicate(replication);
    Ok(())
}

/// The replica as what a damaged store may be restored from.
pub(super) fn candidate(settings: &Settings) -> anyhow::Result<Option<Arc<dyn Replica>>> {
    let to = destination(settings)?;
    let runtime = tokio::runtime::Handle::current();
    Ok(to.map(|(place, destination)| -> Arc<dyn Replica> {
        Arc::new(ReplicaCopy::new(place, destination.shown().to_owned(), runtime))
    }))
}
