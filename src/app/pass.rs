//! The full pass: list everything, compare with what is applied, reconcile what differs, and decide
//! over deletions and pauses as a whole.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::json;

use super::App;
use super::apply::{Effect, Planned, draft, file_edit, new_action_id};
use super::blocking::{blocking, rest};
use super::error::AppError;
use super::reading::settled_stamp;
use super::reconcile::Tally;
use super::views::PassReport;
use crate::adapters::source::{Listing, Root};
use crate::core::audit::operation;
use crate::core::desired::{DefaultsFile, Diagnostic, window_name};
use crate::core::fleet::Sync;
use crate::core::model::{Caller, Connector, Digest, Millis, ScheduleId};
use crate::core::plan::{self, Action, Facet, HoldReason, Plan, Step, diff};
use crate::core::timing::iso;

/// Two scans this far apart must agree on a file's absence before its schedule is deleted.
pub(super) const SECOND_SCAN_MS: Millis = 2_000;

/// How long git is given to move HEAD after it has written its index.
const SETTLING: Duration = Duration::from_millis(60);

/// How long to wait before the second scan.
pub const SECOND_SCAN: Duration = Duration::from_millis(2_020);

/// A listing of the whole directory, condensed: names in one arena, stats as stamps.
pub(super) struct Scan {
    pub listing: Listing,
    names: String,
    files: Vec<(Connector, u32, u8, u64)>,
}

impl Scan {
    pub fn len(&self) -> usize {
        self.files.len()
    }

    pub fn is_of_missing_root(&self) -> bool {
        matches!(self.listing.root, Root::Missing)
    }

    fn files(&self) -> impl Iterator<Item = (Connector, &str, u64)> {
        self.files.iter().map(|(connector, start, length, stamp)| {
            let start = *start as usize;
            (*connector, self.names.get(start..start + usize::from(*length)).unwrap_or(""), *stamp)
        })
    }

    /// Changes with any file's coming, going or change.
    fn revision(&self, defaults: &str) -> String {
        let sum = self.files().fold(0u64, |sum, (_, name, stamp)| {
            let name = name.bytes().fold(stamp, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
            sum.wrapping_add(name)
        });
        Digest::of(format!("{}:{sum}{defaults}", self.len()).as_bytes()).to_hex()[..16].to_owned()
    }
}

impl App {
    /// One full reconcile. `confirm` is the digest by which a person agreed to what is held.
    pub async fn full_pass(&self, confirm: Option<(&str, &Caller)>) -> Result<PassReport, AppError> {
        let started = self.clock.now();
        let clock = std::time::Instant::now();
        if let Some(busy) = self.git_busy().await {
            return Ok(self.finish_pass(PassReport { waiting: Some(busy), ..PassReport::default() }, started, clock));
        }
        let head = self.look_for_commits().await;
        self.look_for_foreign_changes().await?;
        self.keep_promises().await;
        let scan = self.scan().await;
        if let Some(busy) = self.git_moved_from(head.as_deref()).await {
            return Ok(self.finish_pass(PassReport { waiting: Some(busy), ..PassReport::default() }, started, clock));
        }
        let report = self.settle_scan(scan, head, confirm).await?;
        Ok(self.finish_pass(report, started, clock))
    }

    /// The pass of a start, over a scan made while the rows were loaded.
    pub(super) async fn first_pass(&self, scan: Scan) -> Result<PassReport, AppError> {
        let (started, clock) = (self.clock.now(), std::time::Instant::now());
        if let Some(busy) = self.git_busy().await {
            // What ran before runs on; the reconciler looks again until git is done.
            self.pass_wanted.notify_one();
            return Ok(self.finish_pass(PassReport { waiting: Some(busy), ..PassReport::default() }, started, clock));
        }
        let head = self.look_for_commits().await;
        let report = self.settle_scan(scan, head, None).await?;
        if report.waiting.is_some() {
            self.pass_wanted.notify_one();
        }
        Ok(self.finish_pass(report, started, clock))
    }

