//! A database file rebuilt from a replica: the best snapshot, then segment by segment, each checked against
//! its digest and the one before, up to the moment that is wanted.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt as _;
use sha2::Digest as _;

use super::place::{Found, Place, PlaceError, PlaceResult};
use crate::core::model::Digest;
use crate::core::replica::choose::{Generation, Target, candidates, generations};
use crate::core::replica::segment::Segment;
use crate::core::replica::{GENERATIONS, Manifest, Point, manifest_name, pause_ms, segment_name, snapshot_name};

/// How often a file is asked for again.
const ATTEMPTS: u32 = 4;
/// Segments that are fetched before it is their turn.
const AHEAD: usize = 16;

/// No segment is made as large; what claims to be is none.
const MAX_SEGMENT: u64 = 512 << 20;

#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error("there is no replica at this place")]
    Nothing,
    #[error("the replica has no state as old as that: its first one is of {at} and ends at audit entry {seq}")]
    TooOld { seq: i64, at: String },
    #[error("no state of the replica is whole: {0}")]
    Damaged(String),
    #[error(transparent)]
    Place(#[from] PlaceError),
    #[error("{path}: {error}")]
    File { path: String, error: std::io::Error },
}

/// How far it has come, in bytes to fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub done: u64,
    pub total: u64,
}

/// What was rebuilt.
#[derive(Clone, Debug)]
pub struct Restored {
    pub point: Point,
    pub generation: String,
    pub snapshot: Manifest,
    /// How many segments were applied.
    pub segments: u64,
    /// The next commit in the replica is past what was asked for.
    pub is_cut: bool,
    pub bytes: u64,
    /// What was found damaged or missing on the way, in words.
    pub notes: Vec<String>,
}

/// Rebuilds the store as a new file `into`; other files beside it begin with its name.
///
/// # Errors
/// When nothing whole is found, or the place or the disk fails.
pub async fn restore(
    place: &dyn Place,
    target: Target,
    into: &Path,
    progress: &(dyn Fn(Step) + Sync),
) -> Result<Restored, RestoreError> {
    let listing = place.list(GENERATIONS, None).await?;
    let all = generations(listing.iter().map(|listed| (listed.name.as_str(), listed.size)));
    let mut notes = Vec::new();
    let manifests = read_manifests(place, &all, &mut notes).await?;
    if manifests.is_empty() {
        return Err(if notes.is_empty() { RestoreError::Nothing } else { RestoreError::Damaged(notes.join("; ")) });
    }
    let first = manifests.iter().filter_map(Manifest::point).min_by_key(|point| point.head.seq);
    let chosen = candidates(manifests, target);
    if chosen.is_empty() {
        let first = first.unwrap_or_default();
        return Err(RestoreError::TooOld { seq: first.head.seq, at: crate::core::timing::iso(first.at) });
    }
    for manifest in chosen {
        let generation = all.get(&manifest.generation).cloned().unwrap_or_default();
        let mut work = Work { place, into, progress, generation, notes: Vec::new(), step: Step { done: 0, total: 0 } };
        match work.rebuild(&manifest, target).await {
            Ok(mut restored) => {
                notes.append(&mut work.notes);
                let end = restored.point.head.seq;
                if let Target::Seq(asked) = target
                    && end < asked
                    && !restored.is_cut
                {
                    notes.push(format!("the replica ends at audit entry {end}, before the {asked} that was asked for"));
                }
                restored.notes = notes;
                return Ok(restored);
            }
            Err(Broken::Here(what)) => notes.push(what),
            Err(Broken::Whole(error)) => return Err(error),
        }
    }
    Err(RestoreError::Damaged(notes.join("; ")))
}

/// Up to where the newest state there is reaches, as far as names and its last segment tell.
///
/// # Errors
/// When the place fails.
pub async fn newest(place: &dyn Place) -> Result<Option<Point>, RestoreError> {
    let listing = place.list(GENERATIONS, None).await?;
    let all = generations(listing.iter().map(|listed| (listed.name.as_str(), listed.size)));
    let manifests = read_manifests(place, &all, &mut Vec::new()).await?;
    let Some(manifest) = candidates(manifests, Target::Newest).into_iter().next() else { return Ok(None) };
    let (end, _) = all.get(&manifest.generation).map_or((0, None), |known| known.run_from(manifest.first_segment));
    let last = end.checked_sub(1).filter(|last| *last >= manifest.first_segment);
    if let Some(last) = last
        && let Some(found) = place.get(&segment_name(&manifest.generation, last)).await?
        && let Ok((segment, _)) = Segment::decode(&found.bytes)
    {
        return Ok(segment.end());
    }
    Ok(manifest.point())
}

