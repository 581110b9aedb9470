//! What the application needs of the desired directory. `Source` is the real one; the simulated
//! world puts one in memory in its place.

use std::io;
use std::path::Path;

use super::{FileStat, Listing, ReadResult, SCHEDULES, Source, SourceError, Swap, Swept};
use crate::core::desired::DefaultsFile;
use crate::core::model::{Connector, Digest, ScheduleId};

/// The desired directory as `App` holds it. Calls block; each looks afresh. `Source`'s own methods
/// of the same names say what each does.
pub trait Files: Send + Sync {
    fn root(&self) -> &Path;
    fn visit(&self, each: &mut dyn FnMut(Connector, &str, FileStat)) -> Listing;
    fn list(&self) -> Listing;
    fn stat(&self, id: &ScheduleId) -> Result<Option<FileStat>, SourceError>;
    fn read(&self, id: &ScheduleId) -> ReadResult;
    fn read_each(&self, ids: &[ScheduleId], each: &mut dyn FnMut(&ScheduleId, ReadResult));
    /// A directory that knows of none has none.
    fn read_defaults(&self, _: DefaultsFile) -> ReadResult {
        Ok(None)
    }
    /// A maintenance window's file.
    fn read_window(&self, _: &str) -> ReadResult {
        Ok(None)
    }
    fn swap(&self, id: &ScheduleId, base: Option<&Digest>, new: Option<&[u8]>) -> Result<Swap, SourceError> {
        self.swap_seen(id, base, None, new)
    }
    fn swap_seen(
        &self,
        id: &ScheduleId,
        base: Option<&Digest>,
        seen: Option<&FileStat>,
        new: Option<&[u8]>,
    ) -> Result<Swap, SourceError>;
    /// Writes a file's content into another file in its place, also where it is the same: a system whose sync
    /// failed may hold what it has not written for written.
    fn write_again(&self, id: &ScheduleId, base: &Digest, content: &[u8]) -> Result<Swap, SourceError>;
    /// Whether a connector's files can be exchanged, as far as that shows without trying.
    fn check_writable(&self, _: Connector) -> Result<(), SourceError> {
        Ok(())
    }
    fn sync(&self, ids: &[ScheduleId]) -> io::Result<()>;
    fn trim(&self);
    fn sweep(&self) -> Swept;
    /// Makes the directory with an empty folder for schedules.
    fn found(&self) -> io::Result<()>;
    fn git_busy(&self) -> Option<String>;
    fn git_head(&self) -> Option<String>;
    fn git_settling(&self) -> bool {
        false
    }
}

impl Files for Source {
    fn root(&self) -> &Path {
        self.root()
    }

    fn visit(&self, each: &mut dyn FnMut(Connector, &str, FileStat)) -> Listing {
        self.visit(each)
    }

    fn list(&self) -> Listing {
        self.list()
    }

    fn stat(&self, id: &ScheduleId) -> Result<Option<FileStat>, SourceError> {
        self.stat(id)
    }

    fn read(&self, id: &ScheduleId) -> ReadResult {
        self.read(id)
    }

    fn read_each(&self, ids: &[ScheduleId], each: &mut dyn FnMut(&ScheduleId, ReadResult)) {
        self.read_each(ids, each);
    }

    fn read_defaults(&self, file: DefaultsFile) -> ReadResult {
        self.read_defaults(file)
    }

    fn read_window(&self, name: &str) -> ReadResult {
        self.read_window(name)
    }

    fn swap_seen(
        &self,
        id: &ScheduleId,
        base: Option<&Digest>,
        seen: Option<&FileStat>,
        new: Option<&[u8]>,
    ) -> Result<Swap, SourceError> {
        self.swap_seen(id, base, seen, new)
    }

    fn write_again(&self, id: &ScheduleId, base: &Digest, content: &[u8]) -> Result<Swap, SourceError> {
        super::swap::write_again(self, id, base, content)
    }

    fn check_writable(&self, connector: Connector) -> Result<(), SourceError> {
        self.check_writable(connector)
    }

    fn sync(&self, ids: &[ScheduleId]) -> io::Result<()> {
        self.sync(ids)
    }

    fn trim(&self) {
        self.trim();
    }

    fn sweep(&self) -> Swept {
        self.sweep()
    }

    fn found(&self) -> io::Result<()> {
        std::fs::create_dir_all(self.root().join(SCHEDULES))
    }

    fn git_busy(&self) -> Option<String> {
        self.git_busy()
    }

    fn git_head(&self) -> Option<String> {
        self.git_head()
    }

    fn git_settling(&self) -> bool {
        self.git_settling()
    }
}
