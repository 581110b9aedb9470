//! A bucket that speaks S3. Each request has its time; whoever asks tries again by a schedule of its own.

use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use object_store::aws::{AmazonS3, AmazonS3Builder, S3ConditionalPut};
use object_store::path::Path as Key;
use object_store::{
    ClientOptions, Error, MultipartUpload, ObjectStore, ObjectStoreExt as _, PutMode, PutPayload, RetryConfig,
    UpdateVersion,
};
use tokio::io::AsyncWriteExt as _;

use super::place::{Found, Listed, Place, PlaceError, PlaceFuture, PlaceResult};
use super::url::S3;
use crate::adapters::secrets::Secrets;
use crate::core::model::Millis;

/// A request with a piece or a segment in it, from its start to its answer.
const REQUEST: Duration = Duration::from_secs(60);
const CONNECT: Duration = Duration::from_secs(5);
/// An answer that stops coming.
const SILENCE: Duration = Duration::from_secs(20);
const PIECE: usize = 8 << 20;

pub(super) struct S3Place {
    store: AmazonS3,
    prefix: String,
}

impl S3Place {
    pub(super) fn new(s3: &S3, secrets: &Secrets) -> PlaceResult<S3Place> {
        let options = ClientOptions::new()
            .with_allow_http(true)
            .with_timeout(REQUEST)
            .with_connect_timeout(CONNECT)
            .with_read_timeout(SILENCE);
        let retry = RetryConfig { max_retries: 1, retry_timeout: Duration::from_secs(10), ..RetryConfig::default() };
        let mut builder = AmazonS3Builder::from_env()
            .with_bucket_name(&s3.bucket)
            .with_client_options(options)
            .with_retry(retry)
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_virtual_hosted_style_request(s3.virtual_hosted);
        if let Some(region) = &s3.region {
            builder = builder.with_region(region);
        }
        if let Some(endpoint) = &s3.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        if let (Some(id), Some(key)) = (&s3.access_key, &s3.secret_key) {
            let resolve = |reference| secrets.resolve(reference).map_err(PlaceError::Local);
            builder = builder.with_access_key_id(resolve(id)?.0).with_secret_access_key(resolve(key)?.0);
        }
        let store = builder.build().map_err(|error| PlaceError::Local(error.to_string()))?;
        Ok(S3Place { store, prefix: s3.prefix.clone() })
    }

    fn key(&self, name: &str) -> Key {
        if self.prefix.is_empty() { Key::from(name) } else { Key::from(format!("{}/{name}", self.prefix)) }
    }

    /// A key's name without the prefix.
    fn name<'a>(&self, key: &'a Key) -> &'a str {
        let text = key.as_ref();
        text.strip_prefix(&self.prefix).unwrap_or(text).trim_start_matches('/')
    }

    async fn put_as(&self, name: &str, bytes: Bytes, mode: PutMode) -> PlaceResult<String> {
        let put = self.store.put_opts(&self.key(name), PutPayload::from_bytes(bytes), mode.into()).await;
        put.map(|answer| answer.e_tag.unwrap_or_default()).map_err(|error| understood(name, error))
    }

    async fn put_pieces(&self, name: &str, from: &Path) -> PlaceResult<()> {
        let mut upload = self.store.put_multipart(&self.key(name)).await.map_err(|e| understood(name, e))?;
        let sent = send_pieces(&mut *upload, name, from).await;
        if sent.is_err() {
            // What stays of it costs space there until the bucket's own rule removes it.
            let _ = upload.abort().await;
        }
        sent
    }
}

async fn send_pieces(upload: &mut dyn MultipartUpload, name: &str, from: &Path) -> PlaceResult<()> {
    let mut file = std::fs::File::open(from).map_err(|error| local(from, &error))?;
    loop {
        let mut piece = Vec::with_capacity(PIECE);
        file.by_ref().take(PIECE as u64).read_to_end(&mut piece).map_err(|error| local(from, &error))?;
        if piece.is_empty() {
            break;
        }
        upload.put_part(PutPayload::from(piece)).await.map_err(|error| understood(name, error))?;
    }
    upload.complete().await.map(drop).map_err(|error| understood(name, error))
}

pub(super) fn local(path: &Path, error: &std::io::Error) -> PlaceError {
    PlaceError::Local(format!("{}: {error}", path.display()))
}

/// What an error means here. Texts of servers are cut: they can be whole pages.
fn understood(name: &str, error: Error) -> PlaceError {
    let brief = |error: &Error| {
        let text: String = error.to_string().chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect();
        text
    };
    match &error {
        Error::AlreadyExists { .. } => PlaceError::Exists(name.to_owned()),
        Error::Precondition { .. } => PlaceError::Moved(name.to_owned()),
        // Also what a bucket answers that is not there.
        Error::NotFound { .. } => PlaceError::Missing(name.to_owned()),
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => PlaceError::Denied(name.to_owned()),
        _ => PlaceError::Away(brief(&error)),
    }
}

