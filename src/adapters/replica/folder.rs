//! A folder, of this machine or mounted from another. A file that was written is on disk, and so is its name.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt as _;

use super::place::{Found, Listed, Place, PlaceError, PlaceFuture, PlaceResult};
use crate::core::model::{Digest, Millis};

/// Whoever writes where it matters what was there holds this one locked.
const LOCK: &str = ".lock";
/// Names of files that are being written begin so; readers pass them over.
const UNFINISHED: &str = ".unfinished-";

pub(super) struct FolderPlace(Arc<PathBuf>);

impl FolderPlace {
    pub(super) fn new(root: PathBuf) -> FolderPlace {
        FolderPlace(Arc::new(root))
    }

    fn work<T: Send + 'static>(
        &self,
        body: impl FnOnce(&Path) -> PlaceResult<T> + Send + 'static,
    ) -> PlaceFuture<'static, T> {
        let root = self.0.clone();
        async move {
            let done = tokio::task::spawn_blocking(move || body(&root)).await;
            done.unwrap_or_else(|_| Err(PlaceError::Failed("the work was given up".to_owned())))
        }
        .boxed()
    }
}

fn understood(path: &Path, error: &io::Error) -> PlaceError {
    let text = format!("{}: {error}", path.display());
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => PlaceError::Full,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => PlaceError::Denied(text),
        io::ErrorKind::NotFound => PlaceError::Missing(path.display().to_string()),
        _ => PlaceError::Away(text),
    }
}

/// The destination's own folder is made, what it lies in is not: a mount that is missing is no new place.
fn root_exists(root: &Path) -> PlaceResult<()> {
    match fs::create_dir(root) {
        Ok(()) => root.parent().map_or(Ok(()), |parent| sync_folder(parent).map_err(|e| understood(parent, &e))),
        Err(_) if root.is_dir() => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(PlaceError::Away(format!("{} is not there", root.parent().unwrap_or(root).display())))
        }
        Err(error) => Err(understood(root, &error)),
    }
}

/// Names that were made in a folder are on disk.
fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// The folder of a file, made where it is missing.
fn make_parent(root: &Path, target: &Path) -> PlaceResult<PathBuf> {
    root_exists(root)?;
    let parent = target.parent().unwrap_or(root).to_owned();
    let mut missing: Vec<&Path> = parent.ancestors().take_while(|at| *at != root && !at.is_dir()).collect();
    while let Some(folder) = missing.pop() {
        match fs::create_dir(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(understood(folder, &error)),
            _ => {}
        }
        let above = folder.parent().unwrap_or(root);
        sync_folder(above).map_err(|error| understood(above, &error))?;
    }
    Ok(parent)
}

/// Writes beside the target and renames over it; both are on disk afterwards.
fn write(parent: &Path, target: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> PlaceResult<()> {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let aside = parent.join(format!("{UNFINISHED}{name}"));
    let written = (|| {
        let mut file = File::create(&aside)?;
        fill(&mut file)?;
        file.sync_all()?;
        drop(file);
        fs::rename(&aside, target)?;
        sync_folder(parent)
    })();
    written.map_err(|error| {
        let _ = fs::remove_file(&aside);
        understood(target, &error)
    })
}

/// Holds the lock of the whole destination while `body` looks and writes.
fn locked<T>(root: &Path, body: impl FnOnce() -> PlaceResult<T>) -> PlaceResult<T> {
    root_exists(root)?;
    let path = root.join(LOCK);
    let lock = File::create(&path).map_err(|error| understood(&path, &error))?;
    lock.lock().map_err(|error| understood(&path, &error))?;
    body()
}

fn read(path: &Path) -> PlaceResult<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(understood(path, &error)),
    }
}

fn millis(meta: &fs::Metadata) -> Millis {
    let modified = meta.modified().ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
    modified.map_or(0, |at| Millis::try_from(at.as_millis()).unwrap_or(0))
}

fn tag(bytes: &[u8]) -> String {
    Digest::of(bytes).to_hex()
}

fn list(root: &Path, folder: &str, after: Option<&str>) -> PlaceResult<Vec<Listed>> {
    if !root.is_dir() {
        return Err(PlaceError::Away(format!("{} is not there", root.display())));
    }
    let mut all = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        let path = root.join(&folder);
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(understood(&path, &error)),
        };
        for entry in entries {
            let entry = entry.map_err(|error| understood(&path, &error))?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if name.starts_with('.') {
                continue;
            }
            let name = format!("{folder}/{name}");
            let meta = match entry.metadata() {
                Ok(meta) => meta,
                // Deleted while the list was made.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(understood(&path, &error)),
            };
            if meta.is_dir() {
                open.push(name);
            } else if after.is_none_or(|after| name.as_str() > after) {
                all.push(Listed { name, size: meta.len(), modified: millis(&meta) });
            }
        }
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(all)
}

