//! Bringing the fleet up: what the store knows, edits promised before a crash, files changed since.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use serde_json::json;
use tokio::sync::{Notify, RwLock};
use tokio_util::sync::CancellationToken;

use super::apply::{command_center, draft, new_action_id};
use super::blocking::blocking;
use super::error::AppError;
use super::{App, Lanes, runs, state};
use crate::adapters::clock::Clock;
use crate::adapters::connectors::Connectors;
use crate::adapters::memory;
use crate::adapters::source::{Files, Root, Source};
use crate::adapters::store::{Completion, FleetRow, OpenRun, SharedStore};
use crate::core::audit::operation;
use crate::core::fleet::{Fleet, Glance, Member, Slot, Sync};
use crate::core::model::{Millis, ScheduleId};
use crate::core::policy::RunPolicy;
use crate::core::row::{fingerprint, is_asleep};
use crate::core::run::{ErrorClass, RunState, Trigger};
use crate::core::timing::{Rhythm, RhythmCache, Turn, turn};
use crate::settings::Settings;
use crate::telemetry::Metrics;

impl App {
    /// Puts the parts together; nothing is read yet.
    pub fn new(
        settings: Settings,
        clock: Clock,
        store: SharedStore,
        connectors: Connectors,
        metrics: Arc<Metrics>,
    ) -> Arc<App> {
        let source = Arc::new(Source::new(settings.desired_dir.clone()));
        App::over(source, settings, clock, store, connectors, metrics)
    }

    /// As `new`, over a desired directory of the caller's.
    pub(super) fn over(
        source: Arc<dyn Files>,
        settings: Settings,
        clock: Clock,
        store: SharedStore,
        connectors: Connectors,
        metrics: Arc<Metrics>,
    ) -> Arc<App> {
        let now = clock.now();
        let shutdown = CancellationToken::new();
        Arc::new(App {
            source,
            deletions: super::records::Deletions::default(),
            runs: runs::RunTable::new(),
            admission: super::admission::Admission::new(settings.limits.clone(), clock.clone()),
            settings,
            clock,
            store,
            metrics,
            leaving: shutdown.child_token(),
            doors_closed: shutdown.child_token(),
            shutdown,
            restarting: AtomicBool::new(false),
            successor: super::restarting::Successor::default(),
            connectors,
            fleet: Mutex::new(Fleet::default()),
            timer_set: Condvar::new(),
            waits_for: AtomicI64::new(i64::MIN),
            gate: RwLock::new(()),
            lanes: Lanes::new(),
            state: Mutex::new(state::State::default()),
            work_tree: super::origins::WorkTree::default(),
            defaults: Mutex::default(),
            windows: Mutex::default(),
            git: super::git::GitWork::default(),
            wishes: super::runs::Wishes::default(),
            brakes: Mutex::new(Vec::new()),
            keeping: super::snapshots::Keeping::default(),
            webhooks: super::webhooks::Webhooks::default(),
            promises: super::promises::Promises::default(),
            proof: super::proof::Proof::default(),
            replication: std::sync::OnceLock::new(),
            replication_trouble: Mutex::default(),
            pass_wanted: Notify::new(),
            started: now,
            ready: AtomicBool::new(false),
            dispatcher_seen: AtomicI64::new(now),
            loops: super::loops::Loops::default(),
            timers_in_doubt: AtomicBool::new(false),
            claims_fail: AtomicBool::new(false),
            #[cfg(test)]
            before_exchange: super::tests::Hook::default(),
            #[cfg(test)]
            before_claim: super::tests::Hook::default(),
            #[cfg(test)]
            before_end: super::tests::Hook::default(),
        })
    }

