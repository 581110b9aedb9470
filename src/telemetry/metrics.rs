//! Counters, gauges and histograms under the names that contract part 8 freezes.
//! A registry of its own, handed around; all families stand at zero on a fresh start.

mod replication;
#[cfg(test)]
mod tests;

mod proof;
mod upkeep;

use std::collections::HashSet;
use std::sync::{PoisonError, RwLock};

use prometheus::core::Collector;
use prometheus::{
    Encoder as _, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, Result, TextEncoder,
};

use crate::core::audit::operation;
use crate::core::fair::Limit;
use crate::core::missed::Miss;
use crate::core::model::Connector;
use replication::ReplicationMetrics;

/// The label of every tenant beyond the limit.
const OTHER: &str = "other";

/// What an operator can do to a schedule, as `aetherlink_local_actions_total` calls it.
const ACTIONS: [&str; 5] = ["schedule", "pause", "resume", "run-now", "delete"];

const SYNC_STATES: [&str; 5] = ["synced", "pending", "drifted", "invalid", "held"];

/// Methods that get a label of their own; a caller may send any word as a method.
const METHODS: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];

/// Bounds in seconds for what takes between a tenth of a millisecond and ten seconds.
const QUICK: [f64; 14] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0];

/// Bounds in seconds for an import: a page of a CRM takes a while, a first import many pages.
const SLOW: [f64; 12] = [0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 1800.0];

/// Everything `/metrics` shows. Cheap to update from any thread; never panics.
pub struct Metrics {
    registry: Registry,
    tenants: TenantLabels,
    scheduled_imports: IntCounterVec,
    local_actions: IntCounterVec,
    events: IntCounterVec,
    api_requests: IntCounterVec,
    errors: IntCounter,
    access_refused: IntCounterVec,
    runs: IntCounterVec,
    slots_skipped: IntCounterVec,
    imports_short: IntCounterVec,
    persisted: IntCounterVec,
    loop_restarts: IntCounterVec,
    webhook_events: IntCounterVec,
    analytics_queries: IntCounter,
    request_duration: HistogramVec,
    fire_lateness: Histogram,
    start_wait: Histogram,
    import_duration: HistogramVec,
    reconcile_duration: Histogram,
    convergence: Histogram,
    health: IntGauge,
    uptime: Gauge,
    schedules: IntGaugeVec,
    running: IntGauge,
    waiting: IntGaugeVec,
    database_bytes: IntGauge,
    wal_bytes: IntGauge,
    disk_free_bytes: IntGauge,
    disk_reserve_bytes: IntGauge,
    proof: proof::ProofMetrics,
    upkeep: upkeep::UpkeepMetrics,
    pub replication: ReplicationMetrics,
}

