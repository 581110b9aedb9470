//! How replication is told: `/ops/replication`, the section of health, the metrics.

use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Replication, StoreError};
use crate::adapters::store::Store as _;
use crate::core::timing::iso;

/// Further behind than this, or refused, and the section's status is 0.
const BEHIND: Duration = Duration::from_secs(30);
/// Less than this behind counts as following.
const NEAR: Duration = Duration::from_secs(5);

/// How far the copy at another place has come.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct ReplicationView {
    pub ok: bool,
    /// `off`: nothing is copied.
    pub mode: String,
    /// Without secrets.
    pub destination: Option<String>,
    /// `streaming`; `catching_up`: the copy is behind and being brought up; `away`: the destination fails;
    /// `refused`: this server may not write there; `failed`: it could not be begun; `off`.
    pub state: String,
    /// The last audit entry that can be restored from there.
    pub last_seq: Option<i64>,
    /// Audit entries that cannot yet.
    pub lag_entries: u64,
    /// How old the oldest change is that cannot be restored yet.
    pub lag_sec: f64,
    /// What failed last; null once a snapshot has arrived since.
    pub last_error: Option<String>,
    /// When the destination is asked again, where it fails or this server may not write there.
    #[serde(default)]
    pub next_try_iso: Option<String>,
    /// Segments in a row that follow one snapshot; a gap or a kill begins a new one.
    pub generation: Option<String>,
    /// What waits on this machine to be sent, and how much of it may.
    pub spool_bytes: u64,
    pub spool_limit_bytes: u64,
    pub last_snapshot: Option<LastSnapshot>,
}

/// The newest whole copy.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct LastSnapshot {
    pub at_iso: String,
    /// The last audit entry in it.
    pub seq: i64,
    /// Compressed.
    pub bytes: u64,
    pub took_sec: f64,
}

impl ReplicationView {
    /// There is to be a copy, and it could not be begun.
    pub fn failed(why: &str) -> ReplicationView {
        let (mode, state, last_error) = ("on".to_owned(), "failed".to_owned(), Some(why.to_owned()));
        ReplicationView { mode, state, last_error, ..ReplicationView::default() }
    }

    pub fn off() -> ReplicationView {
        ReplicationView { ok: true, mode: "off".to_owned(), state: "off".to_owned(), ..ReplicationView::default() }
    }
}

impl Replication {
    pub async fn view(&self) -> ReplicationView {
        let head = self.store.audit_head().await.map(|head| head.seq).unwrap_or(0);
        let lag = self.lag();
        let spool_bytes = self.spool().bytes();
        let waits = self.is_space_short().then(|| format!("nothing is cut or copied: {}", StoreError::Full));
        let status = self.status();
        let state = match () {
            () if status.refused.is_some() => "refused",
            () if status.failures > 0 => "away",
            () if status.complete.is_none() || lag > NEAR => "catching_up",
            () => "streaming",
        };
        // Before the destination was asked nothing is known to be there.
        let lag_entries = u64::try_from(head - status.replica.unwrap_or(0)).unwrap_or(0);
        ReplicationView {
            ok: status.refused.is_none() && lag <= BEHIND,
            mode: "on".to_owned(),
            destination: Some(self.terms.shown.clone()),
            state: state.to_owned(),
            last_seq: status.replica,
            lag_entries,
            lag_sec: (lag.as_secs_f64() * 1000.0).round() / 1000.0,
            last_error: status.refused.clone().or(waits).or_else(|| status.last_error.clone()),
            next_try_iso: status.next_try.map(iso),
            generation: status.generation.clone(),
            spool_bytes,
            spool_limit_bytes: self.terms.spool_bytes,
            last_snapshot: status.last_snapshot.clone(),
        }
    }

    pub fn waiting_bytes(&self) -> u64 {
        self.spool().bytes()
    }

    /// How old the oldest change is that cannot be restored from the destination.
    pub fn lag(&self) -> Duration {
        let waiting = self.spool().waiting().filter_map(|spooled| spooled.since).min();
        let since: Option<Instant> =
            [self.capture.since(), waiting, self.status().behind_since].into_iter().flatten().min();
        since.map_or(Duration::ZERO, |since| since.elapsed())
    }
}