    /// Loads the fleet, finishes what a crash cut off and reconciles once. After this the API may
    /// answer and the loops may start.
    pub async fn bring_up(self: &Arc<Self>) -> Result<(), AppError> {
        // Listing the files and loading the rows take about as long; side by side they take half.
        let early = self.git_busy().await.is_none();
        self.take_note_of_restoring().await?;
        let (loaded, mut scan, sound) = tokio::join!(self.load(), self.scan(), self.check_at_start());
        loaded?;
        sound?;
        self.find_copies().await;
        self.make_desired_directory().await?;
        if self.sweep().await | self.replay_intents().await? || !early || scan.is_of_missing_root() {
            scan = self.scan().await;
        }
        match self.first_pass(scan).await {
            // What is due has to start all the same; the files are looked at again and again.
            Err(error @ AppError::Full(_)) => {
                tracing::error!(component = "reconciler", %error, "the files are not applied yet");
                self.pass_wanted.notify_one();
            }
            passed => drop(passed?),
        }
        self.close_interrupted_runs().await?;
        self.settle_restoring().await?;
        self.resume_webhooks().await?;
        self.ready.store(true, Ordering::Release);
        memory::give_back();
        Ok(())
    }

    async fn load(&self) -> Result<(), AppError> {
        self.load_defaults().await?;
        self.load_windows().await?;
        let defaults = self.defaults();
        // The rows are compared as they are read; from here on only foreign writes make that necessary.
        self.store.changed_by_others().await?;
        let count = self.store.schedule_count().await?;
        self.fleet().reserve(count);
        let mut rows = self.store.fleet();
        let mut timers = TimerCheck::at(self.clock.now());
        while let Some(batch) = rows.recv().await {
            let mut fleet = self.fleet();
            for row in batch? {
                let mut member = loaded(&row);
                if row.basis != defaults.basis(row.connector, row.digest) {
                    // Its defaults changed, and the program stopped before it did.
                    member.stamp = 0;
                }
                let slot = fleet.put(row.connector, &row.tenant, &member);
                if row.actual != row.applied || !timers.are_right(&row) {
                    fleet.set_sync(slot, Sync::Drifted);
                }
            }
        }
        self.choose_windows().await?;
        *self.brakes.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = self.store.brakes().await?;
        self.work_tree.set_passed(self.store.noted_commit().await?);
        self.load_holds().await?;
        let problems = self.store.problems().await?;
        let invalid: Vec<ScheduleId> = problems
            .iter()
            .filter_map(|p| p.path.strip_prefix("schedules/")?.strip_suffix(".yaml")?.parse().ok())
            .collect();
        self.show_problems(&invalid);
        self.state().problems = problems.into_iter().map(|problem| (problem.path.clone(), problem)).collect();
        Ok(())
    }

    /// Only the first start of an empty store makes the directory: any later absence is unknown.
    async fn make_desired_directory(&self) -> Result<(), AppError> {
        let fresh = self.fleet().is_empty() && self.store.audit_head().await?.seq == 0;
        if fresh
            && matches!(self.source.list().root, Root::Missing)
            && let Err(error) = self.source.found()
        {
            tracing::warn!(component = "reconciler", %error, "could not make {}", self.source.root().display());
        }
        Ok(())
    }

    /// Clears up after a crash in the middle of an edit. Returns whether any file was touched.
    async fn sweep(&self) -> bool {
        let source = self.source.clone();
        let swept = blocking(move || source.sweep()).await.unwrap_or_default();
        for path in &swept.restored {
            tracing::warn!(component = "reconciler", "gave {path} back what an edit cut short had displaced");
        }
        for (path, message) in &swept.problems {
            tracing::warn!(component = "reconciler", "could not clear up {path}: {message}");
        }
        !swept.restored.is_empty()
    }

