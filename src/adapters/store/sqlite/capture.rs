//! What commits have changed, for the replica: after each commit, once its answers are out, the writer reads
//! the pages that it has just written from the write-ahead log. Nothing is added to a transaction.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::{Frozen, Lane, SqliteStore};
use crate::adapters::store::StoreFuture;
use crate::core::model::Millis;
use crate::core::replica::Point;
use crate::core::replica::segment::{Section, section_bytes};

/// What may wait in memory: more is a gap, and the replica begins anew with a snapshot.
const MOST_BYTES: u64 = 64 << 20;

/// From here on the replicator is called before its time.
const MANY_BYTES: u64 = 8 << 20;

/// Files' times go no finer everywhere: what is written so soon after may bear the same time.
const TICK: Duration = Duration::from_millis(50);

const LOG_HEAD: usize = 32;
const FRAME_HEAD: usize = 24;

/// Shared by the writer's thread, which fills it, and the replicator, which empties it.
pub struct Capture {
    log: PathBuf,
    state: Mutex<State>,
    /// Rung when much is waiting, or a gap has come.
    pub filled: Notify,
}

#[derive(Default)]
struct State {
    file: Option<File>,
    /// Up to where the log has been read.
    read: Option<Mark>,
    /// Somebody else has written since.
    others_wrote: bool,
    is_recording: bool,
    /// The recording goes on from an earlier opening: all of the log that was begun since belongs to it.
    is_resumed: bool,
    gap: Option<String>,
    page_size: u32,
    last: Point,
    closed: Vec<Section>,
    closed_bytes: u64,
    open: Option<Open>,
    /// When the oldest commit that waits was made.
    since: Option<Instant>,
    /// How many of `closed` come before the snapshot that was begun.
    snapshot_after: Option<usize>,
}

/// A place in the log: which log, by its salts, and how many of its frames.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Mark {
    salts: [u8; 8],
    frames: u32,
}

#[derive(Default)]
struct Open {
    pages: BTreeMap<u32, Vec<u8>>,
    pages_in_db: u32,
}

/// What had been captured, in order.
#[derive(Debug, Default)]
pub struct Taken {
    pub sections: Vec<Section>,
    pub page_size: u32,
    /// The snapshot that was begun stands right behind these sections.
    pub snapshot_follows: bool,
    pub since: Option<Instant>,
}