/// The manifests of complete snapshots. One that is damaged is told and passed over.
async fn read_manifests(
    place: &dyn Place,
    all: &BTreeMap<String, Generation>,
    notes: &mut Vec<String>,
) -> Result<Vec<Manifest>, RestoreError> {
    let mut manifests = Vec::new();
    for (name, generation) in all {
        for index in generation.complete() {
            let file = manifest_name(name, index);
            let Some(found) = patiently(place, file.clone()).await? else { continue };
            match Manifest::decode(&found.bytes) {
                Ok(manifest) if manifest.generation == *name && manifest.first_segment == index => {
                    manifests.push(manifest);
                }
                Ok(_) => notes.push(format!("{file} is of another snapshot")),
                Err(what) => notes.push(format!("{file} {what}")),
            }
        }
    }
    Ok(manifests)
}

/// Reads a file there. A restore of thousands of files does not end at the first that does not come at once.
async fn patiently(place: &dyn Place, name: String) -> PlaceResult<Option<Found>> {
    let mut failures = 0;
    loop {
        match place.get(&name).await {
            Err(PlaceError::Away(_) | PlaceError::Failed(_)) if failures < ATTEMPTS => {
                failures += 1;
                tokio::time::sleep(Duration::from_millis(pause_ms(failures))).await;
            }
            found => return found,
        }
    }
}

enum Broken {
    /// This snapshot cannot be used; another may.
    Here(String),
    Whole(RestoreError),
}

struct Work<'a> {
    place: &'a dyn Place,
    into: &'a Path,
    progress: &'a (dyn Fn(Step) + Sync),
    generation: Generation,
    notes: Vec<String>,
    step: Step,
}

impl Work<'_> {
    async fn rebuild(&mut self, manifest: &Manifest, target: Target) -> Result<Restored, Broken> {
        let (end, missing) = self.generation.run_from(manifest.first_segment);
        let sizes = self.generation.segments.range(manifest.first_segment..end);
        self.step.total = manifest.stored_size + sizes.map(|(_, size)| size).sum::<u64>();
        self.snapshot(manifest).await?;
        let start = manifest.point().unwrap_or_default();
        let mut database = File::options().read(true).write(true).open(self.into).map_err(|e| self.file(e))?;
        let mut restored = Restored {
            point: start,
            generation: manifest.generation.clone(),
            snapshot: manifest.clone(),
            segments: 0,
            is_cut: false,
            bytes: 0,
            notes: Vec::new(),
        };
        let mut previous = Digest::from_hex(&manifest.previous);
        let mut index = manifest.first_segment;
        // A replica holds many small files, and each costs a way there and back: several are under way at a time.
        let (place, folder) = (self.place, manifest.generation.clone());
        let names = (index..end).map(move |index| segment_name(&folder, index));
        let mut coming = futures_util::stream::iter(names).map(|name| patiently(place, name)).buffered(AHEAD);
        while let Some(found) = coming.next().await {
            let segment = match self.segment(manifest, index, previous, found)? {
                Ok((segment, digest)) => {
                    previous = Some(digest);
                    segment
                }
                Err(what) => {
                    self.notes.push(format!("{what}; what came after it in this generation cannot be used"));
                    break;
                }
            };
            let (point, is_cut) = apply(&mut database, &segment, target).map_err(|error| self.file(error))?;
            restored.point = point.unwrap_or(restored.point);
            restored.segments += 1;
            restored.is_cut = is_cut;
            if is_cut {
                break;
            }
            index += 1;
        }
        if let Some(missing) = missing.filter(|missing| index >= *missing) {
            let name = segment_name(&manifest.generation, missing);
            self.notes.push(format!("{name} is missing; what came after it in this generation cannot be used"));
        }
        database.sync_all().map_err(|error| self.file(error))?;
        restored.bytes = database.metadata().map_err(|error| self.file(error))?.len();
        Ok(restored)
    }

    fn file(&self, error: std::io::Error) -> Broken {
        Broken::Whole(RestoreError::File { path: self.into.display().to_string(), error })
    }

    /// Fetches and unpacks the snapshot; both of its digests must fit.
    async fn snapshot(&mut self, manifest: &Manifest) -> Result<(), Broken> {
        let name = snapshot_name(&manifest.generation, manifest.first_segment);
        let packed = beside(self.into, ".zst");
        let (total, told) = (self.step.total, self.progress);
        let mut failures = 0;
        let fetched = loop {
            match self.place.fetch(&name, &packed, &|done| told(Step { done, total })).await {
                Err(PlaceError::Away(_) | PlaceError::Failed(_)) if failures < ATTEMPTS => {
                    failures += 1;
                    tokio::time::sleep(Duration::from_millis(pause_ms(failures))).await;
                }
                fetched => break fetched,
            }
        };
        let unpacked = match fetched {
            Ok(()) => {
                let (from, into, manifest) = (packed.clone(), self.into.to_owned(), manifest.clone());
                let work = tokio::task::spawn_blocking(move || unpack(&from, &into, &manifest));
                work.await.unwrap_or_else(|error| Err(Broken::Here(error.to_string())))
            }
            Err(error @ (PlaceError::Local(_) | PlaceError::Away(_) | PlaceError::Denied(_))) => {
                Err(Broken::Whole(error.into()))
            }
            Err(error) => Err(Broken::Here(error.to_string())),
        };
        let _ = std::fs::remove_file(&packed);
        self.step.done = manifest.stored_size;
        unpacked.map_err(|broken| match broken {
            Broken::Here(what) => Broken::Here(format!("{name} {what}")),
            whole @ Broken::Whole(_) => whole,
        })
    }

    /// A segment that follows `previous`, or what is wrong with it.
    fn segment(
        &mut self,
        manifest: &Manifest,
        index: u64,
        previous: Option<Digest>,
        found: PlaceResult<Option<Found>>,
    ) -> Result<Result<(Segment, Digest), String>, Broken> {
        let name = segment_name(&manifest.generation, index);
        let size = self.generation.segments.get(&index).copied().unwrap_or(0);
        if size > MAX_SEGMENT {
            return Ok(Err(format!("{name} is larger than any segment")));
        }
        let found = match found {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(Err(format!("{name} is missing"))),
            Err(error) => return Err(Broken::Whole(error.into())),
        };
        self.step.done += size;
        (self.progress)(self.step);
        Ok(match Segment::decode(&found.bytes) {
            Err(what) => Err(format!("{name} {what}")),
            Ok((segment, _)) if segment.generation != manifest.generation || segment.index != index => {
                Err(format!("{name} is another segment than its name says"))
            }
            Ok((segment, _)) if previous.is_some_and(|previous| segment.previous != previous) => {
                Err(format!("{name} does not follow the segment before it"))
            }
            Ok((segment, _)) if segment.page_size != manifest.page_size => {
                Err(format!("{name} has pages of another size"))
            }
            Ok(whole) => Ok(whole),
        })
    }
}

