//! Backups: one zip with the database, its state as JSON, the audit log, the desired files and a manifest.

use std::fs::File;
use std::io::{BufWriter, Read, Seek, Write};
use std::path::{Component, Path, PathBuf};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use super::files::{Hashing, sync_folder};
use super::make::write_state;
use super::open::{agree, agree_with, buffered};
use super::{CopyError, CopyResult, FileFacts, HIDDEN, MANIFEST, Manifest, STATE, bad, io};
use crate::adapters::store::{Copied, CopyFacts, Frozen, Pace, verify_copy};
use crate::core::model::Millis;

const DATABASE: &str = "database.db";
const AUDIT: &str = "audit.jsonl";
const DESIRED: &str = "desired/";

/// Folders deeper than this are none of ours.
const DEPTH: usize = 12;

/// How far a backup has come: what is being done, and bytes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage {
    pub doing: &'static str,
    pub done: u64,
    pub total: u64,
}

pub type Tell<'a> = &'a mut dyn FnMut(Stage);

/// A finished backup.
#[derive(Clone, Debug)]
pub struct Backup {
    pub path: PathBuf,
    pub at: Millis,
    pub bytes: u64,
}

/// The backups in a folder, newest first.
pub fn list(folder: &Path) -> CopyResult<Vec<Backup>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io("look through", folder)(error)),
    };
    let found = entries.flatten().filter_map(|entry| {
        let at = time_in(&entry.file_name().to_string_lossy())?;
        Some(Backup { path: entry.path(), at, bytes: entry.metadata().ok()?.len() })
    });
    let mut all: Vec<_> = found.collect();
    all.sort_by_key(|backup| std::cmp::Reverse(backup.at));
    Ok(all)
}

/// The time in a backup's name, in UTC.
fn time_in(name: &str) -> Option<Millis> {
    let time = name.strip_prefix("backup_")?.strip_suffix(".zip")?;
    Some(chrono::NaiveDateTime::parse_from_str(time, "%Y%m%d_%H%M%S").ok()?.and_utc().timestamp_millis())
}

fn name_at(at: Millis) -> String {
    let time = chrono::DateTime::from_timestamp_millis(at).unwrap_or_default();
    time.format("backup_%Y%m%d_%H%M%S.zip").to_string()
}

/// Removes what a backup that was cut off left. Nobody may be making one there.
pub fn sweep(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(HIDDEN) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Writes a backup of the reading and of the desired files into `folder`. It has its name when it is whole.
pub fn make(folder: &Path, frozen: Frozen, desired: &Path, pace: Pace, tell: Tell<'_>) -> CopyResult<Backup> {
    std::fs::create_dir_all(folder).map_err(io("make the folder", folder))?;
    let mut at = frozen.at;
    // Two within a second are told apart by their names all the same.
    while folder.join(name_at(at)).exists() {
        at += 1000;
    }
    let path = folder.join(name_at(at));
    let hidden = folder.join(format!("{HIDDEN}{}", name_at(at)));
    let plain = folder.join(format!("{HIDDEN}{}.db", name_at(at)));
    for leftover in [&hidden, &plain] {
        let _ = std::fs::remove_file(leftover);
    }
    let made = fill(&hidden, &plain, frozen, desired, pace, tell).and_then(|bytes| {
        std::fs::rename(&hidden, &path).map_err(io("name", &path))?;
        sync_folder(folder).map_err(io("bring to disk", folder))?;
        Ok(Backup { path, at, bytes })
    });
    let _ = std::fs::remove_file(&plain);
    if made.is_err() {
        let _ = std::fs::remove_file(&hidden);
    }
    made
}

fn fill(hidden: &Path, plain: &Path, frozen: Frozen, desired: &Path, pace: Pace, tell: Tell<'_>) -> CopyResult<u64> {
    let (head, schema, at) = (frozen.head, frozen.schema_version, frozen.at);
    let mut manifest = Manifest::new(head, schema, at, "backup", frozen.store.clone());
    let page_bytes = frozen.page_bytes;
    frozen.copy_to(plain, pace, &mut |Copied { done, total }| {
        tell(Stage { doing: "copying the database", done: done * page_bytes, total: total * page_bytes });
        true
    })?;
    if verify_copy(plain)?.head != head {
        return Err(bad(plain, "the copy does not end where the database did"));
    }
    let file = File::create_new(hidden).map_err(io("make", hidden))?;
    let zip = ZipWriter::new(BufWriter::new(file));
    let mut bundle = Bundle { zip, path: hidden, made: zip_time(at), manifest: &mut manifest, pace };
    let state = plain.with_extension("state");
    let stated =
        write_state(&state, &frozen, pace).and_then(|_| bundle.add_file(STATE, &state, "writing the state", tell));
    let _ = std::fs::remove_file(&state);
    stated?;
    bundle.add_audit(&frozen, tell)?;
    // From here on the write-ahead log may begin anew.
    drop(frozen);
    for (name, path) in files_below(desired) {
        match bundle.add_file(&format!("{DESIRED}{name}"), &path, "adding the desired files", tell) {
            // Deleted since it was listed.
            Err(CopyError::Io { .. }) if !path.exists() => {}
            added => added?,
        }
    }
    bundle.add_file(DATABASE, plain, "packing the database", tell)?;
    bundle.finish()
}

/// A zip in the making.
struct Bundle<'a> {
    zip: ZipWriter<BufWriter<File>>,
    path: &'a Path,
    /// When, as every entry says.
    made: zip::DateTime,
    manifest: &'a mut Manifest,
    pace: Pace,
}

