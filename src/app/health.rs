//! How well the program is: its parts, its loops, and what it does to help itself.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;

use super::App;
use super::apply::{command_center, draft, new_action_id};
use super::views::{
    DesiredHealth, DriftTotals, Health, LoopHealth, LoopState, LoopsHealth, ReplicationHealth, SchedulerHealth,
};
use crate::core::audit::operation;
use crate::core::fleet::Sync;
use crate::core::missed::Miss;
use crate::core::model::Millis;
use crate::core::timing::{iso, seconds};

/// The loop that fires what is due, by its name.
pub const DISPATCHER: &str = "dispatcher";
/// The loop that asks the store's writer for a sign of life.
pub const STORE: &str = "store";

/// What else besides a stall's time the watchdog may take between two looks.
const LOOK_GRACE: Duration = Duration::from_secs(10);

impl App {
    /// Counts, places and classes; no values, since it is public.
    pub async fn health(&self) -> Health {
        let now = self.clock.now();
        let mut totals = self.drift_totals();
        let behind = self.behind_replica().await.unwrap_or_default();
        self.count_behind(&behind, &mut totals);
        for diagnostic in totals.invalid_files.iter_mut().flat_map(|file| &mut file.diagnostics) {
            *diagnostic = diagnostic.without_values();
        }
        let dismissed = totals.dismissed.take().is_some();
        let scheduler = self.scheduler_health(now);
        let db = self.db_health().await;
        let desired = self.desired_health(&totals, dismissed);
        let loops = self.loops_health();
        let replication = self.replication_health().await;
        Health {
            ok: [scheduler.status, db.status, replication.status, desired.status, loops.status]
                .iter()
                .all(|status| *status == 1),
            ts_iso: iso(now),
            uptime_sec: u64::try_from((now - self.started) / 1000).unwrap_or(0),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            phase: self.phase().to_owned(),
            scheduler,
            db,
            replication,
            desired,
            loops,
            drift: totals,
        }
    }

    fn scheduler_health(&self, now: Millis) -> SchedulerHealth {
        let idle = (now - self.dispatcher_seen.load(Ordering::Relaxed)).max(0);
        let dispatcher = self.loops.all().into_iter().find(|known| known.name == DISPATCHER);
        let trouble = dispatcher.filter(|known| !known.is_well());
        let lines = self.lines(now);
        let fleet = self.fleet();
        let brakes = self.brakes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let shown = |scope: &str| if scope.is_empty() { "fleet".to_owned() } else { scope.to_owned() };
        SchedulerHealth {
            status: u8::from(trouble.is_none()),
            schedules: fleet.len() as u64,
            paused: fleet.iter().filter(|glance| glance.paused).count() as u64,
            running: lines.running,
            queued: lines.queued,
            waiting_for: lines.waiting_for,
            overdue: lines.overdue,
            missed: Miss::ALL.into_iter().map(|why| (why.as_str().to_owned(), self.metrics.missed(why))).collect(),
            last_progress_sec: seconds(idle),
            next_due_iso: fleet.next_due().map(iso),
            brakes: brakes.iter().map(|brake| shown(&brake.scope)).collect(),
            message: trouble.map(|known| known.tell()),
        }
    }

    /// Without the destination, which is not for everybody.
    async fn replication_health(&self) -> ReplicationHealth {
        let view = self.replication_view().await;
        ReplicationHealth {
            status: u8::from(view.ok),
            mode: view.mode,
            state: view.state,
            last_seq: view.last_seq,
            lag_entries: view.lag_entries,
            lag_sec: view.lag_sec,
        }
    }

    fn desired_health(&self, totals: &DriftTotals, dismissed: bool) -> DesiredHealth {
        let of = |sync: Sync| totals.sync.get(sync.as_str()).copied().unwrap_or(0);
        let state = self.state();
        let held = of(Sync::Held);
        DesiredHealth {
            status: u8::from(state.trouble.is_none() && state.problems.is_empty() && (held == 0 || dismissed)),
            schedules: totals.sync.values().sum(),
            synced: of(Sync::Synced),
            invalid: state.problems.len() as u64,
            held,
            dismissed: if dismissed { held } else { 0 },
            revision: state.revision.clone(),
            commit: state.commit.clone(),
            git: self.git_health(state.commit.clone()),
            message: state.trouble.clone(),
        }
    }

    fn loops_health(&self) -> LoopsHealth {
        let loops = self.loops.all();
        let stuck = self.loops.stuck();
        LoopsHealth {
            status: u8::from(stuck.is_none() && loops.iter().all(|known| known.is_well())),
            loops,
            message: stuck,
        }
    }

    /// Why this process is as good as dead, if it is: nobody watches its loops any more, or it ought to be
    /// started anew and may not do so itself.
    pub fn is_lost(&self) -> Option<String> {
        let limit = self.settings.scheduler_stall + LOOK_GRACE;
        let unwatched = self.loops.unwatched_for().filter(|unwatched| *unwatched > limit);
        let unwatched =
            unwatched.map(|unwatched| format!("the watchdog has not looked for {:.0} s", unwatched.as_secs_f64()));
        unwatched.or_else(|| self.loops.stuck())
    }

    /// A loop was started anew: said in the log, the audit and the metrics.
    pub async fn tell_of_restart(&self, name: &'static str, why: String, stood: Duration, restarts: u64) {
        self.metrics.loop_restarted(name);
        self.metrics.event(operation::LOOP_RESTARTED, "warning");
        let detail = json!({"loop": name, "why": why, "stood_sec": stood.as_secs(), "restarts": restarts});
        let entry = draft(None, operation::LOOP_RESTARTED, &command_center(), &new_action_id(), detail);
        if let Err(error) = self.store.append(vec![entry], self.clock.now()).await {
            tracing::warn!(component = "watchdog", %error, "could not write down that {name} was started anew");
        }
    }

    /// What a loop left half done when it was ended is looked for: memory may lack what the store has.
    pub fn doubt_everything(&self) {
        {
            let mut state = self.state();
            (state.in_doubt, state.is_behind) = (true, true);
        }
        self.timers_in_doubt.store(true, Ordering::Release);
        self.pass_wanted.notify_one();
    }

    /// What the program is about, in a word.
    pub fn phase(&self) -> &'static str {
        match (self.is_restarting(), self.leaving.is_cancelled()) {
            (true, _) => "restarting",
            (false, true) => "stopping",
            (false, false) if !self.is_ready() => "starting",
            (false, false) => "serving",
        }
    }

    /// Why requests should not come here at the moment, if so.
    pub async fn unreadiness(&self) -> Option<String> {
        if !self.is_ready() {
            return Some("the fleet is not up yet".to_owned());
        }
        if self.leaving.is_cancelled() {
            let what = if self.is_restarting() { "restarts" } else { "stops" };
            return Some(format!("draining: the program {what}"));
        }
        // A full disk, or a log that was tampered with, keeps nobody from asking.
        if let Err(error) = self.store.audit_head().await {
            return Some(error.to_string());
        }
        let is_needed = |known: &LoopHealth| {
            known.name == DISPATCHER && !known.is_well() || known.name == STORE && known.state == LoopState::Stalled
        };
        self.loops.all().iter().find(|known| is_needed(known)).map(LoopHealth::tell)
    }
}
