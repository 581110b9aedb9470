//! A destination in memory that can be told to fail, lie and lose, for tests.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::{Mutex, MutexGuard};

use bytes::Bytes;
use futures_util::FutureExt as _;

use super::place::{Found, Listed, Place, PlaceError, PlaceFuture, PlaceResult};
use crate::core::model::{Digest, Millis};

#[derive(Default)]
pub struct MemoryPlace(Mutex<Inner>);

#[derive(Default)]
pub struct Inner {
    pub files: BTreeMap<String, (Bytes, Millis)>,
    /// Nothing answers.
    pub away: bool,
    /// How many of the next readings fail.
    pub unread: u32,
    /// How many of the next writes are answered well and not done.
    pub lies: u32,
    /// How many of the next writes are done and answered with an error.
    pub cut_off: u32,
    /// By the destination's clock.
    pub now: Millis,
    pub deleted: HashSet<String>,
}

impl MemoryPlace {
    pub fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    fn write(
        &self,
        name: &str,
        bytes: Bytes,
        allowed: impl FnOnce(Option<&Bytes>) -> PlaceResult<()>,
    ) -> PlaceResult<()> {
        let mut inner = self.inner();
        if inner.away {
            return Err(PlaceError::Away("nobody answers".into()));
        }
        allowed(inner.files.get(name).map(|(bytes, _)| bytes))?;
        if inner.lies > 0 && name.starts_with("generations/") {
            inner.lies -= 1;
            return Ok(());
        }
        let now = inner.now;
        inner.files.insert(name.to_owned(), (bytes, now));
        if inner.cut_off > 0 && name.starts_with("generations/") {
            inner.cut_off -= 1;
            return Err(PlaceError::Away("cut off".into()));
        }
        Ok(())
    }

    fn look<T>(&self, look: impl FnOnce(&mut Inner) -> T) -> PlaceResult<T> {
        let mut inner = self.inner();
        if inner.away { Err(PlaceError::Away("nobody answers".into())) } else { Ok(look(&mut inner)) }
    }
}

fn tag(bytes: &Bytes) -> String {
    Digest::of(bytes).to_hex()
}

impl Place for MemoryPlace {
    fn put_new<'a>(&'a self, name: &'a str, bytes: Bytes) -> PlaceFuture<'a, ()> {
        let free = |found: Option<&Bytes>| found.map_or(Ok(()), |_| Err(PlaceError::Exists(name.to_owned())));
        std::future::ready(self.write(name, bytes, free)).boxed()
    }

    fn put<'a>(&'a self, name: &'a str, bytes: Bytes) -> PlaceFuture<'a, ()> {
        std::future::ready(self.write(name, bytes, |_| Ok(()))).boxed()
    }

    fn swap<'a>(&'a self, name: &'a str, bytes: Bytes, base: Option<&'a str>) -> PlaceFuture<'a, String> {
        let new = tag(&bytes);
        let same = |found: Option<&Bytes>| match found.map(tag).as_deref() == base {
            true => Ok(()),
            false => Err(PlaceError::Moved(name.to_owned())),
        };
        std::future::ready(self.write(name, bytes, same).map(|()| new)).boxed()
    }

    fn put_file<'a>(&'a self, name: &'a str, from: &'a Path) -> PlaceFuture<'a, ()> {
        let bytes = Bytes::from(std::fs::read(from).unwrap());
        std::future::ready(self.write(name, bytes, |_| Ok(()))).boxed()
    }

    fn get<'a>(&'a self, name: &'a str) -> PlaceFuture<'a, Option<Found>> {
        let found =
            |inner: &mut Inner| inner.files.get(name).map(|(bytes, _)| Found { bytes: bytes.clone(), tag: tag(bytes) });
        let mut inner = self.inner();
        if inner.unread > 0 {
            inner.unread -= 1;
            return std::future::ready(Err(PlaceError::Away("no answer".into()))).boxed();
        }
        drop(inner);
        std::future::ready(self.look(found)).boxed()
    }

    fn modified<'a>(&'a self, name: &'a str) -> PlaceFuture<'a, Option<Millis>> {
        std::future::ready(self.look(|inner| inner.files.get(name).map(|(_, at)| *at))).boxed()
    }

    fn fetch<'a>(&'a self, name: &'a str, into: &'a Path, progress: &'a (dyn Fn(u64) + Sync)) -> PlaceFuture<'a, ()> {
        let found = self.look(|inner| inner.files.get(name).map(|(bytes, _)| bytes.clone()));
        let done = found.and_then(|found| found.ok_or_else(|| PlaceError::Missing(name.to_owned()))).map(|bytes| {
            std::fs::write(into, &bytes).unwrap();
            progress(bytes.len() as u64);
        });
        std::future::ready(done).boxed()
    }

    fn list<'a>(&'a self, folder: &'a str, after: Option<&'a str>) -> PlaceFuture<'a, Vec<Listed>> {
        let listed = |inner: &mut Inner| {
            let below = format!("{folder}/");
            let fits = |name: &str| name.starts_with(&below) && after.is_none_or(|after| name > after);
            let all = inner.files.iter().filter(|(name, _)| fits(name));
            let listed = |(name, (bytes, modified)): (&String, &(Bytes, Millis))| Listed {
                name: name.clone(),
                size: bytes.len() as u64,
                modified: *modified,
            };
            all.map(listed).collect()
        };
        std::future::ready(self.look(listed)).boxed()
    }

    fn delete<'a>(&'a self, name: &'a str) -> PlaceFuture<'a, ()> {
        let delete = |inner: &mut Inner| {
            inner.files.remove(name);
            inner.deleted.insert(name.to_owned());
        };
        std::future::ready(self.look(delete)).boxed()
    }
}
