//! Going on with the copy where the last stop left it: with no new snapshot, where it is certain that nothing has changed
//! since, neither here nor there.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::course::{Course, Generation};
use super::view::LastSnapshot;
use super::{Replication, Trouble};
use crate::core::audit::Head;
use crate::core::model::{Digest, Millis};
use crate::core::replica::claim::Writer;
use crate::core::replica::segment::Segment;
use crate::core::replica::{GENERATIONS, Part, Point, manifest_name, parse_name, segment_name, stamped};
use crate::core::timing::{iso, parse_time};

/// What a stop leaves beside the segments that wait.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Left {
    /// Whose, where, and of which file.
    instance: String,
    destination: String,
    database: String,
    epoch: u64,
    generation: String,
    /// The next segment, and the digest of the one before.
    next: u64,
    previous: String,
    /// Where the store stands there.
    seq: i64,
    hash: String,
    at: Millis,
    /// Up to where the destination could be restored.
    reached_seq: i64,
    since_snapshot: u64,
    snapshot_segment: u64,
    snapshot_bytes: u64,
    snapshot_at: Millis,
    snapshot_seq: i64,
    snapshot_took_sec: f64,
}

impl Left {
    fn snapshot(&self) -> LastSnapshot {
        LastSnapshot {
            at_iso: iso(self.snapshot_at),
            seq: self.snapshot_seq,
            bytes: self.snapshot_bytes,
            took_sec: self.snapshot_took_sec,
        }
    }

    /// The last segment that the destination should hold, and its digest; of what waits here the first one tells.
    fn reached(&self, replication: &Replication) -> (u64, Option<Digest>) {
        let spool = replication.spool();
        let Some(first) = spool.waiting().find(|spooled| spooled.generation == self.generation) else {
            return (self.next - 1, Digest::from_hex(&self.previous));
        };
        let segment = spool.read(first).ok().and_then(|bytes| Segment::decode(&bytes).ok());
        (first.index.saturating_sub(1), segment.map(|(segment, _)| segment.previous))
    }
}

impl Replication {
    /// Takes down how the copy was left, once the store is closed. Nothing is left where anything is uncertain.
    pub async fn leave(&self) {
        self.cut_all().await;
        let Some(left) = self.left().await else { return };
        if let Err(error) = self.spool().leave(&stamped::encode(&left)) {
            tracing::warn!(component = "replication", %error, "the next start will copy the whole database");
        }
    }

    async fn left(&self) -> Option<Left> {
        let (store, instance) = (self.store.clone(), self.owner.lock().await.instance().to_owned());
        let database = tokio::task::spawn_blocking(move || store.left_as()).await.ok()??;
        let course = self.course.lock().await;
        let generation = course.generation.as_ref()?;
        let status = self.status();
        // The destination may never have answered since the last time.
        let (epoch, reached_seq, snapshot) = match &course.left {
            Some(left) => (left.epoch, left.reached_seq, left.snapshot()),
            None => (status.epoch?, status.replica?, status.last_snapshot.clone()?),
        };
        Some(Left {
            instance,
            destination: self.terms.shown.clone(),
            database,
            epoch,
            generation: generation.name.clone(),
            next: generation.next,
            previous: generation.previous.to_hex(),
            seq: generation.end.head.seq,
            hash: generation.end.head.hash.to_hex(),
            at: generation.end.at,
            reached_seq,
            since_snapshot: generation.since_snapshot,
            snapshot_segment: generation.snapshot_segment,
            snapshot_bytes: generation.snapshot_bytes?,
            snapshot_at: parse_time(&snapshot.at_iso)?,
            snapshot_seq: snapshot.seq,
            snapshot_took_sec: snapshot.took_sec,
        })
    }