/// Writes the pages of the sections up to the target: the newest of each.
fn apply(database: &mut File, segment: &Segment, target: Target) -> std::io::Result<(Option<Point>, bool)> {
    let within = segment.sections.iter().take_while(|section| target.includes(&section.point)).count();
    let mut pages: BTreeMap<u32, &[u8]> = BTreeMap::new();
    let mut end = None;
    for section in segment.sections.iter().take(within) {
        pages.retain(|number, _| *number <= section.pages_in_db);
        pages.extend(section.pages.iter().map(|(number, bytes)| (*number, bytes.as_slice())));
        end = Some(section);
    }
    if let Some(end) = end {
        for (number, bytes) in pages.range(..=end.pages_in_db) {
            database.seek(SeekFrom::Start(u64::from(number - 1) * u64::from(segment.page_size)))?;
            database.write_all(bytes)?;
        }
        database.set_len(u64::from(end.pages_in_db) * u64::from(segment.page_size))?;
    }
    Ok((end.map(|section| section.point), within < segment.sections.len()))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn unpack(packed: &Path, into: &Path, manifest: &Manifest) -> Result<(), Broken> {
    let disk = |error| Broken::Whole(RestoreError::File { path: into.display().to_string(), error });
    let damaged = || Broken::Here("does not have the size and digest that its manifest names".to_owned());
    let file = File::open(packed).map_err(disk)?;
    let mut stored = Hashing { inner: file, hasher: sha2::Sha256::new(), size: 0 };
    let (mut hasher, mut size) = (sha2::Sha256::new(), 0u64);
    let mut database = File::create(into).map_err(disk)?;
    let mut decoder = zstd::stream::read::Decoder::new(&mut stored).map_err(disk)?;
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let count = decoder.read(&mut buffer).map_err(|_| damaged())?;
        let part = buffer.get(..count).unwrap_or_default();
        if part.is_empty() {
            break;
        }
        size += count as u64;
        // A damaged file shall not fill the disk.
        if size > manifest.size {
            return Err(damaged());
        }
        hasher.update(part);
        database.write_all(part).map_err(disk)?;
    }
    drop(decoder);
    // What stands behind the compressed data belongs to the digest as well.
    std::io::copy(&mut stored, &mut std::io::sink()).map_err(disk)?;
    let found = (hex::encode(hasher.finalize()), hex::encode(stored.hasher.finalize()));
    let fits = size == manifest.size && stored.size == manifest.stored_size;
    if !fits || found != (manifest.sha256.clone(), manifest.stored_sha256.clone()) {
        return Err(damaged());
    }
    database.sync_all().map_err(disk)
}

/// Reads and hashes.
struct Hashing<R> {
    inner: R,
    hasher: sha2::Sha256,
    size: u64,
}

impl<R: std::io::Read> std::io::Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(buffer.get(..count).unwrap_or_default());
        self.size += count as u64;
        Ok(count)
    }
}
