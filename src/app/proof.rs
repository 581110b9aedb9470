//! Proof: the log's end signed and kept outside the database, the log verified against that, also by
//! itself, its oldest part sealed.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use serde_json::json;

use super::App;
use super::apply::{command_center, draft, new_action_id};
use super::blocking::{blocking, rest};
use super::error::AppError;
use super::loops::came_round;
use super::views::{AuditHealth, CheckpointView, VerifyingView};
use crate::adapters::notary::{Evidence, KeyState, Notary, NotaryError, Post, evidence, is_right};
use crate::adapters::store::{Seal, StoreError};
use crate::core::audit::{
    Anchor, BadCheckpoint, BadNote, Head, Signed, Verdict, Verifier, VerifierKey, operation, origin,
};
use crate::core::model::{Caller, Millis};
use crate::core::timing::{iso, seconds};

/// Entries that become one block. Each rewrites a page of the index by tenants: of 2,000 that makes eight
/// megabytes of log and a commit that others would notice.
const BLOCK: u32 = 500;

/// Where the result of the last verification is kept over a restart.
const VERIFIED_FACT: &str = "audit_verified";

/// What vouches for the log.
#[derive(Default)]
pub(super) struct Proof {
    /// Unset where nothing is signed: in tests, and where the key cannot be used.
    notary: OnceLock<Arc<Notary>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What keeps the log's end from being signed.
    trouble: Option<String>,
    verified: Option<Verified>,
    /// The newest checkpoint that was taken elsewhere, and why the last try failed.
    posted: Option<i64>,
    post_trouble: Option<String>,
    /// The newest checkpoint that lies beside the replica.
    anchored: Option<i64>,
    seal_trouble: Option<String>,
    /// How far the walk over the log has come that began last, while one goes on.
    walk: Option<Walk>,
}

#[derive(Clone, Copy)]
struct Walk {
    at: i64,
    end: i64,
}

#[derive(Clone)]
struct Verified {
    at: Millis,
    valid: bool,
    entries: u64,
    message: String,
}

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    #[error(transparent)]
    Notary(#[from] NotaryError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0}")]
    Post(String),
}

/// Why a checkpoint that somebody presents cannot be held against the log.
#[derive(Debug, thiserror::Error)]
pub enum Presented {
    #[error("{0}")]
    Key(BadNote),
    #[error("{0}")]
    Checkpoint(BadCheckpoint),
}

impl Proof {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shows how far a walk has come, as long as it goes on.
struct Walking<'a>(&'a Proof);

impl<'a> Walking<'a> {
    fn along(proof: &'a Proof, end: i64) -> Walking<'a> {
        proof.state().walk = Some(Walk { at: 0, end });
        Walking(proof)
    }

    fn has_come_to(&self, seq: i64) {
        if let Some(walk) = &mut self.0.state().walk {
            walk.at = seq;
        }
    }
}

impl Drop for Walking<'_> {
    fn drop(&mut self) {
        self.0.state().walk = None;
    }
}

impl App {
    /// Takes up the key and looks whether the log still goes as far as it was signed. What fails leaves the
    /// rest running and shows in the health.
    pub async fn open_notary(&self) {
        if let Err(error) = self.recall_verification().await {
            tracing::warn!(component = "notary", %error, "could not read when the audit log was last verified");
        }
        if let Err(error) = self.ensure_notary().await {
            tracing::error!(component = "notary", %error, "the audit log's end is not being signed; trying again");
        }
    }

    /// Whether something signs; where the key could not be taken up, this tries again.
    pub async fn ensure_notary(&self) -> Result<(), ProofError> {
        if self.notary().is_some() {
            return Ok(());
        }
        let opened = self.try_open_notary().await;
        self.proof.state().trouble = opened.as_ref().err().map(ToString::to_string);
        opened
    }