impl Metrics {
    /// Makes and registers every family. The first `tenant_limit` tenants get labels of their own.
    ///
    /// # Errors
    /// When two families take the same name: a mistake in this file, never in the input.
    #[expect(clippy::too_many_lines, reason = "a list of families")]
    pub fn new(tenant_limit: usize) -> Result<Metrics> {
        let make = Maker(Registry::new());
        let metrics = Metrics {
            tenants: TenantLabels { limit: tenant_limit, known: RwLock::default() },
            scheduled_imports: make.counters(
                "aetherlink_acculynx_scheduled_imports_total",
                "Imports that were due",
                &["tenant"],
            )?,
            local_actions: make.counters(
                "aetherlink_local_actions_total",
                "Actions of operators",
                &["tenant", "action"],
            )?,
            events: make.counters("command_center_events_total", "Events published", &["event_type", "severity"])?,
            api_requests: make.counters(
                "command_center_api_requests_total",
                "API requests",
                &["method", "endpoint", "status"],
            )?,
            errors: make.counter("errors_total", "Errors in handling requests, runs and reconciles")?,
            access_refused: make.counters("command_center_access_refused_total", "Requests refused", &["reason"])?,
            runs: make.counters("command_center_scheduler_runs_total", "Runs that ended", &["connector", "outcome"])?,
            slots_skipped: make.counters(
                "command_center_scheduler_slots_skipped_total",
                "Slots without a run",
                &["reason"],
            )?,
            imports_short: make.counters(
                "command_center_imports_short_total",
                "Imports that brought far less than usual",
                &["connector"],
            )?,
            persisted: make.counters(
                "command_center_persistence_operations_total",
                "Durable commits",
                &["operation"],
            )?,
            loop_restarts: make.counters(
                "command_center_loop_restarts_total",
                "Loops that stalled or ended and were started anew",
                &["loop"],
            )?,
            webhook_events: make.counters(
                "command_center_webhook_events_total",
                "Events that sources sent",
                &["connector", "outcome"],
            )?,
            analytics_queries: make.counter("command_center_analytics_queries_total", "Analytics queries answered")?,
            request_duration: make.histograms(
                "command_center_api_request_duration_seconds",
                "From a request's arrival to its answer",
                &["method", "endpoint"],
                &QUICK,
            )?,
            fire_lateness: make.histogram("command_center_fire_lateness_seconds", "From due time to start", &QUICK)?,
            start_wait: make.histogram(
                "command_center_start_wait_seconds",
                "From a run's claim to its start: what limits and turns cost it",
                &SLOW,
            )?,
            import_duration: make.histograms(
                "command_center_import_duration_seconds",
                "An import",
                &["connector"],
                &SLOW,
            )?,
            reconcile_duration: make.histogram(
                "command_center_reconcile_duration_seconds",
                "A full reconcile",
                &QUICK,
            )?,
            convergence: make.histogram(
                "command_center_convergence_seconds",
                "From change noticed to applied",
                &QUICK,
            )?,
            health: make.gauge("command_center_health", "1 while every section of /ops/health is well")?,
            uptime: make.seconds("command_center_uptime_seconds", "Time since the program started")?,
            schedules: make.gauges("command_center_schedules", "Schedules by sync state", &["sync"])?,
            running: make.gauge("command_center_runs_in_flight", "Imports running now")?,
            waiting: make.gauges(
                "command_center_runs_waiting",
                "Claimed runs that wait to start, by the limit they wait for",
                &["limit"],
            )?,
            database_bytes: make.gauge("command_center_database_bytes", "Size of the database file")?,
            wal_bytes: make.gauge("command_center_database_wal_bytes", "Size of the database's write-ahead log")?,
            disk_free_bytes: make.gauge("command_center_disk_free_bytes", "Free space where the database lies")?,
            proof: proof::ProofMetrics::new(&make)?,
            upkeep: upkeep::UpkeepMetrics::new(&make)?,
            disk_reserve_bytes: make
                .gauge("command_center_disk_reserve_bytes", "Disk space set aside; 0 while the disk is full")?,
            replication: ReplicationMetrics::new(&make)?,
            registry: make.0,
        };
        metrics.start_at_zero()?;
        Ok(metrics)
    }

    /// A labelled family shows nothing until a label set was used; rates and alerts need a zero to
    /// start from.
    fn start_at_zero(&self) -> Result<()> {
        self.scheduled_imports.get_metric_with_label_values(&[OTHER])?;
        for action in ACTIONS {
            self.local_actions.get_metric_with_label_values(&[OTHER, action])?;
        }
        for operation in operation::ALL {
            self.events.get_metric_with_label_values(&[operation, "info"])?;
        }
        self.api_requests.get_metric_with_label_values(&["GET", "/ops/health", "200"])?;
        self.request_duration.get_metric_with_label_values(&["GET", "/ops/health"])?;
        self.access_refused.get_metric_with_label_values(&["missing_role"])?;
        for reason in Miss::ALL {
            self.slots_skipped.get_metric_with_label_values(&[reason.as_str()])?;
        }
        for what in Metrics::waits() {
            self.waiting.get_metric_with_label_values(&[what])?;
        }
        self.persisted.get_metric_with_label_values(&["apply"])?;
        self.loop_restarts.get_metric_with_label_values(&["dispatcher"])?;
        for outcome in ["accepted", "duplicate", "ignored", "refused", "failed"] {
            self.webhook_events.get_metric_with_label_values(&["acculynx", outcome])?;
        }
        for connector in Connector::ALL {
            self.import_duration.get_metric_with_label_values(&[connector.as_str()])?;
            self.imports_short.get_metric_with_label_values(&[connector.as_str()])?;
            for outcome in ["ok", "failed", "cancelled"] {
                self.runs.get_metric_with_label_values(&[connector.as_str(), outcome])?;
            }
        }
        for state in SYNC_STATES {
            self.schedules.get_metric_with_label_values(&[state])?;
        }
        let make = Maker(self.registry.clone());
        // There are no webhooks yet: constant zeros under their final names.
        let deliveries = make.counters("command_center_deliveries_total", "Webhook deliveries", &["status"])?;
        for status in ["success", "failed", "pending"] {
            deliveries.get_metric_with_label_values(&[status])?;
        }
        Ok(())
    }

