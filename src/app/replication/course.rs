//! Cutting what was captured into segments of the generation at hand.

use std::time::Instant;

use super::resume::Left;
use super::{Replication, Trouble};
use crate::adapters::replica::Spooled;
use crate::adapters::store::Taken;
use crate::core::audit::Head;
use crate::core::model::{Digest, Millis};
use crate::core::replica::Point;
use crate::core::replica::segment::{Section, Segment};

/// The generation at hand.
#[derive(Default)]
pub(super) struct Course {
    pub generation: Option<Generation>,
    /// Generations begun under this epoch.
    pub count: u32,
    /// The generation is one that the last stop left, and the destination has not been held against that yet.
    pub left: Option<Left>,
}

pub(super) struct Generation {
    pub name: String,
    pub next: u64,
    /// The digest of the segment before `next`.
    pub previous: Digest,
    /// Where the store stands at its end.
    pub end: Point,
    /// Bytes of segments since its last snapshot.
    pub since_snapshot: u64,
    /// When that was begun.
    pub snapshot_at: Instant,
    /// The first segment after the last that is there.
    pub snapshot_segment: u64,
    /// Its size, once it is there.
    pub snapshot_bytes: Option<u64>,
}

impl Replication {
    pub(super) async fn cut_round(&self) {
        if !self.is_space_short() {
            self.cut_all().await;
        }
    }

    /// At the end also on a full disk: what is in memory is gone otherwise.
    pub(super) async fn cut_all(&self) {
        let mut course = self.course.lock().await;
        while let Ok(true) = self.cut(&mut course).await {}
    }

    /// Makes a segment of what was captured up to now, or up to a snapshot that was begun. True when there may be
    /// more behind it.
    pub(super) async fn cut(&self, course: &mut Course) -> Result<bool, Trouble> {
        let taken = match self.capture.take() {
            Ok(taken) => taken,
            Err(gap) => {
                self.end(course, &gap).await;
                return Err(Trouble::Other(gap));
            }
        };
        let follows = taken.snapshot_follows;
        let Some(generation) = course.generation.as_mut().filter(|_| !taken.sections.is_empty()) else {
            return Ok(follows);
        };
        let taken = Taken { sections: dated(taken.sections, generation.end.head, self.now()), ..taken };
        if let Err(error) = self.add(generation, taken).await {
            let reason = format!("a segment could not be kept: {error}");
            self.end(course, &reason).await;
            return Err(error);
        }
        self.cut_made.notify_one();
        if self.spool().bytes() > self.terms.spool_bytes {
            let most = self.terms.spool_bytes >> 20;
            self.spool().drop_all();
            let reason = format!("more than {most} MiB waited to be sent (COMMAND_CENTER_REPLICATION_SPOOL_MB)");
            self.end(course, &reason).await;
        }
        Ok(follows)
    }

    async fn add(&self, generation: &mut Generation, taken: Taken) -> Result<(), Trouble> {
        let segment = Segment {
            generation: generation.name.clone(),
            index: generation.next,
            previous: generation.previous,
            page_size: taken.page_size,
            sections: taken.sections,
        };
        let end = segment.end().unwrap_or_default();
        let encoding = tokio::task::spawn_blocking(move || segment.encode());
        let (bytes, digest) = encoding.await.unwrap_or_else(|e| Err(e.to_string())).map_err(Trouble::Other)?;
        let size = bytes.len() as u64;
        let spooled =
            Spooled { generation: generation.name.clone(), index: generation.next, size, end, since: taken.since };
        self.spool().add(spooled, &bytes)?;
        (generation.next, generation.previous, generation.end) = (generation.next + 1, digest, end);
        generation.since_snapshot += size;
        Ok(())
    }

    /// Ends the generation at hand, if there is one.
    pub(super) async fn end(&self, course: &mut Course, reason: &str) {
        course.left = None;
        if let Some(generation) = course.generation.take() {
            self.capture.rest();
            self.gap(&generation.name, reason).await;
        }
    }
}

/// Sections that moved no audit entry are of now, and not of when the last entry was made: going back to a moment before
/// them leaves them out.
fn dated(mut sections: Vec<Section>, mut head: Head, now: Millis) -> Vec<Section> {
    for section in &mut sections {
        if section.point.head == head {
            section.point = section.point.and_more(now);
        }
        head = section.point.head;
    }
    sections
}