    /// `head` is where HEAD stood when the directory was listed.
    async fn settle_scan(
        &self,
        scan: Scan,
        head: Option<String>,
        confirm: Option<(&str, &Caller)>,
    ) -> Result<PassReport, AppError> {
        let alone = self.gate.write().await;
        if matches!(scan.listing.root, Root::Present) {
            self.take_up_defaults(&scan.listing).await?;
            self.take_up_windows(&scan.listing).await?;
        }
        let (changed, unseen) = self.compare(&scan);
        let mut tally = Tally::default();
        self.reconcile(changed, &mut tally).await?;
        if tally.is_cut_off {
            let waiting = Some("git went to work while the files were read; looking again".to_owned());
            let (changes, repaired) = (tally.changes, tally.repaired);
            return Ok(PassReport { files: scan.len() as u64, changes, repaired, waiting, ..PassReport::default() });
        }
        let report = self.settle(&scan, unseen, &mut tally, confirm).await?;
        self.settle_misplaced(&scan).await?;
        self.defaults_are_settled();
        drop(alone);
        let earliest = {
            let mut fleet = self.fleet();
            fleet.rearm();
            fleet.next_due()
        };
        self.ring_for(earliest);
        self.pass_at(head).await?;
        Ok(report)
    }

    /// Whether a deletion, or the end of some defaults or a window, waits only for the second scan.
    pub fn awaits_second_scan(&self) -> bool {
        let misses = self.misses_defaults() || self.misses_windows();
        misses || self.state().held.iter().any(|held| held.step.held == Some(HoldReason::Unconfirmed))
    }

    fn finish_pass(&self, mut report: PassReport, started: Millis, clock: std::time::Instant) -> PassReport {
        let took = clock.elapsed();
        report.at_iso = iso(started);
        report.duration_ms = took.as_secs_f64() * 1000.0;
        self.metrics.reconcile_duration(took.as_secs_f64());
        let mut state = self.state();
        state.trouble.clone_from(&report.waiting);
        if report.waiting.is_none() {
            state.compared = Some(started);
        }
        state.last_pass = Some(report.clone());
        report
    }

    /// Why git must be left alone for now, if so.
    pub(super) async fn git_busy(&self) -> Option<String> {
        let source = self.source.clone();
        if blocking(move || source.git_settling()).await.unwrap_or_default() {
            rest(SETTLING).await;
        }
        let source = self.source.clone();
        let head = blocking(move || source.git_head()).await.unwrap_or_default();
        self.state().commit = head;
        let busy = self.git_at_work();
        busy.map(|what| format!("git is at work in the desired directory ({what}); waiting until it is done"))
    }

    /// Why what was listed since HEAD stood at `head` must not be believed, if so.
    async fn git_moved_from(&self, head: Option<&str>) -> Option<String> {
        let busy = self.git_busy().await;
        let moved = self.state().commit.as_deref() != head;
        busy.or_else(|| {
            moved.then(|| "git moved HEAD while the desired directory was listed; looking again".to_owned())
        })
    }

    pub(super) async fn scan(&self) -> Scan {
        let source = self.source.clone();
        let expected = self.fleet().len();
        let scan = blocking(move || {
            let mut names = String::with_capacity(expected * 10);
            let mut files = Vec::with_capacity(expected);
            let listing = source.visit(&mut |connector, tenant, stat| {
                let start = u32::try_from(names.len()).unwrap_or(u32::MAX);
                names.push_str(tenant);
                let length = u8::try_from(tenant.len()).unwrap_or(u8::MAX);
                files.push((connector, start, length, settled_stamp(&stat)));
            });
            Scan { listing, names, files }
        });
        scan.await.unwrap_or_else(|_| Scan {
            listing: Listing {
                root: Root::Unreadable("the scan was cut off".to_owned()),
                complete: false,
                problems: Vec::new(),
                misplaced: Vec::new(),
                windows: Vec::new(),
                files: Vec::new(),
            },
            names: String::new(),
            files: Vec::new(),
        })
    }

    /// Which files are new, changed or in need of repair, and which schedules no file was found for.
    fn compare(&self, scan: &Scan) -> (Vec<ScheduleId>, Vec<ScheduleId>) {
        let problems = self.state().problems.clone();
        let moved = self.moved_by_defaults();
        let mut fleet = self.fleet();
        fleet.unsee();
        let mut changed = Vec::new();
        for (connector, tenant, stamp) in scan.files() {
            let known = fleet.get(connector, tenant);
            if let Some(glance) = known {
                fleet.see(glance.slot);
            }
            let same = known.is_some_and(|glance| glance.stamp == stamp && glance.sync == Sync::Synced);
            let same = same && !moved.contains(&connector);
            if !same && let Ok(tenant) = tenant.parse() {
                changed.push(ScheduleId::new(connector, tenant));
            }
        }
        // In the order of the store's indexes: each transaction then touches few of their pages.
        changed.sort_unstable();
        let mut unseen: Vec<ScheduleId> = fleet.unseen().into_iter().filter_map(|slot| fleet.id(slot)).collect();
        // A broken file that never was a schedule is looked for here too, to clear it when it is gone.
        unseen.extend(problems.keys().filter_map(|path| {
            let id: ScheduleId = path.strip_prefix("schedules/")?.strip_suffix(".yaml")?.parse().ok()?;
            fleet.get(id.connector, id.tenant.as_str()).is_none().then_some(id)
        }));
        (changed, unseen)
    }

