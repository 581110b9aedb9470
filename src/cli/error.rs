//! What a command can fail at, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use super::client::ClientError;
use crate::settings::BadSettings;

#[derive(Debug, thiserror::Error)]
pub(super) enum CliError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("cannot read {path}: {source}", path = .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {path}: {source}", path = .path.display())]
    Write { path: PathBuf, source: io::Error },
    /// The arguments do not make sense together.
    #[error("{message}")]
    Usage { message: String, hint: Option<String> },
    #[error("{0}")]
    Settings(#[from] BadSettings),
    #[error("{0:#}")]
    Other(#[from] anyhow::Error),
}

impl CliError {
    pub fn usage(message: impl Into<String>, hint: impl Into<String>) -> CliError {
        CliError::Usage { message: message.into(), hint: Some(hint.into()) }
    }

    pub fn read(path: &Path) -> impl FnOnce(io::Error) -> CliError {
        move |source| CliError::Read { path: path.to_owned(), source }
    }

    pub fn write(path: &Path) -> impl FnOnce(io::Error) -> CliError {
        move |source| CliError::Write { path: path.to_owned(), source }
    }

    /// What to do about it, where there is more to say than the message does.
    pub fn hint(&self) -> Option<String> {
        match self {
            CliError::Client(error) => error.hint(),
            CliError::Usage { hint, .. } => hint.clone(),
            CliError::Settings(_) => Some("`command-center serve --help` lists every setting".into()),
            CliError::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Some("name another path, or run this where it lies".into())
            }
            CliError::Read { .. } | CliError::Write { .. } | CliError::Other(_) => None,
        }
    }
}
