//! Snapshots: the whole database, copied beside the server's work, from which a generation begins; and which of
//! the old ones may go.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::time::{Duration, Instant};

use serde_json::json;
use sha2::Digest as _;

use super::course::Generation;
use super::view::LastSnapshot;
use super::{Replication, TEND, Trouble};
use crate::adapters::replica::{PlaceError, Scratch};
use crate::adapters::store::{Frozen, Pace};
use crate::core::audit::operation;
use crate::core::model::{Digest, Millis};
use crate::core::replica::choose::{disposable, generations, is_before};
use crate::core::replica::{
    FORMAT, GENERATIONS, Manifest, Point, generation_name, manifest_name, parse_name, pause_ms, snapshot_name,
};
use crate::core::timing::{iso, seconds};

/// A new snapshot when this much time has passed, or when the segments since the last are this many times its
/// size and more than a little: restoring reads both.
const DAILY: Duration = Duration::from_secs(86_400);
const TIMES: u64 = 4;
const LEVEL: i32 = 3;

/// A snapshot on its way.
struct Begun {
    frozen: Frozen,
    point: Point,
    generation: String,
    first_segment: u64,
    previous: Digest,
    began: Instant,
}

/// The snapshot as a compressed file.
struct Packed {
    scratch: Scratch,
    size: u64,
    sha256: String,
    stored_size: u64,
    stored_sha256: String,
}

impl Replication {
    /// Makes a snapshot where one is due; tells how long to wait before the next look.
    pub(super) async fn tend(&self) -> Duration {
        if self.is_space_short() {
            return TEND;
        }
        let epoch = {
            let status = self.status();
            status.epoch.filter(|_| status.failures == 0)
        };
        let Some(epoch) = epoch else { return TEND };
        let is_new = {
            let course = self.course.lock().await;
            match &course.generation {
                None => true,
                Some(generation) if course.left.is_none() && generation.is_outgrown(self.terms.little) => false,
                Some(_) => return TEND,
            }
        };
        match self.snapshot(epoch, is_new).await {
            Ok(()) => {
                if let Err(trouble) = self.forget().await {
                    tracing::warn!(component = "replication", error = %trouble, "could not remove what is no longer kept");
                }
                TEND
            }
            Err(trouble) => {
                let mut course = self.course.lock().await;
                if course.generation.as_ref().is_some_and(|generation| generation.snapshot_bytes.is_none()) {
                    self.end(&mut course, &format!("its snapshot could not be made: {trouble}")).await;
                } else if let Some(generation) = &mut course.generation {
                    // The old one goes on serving; the next attempt is a while away.
                    generation.since_snapshot = 0;
                    generation.snapshot_at = Instant::now();
                }
                drop(course);
                self.failed(&trouble)
            }
        }
    }

    /// Makes a snapshot, with `is_new` of a new generation.
    pub(super) async fn snapshot(&self, epoch: u64, is_new: bool) -> Result<(), Trouble> {
        let begun = self.begin(epoch, is_new).await?;
        self.complete(begun).await
    }

    /// A snapshot that ended with the loop that made it leaves a generation that nobody would complete any more.
    pub(super) async fn give_up_unfinished(&self) {
        let mut course = self.course.lock().await;
        let unfinished = course.generation.take_if(|generation| generation.snapshot_bytes.is_none());
        if let Some(generation) = unfinished {
            self.capture.rest();
            self.spool().drop_generation(&generation.name);
            self.status().behind_since.get_or_insert_with(Instant::now);
        }
    }

    /// Begins a reading to copy from, and with `is_new` a generation: what is captured from here on follows it.
    async fn begin(&self, epoch: u64, is_new: bool) -> Result<Begun, Trouble> {
        let mut course = self.course.lock().await;
        let began = Instant::now();
        let (frozen, point) = self.store.begin_snapshot(self.now()).await?;
        // The first cut goes up to the snapshot, unless a gap has come since.
        if !self.cut(&mut course).await? || (course.generation.is_none() && !is_new) {
            return Err(Trouble::Other("a gap came between".to_owned()));
        }
        if is_new {
            course.count += 1;
            let tag = uuid::Uuid::now_v7().simple().to_string();
            let name = generation_name(epoch, course.count, tag.get(24..).unwrap_or_default());
            let (next, previous) = (1, Digest([0; 32]));
            self.status().generation = Some(name.clone());
            course.generation = Some(Generation {
                name,
                next,
                previous,
                end: point,
                since_snapshot: 0,
                snapshot_at: began,
                snapshot_segment: next,
                snapshot_bytes: None,
            });
        }
        let generation = course.generation.as_mut().ok_or_else(|| Trouble::Other("a gap came between".to_owned()))?;
        (generation.since_snapshot, generation.snapshot_at) = (0, began);
        let (name, first_segment, previous) = (generation.name.clone(), generation.next, generation.previous);
        Ok(Begun { frozen, point, generation: name, first_segment, previous, began })
    }

