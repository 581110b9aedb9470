//! Backups: jobs that write one zip each, the daily one, and how long they are kept.

use std::path::{Path, PathBuf};
use std::sync::{Arc, MutexGuard, PoisonError};

use serde_json::json;

use super::App;
use super::apply::{command_center, draft, new_action_id};
use super::blocking::blocking;
use super::error::AppError;
use super::heal::{HealError, HealResult};
use super::views::{BackupState, BackupView, BackupsView};
use crate::adapters::snapshots::CopyResult;
use crate::adapters::snapshots::bundle::{self, Backup, Stage};
use crate::adapters::store::rescue::Hold;
use crate::adapters::store::{Frozen, Pace, StoreError};
use crate::core::audit::operation;
use crate::core::copies::{daily_due, expired, hour_text, parse_hour};
use crate::core::model::{Caller, Millis};
use crate::core::timing::iso;

/// The facts: the daily hour, and the day that had its backup last.
const DAILY_AT: &str = "backup_at";
const LAST_DAY: &str = "backup_day";

/// Jobs that are remembered.
const JOBS: usize = 20;

#[derive(Default)]
pub(super) struct Backups {
    jobs: Vec<BackupView>,
    /// Asked for and not begun.
    waiting: Vec<(u64, Caller)>,
    next: u64,
    /// Why the last attempt failed, if it did.
    pub error: Option<String>,
    /// When the daily one was last tried and failed.
    tried: Option<Millis>,
}

impl App {
    /// Where backups lie.
    pub fn backup_folder(&self) -> PathBuf {
        self.settings.data_dir.join("backups")
    }

    pub(super) fn backups(&self) -> MutexGuard<'_, Backups> {
        self.keeping.backups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a backup; the keeper makes it.
    pub fn ask_for_backup(&self, caller: &Caller) -> BackupView {
        let job = self.new_backup();
        self.backups().waiting.push((job.id, caller.clone()));
        self.keeping.wanted.notify_one();
        job
    }

    /// Resolves when somebody asks for a backup.
    pub async fn backup_wanted(&self) {
        self.keeping.wanted.notified().await;
    }

    /// Makes the backups that were asked for.
    pub async fn make_backups(self: &Arc<Self>) {
        loop {
            let next = {
                let mut backups = self.backups();
                if backups.waiting.is_empty() { None } else { Some(backups.waiting.remove(0)) }
            };
            let Some((id, caller)) = next else { return };
            // A failure is in the log, in the job and in health.
            let _ = self.run_backup(id, &caller).await;
        }
    }

    fn new_backup(&self) -> BackupView {
        let mut backups = self.backups();
        backups.next += 1;
        let job = BackupView {
            id: backups.next,
            state: BackupState::Running,
            doing: "waiting".to_owned(),
            done: 0,
            total: 0,
            asked_iso: iso(self.clock.now()),
            file: None,
            bytes: None,
            error: None,
        };
        backups.jobs.push(job.clone());
        let surplus = backups.jobs.len().saturating_sub(JOBS);
        backups.jobs.drain(..surplus);
        job
    }

    /// A job by its number, while it is remembered.
    pub fn backup(&self, id: u64) -> Option<BackupView> {
        self.backups().jobs.iter().find(|job| job.id == id).cloned()
    }

    /// The jobs of this program's life, newest first.
    pub fn backup_jobs(&self) -> Vec<BackupView> {
        self.backups().jobs.iter().rev().cloned().collect()
    }

    /// The finished file of a job.
    pub fn backup_file(&self, id: u64) -> Option<PathBuf> {
        Some(self.backup_folder().join(self.backup(id)?.file?))
    }

    fn update(&self, id: u64, change: impl FnOnce(&mut BackupView)) {
        if let Some(job) = self.backups().jobs.iter_mut().find(|job| job.id == id) {
            change(job);
        }
    }

    /// Does a job: writes the zip, says so in the audit, and removes those that are too old.
    async fn run_backup(self: &Arc<Self>, id: u64, caller: &Caller) -> Result<Backup, AppError> {
        let _alone = self.keeping.making.lock().await;
        let made = self.make_backup(id).await;
        match &made {
            Ok(backup) => {
                self.metrics.copied("backup");
                let file = backup.path.file_name().map(|name| name.to_string_lossy().into_owned());
                let detail = json!({"file": file, "bytes": backup.bytes});
                let entry = draft(None, operation::BACKUP_MADE, caller, &new_action_id(), detail);
                if let Err(error) = self.store.append(vec![entry], self.clock.now()).await {
                    tracing::warn!(component = "backups", %error, "could not write down that a backup was made");
                }
                self.update(id, |job| {
                    (job.state, job.doing) = (BackupState::Done, "done".to_owned());
                    (job.file, job.bytes) = (file, Some(backup.bytes));
                });
                self.backups().error = None;
            }
            Err(error) => {
                self.metrics.copy_failed("backup");
                tracing::error!(component = "backups", %error, "could not make a backup; the rest goes on");
                self.update(id, |job| (job.state, job.error) = (BackupState::Failed, Some(error.to_string())));
                self.backups().error = Some(format!("could not make a backup: {error}"));
            }
        }
        made
    }

