//! What the fleet looks like from outside: status and drift; what was refused.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use serde_json::{Value, json};

use super::App;
use super::apply::{draft, new_action_id};
use super::error::AppError;
use super::holds::{dismissal_view, held_changes, held_digest};
use super::line_up::LineUp;
use super::state::Refusals;
use super::views::{DriftTotals, InvalidFile, ScheduleStatus, ScheduleView};
use crate::adapters::source::SourceError;
use crate::adapters::store::{ScheduleRow, StatusRow};
use crate::core::audit::operation;
use crate::core::desired::shown_value;
use crate::core::fleet::{Glance, Sync};
use crate::core::model::{Caller, Connector, Digest, Millis, ScheduleId, Source};
use crate::core::timing::{iso, overdue_ms, seconds};

impl App {
    /// Adds memory's half to stored rows: sync state, countdown, whether it runs.
    pub fn statuses(&self, connector: Connector, rows: Vec<StatusRow>) -> Vec<(String, ScheduleStatus)> {
        let now = self.clock.now();
        let stale = self.is_stale(now);
        let brakes = self.brakes.lock().unwrap_or_else(std::sync::PoisonError::into_inner).len();
        let windows = self.windows();
        let outlook = windows.outlook(now);
        let fleet = self.fleet();
        let glances: Vec<Option<Glance>> = rows.iter().map(|row| fleet.get(connector, &row.tenant)).collect();
        let none_stands = windows.is_empty();
        let chosen = glances.iter().map(|glance| {
            let glance = glance.as_ref().filter(|glance| !none_stands && !glance.paused)?;
            Some((glance.next_due?, fleet.chosen(glance.slot)))
        });
        let chosen: Vec<Option<(Millis, Arc<[u16]>)>> = chosen.collect();
        drop(fleet);
        rows.into_iter()
            .zip(glances.into_iter().zip(chosen))
            .map(|(row, (glance, due))| {
                let tenant = row.tenant.clone();
                let is_running = glance.is_some_and(|glance| glance.running);
                let id = (brakes > 0 || is_running).then(|| tenant.parse().ok()).flatten();
                let id = id.map(|tenant| ScheduleId::new(connector, tenant));
                let braked = brakes > 0 && id.as_ref().is_some_and(|id| self.is_braked(id));
                let line = id.filter(|_| is_running).map(|id| self.line_up(&id)).unwrap_or_default();
                let wait = due.and_then(|(due, chosen)| outlook.wait_at(due.max(now), connector, &chosen));
                let doubts = Doubts { braked, stale };
                let window = wait.and_then(|open| Some((open.end, windows.get(open.window)?.name.clone())));
                (tenant, status(connector, row, glance, &line, doubts, window, now))
            })
            .collect()
    }

    /// One schedule's status; `None` when there is no such schedule.
    pub async fn status_of(&self, id: &ScheduleId) -> Result<Option<ScheduleStatus>, AppError> {
        Ok(self.store.schedule(id.clone()).await?.and_then(|row| self.status_from(id, row)))
    }

    /// The status of a schedule whose row is at hand.
    pub(super) fn status_from(&self, id: &ScheduleId, row: ScheduleRow) -> Option<ScheduleStatus> {
        self.statuses(id.connector, vec![status_row(id, row)]).pop().map(|(_, status)| status)
    }

    /// A schedule as written and as it runs.
    pub async fn schedule_view(&self, id: &ScheduleId) -> Result<ScheduleView, AppError> {
        let row = self.store.schedule(id.clone()).await?.ok_or_else(|| AppError::NotFound(id.clone()))?;
        // The tag is that of the content shown, which a mutation's If-Match is held against.
        let (written, etag) = match self.source.read(id) {
            Ok(Some((_, content))) => (shown_value(id, &content, &self.defaults()), Digest::of(&content)),
            Ok(None) | Err(SourceError::TooLarge { .. } | SourceError::NotRegular { .. }) => (Value::Null, row.digest),
            Err(error) => return Err(error.into()),
        };
        let etag = etag.to_hex();
        let effective = row.spec.spec().unwrap_or_default();
        let origin = self.origins_of(id, &row);
        let status = self.status_from(id, row);
        Ok(ScheduleView {
            ok: true,
            connector: id.connector.to_string(),
            tenant: id.tenant.to_string(),
            file: id.file(),
            etag,
            written,
            effective,
            origin,
            status: status.ok_or_else(|| AppError::NotFound(id.clone()))?,
        })
    }

    /// Whether the comparing has stalled: the directory cannot be read, git keeps it waiting, or
    /// three passes that were due have not come.
    pub(super) fn is_stale(&self, now: Millis) -> bool {
        let interval = Millis::try_from(self.settings.health_interval.as_millis()).unwrap_or(Millis::MAX);
        let state = self.state();
        state.trouble.is_some() || state.compared.is_some_and(|at| now - at > interval.saturating_mul(3) + 10_000)
    }

    pub(super) fn drift_totals(&self) -> DriftTotals {
        let mut sync: BTreeMap<String, u64> = Sync::ALL.iter().map(|sync| (sync.as_str().to_owned(), 0)).collect();
        let stale = self.is_stale(self.clock.now());
        for glance in self.fleet().iter() {
            let shown = if stale && glance.sync == Sync::Synced { Sync::Pending } else { glance.sync };
            *sync.entry(shown.as_str().to_owned()).or_default() += 1;
        }
        let state = self.state();
        DriftTotals {
            sync,
            invalid_files: invalid_files(&state),
            held: held_changes(&state),
            held_digest: held_digest(&state),
            dismissed: dismissal_view(&state),
            last_full_reconcile: state.last_pass.clone(),
            convergence: state.convergence.report(),
        }
    }