impl Capture {
    pub(super) fn new(database: &Path) -> Capture {
        let state = Mutex::new(State::default());
        Capture { log: super::with_suffix(database, "-wal"), state, filled: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Called within a transaction of the writer: all that is captured from now on comes after a reading that
    /// begins now, at `point`. Also begins the recording, and ends a gap.
    pub(super) fn begin(&self, point: Point) {
        let mut state = self.state();
        if state.gap.take().is_some() || !state.is_recording {
            state.clear();
            state.is_recording = true;
            state.last = point;
        }
        // Whatever others wrote before is in the snapshot.
        state.others_wrote = false;
        state.close();
        state.snapshot_after = Some(state.closed.len());
    }

    /// Goes on from `point`, where an earlier opening's recording ended. What has been committed since the store was
    /// opened is in a log that was begun since, and is read from its beginning; it counts as made `now`.
    pub fn resume(&self, point: Point, now: Millis) {
        let mut state = self.state();
        state.clear();
        (state.is_recording, state.is_resumed) = (true, true);
        state.last = Point { at: now.max(point.at), ..point };
        // Commits of which this learned before it recorded were passed over.
        (state.read, state.file) = (None, None);
    }

    /// Whether the log has to be read though nothing has been committed since.
    pub(super) fn wants_a_look(&self) -> bool {
        self.state().is_resumed
    }

    /// Takes what has been captured, at most up to where a snapshot was begun.
    ///
    /// # Errors
    /// Why something is missing after what was taken last; nothing is recorded then until a snapshot begins.
    pub fn take(&self) -> Result<Taken, String> {
        let mut state = self.state();
        // What came before the gap is whole, and taken first.
        state.close();
        if let Some(gap) = state.gap.clone().filter(|_| state.closed.is_empty()) {
            return Err(gap);
        }
        let page_size = state.page_size;
        if let Some(count) = state.snapshot_after.take() {
            let rest = state.closed.split_off(count);
            let sections = std::mem::replace(&mut state.closed, rest);
            state.closed_bytes = state.closed.iter().map(|s| section_bytes(s.pages.len(), page_size)).sum();
            let since = state.since;
            if state.closed.is_empty() {
                state.since = None;
            }
            return Ok(Taken { sections, page_size, snapshot_follows: true, since });
        }
        state.closed_bytes = 0;
        let sections = std::mem::take(&mut state.closed);
        Ok(Taken { sections, page_size, snapshot_follows: false, since: state.since.take() })
    }

    /// Ends the recording; what was captured and not taken is dropped.
    pub fn rest(&self) {
        let mut state = self.state();
        state.clear();
        state.gap = None;
        (state.is_recording, state.is_resumed) = (false, false);
    }

    /// When the oldest commit that waits here was made.
    pub fn since(&self) -> Option<Instant> {
        self.state().since
    }

    /// Somebody else has written to the database since the last commit.
    pub(super) fn note_others(&self) {
        self.state().others_wrote = true;
    }

    /// The writer's part, right after a commit. `pages` is the log's length as SQLite told it, `alone` whether
    /// nobody else has written while the transaction was open.
    pub(super) fn after_commit(&self, pages: u32, point: Point, alone: impl FnOnce() -> bool) {
        let mut state = self.state();
        if state.gap.is_some() {
            return;
        }
        let read = state.read_new(&self.log, pages, alone);
        let outcome = read.and_then(|()| state.settle(point));
        if let Err(gap) = outcome {
            // Of a log that cannot be followed nothing is known before it is read anew.
            state.read = None;
            if state.is_recording {
                state.gap = Some(gap);
                state.is_recording = false;
            }
            self.filled.notify_one();
        } else if state.waiting() > MANY_BYTES {
            self.filled.notify_one();
        }
    }
}

impl SqliteStore {
    /// Has the writer keep what commits change, from the next snapshot on. Once on, it stays so.
    pub fn capture(&self) -> Arc<Capture> {
        self.writer.capture(&self.path)
    }

    /// What tells the database's file, now that it is closed, from one that was written to since; `None` while a log
    /// lies beside it.
    pub fn left_as(&self) -> Option<String> {
        let written = std::fs::metadata(&self.path).ok()?.modified().ok()?;
        if written.elapsed().is_ok_and(|age| age < TICK) {
            std::thread::sleep(TICK);
        }
        if is_without_log(&self.path) { stamp(&self.path) } else { None }
    }

    /// The same of what was found at the opening.
    pub fn found_as(&self) -> Option<String> {
        if self.was_closed_in_order { stamp(&self.path) } else { None }
    }

    /// Waits until all that was answered is captured: the writer does that when its answers are out.
    pub async fn captured(&self) {
        // It changes nothing; refused on a full disk, where it comes after what was answered all the same.
        let _ = self.writer.submit(Lane::Completion, "wait for what was captured", |_| Ok(())).await;
    }

    /// A reading for the replica's snapshot: all that is captured from now on comes after it, and nothing else.
    pub fn begin_snapshot(&self, now: Millis) -> StoreFuture<'_, (Frozen, Point)> {
        let (path, capture) = (self.path.clone(), self.capture());
        self.writer.submit(Lane::Mutation, "begin a snapshot for the replica", move |_| {
            let frozen = Frozen::begin(&path, now)?;
            let last = "SELECT ifnull((SELECT at_ms FROM audit ORDER BY seq DESC LIMIT 1), 0)";
            let at = frozen.connection().query_row(last, [], |row| row.get(0))?;
            let point = Point { head: frozen.head, at };
            capture.begin(point);
            Ok((frozen, point))
        })
    }
}

impl State {
    fn clear(&mut self) {
        self.closed.clear();
        self.closed_bytes = 0;
        self.open = None;
        self.since = None;
        self.snapshot_after = None;
    }

    fn close(&mut self) {
        let Some(open) = self.open.take() else { return };
        self.closed_bytes += section_bytes(open.pages.len(), self.page_size);
        let pages = open.pages.into_iter().collect();
        self.closed.push(Section { point: self.last, pages_in_db: open.pages_in_db, pages });
    }

    fn waiting(&self) -> u64 {
        let open = self.open.as_ref().map_or(0, |open| section_bytes(open.pages.len(), self.page_size));
        self.closed_bytes + open
    }