    async fn try_open_notary(&self) -> Result<(), ProofError> {
        let id = self.store.store_id().await?;
        let (data_dir, key_file) = (self.settings.data_dir.clone(), self.settings.proof.key_file.clone());
        let opened = blocking(move || Notary::open(&data_dir, key_file.as_deref(), &id)).await;
        let (notary, state) = opened.map_err(|_| StoreError::Stopped)??;
        if let KeyState::Replaced { before } = state {
            let detail = json!({"from": before, "to": notary.key().to_string()});
            let entry = draft(None, operation::AUDIT_KEY_REPLACED, &command_center(), &new_action_id(), detail);
            self.store.append(vec![entry], self.clock.now()).await?;
            self.metrics.event(operation::AUDIT_KEY_REPLACED, "warning");
            tracing::warn!(component = "notary", "the audit's key is another than before; audit.pub has both");
        }
        let notary = Arc::new(notary);
        let own = notary.clone();
        blocking(move || own.publish()).await.map_err(|_| StoreError::Stopped)??;
        if let Some(last) = notary.last() {
            self.metrics.audit_checkpoint(last.checkpoint.head.seq, seconds(last.checkpoint.at));
            // Of a store that was just restored it is known that its end is gone, and said by who restored it.
            if !self.is_restored_anew() {
                self.check_continuity(&last).await?;
            }
        }
        // Nobody else sets it.
        let _ = self.proof.notary.set(notary);
        Ok(())
    }

    /// One look at one entry: a log that was put back or cut beside the program shows at once.
    async fn check_continuity(&self, last: &Signed) -> Result<(), ProofError> {
        let signed = last.checkpoint.head;
        let found = self.store.audit_at(signed.seq).await?;
        if found == Some(signed) {
            return Ok(());
        }
        let at = iso(last.checkpoint.at);
        let message = match found {
            None => {
                format!("the audit log does not reach entry {}, which was signed at {at}: its end is gone", signed.seq)
            }
            Some(_) => format!("entry {} of the audit log is another than the one signed at {at}", signed.seq),
        };
        self.tell_verified(false, signed.seq.unsigned_abs(), message, Some(signed.seq)).await?;
        Ok(())
    }

    fn notary(&self) -> Option<&Arc<Notary>> {
        self.proof.notary.get()
    }

    /// Signs the log's end as it is, and keeps that on disk; the last checkpoint where nothing has come since.
    /// `None` for an empty log, and where nothing can be signed.
    pub async fn checkpoint_now(&self) -> Result<Option<Signed>, ProofError> {
        let Some(notary) = self.notary().cloned() else { return Ok(None) };
        let head = self.store.audit_head().await?;
        if head == Head::default() {
            return Ok(None);
        }
        let now = self.clock.now();
        let signed = blocking(move || notary.sign(head, now)).await.map_err(|_| StoreError::Stopped)?;
        match signed {
            Ok(signed) => {
                self.proof.state().trouble = None;
                self.metrics.audit_checkpoint(signed.checkpoint.head.seq, seconds(signed.checkpoint.at));
                Ok(Some(signed))
            }
            Err(error) => {
                self.proof.state().trouble = Some(error.to_string());
                Err(error.into())
            }
        }
    }

    /// The newest checkpoint.
    pub fn last_checkpoint(&self) -> Option<Signed> {
        self.notary()?.last()
    }

    /// Kept checkpoints of entries behind `seq`, in the order they were made.
    pub async fn checkpoints_since(&self, seq: i64) -> Result<Vec<Signed>, ProofError> {
        let Some(notary) = self.notary().cloned() else { return Ok(Vec::new()) };
        let (mut all, _) = blocking(move || notary.kept().all()).await.map_err(|_| StoreError::Stopped)??;
        all.retain(|signed| signed.checkpoint.head.seq > seq);
        Ok(all)
    }

    /// The public half of the key, and those of the keys before it.
    pub fn audit_keys(&self) -> Option<(VerifierKey, Vec<VerifierKey>)> {
        self.notary().map(|notary| (notary.key().clone(), notary.keys().to_vec()))
    }

