//! Where the store is copied to, set up before anything starts.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};

use crate::adapters::replica::{Destination, SharedPlace};
use crate::adapters::secrets::Secrets;
use crate::adapters::store::SqliteStore;
use crate::app::heal::Replica;
use crate::app::{App, Pulse, ReplicaCopy, Replication, ReplicationTerms, spool_folder};
use crate::settings::Settings;
use crate::tasks::{Ended, Replicator};

/// How soon to try again what could not be begun.
const AGAIN: Duration = Duration::from_secs(20);

/// Where the store is to be copied to, with what reaches it.
fn destination(settings: &Settings) -> anyhow::Result<Option<(SharedPlace, Destination)>> {
    let Some(url) = settings.replication.url.as_ref().filter(|_| settings.replication.on) else { return Ok(None) };
    let wrong = |problem: String| anyhow!("COMMAND_CENTER_REPLICATION_URL: {problem}");
    let destination = Destination::parse(&url.0).map_err(wrong)?;
    let secrets = Secrets { folder: settings.secrets_dir.clone() };
    let place = destination.open(&secrets).map_err(|error| wrong(error.to_string()))?;
    Ok(Some((place, destination)))
}

/// Sets the copying up. What keeps it from being begun keeps nothing else from it, and shows in the health.
pub(super) fn replicate(app: &App, store: Arc<SqliteStore>) -> anyhow::Result<()> {
    let begun = try_replicate(app, store);
    if let Err(error) = &begun {
        app.cannot_replicate(format!("{error:#}"));
    }
    begun
}

fn try_replicate(app: &App, store: Arc<SqliteStore>) -> anyhow::Result<()> {
    let settings = &app.settings;
    let Some((place, destination)) = destination(settings)? else { return Ok(()) };
    let terms = ReplicationTerms {
        shown: destination.shown().to_owned(),
        spool: spool_folder(&settings.data_dir),
        spool_bytes: u64::from(settings.replication.spool_mb) << 20,
        keep: Duration::from_secs(u64::from(settings.replication.keep_days) * 86_400),
        little: ReplicationTerms::LITTLE,
    };
    let folder = terms.spool.clone();
    let replication = Replication::new(place, store, app.clock.clone(), app.metrics.clone(), terms)
        .with_context(|| format!("cannot use {} for what waits to be replicated", folder.display()))?;
    app.replicate(replication);
    Ok(())
}

/// Copies, once that could be begun.
pub(super) async fn keep(app: Arc<App>, store: Arc<SqliteStore>, pulse: Pulse) -> Ended {
    let replication = loop {
        if let Some(replication) = app.replication() {
            break replication.clone();
        }
        if let Err(error) = replicate(&app, store.clone()) {
            pulse.failed(&format!("{error:#}"));
            if !pulse.sleep(AGAIN, "the next try to begin").await {
                return Ok(());
            }
        }
    };
    pulse.is_well();
    Replicator::new(replication).run(pulse).await
}

/// The replica as what a damaged store may be restored from.
pub(super) fn candidate(settings: &Settings) -> Option<Arc<dyn Replica>> {
    // What is wrong with it is told when it is set up.
    let (place, destination) = destination(settings).ok().flatten()?;
    let runtime = tokio::runtime::Handle::current();
    Some(Arc::new(ReplicaCopy::new(place, destination.shown().to_owned(), runtime)))
}
