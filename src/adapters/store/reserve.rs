//! Space on the store's disk. Some is set aside for the day the disk is full, and given up then, so that
//! runs can be claimed and ended for a while longer; whoever can do without writing is refused until there
//! is room again and it has been set aside anew.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// So much more than what was given up has to be free before all is well again: whoever filled the disk
/// would fill it again at once.
const MARGIN: u64 = 4 << 20;

/// With so much free, what must be written finds room, though not all is well.
const LITTLE: u64 = 1 << 20;

/// The space of one store. Cheap to ask.
#[derive(Debug)]
pub struct Space {
    file: PathBuf,
    /// What is to be set aside.
    wanted: AtomicU64,
    /// What is.
    held: AtomicU64,
    is_short: AtomicBool,
    is_spent: AtomicBool,
}

impl Space {
    /// The reserve lies beside the database, on its disk. Nothing is set aside yet.
    pub(super) fn beside(database: &Path) -> Space {
        let mut file = database.as_os_str().to_owned();
        file.push(".reserve");
        let file = PathBuf::from(file);
        let held = std::fs::metadata(&file).ok().map(|meta| meta.len());
        // An empty file was given up by a predecessor, and not set aside anew since.
        let is_short = AtomicBool::new(held == Some(0));
        Space {
            file,
            wanted: AtomicU64::new(0),
            held: AtomicU64::new(held.unwrap_or(0)),
            is_short,
            is_spent: AtomicBool::new(false),
        }
    }

    /// Whether the disk is full: only what must be written is.
    pub fn is_short(&self) -> bool {
        self.is_short.load(Ordering::Acquire)
    }

    /// Whether what was given up is used up as well: even what must be written is not.
    pub fn is_spent(&self) -> bool {
        self.is_spent.load(Ordering::Acquire)
    }

    /// Bytes that are set aside.
    pub fn held(&self) -> u64 {
        self.held.load(Ordering::Acquire)
    }

    /// Bytes that are free on the disk, where the system tells.
    pub fn free(&self) -> Option<u64> {
        free_beside(&self.file)
    }

    /// Sets the wanted bytes aside, or as much as there is room for; with 0 gives up what is held.
    pub fn want(&self, bytes: u64) -> io::Result<()> {
        self.wanted.store(bytes, Ordering::Release);
        if bytes == 0 && !self.is_short() {
            self.held.store(0, Ordering::Release);
            return match std::fs::remove_file(&self.file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        self.tend()
    }

    /// Looks whether there is room again, and whether more can be set aside. Call it every few seconds.
    pub fn tend(&self) -> io::Result<()> {
        let (wanted, held) = (self.wanted.load(Ordering::Acquire), self.held());
        let free = self.free().unwrap_or(u64::MAX);
        if self.is_short() {
            if free >= LITTLE {
                self.is_spent.store(false, Ordering::Release);
            }
            if free < wanted.saturating_add(MARGIN) {
                return Ok(());
            }
            self.set_aside(wanted)?;
            if wanted == 0 {
                let _ = std::fs::remove_file(&self.file);
            }
            self.is_short.store(false, Ordering::Release);
            self.is_spent.store(false, Ordering::Release);
            tracing::info!(component = "store", "the disk has room again; changes are taken as before");
            return Ok(());
        }
        // Never more than half of what is left: a small disk is there to be used.
        let room = held.saturating_add(free.saturating_sub(MARGIN) / 2);
        let fits = wanted.min(room);
        if held < wanted && fits > held.saturating_add(MARGIN).min(wanted - 1) {
            self.set_aside(fits)?;
        }
        if held > wanted {
            self.set_aside(wanted)?;
        }
        Ok(())
    }

    /// The disk is full and something that must be written was not: gives up what is set aside.
    pub(crate) fn met_full(&self) {
        if self.is_short.swap(true, Ordering::AcqRel) {
            if !self.is_spent.swap(true, Ordering::AcqRel) {
                tracing::error!(
                    component = "store",
                    "what was set aside is used up: due runs wait, and show as overdue, until there is room"
                );
            }
            return;
        }
        let given = self.held.swap(0, Ordering::AcqRel);
        // Emptied, not removed: a successor is to know.
        let emptied = OpenOptions::new().write(true).create(true).truncate(true).open(&self.file);
        let mb = given >> 20;
        match emptied {
            Ok(_) => tracing::error!(
                component = "store",
                "the disk is full; {mb} MB that were set aside are given up for runs, changes are refused until there is room"
            ),
            Err(error) => tracing::error!(component = "store", %error,
                "the disk is full, and what was set aside cannot be given up"),
        }
    }

    fn set_aside(&self, bytes: u64) -> io::Result<()> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&self.file)?;
        let done = file.set_len(bytes.min(self.held())).and_then(|()| allocate(&file, bytes));
        match &done {
            Ok(()) => self.held.store(bytes, Ordering::Release),
            Err(_) => {
                // Half of it is no use, and its room is wanted by others.
                let left = self.held().min(bytes);
                let _ = file.set_len(left);
                self.held.store(left, Ordering::Release);
            }
        }
        done
    }
}