    /// Hands the newest checkpoint over, unless that was done already; `true` when it was.
    pub async fn post_checkpoint(&self, post: &Post) -> Result<bool, ProofError> {
        let Some(last) = self.last_checkpoint() else { return Ok(false) };
        let seq = last.checkpoint.head.seq;
        if self.proof.state().posted == Some(seq) {
            return Ok(false);
        }
        let sent = post.send(&last).await;
        self.metrics.checkpoint_posted(sent.is_ok());
        let mut state = self.proof.state();
        state.post_trouble = sent.as_ref().err().cloned();
        if sent.is_ok() {
            state.posted = Some(seq);
        }
        sent.map(|()| true).map_err(ProofError::Post)
    }

    /// Puts the newest checkpoint beside the replica, where there is one; `true` when it was done now.
    pub async fn anchor_checkpoint(&self) -> Result<bool, ProofError> {
        /// A destination that hangs must not keep the next checkpoint from being made.
        const PATIENCE: Duration = Duration::from_secs(20);
        let (Some(replication), Some(last)) = (self.replication(), self.last_checkpoint()) else { return Ok(false) };
        let seq = last.checkpoint.head.seq;
        if self.proof.state().anchored == Some(seq) {
            return Ok(false);
        }
        let put = tokio::time::timeout(PATIENCE, replication.anchor(&last)).await;
        let told = |why: String| ProofError::Post(format!("the checkpoint was not put beside the replica: {why}"));
        let is_done = put.map_err(|_| told("it took too long".to_owned()))?.map_err(|error| told(error.to_string()))?;
        if is_done {
            self.proof.state().anchored = Some(seq);
        }
        Ok(is_done)
    }

    /// Reads a checkpoint that somebody kept. Believed are the keys that this store knows, or `key` alone.
    pub async fn read_presented(&self, checkpoint: &str, key: Option<&str>) -> Result<Anchor, Presented> {
        let signed = Signed::parse(checkpoint).map_err(Presented::Checkpoint)?;
        let anchor = match key {
            Some(key) => signed.anchor_by(&key.parse().map_err(Presented::Key)?, is_right),
            None => signed.anchor(self.notary().map(|notary| notary.keys()).unwrap_or_default(), is_right),
        };
        let anchor = anchor.map_err(Presented::Checkpoint)?;
        match self.store.store_id().await.map(|id| origin(&id)) {
            Ok(expected) if expected != signed.checkpoint.origin => {
                let found = signed.checkpoint.origin;
                Err(Presented::Checkpoint(BadCheckpoint::OtherStore { found, expected }))
            }
            _ => Ok(anchor),
        }
    }

    /// Walks the whole chain, and holds it against every kept checkpoint and `presented`.
    pub async fn verify_audit(&self, presented: Vec<Anchor>) -> Result<Verdict, AppError> {
        self.walk_audit(presented, Duration::ZERO).await
    }

    async fn walk_audit(&self, presented: Vec<Anchor>, breath: Duration) -> Result<Verdict, AppError> {
        let mut found = self.evidence().await;
        found.anchors.extend(presented);
        // The checkpoints before the head, the head before the walk: what comes meanwhile is no cut end.
        let head = self.store.audit_head().await?;
        let mut log = self.store.audit_log();
        let mut verifier = Verifier::against(found.anchors);
        let mut is_cut_short = false;
        let walking = Walking::along(&self.proof, head.seq);
        while let Some(batch) = log.recv().await {
            let batch = match batch {
                Ok(batch) => batch,
                Err(StoreError::Damaged(damage)) => {
                    verifier.damaged(damage.first, damage.last, &damage.reason);
                    is_cut_short = true;
                    break;
                }
                Err(error) => return Err(error.into()),
            };
            let walk = move || {
                batch.iter().filter(|entry| entry.seq <= head.seq).for_each(|entry| {
                    verifier.push(entry);
                });
                verifier
            };
            verifier = blocking(walk).await.map_err(|_| StoreError::Stopped)?;
            came_round();
            walking.has_come_to(verifier.seq());
            if !breath.is_zero() {
                rest(breath).await;
            }
        }
        let mut verdict = verifier.finish(Some(head));
        if let Some((_, says)) = found.forged.filter(|_| verdict.valid) {
            (verdict.valid, verdict.message) = (false, says);
        }
        if is_cut_short {
            verdict.total_entries = u64::try_from(head.seq).unwrap_or(0);
        }
        verdict.notes = found.notes;
        Ok(verdict)
    }