    /// Runs that waited go on. Those that a crash cut off are recorded as such and tried again, unless
    /// they were cut off too often.
    async fn close_interrupted_runs(self: &Arc<Self>) -> Result<(), AppError> {
        let (mut again, mut cut_off, mut lined_up) = (BTreeMap::new(), Vec::new(), HashSet::new());
        for run in self.store.open_runs().await? {
            let glance = self.fleet().get(run.id.connector, run.id.tenant.as_str());
            let policy = glance.and_then(|glance| self.fleet().policy(glance.slot)).unwrap_or_default();
            if run.state != RunState::Running && !self.is_in_doubt(&run, &policy) {
                lined_up.extend((run.trigger == Trigger::Retry).then(|| run.id.clone()));
                self.take_up(run);
                continue;
            }
            let attempts = run.attempts + 1;
            let wanted = glance.is_some_and(|glance| !glance.paused) || run.trigger == Trigger::RunNow;
            // What a program had done when it was cut off nobody knows: only a schedule that asks for it repeats it.
            let unasked = if run.id.connector.imports_idempotently() { INTERRUPTIONS } else { 0 };
            // What events told of waits in the store, and gets a run of its own.
            if wanted && run.trigger.is_of_the_whole() && attempts <= policy.retries.max(unasked) {
                again.insert(run.id.clone(), attempts);
            }
            cut_off.push(run);
        }
        // Claimed before what was cut off is closed: a kill in between must not lose the repetition.
        let mut jobs = Vec::new();
        for (id, attempts) in again {
            if !lined_up.contains(&id) {
                jobs.extend(self.claim_again(&id, attempts).await?);
            }
        }
        for run in &cut_off {
            self.close_interrupted(run, CUT_OFF).await?;
        }
        jobs.into_iter().for_each(|job| self.launch_due(job, false));
        Ok(())
    }

    pub(super) async fn close_interrupted(&self, run: &OpenRun, message: &str) -> Result<(), AppError> {
        let now = self.clock.now();
        let detail = json!({
            "run": run.run, "trigger": run.trigger, "nominal_iso": crate::core::timing::iso(run.nominal)
        });
        let entry = draft(Some(&run.id), operation::INTERRUPTED, &command_center(), &new_action_id(), detail);
        self.store.append(vec![entry], now).await?;
        self.metrics.event(operation::INTERRUPTED, "info");
        self.store
            .complete(Completion {
                run: run.run,
                started: run.started,
                row: self.row_told_of(&run.id, run.trigger),
                ended: now,
                state: RunState::Interrupted,
                ok: false,
                message: message.to_owned(),
                error_class: Some(ErrorClass::Interrupted.as_str()),
                stats: run.stats,
                attempts: run.attempts + 1,
                log: run.log.clone(),
                volume: None,
            })
            .await?;
        Ok(())
    }
}

/// What a run's record says that the program's end cut off.
const CUT_OFF: &str = "interrupted: the server stopped while the import ran";

/// How often in a row an interrupted import is tried again, so that one which brings the program down
/// does not do so for ever.
const INTERRUPTIONS: u32 = 3;

/// Whether stored timers stand where their rhythm would have them: one moved or lost by hand while
/// nothing ran would else go unnoticed, since a row's fingerprint leaves it out.
pub(super) struct TimerCheck {
    now: Millis,
    rhythms: RhythmCache,
    /// Many schedules share few cron expressions, and most have no rules of their own.
    crons: HashMap<(String, String), Option<Millis>>,
}

impl TimerCheck {
    pub(super) fn at(now: Millis) -> Self {
        TimerCheck { now, rhythms: RhythmCache::default(), crons: HashMap::new() }
    }

    fn are_right(&mut self, row: &FleetRow) -> bool {
        let sleeps = row.paused && row.pause_until.is_none_or(|end| end > self.now);
        match row.next_due {
            due if sleeps => due == row.pause_until,
            // A pause that is about to lift.
            due if row.paused && due.is_some() && due == row.pause_until => true,
            // What is overdue fires now, and then stands right.
            due => due.is_some_and(|due| due <= self.now) || self.next(row) == due,
        }
    }

    fn next(&mut self, row: &FleetRow) -> Option<Millis> {
        let now = self.now;
        let zone = row.timezone.as_deref().unwrap_or("UTC");
        if row.policy.is_empty()
            && let (None, Some(cron)) = (row.interval_sec, &row.cron)
        {
            let rhythms = &mut self.rhythms;
            let next = || rhythms.cron(cron, zone).ok()?.next_after(now);
            return *self.crons.entry((cron.clone(), zone.to_owned())).or_insert_with(next);
        }
        self.rhythm(row)?.next_after(now)
    }

