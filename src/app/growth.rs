//! What keeps the store bounded where the operator wants it, and what `/ops/db` says of that.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::App;
use crate::adapters::store::{ANSWER_TTL_MS, Pruned, StoreFacts, StoreResult};
use crate::core::model::Millis;

const DAY_MS: Millis = 24 * 3600 * 1000;

/// Something whose past is forgotten step by step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Past {
    Revisions,
    Records,
}

impl App {
    /// One step of forgetting, of schedules behind `after`; nothing where all is to be kept.
    pub async fn forget(&self, what: Past, after: Option<String>) -> StoreResult<Pruned> {
        let now = self.clock.now();
        let proof = &self.settings.proof;
        match (what, proof.revisions(), proof.records_unseen_days) {
            (Past::Revisions, Some(keep), _) => self.store.prune_revisions(after, keep, now).await,
            (Past::Records, _, Some(days)) => self.store.prune_records(after, now - Millis::from(days) * DAY_MS).await,
            _ => Ok(Pruned::default()),
        }
    }

    /// Facts of the store, and how far each of its parts may grow.
    pub async fn database_facts(&self) -> StoreResult<(StoreFacts, BTreeMap<String, Value>)> {
        let facts = self.store_facts().await?;
        self.metrics.set_audit_sealed(facts.audit_sealed.entries);
        let proof = &self.settings.proof;
        let keep = self.settings.keep;
        let no_limit = |count: u32| Some(count).filter(|count| *count > 0);
        let limits = [
            ("audit", json!({"live_entries": proof.audit_live, "older": "sealed, never deleted"})),
            (
                "revisions",
                match proof.revisions() {
                    Some(keep) => json!({"at_least": keep.at_least, "days": keep.days}),
                    None => Value::Null,
                },
            ),
            ("runs", json!({"per_schedule": no_limit(keep.runs), "days": no_limit(keep.days)})),
            ("records", proof.records_unseen_days.map_or(Value::Null, |days| json!({"unseen_days": days}))),
            ("answers", json!({"hours": ANSWER_TTL_MS / 3_600_000})),
            ("webhook_events", json!({"days": super::webhooks::KEPT_DAYS})),
        ];
        Ok((facts, limits.map(|(name, limit)| (name.to_owned(), limit)).into()))
    }
}
