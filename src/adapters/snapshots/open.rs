//! Reads a snapshot again: nothing of it is believed before its checksums and its database are checked.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write as _};
use std::path::{Path, PathBuf};

use super::files::Hashing;
use super::{CopyResult, DATABASE, FileFacts, Manifest, bad, io};
use crate::adapters::store::{CopyFacts, verify_copy};

/// A snapshot's folder that says of itself what is in it.
#[derive(Clone, Debug)]
pub struct Opened {
    pub folder: PathBuf,
    pub manifest: Manifest,
}

/// Opens a snapshot's folder and checks every file but the database, which `unpack` does.
pub fn open(folder: &Path) -> CopyResult<Opened> {
    let manifest = Manifest::read(folder)?;
    for (name, facts) in manifest.files.iter().filter(|(name, _)| *name != DATABASE) {
        let path = folder.join(name);
        let mut file = Hashing::new(File::open(&path).map_err(io("read", &path))?);
        std::io::copy(&mut file, &mut std::io::sink()).map_err(io("read", &path))?;
        agree(&path, &file.finish().1, facts)?;
    }
    Ok(Opened { folder: folder.to_owned(), manifest })
}

/// Writes a snapshot's database into a new file, checked against its checksum, as a database, and against the
/// manifest's end of the audit log. `progress` is told the packed bytes read so far.
pub fn unpack(opened: &Opened, target: &Path, progress: &mut dyn FnMut(u64, u64)) -> CopyResult<CopyFacts> {
    let path = opened.folder.join(DATABASE);
    let facts = opened.manifest.files.get(DATABASE).ok_or_else(|| bad(&path, "the manifest does not name it"))?;
    let file = File::open(&path).map_err(io("read", &path))?;
    unpack_stream(file, &path, facts, target, progress)?;
    agree_with(&opened.manifest, target)
}

/// Unpacks what a reader yields and checks it against `facts`.
pub(super) fn unpack_stream(
    packed: impl Read,
    path: &Path,
    facts: &FileFacts,
    target: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> CopyResult<()> {
    let mut input = Hashing::new(packed);
    let told = facts.bytes;
    {
        let counted = Counted { inner: &mut input, read: 0, total: told, progress };
        let mut decoder = zstd::Decoder::new(counted).map_err(io("unpack", path))?;
        let mut out = BufWriter::new(File::create_new(target).map_err(io("make", target))?);
        copy(&mut decoder, &mut out, path, target)?;
        out.flush().map_err(io("write", target))?;
        let file = out.into_inner().map_err(|error| io("write", target)(error.into_error()))?;
        file.sync_all().map_err(io("bring to disk", target))?;
    }
    // What stands behind the packed bytes belongs to the file as well.
    std::io::copy(&mut input, &mut std::io::sink()).map_err(io("read", path))?;
    agree(path, &input.finish().1, facts)
}

/// Tells a failure to read from one to write.
fn copy(from: &mut impl Read, to: &mut impl std::io::Write, path: &Path, target: &Path) -> CopyResult<()> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = from.read(&mut buffer).map_err(|error| bad(path, format!("it cannot be unpacked: {error}")))?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { return Ok(()) };
        to.write_all(bytes).map_err(io("write", target))?;
    }
}

/// The database is whole and ends where the manifest says.
pub(super) fn agree_with(manifest: &Manifest, database: &Path) -> CopyResult<CopyFacts> {
    let found = verify_copy(database)?;
    if Some(found.head) != manifest.head() || found.schema_version != manifest.schema_version {
        let reason = format!(
            "its database ends at audit entry {} with schema {}, but its manifest says {} and {}",
            found.head.seq, found.schema_version, manifest.audit_seq, manifest.schema_version
        );
        return Err(bad(database, reason));
    }
    Ok(found)
}

pub(super) fn agree(path: &Path, found: &FileFacts, expected: &FileFacts) -> CopyResult<()> {
    if found.bytes != expected.bytes {
        return Err(bad(path, format!("it has {} bytes, and had {} when it was made", found.bytes, expected.bytes)));
    }
    if found.sha256 != expected.sha256 {
        return Err(bad(path, "its bytes are not those it was made of (SHA-256)"));
    }
    Ok(())
}

/// Tells how far a reading has come.
struct Counted<'a, T> {
    inner: T,
    read: u64,
    total: u64,
    progress: &'a mut dyn FnMut(u64, u64),
}

impl<T: Read> Read for Counted<'_, T> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.read += read as u64;
        (self.progress)(self.read, self.total);
        Ok(read)
    }
}

/// For what wants to be read in pieces.
pub(super) fn buffered(file: File) -> BufReader<File> {
    BufReader::with_capacity(1 << 17, file)
}