impl Place for S3Place {
    fn put_new<'a>(&'a self, name: &'a str, bytes: Bytes) -> PlaceFuture<'a, ()> {
        self.put_as(name, bytes, PutMode::Create).map(|put| put.map(drop)).boxed()
    }

    fn put<'a>(&'a self, name: &'a str, bytes: Bytes) -> PlaceFuture<'a, ()> {
        self.put_as(name, bytes, PutMode::Overwrite).map(|put| put.map(drop)).boxed()
    }

    fn swap<'a>(&'a self, name: &'a str, bytes: Bytes, base: Option<&'a str>) -> PlaceFuture<'a, String> {
        let mode = match base {
            Some(tag) => PutMode::Update(UpdateVersion { e_tag: Some(tag.to_owned()), version: None }),
            None => PutMode::Create,
        };
        let moved = |error| match error {
            PlaceError::Exists(name) | PlaceError::Missing(name) => PlaceError::Moved(name),
            other => other,
        };
        self.put_as(name, bytes, mode).map(move |put| put.map_err(moved)).boxed()
    }

    fn put_file<'a>(&'a self, name: &'a str, from: &'a Path) -> PlaceFuture<'a, ()> {
        async move {
            let size = tokio::fs::metadata(from).await.map_err(|error| local(from, &error))?.len();
            if size > PIECE as u64 {
                return self.put_pieces(name, from).await;
            }
            let bytes = tokio::fs::read(from).await.map_err(|error| local(from, &error))?;
            self.put_as(name, bytes.into(), PutMode::Overwrite).await.map(drop)
        }
        .boxed()
    }

    fn get<'a>(&'a self, name: &'a str) -> PlaceFuture<'a, Option<Found>> {
        async move {
            let found = match self.store.get(&self.key(name)).await {
                Err(Error::NotFound { .. }) => return Ok(None),
                found => found.map_err(|error| understood(name, error))?,
            };
            let (tag, size) = (found.meta.e_tag.clone().unwrap_or_default(), found.meta.size);
            let bytes = found.bytes().await.map_err(|error| understood(name, error))?;
            if bytes.len() as u64 != size {
                return Err(PlaceError::Away(format!("{name} came cut off")));
            }
            Ok(Some(Found { bytes, tag }))
        }
        .boxed()
    }

    fn modified<'a>(&'a self, name: &'a str) -> PlaceFuture<'a, Option<Millis>> {
        async move {
            match self.store.head(&self.key(name)).await {
                Ok(meta) => Ok(Some(meta.last_modified.timestamp_millis())),
                Err(Error::NotFound { .. }) => Ok(None),
                Err(error) => Err(understood(name, error)),
            }
        }
        .boxed()
    }

    fn fetch<'a>(&'a self, name: &'a str, into: &'a Path, progress: &'a (dyn Fn(u64) + Sync)) -> PlaceFuture<'a, ()> {
        async move {
            let found = self.store.get(&self.key(name)).await.map_err(|error| understood(name, error))?;
            let mut file = tokio::fs::File::create(into).await.map_err(|error| local(into, &error))?;
            let mut stream = found.into_stream();
            let mut done = 0;
            while let Some(piece) = stream.next().await {
                let piece = piece.map_err(|error| understood(name, error))?;
                file.write_all(&piece).await.map_err(|error| local(into, &error))?;
                done += piece.len() as u64;
                progress(done);
            }
            file.sync_all().await.map_err(|error| local(into, &error))
        }
        .boxed()
    }

    fn list<'a>(&'a self, folder: &'a str, after: Option<&'a str>) -> PlaceFuture<'a, Vec<Listed>> {
        async move {
            let folder_key = self.key(folder);
            let stream = match after {
                Some(after) => self.store.list_with_offset(Some(&folder_key), &self.key(after)),
                None => self.store.list(Some(&folder_key)),
            };
            let mut all: Vec<Listed> = stream
                .map_ok(|meta| Listed {
                    name: self.name(&meta.location).to_owned(),
                    size: meta.size,
                    modified: meta.last_modified.timestamp_millis(),
                })
                .try_collect()
                .await
                .map_err(|error| understood(folder, error))?;
            all.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(all)
        }
        .boxed()
    }

    fn delete<'a>(&'a self, name: &'a str) -> PlaceFuture<'a, ()> {
        async move {
            match self.store.delete(&self.key(name)).await {
                Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(understood(name, error)),
            }
        }
        .boxed()
    }
}
