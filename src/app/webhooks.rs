//! What sources tell by themselves: taken in durably, once, and worked off by runs that read only what
//! was told of. Asking remains the truth: whatever is dropped here, the next full import finds.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::App;
use super::blocking::rest;
use super::error::AppError;
use super::windows::Gatekeeper;
use crate::adapters::connectors::Secret;
use crate::adapters::connectors::acculynx::{Told, read_event};
use crate::adapters::secrets::Secrets;
use crate::adapters::store::{StoreError, WaitingEvent, WebhookEvent};
use crate::core::model::{Connector, Digest, Millis, Resource, ScheduleId, ScheduleSpec, Tenant};

/// Shorter tokens could be guessed.
pub const MIN_TOKEN_CHARS: usize = 32;
/// How long events gather before a run starts: a change at the source is often told of several times.
const GATHER: Duration = Duration::from_secs(1);
/// How long an event is known, so that it is not taken twice.
pub(super) const KEPT_DAYS: Millis = 7;
const KEPT_MS: Millis = KEPT_DAYS * 86_400_000;
const PRUNE_EVERY_MS: Millis = 3_600_000;
/// Events of one run at most; what waits behind them has the next.
const EVENTS_A_RUN: u32 = 200;

/// What was done with an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    Accepted,
    /// It had come before.
    Duplicate,
    /// It is about nothing that this schedule imports.
    Ignored,
}

impl Taken {
    pub fn as_str(self) -> &'static str {
        match self {
            Taken::Accepted => "accepted",
            Taken::Duplicate => "duplicate",
            Taken::Ignored => "ignored",
        }
    }
}

/// Why an event was not taken.
#[derive(Debug)]
pub enum NotTaken {
    /// No such tenant, no webhook, or not its token: callers cannot tell which.
    Unknown,
    Malformed(String),
    Store(AppError),
}

impl From<StoreError> for NotTaken {
    fn from(error: StoreError) -> Self {
        NotTaken::Store(error.into())
    }
}

/// Events on their way to a run.
#[derive(Default)]
pub(super) struct Webhooks {
    /// Schedules with a run to come that will see whatever waits by then.
    gathering: Mutex<HashSet<ScheduleId>>,
    /// The events that a run works off.
    in_work: Mutex<HashMap<i64, Vec<i64>>>,
    pruned: AtomicI64,
}

impl Webhooks {
    fn gathering(&self) -> MutexGuard<'_, HashSet<ScheduleId>> {
        self.gathering.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn in_work(&self) -> MutexGuard<'_, HashMap<i64, Vec<i64>>> {
        self.in_work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl App {
    /// Takes an event in: it is durable when this returns, and its run follows by itself.
    pub async fn take_webhook(self: &Arc<Self>, tenant: String, token: String, body: Bytes) -> Result<Taken, NotTaken> {
        let app = self.clone();
        // In a task of its own: what is kept has to be worked off, also when the caller hangs up.
        let task = self.track(async move { app.take_event(&tenant, &token, &body).await });
        let taken = task.await.unwrap_or_else(|_| Err(StoreError::Stopped.into()));
        self.metrics.webhook_event(match &taken {
            Ok(taken) => taken.as_str(),
            Err(NotTaken::Store(_)) => "failed",
            Err(_) => "refused",
        });
        taken
    }

    async fn take_event(self: &Arc<Self>, tenant: &str, token: &str, body: &[u8]) -> Result<Taken, NotTaken> {
        let tenant: Tenant = tenant.parse().map_err(|_| NotTaken::Unknown)?;
        let id = ScheduleId::new(Connector::Acculynx, tenant);
        let spec = self.webhook_of(&id, token).await?;
        let Told { event_id, topic, about } = read_event(body).map_err(NotTaken::Malformed)?;
        let Some((resource, key)) = about.filter(|(resource, _)| imports(&spec, resource)) else {
            tracing::debug!(component = "webhooks", tenant_id = %id.tenant, "nothing to read for an event of {topic}");
            return Ok(Taken::Ignored);
        };
        let outcome = self.no_run_for(&id);
        let event = WebhookEvent { id: id.clone(), event_id, topic, resource, key, outcome };
        if !self.store.take_event(event, self.clock.now()).await? {
            return Ok(Taken::Duplicate);
        }
        if let Some(reason) = outcome {
            tracing::info!(component = "webhooks", tenant_id = %id.tenant, "left to the next full import: {reason}");
        } else {
            self.gather(id);
        }
        Ok(Taken::Accepted)
    }

    /// The schedule behind a webhook's address, to whoever knows its token.
    async fn webhook_of(&self, id: &ScheduleId, token: &str) -> Result<ScheduleSpec, NotTaken> {
        let row = self.store.schedule(id.clone()).await?;
        let spec = row.and_then(|row| row.spec.spec()).ok_or(NotTaken::Unknown)?;
        let reference = spec.connection.as_ref().and_then(|connection| connection.webhook_token.as_ref());
        let secrets = Secrets { folder: self.settings.secrets_dir.clone() };
        let Secret(secret) = secrets.resolve(reference.ok_or(NotTaken::Unknown)?).map_err(|reason| {
            tracing::warn!(component = "webhooks", tenant_id = %id.tenant, "no event is taken: {reason}");
            NotTaken::Unknown
        })?;
        if secret.chars().count() < MIN_TOKEN_CHARS {
            tracing::warn!(component = "webhooks", tenant_id = %id.tenant,
                "no event is taken: the secret that connection.webhook_token names in {} has fewer than \
                 {MIN_TOKEN_CHARS} characters", id.file());
            return Err(NotTaken::Unknown);
        }
        if is_same(&secret, token) { Ok(spec) } else { Err(NotTaken::Unknown) }
    }

    /// Why a schedule's events get no run of their own at present.
    fn no_run_for(&self, id: &ScheduleId) -> Option<&'static str> {
        let mut gatekeeper = Gatekeeper::at(self.windows(), self.clock.now());
        let fleet = self.fleet();
        let Some(glance) = fleet.get(id.connector, id.tenant.as_str()).filter(|glance| !glance.paused) else {
            return Some("paused");
        };
        if gatekeeper.wait(&fleet, glance.slot, id.connector).is_some() {
            return Some("window");
        }
        drop(fleet);
        self.is_braked(id).then_some("brake")
    }