    /// All families in Prometheus' text format.
    pub fn render(&self) -> String {
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::error!(component = "metrics", %error, "could not render the metrics");
        }
        String::from_utf8(text).unwrap_or_default()
    }

    /// A run that the schedule started.
    pub fn scheduled_import(&self, tenant: &str) {
        self.tenants.with(tenant, |tenant| self.scheduled_imports.with_label_values(&[tenant]).inc());
    }

    /// An operator's action: `schedule`, `pause`, `resume`, `run-now` or `delete`.
    pub fn local_action(&self, tenant: &str, action: &str) {
        self.tenants.with(tenant, |tenant| self.local_actions.with_label_values(&[tenant, action]).inc());
    }

    /// An event of a type (an audit operation's name) and a severity (`info`, `warning`, `error`).
    pub fn event(&self, event_type: &str, severity: &str) {
        self.events.with_label_values(&[event_type, severity]).inc();
    }

    /// An answered request; `endpoint` is the route's template, never the raw path.
    pub fn api_request(&self, method: &str, endpoint: &str, status: u16, seconds: f64) {
        let method = METHODS.into_iter().find(|known| *known == method).unwrap_or(OTHER);
        self.api_requests.with_label_values(&[method, endpoint, &status.to_string()]).inc();
        self.request_duration.with_label_values(&[method, endpoint]).observe(length(seconds));
    }

    pub fn error(&self) {
        self.errors.inc();
    }

    /// A refused request; `reason` is one of a few fixed words.
    pub fn access_refused(&self, reason: &str) {
        self.access_refused.with_label_values(&[reason]).inc();
    }

    /// An event of a source; `outcome` is one of a few fixed words.
    pub fn webhook_event(&self, outcome: &str) {
        self.webhook_events.with_label_values(&["acculynx", outcome]).inc();
    }

    pub fn fire_lateness(&self, seconds: f64) {
        self.fire_lateness.observe(length(seconds));
    }

    /// How long a claimed run waited for its turn and for room.
    pub fn start_wait(&self, seconds: f64) {
        self.start_wait.observe(length(seconds));
    }

    pub fn import_duration(&self, connector: &str, seconds: f64) {
        self.import_duration.with_label_values(&[connector]).observe(length(seconds));
    }

    pub fn reconcile_duration(&self, seconds: f64) {
        self.reconcile_duration.observe(length(seconds));
    }

    pub fn convergence(&self, seconds: f64) {
        self.convergence.observe(length(seconds));
    }

    /// A run that ended `ok`, `failed` or `cancelled`.
    pub fn run_finished(&self, connector: &str, outcome: &str) {
        self.runs.with_label_values(&[connector, outcome]).inc();
    }

    /// Slots that passed without a run.
    pub fn slots_missed(&self, why: Miss, count: u32) {
        self.slots_skipped.with_label_values(&[why.as_str()]).inc_by(count.into());
    }

    /// How many slots passed so since the program started.
    pub fn missed(&self, why: Miss) -> u64 {
        self.slots_skipped.with_label_values(&[why.as_str()]).get()
    }

    /// A run that ended well and brought far less than its schedule usually does.
    pub fn import_short(&self, connector: &str) {
        self.imports_short.with_label_values(&[connector]).inc();
    }

    /// A durable commit of a kind (`apply`, `claim`, `complete`, …).
    pub fn persisted(&self, operation: &str) {
        self.persisted.with_label_values(&[operation]).inc();
    }

    pub fn loop_restarted(&self, name: &str) {
        self.loop_restarts.with_label_values(&[name]).inc();
    }

    pub fn analytics_query(&self) {
        self.analytics_queries.inc();
    }

    pub fn set_health(&self, up: bool) {
        self.health.set(i64::from(up));
    }

    pub fn set_uptime(&self, seconds: f64) {
        self.uptime.set(seconds);
    }

    pub fn set_schedules(&self, sync_state: &str, count: u64) {
        self.schedules.with_label_values(&[sync_state]).set(gauge_value(count));
    }

    /// Bytes of the database, of its write-ahead log, and free on its disk; an unknown one stays.
    pub fn set_sizes(&self, database: u64, wal: u64, disk_free: Option<u64>) {
        self.database_bytes.set(gauge_value(database));
        self.wal_bytes.set(gauge_value(wal));
        if let Some(free) = disk_free {
            self.disk_free_bytes.set(gauge_value(free));
        }
    }

    pub fn set_reserve(&self, bytes: u64) {
        self.disk_reserve_bytes.set(gauge_value(bytes));
    }

    /// What a claimed run may wait for: a limit, or something else that keeps it.
    pub fn waits() -> impl Iterator<Item = &'static str> {
        Limit::ALL.into_iter().map(Limit::as_str).chain(["retry", "source", "window", "brake"])
    }

    /// Claimed runs that wait for one of these.
    pub fn set_waiting(&self, what: &str, count: u64) {
        self.waiting.with_label_values(&[what]).set(gauge_value(count));
    }

    pub fn set_running(&self, count: u64) {
        self.running.set(gauge_value(count));
    }
}

