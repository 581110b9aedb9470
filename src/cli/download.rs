//! Downloads: streamed to stdout, or into a file that appears under its name only when it is whole.

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use super::client::{Client, Request};
use super::{CliError, out};

/// What came.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Received {
    pub bytes: u64,
    pub lines: u64,
}

/// Sends a request that may take as long as `patience` and writes its answer to `path`, or to stdout.
pub(super) async fn download(
    request: Request<'_>,
    patience: Duration,
    path: Option<&Path>,
    client: &Client,
) -> Result<Received, CliError> {
    let mut response = client.open(request.wait(patience)).await?;
    let new = |path| tempfile::NamedTempFile::new_in(folder(path)).map_err(CliError::write(path));
    let mut file = path.map(new).transpose()?;
    let mut received = Received::default();
    while let Some(chunk) = response.chunk().await.map_err(|error| client.failed(&error, patience))? {
        match (&mut file, path) {
            (Some(file), Some(path)) => file.write_all(&chunk).map_err(CliError::write(path))?,
            _ => out::bytes(&chunk),
        }
        received.bytes += chunk.len() as u64;
        received.lines += chunk.iter().filter(|byte| **byte == b'\n').count() as u64;
    }
    if let (Some(file), Some(path)) = (file, path) {
        file.persist(path).map_err(|error| CliError::write(path)(error.error))?;
    }
    Ok(received)
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