    /// Decides over deletions and pauses together.
    async fn settle(
        &self,
        scan: &Scan,
        unseen: Vec<ScheduleId>,
        tally: &mut Tally,
        confirm: Option<(&str, &Caller)>,
    ) -> Result<PassReport, AppError> {
        let trouble = scan_trouble(&scan.listing);
        let gone = if trouble.is_none() { self.confirm_absent(unseen).await? } else { Vec::new() };
        let mut plans: Vec<Planned> = std::mem::take(&mut tally.pauses);
        for (id, first_missed) in gone {
            plans.extend(self.plan_deletion(&id, first_missed).await?);
        }
        let mut steps: Vec<Step> = plans.iter().flat_map(|plan| plan.steps.iter().cloned()).collect();
        let confirmed = confirm.filter(|(digest, _)| Plan::new(steps.clone()).destructive().digest() == *digest);
        if confirmed.is_some() {
            steps.iter_mut().for_each(|step| step.held = None);
        }
        plan::guard(&mut steps, self.blast(scan.len(), confirmed.is_some()), self.settings.guard);
        if confirmed.is_none() {
            self.keep_holding(&mut steps);
        }
        let (mut held, taken): (Vec<Step>, Vec<Step>) = steps.into_iter().partition(|step| step.held.is_some());
        let waiting: HashSet<&ScheduleId> = held.iter().map(|step| &step.id).collect();
        plans.retain(|plan| !waiting.contains(&plan.id));
        for plan in &mut plans {
            plan.steps.iter_mut().for_each(|step| step.held = None);
            plan.notes.extend(confirmed.map(|(digest, _)| ("confirmed", digest.into())));
        }
        if let Some((digest, caller)) = confirmed.filter(|_| !plans.is_empty()) {
            let detail = json!({"digest": digest, "steps": taken.len()});
            let entry = draft(None, operation::PLAN_CONFIRMED, caller, &new_action_id(), detail);
            self.store.append(vec![entry], self.clock.now()).await?;
        }
        let repairs = taken.iter().filter(|step| matches!(step.action, Action::Repair(_))).count() as u64;
        tally.repaired += repairs;
        tally.changes += taken.len() as u64 - repairs;
        if confirmed.is_none() {
            self.note_destruction(taken.iter().filter(|step| step.action.is_destructive()).count());
        }
        for plan in &plans {
            self.state().missing.remove(&plan.id);
        }
        self.withdraw_promises(&plans).await?;
        self.carry_out(plans, None).await?;
        if trouble.is_some() {
            // What was held before is neither gone nor to be judged while the files cannot be seen.
            let found: HashSet<(ScheduleId, Action)> = held.iter().map(|step| (step.id.clone(), step.action)).collect();
            let before: Vec<Step> = self.state().held.iter().map(|held| held.step.clone()).collect();
            held.extend(before.into_iter().filter(|step| !found.contains(&(step.id.clone(), step.action))));
        }
        self.hold(held, trouble.is_none()).await?;
        let state = self.state();
        Ok(PassReport {
            files: scan.len() as u64,
            changes: tally.changes,
            repaired: tally.repaired,
            invalid: state.problems.len() as u64,
            held: state.held.len() as u64,
            waiting: trouble,
            ..PassReport::default()
        })
    }

