//! The connector of the simulated scheduler: ends at once or takes its time, fails in every way, hangs
//! until it is stopped or even longer; and keeps a diary.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::super::chance::Chance;
use super::model::Model;
use crate::adapters::connectors::{Connect, ErrorClass, ImportContext, ImportFailure, ImportOutcome};
use crate::app::blocking::passes;
use crate::core::model::{ImportStats, ScheduleId};

const CLASSES: [ErrorClass; 7] = [
    ErrorClass::Unauthorized,
    ErrorClass::RateLimited,
    ErrorClass::Unavailable,
    ErrorClass::BadResponse,
    ErrorClass::Configuration,
    ErrorClass::Store,
    ErrorClass::Unavailable,
];

pub(super) struct Script {
    chance: Arc<Chance>,
    model: Arc<Mutex<Model>>,
    /// Everything succeeds at once.
    is_calm: AtomicBool,
}

/// An import as the diary has it, also when it is dropped before its end.
struct Entry<'a> {
    model: &'a Mutex<Model>,
    id: ScheduleId,
    run: i64,
    failure: Option<ErrorClass>,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.model.lock().unwrap().import_ended(&self.id, self.run, self.failure);
    }
}

impl Script {
    pub fn new(chance: Arc<Chance>, model: Arc<Mutex<Model>>) -> Script {
        Script { chance, model, is_calm: AtomicBool::new(false) }
    }

    pub fn be_calm(&self) {
        self.is_calm.store(true, Ordering::SeqCst);
    }

    async fn play(&self, context: &ImportContext) -> Option<ImportFailure> {
        let chance = &self.chance;
        let sec = |most: u64| Duration::from_secs(1 + chance.below(most));
        match chance.below(20) {
            _ if self.is_calm.load(Ordering::SeqCst) => None,
            0..=7 => None,
            8..=11 => {
                passes(Some(sec(600))).await;
                None
            }
            12..=16 => {
                let failure = ImportFailure::new(*chance.pick(&CLASSES), "simulated");
                let retry_after = (failure.class == ErrorClass::RateLimited).then(|| sec(900));
                Some(ImportFailure { retry_after, ..failure })
            }
            17 => {
                passes(Some(sec(60))).await;
                Some(ImportFailure::new(ErrorClass::Unavailable, "simulated"))
            }
            18 => {
                context.cancel.cancelled().await;
                Some(ImportFailure::new(ErrorClass::Cancelled, "told to stop"))
            }
            _ => {
                // Deaf: it is let go after a while.
                context.cancel.cancelled().await;
                passes(Some(Duration::from_secs(3600))).await;
                None
            }
        }
    }
}

impl Connect for Script {
    fn import(&self, context: ImportContext) -> BoxFuture<'_, ImportOutcome> {
        Box::pin(async move {
            self.model.lock().unwrap().import_begun(&context);
            // Dropped on the way, it did not end by itself.
            let (id, run) = (context.id.clone(), context.run_id);
            let mut entry = Entry { model: &self.model, id, run, failure: Some(ErrorClass::Timeout) };
            let error = self.play(&context).await;
            entry.failure = error.as_ref().map(|failure| failure.class);
            ImportOutcome { stats: ImportStats::default(), error, log: None }
        })
    }
}