    /// What the kept checkpoints vouch for.
    async fn evidence(&self) -> Evidence {
        let Some(notary) = self.notary().cloned() else { return Evidence::default() };
        let read = blocking(move || {
            let all = notary.kept().all()?;
            Ok::<_, NotaryError>(evidence(&all, notary.keys(), &notary.key().name))
        })
        .await;
        let error = match read {
            Ok(Ok(found)) => return found,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the reading of them broke off".to_owned(),
        };
        Evidence { notes: vec![format!("the kept checkpoints cannot be read: {error}")], ..Evidence::default() }
    }

    /// Entries after `seq` were lost, which somebody knows and says: what vouched for them is put aside, and
    /// the log vouched for anew.
    pub async fn set_checkpoints_aside(
        &self,
        seq: i64,
        reason: Option<String>,
        caller: &Caller,
    ) -> Result<u64, AppError> {
        let Some(notary) = self.notary().cloned() else { return Ok(0) };
        let now = self.clock.now();
        let moved = blocking(move || notary.set_aside_after(seq, now)).await.map_err(|_| StoreError::Stopped)?;
        let moved = moved.map_err(|error| AppError::Conflict { detail: error.to_string(), suggestion: None })?;
        if moved > 0 {
            let detail = json!({"after": seq, "checkpoints": moved, "reason": reason});
            let entry = draft(None, operation::CHECKPOINTS_SET_ASIDE, caller, &new_action_id(), detail);
            self.store.append(vec![entry], now).await?;
            self.metrics.event(operation::CHECKPOINTS_SET_ASIDE, "warning");
            self.proof.state().verified = None;
            if let Err(error) = self.checkpoint_now().await {
                tracing::warn!(component = "notary", %error, "could not sign the audit log's end");
            }
        }
        Ok(moved)
    }

    /// When the log is to be verified next.
    pub fn verification_due(&self) -> Millis {
        let interval = Millis::try_from(self.settings.proof.verify_interval.as_millis()).unwrap_or(Millis::MAX);
        let state = self.proof.state();
        state.verified.as_ref().map_or(self.started, |verified| verified.at.saturating_add(interval))
    }

    /// Verifies the log without haste, and tells everybody what was found.
    pub async fn verify_by_itself(&self) -> Result<Verdict, AppError> {
        const BREATH: Duration = Duration::from_millis(5);
        let verdict = self.walk_audit(Vec::new(), BREATH).await?;
        let told = verdict.message.clone();
        self.tell_verified(verdict.valid, verdict.total_entries, told, verdict.first_bad_seq).await?;
        Ok(verdict)
    }

    async fn tell_verified(
        &self,
        valid: bool,
        entries: u64,
        message: String,
        bad: Option<i64>,
    ) -> Result<(), StoreError> {
        let now = self.clock.now();
        self.metrics.audit_verified(valid, seconds(now));
        let mut entry = None;
        // What was found before is written down already.
        let is_known =
            self.proof.state().verified.as_ref().is_some_and(|known| !known.valid && known.message == message);
        if valid {
            tracing::info!(component = "notary", entries, "the audit log is whole");
        } else {
            tracing::error!(component = "notary", first_bad_seq = bad, "the audit log is not whole: {message}");
            self.metrics.event(operation::AUDIT_BROKEN, "error");
            let detail = json!({"message": message.clone(), "first_bad_seq": bad});
            let draft = draft(None, operation::AUDIT_BROKEN, &command_center(), &new_action_id(), detail);
            entry = Some(draft).filter(|_| !is_known);
        }
        let fact = json!({"at": now, "valid": valid, "entries": entries, "message": message.clone()}).to_string();
        self.proof.state().verified = Some(Verified { at: now, valid, entries, message });
        self.store.put_fact(VERIFIED_FACT, Some(fact), entry.into_iter().collect(), now).await.map(|_| ())
    }

