//! What the tests of this room share: a desired directory in a temporary folder.

use super::*;

mod reading;

/// A desired directory of its own, removed at the end.
pub(super) struct Fixture {
    pub folder: tempfile::TempDir,
    pub source: Source,
}

impl Fixture {
    /// `desired/schedules/noop/` below a temporary folder, so that the root has a parent to itself.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let source = Source::new(folder.path().join("desired"));
        std::fs::create_dir_all(source.root().join("schedules/noop")).unwrap();
        Fixture { folder, source }
    }

    pub fn path(&self, relative: &str) -> PathBuf {
        self.source.root().join(relative)
    }

    /// Writes `schedules/noop/NAME`.
    pub fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path("schedules/noop").join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path("schedules/noop").join(name)).unwrap()
    }

    /// What lies in `schedules/noop/`, hidden files too, in order.
    pub fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.path("schedules/noop")).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

pub(super) fn id(text: &str) -> ScheduleId {
    text.parse().unwrap()
}

pub(super) fn digest(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

/// Whether permissions bind this process; root may do anything.
#[cfg(unix)]
pub(super) fn permissions_bind() -> bool {
    !rustix::process::geteuid().is_root()
}