    async fn make_backup(self: &Arc<Self>, id: u64) -> Result<Backup, AppError> {
        let now = self.clock.now();
        // Refused on a full disk.
        let frozen = self.store.freeze(now).await?;
        let (folder, desired, app) = (self.backup_folder(), self.settings.desired_dir.clone(), self.clone());
        let made = blocking(move || -> CopyResult<Backup> {
            let mut tell = |Stage { doing, done, total }| {
                app.update(id, |job| (job.doing, job.done, job.total) = (doing.to_owned(), done, total));
            };
            let made = bundle::make(&folder, frozen, &desired, Pace::GENTLE, &mut tell)?;
            let all = bundle::list(&folder)?;
            let dated: Vec<_> = all.into_iter().map(|backup| (backup.path, backup.at)).collect();
            for old in expired(&dated, now) {
                if let Err(error) = std::fs::remove_file(&old) {
                    tracing::warn!(component = "backups", %error, "could not remove {}", old.display());
                }
            }
            Ok(made)
        });
        Ok(made.await.map_err(|_| StoreError::Stopped)??)
    }

    /// Sets the hour of the daily backup, or with `None` makes none any more.
    pub async fn schedule_backup(&self, hour: Option<u32>, caller: &Caller) -> Result<(), AppError> {
        let (from, now) = (self.daily_hour().await?, self.clock.now());
        if from == hour {
            return Ok(());
        }
        let text = |hour: Option<u32>| hour.map(hour_text);
        let detail = json!({"diff": [{"field": "backup_at", "from": text(from), "to": text(hour)}]});
        let entry = draft(None, operation::BACKUP_SCHEDULED, caller, &new_action_id(), detail);
        // An hour that has passed today is tomorrow's first.
        let done = hour.and_then(|hour| daily_due(hour, None, now));
        self.store.put_fact(LAST_DAY, done.map(|day| day.to_string()), Vec::new(), now).await?;
        self.store.put_fact(DAILY_AT, text(hour), vec![entry], now).await?;
        Ok(())
    }

    async fn daily_hour(&self) -> Result<Option<u32>, StoreError> {
        Ok(self.store.fact(DAILY_AT).await?.as_deref().and_then(parse_hour))
    }

    /// Makes the daily backup when its hour has come and it has not been made.
    pub async fn backup_if_due(self: &Arc<Self>) -> Result<(), AppError> {
        const RETRY_MS: Millis = 300_000;
        let now = self.clock.now();
        let Some(hour) = self.daily_hour().await? else { return Ok(()) };
        let last = self.store.fact(LAST_DAY).await?.and_then(|day| day.parse().ok());
        let rests = self.backups().tried.is_some_and(|tried| (0..RETRY_MS).contains(&(now - tried)));
        let Some(day) = daily_due(hour, last, now).filter(|_| !rests) else { return Ok(()) };
        self.backups().tried = Some(now);
        let job = self.new_backup();
        self.run_backup(job.id, &command_center()).await?;
        self.backups().tried = None;
        self.store.put_fact(LAST_DAY, Some(day.to_string()), Vec::new(), now).await?;
        Ok(())
    }

    /// The daily backup and the newest one.
    pub async fn backups_view(&self) -> Result<BackupsView, StoreError> {
        let folder = self.backup_folder();
        let all = blocking(move || bundle::list(&folder)).await.map_err(|_| StoreError::Stopped)?.unwrap_or_default();
        let last = all.first();
        Ok(BackupsView {
            daily_at: self.daily_hour().await?.map(hour_text),
            last: last.and_then(|backup| Some(backup.path.file_name()?.to_string_lossy().into_owned())),
            last_iso: last.map(|backup| iso(backup.at)),
            count: all.len() as u64,
            error: self.backups().error.clone(),
        })
    }
}

/// Makes a backup of a store that no server has open.
///
/// # Errors
/// When a server runs, the store cannot be read, or there is no room.
pub fn backup_offline(
    database: &Path,
    desired: &Path,
    folder: &Path,
    now: Millis,
    tell: bundle::Tell<'_>,
) -> HealResult<Backup> {
    let (_hold, _) = Hold::take(database, None)?;
    super::heal::place::settle(database)?;
    if !database.exists() {
        return Err(HealError::Refused(format!("there is no store at {}", database.display())));
    }
    let frozen = Frozen::of_file(database, now)?;
    Ok(bundle::make(folder, frozen, desired, Pace::FULL, tell)?)
}