    /// Schedules whose file is gone, with when that was first seen. Each is looked at once more, now
    /// that nobody else writes.
    async fn confirm_absent(&self, mut unseen: Vec<ScheduleId>) -> Result<Vec<(ScheduleId, Millis)>, AppError> {
        unseen.retain(|id| !self.promises.is_owed(id));
        let source = self.source.clone();
        let gone: Vec<ScheduleId> =
            blocking(move || unseen.into_iter().filter(|id| matches!(source.stat(id), Ok(None))).collect())
                .await
                .unwrap_or_default();
        let now = self.clock.now();
        let mut first_missed = std::collections::HashMap::new();
        {
            let mut state = self.state();
            for id in &gone {
                first_missed.insert(id.clone(), state.missing.get(id).copied().unwrap_or(now));
            }
            state.missing.clone_from(&first_missed);
        }
        let mut absent = Vec::new();
        for id in gone {
            let known = self.fleet().get(id.connector, id.tenant.as_str()).is_some();
            if self.state().problems.contains_key(&id.file()) {
                self.forget_problem(Some(&id), id.file()).await?;
            }
            if known {
                let since = first_missed.get(&id).copied().unwrap_or(now);
                absent.push((id, since));
            }
        }
        Ok(absent)
    }

    async fn plan_deletion(&self, id: &ScheduleId, first_missed: Millis) -> Result<Option<Planned>, AppError> {
        let row = self.store.schedule(id.clone()).await?;
        let spec = row.and_then(|row| row.spec.spec());
        let unconfirmed = self.clock.now() - first_missed < SECOND_SCAN_MS;
        // A row that never came from a file takes nothing from anyone by going.
        let foreign = self.state().foreign.remove(id);
        let step = Step {
            id: id.clone(),
            action: if foreign { Action::Repair(Facet::Row) } else { Action::Delete },
            diff: diff(spec.as_ref(), None),
            held: (unconfirmed && !foreign).then_some(HoldReason::Unconfirmed),
        };
        let planned = Planned {
            id: id.clone(),
            steps: vec![step],
            effect: Effect::Delete,
            caller: file_edit(),
            action_id: new_action_id(),
            notes: Vec::new(),
        };
        Ok(Some(planned.by(self.origin(id))))
    }

    /// Files that lie where no schedule can be, and what could not be looked at.
    async fn settle_misplaced(&self, scan: &Scan) -> Result<(), AppError> {
        let mut found: Vec<(String, &str, String)> = Vec::new();
        for misplaced in &scan.listing.misplaced {
            found.push((misplaced.path.clone(), "misplaced", misplaced.reason.to_string()));
        }
        let unknown: Vec<ScheduleId> = scan.listing.misplaced.iter().filter_map(|place| place.id.clone()).collect();
        self.show_problems(&unknown);
        for (path, message) in &scan.listing.problems {
            found.push((path.clone(), "unreadable", message.clone()));
        }
        let stale: Vec<String> = {
            let state = self.state();
            let ours = |code: &str| matches!(code, "misplaced" | "unreadable");
            let of_the_scan = |path: &String| {
                state
                    .problems
                    .get(path)
                    .is_some_and(|p| p.digest.is_none() && p.diagnostics.iter().all(|d| ours(&d.code)))
            };
            state.problems.keys().filter(|path| of_the_scan(path) && !is_read(path)).cloned().collect()
        };
        for path in stale.into_iter().filter(|path| !found.iter().any(|(known, ..)| known == path)) {
            self.forget_problem(None, path).await?;
        }
        for (path, code, message) in found {
            let diagnostic = Diagnostic::whole_file(path.clone(), code, message);
            self.record_problem(None, path, None, vec![diagnostic]).await?;
        }
        self.state().revision = scan.revision(&(self.seen_defaults() + &self.seen_windows()));
        Ok(())
    }
}

/// Whether the file is one that is read: its problems are cleared by what it says.
fn is_read(path: &str) -> bool {
    let is_schedule = path
        .strip_prefix("schedules/")
        .and_then(|rest| rest.strip_suffix(".yaml"))
        .is_some_and(|name| name.parse::<ScheduleId>().is_ok());
    is_schedule || DefaultsFile::at(path).is_some() || window_name(path).is_some()
}

/// Why nothing may be concluded from what the scan did not find, if so.
fn scan_trouble(listing: &Listing) -> Option<String> {
    match &listing.root {
        Root::Missing => Some("the desired directory is missing; what runs goes on running".to_owned()),
        Root::Unreadable(message) => {
            tracing::error!(component = "reconciler", "the desired directory cannot be read: {message}");
            Some("the desired directory cannot be read; what runs goes on running".to_owned())
        }
        Root::Present if !listing.complete => {
            Some("a part of the desired directory could not be read; nothing is deleted meanwhile".to_owned())
        }
        Root::Present => None,
    }
}