    /// Remembers a refused request; `audit_refusals` writes them down, folded by minute.
    pub fn note_refusal(&self, peer: IpAddr, route: &str, reason: &str) {
        /// More peers than this within a minute are an attack; they are counted, not listed.
        const MAX_FOLDED: usize = 10_000;
        let now = self.clock.now();
        let refusals = &mut self.state().refusals;
        let key = (peer.to_string(), route.to_owned(), reason.to_owned());
        if refusals.len() < MAX_FOLDED || refusals.contains_key(&key) {
            refusals.entry(key).or_insert(Refusals { count: 0, since: now }).count += 1;
        }
    }

    /// Writes down refusals whose minute is over; all of them when the program stops.
    pub async fn audit_refusals(&self, all: bool) -> Result<(), AppError> {
        let now = self.clock.now();
        let over: HashMap<(String, String, String), Refusals> = {
            let refusals = &mut self.state().refusals;
            let is_over = |since: Millis| all || now - since >= 60_000;
            refusals.extract_if(|_, folded| is_over(folded.since)).collect()
        };
        let caller = Caller { source: Source::CommandCenter, actor: "command-center".to_owned() };
        let entries: Vec<_> = over
            .into_iter()
            .map(|((peer, route, reason), Refusals { count, since })| {
                let detail = json!({
                    "peer": peer, "route": route, "reason": reason, "count": count, "since_iso": iso(since)
                });
                draft(None, operation::ACCESS_REFUSED, &caller, &new_action_id(), detail)
            })
            .collect();
        if !entries.is_empty() {
            self.store.append(entries, now).await?;
        }
        Ok(())
    }
}

pub(super) fn invalid_files(state: &super::state::State) -> Vec<InvalidFile> {
    let view = |problem: &crate::adapters::store::Problem| InvalidFile {
        file: problem.path.clone(),
        since_iso: iso(problem.since),
        diagnostics: problem.diagnostics.clone(),
        frames: Vec::new(),
    };
    state.problems.values().map(view).collect()
}

fn status_row(id: &ScheduleId, row: ScheduleRow) -> StatusRow {
    StatusRow {
        row: row.row,
        tenant: id.tenant.to_string(),
        interval_sec: row.spec.interval_sec,
        cron: row.spec.cron,
        timezone: row.spec.timezone,
        paused: row.spec.paused,
        pause_reason: row.spec.pause_reason,
        pause_until: row.spec.pause_until,
        digest: row.digest,
        next_due: row.next_due,
        last: row.last,
    }
}

/// What keeps a schedule from being called synced although nothing is known to differ.
#[derive(Clone, Copy)]
struct Doubts {
    /// A brake keeps its runs from starting.
    braked: bool,
    /// Nobody has compared for too long.
    stale: bool,
}

/// `window` is the one that the next start has to wait for, and its end.
fn status(
    connector: Connector,
    row: StatusRow,
    glance: Option<Glance>,
    line: &LineUp,
    doubts: Doubts,
    window: Option<(Millis, String)>,
    now: Millis,
) -> ScheduleStatus {
    let paused = row.paused && row.pause_until.is_none_or(|end| now < end);
    // The countdown comes from the number that fires, which is the timer's. A sleeper's timer lifts its pause.
    let is_asleep = paused || glance.is_some_and(|glance| glance.paused);
    let next_due = glance.map_or(row.next_due, |glance| glance.next_due).filter(|_| !is_asleep);
    let waits = window.is_some() && next_due.is_some_and(|due| due <= now);
    let next_due = window.as_ref().map(|(end, _)| *end).or(next_due);
    let known = glance.map_or(Sync::Pending, |glance| glance.sync);
    let sync = if known == Sync::Synced && doubts.stale { Sync::Pending } else { known };
    let slot = [next_due, line.due].into_iter().flatten().min().filter(|_| !line.running && !is_asleep);
    let overdue = slot.and_then(|slot| overdue_ms(slot, row.interval_sec, now));
    let reason = match sync {
        _ if doubts.braked => Some("brake"),
        Sync::Pending if doubts.stale => Some("stale"),
        Sync::Pending => Some("waiting"),
        Sync::Synced if paused => Some("suspended"),
        _ if waits => Some("window"),
        _ if overdue.is_some() => Some("overdue"),
        Sync::Synced if glance.is_some() && next_due.is_none() && !is_asleep => Some("ended"),
        _ => None,
    };
    ScheduleStatus {
        interval_sec: row.interval_sec,
        cron: row.cron,
        timezone: row.timezone,
        paused,
        pause_until: row.pause_until.filter(|_| paused).map(iso),
        pause_reason: row.pause_reason.filter(|_| paused),
        last_run: row.last.ended.map(seconds),
        last_run_iso: row.last.ended.map(iso),
        next_run_iso: next_due.map(iso),
        next_run_in_sec: next_due.map(|due| u64::try_from((due - now + 999) / 1000).unwrap_or(0)),
        running: line.running,
        short: row.last.short.is_some(),
        overdue: overdue.is_some(),
        overdue_sec: overdue.map(|late| u64::try_from(late / 1000).unwrap_or(0)),
        queued: line.queued,
        waiting_for: line.waiting_for.map(str::to_owned),
        waiting_until_iso: line.waiting_until.map(iso),
        last_late_ms: row.last.late_ms,
        missed: row.last.missed.total(),
        missed_by: row.last.missed.by_name(),
        last_status: row.last.status(),
        consecutive_failures: row.last.failures,
        file: format!("schedules/{connector}/{}.yaml", row.tenant),
        etag: row.digest.to_hex(),
        sync: sync.as_str().to_owned(),
        sync_reason: reason.map(str::to_owned),
        window: window.map(|(_, name)| name),
    }
}