    /// Copies, sends and vouches for a snapshot.
    async fn complete(&self, begun: Begun) -> Result<(), Trouble> {
        let Begun { frozen, point, generation, first_segment, previous, began } = begun;
        let (schema_version, page_bytes, taken_at) = (frozen.schema_version, frozen.page_bytes, frozen.at);
        let scratch = self.spool().scratch();
        let packing = tokio::task::spawn_blocking(move || pack(frozen, scratch));
        let packed = packing.await.unwrap_or_else(|error| Err(Trouble::Other(error.to_string())))?;
        let manifest = Manifest {
            format: FORMAT,
            store: self.owner_store().await,
            generation: generation.clone(),
            first_segment,
            previous: previous.to_hex(),
            page_size: u32::try_from(page_bytes).unwrap_or(0),
            size: packed.size,
            sha256: packed.sha256.clone(),
            stored_size: packed.stored_size,
            stored_sha256: packed.stored_sha256.clone(),
            audit_seq: point.head.seq,
            audit_hash: point.head.hash.to_hex(),
            audit_at: point.at,
            taken_at,
            schema_version,
            program: env!("CARGO_PKG_VERSION").to_owned(),
        };
        self.send_snapshot(&packed, &manifest).await?;
        self.completed(&manifest, began).await;
        Ok(())
    }

    async fn completed(&self, manifest: &Manifest, began: Instant) {
        let is_first = {
            let mut course = self.course.lock().await;
            let generation = course.generation.as_mut().filter(|generation| generation.name == manifest.generation);
            let Some(generation) = generation else { return };
            generation.snapshot_segment = manifest.first_segment;
            generation.snapshot_bytes.replace(manifest.stored_size).is_none()
        };
        {
            let mut status = self.status();
            let shipped = status.shipped.as_ref().filter(|(name, _)| *name == manifest.generation);
            let reached = shipped.map_or(manifest.audit_seq, |(_, point)| point.head.seq.max(manifest.audit_seq));
            status.complete = Some(manifest.generation.clone());
            (status.replica, status.behind_since, status.last_error) = (Some(reached), None, None);
            status.last_snapshot = Some(LastSnapshot {
                at_iso: iso(manifest.taken_at),
                seq: manifest.audit_seq,
                bytes: manifest.stored_size,
                took_sec: began.elapsed().as_secs_f64(),
            });
        }
        if is_first {
            tracing::info!(
                component = "replication",
                generation = manifest.generation,
                "replicating to {}",
                self.terms.shown
            );
            let detail = json!({
                "generation": manifest.generation, "destination": self.terms.shown, "seq": manifest.audit_seq,
                "bytes": manifest.stored_size, "took_sec": seconds(Millis::try_from(began.elapsed().as_millis()).unwrap_or(0)),
            });
            self.note(operation::REPLICATION_BEGAN, detail).await;
        }
    }

    /// Sends the snapshot and then its manifest, again and again while the generation lasts: the segments after it
    /// wait meanwhile.
    async fn send_snapshot(&self, packed: &Packed, manifest: &Manifest) -> Result<(), Trouble> {
        let mut failures = 0;
        loop {
            let lasts = self.course.lock().await.generation.as_ref().is_some_and(|g| g.name == manifest.generation);
            if !lasts || self.status().epoch.is_none() {
                return Err(Trouble::Other("the generation ended before its snapshot was there".to_owned()));
            }
            match self.try_snapshot(packed, manifest).await {
                Ok(()) => return Ok(()),
                Err(trouble @ Trouble::Place(PlaceError::Local(_))) => return Err(trouble),
                Err(trouble) => {
                    failures += 1;
                    self.failed(&trouble);
                    tokio::time::sleep(Duration::from_millis(pause_ms(failures))).await;
                }
            }
        }
    }