    /// What the verification before the last stop found.
    async fn recall_verification(&self) -> Result<(), StoreError> {
        self.metrics.set_audit_sealed(self.store.sealed().await?.entries);
        let Some(fact) = self.store.fact(VERIFIED_FACT).await? else { return Ok(()) };
        let fact: serde_json::Value = serde_json::from_str(&fact).unwrap_or_default();
        let (at, valid) =
            (fact.get("at").and_then(|at| at.as_i64()), fact.get("valid").and_then(|valid| valid.as_bool()));
        if let (Some(at), Some(valid)) = (at, valid) {
            let entries = fact.get("entries").and_then(|entries| entries.as_u64()).unwrap_or(0);
            let message = fact.get("message").and_then(|message| message.as_str()).unwrap_or_default().to_owned();
            self.metrics.audit_verified(valid, seconds(at));
            self.proof.state().verified = Some(Verified { at, valid, entries, message });
        }
        Ok(())
    }

    /// Seals one block of the oldest entries; whether there may be another. On a full disk that waits.
    pub async fn seal_some(&self) -> Result<bool, StoreError> {
        if self.is_space_short() {
            return Ok(false);
        }
        let sealed = self.store.seal_audit(self.settings.proof.audit_live.into(), BLOCK).await?;
        let trouble = match &sealed {
            Seal::Refused(why) => Some(format!("the oldest audit entries are not sealed: {why}")),
            Seal::Done(_) | Seal::Nothing => None,
        };
        let is_new = trouble.is_some() && self.proof.state().seal_trouble != trouble;
        if let (Some(trouble), true) = (&trouble, is_new) {
            tracing::error!(component = "notary", "{trouble}");
        }
        self.proof.state().seal_trouble = trouble;
        if let Seal::Done(block) = sealed {
            self.metrics.set_audit_sealed(u64::try_from(block.last_seq).unwrap_or(0));
            tracing::debug!(
                component = "notary",
                first = block.first_seq,
                last = block.last_seq,
                "audit entries sealed"
            );
        }
        Ok(matches!(sealed, Seal::Done(_)))
    }

    pub(super) fn audit_health(&self) -> AuditHealth {
        let last = self.last_checkpoint();
        let state = self.proof.state();
        let verified = state.verified.as_ref();
        let broken = verified.filter(|verified| !verified.valid).map(|verified| verified.message.clone());
        let message = broken.or_else(|| state.trouble.clone()).or_else(|| state.seal_trouble.clone());
        let post = state.post_trouble.as_ref().map(|why| format!("checkpoints are not posted: {why}"));
        AuditHealth {
            valid: verified.map(|verified| verified.valid),
            verified_iso: verified.map(|verified| iso(verified.at)),
            verified_entries: verified.map(|verified| verified.entries),
            checkpoint: last.map(|last| CheckpointView {
                seq: last.checkpoint.head.seq,
                ts_iso: iso(last.checkpoint.at),
                in_replica: self.replication().map(|_| state.anchored == Some(last.checkpoint.head.seq)),
                posted: self
                    .settings
                    .proof
                    .checkpoint_url
                    .as_ref()
                    .map(|_| state.posted == Some(last.checkpoint.head.seq)),
            }),
            verifying: state.walk.map(|walk| VerifyingView { entries: walk.at, of: walk.end }),
            message: message.or(post),
        }
    }
}