/// Bytes free to this user on the disk that holds the folder of `path`.
fn free_beside(path: &Path) -> Option<u64> {
    free_in(path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")))
}

#[cfg(unix)]
fn free_in(folder: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(windows)]
#[expect(unsafe_code, reason = "the standard library does not ask")]
fn free_in(folder: &Path) -> Option<u64> {
    use std::os::windows::ffi::OsStrExt as _;
    use std::ptr::null_mut;

    use windows_sys::Win32::Storage::FileSystem::GetDiskFreeSpaceExW;

    let name: Vec<u16> = folder.as_os_str().encode_wide().chain([0]).collect();
    let mut free = 0;
    // SAFETY: the name ends with a zero, and it and the number outlive the call; figures nobody wants may be null.
    let answer = unsafe { GetDiskFreeSpaceExW(name.as_ptr(), &raw mut free, null_mut(), null_mut()) };
    (answer != 0).then_some(free)
}

/// Has the disk give the file its blocks now; a file that is only said to be long has none.
fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        use rustix::fs::{FallocateFlags, fallocate};
        match fallocate(file, FallocateFlags::empty(), 0, bytes.max(1)) {
            Ok(()) if bytes == 0 => return file.set_len(0),
            Ok(()) => return Ok(()),
            Err(rustix::io::Errno::NOTSUP | rustix::io::Errno::NOSYS) => {}
            Err(error) => return Err(error.into()),
        }
    }
    write_out(file, bytes)
}

fn write_out(mut file: &File, bytes: u64) -> io::Result<()> {
    use std::io::{Seek as _, SeekFrom, Write as _};
    static PIECE: [u8; 1 << 16] = [0x5a; 1 << 16];
    let mut at = file.seek(SeekFrom::End(0))?;
    while at < bytes {
        let piece = PIECE.len().min(usize::try_from(bytes - at).unwrap_or(PIECE.len()));
        file.write_all(&PIECE[..piece])?;
        at += piece as u64;
    }
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1 << 20;

    #[test]
    fn what_is_set_aside_has_its_blocks_and_is_given_up_and_set_aside_again() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("store.db");
        let space = Space::beside(&database);
        space.want(3 * MB).unwrap();
        assert!(!space.is_short());
        assert_eq!(space.held(), 3 * MB);
        let file = folder.path().join("store.db.reserve");
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt as _;
            assert!(std::fs::metadata(&file).unwrap().blocks() * 512 >= 3 * MB);
        }
        assert!(space.free().unwrap() > 0);
        space.met_full();
        assert_eq!((space.is_short(), space.held(), std::fs::metadata(&file).unwrap().len()), (true, 0, 0));
        // A successor knows.
        let later = Space::beside(&database);
        assert!(later.is_short());
        later.want(3 * MB).unwrap();
        assert_eq!((later.is_short(), later.held()), (false, 3 * MB));
        // Another size, and none.
        later.want(MB).unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().len(), MB);
        later.want(0).unwrap();
        assert_eq!((later.held(), file.exists()), (0, false));
    }

    #[test]
    fn blocks_are_written_where_the_system_cannot_give_them() {
        let file = tempfile::tempfile().unwrap();
        write_out(&file, MB + 7).unwrap();
        assert_eq!(file.metadata().unwrap().len(), MB + 7);
        write_out(&file, 5).unwrap();
        assert_eq!(file.metadata().unwrap().len(), MB + 7);
    }
}