impl Place for FolderPlace {
    fn put_new<'a>(&'a self, name: &'a str, bytes: Bytes) -> PlaceFuture<'a, ()> {
        let name = name.to_owned();
        self.work(move |root| {
            let target = root.join(&name);
            locked(root, || {
                if target.exists() {
                    return Err(PlaceError::Exists(name));
                }
                write(&make_parent(root, &target)?, &target, |file| file.write_all(&bytes))
            })
        })
    }

    fn put<'a>(&'a self, name: &'a str, bytes: Bytes) -> PlaceFuture<'a, ()> {
        let name = name.to_owned();
        self.work(move |root| {
            let target = root.join(name);
            write(&make_parent(root, &target)?, &target, |file| file.write_all(&bytes))
        })
    }

    fn swap<'a>(&'a self, name: &'a str, bytes: Bytes, base: Option<&'a str>) -> PlaceFuture<'a, String> {
        let (name, base) = (name.to_owned(), base.map(str::to_owned));
        self.work(move |root| {
            let target = root.join(&name);
            locked(root, || {
                if read(&target)?.as_deref().map(tag) != base {
                    return Err(PlaceError::Moved(name));
                }
                write(&make_parent(root, &target)?, &target, |file| file.write_all(&bytes))?;
                Ok(tag(&bytes))
            })
        })
    }

    fn put_file<'a>(&'a self, name: &'a str, from: &'a Path) -> PlaceFuture<'a, ()> {
        let (name, from) = (name.to_owned(), from.to_owned());
        self.work(move |root| {
            let target = root.join(name);
            let mut source = File::open(&from).map_err(|error| super::s3::local(&from, &error))?;
            write(&make_parent(root, &target)?, &target, |file| io::copy(&mut source, file).map(drop))
        })
    }

    fn get<'a>(&'a self, name: &'a str) -> PlaceFuture<'a, Option<Found>> {
        let name = name.to_owned();
        self.work(move |root| {
            if !root.is_dir() && !root.parent().is_some_and(Path::is_dir) {
                return Err(PlaceError::Away(format!("{} is not there", root.display())));
            }
            Ok(read(&root.join(name))?.map(|bytes| Found { tag: tag(&bytes), bytes: bytes.into() }))
        })
    }

    fn modified<'a>(&'a self, name: &'a str) -> PlaceFuture<'a, Option<Millis>> {
        let name = name.to_owned();
        self.work(move |root| {
            let path = root.join(name);
            match fs::metadata(&path) {
                Ok(meta) => Ok(Some(millis(&meta))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(understood(&path, &error)),
            }
        })
    }

    fn fetch<'a>(&'a self, name: &'a str, into: &'a Path, progress: &'a (dyn Fn(u64) + Sync)) -> PlaceFuture<'a, ()> {
        let (name, into) = (name.to_owned(), into.to_owned());
        let copied = self.work(move |root| {
            let from = root.join(name);
            let mut source = File::open(&from).map_err(|error| understood(&from, &error))?;
            let mut target = File::create(&into).map_err(|error| super::s3::local(&into, &error))?;
            let size = io::copy(&mut source, &mut target).map_err(|error| understood(&from, &error))?;
            target.sync_all().map_err(|error| super::s3::local(&into, &error))?;
            Ok(size)
        });
        copied.map(move |copied| copied.map(progress)).boxed()
    }

    fn list<'a>(&'a self, folder: &'a str, after: Option<&'a str>) -> PlaceFuture<'a, Vec<Listed>> {
        let (folder, after) = (folder.to_owned(), after.map(str::to_owned));
        self.work(move |root| list(root, &folder, after.as_deref()))
    }

    fn delete<'a>(&'a self, name: &'a str) -> PlaceFuture<'a, ()> {
        let name = name.to_owned();
        self.work(move |root| {
            let path = root.join(name);
            match fs::remove_file(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(understood(&path, &error)),
            }
            // The last file takes its folder with it.
            let _ = path.parent().filter(|parent| *parent != root).map(fs::remove_dir);
            Ok(())
        })
    }
}