    /// Ends the section where the commit moved the audit's head.
    fn settle(&mut self, point: Point) -> Result<(), String> {
        if self.is_recording && point.head.seq != self.last.head.seq {
            self.last = Point { at: point.at.max(self.last.at), ..point };
            self.close();
        }
        if self.waiting() > MOST_BYTES {
            return Err(format!("more than {} MiB of changes waited to be taken", MOST_BYTES >> 20));
        }
        Ok(())
    }

    /// Reads the frames that the log has gained.
    fn read_new(&mut self, log: &Path, pages: u32, alone: impl FnOnce() -> bool) -> Result<(), String> {
        let cannot = |error: std::io::Error| format!("the write-ahead log could not be read: {error}");
        if pages == 0 {
            return Ok(());
        }
        let mut file = match self.file.take() {
            Some(file) => file,
            None => File::open(log).map_err(cannot)?,
        };
        let result = self.read_frames(&mut file, pages, alone, cannot);
        self.file = result.is_ok().then_some(file);
        result
    }

    fn read_frames(
        &mut self,
        file: &mut File,
        pages: u32,
        alone: impl FnOnce() -> bool,
        cannot: impl Fn(std::io::Error) -> String,
    ) -> Result<(), String> {
        let mut head = [0; LOG_HEAD];
        file.seek(SeekFrom::Start(0)).and_then(|_| file.read_exact(&mut head)).map_err(&cannot)?;
        let salts: [u8; 8] = head[16..24].try_into().unwrap_or_default();
        let page_size = big_endian(&head[8..12]);
        let mark = Mark { salts, frames: pages };
        let first = match self.read {
            Some(read) if read.salts == salts && read.frames < pages => read.frames + 1,
            Some(read) if read.salts == salts => return Err("the write-ahead log became shorter".to_owned()),
            // It was begun anew, by our own commit unless somebody else was here.
            _ if self.others_wrote || !alone() => return Err("another program has written to the database".to_owned()),
            _ => 1,
        };
        // A log that had been there before would not be the first of its file.
        if std::mem::take(&mut self.is_resumed) && big_endian(&head[12..16]) != 0 {
            return Err("the write-ahead log was begun anew since the store was opened".to_owned());
        }
        self.read = Some(mark);
        self.others_wrote = false;
        if !self.is_recording {
            return Ok(());
        }
        self.page_size = page_size;
        let frame = FRAME_HEAD + page_size as usize;
        let start = LOG_HEAD as u64 + u64::from(first - 1) * frame as u64;
        file.seek(SeekFrom::Start(start)).map_err(&cannot)?;
        let count = (pages - first + 1) as usize;
        let mut bytes = vec![0; count.min(256) * frame];
        let mut left = count;
        let mut size = 0;
        while left > 0 {
            let taken = left.min(256);
            let part = bytes.get_mut(..taken * frame).unwrap_or_default();
            file.read_exact(part).map_err(&cannot)?;
            for frame in part.chunks_exact(frame) {
                let (head, page) = frame.split_at(FRAME_HEAD);
                if head[8..16] != salts {
                    return Err("the write-ahead log was begun anew by another program".to_owned());
                }
                size = big_endian(&head[4..8]);
                let open = self.open.get_or_insert_default();
                open.pages.insert(big_endian(&head[..4]), page.to_vec());
            }
            left -= taken;
        }
        if size == 0 {
            return Err("the write-ahead log does not end with the commit that was made".to_owned());
        }
        if let Some(open) = &mut self.open {
            open.pages_in_db = size;
        }
        self.since.get_or_insert_with(Instant::now);
        Ok(())
    }
}

/// Whether the database's file holds all there is.
pub(super) fn is_without_log(database: &Path) -> bool {
    match std::fs::metadata(super::with_suffix(database, "-wal")) {
        Ok(meta) => meta.len() == 0,
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

/// Size and times, and which file it is.
fn stamp(path: &Path) -> Option<String> {
    let meta = std::fs::metadata(path).ok()?;
    let nanos =
        |at: std::time::SystemTime| at.duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    let modified = nanos(meta.modified().ok()?);
    #[cfg(unix)]
    let which = {
        use std::os::unix::fs::MetadataExt as _;
        format!("{}.{} {}.{}", meta.dev(), meta.ino(), meta.ctime(), meta.ctime_nsec())
    };
    #[cfg(not(unix))]
    let which = meta.created().map_or(0, nanos);
    Some(format!("{} {modified} {which}", meta.len()))
}

fn big_endian(bytes: &[u8]) -> u32 {
    bytes.try_into().map_or(0, u32::from_be_bytes)
}