    /// Sees to it that a run works off what waits, and whatever else comes until it starts.
    fn gather(self: &Arc<Self>, id: ScheduleId) {
        if !self.webhooks.gathering().insert(id.clone()) {
            return;
        }
        let app = self.clone();
        self.track(async move {
            tokio::select! {
                () = app.shutdown.cancelled() => return,
                () = rest(GATHER) => {}
            }
            if let Err(error) = app.run_told(&id).await {
                app.webhooks.gathering().remove(&id);
                app.metrics.error();
                tracing::error!(component = "webhooks", tenant_id = %id.tenant, %error,
                    "could not start the run that events wait for; it starts with the next event");
            }
        });
    }

    async fn run_told(self: &Arc<Self>, id: &ScheduleId) -> Result<(), AppError> {
        if let Some(reason) = self.no_run_for(id) {
            self.webhooks.gathering().remove(id);
            let waiting = self.store.waiting_events(id.clone(), u32::MAX).await?;
            let rows = waiting.into_iter().map(|event| event.row).collect();
            return Ok(self.store.settle_events(rows, reason, self.clock.now()).await?);
        }
        if !self.has_untaken_events(id).await? {
            self.webhooks.gathering().remove(id);
            return Ok(());
        }
        self.start_told(id).await
    }

    /// Whether events wait that no run works off yet.
    async fn has_untaken_events(&self, id: &ScheduleId) -> Result<bool, AppError> {
        let waiting = self.store.waiting_events(id.clone(), 2 * EVENTS_A_RUN).await?;
        let in_work = self.webhooks.in_work();
        Ok(waiting.iter().any(|event| !in_work.values().flatten().any(|row| *row == event.row)))
    }

    /// What a run that begins now is to read: everything told of and not yet read.
    pub(super) async fn told(&self, id: &ScheduleId, run: i64) -> Result<Vec<(Resource, String)>, StoreError> {
        // First this: an event that comes from here on gets another run.
        self.webhooks.gathering().remove(id);
        let events = self.store.waiting_events(id.clone(), EVENTS_A_RUN).await?;
        self.webhooks.in_work().insert(run, events.iter().map(|event| event.row).collect());
        let mut targets = Vec::new();
        let mut known = HashSet::new();
        for WaitingEvent { resource, key, .. } in events {
            if known.insert((resource.clone(), key.clone())) {
                targets.push((resource, key));
            }
        }
        Ok(targets)
    }

    /// Settles what a run that has ended was to work off. After a failure it is left to the next full
    /// import: one record that cannot be read must not keep the others waiting.
    pub(super) async fn settle_told(self: &Arc<Self>, id: &ScheduleId, run: i64, is_done: bool) {
        let Some(rows) = self.webhooks.in_work().remove(&run) else { return };
        let is_full = rows.len() >= EVENTS_A_RUN as usize;
        let outcome = if is_done { "imported" } else { "failed" };
        if let Err(error) = self.store.settle_events(rows, outcome, self.clock.now()).await {
            self.metrics.error();
            tracing::error!(component = "webhooks", tenant_id = %id.tenant, %error,
                "could not settle events; they are worked off again");
        } else if is_full {
            self.gather(id.clone());
        }
    }

    /// Works off what was told of before the program stopped.
    pub(super) async fn resume_webhooks(self: &Arc<Self>) -> Result<(), AppError> {
        for id in self.store.schedules_with_events().await? {
            if !self.is_told_in_line(&id) {
                self.gather(id);
            }
        }
        Ok(())
    }

    /// Forgets events that are too old to come again, now and then.
    pub async fn prune_webhooks(&self) -> Result<(), AppError> {
        let now = self.clock.now();
        if now - self.webhooks.pruned.load(Ordering::Relaxed) < PRUNE_EVERY_MS {
            return Ok(());
        }
        self.webhooks.pruned.store(now, Ordering::Relaxed);
        let count = self.store.prune_events(now - KEPT_MS).await?;
        if count > 0 {
            tracing::debug!(component = "webhooks", count, "forgot old events");
        }
        Ok(())
    }
}

/// Whether the schedule reads what an event is about; a job's milestones come with the job.
fn imports(spec: &ScheduleSpec, resource: &Resource) -> bool {
    let with_jobs = *resource == Resource::JOBS && spec.resources.contains(&Resource::MILESTONE_HISTORY);
    with_jobs || spec.resources.contains(resource)
}

/// Compares without telling by the time it takes how much was right.
fn is_same(secret: &str, given: &str) -> bool {
    let (secret, given) = (Digest::of(secret.as_bytes()), Digest::of(given.as_bytes()));
    secret.0.iter().zip(given.0).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}
