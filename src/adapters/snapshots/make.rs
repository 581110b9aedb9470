//! Makes a snapshot: in a hidden folder first, brought to disk, checked, and only then given its name.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read as _, Write as _};
use std::path::Path;

use super::files::{Hashing, sync_folder, write_synced};
use super::{CopyResult, DATABASE, FileFacts, HIDDEN, MANIFEST, Manifest, STATE, Snapshot, bad, io, name_of};
use crate::adapters::store::{Frozen, Pace, Progress, StateError, verify_copy};

/// How hard the database is compressed: the lowest level is as fast as a disk writes.
const LEVEL: i32 = 1;

/// Writes what the reading holds into `folder`, as a snapshot. Either it is there when this returns, or nothing is.
pub fn make(folder: &Path, frozen: Frozen, reason: &str, pace: Pace, progress: Progress<'_>) -> CopyResult<Snapshot> {
    std::fs::create_dir_all(folder).map_err(io("make the folder", folder))?;
    let (name, at) = (name_of(frozen.at, frozen.head.seq), frozen.at);
    let hidden = folder.join(format!("{HIDDEN}{name}"));
    let path = folder.join(&name);
    let made = fill(&hidden, frozen, reason, pace, progress).and_then(|manifest| {
        std::fs::rename(&hidden, &path).map_err(io("name", &path))?;
        sync_folder(folder).map_err(io("bring to disk", folder))?;
        Ok(manifest)
    });
    match made {
        Ok(manifest) => Ok(Snapshot { path, name, at, manifest: Ok(manifest) }),
        Err(error) => {
            // What cannot be removed now is swept at the next start.
            let _ = std::fs::remove_dir_all(&hidden);
            Err(error)
        }
    }
}

fn fill(hidden: &Path, frozen: Frozen, reason: &str, pace: Pace, progress: Progress<'_>) -> CopyResult<Manifest> {
    let _ = std::fs::remove_dir_all(hidden);
    std::fs::create_dir(hidden).map_err(io("make the folder", hidden))?;
    let head = frozen.head;
    let mut manifest = Manifest::new(head, frozen.schema_version, frozen.at, reason, frozen.store.clone());
    let plain = hidden.join("database.db");
    frozen.copy_to(&plain, pace, progress)?;
    manifest.files.insert(STATE.to_owned(), write_state(&hidden.join(STATE), &frozen, pace)?);
    // From here on the write-ahead log may begin anew.
    drop(frozen);
    let facts = verify_copy(&plain)?;
    if facts.head != head {
        return Err(bad(&plain, format!("it ends at audit entry {} and not at {}", facts.head.seq, head.seq)));
    }
    manifest.files.insert(DATABASE.to_owned(), compress(&plain, &hidden.join(DATABASE), pace)?);
    std::fs::remove_file(&plain).map_err(io("remove", &plain))?;
    let path = hidden.join(MANIFEST);
    write_synced(&path, &manifest.to_bytes()).map_err(io("write", &path))?;
    sync_folder(hidden).map_err(io("bring to disk", hidden))?;
    Ok(manifest)
}

pub(super) fn write_state(path: &Path, frozen: &Frozen, pace: Pace) -> CopyResult<FileFacts> {
    let file = File::create_new(path).map_err(io("make", path))?;
    let mut out = Hashing::new(BufWriter::new(file));
    frozen.write_state(pace.pause, &mut out).map_err(|failed| match failed {
        StateError::Store(error) => error.into(),
        StateError::Write(error) => io("write", path)(error),
    })?;
    let (out, facts) = out.finish();
    let file = out.into_inner().map_err(|error| io("write", path)(error.into_error()))?;
    file.sync_all().map_err(io("bring to disk", path))?;
    Ok(facts)
}

/// Compresses the database, with a checksum of what it was, as gently as it was copied.
pub(super) fn compress(plain: &Path, target: &Path, pace: Pace) -> CopyResult<FileFacts> {
    /// What is compressed between two pauses.
    const STRETCH: u64 = 1 << 20;
    let fail = |path| io("compress", path);
    let mut input = BufReader::with_capacity(1 << 17, File::open(plain).map_err(fail(plain))?);
    let out = Hashing::new(BufWriter::new(File::create_new(target).map_err(fail(target))?));
    let mut encoder = zstd::Encoder::new(out, LEVEL).map_err(fail(target))?;
    encoder.include_checksum(true).map_err(fail(target))?;
    loop {
        let copied = std::io::copy(&mut input.by_ref().take(STRETCH), &mut encoder).map_err(fail(target))?;
        if copied == 0 {
            break;
        }
        if !pace.pause.is_zero() {
            std::thread::sleep(pace.pause);
        }
    }
    let mut out = encoder.finish().map_err(fail(target))?;
    out.flush().map_err(fail(target))?;
    let (out, facts) = out.finish();
    let file = out.into_inner().map_err(|error| fail(target)(error.into_error()))?;
    file.sync_all().map_err(io("bring to disk", target))?;
    Ok(facts)
}