impl Bundle<'_> {
    fn start(&mut self, name: &str) -> CopyResult<()> {
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated).large_file(true);
        // Level 1: three quarters of the best at a third of its time.
        let options = options.compression_level(Some(1)).last_modified_time(self.made);
        self.zip.start_file(name, options).map_err(|error| zip_error("write", self.path, error))
    }

    fn add_file(&mut self, name: &str, path: &Path, doing: &'static str, tell: Tell<'_>) -> CopyResult<()> {
        let mut file = File::open(path).map_err(io("read", path))?;
        let total = file.metadata().map_or(0, |meta| meta.len());
        self.start(name)?;
        let mut out = Hashing::new(&mut self.zip);
        let (mut buffer, mut done) = (vec![0; 1 << 18], 0);
        loop {
            let read = file.read(&mut buffer).map_err(io("read", path))?;
            let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
            out.write_all(bytes).map_err(io("write", self.path))?;
            done += read as u64;
            tell(Stage { doing, done, total });
            if !self.pace.pause.is_zero() && total > 1 << 20 {
                std::thread::sleep(self.pace.pause);
            }
        }
        let (_, facts) = out.finish();
        self.manifest.files.insert(name.to_owned(), facts);
        Ok(())
    }

    /// The audit log as its export has it: one entry a line.
    fn add_audit(&mut self, frozen: &Frozen, tell: Tell<'_>) -> CopyResult<()> {
        self.start(AUDIT)?;
        let mut out = Hashing::new(&mut self.zip);
        let (mut failed, mut done) = (None, 0);
        let (pace, total) = (self.pace, u64::try_from(frozen.head.seq).unwrap_or(0));
        frozen.audit(&mut |entries| {
            for entry in &entries {
                let mut line = serde_json::to_vec(&entry.view()).unwrap_or_default();
                line.push(b'\n');
                if let Err(error) = out.write_all(&line) {
                    failed = Some(error);
                    return false;
                }
            }
            done += entries.len() as u64;
            tell(Stage { doing: "exporting the audit log", done, total });
            std::thread::sleep(pace.pause);
            true
        })?;
        if let Some(error) = failed {
            return Err(io("write", self.path)(error));
        }
        let (_, facts) = out.finish();
        self.manifest.files.insert(AUDIT.to_owned(), facts);
        Ok(())
    }

    fn finish(mut self) -> CopyResult<u64> {
        self.start(MANIFEST)?;
        self.zip.write_all(&self.manifest.to_bytes()).map_err(io("write", self.path))?;
        let out = self.zip.finish().map_err(|error| zip_error("write", self.path, error))?;
        let file = out.into_inner().map_err(|error| io("write", self.path)(error.into_error()))?;
        file.sync_all().map_err(io("bring to disk", self.path))?;
        Ok(file.metadata().map_or(0, |meta| meta.len()))
    }
}

/// A moment as zips have it: in UTC, as the name says it, and between 1980 and 2107.
fn zip_time(at: Millis) -> zip::DateTime {
    use chrono::{Datelike as _, Timelike as _};
    let time = chrono::DateTime::from_timestamp_millis(at).unwrap_or_default();
    let small = |number: u32| u8::try_from(number).unwrap_or(0);
    let year = u16::try_from(time.year()).unwrap_or(0);
    let (month, day) = (small(time.month()), small(time.day()));
    let (hour, minute, second) = (small(time.hour()), small(time.minute()), small(time.second()));
    zip::DateTime::from_date_and_time(year, month, day, hour, minute, second).unwrap_or_default()
}