    fn rhythm(&mut self, row: &FleetRow) -> Option<Rhythm> {
        let id = ScheduleId::new(row.connector, row.tenant.parse().ok()?);
        let rhythm = match row.interval_sec {
            Some(interval_sec) => Rhythm::interval(&id, interval_sec),
            None => {
                let zone = row.timezone.as_deref().unwrap_or("UTC");
                self.rhythms.cron(row.cron.as_deref()?, zone).ok()?.clone()
            }
        };
        Some(rhythm.under(&id, &RunPolicy::parse(&row.policy)))
    }

    /// The turn that a row's timer would take now.
    pub(super) fn turn(&mut self, row: &FleetRow, due: Millis) -> Option<Turn> {
        Some(turn(&self.rhythm(row)?, &RunPolicy::parse(&row.policy), due, self.now))
    }
}

/// What the fleet keeps of a stored row. `applied` is what the row ought to be.
fn loaded(row: &FleetRow) -> Member<'_> {
    Member {
        row: row.row,
        stamp: row.stamp,
        content: row.basis,
        applied: row.applied,
        interval_sec: row.interval_sec,
        cron: row.cron.as_deref(),
        timezone: row.timezone.as_deref(),
        policy: &row.policy,
        paused: is_asleep(row.paused, row.pause_until, row.next_due),
        next_due: row.next_due,
    }
}

impl App {
    /// Finds rows that somebody else has changed, added or removed since the last look.
    pub(super) async fn look_for_foreign_changes(&self) -> Result<(), AppError> {
        let changed = self.store.changed_by_others().await?;
        let set_back = self.timers_in_doubt.swap(false, Ordering::AcqRel);
        if !(std::mem::take(&mut self.state().in_doubt) | changed | set_back) {
            return Ok(());
        }
        let is_behind = std::mem::take(&mut self.state().is_behind);
        let compared = self.compare_rows(set_back, is_behind).await;
        // The store tells of it once; a look that failed is owed.
        self.state().in_doubt |= compared.is_err();
        self.state().is_behind |= is_behind && compared.is_err();
        self.timers_in_doubt.fetch_or(set_back && compared.is_err(), Ordering::AcqRel);
        compared
    }

    /// Marks rows that are not as memory has them, and with `set_back` timers that stand wrong by the clock.
    /// Where memory may be behind, it learns the rows that are as they were last applied.
    async fn compare_rows(&self, set_back: bool, is_behind: bool) -> Result<(), AppError> {
        self.drop_orphaned_intents().await?;
        let mut rows = self.store.fleet();
        let mut foreign = Vec::new();
        // Kept here and not in the fleet, whose marks are a pass's: one may run between two batches.
        let mut seen = HashSet::new();
        let mut timers = TimerCheck::at(self.clock.now());
        while let Some(batch) = rows.recv().await {
            let mut fleet = self.fleet();
            for row in batch? {
                match fleet.get(row.connector, &row.tenant) {
                    Some(glance) => {
                        seen.insert(glance.slot);
                        if is_behind && row.actual == row.applied && glance.applied != row.applied {
                            fleet.put(row.connector, &row.tenant, &loaded(&row));
                            continue;
                        }
                        let is_right = !set_back || timers.are_right(&row);
                        let same = is_right
                            && glance.row == row.row
                            && glance.applied == row.actual
                            && glance.next_due == row.next_due
                            && glance.content == fingerprint(row.basis);
                        if !same && matches!(glance.sync, Sync::Synced | Sync::Invalid) {
                            fleet.set_sync(glance.slot, Sync::Drifted);
                        }
                    }
                    // A row nobody asked for: it has no file, so the pass deletes it like any other.
                    None => {
                        let slot = fleet.put(row.connector, &row.tenant, &loaded(&row));
                        fleet.set_sync(slot, Sync::Drifted);
                        seen.insert(slot);
                        foreign.extend(fleet.id(slot));
                    }
                }
            }
        }
        self.state().foreign.extend(foreign);
        let mut fleet = self.fleet();
        let lost =
            |glance: &Glance| !seen.contains(&glance.slot) && matches!(glance.sync, Sync::Synced | Sync::Invalid);
        let lost: Vec<Slot> = fleet.iter().filter(lost).map(|glance| glance.slot).collect();
        for slot in lost {
            fleet.set_sync(slot, Sync::Drifted);
        }
        Ok(())
    }
}