    /// Whether the last stop's copy is gone on with: what is captured from now on follows it. That it is still there
    /// is seen when the destination answers.
    pub(super) fn take_up(&self, instance: &str, course: &mut Course) {
        let left = self.spool().take_left();
        let left = left.and_then(|bytes| stamped::decode::<Left>(&bytes).ok()).filter(|left| {
            left.instance == instance
                && left.destination == self.terms.shown
                && self.store.found_as().is_some_and(|found| found == left.database)
                && self.is_spooled(left)
        });
        let Some((left, previous, hash)) = left.and_then(|left| {
            let digests = Digest::from_hex(&left.previous).zip(Digest::from_hex(&left.hash));
            digests.map(|(previous, hash)| (left, previous, hash))
        }) else {
            return;
        };
        let end = Point { head: Head { seq: left.seq, hash }, at: left.at };
        let age = Duration::from_millis(u64::try_from(self.now() - left.snapshot_at).unwrap_or(0));
        self.capture.resume(end, self.now());
        self.status().generation = Some(left.generation.clone());
        course.generation = Some(Generation {
            name: left.generation.clone(),
            next: left.next,
            previous,
            end,
            since_snapshot: left.since_snapshot,
            snapshot_at: Instant::now().checked_sub(age).unwrap_or_else(Instant::now),
            snapshot_segment: left.snapshot_segment,
            snapshot_bytes: Some(left.snapshot_bytes),
        });
        course.left = Some(left);
    }

    /// What waits of it leads up to the next segment.
    fn is_spooled(&self, left: &Left) -> bool {
        let spool = self.spool();
        let mut waiting = spool.waiting().filter(|spooled| spooled.generation == left.generation).map(|s| s.index);
        let Some(first) = waiting.next() else { return true };
        let last = waiting.try_fold(first, |before, index| (index == before + 1).then_some(index));
        last == left.next.checked_sub(1)
    }

    /// Of what was taken up, what is known now that `writer.json` was read: nobody else was there since.
    pub(super) async fn hold_against(&self, writer: Option<&Writer>, instance: &str) {
        let mut course = self.course.lock().await;
        let Some(left) = &course.left else { return };
        if !writer.is_some_and(|writer| writer.instance == instance && writer.epoch >= left.epoch) {
            self.let_go(&mut course).await;
        }
    }

    /// Looks whether the destination is as it was left, before anything is sent there.
    pub(super) async fn prove(&self) -> Result<(), Trouble> {
        let Some(left) = self.course.lock().await.left.clone() else { return Ok(()) };
        let is_there = self.is_there(&left).await?;
        let mut course = self.course.lock().await;
        if !is_there {
            self.let_go(&mut course).await;
            return Ok(());
        }
        course.left = None;
        tracing::info!(
            component = "replication",
            generation = left.generation,
            "going on with the copy as it was left"
        );
        let mut status = self.status();
        status.complete = Some(left.generation.clone());
        (status.replica, status.behind_since) = (Some(left.reached_seq), None);
        status.last_snapshot = Some(left.snapshot());
        Ok(())
    }

    async fn let_go(&self, course: &mut Course) {
        if let Some(generation) = &course.generation {
            self.spool().drop_generation(&generation.name);
        }
        self.end(course, "the destination is not as the last stop left it").await;
    }

    /// Its snapshot, its last segment, and nothing that came later.
    async fn is_there(&self, left: &Left) -> Result<bool, Trouble> {
        let (reached, digest) = left.reached(self);
        let last = segment_name(&left.generation, reached);
        let is_known = |name: &str| match parse_name(name) {
            Some((generation, index, Part::Snapshot | Part::Manifest)) => {
                generation == left.generation && index == left.snapshot_segment
            }
            Some((_, _, Part::Segment)) => false,
            None => true,
        };
        let later = self.place.list(GENERATIONS, Some(&last)).await?;
        if !later.iter().all(|listed| is_known(&listed.name)) {
            return Ok(false);
        }
        let manifest = manifest_name(&left.generation, left.snapshot_segment);
        if self.place.modified(&manifest).await?.is_none() {
            return Ok(false);
        }
        if reached == 0 {
            return Ok(true);
        }
        let Some(found) = self.place.get(&last).await? else { return Ok(false) };
        Ok(Segment::decode(&found.bytes).is_ok_and(|(_, found)| Some(found) == digest))
    }
}