fn zip_error(operation: &'static str, path: &Path, error: zip::result::ZipError) -> CopyError {
    match error {
        zip::result::ZipError::Io(error) => io(operation, path)(error),
        error => bad(path, error.to_string()),
    }
}

/// The regular files below a folder, by their paths with forward slashes: no hidden ones, none that a link brings
/// in from elsewhere.
pub fn files_below(root: &Path) -> Vec<(String, PathBuf)> {
    let Ok(real) = root.canonicalize() else { return Vec::new() };
    let mut found = Vec::new();
    let mut open = vec![(String::new(), root.to_owned(), 0)];
    while let Some((prefix, folder, depth)) = open.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = entry.path();
            let is_inside = path.canonicalize().is_ok_and(|path| path.starts_with(&real));
            let Ok(meta) = std::fs::metadata(&path) else { continue };
            if name.starts_with('.') || !is_inside {
                continue;
            }
            let name = format!("{prefix}{name}");
            if meta.is_file() {
                found.push((name, path));
            } else if meta.is_dir() && depth < DEPTH {
                open.push((name + "/", path, depth + 1));
            }
        }
    }
    found.sort();
    found
}

/// What a backup held, in a folder and checked.
#[derive(Debug)]
pub struct Unpacked {
    pub manifest: Manifest,
    pub database: PathBuf,
    pub facts: CopyFacts,
    /// The desired files by their paths below the desired directory.
    pub desired: Vec<(String, PathBuf)>,
}

/// Unpacks a backup into an empty folder and checks every file of it.
pub fn unpack(path: &Path, folder: &Path, tell: Tell<'_>) -> CopyResult<Unpacked> {
    let file = File::open(path).map_err(io("read", path))?;
    let mut zip = ZipArchive::new(buffered(file)).map_err(|error| zip_error("read", path, error))?;
    let mut bytes = Vec::new();
    let entry = zip.by_name(MANIFEST).map_err(|_| bad(path, "it has no manifest.json: it is no backup of ours"))?;
    entry.take(1 << 30).read_to_end(&mut bytes).map_err(|error| bad(path, error.to_string()))?;
    let manifest = Manifest::parse(&bytes, path)?;
    let mut desired = Vec::new();
    for (name, facts) in &manifest.files {
        let target = inside(folder, name).ok_or_else(|| bad(path, format!("\"{name}\" is no path inside a folder")))?;
        take_out(&mut zip, name, facts, &target, path, tell)?;
        if let Some(name) = name.strip_prefix(DESIRED) {
            desired.push((name.to_owned(), target));
        }
    }
    let database = folder.join(DATABASE);
    let facts = agree_with(&manifest, &database)?;
    Ok(Unpacked { manifest, database, facts, desired })
}

fn take_out<R: Read + Seek>(
    zip: &mut ZipArchive<R>,
    name: &str,
    facts: &FileFacts,
    target: &Path,
    path: &Path,
    tell: Tell<'_>,
) -> CopyResult<()> {
    if let Some(folder) = target.parent() {
        std::fs::create_dir_all(folder).map_err(io("make the folder", folder))?;
    }
    let entry = zip.by_name(name).map_err(|_| bad(path, format!("{name} is missing in it")))?;
    // No more is taken out than was put in, whatever the entry says of itself.
    let mut input = Hashing::new(entry.take(facts.bytes.saturating_add(1)));
    let file = File::create_new(target).map_err(io("make", target))?;
    let mut out = BufWriter::new(file);
    let (mut buffer, mut done) = (vec![0; 1 << 18], 0);
    loop {
        let read = input.read(&mut buffer).map_err(|error| bad(path, format!("{name} cannot be read: {error}")))?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
        out.write_all(bytes).map_err(io("write", target))?;
        done += read as u64;
        tell(Stage { doing: "unpacking and checking", done, total: facts.bytes });
    }
    let file = out.into_inner().map_err(|error| io("write", target)(error.into_error()))?;
    file.sync_all().map_err(io("bring to disk", target))?;
    agree(&path.join(name), &input.finish().1, facts)
}

fn inside(folder: &Path, name: &str) -> Option<PathBuf> {
    let relative = Path::new(name);
    let plain = relative.components().all(|part| matches!(part, Component::Normal(_)));
    (plain && !name.is_empty() && !name.contains('\\')).then(|| folder.join(relative))
}
