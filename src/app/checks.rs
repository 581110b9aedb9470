//! Looks at the whole database while the server runs. What is damaged is replaced by a restart, at whose start
//! the database is restored.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::App;
use super::snapshots::millis;
use super::space::{SHORT, SPENT};
use super::views::{BackupsView, CheckView, DbHealth, UpkeepHealth};
use crate::adapters::store::{Depth, Soundness, StoreError, StoreFacts};
use crate::core::copies::is_due;
use crate::core::model::Millis;
use crate::core::timing::iso;

/// When a large database that was closed in order is looked at after a start.
const AFTER_START_MS: Millis = 10_000;

/// What is left beside a database that was found damaged, for the next start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    pub at_ms: Millis,
    pub reason: String,
    /// It need not be looked at again: what was read of it cannot have been written so.
    #[serde(default)]
    pub certain: bool,
}

impl Marker {
    pub(super) fn read(path: &Path) -> Option<Marker> {
        let bytes = std::fs::read(path).ok()?;
        let unreadable = || Marker { at_ms: 0, reason: "a check found it damaged".to_owned(), certain: false };
        Some(serde_json::from_slice(&bytes).unwrap_or_else(|_| unreadable()))
    }
}

/// The marker's place.
pub fn marker_path(database: &Path) -> PathBuf {
    super::heal::beside(database, ".damaged")
}

impl App {
    /// A look before anything is built on what the store holds: only where it may need one.
    pub(super) async fn check_at_start(&self) -> Result<(), StoreError> {
        if !self.store.wants_check() {
            return Ok(());
        }
        let found = self.check(Depth::Quick, false).await?;
        found.or_corrupt("read the database")
    }

    async fn check(&self, depth: Depth, gently: bool) -> Result<Soundness, StoreError> {
        let (begun, now) = (Instant::now(), self.clock.now());
        let found = self.store.check(depth, gently).await;
        let outcome = match &found {
            Ok(Soundness::Sound) => "sound",
            Ok(Soundness::Damaged(_)) => "damaged",
            Err(_) => "failed",
        };
        self.metrics.integrity_checked(outcome);
        let mut told = self.keeping.told();
        told.checked = Some(now);
        if let Ok(found) = &found {
            let took_ms = i64::try_from(begun.elapsed().as_millis()).unwrap_or(i64::MAX);
            told.check = Some(CheckView { at_iso: iso(now), took_ms, result: found.to_string() });
        }
        found
    }

    /// Checks when it is time, or when something that was read looked damaged.
    pub async fn check_if_due(&self) {
        let suspicion = self.store.suspicion();
        let checked = self.keeping.told().checked;
        let interval = self.settings.upkeep.check_interval.map(millis);
        let now = self.clock.now();
        let is_due = match checked {
            // What was closed in order and is large is looked at once the start has settled, beside all else.
            None => interval.is_some() && (now - self.started).abs() >= AFTER_START_MS,
            Some(_) => interval.is_some_and(|interval| is_due(checked, interval, now)),
        };
        if suspicion.is_none() && !is_due || self.keeping.told().gives_up {
            return;
        }
        if let Some(what) = &suspicion {
            tracing::warn!(component = "store", "{what}; looking at the whole database");
        }
        let depth = if suspicion.is_some() { Depth::Full } else { Depth::Quick };
        match self.check(depth, suspicion.is_none()).await {
            Ok(Soundness::Sound) => {}
            Ok(Soundness::Damaged(reason)) => self.give_up_store(&reason),
            Err(error) => tracing::warn!(component = "store", %error, "could not check the database"),
        }
    }

    /// Leaves word for the next start and asks for it: a running program cannot exchange what it stands on.
    fn give_up_store(&self, reason: &str) {
        self.keeping.told().gives_up = true;
        let marker = Marker { at_ms: self.clock.now(), reason: reason.to_owned(), certain: false };
        let path = marker_path(&self.settings.dsn);
        let written = serde_json::to_vec(&marker).map_err(std::io::Error::from);
        if let Err(error) = written.and_then(|bytes| std::fs::write(&path, bytes)) {
            tracing::warn!(component = "store", %error, "could not write {}", path.display());
        }
        if !self.settings.auto_recover {
            tracing::error!(
                component = "store",
                "the database is damaged ({reason}); COMMAND_CENTER_AUTO_RECOVER is off, so stop the server and run \
                 `command-center restore`"
            );
            return;
        }
        tracing::error!(component = "store", "the database is damaged ({reason}); restarting to restore it");
        self.restarting.store(true, Ordering::Release);
        self.shutdown.cancel();
    }

    pub(super) async fn db_health(&self) -> DbHealth {
        let probe = self.store.audit_head().await;
        let told = self.keeping.told();
        let newest = told.newest.as_ref();
        let upkeep = UpkeepHealth {
            last_snapshot_iso: newest.map(|snapshot| snapshot.at_iso.clone()),
            last_snapshot_seq: newest.and_then(|snapshot| snapshot.audit_seq),
            snapshot_error: told.error.clone().or_else(|| self.backups().error.clone()),
            last_integrity_check: told.check.clone(),
            restored: told.restored.clone().filter(|restored| super::restored::is_shown(restored, self.clock.now())),
        };
        let (audit, disk) = (self.audit_health(), self.disk_health());
        let short = disk.as_ref().filter(|disk| disk.short).map(|disk| if disk.spent { SPENT } else { SHORT });
        let damage = told.gives_up.then(|| "the database is damaged".to_owned());
        let lost = upkeep
            .restored
            .as_ref()
            .map(|restored| format!("restored from {} at {}: {}", restored.from, restored.at_iso, restored.lost));
        let trouble = probe
            .err()
            .map(|error| error.to_string())
            .or(damage)
            .or_else(|| short.map(str::to_owned))
            .or_else(|| upkeep.snapshot_error.clone());
        DbHealth {
            status: u8::from(trouble.is_none() && audit.valid != Some(false)),
            engine: "sqlite".to_owned(),
            message: trouble.or(lost),
            audit,
            disk,
            upkeep,
        }
    }

    /// What fails of snapshots and backups at the moment.
    pub fn copy_trouble(&self) -> Option<String> {
        let snapshots = self.keeping.told().error.clone();
        snapshots.or_else(|| self.backups().error.clone())
    }

    /// The store's facts with what is known of its copies and checks.
    pub(super) async fn store_facts(&self) -> Result<StoreFacts, StoreError> {
        let mut facts = self.store.facts().await?;
        let value = |view: Option<serde_json::Result<serde_json::Value>>| view.and_then(Result::ok);
        let backups: BackupsView = self.backups_view().await?;
        let told = self.keeping.told();
        facts.last_snapshot = value(told.newest.as_ref().map(serde_json::to_value));
        facts.last_integrity_check = value(told.check.as_ref().map(serde_json::to_value));
        facts.restored = value(told.restored.as_ref().map(serde_json::to_value));
        facts.backups = value(Some(serde_json::to_value(backups)));
        Ok(facts)
    }
}