    async fn try_snapshot(&self, packed: &Packed, manifest: &Manifest) -> Result<(), Trouble> {
        self.own().await?;
        let (generation, index) = (&manifest.generation, manifest.first_segment);
        let snapshot = snapshot_name(generation, index);
        self.place.put_file(&snapshot, &packed.scratch.packed).await?;
        self.shows(&snapshot, packed.stored_size).await?;
        let (name, bytes) = (manifest_name(generation, index), manifest.encode());
        let size = bytes.len() as u64;
        self.place.put(&name, bytes.into()).await?;
        self.shows(&name, size).await
    }

    /// Success is what the destination shows, not what it answered.
    async fn shows(&self, name: &str, size: u64) -> Result<(), Trouble> {
        let (folder, _) = name.rsplit_once('/').unwrap_or((name, ""));
        let listed = self.place.list(folder, None).await?;
        match listed.iter().find(|listed| listed.name == name) {
            Some(listed) if listed.size == size => Ok(()),
            _ => {
                let told = format!("it said that it has stored {name}, and does not show it whole; sending it again");
                Err(PlaceError::Failed(told).into())
            }
        }
    }

    /// Removes what is older than what is kept; the destination's clock tells the ages.
    async fn forget(&self) -> Result<(), Trouble> {
        let listing = self.place.list(GENERATIONS, None).await?;
        let all = generations(listing.iter().map(|listed| (listed.name.as_str(), listed.size)));
        let newest = listing.iter().map(|listed| listed.modified).max().unwrap_or(0);
        let keep = Millis::try_from(self.terms.keep.as_millis()).unwrap_or(Millis::MAX);
        let mut taken = BTreeMap::new();
        for listed in &listing {
            if let Some((generation, index, crate::core::replica::Part::Manifest)) = parse_name(&listed.name) {
                taken.insert((generation.to_owned(), index), listed.modified);
            }
        }
        let Some(basis) = disposable(&all, &taken, newest.saturating_sub(keep)) else { return Ok(()) };
        // Manifests go first: a snapshot that is half removed is none.
        let mut old: Vec<&str> =
            listing.iter().map(|listed| listed.name.as_str()).filter(|name| is_before(name, &basis)).collect();
        old.sort_by_key(|name| !name.ends_with(".manifest"));
        for name in old {
            self.place.delete(name).await?;
        }
        Ok(())
    }
}

impl Generation {
    /// Whether a new snapshot is due. Not before the first is there.
    fn is_outgrown(&self, little: u64) -> bool {
        let Some(snapshot) = self.snapshot_bytes else { return false };
        self.snapshot_at.elapsed() >= DAILY || self.since_snapshot > (snapshot * TIMES).max(little)
    }
}

/// Copies the reading to a file and compresses it; the reading is let go in between.
fn pack(frozen: Frozen, scratch: Scratch) -> Result<Packed, Trouble> {
    frozen.copy_to(&scratch.copy, Pace::GENTLE, &mut |_| true)?;
    drop(frozen);
    let packed = compress(scratch)?;
    let _ = std::fs::remove_file(&packed.scratch.copy);
    Ok(packed)
}

fn compress(scratch: Scratch) -> io::Result<Packed> {
    let mut source = File::open(&scratch.copy)?;
    let (mut hasher, mut size) = (sha2::Sha256::new(), 0);
    let stored = Hashing { inner: File::create(&scratch.packed)?, hasher: sha2::Sha256::new(), size: 0 };
    let mut encoder = zstd::stream::write::Encoder::new(stored, LEVEL)?;
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let count = source.read(&mut buffer)?;
        let part = buffer.get(..count).unwrap_or_default();
        if part.is_empty() {
            break;
        }
        hasher.update(part);
        encoder.write_all(part)?;
        size += count as u64;
    }
    let stored = encoder.finish()?;
    let sha256 = hex::encode(hasher.finalize());
    Ok(Packed { scratch, size, sha256, stored_size: stored.size, stored_sha256: hex::encode(stored.hasher.finalize()) })
}

/// Writes and hashes.
struct Hashing<W> {
    inner: W,
    hasher: sha2::Sha256,
    size: u64,
}

impl<W: io::Write> io::Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hasher.update(bytes.get(..count).unwrap_or_default());
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
