//! What a destination can do, whatever it is.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::core::model::Millis;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    #[error("the destination cannot be reached: {0}")]
    Away(String),
    #[error("the destination refuses access; check its credentials and rights: {0}")]
    Denied(String),
    #[error("the destination is full")]
    Full,
    #[error("{0} is there already")]
    Exists(String),
    #[error("{0} was changed by somebody else")]
    Moved(String),
    #[error("{0} is not there")]
    Missing(String),
    #[error("the destination failed: {0}")]
    Failed(String),
    #[error("{0}")]
    Local(String),
}

pub type PlaceResult<T> = Result<T, PlaceError>;
pub type PlaceFuture<'a, T> = BoxFuture<'a, PlaceResult<T>>;

/// A small file as it was found.
#[derive(Clone, Debug)]
pub struct Found {
    pub bytes: Bytes,
    /// Names this content, for `swap`.
    pub tag: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub name: String,
    pub size: u64,
    /// By the destination's clock.
    pub modified: Millis,
}

/// A destination. What it answered with `Ok` is meant to be durable there; a listing says whether it is.
pub trait Place: Send + Sync {
    /// Writes a file that is not there yet; `Exists` when it is.
    fn put_new<'a>(&'a self, name: &'a str, bytes: Bytes) -> PlaceFuture<'a, ()>;
    /// Writes a file whatever is there.
    fn put<'a>(&'a self, name: &'a str, bytes: Bytes) -> PlaceFuture<'a, ()>;
    /// Writes a file if it still is what `base` names (`None`: not there), else `Moved`; answers its new tag.
    fn swap<'a>(&'a self, name: &'a str, bytes: Bytes, base: Option<&'a str>) -> PlaceFuture<'a, String>;
    /// Writes a local file there, in pieces where it is large.
    fn put_file<'a>(&'a self, name: &'a str, from: &'a Path) -> PlaceFuture<'a, ()>;
    fn get<'a>(&'a self, name: &'a str) -> PlaceFuture<'a, Option<Found>>;
    /// When a file was written, by the destination's clock.
    fn modified<'a>(&'a self, name: &'a str) -> PlaceFuture<'a, Option<Millis>>;
    /// Writes what is there into a new local file; tells how many bytes came.
    fn fetch<'a>(&'a self, name: &'a str, into: &'a Path, progress: &'a (dyn Fn(u64) + Sync)) -> PlaceFuture<'a, ()>;
    /// Files below a folder, by name; only those behind `after`.
    fn list<'a>(&'a self, folder: &'a str, after: Option<&'a str>) -> PlaceFuture<'a, Vec<Listed>>;
    /// Deletes a file; none being there is as good.
    fn delete<'a>(&'a self, name: &'a str) -> PlaceFuture<'a, ()>;
}

pub type SharedPlace = Arc<dyn Place>;