/// One value that is no length would spoil a histogram's sum for good.
fn length(seconds: f64) -> f64 {
    if seconds.is_finite() { seconds.max(0.0) } else { 0.0 }
}

fn gauge_value(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// The tenants that have labels of their own: the first ones seen, so that a fleet of any size
/// costs a bounded number of series.
struct TenantLabels {
    limit: usize,
    known: RwLock<HashSet<Box<str>>>,
}

impl TenantLabels {
    fn with(&self, tenant: &str, count: impl FnOnce(&str)) {
        let label = if self.admits(tenant) { tenant } else { OTHER };
        count(label);
    }

    fn admits(&self, tenant: &str) -> bool {
        {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            if known.contains(tenant) {
                return true;
            }
            if known.len() >= self.limit {
                return false;
            }
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have taken the last place between the two locks.
        if known.len() < self.limit {
            known.insert(tenant.into());
        }
        known.contains(tenant)
    }
}

/// Makes families and registers them.
struct Maker(Registry);

impl Maker {
    fn add<T: Collector + Clone + 'static>(&self, family: T) -> Result<T> {
        self.0.register(Box::new(family.clone()))?;
        Ok(family)
    }

    fn counter(&self, name: &str, help: &str) -> Result<IntCounter> {
        self.add(IntCounter::new(name, help)?)
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec> {
        self.add(IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge> {
        self.add(IntGauge::new(name, help)?)
    }

    fn seconds(&self, name: &str, help: &str) -> Result<Gauge> {
        self.add(Gauge::new(name, help)?)
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec> {
        self.add(IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    fn histogram(&self, name: &str, help: &str, bounds: &[f64]) -> Result<Histogram> {
        self.add(Histogram::with_opts(HistogramOpts::new(name, help).buckets(bounds.to_vec()))?)
    }

    fn histograms(&self, name: &str, help: &str, labels: &[&str], bounds: &[f64]) -> Result<HistogramVec> {
        self.add(HistogramVec::new(HistogramOpts::new(name, help).buckets(bounds.to_vec()), labels)?)
    }
}
